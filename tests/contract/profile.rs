//! `tidegauge profile`: a document from files of inferences and labels.

use std::fmt::Write as _;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use assert_cmd::Command;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use serde_json::{Value as Json, json};
use tidegauge::engine::metrics::expected::Expectation;
use tidegauge::engine::metrics::reference::{CalibrationMap, Profile};
use tidegauge::profile::read;
use tidegauge::source::kafka::client_config;

use crate::wait::wait_until;

/// 2026-01-05 00:00 UTC.
const START: i64 = 1_767_571_200_000;

/// A folder with a configuration, 1,200 inferences of model `fraud` and one of `other`, and labels.
fn folder() -> tempfile::TempDir {
    let (mut inferences, mut labels) = (String::new(), "request_id,timestamp,label\n".to_owned());
    for i in 0..1200_i64 {
        let amount = if i % 10 == 0 { Json::Null } else { json!(i % 40) };
        let record = json!({
            "request_id": format!("r{i}"), "model": "fraud", "version": format!("{}", 1 + i % 2),
            "timestamp": START + i, "score": f64::from(i32::try_from(i % 100).unwrap()) / 100.0,
            "features": {"amount": amount, "country": if i % 4 == 0 { "SK" } else { "CZ" }, "gone": null},
        });
        writeln!(inferences, "{record}").unwrap();
        // Two of three are labelled: the even half of them 0, and then corrected to 1.
        if i % 3 < 2 {
            writeln!(labels, "r{i},{},{}", START + 1000, i % 3).unwrap();
        }
        if i % 6 == 0 {
            writeln!(labels, "r{i},{},1", START + 2000).unwrap();
            writeln!(labels, "r{i},{},0", START + 1500).unwrap();
        }
    }
    let other = json!({"request_id": "x", "model": "other", "timestamp": START, "score": 0.5});
    writeln!(inferences, "{other}\n{{\"model\": \"fraud\"}}").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("t.toml", "[inferences]\ntopic = \"i\"\n");
    write("inferences.jsonl", &inferences);
    write("labels.csv", &labels);
    folder
}

/// Builds a profile in the folder; exit code, standard output, standard error.
fn run(folder: &Path, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::cargo_bin("tidegauge")
        .unwrap()
        .timeout(std::time::Duration::from_secs(60))
        .current_dir(folder)
        .args(["profile", "-c", "t.toml", "--inferences", "inferences.jsonl"])
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

fn profile(folder: &Path, file: &str) -> Profile {
    read(&fs::read_to_string(folder.join(file)).unwrap()).unwrap()
}

#[test]
fn a_profile_is_built_from_files() {
    let folder = folder();
    let arguments = ["--name", "fraud-1", "--model", "fraud", "--labels", "labels.csv"];
    let (exit, said, error) = run(folder.path(), &arguments);
    assert_eq!(exit, 0, "{error}");
    let built = profile(folder.path(), "fraud-1.json");
    assert!(
        said.contains(&format!("profile {} of 1200 inferences, 800 labelled", built.id)),
        "{said}"
    );
    assert!(said.contains("left out, without values: gone"), "{said}");
    assert!(said.contains("1 records can't be used"), "{said}");
    assert!(error.contains("inferences.jsonl, record 1202: "), "{error}");
    let amount = &built.features["amount"];
    assert_eq!((amount.total(), amount.missing), (1080, 120));
    let names = |of: &tidegauge::engine::metrics::reference::FeatureProfile| {
        of.categories()
            .unwrap()
            .categories
            .iter()
            .map(|(k, n)| (k.to_string(), *n))
            .collect::<Vec<_>>()
    };
    assert_eq!(names(&built.features["country"]), [("CZ".to_owned(), 900), ("SK".to_owned(), 300)]);
    // 400 are labelled 0, 200 of which 1 in the end, and 400 are labelled 1.
    let label = built.label.as_ref().unwrap();
    assert_eq!(names(label), [("1".to_owned(), 600), ("0".to_owned(), 200)]);
    assert_eq!(label.missing, 400);
    // Records without a prediction of their own count with what their scores decide: half of them lie below 0.5.
    let prediction = built.prediction.as_ref().unwrap();
    assert_eq!(names(prediction), [("0".to_owned(), 600), ("1".to_owned(), 600)]);
    assert_eq!(prediction.missing, 0);
    let calibrator = built.calibrator.unwrap();
    assert_eq!((calibrator.n, calibrator.positives), (800, 600));
    // Scores that say nothing of labels are far from probabilities.
    assert_ne!(calibrator.map, CalibrationMap::Identity);
    assert!(calibrator.ece_isotonic < calibrator.ece_identity);
    // Profiles do not change.
    let (exit, _, error) = run(folder.path(), &arguments);
    assert!(exit == 2 && error.starts_with("error[profile_exists]: fraud-1.json "), "{error}");
}

#[test]
fn scores_by_class_give_each_class_a_calibrator() {
    let folder = folder();
    let (mut inferences, mut labels) = (String::new(), "request_id,timestamp,label\n".to_owned());
    for i in 0..900_i32 {
        let [cat, dog] = [f64::from(i % 10) / 10.0, f64::from(i % 4) / 10.0];
        // A score beside them decides nothing, and makes no calibrator.
        let record = json!({"request_id": format!("p{i}"), "model": "pets", "timestamp": START,
                            "score": cat, "scores": {"cat": cat, "dog": dog}});
        writeln!(inferences, "{record}").unwrap();
        let label = if i % 10 > 6 { "cat" } else { ["dog", "eel"][usize::from(i % 3 == 0)] };
        writeln!(labels, "p{i},{START},{label}").unwrap();
    }
    fs::write(folder.path().join("inferences.jsonl"), inferences).unwrap();
    fs::write(folder.path().join("pets.csv"), labels).unwrap();
    let arguments = ["--name", "pets", "--model", "pets", "--labels", "pets.csv"];
    let (exit, said, error) = run(folder.path(), &arguments);
    assert_eq!(exit, 0, "{error}");
    let built = profile(folder.path(), "pets.json");
    let classes: Vec<_> =
        built.class_calibrators.iter().map(|(class, it)| (&**class, it.n, it.positives)).collect();
    // A class that no score names has the score 0.
    assert_eq!(classes, [("cat", 900, 270), ("dog", 900, 420), ("eel", 900, 210)]);
    assert_eq!(built.calibrator, None);
    let cat = &built.class_calibrators[0].1.map;
    let sure = [0.6, 0.7, 0.9].map(|score| (cat.apply(score) <= 0.0, cat.apply(score) >= 1.0));
    assert_eq!(sure, [(true, false), (false, true), (false, true)]);
    assert!(said.contains("class cat: isotonic; calibration error "), "{said}");
    let arguments = ["--name", "pets-2", "--model", "pets", "--labels", "pets.csv", "--json"];
    let (_, said, _) = run(folder.path(), &arguments);
    let summary: Json = serde_json::from_str(&said).unwrap();
    assert_eq!(summary["class_calibrators"]["cat"], json!("isotonic"), "{said}");
}

#[test]
fn the_summary_can_be_read_by_programs() {
    let folder = folder();
    let (exit, said, error) = run(
        folder.path(),
        &["--name", "v2", "--model", "fraud", "--version", "2", "--output", "p.json", "--json"],
    );
    assert_eq!(exit, 0, "{error}");
    let summary: Json = serde_json::from_str(&said).unwrap();
    let built = profile(folder.path(), "p.json");
    assert_eq!(summary["id"], json!(&*built.id));
    assert_eq!((&summary["inferences"], &summary["rejected"]), (&json!(600), &json!(1)));
    assert_eq!(
        (&summary["calibrator"], &summary["without_values"]),
        (&Json::Null, &json!(["gone"]))
    );
    assert_eq!(built.score.unwrap().total(), 600);
    // The name and the document are all that is left behind.
    let mut files: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["inferences.jsonl", "labels.csv", "p.json", "t.toml"]);
}

#[test]
fn what_cannot_be_one_profile_is_refused() {
    let folder = folder();
    let cases: [(&[&str], &str); 4] = [
        (
            &["--name", "a"],
            "error[profile_several_models]: the files hold models `fraud` and `other`",
        ),
        (&["--name", "a", "--model", "nobody"], "error[profile_without_records]: "),
        (
            &["--name", "a", "--model", "fraud", "--output", "no/a.json"],
            "error[profile_not_written]: ",
        ),
        (&["--name", "a b"], "must be 1 to 100 letters, digits"),
    ];
    for (arguments, expected) in cases {
        let (exit, _, error) = run(folder.path(), arguments);
        assert!(exit > 0 && error.contains(expected), "{error}");
        assert!(!folder.path().join("a.json").exists());
        // Where it can't be written shows before a record is read.
        let was_read = error.contains("record 1202: ");
        assert!(!was_read || !expected.contains("not_written"), "{error}");
    }
}

#[test]
fn what_is_declared_of_features_is_frozen() {
    let folder = folder();
    let declared = "[models.\"fraud*\".features]\n\
                    amount = { range = [5, 100], edges = [10, 30] }\ncountry = { kind = \"numeric\" }\n";
    let text = format!("[inferences]\ntopic = \"i\"\n{declared}");
    fs::write(folder.path().join("t.toml"), text).unwrap();
    let (exit, said, error) = run(folder.path(), &["--name", "d", "--model", "fraud"]);
    assert_eq!(exit, 0, "{error}");
    let built = profile(folder.path(), "d.json");
    let amount = built.features["amount"].numeric().unwrap();
    assert_eq!((amount.range, amount.has_given_edges), (Some((5.0, 100.0)), true));
    assert_eq!(amount.bin_edges, [10.0, 30.0]);
    // 1,080 amounts of 1 to 39 without the multiples of 10: up to 10, up to 30, above.
    assert_eq!(amount.counts, [270, 540, 270]);
    // It has no numbers.
    assert!(said.contains("left out, without values: country, gone"), "{said}");
}

/// Puts eight inferences of 900 kB into topic `i`. The broker in process keeps 5 MiB of a partition, so it drops the
/// first three.
fn overfill(brokers: &str) {
    let producer: BaseProducer = client_config(brokers, &[]).create().unwrap();
    let padding = "x".repeat(900_000);
    for number in 0..8_i64 {
        let record = json!({"request_id": number.to_string(), "model": "fraud", "score": 0.5,
                            "timestamp": START + number, "padding": padding});
        let payload = record.to_string();
        let record = BaseRecord::<(), _>::to("i").partition(0).payload(&payload);
        producer.send(record.timestamp(START + number)).unwrap();
        // What goes together is dropped together.
        producer.flush(Duration::from_secs(60)).unwrap();
    }
}

#[test]
fn a_range_whose_first_records_are_gone_gives_no_profile() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("i", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    overfill(&brokers);
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[kafka]\nbrokers = \"{brokers}\"\n[inferences]\ntopic = \"i\"\n");
    fs::write(folder.path().join("t.toml"), config).unwrap();
    let profile = |name: &str, more: &[&str]| {
        let output = Command::cargo_bin("tidegauge")
            .unwrap()
            .timeout(Duration::from_secs(60))
            .current_dir(folder.path())
            .args(["profile", "-c", "t.toml", "--topics", "--name", name])
            .args(more)
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, error) = profile("gone", &["--from", "offset:2"]);
    assert!(exit == 1 && error.contains("error[range_trimmed]: "), "{error}");
    assert!(error.contains("starts at offset 3, after 2"), "{error}");
    assert!(!folder.path().join("gone.json").exists());
    for (name, more) in [("rest", &["--from", "offset:3"][..]), ("all", &[][..])] {
        let (exit, error) = profile(name, more);
        assert!(exit == 0 && !error.contains("gone"), "{error}");
        assert!(folder.path().join(format!("{name}.json")).exists());
    }
}

/// Puts inferences into topic `i` of which so many can be used and so many can't.
fn send(brokers: &str, good: i64, bad: usize) {
    let producer: BaseProducer = client_config(brokers, &[]).create().unwrap();
    let record = |number: i64| {
        let (id, time) = (number.to_string(), START + number);
        json!({"request_id": id, "model": "fraud", "score": 0.5, "timestamp": time})
    };
    let payloads = (0..good).map(|number| record(number).to_string());
    for payload in payloads.chain(std::iter::repeat_n("{".to_owned(), bad)) {
        let record = BaseRecord::<(), _>::to("i").partition(0).payload(&payload);
        producer.send(record.timestamp(START)).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

#[test]
fn topics_of_which_too_much_is_bad_give_no_profile() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("i", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    send(&brokers, 35, 5);
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[kafka]\nbrokers = \"{brokers}\"\n[inferences]\ntopic = \"i\"\n");
    fs::write(folder.path().join("t.toml"), config).unwrap();
    let profile = |name: &str, limit: &str| {
        let output = Command::cargo_bin("tidegauge")
            .unwrap()
            .timeout(Duration::from_secs(60))
            .current_dir(folder.path())
            .env("TIDEGAUGE__DEAD_LETTERS__LIMIT", limit)
            .args(["profile", "-c", "t.toml", "--topics", "--name", name])
            .output()
            .unwrap();
        (output.status.code().unwrap(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (exit, error) = profile("spoilt", "0.1");
    let said = "error[dead_letter_limit]: 5 of 40 records of inferences can't be used, more than a share of 0.1";
    assert!(exit == 1 && error.contains(said), "{error}");
    assert!(!folder.path().join("spoilt.json").exists());
    let (exit, error) = profile("good", "0.5");
    assert!(exit == 0 && folder.path().join("good.json").exists(), "{error}");
}

/// Puts an inference of each minute of an hour into topic `i`, at its own time.
fn send_an_hour(brokers: &str) {
    let producer: BaseProducer = client_config(brokers, &[]).create().unwrap();
    for minute in 0..60_i64 {
        let (id, time) = (minute.to_string(), START + minute * 60_000);
        let record = json!({"request_id": id, "model": "fraud", "score": 0.5, "timestamp": time});
        let payload = record.to_string();
        let record = BaseRecord::<(), _>::to("i").partition(0).payload(&payload);
        producer.send(record.timestamp(time)).unwrap();
    }
    producer.flush(Duration::from_secs(60)).unwrap();
}

/// The broker in process knows no record by its time, so it gives all of them, as it might give what came late.
#[test]
fn between_times_count_inferences_of_these_times_and_whole_windows() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("i", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    send_an_hour(&brokers);
    let folder = tempfile::tempdir().unwrap();
    let config = format!("[kafka]\nbrokers = \"{brokers}\"\n[inferences]\ntopic = \"i\"\n");
    fs::write(folder.path().join("t.toml"), config).unwrap();
    let run = |name: &str, to: &str, progress: &str| {
        let output = Command::cargo_bin("tidegauge")
            .unwrap()
            .timeout(Duration::from_secs(60))
            .current_dir(folder.path())
            .env("TIDEGAUGE__WINDOWS__PROGRESS", progress)
            .args(["profile", "-c", "t.toml", "--topics", "--json", "--name", name, "--to", to])
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), serde_json::from_slice::<Json>(&output.stdout).ok(), error)
    };
    let (exit, said, error) = run("whole", "2026-01-05T00:58:30Z", "log");
    assert_eq!(exit, 0, "{error}");
    let said = said.unwrap();
    assert_eq!(said["inferences"], json!(59), "{said}");
    // Of the twelfth five minutes there are not all, nor of the hour.
    assert_eq!(said["windows"], json!({"5m": 11, "1h": 0, "1d": 0}));
    let whole = profile(folder.path(), "whole.json");
    let found = whole.expected.get("5m", "all", "serving.inferences").copied();
    assert_eq!(found, Some(Expectation { windows: 11, mean: 5.0, sd: 0.0 }));

    let (exit, _, error) = run("before", "2026-01-05", "log");
    let expected =
        "error[profile_without_records]: the topics have no inference; 60 that were read ";
    assert!(exit == 1 && error.contains(expected), "{error}");

    // Kafka's timestamps say nothing of windows then.
    let (exit, said, error) = run("loaded", "2026-01-05T00:58:30Z", "event");
    assert_eq!(exit, 0, "{error}");
    let said = said.unwrap();
    assert_eq!(said["inferences"], json!(60), "{said}");
    assert_eq!(said["windows"], json!({"5m": 12, "1h": 1, "1d": 1}));
}

/// What the end of a file cuts is not known, so nothing is left out.
#[test]
fn windows_at_the_ends_of_files_count_too() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("t.toml"), "[inferences]\ntopic = \"i\"\n").unwrap();
    let record = |minute: i64| {
        let (id, time) = (minute.to_string(), START + minute * 60_000);
        let record = json!({"request_id": id, "model": "fraud", "score": 0.5, "timestamp": time});
        format!("{record}\n")
    };
    // Ten windows, of which the last one has a single record.
    let records = (0..46).map(record).collect::<String>();
    fs::write(folder.path().join("inferences.jsonl"), records).unwrap();
    let (exit, said, error) = run(folder.path(), &["--name", "ten", "--json"]);
    assert_eq!(exit, 0, "{error}");
    let said: Json = serde_json::from_str(&said).unwrap();
    assert_eq!(said["windows"], json!({"5m": 10, "1h": 1, "1d": 1}));
    let ten = profile(folder.path(), "ten.json");
    let found = ten.expected.get("5m", "all", "serving.inferences").unwrap();
    assert!(found.windows == 10 && (found.mean - 4.6).abs() < 1e-9, "{found:?}");
    let (_, help, _) = run(folder.path(), &["--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("windows at the ends count too"), "{help}");
}

/// A process that does not outlive its test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn where_nobody_sees_a_bar_a_line_says_now_and_then_how_far_it_is() {
    let cluster = MockCluster::new(1).unwrap();
    cluster.create_topic("i", 1, 1).unwrap();
    let brokers = cluster.bootstrap_servers();
    let producer: BaseProducer = client_config(&brokers, &[]).create().unwrap();
    // It waits for its schema, since the registry takes connections and never says a word.
    let framed: [u8; 6] = [0, 0, 0, 0, 1, 0];
    producer.send(BaseRecord::<(), _>::to("i").partition(0).payload(&framed[..])).unwrap();
    producer.flush(Duration::from_secs(60)).unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let registry = silent.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        "[kafka]\nbrokers = \"{brokers}\"\n[schema_registry]\nurl = \"http://{registry}\"\n\
         [inferences]\ntopic = \"i\"\nformat = \"avro\"\n"
    );
    fs::write(folder.path().join("t.toml"), config).unwrap();
    let said = folder.path().join("said");
    let reading = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .current_dir(folder.path())
        .args(["profile", "-c", "t.toml", "--topics", "--name", "n"])
        .stdout(Stdio::null())
        .stderr(fs::File::create(&said).unwrap())
        .spawn()
        .unwrap();
    let _reading = Running(reading);
    wait_until("a line about the inferences", Duration::from_secs(120), || {
        fs::read_to_string(&said).unwrap().contains("inferences: 0 % read after 1")
    });
}
