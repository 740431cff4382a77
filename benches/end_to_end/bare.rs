//! The floor: librdkafka reads both topics, and the records are thrown away. The program's own client settings.
#![expect(unsafe_code, reason = "the client crate has no batches")]

use std::ptr;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};
use rdkafka_sys as sys;
use tidegauge::source::settings::client_config;

const BATCH: usize = 1000;
const WAIT: Duration = Duration::from_millis(100);
const ANSWER: Duration = Duration::from_secs(30);

/// `[how, brokers, inference topic, label topic, records]`; ends after so many records.
pub fn run(args: &[String]) {
    let [how, brokers, inferences, labels, records] = args else { panic!("five arguments") };
    let records: u64 = records.parse().expect("a number");
    let mut config = client_config(brokers, &[]);
    config.set("group.id", "bare").set("enable.auto.commit", "false");
    config.set("fetch.queue.backoff.ms", "10").set("fetch.max.bytes", "16777216");
    config.set("queued.min.messages", "100000").set("queued.max.messages.kbytes", "32768");
    let consumer: BaseConsumer = config.create().expect("the settings are right");
    let mut partitions = TopicPartitionList::new();
    for topic in [inferences, labels] {
        let metadata = consumer.fetch_metadata(Some(topic), ANSWER).expect("the broker answers");
        for partition in metadata.topics()[0].partitions() {
            partitions
                .add_partition_offset(topic, partition.id(), Offset::Beginning)
                .expect("the beginning is an offset");
        }
    }
    consumer.assign(&partitions).expect("the partitions are there");
    let bytes = if how == "poll" { poll(&consumer, records) } else { batch(&consumer, records) };
    assert!(bytes > 0, "records without bytes");
}

fn poll(consumer: &BaseConsumer, records: u64) -> usize {
    let (mut seen, mut bytes) = (0, 0);
    while seen < records {
        if let Some(message) = consumer.poll(WAIT) {
            let message = message.expect("the broker answers");
            bytes += message.payload().map_or(0, <[u8]>::len);
            seen += 1;
        }
    }
    bytes
}

fn batch(consumer: &BaseConsumer, records: u64) -> usize {
    let (mut seen, mut bytes) = (0, 0);
    let mut messages: Vec<*mut sys::rd_kafka_message_t> = vec![ptr::null_mut(); BATCH];
    // SAFETY: the client lives until the end of this function, and the queue is given back before.
    let queue = unsafe { sys::rd_kafka_queue_get_consumer(consumer.client().native_ptr()) };
    let wait = i32::try_from(WAIT.as_millis()).expect("a short wait");
    while seen < records {
        // SAFETY: there is room for so many pointers.
        let count =
            unsafe { sys::rd_kafka_consume_batch_queue(queue, wait, messages.as_mut_ptr(), BATCH) };
        let count = usize::try_from(count).expect("the broker answers");
        for &message in &messages[..count] {
            // SAFETY: librdkafka has given it to us; it is destroyed once.
            unsafe {
                bytes += (*message).len;
                sys::rd_kafka_message_destroy(message);
            }
        }
        seen += u64::try_from(count).expect("a count");
    }
    // SAFETY: it is ours.
    unsafe { sys::rd_kafka_queue_destroy(queue) };
    bytes
}
