//! What must hold at the end of every trial: I1 to I7, each with what was compared.

use std::time::Duration;

use tidegauge::engine::metrics::MetricTable;

use super::compared;
use super::report::{Check, Report};
use super::trial::{JOB, TOPICS, Trial};
use crate::end_to_end::{dead_letters, dead_records};
use crate::support::job::{Instance, METRIC_TABLES, RowKey, grain_name, tables_without_rows};
use crate::support::oracle::{self, Account, Tables};
use crate::support::wait_for;

const DEADLINE: Duration = Duration::from_secs(300);
const LEAST_SAMPLES: usize = 5;
/// The job that reads the log again.
const REPLAY: &str = "replay";

/// Everything, of a trial whose instances have ended.
pub fn check(trial: &mut Trial, caught_up: Duration) -> Report {
    let expected = oracle::compute(&trial.plan.settings, &trial.producer.logs);
    let tables = tables(trial, &expected);
    let (rows_compared, differences) = (tables.compared, tables.failures.len());
    let mut checks = vec![
        tables,
        accounts(trial, &expected),
        marks(trial),
        invented(trial, &expected),
        limits(trial, caught_up),
    ];
    checks.push(readings(trial));
    if trial.plan.replays {
        checks.push(replay(trial, &expected));
        if trial.plan.compares {
            checks.push(compared::as_replayed(trial, REPLAY, &expected));
        }
    }
    trial.note("every invariant was looked at");
    Report {
        id: trial.plan.name.clone(),
        seed: trial.plan.seed,
        injected: trial.injections.len(),
        records: trial.sent,
        rows_compared,
        differences,
        recoveries: trial.recoveries.clone(),
        took: trial.began.elapsed(),
        checks,
        ..Report::default()
    }
}

fn count(trial: &Trial, sql: &str) -> i64 {
    trial.clickhouse.query(sql).trim().parse().expect("a count")
}

/// I1: every row and column, and how far each partition has sealed.
fn tables(trial: &Trial, expected: &Tables) -> Check {
    let is_unknown = |table: &str, key: &RowKey| compared::is_unknown(&trial.plan, table, key);
    let mut failures = trial.job.differences_but(&trial.clickhouse, expected, is_unknown);
    let text = trial.clickhouse.query(&format!(
        "SELECT s.partition, s.sealed_until_ms, m.sealed_until_ms \
         FROM (SELECT * FROM tidegauge.seals FINAL WHERE job = '{JOB}') AS s \
         INNER JOIN (SELECT * FROM tidegauge.marks FINAL WHERE job = '{JOB}') AS m USING (partition) ORDER BY s.partition"
    ));
    let of = |(partition, account): (usize, &Account)| {
        account.seal_mark.map(|mark| format!("{partition}\t{mark}\t{mark}\n"))
    };
    let wanted: String = expected.partitions.iter().enumerate().filter_map(of).collect();
    if text != wanted {
        failures.push(format!("seal marks are\n{text}expected\n{wanted}"));
    }
    failures.extend(
        tables_without_rows(expected).into_iter().map(|it| format!("no row of {it} is expected")),
    );
    let sealed = expected.rows.iter().filter(|row| row.sealed).count();
    let about = format!("{sealed} of them sealed");
    let compared = expected.rows.len();
    Check { name: "I1 tables equal the oracle", compared, about, failures }
}

/// I2: what is in the tables, or was set aside, adds up to what is in the topics; and the dead letters.
fn accounts(trial: &Trial, expected: &Tables) -> Check {
    let mut failures = Vec::new();
    let mut abouts = Vec::new();
    let outcomes =
        [["accepted", "duplicate", "late", "dead"], ["matched", "kept", "orphan", "dead"]];
    for (topic, outcomes) in TOPICS.into_iter().zip(outcomes) {
        let records = trial.producer.logs.iter().map(|logs| match topic {
            "inferences" => logs.inferences.len(),
            _ => logs.labels.len(),
        });
        let records = i64::try_from(records.sum::<usize>()).expect("few");
        let counts = outcomes.map(|outcome| {
            let from = format!("tidegauge.stream_health WHERE job = '{JOB}' AND topic = '{topic}'");
            count(trial, &format!("SELECT sum({outcome}) FROM {from}"))
        });
        let sum: i64 = counts.iter().sum();
        let named: Vec<_> =
            outcomes.iter().zip(counts).map(|(name, count)| format!("{count} {name}")).collect();
        let line = format!("{topic}: {} = {records}", named.join(" + "));
        if sum != records {
            failures.push(format!("{line} does not add up"));
        }
        if topic == "inferences" {
            let grain = grain_name(trial.plan.settings.window);
            let sql = format!(
                "SELECT sum(inferences) FROM tidegauge.serving FINAL \
                 WHERE job = '{JOB}' AND segment = 'all' AND grain = '{grain}'"
            );
            let rows = count(trial, &sql);
            if rows != counts[0] {
                failures.push(format!("{rows} inferences in the tables, {} accepted", counts[0]));
            }
        }
        abouts.push(line);
    }
    let letters = dead_letters(&trial.kafka, &format!("dead.{JOB}"));
    let dead = dead_records(TOPICS, &trial.producer.logs);
    failures.extend(letters.symmetric_difference(&dead).map(|it| format!("dead letter of {it:?}")));
    abouts.push(format!("{} dead letters", letters.len()));
    let planned: usize = expected.partitions.iter().map(|it| it.tally.len()).sum();
    abouts.push(format!("{planned} accounts"));
    Check {
        name: "I2 nothing lost, nothing twice",
        compared: trial.sent,
        about: abouts.join("; "),
        failures,
    }
}

/// I3: held during the run; a sample that contradicts ends the trial at once.
fn marks(trial: &Trial) -> Check {
    let (marks, commits) = (trial.samples.marks, trial.samples.commits);
    let mut failures = Vec::new();
    let enough = |is: usize, wanted: bool| !wanted || is >= LEAST_SAMPLES;
    if !enough(marks, trial.plan.samples_marks) || !enough(commits, trial.plan.samples_commits) {
        failures.push(format!("only {marks} samples of marks, {commits} of commits"));
    }
    Check {
        name: "I3 no mark or commit ahead of rows",
        compared: (marks + commits).max(usize::from(!trial.plan.samples_marks)),
        about: format!("{marks} samples of marks and rows, {commits} of offsets and marks"),
        failures,
    }
}

/// I4.
fn invented(trial: &Trial, expected: &Tables) -> Check {
    let (mut compared, mut failures) = trial.samples.invented(expected);
    if trial.plan.compares {
        let (more, wrong) = compared::invented(trial);
        compared += more;
        failures.extend(wrong);
    }
    let name = "I4 nothing invented was ever read";
    Check { name, compared, about: String::new(), failures }
}

/// I5: lag, memory; the recovery times were bounded when they were taken.
fn limits(trial: &Trial, caught_up: Duration) -> Check {
    let mut failures = Vec::new();
    let mut compared = 0;
    if trial.plan.samples_commits {
        let committed =
            wait_for("the group's committed offsets", DEADLINE, || trial.samples.committed());
        for (partition, logs) in trial.producer.logs.iter().enumerate() {
            for (topic, log) in [&logs.inferences, &logs.labels].into_iter().enumerate() {
                let end = i64::try_from(log.len()).expect("few");
                let is = committed.get(&(topic, partition)).copied().unwrap_or_default();
                if is != end {
                    let name = TOPICS[topic];
                    failures.push(format!("{name} {partition}: {is} committed, the end is {end}"));
                }
                compared += 1;
            }
        }
    }
    let most = trial.plan.budget_bytes + trial.plan.allowance_bytes;
    compared += 1;
    match trial.peak_bytes {
        0 => failures.push("the memory of no instance was seen".to_owned()),
        bytes if bytes > most => {
            failures.push(format!("{bytes} resident bytes of an instance, at most {most}"));
        }
        _ => {}
    }
    let about = format!(
        "caught up {:.1} s after the last fault; {} MiB resident at most, budget {} MiB and {} MiB beside it",
        caught_up.as_secs_f64(),
        trial.peak_bytes >> 20,
        trial.plan.budget_bytes >> 20,
        trial.plan.allowance_bytes >> 20,
    );
    Check { name: "I5 lag 0, memory within limits", compared, about, failures }
}

/// I7: FINAL, argMax, and all after OPTIMIZE FINAL; and any row of a key's last version is the same row.
fn readings(trial: &Trial) -> Check {
    let (mut compared, mut failures) = (0, Vec::new());
    let metrics = METRIC_TABLES.map(|(table, own)| (table, "grain", own));
    let others: [(_, _, &[&str]); 2] =
        [("custom", "grain", &["metric"]), ("window_state", "partition", &[])];
    for (table, more, own) in metrics.into_iter().chain(others) {
        let own = own.iter().fold(String::new(), |all, own| all + ", " + own);
        let key = format!("{more}, model, version, segment, window_start{own}");
        let of = |row: &str, rest: &str| {
            let sql = format!(
                "SELECT count(), sum(cityHash64(t)) FROM \
                 (SELECT {row} AS t FROM tidegauge.{table} {rest})"
            );
            trial.clickhouse.query(&sql).trim().to_owned()
        };
        let whole = "toString(tuple(*))";
        let mut here = format!("WHERE job = '{JOB}'");
        if MetricTable::ALL.iter().any(|it| it.name() == table && it.rows_can_go()) {
            // A row that is gone at the end stays as it was in some mixture of both topics, and as many records in
            // another one may have given another row: readers pass over both.
            let window = "grain, model, version, segment, window_start";
            let newest = format!(
                " AND ({window}, row_version) IN (SELECT {window}, max(row_version) \
                 FROM tidegauge.{table} {here} GROUP BY {window})"
            );
            here += &newest;
        }
        let last = of(whole, &format!("FINAL {here}"));
        let newest =
            of(&format!("argMax({whole}, row_version)"), &format!("{here} GROUP BY {key}"));
        let kinds = format!(
            "SELECT count() FROM (SELECT uniqExact(tuple(*)) AS kinds FROM tidegauge.{table} \
             {here} AND ({key}, row_version) IN \
             (SELECT {key}, max(row_version) FROM tidegauge.{table} {here} GROUP BY {key}) \
             GROUP BY {key} HAVING kinds > 1)"
        );
        let several = count(trial, &kinds);
        trial.clickhouse.query(&format!("OPTIMIZE TABLE tidegauge.{table} FINAL"));
        let merged = of(whole, &here);
        if last != newest || last != merged || several != 0 {
            failures.push(format!(
                "{table}: FINAL gives {last}, argMax {newest}, merged {merged}; \
                 {several} keys with several newest rows"
            ));
        }
        let rows = last.split('\t').next().and_then(|count| count.parse::<usize>().ok());
        compared += rows.unwrap_or_default();
    }
    // Of alerts of one version the last that was written counts, which argMax does not know.
    let of_alerts = |rest: &str| {
        let of = "SELECT count(), sum(cityHash64(toString(tuple(*)))) FROM tidegauge.alerts";
        trial.clickhouse.query(&format!("{of} {rest} WHERE job = '{JOB}'"))
    };
    let last = of_alerts("FINAL");
    trial.clickhouse.query("OPTIMIZE TABLE tidegauge.alerts FINAL");
    let merged = of_alerts("");
    if last != merged {
        failures.push(format!("alerts: FINAL gives {last}, merged {merged}"));
    }
    let name = "I7 FINAL, argMax and OPTIMIZE FINAL agree";
    Check { name, compared, about: String::new(), failures }
}

/// I6: the same log by another number of instances and with another flush interval.
fn replay(trial: &mut Trial, expected: &Tables) -> Check {
    let instances = [3, 1, 2][usize::try_from(trial.plan.seed % 3).expect("small")];
    let flush =
        ["50ms", "2s", "700ms", "5s"][usize::try_from(trial.plan.seed / 3 % 4).expect("small")];
    let mut job = compared::job(&trial.plan, REPLAY, &trial.kafka, &trial.clickhouse);
    let only_letters = [("retention.ms", "-1")];
    trial.kafka.create_topic(&format!("dead.{REPLAY}"), 1, &only_letters);
    let environment = [("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", flush)];
    let running: Vec<_> = (0..instances).map(|_| job.start_with(&["run"], &environment)).collect();
    job.wait_for_records(&trial.clickhouse, trial.sent, DEADLINE);
    running.into_iter().for_each(Instance::stop);
    let is_unknown = |table: &str, key: &RowKey| compared::is_unknown(&trial.plan, table, key);
    let failures = job.differences_but(&trial.clickhouse, expected, is_unknown);
    if !failures.is_empty() {
        job.keep_logs(&trial.folder().join("replay"));
    }
    let about = format!("replayed by {instances} instances, flush interval {flush}");
    Check {
        name: "I6 instances and flush interval do not matter",
        compared: expected.rows.len(),
        about,
        failures,
    }
}
