//! The byte budget of a running process: labels stay silent until memory is full, and come.

use std::time::Duration;

use crate::support::job::{Instance, Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{self, Body, Given, Inference, Label, Settings};
use crate::support::requests;
use crate::support::services::{Services, shared};
use crate::support::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(600);
/// 2026-01-05 00:00 UTC.
const FIRST_MS: i64 = 1_767_571_200_000;
const BUDGET_BYTES: usize = 64 << 20;
/// Two or three times what fits.
const INFERENCES: usize = 1_400_000;
/// What a process takes beside its state: code, the clients of Kafka and ClickHouse, a flush. It was 50 to 70 MB in a
/// debug build. (What it took before it held anything is no measure: that depends on how it was read.)
const BESIDE_BYTES: usize = 80 << 20;
/// Of so many inferences one has a label.
const LABELLED: usize = 4;
const STEP_US: i64 = 3400;
const PARTITIONS: usize = 2;

fn settings() -> Settings {
    let mut settings = requests::settings();
    settings.models.clear();
    // About 300,000 inferences wait at a time where both topics are in step: a third of what the budget holds.
    settings.lateness = 60_000;
    settings.label_wait = 10 * 60_000;
    settings
}

fn time(number: usize) -> i64 {
    FIRST_MS + i64::try_from(number).expect("few") * STEP_US / 1000
}

fn send(producer: &mut Producer, topic: usize, number: usize, stamp: i64, body: Body) {
    let payload = Some(json_payload(&body));
    let (partition, key) = (number % PARTITIONS, String::new());
    producer.send(Message { topic, partition, stamp, body, key, payload });
}

fn inferences(producer: &mut Producer) {
    for number in 0..INFERENCES {
        let score = f64::from(u8::try_from(number * 7 % 100).expect("small")) / 100.0;
        let body = Body::Inference(Inference {
            id: format!("request-{number}"),
            model: "fraud".to_owned(),
            time: time(number),
            score: Some(score),
            ..Inference::default()
        });
        send(producer, 0, number, time(number), body);
    }
    producer.flush();
}

fn labels(producer: &mut Producer) {
    for number in (0..INFERENCES).filter(|number| (number / PARTITIONS).is_multiple_of(LABELLED)) {
        let value = Given::Number(f64::from(u8::from(number % 3 == 0)));
        let (id, stamp) = (format!("request-{number}"), time(number) + 60_000);
        let body = Body::Label(Label { id, model: None, time: stamp, value, weight: 1.0 });
        send(producer, 1, number, stamp, body);
    }
    producer.flush();
}

/// The sum of a gauge over all its labels.
fn gauge(instance: &Instance, name: &str) -> usize {
    let sum = instance.meter(name).expect("it lives");
    usize::try_from(sum).expect("a count of bytes or records")
}

#[test]
fn silent_labels_fill_the_budget_and_no_more_and_all_is_right_once_they_come() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let settings = settings();
    let topics = ["budget.inferences", "budget.labels"];
    let mut job = Job::new("budget", kafka, clickhouse, topics, &settings, &sections(topics));
    job.create_topics(kafka, i32::try_from(PARTITIONS).expect("few"));
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);

    let budget = BUDGET_BYTES.to_string();
    let environment = [
        ("TIDEGAUGE__STATE__BUDGET", &*budget),
        // What the Kafka client keeps ready is no state: as little of it as can be.
        (
            "TIDEGAUGE__KAFKA__PROPERTIES",
            r#"{ "queued.max.messages.kbytes" = "1024", "fetch.max.bytes" = "1048576", "fetch.message.max.bytes" = "524288" }"#,
        ),
    ];
    let mut instance = job.start_with(&["run"], &environment);
    instance.wait_for_readiness(200, "", DEADLINE);
    inferences(&mut producer);
    let said = instance.wait_for_readiness(503, "state_budget", DEADLINE);
    assert!(said.contains("topic labels") && said.contains("partition "), "{said}");

    // Nothing is read any more: two flushes later the positions are the same.
    let mut peak = 0;
    let held = wait_for("reading to pause", DEADLINE, || {
        let mut look = || {
            peak = peak.max(gauge(&instance, "tidegauge_state_bytes"));
            [job.records_counted(clickhouse), gauge(&instance, "tidegauge_held_inferences")]
        };
        let [counted, held] = look();
        instance.wait_for_two_flushes(DEADLINE);
        (counted == held && look() == [counted, held]).then_some(held)
    });
    let resident = instance.resident_bytes().expect("it runs");
    println!(
        "{held} inferences held, state {peak} bytes, resident {resident} bytes, budget {BUDGET_BYTES}"
    );
    assert!(held < INFERENCES / 5 * 4, "{held} held: the test needs more inferences than fit");
    assert!(held > BUDGET_BYTES / 160, "{held} held: the budget is used");
    let most = BUDGET_BYTES / 5 * 6;
    assert!(peak <= most, "state of {peak} bytes");
    assert!(resident <= most + BESIDE_BYTES, "{resident} resident bytes");
    assert!(instance.is_running() && instance.get("/healthz").expect("it lives").status == 200);

    labels(&mut producer);
    let total = INFERENCES + INFERENCES / LABELLED;
    wait_until("all records to be read", DEADLINE, || {
        assert!(instance.is_running(), "{}", instance.log_text());
        peak = peak.max(gauge(&instance, "tidegauge_state_bytes"));
        job.records_counted(clickhouse) >= total
    });
    assert!(peak <= most, "state of {peak} bytes");
    instance.stop();
    let expected = oracle::compute(&settings, &producer.logs);
    assert_eq!(job.records_counted(clickhouse), total);
    job.must_equal(clickhouse, &expected);
}
