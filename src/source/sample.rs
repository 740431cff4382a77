//! The newest records of a topic, for a look before the first start. No group is joined and nothing is committed.

use std::collections::BTreeMap;
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

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Newest {
    /// The records; those of a partition by offset.
    pub records: Vec<Sampled>,
    /// Why some are missing; none where all are there.
    pub missing: Option<String>,
}

/// The newest records of each partition, `most` of them together, but one of each partition at least: those that were
/// there at the call. Gives up after `patience`. Waits, so not to be called on a runtime's thread.
#[expect(clippy::disallowed_methods, reason = "a deadline")]
pub fn newest(
    settings: &KafkaSettings,
    topic: &str,
    partitions: i32,
    most: usize,
    patience: Duration,
) -> Result<Newest, SourceError> {
    let client_error = |error: KafkaError| SourceError::Client(without_values(&error));
    let give_up = std::time::Instant::now() + patience;
    let mut config = consumer_config(settings)?;
    // The job's own group, which the user may have been granted; it is not joined.
    config.set("group.id", &settings.group).set("enable.partition.eof", "true");
    config.set("statistics.interval.ms", "0");
    let client = quiet_client(&config).map_err(client_error)?;
    let each = most.div_ceil(usize::try_from(partitions).unwrap_or(1).max(1)).max(1);
    let each = i64::try_from(each).unwrap_or(i64::MAX);
    let (mut wanted, mut unread) = (TopicPartitionList::new(), BTreeMap::new());
    for partition in 0..partitions {
        let ends = client.fetch_watermarks(topic, partition, patience);
        let (first, end) = ends.map_err(|error| SourceError::Unreachable {
            brokers: settings.brokers.clone(),
            reason: format!("where partition {partition} of topic {topic} ends: {error}"),
        })?;
        let from = first.max(end.saturating_sub(each));
        if from < end {
            let from = Where::Offset(from);
            wanted.add_partition_offset(topic, partition, from).map_err(client_error)?;
            unread.insert(partition, end);
        }
    }
    client.assign(&wanted).map_err(client_error)?;
    let (mut newest, mut failure) = (Newest::default(), None);
    while !unread.is_empty() && std::time::Instant::now() < give_up {
        match client.poll(WAIT) {
            Some(Ok(message)) => {
                let Some(&end) = unread.get(&message.partition()) else { continue };
                if message.offset() + 1 >= end {
                    unread.remove(&message.partition());
                }
                if message.offset() < end {
                    newest.records.push(Sampled {
                        partition: PartitionId(message.partition()),
                        offset: Offset(message.offset()),
                        time: message.timestamp().to_millis().map(RecordTime),
                        key: message.key().map(<[u8]>::to_vec),
                        payload: message.payload().map(<[u8]>::to_vec),
                    });
                }
            }
            // The last offsets may hold no record.
            Some(Err(KafkaError::PartitionEOF(partition))) => {
                unread.remove(&partition);
            }
            Some(Err(error)) => failure = Some(error.to_string()),
            None => {}
        }
    }
    if !unread.is_empty() {
        let late = || format!("they did not come in {} s", patience.as_secs());
        newest.missing = Some(failure.unwrap_or_else(late));
    }
    Ok(newest)
}
