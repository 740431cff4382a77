//! The consumer group: one control thread polls for group events and hands them to the workers as data.
//!
//! When the group assigns partitions the client is first given an empty assignment, which keeps the membership alive
//! while the workers look up their marks. Only when every assigned partition has been started is the client given all
//! of them, at explicit offsets and with their queues already forwarded: nothing is fetched from anywhere else before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::{Offset, TopicPartitionList};

use super::batch::{Queue, Waker, forward};
use super::context::{Change, GroupContext, TopicNames};
use super::health::KafkaHealth;
use super::{Commits, Reply, SourceError};
use crate::engine::event::{PartitionId, Positions, Stream};
use crate::engine::floor::Mark;
use crate::failpoint::{self, Point};

/// How long one poll for group events takes at most: a start or a stop waits no longer.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How long the last part to be dropped waits for the group to be left.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The client that all parts share.
pub(super) type GroupConsumer = BaseConsumer<GroupContext>;

/// What the control thread tells a worker.
#[derive(Debug)]
pub(super) enum GroupEvent {
    /// New partitions, with the number of the assignment.
    Assigned(u64, Vec<PartitionId>),
    /// Reading has begun: new queues, so that nothing of an older assignment is in them.
    Reading(u64, [Option<Queue>; 2]),
    /// As the seam's.
    Revoked(Vec<PartitionId>, Reply),
    /// As the seam's.
    Lost(Vec<PartitionId>),
    /// The assignment is not paired: the instance must stop, unless a topic is away.
    Unpaired(PartitionId),
    /// The topics have got more partitions: the instance must stop.
    Grown(PartitionId),
    /// Another instance has joined the group under this one's name: the instance must stop.
    Fenced,
}

/// What a worker tells the control thread about the assignment that it has seen last.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) assignment: u64,
    pub(super) about: About,
}

/// What a worker asks for.
#[derive(Debug)]
pub(super) enum About {
    /// These partitions begin here.
    Start(Vec<(PartitionId, Positions)>),
    /// All partitions of the instance shall be given up and come back.
    Reassign,
}

/// The control thread's end of a worker.
#[derive(Debug)]
pub(super) struct WorkerEnd {
    pub(super) events: SyncSender<GroupEvent>,
    pub(super) waker: Arc<Waker>,
}

/// The partitions that may be committed.
pub(super) type Assigned = Arc<Mutex<BTreeSet<PartitionId>>>;

/// The control thread's state.
pub(super) struct Control {
    pub(super) consumer: Arc<GroupConsumer>,
    pub(super) topics: TopicNames,
    /// How many partitions the topics had when they were inspected.
    pub(super) partitions: i32,
    pub(super) health: KafkaHealth,
    pub(super) workers: Vec<WorkerEnd>,
    pub(super) requests: Receiver<Request>,
    pub(super) stop: Arc<AtomicBool>,
    pub(super) drain_budget: Duration,
    pub(super) assigned: Assigned,
    /// Counts the assignments, so that a start that belongs to an earlier one is told apart.
    pub(super) assignment: u64,
    /// The assigned partitions, and where they begin once a worker has said so.
    pub(super) wanted: BTreeMap<PartitionId, Option<Positions>>,
    /// Whether the client has been given the partitions of `wanted`.
    pub(super) reading: bool,
    /// Whether there is no group: then all partitions are this instance's, for good.
    pub(super) is_alone: bool,
}

impl Control {
    /// Polls until told to stop, then leaves the group.
    pub(super) fn run(mut self) {
        if self.is_alone {
            let read = |stream: &Stream| self.topics[stream.index()].is_some();
            let all = Stream::BOTH.into_iter().filter(read);
            let all = all.flat_map(|of| (0..self.partitions).map(move |p| (of, PartitionId(p))));
            self.assigned(&all.collect::<Vec<_>>());
        }
        while !self.stop.load(Ordering::Acquire) {
            if self.reading {
                failpoint::hit(Point::KafkaPoll);
            }
            match self.consumer.poll(POLL_INTERVAL) {
                None => {}
                Some(Ok(_)) => self.fail("a record arrived beside the workers' queues"),
                Some(Err(KafkaError::MessageConsumptionFatal(code))) => self.ended_by(code),
                Some(Err(error)) => tracing::debug!(%error, "Kafka client reports an error"),
            }
            for change in self.consumer.context().take_changes() {
                match change {
                    Change::Assigned(partitions) => self.assigned(&partitions),
                    Change::Revoked => self.revoked(),
                    Change::Lost => self.lost(),
                }
            }
            while let Ok(request) = self.requests.try_recv() {
                match request.about {
                    // Of an assignment that has been taken away meanwhile.
                    _ if request.assignment != self.assignment => {}
                    About::Start(from) => self.started(from),
                    About::Reassign => self.reassign(),
                }
            }
            if self.health.fatal().is_some() {
                for worker in &self.workers {
                    worker.waker.raise();
                }
            }
        }
        self.consumer.context().close();
        if !self.consumer.context().take_changes().is_empty() {
            self.assign(None); // an event that was not served would keep the group from being left
        }
    }

    fn fail(&self, reason: &str) {
        self.health.fail(reason);
    }

    /// The client has failed for good; only itself knows why.
    fn ended_by(&self, code: RDKafkaErrorCode) {
        match self.consumer.client().fatal_error() {
            Some((RDKafkaErrorCode::FencedInstanceId, _)) => self.tell_all(|| GroupEvent::Fenced),
            Some((_, reason)) => self.fail(&reason),
            None => self.fail(&code.to_string()),
        }
    }

    fn assigned(&mut self, partitions: &[(Stream, PartitionId)]) {
        self.health.accepted();
        self.health.forget_logs();
        self.assignment += 1;
        self.reading = false;
        self.wanted.clear();
        self.assign(Some(&TopicPartitionList::new()));
        // First, since a topic that alone has grown is not paired either.
        let numbers = partitions.iter().map(|&(_, partition)| partition);
        if let Some(new) = numbers.max().filter(|last| last.0 >= self.partitions) {
            return self.tell_all(|| GroupEvent::Grown(new));
        }
        let paired = match pair(partitions, self.topics[Stream::Labels.index()].is_some()) {
            Ok(paired) => paired,
            Err(partition) => return self.tell_all(|| GroupEvent::Unpaired(partition)),
        };
        self.begin(paired);
    }

    /// Lets the workers look up where these partitions begin.
    fn begin(&mut self, paired: Vec<PartitionId>) {
        let numbers: Vec<i32> = paired.iter().map(|partition| partition.0).collect();
        tracing::info!(partitions = ?numbers, "partitions assigned");
        self.set_assigned(&paired);
        self.wanted = paired.into_iter().map(|partition| (partition, None)).collect();
        if self.wanted.is_empty() {
            // More instances than partitions: nothing to do is an answer too.
            return self.tell_all(|| GroupEvent::Assigned(self.assignment, Vec::new()));
        }
        for (worker, share) in self.shares() {
            self.tell(worker, GroupEvent::Assigned(self.assignment, share));
        }
    }

    /// Notes where partitions begin; when the last is known, reads all.
    fn started(&mut self, from: Vec<(PartitionId, Positions)>) {
        if self.reading {
            return;
        }
        for (partition, positions) in from {
            if let Some(begin) = self.wanted.get_mut(&partition) {
                *begin = Some(positions);
            }
        }
        let begins = self.wanted.iter().map(|(&part, begin)| begin.map(|begin| (part, begin)));
        if let Some(begins) = begins.collect::<Option<Vec<_>>>()
            && !begins.is_empty()
        {
            self.read(&begins);
        }
    }

    /// Forwards every partition into new queues of its worker, then gives the client the partitions.
    fn read(&mut self, begins: &[(PartitionId, Positions)]) {
        self.reading = true;
        let new_queues = |worker: &WorkerEnd| {
            Stream::BOTH.map(|stream| {
                self.topics[stream.index()]
                    .is_some()
                    .then(|| Queue::new(&self.consumer, &worker.waker))
            })
        };
        let queues: Vec<_> = self.workers.iter().map(new_queues).collect();
        let mut list = TopicPartitionList::with_capacity(begins.len() * 2);
        for &(partition, positions) in begins {
            let queues = &queues[self.worker_of(partition)];
            for stream in Stream::BOTH {
                let Some(topic) = &self.topics[stream.index()] else { continue };
                let offset = Offset::Offset(positions.of(stream));
                let forwarded =
                    forward(&self.consumer, topic, partition, queues[stream.index()].as_ref());
                if !forwarded || list.add_partition_offset(topic, partition.0, offset).is_err() {
                    self.fail("a partition can't be read: it has no queue");
                }
            }
        }
        self.assign(Some(&list));
        for (worker, queues) in queues.into_iter().enumerate() {
            self.tell(worker, GroupEvent::Reading(self.assignment, queues));
        }
    }

    /// Lets the workers finish within the budget, then gives the partitions back.
    fn revoked(&mut self) {
        let shares = self.shares();
        let (reply, replies) = sync_channel(self.workers.len().max(1));
        for (worker, share) in &shares {
            self.tell(*worker, GroupEvent::Revoked(share.clone(), Reply(reply.clone())));
        }
        drop(reply);
        let answered = wait_for_all(&replies, self.drain_budget);
        self.give_back();
        if !answered {
            tracing::warn!(
                budget_seconds = self.drain_budget.as_secs_f64(),
                "workers did not finish a revocation in time"
            );
            for (worker, share) in shares {
                self.tell(worker, GroupEvent::Lost(share));
            }
        }
    }

    /// To the workers as if the group had taken all partitions away and given them back; the group knows nothing.
    fn reassign(&mut self) {
        let partitions: Vec<PartitionId> = self.wanted.keys().copied().collect();
        let shares = self.shares();
        self.give_back();
        for (worker, share) in shares {
            self.tell(worker, GroupEvent::Lost(share));
        }
        self.assignment += 1;
        self.assign(Some(&TopicPartitionList::new()));
        self.begin(partitions);
    }

    fn lost(&mut self) {
        let shares = self.shares();
        self.give_back();
        tracing::warn!("the group took the partitions away without waiting");
        for (worker, share) in shares {
            self.tell(worker, GroupEvent::Lost(share));
        }
    }

    /// Unassigns first: what is still queued is then out of date to librdkafka. Then stops the forwarding
    /// (librdkafka #1335).
    fn give_back(&mut self) {
        self.assign(None);
        if self.reading {
            for &partition in self.wanted.keys() {
                for topic in self.topics.iter().flatten() {
                    forward(&self.consumer, topic, partition, None);
                }
            }
        }
        self.wanted.clear();
        self.reading = false;
        self.set_assigned(&[]);
        self.health.forget_logs();
    }

    fn assign(&self, partitions: Option<&TopicPartitionList>) {
        let result = match partitions {
            Some(partitions) => self.consumer.assign(partitions),
            None => self.consumer.unassign(),
        };
        if let Err(error) = result {
            self.fail(&error.to_string());
        }
    }

    fn set_assigned(&self, partitions: &[PartitionId]) {
        *lock(&self.assigned) = partitions.iter().copied().collect();
    }

    fn worker_of(&self, partition: PartitionId) -> usize {
        usize::try_from(partition.0).unwrap_or(0) % self.workers.len()
    }

    /// The assigned partitions of each worker that has any.
    fn shares(&self) -> BTreeMap<usize, Vec<PartitionId>> {
        let mut shares = BTreeMap::<usize, Vec<PartitionId>>::new();
        for &partition in self.wanted.keys() {
            shares.entry(self.worker_of(partition)).or_default().push(partition);
        }
        shares
    }

    fn tell_all(&self, event: impl Fn() -> GroupEvent) {
        for worker in 0..self.workers.len() {
            self.tell(worker, event());
        }
    }

    /// A worker that is gone needs no event; one that has stopped to poll would never read it.
    fn tell(&self, worker: usize, event: GroupEvent) {
        let worker = &self.workers[worker];
        if let Err(TrySendError::Full(_)) = worker.events.try_send(event) {
            self.fail("a worker has stopped to poll its source");
        }
        worker.waker.raise();
    }
}

/// The partition numbers of an assignment, or one that is assigned of one topic only.
fn pair(assigned: &[(Stream, PartitionId)], labels: bool) -> Result<Vec<PartitionId>, PartitionId> {
    let of = |wanted| {
        let part = assigned.iter().filter(move |(stream, _)| *stream == wanted);
        part.map(|&(_, partition)| partition).collect::<BTreeSet<_>>()
    };
    let inferences = of(Stream::Inferences);
    if labels && let Some(&alone) = inferences.symmetric_difference(&of(Stream::Labels)).next() {
        return Err(alone);
    }
    Ok(inferences.into_iter().collect())
}

/// Waits until every reply has been sent or dropped, at most so long.
#[expect(clippy::disallowed_methods, reason = "an edge: the budget of a revocation is wall time")]
fn wait_for_all(replies: &Receiver<()>, budget: Duration) -> bool {
    let deadline = Instant::now() + budget;
    loop {
        match replies.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return true,
            Err(RecvTimeoutError::Timeout) => return false,
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Held by all sources and the commits; the last of them to go ends the control thread.
#[derive(Debug)]
pub(super) struct Membership {
    pub(super) stop: Arc<AtomicBool>,
    pub(super) ended: Mutex<Receiver<()>>,
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(LEAVE_TIMEOUT) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("Kafka does not answer: the group is left by its session timeout");
        }
    }
}

/// Commits the processed positions, for lag tools and people only.
pub struct KafkaCommits {
    pub(super) consumer: Arc<GroupConsumer>,
    pub(super) topics: TopicNames,
    pub(super) assigned: Assigned,
    /// Last, so that it is dropped after the client.
    pub(super) _membership: Arc<Membership>,
}

impl Commits for KafkaCommits {
    /// Asks for the commit and does not wait; partitions that are no longer assigned are left out.
    fn commit(&self, marks: &[Mark]) -> Result<(), SourceError> {
        let client = |error: KafkaError| SourceError::Client(error.to_string());
        let assigned = lock(&self.assigned).clone();
        let mut list = TopicPartitionList::with_capacity(marks.len() * 2);
        for mark in marks.iter().filter(|mark| assigned.contains(&mark.partition)) {
            for stream in Stream::BOTH {
                if let Some(topic) = &self.topics[stream.index()] {
                    let next = Offset::Offset(mark.positions.of(stream));
                    list.add_partition_offset(topic, mark.partition.0, next).map_err(client)?;
                }
            }
        }
        if list.count() == 0 {
            return Ok(());
        }
        self.consumer.commit(&list, CommitMode::Async).map_err(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Stream::{Inferences, Labels};

    const P0: PartitionId = PartitionId(0);
    const P3: PartitionId = PartitionId(3);

    #[test]
    fn equal_numbers_are_paired() {
        let both = [(Labels, P3), (Inferences, P0), (Labels, P0), (Inferences, P3)];
        assert_eq!(pair(&both, true), Ok(vec![P0, P3]));
        assert_eq!(pair(&[], true), Ok(vec![]));
    }

    #[test]
    fn partition_of_one_topic_only_is_refused() {
        assert_eq!(pair(&[(Inferences, P0), (Labels, P0), (Labels, P3)], true), Err(P3));
        assert_eq!(pair(&[(Inferences, P0)], true), Err(P0));
        assert_eq!(pair(&[(Inferences, P0)], false), Ok(vec![P0]));
    }

    #[test]
    fn dropped_and_sent_replies_are_answers() {
        let (reply, replies) = sync_channel(2);
        reply.send(()).unwrap();
        drop(reply.clone());
        assert!(!wait_for_all(&replies, Duration::ZERO));
        drop(reply);
        assert!(wait_for_all(&replies, Duration::ZERO));
    }
}
