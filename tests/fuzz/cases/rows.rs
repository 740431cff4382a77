//! The rows of `marks` and `window_state`: any answer of the database is read or refused, and what was read is written
//! and read again as it is.

use super::choice;
use bytes::Bytes;
use tidegauge::engine::dead_schemas::{DeadSchemas, Offsets};
use tidegauge::engine::event::{PartitionId, Positions, SchemaId, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::log_time::LogClock;
use tidegauge::engine::metrics::Families;
use tidegauge::engine::metrics::accumulator::Accumulator;
use tidegauge::engine::metrics::binary::BinaryInput;
use tidegauge::engine::metrics::calibration::CalibrationInput;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::labels::LabelsInput;
use tidegauge::engine::metrics::regression::RegressionInput;
use tidegauge::engine::metrics::serving::ServingInput;
use tidegauge::engine::outcome::Outcomes;
use tidegauge::engine::state::{Key, StateRow, Version};
use tidegauge::engine::time::EventTime;
use tidegauge::engine::window::Window;
use tidegauge::sink::tables::{Table, TableColumn};
use tidegauge::sink::{RowBatch, marks_in, row, states_in};

const JOB: &str = "fuzz";
const GENERATION: u16 = 3;

/// The first byte says which table and whether the header is right; the rest is the answer's body.
pub fn check(bytes: &[u8]) {
    match choice(bytes) {
        Some((0, body)) => marks(&answer(&mark_columns(), body)),
        Some((1, body)) => states(&answer(&state_columns(), body)),
        Some((2, body)) => marks(body),
        Some((3, body)) => states(body),
        _ => {}
    }
}

/// Marks are read as they were written.
fn marks(body: &[u8]) {
    let Ok(marks) = marks_in(Bytes::copy_from_slice(body)) else { return };
    let written = selected(Table::Marks, row::marks(JOB, GENERATION, &marks), &mark_columns());
    let again = marks_in(written.clone().into()).expect("what was written is read");
    assert_eq!(again, marks);
    let twice = selected(Table::Marks, row::marks(JOB, GENERATION, &again), &mark_columns());
    assert_eq!(twice, written);
}

/// States are read as they were written, and what a family takes for its state it gives again.
fn states(body: &[u8]) {
    let Ok(states) = states_in(Bytes::copy_from_slice(body)) else { return };
    let columns = state_columns();
    let written = selected(Table::WindowState, row::states(JOB, &states), &columns);
    let again = states_in(written.clone().into()).expect("what was written is read");
    let twice = selected(Table::WindowState, row::states(JOB, &again), &columns);
    // Bytes, because a number that is none equals nothing.
    assert_eq!(twice, written);
    for row in states {
        if let Ok(families) = row.state.families(ClassCaps::DEFAULT) {
            let again = Families::restore(&families.state(), ClassCaps::DEFAULT)
                .expect("a family reads its own form");
            assert_eq!(again, *families);
            assert_eq!(again.state(), families.state());
        }
    }
}

/// The same without the header.
fn body(
    table: Table,
    batches: impl IntoIterator<Item = RowBatch>,
    columns: &[TableColumn],
) -> Vec<u8> {
    let header = answer(columns, &[]);
    selected(table, batches, columns).split_off(header.len())
}

/// What a case holds.
#[derive(Debug, PartialEq)]
pub enum Rows {
    Marks(Vec<Mark>),
    States(Vec<StateRow>),
}

/// Cases that are rows of this version, with what they say: what is mutated must not go stale with the columns.
pub fn examples() -> Vec<(Vec<u8>, Rows)> {
    let of_marks = |first: u8, marks: Vec<Mark>| {
        let rows = row::marks(JOB, GENERATION, &marks);
        let columns = mark_columns();
        let bytes = match first {
            0 => body(Table::Marks, rows, &columns),
            _ => selected(Table::Marks, rows, &columns),
        };
        ([&[first], &bytes[..]].concat(), Rows::Marks(marks))
    };
    let of_states = |records: &[u32]| {
        let states: Vec<StateRow> = records.iter().map(|&records| state(records)).collect();
        let rows = row::states(JOB, &states);
        let bytes = body(Table::WindowState, rows, &state_columns());
        ([&[1], &bytes[..]].concat(), Rows::States(states))
    };
    let mut examples = vec![of_marks(0, (0..3).map(mark).collect()), of_states(&[0, 1])];
    examples.extend((0..3).map(|number| of_marks(2, vec![mark(number)])));
    examples.extend([0, 1, 3, 200].map(|records| of_states(&[records])));
    examples
}

/// The rows of a case; none where they are refused.
pub fn read(bytes: &[u8]) -> Option<Rows> {
    let (first, body) = choice(bytes)?;
    match first {
        0 => marks_in(answer(&mark_columns(), body).into()).ok().map(Rows::Marks),
        1 => states_in(answer(&state_columns(), body).into()).ok().map(Rows::States),
        2 => marks_in(Bytes::copy_from_slice(body)).ok().map(Rows::Marks),
        _ => None,
    }
}

fn mark(number: i32) -> Mark {
    let position = i64::from(number) * 1_000;
    let positions = Positions { inferences: position, labels: position / 2 };
    let mut mark = Mark::start(PartitionId(number), positions, 2);
    if number > 0 {
        mark.floor.inferences = LogClock::restore(2, &[5, 1_700_000_000_000]);
        mark.clocks = [LogClock::restore(2, &[7, 8]), LogClock::restore(2, &[-1])];
        mark.floor.sealed_until = EventTime(1_700_000_100_000);
        let outcomes = Outcomes { first: 900, second: 3, third: -2, dead: 99 };
        for (stream, model) in
            [(Stream::Inferences, ""), (Stream::Inferences, "fraud"), (Stream::Labels, "fraud")]
        {
            mark.tally.add(stream, &model.into(), &outcomes);
        }
        mark.dead_schemas[1] = DeadSchemas::restore([
            (Some(SchemaId(7)), Offsets { first: 400, last: 410 }),
            (None, Offsets { first: 0, last: i64::MAX }),
        ]);
    }
    mark
}

/// A state of so many inferences, most of them with a label.
fn state(records: u32) -> StateRow {
    let mut families = Families::default();
    for i in 0..records {
        let time = EventTime(i64::from(i) * 7);
        let latency_us = (i % 3 > 0).then_some(i * i * 1_000);
        families.serving.add(&ServingInput {
            time,
            latency_us,
            failed: i % 5 == 0,
            freshness_ms: 9,
        });
        let score = Some(f64::from(i % 97) / 97.0);
        let decision = Some(i % 2 == 0);
        families.labels.add(&LabelsInput::Inference { decision });
        families.binary.get_mut().add(&BinaryInput::Inference { score });
        if i % 4 > 0 {
            families
                .labels
                .add(&LabelsInput::First { delay_ms: u64::from(i) << (i % 32), decision });
            let positive = i % 3 == 0;
            let labelled = BinaryInput::Labelled {
                decision,
                off_threshold: false,
                score,
                positive,
                thresholds: &[0.25, 0.75],
                weight: None,
            };
            families.binary.get_mut().add(&labelled);
            let score = f64::from(i % 97) / 97.0;
            families.calibration.get_mut().add(&CalibrationInput { score, positive, weight: None });
            let (predicted, actual) = (f64::from(i) * 1.5, f64::from(i));
            families.regression.get_mut().add(&RegressionInput::Labelled {
                predicted,
                actual,
                weight: None,
            });
        }
    }
    StateRow {
        key: Key {
            model: "fraud".into(),
            version: "2".into(),
            segment: "region=eu".into(),
            window: Window { start: EventTime(0), end: EventTime(300_000) },
        },
        partition: PartitionId(3),
        version: Version::of(GENERATION, u64::from(records), false),
        state: families.state().into(),
    }
}

/// The columns that a start reads of `marks`.
pub fn mark_columns() -> Vec<TableColumn> {
    let of_writer = ["job", "generation", "row_version"];
    written(Table::Marks).filter(|column| !of_writer.contains(&column.name.as_str())).collect()
}

/// The columns that are read of `window_state`.
pub fn state_columns() -> Vec<TableColumn> {
    let key = "model version segment window_start window_end partition row_version";
    let of_key: Vec<_> = key.split(' ').collect();
    let mut columns: Vec<_> = of_key
        .iter()
        .map(|name| {
            let mut all = written(Table::WindowState);
            all.find(|column| column.name == *name).expect("every key column is written")
        })
        .collect();
    let is_state =
        |column: &TableColumn| column.name != "job" && !of_key.contains(&column.name.as_str());
    columns.extend(written(Table::WindowState).filter(is_state));
    columns
}

fn written(table: Table) -> impl Iterator<Item = TableColumn> {
    table.spec().written().cloned().collect::<Vec<_>>().into_iter()
}

/// An answer: names, types, rows.
pub fn answer(columns: &[TableColumn], rows: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    length(&mut out, columns.len());
    let names = columns.iter().map(|column| &column.name);
    for text in names.chain(columns.iter().map(|column| &column.data_type)) {
        length(&mut out, text.len());
        out.extend_from_slice(text.as_bytes());
    }
    out.extend_from_slice(rows);
    out
}

/// What the server answers of rows that were inserted, read and written by nothing of the program's own.
pub fn selected(
    table: Table,
    batches: impl IntoIterator<Item = RowBatch>,
    columns: &[TableColumn],
) -> Vec<u8> {
    let inserted: Vec<_> = written(table).collect();
    let mut rows = Vec::new();
    for batch in batches {
        let header = answer(&inserted, &[]);
        let mut rest = batch.body.strip_prefix(&header[..]).expect("the header of the table");
        while !rest.is_empty() {
            let row: Vec<(&str, &[u8])> = inserted
                .iter()
                .map(|column| {
                    let (value, after) = rest.split_at(size(&column.data_type, rest));
                    rest = after;
                    (column.name.as_str(), value)
                })
                .collect();
            for column in columns {
                let value = row.iter().find(|(name, _)| *name == column.name);
                rows.extend_from_slice(value.expect("a column that was written").1);
            }
        }
    }
    answer(columns, &rows)
}

/// How many bytes the first value of this type takes.
fn size(data_type: &str, bytes: &[u8]) -> usize {
    let inner = |name: &str| {
        let inner = data_type.strip_prefix(name).and_then(|rest| rest.strip_prefix('('));
        inner.and_then(|rest| rest.strip_suffix(')'))
    };
    if let Some(item) = inner("Array") {
        let (count, mut at) = read_length(bytes);
        for _ in 0..count {
            at += size(item, &bytes[at..]);
        }
        return at;
    }
    if let Some(items) = inner("Tuple") {
        let types = items.split(", ").map(|item| item.rsplit(' ').next().unwrap_or(item));
        return types.fold(0, |at, item| at + size(item, &bytes[at..]));
    }
    match data_type {
        "String" | "LowCardinality(String)" => {
            let (length, at) = read_length(bytes);
            at + length
        }
        "UInt16" => 2,
        "Int32" | "UInt32" => 4,
        "Int64" | "UInt64" | "Float64" | "DateTime64(3, 'UTC')" => 8,
        other => panic!("a column of type {other}"),
    }
}

fn read_length(bytes: &[u8]) -> (usize, usize) {
    let mut length = 0;
    for (i, byte) in bytes.iter().enumerate() {
        length |= usize::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return (length, i + 1);
        }
    }
    panic!("a length without an end")
}

fn length(out: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        out.push(u8::try_from(length & 0x7f).expect("7 bits") | 0x80);
        length >>= 7;
    }
    out.push(u8::try_from(length).expect("7 bits"));
}
