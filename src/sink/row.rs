//! Rows → bytes, encoded once. The header names every column and its type, so the server refuses what does not fit.

use std::sync::Arc;

use bytes::BufMut;

use crate::engine::dead_schemas::DeadSchemas;
use crate::engine::event::{PartitionId, Stream};
use crate::engine::floor::Mark;
use crate::engine::metrics::accumulator::{Column, Kind, Value};
use crate::engine::metrics::{MetricTable, state_columns};
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::EventTime;
use crate::evaluate::MetricRow;

use super::RowBatch;
use super::rowbinary::{header, put_bytes, put_figure, put_length, put_stamps};
use super::tables::{OTHER_SCHEMAS, Table};

/// Rows of one insert: well below the server's block size, so that what goes into one month is one part.
pub const MAX_BATCH_ROWS: usize = 100_000;
/// Bytes of one insert: what a server with little memory takes, and what is held until it is acknowledged.
pub const MAX_BATCH_BYTES: usize = 16 << 20;
/// Bytes of one insert of metric rows, of which each table has a batch in the making.
const MAX_METRIC_BYTES: usize = 4 << 20;

/// Rows of one table on their way into a batch.
pub(super) struct Batch {
    table: Table,
    header: Vec<u8>,
    body: Vec<u8>,
    rows: usize,
    max_bytes: usize,
    /// Bytes of the batch before: room for the next, which then does not grow in steps.
    before: usize,
}

impl Batch {
    pub(super) fn new(table: Table, max_bytes: usize) -> Self {
        let spec = table.spec();
        let columns: Vec<_> =
            spec.written().map(|c| (c.name.as_str(), c.data_type.as_str())).collect();
        let header = header(columns.iter().copied());
        Self { table, header, body: Vec::new(), rows: 0, max_bytes, before: 0 }
    }

    /// Where the next row is appended.
    pub(super) fn row(&mut self) -> &mut Vec<u8> {
        if self.rows == 0 {
            self.body.reserve(self.before.max(self.header.len()));
            self.body.extend_from_slice(&self.header);
        }
        self.rows += 1;
        &mut self.body
    }

    pub(super) fn is_full(&self) -> bool {
        self.rows >= MAX_BATCH_ROWS || self.body.len() >= self.max_bytes
    }

    /// What there is; none of no rows. The next row begins another batch.
    pub(super) fn take(&mut self) -> Option<RowBatch> {
        let rows = std::mem::take(&mut self.rows);
        self.before = self.body.len();
        let body = std::mem::take(&mut self.body).into();
        (rows > 0).then_some(RowBatch { table: self.table, rows, body })
    }
}

/// Rows of `window_state`, each batch encoded when it is asked for; no batch for no rows.
///
/// # Panics
/// When a row's values are not those of the state columns, which no engine makes.
pub fn states(job: &str, rows: &[StateRow]) -> impl Iterator<Item = RowBatch> {
    let columns: Vec<_> = state_columns().collect();
    let mut batch = Batch::new(Table::WindowState, MAX_BATCH_BYTES);
    let mut rows = rows.iter();
    std::iter::from_fn(move || {
        while !batch.is_full()
            && let Some(row) = rows.next()
        {
            let out = batch.row();
            put_window(out, &row.key);
            put_bytes(out, job.as_bytes());
            put_about(out, &row.key);
            out.put_i32_le(row.partition.0);
            put_values(out, columns.iter().copied(), &row.state.columns());
            out.put_u64_le(row.version.0);
        }
        batch.take()
    })
}

/// Metric rows on their way into batches, one of each table.
pub struct MetricBatches<'a> {
    job: &'a str,
    tables: [Batch; MetricTable::ALL.len()],
}

impl<'a> MetricBatches<'a> {
    /// Without rows.
    pub fn new(job: &'a str) -> Self {
        let batch = |table| Batch::new(Table::Metric(table), MAX_METRIC_BYTES);
        Self { job, tables: MetricTable::ALL.map(batch) }
    }

    /// Appends rows. Those of one key are given at once: of a table they then go into one insert, and are there all or
    /// none.
    ///
    /// # Panics
    /// When a row's values are not those of its table's columns, which no evaluation makes.
    pub fn add(&mut self, rows: &[MetricRow]) {
        for row in rows {
            let is_its = |batch: &&mut Batch| batch.table == Table::Metric(row.table);
            let batch = self.tables.iter_mut().find(is_its).expect("each table has one");
            let out = batch.row();
            put_window(out, &row.key);
            put_bytes(out, row.grain.as_bytes());
            put_bytes(out, self.job.as_bytes());
            put_about(out, &row.key);
            put_values(out, row.table.columns().iter(), &row.values);
            put_bytes(out, row.undefined.as_bytes());
            out.put_u8(u8::from(row.sealed));
            out.put_u64_le(row.version.0);
        }
    }

    /// The batches that have grown large enough.
    pub fn full(&mut self) -> impl Iterator<Item = RowBatch> {
        self.tables.iter_mut().filter(|batch| batch.is_full()).filter_map(Batch::take)
    }

    /// The other batches; none of no rows.
    pub fn finish(self) -> impl Iterator<Item = RowBatch> {
        self.tables.into_iter().filter_map(|mut batch| batch.take())
    }
}

/// Metric rows that are all there at once.
pub fn metrics(job: &str, rows: &[MetricRow]) -> Vec<RowBatch> {
    let mut batches = MetricBatches::new(job);
    batches.add(rows);
    batches.finish().collect()
}

/// Rows of `seals`, one for each partition; no batch for no rows.
pub fn seals(job: &str, generation: u16, seals: &[(PartitionId, EventTime)]) -> Option<RowBatch> {
    let mut batch = Batch::new(Table::Seals, MAX_BATCH_BYTES);
    for &(partition, until) in seals {
        let out = batch.row();
        put_bytes(out, job.as_bytes());
        out.put_i32_le(partition.0);
        out.put_u16_le(generation);
        out.put_i64_le(until.0);
        out.put_u64_le(ordered(generation, until.0));
    }
    batch.take()
}

/// Rows of `marks`, one for each partition; no batch for no rows.
pub fn marks(job: &str, generation: u16, marks: &[Mark]) -> Option<RowBatch> {
    let mut batch = Batch::new(Table::Marks, MAX_BATCH_BYTES);
    for mark in marks {
        let out = batch.row();
        put_bytes(out, job.as_bytes());
        out.put_i32_le(mark.partition.0);
        out.put_u16_le(generation);
        out.put_i64_le(mark.positions.inferences);
        out.put_i64_le(mark.positions.labels);
        out.put_i64_le(mark.floor.positions.inferences);
        out.put_i64_le(mark.floor.positions.labels);
        for clock in [&mark.floor.inferences, &mark.floor.labels] {
            // A clock has a few timestamps; more than 2^32 would not be read back.
            out.put_u32_le(u32::try_from(clock.k()).unwrap_or(u32::MAX));
        }
        for clock in [&mark.floor.inferences, &mark.floor.labels, &mark.clocks[0], &mark.clocks[1]]
        {
            put_stamps(out, clock.stamps());
        }
        out.put_i64_le(mark.floor.sealed_until.0);
        for stream in Stream::BOTH {
            put_tally(out, mark, stream);
        }
        for schemas in &mark.dead_schemas {
            put_dead_schemas(out, schemas);
        }
        out.put_u64_le(ordered(generation, mark.order()));
    }
    batch.take()
}

fn put_tally(out: &mut Vec<u8>, mark: &Mark, stream: Stream) {
    let entries = || mark.tally.of(stream).filter(|(_, outcomes)| !outcomes.is_zero());
    put_length(out, entries().count());
    for (model, outcomes) in entries() {
        put_bytes(out, model.as_bytes());
        for count in [outcomes.first, outcomes.second, outcomes.third, outcomes.dead] {
            out.put_i64_le(count);
        }
    }
}

fn put_dead_schemas(out: &mut Vec<u8>, schemas: &DeadSchemas) {
    put_length(out, schemas.runs().count());
    for (schema, offsets) in schemas.runs() {
        out.put_i64_le(schema.map_or(OTHER_SCHEMAS, |schema| i64::from(schema.0)));
        out.put_i64_le(offsets.first);
        out.put_i64_le(offsets.last);
    }
}

/// A row version that orders rows of one generation by a number of at most 46 bits: less than 0 counts as 0, more as
/// the greatest.
fn ordered(generation: u16, by: i64) -> u64 {
    let by = u64::try_from(by).unwrap_or(0);
    Version::sum(generation, [Version(by.min(Version::BODY))]).0
}

fn put_window(out: &mut Vec<u8>, key: &Key) {
    out.put_i64_le(key.window.start.0);
    out.put_i64_le(key.window.end.0);
}

fn put_about(out: &mut Vec<u8>, key: &Key) {
    for name in [&key.model, &key.version, &key.segment] {
        put_bytes(out, name.as_bytes());
    }
}

fn put_values<'a>(
    out: &mut Vec<u8>,
    columns: impl ExactSizeIterator<Item = &'a Column>,
    values: &[Value],
) {
    assert_eq!(columns.len(), values.len(), "one value for each column");
    for (column, value) in columns.zip(values) {
        put_value(out, column, value);
    }
}

fn put_value(out: &mut Vec<u8>, column: &Column, value: &Value) {
    match (column.kind, value) {
        (Kind::Count, Value::Count(count)) => out.put_u64_le(*count),
        (Kind::Time, Value::Time(time)) => out.put_i64_le(*time),
        (Kind::Number, Value::Figure(Ok(number))) => out.put_f64_le(*number),
        (Kind::Figure, Value::Figure(figure)) => {
            debug_assert!(figure.is_ok_and(f64::is_finite) || figure.is_err(), "{}", column.name);
            put_figure(out, figure.ok());
        }
        (Kind::Sum, Value::Sum(sum)) => put_bytes(out, &sum.to_bytes()),
        (Kind::Sums, Value::Sums(sums)) => {
            put_length(out, sums.len());
            for sum in sums {
                put_bytes(out, &sum.to_bytes());
            }
        }
        (Kind::Cells, Value::Cells(cells)) => {
            put_length(out, cells.len());
            for &(index, count) in cells {
                out.put_u64_le(index);
                out.put_u64_le(count);
            }
        }
        (Kind::Names, Value::Names(names)) => {
            put_length(out, names.len());
            for name in names {
                put_bytes(out, name.as_bytes());
            }
        }
        (Kind::Text, Value::Text(text)) => put_bytes(out, text.as_bytes()),
        (kind, _) => panic!("column {} is of kind {kind:?}, its value is not", column.name),
    }
}

/// The texts of several keys, each once, so that a long answer shares them.
#[derive(Default)]
pub(super) struct Texts(std::collections::BTreeSet<Arc<str>>);

impl Texts {
    pub(super) fn share(&mut self, text: Arc<str>) -> Arc<str> {
        if let Some(known) = self.0.get(&text) {
            return Arc::clone(known);
        }
        self.0.insert(Arc::clone(&text));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_rows_make_no_batch() {
        assert!(states("j", &[]).next().is_none());
        assert!(seals("j", 0, &[]).is_none());
        assert!(marks("j", 0, &[]).is_none());
        assert!(MetricBatches::new("j").finish().next().is_none());
    }

    #[test]
    fn a_batch_is_full_at_its_limit_and_the_next_has_the_header_too() {
        let mut batch = Batch::new(Table::Seals, 0);
        let header = batch.header.clone();
        batch.max_bytes = header.len() + 2;
        let mut done = Vec::new();
        for i in 0..5 {
            batch.row().put_u8(i);
            done.extend(batch.is_full().then(|| batch.take().unwrap()));
        }
        done.extend(batch.take());
        assert_eq!(done.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(done.iter().all(|batch| batch.body.starts_with(&header)));
        assert_eq!(done[2].body.len(), header.len() + 1);
        assert_eq!(batch.take(), None);
    }

    #[test]
    fn a_row_version_has_the_generation_on_top_and_is_never_negative() {
        assert_eq!(ordered(1, 7), (1 << 48) | 7);
        assert_eq!(ordered(0, i64::MIN), 0);
        // Times in nanoseconds are far beyond it, and come after each other all the same.
        let far = [1_i64 << 45, (1 << 46) - 1, 1_764_600_000_000_000_000, i64::MAX];
        assert!(far.is_sorted_by_key(|by| ordered(1, *by)));
        assert_eq!(ordered(1, i64::MAX) >> 48, 1, "the generation stays");
    }
}
