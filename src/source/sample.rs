//! The newest records of a topic, for a look before the first start. No group is joined and nothing is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset as Where, TopicPartitionList};

use super::SourceError;
use super::settings::{KafkaSettings, consumer_config, without_values};
use super::topics::quiet_client;
use crate::engine::event::{Offset, PartitionId};
use crate::engine::time::RecordTime;

/// Between two looks at the deadline.
const WAIT: Duration = Duration::from_millis(100);

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sampled {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp; none on a topic whose records bear none.
    pub time: Option<RecordTime>,
    /// Its key.
    pub key: Option<Vec<u8>>,
    /// Its value; none is a tombstone.
    pub payload: Option<Vec<u8>>,
}

/// The newest records of each partition, `most` of them together, but one of each partition at least. What has not come
/// within `patience` is left out; second is whether all has come. Waits, so not to be called on a runtime's thread.
#[expect(clippy::disallowed_methods, reason = "a deadline")]
pub fn newest(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    most: usize,
    patience: Duration,
) -> Result<(Vec<Sampled>, bool), SourceError> {
    let client_error = |error: KafkaError| SourceError::Client(without_values(&error));
    let mut config = consumer_config(settings)?;
    // The job's own group, which the user may have been granted; it is not joined.
    config.set("group.id", &settings.group).set("enable.partition.eof", "true");
    config.set("statistics.interval.ms", "0");
    let client = quiet_client(&config).map_err(client_error)?;
    let each = most.div_ceil(usize::try_from(partitions).unwrap_or(1).max(1)).max(1);
    let from = Where::OffsetTail(i64::try_from(each).unwrap_or(i64::MAX));
    let mut wanted = TopicPartitionList::new();
    for partition in 0..partitions {
        wanted.add_partition_offset(topic, partition, from).map_err(client_error)?;
    }
    client.assign(&wanted).map_err(client_error)?;
    let give_up = std::time::Instant::now() + patience;
    let mut unread: BTreeSet<i32> = (0..partitions).collect();
    let mut records = Vec::new();
    while !unread.is_empty() && std::time::Instant::now() < give_up {
        match client.poll(WAIT) {
            Some(Ok(message)) => records.push(Sampled {
                partition: PartitionId(message.partition()),
                offset: Offset(message.offset()),
                time: message.timestamp().to_millis().map(RecordTime),
                key: message.key().map(<[u8]>::to_vec),
                payload: message.payload().map(<[u8]>::to_vec),
            }),
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            // What does not heal within the deadline shows by what is missing.
            Some(Err(_)) | None => {}
        }
    }
    Ok((records, unread.is_empty()))
}
