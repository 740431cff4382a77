//! Estimates of a model with several classes, from files of a good time over a topic to rows, held against `NannyML`
//! (`tests/engine/estimate.json`, written by `estimate.py`).

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::job::{Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{Body, Given, Inference, Label, ModelRule, Settings, Task};
use crate::support::services::{self, ClickHouse};
use crate::support::{requests, wait_for};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 3;
/// 2026-01-05 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;
const MODEL: &str = "pets";

/// What a record says and what is true, as `estimate.py` drew it.
struct Said {
    scores: Vec<(String, f64)>,
    predicted: String,
    actual: String,
}

fn records(classes: &Json, of: &Json) -> Vec<Said> {
    let text = |it: &Json| it.as_str().unwrap().to_owned();
    let classes: Vec<String> = classes.as_array().unwrap().iter().map(text).collect();
    let columns = ["scores", "predicted", "actual"].map(|name| of[name].as_array().unwrap());
    let record = |at: usize| {
        let scores = columns[0][at].as_array().unwrap().iter().map(|it| it.as_f64().unwrap());
        Said {
            scores: classes.iter().cloned().zip(scores).collect(),
            predicted: text(&columns[1][at]),
            actual: text(&columns[2][at]),
        }
    };
    (0..columns[0].len()).map(record).collect()
}

fn inference(at: usize, said: &Said) -> Body {
    Body::Inference(Inference {
        id: format!("r-{at}"),
        model: MODEL.to_owned(),
        version: "1".to_owned(),
        time: START_MS + i64::try_from(at).unwrap(),
        prediction: Some(Given::Text(said.predicted.clone())),
        scores: said.scores.clone(),
        ..Inference::default()
    })
}

fn label(at: usize, said: &Said) -> Body {
    Body::Label(Label {
        id: format!("r-{at}"),
        model: None,
        time: START_MS + 60_000,
        value: Given::Text(said.actual.clone()),
        weight: 1.0,
    })
}

/// Labels lie where their inferences do.
fn message(topic: usize, at: usize, body: Body, stamp: i64) -> Message {
    let payload = Some(json_payload(&body));
    Message { topic, partition: at % PARTITIONS, stamp, body, key: format!("r-{at}"), payload }
}

/// A profile of the good time, by the program.
fn profile(job: &mut Job, folder: &Path, records: &[Said]) -> PathBuf {
    let paths = ["inferences", "labels"].map(|of| folder.join(format!("{of}.jsonl")));
    let mut files = paths.each_ref().map(|path| std::fs::File::create(path).unwrap());
    for (at, said) in records.iter().enumerate() {
        for (file, body) in files.iter_mut().zip([inference(at, said), label(at, said)]) {
            file.write_all(&json_payload(&body)).unwrap();
            file.write_all(b"\n").unwrap();
        }
    }
    let [inferences, labels] = paths.each_ref().map(|path| path.to_str().unwrap());
    let to = folder.join("good.json");
    let build = ["profile", "--name", "good", "--model", MODEL, "--calibrator", "isotonic"];
    let files = ["--inferences", inferences, "--labels", labels, "--output", to.to_str().unwrap()];
    job.run(&[&build[..], &files].concat(), 0, DEADLINE);
    to
}

/// The row of the window, once it has so many labelled ones of so many inferences.
fn row(clickhouse: &ClickHouse, n: usize, labelled: usize) -> Json {
    let sql = "SELECT * FROM tidegauge_bi.quality_estimated WHERE job = 'pets' AND grain = '5m' AND segment = 'all' \
               FORMAT JSONEachRow SETTINGS output_format_json_quote_64bit_integers = 0";
    wait_for(&format!("{n} inferences with {labelled} labels"), DEADLINE, || {
        let rows = clickhouse.query(sql);
        let rows: Vec<Json> = rows.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
        assert!(rows.len() <= 1, "{rows:?}");
        let row = rows.into_iter().next()?;
        let is_there = row["n"] == n && row["n_labelled"] == labelled;
        is_there.then_some(row)
    })
}

/// Every figure of `expected` that `is_asked`, and NULL for all others.
fn check(row: &Json, expected: &Json, is_asked: impl Fn(&str) -> bool) {
    let columns = row.as_object().unwrap();
    let has_prefix = |name: &&String| {
        ["est_", "realized_", "blended_"].iter().any(|prefix| name.starts_with(prefix))
            || name.contains("_gap")
    };
    let mut compared = 0;
    for name in columns.keys().filter(has_prefix) {
        let asked = expected.get(name).filter(|_| is_asked(name));
        match (columns[name].as_f64(), asked) {
            (Some(is), Some(expected)) => {
                // `NannyML` rounds areas to five decimals on the way.
                let near = if name.contains("auroc") { 1e-6 } else { 1e-9 };
                let expected = expected.as_f64().unwrap();
                assert!((is - expected).abs() <= near, "{name} is {is}, not {expected}");
                compared += 1;
            }
            (None, None) => {}
            (Some(bound), None) if name == "est_auroc_error_bound" => assert!(bound < 0.1),
            (is, expected) => panic!("{name} is {is:?}, not {expected:?}: {row}"),
        }
    }
    assert!(compared >= 4, "{compared} figures in {row}");
}

#[test]
fn a_profile_of_several_classes_estimates_what_labels_then_realise() {
    let services = services::shared();
    let services::Services { kafka, clickhouse } = &*services;
    let golden: Json = serde_json::from_str(include_str!("../engine/estimate.json")).unwrap();
    let case = &golden["cases"][0];
    let figures = &case["figures"];
    let labelled: usize = figures["n_labelled"].as_f64().unwrap().to_string().parse().unwrap();
    let current = records(&case["classes"], &case["current"]);
    assert!(0 < labelled && labelled < current.len(), "some labels come, others don't");

    let topics = ["pets.inferences", "pets.labels"];
    let rule = ModelRule {
        pattern: MODEL.to_owned(),
        task: Some(Task::Multiclass),
        ..ModelRule::default()
    };
    let settings = Settings { models: vec![rule], clock_stamps: 1, ..requests::settings() };
    let more = sections(topics);
    let mut job = Job::new("pets", kafka, clickhouse, topics, &settings, &more);
    job.create_topics(kafka, i32::try_from(PARTITIONS).unwrap());
    let folder = tempfile::tempdir().unwrap();
    let good = records(&case["classes"], &case["reference"]);
    let good = profile(&mut job, folder.path(), &good);
    let task = "task = \"multiclass\"\n";
    job.edit(task, &format!("{task}reference = \"{}\"\n", good.display()));
    job.run(&["init"], 0, DEADLINE);

    let instance = job.start(&["run"]);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    for (at, said) in current.iter().enumerate() {
        producer.send(message(0, at, inference(at, said), START_MS + i64::try_from(at).unwrap()));
    }
    producer.flush();
    let before = row(clickhouse, current.len(), 0);
    // Nothing is realised yet, and the blend is the estimate.
    let mut expected = figures.clone();
    expected["blended_accuracy"] = figures["est_accuracy"].clone();
    let is_of_labels =
        |name: &str| name.contains("realized") || name.contains("labelled") || name.contains("gap");
    check(&before, &expected, |name| !is_of_labels(name));
    let undefined = before["undefined"].as_str().unwrap();
    for reason in ["realized_accuracy=no_labels", "est_labelled_auroc=no_labels"] {
        assert!(undefined.contains(reason), "{undefined}");
    }

    for (at, said) in current.iter().enumerate().take(labelled) {
        producer.send(message(1, at, label(at, said), START_MS + 60_000));
    }
    producer.flush();
    check(&row(clickhouse, current.len(), labelled), figures, |_| true);
    instance.stop();
}
