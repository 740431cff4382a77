//! A bounded range of the topics: the rows of the stream for the same records, beside a live job.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use rdkafka::admin::AdminOptions;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::{Value as Json, json};
use tempfile::TempDir;
use tidegauge::calendar::instant;

use super::backfill::{must_be_equal, rows};
use crate::support::job::{Job, METRIC_TABLES, newest_rows, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{self, Body, Inference, Partition, Record, Settings};
use crate::support::requests;
use crate::support::services::{self, ClickHouse, Kafka, Services, block_on};
use crate::support::wait_for;

const INFERENCES: usize = 20_000;
const PARTITIONS: usize = 4;
const HOUR_MS: i64 = 3_600_000;
const MINUTE_MS: i64 = 60_000;
/// 2026-01-05 00:00 UTC, when the requests begin; they do so for twelve hours.
const FIRST_MS: i64 = 1_767_571_200_000;
const DEADLINE: Duration = Duration::from_secs(300);

#[test]
fn all_of_the_topics_give_the_rows_of_the_stream_after_a_kill_and_beside_a_live_job() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let topics = ["inferences", "labels"];
    let more = sections(topics);
    let mut job = Job::new("fraud", &kafka, &clickhouse, topics, &requests::settings(), &more);
    job.create_topics(&kafka, i32::try_from(PARTITIONS).unwrap());
    job.run(&["init"], 0, DEADLINE);
    let missing = job.run(&["backfill", "--topics"], 1, DEADLINE);
    assert!(missing.contains("error[range_empty]"), "{missing}");
    let messages = requests::make(31, INFERENCES, PARTITIONS, 12);
    let count = messages.len();
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    for message in messages {
        producer.send(message);
    }
    producer.flush();

    let backfill = |more: &[&'static str]| [&["backfill", "--topics"], more].concat();
    let said = job.run(&backfill(&["--dry-run", "--json"]), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    let sum =
        |of: &str| said[of]["records"].as_u64().unwrap() + said[of]["rejected"].as_u64().unwrap();
    assert_eq!(sum("inferences") + sum("labels"), u64::try_from(count).unwrap());
    assert_eq!(clickhouse.query("SELECT count() FROM tidegauge.jobs"), "0\n");

    let live = job.start(&["run"]);
    job.wait_for_records(&clickhouse, count, DEADLINE);
    let killed = job.killed_midway(&clickhouse, &backfill(&[]), count);
    job.run(&["backfill", "--topics", "--job", &killed], 0, DEADLINE);
    let said = job.run(&backfill(&["--job", "again", "--json"]), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["complete"], true, "{said}");
    live.stop();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    let stream = rows(&clickhouse, "fraud");
    must_be_equal(&rows(&clickhouse, "again"), &stream);
    must_be_equal(&rows(&clickhouse, &killed), &stream);

    // Under the live job's name, or with another range under the same one, it is refused.
    for other in [&["--job", "fraud"][..], &["--job", "again", "--from", "offset:5"]] {
        let refused = job.run(&backfill(other), 3, DEADLINE);
        assert!(refused.contains("error[job_other_topics]"), "{refused}");
    }
    must_be_equal(&rows(&clickhouse, "fraud"), &stream);
    let beyond = job.run(&backfill(&["--from", "offset:99999999"]), 1, DEADLINE);
    assert!(beyond.contains("error[range_empty]"), "{beyond}");
    let beyond = job.run(&backfill(&["--from", "2200-01-01"]), 1, DEADLINE);
    assert!(beyond.contains("error[range_empty]"), "{beyond}");
}

/// Topics with the records of [`requests::make`], and a job over them that has not run.
fn filled(kafka: &Kafka, clickhouse: &ClickHouse, seed: u64) -> (Job, Vec<Partition>) {
    let topics = ["inferences", "labels"];
    let more = sections(topics);
    let mut job = Job::new("fraud", kafka, clickhouse, topics, &requests::settings(), &more);
    job.create_topics(kafka, i32::try_from(PARTITIONS).unwrap());
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    let messages = requests::make(seed, INFERENCES, PARTITIONS, 12);
    for message in messages {
        producer.send(message);
    }
    producer.flush();
    (job, producer.logs)
}

/// Runs a range under this name, and holds its rows and accounts against the oracle's of these records alone.
fn must_equal(job: &mut Job, clickhouse: &ClickHouse, range: &[&str], records: &[Partition]) {
    must_equal_within(job, clickhouse, range, records, [None, None]);
}

/// The same of a range with rows of the windows that lie wholly between these times.
fn must_equal_within(
    job: &mut Job,
    clickhouse: &ClickHouse,
    range: &[&str],
    records: &[Partition],
    [from, to]: [Option<i64>; 2],
) {
    let name = job.name.clone();
    let arguments = [&["backfill", "--topics", "--job", &*name], range].concat();
    job.run(&arguments, 0, DEADLINE);
    let has_labels = !range.contains(&"--without-labels");
    let mut expected = oracle::compute(&Settings { has_labels, ..requests::settings() }, records);
    expected.rows.retain(|row| {
        let end = row.start + row.grain;
        from.is_none_or(|from| from <= row.start) && to.is_none_or(|to| end <= to)
    });
    assert!(expected.rows.len() > 1000, "{} rows show nothing", expected.rows.len());
    job.must_equal(clickhouse, &expected);
}

/// What is read of a log between two times: from the first record with a timestamp since the first, to the one before
/// the last of so many that bear the second or a later one; none is the end of the log.
fn between(log: &[Record], from: i64, to: Option<(i64, usize)>) -> Vec<Record> {
    let from = log.iter().position(|record| record.stamp >= from).unwrap_or(log.len());
    let to =
        to.and_then(|(to, count)| (0..log.len()).filter(|&at| log[at].stamp >= to).nth(count - 1));
    log[from..to.unwrap_or(log.len()).max(from)].to_vec()
}

#[test]
fn a_range_holds_the_rows_of_its_records_and_no_group_knows_of_it() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let (mut job, logs) = filled(&kafka, &clickhouse, 32);

    // Offsets are those of the inferences; of their labels none is left out.
    let by_offset = |of: &Partition| Partition {
        inferences: of.inferences[1000..4000].to_vec(),
        labels: of.labels.clone(),
    };
    let records: Vec<Partition> = logs.iter().map(by_offset).collect();
    "by-offset".clone_into(&mut job.name);
    let range = ["--from", "offset:1000", "--to", "offset:4000"];
    must_equal(&mut job, &clickhouse, &range, &records);

    let first = logs[0].inferences[0].stamp;
    let [from, to, labels_to] = [3, 7, 9].map(|hours| first + hours * HOUR_MS);
    // Inferences until their clock has all but passed the end, labels until theirs has.
    let Settings { lateness, clock_stamps, .. } = requests::settings();
    let by_time = |of: &Partition| Partition {
        inferences: between(&of.inferences, from - lateness, Some((to + lateness, clock_stamps))),
        labels: between(&of.labels, from - lateness, Some((labels_to, clock_stamps + 1))),
    };
    let records: Vec<Partition> = logs.iter().map(by_time).collect();
    "by-time".clone_into(&mut job.name);
    let [from_text, to_text, labels_to] = [from, to, labels_to].map(instant);
    let range = ["--from", &*from_text, "--to", &*to_text, "--labels-to", &*labels_to];
    must_equal_within(&mut job, &clickhouse, &range, &records, [Some(from), Some(to)]);

    let without_labels = |of: &Partition| Partition {
        inferences: between(&of.inferences, from - lateness, None),
        labels: Vec::new(),
    };
    let records: Vec<Partition> = logs.iter().map(without_labels).collect();
    "plain".clone_into(&mut job.name);
    let range = ["--from", &*from_text, "--without-labels"];
    must_equal_within(&mut job, &clickhouse, &range, &records, [Some(from), None]);

    // Neither a group nor an offset of one, until the job itself runs.
    assert_eq!(groups(&kafka), Vec::<String>::new());
    assert_eq!(committed(&kafka, "fraud"), 0);
    "fraud".clone_into(&mut job.name);
    job.run(&["run", "--until-end"], 0, DEADLINE);
    assert_eq!(groups(&kafka), ["fraud"]);
    assert_eq!(committed(&kafka, "fraud"), 2 * PARTITIONS);
    job.must_equal(&clickhouse, &oracle::compute(&requests::settings(), &logs));
}

/// Rows of a job in one table, of windows that lie wholly between two times, without some of the columns.
fn rows_between(
    clickhouse: &ClickHouse,
    job: &str,
    table: &str,
    [from, to]: [i64; 2],
    without: &str,
) -> Vec<String> {
    let sql = format!(
        "SELECT * EXCEPT ({without}) FROM {} WHERE job = '{job}' \
         AND toUnixTimestamp64Milli(window_start) >= {from} \
         AND toUnixTimestamp64Milli(window_end) <= {to} ORDER BY ALL FORMAT JSONEachRow",
        newest_rows("tidegauge", table)
    );
    clickhouse.query(&sql).lines().map(|row| format!("{table} {row}")).collect()
}

/// Holds the rows of a job over the range between these times against those of the stream.
fn must_equal_the_stream(clickhouse: &ClickHouse, job: &str, ends: [i64; 2]) {
    let of_all = |job: &str, ends: [i64; 2], without: &dyn Fn(&str) -> &'static str| {
        let tables = METRIC_TABLES.into_iter().map(|(table, _)| table);
        let of = |table| rows_between(clickhouse, job, table, ends, without(table));
        tables.flat_map(of).collect::<Vec<String>>()
    };
    // The last windows are not sealed yet. All else, the stragglers, is there.
    let unsealed = |table: &str| {
        if table == "labels" {
            "job, sealed, row_version, pending, expired, settled_ratio"
        } else {
            "job, sealed, row_version"
        }
    };
    let all = [0, 2 * FIRST_MS];
    must_be_equal(&of_all(job, all, &unsealed), &of_all("fraud", ends, &unsealed));
    // What is sealed is so to the last column.
    let sealed = format!(
        "SELECT toUnixTimestamp64Milli(max(window_end)) FROM tidegauge.serving \
         WHERE job = '{job}' AND sealed"
    );
    let sealed = [ends[0], clickhouse.query(&sealed).trim().parse().unwrap()];
    assert!(sealed[1] - sealed[0] > 3 * HOUR_MS && sealed[1] < ends[1], "{sealed:?}");
    let whole = |_: &str| "job";
    must_be_equal(&of_all(job, sealed, &whole), &of_all("fraud", sealed, &whole));
}

#[test]
fn between_times_stand_the_rows_of_the_stream_and_no_others() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let (mut job, _) = filled(&kafka, &clickhouse, 34);
    job.run(&["run", "--until-end"], 0, DEADLINE);

    // Neither is an end of a window. Of the hour and the day in which they lie, and of five minutes, there are parts.
    let ends = [3 * HOUR_MS - 90_000, 8 * HOUR_MS + 90_000].map(|ms| FIRST_MS + ms);
    let [from, to] = ends.map(instant);
    let range = ["backfill", "--topics", "--from", &*from, "--to", &*to];
    let said = job.run(&[&range[..], &["--job", "range"]].concat(), 0, DEADLINE);
    assert!(said.contains("no window of 1d lies wholly within the range"), "{said}");
    must_equal_the_stream(&clickhouse, "range", ends);
    let grains = "SELECT arrayStringConcat(arraySort(groupUniqArray(grain)), ' ') \
                  FROM tidegauge.serving WHERE job = 'range'";
    assert_eq!(clickhouse.query(grains), "1h 5m\n");
    // Killed in the middle, and started again.
    let count = "SELECT sum(records) FROM tidegauge.stream_health WHERE job = 'range'";
    let count = clickhouse.query(count).trim().parse().unwrap();
    let killed = job.killed_midway(&clickhouse, &range, count);
    job.run(&[&range[..], &["--job", &killed]].concat(), 0, DEADLINE);
    must_be_equal(&rows(&clickhouse, &killed), &rows(&clickhouse, "range"));

    // Under one name there is one range, told as it was typed.
    let other = ["backfill", "--topics", "--from", &*from, "--job", "range"];
    let refused = job.run(&other, 3, DEADLINE);
    let [from, to] = [from, to].map(|end| end.replace(".000Z", "Z"));
    let told = refused.contains(&format!("from {from} to {to}"));
    assert!(refused.contains("error[job_other_topics]") && told, "{refused}");
    let refused = job.run(&["rebuild", "--job", "range"], 3, DEADLINE);
    assert!(refused.contains("whose coarser windows are not all whole"), "{refused}");

    // The last inferences lie in windows that began before.
    let late = instant(FIRST_MS + 12 * HOUR_MS - MINUTE_MS);
    let late = ["backfill", "--topics", "--from", &*late, "--job", "late"];
    let said = job.run(&late, 0, DEADLINE);
    assert!(said.contains("no inference lies in a window that lies wholly within"), "{said}");
    assert_eq!(rows(&clickhouse, "late"), [""; 0]);
    // To read on, it is started again: its marks count records, and no row has any.
    job.run(&late, 0, DEADLINE);
    let dry = ["backfill", "--topics", "--dry-run", "--labels-to", "offset:0"];
    let said = job.run(&dry, 0, DEADLINE);
    assert!(said.contains("no label is read, and no window can be sealed: "), "{said}");
}

/// All groups that the broker knows. While its coordinator still loads, there is no answer.
fn groups(kafka: &Kafka) -> Vec<String> {
    let admin = kafka.admin();
    let list = wait_for("the list of groups", DEADLINE, || {
        admin.inner().fetch_group_list(None, DEADLINE).ok()
    });
    list.groups().iter().map(|group| group.name().to_owned()).collect()
}

/// Partitions of both topics for which the group has an offset.
fn committed(kafka: &Kafka, group: &str) -> usize {
    let mut config = kafka.client_config();
    let consumer: BaseConsumer = config.set("group.id", group).create().unwrap();
    let mut asked = TopicPartitionList::new();
    for topic in ["inferences", "labels"] {
        asked.add_partition_range(topic, 0, i32::try_from(PARTITIONS).unwrap() - 1);
    }
    let found = consumer.committed_offsets(asked, DEADLINE).unwrap();
    found.elements().iter().filter(|one| one.offset() != Offset::Invalid).count()
}

#[test]
fn a_range_whose_first_records_are_gone_is_refused_before_its_name_is_bound() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let (mut job, logs) = filled(&kafka, &clickhouse, 33);
    let inferences = |from: usize, to: usize| -> Vec<Partition> {
        let of = |of: &Partition| Partition {
            inferences: of.inferences[from..to].to_vec(),
            labels: of.labels.clone(),
        };
        logs.iter().map(of).collect()
    };
    "done".clone_into(&mut job.name);
    let done = ["--to", "offset:3000", "--from", "offset:0"];
    must_equal(&mut job, &clickhouse, &done, &inferences(0, 3000));

    let mut gone = TopicPartitionList::new();
    for partition in 0..i32::try_from(PARTITIONS).unwrap() {
        gone.add_partition_offset("inferences", partition, Offset::Offset(100)).unwrap();
    }
    block_on(kafka.admin().delete_records(&gone, &AdminOptions::new())).unwrap();
    let bound = || clickhouse.query("SELECT DISTINCT job FROM tidegauge.jobs ORDER BY job");
    let range = ["backfill", "--topics", "--job", "gone", "--from", "offset:99"];
    for more in [&[][..], &["--dry-run"]] {
        let refused = job.run(&[&range, more].concat(), 1, DEADLINE);
        assert!(refused.contains("error[range_trimmed]"), "{refused}");
        assert!(refused.contains("starts at offset 100, after 99"), "{refused}");
        assert_eq!(bound(), "done\n");
    }
    // What was read before is not needed any more, and the name is free for what is left.
    must_equal(&mut job, &clickhouse, &done, &inferences(0, 3000));
    "gone".clone_into(&mut job.name);
    let range = ["--from", "offset:100", "--to", "offset:4000"];
    must_equal(&mut job, &clickhouse, &range, &inferences(100, 4000));

    // Of a time nobody knows whether earlier records were there.
    let early = instant(logs[0].inferences[0].stamp - HOUR_MS);
    let arguments = ["backfill", "--topics", "--job", "early", "--from", &early];
    let warned = job.run(&arguments, 0, DEADLINE);
    assert!(warned.contains("earlier records of the range may be gone"), "{warned}");
    let later = instant(logs[0].inferences[0].stamp + 6 * HOUR_MS);
    let arguments = ["backfill", "--topics", "--job", "later", "--from", &later];
    let said = job.run(&arguments, 0, DEADLINE);
    assert!(!said.contains("may be gone"), "{said}");
    must_be_told_of_profiles(&mut job, &early, &later);

    for topic in ["INFERENCES", "LABELS"] {
        let environment = [(&*format!("TIDEGAUGE__{topic}__TOPIC"), "nowhere")];
        let arguments = ["backfill", "--topics", "--job", "nowhere"];
        let refused = job.run_with(&arguments, &environment, 2, DEADLINE);
        assert!(refused.contains("error[topic_missing]"), "{refused}");
        assert!(refused.contains("topic nowhere"), "{refused}");
    }
    assert_eq!(bound(), "done\nearly\ngone\nlater\n");
}

/// A profile is of the whole range that is asked for too, or whoever asks is told. The first hundred records are gone;
/// one time lies before those that are left, and one among them.
fn must_be_told_of_profiles(job: &mut Job, early: &str, later: &str) {
    let folder = TempDir::new().unwrap();
    let mut profile = |name: &str, from: &str, code: i32| {
        let output = folder.path().join(format!("{name}.json"));
        let fixed = ["profile", "--name", name, "--model", "fraud-cards", "--topics"];
        let range = ["--from", from, "--output", output.to_str().unwrap()];
        let said = job.run(&[&fixed[..], &range].concat(), code, DEADLINE);
        assert_eq!(output.exists(), code == 0, "{said}");
        said
    };
    let refused = profile("refused", "offset:99", 1);
    assert!(refused.contains("error[range_trimmed]"), "{refused}");
    let warned = profile("warned", early, 0);
    let gone = "topic inferences, partition 0: earlier records of the range may be gone";
    assert!(warned.contains(gone) && warned.contains("begins at offset 100\n"), "{warned}");
    for (name, from) in [("left", "offset:100"), ("later", later)] {
        let said = profile(name, from, 0);
        assert!(!said.contains("may be gone"), "{said}");
    }
}

#[test]
fn a_range_of_which_too_much_is_bad_fails_and_a_dry_run_says_so_before() {
    let services = services::shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["spoilt.inferences", "spoilt.labels"];
    let more = sections(topics);
    let mut job = Job::new("spoilt", kafka, clickhouse, topics, &requests::settings(), &more);
    job.create_topics(kafka, 1);
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, 1);
    for number in 0..40_i64 {
        let (key, stamp) = (number.to_string(), 1_767_571_200_000 + number * 1000);
        let (id, model) = (key.clone(), "fraud-cards".to_owned());
        let good = Body::Inference(Inference { id, model, time: stamp, ..Inference::default() });
        let is_bad = number % 5 == 0;
        let payload = Some(if is_bad { b"{".to_vec() } else { json_payload(&good) });
        let body = if is_bad { Body::Dead } else { good };
        producer.send(Message { topic: 0, partition: 0, stamp, body, key, payload });
    }
    producer.flush();

    let folder = TempDir::new().unwrap();
    let rejected = folder.path().join("rejected.jsonl");
    let rejected_text = rejected.to_str().unwrap();
    let dry = ["backfill", "--topics", "--dry-run"];
    let keeping = [&dry[..], &["--rejected", rejected_text]].concat();
    let said = job.run(&keeping, 1, DEADLINE);
    assert!(
        said.contains("topic spoilt.inferences, 40 records, of which 8 can't be used"),
        "{said}"
    );
    let refusal = |said: &str| format!("error[dead_letter_limit]: {said}");
    let too_many = "8 of 40 records of inferences can't be used, more than a share of 0.1";
    assert!(said.contains(&refusal(too_many)), "{said}");
    let kept = std::fs::read_to_string(&rejected).unwrap();
    let kept: Vec<Json> = kept.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let offsets: Vec<_> = kept.iter().map(|line| line["offset"].as_i64().unwrap()).collect();
    assert_eq!(offsets, [0, 5, 10, 15, 20, 25, 30, 35]);
    let place = [&kept[1]["topic"], &kept[1]["partition"], &kept[1]["payload"]];
    assert_eq!(place, [&json!("spoilt.inferences"), &json!(0), &json!("{")]);
    job.run_with(&dry, &[("TIDEGAUGE__DEAD_LETTERS__LIMIT", "0.5")], 0, DEADLINE);
    let first = ["--from", "offset:0", "--to", "offset:1"];
    let none = "none of 1 records of inferences can be used";
    let said = job.run(&[&dry[..], &first].concat(), 1, DEADLINE);
    assert!(said.contains(&refusal(none)), "{said}");

    let said = job.run(&["backfill", "--topics", "--job", "spoilt-all"], 1, DEADLINE);
    assert!(said.contains(&refusal(&format!("job spoilt-all: {too_many}"))), "{said}");
    let arguments = ["backfill", "--topics", "--job", "spoilt-first"];
    let said = job.run(&[&arguments[..], &first].concat(), 1, DEADLINE);
    assert!(said.contains(&refusal(&format!("job spoilt-first: {none}"))), "{said}");
}
