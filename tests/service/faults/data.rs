//! Data that no healthy producer sends, and a schema registry that is down or slow.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use super::database::until_told;
use super::matrix::Fault;
use super::trial::{Plan, RECORDS_PER_SECOND, TOPICS, Traffic, Trial};
use crate::support::job::{Instance, Job, sections};
use crate::support::letters;
use crate::support::log::{AVRO_SCHEMAS, AvroWire, Message, Producer, json_payload};
use crate::support::oracle::{Body, Inference, Label, Partition, Record, Tables};
use crate::support::services::{Registry, Services, shared};
use crate::support::{odd_requests, oracle, requests};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 4;
const INFERENCES: usize = 20_000;
const HOURS: i64 = 28;

/// Versions of the inference schema that the log needs one after another.
const SCHEMAS: usize = 60;
/// A stamp and a time of one record that lie so far apart can't both be right.
const WRONG_MS: i64 = 2 * 60 * 60_000;
const QUARTER_HOUR_MS: i64 = 15 * 60_000;
const PAUSE: (u64, u64) = (500, 3000);
const AFTER_SERVICE: Duration = Duration::from_secs(30);

pub const ROWS: &[Fault] = &[
    Fault {
        id: "D4",
        title: "wrong times: units, signs, futures, skewed producers",
        least: 5,
        in_ci: false,
        prepare: |plan| let_in(plan, odd_requests::wrong_times),
        begin: |_| {},
        lasts_ms: PAUSE,
        end: |_| {},
        recovers_within: AFTER_SERVICE,
        injections: Some(wrong_times),
    },
    Fault {
        id: "D5",
        title: "idle and hot partitions, all idle, topics hours apart",
        least: 5,
        in_ci: false,
        prepare: |plan| let_in(plan, odd_requests::uneven_partitions),
        begin: |trial| trial.plan.records_per_second = 0,
        lasts_ms: PAUSE,
        end: |trial| trial.plan.records_per_second = RECORDS_PER_SECOND,
        recovers_within: AFTER_SERVICE,
        injections: Some(silent_quarters),
    },
    Fault {
        id: "D6",
        title: "floods of models, versions and segments",
        least: 5,
        in_ci: false,
        prepare: |plan| let_in(plan, odd_requests::flooding_names),
        begin: |_| {},
        lasts_ms: PAUSE,
        end: |_| {},
        recovers_within: AFTER_SERVICE,
        injections: Some(capped_keys),
    },
    Fault {
        id: "D7",
        title: "schema registry down or held",
        least: 5,
        in_ci: false,
        prepare: read_avro,
        begin: take_registry_away,
        lasts_ms: PAUSE,
        end: give_registry_back,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
];

/// Traffic that is short enough for all of it to come before the end, where the rest is thinned.
fn let_in(plan: &mut Plan, traffic: Traffic) {
    plan.traffic = traffic;
    plan.seconds = 30;
}

/// Records whose own time is far from their stamp, dead ones apart.
fn wrong_times(trial: &Trial) -> usize {
    let logs = trial.logs().iter();
    let records = logs.flat_map(|logs| logs.inferences.iter().chain(&logs.labels));
    let is_wrong = |record: &&Record| match &record.body {
        Body::Inference(Inference { time, .. }) | Body::Label(Label { time, .. }) => {
            time.abs_diff(record.stamp) > WRONG_MS.unsigned_abs()
        }
        Body::Dead => false,
    };
    records.filter(is_wrong).count()
}

/// Quarters of an hour in which the one partition has inferences and another has none.
fn silent_quarters(trial: &Trial) -> usize {
    let quarters = |logs: &Partition| -> BTreeSet<i64> {
        logs.inferences.iter().map(|record| record.stamp / QUARTER_HOUR_MS).collect()
    };
    let of: Vec<BTreeSet<i64>> = trial.logs().iter().map(quarters).collect();
    let all: BTreeSet<i64> = of.iter().flatten().copied().collect();
    of.iter().map(|own| all.len() - own.len()).sum()
}

/// Rows that take what a cap leaves out.
fn capped_keys(trial: &Trial) -> usize {
    count_capped(&oracle::compute(&trial.plan.settings, trial.logs()))
}

fn count_capped(expected: &Tables) -> usize {
    let is_capped = |row: &&oracle::Row| {
        row.model == "(other)" || row.version == "(other)" || row.segment.ends_with("=(other)")
    };
    expected.rows.iter().filter(is_capped).count()
}

/// The registry of D7, and the ids of its schemas: of inferences, and of labels.
struct Schemas {
    registry: Registry,
    inferences: Vec<u32>,
    labels: u32,
    is_held: bool,
}

/// The plan owns it, so that it ends with the trial.
static REGISTRY: Mutex<Weak<Mutex<Schemas>>> = Mutex::new(Weak::new());

fn with_registry<T>(work: impl FnOnce(&mut Schemas) -> T) -> T {
    let schemas = REGISTRY.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
    let schemas = schemas.expect("`prepare` has started it");
    let mut schemas = schemas.lock().unwrap_or_else(PoisonError::into_inner);
    work(&mut schemas)
}

/// Both topics in Avro, inferences by ever new schemas.
fn read_avro(plan: &mut Plan) {
    let registry = Registry::start();
    let [inferences, labels] = AVRO_SCHEMAS;
    let ids = (0..SCHEMAS).map(|number| {
        let schema = with_note(inferences, number);
        registry.register(&format!("{}-value", TOPICS[0]), &schema)
    });
    let (inferences, labels) =
        (ids.collect(), registry.register(&format!("{}-value", TOPICS[1]), labels));
    for name in ["TIDEGAUGE__INFERENCES__FORMAT", "TIDEGAUGE__LABELS__FORMAT"] {
        plan.environment.push((name, "avro".to_owned()));
    }
    plan.environment.push(("TIDEGAUGE__SCHEMA_REGISTRY__URL", registry.url()));
    plan.traffic = avro_requests;
    // A replay has no such environment.
    plan.replays = false;
    let schemas = Arc::new(Mutex::new(Schemas { registry, inferences, labels, is_held: false }));
    *REGISTRY.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(&schemas);
    plan.service = Some(schemas);
}

/// The schema with one more optional field at its end.
fn with_note(schema: &str, number: usize) -> String {
    let end = "]}";
    assert!(schema.ends_with(end));
    let note = format!(r#",{{"name":"note_{number}","type":["null","string"],"default":null}}"#);
    format!("{}{note}{end}", &schema[..schema.len() - end.len()])
}

/// The common traffic in Avro. What is broken stays as it is, and has no schema.
fn avro_requests(seed: u64, inferences: usize, partitions: usize, hours: i64) -> Vec<Message> {
    let mut messages = requests::make(seed, inferences, partitions, hours);
    let (ids, labels) = with_registry(|schemas| (schemas.inferences.clone(), schemas.labels));
    let wire: Vec<AvroWire> = ids.iter().map(|id| AvroWire::new([*id, labels])).collect();
    let total = messages.len();
    for (number, message) in messages.iter_mut().enumerate() {
        let wire = &wire[number * wire.len() / total];
        if !matches!(message.body, Body::Dead) {
            let mut payload = wire.payload(&message.body);
            if message.topic == 0 {
                // No note.
                payload.push(0);
            }
            message.payload = Some(payload);
        }
    }
    messages
}

/// Down, or held so that it takes connections and does not answer. At times an instance starts that knows no schema.
fn take_registry_away(trial: &mut Trial) {
    let is_held = trial.random.one_in(2);
    with_registry(|schemas| {
        schemas.is_held = is_held;
        if is_held { schemas.registry.pause() } else { schemas.registry.kill() }
    });
    trial.away("the registry");
    if trial.random.one_in(2)
        && let Some(at) = trial.any_running()
    {
        trial.kill(at);
        trial.add();
    }
    until_told(trial, "schema_registry");
    trial.injected(if is_held { "the registry is held" } else { "the registry is down" });
}

fn give_registry_back(trial: &mut Trial) {
    with_registry(|schemas| {
        if schemas.is_held { schemas.registry.resume() } else { schemas.registry.start_again() }
    });
    trial.back("the registry");
}

/// Reads the traffic in one go, without any fault of a service: what the rows of the matrix build on.
fn read_in_one_go(name: &str, traffic: Traffic, seed: u64) -> Tables {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["inferences", "labels"].map(|kind| format!("{name}.{kind}"));
    let topics = topics.each_ref().map(String::as_str);
    let settings = requests::settings();
    let more = sections(topics);
    let mut job = Job::new(name, kafka, clickhouse, topics, &settings, &more);
    job.create_topics(kafka, i32::try_from(PARTITIONS).expect("few"));
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    for message in traffic(seed, INFERENCES, PARTITIONS, HOURS) {
        producer.send(message);
    }
    producer.flush();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    let expected = oracle::compute(&settings, &producer.logs);
    job.must_equal(clickhouse, &expected);
    let accounts = expected.partitions.iter().flat_map(|account| &account.tally);
    let dead: i64 = accounts.map(|(_, counts)| counts[3]).sum();
    let letters = letters::read(kafka, &format!("dead.{name}"));
    assert_eq!(i64::try_from(letters.len()).expect("few"), dead, "letters");
    expected
}

#[test]
fn wrong_times_have_their_outcome() {
    let expected = read_in_one_go("wrong-times", odd_requests::wrong_times, 1);
    let late = |account: &oracle::Account| -> i64 {
        account
            .tally
            .iter()
            .filter(|((topic, _), _)| *topic == 0)
            .map(|(_, counts)| counts[2])
            .sum()
    };
    let others = expected.partitions[1..].iter().map(late).max();
    assert!(late(&expected.partitions[0]) > 2 * others.expect("several"), "its clock leapt");
}

#[test]
fn uneven_partitions_have_their_rows() {
    let expected = read_in_one_go("uneven-partitions", odd_requests::uneven_partitions, 2);
    assert!(expected.partitions[PARTITIONS - 1].tally.is_empty(), "one is silent");
}

#[test]
fn flooding_names_are_capped() {
    let expected = read_in_one_go("flooding-names", odd_requests::flooding_names, 3);
    assert!(count_capped(&expected) > 10);
}

/// Names are never forgotten, so each must be cheap: its text and some bytes. What is told of models stays within its
/// cap, however many there were.
#[test]
fn names_without_end_cost_their_text_and_some_bytes() {
    const NAMES: usize = 20_000;
    const STAMP_MS: i64 = 1_767_571_200_000;
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["endless.inferences", "endless.labels"];
    let (settings, more) = (requests::settings(), sections(topics));
    let mut job = Job::new("endless", kafka, clickhouse, topics, &settings, &more);
    job.create_topics(kafka, 1);
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, 1);
    let instance = job.start(&["run"]);
    let mut held = Vec::new();
    for number in 0..2 * NAMES {
        let name = format!("model-{number:06}");
        // All but the first are late: they leave nothing behind but their names.
        let stamp = STAMP_MS + i64::try_from(number).expect("few");
        let inference = Inference {
            id: "one".to_owned(),
            model: name.clone(),
            time: STAMP_MS - 2 * WRONG_MS,
            ..Inference::default()
        };
        let body = Body::Inference(inference);
        let payload = Some(json_payload(&body));
        producer.send(Message { topic: 0, partition: 0, stamp, body, key: name, payload });
        if (number + 1).is_multiple_of(NAMES) {
            producer.flush();
            job.wait_for_records(clickhouse, number + 1, DEADLINE);
            held.push(state_bytes(&instance));
        }
    }
    let each = (held[1] - held[0]) / NAMES;
    assert!((12..=100).contains(&each), "{each} bytes for each name, {held:?}");
    let models = clickhouse.query(
        "SELECT max(length(inference_tally)) <= 257 FROM tidegauge.marks WHERE job = 'endless'",
    );
    assert_eq!(models, "1\n");
    instance.stop();
    job.must_equal(clickhouse, &oracle::compute(&settings, &producer.logs));
}

/// Of all workers.
fn state_bytes(instance: &Instance) -> usize {
    let bytes = instance.meter("tidegauge_state_bytes").expect("it lives");
    usize::try_from(bytes).expect("it is in memory")
}
