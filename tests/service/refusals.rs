//! Refuse, don't guess: what can't be right ends the process with one code, what was seen and the remedy, and without a
//! wrong row. The tables are read before and after.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::admin::{AdminOptions, AlterConfig, NewPartitions, ResourceSpecifier};
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};
use tidegauge::sink::tables::{TableSpec, tables};

use crate::support::job::{Instance, Job, sections};
use crate::support::log::{Message, Producer};
use crate::support::oracle::{self, Partition, Settings};
use crate::support::requests;
use crate::support::services::{ClickHouse, Kafka, Services, block_on, shared};
use crate::support::{wait_for, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
const PARTITIONS: usize = 4;
/// Those that say who may write, and what `init` put in place: no record changes them.
const NOT_OF_RECORDS: [&str; 2] = ["jobs", "migrations"];

/// Names and values.
type TopicSettings<'a> = &'a [(&'a str, &'a str)];

/// One job, what was sent, and what is still to be sent.
pub(crate) struct Case<'a> {
    pub(crate) kafka: &'a Kafka,
    pub(crate) clickhouse: &'a ClickHouse,
    pub(crate) job: Job,
    pub(crate) settings: Settings,
    /// The log when [`Case::counted_is_sent`] was last called.
    pub(crate) counted: Vec<Partition>,
    topics: [String; 2],
    producer: Producer,
    messages: std::vec::IntoIter<Message>,
}

impl<'a> Case<'a> {
    /// Topics `NAME.inferences` and `NAME.labels`, and tables.
    pub(crate) fn new(name: &str, services: &'a Services, seed: u64) -> Self {
        let (kafka, clickhouse) = (&services.kafka, &services.clickhouse);
        let topics = [format!("{name}.inferences"), format!("{name}.labels")];
        let settings = requests::settings();
        let job = job(name, services, &topics);
        job.create_topics(kafka, i32::try_from(PARTITIONS).expect("few"));
        let producer = new_producer(kafka, &topics);
        let messages = requests::make(seed, 8000, PARTITIONS, 8).into_iter();
        let counted = vec![Partition::default(); PARTITIONS];
        let mut case =
            Self { kafka, clickhouse, job, settings, counted, topics, producer, messages };
        case.job.run(&["init"], 0, DEADLINE);
        case
    }

    pub(crate) fn send(&mut self, count: usize) {
        for message in self.messages.by_ref().take(count) {
            self.producer.send(message);
        }
        self.producer.flush();
    }

    /// All that was sent is in the tables, and the instance has ended.
    fn process(&mut self) {
        self.job.run(&["run", "--until-end"], 0, DEADLINE);
        self.must_equal();
    }

    /// One that has written all that was sent.
    pub(crate) fn running(&mut self) -> Instance {
        let instance = self.job.start(&["run"]);
        self.wait_for_all(&instance);
        instance.wait_for_readiness(200, "", DEADLINE);
        instance
    }

    /// All that was sent is counted, and nothing that the instance has read is still to be written.
    pub(crate) fn wait_for_all(&self, instance: &Instance) {
        self.job.wait_for_records(self.clickhouse, self.sent(), DEADLINE);
        instance.wait_for_two_flushes(DEADLINE);
    }

    fn must_equal(&self) {
        let expected = oracle::compute(&self.settings, &self.producer.logs);
        self.job.must_equal(self.clickhouse, &expected);
    }

    /// Every row of the job. Not those that others supersede: the server drops them when it likes.
    pub(crate) fn contents(&self) -> String {
        let of = |table: TableSpec| {
            let (database, job, name) = (&self.job.database, &self.job.name, table.name);
            // Where no row supersedes another, the server refuses the word.
            let newest = table.version.map_or("", |_| " FINAL");
            self.clickhouse.query(&format!(
                "SELECT * FROM {database}.{name}{newest} WHERE job = '{job}' ORDER BY ALL"
            ))
        };
        let of_records = tables().into_iter();
        let of_records = of_records.filter(|table| !NOT_OF_RECORDS.contains(&table.name));
        of_records.map(of).collect::<Vec<_>>().join("\n")
    }

    /// A start that is refused, without touching a row.
    pub(crate) fn refuses(&mut self, environment: &[(&str, &str)], code: &str, words: &[&str]) {
        let before = self.contents();
        let log = self.job.run_with(&["run"], environment, 3, DEADLINE);
        must_say(&log, code, words);
        self.must_be(&before, code);
    }

    /// Panics with the first lines that differ.
    fn must_be(&self, before: &str, code: &str) {
        let after = self.contents();
        let known: BTreeSet<&str> = before.lines().collect();
        let new: Vec<&str> = after.lines().filter(|line| !known.contains(line)).take(5).collect();
        assert!(after == before, "rows were written before {code}, such as\n{}", new.join("\n"));
    }

    /// The instance ends by itself, and since `before` no row was touched.
    pub(crate) fn ends(&self, mut instance: Instance, before: &str, code: &str, words: &[&str]) {
        let ended = instance.wait(&format!("the end with {code}"), DEADLINE);
        let log = instance.log_text();
        assert_eq!(ended, Some(3), "{log}");
        must_say(&log, code, words);
        self.must_be(before, &format!("{code}\n{log}"));
    }

    pub(crate) fn add_partitions(&self, topic: usize, count: usize) {
        let name = &*self.topics[topic];
        let wanted = [NewPartitions::new(name, count)];
        let made = block_on(self.kafka.admin().create_partitions(&wanted, &AdminOptions::new()));
        made.expect("the broker answers").remove(0).expect("more than before");
        self.wait_for_partitions(topic, count);
    }

    fn wait_for_partitions(&self, topic: usize, count: usize) {
        let name = &*self.topics[topic];
        wait_until(&format!("{count} partitions of {name}"), DEADLINE, || {
            let admin = self.kafka.admin();
            let metadata = admin.inner().fetch_metadata(Some(name), DEADLINE);
            metadata.is_ok_and(|metadata| {
                let partitions = metadata.topics()[0].partitions();
                partitions.len() == count && partitions.iter().all(|it| it.leader() >= 0)
            })
        });
    }

    pub(crate) fn delete_topic(&self, topic: usize) {
        self.kafka.delete_topic(&self.topics[topic]);
        self.wait_for_partitions(topic, 0);
    }

    /// As it was, and empty.
    pub(crate) fn create_topic(&self, topic: usize) {
        let partitions = i32::try_from(PARTITIONS).expect("few");
        self.kafka.create_topic(&self.topics[topic], partitions, &[("retention.ms", "-1")]);
    }

    /// Who stamps the records of both topics from now on: `CreateTime` or `LogAppendTime`.
    fn stamp_by(&self, kind: &str) {
        let (admin, options) = (self.kafka.admin(), AdminOptions::new());
        let topics = self.topics.each_ref().map(|topic| ResourceSpecifier::Topic(topic));
        // What is not named here gets its default.
        let wanted = topics.map(|topic| {
            AlterConfig::new(topic)
                .set("retention.ms", "-1")
                .set("message.timestamp.after.max.ms", "9223372036854775807")
                .set("message.timestamp.type", kind)
        });
        let altered = block_on(admin.alter_configs(&wanted, &options));
        for one in altered.expect("the broker answers") {
            one.expect("the topic is there");
        }
        wait_until(&format!("topics stamped by {kind}"), DEADLINE, || {
            let described = block_on(admin.describe_configs(&topics, &options));
            described.expect("the broker answers").into_iter().all(|topic| {
                let topic = topic.expect("the topic is there");
                let found = topic.get("message.timestamp.type");
                found.and_then(|entry| entry.value.as_deref()) == Some(kind)
            })
        });
    }

    /// Sends so many other records to these topics that every offset that was read is there again.
    pub(crate) fn fill(&self, topics: &[usize], seed: u64) {
        let producer: BaseProducer = self.kafka.client_config().create().expect("right settings");
        for message in requests::make(seed, 6000, PARTITIONS, 8) {
            let payload = message.payload.unwrap_or_default();
            let record = BaseRecord::to(&self.topics[message.topic])
                .partition(i32::try_from(message.partition).expect("few"))
                .timestamp(message.stamp)
                .key(&*message.key)
                .payload(&payload);
            if topics.contains(&message.topic) {
                producer.send(record).expect("the queue has room");
            }
        }
        producer.flush(DEADLINE).expect("the broker takes them");
    }

    /// All that was sent so far is in the tables.
    pub(crate) fn counted_is_sent(&mut self) {
        self.counted.clone_from(&self.producer.logs);
    }

    /// Records sent.
    pub(crate) fn sent(&self) -> usize {
        self.producer.logs.iter().map(|it| it.inferences.len() + it.labels.len()).sum()
    }

    /// Deletes all records but the last ones of each partition.
    pub(crate) fn delete_records(&self, left: i64) {
        let mut before = TopicPartitionList::new();
        for (partition, logs) in self.producer.logs.iter().enumerate() {
            for (topic, log) in [&logs.inferences, &logs.labels].into_iter().enumerate() {
                let number = i32::try_from(partition).expect("few");
                let end = i64::try_from(log.len()).expect("few");
                let offset = Offset::Offset((end - left).max(0));
                before.add_partition_offset(&self.topics[topic], number, offset).expect("one");
            }
        }
        let gone = block_on(self.kafka.admin().delete_records(&before, &AdminOptions::new()));
        for one in gone.expect("the broker answers").elements() {
            one.error().expect("the records were there");
        }
    }
}

fn new_producer(kafka: &Kafka, topics: &[String; 2]) -> Producer {
    Producer::new(kafka.client_config(), topics.each_ref().map(|it| &**it), PARTITIONS)
}

fn job(name: &str, services: &Services, topics: &[String; 2]) -> Job {
    let (kafka, clickhouse) = (&services.kafka, &services.clickhouse);
    let topics = topics.each_ref().map(|it| &**it);
    Job::new(name, kafka, clickhouse, topics, &requests::settings(), &sections(topics))
}

/// One code, what was seen, and one remedy.
fn must_say(log: &str, code: &str, words: &[&str]) {
    assert!(log.contains(&format!("error[{code}]: ")), "{code} is not in\n{log}");
    assert_eq!(log.matches("error[").count(), 1, "one code\n{log}");
    assert_eq!(log.matches("\n  remedy: ").count(), 1, "one remedy\n{log}");
    for word in words {
        assert!(log.contains(word), "{word} is not in\n{log}");
    }
}

#[test]
fn partitions_added_while_no_instance_runs_are_refused() {
    let services = shared();
    let mut case = Case::new("widened", &services, 21);
    case.send(2000);
    case.process();
    case.send(500);
    case.add_partitions(1, PARTITIONS + 2);
    let widened = case.topics[1].clone();
    case.refuses(&[], "partitions_unequal", &[&widened, "4 partitions", "has 6"]);
    case.add_partitions(0, PARTITIONS + 2);
    case.refuses(&[], "partitions_changed", &["'widened'", "had 4 partitions", "have 6"]);
}

#[test]
fn partitions_added_to_both_topics_of_a_running_instance_end_it() {
    let services = shared();
    let mut case = Case::new("growing", &services, 21);
    case.send(2000);
    let instance = case.running();
    case.must_equal();
    let before = case.contents();
    case.add_partitions(0, PARTITIONS + 2);
    case.add_partitions(1, PARTITIONS + 2);
    // From now on keys are elsewhere: nothing of this may be counted.
    case.send(2000);
    case.ends(instance, &before, "partitions_changed", &["partition 4"]);
}

#[test]
fn partitions_added_to_one_topic_of_a_running_instance_end_it() {
    let services = shared();
    let mut case = Case::new("lopsided", &services, 21);
    case.send(2000);
    let instance = case.running();
    let before = case.contents();
    case.add_partitions(1, PARTITIONS + 1);
    case.send(2000);
    case.ends(instance, &before, "partitions_changed", &["partition 4"]);
}

#[test]
fn records_that_go_before_a_restart_needs_them_no_more_are_refused() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let fine = [("retention.ms", "10800000"), ("retention.bytes", "1000000000")];
    let cases: [(&str, TopicSettings<'_>, &[&str]); 3] = [
        ("short", &[("retention.ms", "10799999")], &["retention.ms=10799999", "10800000"]),
        ("compacted", &[("cleanup.policy", "compact")], &["min.compaction.lag.ms=0", "10800000"]),
        (
            "both",
            &[
                ("cleanup.policy", "compact,delete"),
                ("min.compaction.lag.ms", "10800000"),
                ("retention.ms", "3600000"),
            ],
            &["retention.ms=3600000"],
        ),
    ];
    for (name, wrong, words) in cases {
        let topics = [format!("{name}.inferences"), format!("{name}.labels")];
        let mut job = job(name, &services, &topics);
        kafka.create_topic(&topics[0], 1, wrong);
        kafka.create_topic(&topics[1], 1, &fine);
        kafka.create_topic(&format!("dead.{name}"), 1, &[]);
        job.run(&["init"], 0, DEADLINE);
        let log = job.run(&["run"], 3, DEADLINE);
        must_say(&log, "retention_too_short", &[words, &[&*topics[0]]].concat());
        let bound = format!("SELECT count() FROM tidegauge.jobs WHERE job = '{name}'");
        assert_eq!(clickhouse.query(&bound), "0\n", "{name} was bound");
        // Times that the records bear say nothing about when the brokers delete them.
        let by_event = [("TIDEGAUGE__WINDOWS__PROGRESS", "event")];
        job.run_with(&["run", "--until-end"], &by_event, 0, DEADLINE);
    }
    let topics = ["kept.inferences", "kept.labels"].map(str::to_owned);
    let mut job = job("kept", &services, &topics);
    for topic in &topics {
        kafka.create_topic(topic, 1, &fine);
    }
    kafka.create_topic("dead.kept", 1, &[]);
    let log = job.run(&["run", "--until-end"], 0, DEADLINE);
    assert!(log.contains("retention.bytes is set"), "{log}");
}

#[test]
fn a_log_that_begins_behind_the_floor_is_refused() {
    let services = shared();
    let mut case = Case::new("cut", &services, 21);
    case.send(3000);
    let instance = case.running();
    case.must_equal();
    case.delete_records(1);
    // What has been read is in memory, so this one goes on.
    case.send(1000);
    case.wait_for_all(&instance);
    case.must_equal();
    // Another one would have to read it again.
    let mut second = case.job.start(&["run"]);
    assert_eq!(second.wait("the end of the second", DEADLINE), Some(3), "{}", second.log_text());
    must_say(&second.log_text(), "floor_below_log", &["cut.", "starts at offset", "restart"]);
    case.send(1000);
    case.wait_for_all(&instance);
    case.must_equal();
    instance.stop();
    case.send(500);
    case.refuses(&[], "floor_below_log", &["cut.", "starts at offset", "restart"]);
}

#[test]
fn a_topic_made_anew_under_a_running_instance_ends_it() {
    let services = shared();
    for (name, anew) in [("again-labels", &[1][..]), ("again-both", &[0, 1])] {
        let mut case = Case::new(name, &services, 21);
        case.send(2000);
        let instance = case.running();
        case.must_equal();
        let before = case.contents();
        for &topic in anew {
            case.delete_topic(topic);
        }
        let gone = case.topics[anew[0]].clone();
        let why = instance.wait_for_readiness(503, "does not exist any more", DEADLINE);
        assert!(why.contains(&gone), "{why}");
        case.must_be(&before, "the topic is back");
        for &topic in anew {
            case.create_topic(topic);
        }
        // Offsets that the instance waits for come again, with other records.
        case.fill(anew, 77);
        case.ends(instance, &before, "topic_recreated", &[&gone]);
        case.refuses(&[], "topic_recreated", &[&gone, "another job name"]);
    }
}

#[test]
fn tables_that_were_altered_are_refused() {
    let services = shared();
    let mut case = Case::new("altered", &services, 21);
    let environment = [("TIDEGAUGE__CLICKHOUSE__DATABASE", "altered")];
    case.job.database = "altered".to_owned();
    case.job.run_with(&["init"], &environment, 0, DEADLINE);
    let query = |sql: &str| services.clickhouse.query(sql);
    case.send(2000);
    case.job.run_with(&["run", "--until-end"], &environment, 0, DEADLINE);
    case.must_equal();
    case.send(500);

    query("ALTER TABLE altered.serving RENAME COLUMN latency_n TO mine");
    case.refuses(&environment, "clickhouse_schema", &["serving", "latency_n", "tidegauge init"]);
    query("ALTER TABLE altered.serving RENAME COLUMN mine TO latency_n");
    query("ALTER TABLE altered.marks MODIFY COLUMN inference_position Int32");
    case.refuses(&environment, "clickhouse_schema", &["inference_position", "Int32", "Int64"]);
    query("ALTER TABLE altered.marks MODIFY COLUMN inference_position Int64");
    for TableSpec { name: table, .. } in tables() {
        query(&format!("RENAME TABLE altered.{table} TO altered.elsewhere"));
        let log = case.job.run_with(&["run"], &environment, 3, DEADLINE);
        let missing = format!("table `altered`.`{table}` is missing");
        must_say(&log, "clickhouse_schema", &[&missing, "another job name"]);
        query(&format!("RENAME TABLE altered.elsewhere TO altered.{table}"));
    }

    // A column of somebody else is theirs.
    query("ALTER TABLE altered.serving ADD COLUMN team String DEFAULT 'risk'");
    query("ALTER TABLE altered.window_state ADD COLUMN note String");
    case.job.run_with(&["run", "--until-end"], &environment, 0, DEADLINE);
    assert_eq!(query("SELECT DISTINCT team FROM altered.serving"), "risk\n");
    query("ALTER TABLE altered.serving DROP COLUMN team");
    case.must_equal();
}

#[test]
fn the_same_name_on_other_topics_is_refused() {
    let services = shared();
    let mut case = Case::new("named", &services, 21);
    case.send(2000);
    let instance = case.running();
    for topic in ["named.others", "named.other-labels"] {
        services.kafka.create_topic(
            topic,
            i32::try_from(PARTITIONS).expect("few"),
            &[("retention.ms", "-1")],
        );
    }
    let inferences = [("TIDEGAUGE__INFERENCES__TOPIC", "named.others")];
    let labels = [("TIDEGAUGE__LABELS__TOPIC", "named.other-labels")];
    for environment in [&inferences, &labels] {
        let words = ["'named'", "'named.inferences'", environment[0].1];
        case.refuses(environment, "job_other_topics", &words);
    }
    instance.stop();
    case.refuses(&inferences, "job_other_topics", &["named.others"]);
    case.must_equal();
}

const WIDER: [(&str, &str); 1] = [("TIDEGAUGE__WINDOWS__SIZE", "10m")];
const WIDER_MS: i64 = 600_000;

#[test]
fn a_second_configuration_of_a_running_job_is_refused() {
    let services = shared();
    let mut case = Case::new("twofold", &services, 21);
    // Before anything is counted, and after. One that is held up for longer than its session lasts would count as gone.
    let session = ("TIDEGAUGE__KAFKA__PROPERTIES__SESSION_TIMEOUT_MS", "60000");
    let instance = case.job.start_with(&["run"], &[session]);
    instance.wait_for_readiness(200, "", DEADLINE);
    // The marks of partitions of which nothing was read.
    wait_until("empty marks", DEADLINE, || {
        let sql = "SELECT uniqExact(partition) FROM tidegauge.marks WHERE job = 'twofold'";
        services.clickhouse.query(sql).trim() == PARTITIONS.to_string()
    });
    instance.wait_for_two_flushes(DEADLINE);
    case.refuses(&WIDER, "job_other_configuration", &["'twofold'", "windows"]);
    case.send(2000);
    case.wait_for_all(&instance);
    case.refuses(&WIDER, "job_other_configuration", &["'twofold'", "windows"]);
    instance.stop();
    case.refuses(&WIDER, "job_other_configuration", &["'twofold'", "windows"]);
    case.must_equal();
}

#[test]
fn clocks_go_on_where_the_broker_stamps_from_now_on_and_need_a_word_where_it_does_no_more() {
    let services = shared();
    let mut case = Case::new("stamped", &services, 21);
    case.send(2000);
    case.process();
    case.stamp_by("LogAppendTime");
    let log = case.job.run(&["run", "--until-end"], 0, DEADLINE);
    assert!(log.contains("clocks go on as they began"), "{log}");
    case.must_equal();

    let mut case = Case::new("unstamped", &services, 21);
    case.stamp_by("LogAppendTime");
    case.send(500);
    case.job.run(&["run", "--until-end"], 0, DEADLINE);
    case.stamp_by("CreateTime");
    let words = ["'unstamped'", "message.timestamp.type=LogAppendTime", "clock_stamps = 1"];
    case.refuses(&[], "job_other_configuration", &words);
    let before = case.contents();
    let one_stamp = [("TIDEGAUGE__WINDOWS__CLOCK_STAMPS", "1")];
    case.job.run_with(&["run", "--until-end"], &one_stamp, 0, DEADLINE);
    case.must_be(&before, "the end of what was counted before");
}

#[test]
fn of_two_first_starts_with_two_configurations_one_writes() {
    let services = shared();
    for round in 0..3 {
        let mut case = Case::new(&format!("race-{round}"), &services, 21);
        case.send(2000);
        let mut instances = [case.job.start(&["run"]), case.job.start_with(&["run"], &WIDER)];
        let lost = wait_for("one of them to be refused", DEADLINE, || {
            (0..2).find(|&at| !instances[at].is_running())
        });
        let code = instances[lost].wait("its end", DEADLINE);
        let log = instances[lost].log_text();
        assert_eq!(code, Some(3), "{log}");
        must_say(&log, "job_other_configuration", &[&case.job.name]);
        case.wait_for_all(&instances[1 - lost]);
        assert!(instances[1 - lost].is_running(), "{}", instances[1 - lost].log_text());
        let name = &case.job.name;
        let generation = format!("SELECT max(generation) FROM tidegauge.jobs WHERE job = '{name}'");
        let generation = services.clickhouse.query(&generation);
        case.settings.generation = generation.trim().parse().expect("a number");
        if lost == 0 {
            case.settings.window = WIDER_MS;
        }
        case.must_equal();
        instances[1 - lost].signal(Signal::SIGTERM);
    }
}

#[test]
fn committed_offsets_change_nothing() {
    let services = shared();
    let mut case = Case::new("uncommitted", &services, 21);
    case.send(2000);
    case.process();
    let group = |case: &Case| {
        let consumer: BaseConsumer = case.kafka.client_config().create().expect("right settings");
        let groups = wait_for("the list of groups", DEADLINE, || {
            consumer.fetch_group_list(Some("uncommitted"), DEADLINE).ok()
        });
        groups.groups().iter().any(|it| it.state() != "Dead")
    };
    assert!(group(&case), "offsets were committed");
    // A member may still be leaving.
    wait_until("the group to be empty and deleted", DEADLINE, || {
        let admin = case.kafka.admin();
        let gone = block_on(admin.delete_groups(&["uncommitted"], &AdminOptions::new()));
        gone.is_ok_and(|mut gone| gone.remove(0).is_ok())
    });
    let before = case.contents();
    case.job.run(&["run", "--until-end"], 0, DEADLINE);
    assert!(case.contents() == before, "a run over what is counted wrote rows");
    case.send(1000);
    case.process();
}

/// On a busy machine a service may take longer to start than the program waits: then a supervisor starts it again.
fn until_ready(job: &mut Job, mut instance: Instance) -> Instance {
    wait_until("an instance to be ready", DEADLINE, || {
        if let Some(status) = instance.ended() {
            assert_eq!(status.code(), Some(1), "{}", instance.log_text());
            instance = job.start(&["run"]);
        }
        instance.get("/readyz").is_ok_and(|answer| answer.status == 200)
    });
    instance
}

#[test]
fn a_start_waits_a_while_for_services_that_are_away() {
    let (mut kafka, mut clickhouse) = (Kafka::start(), ClickHouse::start());
    let topics = ["waited.inferences", "waited.labels"].map(str::to_owned);
    let names = topics.each_ref().map(|it| &**it);
    let (settings, more) = (requests::settings(), sections(names));
    let mut job = Job::new("waited", &kafka, &clickhouse, names, &settings, &more);
    job.create_topics(&kafka, i32::try_from(PARTITIONS).expect("few"));
    job.run(&["init"], 0, DEADLINE);
    clickhouse.kill();
    let instance = job.start(&["run"]);
    instance.wait_for_readiness(503, r#""cause":"clickhouse""#, DEADLINE);
    clickhouse.start_again();
    until_ready(&mut job, instance).stop();
    kafka.kill();
    let instance = job.start(&["run"]);
    instance.wait_for_readiness(503, r#""cause":"kafka""#, DEADLINE);
    kafka.start_again();
    let instance = until_ready(&mut job, instance);
    let mut producer = new_producer(&kafka, &topics);
    for message in requests::make(5, 500, PARTITIONS, 3) {
        producer.send(message);
    }
    producer.flush();
    let total = producer.logs.iter().map(|it| it.inferences.len() + it.labels.len()).sum();
    job.wait_for_records(&clickhouse, total, DEADLINE);
    instance.stop();
    job.must_equal(&clickhouse, &oracle::compute(&requests::settings(), &producer.logs));
}
