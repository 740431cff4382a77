//! The Kafka source against librdkafka's own broker in process: what is delivered, to whom, from where, until when.
#![expect(clippy::unwrap_used, reason = "helpers of tests")]

mod errors;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use rdkafka::{Offset as ListedOffset, TopicPartitionList};
use tidegauge::engine::event::{PartitionId, Positions, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::source::kafka::{
    KafkaHealth, KafkaSettings, KafkaSource, Opened, Start, Topics, client_config, inspect, open,
};
use tidegauge::source::{Commits, Source, SourceError, SourceEvent, StartAt, Take};

const PARTITIONS: i32 = 4;
const DEADLINE: Duration = Duration::from_secs(180);
const TOPICS: [&str; 2] = ["in", "la"];

type Cluster = MockCluster<'static, DefaultProducerContext>;
/// Where each partition stands: what marks are to the real program.
type Marks = BTreeMap<PartitionId, Positions>;

/// One delivered record.
#[derive(Clone, Debug, PartialEq)]
struct Seen {
    instance: usize,
    worker: usize,
    stream: Stream,
    partition: i32,
    offset: i64,
}

#[expect(clippy::disallowed_methods, reason = "a test's deadline")]
fn now() -> Instant {
    Instant::now()
}

fn cluster() -> Cluster {
    let cluster = MockCluster::new(1).unwrap();
    for topic in TOPICS {
        cluster.create_topic(topic, PARTITIONS, 1).unwrap();
    }
    cluster
}

fn settings(cluster: &Cluster) -> KafkaSettings {
    KafkaSettings {
        brokers: cluster.bootstrap_servers(),
        properties: vec![("session.timeout.ms".to_owned(), "6000".to_owned())],
        group: "job".to_owned(),
        inferences: TOPICS[0].to_owned(),
        labels: Some(TOPICS[1].to_owned()),
        workers: 2,
        start: Start::Earliest,
        until_end: false,
        drain_budget: Duration::from_secs(5),
    }
}

/// Appends so many records to every partition of these topics; each says its own place.
fn produce(cluster: &Cluster, streams: &[Stream], offsets: std::ops::Range<i64>) {
    let producer: BaseProducer =
        client_config(&cluster.bootstrap_servers(), &[]).set("linger.ms", "1").create().unwrap();
    for offset in offsets {
        for partition in 0..PARTITIONS {
            for stream in streams {
                let payload = format!("{partition}:{offset}");
                let record = BaseRecord::to(TOPICS[stream.index()])
                    .partition(partition)
                    .timestamp(1000 + offset)
                    .key("key")
                    .payload(payload.as_bytes());
                producer.send(record).map_err(|(error, _)| error).unwrap();
            }
        }
        producer.poll(Duration::ZERO);
    }
    producer.flush(DEADLINE).unwrap();
}

/// Instances that share marks, stepped by one thread.
struct Group {
    instances: Vec<Option<Opened>>,
    marks: Marks,
    /// Where it is further than the mark.
    counted: Marks,
    seen: Vec<Seen>,
    ended: Vec<(Stream, i32)>,
    assigned: usize,
    revoked: usize,
    lost: usize,
    take: Take,
    answer: bool,
    held: Vec<tidegauge::source::Reply>,
}

impl Group {
    fn new() -> Self {
        Self {
            instances: Vec::new(),
            marks: Marks::new(),
            counted: Marks::new(),
            seen: Vec::new(),
            ended: Vec::new(),
            assigned: 0,
            revoked: 0,
            lost: 0,
            take: Take::Both,
            answer: true,
            held: Vec::new(),
        }
    }

    fn join(&mut self, settings: &KafkaSettings) {
        let topics = inspect(settings).unwrap();
        assert_eq!(topics.partitions, PARTITIONS);
        self.instances.push(Some(open(settings, &topics).unwrap()));
    }

    fn health(&self, instance: usize) -> KafkaHealth {
        self.instances[instance].as_ref().unwrap().health.clone()
    }

    /// Steps all sources until the condition holds.
    fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let deadline = now() + DEADLINE;
        while !done(self) {
            assert!(now() < deadline, "no {what}; {} records seen", self.seen.len());
            self.step().unwrap();
        }
    }

    fn step(&mut self) -> Result<(), SourceError> {
        let mut instances = std::mem::take(&mut self.instances);
        let mut result = Ok(());
        for (instance, opened) in instances.iter_mut().enumerate() {
            for (worker, source) in
                opened.iter_mut().flat_map(|opened| &mut opened.sources).enumerate()
            {
                result = result.and_then(|()| self.step_one(instance, worker, source));
            }
        }
        self.instances = instances;
        result
    }

    fn step_one(
        &mut self,
        instance: usize,
        worker: usize,
        source: &mut KafkaSource,
    ) -> Result<(), SourceError> {
        match source.poll(self.take, Duration::from_millis(5))? {
            SourceEvent::Records(records) => {
                for record in records.records {
                    let text = format!("{}:{}", record.partition.0, record.offset.0);
                    assert_eq!(record.payload, Some(text.as_bytes()));
                    assert_eq!(record.key, Some(b"key".as_slice()));
                    assert_eq!(record.time.0, 1000 + record.offset.0);
                    let mark = self.marks.entry(record.partition).or_default();
                    mark.set(record.stream, record.offset.0 + 1);
                    self.seen.push(Seen {
                        instance,
                        worker,
                        stream: record.stream,
                        partition: record.partition.0,
                        offset: record.offset.0,
                    });
                }
            }
            SourceEvent::Assigned(partitions) => {
                self.assigned += 1;
                let mut starts = Vec::new();
                for partition in partitions {
                    let from = match self.marks.get(&partition) {
                        Some(&mark) => vec![(partition, mark)],
                        None => source.beginning(&[partition])?,
                    };
                    starts.extend(from.into_iter().map(|(partition, from)| {
                        let counted = self.counted.get(&partition).copied().unwrap_or(from);
                        StartAt { partition, from, counted }
                    }));
                }
                source.start(&starts)?;
            }
            SourceEvent::Revoked(_, reply) => {
                self.revoked += 1;
                if !self.answer {
                    self.held.push(reply);
                }
            }
            SourceEvent::Lost(_) => self.lost += 1,
            SourceEvent::Ended(stream, partition, _) => self.ended.push((stream, partition.0)),
            SourceEvent::Quiet => {}
        }
        Ok(())
    }

    fn offsets(&self, stream: Stream, partition: i32) -> Vec<i64> {
        let of = |seen: &&Seen| seen.stream == stream && seen.partition == partition;
        self.seen.iter().filter(of).map(|seen| seen.offset).collect()
    }

    /// Every partition of these topics was delivered from and to these offsets, in order, each record once.
    fn assert_delivered(&self, streams: &[Stream], from: i64, to: i64) {
        for &stream in streams {
            for partition in 0..PARTITIONS {
                let offsets = self.offsets(stream, partition);
                assert_eq!(offsets, (from..to).collect::<Vec<_>>(), "{stream:?} {partition}");
            }
        }
    }
}

fn all(count: i64) -> usize {
    usize::try_from(count).unwrap() * usize::try_from(PARTITIONS).unwrap() * 2
}

#[test]
fn bounded_source_delivers_each_record_once_and_ends() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..500);
    let mut group = Group::new();
    group.join(&KafkaSettings { until_end: true, ..settings(&cluster) });
    produce(&cluster, &Stream::BOTH, 500..600); // after the end was taken: not delivered
    group.until("ends", |group| group.ended.len() == 8);
    group.assert_delivered(&Stream::BOTH, 0, 500);
    assert!(
        group.seen.iter().all(|seen| i32::try_from(seen.worker).unwrap() == seen.partition % 2)
    );
    group.ended.sort_unstable();
    let each = Stream::BOTH.map(|stream| (0..PARTITIONS).map(move |partition| (stream, partition)));
    assert_eq!(group.ended, each.into_iter().flatten().collect::<Vec<_>>());
}

#[test]
fn empty_topics_end_at_once() {
    let cluster = cluster();
    let mut group = Group::new();
    group.join(&KafkaSettings { until_end: true, ..settings(&cluster) });
    group.until("ends", |group| group.ended.len() == 8);
    assert_eq!(group.seen, []);
}

#[test]
fn reading_begins_at_the_given_offsets() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..300);
    let mut group = Group::new();
    let begin = Positions { inferences: 100, labels: 250 };
    group.marks = (0..PARTITIONS).map(|partition| (PartitionId(partition), begin)).collect();
    group.join(&settings(&cluster));
    group.until("records", |group| group.seen.len() == 4 * (200 + 50));
    group.assert_delivered(&[Stream::Inferences], 100, 300);
    group.assert_delivered(&[Stream::Labels], 250, 300);
}

#[test]
fn latest_begins_behind_what_is_there() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..100);
    let mut group = Group::new();
    group.join(&KafkaSettings { start: Start::Latest, ..settings(&cluster) });
    let health = group.health(0);
    // Not with the assignment: a broker that takes long to say it is asked again.
    group.until("where all begin", |_| health.lags().len() == 8);
    produce(&cluster, &Stream::BOTH, 100..110);
    group.until("records", |group| group.seen.len() >= all(10));
    group.assert_delivered(&Stream::BOTH, 100, 110);
}

#[test]
fn member_that_joins_and_leaves_neither_loses_nor_repeats_a_record() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..1000);
    let mut group = Group::new();
    group.join(&settings(&cluster));
    group.until("first records", |group| group.seen.len() > 1000);
    group.join(&settings(&cluster));
    group.until("revocation", |group| group.revoked >= 2);
    produce(&cluster, &Stream::BOTH, 1000..2000);
    group.until("records of both", |group| group.seen.iter().any(|seen| seen.instance == 1));
    produce(&cluster, &Stream::BOTH, 2000..2500);
    group.until("some more", |group| group.seen.len() > all(2000));
    group.instances[1] = None; // leaves without a revocation's answer: it is gone
    produce(&cluster, &Stream::BOTH, 2500..3000);
    group.until("all records", |group| group.seen.len() >= all(3000));
    group.assert_delivered(&Stream::BOTH, 0, 3000);
    assert_eq!(group.lost, 0);
}

#[test]
fn revocation_that_is_not_answered_ends_as_a_loss() {
    let cluster = cluster();
    let mut group = Group::new();
    group.answer = false;
    let settings = KafkaSettings { drain_budget: Duration::from_millis(200), ..settings(&cluster) };
    group.join(&settings);
    group.until("assignment", |group| group.assigned == 2);
    group.join(&settings);
    group.until("losses", |group| group.lost == 2);
    assert_eq!(group.revoked, 2);
}

#[test]
fn topic_that_is_not_taken_stays_unread() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..200);
    let mut group = Group::new();
    group.take = Take::Nothing;
    group.join(&settings(&cluster));
    group.until("assignment", |group| group.assigned == 2);
    group.take = Take::Only(Stream::Labels);
    group.until("labels", |group| group.seen.len() == all(200) / 2);
    for _ in 0..20 {
        group.step().unwrap();
    }
    group.assert_delivered(&[Stream::Labels], 0, 200);
    assert_eq!(group.offsets(Stream::Inferences, 0), Vec::<i64>::new());
    group.take = Take::Both;
    group.until("the rest", |group| group.seen.len() == all(200));
    group.assert_delivered(&Stream::BOTH, 0, 200);
}

#[test]
fn commits_are_seen_by_lag_tools() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..10);
    let mut group = Group::new();
    group.join(&settings(&cluster));
    group.until("records", |group| group.seen.len() == all(10));
    let mark =
        |partition| Mark::start(PartitionId(partition), Positions { inferences: 7, labels: 9 }, 8);
    let marks: Vec<Mark> = (0..PARTITIONS).map(mark).collect();
    group.instances[0].as_ref().unwrap().commits.commit(&marks).unwrap();
    let properties = [("group.id".to_owned(), "job".to_owned())];
    let reader: BaseConsumer =
        client_config(&cluster.bootstrap_servers(), &properties).create().unwrap();
    let committed = |topic: &str, partition| {
        let mut list = TopicPartitionList::new();
        list.add_partition(topic, partition);
        let list = reader.committed_offsets(list, DEADLINE).unwrap();
        list.elements()[0].offset()
    };
    group.until("commit", |_| committed("la", PARTITIONS - 1) == ListedOffset::Offset(9));
    for partition in 0..PARTITIONS {
        assert_eq!(committed("in", partition), ListedOffset::Offset(7));
        assert_eq!(committed("la", partition), ListedOffset::Offset(9));
    }
}

/// Whether this process runs one test alone; if not, one that does has passed. A broker that is put down listens anew on
/// its port at once, which aborts all tests where a process that another one just starts still has the old listener.
fn is_alone(test: &str) -> bool {
    if std::env::args().any(|argument| argument == "--exact") {
        return true;
    }
    let itself = std::env::current_exe().unwrap();
    let ended = std::process::Command::new(itself).args(["--exact", test]).output().unwrap();
    let [said, wrong] = [ended.stdout, ended.stderr].map(|it| String::from_utf8(it).unwrap());
    assert!(ended.status.success() && said.contains(" 1 passed;"), "{said}{wrong}");
    false
}

#[test]
fn outage_is_waited_out_and_reported() {
    if !is_alone("source::outage_is_waited_out_and_reported") {
        return;
    }
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..50);
    let mut group = Group::new();
    group.join(&settings(&cluster));
    let health = group.health(0);
    group.until("records", |group| group.seen.len() == all(50));
    cluster.broker_down(1).unwrap();
    group.until("outage", |_| health.outage().is_some());
    cluster.broker_up(1).unwrap();
    produce(&cluster, &Stream::BOTH, 50..100);
    group.until("records after it", |group| group.seen.len() >= all(100));
    group.until("recovery", |_| health.outage().is_none());
    group.assert_delivered(&Stream::BOTH, 0, 100);
}

#[test]
fn lag_is_known() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..20);
    let mut group = Group::new();
    group.take = Take::Only(Stream::Inferences);
    let mut settings = settings(&cluster);
    settings.properties.push(("statistics.interval.ms".to_owned(), "200".to_owned()));
    group.join(&settings);
    let health = group.health(0);
    let lag_of = |stream| {
        let lags = health.lags();
        lags.iter().filter(|(of, _, _)| *of == stream).map(|(_, _, lag)| lag).sum::<i64>()
    };
    group.until("inferences", |group| group.seen.len() == all(20) / 2);
    group.until("lag", |_| lag_of(Stream::Inferences) == 0 && lag_of(Stream::Labels) == 80);
    assert_eq!(health.lags().len(), 8);
}

#[test]
fn position_behind_the_log_is_refused() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..10);
    let mut group = Group::new();
    group.marks = [(PartitionId(2), Positions { inferences: 11, labels: 0 })].into();
    group.join(&settings(&cluster));
    let error = error_of(&mut group);
    assert_eq!(
        error.to_string(),
        "topic in partition 2 ends at offset 10, but was read up to offset 11 before"
    );
}

/// A start reads from the floor, which a log that has lost its tail may still hold.
#[test]
fn a_log_that_ends_before_what_has_counted_is_refused() {
    let cluster = cluster();
    produce(&cluster, &Stream::BOTH, 0..10);
    let mut group = Group::new();
    group.marks = [(PartitionId(2), Positions { inferences: 5, labels: 0 })].into();
    group.counted = [(PartitionId(2), Positions { inferences: 9, labels: 11 })].into();
    group.join(&settings(&cluster));
    let error = error_of(&mut group);
    assert_eq!(
        error.to_string(),
        "topic la partition 2 ends at offset 10, but was read up to offset 11 before"
    );
}

/// One partition whose first records the broker has dropped (it keeps 5 MiB); marks say that they must be read.
fn log_without_its_beginning() -> (Cluster, Group) {
    let cluster = cluster();
    let producer: BaseProducer =
        client_config(&cluster.bootstrap_servers(), &[]).set("linger.ms", "0").create().unwrap();
    for _ in 0..8 {
        let payload = vec![b'x'; 900_000];
        let record = BaseRecord::<[u8], [u8]>::to("in").partition(0).payload(&payload);
        producer.send(record).map_err(|(error, _)| error).unwrap();
        producer.flush(DEADLINE).unwrap();
    }
    let mut group = Group::new();
    group.marks = (0..PARTITIONS).map(|part| (PartitionId(part), Positions::default())).collect();
    (cluster, group)
}

fn error_of(group: &mut Group) -> SourceError {
    let deadline = now() + DEADLINE;
    loop {
        assert!(now() < deadline, "no error");
        if let Err(error) = group.step() {
            return error;
        }
    }
}

#[test]
fn floor_that_the_log_has_lost_is_refused() {
    let (cluster, mut group) = log_without_its_beginning();
    group.join(&settings(&cluster));
    let error = error_of(&mut group);
    assert_eq!(error.code(), "floor_below_log", "{error}");
}

#[test]
fn floor_that_the_log_has_lost_is_refused_while_reading() {
    let (cluster, mut group) = log_without_its_beginning();
    group.join(&settings(&cluster));
    let refusal = RDKafkaRespErr::RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED;
    cluster.request_errors(RDKafkaApiKey::ListOffsets, &[refusal; 2]); // each worker's check at the start
    let error = error_of(&mut group);
    assert_eq!(error.code(), "floor_below_log", "{error}");
}

#[test]
fn topics_that_grow_are_refused() {
    let cluster = cluster();
    let settings = settings(&cluster);
    let topics = inspect(&settings).unwrap();
    let fewer = Topics { partitions: PARTITIONS - 1, ..topics };
    let mut group = Group::new();
    group.instances.push(Some(open(&settings, &fewer).unwrap()));
    assert_eq!(error_of(&mut group).code(), "partitions_changed");
}

#[test]
fn leaving_during_an_outage_takes_bounded_time() {
    let cluster = cluster();
    let mut group = Group::new();
    group.join(&settings(&cluster));
    group.until("assignment", |group| group.assigned == 2);
    drop(cluster);
    let begin = now();
    group.instances.clear();
    assert!(now() - begin < Duration::from_secs(15));
}

#[test]
fn topics_are_inspected() {
    let cluster = cluster();
    let good = settings(&cluster);
    let topics = inspect(&good).unwrap();
    assert_eq!((topics.inferences.name.as_str(), topics.partitions), ("in", PARTITIONS));
    assert_ne!(topics.inferences.id, topics.labels.unwrap().id);
    assert!(!topics.cluster.is_empty());
    let alone = inspect(&KafkaSettings { labels: None, ..good.clone() }).unwrap();
    assert_eq!(alone.labels, None);

    let missing = inspect(&KafkaSettings { labels: Some("nothing".to_owned()), ..good.clone() });
    assert_eq!(missing.unwrap_err().code(), "topic_missing");
    cluster.create_topic("wide", PARTITIONS + 1, 1).unwrap();
    let unequal = inspect(&KafkaSettings { labels: Some("wide".to_owned()), ..good });
    assert_eq!(unequal.unwrap_err().code(), "partitions_unequal");
}

#[test]
fn unreachable_broker_is_named() {
    let cluster = cluster();
    let error = inspect(&KafkaSettings { brokers: "127.0.0.1:1".to_owned(), ..settings(&cluster) });
    let error = error.unwrap_err();
    assert_eq!(error.code(), "kafka_unreachable");
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}
