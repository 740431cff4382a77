//! A bounded range of a topic, read once, one partition after the other, so that every reading has the same order. No
//! group is joined and nothing is committed.

use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset as Where, TopicPartitionList};

use super::SourceError;
use super::settings::{KafkaSettings, consumer_config, without_values};
use super::topics::{Client, quiet_client};
use crate::engine::event::{Offset, PartitionId};
use crate::engine::time::RecordTime;

/// How long brokers may take for an answer, and how long no record may come.
const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at the deadline.
const WAIT: Duration = Duration::from_millis(100);

/// An end of a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// The record of this offset, in each partition.
    Offset(Offset),
    /// The first record of each partition whose Kafka timestamp is this or later.
    Time(RecordTime),
}

/// One record of the range.
#[derive(Clone, Copy, Debug)]
pub struct Ranged<'a> {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its value; none is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// What is to be read of one topic: of each partition the offsets from the first up to, but without, the second.
pub struct TopicRange {
    client: Client,
    brokers: String,
    topic: String,
    parts: Vec<(i32, i64, i64)>,
}

impl TopicRange {
    /// Finds the offsets: from `from`, else the first record, up to but without `to`, else the end that the topic has
    /// now. Waits, so not to be called on a runtime's thread.
    pub fn find(
        settings: &KafkaSettings,
        topic: &str,
        partitions: i32,
        (from, to): (Option<Bound>, Option<Bound>),
    ) -> Result<Self, SourceError> {
        let mut config = consumer_config(settings)?;
        // The job's own group, which the user may have been granted; it is not joined.
        config.set("group.id", &settings.group).set("enable.partition.eof", "true");
        config.set("statistics.interval.ms", "0");
        let client =
            quiet_client(&config).map_err(|error| SourceError::Client(without_values(&error)))?;
        let (brokers, topic) = (settings.brokers.clone(), topic.to_owned());
        let mut range = Self { client, brokers, topic, parts: Vec::new() };
        for partition in 0..partitions {
            let ends = range.client.fetch_watermarks(&range.topic, partition, PATIENCE);
            let what = || format!("where partition {partition} of topic {} ends", range.topic);
            let (first, end) = ends.map_err(|error| range.unreachable(&what(), &error))?;
            let from = range.offset(partition, from, end)?.unwrap_or(first).max(first);
            let to = range.offset(partition, to, end)?.unwrap_or(end).min(end);
            range.parts.push((partition, from, to.max(from)));
        }
        Ok(range)
    }

    /// The offset of a bound in a partition, `end` where there is no such record yet; none without a bound.
    fn offset(
        &self,
        partition: i32,
        bound: Option<Bound>,
        end: i64,
    ) -> Result<Option<i64>, SourceError> {
        let time = match bound {
            None => return Ok(None),
            Some(Bound::Offset(offset)) => return Ok(Some(offset.0)),
            Some(Bound::Time(time)) => time,
        };
        let mut asked = TopicPartitionList::new();
        let what = format!("which record of topic {} comes at that time", self.topic);
        let found = asked
            .add_partition_offset(&self.topic, partition, Where::Offset(time.0.max(0)))
            .and_then(|()| self.client.offsets_for_times(asked, PATIENCE))
            .map_err(|error| self.unreachable(&what, &error))?;
        let element = found.find_partition(&self.topic, partition);
        let element = element.expect("the partition that was asked for");
        element.error().map_err(|error| self.unreachable(&what, &error))?;
        Ok(Some(match element.offset() {
            Where::Offset(offset) => offset,
            _ => end,
        }))
    }

    /// How many offsets it has; not all of them need hold a record.
    pub fn len(&self) -> u64 {
        let lengths = self.parts.iter().map(|(_, from, to)| to - from);
        lengths.map(|length| u64::try_from(length).expect("it ends after its start")).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Hands every record to `take`: by partition, then by offset. Waits, as [`find`](Self::find) does.
    pub fn read<E: From<SourceError>>(
        &self,
        mut take: impl FnMut(&Ranged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for &(partition, from, to) in self.parts.iter().filter(|(_, from, to)| from < to) {
            self.read_partition(partition, (from, to), &mut take)?;
        }
        Ok(())
    }

    #[expect(clippy::disallowed_methods, reason = "a deadline")]
    fn read_partition<E: From<SourceError>>(
        &self,
        partition: i32,
        (from, to): (i64, i64),
        take: &mut impl FnMut(&Ranged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        let client_error = |error: KafkaError| SourceError::Client(without_values(&error));
        let mut wanted = TopicPartitionList::new();
        wanted
            .add_partition_offset(&self.topic, partition, Where::Offset(from))
            .and_then(|()| self.client.assign(&wanted))
            .map_err(client_error)?;
        let mut give_up = Instant::now() + PATIENCE;
        let mut failure = None;
        while Instant::now() < give_up {
            match self.client.poll(WAIT) {
                Some(Ok(message)) if message.partition() == partition => {
                    if message.offset() >= to {
                        return Ok(());
                    }
                    take(&Ranged {
                        partition: PartitionId(partition),
                        offset: Offset(message.offset()),
                        payload: message.payload(),
                    })?;
                    if message.offset() + 1 >= to {
                        return Ok(());
                    }
                    give_up = Instant::now() + PATIENCE;
                }
                // The last offsets may hold no record.
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == partition => return Ok(()),
                Some(Err(error)) => failure = Some(error),
                Some(Ok(_)) | None => {}
            }
        }
        let late = format!("no record came in {} s", PATIENCE.as_secs());
        let reason = failure.map_or(late, |error| error.to_string());
        let reason = format!("partition {partition} of topic {}: {reason}", self.topic);
        Err(SourceError::Unreachable { brokers: self.brokers.clone(), reason }.into())
    }

    fn unreachable(&self, what: &str, error: &KafkaError) -> SourceError {
        SourceError::Unreachable {
            brokers: self.brokers.clone(),
            reason: format!("{what}: {error}"),
        }
    }
}
