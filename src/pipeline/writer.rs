//! The one writer: the order of its [`flush`](Writer::flush) is what makes a crash at any point harmless.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::parts::Parts;
use super::{PipelineError, PipelineSettings};
use crate::engine::event::{PartitionId, Stream};
use crate::engine::floor::Mark;
use crate::engine::state::{Frozen, StateRow};
use crate::engine::time::EventTime;
use crate::evaluate::MetricRow;
use crate::failpoint::{self, Point};
use crate::sink::{DeadLetter, DeadLetters, FailureClass, RowBatch, Sink, SinkError, row};
use crate::source::Commits;
use crate::telemetry::{Cause, FlushReport, Telemetry};

/// The first pause after a failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// So many failures in a row make the program not ready, also when it needs no operator.
const FAILURES_UNTIL_NOT_READY: u32 = 4;

/// The workers, as the writer sees them during a flush.
pub trait Workers {
    /// Asks every worker to freeze its shards, and waits for all answers.
    fn freeze(&mut self) -> impl Future<Output = Result<Gathered, PipelineError>>;
    /// Tells the workers that everything they froze with these marks is acknowledged.
    fn clean(&mut self, marks: &[Mark]) -> impl Future<Output = Result<(), PipelineError>>;
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
    rows_written: u64,
    letters_sent: u64,
    flushes: u64,
}

/// Repeats a call to the sink or the letters until it succeeds or fails for ever.
macro_rules! persist {
    ($self:ident, $call:expr) => {{
        let mut failures = Failures::default();
        loop {
            match $call.await {
                Ok(value) => {
                    failures.end(&$self.telemetry);
                    break value;
                }
                Err(error) => failures.pause(error, &$self.telemetry).await?,
            }
        }
    }};
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
        let parts = Parts::new(Arc::clone(&settings.shard), &settings.grains);
        let marks = BTreeMap::new();
        Self {
            settings,
            commits,
            sink,
            letters,
            telemetry,
            parts,
            marks,
            rows_written: 0,
            letters_sent: 0,
            flushes: 0,
        }
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
    pub async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Vec<Mark>, PipelineError> {
        let marks = persist!(self, self.sink.marks(partitions));
        for partition in partitions {
            self.marks.remove(partition);
        }
        for mark in &marks {
            // Of several the newest counts.
            if self.marks.get(&mark.partition).is_none_or(|known| known.order() < mark.order()) {
                self.marks.insert(mark.partition, mark.clone());
            }
        }
        Ok(self.marks_of(partitions))
    }

    fn marks_of(&self, partitions: &[PartitionId]) -> Vec<Mark> {
        partitions.iter().filter_map(|partition| self.marks.get(partition).cloned()).collect()
    }

    /// One flush, from freeze to clean. Whatever crashes in between: a restart begins at a mark whose rows are all
    /// acknowledged, and rows written twice are the same or of a lower version.
    pub async fn flush(
        &mut self,
        workers: &mut impl Workers,
    ) -> Result<FlushReport, PipelineError> {
        let gathered = workers.freeze().await?;
        let all: Vec<Mark> = gathered.frozen.iter().map(|shard| shard.mark.clone()).collect();
        let (states, marks) = self.changed(gathered.frozen);
        let passes = |point| {
            if !marks.is_empty() {
                failpoint::hit(point);
            }
        };
        let mark_rows = row::marks(&self.settings.job, self.settings.shard.generation, &marks);
        if failpoint::is_broken(Point::MarkBeforeRows) {
            self.write_all(mark_rows.clone()).await?;
        }
        passes(Point::BeforeInsert);
        self.write_all(row::states(&self.settings.job, &states)).await?;
        passes(Point::StatesAcknowledged);
        let advanced = self.write_seals(&marks).await?;
        passes(Point::SealsAcknowledged);
        let metrics = self.evaluate(&states, advanced).await?;
        self.write_all(row::metrics(&self.settings.job, &metrics)).await?;
        passes(Point::MetricsAcknowledged);
        self.send(&gathered.letters).await?;
        self.write_all(mark_rows).await?;
        passes(Point::MarkAcknowledged);
        self.commit(&marks);
        passes(Point::Committed);
        workers.clean(&all).await?;
        Ok(self.finished(&states, &metrics, &gathered.letters, marks))
    }

    /// The rows and marks of shards that have changed since they were last marked.
    fn changed(&self, frozen: Vec<Frozen>) -> (Vec<StateRow>, Vec<Mark>) {
        let mut states = Vec::new();
        let mut marks = Vec::new();
        for shard in frozen {
            let is_marked = self.marks.get(&shard.mark.partition) == Some(&shard.mark);
            if !is_marked || !shard.states.is_empty() {
                states.extend(shard.states);
                marks.push(shard.mark);
            }
        }
        failpoint::versions(&mut states);
        (states, marks)
    }

    async fn write_all(&mut self, batches: Vec<RowBatch>) -> Result<(), PipelineError> {
        for batch in batches.into_iter().filter(|batch| batch.rows > 0) {
            persist!(self, self.sink.write(&batch));
            self.telemetry.rows_written(batch.table.name(), batch.rows);
            self.rows_written += u64::try_from(batch.rows).unwrap_or(u64::MAX);
        }
        Ok(())
    }

    /// Writes the seal marks that moved; says from where to where they did.
    async fn write_seals(
        &mut self,
        marks: &[Mark],
    ) -> Result<Option<(EventTime, EventTime)>, PipelineError> {
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
        let generation = self.settings.shard.generation;
        self.write_all(row::seals(&self.settings.job, generation, &moved)).await?;
        for (partition, mark) in moved {
            self.telemetry.seal_mark(partition, mark);
        }
        Ok(advanced)
    }

    /// The metric rows of all keys that were frozen, and of all windows that these seal marks were the last to pass.
    /// Others' seal marks are read after our own are acknowledged, and states after the seal marks: of two instances
    /// that seal at once, the one that reads last sees both.
    async fn evaluate(
        &mut self,
        states: &[StateRow],
        advanced: Option<(EventTime, EventTime)>,
    ) -> Result<Vec<MetricRow>, PipelineError> {
        self.parts.take_in(states.iter().cloned());
        if states.is_empty() && advanced.is_none() {
            return Ok(Vec::new());
        }
        let seals = persist!(self, self.sink.seals());
        let plan = self.parts.plan(states, advanced, self.common(&seals));
        if plan.is_empty() {
            return Ok(Vec::new());
        }
        let span = self.parts.span(&plan);
        let versions = persist!(self, self.sink.state_versions(span));
        let missing = self.parts.missing(&plan, &versions);
        if !missing.is_empty() {
            let rows = persist!(self, self.sink.states(&missing));
            self.parts.take_in(rows);
        }
        let rows = self.parts.evaluate(&plan)?;
        self.telemetry.writer_cache(self.parts.len());
        Ok(rows)
    }

    /// The seal mark that all partitions of the topics have passed.
    fn common(&self, seals: &[(PartitionId, EventTime)]) -> EventTime {
        let seals: BTreeMap<PartitionId, EventTime> = seals.iter().copied().collect();
        let nothing = EventTime(i64::MIN);
        let all = (0..self.settings.partitions).map(PartitionId);
        all.map(|p| seals.get(&p).copied().unwrap_or(nothing)).min().unwrap_or(nothing)
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

    /// Offsets in Kafka are for lag tools only, so a failure is only told.
    fn commit(&self, marks: &[Mark]) {
        if marks.is_empty() {
            return;
        }
        if let Err(error) = self.commits.commit(marks) {
            self.telemetry.commit_failed(&error);
        }
    }

    fn finished(
        &mut self,
        states: &[StateRow],
        metrics: &[MetricRow],
        letters: &[DeadLetter],
        marks: Vec<Mark>,
    ) -> FlushReport {
        self.flushes += u64::from(!marks.is_empty());
        self.marks.extend(marks.into_iter().map(|mark| (mark.partition, mark)));
        FlushReport {
            took: Duration::ZERO,
            states: states.len(),
            metrics: metrics.len(),
            letters: letters.len(),
        }
    }
}

/// Failures in a row of one call.
#[derive(Debug, Default)]
struct Failures {
    count: u32,
    cause: Option<Cause>,
}

impl Failures {
    /// Waits before the next attempt, longer each time; an error when no attempt can help.
    async fn pause(
        &mut self,
        error: SinkError,
        telemetry: &Telemetry,
    ) -> Result<(), PipelineError> {
        let cause = match error {
            SinkError::Letters(_) => Cause::DeadLetters,
            SinkError::Unavailable(_)
            | SinkError::Refused(_)
            | SinkError::Schema(_)
            | SinkError::Unreadable(_) => Cause::ClickHouse,
        };
        let is_told = match error.class() {
            FailureClass::Retry => self.count + 1 >= FAILURES_UNTIL_NOT_READY,
            FailureClass::WaitForOperator => true,
            FailureClass::Final => return Err(error.into()),
        };
        if is_told {
            self.cause = Some(cause);
            telemetry.not_ready(cause, error.to_string());
        }
        let pause = FIRST_PAUSE.saturating_mul(1 << self.count.min(16)).min(LONGEST_PAUSE);
        telemetry.retry(error.code(), &error, pause);
        self.count += 1;
        tokio::time::sleep(pause).await;
        Ok(())
    }

    fn end(&self, telemetry: &Telemetry) {
        if let Some(cause) = self.cause {
            telemetry.ready(cause);
        }
    }
}
