//! Faults of the topics themselves. Where the job can't be right any more, its instances must end with a refusal
//! instead of recovering, so these rows are trials of another kind: one job for each injection.

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};

use super::matrix::{self, Fault};
use super::process::AFTER_PROCESS;
use super::report::{Check, Report};
use super::trial::{JOB, TOPICS, Trial};
use crate::refusals::Case;
use crate::support::oracle;
use crate::support::requests::Random;
use crate::support::services::{ClickHouse, Kafka, Services, block_on};

const DEADLINE: Duration = Duration::from_secs(120);
/// Injections of each row that ends in refusals.
const LEAST: usize = 6;

pub const ROWS: &[Fault] = &[Fault {
    id: "K7",
    title: "committed offsets deleted, set to the beginning, or beyond the end",
    least: 9,
    in_ci: false,
    prepare: |plan| plan.samples_commits = false,
    begin: change_offsets,
    lasts_ms: (0, 1000),
    end: start_all,
    recovers_within: AFTER_PROCESS,
    injections: None,
}];

/// A whole row, by its seed.
type Row = fn(u64) -> Report;

/// Rows that end in refusals.
pub const REFUSED: &[(&str, Row)] = &[("K5", cut_logs), ("K6", replace_topics)];

/// Nobody may change the offsets of a group that has members, so all instances end first.
fn change_offsets(trial: &mut Trial) {
    for at in 0..trial.runners.len() {
        trial.stop(at);
    }
    trial.flow_until("all instances to end", DEADLINE, |trial| trial.runners.is_empty());
    let kind = trial.injections.len() % 3;
    if kind == 0 {
        let admin = trial.kafka.admin();
        let gone = block_on(admin.delete_groups(&[JOB], &AdminOptions::new()));
        gone.expect("the broker answers").remove(0).expect("it was there, and is empty");
        return trial.injected("offsets deleted");
    }
    let mut list = TopicPartitionList::new();
    for (partition, logs) in trial.logs().iter().enumerate() {
        for (topic, log) in TOPICS.into_iter().zip([&logs.inferences, &logs.labels]) {
            let beyond = i64::try_from(log.len()).expect("few") + 1000;
            let offset = Offset::Offset(if kind == 1 { 0 } else { beyond });
            let number = i32::try_from(partition).expect("few");
            list.add_partition_offset(topic, number, offset).expect("one");
        }
    }
    let mut config = trial.kafka.client_config();
    config.set("group.id", JOB).set("enable.auto.commit", "false");
    let stranger: BaseConsumer = config.create().expect("the settings are right");
    stranger.commit(&list, CommitMode::Sync).expect("the group is empty");
    trial.injected(["", "offsets at the beginning", "offsets beyond the end"][kind]);
}

fn start_all(trial: &mut Trial) {
    while trial.runners.len() < trial.plan.instances {
        trial.add();
    }
}

/// What the injections of one row have shown.
struct Shown {
    report: Report,
    refusals: Check,
    tables: Check,
}

impl Shown {
    fn new() -> Self {
        let check = |name| Check { name, compared: 0, about: String::new(), failures: Vec::new() };
        Self {
            report: Report { least: LEAST, ..Report::default() },
            refusals: check("refused with one code, and without another row"),
            tables: check("I1 tables equal the oracle"),
        }
    }

    /// After the refusal, which has panicked where it was wrong: all rows are what the log gave when it was whole.
    fn compare(&mut self, case: &Case<'_>) {
        let expected = oracle::compute(&case.settings, &case.counted);
        let differences = case.job.differences(case.clickhouse, &expected);
        self.report.injected += 1;
        self.report.records += case.sent();
        self.report.rows_compared += expected.rows.len();
        self.report.differences += differences.len();
        self.refusals.compared += 1;
        self.tables.compared += expected.rows.len();
        self.tables.failures.extend(differences);
    }

    fn report(mut self) -> Report {
        self.report.checks = vec![self.tables, self.refusals];
        self.report
    }
}

fn run(
    id: &'static str,
    title: &'static str,
    seed: u64,
    inject: impl Fn(&mut Case<'_>, usize, &mut Random),
) -> Report {
    let mut report = matrix::guarded(id, title, seed, || {
        let services = Services { kafka: Kafka::start(), clickhouse: ClickHouse::start() };
        let (mut shown, mut random) = (Shown::new(), Random(seed ^ 0x70b1_c500));
        for time in 0..LEAST {
            let name = format!("{}-{time}", id.to_lowercase());
            let mut case = Case::new(&name, &services, random.next());
            inject(&mut case, time, &mut random);
            shown.compare(&case);
            eprintln!("{id} {}/{LEAST}", time + 1);
        }
        shown.report()
    });
    report.least = LEAST;
    report
}

/// K5: an instance ends or is killed, the log loses records that the next one needs.
fn cut_logs(seed: u64) -> Report {
    run("K5", "retention cuts the log below the replay floor", seed, |case, time, random| {
        case.send(1000 + usize::try_from(random.below(2000)).expect("few"));
        let instance = case.running();
        case.counted_is_sent();
        let cut = |case: &Case<'_>, random: &mut Random| {
            case.delete_records(1 + i64::try_from(random.below(3)).expect("few"));
        };
        match time % 3 {
            0 => {
                instance.stop();
                cut(case, random);
            }
            1 => {
                instance.kill();
                cut(case, random);
            }
            // What it has read is in its memory, so the one that runs goes on rightly.
            _ => {
                cut(case, random);
                case.send(500);
                case.wait_for_all(&instance);
                case.counted_is_sent();
                instance.stop();
            }
        }
        case.send(200);
        let words = ["starts at offset", "a restart must read from"];
        case.refuses(&[], "floor_below_log", &words);
    })
}

/// K6: under running instances topics are deleted and created again, or get partitions.
fn replace_topics(seed: u64) -> Report {
    let title = "topics deleted and created again; partitions added";
    run("K6", title, seed, |case, time, random| {
        case.send(1000 + usize::try_from(random.below(2000)).expect("few"));
        let instance = case.running();
        case.counted_is_sent();
        let before = case.contents();
        let topics = [&[0][..], &[1], &[0, 1]][time / 2 % 3];
        let code = if time % 2 == 0 {
            for &topic in topics {
                case.delete_topic(topic);
            }
            for &topic in topics {
                case.create_topic(topic);
            }
            case.fill(topics, random.next());
            "topic_recreated"
        } else {
            let more = 5 + usize::try_from(random.below(4)).expect("few");
            for &topic in topics {
                case.add_partitions(topic, more);
            }
            case.send(1000);
            "partitions_changed"
        };
        case.ends(instance, &before, code, &[]);
        case.refuses(
            &[],
            if topics.len() == 1 && time % 2 == 1 { "partitions_unequal" } else { code },
            &[],
        );
    })
}
