//! One worker: a plain struct that is driven step by step, by its thread or by a simulator. It never waits for the
//! writer or for ClickHouse: what it asks for comes back as a message, and group events are served meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::{self, Clocks, Pressure};
use super::intake::Intake;
use super::{PipelineError, PipelineSettings, Shared};
use crate::engine::Shard;
use crate::engine::event::{PartitionId, Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::state::Frozen;
use crate::sink::DeadLetter;
use crate::source::{Reply, Source, SourceEvent, Take};
use crate::telemetry::{Cause, Holding, Telemetry};

/// How long a preferred topic is waited for before the other is read too.
const PREFERENCE_WAIT: Duration = Duration::from_millis(20);
/// How long group events are waited for while records wait for a schema.
const SCHEMA_WAIT: Duration = Duration::from_millis(20);

/// From the writer's task to a worker. In order, and at most a few at a time.
#[derive(Debug)]
pub enum ToWorker {
    /// Freeze and answer with [`FromWorker::Frozen`]. Flushes are numbered, ascending.
    Freeze {
        /// The flush.
        flush: u64,
    },
    /// All that was frozen for this flush is acknowledged.
    Clean {
        /// The flush.
        flush: u64,
        /// The marks that were written.
        marks: Vec<Mark>,
    },
    /// The answer to [`FromWorker::MarksWanted`]: one mark at most of each partition.
    Marks {
        /// The request.
        request: u64,
        /// The newest marks.
        marks: Vec<Mark>,
    },
    /// Read nothing more; go on to answer.
    Stop,
}

/// From a worker to the writer's task.
#[derive(Debug)]
pub enum FromWorker {
    /// The answer to [`ToWorker::Freeze`].
    Frozen {
        /// The flush.
        flush: u64,
        /// One for each shard that has caught up.
        frozen: Vec<Frozen>,
        /// The letters since the last flush.
        letters: Vec<DeadLetter>,
    },
    /// The newest marks of these partitions are needed.
    MarksWanted {
        /// Which worker.
        worker: usize,
        /// The number of the request.
        request: u64,
        /// The partitions.
        partitions: Vec<PartitionId>,
    },
    /// A flush before its time is needed. Sent once until the next freeze.
    FlushWanted,
    /// How many partitions the worker owns, and of how many all has been read.
    Reached {
        /// Which worker.
        worker: usize,
        /// Partitions owned.
        owned: usize,
        /// Partitions of which all is read (bounded sources only).
        ended: usize,
    },
}

/// Partitions that were revoked and are written down for the last time.
#[derive(Debug)]
struct Leaving {
    shards: BTreeMap<PartitionId, Shard>,
    /// Dropping it answers the control thread.
    reply: Reply,
    /// Then it is answered, written or not.
    deadline: Duration,
    /// The flush that wrote them.
    frozen_in: Option<u64>,
}

/// One worker.
#[derive(Debug)]
pub struct Worker<S> {
    id: usize,
    settings: Arc<PipelineSettings>,
    shared: Arc<Shared>,
    telemetry: Telemetry,
    source: S,
    intake: Intake,
    leaving: Vec<Leaving>,
    /// Shards of partitions that were given up: they go on from where they stand if the partition comes back.
    kept: BTreeMap<PartitionId, Shard>,
    /// Assigned partitions whose marks have been asked for, with the request.
    awaiting: BTreeMap<PartitionId, u64>,
    requests: u64,
    /// Shards that read again what was counted before, with the positions where that ends.
    rebuilding: BTreeMap<PartitionId, Positions>,
    ended: BTreeSet<(PartitionId, Stream)>,
    reached: (usize, usize),
    outbox: VecDeque<FromWorker>,
    has_asked_for_flush: bool,
    is_stopping: bool,
    pressure: Pressure,
    /// The flush whose freeze found memory exhausted: if it frees nothing, nothing will.
    last_hope: Option<u64>,
    /// A preferred topic had nothing: until it has, both are read.
    quiet: Option<Stream>,
    holding: Holding,
    is_waiting_for_schema: bool,
}

impl<S: Source> Worker<S> {
    /// A worker that owns nothing yet. `id` counts from 0.
    pub fn new(
        id: usize,
        source: S,
        settings: Arc<PipelineSettings>,
        shared: Arc<Shared>,
        telemetry: Telemetry,
    ) -> Result<Self, PipelineError> {
        let intake = Intake::new(&settings)?;
        Ok(Self {
            id,
            settings,
            shared,
            telemetry,
            source,
            intake,
            leaving: Vec::new(),
            kept: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            requests: 0,
            rebuilding: BTreeMap::new(),
            ended: BTreeSet::new(),
            reached: (0, 0),
            outbox: VecDeque::new(),
            has_asked_for_flush: false,
            is_stopping: false,
            pressure: Pressure::default(),
            last_hope: None,
            quiet: None,
            holding: Holding::default(),
            is_waiting_for_schema: false,
        })
    }

    /// The messages for the writer, in order. Whoever drives the worker takes them off.
    pub fn outbox(&mut self) -> &mut VecDeque<FromWorker> {
        &mut self.outbox
    }

    /// Takes in a message of the writer's task, between two batches.
    pub fn receive(&mut self, message: ToWorker) -> Result<(), PipelineError> {
        match message {
            ToWorker::Freeze { flush } => self.freeze(flush),
            ToWorker::Clean { flush, marks } => self.clean(flush, &marks)?,
            ToWorker::Marks { request, marks } => self.begin(request, &marks)?,
            ToWorker::Stop => self.is_stopping = true,
        }
        self.report_reached();
        Ok(())
    }

    /// One step: what comes next from the source, waited for at most `wait`. `now` is any steady time.
    pub fn step(&mut self, now: Duration, wait: Duration) -> Result<(), PipelineError> {
        self.answer_in_time(now);
        if self.intake.waits_for().is_some() {
            self.intake.retry_pending()?;
            self.account()?;
        }
        self.tell_schema();
        let (take, preferred) = self.take();
        let wait = if preferred.is_some() { wait.min(PREFERENCE_WAIT) } else { wait };
        let wait = if self.intake.waits_for().is_some() { wait.min(SCHEMA_WAIT) } else { wait };
        match self.source.poll(take, wait)? {
            SourceEvent::Records(records) => {
                if records.records.iter().any(|record| Some(record.stream) == self.quiet) {
                    self.quiet = None;
                }
                self.intake.take_in(records.records)?;
                self.account()?;
            }
            SourceEvent::Assigned(partitions) => self.assigned(partitions),
            SourceEvent::Revoked(partitions, reply) => self.revoked(&partitions, reply, now),
            SourceEvent::Lost(partitions) => self.lost(&partitions),
            SourceEvent::Ended(stream, partition) => self.end(stream, partition)?,
            SourceEvent::Quiet => self.quiet = preferred.or(self.quiet),
        }
        self.report_reached();
        Ok(())
    }

    // Group events.

    fn assigned(&mut self, partitions: Vec<PartitionId>) {
        // A revocation that the control thread no longer waits for: the partitions are back already.
        let is_back = |leaving: &Leaving| partitions.iter().any(|p| leaving.shards.contains_key(p));
        let (back, leaving) = std::mem::take(&mut self.leaving).into_iter().partition(is_back);
        self.leaving = leaving;
        back.into_iter().for_each(|leaving| self.put_aside(leaving));
        self.requests += 1;
        for &partition in &partitions {
            self.awaiting.insert(partition, self.requests);
        }
        self.tell_partitions("assigned", &partitions);
        if !partitions.is_empty() {
            let request = self.requests;
            self.outbox.push_back(FromWorker::MarksWanted { worker: self.id, request, partitions });
        }
    }

    /// The marks are there: shards that were kept go on if nobody has come further meanwhile, the others are rebuilt.
    fn begin(&mut self, request: u64, marks: &[Mark]) -> Result<(), PipelineError> {
        let awaited: Vec<PartitionId> =
            self.awaiting.iter().filter(|&(_, &of)| of == request).map(|(&p, _)| p).collect();
        if awaited.is_empty() {
            return Ok(());
        }
        let mark_of = |partition| marks.iter().find(|mark| mark.partition == partition);
        let fresh: Vec<PartitionId> =
            awaited.iter().copied().filter(|&p| mark_of(p).is_none()).collect();
        let fresh: Vec<PartitionId> =
            fresh.into_iter().filter(|p| !self.kept.contains_key(p)).collect();
        let mut starts =
            if fresh.is_empty() { Vec::new() } else { self.source.beginning(&fresh)? };
        for &(partition, positions) in &starts {
            let mark = Mark::start(partition, positions, self.settings.shard.clock_stamps);
            self.insert(Shard::new(Arc::clone(&self.settings.shard), &mark), None);
        }
        for &partition in awaited.iter().filter(|p| !fresh.contains(p)) {
            let mark = mark_of(partition);
            let kept = self.kept.remove(&partition).filter(|shard| {
                let at = shard.positions();
                mark.is_none_or(|mark| mark.order() <= at.inferences.saturating_add(at.labels))
            });
            let (shard, target) = match (kept, mark) {
                (Some(shard), _) => (shard, None),
                (None, Some(mark)) => {
                    (Shard::new(Arc::clone(&self.settings.shard), mark), Some(mark.positions))
                }
                (None, None) => continue,
            };
            starts.push((partition, shard.positions()));
            self.insert(shard, target);
        }
        awaited.iter().for_each(|partition| {
            self.awaiting.remove(partition);
        });
        self.source.start(&starts)?;
        self.telemetry.ready(Cause::Starting);
        self.account()
    }

    fn insert(&mut self, shard: Shard, target: Option<Positions>) {
        if let Some(target) = target.filter(|_| !shard.has_caught_up()) {
            self.rebuilding.insert(shard.partition(), target);
        }
        self.intake.shards.insert(shard.partition(), shard);
    }

    /// The shards are written down once more before the control thread is answered, if that succeeds in time.
    fn revoked(&mut self, partitions: &[PartitionId], reply: Reply, now: Duration) {
        let shards: BTreeMap<PartitionId, Shard> = self.take_out(partitions);
        let deadline = now.saturating_add(self.settings.drain_budget.mul_f64(0.8));
        let leaving = Leaving { shards, reply, deadline, frozen_in: None };
        if leaving.shards.values().any(Shard::has_caught_up) {
            self.leaving.push(leaving);
            self.ask_for_flush();
        } else {
            self.put_aside(leaving);
        }
        self.tell_partitions("revoked", partitions);
    }

    fn lost(&mut self, partitions: &[PartitionId]) {
        let shards = self.take_out(partitions);
        self.kept.extend(shards);
        for leaving in &mut self.leaving {
            for partition in partitions {
                self.kept.extend(leaving.shards.remove_entry(partition));
            }
        }
        self.leaving.retain(|leaving| !leaving.shards.is_empty());
        self.tell_partitions("lost", partitions);
    }

    /// A bounded source has given all of a topic partition.
    fn end(&mut self, stream: Stream, partition: PartitionId) -> Result<(), PipelineError> {
        self.ended.insert((partition, stream));
        // Compaction may have removed the last records before the mark: there is nothing more to wait for.
        if let Some(target) = self.rebuilding.get(&partition)
            && self.intake.waits_for().is_none()
            && let Some(shard) = self.intake.shards.get_mut(&partition)
        {
            shard.skip_to(stream, target.of(stream));
        }
        self.account()
    }

    fn take_out(&mut self, partitions: &[PartitionId]) -> BTreeMap<PartitionId, Shard> {
        for &partition in partitions {
            self.awaiting.remove(&partition);
            self.rebuilding.remove(&partition);
            self.ended.retain(|&(ended, _)| ended != partition);
        }
        partitions.iter().filter_map(|&p| Some((p, self.intake.remove(p)?))).collect()
    }

    fn put_aside(&mut self, leaving: Leaving) {
        let Leaving { shards, reply, .. } = leaving;
        self.kept.extend(shards);
        drop(reply);
    }

    /// Answers revocations whose time is up: what is not written is read again by whoever is next.
    fn answer_in_time(&mut self, now: Duration) {
        if self.leaving.iter().any(|leaving| leaving.deadline <= now) {
            let leaving = std::mem::take(&mut self.leaving);
            let (late, waiting) = leaving.into_iter().partition(|l| l.deadline <= now);
            self.leaving = waiting;
            let late: Vec<Leaving> = late;
            for leaving in late {
                let partitions: Vec<i32> = leaving.shards.keys().map(|p| p.0).collect();
                tracing::warn!(?partitions, "given up without a flush: it did not end in time");
                self.put_aside(leaving);
            }
        }
    }

    // The flush.

    fn freeze(&mut self, flush: u64) {
        let Self { intake, leaving, .. } = self;
        let Intake { names, shards, .. } = &mut *intake;
        let going = leaving.iter_mut().flat_map(|leaving| {
            leaving.frozen_in.get_or_insert(flush);
            leaving.shards.values_mut()
        });
        let ready = shards.values_mut().chain(going).filter(|shard| shard.has_caught_up());
        let frozen = ready.map(|shard| shard.freeze(names)).collect();
        let letters = intake.letters.take();
        self.has_asked_for_flush = false;
        if self.pressure == Pressure::Over || self.is_stuck() {
            self.last_hope = Some(flush);
        }
        self.outbox.push_back(FromWorker::Frozen { flush, frozen, letters });
    }

    fn clean(&mut self, flush: u64, marks: &[Mark]) -> Result<(), PipelineError> {
        for mark in marks {
            let going = self.leaving.iter_mut().find_map(|l| l.shards.get_mut(&mark.partition));
            let shard = self.intake.shards.get_mut(&mark.partition).or(going);
            if let Some(shard) = shard.or_else(|| self.kept.get_mut(&mark.partition)) {
                shard.clean(mark);
            }
        }
        let is_done = |leaving: &Leaving| leaving.frozen_in.is_some_and(|of| of <= flush);
        let (done, leaving) = std::mem::take(&mut self.leaving).into_iter().partition(is_done);
        self.leaving = leaving;
        let done: Vec<Leaving> = done;
        done.into_iter().for_each(|leaving| self.put_aside(leaving));
        self.account()?;
        if self.last_hope == Some(flush) {
            self.last_hope = None;
            if self.pressure == Pressure::Over || self.is_stuck() {
                return Err(self.exhausted());
            }
        }
        Ok(())
    }

    fn ask_for_flush(&mut self) {
        if !self.has_asked_for_flush {
            self.has_asked_for_flush = true;
            self.outbox.push_back(FromWorker::FlushWanted);
        }
    }

    // What to read.

    fn clocks(&self) -> Vec<Clocks> {
        self.intake.shards.iter().map(|(&p, shard)| (p, shard.standing().clocks)).collect()
    }

    /// What to read next, and whether that is only a preference.
    fn take(&self) -> (Take, Option<Stream>) {
        let must_wait = self.is_stopping
            || self.intake.waits_for().is_some()
            || self.intake.letters.is_full()
            || self.pressure == Pressure::Over;
        if must_wait {
            return (Take::Nothing, None);
        }
        if !self.intake.reads(Stream::Labels) {
            return (Take::Both, None);
        }
        let limits = &self.settings.shard.limits;
        if self.pressure == Pressure::Near && self.rebuilding.is_empty() {
            return (Take::Only(budget::frees_memory(&self.clocks(), limits)), None);
        }
        let preferred = match self.rebuilds_with() {
            Some(stream) => Some(stream),
            None => budget::behind(&self.clocks(), limits),
        };
        match preferred.filter(|&stream| self.quiet != Some(stream)) {
            Some(stream) => (Take::Only(stream), Some(stream)),
            None => (Take::Both, None),
        }
    }

    /// The one topic that the shards that are rebuilt still lack; none if both or neither.
    fn rebuilds_with(&self) -> Option<Stream> {
        let lacks = |stream: Stream| {
            self.rebuilding.iter().any(|(partition, target)| {
                let shard = self.intake.shards.get(partition);
                shard.is_some_and(|shard| shard.positions().of(stream) < target.of(stream))
            })
        };
        match (lacks(Stream::Inferences), lacks(Stream::Labels)) {
            (true, false) => Some(Stream::Inferences),
            (false, true) => Some(Stream::Labels),
            (true, true) | (false, false) => None,
        }
    }

    // Accounts.

    /// Counts what was read, and compares memory with the budget.
    fn account(&mut self) -> Result<(), PipelineError> {
        let counts = self.intake.take_counts();
        self.telemetry.batch(&counts);
        self.shared.count(&counts);
        let shards = &self.intake.shards;
        self.rebuilding.retain(|p, _| shards.get(p).is_some_and(|shard| !shard.has_caught_up()));
        let budget = self.settings.state_budget_bytes;
        let mut bytes = self.weigh();
        if self.pressure.next(bytes, budget) > Pressure::Free && !self.kept.is_empty() {
            self.kept.clear();
            bytes = self.weigh();
        }
        let before = self.pressure;
        self.pressure = before.next(bytes, budget);
        match self.pressure {
            Pressure::Free if before > Pressure::Free => self.telemetry.ready(Cause::StateBudget),
            Pressure::Free => {}
            Pressure::Near | Pressure::Over => {
                self.telemetry.not_ready(Cause::StateBudget, self.pressure_reason(bytes));
                // Windows seal and memory is freed at a flush.
                self.ask_for_flush();
            }
        }
        if self.intake.letters.is_full() {
            self.ask_for_flush();
        }
        Ok(())
    }

    /// Adds up what this worker holds; gives the sum over all workers.
    fn weigh(&mut self) -> usize {
        let going = self.leaving.iter().flat_map(|leaving| leaving.shards.values());
        let shards = self.intake.shards.values().chain(going).chain(self.kept.values());
        let mut holding = Holding { bytes: self.intake.bytes(), held: 0, kept: 0 };
        for standing in shards.map(Shard::standing) {
            holding.bytes += standing.bytes;
            holding.held += standing.held;
            holding.kept += standing.kept;
        }
        let sum = self.shared.memory.replace(self.holding.bytes, holding.bytes);
        self.holding = holding;
        self.telemetry.holding(self.id, holding);
        sum
    }

    /// The topic that would free memory, and the partition of it that is furthest behind.
    fn held_up_by(&self) -> (Stream, PartitionId) {
        let clocks = self.clocks();
        let stream = if self.intake.reads(Stream::Labels) {
            budget::frees_memory(&clocks, &self.settings.shard.limits)
        } else {
            Stream::Inferences
        };
        (stream, budget::least(&clocks, stream).map_or(PartitionId(-1), |(partition, _)| partition))
    }

    fn pressure_reason(&self, bytes: usize) -> String {
        let (stream, partition) = self.held_up_by();
        format!(
            "state holds {bytes} of {} bytes: partition {} of topic {} holds it up, the other topic is left unread \
             until it moves on",
            self.settings.state_budget_bytes,
            partition.0,
            stream.name()
        )
    }

    /// Whether memory is near the budget and the topic that would free it has ended.
    fn is_stuck(&self) -> bool {
        let (stream, _) = self.held_up_by();
        let mut owned = self.intake.shards.keys().peekable();
        self.pressure >= Pressure::Near
            && self.rebuilding.is_empty()
            && self.intake.reads(Stream::Labels)
            && owned.peek().is_some()
            && owned.all(|&partition| self.ended.contains(&(partition, stream)))
            && !self.has_ended()
    }

    fn exhausted(&self) -> PipelineError {
        let (stream, partition) = self.held_up_by();
        let bytes = self.shared.memory.bytes();
        PipelineError::StateBudget {
            partition: partition.0,
            topic: stream.name(),
            bytes,
            budget: self.settings.state_budget_bytes,
            enough: bytes.max(self.settings.state_budget_bytes).saturating_mul(2),
        }
    }

    fn has_ended(&self) -> bool {
        let (owned, ended) = self.count_ended();
        owned == ended
    }

    fn count_ended(&self) -> (usize, usize) {
        let is_ended = |partition: &&PartitionId| {
            let read = Stream::BOTH.into_iter().filter(|&stream| self.intake.reads(stream));
            read.into_iter().all(|stream| self.ended.contains(&(**partition, stream)))
        };
        let ended = match self.intake.waits_for() {
            Some(_) => 0,
            None => self.intake.shards.keys().filter(is_ended).count(),
        };
        (self.intake.shards.len() + self.awaiting.len(), ended)
    }

    fn report_reached(&mut self) {
        let reached = self.count_ended();
        if reached != self.reached {
            self.reached = reached;
            let (owned, ended) = reached;
            self.outbox.push_back(FromWorker::Reached { worker: self.id, owned, ended });
        }
    }

    fn tell_partitions(&self, change: &'static str, of: &[PartitionId]) {
        let owned = self.intake.shards.len() + self.awaiting.len();
        self.telemetry.assigned(self.id, owned, change, of);
    }

    fn tell_schema(&mut self) {
        match self.intake.waits_for() {
            Some(id) => {
                let why = self.settings.schemas.waiting();
                let why = why.iter().find(|waiting| waiting.id == id);
                let why = why.map_or("the registry is asked", |waiting| &waiting.reason);
                let reason = format!("records wait for schema {}: {why}", id.0);
                self.telemetry.not_ready(Cause::SchemaRegistry, reason);
                self.is_waiting_for_schema = true;
            }
            None if self.is_waiting_for_schema => {
                self.is_waiting_for_schema = false;
                self.telemetry.ready(Cause::SchemaRegistry);
            }
            None => {}
        }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.shared.memory.replace(self.holding.bytes, 0);
    }
}
