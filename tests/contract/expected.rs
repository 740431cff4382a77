//! What a profile expects of its model's windows, held against the naive batch computation and naive means.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use assert_cmd::Command;
use serde_json::{Value as Json, json};
use tidegauge::engine::metrics::expected::Expectation;
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::profile::read;

use crate::log::json_payload;
use crate::oracle::{self, Body, Cell, Given, Inference, Label, Partition, Record, Row};
use crate::requests::{self, Random};

const MINUTE_MS: i64 = 60_000;
/// 2026-01-05 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;
/// The tables of sections 2 and 4 to 7.
const TABLES: [&str; 9] = [
    "serving",
    "quality_binary",
    "quality_threshold",
    "calibration",
    "calibration_bins",
    "quality_multiclass",
    "quality_classes",
    "confusion",
    "quality_regression",
];

/// The settings of `requests::settings`, without any other model's.
const CONFIGURATION: &str = "\
[inferences]
topic = \"i\"
[labels]
topic = \"l\"
[models.\"fraud-*\"]
task = \"binary\"
segments = [\"region\"]
thresholds = [0.25, 0.9]
value = { tp = 10, fp = -4, fn = -20, tn = 0.5 }
[models.\"*\"]
threshold = 0.25
segments = [\"region\"]
";

/// Requests of a fraud team, and of a model that sorts and one that prices; each arrives at its own time, in order.
fn bodies(hours: i64) -> Vec<(i64, Body)> {
    let made = requests::make(5, 8_000, 1, hours).into_iter().map(|message| message.body);
    let time_of = |body: &Body| match body {
        Body::Inference(said) => Some(said.time),
        Body::Label(said) => Some(said.time),
        Body::Dead => None,
    };
    let mut bodies: Vec<(i64, Body)> =
        made.filter_map(|body| Some((time_of(&body)?, body))).collect();
    let mut random = Random(17);
    for number in 0..4_000_u64 {
        let time = START_MS + random.ms(hours * 60 * MINUTE_MS);
        let id = format!("more-{number}");
        let classes = ["bird", "cat", "dog"];
        let (class, other) = (classes[random.index(3)], classes[random.index(3)]);
        let (mut inference, value) = if number % 2 == 0 {
            let shares = [random.share(), random.share(), random.share()];
            let scores = classes.iter().zip(shares).map(|(name, it)| ((*name).to_owned(), it));
            let scores = scores.collect();
            (Inference { scores, ..Inference::default() }, Given::Text(other.to_owned()))
        } else {
            let price = random.share() * 1000.0;
            let prediction = Some(Given::Number(price + random.share()));
            (Inference { prediction, ..Inference::default() }, Given::Number(price))
        };
        if number % 4 == 0 {
            inference.prediction = Some(Given::Text(class.to_owned()));
        }
        inference.id.clone_from(&id);
        ["sorts", "prices"][usize::try_from(number % 2).unwrap()].clone_into(&mut inference.model);
        inference.time = time;
        bodies.push((time, Body::Inference(inference)));
        if !random.one_in(6) {
            let time = time + random.ms(70 * MINUTE_MS);
            bodies.push((time, Body::Label(Label { id, model: None, time, value, weight: 1.0 })));
        }
    }
    bodies.sort_by_key(|(time, _)| *time);
    bodies
}

/// Files of both streams, and the configuration.
fn write_files(folder: &Path, bodies: &[(i64, Body)]) {
    let mut files = [Vec::new(), Vec::new()];
    for (_, body) in bodies {
        let file = &mut files[usize::from(matches!(body, Body::Label(_)))];
        file.extend(json_payload(body));
        file.push(b'\n');
    }
    let [inferences, labels] = files;
    fs::write(folder.join("inferences.jsonl"), inferences).unwrap();
    fs::write(folder.join("labels.jsonl"), labels).unwrap();
    fs::write(folder.join("t.toml"), CONFIGURATION).unwrap();
}

/// What the command says with `--json`, and the profile.
fn built(folder: &Path, model: &str) -> (Json, Profile) {
    let output = Command::cargo_bin("tidegauge")
        .unwrap()
        .timeout(std::time::Duration::from_secs(60))
        .current_dir(folder)
        .args(["profile", "-c", "t.toml", "--inferences", "inferences.jsonl"])
        .args(["--labels", "labels.jsonl", "--name", model, "--model", model, "--json"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(folder.join(format!("{model}.json"))).unwrap();
    (serde_json::from_slice(&output.stdout).unwrap(), read(&text).unwrap())
}

/// The rows that a batch computation gives for the same records.
fn rows(bodies: &[(i64, Body)]) -> Vec<Row> {
    let mut logs = Partition::default();
    for (time, body) in bodies {
        let log = match body {
            Body::Label(_) => &mut logs.labels,
            _ => &mut logs.inferences,
        };
        let offset = i64::try_from(log.len()).unwrap();
        log.push(Record { offset, stamp: *time, body: body.clone() });
    }
    oracle::compute(&requests::settings(), &[logs]).rows
}

/// Grain, segment and name; every defined figure of the model's rows, with the start of its window.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts in tests are small")]
fn figures(rows: &[Row], model: &str) -> BTreeMap<(String, String, String), Vec<(i64, f64)>> {
    let mut figures: BTreeMap<_, Vec<(i64, f64)>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.model == model && TABLES.contains(&row.table)) {
        let grain = match row.grain / MINUTE_MS {
            5 => "5m",
            60 => "1h",
            _ => "1d",
        };
        let own_keys = ["threshold", "bin", "class", "true_class", "predicted_class"];
        for (column, cell) in &row.cells {
            let is_left_out = column.ends_with("_lower")
                || column.ends_with("_upper")
                || column.starts_with("freshness_")
                || (!row.own_key.is_empty() && own_keys.contains(&column.as_str()));
            let figure = match cell {
                Cell::Count(count) => *count as f64,
                Cell::Number(number) => *number,
                Cell::Time(_) | Cell::Text(_) | Cell::About(_) | Cell::Null(_) => continue,
            };
            if !is_left_out {
                let behind = if row.own_key.is_empty() { "" } else { "/" };
                let name = format!("{}.{column}{behind}{}", row.table, row.own_key);
                let place = (grain.to_owned(), row.segment.clone(), name);
                figures.entry(place).or_default().push((row.start, figure));
            }
        }
    }
    figures
}

/// Mean and standard deviation (ddof 0) as numpy has them.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts in tests are small")]
fn naive(figures: &[f64]) -> (f64, f64) {
    let n = figures.len() as f64;
    let mean = figures.iter().sum::<f64>() / n;
    let variance = figures.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n;
    (mean, variance.sqrt())
}

#[test]
fn expected_means_are_those_of_the_windows_that_a_batch_computation_gives() {
    let folder = tempfile::tempdir().unwrap();
    let bodies = bodies(14);
    write_files(folder.path(), &bodies);
    let rows = rows(&bodies);
    for (model, table, least) in [
        ("fraud-cards", "quality_binary.auroc", 400),
        ("sorts", "confusion.n/cat/dog", 100),
        ("prices", "quality_regression.rmse", 50),
    ] {
        let (said, profile) = built(folder.path(), model);
        let figures = figures(&rows, model);
        let mut found = 0;
        for ((grain, segment, name), figures) in &figures {
            let place = format!("{model}, {grain}, {segment}: {name}");
            let expectation = profile.expected.get(grain, segment, name);
            let starts: BTreeSet<i64> = figures.iter().map(|(start, _)| *start).collect();
            let figures: Vec<f64> = figures.iter().map(|(_, figure)| *figure).collect();
            if starts.len() < 10 {
                assert_eq!(expectation, None, "{place}: {} windows", starts.len());
                continue;
            }
            let Some(&Expectation { windows, mean, sd }) = expectation else { panic!("{place}") };
            assert_eq!(windows, u64::try_from(starts.len()).unwrap(), "{place}");
            let (naive_mean, naive_sd) = naive(&figures);
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * naive_mean.abs().max(1e-3);
            assert!(near(mean, naive_mean), "{place}: mean {mean}, not {naive_mean}");
            assert!(near(sd, naive_sd), "{place}: sd {sd}, not {naive_sd}");
            found += 1;
        }
        assert_eq!(found, profile.expected.len(), "{model}: and nothing else");
        assert!(found >= least, "{model}: {found} figures show little");
        assert!(profile.expected.get("5m", "all", table).is_some(), "{table}");
        assert!(!profile.expected.0.contains_key("1d"), "one day says nothing");
        assert_eq!(said["expected"], json!(found));
        let windows = |ms: i64| {
            let of = rows.iter().filter(|row| {
                (row.table, &*row.segment, row.grain) == ("serving", "all", ms * MINUTE_MS)
                    && row.model == model
            });
            of.map(|row| row.start).collect::<BTreeSet<_>>().len()
        };
        let windows = json!({ "5m": windows(5), "1h": windows(60), "1d": windows(1440) });
        assert_eq!(said["windows"], windows);
    }
}

#[test]
fn what_has_no_expected_means_says_why_and_keeps_the_older_form() {
    let folder = tempfile::tempdir().unwrap();
    let bodies = bodies(14);
    let first: Vec<_> =
        bodies.iter().filter(|(time, _)| *time < START_MS + 40 * MINUTE_MS).cloned().collect();
    write_files(folder.path(), &first);
    let run = |name: &str, labels: bool| {
        let output = Command::cargo_bin("tidegauge")
            .unwrap()
            .current_dir(folder.path())
            .args(["profile", "-c", "t.toml", "--inferences", "inferences.jsonl"])
            .args(if labels { &["--labels", "labels.jsonl"][..] } else { &[] })
            .args(["--name", name, "--model", "fraud-cards"])
            .output()
            .unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        assert!(output.status.success(), "{}", text(&output.stderr));
        let document = fs::read_to_string(folder.path().join(format!("{name}.json"))).unwrap();
        (text(&output.stdout), serde_json::from_str::<Json>(&document).unwrap())
    };
    let (said, document) = run("short", true);
    let expected =
        "no learned limits; fewer than 10 windows say nothing: 8 of 5m, 1 of 1h, 1 of 1d";
    assert!(said.contains(expected), "{said}");
    assert_eq!((&document["format"], document.get("expected")), (&json!(1), None));

    write_files(folder.path(), &bodies);
    let (said, document) = run("unlabelled", false);
    assert!(said.contains("learned limits: "), "{said}");
    let all = &document["expected"]["5m"]["all"];
    assert_eq!(document["format"], json!(2));
    assert!(all["serving.error_rate"]["windows"].as_u64() > Some(100), "{all}");
    assert_eq!(all["quality_binary.precision"], Json::Null);
}
