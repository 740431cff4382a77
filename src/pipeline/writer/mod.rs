//! The one writer: the order of its [`flush`](Writer::flush) is what makes a crash at any point harmless.

mod attempts;
mod vouch;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use attempts::{Failures, persist};
use vouch::{Vouch, in_order};

pub(super) use vouch::STATES_AT_ONCE;

use super::audit::{Evaluated, Written};
use super::parts::{Parts, Plan, common, ends_in};
use super::step::{At, Step};
use super::worker::Known;
use super::{PipelineError, PipelineSettings};
use crate::engine::event::{PartitionId, Stream};
use crate::engine::floor::Mark;
use crate::engine::outcome::Outcomes;
use crate::engine::state::{Frozen, Key, StateRow};
use crate::engine::time::EventTime;
use crate::failpoint::{self, Point};
use crate::sink::{DeadLetter, DeadLetters, RowBatch, Sink, SinkError, row};
use crate::source::Commits;
use crate::telemetry::{FlushReport, Telemetry};

/// The workers, as the writer sees them during a flush.
pub trait Workers {
    /// Asks every worker to freeze its shards, and waits for all answers.
    fn freeze(&mut self) -> impl Future<Output = Result<Gathered, PipelineError>>;
    /// Tells the workers that everything they froze with these marks is acknowledged.
    fn clean(&mut self, marks: &[Mark]) -> impl Future<Output = Result<(), PipelineError>>;
    /// Tells the workers to begin all their partitions again, from the newest marks.
    fn begin_again(&mut self) -> impl Future<Output = Result<(), PipelineError>>;
}

/// What the workers handed over.
#[derive(Debug, Default)]
pub struct Gathered {
    /// One for each shard that has caught up.
    pub frozen: Vec<Frozen>,
    /// Records that could not be used, since the last flush.
    pub letters: Vec<DeadLetter>,
}

/// Writes what the workers froze. Owned by one task.
#[derive(Debug)]
pub struct Writer<C, K, D> {
    settings: Arc<PipelineSettings>,
    commits: C,
    sink: K,
    letters: D,
    telemetry: Telemetry,
    parts: Parts,
    /// The last mark written or read, by partition.
    marks: BTreeMap<PartitionId, Mark>,
    /// How far the offsets were committed for lag tools, by partition, since it was assigned.
    committed: BTreeMap<PartitionId, i64>,
    rows_written: u64,
    letters_sent: u64,
    flushes: u64,
    /// Calls that failed so far.
    failures: u64,
    /// How many of them had when the last flush began that ended: since then acknowledged rows may have been lost.
    trusted: u64,
    step: Step,
}

impl<C: Commits, K: Sink, D: DeadLetters> Writer<C, K, D> {
    /// A writer that remembers nothing.
    pub fn new(
        settings: Arc<PipelineSettings>,
        commits: C,
        sink: K,
        letters: D,
        telemetry: Telemetry,
    ) -> Self {
        let parts = parts_of(&settings);
        let (marks, committed) = (BTreeMap::new(), BTreeMap::new());
        Self {
            settings,
            commits,
            sink,
            letters,
            telemetry,
            parts,
            marks,
            committed,
            rows_written: 0,
            letters_sent: 0,
            flushes: 0,
            failures: 0,
            trusted: 0,
            step: Step::default(),
        }
    }

    /// Where the flush is.
    pub(super) fn step(&self) -> Step {
        self.step.clone()
    }

    /// What became of each topic's records since the job's start, by the last marks of the partitions.
    pub fn accounts(&self) -> [Outcomes; 2] {
        Stream::BOTH.map(|stream| {
            let mut all = Outcomes::default();
            let tallies = self.marks.values().flat_map(|mark| mark.tally.of(stream));
            tallies.for_each(|(_, outcomes)| all.add(outcomes));
            all
        })
    }

    /// Rows acknowledged so far, of all tables.
    pub fn rows_written(&self) -> u64 {
        self.rows_written
    }

    /// Dead letters acknowledged so far.
    pub fn letters_sent(&self) -> u64 {
        self.letters_sent
    }

    /// Flushes that wrote something.
    pub fn flushes(&self) -> u64 {
        self.flushes
    }

    /// The newest marks of partitions that a worker has been assigned. Waits for ClickHouse as long as it takes.
    pub async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Known, PipelineError> {
        let stored = persist!(self, self.sink.marks(partitions));
        // A commit of the owner before may not have reached the group in the middle of a rebalance.
        self.committed.retain(|partition, _| !partitions.contains(partition));
        let known: Vec<Mark> = partitions.iter().filter_map(|p| self.marks.remove(p)).collect();
        // Of several the newest counts.
        let mut marks: BTreeMap<PartitionId, Mark> = BTreeMap::new();
        for mark in stored {
            let place = marks.entry(mark.partition).or_insert_with(|| mark.clone());
            if place.order() < mark.order() {
                *place = mark;
            }
        }
        // Another owner that began from an older mark may have gone further in all, but not in each topic.
        let is_behind = |known: &&Mark| {
            let is = marks.get(&known.partition).map(|stored| stored.positions);
            let was = known.positions;
            is.is_none_or(|is| Stream::BOTH.iter().any(|&stream| is.of(stream) < was.of(stream)))
        };
        let gone_back: Vec<PartitionId> =
            known.iter().filter(is_behind).map(|mark| mark.partition).collect();
        if !gone_back.is_empty() {
            self.forget();
        }
        self.marks.extend(marks.clone());
        Ok(Known { marks: marks.into_values().collect(), gone_back })
    }

    /// Forgets all state rows, own and others': of tables that went back they may be of two ages.
    fn forget(&mut self) {
        self.parts = parts_of(&self.settings);
    }

    /// One flush, from freeze to clean. Whatever crashes in between: a restart begins at a mark whose rows are all
    /// acknowledged, and rows written twice are the same or of a lower version. That holds for the first flush of a
    /// partition too, since the mark that it began from is written before its rows.
    pub async fn flush(
        &mut self,
        workers: &mut impl Workers,
    ) -> Result<FlushReport, PipelineError> {
        self.step.set(At::Freeze);
        let gathered = workers.freeze().await?;
        self.step.set(At::States);
        let all: Vec<Mark> = gathered.frozen.iter().map(|shard| shard.mark.clone()).collect();
        let began = self.unmarked(&gathered.frozen);
        let (mut states, marks) = self.changed(gathered.frozen);
        let calm = self.failures;
        let passes = Passes { is_asked: !marks.is_empty() };
        if failpoint::is_broken(Point::MarkBeforeRows) {
            self.write_all(self.mark_rows(&marks)).await?;
        }
        passes.by(Point::BeforeInsert);
        if !self.begin(began).await? {
            self.send(&gathered.letters).await?;
            return begin_again(workers).await;
        }
        self.write_states(&states).await?;
        // Their columns are seldom needed again, and each would be kept beside what is merged of it.
        let caps = self.settings.shard.caps.classes();
        for row in &mut states {
            row.state.restore(caps);
        }
        passes.by(Point::StatesAcknowledged);
        let (seals, advanced) = self.moved_seals(&marks);
        let mut written =
            Written { all, states, seals, advanced, marks, calm, ..Written::default() };
        self.step.set(At::Seals);
        let mut gone_back = self.vouch(&mut written, Vouch::Seals).await?;
        self.step.set(At::Metrics);
        if gone_back.is_empty() {
            passes.by(Point::SealsAcknowledged);
            self.evaluate_and_write(&mut written).await?;
            passes.by(Point::MetricsAcknowledged);
        }
        self.step.set(At::Letters);
        self.send(&gathered.letters).await?;
        self.step.set(At::Marks);
        if gone_back.is_empty() {
            gone_back = self.vouch(&mut written, Vouch::Marks).await?;
        }
        self.step.set(At::Clean);
        if !gone_back.is_empty() {
            self.telemetry.tables_went_back(&gone_back);
            self.forget();
            return begin_again(workers).await;
        }
        passes.by(Point::MarkAcknowledged);
        self.commit(&written.all);
        passes.by(Point::Committed);
        workers.clean(&written.all).await?;
        Ok(self.finished(written, gathered.letters.len()))
    }

    /// Evaluates what the flush has changed and sealed, and writes the metric rows. May be done again: the rows are the
    /// same.
    pub(super) async fn evaluate_and_write(
        &mut self,
        written: &mut Written,
    ) -> Result<(), PipelineError> {
        written.metrics.clear();
        if self.failures != self.trusted {
            self.parts.doubt();
        }
        for &(partition, mark) in &written.seals {
            self.telemetry.seal_mark(partition, mark);
        }
        let (mut states, mut last) = (written.states.clone(), written.advanced);
        if let Some(advanced) = written.advanced.filter(|advanced| self.parts.is_long(*advanced)) {
            let starts = persist!(self, self.sink.window_starts());
            let mut pieces = self.parts.pieces(advanced, &starts);
            last = pieces.pop().or(last);
            for piece in pieces {
                // What was frozen of its windows is evaluated with them, and not once more at the end.
                let (its, rest) =
                    states.into_iter().partition(|row| ends_in(row.key.window, piece));
                states = rest;
                if let Some(plan) = self.evaluate(its, Some(piece), &mut written.metrics).await? {
                    self.parts.forget(&plan);
                }
            }
        }
        written.plan = self.evaluate(states, last, &mut written.metrics).await?;
        Ok(())
    }

    async fn evaluate(
        &mut self,
        states: Vec<StateRow>,
        advanced: Option<(EventTime, EventTime)>,
        evaluated: &mut Vec<Evaluated>,
    ) -> Result<Option<Plan>, PipelineError> {
        self.parts.take_in(states.iter().cloned());
        let mut plan = self.plan(&states, advanced).await?;
        if let Some(plan) = &mut plan {
            let due = self.parts.due(plan)?;
            evaluated.append(&mut self.write_metrics(&due, plan).await?);
        }
        Ok(plan)
    }

    /// The marks from which shards began that have no mark yet: also of those that have read nothing since, which another
    /// instance may have begun elsewhere.
    fn unmarked(&self, frozen: &[Frozen]) -> Vec<Mark> {
        let is_unmarked = |shard: &&Frozen| !self.marks.contains_key(&shard.mark.partition);
        frozen.iter().filter(is_unmarked).map(|shard| shard.began.clone()).collect()
    }

    /// Writes these before any row of their partitions. Without them whoever starts after a crash would begin where the
    /// log begins or ends by then, and its rows, of fewer records, would never win over those of before. Each has counted
    /// nothing and vouches for nothing, and every later mark from the same place is greater. Whether it did so: not where
    /// another instance has begun one of them meanwhile, perhaps elsewhere, and has written so.
    async fn begin(&mut self, began: Vec<Mark>) -> Result<bool, PipelineError> {
        if began.is_empty() {
            return Ok(true);
        }
        let partitions: Vec<PartitionId> = began.iter().map(|mark| mark.partition).collect();
        let stored = persist!(self, self.sink.marks(&partitions));
        if stored.iter().any(|mark| !began.contains(mark)) {
            tracing::info!(?partitions, "another instance has begun them: they begin at its marks");
            return Ok(false);
        }
        self.write_all(self.mark_rows(&began)).await?;
        self.marks.extend(began.into_iter().map(|mark| (mark.partition, mark)));
        Ok(true)
    }

    fn mark_rows(&self, marks: &[Mark]) -> Option<RowBatch> {
        row::marks(&self.settings.job, self.settings.shard.generation, marks)
    }

    /// The rows and marks of shards that have changed since they were last marked. What is left out here is missed
    /// nowhere: a start folds anew what its window needs, and no window that is written is merged of others than those
    /// that lie within it.
    fn changed(&self, frozen: Vec<Frozen>) -> (Vec<StateRow>, Vec<Mark>) {
        let mut states = Vec::new();
        let mut marks = Vec::new();
        for mut shard in frozen {
            shard.states.retain(|row| self.settings.rows_within.holds(row.key.window));
            let is_marked = self.marks.get(&shard.mark.partition) == Some(&shard.mark);
            if !is_marked || !shard.states.is_empty() {
                states.extend(shard.states);
                marks.push(shard.mark);
            }
        }
        failpoint::versions(&mut states);
        (states, marks)
    }

    async fn write_states(&mut self, rows: &[StateRow]) -> Result<(), PipelineError> {
        let settings = Arc::clone(&self.settings);
        self.write_all(row::states(&settings.job, rows)).await
    }

    async fn write_all(
        &mut self,
        batches: impl IntoIterator<Item = RowBatch>,
    ) -> Result<(), PipelineError> {
        for batch in batches {
            persist!(self, self.sink.write(&batch));
            self.wrote(&batch);
        }
        Ok(())
    }

    fn wrote(&mut self, batch: &RowBatch) {
        self.telemetry.rows_written(batch.table.name(), batch.rows);
        self.rows_written += u64::try_from(batch.rows).unwrap_or(u64::MAX);
    }

    /// The seal marks that move with these marks, and from where to where they do.
    #[expect(clippy::type_complexity, reason = "two answers, each plain")]
    fn moved_seals(
        &self,
        marks: &[Mark],
    ) -> (Vec<(PartitionId, EventTime)>, Option<(EventTime, EventTime)>) {
        let mut moved = Vec::new();
        let mut advanced: Option<(EventTime, EventTime)> = None;
        for mark in marks {
            let before = self.marks.get(&mark.partition);
            let from = before.map_or(EventTime(i64::MIN), |known| known.floor.sealed_until);
            let to = mark.floor.sealed_until;
            if to > from {
                moved.push((mark.partition, to));
                let (least, greatest) = advanced.unwrap_or((from, to));
                advanced = Some((least.min(from), greatest.max(to)));
            }
        }
        (moved, advanced)
    }

    fn seal_rows(&self, seals: &[(PartitionId, EventTime)]) -> Option<RowBatch> {
        row::seals(&self.settings.job, self.settings.shard.generation, seals)
    }

    /// Of all keys that were frozen, and of all windows that these seal marks were the last to pass, the metric rows are
    /// to be written; memory then has their state rows. Others' seal marks are read after our own are acknowledged, and
    /// states after the seal marks: of two instances that seal at once, the one that reads last sees both.
    async fn plan(
        &mut self,
        states: &[StateRow],
        advanced: Option<(EventTime, EventTime)>,
    ) -> Result<Option<Plan>, PipelineError> {
        if states.is_empty() && advanced.is_none() {
            return Ok(None);
        }
        let mut failures = Failures::default();
        let mut last: Option<Plan> = None;
        loop {
            let before = self.failures;
            let seals = persist!(self, self.sink.seals());
            let mut plan =
                self.parts.plan(states, advanced, common(self.settings.partitions, &seals));
            if plan.is_empty() {
                failures.end(&self.telemetry);
                return Ok(None);
            }
            let mut versions = Vec::new();
            for span in self.parts.spans(&plan) {
                versions.extend(persist!(self, self.sink.state_versions(span)));
            }
            if let Some(last) = last.take() {
                plan.go_on(last, &versions);
            }
            let missing = in_order(self.parts.missing(&plan, &versions));
            for some in missing.chunks(STATES_AT_ONCE) {
                let rows = persist!(self, self.sink.states(some));
                self.parts.receive(&mut plan, rows)?;
            }
            // What is evaluated from a part of the states would be sealed so.
            let lacking = self.parts.missing(&plan, &versions).len();
            if lacking > 0 {
                let asked = missing.len();
                let said = format!("its answer lacks {lacking} of {asked} state rows");
                self.failures += 1;
                failures.pause(SinkError::Unavailable(said), &self.telemetry).await?;
            } else {
                failures.end(&self.telemetry);
                // A failure may part seal marks that were there from states that are there no more.
                if self.failures == before {
                    return Ok(Some(plan));
                }
            }
            last = Some(plan);
        }
    }

    /// Evaluates one key after the other, and writes what makes a whole batch, so that memory holds some batches, and
    /// not the rows of all keys.
    async fn write_metrics(
        &mut self,
        due: &[Key],
        plan: &mut Plan,
    ) -> Result<Vec<Evaluated>, PipelineError> {
        let settings = Arc::clone(&self.settings);
        let mut batches = row::MetricBatches::new(&settings.job);
        let mut evaluated = Vec::with_capacity(due.len());
        for key in due {
            let rows = self.parts.rows(key, plan)?;
            batches.add(&rows);
            evaluated.extend(Evaluated::of(&rows));
            self.write_all(batches.full()).await?;
        }
        self.write_all(batches.finish()).await?;
        Ok(evaluated)
    }

    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), PipelineError> {
        if letters.is_empty() {
            return Ok(());
        }
        persist!(self, self.letters.send(letters));
        let mut by: BTreeMap<(Stream, &'static str), u64> = BTreeMap::new();
        for letter in letters {
            *by.entry((letter.record.stream, letter.code)).or_default() += 1;
        }
        self.telemetry.dead_letters(&by);
        self.letters_sent += by.values().sum::<u64>();
        Ok(())
    }

    /// Offsets in Kafka are for lag tools only, so a failure is only told. A partition that was assigned is committed
    /// once, also where nothing comes any more.
    fn commit(&mut self, all: &[Mark]) {
        let is_due =
            |mark: &&Mark| self.committed.get(&mark.partition).copied() != Some(mark.order());
        let due: Vec<Mark> = all.iter().filter(is_due).cloned().collect();
        if due.is_empty() {
            return;
        }
        match self.commits.commit(&due) {
            Ok(()) => {
                self.committed.extend(due.iter().map(|mark| (mark.partition, mark.order())));
            }
            Err(error) => self.telemetry.commit_failed(&error),
        }
    }

    fn finished(&mut self, written: Written, letters: usize) -> FlushReport {
        let Written { states, metrics, plan, marks, calm, .. } = written;
        self.trusted = calm;
        if let Some(plan) = plan {
            self.parts.acknowledge(plan);
            self.telemetry.writer_cache(self.parts.len());
        }
        self.flushes += u64::from(!marks.is_empty());
        self.marks.extend(marks.into_iter().map(|mark| (mark.partition, mark)));
        FlushReport {
            took: Duration::ZERO,
            states: states.len(),
            metrics: metrics.iter().map(|key| key.rows).sum(),
            letters,
            has_marked: true,
        }
    }
}

/// An empty memory of state rows.
fn parts_of(settings: &PipelineSettings) -> Parts {
    Parts::new(Arc::clone(&settings.shard), &settings.grains, settings.rows_within)
}

/// Has all partitions begun again, from the newest marks.
async fn begin_again(workers: &mut impl Workers) -> Result<FlushReport, PipelineError> {
    workers.begin_again().await?;
    Ok(FlushReport { has_marked: false, ..FlushReport::default() })
}

/// The steps of a flush, as the failpoints see them: only of flushes that mark something.
struct Passes {
    is_asked: bool,
}

impl Passes {
    fn by(&self, point: Point) {
        if self.is_asked {
            failpoint::hit(point);
        }
    }
}
