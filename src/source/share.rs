//! One worker's share of both topics: its queues, and what may be delivered from them.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaError;
use rdkafka::{Offset as ListedOffset, TopicPartitionList};
use rdkafka_sys::RDKafkaErrorCode;

use super::batch::{Batch, Failure, Queue, Waker};
use super::context::TopicNames;
use super::group::{GroupConsumer, GroupEvent, Membership, StartRequest};
use super::health::KafkaHealth;
use super::progress::{Ends, Progress};
use super::settings::Start;
use super::{Records, Source, SourceError, SourceEvent, Take};
use crate::engine::event::{PartitionId, Positions, Stream};

/// The longest wait between two looks at the client's health and at the ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long one question for offsets may take.
const QUERY_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the offsets of new partitions are asked for before giving up.
const QUERY_ATTEMPTS: usize = 12;

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
                GroupEvent::Fenced => return Err(SourceError::Fenced),
                GroupEvent::Grown(partition) => {
                    return Err(SourceError::Grown { partition: partition.0 });
                }
            }
        }
        Ok(self
            .progress
            .take_ended()
            .map(|(stream, partition, end)| SourceEvent::Ended(stream, partition, end)))
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
            for partition in reached {
                self.progress.end(stream, partition);
            }
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
            if !self.progress.has_ended() {
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
