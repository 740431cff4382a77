//! The seal audit: nobody writes the rows of a sealed window again, so they are read back before a seal mark or a mark
//! vouches for them; and before each of these the marks of before, since a ClickHouse that was put back to an older
//! state has lost rows that they vouched for. Pure: the reads are the writer's.

use std::collections::{BTreeMap, BTreeSet};

use crate::engine::event::PartitionId;
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::evaluate::MetricRow;
use crate::sink::MetricVersion;

/// What a flush has written and its marks will vouch for.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The marks of all shards, those that have not moved included.
    pub(super) all: Vec<Mark>,
    /// State rows.
    pub(super) states: Vec<StateRow>,
    /// Metric rows.
    pub(super) metrics: Vec<MetricRow>,
    /// Seal marks that moved.
    pub(super) seals: Vec<(PartitionId, EventTime)>,
    /// From where to where they did.
    pub(super) advanced: Option<(EventTime, EventTime)>,
    /// The marks that will vouch for it.
    pub(super) marks: Vec<Mark>,
    /// Calls that had failed when the flush began.
    pub(super) calm: u64,
}

impl Written {
    /// The state rows to read back: those of sealed windows, or all.
    pub(super) fn states_to_audit(&self, all: bool) -> Vec<&StateRow> {
        self.states.iter().filter(|row| all || row.version.is_sealed()).collect()
    }

    /// The metric rows to read back: those of sealed windows, or all.
    pub(super) fn metrics_to_audit(&self, all: bool) -> Vec<&MetricRow> {
        self.metrics.iter().filter(|row| all || row.sealed).collect()
    }

    /// The seal marks that are not among the stored ones.
    pub(super) fn lost_seals(
        &self,
        stored: &[(PartitionId, EventTime)],
    ) -> Vec<(PartitionId, EventTime)> {
        let stored: BTreeMap<PartitionId, EventTime> = stored.iter().copied().collect();
        let is_lost =
            |(p, until): &&(PartitionId, EventTime)| stored.get(p).is_none_or(|is| is < until);
        self.seals.iter().filter(is_lost).copied().collect()
    }
}

/// The windows of these rows, each once, in order.
pub(super) fn windows(rows: &[&MetricRow]) -> Vec<Window> {
    rows.iter().map(|row| row.key.window).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rows that are not stored as they were written. A stored row of a greater version is another instance's, which
/// has read further.
pub(super) fn lost_states(written: &[&StateRow], stored: &[StateRow]) -> Vec<StateRow> {
    let stored: BTreeMap<(&Key, PartitionId), &StateRow> =
        stored.iter().map(|row| ((&row.key, row.partition), row)).collect();
    let is_lost = |row: &&&StateRow| {
        stored.get(&(&row.key, row.partition)).is_none_or(|is| {
            is.version < row.version || (is.version == row.version && is.values != row.values)
        })
    };
    written.iter().filter(is_lost).map(|row| (*row).clone()).collect()
}

/// The rows that are not stored in this or a greater version. (A row's version and the states decide what it says.)
pub(super) fn lost_metrics(written: &[&MetricRow], stored: &[MetricVersion]) -> Vec<MetricRow> {
    let stored: BTreeMap<(MetricTable, &Key), Version> =
        stored.iter().map(|row| ((row.table, &row.key), row.version)).collect();
    let is_lost =
        |row: &&&MetricRow| stored.get(&(row.table, &row.key)).is_none_or(|is| *is < row.version);
    written.iter().filter(is_lost).map(|row| (*row).clone()).collect()
}

/// The partitions whose newest stored mark is older than the one that this process knows of: the tables went back.
pub(super) fn gone_back(
    known: impl Iterator<Item = (PartitionId, i64)>,
    stored: &[(PartitionId, i64)],
) -> Vec<PartitionId> {
    let stored: BTreeMap<PartitionId, i64> = stored.iter().copied().collect();
    let is_behind = |(p, order): &(PartitionId, i64)| stored.get(p).is_none_or(|is| is < order);
    known.filter(is_behind).map(|(partition, _)| partition).collect()
}
