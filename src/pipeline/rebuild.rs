//! The metric rows of windows once more, from their state rows: where a metric table was lost, or where this version
//! computes something else. Whatever writes the job meanwhile may go on, since versions decide.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PipelineError;
use super::parts::{Parts, common, ends_in};
use super::writer::STATES_AT_ONCE;
use crate::calendar::month;
use crate::engine::ShardSettings;
use crate::engine::event::PartitionId;
use crate::engine::state::{Key, StateRow};
use crate::engine::time::{EventTime, Millis};
use crate::engine::window::Window;
use crate::sink::{Sink, SinkError, row};

/// What the job's rows are made by.
#[derive(Clone, Debug)]
pub struct RebuildSettings {
    /// With the generation that the job has.
    pub shard: Arc<ShardSettings>,
    /// The job's name.
    pub job: String,
    /// Partitions of each topic.
    pub partitions: i32,
    /// Lengths of the coarser windows, multiples of the base window's.
    pub grains: Vec<Millis>,
}

/// What was rebuilt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Windows of any grain by model, version and segment.
    pub keys: usize,
    /// Rows of all metric tables.
    pub rows: usize,
    /// Coarser windows by model, version and segment that were left as they are: they begin in a month before that of
    /// the first states, so that states of theirs may have been dropped.
    pub left: usize,
}

impl Rebuilt {
    /// Adds what was rebuilt beside.
    pub fn add(&mut self, more: Self) {
        self.keys += more.keys;
        self.rows += more.rows;
        self.left += more.left;
    }
}

impl RebuildSettings {
    /// The spans that are rebuilt one after the other: all windows that end in one of them. `starts` are those of the
    /// base windows that have states, ascending; `wanted` is a span of time, of which each window is rebuilt that has a
    /// part in it.
    pub fn spans(&self, starts: &[EventTime], wanted: Window) -> Vec<Window> {
        let piece = self.parts().piece();
        let mut spans: Vec<Window> = Vec::new();
        for &start in starts {
            // A coarser window may end after its last record.
            let windows = self.sizes().map(|size| Window::of(start, size));
            let windows = windows.filter(|of| of.start < wanted.end && wanted.start < of.end);
            spans.extend(windows.map(|of| Window::of(of.end.minus(Millis(1)), piece)));
        }
        spans.sort_unstable();
        spans.dedup();
        spans
    }

    fn sizes(&self) -> impl Iterator<Item = Millis> {
        std::iter::once(self.shard.window).chain(self.grains.iter().copied())
    }

    fn parts(&self) -> Parts {
        Parts::new(Arc::clone(&self.shard), &self.grains, Window::ALL)
    }

    /// Writes the metric rows of all windows that end in one of the [`spans`](Self::spans), of the models that `is_meant`
    /// says yes to; counts them only where it `is_dry`. `first` is when the job's first states start. Memory holds the
    /// states of one model. Repeating it writes the same rows.
    pub async fn rebuild<K: Sink>(
        &self,
        sink: &mut K,
        (span, first): (Window, EventTime),
        is_meant: impl Fn(&str) -> bool,
        is_dry: bool,
    ) -> Result<Rebuilt, PipelineError> {
        // As the writer does: seal marks before the states that they vouch for.
        let common = common(self.partitions, &sink.seals().await?);
        let from = self.sizes().map(|size| Window::of(span.start, size).start).min();
        let read = Window { start: from.unwrap_or(span.start), end: span.end };
        let mut models: BTreeMap<Arc<str>, Vec<(Key, PartitionId)>> = BTreeMap::new();
        for known in sink.state_versions(read).await? {
            let is_ours = known.version.generation() == self.shard.generation
                && known.key.window.size() == self.shard.window;
            if is_ours && is_meant(&known.key.model) {
                let model = Arc::clone(&known.key.model);
                models.entry(model).or_default().push((known.key, known.partition));
            }
        }
        let mut rebuilt = Rebuilt::default();
        for mut keys in models.into_values() {
            keys.sort_unstable();
            let of = self.rebuild_model(sink, (span, first), &keys, common, is_dry).await?;
            rebuilt.add(of);
        }
        Ok(rebuilt)
    }

    async fn rebuild_model<K: Sink>(
        &self,
        sink: &mut K,
        (span, first): (Window, EventTime),
        keys: &[(Key, PartitionId)],
        common: EventTime,
        is_dry: bool,
    ) -> Result<Rebuilt, PipelineError> {
        let (mut parts, mut known) = (self.parts(), Vec::with_capacity(keys.len()));
        for some in keys.chunks(STATES_AT_ONCE) {
            let rows = sink.states(some).await?;
            if rows.len() != some.len() {
                let (lacking, asked) = (some.len().saturating_sub(rows.len()), some.len());
                let said = format!("its answer lacks {lacking} of {asked} state rows");
                return Err(SinkError::Unavailable(said).into());
            }
            // A plan is of keys: what they hold is kept once.
            let plain = |row: &StateRow| StateRow { state: Vec::new().into(), ..row.clone() };
            known.extend(rows.iter().map(plain));
            parts.take_in(rows);
        }
        let mut plan = parts.plan(&known, None, common);
        drop(known);
        let mut batches = row::MetricBatches::new(&self.job);
        let mut rebuilt = Rebuilt::default();
        for key in parts.due(&mut plan)? {
            if !ends_in(key.window, (span.start, span.end)) {
                continue;
            }
            if month(key.window.start.0) < month(first.0) {
                rebuilt.left += 1;
                continue;
            }
            let rows = parts.rows(&key, &mut plan)?;
            rebuilt.keys += 1;
            rebuilt.rows += rows.len();
            if is_dry {
                continue;
            }
            batches.add(&rows);
            for batch in batches.full() {
                sink.write(&batch).await?;
            }
        }
        for batch in batches.finish() {
            sink.write(&batch).await?;
        }
        Ok(rebuilt)
    }
}
