//! A worker's accounts: what it read and holds, how near memory is to the budget, and so what it reads next.

use std::collections::BTreeMap;
use std::time::Duration;

use super::PipelineError;
use super::budget::{self, Clocks, ManyNames, Pressure};
use super::intake::Wait;
use super::starts::Start;
use super::worker::{FromWorker, Worker};
use crate::engine::event::{PartitionId, Stream};
use crate::engine::time::EventTime;
use crate::engine::{Progress, Shard, Standing};
use crate::source::{Source, Take};
use crate::telemetry::{Cause, Holding, Largest};

/// One more byte for so many held: what the allocator keeps beside them, and a flush while it lasts. Measured: resident
/// memory grows by 1.2 to 1.4 times what is held.
const BESIDE: usize = 4;
/// How long a preferred topic is waited for before the other is read too.
const PREFERENCE_WAIT: Duration = Duration::from_millis(20);
/// After so many batches of a topic that is behind the other has one.
const PREFERRED_TURNS: u32 = 7;

impl<S: Source> Worker<S> {
    /// The shards that hold their share of the memory or more: one that holds next to nothing frees nothing either, and
    /// its clocks may stand still for good.
    fn holders(&self) -> impl Iterator<Item = (PartitionId, Standing)> {
        let all: Vec<_> =
            self.intake.shards.iter().map(|(&p, shard)| (p, shard.standing())).collect();
        let bytes: usize = all.iter().map(|(_, standing)| standing.bytes).sum();
        let count = all.len();
        all.into_iter().filter(move |(_, of)| of.bytes.saturating_mul(count) >= bytes)
    }

    fn clocks(&self) -> Vec<Clocks> {
        self.holders().map(|(partition, standing)| (partition, standing.clocks)).collect()
    }

    /// What to read next, whether that is only a preference, and how long to wait for it, at most `wait`.
    pub(super) fn take(&mut self, wait: Duration) -> (Take, Option<Stream>, Duration) {
        let (take, preferred) = self.next();
        let Some(stream) = preferred else {
            self.preferred_turns = 0;
            return (take, None, wait);
        };
        // Where records of the one that is behind never end, rows of the other would stand still. A replay ends.
        if self.preferred_turns >= PREFERRED_TURNS && self.rebuilding.is_empty() {
            self.preferred_turns = 0;
            return (Take::Only(stream.other()), None, Duration::ZERO);
        }
        self.preferred_turns = self.preferred_turns.saturating_add(1);
        (take, preferred, wait.min(PREFERENCE_WAIT))
    }

    fn next(&self) -> (Take, Option<Stream>) {
        let must_wait = self.is_stopping
            || self.intake.waits_for().is_some()
            || self.intake.letters.is_full()
            || (self.pressure == Pressure::Over && !self.has_ration);
        if must_wait {
            return (Take::Nothing, None);
        }
        if !self.intake.reads(Stream::Labels) {
            return (Take::Both, None);
        }
        let limits = &self.settings.shard.limits;
        if self.pressure >= Pressure::Near && self.rebuilding.is_empty() {
            let (stream, _) = self.held_up_by();
            // What has ended frees nothing any more.
            let readable = if self.has_ended_of(stream) { stream.other() } else { stream };
            return (Take::Only(readable), None);
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
    pub(super) fn account(&mut self) {
        let counts = self.intake.take_counts();
        self.telemetry.batch(&counts);
        self.shared.count(&counts);
        // By event time nothing that was loaded later is late.
        if self.settings.shard.progress == Progress::Log {
            self.telemetry.mostly_late(self.shared.late.count(&counts));
        }
        let shards = &self.intake.shards;
        self.rebuilding.retain(|p, _| shards.get(p).is_some_and(|shard| !shard.has_caught_up()));
        self.account_starting();
        let budget = self.settings.state_budget_bytes;
        let mut bytes = self.weigh();
        if self.pressure.next(bytes, budget) > Pressure::Free {
            // First goes what only saves time.
            self.kept.clear();
            self.intake.shards.values_mut().for_each(Shard::settle);
            bytes = self.weigh();
        }
        let before = self.pressure;
        self.pressure = before.next(bytes, budget);
        match self.pressure {
            Pressure::Free if before > Pressure::Free => self.telemetry.ready(Cause::StateBudget),
            Pressure::Free => {}
            Pressure::Near | Pressure::Over => {
                self.telemetry.not_ready(Cause::StateBudget, self.pressure_reason(bytes));
                // Windows seal and memory is freed at a flush; one that seals nothing would only keep ClickHouse busy.
                let may_help = || self.is_exhausted() || self.would_seal();
                if self.has_read && may_help() {
                    self.ask_for_flush();
                }
            }
        }
        if self.intake.letters.is_full() {
            self.ask_for_flush();
        }
    }

    /// Rows have stood still long enough once all that was assigned goes on; but what one worker still lacks would wait
    /// for the whole of a flush that comes too early. (One that is due comes all the same.)
    pub(super) fn account_starting(&mut self) {
        let is = match (self.awaiting.is_empty(), self.rebuilding.is_empty()) {
            (_, false) => Start::ReadsAgain,
            (false, true) => Start::Waits,
            (true, true) => Start::GoesOn,
        };
        let was = std::mem::replace(&mut self.start, is);
        if self.shared.starts.replace(was, is) {
            self.ask_for_flush();
        }
    }

    /// Whether a flush would seal windows.
    fn would_seal(&self) -> bool {
        self.holders().any(|(_, of)| of.seals_until > of.sealed_until)
    }

    /// After a flush that began with memory exhausted. Others may not have dropped what it freed, so that only a
    /// second one that frees nothing shows that none will.
    pub(super) fn hope(&mut self, flush: u64) -> Result<(), PipelineError> {
        if self.last_hope != Some(flush) {
            return Ok(());
        }
        if !self.is_exhausted() {
            self.hopeless = 0;
            return Ok(());
        }
        let sealed: BTreeMap<PartitionId, EventTime> = self
            .holders()
            .map(|(partition, standing)| (partition, standing.sealed_until))
            .collect();
        let is_new = |(partition, to): (&PartitionId, &EventTime)| {
            self.last_sealed.get(partition).is_none_or(|before| to > before)
        };
        if sealed.iter().any(is_new) {
            // Windows go, slowly: read a little more of what seals the next ones.
            self.last_sealed.extend(sealed);
            self.has_ration = true;
            self.hopeless = 0;
            return Ok(());
        }
        if !self.shared.memory.is_large(self.holding.bytes) {
            // What this worker holds is not what fills the memory: whoever holds it frees it, or gives up.
            return Ok(());
        }
        self.hopeless += 1;
        if self.hopeless >= 2 {
            return Err(self.exhausted());
        }
        self.ask_for_flush();
        Ok(())
    }

    /// Whether nothing is read any more for lack of memory, so that only a flush can help.
    pub(super) fn is_exhausted(&self) -> bool {
        self.pressure == Pressure::Over
    }

    /// Adds up what this worker holds; gives the sum over all workers.
    fn weigh(&mut self) -> usize {
        let going = self.leaving.iter().flat_map(|leaving| leaving.shards.values());
        let shards = self.intake.shards.values().chain(going).chain(self.kept.values());
        let mut holding = Holding { bytes: self.intake.bytes(), held: 0, kept: 0 };
        let mut largest: Option<(PartitionId, Standing)> = None;
        for shard in shards {
            let standing = shard.standing();
            holding.bytes += standing.bytes;
            holding.held += standing.held;
            holding.kept += standing.kept;
            if largest.is_none_or(|(_, of)| of.bytes < standing.bytes) {
                largest = Some((shard.partition(), standing));
            }
        }
        holding.bytes += holding.bytes / BESIDE;
        let largest = largest.map(|(partition, of)| Largest {
            partition,
            bytes: of.bytes,
            behind: self.keeps((partition, of.clocks)),
        });
        self.shared.memory.replace_largest(self.id, largest);
        let sum = self.shared.memory.replace(self.holding.bytes, holding.bytes);
        self.holding = holding;
        self.telemetry.holding(self.id, holding);
        sum
    }

    /// The topic that would free memory, and the partition of it that is furthest behind.
    fn held_up_by(&self) -> (Stream, PartitionId) {
        let clocks = self.clocks();
        let stream = self.frees_memory(self.holders().map(|(p, of)| ((p, of.clocks), of.bytes)));
        (stream, budget::least(&clocks, stream).map_or(PartitionId(-1), |(partition, _)| partition))
    }

    /// The topic that keeps what a partition holds; none where both move, or no other is read.
    fn keeps(&self, clocks: Clocks) -> Option<Stream> {
        let reads_both = self.intake.reads(Stream::Labels);
        reads_both.then(|| budget::keeps(clocks, &self.settings.shard.limits)).flatten()
    }

    /// The topic that frees what these hold: inferences where no other is read.
    fn frees_memory(&self, holders: impl IntoIterator<Item = (Clocks, usize)>) -> Stream {
        if self.intake.reads(Stream::Labels) {
            budget::frees_memory(holders)
        } else {
            Stream::Inferences
        }
    }

    fn many_names(&self) -> Option<ManyNames> {
        ManyNames::filling(self.holding.bytes / (BESIDE + 1) * BESIDE, &self.intake.names)
    }

    fn pressure_reason(&self, bytes: usize) -> String {
        let budget = self.settings.state_budget_bytes;
        if let Some(names) = self.many_names() {
            return format!("state holds {bytes} of {budget} bytes: {names}");
        }
        let (stream, partition) = self.held_up_by();
        format!(
            "state holds {bytes} of {budget} bytes: partition {} of topic {} holds it up, the other topic is left \
             unread until it moves on",
            partition.0,
            stream.name()
        )
    }

    /// Whether a topic has ended in all partitions.
    fn has_ended_of(&self, stream: Stream) -> bool {
        let mut owned = self.intake.shards.keys().peekable();
        owned.peek().is_some() && owned.all(|&partition| self.ended.contains(&(partition, stream)))
    }

    fn exhausted(&self) -> PipelineError {
        let budget = self.settings.state_budget_bytes;
        if let Some(names) = self.many_names() {
            return PipelineError::Names { names, budget };
        }
        let (stream, partition) = self.held_up_by();
        let bytes = self.shared.memory.bytes();
        PipelineError::StateBudget {
            partition: partition.0,
            topic: stream.name(),
            bytes,
            budget,
            enough: bytes.max(budget).saturating_mul(2),
        }
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

    pub(super) fn report_reached(&mut self) {
        let reached = self.count_ended();
        if reached != self.reached {
            self.reached = reached;
            let (owned, ended) = reached;
            self.outbox.push_back(FromWorker::Reached { worker: self.id, owned, ended });
        }
    }

    pub(super) fn tell_partitions(&self, change: &'static str, of: &[PartitionId]) {
        let owned = self.intake.shards.len() + self.awaiting.len();
        self.telemetry.assigned(self.id, owned, change, of);
    }

    pub(super) fn tell_schema(&mut self) {
        match self.intake.waits_for().map(|wait| self.schema_reason(wait)) {
            Some(reason) => {
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

    fn schema_reason(&self, wait: &Wait) -> String {
        let schema = wait.schema;
        if let Some(lost) = &wait.lost {
            return format!(
                "records wait for schema {}, with which they were decoded before: {lost} under the same id",
                schema.0
            );
        }
        let why = self.settings.schemas.waiting();
        let why = why.iter().find(|waiting| waiting.id == schema);
        let why = why.map_or("the registry is asked", |waiting| &waiting.reason);
        format!("records wait for schema {}: {why}", schema.0)
    }
}
