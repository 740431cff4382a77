//! One worker's share of both topics: its queues, and what may be delivered from them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset as ListedOffset, TopicPartitionList};
use rdkafka_sys::RDKafkaErrorCode;

use super::batch::{Batch, Failure, Queue, Waker};
use super::group::{GroupConsumer, GroupEvent, Membership, StartRequest, TopicNames};
use super::health::KafkaHealth;
use super::kafka::Start;
use super::{Records, Source, SourceError, SourceEvent, Take};
use crate::engine::event::{Offset, PartitionId, Positions, Stream};

/// The longest wait between two looks at the client's health and at the ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long one question for offsets may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the offsets of new partitions are asked for before giving up.
const QUERY_ATTEMPTS: usize = 12;

/// The end offsets of a bounded run, by [`Stream::index`] and partition.
pub(super) type Ends = [Vec<i64>; 2];

/// One worker's share of both topics: all partitions whose number modulo the number of workers is its own.
pub struct KafkaSource {
    batch: Batch,
    queues: [Option<Queue>; 2],
    progress: Progress,
    /// Which topic is asked first: the two take turns.
    turn: usize,
    assignment: u64,
    events: Receiver<GroupEvent>,
    starts: SyncSender<StartRequest>,
    waker: Arc<Waker>,
    begin: Start,
    link: Link,
    /// Last, so that it is dropped after all that holds the client.
    _membership: Arc<Membership>,
}

/// What a source needs of the instance.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) consumer: Arc<GroupConsumer>,
    pub(super) topics: TopicNames,
    pub(super) health: KafkaHealth,
    pub(super) brokers: String,
}

/// The channels of one worker.
pub(super) struct Channels {
    pub(super) events: Receiver<GroupEvent>,
    pub(super) starts: SyncSender<StartRequest>,
    pub(super) waker: Arc<Waker>,
}

impl KafkaSource {
    pub(super) fn new(
        link: Link,
        channels: Channels,
        begin: Start,
        ends: Option<Arc<Ends>>,
        membership: Arc<Membership>,
    ) -> Self {
        Self {
            batch: Batch::default(),
            queues: [None, None],
            progress: Progress::new(ends),
            turn: 0,
            assignment: 0,
            events: channels.events,
            starts: channels.starts,
            waker: channels.waker,
            begin,
            link,
            _membership: membership,
        }
    }

    /// The state of the Kafka client, shared by all sources of the instance.
    pub fn health(&self) -> &KafkaHealth {
        &self.link.health
    }

    /// What the control thread says, and ends that were reached.
    fn next_event(&mut self) -> Result<Option<SourceEvent<'static>>, SourceError> {
        loop {
            let event = match self.events.try_recv() {
                Ok(event) => event,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    return Err(SourceError::Client("its control thread has ended".to_owned()));
                }
            };
            match event {
                GroupEvent::Assigned(assignment, partitions) => {
                    self.forget();
                    self.assignment = assignment;
                    return Ok(Some(SourceEvent::Assigned(partitions)));
                }
                GroupEvent::Reading(assignment, queues) => {
                    if assignment == self.assignment {
                        self.queues = queues;
                    }
                }
                GroupEvent::Revoked(partitions, reply) => {
                    self.forget();
                    return Ok(Some(SourceEvent::Revoked(partitions, reply)));
                }
                GroupEvent::Lost(partitions) => {
                    self.forget();
                    return Ok(Some(SourceEvent::Lost(partitions)));
                }
                GroupEvent::Unpaired(partition) => {
                    return Err(SourceError::Unpaired { partition: partition.0 });
                }
            }
        }
        Ok(self.progress.ended.pop_front().map(|(stream, part)| SourceEvent::Ended(stream, part)))
    }

    /// Nothing of the assignment so far is delivered any more. (`range` takes all partitions away at once.)
    fn forget(&mut self) {
        self.batch.clear();
        self.queues = [None, None];
        self.progress.clear();
    }

    /// Takes one batch of a topic that is wanted. Returns whether it holds records.
    fn fill(&mut self, take: Take) -> Result<bool, SourceError> {
        let order = [self.turn, 1 - self.turn].map(|index| Stream::BOTH[index]);
        for stream in order {
            let wanted = match take {
                Take::Both => true,
                Take::Only(only) => only == stream,
                Take::Nothing => false,
            };
            while wanted && self.fill_from(stream)? > 0 {
                if !self.batch.records().is_empty() {
                    self.turn = 1 - stream.index();
                    self.link.health.flowing();
                    return Ok(true);
                }
            }
        }
        self.batch.clear();
        Ok(false)
    }

    /// Fills the batch from one topic; returns how many messages there were.
    fn fill_from(&mut self, stream: Stream) -> Result<usize, SourceError> {
        let Some(queue) = &self.queues[stream.index()] else { return Ok(0) };
        let reached = self.progress.reached(stream, &self.link.health);
        let progress = &mut self.progress;
        let count =
            self.batch.fill(queue, stream, |part, offset| progress.keep(stream, part, offset));
        if count == 0 {
            // Fetched up to the end, and nothing is left in the queue: the tail holds no records.
            reached.into_iter().for_each(|partition| self.progress.end(stream, partition));
        }
        for failure in self.batch.take_failures() {
            self.failed(stream, &failure)?;
        }
        Ok(count)
    }

    /// An error in place of a record: either the log has lost what is to be read, or it passes.
    fn failed(&self, stream: Stream, failure: &Failure) -> Result<(), SourceError> {
        let Some(position) = self.progress.position(stream, failure.partition) else {
            return Ok(());
        };
        match failure.code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                let bounds = self.link.bounds(&[(stream, failure.partition)]);
                let bounds = bounds.map_err(|error| SourceError::Client(error.to_string()))?;
                self.link.check(stream, failure.partition, position, &bounds[0])?;
                Err(SourceError::Client(format!(
                    "{} partition {} can't be read at offset {position}: {}",
                    self.link.topic(stream),
                    failure.partition.0,
                    failure.reason
                )))
            }
            RDKafkaErrorCode::Fatal => Err(SourceError::Client(failure.reason.clone())),
            _ => {
                self.link.health.refused(&failure.reason);
                Ok(())
            }
        }
    }
}

impl Source for KafkaSource {
    #[expect(clippy::disallowed_methods, reason = "an edge: `wait` is wall time")]
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        let deadline = Instant::now() + wait;
        loop {
            if let Some(reason) = self.link.health.fatal() {
                return Err(SourceError::Client(reason));
            }
            if let Some(event) = self.next_event()? {
                return Ok(event);
            }
            if self.fill(take)? {
                return Ok(SourceEvent::Records(Records { records: self.batch.records() }));
            }
            if self.progress.ended.is_empty() {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Ok(SourceEvent::Quiet);
                }
                self.waker.wait(left.min(LOOK_INTERVAL));
            }
        }
    }

    /// Asks the brokers; waits out an outage for a while.
    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        let wanted = self.link.of_both(partitions);
        let mut attempt = 1;
        let bounds = loop {
            match self.link.bounds(&wanted) {
                Ok(bounds) => break bounds,
                Err(error) if attempt == QUERY_ATTEMPTS => {
                    let brokers = self.link.brokers.clone();
                    return Err(SourceError::Unreachable { brokers, reason: error.to_string() });
                }
                Err(error) => {
                    tracing::debug!(%error, "asking again where the log begins");
                    self.waker.wait(LOOK_INTERVAL);
                    attempt += 1;
                }
            }
        };
        let mut positions: Vec<_> =
            partitions.iter().map(|&partition| (partition, Positions::default())).collect();
        for (&(stream, partition), bounds) in wanted.iter().zip(bounds) {
            let at = match self.begin {
                Start::Earliest => bounds.start,
                Start::Latest => bounds.end,
            };
            let of = positions.iter_mut().find(|(candidate, _)| *candidate == partition);
            of.expect("asked for").1.set(stream, at);
        }
        Ok(positions)
    }

    /// Reading begins when every partition of the instance's assignment has been started, by whichever worker. A
    /// partition may be started again before that. Partitions that were taken away meanwhile are passed over.
    fn start(&mut self, from: &[(PartitionId, Positions)]) -> Result<(), SourceError> {
        let partitions: Vec<_> = from.iter().map(|&(partition, _)| partition).collect();
        let wanted = self.link.of_both(&partitions);
        // Where the brokers don't answer, reading from a bad offset reports the same error later.
        if let Ok(bounds) = self.link.bounds(&wanted) {
            for (&(stream, partition), bounds) in wanted.iter().zip(&bounds) {
                let position = from.iter().find(|(candidate, _)| *candidate == partition);
                let position = position.expect("asked for").1.of(stream);
                self.link.check(stream, partition, position, bounds)?;
            }
        }
        for &(partition, positions) in from {
            for stream in Stream::BOTH {
                if self.link.topics[stream.index()].is_some() {
                    self.progress.start(stream, partition, positions.of(stream));
                    self.link.health.started(stream, partition, positions.of(stream));
                }
            }
        }
        let request = StartRequest { assignment: self.assignment, from: from.to_vec() };
        self.starts
            .send(request)
            .map_err(|_| SourceError::Client("its control thread has ended".to_owned()))
    }
}

/// The offsets of a topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    /// The first that is still there.
    pub(super) start: i64,
    /// One after the last that can be read.
    pub(super) end: i64,
}

impl Link {
    fn topic(&self, stream: Stream) -> &str {
        self.topics[stream.index()].as_deref().unwrap_or_default()
    }

    /// These partitions of the topics that there are.
    pub(super) fn of_both(&self, partitions: &[PartitionId]) -> Vec<(Stream, PartitionId)> {
        let streams =
            Stream::BOTH.into_iter().filter(|stream| self.topics[stream.index()].is_some());
        streams.flat_map(|stream| partitions.iter().map(move |&part| (stream, part))).collect()
    }

    /// Asks the brokers where these begin and end, with one request for each broker and question.
    pub(super) fn bounds(
        &self,
        wanted: &[(Stream, PartitionId)],
    ) -> Result<Vec<Bounds>, KafkaError> {
        let starts = self.offsets(wanted, ListedOffset::Beginning)?;
        let ends = self.offsets(wanted, ListedOffset::End)?;
        Ok(starts.into_iter().zip(ends).map(|(start, end)| Bounds { start, end }).collect())
    }

    fn offsets(
        &self,
        wanted: &[(Stream, PartitionId)],
        which: ListedOffset,
    ) -> Result<Vec<i64>, KafkaError> {
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        let mut list = TopicPartitionList::with_capacity(wanted.len());
        for &(stream, partition) in wanted {
            list.add_partition_offset(self.topic(stream), partition.0, which)?;
        }
        let list = self.consumer.offsets_for_times(list, QUERY_TIMEOUT)?;
        let of = |&(stream, partition): &(Stream, PartitionId)| {
            let missing = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownPartition);
            let found =
                list.find_partition(self.topic(stream), partition.0).ok_or(missing.clone())?;
            found.error()?;
            match found.offset() {
                ListedOffset::Offset(offset) => Ok(offset),
                _ => Err(missing),
            }
        };
        wanted.iter().map(of).collect()
    }

    /// Refuses a position that the log does not hold.
    fn check(
        &self,
        stream: Stream,
        partition: PartitionId,
        position: i64,
        bounds: &Bounds,
    ) -> Result<(), SourceError> {
        let topic = self.topic(stream).to_owned();
        if position < bounds.start {
            let log_start = bounds.start;
            Err(SourceError::FloorBelowLog {
                topic,
                partition: partition.0,
                floor: position,
                log_start,
            })
        } else if position > bounds.end {
            let log_end = bounds.end;
            Err(SourceError::LogShrank { topic, partition: partition.0, position, log_end })
        } else {
            Ok(())
        }
    }
}

/// How far each topic partition has been delivered.
#[derive(Debug, Default)]
struct Progress {
    ends: Option<Arc<Ends>>,
    next: [Vec<Option<Next>>; 2],
    /// Ends reached and not yet told.
    ended: VecDeque<(Stream, PartitionId)>,
}

#[derive(Clone, Copy, Debug)]
struct Next {
    offset: i64,
    end: i64,
    ended: bool,
}

impl Progress {
    fn new(ends: Option<Arc<Ends>>) -> Self {
        Self { ends, ..Self::default() }
    }

    fn clear(&mut self) {
        self.next = [Vec::new(), Vec::new()];
        self.ended.clear();
    }

    /// Records of this topic partition count from here on.
    fn start(&mut self, stream: Stream, partition: PartitionId, offset: i64) {
        let index = usize::try_from(partition.0).unwrap_or(0);
        let ends = self.ends.as_ref().map(|ends| ends[stream.index()].get(index).copied());
        let next = &mut self.next[stream.index()];
        if next.len() <= index {
            next.resize(index + 1, None);
        }
        next[index] = Some(Next { offset, end: ends.flatten().unwrap_or(i64::MAX), ended: false });
        if ends.is_some_and(|end| end.is_none_or(|end| offset >= end)) {
            self.end(stream, partition);
        }
    }

    fn get(&mut self, stream: Stream, partition: PartitionId) -> Option<&mut Next> {
        self.next[stream.index()].get_mut(usize::try_from(partition.0).ok()?)?.as_mut()
    }

    fn position(&self, stream: Stream, partition: PartitionId) -> Option<i64> {
        let next = self.next[stream.index()].get(usize::try_from(partition.0).ok()?)?;
        next.map(|next| next.offset)
    }

    /// Whether a record is to be delivered: of a started partition, not before its position, not at or after its end.
    fn keep(&mut self, stream: Stream, partition: PartitionId, offset: Offset) -> bool {
        let Some(next) = self.get(stream, partition) else { return false };
        if offset.0 < next.offset {
            return false;
        }
        next.offset = offset.0 + 1;
        let keep = offset.0 < next.end;
        if next.offset >= next.end {
            self.end(stream, partition);
        }
        keep
    }

    /// Partitions that have not ended here, but of which the client has fetched all up to the end.
    fn reached(&self, stream: Stream, health: &KafkaHealth) -> Vec<PartitionId> {
        if self.ends.is_none() {
            return Vec::new();
        }
        let open = (0..).zip(&self.next[stream.index()]);
        let open = open.filter_map(|(partition, next)| Some((PartitionId(partition), (*next)?)));
        let fetched = |partition, end| {
            let log = health.log(stream, partition);
            log.is_some_and(|log| log.next_fetch >= end && log.repeats > 0)
        };
        open.filter(|&(partition, next)| !next.ended && fetched(partition, next.end))
            .map(|(partition, _)| partition)
            .collect()
    }

    /// Tells the end of a topic partition, once.
    fn end(&mut self, stream: Stream, partition: PartitionId) {
        if let Some(next) = self.get(stream, partition)
            && !next.ended
        {
            next.ended = true;
            self.ended.push_back((stream, partition));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::health::LogReport;
    use Stream::{Inferences, Labels};

    const P1: PartitionId = PartitionId(1);

    fn bounded(end: i64) -> Progress {
        Progress::new(Some(Arc::new([vec![0, end], vec![0, end]])))
    }

    #[test]
    fn records_of_unstarted_partitions_are_dropped() {
        let mut progress = Progress::new(None);
        assert!(!progress.keep(Inferences, P1, Offset(0)));
        progress.start(Inferences, P1, 5);
        assert!(!progress.keep(Labels, P1, Offset(5)));
        assert!(!progress.keep(Inferences, PartitionId(0), Offset(5)));
        assert!(progress.keep(Inferences, P1, Offset(5)));
        progress.clear();
        assert!(!progress.keep(Inferences, P1, Offset(6)));
    }

    #[test]
    fn records_before_the_position_are_dropped_and_holes_passed() {
        let mut progress = Progress::new(None);
        progress.start(Inferences, P1, 5);
        assert!(!progress.keep(Inferences, P1, Offset(4)));
        assert!(progress.keep(Inferences, P1, Offset(9)));
        assert!(!progress.keep(Inferences, P1, Offset(9)));
        assert_eq!(progress.position(Inferences, P1), Some(10));
    }

    #[test]
    fn end_is_told_once_and_nothing_behind_it_kept() {
        let mut progress = bounded(7);
        progress.start(Inferences, P1, 5);
        assert!(progress.keep(Inferences, P1, Offset(6)));
        assert!(!progress.keep(Inferences, P1, Offset(7)));
        assert_eq!(progress.ended, [(Inferences, P1)]);
    }

    #[test]
    fn empty_partition_has_ended_at_its_start() {
        let mut progress = bounded(7);
        progress.start(Labels, P1, 7);
        assert_eq!(progress.ended, [(Labels, P1)]);
    }

    #[test]
    fn tail_without_records_is_reached_by_fetching() {
        let health = KafkaHealth::default();
        let mut progress = bounded(7);
        progress.start(Inferences, P1, 5);
        let log = LogReport { end: None, position: None, next_fetch: 7 };
        health.started(Inferences, P1, 5);
        health.report(Inferences, P1, log);
        assert!(progress.reached(Inferences, &health).is_empty());
        health.report(Inferences, P1, log);
        assert_eq!(progress.reached(Inferences, &health), [P1]);
        progress.end(Inferences, P1);
        assert!(progress.reached(Inferences, &health).is_empty());
    }
}
