//! The seal audit: nobody writes the rows of a sealed window again, so they are read back before a seal mark or a mark
//! vouches for them; and before each of these the marks of before, since a ClickHouse that was put back to an older
//! state has lost rows that they vouched for. Pure: the reads are the writer's.

use std::collections::{BTreeMap, BTreeSet};

use super::parts::Plan;
use crate::engine::event::PartitionId;
use crate::engine::floor::Mark;
use crate::engine::metrics::MetricTable;
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::EventTime;
use crate::engine::window::Window;
use crate::evaluate::MetricRow;
use crate::sink::{MetricVersion, StateVersion};

/// What a flush has written and its marks will vouch for.
#[derive(Debug, Default)]
pub(super) struct Written {
    /// The marks of all shards, those that have not moved included.
    pub(super) all: Vec<Mark>,
    /// State rows.
    pub(super) states: Vec<StateRow>,
    /// Of which keys metric rows, and by which plan.
    pub(super) metrics: Vec<Evaluated>,
    pub(super) plan: Option<Plan>,
    /// Seal marks that moved.
    pub(super) seals: Vec<(PartitionId, EventTime)>,
    /// From where to where they did.
    pub(super) advanced: Option<(EventTime, EventTime)>,
    /// The marks that will vouch for it.
    pub(super) marks: Vec<Mark>,
    /// Calls that had failed when the flush began.
    pub(super) calm: u64,
    /// The state rows of sealed windows were read back whole, and were as they were written.
    pub(super) is_compared: bool,
}

impl Written {
    /// The state rows of sealed windows.
    pub(super) fn sealed_states(&self) -> Vec<&StateRow> {
        self.states.iter().filter(|row| row.version.is_sealed()).collect()
    }

    /// The keys whose metric rows to read back: those of sealed windows, or all.
    pub(super) fn metrics_to_audit(&self, all: bool) -> Vec<&Evaluated> {
        self.metrics.iter().filter(|key| all || key.sealed).collect()
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

/// A key whose metric rows were written.
#[derive(Debug)]
pub(super) struct Evaluated {
    pub(super) key: Key,
    sealed: bool,
    /// The greatest version of its rows in each table that has any.
    tables: BTreeMap<MetricTable, Version>,
    /// How many rows it has in all tables.
    pub(super) rows: usize,
}

impl Evaluated {
    /// Whether none of its rows was left out because it was acknowledged before.
    pub(super) fn is_whole(&self) -> bool {
        self.tables.contains_key(&MetricTable::Serving)
    }

    /// Of the rows of one key.
    pub(super) fn of(rows: &[MetricRow]) -> Option<Self> {
        let mut tables = BTreeMap::new();
        for row in rows {
            let greatest = tables.entry(row.table).or_insert(row.version);
            *greatest = row.version.max(*greatest);
        }
        let MetricRow { key, sealed, .. } = rows.first()?;
        Some(Self { key: Key::clone(key), sealed: *sealed, tables, rows: rows.len() })
    }
}

/// The tables that these keys have rows in, each once.
pub(super) fn tables(keys: &[&Evaluated]) -> Vec<MetricTable> {
    let has = |table: &MetricTable| keys.iter().any(|of| of.tables.contains_key(table));
    MetricTable::ALL.into_iter().filter(has).collect()
}

/// The windows of these keys, each once, in order.
pub(super) fn windows(keys: &[&Evaluated]) -> Vec<Window> {
    keys.iter().map(|of| of.key.window).collect::<BTreeSet<_>>().into_iter().collect()
}

/// The rows that are not stored as they were written. A stored row of a greater version is another instance's, which
/// has read further.
pub(super) fn changed_states(written: &[&StateRow], stored: &[StateRow]) -> Vec<StateRow> {
    let stored: BTreeMap<(&Key, PartitionId), &StateRow> =
        stored.iter().map(|row| ((&row.key, row.partition), row)).collect();
    let is_changed = |row: &&&StateRow| {
        stored.get(&(&row.key, row.partition)).is_none_or(|is| {
            is.version < row.version || (is.version == row.version && is.state != row.state)
        })
    };
    written.iter().filter(is_changed).map(|row| (*row).clone()).collect()
}

/// The rows that are not stored in this or a greater version.
pub(super) fn lost_states(written: &[StateRow], stored: &[StateVersion]) -> Vec<StateRow> {
    let stored: BTreeMap<(&Key, PartitionId), Version> =
        stored.iter().map(|row| ((&row.key, row.partition), row.version)).collect();
    let is_lost =
        |row: &&StateRow| stored.get(&(&row.key, row.partition)).is_none_or(|is| *is < row.version);
    written.iter().filter(is_lost).cloned().collect()
}

/// The keys that lack rows of this or a greater version in a table. (A row's version and the states decide what it
/// says.)
pub(super) fn lost_metrics<'a>(
    written: &[&'a Evaluated],
    stored: &[MetricVersion],
) -> Vec<&'a Evaluated> {
    let stored: BTreeMap<(MetricTable, &Key), Version> =
        stored.iter().map(|row| ((row.table, &row.key), row.version)).collect();
    let is_lost = |of: &&Evaluated| {
        let is = |table: &MetricTable| stored.get(&(*table, &of.key));
        of.tables.iter().any(|(table, version)| is(table).is_none_or(|is| is < version))
    };
    written.iter().copied().filter(is_lost).collect()
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
