//! Topics that are written in transactions: what is aborted never happened, and what is still open is not waited for.

use std::ops::Range;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer as _};
use rdkafka::{Offset, TopicPartitionList};

use crate::support::job::{Job, sections};
use crate::support::log::json_payload;
use crate::support::oracle::{self, Body, Given, Inference, Label, Partition, Record};
use crate::support::services::{ClickHouse, Kafka, Services, shared};
use crate::support::{requests, wait_until};

const DEADLINE: Duration = Duration::from_secs(300);
const JOB: &str = "transactional";
const TOPICS: [&str; 2] = ["transactional.inferences", "transactional.labels"];
/// Longer than a run takes: the broker aborts what is open for longer.
const OPEN_AT_MOST_MS: &str = "600000";
/// 2026-01-05 00:00 UTC.
const FIRST_MS: i64 = 1_767_571_200_000;
const STEP_MS: i64 = 1000;

/// Writes as many records to both topics, of one partition each, in one transaction after the other.
struct Writer<'a> {
    kafka: &'a Kafka,
    client: BaseProducer,
    /// The next offset of either topic. The end of a transaction takes one too.
    next: i64,
}

impl<'a> Writer<'a> {
    fn new(kafka: &'a Kafka) -> Self {
        let mut config = kafka.client_config();
        config.set("transactional.id", JOB).set("transaction.timeout.ms", OPEN_AT_MOST_MS);
        let client: BaseProducer = config.create().expect("the settings are right");
        client.init_transactions(DEADLINE).expect("the broker knows transactions");
        Self { kafka, client, next: 0 }
    }

    /// Begins a transaction with these requests; gives what it holds once the broker has all of it.
    fn write(&mut self, model: &str, numbers: Range<i64>, is_positive: bool) -> Partition {
        self.client.begin_transaction().expect("none is open");
        let mut logs = Partition::default();
        for number in numbers {
            let (id, time) = (format!("request-{number}"), FIRST_MS + self.next * STEP_MS);
            let value = Given::Number(f64::from(u8::from(is_positive)));
            let label = Label { id: id.clone(), model: None, time, value, weight: 1.0 };
            let (model, score) = (model.to_owned(), Some(0.75));
            let inference = Inference { id, model, time, score, ..Inference::default() };
            logs.inferences.push(self.send(0, time, Body::Inference(inference)));
            logs.labels.push(self.send(1, time, Body::Label(label)));
            self.next += 1;
        }
        self.client.flush(DEADLINE).expect("the broker takes them");
        logs
    }

    fn send(&self, topic: usize, stamp: i64, body: Body) -> Record {
        let payload = json_payload(&body);
        let record = BaseRecord::to(TOPICS[topic]).partition(0).key("key").payload(&payload);
        let sent = self.client.send(record.timestamp(stamp));
        sent.map_err(|(error, _)| error).expect("the queue has room");
        Record { offset: self.next, stamp, body }
    }

    fn commit(&mut self) {
        self.client.commit_transaction(DEADLINE).expect("it can be committed");
        self.has_ended();
    }

    fn abort(&mut self) {
        self.client.abort_transaction(DEADLINE).expect("it can be aborted");
        self.has_ended();
    }

    /// The coordinator answers before the partitions have its marker.
    fn has_ended(&mut self) {
        self.next += 1;
        let client: BaseConsumer = self.kafka.client_config().create().expect("right settings");
        wait_until("the end of a transaction in both topics", DEADLINE, || {
            let end = |topic: &str| client.fetch_watermarks(topic, 0, DEADLINE).map(|it| it.1);
            TOPICS.into_iter().all(|topic| end(topic).is_ok_and(|end| end == self.next))
        });
    }
}

/// What the group's offsets say, of either topic.
fn committed(kafka: &Kafka) -> [i64; 2] {
    let mut config = kafka.client_config();
    let client: BaseConsumer = config.set("group.id", JOB).create().expect("right settings");
    let mut asked = TopicPartitionList::new();
    for topic in TOPICS {
        asked.add_partition(topic, 0);
    }
    let found = client.committed_offsets(asked, DEADLINE).expect("the broker answers");
    TOPICS.map(|topic| match found.find_partition(topic, 0).expect("asked for").offset() {
        Offset::Offset(offset) => offset,
        other => panic!("{topic}: {other:?}"),
    })
}

/// A run to the end, after which the tables hold these logs and nothing else, and the offsets stand behind the last
/// record that can be read. (Not behind what ends a transaction: only records move a mark.)
fn must_read(job: &mut Job, kafka: &Kafka, clickhouse: &ClickHouse, logs: &Partition) {
    job.run(&["run", "--until-end"], 0, DEADLINE);
    let expected = oracle::compute(&requests::settings(), std::slice::from_ref(logs));
    job.must_equal(clickhouse, &expected);
    assert_eq!(job.records_counted(clickhouse), logs.inferences.len() + logs.labels.len());
    assert_eq!(committed(kafka), expected.partitions[0].positions);
}

#[test]
fn aborted_transactions_never_happened_and_an_open_one_is_not_waited_for() {
    let services = shared();
    let Services { kafka, clickhouse } = &*services;
    let more = sections(TOPICS);
    let mut job = Job::new(JOB, kafka, clickhouse, TOPICS, &requests::settings(), &more);
    job.create_topics(kafka, 1);
    job.run(&["init"], 0, DEADLINE);
    let mut writer = Writer::new(kafka);
    let mut logs = writer.write("fraud-cards", 0..100, true);
    writer.commit();
    // Another model's inferences of half of these requests, and labels that would correct theirs.
    writer.write("aborted", 0..50, false);
    writer.abort();
    assert_eq!(writer.next, 152, "both logs end with the end of a transaction");
    must_read(&mut job, kafka, clickhouse, &logs);
    // Nothing is left to read but what can't be.
    must_read(&mut job, kafka, clickhouse, &logs);

    let open = writer.write("fraud-cards", 100..120, false);
    must_read(&mut job, kafka, clickhouse, &logs);
    writer.commit();
    logs.inferences.extend(open.inferences);
    logs.labels.extend(open.labels);
    must_read(&mut job, kafka, clickhouse, &logs);
    let counts = clickhouse.query(&format!(
        "SELECT model, sum(inferences), sum(labelled), sum(label_corrections) FROM tidegauge.labels FINAL \
         WHERE job = '{JOB}' AND grain = '1d' AND segment = 'all' GROUP BY model"
    ));
    assert_eq!(counts, "fraud-cards\t120\t120\t0\n");
}
