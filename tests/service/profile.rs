//! Profiles of topics: the same document as of files with the same records.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tidegauge::calendar::instant;

use super::backfill::punctual;
use crate::support::job::{Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::Body;
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 3;
const MINUTE_MS: i64 = 60_000;
/// 2026-01-05 00:00 UTC, when the requests begin; they do so for twelve hours.
const FIRST_MS: i64 = 1_767_571_200_000;

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

/// The number of the message's request.
fn number(message: &Message) -> usize {
    message.key.rsplit('-').next().unwrap().parse().unwrap()
}

/// The message in the partition of its request.
fn placed(message: Message) -> Message {
    Message { partition: number(&message) % PARTITIONS, ..message }
}

/// A job over topics that hold these messages.
fn job_over(
    kafka: &Kafka,
    clickhouse: &ClickHouse,
    messages: impl IntoIterator<Item = Message>,
) -> Job {
    let topics = ["inferences", "labels"];
    let more = sections(topics);
    let job = Job::new("fraud", kafka, clickhouse, topics, &requests::settings(), &more);
    job.create_topics(kafka, i32::try_from(PARTITIONS).unwrap());
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    for message in messages {
        producer.send(message);
    }
    producer.flush();
    job
}

/// Builds a profile into a file of this name: what is said of it, and the document.
fn built(job: &mut Job, folder: &Path, file: &str, source: &[&str]) -> (Json, String) {
    let path = folder.join(file);
    let common = ["profile", "--name", "good", "--model", "fraud-cards", "--json"];
    let output = ["--output", path.to_str().unwrap()];
    let said = job.run(&[&common[..], &output, source].concat(), 0, DEADLINE);
    let said = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    (said, std::fs::read_to_string(path).unwrap())
}

#[test]
fn a_topic_gives_the_profile_of_a_file_with_the_same_records() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let folder = tempfile::tempdir().unwrap();
    let make = || punctual(41).into_iter().map(placed);
    let mut job = job_over(&kafka, &clickhouse, make());
    let messages: Vec<Message> = make().collect();
    let mut build = |file: &str, source: &[&str]| built(&mut job, folder.path(), file, source);

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
    let [from, to] = [from, to].map(instant);
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

/// In the order of their arrival: one of ten inferences comes eight minutes after its time.
fn straggling(seed: u64) -> Vec<Message> {
    let mut messages: Vec<Message> = punctual(seed).into_iter().map(placed).collect();
    for message in &mut messages {
        if message.topic == 0 && number(message).is_multiple_of(10) {
            message.stamp += 8 * MINUTE_MS;
        }
    }
    messages.sort_by_key(|message| message.stamp);
    messages
}

/// Whether it is an inference of these times, or a label that is read.
fn is_between(message: &Message, times: &Range<i64>, labels_from: i64) -> bool {
    match &message.body {
        Body::Inference(said) => times.contains(&said.time),
        _ => message.stamp >= labels_from,
    }
}

#[test]
fn between_times_count_inferences_of_these_times_and_whole_windows() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let folder = tempfile::tempdir().unwrap();
    let mut job = job_over(&kafka, &clickhouse, straggling(43));
    let messages = straggling(43);
    let mut build = |file: &str, source: &[&str]| built(&mut job, folder.path(), file, source);
    let lateness = requests::settings().lateness;

    // Between ends of windows it is the document of all inferences of these times, whenever they came.
    let whole = FIRST_MS + 120 * MINUTE_MS..FIRST_MS + 420 * MINUTE_MS;
    let is_in = |message: &Message| is_between(message, &whole, whole.start - lateness);
    let [inferences, labels] = write_files(folder.path(), &messages, is_in);
    let (_, of_files) = build("files.json", &["--inferences", &inferences, "--labels", &labels]);
    let [from, to] = [whole.start, whole.end].map(instant);
    let (_, of_topics) = build("topics.json", &["--topics", "--from", &from, "--to", &to]);
    assert!(of_files == of_topics, "the documents of a range differ");

    // Of the windows that the ends cut nothing is learned, though their inferences count.
    let cut = whole.start - 90_000..whole.end + 90_000;
    let is_in = |message: &Message| is_between(message, &whole, cut.start - lateness);
    let [inferences, labels] = write_files(folder.path(), &messages, is_in);
    let (few, of_files) =
        build("cut-files.json", &["--inferences", &inferences, "--labels", &labels]);
    let [from, to] = [cut.start, cut.end].map(instant);
    let (all, of_topics) = build("cut-topics.json", &["--topics", "--from", &from, "--to", &to]);
    assert_eq!(all["windows"], json!({"5m": 60, "1h": 5, "1d": 0}));
    let is_cut = |message: &&Message| {
        let Body::Inference(said) = &message.body else { return false };
        said.model == "fraud-cards" && cut.contains(&said.time)
    };
    let count = messages.iter().filter(is_cut).count();
    assert_eq!(all["inferences"], json!(count));
    assert!(all["inferences"].as_u64() > few["inferences"].as_u64(), "{all} {few}");
    let expected = [of_files, of_topics].map(|document| {
        let mut document: Json = serde_json::from_str(&document).unwrap();
        document["expected"].take()
    });
    assert!(expected[0]["5m"]["all"].is_object(), "{}", expected[0]);
    assert!(expected[0] == expected[1], "other windows were learned from");
}
