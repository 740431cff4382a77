//! Rows → bytes, encoded once. The header names every column and its type, so the server refuses what does not fit.

use std::sync::Arc;

use bytes::BufMut;

use crate::engine::event::{PartitionId, Stream};
use crate::engine::floor::Mark;
use crate::engine::metrics::accumulator::{Column, Kind, Value};
use crate::engine::metrics::{MetricTable, state_columns};
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::EventTime;
use crate::evaluate::MetricRow;

use super::RowBatch;
use super::rowbinary::{header, put_bytes, put_figure, put_length, put_stamps};
use super::tables::Table;

/// Rows of one insert: well below the server's block size, so that what goes into one month is one part.
pub const MAX_BATCH_ROWS: usize = 100_000;
/// Bytes of one insert: what a server with little memory still takes.
pub const MAX_BATCH_BYTES: usize = 64 << 20;

/// Rows of one table on their way into batches.
pub(super) struct Batches {
    table: Table,
    header: Vec<u8>,
    body: Vec<u8>,
    rows: usize,
    done: Vec<RowBatch>,
    max_rows: usize,
    max_bytes: usize,
}

impl Batches {
    pub(super) fn new(table: Table) -> Self {
        let spec = table.spec();
        let columns: Vec<_> =
            spec.written().map(|c| (c.name.as_str(), c.data_type.as_str())).collect();
        let header = header(columns.iter().copied());
        Self {
            table,
            body: Vec::new(),
            header,
            rows: 0,
            done: Vec::new(),
            max_rows: MAX_BATCH_ROWS,
            max_bytes: MAX_BATCH_BYTES,
        }
    }

    /// Where the next row is appended.
    pub(super) fn row(&mut self) -> &mut Vec<u8> {
        if self.rows >= self.max_rows || self.body.len() >= self.max_bytes {
            self.cut();
        }
        if self.rows == 0 {
            self.body.extend_from_slice(&self.header);
        }
        self.rows += 1;
        &mut self.body
    }

    fn cut(&mut self) {
        if self.rows > 0 {
            let body = std::mem::take(&mut self.body).into();
            self.done.push(RowBatch { table: self.table, rows: self.rows, body });
            self.rows = 0;
        }
    }

    pub(super) fn finish(mut self) -> Vec<RowBatch> {
        self.cut();
        self.done
    }
}

/// Rows of `window_state`; no batch for no rows.
///
/// # Panics
/// When a row's values are not those of the state columns, which no engine makes.
pub fn states(job: &str, rows: &[StateRow]) -> Vec<RowBatch> {
    let columns: Vec<_> = state_columns().collect();
    let mut batches = Batches::new(Table::WindowState);
    for row in rows {
        let out = batches.row();
        put_window(out, &row.key);
        put_bytes(out, job.as_bytes());
        put_about(out, &row.key);
        out.put_i32_le(row.partition.0);
        put_values(out, columns.iter().copied(), &row.values);
        out.put_u64_le(row.version.0);
    }
    batches.finish()
}

/// Rows of the metric tables, one table after the other; no batch for no rows.
///
/// # Panics
/// When a row's values are not those of its table's columns, which no evaluation makes.
pub fn metrics(job: &str, rows: &[MetricRow]) -> Vec<RowBatch> {
    let mut done = Vec::new();
    for table in MetricTable::ALL {
        let mut batches = Batches::new(Table::Metric(table));
        for row in rows.iter().filter(|row| row.table == table) {
            let out = batches.row();
            put_window(out, &row.key);
            put_bytes(out, row.grain.as_bytes());
            put_bytes(out, job.as_bytes());
            put_about(out, &row.key);
            put_values(out, table.columns().iter(), &row.values);
            put_bytes(out, row.undefined.as_bytes());
            out.put_u8(u8::from(row.sealed));
            out.put_u64_le(row.version.0);
        }
        done.extend(batches.finish());
    }
    done
}

/// Rows of `seals`; no batch for no rows.
pub fn seals(job: &str, generation: u16, seals: &[(PartitionId, EventTime)]) -> Vec<RowBatch> {
    let mut batches = Batches::new(Table::Seals);
    for &(partition, until) in seals {
        let out = batches.row();
        put_bytes(out, job.as_bytes());
        out.put_i32_le(partition.0);
        out.put_u16_le(generation);
        out.put_i64_le(until.0);
        out.put_u64_le(ordered(generation, until.0));
    }
    batches.finish()
}

/// Rows of `marks`; no batch for no rows.
pub fn marks(job: &str, generation: u16, marks: &[Mark]) -> Vec<RowBatch> {
    let mut batches = Batches::new(Table::Marks);
    for mark in marks {
        let out = batches.row();
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
        out.put_u64_le(ordered(generation, mark.order()));
    }
    batches.finish()
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

/// A row version that orders rows of one generation by a number of at most 48 bits; less than 0 counts as 0.
fn ordered(generation: u16, by: i64) -> u64 {
    Version::sum(generation, [Version(u64::try_from(by).unwrap_or(0))].into_iter(), false).0
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
        assert!(states("j", &[]).is_empty());
        assert!(seals("j", 0, &[]).is_empty());
        assert!(marks("j", 0, &[]).is_empty());
        assert!(metrics("j", &[]).is_empty());
    }

    #[test]
    fn a_batch_is_cut_at_its_limits_and_each_has_the_header() {
        let mut batches = Batches::new(Table::Seals);
        batches.max_rows = 2;
        let header = batches.header.clone();
        for i in 0..5 {
            batches.row().put_u8(i);
        }
        let done = batches.finish();
        assert_eq!(done.iter().map(|batch| batch.rows).collect::<Vec<_>>(), [2, 2, 1]);
        assert!(done.iter().all(|batch| batch.body.starts_with(&header)));
        assert_eq!(done[2].body.len(), header.len() + 1);
    }

    #[test]
    fn a_row_version_has_the_generation_on_top_and_is_never_negative() {
        assert_eq!(ordered(1, 7), (1 << 48) | 7);
        assert_eq!(ordered(0, i64::MIN), 0);
    }
}
