//! A bounded range of the topics: the rows of the stream for the same records, beside a live job.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use serde_json::Value as Json;

use super::backfill::{must_be_equal, rows};
use super::end_to_end::sections;
use crate::support::job::Job;
use crate::support::log::Producer;
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka};

const INFERENCES: usize = 20_000;
const PARTITIONS: usize = 4;
const DEADLINE: Duration = Duration::from_secs(300);

#[test]
fn all_of_the_topics_give_the_rows_of_the_stream_after_a_kill_and_beside_a_live_job() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let topics = ["inferences", "labels"];
    let more = sections(topics, "json");
    let mut job = Job::new("fraud", &kafka, &clickhouse, topics, &requests::settings(), &more);
    job.create_topics(&kafka, i32::try_from(PARTITIONS).unwrap());
    job.run(&["init"], 0, DEADLINE);
    let missing = job.run(&["backfill", "--topics"], 1, DEADLINE);
    assert!(missing.contains("error[range_empty]"), "{missing}");
    let messages = requests::make(31, INFERENCES, PARTITIONS, 12);
    let count = messages.len();
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    messages.into_iter().for_each(|message| producer.send(message));
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
    let environment = [
        ("TIDEGAUGE_FAILPOINTS", "mark-acknowledged@2=kill"),
        ("TIDEGAUGE__CLICKHOUSE__FLUSH_INTERVAL", "20ms"),
    ];
    let mut killed = job.start_with(&backfill(&["--job", "again"]), &environment);
    assert_eq!(killed.wait("its second mark", DEADLINE), None, "{}", killed.log_text());
    let counted = "SELECT sum(records) FROM tidegauge.stream_health WHERE job = 'again'";
    let counted: usize = clickhouse.query(counted).trim().parse().unwrap();
    assert!((1..count).contains(&counted), "{counted} of {count} records at the kill");
    let said = job.run(&backfill(&["--job", "again", "--json"]), 0, DEADLINE);
    let said: Json = serde_json::from_str(said.lines().last().unwrap()).unwrap();
    assert_eq!(said["complete"], true, "{said}");
    live.stop();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    let stream = rows(&clickhouse, "fraud");
    must_be_equal(&rows(&clickhouse, "again"), &stream);

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
