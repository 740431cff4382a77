//! One worker: a plain struct that is driven step by step, by its thread or by a simulator. It never waits for the
//! writer or for ClickHouse: what it asks for comes back as a message, and group events are served meanwhile.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::budget::Pressure;
use super::intake::Intake;
use super::starts::Start;
use super::{PipelineError, PipelineSettings, Shared};
use crate::engine::event::{PartitionId, Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::state::Frozen;
use crate::engine::time::EventTime;
use crate::engine::{Progress, Shard};
use crate::sink::DeadLetter;
use crate::source::{Reply, Source, SourceEvent, StartAt};
use crate::telemetry::{Cause, Holding, Telemetry};

/// How long group events are waited for while records wait for a schema.
const SCHEMA_WAIT: Duration = Duration::from_millis(20);

/// What is known of partitions that a worker was assigned.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The newest mark of each; one that has none is left out.
    pub marks: Vec<Mark>,
    /// Those whose newest mark is behind one that this process has written or read, in a topic at least: rows were lost,
    /// and a shard that was kept does not know that.
    pub gone_back: Vec<PartitionId>,
}

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
    /// The answer to [`FromWorker::MarksWanted`].
    Marks {
        /// The request.
        request: u64,
        /// What is known of the partitions.
        known: Known,
    },
    /// The tables have lost rows, or another instance has begun a partition: give all partitions up and begin them
    /// again from the newest marks.
    BeginAgain,
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
pub(super) struct Leaving {
    pub(super) shards: BTreeMap<PartitionId, Shard>,
    /// Dropping it answers the control thread.
    reply: Reply,
    /// Then it is answered, written or not.
    deadline: Duration,
    /// The flush that writes them.
    frozen_in: Option<u64>,
}

/// What a flush that is not acknowledged yet writes.
#[derive(Debug)]
struct InFlight {
    flush: u64,
    partitions: BTreeSet<PartitionId>,
}

/// One worker.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, no states of one machine")]
pub struct Worker<S> {
    pub(super) id: usize,
    pub(super) settings: Arc<PipelineSettings>,
    pub(super) shared: Arc<Shared>,
    pub(super) telemetry: Telemetry,
    source: S,
    pub(super) intake: Intake,
    pub(super) leaving: Vec<Leaving>,
    /// Shards of partitions that were given up: they go on from where they stand if the partition comes back.
    pub(super) kept: BTreeMap<PartitionId, Shard>,
    /// Where partitions began that had no mark, until a mark of theirs is known to be written.
    begun: BTreeMap<PartitionId, Positions>,
    /// Assigned partitions whose marks have been asked for, with the request.
    pub(super) awaiting: BTreeMap<PartitionId, u64>,
    requests: u64,
    /// Shards that read again what was counted before, with the positions where that ends.
    pub(super) rebuilding: BTreeMap<PartitionId, Positions>,
    pub(super) ended: BTreeSet<(PartitionId, Stream)>,
    pub(super) reached: (usize, usize),
    pub(super) outbox: VecDeque<FromWorker>,
    in_flight: Option<InFlight>,
    pub(super) start: Start,
    has_asked_for_flush: bool,
    pub(super) is_stopping: bool,
    pub(super) pressure: Pressure,
    /// The flush whose freeze found memory exhausted: if it frees nothing, nothing will.
    pub(super) last_hope: Option<u64>,
    pub(super) hopeless: u32,
    /// Seal marks when memory was last found exhausted, of the shards that held it.
    pub(super) last_sealed: BTreeMap<PartitionId, EventTime>,
    /// One batch may be read although memory is exhausted.
    pub(super) has_ration: bool,
    /// Since the last freeze.
    pub(super) has_read: bool,
    /// A preferred topic had nothing: until it has, both are read.
    pub(super) quiet: Option<Stream>,
    /// Steps in a row that a topic was preferred.
    pub(super) preferred_turns: u32,
    pub(super) holding: Holding,
    pub(super) is_waiting_for_schema: bool,
    /// It has asked for its assignment anew.
    is_beginning_again: bool,
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
        shared.memory.join();
        Ok(Self {
            id,
            settings,
            shared,
            telemetry,
            source,
            intake,
            leaving: Vec::new(),
            kept: BTreeMap::new(),
            begun: BTreeMap::new(),
            awaiting: BTreeMap::new(),
            requests: 0,
            rebuilding: BTreeMap::new(),
            ended: BTreeSet::new(),
            reached: (0, 0),
            outbox: VecDeque::new(),
            in_flight: None,
            start: Start::default(),
            has_asked_for_flush: false,
            is_stopping: false,
            pressure: Pressure::default(),
            last_hope: None,
            hopeless: 0,
            last_sealed: BTreeMap::new(),
            has_ration: false,
            has_read: false,
            quiet: None,
            preferred_turns: 0,
            holding: Holding::default(),
            is_waiting_for_schema: false,
            is_beginning_again: false,
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
            ToWorker::Marks { request, known } => self.begin(request, &known)?,
            ToWorker::BeginAgain => self.begin_again()?,
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
            self.account();
        }
        self.tell_schema();
        let (take, preferred, wait) = self.take(wait);
        let wait = if self.intake.waits_for().is_some() { wait.min(SCHEMA_WAIT) } else { wait };
        match self.source.poll(take, wait)? {
            SourceEvent::Records(records) => {
                if records.records.iter().any(|record| Some(record.stream) == self.quiet) {
                    self.quiet = None;
                }
                self.has_read = true;
                self.has_ration = false;
                self.intake.take_in(records.records)?;
                self.account();
            }
            SourceEvent::Assigned(partitions) => self.assigned(partitions),
            SourceEvent::Revoked(partitions, reply) => self.revoked(&partitions, reply, now),
            SourceEvent::Lost(partitions) => self.lost(&partitions),
            SourceEvent::Ended(stream, partition, end) => self.end(stream, partition, end),
            SourceEvent::Quiet => self.quiet = preferred.or(self.quiet),
        }
        self.report_reached();
        Ok(())
    }

    // Group events.

    fn assigned(&mut self, partitions: Vec<PartitionId>) {
        // Also where the group was faster than what this worker had asked for.
        self.is_beginning_again = false;
        // A revocation that the control thread no longer waits for: the partitions are back already.
        self.put_aside_where(|leaving| partitions.iter().any(|p| leaving.shards.contains_key(p)));
        // The same again: what could not be started goes on from what it holds.
        let again = self.take_out(&partitions);
        self.kept.extend(again);
        self.requests += 1;
        for &partition in &partitions {
            self.awaiting.insert(partition, self.requests);
        }
        self.tell_partitions("assigned", &partitions);
        self.account_starting();
        if self.shared.starts.assigned() && !partitions.is_empty() {
            let reason = "partitions are assigned: rows of theirs are still to be written";
            self.telemetry.not_ready(Cause::Starting, reason);
        }
        if !partitions.is_empty() {
            let request = self.requests;
            self.outbox.push_back(FromWorker::MarksWanted { worker: self.id, request, partitions });
        }
    }

    /// The marks are there: shards that were kept go on from where they stand, unless the floor has passed them or
    /// another instance has begun their partition elsewhere, or has judged schemas otherwise; the others are rebuilt.
    fn begin(&mut self, request: u64, known: &Known) -> Result<(), PipelineError> {
        let awaited: Vec<PartitionId> =
            self.awaiting.iter().filter(|&(_, &of)| of == request).map(|(&p, _)| p).collect();
        // What these have written down is lost.
        self.kept.retain(|partition, _| !known.gone_back.contains(partition));
        if awaited.is_empty() {
            return Ok(());
        }
        let marks = &known.marks;
        let mark_of = |partition| marks.iter().find(|mark| mark.partition == partition);
        let is_fresh = |p: &PartitionId| mark_of(*p).is_none() && !self.kept.contains_key(p);
        let fresh: Vec<PartitionId> = awaited.iter().copied().filter(is_fresh).collect();
        let begins = if fresh.is_empty() { Vec::new() } else { self.source.beginning(&fresh)? };
        let start = |(partition, from)| StartAt { partition, from, counted: from };
        let mut starts: Vec<StartAt> = begins.into_iter().map(start).collect();
        for &StartAt { partition, from, .. } in &starts {
            let mark = Mark::start(partition, from, self.settings.shard.clock_stamps);
            self.insert(Shard::new(Arc::clone(&self.settings.shard), &mark), None);
            self.begun.insert(partition, from);
        }
        for &partition in awaited.iter().filter(|p| !fresh.contains(p)) {
            let mark = mark_of(partition);
            let begun = mark.and_then(|_| self.begun.remove(&partition));
            // Two instances that find no mark may begin at two places, and the tables hold what the first has counted.
            // Where the floor has passed a kept shard, less is to be read from the floor, and before it the log may end.
            let kept = self.kept.remove(&partition).filter(|shard| {
                let is_past = |mark: &Mark, stream| {
                    shard.positions().of(stream) >= mark.floor.positions.of(stream)
                };
                mark.is_none_or(|mark| {
                    begun.is_none_or(|begun| mark.has_begun_at(begun))
                        && Stream::BOTH.iter().all(|&stream| is_past(mark, stream))
                        && shard.has_judged_as(mark)
                })
            });
            let (shard, target) = match (kept, mark) {
                (Some(mut shard), Some(mark)) => {
                    shard.go_on(mark);
                    (shard, Some(mark.positions))
                }
                (Some(shard), None) => (shard, None),
                (None, Some(mark)) => {
                    (Shard::new(Arc::clone(&self.settings.shard), mark), Some(mark.positions))
                }
                (None, None) => continue,
            };
            let from = shard.positions();
            // A kept shard may be further than its mark.
            let counted = target.map_or(from, |target| target.furthest(from));
            starts.push(StartAt { partition, from, counted });
            self.insert(shard, target);
        }
        // Where nobody said where one begins, it comes again.
        let is_started = |partition: PartitionId| starts.iter().any(|of| of.partition == partition);
        self.awaiting.retain(|&partition, of| *of != request || !is_started(partition));
        self.source.start(&starts)?;
        self.account();
        Ok(())
    }

    /// All partitions come back as a new assignment; only those whose marks are older now are rebuilt.
    fn begin_again(&mut self) -> Result<(), PipelineError> {
        // The flush has written nothing that counts.
        self.in_flight = None;
        if std::mem::replace(&mut self.is_beginning_again, true) {
            return Ok(());
        }
        self.put_aside_where(|_| true);
        if self.intake.shards.is_empty() {
            // What it waits for begins with marks that are read after this.
            self.is_beginning_again = false;
            return Ok(());
        }
        Ok(self.source.reassign()?)
    }

    fn insert(&mut self, shard: Shard, target: Option<Positions>) {
        if let Some(target) = target.filter(|_| !shard.has_caught_up()) {
            self.rebuilding.insert(shard.partition(), target);
        }
        self.intake.shards.insert(shard.partition(), shard);
    }

    /// The shards are written down before the control thread is answered, if that succeeds in time: where a flush is
    /// under way, by that one. What was read since it began is little, and the group stands still meanwhile.
    fn revoked(&mut self, partitions: &[PartitionId], reply: Reply, now: Duration) {
        let shards = self.take_out(partitions);
        let mut ready = shards.values().filter(|shard| shard.has_caught_up()).peekable();
        if ready.peek().is_some() {
            let flush = self.in_flight.as_ref().and_then(|of| {
                let has_all = ready.all(|shard| of.partitions.contains(&shard.partition()));
                has_all.then_some(of.flush)
            });
            let deadline = now.saturating_add(self.settings.drain_budget.mul_f64(0.8));
            self.leaving.push(Leaving { shards, reply, deadline, frozen_in: flush });
            if flush.is_none() {
                self.ask_for_flush();
            }
        } else {
            self.kept.extend(shards);
            drop(reply);
        }
        self.account_starting();
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
        self.is_beginning_again = false;
        self.account_starting();
        self.tell_partitions("lost", partitions);
    }

    /// A bounded source has given all of a topic partition up to the offset `end`.
    fn end(&mut self, stream: Stream, partition: PartitionId, end: i64) {
        self.ended.insert((partition, stream));
        // Compaction may have removed the last records before the mark: there is nothing more to wait for. But where
        // the mark lies beyond the end, another instance has read further: then there is nothing to write.
        if let Some(target) = self.rebuilding.get(&partition)
            && target.of(stream) <= end
            && self.intake.waits_for().is_none()
            && let Some(shard) = self.intake.shards.get_mut(&partition)
        {
            shard.skip_to(stream, target.of(stream));
        }
        let read = Stream::BOTH.into_iter().filter(|&stream| self.intake.reads(stream));
        if self.settings.shard.progress == Progress::End
            && read.into_iter().all(|stream| self.ended.contains(&(partition, stream)))
            && let Some(shard) = self.intake.shards.get_mut(&partition)
        {
            shard.finish();
        }
        self.account();
    }

    fn take_out(&mut self, partitions: &[PartitionId]) -> BTreeMap<PartitionId, Shard> {
        for &partition in partitions {
            self.awaiting.remove(&partition);
            self.rebuilding.remove(&partition);
            self.ended.retain(|&(ended, _)| ended != partition);
        }
        partitions.iter().filter_map(|&p| Some((p, self.intake.remove(p)?))).collect()
    }

    /// Keeps the shards of these revocations, and answers them.
    fn put_aside_where(&mut self, is: impl Fn(&Leaving) -> bool) {
        for Leaving { shards, reply, .. } in self.leaving.extract_if(.., |leaving| is(leaving)) {
            self.kept.extend(shards);
            drop(reply);
        }
    }

    /// Answers revocations whose time is up: what is not written is read again by whoever is next.
    fn answer_in_time(&mut self, now: Duration) {
        let is_late = |leaving: &Leaving| leaving.deadline <= now;
        for leaving in self.leaving.iter().filter(|&leaving| is_late(leaving)) {
            let partitions: Vec<i32> = leaving.shards.keys().map(|p| p.0).collect();
            tracing::warn!(?partitions, "given up without a flush: it did not end in time");
        }
        self.put_aside_where(is_late);
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
        let frozen: Vec<Frozen> = ready.map(|shard| shard.freeze(names)).collect();
        let partitions = frozen.iter().map(|shard| shard.mark.partition).collect();
        self.in_flight = Some(InFlight { flush, partitions });
        let letters = intake.letters.take();
        self.has_asked_for_flush = false;
        self.has_read = false;
        self.last_hope = self.is_exhausted().then_some(flush);
        self.outbox.push_back(FromWorker::Frozen { flush, frozen, letters });
    }

    fn clean(&mut self, flush: u64, marks: &[Mark]) -> Result<(), PipelineError> {
        self.in_flight = None;
        for mark in marks {
            self.begun.remove(&mark.partition);
            let going = self.leaving.iter_mut().find_map(|l| l.shards.get_mut(&mark.partition));
            let shard = self.intake.shards.get_mut(&mark.partition).or(going);
            if let Some(shard) = shard.or_else(|| self.kept.get_mut(&mark.partition)) {
                shard.clean(mark);
            }
        }
        self.put_aside_where(|leaving| leaving.frozen_in.is_some_and(|of| of <= flush));
        self.account();
        self.hope(flush)
    }

    pub(super) fn ask_for_flush(&mut self) {
        if !self.has_asked_for_flush {
            self.has_asked_for_flush = true;
            self.outbox.push_back(FromWorker::FlushWanted);
        }
    }
}

impl<S> Drop for Worker<S> {
    fn drop(&mut self) {
        self.shared.memory.replace(self.holding.bytes, 0);
        self.shared.starts.replace(self.start, Start::GoesOn);
    }
}
