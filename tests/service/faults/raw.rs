//! What the topics really hold: a broker that is killed may take a batch of the producer twice, and the oracle's input
//! is the log itself.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::trial::TOPICS;
use crate::support::log::Message;
use crate::support::oracle::{Partition, Record};
use crate::support::services::Kafka;
use crate::support::wait_until;

const DEADLINE: Duration = Duration::from_secs(120);

/// Which record was sent with which bytes: topic, partition and digest; number of the record.
#[derive(Default)]
pub struct Sent {
    numbers: BTreeMap<(usize, usize, u64), usize>,
}

fn digest(stamp: i64, key: &[u8], payload: Option<&[u8]>) -> u64 {
    let mut bytes = stamp.to_le_bytes().to_vec();
    bytes.extend(key);
    bytes.push(u8::from(payload.is_some()));
    bytes.extend(payload.unwrap_or_default());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}

impl Sent {
    /// Remembers a message that becomes record `number` of its partition.
    pub fn note(&mut self, message: &Message, number: usize) {
        let Message { topic, partition, stamp, key, payload, .. } = message;
        let digest = digest(*stamp, key.as_bytes(), payload.as_deref());
        self.numbers.insert((*topic, *partition, digest), number);
    }

    /// The logs as the broker has them, from offset 0. Those whose beginning retention has taken must be whole
    /// otherwise, and stay as they were sent.
    pub fn read_back(&self, kafka: &Kafka, logs: &[Partition]) -> Vec<Partition> {
        let mut config = kafka.client_config();
        config.set("group.id", "raw");
        let consumer: BaseConsumer = config.create().expect("the settings are right");
        let mut found = logs.to_vec();
        let mut ends = BTreeMap::new();
        let mut all = TopicPartitionList::new();
        for (partition, log) in logs.iter().enumerate() {
            let number = i32::try_from(partition).expect("few");
            for (topic, log) in [&log.inferences, &log.labels].into_iter().enumerate() {
                let marks = consumer.fetch_watermarks(TOPICS[topic], number, DEADLINE);
                let (low, end) = marks.expect("the broker answers");
                if low > 0 {
                    assert_eq!(end, i64::try_from(log.len()).expect("few"), "one offset each");
                    continue;
                }
                of(&mut found[partition], topic).clear();
                ends.insert((topic, partition), usize::try_from(end).expect("an offset"));
                let from = Offset::Beginning;
                all.add_partition_offset(TOPICS[topic], number, from).expect("a partition");
            }
        }
        consumer.assign(&all).expect("it can be assigned");
        wait_until("the whole log to be read back", DEADLINE, || {
            while let Some(message) = consumer.poll(Duration::from_millis(200)) {
                // What happens to a connection passes, or the deadline comes.
                let Ok(message) = message else { break };
                let topic =
                    TOPICS.iter().position(|it| *it == message.topic()).expect("one of two");
                let partition = usize::try_from(message.partition()).expect("a partition");
                let stamp = message.timestamp().to_millis().expect("a timestamp");
                let digest = digest(stamp, message.key().unwrap_or_default(), message.payload());
                let number = self.numbers.get(&(topic, partition, digest));
                let sent = number.map(|number| match topic {
                    0 => &logs[partition].inferences[*number],
                    _ => &logs[partition].labels[*number],
                });
                let body = sent.expect("only what was sent is in the topics").body.clone();
                let offset = message.offset();
                of(&mut found[partition], topic).push(Record { offset, stamp, body });
            }
            ends.iter().all(|(&(topic, partition), &end)| {
                let log = &found[partition];
                end == if topic == 0 { log.inferences.len() } else { log.labels.len() }
            })
        });
        found
    }
}

fn of(partition: &mut Partition, topic: usize) -> &mut Vec<Record> {
    if topic == 0 { &mut partition.inferences } else { &mut partition.labels }
}
