//! What `tidegauge check` says of a real broker and ClickHouse, before anything runs.
#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use crate::support::job::{Job, sections};
use crate::support::requests;
use crate::support::services::{Kafka, Services, block_on, shared};
use crate::support::wait_for;

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: i32 = 8;
const FIRST_MS: i64 = 1_767_571_200_000;

/// A job whose topics and tables are there.
fn job(services: &Services, name: &str) -> Job {
    let topics = ["inferences", "labels"].map(|kind| format!("{name}.{kind}"));
    let names = topics.each_ref().map(String::as_str);
    let Services { kafka, clickhouse } = services;
    let (settings, more) = (requests::settings(), sections(names));
    let mut job = Job::new(name, kafka, clickhouse, names, &settings, &more);
    job.create_topics(kafka, PARTITIONS);
    job.run(&["init"], 0, DEADLINE);
    job
}

/// Records of the numbered requests, put where librdkafka itself puts their keys by this partitioner.
fn produce(kafka: &Kafka, topic: &str, partitioner: &str, numbers: std::ops::Range<i64>, of: &str) {
    let mut config = kafka.client_config();
    config.set("partitioner", partitioner);
    let producer: BaseProducer = config.create().unwrap();
    for number in numbers {
        let id = format!("request-{number}");
        let payload = format!(r#"{{"request_id":"{id}","timestamp":{FIRST_MS},"model":"m",{of}}}"#);
        let record = BaseRecord::to(topic).key(&id).payload(&payload).timestamp(FIRST_MS);
        producer.send(record).unwrap();
    }
    producer.flush(DEADLINE).unwrap();
}

/// Deletes the first records of every partition, up to this offset.
fn trim(kafka: &Kafka, topic: &str, before: i64) {
    let mut ends = TopicPartitionList::new();
    for partition in 0..PARTITIONS {
        ends.add_partition_offset(topic, partition, Offset::Offset(before)).unwrap();
    }
    let admin = kafka.admin();
    block_on(admin.delete_records(&ends, &AdminOptions::new())).unwrap();
}

/// The findings of level and subject, and the whole answer.
fn check(job: &mut Job, code: i32) -> (Vec<(String, String)>, Json) {
    let said = job.run(&["check", "--json"], code, DEADLINE);
    let answer: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let text = |found: &Json, name: &str| found[name].as_str().unwrap().to_owned();
    let found = answer["findings"].as_array().unwrap().iter();
    (found.map(|it| (text(it, "level"), text(it, "about"))).collect(), answer)
}

fn level<'a>(found: &'a [(String, String)], about: &str) -> &'a str {
    let of: Vec<_> =
        found.iter().filter(|(_, it)| it == about).map(|(level, _)| &**level).collect();
    assert!(!of.is_empty() && of.iter().all(|it| it == &of[0]), "{about}: {found:?}");
    of[0]
}

#[test]
fn producers_that_choose_partitions_alike_are_told_from_those_that_do_not() {
    let services = shared();
    for (name, right, expected) in
        [("check_java", "murmur2_random", "ok"), ("check_mixed", "consistent_random", "problem")]
    {
        let mut job = job(&services, name);
        let [inferences, labels] = job.topics.clone();
        let kafka = &services.kafka;
        produce(kafka, &inferences, "murmur2_random", 0..400, r#""score":0.5"#);
        // Labels of other requests: there are no pairs to go by.
        produce(kafka, &labels, right, 400..800, r#""label":1"#);
        let (found, answer) = check(&mut job, i32::from(expected == "problem"));
        assert_eq!(level(&found, "partitioner"), expected, "{answer}");
        for about in ["topics", "retention", "records", "lateness", "tables"] {
            assert_eq!(level(&found, about), "ok", "{answer}");
        }
        // Where the log begins behind what is asked for, what is left is read.
        trim(kafka, &inferences, 10);
        let (found, answer) = check(&mut job, i32::from(expected == "problem"));
        assert_eq!(level(&found, "records"), "ok", "{answer}");
        assert_eq!(level(&found, "partitioner"), expected, "{answer}");
        // And of the same requests.
        produce(kafka, &labels, right, 0..400, r#""label":1"#);
        let (found, answer) = check(&mut job, i32::from(expected == "problem"));
        assert_eq!(level(&found, "partitioner"), expected, "{answer}");
    }
}

#[test]
fn each_thing_that_is_wrong_has_its_line() {
    let services = shared();
    let mut job = job(&services, "check_wrong");
    let [inferences, labels] = job.topics.clone();
    let (found, answer) = check(&mut job, 0);
    assert_eq!(level(&found, "records"), "note", "nothing was sent: {answer}");
    produce(&services.kafka, &inferences, "murmur2_random", 0..50, r#""score":1.5"#);
    produce(&services.kafka, &labels, "murmur2_random", 0..50, r#""label":1"#);
    let (found, answer) = check(&mut job, 1);
    assert_eq!(level(&found, "score_out_of_range"), "problem", "{answer}");
    assert_eq!(level(&found, "partitioner"), "note", "no ID of an inference is known: {answer}");
    // Nothing was written, and no group was made.
    let count = "SELECT count() FROM tidegauge.jobs WHERE job = 'check_wrong'";
    assert_eq!(services.clickhouse.query(count), "0\n");
    let client: BaseConsumer = services.kafka.client_config().create().unwrap();
    let (_, letters) = client.fetch_watermarks("dead.check_wrong", 0, DEADLINE).unwrap();
    assert_eq!(letters, 0);
    // While the coordinator still loads, there is no answer.
    let groups =
        wait_for("the list of groups", DEADLINE, || client.fetch_group_list(None, DEADLINE).ok());
    assert!(groups.groups().iter().all(|group| group.name() != "check_wrong"));

    job.edit("topic = \"dead.check_wrong\"", "topic = \"nowhere\"");
    job.edit("database = \"tidegauge\"", "database = \"elsewhere\"");
    let (found, answer) = check(&mut job, 1);
    assert_eq!(level(&found, "topic_missing"), "problem", "{answer}");
    assert_eq!(level(&found, "clickhouse_schema"), "problem", "{answer}");
    job.edit(&format!("topic = \"{labels}\""), "topic = \"dead.check_wrong\"");
    let said = job.run(&["check"], 1, DEADLINE);
    assert!(said.contains("partitions_unequal"), "{said}");
    assert!(said.contains("remedy: "), "{said}");
}
