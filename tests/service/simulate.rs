//! `tidegauge simulate` to its end, and `run` over what it sent: the rows say what it says that it sent.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::job::{Job, sections_with};
use crate::support::oracle::{ModelRule, Settings, Task};
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka, Registry, Services, shared};

const DEADLINE: Duration = Duration::from_secs(300);
const RECORDS: u64 = 20_000;
/// A rate at which the records' own time is 100 s, so that windows seal.
const TRAFFIC: &str =
    "--records 20000 --fast --rate 200 --window 10s --lateness 2s --label-wait 20s";

/// What a line of the truth says of a row, and what of the records of both topics.
const ROW: [&str; 13] = [
    "model",
    "version",
    "segment",
    "window_start_ms",
    "inferences",
    "errors",
    "labelled",
    "label_corrections",
    "label_duplicates",
    "tp",
    "fp",
    "fn",
    "tn",
];
const OUTCOMES: [(&str, &[&str]); 2] = [
    ("inferences", &["accepted", "duplicate", "late", "dead"]),
    ("labels", &["matched", "unmatched", "dead"]),
];

/// The settings that the traffic is told of.
fn settings() -> Settings {
    let dimensions = vec!["region".to_owned()];
    let all = ModelRule { task: Some(Task::Binary), dimensions, ..ModelRule::default() };
    Settings {
        window: 10_000,
        lateness: 2_000,
        label_wait: 20_000,
        models: vec![all],
        ..requests::settings()
    }
}

/// Sends the traffic to the job's topics, which it makes; gives the truth that it prints.
fn simulate(kafka: &Kafka, job: &Job, format: &str, registry: &Registry) -> Vec<Json> {
    let ran = Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(["simulate", "--create-topics", "--partitions", "2", "--format", format])
        .args(TRAFFIC.split(' '))
        .args(["--brokers", &kafka.bootstrap(), "--registry", &registry.url()])
        .args(["--inferences", &job.topics[0], "--labels", &job.topics[1]])
        .args(["--dead-letters", &format!("dead.{}", job.name)])
        .output()
        .expect("cargo has built it");
    assert_eq!(ran.status.code(), Some(0), "{}", String::from_utf8_lossy(&ran.stderr));
    let truth = String::from_utf8(ran.stdout).expect("JSON");
    truth.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// Values of these names, as ClickHouse shows them in a line.
fn line(truth: &Json, names: &[&str]) -> String {
    let value = |name: &&str| match &truth[*name] {
        Json::String(text) => text.clone(),
        other => other.to_string(),
    };
    names.iter().map(value).collect::<Vec<_>>().join("\t")
}

fn answer(clickhouse: &ClickHouse, sql: &str) -> BTreeSet<String> {
    let sql = format!("{sql} FORMAT TSVRaw SETTINGS join_use_nulls = 1");
    clickhouse.query(&sql).lines().map(str::to_owned).collect()
}

/// The rows of the base window. What a table lacks is NULL, which equals no count.
fn rows(clickhouse: &ClickHouse, job: &str) -> BTreeSet<String> {
    let table = |name: &str| {
        format!(
            "(SELECT *, toUnixTimestamp64Milli(window_start) AS window_start_ms FROM tidegauge_bi.{name} \
             WHERE job = '{job}' AND grain = '10s')"
        )
    };
    let keys = ROW[..4].join(", ");
    let of = |table: &str, names: &[&str]| {
        let named: Vec<_> =
            names.iter().map(|name| format!(", {table}.{name} AS {name}")).collect();
        named.concat()
    };
    answer(
        clickhouse,
        &format!(
            "SELECT {keys}{}{}{} FROM {} AS s FULL JOIN {} AS l USING ({keys}) FULL JOIN {} AS q USING ({keys})",
            of("s", &ROW[4..6]),
            of("l", &ROW[6..9]),
            of("q", &ROW[9..]),
            table("serving"),
            table("labels"),
            table("quality_binary"),
        ),
    )
}

/// What became of the records of a topic, by model.
fn outcomes(clickhouse: &ClickHouse, job: &str, topic: &str, names: &[&str]) -> BTreeSet<String> {
    let sum = |name: &&str| match *name {
        "unmatched" => "sum(h.kept) + sum(h.orphan)".to_owned(),
        other => format!("sum(h.{other})"),
    };
    let sums: Vec<String> = names.iter().map(sum).collect();
    answer(
        clickhouse,
        &format!(
            "SELECT model, {} FROM tidegauge_bi.stream_health AS h WHERE job = '{job}' AND topic = '{topic}' \
             GROUP BY model HAVING sum(h.records) > 0",
            sums.join(", ")
        ),
    )
}

#[test]
fn rows_and_accounts_equal_the_truth_that_simulate_prints() {
    let (services, registry) = (shared(), Registry::start());
    let Services { kafka, clickhouse } = &*services;
    for format in ["json", "avro"] {
        let name = format!("simulated-{format}");
        let topics = ["inferences", "labels"].map(|topic| format!("{name}.{topic}"));
        let topics = topics.each_ref().map(String::as_str);
        let more = sections_with(topics, &format!("format = \"{format}\""))
            + &format!("\n[schema_registry]\nurl = \"{}\"\n", registry.url());
        let mut job = Job::new(&name, kafka, clickhouse, topics, &settings(), &more);
        let truth = simulate(kafka, &job, format, &registry);
        job.run(&["init"], 0, DEADLINE);
        job.run(&["run", "--until-end"], 0, DEADLINE);

        let sent: BTreeSet<String> = truth
            .iter()
            .filter(|line| line["segment"].is_string())
            .map(|row| line(row, &ROW))
            .collect();
        assert!(sent.len() > 100, "{format}: {truth:?}");
        assert_eq!(rows(clickhouse, &name), sent, "{format}");
        for (topic, names) in OUTCOMES {
            let of: Vec<&Json> = truth.iter().filter(|line| line["topic"] == topic).collect();
            let columns = [&["model"][..], names].concat();
            let sent: BTreeSet<String> = of.iter().map(|it| line(it, &columns)).collect();
            assert_eq!(outcomes(clickhouse, &name, topic, names), sent, "{format}");
            // The test shows nothing of what never happens.
            for name in names {
                let count = of.iter().filter_map(|line| line[*name].as_u64()).sum::<u64>();
                assert!(count >= 20, "{format}: {count} {name}");
            }
        }
        let first = truth.iter().filter(|line| line["topic"] == "inferences");
        let first = first.flat_map(|it| ["accepted", "late", "dead"].map(|of| it[of].as_u64()));
        assert_eq!(first.flatten().sum::<u64>(), RECORDS, "{format}: each was sent once");
        let sealed = format!(
            "SELECT uniqExact(sealed) FROM tidegauge_bi.serving WHERE job = '{name}' AND grain = '10s'"
        );
        assert_eq!(clickhouse.query(&sealed), "2\n", "{format}: some are sealed, and some are not");
    }
}
