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
use super::group::{About, GroupConsumer, GroupEvent, Membership, Request};
use super::health::KafkaHealth;
use super::progress::{Ends, Progress};
use super::settings::Start;
use super::watch::TopicWatch;
use super::{Records, Source, SourceError, SourceEvent, StartAt, Take};
use crate::engine::event::{PartitionId, Positions, Stream};
use crate::engine::time::RecordTime;

/// The longest wait between two looks at the client's health and at the ends.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How long one question for offsets may take: group events and a stop wait behind it.
const QUERY_TIMEOUT: Duration = Duration::from_secs(3);
/// Between two questions where new partitions begin, while nobody answers.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// One worker's share of both topics: all partitions whose number modulo the number of workers is its own.
pub struct KafkaSource {
    batch: Batch,
    queues: [Option<Queue>; 2],
    progress: Progress,
    /// The time of the last record of each topic. That which is behind is asked first: while both have a backlog,
    /// labels that come before their inferences would be kept, which costs more than to join them at once.
    times: [RecordTime; 2],
    assignment: u64,
    events: Receiver<GroupEvent>,
    requests: SyncSender<Request>,
    waker: Arc<Waker>,
    begin: Begin,
    /// Partitions whose beginning is not known yet, and when it is asked for again.
    unknown: Option<(Vec<PartitionId>, Instant)>,
    /// What will be the error if the topics are what they were, and the number of the question whether they are.
    doubt: Option<(SourceError, u64)>,
    link: Link,
    /// Last, so that it is dropped after all that holds the client.
    _membership: Arc<Membership>,
}

/// Where a partition without a mark begins.
#[derive(Clone)]
pub(super) enum Begin {
    /// At an end of its log.
    Log(Start),
    /// At these offsets, by [`Stream::index`] and partition.
    At(Arc<Ends>),
}

/// What a source needs of the instance.
#[derive(Clone)]
pub(super) struct Link {
    pub(super) consumer: Arc<GroupConsumer>,
    pub(super) topics: TopicNames,
    pub(super) health: KafkaHealth,
    pub(super) watch: TopicWatch,
}

/// The channels of one worker.
pub(super) struct Channels {
    pub(super) events: Receiver<GroupEvent>,
    pub(super) requests: SyncSender<Request>,
    pub(super) waker: Arc<Waker>,
}

impl KafkaSource {
    pub(super) fn new(
        link: Link,
        channels: Channels,
        begin: Begin,
        ends: Option<Arc<Ends>>,
        membership: Arc<Membership>,
    ) -> Self {
        Self {
            batch: Batch::default(),
            queues: [None, None],
            progress: Progress::new(ends),
            times: [RecordTime(i64::MIN); 2],
            assignment: 0,
            events: channels.events,
            requests: channels.requests,
            waker: channels.waker,
            begin,
            unknown: None,
            doubt: None,
            link,
            _membership: membership,
        }
    }

    fn ask(&self, about: About) -> Result<(), SourceError> {
        let request = Request { assignment: self.assignment, about };
        let ended = |_| SourceError::Client("its control thread has ended".to_owned());
        self.requests.send(request).map_err(ended)
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
                    self.forget();
                    self.ask_about(SourceError::Unpaired { partition: partition.0 });
                }
                GroupEvent::Fenced => return Err(SourceError::Fenced),
                GroupEvent::Grown(partition) => {
                    return Err(SourceError::Grown { partition: partition.0 });
                }
            }
        }
        if let Some((SourceError::Unpaired { .. }, _)) = self.doubt
            && self.link.health.is_gone()
        {
            // That is why: nothing is assigned until the group sees the topic again, which may be another one then.
            self.doubt = None;
        }
        let is_certain = |(_, question): &mut _| self.link.watch.is_unchanged_since(*question);
        if let Some((error, _)) = self.doubt.take_if(is_certain) {
            return Err(error);
        }
        if let Some((partitions, _)) = self.unknown.take_if(|(_, at)| *at <= now()) {
            return Ok(Some(SourceEvent::Assigned(partitions)));
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
        self.times = [RecordTime(i64::MIN); 2];
        self.unknown = None;
        self.doubt = None;
    }

    /// An error that may follow from a topic that is gone, was made anew or has grown: then it is not what is wrong.
    fn ask_about(&mut self, error: SourceError) {
        if self.doubt.is_none() {
            self.doubt = Some((error, self.link.watch.look()));
        }
    }

    /// These partitions are assigned again in a while, with others that wait for that.
    fn ask_again(&mut self, partitions: &[PartitionId]) {
        let (waiting, _) = self.unknown.get_or_insert_with(|| (Vec::new(), now() + RETRY_INTERVAL));
        waiting.extend(partitions);
    }

    /// Takes one batch of a topic that is wanted. Returns whether it holds records.
    fn fill(&mut self, take: Take) -> Result<bool, SourceError> {
        for stream in behind_first(self.times) {
            let wanted = match take {
                Take::Both => true,
                Take::Only(only) => only == stream,
                Take::Nothing => false,
            };
            while wanted && self.fill_from(stream)? > 0 {
                if let Some(last) = self.batch.records().last() {
                    self.times[stream.index()] = last.time;
                    let records = self.batch.records().iter();
                    self.link.health.flowing(records.map(|record| (stream, record.partition)));
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
    fn failed(&mut self, stream: Stream, failure: &Failure) -> Result<(), SourceError> {
        let Some(position) = self.progress.position(stream, failure.partition) else {
            return Ok(());
        };
        match failure.code {
            RDKafkaErrorCode::AutoOffsetReset | RDKafkaErrorCode::OffsetOutOfRange => {
                let bounds = self.link.bounds(&[(stream, failure.partition)]);
                let checked = bounds.map_err(|error| SourceError::Client(error.to_string()));
                let checked = checked.and_then(|bounds| {
                    self.link.check(stream, failure.partition, position, &bounds[0])
                });
                let unreadable = || {
                    SourceError::Client(format!(
                        "{} partition {} can't be read at offset {position}: {}",
                        self.link.topic(stream),
                        failure.partition.0,
                        failure.reason
                    ))
                };
                let error = checked.err().unwrap_or_else(unreadable);
                self.ask_about(error);
                Ok(())
            }
            RDKafkaErrorCode::Fatal => Err(SourceError::Client(failure.reason.clone())),
            // The client passes the whole batch over.
            RDKafkaErrorCode::BadMessage | RDKafkaErrorCode::NotImplemented => {
                Err(SourceError::Client(format!(
                    "{} partition {}: a batch from offset {position} on can't be read: {}",
                    self.link.topic(stream),
                    failure.partition.0,
                    failure.reason
                )))
            }
            _ => {
                let topic = self.link.topic(stream);
                let (partition, reason) = (failure.partition, &failure.reason);
                let at = format!("topic {topic} partition {} at offset {position}", partition.0);
                let of_topic = matches!(
                    failure.code,
                    RDKafkaErrorCode::TopicAuthorizationFailed
                        | RDKafkaErrorCode::UnknownTopicOrPartition
                        | RDKafkaErrorCode::UnknownTopic
                );
                let said = format!("{at}: {reason}");
                self.link.health.refused_at(stream, partition, &said, of_topic);
                Ok(())
            }
        }
    }
}

impl Source for KafkaSource {
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        let deadline = now() + wait;
        loop {
            if let Some(error) = self.link.health.fatal() {
                return Err(error);
            }
            if let Some(event) = self.next_event()? {
                return Ok(event);
            }
            if self.fill(take)? {
                return Ok(SourceEvent::Records(Records { records: self.batch.records() }));
            }
            if !self.progress.has_ended() {
                let left = deadline.saturating_duration_since(now());
                if left.is_zero() {
                    return Ok(SourceEvent::Quiet);
                }
                self.waker.wait(left.min(LOOK_INTERVAL));
            }
        }
    }

    /// Asks the brokers, once: during an outage the partitions are assigned again until somebody answers, so that
    /// group events and a stop don't wait.
    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        let wanted = self.link.of_both(partitions);
        let bounds = match self.link.bounds(&wanted) {
            Ok(bounds) => bounds,
            Err(error) => {
                self.link.health.refused(&format!("nobody says where the topics begin: {error}"));
                self.ask_again(partitions);
                return Ok(Vec::new());
            }
        };
        if self.unknown.is_none() {
            self.link.health.accepted();
        }
        let mut positions: Vec<_> =
            partitions.iter().map(|&partition| (partition, Positions::default())).collect();
        for (&(stream, partition), bounds) in wanted.iter().zip(bounds) {
            let at = match &self.begin {
                Begin::Log(Start::Earliest) => bounds.start,
                Begin::Log(Start::Latest) => bounds.end,
                Begin::At(starts) => {
                    let index = usize::try_from(partition.0).unwrap_or(0);
                    let from = starts[stream.index()][index];
                    if from < bounds.start {
                        let topic = self.link.topic(stream).to_owned();
                        let (partition, log_start) = (partition.0, bounds.start);
                        return Err(SourceError::RangeTrimmed {
                            topic,
                            partition,
                            from,
                            log_start,
                        });
                    }
                    from
                }
            };
            let of = positions.iter_mut().find(|(candidate, _)| *candidate == partition);
            of.expect("asked for").1.set(stream, at);
        }
        Ok(positions)
    }

    /// Reading begins when every partition of the instance's assignment has been started, by whichever worker. A
    /// partition may be started again before that. Partitions that were taken away meanwhile are passed over.
    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError> {
        let partitions: Vec<_> = from.iter().map(|at| at.partition).collect();
        let wanted = self.link.of_both(&partitions);
        match self.link.bounds(&wanted) {
            Ok(bounds) => {
                for (&(stream, partition), bounds) in wanted.iter().zip(&bounds) {
                    let at = from.iter().find(|at| at.partition == partition);
                    let at = at.expect("asked for");
                    self.link.check(stream, partition, at.from.of(stream), bounds)?;
                    self.link.check_end(stream, partition, at.counted.of(stream), bounds)?;
                }
                if self.unknown.is_none() && !wanted.is_empty() {
                    self.link.health.accepted();
                }
            }
            // Records of a log that has lost its tail would be taken for those that were there before.
            Err(error) if from.iter().any(|at| at.counted != at.from) => {
                self.link.health.refused(&format!("nobody says where the topics end: {error}"));
                self.ask_again(&partitions);
                return Ok(());
            }
            // Reading from a bad offset reports the same error later.
            Err(_) => {}
        }
        for &StartAt { partition, from, .. } in from {
            for stream in Stream::BOTH {
                if self.link.topics[stream.index()].is_some() {
                    self.progress.start(stream, partition, from.of(stream));
                    self.link.health.started(stream, partition, from.of(stream));
                }
            }
        }
        self.ask(About::Start(from.iter().map(|at| (at.partition, at.from)).collect()))
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        self.ask(About::Reassign)
    }
}

/// Both topics, that first whose last record is older; of equally old ones the inferences.
fn behind_first(times: [RecordTime; 2]) -> [Stream; 2] {
    let mut order = Stream::BOTH;
    order.sort_by_key(|stream| times[stream.index()]);
    order
}

#[expect(clippy::disallowed_methods, reason = "an edge: waiting is wall time")]
fn now() -> Instant {
    Instant::now()
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
        } else {
            self.check_end(stream, partition, position, bounds)
        }
    }

    /// Refuses a position beyond the log's end.
    fn check_end(
        &self,
        stream: Stream,
        partition: PartitionId,
        position: i64,
        bounds: &Bounds,
    ) -> Result<(), SourceError> {
        if position <= bounds.end {
            return Ok(());
        }
        let (topic, log_end) = (self.topic(stream).to_owned(), bounds.end);
        Err(SourceError::LogShrank { topic, partition: partition.0, position, log_end })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_topic_that_is_behind_is_asked_first() {
        let [inferences, labels] = Stream::BOTH;
        let times = |inferences, labels| [inferences, labels].map(RecordTime);
        assert_eq!(behind_first(times(i64::MIN, i64::MIN)), [inferences, labels]);
        assert_eq!(behind_first(times(5, i64::MIN)), [labels, inferences]);
        assert_eq!(behind_first(times(5, 5)), [inferences, labels]);
        assert_eq!(behind_first(times(6, 5)), [labels, inferences]);
    }
}
