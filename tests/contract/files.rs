//! `report` over files, without any service: the figures are those of a naive computation, whatever the format.

mod query;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use assert_cmd::Command;
use serde_json::{Value, json};
use tempfile::TempDir;
use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, FeatureValue, Stream};
use tidegauge::engine::names::Names;
use tidegauge::source::files::{Columns, FileList, FileReader};

const FIRST_MS: i64 = 1_767_571_200_000;

/// Runs in this folder; exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::cargo_bin("tidegauge").unwrap();
    let command = command.current_dir(folder).timeout(std::time::Duration::from_secs(60));
    let output = command.args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

/// Scores in hundredths, and the labels of two in three.
fn scored() -> Vec<(u32, Option<bool>)> {
    (0..3000_u32)
        .map(|i| {
            let score = i * 37 % 101;
            let noise = i * 53 % 89;
            (score, (i % 3 != 0).then_some(score + noise > 100))
        })
        .collect()
}

/// Writes both streams, in CSV and in JSON Lines; times run backwards, as a table may be sorted by anything.
fn write(folder: &Path) {
    let mut inferences = "request_id,model,timestamp,score,segments.region\n".to_owned();
    let mut labels = "request_id,timestamp,label\n".to_owned();
    let mut lines = [String::new(), String::new()];
    for (i, (score, label)) in scored().into_iter().enumerate() {
        let time = FIRST_MS + 86_400_000 - i64::try_from(i).unwrap() * 20_000;
        let (score, region) = (f64::from(score) / 100.0, ["eu", "us"][i % 2]);
        writeln!(inferences, "{i:05},fraud,{time},{score},{region}").unwrap();
        let object = json!({"request_id": format!("{i:05}"), "model": "fraud", "timestamp": time,
                            "score": score, "segments": {"region": region}});
        writeln!(lines[0], "{object}").unwrap();
        if let Some(label) = label {
            // A month later: no configuration, no limit.
            let time = time + 30 * 86_400_000;
            writeln!(labels, "{i:05},{time},{}", u8::from(label)).unwrap();
            let object = json!({"request_id": format!("{i:05}"), "timestamp": time, "label": u8::from(label)});
            writeln!(lines[1], "{object}").unwrap();
        }
    }
    fs::write(folder.join("a.csv"), inferences).unwrap();
    fs::write(folder.join("b.csv"), labels).unwrap();
    let [inferences, labels] = lines;
    fs::write(folder.join("a.jsonl"), inferences).unwrap();
    fs::write(folder.join("b.jsonl"), labels).unwrap();
}

/// A report in JSON without the names of the files that it was made of.
fn without_names(report: &str) -> String {
    let (before, named) = report.split_once("; inferences of ").unwrap();
    let (_, after) = named.split_once('"').unwrap();
    format!("{before}\"{after}")
}

#[test]
fn labels_of_which_none_counts_as_positive_are_told() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let labels = fs::read_to_string(folder.path().join("b.csv")).unwrap();
    let words = labels.replace(",1\n", ",yes\n").replace(",0\n", ",no\n");
    fs::write(folder.path().join("words.csv"), words).unwrap();
    let config = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n[windows]\nlabel_wait = \"60d\"\n\
                  [models.fraud]\npositive = \"yes\"\n";
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let report = |labels: &str, more: &[&str]| {
        let fixed = ["report", "--inferences", "a.csv", "--labels", labels, "--format", "markdown"];
        let (exit, text, error) = run(folder.path(), &[&fixed[..], more].concat());
        assert_eq!(exit, 0, "{error}");
        (text, error)
    };
    let said = "None of the 2000 labels of fraud counts as positive: ";
    let (text, error) = report("words.csv", &[]);
    assert!(error.starts_with(said) && error.contains("positive = [\"yes\"]"), "{error}");
    assert!(text.contains(said) && !text.contains("beyond chance"), "{text}");
    for (labels, more) in [("b.csv", &[][..]), ("words.csv", &["-c", "c.toml"])] {
        let (text, error) = report(labels, more);
        assert!(!error.contains("positive") && !text.contains("None of the"), "{error}{text}");
    }
}

#[test]
fn labels_of_which_none_counts_for_quality_are_told() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, columns: &str, value: &str| {
        let rows = (0..3).map(|i| format!("{i},price,2026-11-01T10:00:00Z{value}\n"));
        let text = format!("request_id,model,timestamp{columns}\n") + &rows.collect::<String>();
        fs::write(folder.path().join(name), text).unwrap();
    };
    file("numbers.csv", ",prediction", ",12.5");
    file("nothing.csv", ",features.a", ",1");
    file("words.csv", ",label", ",dear");
    file("labels.csv", ",label", ",12");
    for (inferences, labels, expected) in [
        ("numbers.csv", "words.csv", Some("not one is a number")),
        ("nothing.csv", "labels.csv", Some("neither a score nor a prediction")),
        ("numbers.csv", "labels.csv", None),
    ] {
        let fixed = ["report", "--inferences", inferences, "--labels", labels];
        let (exit, text, error) =
            run(folder.path(), &[&fixed[..], &["--format", "markdown"]].concat());
        assert_eq!(exit, 0, "{error}");
        let said = "None of the 3 labels of price counts for quality: ";
        for place in [&text, &error] {
            assert_eq!(place.contains(said), expected.is_some(), "{place}");
            assert!(expected.is_none_or(|reason| place.contains(reason)), "{place}");
        }
    }
}

#[test]
fn what_is_odd_about_labels_and_predictions_is_told() {
    let folder = TempDir::new().unwrap();
    let file = |name: &str, column: &str, values: [&str; 2]| {
        let rows = (0..40).map(|i| format!("{i},m,2026-11-01T10:00:00Z,{}\n", values[i / 3 % 2]));
        let text = format!("request_id,model,timestamp,{column}\n") + &rows.collect::<String>();
        fs::write(folder.path().join(name), text).unwrap();
    };
    file("scores.csv", "score", ["0.2", "0.8"]);
    file("decided.csv", "prediction", ["1", "0"]);
    file("units.csv", "prediction", ["1 EUR", "2 EUR"]);
    for (name, values) in [("two", ["1", "2"]), ("usual", ["1", "0"]), ("signs", ["1", "-1"])] {
        file(&format!("{name}.csv"), "label", values);
    }
    for (inferences, labels, expected) in [
        ("scores.csv", "two.csv", "labels are 1, 2: 1 and true count as positive"),
        ("scores.csv", "usual.csv", ""),
        ("scores.csv", "signs.csv", ""),
        ("decided.csv", "usual.csv", ""),
        ("units.csv", "two.csv", "None of the 40 labels of m is what was predicted: "),
    ] {
        let fixed = ["report", "--inferences", inferences, "--labels", labels];
        let (exit, text, error) =
            run(folder.path(), &[&fixed[..], &["--format", "markdown"]].concat());
        assert_eq!(exit, 0, "{error}");
        assert!(text.contains(expected), "{inferences} {labels}: {text}");
        assert!(error.starts_with(expected) && error.is_empty() == expected.is_empty(), "{error}");
    }
    // Now and then another decision than the label: every error is 1.
    file("other.csv", "label", ["0", "0"]);
    let fixed = ["report", "--inferences", "decided.csv", "--labels", "other.csv"];
    let (exit, _, error) = run(folder.path(), &fixed);
    assert!(exit == 0 && error.starts_with("Every error of m is 0 or 1: "), "{error}");
    assert!(error.contains("[models.\"m\"] task = \"binary\""), "{error}");
}

/// Quality, drift and profile alike.
#[test]
fn numbers_as_text_are_numbers_to_a_model_that_predicts_some() {
    let folder = TempDir::new().unwrap();
    let config = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n[models.price]\ntask = \"regression\"\n";
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let [as_numbers, as_text] = [("n", ""), ("t", "\"")].map(|(name, quote)| {
        for (kind, field) in [("i", "prediction"), ("l", "label")] {
            let line = |i: u32| {
                let value = format!("{quote}{}.5{quote}", i % 7);
                format!(
                    r#"{{"request_id":"{i}","model":"price","timestamp":1767571200000,"{field}":{value}}}"#
                ) + "\n"
            };
            let lines: String = (0..300).map(line).collect();
            fs::write(folder.path().join(format!("{name}-{kind}.jsonl")), lines).unwrap();
        }
        let [inferences, labels] = ["i", "l"].map(|kind| format!("{name}-{kind}.jsonl"));
        let reference = ["--reference", &inferences, "--reference-labels", &labels];
        let fixed =
            ["report", "-c", "c.toml", "--inferences", &inferences, "--labels", &labels, "--format", "json"];
        let (exit, text, error) = run(folder.path(), &[&fixed[..], &reference].concat());
        assert_eq!(exit, 0, "{error}");
        without_names(&text)
    });
    assert!(as_numbers.contains("drift") && as_numbers.contains("Mean absolute error"));
    assert_eq!(as_text, as_numbers);
}

#[test]
fn columns_that_nothing_is_read_of_are_named() {
    let folder = TempDir::new().unwrap();
    let text = "request_id,model,timestamp,score,amount,y_pred,features.a,label\n1,m,1767571200000,0.5,7,1,2,1\n";
    fs::write(folder.path().join("a.csv"), text).unwrap();
    let report = ["report", "--inferences", "a.csv", "--format", "json"];
    for (more, names) in
        [(&[][..], "amount, label, y_pred"), (&["--labels", "a.csv"], "amount, y_pred")]
    {
        let (exit, _, error) = run(folder.path(), &[&report[..], more].concat());
        let said =
            format!("not read: columns {names} (features are columns named `features.NAME`;");
        assert!(exit == 0 && error.starts_with(&said), "{error}");
    }
    let many: Vec<_> = (0..20).map(|i| format!(",c{i:02}")).collect();
    let many = many.concat();
    let (header, row) = text.trim_end().split_once('\n').unwrap();
    let text = format!("{header}{many}\n{row}{}\n", ",1".repeat(20));
    fs::write(folder.path().join("a.csv"), text).unwrap();
    let (_, _, error) = run(folder.path(), &report);
    let said = "not read: columns amount, c00, c01, c02, c03, c04, c05, c06 and 15 others (";
    assert!(error.starts_with(said), "{error}");
}

#[test]
fn a_span_that_ends_before_it_begins_is_refused() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let days = ["--since", "2026-01-06", "--until", "2026-01-05"];
    let report = ["report", "--inferences", "a.csv", "-o", "a.html"];
    let (exit, _, error) = run(folder.path(), &[&report[..], &days].concat());
    assert!(
        exit == 2 && error.contains("--since is 2026-01-06T00:00:00.000Z, not before"),
        "{error}"
    );
    assert!(!folder.path().join("a.html").exists());
}

/// Name and value of all facts of a section.
fn facts(report: &Value, section: &str) -> BTreeMap<String, String> {
    let sections = report["models"][0]["sections"].as_array().unwrap();
    let section = sections.iter().find(|found| found["title"] == section).unwrap();
    let blocks = section["blocks"].as_array().unwrap().iter();
    let facts = blocks.filter_map(|block| block["facts"].as_array()).flatten();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    facts.map(|fact| (text(&fact["name"]), text(&fact["value"]))).collect()
}

#[test]
fn a_report_of_files_needs_no_service_and_equals_a_naive_computation() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let report = |ending: &str, more: &[&str]| {
        let [inferences, labels] = ["a", "b"].map(|name| format!("{name}.{ending}"));
        let files = ["report", "--inferences", &inferences, "--labels", &labels];
        let (exit, text, error) = run(folder.path(), &[&files[..], more].concat());
        assert_eq!((exit, error.as_str()), (0, ""));
        text
    };
    let figures = |ending: &str| without_names(&report(ending, &["--format", "json"]));
    let from_csv = figures("csv");
    assert_eq!(from_csv, figures("jsonl"), "the format changes nothing");
    let turned = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    let turned: Vec<&str> = turned.lines().rev().collect();
    fs::write(folder.path().join("a.ndjson"), turned.join("\n")).unwrap();
    fs::copy(folder.path().join("b.jsonl"), folder.path().join("b.ndjson")).unwrap();
    assert_eq!(from_csv, figures("ndjson"), "nor does the order of rows");
    let parsed: Value = serde_json::from_str(&from_csv).unwrap();

    let labelled: Vec<(u32, bool)> =
        scored().into_iter().filter_map(|(score, label)| Some((score, label?))).collect();
    let (mut wins, mut pairs, mut right) = (0.0, 0.0, 0.0);
    for &(score, label) in &labelled {
        right += f64::from(u8::from((score >= 50) == label));
        for &(other, _) in labelled.iter().filter(|(_, other)| label && !other) {
            pairs += 1.0;
            wins += match score.cmp(&other) {
                Ordering::Greater => 1.0,
                Ordering::Equal => 0.5,
                Ordering::Less => 0.0,
            };
        }
    }
    let n = f64::from(u32::try_from(labelled.len()).unwrap());
    let brier = labelled
        .iter()
        .map(|&(score, label)| (f64::from(score) / 100.0 - f64::from(u8::from(label))).powi(2));
    let quality = facts(&parsed, "Quality");
    assert_eq!(quality["AUROC"], format!("{:.4}", wins / pairs));
    assert_eq!(quality["Accuracy"], format!("{:.4}", right / n));
    assert_eq!(quality["Brier score"], format!("{:.4}", brier.sum::<f64>() / n));
    let summary = facts(&parsed, "Summary");
    assert_eq!((&*summary["Inferences"], &*summary["Labelled"]), ("3\u{202f}000", "2\u{202f}000"));

    report("csv", &["-o", "out.html"]);
    let page = fs::read_to_string(folder.path().join("out.html")).unwrap();
    assert!(page.starts_with("<!DOCTYPE html>") && page.contains(&quality["AUROC"]));
    assert!(report("csv", &["--format", "markdown"]).contains(&quality["AUROC"]));
}

/// Inferences of a model with two features; `by` is added to the first one.
fn with_features(models: &[&str], by: i64) -> (String, Vec<i64>) {
    let (mut lines, mut values) = (String::new(), Vec::new());
    for i in 0..2000_i64 {
        let (x, model) = (i * 37 % 500 + by, models[usize::try_from(i).unwrap() % models.len()]);
        let object = json!({"request_id": i.to_string(), "model": model, "timestamp": FIRST_MS + i,
            "prediction": i % 2, "features": {"x": x, "y": i * 53 % 500}});
        writeln!(lines, "{object}").unwrap();
        values.push(x);
    }
    values.sort_unstable();
    (lines, values)
}

#[test]
fn files_are_compared_with_a_reference_of_files_or_of_a_document() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (before, of_reference) = with_features(&["m"], 0);
    let (now, of_now) = with_features(&["m"], 100);
    fs::write(at("before.jsonl"), before).unwrap();
    fs::write(at("now.jsonl"), now).unwrap();
    fs::write(at("two.jsonl"), with_features(&["m", "other"], 0).0).unwrap();
    let config = "job = \"report\"\n[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n";
    fs::write(at("c.toml"), config).unwrap();
    let report = |more: &[&str]| {
        let files = ["report", "--format", "json", "--inferences", "now.jsonl"];
        run(folder.path(), &[&files[..], more].concat())
    };
    let sections = |text: &str| -> Value {
        let report: Value = serde_json::from_str(text).unwrap();
        let all = report["models"][0]["sections"].as_array().unwrap().clone();
        let is_compared = |one: &Value| one["title"] == "Drift" || one["title"] == "Distributions";
        all.into_iter().filter(is_compared).collect()
    };
    let (exit, text, error) = report(&["--reference", "before.jsonl"]);
    assert_eq!((exit, error.as_str()), (0, ""));
    let of_files = sections(&text);
    let verdicts: Vec<_> = of_files[0]["blocks"][1]["table"]["rows"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row[0].as_str().unwrap(), row[1].as_str().unwrap()))
        .collect();
    assert!(verdicts.contains(&("x", "drift")) && verdicts.contains(&("y", "ok")), "{verdicts:?}");
    let spread = &of_files[1]["blocks"][1]["spread"];
    let quantiles = |values: &[i64]| -> Vec<i64> {
        [1, 25, 50, 75, 99].map(|percent| values[percent * values.len() / 100 - 1]).to_vec()
    };
    let shown = |of: &Value| -> Vec<f64> {
        of["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
    };
    let floats = |values: &[i64]| -> Vec<f64> {
        quantiles(values).into_iter().map(|x| f64::from(i32::try_from(x).unwrap())).collect()
    };
    assert_eq!(spread["feature"], "x");
    assert_eq!(quantiles(&of_reference), [4, 124, 249, 374, 494]);
    assert_eq!(shown(&spread["reference"]), floats(&of_reference));
    // Every fifth number is an edge of the reference's cells, and so are these but the last, which lies among numbers
    // at equal distances above the reference's greatest.
    assert_eq!(quantiles(&of_now), [104, 224, 349, 474, 594]);
    assert_eq!(shown(&spread["now"]), floats(&of_now));

    let build = ["profile", "-c", "c.toml", "--name", "before", "--inferences", "before.jsonl"];
    assert_eq!(run(folder.path(), &build).0, 0);
    let (exit, text, _) = report(&["--reference", "before.json"]);
    assert_eq!((exit, sections(&text)), (0, of_files), "a document says what its files say");

    let (exit, _, error) = report(&["--reference", "two.jsonl"]);
    assert!(exit == 2 && error.contains("profile_several_models"), "{error}");
    let (exit, _, error) = report(&["--reference", "two.jsonl", "--reference-model", "m"]);
    assert_eq!((exit, error.as_str()), (0, ""));
    fs::write(at("broken.json"), "{").unwrap();
    let (exit, _, error) = report(&["--reference", "broken.json"]);
    assert!(exit != 0 && error.contains("profile_not_json"), "{error}");
    let (exit, _, error) = report(&["--reference", "none.json"]);
    assert!(exit == 1 && error.contains("file_missing"), "{error}");
}

#[test]
fn a_reference_is_a_profile_or_records_by_what_it_holds_and_not_by_its_name() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (before, _) = with_features(&["m"], 0);
    fs::write(at("before.jsonl"), &before).unwrap();
    // Records may have a field of any name.
    let records = before.replace("\"model\":", "\"format\":\"video\",\"model\":");
    assert_ne!(records, before);
    fs::write(at("records.json"), format!("\n{records}")).unwrap();
    fs::write(at("now.jsonl"), with_features(&["m"], 100).0).unwrap();
    fs::write(at("c.toml"), "job = \"report\"\n[inferences]\ntopic = \"i\"\n").unwrap();
    let build = ["profile", "-c", "c.toml", "--name", "p", "--inferences", "before.jsonl"];
    assert_eq!(run(folder.path(), &build).0, 0);
    let report = |more: &[&str]| {
        let files = ["report", "--format", "json", "--inferences", "now.jsonl", "--reference"];
        let (exit, text, error) = run(folder.path(), &[&files[..], more].concat());
        (exit, if exit == 0 { without_names(&text) } else { text }, error)
    };
    let expected = report(&["before.jsonl"]);
    assert!(expected.0 == 0 && expected.1.contains("\"Drift\""), "{expected:?}");
    assert_eq!(report(&["records.json"]), expected, "they are the same records");
    assert_eq!(report(&["record*.json"]), expected, "a pattern is no name of a document");
    // What is given beside a profile says nothing of it.
    fs::write(at("b.csv"), "request_id,timestamp,label\n0,1767571200000,1\n").unwrap();
    for option in [&["--reference-labels", "b.csv"][..], &["--reference-model", "m"]] {
        let (exit, _, error) = report(&[&["p.json"][..], option].concat());
        assert!(exit == 2 && error.starts_with("error[usage]: p.json is a profile"), "{error}");
        assert!(error.contains(&format!("leave {} out", option[0])), "{error}");
        assert_eq!(report(&[&["records.json"][..], option].concat()).0, 0);
    }
}

#[test]
fn inferences_that_are_duplicates_are_counted_beside_the_others_and_many_are_asked_about() {
    let folder = TempDir::new().unwrap();
    // Customers are scored every day, and their labels come once.
    let write = |customers: i64, days: i64| {
        let mut inferences = "customer,day,model,timestamp,score\n".to_owned();
        let mut labels = "customer,day,timestamp,label\n".to_owned();
        for number in 0..customers * days {
            let (customer, day) = (number % customers, number / customers);
            let time = FIRST_MS + day * 86_400_000 + customer;
            writeln!(inferences, "c{customer},{day},churn,{time},0.5").unwrap();
            writeln!(labels, "c{customer},{day},{},1", time + 1000).unwrap();
        }
        fs::write(folder.path().join("a.csv"), inferences).unwrap();
        fs::write(folder.path().join("b.csv"), labels).unwrap();
    };
    let report = |id: &str| {
        let topic = |name: &str| {
            format!("[{name}]\ntopic = \"{name}\"\nfields = {{ request_id = {id} }}\n")
        };
        let config = topic("inferences") + &topic("labels") + "[windows]\nlabel_wait = \"30d\"\n";
        fs::write(folder.path().join("c.toml"), config).unwrap();
        let files = ["report", "-c", "c.toml", "--inferences", "a.csv", "--labels", "b.csv"];
        let (exit, text, error) = run(folder.path(), &[&files[..], &["--format", "json"]].concat());
        assert_eq!(exit, 0, "{error}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let summary = report["models"][0]["sections"][0]["blocks"].to_string();
        (report["source"].as_str().unwrap().to_owned(), summary, error)
    };
    write(20, 3);
    let (source, summary, error) = report("[\"customer\"]");
    let said = "Files with 60 inferences, 40 of them duplicates, 60 labels; ";
    assert!(source.starts_with(said), "{source}");
    let said = "40 of 60 inferences are duplicates, of which only the first counts: ";
    assert!(error.contains(said) && error.contains("a request ID of its own?"), "{error}");
    assert!(summary.contains(said), "{summary}");
    // What it says to do about it.
    assert!(error.contains("request_id = [\"customer\", \"day\"]"), "{error}");
    let (source, _, error) = report("[\"customer\", \"day\"]");
    assert!(source.starts_with("Files with 60 inferences, 60 labels; "), "{source}");
    assert_eq!(error, "");
    // One that was sent again is no rarity.
    write(20, 1);
    let path = folder.path().join("a.csv");
    let again = fs::read_to_string(&path).unwrap() + "c0,0,churn,1767571200000,0.5\n";
    fs::write(&path, again).unwrap();
    let (source, _, error) = report("[\"customer\"]");
    assert!(source.starts_with("Files with 21 inferences, 1 of them duplicates, "), "{source}");
    assert!(error.starts_with("not read: columns day (") && error.lines().count() == 1, "{error}");
}

#[test]
fn reports_and_profiles_of_files_that_backfill_refuses_are_refused_too() {
    let folder = TempDir::new().unwrap();
    let at = |name: &str| folder.path().join(name);
    fs::write(at("c.toml"), "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n").unwrap();
    let write = |name: &str, row: &dyn Fn(usize) -> Value, (good, bad): (usize, usize)| {
        let rows = (0..good).map(|number| row(number).to_string() + "\n").collect::<String>();
        fs::write(at(name), rows + &"{}\n".repeat(bad)).unwrap();
    };
    let inference = |number: usize| {
        let id = number.to_string();
        json!({"request_id": id, "model": "m", "timestamp": FIRST_MS, "score": 0.5})
    };
    let label = |number: usize| {
        let (id, label) = (number.to_string(), number % 2);
        json!({"request_id": id, "timestamp": FIRST_MS, "label": label})
    };
    let files = ["-c", "c.toml", "--inferences", "a.jsonl", "--labels", "b.jsonl"];
    let all = [
        [&["report"][..], &files, &["-o", "out.html"]].concat(),
        [&["profile"][..], &files, &["--name", "p", "--output", "out.html"]].concat(),
    ];
    for (inferences, labels, said) in [
        ((1, 999), (1, 0), "999 of 1000 records of inferences can't be used, more than a share"),
        ((35, 5), (35, 0), "5 of 40 records of inferences can't be used, more than a share of 0.1"),
        ((40, 0), (35, 5), "5 of 40 records of labels can't be used, more than a share of 0.1"),
        ((40, 0), (0, 1), "none of 1 records of labels can be used"),
        ((36, 4), (36, 4), ""),
    ] {
        write("a.jsonl", &inference, inferences);
        write("b.jsonl", &label, labels);
        for arguments in &all {
            let (exit, _, error) = run(folder.path(), arguments);
            if said.is_empty() {
                assert!(exit == 0 && at("out.html").exists(), "{arguments:?}: {error}");
                fs::remove_file(at("out.html")).unwrap();
                continue;
            }
            assert_eq!(exit, 1, "{arguments:?}: {error}");
            assert!(error.contains(&format!("error[file_unusable]: {said}")), "{error}");
            assert!(!at("out.html").exists(), "{arguments:?}");
        }
    }
    // So is a reference, of which a report would be wrong.
    write("a.jsonl", &inference, (40, 0));
    write("r.jsonl", &inference, (1, 999));
    let report = ["report", "--inferences", "a.jsonl", "--reference", "r.jsonl"];
    let (exit, text, error) = run(folder.path(), &report);
    assert!(exit == 1 && text.is_empty() && error.contains("error[file_unusable]"), "{error}");
}

#[test]
fn an_output_that_can_not_be_written_shows_before_the_work() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.jsonl"), "{}\n").unwrap();
    let config = "clickhouse.url = \"http://127.0.0.1:1\"\n[inferences]\ntopic = \"i\"\n";
    fs::write(folder.path().join("tidegauge.toml"), config).unwrap();
    let of_files = ["report", "--inferences", "a.jsonl"];
    for (arguments, output) in [
        (&of_files[..], "no/out.html"),
        (&["report"][..], "no/out.html"),
        (&["query", "serving"][..], "no/out.csv"),
        (&["query", "serving", "--format", "csv"][..], "."),
    ] {
        let (exit, text, error) = run(folder.path(), &[arguments, &["--output", output]].concat());
        assert_eq!((exit, text.as_str()), (1, ""), "{error}");
        let said = format!("error[report_unwritable]: can't write {output}: ");
        assert!(error.starts_with(&said), "nothing was read: {error}");
    }
    let names = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = names.collect();
    names.sort();
    assert_eq!(names, ["a.jsonl", "tidegauge.toml"], "a look leaves nothing");
}

#[test]
fn records_and_files_that_cannot_be_used_are_named_with_a_code() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    fs::write(folder.path().join("bad.jsonl"), "{\"request_id\":\"1\"}\n{\n").unwrap();
    fs::write(folder.path().join("few.csv"), "request_id,model\n1,m\n").unwrap();
    fs::write(folder.path().join("cut.parquet"), "PAR1").unwrap();
    let of = |file: &str| run(folder.path(), &["report", "--inferences", file, "--format", "json"]);
    fs::write(folder.path().join("header.csv"), "request_id,model,timestamp\n").unwrap();
    let (exit, text, error) = of("header.csv");
    assert_eq!((exit, text.as_str()), (1, ""), "nor is none at all: {error}");
    assert!(error.contains("error[report_empty]: no inference can be used: 0 "), "{error}");
    let (exit, text, error) = of("bad.jsonl");
    assert_eq!((exit, text.as_str()), (1, ""), "no inference at all is no report");
    assert!(error.contains("bad.jsonl, record 1: ") && error.contains("`model`"), "{error}");
    assert!(error.contains("bad.jsonl, record 2: "), "{error}");
    let said = "error[report_empty]: no inference can be used: 2 inferences read, of which 2 can't be used; ";
    assert!(error.contains(said) && error.contains("\n  remedy: "), "{error}");
    // One object over several lines, as a person would write it: nobody sent it, and no format is wrong with it.
    let pretty = "{\n  \"request_id\": \"1\",\n  \"model\": \"m\"\n}\n";
    fs::write(folder.path().join("pretty.json"), pretty).unwrap();
    let (exit, _, error) = of("pretty.json");
    assert!(exit == 1 && error.contains("in a file each on one line"), "{error}");
    assert!(!error.contains("producer") && !error.contains("dead_letters"), "{error}");
    let good = fs::read_to_string(folder.path().join("a.jsonl")).unwrap();
    fs::write(folder.path().join("some.jsonl"), format!("{{}}\n{good}")).unwrap();
    let (exit, text, error) = of("some.jsonl");
    assert!(exit == 0 && error.contains("some.jsonl, record 1: "), "{error}");
    assert!(text.contains("1 inferences that can't be used"), "{text}");
    for (file, exit, code) in [
        ("few.csv", 2, "file_column_missing"),
        ("cut.parquet", 1, "file_broken"),
        // It may come later, as any mount may.
        ("none*.csv", 1, "file_missing"),
    ] {
        let (found, _, error) = of(file);
        assert_eq!(found, exit, "{error}");
        assert!(error.contains(&format!("error[{code}]: ")), "{error}");
        assert!(error.contains("\n  remedy: "), "{error}");
    }
    let (exit, _, error) = run(folder.path(), &["report", "--inferences", "a.csv", "-o", "a.pdf"]);
    assert!(exit == 2 && error.contains("say --format"), "{error}");
    let (exit, _, error) = run(folder.path(), &["query", "serving", "-c", "none.toml"]);
    assert!(exit == 2 && error.contains("config_missing"), "{error}");
}

#[test]
fn a_dry_run_judges_files_by_the_share_that_is_bad_and_keeps_all_of_that() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("c.toml"), "[inferences]\ntopic = \"i\"\n").unwrap();
    let row = json!({"request_id": "1", "model": "m", "timestamp": FIRST_MS, "score": 0.5});
    let dry = |(good, bad): (usize, usize), more: &[&str]| {
        let text = format!("{row}\n").repeat(good) + &"{}\n".repeat(bad);
        fs::write(folder.path().join("a.jsonl"), text).unwrap();
        let fixed = ["backfill", "-c", "c.toml", "--inferences", "a.jsonl", "--dry-run"];
        run(folder.path(), &[&fixed[..], more].concat())
    };
    let (exit, text, error) = dry((1, 999), &["--rejected", "bad.jsonl"]);
    assert_eq!(
        (exit, &*text),
        (1, "inferences: 1 file, 1000 records, of which 999 can't be used\n")
    );
    let said = "error[file_unusable]: 999 of 1000 records of inferences can't be used, more than a share of 0.1";
    assert!(error.contains(said) && error.contains("\n  remedy: "), "{error}");
    let kept = fs::read_to_string(folder.path().join("bad.jsonl")).unwrap();
    let kept: Vec<Value> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(kept.len(), 999);
    for (line, number) in kept.iter().zip(2..) {
        assert_eq!((&line["file"], &line["record"]), (&json!("a.jsonl"), &json!(number)));
        assert_eq!((&line["code"], &line["payload"]), (&json!("missing_field"), &json!("{}")));
        assert!(line["reason"].is_string(), "{line}");
    }

    // Nothing is wrong with a day without requests, and yet somebody may have named the wrong file.
    fs::write(folder.path().join("none.csv"), "request_id,model,timestamp\n").unwrap();
    let none = ["backfill", "-c", "c.toml", "--inferences", "none.csv", "--dry-run"];
    let (exit, text, error) = run(folder.path(), &none);
    assert_eq!((exit, &*text), (0, "inferences: 1 file, 0 records, of which 0 can't be used\n"));
    assert!(error.contains("no record of inferences was read"), "{error}");

    let (exit, _, error) = dry((0, 2), &[]);
    assert!(!error.contains("no record of inferences"), "{error}");
    assert!(exit == 1 && error.contains("none of 2 records of inferences can be used"), "{error}");
    for (counts, expected) in [((2, 1), 0), ((35, 5), 1), ((90, 10), 0), ((89, 11), 1)] {
        let (exit, text, error) = dry(counts, &["--json"]);
        assert_eq!(exit, expected, "{counts:?}: {error}");
        let found: Value = serde_json::from_str(&text).unwrap();
        let expected = json!({"files": 1, "records": counts.0, "rejected": counts.1});
        assert_eq!(found["inferences"], expected);
    }
    let (exit, _, error) = dry((1, 1), &["--rejected", "nowhere/bad.jsonl"]);
    assert!(exit == 1 && error.contains("error[rejected_unwritable]"), "{error}");
}

/// Writes one file of both streams: every fourth row has this label, which is perhaps none.
fn write_both(folder: &Path, label: &str) {
    let rows = (0..40).map(|i| {
        let (time, label) =
            (FIRST_MS + i * 1000, ["1", "0", label, "0"][usize::try_from(i % 4).unwrap()]);
        format!("{i},fraud,{time},0.5,{label}\n")
    });
    let text = rows.collect::<String>();
    let text = format!("request_id,model,timestamp,score,label\n{text}");
    fs::write(folder.join("both.csv"), text).unwrap();
}

#[test]
fn rows_of_both_streams_without_a_label_are_counted_whatever_stands_for_none() {
    let folder = TempDir::new().unwrap();
    let config = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n";
    fs::write(folder.path().join("c.toml"), config).unwrap();
    let both = ["--inferences", "both.csv", "--labels", "both.csv"];
    let dry = |more: &[&str]| {
        let fixed = [&["backfill", "-c", "c.toml", "--dry-run"], &both[..]].concat();
        let (exit, text, error) = run(folder.path(), &[&fixed[..], more].concat());
        assert_eq!(exit, 0, "{error}");
        text
    };
    let report = |more: &[&str]| {
        let fixed = [&["report", "--format", "json"], &both[..]].concat();
        let (exit, text, error) = run(folder.path(), &[&fixed[..], more].concat());
        assert_eq!(exit, 0, "{error}");
        serde_json::from_str::<Value>(&text).unwrap()["source"].as_str().unwrap().to_owned()
    };
    let all = "inferences: 1 file, 40 records, of which 0 can't be used\nlabels: 1 file, 40 records, of which 0 can't be used\n";
    let some = "inferences: 1 file, 40 records, of which 0 can't be used\n\
                labels: 1 file, 30 records, of which 0 can't be used, 10 rows without a label\n";
    for (label, option, expected) in [
        ("", &[][..], some),
        ("NaN", &[][..], some),
        ("NA", &[][..], all),
        ("NA", &["--null", "NA"][..], some),
        ("-999", &["--null", "NA", "--null", "-999"][..], some),
        // A class may be named so.
        ("None", &["--null", "NA"][..], all),
    ] {
        write_both(folder.path(), label);
        assert_eq!(dry(option), expected, "{label} {option:?}");
        let source = report(option);
        let told = source.contains("30 labels, 10 rows without a label");
        assert_eq!(told, expected == some, "{label} {option:?}: {source}");
    }
    write_both(folder.path(), "");
    let found: Value = serde_json::from_str(&dry(&["--json"])).unwrap();
    let expected = json!({"files": 1, "records": 30, "rejected": 0, "without_label": 10});
    assert_eq!(found["labels"], expected);
}

#[test]
fn what_stands_for_no_value_is_said_of_files_only() {
    let folder = TempDir::new().unwrap();
    let profile = ["profile", "--name", "n"];
    for command in [&["backfill"][..], &profile, &["report"]] {
        let (_, help, _) = run(folder.path(), &[command, &["--help"]].concat());
        assert!(help.contains("--null <TEXT>"), "{command:?}");
    }
    for command in [&["backfill"][..], &profile] {
        let (exit, _, error) =
            run(folder.path(), &[command, &["--topics", "--null", "NA"]].concat());
        assert!(exit == 2 && error.contains("cannot be used with"), "{command:?} {error}");
    }
    let (exit, _, error) = run(folder.path(), &["report", "--null", "NA"]);
    assert!(exit == 2 && error.contains("--inferences <FILES>..."), "{error}");
}

#[test]
fn a_report_of_files_says_what_is_odd_about_them() {
    let folder = TempDir::new().unwrap();
    write(folder.path());
    let report = |labels: &str, more: &[&str]| {
        let files = ["report", "--format", "json", "--inferences", "a.csv", "--labels", labels];
        let (exit, text, error) = run(folder.path(), &[&files[..], more].concat());
        assert_eq!(exit, 0, "{error}");
        (serde_json::from_str::<Value>(&text).unwrap(), error)
    };
    // A name that is mistyped leaves the page of yesterday as it is.
    let page = folder.path().join("page.html");
    fs::write(&page, "yesterday's").unwrap();
    let none = [
        "report",
        "--inferences",
        "a.csv",
        "--labels",
        "b.csv",
        "--model",
        "credit",
        "-o",
        "page.html",
    ];
    let (exit, _, error) = run(folder.path(), &none);
    let read = "error[nothing_chosen]: no rows of what --model, --version, --since and --until choose: 3000 inferences \
                read, of which 0 can't be used; 2000 labels read, of which 0 can't be used, of models fraud\n";
    assert!(exit == 1 && error.contains(read), "{error}");
    assert_eq!(fs::read_to_string(&page).unwrap(), "yesterday's");

    let labels = fs::read_to_string(folder.path().join("b.csv")).unwrap();
    let (header, rest) = labels.split_once('\n').unwrap();
    let others: Vec<String> = rest.lines().map(|line| format!("x{line}")).collect();
    let others = format!("{header}\n{}\n", others.join("\n"));
    fs::write(folder.path().join("others.csv"), others).unwrap();
    let (found, error) = report("others.csv", &[]);
    let said = "none of 2000 labels matches an inference: are the request IDs the same in both, and do labels come \
                within `windows.label_wait` (3650d) after their inference?";
    assert_eq!(error, format!("{said}\n"));
    let summary = found["models"][0]["sections"][0]["blocks"].as_array().unwrap();
    assert!(summary.contains(&json!({"text": said})), "{summary:?}");

    // An inference comes every 20 seconds: 540 in the three hours whose windows the times touch.
    let times = ["--since", "2026-01-05T10:30:00Z", "--until", "2026-01-05T12:10:00Z"];
    let (found, error) = report("b.csv", &times);
    assert_eq!(error, "");
    let source = found["source"].as_str().unwrap();
    let windows = "whole windows of 1h from 2026-01-05T10:00:00.000Z to 2026-01-05T13:00:00.000Z";
    let files = "; inferences of a.csv, labels of b.csv";
    assert!(source.ends_with(&format!("{windows}{files}")), "{source}");
    let inferences = &found["models"][0]["sections"][0]["blocks"][0]["facts"][0];
    assert_eq!((&inferences["value"], &inferences["number"]), (&json!("540"), &json!(540)));
    assert_eq!(inferences["note"], "2026-01-05 10:00 to 2026-01-05 13:00 UTC");
}

/// So many inferences, and a label of each, which comes so much later than its inference.
fn write_pairs(folder: &Path, wait_ms: impl Fn(i64) -> i64) {
    let mut inferences = "request_id,model,timestamp,score\n".to_owned();
    let mut labels = "request_id,timestamp,label\n".to_owned();
    for i in 0..40 {
        let time = FIRST_MS + i * 1000;
        writeln!(inferences, "{i},fraud,{time},0.5").unwrap();
        writeln!(labels, "{i},{},1", time + wait_ms(i)).unwrap();
    }
    fs::write(folder.join("a.csv"), inferences).unwrap();
    fs::write(folder.join("b.csv"), labels).unwrap();
}

#[test]
fn a_report_of_files_says_which_configuration_it_goes_by_and_how_many_labels_that_leaves_out() {
    let folder = TempDir::new().unwrap();
    // Every fourth label comes a day later.
    write_pairs(folder.path(), |i| if i % 4 == 0 { 86_400_000 } else { 60_000 });
    let files = ["report", "--inferences", "a.csv", "--labels", "b.csv", "--format", "json"];
    let report = |more: &[&str]| {
        let (exit, text, error) = run(folder.path(), &[&files[..], more].concat());
        assert_eq!(exit, 0, "{error}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let source = report["source"].as_str().unwrap().to_owned();
        (source, facts(&report, "Summary")["Labelled"].clone(), error)
    };
    let (source, labelled, error) = report(&[]);
    let of_files = "; inferences of a.csv, labels of b.csv";
    assert_eq!(source, format!("Files with 40 inferences, 40 labels; no configuration{of_files}"));
    assert_eq!((&*labelled, &*error), ("40", ""));

    // It lies there for other commands, which wait an hour for labels, and nobody has named it.
    let config = "[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n";
    fs::write(folder.path().join("tidegauge.toml"), config).unwrap();
    let (source, labelled, error) = report(&[]);
    assert!(source.contains(" 40 labels; configuration: tidegauge.toml; "), "{source}");
    assert_eq!(labelled, "30");
    let said = "10 of 40 labels match no inference: are the request IDs the same in both, and do labels come within \
                `windows.label_wait` (1h) after their inference?";
    assert_eq!(error, format!("{said}\n"));

    let patient = format!("{config}[windows]\nlabel_wait = \"2d\"\n");
    fs::write(folder.path().join("c.toml"), patient).unwrap();
    let (source, labelled, error) = report(&["-c", "c.toml"]);
    assert!(source.contains("; configuration: c.toml; "), "{source}");
    assert_eq!((&*labelled, &*error), ("40", ""));

    // What is wrong with it has its reason told to whoever did not ask for it.
    fs::write(folder.path().join("tidegauge.toml"), "jobb = \"x\"\n").unwrap();
    let (exit, _, error) = run(folder.path(), &files);
    assert!(exit == 2 && error.contains("error[config_unknown_key]"), "{error}");
    assert!(error.contains("it lies in the working folder: name another one with -c"), "{error}");
}

#[test]
fn times_that_are_in_seconds_are_asked_about() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("c.toml"), "[inferences]\ntopic = \"i\"\n").unwrap();
    let write = |first: i64| {
        let mut rows = String::new();
        for i in 0..20 {
            let (id, time) = (i.to_string(), first + i);
            let row = json!({"request_id": id, "model": "m", "timestamp": time, "score": 0.5});
            writeln!(rows, "{row}").unwrap();
        }
        fs::write(folder.path().join("a.jsonl"), rows).unwrap();
    };
    let dry = ["backfill", "-c", "c.toml", "--inferences", "a.jsonl", "--dry-run"];
    let report = ["report", "--inferences", "a.jsonl", "--format", "json"];
    let profile = ["profile", "-c", "c.toml", "--inferences", "a.jsonl", "--name"];
    let asked = "the newest record of inferences is of 1970-01-21T10:59:31.219Z: are timestamps in seconds?";
    write(FIRST_MS / 1000);
    let all =
        |name: &'static str| [dry.to_vec(), report.to_vec(), [&profile[..], &[name]].concat()];
    for arguments in all("seconds") {
        let (exit, text, error) = run(folder.path(), &arguments);
        // Who measures the seventies has nothing to mend.
        assert_eq!(exit, 0, "{error}");
        assert!(error.contains(asked), "{arguments:?}: {error}");
        assert_eq!(text.contains(asked), arguments[0] == "report", "the page has it too: {text}");
    }
    write(FIRST_MS);
    for arguments in all("milliseconds") {
        let (exit, _, error) = run(folder.path(), &arguments);
        assert!(exit == 0 && !error.contains("seconds?"), "{arguments:?}: {error}");
    }
}

#[test]
fn an_infinity_in_a_table_is_a_number_that_is_not_finite_and_no_broken_record() {
    let folder = TempDir::new().unwrap();
    let text = "request_id,model,timestamp,features.ratio,features.change,latency_ms\n\
                a,m,1700000000000,inf,-Infinity,\n\
                b,m,1700000000000,,,inf\n";
    let path = folder.path().join("a.csv");
    fs::write(&path, text).unwrap();
    let list = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let columns = Columns {
        wanted: list(&["request_id", "model", "timestamp", "features", "latency_ms"]),
        ..Columns::default()
    };
    let files = FileList::find(&[path.to_str().unwrap().to_owned()]).unwrap();
    let mut reader = FileReader::new(files, columns);
    let stream = Stream::Inferences;
    let settings = DecoderSettings {
        stream,
        format: Format::Json,
        fields: FieldPaths::new(stream),
        segments: Vec::new(),
    };
    let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
    let mut names = Names::default();
    let first = reader.next_record().unwrap().unwrap().object.to_vec();
    let Event::Inference(inference) = decoder.decode(Some(&first), &mut names).unwrap() else {
        panic!("it is an inference")
    };
    let values: Vec<FeatureValue<'_>> = inference.features.iter().map(|it| it.value).collect();
    assert_eq!(values, [FeatureValue::NotFinite; 2]);
    let second = reader.next_record().unwrap().unwrap().object.to_vec();
    let Err(NotDecoded::Bad(error)) = decoder.decode(Some(&second), &mut names) else {
        panic!("no request takes for ever")
    };
    assert_eq!(error.code(), "latency_out_of_range");
}
