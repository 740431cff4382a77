//! The pipeline's ends in memory: a source that plays vectors, tables that keep the row of the greatest version,
//! letters and commits. What was called is kept in one list, in order.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{self, AtomicUsize};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidegauge::engine::dead_schemas::{DeadSchemas, Offsets};
use tidegauge::engine::event::{PartitionId, Positions, SchemaId, Stream};
use tidegauge::engine::floor::{Floor, Mark};
use tidegauge::engine::log_time::LogClock;
use tidegauge::engine::metrics::accumulator::{Kind, Value};
use tidegauge::engine::metrics::exact_sum::ExactSum;
use tidegauge::engine::metrics::{MetricTable, state_columns};
use tidegauge::engine::outcome::{Outcomes, Tally};
use tidegauge::engine::state::{Key, StateRow, Version};
use tidegauge::engine::time::EventTime;
use tidegauge::engine::window::Window;
use tidegauge::sink::tables::Table;
use tidegauge::sink::{
    DeadLetter, DeadLetters, MetricVersion, RowBatch, Sink, SinkError, StateVersion,
};
use tidegauge::source::{
    Commits, Record, Records, Reply, Source, SourceError, SourceEvent, StartAt, Take,
};

/// How the tables answer writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// As they should.
    Good,
    /// So many writes fail and nothing is kept.
    Fails(usize),
    /// So many writes are kept, and the answer is lost.
    LosesReplies(usize),
    /// The operator has to act.
    Refuses(usize),
    /// No attempt can help.
    Unreadable,
    /// No answer comes.
    Hangs,
    /// The answer comes once the tables do something else.
    Waits,
    /// The same of writes to this table; others are as they should.
    HangsAt(Table),
}

/// How the tables answer questions for state rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reads {
    /// As they should.
    Good,
    /// One of so many is not answered.
    FailsEvery(usize),
    /// In the place of the answer to this one, the first being 1, the connection is cut, and the server comes back
    /// without the rows that it has shown before.
    LosesAt(usize),
}

/// A row's version and all its bytes.
pub(crate) type Versioned = (u64, Vec<u8>);

#[derive(Clone, Debug)]
pub(crate) struct Tables {
    pub mode: Mode,
    /// Of two rows of one version, whether the one that was there stays.
    pub keeps_first: bool,
    pub reads: Reads,
    /// The state rows asked for so far, while not all reads are good.
    shown: Vec<(Key, PartitionId)>,
    /// More state rows than these are not read in time.
    pub most_states: usize,
    /// So many answers about state rows lose their last row without a word, as under limits that cut answers.
    pub cuts: usize,
    /// So many inserts into a table are acknowledged and gone: those that hold a row of a sealed window, since only these
    /// are read back. (Where any of them is gone, all rows of the flush are. Other rows come again with the next record
    /// or when their window is sealed, so that of the last windows of a log not at all.)
    pub forgets: Option<(Table, usize)>,
    pub calls: Vec<String>,
    pub states: BTreeMap<(Key, PartitionId), StateRow>,
    pub seals: BTreeMap<PartitionId, EventTime>,
    pub marks: BTreeMap<PartitionId, Mark>,
    /// Whole rows by table and the bytes of their key.
    pub metrics: BTreeMap<(&'static str, Vec<u8>), Versioned>,
    /// Keys whose greatest version has come with different rows.
    pub rival_states: BTreeSet<(Key, PartitionId)>,
    pub rival_metrics: BTreeSet<(&'static str, Vec<u8>)>,
    pub letters: Vec<DeadLetter>,
    pub bodies: Vec<RowBatch>,
    /// How far each partition was committed.
    pub committed: BTreeMap<PartitionId, i64>,
}

/// Clones share the tables.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Mutex<Tables>>);

impl Memory {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Mutex::new(Tables::new())))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap()
    }

    fn before_write(&self, table: Table) -> (Result<(), SinkError>, bool, bool) {
        let mut tables = self.lock();
        match tables.mode {
            Mode::HangsAt(at) if at != table => (Ok(()), true, false),
            Mode::Good | Mode::Waits => (Ok(()), true, false),
            Mode::Hangs | Mode::HangsAt(_) => (Ok(()), false, true),
            Mode::Unreadable => {
                (Err(SinkError::Unreadable("a stranger's row".into())), false, false)
            }
            Mode::Fails(n) => {
                tables.mode = if n > 1 { Mode::Fails(n - 1) } else { Mode::Good };
                (Err(SinkError::Unavailable("cut".into())), false, false)
            }
            Mode::LosesReplies(n) => {
                tables.mode = if n > 1 { Mode::LosesReplies(n - 1) } else { Mode::Good };
                (Err(SinkError::Unavailable("no answer".into())), true, false)
            }
            Mode::Refuses(n) => {
                tables.mode = if n > 1 { Mode::Refuses(n - 1) } else { Mode::Good };
                (Err(SinkError::Refused("disk full".into())), false, false)
            }
        }
    }
}

/// Notes whether a key's greatest version has come with different rows, as a row comes to the one that is there.
fn note_rivals<K: Ord + Clone>(
    rivals: &mut BTreeSet<K>,
    key: &K,
    version: Ordering,
    is_same_row: bool,
) {
    if version == Ordering::Greater {
        rivals.remove(key);
    } else if version == Ordering::Equal && !is_same_row {
        rivals.insert(key.clone());
    }
}

/// Whether a batch has a row of a sealed window.
fn holds_sealed(batch: &RowBatch) -> bool {
    let mut rows = Tables::new();
    rows.apply(batch);
    // A metric row ends with `sealed`, one byte, and `row_version`.
    let is_sealed = |(_, row): &Versioned| row[row.len() - 9] == 1;
    !rows.seals.is_empty()
        || rows.states.values().any(|row| row.version.is_sealed())
        || rows.metrics.values().any(is_sealed)
}

impl Sink for Memory {
    async fn write(&mut self, batch: &RowBatch) -> Result<(), SinkError> {
        let (answer, is_applied, hangs) = self.before_write(batch.table);
        self.lock().bodies.push(batch.clone());
        if hangs {
            std::future::pending::<()>().await;
        }
        while self.lock().mode == Mode::Waits {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if is_applied {
            let mut tables = self.lock();
            tables.calls.push(format!("write {}", batch.table.name()));
            if let Some((table, left)) = tables.forgets
                && table == batch.table
                && holds_sealed(batch)
            {
                tables.forgets = (left > 1).then_some((table, left - 1));
            } else {
                tables.apply(batch);
            }
        }
        answer
    }

    async fn state_versions(&mut self, span: Window) -> Result<Vec<StateVersion>, SinkError> {
        let mut tables = self.lock();
        tables.calls.push("read versions".into());
        let rows = tables.states.values().filter(|row| span.holds(row.key.window));
        Ok(rows
            .map(|row| StateVersion {
                key: row.key.clone(),
                partition: row.partition,
                version: row.version,
            })
            .collect())
    }

    async fn window_starts(&mut self) -> Result<Vec<EventTime>, SinkError> {
        let mut tables = self.lock();
        tables.calls.push("read windows".into());
        let starts = tables.states.values().map(|row| row.key.window.start);
        Ok(starts.collect::<BTreeSet<_>>().into_iter().collect())
    }

    async fn states(&mut self, wanted: &[(Key, PartitionId)]) -> Result<Vec<StateRow>, SinkError> {
        let mut tables = self.lock();
        tables.calls.push("read states".into());
        if wanted.len() > tables.most_states {
            return Err(SinkError::Unavailable("not in time".into()));
        }
        assert!(
            wanted.is_sorted(),
            "keys come in the table's order, so that few granules hold them"
        );
        tables.before_states(wanted)?;
        let found = wanted.iter().filter_map(|key| tables.states.get(key).cloned());
        let mut found: Vec<StateRow> = found.collect();
        if tables.cuts > 0 && found.pop().is_some() {
            tables.cuts -= 1;
        }
        Ok(found)
    }

    async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Vec<Mark>, SinkError> {
        let tables = self.lock();
        Ok(partitions.iter().filter_map(|p| tables.marks.get(p).cloned()).collect())
    }

    async fn seals(&mut self) -> Result<Vec<(PartitionId, EventTime)>, SinkError> {
        let mut tables = self.lock();
        tables.calls.push("read seals".into());
        Ok(tables.seals.iter().map(|(&p, &t)| (p, t)).collect())
    }

    async fn mark_orders(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, i64)>, SinkError> {
        let mut tables = self.lock();
        tables.calls.push("read mark orders".into());
        Ok(tables.mark_orders(partitions))
    }

    async fn metric_versions(
        &mut self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> Result<Vec<MetricVersion>, SinkError> {
        let mut stored = self.lock();
        stored.calls.push("read metric versions".into());
        Ok(stored.metric_versions(tables, windows))
    }
}

impl DeadLetters for Memory {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        let mut tables = self.lock();
        tables.calls.push("letters".into());
        tables.letters.extend_from_slice(letters);
        Ok(())
    }
}

impl Commits for Memory {
    fn commit(&self, marks: &[Mark]) -> Result<(), SourceError> {
        let mut tables = self.lock();
        tables.calls.push("commit".into());
        tables.committed.extend(marks.iter().map(|mark| (mark.partition, mark.order())));
        Ok(())
    }
}

impl Tables {
    /// Empty ones.
    pub(crate) fn new() -> Self {
        Self {
            mode: Mode::Good,
            keeps_first: false,
            reads: Reads::Good,
            shown: Vec::new(),
            most_states: usize::MAX,
            cuts: 0,
            forgets: None,
            calls: Vec::new(),
            states: BTreeMap::new(),
            seals: BTreeMap::new(),
            marks: BTreeMap::new(),
            metrics: BTreeMap::new(),
            rival_states: BTreeSet::new(),
            rival_metrics: BTreeSet::new(),
            letters: Vec::new(),
            bodies: Vec::new(),
            committed: BTreeMap::new(),
        }
    }

    fn before_states(&mut self, wanted: &[(Key, PartitionId)]) -> Result<(), SinkError> {
        let question = self.calls.iter().filter(|call| *call == "read states").count();
        let is_answered = match self.reads {
            Reads::Good => return Ok(()),
            Reads::FailsEvery(some) => !question.is_multiple_of(some),
            Reads::LosesAt(at) => question != at,
        };
        if is_answered {
            self.shown.extend_from_slice(wanted);
            return Ok(());
        }
        if let Reads::LosesAt(_) = self.reads {
            self.reads = Reads::Good;
            for shown in std::mem::take(&mut self.shown) {
                self.states.remove(&shown);
            }
        }
        Err(SinkError::Unavailable("cut".into()))
    }

    /// Whether a row of version `new` takes the place of one of version `old`.
    fn replaces<T: Ord + Copy>(&self, new: T, old: T) -> bool {
        new > old || (new == old && !self.keeps_first)
    }

    /// Inserts encoded rows.
    pub(crate) fn apply(&mut self, batch: &RowBatch) {
        self.apply_some(batch, |_| true);
    }

    /// Inserts those of the encoded rows that `keep` agrees to, by their index.
    pub(crate) fn apply_some(&mut self, batch: &RowBatch, mut keep: impl FnMut(usize) -> bool) {
        let mut ignored = Self::new();
        let (types, mut at) = Cursor::open(&batch.body);
        for row in 0..batch.rows {
            let tables = if keep(row) { &mut *self } else { &mut ignored };
            match batch.table {
                Table::WindowState => tables.apply_state(&mut at),
                Table::Seals => tables.apply_seal(&mut at),
                Table::Marks => tables.apply_mark(&mut at),
                Table::Metric(_) => tables.apply_metric(batch.table.name(), &types, &mut at),
                Table::Alerts
                | Table::Notifications
                | Table::CustomMetrics
                | Table::ReferenceProfiles => {
                    unreachable!("no flush writes them")
                }
            }
        }
        assert!(at.rest.is_empty(), "{} bytes are left of {:?}", at.rest.len(), batch.table);
    }

    pub(crate) fn mark_orders(&self, partitions: &[PartitionId]) -> Vec<(PartitionId, i64)> {
        partitions.iter().filter_map(|p| Some((*p, self.marks.get(p)?.order()))).collect()
    }

    pub(crate) fn metric_versions(
        &self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> Vec<MetricVersion> {
        let mut newest: BTreeMap<(MetricTable, Key), u64> = BTreeMap::new();
        for ((name, key), (version, _)) in &self.metrics {
            let (table, key) = (table_of(name), metric_key(key));
            if tables.contains(&table) && windows.contains(&key.window) {
                let newest = newest.entry((table, key)).or_default();
                *newest = (*newest).max(*version);
            }
        }
        let newest = newest.into_iter();
        newest
            .map(|((table, key), version)| MetricVersion { table, key, version: Version(version) })
            .collect()
    }

    fn apply_state(&mut self, at: &mut Cursor<'_>) {
        let window = Window { start: EventTime(at.i64()), end: EventTime(at.i64()) };
        at.text();
        let key = Key {
            model: at.text().into(),
            version: at.text().into(),
            segment: at.text().into(),
            window,
        };
        let partition = PartitionId(at.i32());
        let values: Vec<Value> = state_columns()
            .map(|column| match column.kind {
                Kind::Count => Value::Count(at.u64()),
                Kind::Time => Value::Time(at.i64()),
                Kind::Sum => Value::Sum(Box::new(ExactSum::from_bytes(at.bytes()).unwrap())),
                Kind::Sums => Value::Sums(at.list(|at| ExactSum::from_bytes(at.bytes()).unwrap())),
                Kind::Cells => Value::Cells(at.list(|at| (at.u64(), at.u64()))),
                Kind::Names => Value::Names(at.list(|at| at.text().into())),
                Kind::Number | Kind::Figure | Kind::Text => panic!("no state"),
            })
            .collect();
        let version = Version(at.u64());
        let row = StateRow { key: key.clone(), partition, version, state: values.into() };
        let place = (key, partition);
        let old = self.states.get(&place);
        if let Some(old) = old {
            let version = row.version.cmp(&old.version);
            note_rivals(&mut self.rival_states, &place, version, row == *old);
        }
        if old.is_none_or(|old| self.replaces(row.version, old.version)) {
            self.states.insert(place, row);
        }
    }

    fn apply_seal(&mut self, at: &mut Cursor<'_>) {
        at.text();
        let partition = PartitionId(at.i32());
        at.u16();
        let until = EventTime(at.i64());
        at.u64();
        let place = self.seals.entry(partition).or_insert(until);
        *place = until.max(*place);
    }

    fn apply_mark(&mut self, at: &mut Cursor<'_>) {
        at.text();
        let partition = PartitionId(at.i32());
        at.u16();
        let positions = Positions { inferences: at.i64(), labels: at.i64() };
        let floor = Positions { inferences: at.i64(), labels: at.i64() };
        let k = [at.u32(), at.u32()].map(|k| usize::try_from(k).unwrap());
        let clock = |at: &mut Cursor<'_>, i: usize| LogClock::restore(k[i], &at.list(Cursor::i64));
        let floors = [clock(at, 0), clock(at, 1)];
        let clocks = [clock(at, 0), clock(at, 1)];
        let sealed_until = EventTime(at.i64());
        let mut tally = Tally::default();
        for stream in Stream::BOTH {
            for (model, [first, second, third, dead]) in
                at.list(|at| (at.text(), [at.i64(), at.i64(), at.i64(), at.i64()]))
            {
                tally.add(stream, &model.into(), &Outcomes { first, second, third, dead });
            }
        }
        let dead_schemas = [at.dead_schemas(), at.dead_schemas()];
        at.u64();
        let [inferences, labels] = floors;
        let floor = Floor { positions: floor, inferences, labels, sealed_until };
        let mark = Mark { partition, positions, floor, clocks, tally, dead_schemas };
        let old = self.marks.get(&partition).map(Mark::order);
        if old.is_none_or(|old| self.replaces(mark.order(), old)) {
            self.marks.insert(partition, mark);
        }
    }

    fn apply_metric(&mut self, table: &'static str, types: &[String], at: &mut Cursor<'_>) {
        let (key, row, version) = at.metric_row(table_of(table), types);
        let place = (table, key);
        let old = self.metrics.get(&place);
        if let Some((old, body)) = old {
            note_rivals(&mut self.rival_metrics, &place, version.cmp(old), row == *body);
        }
        if old.is_none_or(|(old, _)| self.replaces(version, *old)) {
            self.metrics.insert(place, (version, row));
        }
    }
}

/// A value of a metric row.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Shown {
    Text(String),
    Count(u64),
    Time(i64),
    Number(Option<f64>),
}

/// The metric table of a name.
pub(crate) fn table_of(name: &str) -> MetricTable {
    MetricTable::ALL.into_iter().find(|table| table.name() == name).unwrap()
}

/// The key of a metric row from its bytes.
fn metric_key(bytes: &[u8]) -> Key {
    let mut at = Cursor { rest: bytes };
    let window = Window { start: EventTime(at.i64()), end: EventTime(at.i64()) };
    let [_grain, _job, model, version, segment] = std::array::from_fn(|_| at.text().into());
    Key { model, version, segment, window }
}

/// Reads `RowBinaryWithNamesAndTypes`.
pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// The types of the columns, and the first row.
    pub(crate) fn open(body: &'a [u8]) -> (Vec<String>, Self) {
        let mut at = Self { rest: body };
        let columns = at.length();
        for _ in 0..columns {
            at.text();
        }
        let types = (0..columns).map(|_| at.text()).collect();
        (types, at)
    }

    /// Values of these types from the start of `row`.
    pub(crate) fn values(row: &'a [u8], types: &[&str]) -> Vec<Shown> {
        let mut at = Self { rest: row };
        let values = types.iter().map(|of| at.shown(of)).collect();
        assert!(at.rest.is_empty(), "{} bytes are left", at.rest.len());
        values
    }

    fn shown(&mut self, of: &str) -> Shown {
        match of {
            "String" | "LowCardinality(String)" => Shown::Text(self.text()),
            "UInt64" => Shown::Count(self.u64()),
            "UInt8" | "Bool" => Shown::Count(u64::from(self.take(1)[0])),
            "Float64" => Shown::Number(Some(f64::from_bits(self.u64()))),
            "Nullable(Float64)" => {
                let is_null = self.take(1) == [1];
                Shown::Number((!is_null).then(|| f64::from_bits(self.u64())))
            }
            time if time.starts_with("DateTime64") => Shown::Time(self.i64()),
            other => panic!("type {other} is not expected in a metric table"),
        }
    }

    /// One metric row: the bytes of its key, all its bytes, its version.
    pub(crate) fn metric_row(
        &mut self,
        table: MetricTable,
        types: &[String],
    ) -> (Vec<u8>, Vec<u8>, u64) {
        let whole = self.rest;
        let mut key_length = 0;
        for (i, of) in types.iter().enumerate() {
            self.skip(of);
            if i == 6 + table.keys() {
                key_length = whole.len() - self.rest.len();
            }
        }
        let row = &whole[..whole.len() - self.rest.len()];
        let version = u64::from_le_bytes(row[row.len() - 8..].try_into().unwrap());
        (row[..key_length].to_vec(), row.to_vec(), version)
    }

    fn skip(&mut self, of: &str) {
        match of {
            "String" | "LowCardinality(String)" => drop(self.text()),
            "UInt64" | "Int64" | "Float64" => drop(self.u64()),
            "UInt32" | "Int32" => drop(self.i32()),
            "UInt16" => drop(self.u16()),
            "UInt8" | "Bool" => drop(self.take(1).to_vec()),
            "Nullable(Float64)" => {
                if self.take(1) == [0] {
                    self.u64();
                }
            }
            time if time.starts_with("DateTime64") => drop(self.i64()),
            other => panic!("type {other} is not expected in a metric table"),
        }
    }

    fn take(&mut self, length: usize) -> &'a [u8] {
        let (head, rest) = self.rest.split_at(length);
        self.rest = rest;
        head
    }

    fn length(&mut self) -> usize {
        let (mut length, mut shift) = (0, 0);
        loop {
            let byte = usize::from(self.take(1)[0]);
            length |= (byte & 127) << shift;
            shift += 7;
            if byte < 128 {
                return length;
            }
        }
    }

    fn bytes(&mut self) -> &'a [u8] {
        let length = self.length();
        self.take(length)
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.bytes().to_vec()).unwrap()
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> T) -> Vec<T> {
        (0..self.length()).map(|_| one(self)).collect()
    }

    fn dead_schemas(&mut self) -> DeadSchemas {
        let runs = self.list(|at| {
            let (schema, first, last) = (at.i64(), at.i64(), at.i64());
            (u32::try_from(schema).ok().map(SchemaId), Offsets { first, last })
        });
        DeadSchemas::restore(runs)
    }

    fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.take(2).try_into().unwrap())
    }

    fn u32(&mut self) -> u32 {
        u32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.take(8).try_into().unwrap())
    }

    fn i32(&mut self) -> i32 {
        i32::from_le_bytes(self.take(4).try_into().unwrap())
    }

    fn i64(&mut self) -> i64 {
        i64::from_le_bytes(self.take(8).try_into().unwrap())
    }
}

/// What a test does to the group.
#[derive(Debug)]
pub(crate) enum Control {
    Assign(Vec<PartitionId>),
    Revoke(Vec<PartitionId>, SyncSender<()>),
    Lose(Vec<PartitionId>),
    Panic,
}

/// The logs of both topics, by partition; offsets ascend.
pub(crate) type Log = BTreeMap<(Stream, PartitionId), Vec<Record<'static>>>;

/// Plays a log to one worker.
#[derive(Debug)]
pub(crate) struct Player {
    pub log: Arc<Mutex<Log>>,
    pub control: Arc<Mutex<VecDeque<Control>>>,
    /// Whether it says where the log ends.
    pub is_bounded: bool,
    /// How often it was asked.
    pub polls: Arc<AtomicUsize>,
    /// Where a partition without a mark begins.
    pub begin: Positions,
    next: BTreeMap<(Stream, PartitionId), i64>,
    told: Vec<(Stream, PartitionId)>,
    batch: Vec<Record<'static>>,
    turn: usize,
}

impl Player {
    pub(crate) fn new(log: &Arc<Mutex<Log>>, assigned: &[i32], is_bounded: bool) -> Self {
        let assign = Control::Assign(assigned.iter().map(|&p| PartitionId(p)).collect());
        Self {
            log: Arc::clone(log),
            control: Arc::new(Mutex::new(VecDeque::from([assign]))),
            is_bounded,
            polls: Arc::default(),
            begin: Positions::default(),
            next: BTreeMap::new(),
            told: Vec::new(),
            batch: Vec::new(),
            turn: 0,
        }
    }

    fn forget(&mut self, partitions: &[PartitionId]) {
        self.next.retain(|(_, p), _| !partitions.contains(p));
        self.told.retain(|(_, p)| !partitions.contains(p));
    }

    fn fill(&mut self, take: Take) -> Option<(Stream, PartitionId, i64)> {
        self.batch.clear();
        self.turn += 1;
        let log = self.log.lock().unwrap();
        let of: Vec<_> = self.next.keys().copied().collect();
        for i in 0..of.len() {
            let key = of[(i + self.turn) % of.len()];
            let is_wanted = match take {
                Take::Both => true,
                Take::Only(stream) => stream == key.0,
                Take::Nothing => false,
            };
            if !is_wanted {
                continue;
            }
            let next = self.next.get_mut(&key).unwrap();
            let all = log.get(&key).map_or(&[][..], Vec::as_slice);
            let from = all.partition_point(|record| record.offset.0 < *next);
            let some = &all[from..all.len().min(from + 7 + self.turn % 40)];
            if let Some(last) = some.last() {
                self.batch.extend_from_slice(some);
                *next = last.offset.0 + 1;
                return None;
            }
            if self.is_bounded && !self.told.contains(&key) {
                self.told.push(key);
                let end = all.last().map_or(0, |last| last.offset.0 + 1);
                return Some((key.0, key.1, end));
            }
        }
        None
    }
}

impl Source for Player {
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        self.polls.fetch_add(1, atomic::Ordering::Relaxed);
        let control = self.control.lock().unwrap().pop_front();
        match control {
            Some(Control::Assign(partitions)) => return Ok(SourceEvent::Assigned(partitions)),
            Some(Control::Revoke(partitions, reply)) => {
                self.forget(&partitions);
                return Ok(SourceEvent::Revoked(partitions, Reply(reply)));
            }
            Some(Control::Lose(partitions)) => {
                self.forget(&partitions);
                return Ok(SourceEvent::Lost(partitions));
            }
            Some(Control::Panic) => panic!("planted"),
            None => {}
        }
        if let Some((stream, partition, end)) = self.fill(take) {
            return Ok(SourceEvent::Ended(stream, partition, end));
        }
        if self.batch.is_empty() {
            // Nobody wakes it: a wait for group events, as in Kafka's client.
            std::thread::park_timeout(wait.min(Duration::from_millis(2)));
            return Ok(SourceEvent::Quiet);
        }
        Ok(SourceEvent::Records(Records { records: &self.batch }))
    }

    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        Ok(partitions.iter().map(|&p| (p, self.begin)).collect())
    }

    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError> {
        for &StartAt { partition, from, .. } in from {
            for stream in Stream::BOTH {
                self.next.insert((stream, partition), from.of(stream));
            }
        }
        Ok(())
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        let owned: BTreeSet<PartitionId> = self.next.keys().map(|&(_, p)| p).collect();
        let owned: Vec<PartitionId> = owned.into_iter().collect();
        // A worker that owns nothing is told nothing.
        if owned.is_empty() {
            return Ok(());
        }
        let mut control = self.control.lock().unwrap();
        control.push_back(Control::Lose(owned.clone()));
        control.push_back(Control::Assign(owned));
        Ok(())
    }
}
