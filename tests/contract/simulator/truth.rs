//! What the oracle says of a case, and the invariants that hold the tables against it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tidegauge::engine::event::{PartitionId, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::metrics::accumulator::{Column, Kind};
use tidegauge::engine::state::{Key, Version};
use tidegauge::engine::time::EventTime;
use tidegauge::engine::time::Millis;
use tidegauge::engine::window::Window;
use tidegauge::evaluate::grain_name;
use tidegauge::sink::tables::Table;

use super::compared::{self, Rows};
use super::traffic::Case;
use super::{JOB, Violation};
use crate::memory::{Cursor, Shown, Tables, Versioned, table_of};
use crate::oracle::{self, Account, Body, Cell};
use crate::shard;

/// Differences that are told.
const DIFFERENCES_TOLD: usize = 12;
/// Counts that only grow with the prefixes read, as the version of the row does.
const GROWING: [&str; 11] = [
    "inferences",
    "inferences_positive",
    "inferences_negative",
    "errors",
    "latency_n",
    "labelled",
    "labelled_positive",
    "labelled_negative",
    "labels_matched",
    "label_corrections",
    "label_duplicates",
];

/// The offset of an inference and those of its labels.
type Folded = (i64, Vec<i64>);

/// One state row of the whole logs.
#[derive(Debug)]
struct Part {
    key: (Key, PartitionId),
    folded: Vec<Folded>,
}

impl Part {
    /// The records of the row at a mark, and whether it is sealed.
    fn at(&self, mark: &Mark) -> (u64, bool) {
        let folded = self.folded.iter().filter(|(at, _)| *at < mark.positions.inferences);
        let count = |labels: &Vec<i64>| {
            1 + labels.iter().filter(|&&label| label < mark.positions.labels).count()
        };
        let records: usize = folded.map(|(_, labels)| count(labels)).sum();
        let is_sealed = self.key.0.window.end <= mark.floor.sealed_until;
        (u64::try_from(records).unwrap(), is_sealed)
    }

    /// The inferences of the row at a mark.
    fn inferences(&self, mark: &Mark) -> u64 {
        let folded = self.folded.iter().filter(|(at, _)| *at < mark.positions.inferences);
        u64::try_from(folded.count()).unwrap()
    }
}

/// One key of one grain: which parts it merges.
#[derive(Debug)]
struct Whole {
    window: Window,
    bytes: Vec<u8>,
    parts: Vec<usize>,
}

/// All that the invariants need.
#[derive(Debug)]
pub(crate) struct Truth {
    generation: u16,
    parts: Vec<Part>,
    wholes: Vec<Whole>,
    /// By table and the bytes of the key.
    rows: BTreeMap<(&'static str, Vec<u8>), oracle::Row>,
    /// Those that are none of the oracle's.
    batch: Rows,
    accounts: Vec<Account>,
    /// Records of both topics by partition.
    records: Vec<[usize; 2]>,
    dead: Vec<(Stream, PartitionId, i64)>,
    /// Names and types of the columns of each metric table.
    columns: BTreeMap<&'static str, Vec<(String, String)>>,
}

impl Truth {
    pub(crate) fn new(case: &Case) -> Self {
        let expected = oracle::compute(&case.settings, &case.logs);
        let (parts, wholes) = parts(case);
        let shard = case.shard();
        let is_its = |row: &oracle::Row| {
            let feature = row.own_key.split('/').next().unwrap_or_default();
            !compared::is_beyond_oracle(&shard, table_of(row.table), &row.model, feature)
        };
        let rows = expected.rows.into_iter().filter(is_its).filter_map(|row| {
            let window = Window::of(EventTime(row.start), Millis(row.grain));
            let names = [&*row.model, &*row.version, &*row.segment];
            let key = [key_bytes(window, names), own_key_bytes(&row)].concat();
            case.rows_within.holds(window).then_some(((row.table, key), row))
        });
        let dead = case.logs.iter().zip(0..).flat_map(|(logs, number)| {
            let of = |stream, log: &[oracle::Record]| {
                let dead = log.iter().filter(|record| matches!(record.body, Body::Dead));
                dead.map(|record| (stream, PartitionId(number), record.offset)).collect::<Vec<_>>()
            };
            [of(Stream::Inferences, &logs.inferences), of(Stream::Labels, &logs.labels)].concat()
        });
        Self {
            generation: case.settings.generation,
            parts,
            wholes,
            rows: rows.collect(),
            batch: compared::batch(case),
            records: case.logs.iter().map(|l| [l.inferences.len(), l.labels.len()]).collect(),
            dead: dead.collect(),
            accounts: expected.partitions,
            columns: MetricTable::ALL.into_iter().map(columns).collect(),
        }
    }

    /// Whether the marks are those of the whole logs.
    pub(crate) fn is_complete(&self, tables: &Tables) -> bool {
        self.accounts.iter().zip(0..).all(|(account, number)| {
            tables.marks.get(&PartitionId(number)).is_some_and(|mark| {
                [mark.positions.inferences, mark.positions.labels] == account.positions
            })
        })
    }

    /// I3: nothing that a mark vouches for is missing when it is sent.
    pub(crate) fn check_mark(
        &self,
        tables: &Tables,
        letters: &std::collections::BTreeSet<(Stream, PartitionId, i64)>,
        mark: &Mark,
    ) -> Result<(), Violation> {
        for part in self.parts.iter().filter(|part| part.key.1 == mark.partition) {
            let (records, is_sealed) = part.at(mark);
            let written = tables.states.get(&part.key).map(|row| row.version);
            let least = Version::of(self.generation, records, is_sealed);
            if records > 0 && written.is_none_or(|written| written < least) {
                let text = format!("state row {:?} is {written:?}, {least:?} is marked", part.key);
                return Err(Violation::new("I3 state rows", text));
            }
        }
        let sealed = tables.seals.get(&mark.partition).copied().unwrap_or(EventTime(i64::MIN));
        if sealed < mark.floor.sealed_until {
            return Err(Violation::new("I3 seal marks", format!("{sealed:?} at {mark:?}")));
        }
        for dead in self.dead.iter().filter(|dead| dead.1 == mark.partition) {
            if dead.2 < mark.positions.of(dead.0) && !letters.contains(dead) {
                return Err(Violation::new("I3 dead letters", format!("{dead:?} is not sent")));
            }
        }
        self.check_metrics_marked(tables, mark)
    }

    /// Metric rows have at least the versions that all newest marks together vouch for.
    fn check_metrics_marked(&self, tables: &Tables, mark: &Mark) -> Result<(), Violation> {
        let mark_of = |partition: PartitionId| {
            let known = tables.marks.get(&partition);
            if partition == mark.partition && known.is_none_or(|m| m.order() <= mark.order()) {
                Some(mark)
            } else {
                known
            }
        };
        let all = (0..i32::try_from(self.accounts.len()).unwrap()).map(PartitionId);
        let sealed = all.map(|p| mark_of(p).map(|mark| mark.floor.sealed_until));
        let common = sealed.min().flatten();
        for whole in &self.wholes {
            let at = whole.parts.iter().filter_map(|&part| {
                let part = &self.parts[part];
                Some(part.at(mark_of(part.key.1)?)).filter(|(records, _)| *records > 0)
            });
            let versions = at.map(|(records, is_sealed)| Version::of(0, records, is_sealed));
            let versions: Vec<Version> = versions.collect();
            if versions.is_empty() {
                continue;
            }
            let is_sealed = common.is_some_and(|common| whole.window.end <= common);
            let counted = Version::sum(0, versions);
            let least = Version::of_metrics(self.generation, counted, is_sealed).0;
            let row = |table| tables.metrics.get(&(table, whole.bytes.clone()));
            let written = row("labels").map(|row| row.0);
            // Rows that read no labels stand over the inferences that the marks vouch for, or at least over those of the
            // rows that do: of another mixture of both topics the row of more records may have fewer.
            let marked = whole.parts.iter().filter_map(|&part| {
                let part = &self.parts[part];
                Some(part.inferences(mark_of(part.key.1)?))
            });
            let marked: u64 = marked.sum();
            let inferences = ["serving", "labels"].map(|table| {
                let (_, row) = row(table)?;
                let values = self.decoded(table, row);
                values.into_iter().find(|(name, _)| *name == "inferences").map(|(_, it)| it)
            });
            let is_behind = match &inferences {
                [Some(Shown::Count(serving)), Some(Shown::Count(labels))] => {
                    *serving < marked.min(*labels)
                }
                _ => true,
            };
            let of_sealed =
                Version::of_metrics(self.generation, Version::of(0, marked, false), true);
            let is_behind = is_behind
                || (is_sealed && row("serving").is_none_or(|(version, _)| *version < of_sealed.0));
            if is_behind || written.is_none_or(|written| written < least) {
                let key = String::from_utf8_lossy(&whole.bytes[16..]).into_owned();
                let text = format!(
                    "labels {key:?} {:?} is {written:?}, {least} is marked by {mark:?}; \
                     inferences of serving and labels: {inferences:?}",
                    whole.window
                );
                return Err(Violation::new("I3 metric rows", text));
            }
            self.check_batch_marked(tables, &whole.bytes, least)?;
        }
        Ok(())
    }

    /// The same of rows that read labels and are none of the oracle's. A window without labels has not all rows of drift.
    fn check_batch_marked(
        &self,
        tables: &Tables,
        whole: &[u8],
        least: u64,
    ) -> Result<(), Violation> {
        let of_labels = [("custom", "", true), ("drift", "\u{5}label", false)];
        for (table, own, is_always_there) in of_labels {
            let start = [whole, own.as_bytes()].concat();
            let all = self.batch.range((table, start.clone())..).map(|(place, _)| place);
            let all = all.take_while(|(of, key)| *of == table && key.starts_with(&start));
            for place in all {
                let written = tables.metrics.get(place).map(|row| row.0);
                if written.map_or(is_always_there, |written| written < least) {
                    let key = String::from_utf8_lossy(&place.1[16..]).into_owned();
                    let text = format!("{table} {key:?} is {written:?}, {least} is marked");
                    return Err(Violation::new("I3 metric rows", text));
                }
            }
        }
        Ok(())
    }

    /// I4: what a reader sees now is not beyond the truth, and adds up.
    pub(crate) fn sample(&self, tables: &Tables, with_versions: bool) -> Result<(), Violation> {
        for ((table, key), (version, row)) in &tables.metrics {
            let values = self.decoded(table, row);
            let about = || format!("{table} {:?}: {values:?}", String::from_utf8_lossy(&key[16..]));
            let place = (*table, key.clone());
            if let Some(last) = self.batch.get(&place) {
                self.sample_batch(table, (*version, row), last, with_versions)?;
                continue;
            }
            let Some(expected) = self.rows.get(&place) else {
                if self.goes(table, key, with_versions.then_some(*version)) {
                    continue;
                }
                return Err(Violation::new("I4 invented key", about()));
            };
            let mut limits: BTreeMap<&str, u64> = BTreeMap::new();
            for (name, cell) in &expected.cells {
                if let (Cell::Count(count), true) = (cell, GROWING.contains(&&**name)) {
                    limits.insert(name, *count);
                }
            }
            if with_versions {
                limits.insert("row_version", expected.row_version);
            }
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for (name, value) in &values {
                if let Shown::Count(count) = value {
                    counts.insert(name, *count);
                    if limits.get(name).is_some_and(|limit| limit < count) {
                        let text = format!("{name} is beyond {}, {}", limits[name], about());
                        return Err(Violation::new("I4 beyond the truth", text));
                    }
                }
            }
            if *table == "labels"
                && counts["inferences"]
                    != counts["labelled"] + counts["pending"] + counts["expired"]
            {
                return Err(Violation::new("I4 accounts of a key", about()));
            }
        }
        Ok(())
    }

    /// The same of a row that is none of the oracle's. One of the last version is the last row.
    fn sample_batch(
        &self,
        table: &str,
        (version, row): (u64, &[u8]),
        (last, last_row): &Versioned,
        with_versions: bool,
    ) -> Result<(), Violation> {
        let (values, most) = (self.decoded(table, row), self.decoded(table, last_row));
        let beyond = values.iter().zip(&most).find(|((name, value), (_, most))| {
            // Of categories some go into others.
            let grows = GROWING.contains(name) || (*name == "n" && table != "categories");
            match (value, most) {
                (Shown::Count(value), Shown::Count(most)) => grows && most < value,
                _ => false,
            }
        });
        let is_beyond = with_versions && *last < version;
        let is_other = with_versions && *last == version && row != last_row;
        if beyond.is_none() && !is_beyond && !is_other {
            return Ok(());
        }
        let text = format!("{table} of version {version}: {values:?}, at the end {last}: {most:?}");
        Err(Violation::new("I4 beyond the truth", text))
    }

    /// Whether a row that is not there at the end may have been there before: one of a table whose rows can go, of a
    /// window that has newer rows at the end, so that readers pass over it. What such rows count is what one table with a
    /// row for every window counts.
    fn goes(&self, table: &str, key: &[u8], version: Option<u64>) -> bool {
        let of = self.wholes.iter().find(|whole| key.starts_with(&whole.bytes));
        let table = table_of(table);
        let beside = if table == MetricTable::Categories { "serving" } else { "labels" };
        let newest = of.and_then(|whole| self.rows.get(&(beside, whole.bytes.clone())));
        table.rows_can_go()
            && newest.is_some_and(|row| version.is_none_or(|version| version < row.row_version))
    }

    /// Whether a metric row is there at the end.
    pub(crate) fn has(&self, row: &(&'static str, Vec<u8>)) -> bool {
        self.rows.contains_key(row) || self.batch.contains_key(row)
    }

    fn decoded(&self, table: &str, row: &[u8]) -> Vec<(&str, Shown)> {
        let columns = &self.columns[table];
        let types: Vec<&str> = columns.iter().map(|(_, of)| &**of).collect();
        let values = Cursor::values(row, &types);
        columns.iter().map(|(name, _)| &**name).zip(values).collect()
    }

    /// I1 and I2, once all is written.
    pub(crate) fn check_end(&self, tables: &Tables, with_versions: bool) -> Result<(), Violation> {
        let mut differences = String::new();
        for (key, expected) in &self.rows {
            let about = format!(
                "{} {}/{}/{} at {} of {} ms",
                expected.table,
                expected.model,
                expected.version,
                expected.segment,
                expected.start,
                expected.grain
            );
            match tables.metrics.get(key) {
                None => writeln!(differences, "{about} is missing").unwrap(),
                Some((_, row)) => {
                    let values = self.decoded(key.0, row);
                    compare(&about, &values, expected, with_versions, &mut differences);
                }
            }
        }
        self.compare_batch(tables, with_versions, &mut differences);
        for ((table, key), (version, _)) in &tables.metrics {
            let is_known = self.has(&(*table, key.clone()));
            if !is_known && !self.goes(table, key, with_versions.then_some(*version)) {
                let key = String::from_utf8_lossy(key);
                writeln!(differences, "unexpected row of {table} {key:?}").unwrap();
            }
        }
        if !differences.is_empty() {
            let some: Vec<&str> = differences.lines().take(DIFFERENCES_TOLD).collect();
            let count = differences.lines().count();
            let text = format!("{count} differences, the first are\n{}", some.join("\n"));
            return Err(Violation::new("I1 rows", text));
        }
        if with_versions {
            self.check_bodies(tables)?;
        }
        self.check_accounts(tables)
    }

    /// Byte by byte, the version apart where it is broken on purpose.
    fn compare_batch(&self, tables: &Tables, with_versions: bool, differences: &mut String) {
        const VERSION_BYTES: usize = 8;
        let said = |row: &[u8]| row.len() - if with_versions { 0 } else { VERSION_BYTES };
        for ((table, key), (_, expected)) in &self.batch {
            let about = format!("{table} {:?}", String::from_utf8_lossy(&key[16..]));
            match tables.metrics.get(&(*table, key.clone())) {
                None => writeln!(differences, "{about} is missing").unwrap(),
                Some((_, row)) if row[..said(row)] == expected[..said(expected)] => {}
                Some((_, row)) => {
                    let (is, expected) = (self.decoded(table, row), self.decoded(table, expected));
                    let other = is.iter().zip(&expected).filter(|(is, expected)| is != expected);
                    let other: Vec<_> = other.map(|(is, (_, of))| (is, of)).collect();
                    writeln!(differences, "{about} is, and of the batch: {other:?}").unwrap();
                }
            }
        }
    }

    /// I7: whichever of several rows of the last version a server keeps, it is the same. (Two of an earlier version may
    /// differ: as many records in another mixture of both topics. So may rows that are gone at the end.)
    fn check_bodies(&self, tables: &Tables) -> Result<(), Violation> {
        let states = tables.rival_states.iter().map(|key| format!("state row {key:?}"));
        let shown = |(table, key): &(&'static str, Vec<u8>)| {
            format!("{table} {:?}", String::from_utf8_lossy(&key[16..]))
        };
        let metrics = tables.rival_metrics.iter().filter(|row| self.has(row)).map(shown);
        let all: Vec<String> = states.chain(metrics).collect();
        if all.is_empty() {
            return Ok(());
        }
        let some = all.iter().take(DIFFERENCES_TOLD).map(String::as_str).collect::<Vec<_>>();
        let text = format!("{} last versions differ, such as\n{}", all.len(), some.join("\n"));
        Err(Violation::new("I7 one row of a version", text))
    }

    fn check_accounts(&self, tables: &Tables) -> Result<(), Violation> {
        for ((account, records), number) in self.accounts.iter().zip(&self.records).zip(0..) {
            let partition = PartitionId(number);
            let mark = &tables.marks[&partition];
            for stream in Stream::BOTH {
                let counted = mark.tally.records(stream);
                if counted != i64::try_from(records[stream.index()]).unwrap() {
                    let text = format!("{counted} of {records:?} {stream:?} in {partition:?}");
                    return Err(Violation::new("I2 accounts", text));
                }
            }
            if shard::counts(&mark.tally) != account.tally {
                let text = format!("{partition:?}: {:?}, not {account:?}", mark.tally);
                return Err(Violation::new("I2 accounts", text));
            }
            let clocks = mark.clocks.each_ref().map(|clock| clock.now().map(|time| time.0));
            let sealed = account.seal_mark.unwrap_or(i64::MIN);
            let written = tables.seals.get(&partition).map_or(i64::MIN, |mark| mark.0);
            if clocks != account.clocks || mark.floor.sealed_until.0 != sealed || written != sealed
            {
                let text = format!("{mark:?} and {written}, not {account:?}");
                return Err(Violation::new("I1 marks", text));
            }
        }
        Ok(())
    }
}

fn columns(table: MetricTable) -> (&'static str, Vec<(String, String)>) {
    let spec = Table::Metric(table).spec();
    let columns = spec.written().map(|column| (column.name.clone(), column.data_type.clone()));
    (table.name(), columns.collect())
}

/// Every state row of the whole logs, and every key of every grain, of windows that have rows.
fn parts(case: &Case) -> (Vec<Part>, Vec<Whole>) {
    let (_, folded) = oracle::fold(&case.settings, &case.logs);
    let mut by_key: BTreeMap<(Key, PartitionId), Vec<Folded>> = BTreeMap::new();
    for one in &folded {
        let window = Window::of(EventTime(one.window), Millis(case.settings.window));
        if !case.rows_within.holds(window) {
            continue;
        }
        let partition = PartitionId(i32::try_from(one.partition).unwrap());
        for [model, version, segment] in &one.keys {
            let [model, version, segment] =
                [model, version, segment].map(|name| Arc::from(name.as_str()));
            let key = (Key { model, version, segment, window }, partition);
            by_key.entry(key).or_default().push((one.offset, one.walk.labels.clone()));
        }
    }
    let parts: Vec<Part> = by_key.into_iter().map(|(key, folded)| Part { key, folded }).collect();
    let mut wholes: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    let sizes = std::iter::once(case.settings.window).chain(case.settings.grains.iter().copied());
    for size in sizes {
        for (index, part) in parts.iter().enumerate() {
            let window = Window::of(part.key.0.window.start, Millis(size));
            if case.rows_within.holds(window) {
                wholes.entry(Key { window, ..part.key.0.clone() }).or_default().push(index);
            }
        }
    }
    let wholes = wholes.into_iter().map(|(key, parts)| Whole {
        window: key.window,
        bytes: key_bytes(key.window, [&key.model, &key.version, &key.segment]),
        parts,
    });
    (parts, wholes.collect())
}

/// The first seven columns of a metric row.
fn key_bytes(window: Window, [model, version, segment]: [&str; 3]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(window.start.0.to_le_bytes());
    bytes.extend(window.end.0.to_le_bytes());
    for text in [&grain_name(window.size()), JOB, model, version, segment] {
        bytes.push(u8::try_from(text.len()).unwrap());
        bytes.extend(text.as_bytes());
    }
    bytes
}

/// What tells several rows of a window apart: the first of their columns, as they are written.
fn own_key_bytes(row: &oracle::Row) -> Vec<u8> {
    let keys = table_of(row.table).keys();
    let of = |(_, cell): &(String, Cell)| match cell {
        Cell::Count(count) => count.to_le_bytes().to_vec(),
        Cell::Number(number) => number.to_le_bytes().to_vec(),
        Cell::Text(text) => {
            let length = u8::try_from(text.len()).unwrap();
            [&[length], text.as_bytes()].concat()
        }
        other @ (Cell::Time(_) | Cell::About(_) | Cell::Null(_)) => panic!("{other:?} is no key"),
    };
    row.cells.iter().take(keys).flat_map(of).collect()
}

fn compare(
    about: &str,
    values: &[(&str, Shown)],
    expected: &oracle::Row,
    with_versions: bool,
    differences: &mut String,
) {
    let mut shown: BTreeMap<&str, &Shown> = values.iter().map(|(n, v)| (*n, v)).collect();
    for key in ["window_start", "window_end", "grain", "job", "model", "version", "segment"] {
        shown.remove(key);
    }
    let mut undefined = std::collections::BTreeSet::new();
    for (name, cell) in &expected.cells {
        let is = shown.remove(&**name);
        let is_same = match (is, cell) {
            (Some(Shown::Count(is)), Cell::Count(expected)) => is == expected,
            (Some(Shown::Time(is)), Cell::Time(expected)) => is == expected,
            (Some(Shown::Text(is)), Cell::Text(expected)) => is == expected,
            (Some(Shown::Number(Some(is))), Cell::Number(expected)) => {
                oracle::is_close(*is, *expected)
            }
            (Some(Shown::Number(Some(is))), Cell::About(expected)) => {
                oracle::is_about(*is, *expected)
            }
            (Some(Shown::Number(None)), Cell::Null(reason)) => {
                if !name.ends_with("_upper") {
                    undefined.insert(format!("{name}={reason}"));
                }
                true
            }
            _ => false,
        };
        if !is_same {
            writeln!(differences, "{about}: {name} is {is:?}, expected {cell:?}").unwrap();
        }
    }
    let said = match shown.remove("undefined") {
        Some(Shown::Text(said)) => said.split_whitespace().map(str::to_owned).collect(),
        _ => std::collections::BTreeSet::new(),
    };
    if said != undefined {
        writeln!(differences, "{about}: undefined is {said:?}, expected {undefined:?}").unwrap();
    }
    for (name, expected) in
        [("sealed", u64::from(expected.sealed)), ("row_version", expected.row_version)]
    {
        let is = shown.remove(name);
        if is != Some(&Shown::Count(expected)) && (with_versions || name != "row_version") {
            writeln!(differences, "{about}: {name} is {is:?}, expected {expected}").unwrap();
        }
    }
    if !shown.is_empty() {
        writeln!(differences, "{about}: the oracle has no columns {shown:?}").unwrap();
    }
}

#[test]
fn what_only_grows_is_a_count_of_a_metric_table() {
    let columns = || MetricTable::ALL.into_iter().flat_map(MetricTable::columns);
    for name in GROWING {
        let is_count = |column: &Column| column.name == name && column.kind == Kind::Count;
        assert!(columns().any(is_count), "{name}");
    }
}
