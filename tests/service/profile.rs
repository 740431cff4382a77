//! Profiles of topics: the same document as of files with the same records.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use serde_json::Value as Json;

use super::backfill::punctual;
use crate::support::job::{Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka};

const DEADLINE: Duration = Duration::from_secs(120);
const PARTITIONS: usize = 3;

/// Writes the messages that `is_in` admits, of both topics.
fn write_files(
    folder: &Path,
    messages: &[Message],
    is_in: impl Fn(&Message) -> bool,
) -> [String; 2] {
    ["inferences", "labels"].map(|name| {
        let path = folder.join(format!("{name}.jsonl"));
        let mut file = std::fs::File::create(&path).unwrap();
        let topic = usize::from(name == "labels");
        for message in messages.iter().filter(|message| message.topic == topic && is_in(message)) {
            file.write_all(&json_payload(&message.body)).unwrap();
            file.write_all(b"\n").unwrap();
        }
        path.to_str().unwrap().to_owned()
    })
}

#[test]
fn a_topic_gives_the_profile_of_a_file_with_the_same_records() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let (topics, folder) = (["inferences", "labels"], tempfile::tempdir().unwrap());
    let more = sections(topics);
    let mut job = Job::new("fraud", &kafka, &clickhouse, topics, &requests::settings(), &more);
    job.create_topics(&kafka, i32::try_from(PARTITIONS).unwrap());
    let make = || {
        punctual(41).into_iter().map(|message| {
            let number: usize = message.key.rsplit('-').next().unwrap().parse().unwrap();
            Message { partition: number % PARTITIONS, ..message }
        })
    };
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    make().for_each(|message| producer.send(message));
    producer.flush();
    let messages: Vec<Message> = make().collect();

    let mut build = |file: &str, source: &[&str]| -> (Json, String) {
        let path = folder.path().join(file);
        let common = ["profile", "--name", "good", "--model", "fraud-cards", "--json"];
        let output = ["--output", path.to_str().unwrap()];
        let said = job.run(&[&common[..], &output, source].concat(), 0, DEADLINE);
        let said = serde_json::from_str(said.lines().last().unwrap()).unwrap();
        (said, std::fs::read_to_string(path).unwrap())
    };
    let [inferences, labels] = write_files(folder.path(), &messages, |_| true);
    let files = ["--inferences", &*inferences, "--labels", &*labels];
    let (said, of_files) = build("files.json", &files);
    assert!(said["inferences"].as_u64() > Some(10_000), "{said}");
    assert!(said["labelled"].as_u64() > Some(5_000) && said["expected"].as_u64() > Some(400));
    let (_, of_topics) = build("topics.json", &["--topics"]);
    assert!(of_files == of_topics, "the documents differ");

    // Without labels.
    let (said, of_files) = build("plain-files.json", &["--inferences", &inferences]);
    assert_eq!(said["labelled"], 0);
    let (_, of_topics) = build("plain-topics.json", &["--topics", "--without-labels"]);
    assert!(of_files == of_topics, "the documents without labels differ");

    // A range by time: inferences of five hours, stamped with their own times.
    let hour = 3_600_000;
    let first = messages[0].stamp.div_euclid(hour) * hour;
    let (from, to) = (first + 2 * hour, first + 7 * hour);
    // Labels are read from `windows.lateness` before it on, to the end.
    let is_in = |message: &Message| match message.topic {
        0 => (from..to).contains(&message.stamp),
        _ => message.stamp >= from - 600_000,
    };
    let [inferences, labels] = write_files(folder.path(), &messages, is_in);
    let (said, of_files) =
        build("range-files.json", &["--inferences", &inferences, "--labels", &labels]);
    assert_eq!(said["windows"]["1h"], 5);
    let [from, to] = [from, to].map(tidegauge::calendar::instant);
    let (_, of_topics) = build("range-topics.json", &["--topics", "--from", &from, "--to", &to]);
    assert!(of_files == of_topics, "the documents of a range differ");

    // A range by offsets, of which a partition may have fewer.
    let mut next = [0_i64; PARTITIONS];
    let mut is_in = |message: &&Message| {
        let offset = &mut next[message.partition];
        *offset += i64::from(message.topic == 0);
        message.topic == 1 || (100..4000).contains(&(*offset - 1))
    };
    let chosen: Vec<&Message> = messages.iter().filter(|message| is_in(message)).collect();
    let paths = ["inferences", "labels"].map(|name| folder.path().join(format!("o-{name}.jsonl")));
    let mut files = paths.each_ref().map(|path| std::fs::File::create(path).unwrap());
    for message in chosen {
        files[message.topic].write_all(&json_payload(&message.body)).unwrap();
        files[message.topic].write_all(b"\n").unwrap();
    }
    let [inferences, labels] = paths.each_ref().map(|path| path.to_str().unwrap());
    let (_, of_files) = build("o-files.json", &["--inferences", inferences, "--labels", labels]);
    let range = ["--topics", "--from", "offset:100", "--to", "offset:4000"];
    let (_, of_topics) = build("o-topics.json", &range);
    assert!(of_files == of_topics, "the documents of a range of offsets differ");
}
