//! The car loans of `nannyml` through real topics, in JSON and in Avro with a real registry: the counts that pandas
//! gives and the figures of scikit-learn on the same rows. `data/car_loan.py` made them.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::job::{Job, sections_with};
use crate::support::log::{AVRO_SCHEMAS, AvroWire, Message, Producer, json_payload};
use crate::support::oracle::{self, Body, Given, Inference, Label, ModelRule, Settings, Task};
use crate::support::services::{ClickHouse, Kafka, Registry};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 4;
const DAY_MS: i64 = 86_400_000;
/// 2018-10-30 18:00 UTC.
const FIRST_MS: i64 = 1_540_922_400_000;
/// 8 min 43.152 s.
const STEP_MS: i64 = 523_152;

fn settings() -> Settings {
    Settings {
        window: DAY_MS,
        lateness: 600_000,
        label_wait: 2 * DAY_MS,
        max_future: 300_000,
        max_gap: 7 * DAY_MS,
        clock_stamps: 8,
        caps: [256, 64, 256],
        most_features: 256,
        class_caps: [256, 32],
        models: vec![ModelRule {
            pattern: "car-loan".to_owned(),
            task: Some(Task::Binary),
            ..ModelRule::default()
        }],
        grains: vec![30 * DAY_MS],
        has_labels: true,
        event_progress: false,
        generation: 0,
    }
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/service/data").join(name)
}

/// Inferences, and a day after each its label, in the order of their timestamps.
fn records() -> Vec<(usize, usize, i64, Body)> {
    let file = std::fs::File::open(data("car_loan.csv.gz")).expect("it is committed");
    let mut text = String::new();
    flate2::read::GzDecoder::new(file).read_to_string(&mut text).expect("gzip of UTF-8");
    let mut records = Vec::new();
    for (k, line) in text.lines().skip(1).enumerate() {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |at: usize| fields[at].parse::<f64>().expect("a number");
        let time = FIRST_MS + STEP_MS * i64::try_from(k).expect("50,000");
        let inference = Inference {
            id: fields[0].to_owned(),
            model: "car-loan".to_owned(),
            time,
            score: Some(number(1)),
            prediction: Some(Given::Number(number(2))),
            ..Inference::default()
        };
        let label = Label {
            id: fields[0].to_owned(),
            model: None,
            time: time + DAY_MS,
            value: Given::Number(number(3)),
            weight: 1.0,
        };
        records.push((0, k % PARTITIONS, time, Body::Inference(inference)));
        records.push((1, k % PARTITIONS, time + DAY_MS, Body::Label(label)));
    }
    assert_eq!(records.len(), 100_000);
    records.sort_by_key(|(_, _, time, _)| *time);
    records
}

#[test]
fn car_loans_in_json_and_avro_give_the_figures_of_scikit_learn() {
    let (kafka, clickhouse, registry) = (Kafka::start(), ClickHouse::start(), Registry::start());
    let records = records();
    for format in ["json", "avro"] {
        let topics = [format!("{format}.inferences"), format!("{format}.labels")];
        let topics = topics.each_ref().map(String::as_str);
        let ids = [0, 1].map(|topic| {
            let subject = format!("{}-value", topics[topic]);
            registry.register(&subject, AVRO_SCHEMAS[topic])
        });
        let wire = AvroWire::new(ids);
        let registry_section = format!("\n[schema_registry]\nurl = \"{}\"\n", registry.url());
        let more = sections_with(topics, &format!("format = \"{format}\"")) + &registry_section;
        let mut job = Job::new(format, &kafka, &clickhouse, topics, &settings(), &more);
        job.create_topics(&kafka, i32::try_from(PARTITIONS).expect("few"));
        job.run(&["init"], 0, DEADLINE);
        let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
        for (topic, partition, stamp, body) in records.iter().cloned() {
            let is_json = format == "json";
            let payload = if is_json { json_payload(&body) } else { wire.payload(&body) };
            let key = match &body {
                Body::Inference(said) => said.id.clone(),
                Body::Label(said) => said.id.clone(),
                Body::Dead => String::new(),
            };
            producer.send(Message { topic, partition, stamp, body, key, payload: Some(payload) });
        }
        producer.flush();
        job.run(&["run", "--until-end"], 0, DEADLINE);
        must_equal_scikit_learn(&clickhouse, format);
        job.must_equal(&clickhouse, &oracle::compute(&settings(), &producer.logs));
    }
}

fn must_equal_scikit_learn(clickhouse: &ClickHouse, job: &str) {
    let text = std::fs::read_to_string(data("car_loan.json")).expect("it is committed");
    let reference: Json = serde_json::from_str(&text).expect("JSON");
    for (grain, windows) in [("1d", 304), ("30d", 11)] {
        let rows = clickhouse.query(&format!(
            "SELECT toUnixTimestamp64Milli(window_start) AS window_start_ms, n, tp, fp, fn, tn, auroc, f1, accuracy, \
             average_precision, brier, log_loss FROM tidegauge.quality_binary FINAL \
             WHERE job = '{job}' AND grain = '{grain}' AND segment = 'all' ORDER BY window_start \
             FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0"
        ));
        let rows: Vec<Json> =
            rows.lines().map(|row| serde_json::from_str(row).expect("JSON")).collect();
        let expected = reference[grain].as_array().expect("a list");
        assert_eq!((rows.len(), expected.len()), (windows, windows), "windows of {grain}");
        for (row, expected) in rows.iter().zip(expected) {
            for (name, value) in expected.as_object().expect("an object") {
                let is_same = match value.as_i64() {
                    Some(count) => row[name].as_i64() == Some(count),
                    None => row[name]
                        .as_f64()
                        .is_some_and(|is| oracle::is_close(is, value.as_f64().expect("a number"))),
                };
                assert!(is_same, "{job} {grain}: {name} of {row}\nexpected {expected}");
            }
        }
    }
}
