//! Records that can't be used, among good ones: each has a defined outcome, is counted, stops nothing and costs no
//! other record.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crate::support::job::{Instance, Job, sections, sections_with};
use crate::support::letters::{self, Letter, Place};
use crate::support::log::{AVRO_SCHEMAS, AvroWire, Message, Producer, json_payload};
use crate::support::oracle::{self, Body, Given, Inference, Label, Settings};
use crate::support::requests;
use crate::support::services::{Kafka, Registry, Services, shared};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 2;
/// 2026-01-05 00:00 UTC.
const FIRST_MS: i64 = 1_767_571_200_000;
const HOUR_MS: i64 = 3_600_000;
const STEP_MS: i64 = 200;
const JSON: &str = "format = \"json\"";
const TEN_MB: usize = 10_000_000;

/// What is expected in the dead-letter topic: code and payload by record.
type Expected = BTreeMap<Place, (&'static str, Option<Vec<u8>>)>;

/// Two topics that take large records, a job that reads them, and a dead-letter topic that takes small ones only.
struct Scene {
    services: std::sync::Arc<Services>,
    job: Job,
    topics: [String; 2],
    settings: Settings,
    producer: Producer,
    expected: Expected,
    /// Moves on with every record.
    stamp: i64,
}

impl Scene {
    fn new(name: &str, format: &str, tail: &str) -> Self {
        let services = shared();
        let topics = ["inferences", "labels"].map(|kind| format!("{name}.{kind}"));
        let names = topics.each_ref().map(String::as_str);
        create_topics(&services.kafka, name, names);
        let settings = requests::settings();
        let more = sections_with(names, format) + tail;
        let kafka = &services.kafka;
        let mut job = Job::new(name, kafka, &services.clickhouse, names, &settings, &more);
        job.run(&["init"], 0, DEADLINE);
        let mut config = kafka.client_config();
        config.set("message.max.bytes", "20000000");
        let producer = Producer::new(config, names, PARTITIONS);
        let (expected, stamp) = (Expected::new(), FIRST_MS);
        Self { services, job, topics, settings, producer, expected, stamp }
    }

    fn send(&mut self, topic: usize, partition: usize, body: Body, payload: Option<Vec<u8>>) {
        self.stamp += 1;
        let (stamp, key) = (self.stamp, format!("key-{partition}"));
        self.producer.send(Message { topic, partition, stamp, body, key, payload });
    }

    /// Sends a record that must become a dead letter with this code.
    fn send_dead(
        &mut self,
        topic: usize,
        partition: usize,
        body: Body,
        payload: Option<Vec<u8>>,
        code: &'static str,
    ) {
        let logs = &self.producer.logs[partition];
        let log = if topic == 0 { &logs.inferences } else { &logs.labels };
        let offset = i64::try_from(log.len()).expect("few");
        let place = (self.topics[topic].clone(), partition, offset);
        self.expected.insert(place, (code, payload.clone()));
        self.send(topic, partition, body, payload);
    }

    fn total(&self) -> usize {
        self.producer.logs.iter().map(|log| log.inferences.len() + log.labels.len()).sum()
    }

    /// Tables and accounts are the oracle's, and the letters those that are expected.
    fn must_be_right(&self) {
        let Services { kafka, clickhouse } = &*self.services;
        let tables = oracle::compute(&self.settings, &self.producer.logs);
        assert_eq!(self.job.records_counted(clickhouse), self.total(), "records in the accounts");
        self.job.must_equal(clickhouse, &tables);
        let topic = format!("dead.{}", self.job.name);
        must_be_letters(&letters::read(kafka, &topic), &self.expected);
        let count = usize::try_from(letters::count(kafka, &topic)).expect("a count");
        assert_eq!(count, self.expected.len(), "each letter once");
    }
}

fn create_topics(kafka: &Kafka, name: &str, topics: [&str; 2]) {
    let any_time = [
        ("retention.ms", "-1"),
        ("message.timestamp.type", "CreateTime"),
        ("message.timestamp.after.max.ms", "9223372036854775807"),
    ];
    let large = [&any_time[..], &[("max.message.bytes", "20000000")]].concat();
    for topic in topics {
        kafka.create_topic(topic, i32::try_from(PARTITIONS).expect("few"), &large);
    }
    // What a broker takes unless told otherwise.
    kafka.create_topic(&format!("dead.{name}"), 1, &[("max.message.bytes", "1048588")]);
}

fn must_be_letters(found: &BTreeMap<Place, Letter>, expected: &Expected) {
    let mut differences = Vec::new();
    for (place, (code, payload)) in expected {
        let Some(letter) = found.get(place) else {
            differences.push(format!("{place:?}: no letter, expected {code}"));
            continue;
        };
        if letter.header("error") != Some(code) {
            let said = (letter.header("error"), letter.header("reason"));
            let sent = payload.as_ref().map(|it| String::from_utf8_lossy(&it[..it.len().min(200)]));
            differences.push(format!("{place:?}: {said:?}, expected {code} for {sent:?}"));
        }
        let bytes = payload.as_ref().map_or(0, Vec::len);
        let is_cut = bytes > 1_000_000;
        let shown = if is_cut { &None } else { payload };
        if letter.payload != *shown {
            differences.push(format!("{place:?}: not the original bytes ({code})"));
        }
        let truncated = is_cut.then(|| bytes.to_string());
        if letter.header("truncated") != truncated.as_deref() {
            differences.push(format!("{place:?}: truncated is {:?}", letter.header("truncated")));
        }
        let key = format!("key-{}", place.1);
        if letter.key.as_deref() != Some(key.as_bytes()) || letter.header("reason").is_none() {
            differences.push(format!("{place:?}: {letter:?}"));
        }
    }
    for place in found.keys().filter(|place| !expected.contains_key(*place)) {
        differences.push(format!("{place:?}: unexpected {:?}", found[place].headers));
    }
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

fn inference(id: &str, time: i64) -> Inference {
    Inference {
        id: id.to_owned(),
        model: "fraud-cards".to_owned(),
        time,
        score: Some(0.75),
        latency_ms: Some(3.5),
        ..Inference::default()
    }
}

fn label(id: &str, time: i64) -> Label {
    Label { id: id.to_owned(), model: None, time, value: Given::Number(1.0), weight: 1.0 }
}

/// Bytes that no compression makes much smaller, as hexadecimal digits.
fn noise(bytes: usize) -> String {
    let mut random = requests::Random(7);
    let mut text = String::with_capacity(bytes + 16);
    while text.len() < bytes {
        write!(text, "{:016x}", random.next()).expect("memory");
    }
    text.truncate(bytes);
    text
}

/// A good JSON record with one part of its text replaced.
fn changed(good: &[u8], from: &str, to: &str) -> Vec<u8> {
    let text = std::str::from_utf8(good).expect("JSON");
    assert!(text.contains(from), "{from} is in {text}");
    text.replacen(from, to, 1).into_bytes()
}

/// Each kind of broken inference with its code.
fn broken_inferences(time: i64) -> Vec<(Option<Vec<u8>>, &'static str)> {
    let good = json_payload(&Body::Inference(inference("bad", time)));
    let with = |from: &str, to: &str| Some(changed(&good, from, to));
    let number = time.to_string();
    vec![
        (Some(good[..good.len() / 2].to_vec()), "broken_json"),
        (Some([&good[..], b"}"].concat()), "broken_json"),
        (Some(b"[1,2,3]".to_vec()), "broken_json"),
        (Some(b"\xff\xfe\x00 not a record".to_vec()), "broken_json"),
        (with("\"bad\"", "\"b\u{1}ad\""), "broken_json"),
        (with("0.75", "NaN"), "broken_json"),
        (with("0.75", "Infinity"), "broken_json"),
        (Some("{\"features\":".repeat(70_000).into_bytes()), "nested_too_deep"),
        (Some(Vec::new()), "empty_payload"),
        (None, "tombstone"),
        (with("\"request_id\"", "\"requestid\""), "missing_field"),
        (with("\"bad\"", "null"), "missing_field"),
        (with("\"model\"", "\"modell\""), "missing_field"),
        (with("\"timestamp\"", "\"time\""), "missing_field"),
        (with("\"bad\"", "\"\""), "empty_request_id"),
        (with("\"bad\"", "{\"a\":1}"), "wrong_type"),
        (with("0.75", "\"high\""), "wrong_type"),
        (with("\"fraud-cards\"", "[1]"), "wrong_type"),
        (with(&number, "\"yesterday\""), "wrong_type"),
        (with(&number, "true"), "wrong_type"),
        (with("0.75", "1.5"), "score_out_of_range"),
        (with("0.75", "-0.001"), "score_out_of_range"),
        (with("3.5", "-1"), "latency_out_of_range"),
        (with(&number, &format!("{number}000")), "timestamp_out_of_range"),
        (with(&number, "253402300799000"), "timestamp_out_of_range"),
        (with(&number, "\"9999-12-31T23:59:59Z\""), "timestamp_out_of_range"),
        (with(&number, "-9223372036854775808"), "timestamp_out_of_range"),
        (with(&number, "1e30"), "timestamp_out_of_range"),
        (with("\"fraud-cards\"", &format!("\"{}\"", "m".repeat(2000))), "name_too_long"),
    ]
}

fn broken_labels(time: i64) -> Vec<(Option<Vec<u8>>, &'static str)> {
    let good = json_payload(&Body::Label(label("bad", time)));
    let with = |from: &str, to: &str| Some(changed(&good, from, to));
    let number = time.to_string();
    vec![
        (Some(good[..good.len() - 1].to_vec()), "broken_json"),
        (None, "tombstone"),
        (Some(Vec::new()), "empty_payload"),
        (with("\"label\"", "\"lable\""), "missing_field"),
        (with("\"bad\"", "\"\""), "empty_request_id"),
        (with("\"label\":1.0", "\"label\":{\"is\":1}"), "wrong_type"),
        (with("\"label\":1.0", "\"label\":1e200"), "number_out_of_range"),
        (with("\"weight\":1.0", "\"weight\":-1"), "weight_out_of_range"),
        (with(&number, &format!("{number}000000")), "timestamp_out_of_range"),
    ]
}

#[test]
fn each_kind_of_bad_json_has_its_outcome_and_costs_no_other_record() {
    let mut scene = Scene::new("bad-json", JSON, "");
    let bad = [broken_inferences(FIRST_MS), broken_labels(FIRST_MS)];
    for number in 0..1200 {
        good_pair(&mut scene, number, |_, body| json_payload(body));
        // Bad ones stand at any place of both partitions, each twice.
        for (topic, all) in bad.iter().enumerate() {
            if number.is_multiple_of(10) && number / 10 < 2 * all.len() {
                let (payload, code) = all[number / 20].clone();
                scene.send_dead(topic, number / 10 % PARTITIONS, Body::Dead, payload, code);
            }
        }
    }
    wrong_times(&mut scene);
    large_records(&mut scene);
    scene.producer.flush();
    let log = scene.job.run(&["run", "--until-end"], 0, DEADLINE);
    scene.must_be_right();
    assert!(
        !log.contains("not a record") && !log.contains("yesterday"),
        "payloads in the log\n{log}"
    );
}

/// An inference and its label, sent into one partition; stamps move on by [`STEP_MS`].
fn good_pair(scene: &mut Scene, number: usize, encode: impl Fn(usize, &Body) -> Vec<u8>) {
    scene.stamp = scene.stamp.max(FIRST_MS + STEP_MS * i64::try_from(number).expect("few"));
    let (id, time) = (format!("request-{number}"), scene.stamp);
    for (topic, body) in [Body::Inference(inference(&id, time)), Body::Label(label(&id, time))]
        .into_iter()
        .enumerate()
    {
        let payload = encode(topic, &body);
        scene.send(topic, number % PARTITIONS, body, Some(payload));
    }
}

/// Times that are valid and absurd: late, from the future; and Kafka timestamps that are.
fn wrong_times(scene: &mut Scene) {
    let now = scene.stamp;
    for (number, time) in [now / 1000, -now, -5, 0, 7_258_118_399_999].into_iter().enumerate() {
        let id = format!("wrong-time-{number}");
        let body = Body::Inference(inference(&id, time));
        let payload = Some(json_payload(&body));
        if time > now {
            scene.send_dead(0, 0, body, payload, "timestamp_in_future");
        } else {
            scene.send(0, 0, body, payload);
        }
        let body = Body::Label(label("request-0", time));
        let payload = Some(json_payload(&body));
        scene.send(1, 0, body, payload);
    }
    let soon = Body::Inference(inference("soon", now + 5 * 60_000 + HOUR_MS));
    let payload = Some(json_payload(&soon));
    scene.send_dead(0, 1, soon, payload, "timestamp_in_future");
    // A client takes 0 for none.
    for (number, stamp) in [1, now / 1000, now * 1000, 253_402_300_799_000].into_iter().enumerate()
    {
        let id = format!("wrong-stamp-{number}");
        for (topic, body) in [Body::Inference(inference(&id, now)), Body::Label(label(&id, now))]
            .into_iter()
            .enumerate()
        {
            let payload = Some(json_payload(&body));
            let key = "key-1".to_owned();
            scene.producer.send(Message { topic, partition: 1, stamp, body, key, payload });
        }
    }
}

/// Good and broken records of 10 MB in both topics.
fn large_records(scene: &mut Scene) {
    let note = noise(TEN_MB);
    let time = scene.stamp;
    for (topic, body) in
        [Body::Inference(inference("large", time)), Body::Label(label("large", time))]
            .into_iter()
            .enumerate()
    {
        let text = String::from_utf8(json_payload(&body)).expect("JSON");
        let large = format!("{{\"note\":\"{note}\",{}", &text[1..]).into_bytes();
        let cut = large[..large.len() - 1].to_vec();
        scene.send_dead(topic, 0, Body::Dead, Some(cut), "broken_json");
        scene.send(topic, 0, body, Some(large));
        let noise = note.clone().into_bytes();
        scene.send_dead(topic, 0, Body::Dead, Some(noise), "broken_json");
    }
}

#[test]
fn ten_thousand_models_are_capped_and_counted() {
    let mut scene = Scene::new("many-models", JSON, "");
    for number in 0..10_000_usize {
        let id = format!("request-{number}");
        let model = format!("model-{}", number * 7919 % 10_000);
        let body = Body::Inference(Inference { model, ..inference(&id, FIRST_MS + 1000) });
        let payload = json_payload(&body);
        scene.send(0, number % PARTITIONS, body, Some(payload));
        if number.is_multiple_of(10) {
            let body = Body::Label(label(&id, FIRST_MS + 1000));
            let payload = json_payload(&body);
            scene.send(1, number % PARTITIONS, body, Some(payload));
        }
    }
    scene.producer.flush();
    scene.job.run(&["run", "--until-end"], 0, DEADLINE);
    scene.must_be_right();
    let others = scene.services.clickhouse.query(
        "SELECT sum(inferences) > 9000 FROM tidegauge.serving FINAL \
         WHERE job = 'many-models' AND grain = '5m' AND segment = 'all' AND model = '(other)'",
    );
    assert_eq!(others, "1\n");
}

/// The datum of a record in the wire format of another schema.
fn wire(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0], &id.to_be_bytes()[..], datum].concat()
}

fn broken_avro(
    encode: &AvroWire,
    ids: [u32; 2],
    time: i64,
) -> Vec<(Option<Vec<u8>>, &'static str)> {
    let said = |change: &dyn Fn(&mut Inference)| {
        let mut inference = inference("bad", time);
        change(&mut inference);
        Some(encode.payload(&Body::Inference(inference)))
    };
    let good = said(&|_| {}).expect("bytes");
    let score = |score: f64| said(&|it| it.score = Some(score));
    vec![
        (Some(good[..good.len() - 2].to_vec()), "broken_avro"),
        (Some(good[..5].to_vec()), "broken_avro"),
        // A text of -1 bytes, and one longer than any record.
        (Some(wire(ids[0], &[0x01])), "broken_avro"),
        (Some(wire(ids[0], &[0xfe, 0xff, 0xff, 0xff, 0xff, 0x0f])), "broken_avro"),
        (Some([&good[..], b"more"].concat()), "trailing_bytes"),
        (Some([&[1], &good[1..]].concat()), "wire_format"),
        (Some(vec![0, 0]), "wire_format"),
        (Some(json_payload(&Body::Inference(inference("bad", time)))), "wire_format"),
        (Some(wire(987_654, &good[5..])), "unknown_schema"),
        (None, "tombstone"),
        (Some(Vec::new()), "empty_payload"),
        (score(f64::NAN), "score_out_of_range"),
        (score(f64::INFINITY), "score_out_of_range"),
        (score(f64::NEG_INFINITY), "score_out_of_range"),
        (score(1.000_001), "score_out_of_range"),
        (said(&|it| it.prediction = Some(Given::Number(f64::NAN))), "number_out_of_range"),
        (said(&|it| it.latency_ms = Some(f64::NAN)), "latency_out_of_range"),
        (said(&|it| it.id = String::new()), "empty_request_id"),
        (said(&|it| it.time = time * 1000), "timestamp_out_of_range"),
        (said(&|it| it.time = i64::MIN), "timestamp_out_of_range"),
    ]
}

#[test]
fn bad_avro_and_a_registry_that_is_down_and_a_new_schema_cost_no_record() {
    let mut registry = Registry::start();
    let tail = format!("[schema_registry]\nurl = \"{}\"\n", registry.url());
    let mut scene = Scene::new("bad-avro", "format = \"avro\"", &tail);
    let subjects = scene.topics.each_ref().map(|topic| format!("{topic}-value"));
    let ids = [0, 1].map(|topic| registry.register(&subjects[topic], AVRO_SCHEMAS[topic]));
    let encode = AvroWire::new(ids);
    let bad = broken_avro(&encode, ids, FIRST_MS);
    for number in 0..600 {
        good_pair(&mut scene, number, |_, body| encode.payload(body));
        if number.is_multiple_of(10) && number / 10 < 2 * bad.len() {
            let (payload, code) = bad[number / 20].clone();
            scene.send_dead(0, number / 10 % PARTITIONS, Body::Dead, payload, code);
        }
    }
    let nan = Label { value: Given::Number(f64::NAN), ..label("request-1", FIRST_MS) };
    let nan = Some(encode.payload(&Body::Label(nan)));
    scene.send_dead(1, 1, Body::Dead, nan, "number_out_of_range");
    scene.producer.flush();

    registry.kill();
    let instance = scene.job.start(&["run"]);
    let why = instance.wait_for_readiness(503, "schema_registry", DEADLINE);
    assert!(
        why.contains(&format!("schema {}", ids[0])) || why.contains(&format!("schema {}", ids[1])),
        "{why}"
    );
    assert_eq!(instance.get("/healthz").expect("it lives").status, 200);
    assert_eq!(letters::count(&scene.services.kafka, "dead.bad-avro"), 0);
    registry.start_again();
    wait_for_all(&scene, &instance);

    new_schema(&mut scene, &registry, &subjects[0], &encode);
    wait_for_all(&scene, &instance);
    instance.stop();
    scene.must_be_right();
}

fn wait_for_all(scene: &Scene, instance: &Instance) {
    let clickhouse = &scene.services.clickhouse;
    scene.job.wait_for_records(clickhouse, scene.total(), DEADLINE);
    instance.wait_for_readiness(200, "", DEADLINE);
}

/// Records of a second schema between those of the first one, while the program runs.
fn new_schema(scene: &mut Scene, registry: &Registry, subject: &str, encode: &AvroWire) {
    let first = r#"{"name":"request_id","type":"string"},"#;
    let trace = r#"{"name":"trace","type":{"type":"array","items":"string"},"default":[]},"#;
    assert!(AVRO_SCHEMAS[0].contains(first));
    let schema = AVRO_SCHEMAS[0].replacen(first, &format!("{trace}{first}"), 1);
    let id = registry.register(subject, &schema);
    for number in 600..900 {
        let is_new = number % 3 == 0;
        good_pair(scene, number, |topic, body| {
            let payload = encode.payload(body);
            // The array of two texts, a block of its items and the end, stands before the rest of the datum.
            let trace = b"\x04\x02a\x04bc\x00";
            if is_new && topic == 0 { wire(id, &[trace, &payload[5..]].concat()) } else { payload }
        });
    }
    scene.producer.flush();
}

#[test]
fn too_many_dead_letters_stop_the_process_and_a_mended_one_reads_the_same_records() {
    let mut scene = Scene::new("limit", "fields = { request_id = \"meta.rid\" }", "");
    for number in 0..1500 {
        good_pair(&mut scene, number, |_, body| json_payload(body));
    }
    scene.producer.flush();
    // No flush comes before the limit.
    let environment = [("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", "600s")];
    let log = scene.job.run_with(&["run"], &environment, 1, DEADLINE);
    assert!(log.contains("error[dead_letter_limit]") && log.contains("`request_id`"), "{log}");
    let Services { kafka, clickhouse } = &*scene.services;
    assert_eq!(scene.job.records_counted(clickhouse), 0, "no mark passes them");

    let names = scene.topics.each_ref().map(String::as_str);
    let more = sections(names);
    // A job that has counted nothing takes another configuration, as the next generation.
    scene.settings.generation = 1;
    scene.job = Job::new("limit", kafka, clickhouse, names, &scene.settings, &more);
    scene.job.run(&["run", "--until-end"], 0, DEADLINE);
    scene.must_be_right();
}

#[test]
fn a_few_bad_records_never_reach_the_limit() {
    // The share counts, not the sum: 5 % for ever is no reason to stop.
    let mut scene = Scene::new("share", JSON, "");
    for number in 0..4000 {
        good_pair(&mut scene, number, |_, body| json_payload(body));
        if number.is_multiple_of(10) {
            scene.send_dead(0, number / 10 % PARTITIONS, Body::Dead, None, "tombstone");
        }
    }
    scene.producer.flush();
    let environment = [("TIDEGAUGE__DEAD_LETTERS__LIMIT_AFTER", "50")];
    scene.job.run_with(&["run", "--until-end"], &environment, 0, DEADLINE);
    scene.must_be_right();
}
