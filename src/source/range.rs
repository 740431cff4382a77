//! A bounded range of a topic, read once, one partition after the other, so that every reading has the same order. No
//! group is joined and nothing is committed.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer as _;
use rdkafka::error::KafkaError;
use rdkafka::message::Message as _;
use rdkafka::{Offset as Where, TopicPartitionList};

use super::settings::{KafkaSettings, consumer_config, without_values};
use super::topics::{Client, quiet_client};
use super::{Source, SourceError, SourceEvent, StartAt, Take};
use crate::calendar::instant;
use crate::engine::event::{Offset, PartitionId, Positions};
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
    /// The record with which each partition has so many whose Kafka timestamps are this or later: fewer wrong ones move
    /// no end, as they move no clock.
    Passed(RecordTime, usize),
}

impl fmt::Display for Bound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offset(offset) => write!(formatter, "offset:{}", offset.0),
            // Without what nobody types.
            Self::Time(time) | Self::Passed(time, _) => {
                formatter.write_str(&instant(time.0).replace(".000Z", "Z"))
            }
        }
    }
}

/// One record of the range.
#[derive(Clone, Copy, Debug)]
pub struct Ranged<'a> {
    /// Its partition.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
    /// Its Kafka timestamp, -1 where it has none.
    pub time: RecordTime,
    /// Its value; none is a tombstone.
    pub payload: Option<&'a [u8]>,
}

/// Why a reading did not go to its end.
enum Stopped {
    At(i64),
    By(SourceError),
}

impl From<SourceError> for Stopped {
    fn from(error: SourceError) -> Self {
        Self::By(error)
    }
}

/// Offsets of one partition.
struct Part {
    partition: i32,
    /// First and end of its log.
    log: (i64, i64),
    /// Where it was asked to begin, at most at its end; records before its first one are gone.
    asked: i64,
    /// What is there of it.
    from: i64,
    to: i64,
}

/// What is to be read of one topic: of each partition the offsets from the first up to, but without, the second.
pub struct TopicRange {
    client: Client,
    brokers: String,
    topic: String,
    parts: Vec<Part>,
    /// Whether it begins at a time.
    is_by_time: bool,
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
        let is_by_time = matches!(from, Some(Bound::Time(_)));
        let mut range = Self { client, brokers, topic, parts: Vec::new(), is_by_time };
        for partition in 0..partitions {
            // The client reads what is committed: an end lies before the first open transaction.
            let ends = range.client.fetch_watermarks(&range.topic, partition, PATIENCE);
            let what = || format!("where partition {partition} of topic {} ends", range.topic);
            let (first, end) = ends.map_err(|error| range.unreachable(&what(), &error))?;
            let asked = range.offset(partition, from, end)?.unwrap_or(first).min(end);
            let from = asked.max(first);
            let to = range.offset(partition, to, end)?.unwrap_or(end).min(end).max(from);
            range.parts.push(Part { partition, log: (first, end), asked, from, to });
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
        let (time, count) = match bound {
            None => return Ok(None),
            Some(Bound::Offset(offset)) => return Ok(Some(offset.0)),
            Some(Bound::Time(time)) => (time, 1),
            Some(Bound::Passed(time, count)) => (time, count),
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
        let first = match element.offset() {
            Where::Offset(offset) => offset,
            _ => end,
        };
        if count <= 1 || first >= end {
            return Ok(Some(first));
        }
        self.passed(partition, (first, end), time, count).map(Some)
    }

    /// The offset with which so many records from `first` on bear this time or a later one; `end` where there are
    /// fewer. They are read: the brokers only tell the first.
    fn passed(
        &self,
        partition: i32,
        (first, end): (i64, i64),
        time: RecordTime,
        count: usize,
    ) -> Result<i64, SourceError> {
        let mut found = 0;
        let mut look = |record: &Ranged<'_>| -> Result<(), Stopped> {
            found += usize::from(record.time >= time);
            if found >= count { Err(Stopped::At(record.offset.0)) } else { Ok(()) }
        };
        let read = self.read_partition(partition, (first, end), &mut look);
        // What was fetched beyond is not waited for by the next reading.
        self.client.unassign().map_err(|error| SourceError::Client(without_values(&error)))?;
        match read {
            Ok(()) => Ok(end),
            Err(Stopped::At(offset)) => Ok(offset),
            Err(Stopped::By(error)) => Err(error),
        }
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// How many offsets it has; not all of them need hold a record.
    pub fn len(&self) -> u64 {
        let lengths = self.parts.iter().map(|part| part.to - part.from);
        lengths.map(|length| u64::try_from(length).expect("it ends after its start")).sum()
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// By partition the offset where it was asked to begin, which may lie before the first record that is left.
    pub fn starts(&self) -> impl Iterator<Item = i64> {
        self.parts.iter().map(|part| part.asked)
    }

    /// By partition the first offset that is no longer read.
    pub fn ends(&self) -> impl Iterator<Item = i64> {
        self.parts.iter().map(|part| part.to)
    }

    /// Refuses a range without an offset.
    pub fn check_some(&self) -> Result<(), SourceError> {
        if self.parts.iter().any(|part| part.asked < part.to) {
            return Ok(());
        }
        let offsets =
            self.parts.iter().map(|Part { log: (first, end), .. }| format!("{first} to {end}"));
        let offsets = offsets.collect::<Vec<_>>().join(", ");
        Err(SourceError::RangeEmpty { topic: self.topic.clone(), offsets })
    }

    /// Partitions whose first records of the range are gone. A job that has read them does not need them any more.
    pub fn trimmed(&self) -> impl Iterator<Item = (PartitionId, SourceError)> {
        self.parts.iter().filter(|part| part.asked < part.log.0).map(|part| {
            let (topic, partition) = (self.topic.clone(), part.partition);
            let (from, log_start) = (part.asked, part.log.0);
            let error = SourceError::RangeTrimmed { topic, partition, from, log_start };
            (PartitionId(partition), error)
        })
    }

    /// Partitions that begin, by their timestamps, with the first record that is left, and its offset: nobody knows
    /// whether those that are gone belonged to the range.
    pub fn perhaps_trimmed(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        let is_first = |part: &&Part| self.is_by_time && part.log.0 > 0 && part.asked == part.log.0;
        self.parts
            .iter()
            .filter(is_first)
            .map(|part| (PartitionId(part.partition), Offset(part.log.0)))
    }

    /// Hands every record to `take`: by partition, then by offset. Waits, as [`find`](Self::find) does.
    pub fn read<E: From<SourceError>>(
        &self,
        mut take: impl FnMut(&Ranged<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for part in self.parts.iter().filter(|part| part.from < part.to) {
            self.read_partition(part.partition, (part.from, part.to), &mut take)?;
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
                        time: RecordTime(message.timestamp().to_millis().unwrap_or(-1)),
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

/// A source that counts what it delivers, for a bar.
pub struct Counted<S> {
    source: S,
    count: Arc<AtomicU64>,
}

impl<S> Counted<S> {
    /// Adds to `count`.
    pub fn new(source: S, count: Arc<AtomicU64>) -> Self {
        Self { source, count }
    }
}

impl<S: Source> Source for Counted<S> {
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        let event = self.source.poll(take, wait)?;
        if let SourceEvent::Records(batch) = &event {
            let records = u64::try_from(batch.records.len()).expect("a batch is small");
            self.count.fetch_add(records, Ordering::Relaxed);
        }
        Ok(event)
    }

    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        self.source.beginning(partitions)
    }

    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError> {
        self.source.start(from)
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        self.source.reassign()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_shown_as_they_are_typed() {
        let shown = |bound: Bound| bound.to_string();
        assert_eq!(shown(Bound::Offset(Offset(7))), "offset:7");
        assert_eq!(shown(Bound::Time(RecordTime(1_767_225_600_000))), "2026-01-01T00:00:00Z");
        assert_eq!(shown(Bound::Time(RecordTime(1_767_225_600_123))), "2026-01-01T00:00:00.123Z");
    }
}
