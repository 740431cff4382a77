//! Running it: what a start refuses and how, outages that are waited out, how it ends, what its endpoints and logs say.

use std::collections::BTreeMap;
use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;

use crate::support::job::{Instance, Job, sections};
use crate::support::log::{Message, Producer};
use crate::support::services::{ClickHouse, Kafka, Services, shared};
use crate::support::{oracle, requests, wait_for};

const DEADLINE: Duration = Duration::from_secs(300);
/// How long a start may take to say that it can't work. It waits half a minute for services that do not answer.
const SOON: Duration = Duration::from_secs(180);
const PARTITIONS: usize = 4;

/// A job with its topics and tables.
fn new_job(name: &str, kafka: &Kafka, clickhouse: &ClickHouse, topics: [&str; 2]) -> Job {
    let settings = requests::settings();
    let mut job = Job::new(name, kafka, clickhouse, topics, &settings, &sections(topics));
    job.create_topics(kafka, i32::try_from(PARTITIONS).expect("few"));
    job.run(&["init"], 0, DEADLINE);
    job
}

/// Runs with options from the environment and expects its end with this exit code, this error code and these words.
fn must_fail(job: &mut Job, environment: &[(&str, &str)], exit: i32, code: &str, words: &[&str]) {
    let log = job.run_with(&["run"], environment, exit, SOON);
    assert!(log.contains(&format!("error[{code}]: ")), "{code} is not in\n{log}");
    assert!(log.contains("\n  remedy: "), "{log}");
    for word in words {
        assert!(log.contains(word), "{word} is not in\n{log}");
    }
}

#[test]
fn a_start_that_can_not_work_says_why_and_ends_with_its_code() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["start.inferences", "start.labels"];
    let mut job = new_job("start", kafka, clickhouse, topics);
    kafka.create_topic("start.narrow", 1, &[]);

    let wrong_type = [("TIDEGAUGE__WORKERS", "many")];
    must_fail(&mut job, &wrong_type, 2, "config_wrong_type", &["workers", "many"]);
    let wrong_value = [("TIDEGAUGE__WINDOWS__SIZE", "often")];
    must_fail(&mut job, &wrong_value, 2, "config_invalid_value", &["windows.size", "5m"]);
    let unknown = [("TIDEGAUGE__CLICKHOUSE__URI", "http://127.0.0.1:1")];
    must_fail(&mut job, &unknown, 2, "config_unknown_key", &["clickhouse.url"]);
    let secret = [("TIDEGAUGE__CLICKHOUSE__PASSWORD", "env:NOT_SET_ANYWHERE")];
    must_fail(&mut job, &secret, 2, "config_secret", &["NOT_SET_ANYWHERE"]);
    let property = [("TIDEGAUGE__KAFKA__PROPERTIES", r#"{ "enable.auto.commit" = "true" }"#)];
    must_fail(&mut job, &property, 2, "kafka_property", &["enable.auto.commit"]);
    let no_broker = [("TIDEGAUGE__KAFKA__BROKERS", "127.0.0.1:1")];
    must_fail(&mut job, &no_broker, 1, "kafka_unreachable", &["127.0.0.1:1"]);
    let no_topic = [("TIDEGAUGE__LABELS__TOPIC", "start.lables")];
    must_fail(&mut job, &no_topic, 2, "topic_missing", &["start.lables"]);
    let narrow = [("TIDEGAUGE__LABELS__TOPIC", "start.narrow")];
    must_fail(&mut job, &narrow, 3, "partitions_unequal", &["start.narrow", "4", "1"]);
    let down = [("TIDEGAUGE__CLICKHOUSE__URL", "http://127.0.0.1:1")];
    must_fail(&mut job, &down, 1, "clickhouse_unavailable", &["127.0.0.1:1"]);
    let no_tables = [("TIDEGAUGE__CLICKHOUSE__DATABASE", "nowhere")];
    must_fail(&mut job, &no_tables, 3, "clickhouse_schema", &["tidegauge init"]);
    let password = [("TIDEGAUGE__CLICKHOUSE__PASSWORD", "wrong-secret")];
    let log = job.run_with(&["run"], &password, 1, SOON);
    assert!(log.contains("error[clickhouse_refused]") && !log.contains("wrong-secret"), "{log}");
    let no_letters = [("TIDEGAUGE__DEAD_LETTERS__TOPIC", "start.no-letters")];
    must_fail(&mut job, &no_letters, 2, "topic_missing", &["start.no-letters"]);

    // Nothing of all this has bound the job or spoiled it.
    job.run(&["run", "--until-end"], 0, DEADLINE);
}

#[test]
fn another_configuration_is_refused_once_rows_are_written() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["other-config.inferences", "other-config.labels"];
    let mut job = new_job("other-config", kafka, clickhouse, topics);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    // While an instance runs, and once a record is counted, another configuration is refused. Before, it is taken.
    let other = [("TIDEGAUGE__WINDOWS__SIZE", "10m")];
    // One that is held up for longer than its session lasts would count as gone.
    let session = ("TIDEGAUGE__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "60000");
    let first = job.start_with(&["run"], &[other[0], session]);
    first.wait_for_readiness(200, "", DEADLINE);
    must_fail(&mut job, &[], 3, "job_other_configuration", &["other-config"]);
    first.stop();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    for message in requests::make(5, 500, PARTITIONS, 3) {
        producer.send(message);
    }
    producer.flush();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    must_fail(&mut job, &other, 3, "job_other_configuration", &["other-config"]);
    let mut settings = requests::settings();
    settings.generation = 1;
    job.must_equal(clickhouse, &oracle::compute(&settings, &producer.logs));
}

#[test]
fn a_topic_made_anew_is_refused_and_committed_offsets_change_nothing() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let topics = ["anew.inferences", "anew.labels"];
    let mut job = new_job("anew", kafka, clickhouse, topics);
    let mut producer = Producer::new(kafka.client_config(), topics, PARTITIONS);
    let mut messages = requests::make(6, 3000, PARTITIONS, 6).into_iter();
    messages.by_ref().take(2500).for_each(|message| producer.send(message));
    producer.flush();
    job.run(&["run", "--until-end"], 0, DEADLINE);
    must_be_committed(kafka, clickhouse, "anew", topics);

    // To the beginning, and to the end.
    for to_end in [false, true] {
        reset_offsets(kafka, "anew", topics, &producer, to_end);
        messages.by_ref().take(500).for_each(|message| producer.send(message));
        producer.flush();
        job.run(&["run", "--until-end"], 0, DEADLINE);
        job.must_equal(clickhouse, &oracle::compute(&requests::settings(), &producer.logs));
        must_be_committed(kafka, clickhouse, "anew", topics);
    }

    kafka.delete_topic(topics[1]);
    wait_for("the topic to be gone", DEADLINE, || {
        let admin = kafka.admin();
        let metadata = admin.inner().fetch_metadata(Some(topics[1]), DEADLINE).ok()?;
        metadata.topics()[0].partitions().is_empty().then_some(())
    });
    kafka.create_topic(topics[1], i32::try_from(PARTITIONS).expect("few"), &[]);
    must_fail(&mut job, &[], 3, "topic_recreated", &[topics[1], "another job name"]);
    job.must_equal(clickhouse, &oracle::compute(&requests::settings(), &producer.logs));
}

/// A member of the job's group that reads nothing.
fn stranger(kafka: &Kafka, group: &str) -> BaseConsumer {
    let mut config = kafka.client_config();
    config.set("group.id", group).set("enable.auto.commit", "false");
    config.create().expect("the settings are right")
}

fn all_partitions(topics: [&str; 2]) -> TopicPartitionList {
    let mut list = TopicPartitionList::new();
    for topic in topics {
        list.add_partition_range(topic, 0, i32::try_from(PARTITIONS).expect("few") - 1);
    }
    list
}

fn reset_offsets(kafka: &Kafka, group: &str, topics: [&str; 2], producer: &Producer, to_end: bool) {
    let mut list = TopicPartitionList::new();
    for (topic, name) in topics.into_iter().enumerate() {
        for (partition, logs) in producer.logs.iter().enumerate() {
            let log = if topic == 0 { &logs.inferences } else { &logs.labels };
            let end = i64::try_from(log.len()).expect("few");
            let partition = i32::try_from(partition).expect("few");
            let offset = Offset::Offset(if to_end { end + 100 } else { 0 });
            list.add_partition_offset(name, partition, offset).expect("a partition");
        }
    }
    let consumer = stranger(kafka, group);
    // A member may still be leaving.
    wait_for("the group to be empty", DEADLINE, || {
        consumer.commit(&list, rdkafka::consumer::CommitMode::Sync).ok()
    });
}

/// What lag tools see are the marks' positions.
fn must_be_committed(kafka: &Kafka, clickhouse: &ClickHouse, job: &str, topics: [&str; 2]) {
    let committed = stranger(kafka, job).committed_offsets(all_partitions(topics), DEADLINE);
    let mut offsets: BTreeMap<i32, [i64; 2]> = BTreeMap::new();
    for one in committed.expect("the broker answers").elements() {
        let topic = usize::from(one.topic() == topics[1]);
        let Offset::Offset(offset) = one.offset() else { panic!("{one:?}") };
        offsets.entry(one.partition()).or_default()[topic] = offset;
    }
    let marks = clickhouse.query(&format!(
        "SELECT partition, inference_position, label_position FROM tidegauge.marks FINAL \
         WHERE job = '{job}' ORDER BY partition"
    ));
    let lines = offsets.iter().map(|(partition, [i, l])| format!("{partition}\t{i}\t{l}\n"));
    assert_eq!(lines.collect::<String>(), marks);
}

/// Everything about one job whose services fail.
struct Outages {
    kafka: Kafka,
    clickhouse: ClickHouse,
    job: Job,
    producer: Producer,
    messages: std::vec::IntoIter<Message>,
}

const OUTAGE_TOPICS: [&str; 2] = ["inferences", "labels"];

impl Outages {
    fn send(&mut self, count: usize) {
        for message in self.messages.by_ref().take(count) {
            self.producer.send(message);
        }
    }

    fn total(&self) -> usize {
        self.producer.logs.iter().map(|log| log.inferences.len() + log.labels.len()).sum()
    }

    /// All that was sent is written, and the process says that it is ready.
    fn wait_for_all(&self, instance: &Instance) {
        self.producer.flush();
        self.job.wait_for_records(&self.clickhouse, self.total(), DEADLINE);
        instance.wait_for_readiness(200, r#""ready":true"#, DEADLINE);
        must_be_metrics(instance, self.total());
    }
}

#[test]
fn outages_are_waited_out_and_a_signal_ends_it_in_time() {
    let (kafka, clickhouse) = (Kafka::start(), ClickHouse::start());
    let job = new_job("outages", &kafka, &clickhouse, OUTAGE_TOPICS);
    let producer = Producer::new(kafka.client_config(), OUTAGE_TOPICS, PARTITIONS);
    let messages = requests::make(7, 8000, PARTITIONS, 8).into_iter();
    let mut all = Outages { kafka, clickhouse, job, producer, messages };
    all.send(3000);
    let json = [("TIDEGAUGE__LOGS__FORMAT", "json"), ("TIDEGAUGE__LOGS__LEVEL", "debug")];
    let instance = all.job.start_with(&["run"], &json);
    all.wait_for_all(&instance);

    all.clickhouse.kill();
    all.send(3000);
    let why = instance.wait_for_readiness(503, "clickhouse", DEADLINE);
    assert!(why.contains("127.0.0.1"), "{why}");
    assert_eq!(instance.get("/healthz").expect("it lives").status, 200);
    all.clickhouse.start_again();
    all.wait_for_all(&instance);

    all.kafka.kill();
    instance.wait_for_readiness(503, "kafka", DEADLINE);
    all.kafka.start_again();
    all.send(3000);
    all.wait_for_all(&instance);

    instance.signal(Signal::SIGTERM);
    let mut instance = instance;
    assert_eq!(instance.wait("a drained end", Duration::from_secs(30)), Some(0));
    must_be_clean_log(&instance.log_text());
    must_be_committed(&all.kafka, &all.clickhouse, "outages", OUTAGE_TOPICS);
    ends_while_clickhouse_hangs(&mut all);
    all.send(usize::MAX);
    all.producer.flush();
    all.job.run(&["run", "--until-end"], 0, DEADLINE);
    let expected = oracle::compute(&requests::settings(), &all.producer.logs);
    all.job.must_equal(&all.clickhouse, &expected);
}

/// With a database that does not answer a stop takes the drain budget; a second signal takes no time.
fn ends_while_clickhouse_hangs(all: &mut Outages) {
    for (budget, again, exit, deadline) in [("2s", false, 0, 20), ("60s", true, 130, 30)] {
        let environment = [("TIDEGAUGE__DRAIN_BUDGET", budget)];
        let mut instance = all.job.start_with(&["run"], &environment);
        instance.wait_for_readiness(200, r#""ready":true"#, DEADLINE);
        all.clickhouse.pause();
        all.send(200);
        all.producer.flush();
        instance.signal(Signal::SIGTERM);
        if again {
            // The first one was heard: of two at once the second would be lost.
            instance.wait_for_readiness(503, "stopping", DEADLINE);
            instance.signal(Signal::SIGTERM);
        }
        let ended = instance.wait("its end", Duration::from_secs(deadline));
        all.clickhouse.resume();
        assert_eq!(ended, Some(exit), "{}", instance.log_text());
    }
}

/// The text parses as Prometheus has it, and what was read adds up.
fn must_be_metrics(instance: &Instance, total: usize) {
    let answer = instance.get("/metrics").expect("it lives");
    assert_eq!(answer.status, 200);
    let mut types = BTreeMap::new();
    let mut sums: BTreeMap<String, f64> = BTreeMap::new();
    for line in answer.body.lines() {
        if let Some(comment) = line.strip_prefix("# ") {
            if let Some(named) = comment.strip_prefix("TYPE ") {
                let (name, kind) = named.split_once(' ').expect("name and type");
                assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{name} twice");
            }
            continue;
        }
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let value: f64 = value.parse().unwrap_or_else(|_| panic!("{line}"));
        let name = series.split('{').next().expect("a name");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{line}");
        let labels = series[name.len()..].trim_start_matches('{').trim_end_matches('}');
        assert!(labels.is_empty() || labels.split(',').all(|it| it.contains("=\"")), "{line}");
        *sums.entry(name.to_owned()).or_default() += value;
        let family = types.keys().any(|known| name.starts_with(known.as_str()));
        assert!(family, "{name} has no type");
    }
    assert!(answer.body.ends_with("# EOF\n"), "the end is marked");
    let total = f64::from(u32::try_from(total).expect("few"));
    let records = sums["tidegauge_records_total"];
    assert!((records - total).abs() < 0.5, "{records} counted of {total}");
    assert!(sums["tidegauge_not_ready"].abs() < 0.5 && sums["tidegauge_flushes_total"] > 0.0);
}

/// Each line is an object with a level and a message, and no record's content is in any.
fn must_be_clean_log(log: &str) {
    for line in log.lines() {
        let object: Json =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(object["level"].is_string() && object["timestamp"].is_string(), "{line}");
        assert!(object["message"].is_string(), "{line}");
    }
    for part in ["request-", "not a record", "yesterday", "fraud-cards", "\\\"score"] {
        assert!(!log.contains(part), "{part} is in the log");
    }
    for part in ["starting", "cause is gone", "asked to stop", "finished"] {
        assert!(log.contains(part), "{part} is not in\n{log}");
    }
}
