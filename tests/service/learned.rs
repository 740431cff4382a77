//! A rule whose limits a reference gives, from the profile to the changes that are told: real records, rows and alerts.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::Value as Json;

use crate::support::job::{Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{Body, Given, Inference, Label, ModelRule, Settings, Task};
use crate::support::receiver::Receiver;
use crate::support::services;
use crate::support::{requests, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
/// 2026-01-05 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;
const WINDOW_MS: i64 = 300_000;
const MODEL: &str = "fraud-cards";
/// Records of each window, so that a right decision is one percent.
const RECORDS: i64 = 100;
/// Right decisions of each window of the good time. Their mean is 72.5 and their standard deviation 2.5, so three of
/// these lie between 65 and 80.
const GOOD: [i64; 12] = [70, 75, 75, 70, 70, 75, 70, 75, 75, 70, 75, 70];

/// The inferences of a window and their labels, of which so many say what was decided.
fn window(number: i64, right: i64) -> [Vec<Body>; 2] {
    let start = START_MS + number * WINDOW_MS;
    let inference = |at: i64| {
        Body::Inference(Inference {
            id: format!("{number}-{at}"),
            model: MODEL.to_owned(),
            version: "1".to_owned(),
            time: start + at * 1000,
            prediction: Some(Given::Number(f64::from(u8::from(at % 2 == 0)))),
            ..Inference::default()
        })
    };
    let labels = (0..RECORDS).map(|at| label(number, at, at < right, start + at * 1000 + 500));
    [(0..RECORDS).map(inference).collect(), labels.collect()]
}

fn label(number: i64, at: i64, is_right: bool, time: i64) -> Body {
    let value = Given::Number(f64::from(u8::from((at % 2 == 0) == is_right)));
    Body::Label(Label { id: format!("{number}-{at}"), model: None, time, value, weight: 1.0 })
}

/// A running job, and who is told.
struct Setup<'a> {
    producer: Producer,
    clickhouse: &'a services::ClickHouse,
    receiver: &'a Receiver,
}

impl Setup<'_> {
    /// Records come at their own times, labels half a second later.
    fn send(&mut self, topic: usize, bodies: Vec<Body>) {
        for body in bodies {
            let (key, stamp) = match &body {
                Body::Inference(said) => (said.id.clone(), said.time),
                Body::Label(said) => (said.id.clone(), said.time),
                Body::Dead => panic!("all can be used"),
            };
            let payload = Some(json_payload(&body));
            self.producer.send(Message { topic, partition: 0, stamp, body, key, payload });
        }
        self.producer.flush();
    }

    fn send_windows(&mut self, windows: &[(i64, i64)]) {
        for &(number, right) in windows {
            let [inferences, labels] = window(number, right);
            self.send(0, inferences);
            self.send(1, labels);
        }
    }

    /// Waits for so many changes to be told, and gives them: state, start of the window that opened, value, threshold.
    fn told(&self, changes: usize) -> Vec<(String, String, f64, f64)> {
        wait_until(&format!("{changes} changes"), DEADLINE, || self.taken().len() >= changes);
        let change = |body: Json| {
            let number = |name: &str| (body[name].as_f64().unwrap() * 1e9).round() / 1e9;
            let text = |it: &Json| it.as_str().unwrap().to_owned();
            let start = text(&body["opened_window"]["start"]);
            (text(&body["state"]), start, number("value"), number("threshold"))
        };
        self.taken().into_iter().map(change).collect()
    }

    fn taken(&self) -> Vec<Json> {
        let received = self.receiver.received();
        let taken = received.iter().filter(|request| request.status == 200);
        taken.map(|request| serde_json::from_str(&request.body).unwrap()).collect()
    }

    /// The newest row of each alert: when it opened, its state, when it was good again.
    fn alerts(&self) -> String {
        self.clickhouse.query(
            "SELECT toUnixTimestamp64Milli(opened_window), state, \
             ifNull(toUnixTimestamp64Milli(resolved_window), 0) FROM tidegauge.alerts FINAL \
             WHERE job = 'learned' ORDER BY ALL FORMAT TSVRaw",
        )
    }
}

fn start_of(window: i64) -> i64 {
    START_MS + window * WINDOW_MS
}

fn instant(window: i64) -> String {
    let minutes = window * WINDOW_MS / 60_000;
    format!("2026-01-05T{:02}:{:02}:00.000Z", minutes / 60, minutes % 60)
}

#[test]
fn a_rule_with_learned_limits_opens_resolves_and_retracts_with_one_row_for_each_change() {
    let services = services::shared();
    let services::Services { kafka, clickhouse } = &*services;
    let receiver = Receiver::start(200);
    let topics = ["learned.inferences", "learned.labels"];
    let rule = ModelRule {
        pattern: "fraud-*".to_owned(),
        task: Some(Task::Binary),
        ..ModelRule::default()
    };
    let settings = Settings { models: vec![rule], clock_stamps: 1, ..requests::settings() };
    // A window speaks once all its labels are there, so no state on the way can be a change.
    let more = format!(
        "{}\n[[alerts]]\nname = \"odd\"\nmodels = [\"fraud-*\"]\nmetric = \"quality_binary.accuracy\"\n\
         learned = 3\nmin_n = {RECORDS}\n[[notify]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n",
        sections(topics),
        receiver.url()
    );
    let mut job = Job::new("learned", kafka, clickhouse, topics, &settings, &more);
    job.create_topics(kafka, 1);

    let folder = tempfile::tempdir().unwrap();
    let mut files = [String::new(), String::new()];
    for (number, right) in (-40..).zip(GOOD) {
        for (file, bodies) in files.iter_mut().zip(window(number, right)) {
            for body in bodies {
                writeln!(file, "{}", String::from_utf8(json_payload(&body)).unwrap()).unwrap();
            }
        }
    }
    let paths = ["inferences.jsonl", "labels.jsonl", "good.json"].map(|of| folder.path().join(of));
    std::fs::write(&paths[0], &files[0]).unwrap();
    std::fs::write(&paths[1], &files[1]).unwrap();
    let [inferences, labels, good] = paths.each_ref().map(|path| path.to_str().unwrap());
    let build = ["profile", "--name", "good", "--model", MODEL, "--output", good];
    let files = ["--inferences", inferences, "--labels", labels];
    job.run(&[&build[..], &files].concat(), 0, DEADLINE);
    // Without the reference nothing can be learned.
    let refused = job.run(&["run"], 2, DEADLINE);
    assert!(refused.contains("\"odd\" can never be judged"), "{refused}");
    let task = "task = \"binary\"\n";
    job.edit(task, &format!("{task}reference = \"{good}\"\n"));
    job.run(&["init"], 0, DEADLINE);

    let instance = job.start(&["run"]);
    let producer = Producer::new(kafka.client_config(), topics, 1);
    let mut setup = Setup { producer, clickhouse, receiver: &receiver };
    // Bad below, then bad above: too good is as odd.
    setup.send_windows(&[(1, 79), (2, 50), (3, 95)]);
    let opened = ("opened".to_owned(), instant(3), 0.95, 0.8);
    assert_eq!(setup.told(1), [opened]);
    assert_eq!(setup.alerts(), format!("{}\topened\t0\n", start_of(3)));
    // One good window is not enough.
    setup.send_windows(&[(4, 72), (5, 66)]);
    let told = setup.told(2);
    assert_eq!((&*told[1].0, &told[1].1, told[1].2), ("resolved", &instant(3), 0.66));
    let resolved = format!("{}\tresolved\t{}\n", start_of(3), start_of(5));
    assert_eq!(setup.alerts(), resolved);
    setup.send_windows(&[(6, 50), (7, 64)]);
    let opened = ("opened".to_owned(), instant(7), 0.64, 0.65);
    assert_eq!(setup.told(3)[2], opened);
    // Later labels say that the first of both was good.
    let time = start_of(8);
    setup.send(1, (50..72).map(|at| label(6, at, true, time + at)).collect());
    let told = setup.told(4);
    assert_eq!((&*told[3].0, &told[3].1), ("retracted", &instant(7)));
    assert_eq!(setup.alerts(), format!("{resolved}{}\tretracted\t0\n", start_of(7)));
    // What goes on says nothing new: the rules have seen the last window when its row is there, and once more.
    setup.send_windows(&[(8, 73), (9, 50), (10, 74), (11, 75)]);
    let settled = "SELECT count() FROM tidegauge.quality_binary FINAL WHERE job = 'learned' AND grain = '5m' \
                   AND segment = 'all' AND n = 100";
    wait_until("all windows", DEADLINE, || clickhouse.query(settled) == "11\n");
    // An end waits a few seconds only for what is still to be written down.
    let noted = "SELECT countIf(status = 'delivered'), count() FROM tidegauge.notifications FINAL \
                 WHERE job = 'learned' AND target = 'hook'";
    wait_until("the last note", DEADLINE, || clickhouse.query(noted) == "4\t4\n");
    instance.stop();
    assert_eq!(setup.taken().len(), 4, "{:?}", setup.taken());
    // Every row ever written, as far as they are not merged away, is another change.
    let twice = "SELECT opened_window, state, count() FROM tidegauge.alerts WHERE job = 'learned' \
                 GROUP BY ALL HAVING count() > 1";
    assert_eq!(clickhouse.query(twice), "");
    assert_eq!(clickhouse.query(noted), "4\t4\n");
}
