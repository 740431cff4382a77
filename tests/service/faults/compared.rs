//! What the oracle knows nothing of: rows that read a reference, custom metrics, and alerts. Trials with these hold them
//! against what a fresh job made of the same log (I6), and against what was read on the way (I4).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use tidegauge::engine::metrics::MetricTable;

use super::report::Check;
use super::samples::ask;
use super::trial::{JOB, Plan, TOPICS, Trial};
use crate::support::job::{Job, RowKey, newest_rows, sections};
use crate::support::log::{Message, json_payload};
use crate::support::oracle::{Body, Cell, ModelRule, Row, Tables};
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka};

/// The model that is compared with a reference.
const COMPARED: &str = "fraud-shadow";
/// Of whose records the reference is made: the same scores, labels and features.
const LIKE: &str = "fraud-cards";
/// The features of the reference; the third of the traffic it lacks.
const FEATURES: [&str; 2] = ["amount", "country"];
const RECORDS: usize = 3000;
const LAST_LABELS: usize = 200;
const HOUR_MS: i64 = 3_600_000;
const DEADLINE: Duration = Duration::from_secs(300);

/// Tables whose rows are read on the way, and what tells several rows of a window apart. What each row has as `n` only
/// grows.
pub const READ: [(&str, &str); 2] = [("drift", "kind, feature, method"), ("custom", "metric")];
/// Differences of a table that are told.
const TOLD: usize = 10;

/// The rule that the oracle's rows are judged by, too.
const ERRORS: &str = "errors";
const MOST_ERRORS: f64 = 0.02;
const LEAST_N: u64 = 5;

/// Metrics of all that is folded, of inferences, and of labels.
const METRICS: &str = r#"
[[metrics]]
name = "records"
expression = "labels.inferences + labels_matched"
segments = ["all"]

[[metrics]]
name = "approval_rate"
expression = "inferences_positive / inferences"
models = ["fraud-shadow"]

[[metrics]]
name = "cost"
expression = "(20 * fn + fp) / quality_binary.n"
models = ["fraud-*"]
segments = ["all"]
"#;

/// About figures that go up and down from window to window: of labels, and of the reference. [`ERRORS`], which is about
/// inferences, comes before them.
const RULES: &str = r#"
[[alerts]]
name = "cost"
models = ["fraud-*"]
metric = "custom.cost"
above = 2.6
for = 1
clear_for = 1
min_n = 10

[[alerts]]
name = "drift"
models = ["fraud-shadow"]
metric = "drift.verdict"
grain = "1h"
for = 1
clear_for = 1
min_n = 50
"#;
/// Of all rules.
const NAMES: [&str; 3] = [ERRORS, "cost", "drift"];

/// So that chance is drift now and then.
const DRIFT: &str = r#"[models."fraud-shadow".drift]
alpha = 0.5
min_n = 20
methods = { psi = { warn_at = 0.02, drift_at = 0.04 } }

"#;

/// Gives a trial a reference, custom metrics and rules.
pub fn prepare(plan: &mut Plan) {
    plan.compares = true;
    let fraud = &plan.settings.models[0];
    let compared = ModelRule { pattern: COMPARED.to_owned(), ..fraud.clone() };
    plan.settings.models.insert(0, compared);
    write!(
        plan.sections,
        "{METRICS}\n[[alerts]]\nname = \"{ERRORS}\"\nmodels = [\"fraud-*\"]\n\
         metric = \"serving.error_rate\"\nabove = {MOST_ERRORS}\nfor = 1\nclear_for = 1\n\
         min_n = {LEAST_N}\n{RULES}"
    )
    .expect("memory");
}

/// A job over the trial's topics that the plan configures.
pub fn job(plan: &Plan, name: &str, kafka: &Kafka, clickhouse: &ClickHouse) -> Job {
    let more = format!("{}\n{}", sections(TOPICS), plan.sections);
    let mut job = Job::new(name, kafka, clickhouse, TOPICS, &plan.settings, &more);
    if plan.compares {
        let document = document(&mut job);
        job.put("reference.json", document);
        let head = |pattern: &str| format!("[models.\"{pattern}\"]\n");
        let named = format!("{}reference = \"reference.json\"\n", head(COMPARED));
        job.edit(&head(COMPARED), &named);
        job.edit(&head("fraud-*"), &format!("{DRIFT}{}", head("fraud-*")));
    }
    job
}

/// The reference, made as a user makes it: of files, by the program. The job only says how records are read.
fn document(job: &mut Job) -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(|| {
        let mut files = [String::new(), String::new()];
        for mut message in requests::make(7, RECORDS, 1, 28) {
            match &mut message.body {
                Body::Inference(said) if said.model == LIKE => {
                    said.features.retain(|(name, _)| FEATURES.contains(&&**name));
                }
                Body::Label(_) => {}
                Body::Inference(_) | Body::Dead => continue,
            }
            let file = &mut files[message.topic];
            file.push_str(std::str::from_utf8(&json_payload(&message.body)).expect("JSON"));
            file.push('\n');
        }
        let [inferences, labels] = [("inferences", 0), ("labels", 1)]
            .map(|(name, of)| job.put(&format!("{name}.jsonl"), &files[of]));
        let output = job.put("built.json", "");
        std::fs::remove_file(&output).expect("just written");
        let [inferences, labels, output] =
            [&inferences, &labels, &output].map(|path| path.to_str().expect("a plain path"));
        let source = ["--inferences", inferences, "--labels", labels, "--output", output];
        let arguments = [&["profile", "--name", "usual", "--model", LIKE][..], &source].concat();
        job.run(&arguments, 0, DEADLINE);
        std::fs::read_to_string(output).expect("it was written")
    })
}

/// Takes the last labels out of the rest of the traffic. Sent when all else is counted, they change rows of windows that
/// nothing else writes any more: those that a flush leaves out then must be right all the same.
pub fn last_labels(rest: &mut Vec<Message>) -> Vec<Message> {
    let is_label = |message: &Message| message.topic == 1;
    let mut left = rest.iter().filter(|message| is_label(message)).count();
    rest.extract_if(.., |message| {
        let is_last = is_label(message) && left <= LAST_LABELS;
        left -= usize::from(is_label(message));
        is_last
    })
    .collect()
}

/// Whether the oracle cannot know a row: one that reads the reference.
pub fn is_unknown(plan: &Plan, table: &str, ([model, ..], _, _, own): &RowKey) -> bool {
    let reads = match table {
        "drift" | "quality_estimated" => true,
        "data_quality" | "categories" => {
            own.split('/').next().is_some_and(|it| FEATURES.contains(&it))
        }
        _ => false,
    };
    plan.compares && model == COMPARED && reads
}

/// What a row said when it was read.
#[derive(Debug)]
struct Said {
    n: u64,
    hash: u64,
    text: String,
}

/// What was read on the way: rows by table and key, and by version.
#[derive(Default)]
pub struct Seen {
    rows: BTreeMap<(&'static str, String), BTreeMap<u64, Said>>,
    turn: usize,
}

/// The columns by which rows are found again; the last is all of them.
fn columns(own: &str) -> String {
    let key = format!("grain, model, version, segment, window_start, {own}");
    format!("toString(tuple({key})), row_version, n, cityHash64(toString(tuple(*)))")
}

/// Looks at one of the tables every other time: another one each time.
pub fn remember(trial: &mut Trial) -> Option<()> {
    trial.seen.turn += 1;
    if trial.seen.turn.is_multiple_of(2) {
        return None;
    }
    let (table, own) = READ[trial.seen.turn / 2 % READ.len()];
    let sql = format!(
        "SELECT {}, toString(tuple(*)) FROM tidegauge.{table} FINAL WHERE job = '{JOB}' \
         ORDER BY rand() LIMIT 100",
        columns(own)
    );
    for line in ask(&trial.clickhouse, &sql)?.lines() {
        let (key, version, said) = read(line);
        let text = line.rsplit('\t').next().expect("a column").to_owned();
        let said = Said { text, ..said };
        trial.seen.rows.entry((table, key)).or_default().insert(version, said);
    }
    Some(())
}

fn read(line: &str) -> (String, u64, Said) {
    let mut parts = line.split('\t');
    let key = parts.next().expect("a key").to_owned();
    let mut number = || parts.next().and_then(|it| it.parse::<u64>().ok()).expect("a number");
    let (version, n, hash) = (number(), number(), number());
    (key, version, Said { n, hash, text: String::new() })
}

/// I4 of these tables: what was read is not beyond the end, and of the last version it is the last row. How much was
/// held against the end, and what was not so.
pub fn invented(trial: &Trial) -> (usize, Vec<String>) {
    let mut failures = Vec::new();
    for (table, own) in READ {
        let sql =
            format!("SELECT {} FROM tidegauge.{table} FINAL WHERE job = '{JOB}'", columns(own));
        let text = trial.clickhouse.query(&sql);
        let last: BTreeMap<String, (u64, Said)> =
            text.lines().map(read).map(|(key, version, said)| (key, (version, said))).collect();
        let of_table = trial.seen.rows.iter().filter(|((of, _), _)| *of == table);
        for ((_, key), versions) in of_table {
            let Some((newest, end)) = last.get(key) else {
                failures.push(format!("{table} {key} was read and is gone"));
                continue;
            };
            failures.extend(versions.iter().filter_map(|(version, said)| {
                let is_beyond = newest < version || end.n < said.n;
                let is_other = version == newest && said.hash != end.hash;
                (is_beyond || is_other).then(|| {
                    format!(
                        "{table} {key} was of version {version}: {}; ends as {newest}, n = {}",
                        said.text, end.n
                    )
                })
            }));
        }
        if !trial.seen.rows.keys().any(|(of, _)| *of == table) {
            failures.push(format!("no row of {table} was read on the way"));
        }
    }
    (trial.seen.rows.values().map(BTreeMap::len).sum(), failures)
}

/// I6: every metric row, byte by byte, and every alert that nobody took back are those of the other job.
pub fn as_replayed(trial: &Trial, replay: &str, expected: &Tables) -> Check {
    let (mut compared, mut failures) = (0, Vec::new());
    let (mut abouts, jobs) = (Vec::new(), format!("job IN ('{JOB}', '{replay}')"));
    for table in MetricTable::ALL {
        let name = table.name();
        let rows = if table.rows_can_go() {
            newest_rows("tidegauge", name)
        } else {
            format!("tidegauge.{name} FINAL")
        };
        let found = unlike(trial, "job", &format!("{rows} WHERE {jobs}"));
        failures.extend(found.into_iter().map(|it| format!("{name}: {it}")));
        let count = number(trial, &format!("SELECT count() FROM {rows} WHERE job = '{JOB}'"));
        compared += count;
        if ["drift", "custom", "quality_estimated"].contains(&name) {
            abouts.push(format!("{count} of {name}"));
        }
    }
    // How often something was told, and up to which window the last change was seen, depends on the flushes.
    let alerts = format!("tidegauge.alerts FINAL WHERE {jobs} AND state != 'retracted'");
    let found = unlike(trial, "job, announced, row_version", &alerts);
    failures.extend(found.into_iter().map(|it| format!("alerts: {it}")));
    compared += number(trial, &format!("SELECT count() FROM {alerts}")) / 2;
    failures.extend(alerts_of_errors(trial, expected));
    let is_sealed = |row: &Row| row.sealed && row.model == COMPARED && row.grain == HOUR_MS;
    failures.extend(empty(trial, expected.rows.iter().any(is_sealed), &mut abouts));
    let name = "I6 rows of references, custom metrics and alerts are the replay's";
    Check { name, compared, about: abouts.join(", "), failures }
}

fn number(trial: &Trial, sql: &str) -> usize {
    trial.clickhouse.query(sql).trim().parse().expect("a count")
}

/// Rows that only one of two jobs has, but for these columns.
fn unlike(trial: &Trial, but: &str, from: &str) -> Vec<String> {
    let text = trial.clickhouse.query(&format!(
        "SELECT count() OVER (), any(of), said FROM \
         (SELECT toString(tuple(* EXCEPT ({but}))) AS said, job AS of FROM {from}) \
         GROUP BY said HAVING uniqExact(of) != 2 OR count() != 2 ORDER BY said LIMIT {TOLD} FORMAT TSVRaw"
    ));
    text.lines().map(str::to_owned).collect()
}

/// Which alerts the oracle's rows come to, by the one rule that is simple enough.
fn alerts_of_errors(trial: &Trial, expected: &Tables) -> Vec<String> {
    let count = |row: &Row, name: &str| match row.cells.iter().find(|(is, _)| is == name) {
        Some((_, Cell::Count(count))) => *count,
        other => panic!("{name} is {other:?}"),
    };
    let mut windows: BTreeMap<(&str, &str), BTreeMap<i64, bool>> = BTreeMap::new();
    for row in &expected.rows {
        let is_its = row.table == "serving"
            && row.grain == trial.plan.settings.window
            && row.segment == "all"
            && row.model.starts_with("fraud-");
        let (inferences, errors) =
            if is_its { (count(row, "inferences"), count(row, "errors")) } else { (0, 0) };
        if inferences >= LEAST_N {
            let [errors, inferences] =
                [errors, inferences].map(|n| f64::from(u32::try_from(n).expect("few")));
            let of = windows.entry((&row.model, &row.version)).or_default();
            of.insert(row.start, errors / inferences > MOST_ERRORS);
        }
    }
    let mut wanted = BTreeSet::new();
    for ((model, version), windows) in windows {
        let mut opened = None;
        for (start, is_bad) in windows {
            match (is_bad, opened) {
                (true, None) => opened = Some(start),
                (false, Some(since)) => {
                    wanted.insert(format!("{model}\t{version}\t{since}\t{start}"));
                    opened = None;
                }
                _ => {}
            }
        }
        wanted.extend(opened.map(|since| format!("{model}\t{version}\t{since}\t0")));
    }
    let text = trial.clickhouse.query(&format!(
        "SELECT model, version, toUnixTimestamp64Milli(opened_window), \
         ifNull(toUnixTimestamp64Milli(resolved_window), 0) FROM tidegauge.alerts FINAL \
         WHERE job = '{JOB}' AND rule = '{ERRORS}' AND state != 'retracted'"
    ));
    let found: BTreeSet<String> = text.lines().map(str::to_owned).collect();
    let other = wanted.symmetric_difference(&found);
    let side = |alert: &String| if wanted.contains(alert) { "missing" } else { "unexpected" };
    other.map(|alert| format!("{} alert of errors: {alert}", side(alert))).take(TOLD).collect()
}

/// What must be there, or the comparison shows nothing; what there is of it is told. Where a partition is silent nothing
/// is sealed.
fn empty(trial: &Trial, is_sealed: bool, abouts: &mut Vec<String>) -> Vec<String> {
    let counted = |what: String, from: &str| {
        let count =
            number(trial, &format!("SELECT count() FROM tidegauge.{from} AND job = '{JOB}'"));
        (count == 0).then(|| format!("no {what}"))
    };
    let mut missing = Vec::new();
    for kind in ["feature", "score", "prediction", "label"] {
        let from = format!("drift FINAL WHERE kind = '{kind}' AND value IS NOT NULL");
        missing.extend(counted(format!("value of drift of kind {kind}"), &from));
    }
    for verdict in ["ok", "drift"] {
        let from = format!(
            "drift FINAL WHERE is_primary = 1 AND sealed >= {is_sealed} AND verdict = '{verdict}'"
        );
        missing.extend(counted(format!("verdict {verdict}"), &from));
    }
    for metric in ["records", "approval_rate", "cost"] {
        let from = format!("custom FINAL WHERE metric = '{metric}' AND value IS NOT NULL");
        missing.extend(counted(format!("value of metric {metric}"), &from));
    }
    missing.extend(counted("estimates".to_owned(), "quality_estimated FINAL WHERE 1"));
    for rule in NAMES {
        let from = format!("alerts FINAL WHERE rule = '{rule}' AND state = 'resolved'");
        missing.extend(counted(format!("alert of rule {rule} that was resolved"), &from));
    }
    let states = trial.clickhouse.query(&format!(
        "SELECT count(), state FROM tidegauge.alerts FINAL WHERE job = '{JOB}' GROUP BY state ORDER BY state"
    ));
    abouts.extend(states.lines().map(|line| format!("alerts {}", line.replace('\t', " "))));
    missing
}
