//! Runs the engine over two logs per partition, with any interleaving, flushes and restarts, and compares all that
//! it ever wrote with the naive oracle.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use tidegauge::engine::event::{
    Arrival, Event, Feature, FeatureValue, Inference, Label, Offset, PartitionId, Positions,
    RequestId, Segment, Stream, Target, WEIGHT_ONE,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::accumulator::{Asked, Value};
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::method::Options;
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::engine::names::{ClassId, FeatureId, ModelId, Names, SegmentId, VersionId};
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::state::{Frozen, Key, StateRow, Version};
use tidegauge::engine::time::{EventTime, Millis, RecordTime};
use tidegauge::engine::window::Window;
use tidegauge::engine::{Shard, ShardSettings};
use tidegauge::evaluate::{Merged, MetricRow, RowContext, grain_name};

use crate::oracle::{self, Account, Body, Cell, Folded, Given, Held, Record};
use crate::shard;

/// What a run does next with one partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// Reads the next record of a topic; of the other one where this one has no more.
    Read(Stream),
    /// Writes what changed, and calls it clean if told.
    Freeze { clean: bool },
    /// Gives back what memory it can, as a worker does near the byte budget.
    Settle,
    /// Reads on until nothing is read again any more, and gives back what it can after each record.
    CatchUp,
    /// Goes on from an earlier mark in a new shard: the number is taken modulo the marks there are.
    Restart(usize),
}

/// All that was ever written of all partitions, as the tables would hold it.
#[derive(Default)]
pub(crate) struct Written {
    rows: BTreeMap<(Key, PartitionId), StateRow>,
    last: Vec<Mark>,
}

/// Runs every partition by its steps, then to the end of its logs, and merges what was written.
pub(crate) fn run(
    settings: &oracle::Settings,
    logs: &[oracle::Partition],
    steps: &[Vec<Step>],
) -> Written {
    run_with(&Arc::new(shard::settings(settings)), logs, steps)
}

/// The same by the engine's own settings.
pub(crate) fn run_with(
    shard_settings: &Arc<ShardSettings>,
    logs: &[oracle::Partition],
    steps: &[Vec<Step>],
) -> Written {
    let mut written = Written::default();
    for (number, log) in logs.iter().enumerate() {
        let partition = PartitionId(i32::try_from(number).unwrap());
        let mut driver = Driver::new(shard_settings, partition, log);
        for step in &steps[number] {
            driver.step(*step, &mut written);
        }
        driver.step(Step::CatchUp, &mut written);
        while driver.read(Stream::Labels) {}
        driver.freeze(true, &mut written);
        written.last.push(driver.marks.last().unwrap().clone());
    }
    written
}

struct Driver<'a> {
    settings: &'a Arc<ShardSettings>,
    log: &'a oracle::Partition,
    marks: Vec<Mark>,
    shard: Shard,
    names: Names,
    /// Versions that this shard has written.
    versions: BTreeMap<Key, Version>,
}

impl<'a> Driver<'a> {
    fn new(
        settings: &'a Arc<ShardSettings>,
        partition: PartitionId,
        log: &'a oracle::Partition,
    ) -> Self {
        let mark = Mark::start(partition, Positions::default(), settings.clock_stamps);
        let shard = Shard::new(Arc::clone(settings), &mark);
        let (marks, names) = (vec![mark], Names::default());
        Self { settings, log, marks, shard, names, versions: BTreeMap::new() }
    }

    fn step(&mut self, step: Step, written: &mut Written) {
        match step {
            Step::Read(stream) => {
                self.read(stream);
            }
            Step::Freeze { clean } => {
                if self.shard.has_caught_up() {
                    self.freeze(clean, written);
                }
            }
            Step::Settle => self.shard.settle(),
            Step::CatchUp => {
                while !self.shard.has_caught_up() && self.read(Stream::Labels) {
                    self.shard.settle();
                }
            }
            Step::Restart(which) => {
                let mark = &self.marks[which % self.marks.len()];
                self.shard = Shard::new(Arc::clone(self.settings), mark);
                self.names = Names::default();
                self.versions.clear();
            }
        }
    }

    fn next(&self, stream: Stream) -> Option<&'a Record> {
        let log = match stream {
            Stream::Inferences => &self.log.inferences,
            Stream::Labels => &self.log.labels,
        };
        let position = self.shard.positions().of(stream);
        log.get(log.partition_point(|record| record.offset < position))
    }

    /// Reads one record; false when both topics have no more.
    fn read(&mut self, wanted: Stream) -> bool {
        let other = Stream::BOTH[1 - wanted.index()];
        let found = [wanted, other]
            .into_iter()
            .find_map(|stream| self.next(stream).map(|record| (stream, record)));
        let Some((stream, record)) = found else {
            assert!(self.shard.has_caught_up(), "nothing left to read, and not caught up");
            return false;
        };
        let at = Arrival { stream, offset: Offset(record.offset), time: RecordTime(record.stamp) };
        let outcome = self.observe(at, &record.body);
        let fits = match outcome {
            Outcome::Accepted | Outcome::Duplicate | Outcome::Late => stream == Stream::Inferences,
            Outcome::Matched | Outcome::Kept | Outcome::Orphan => stream == Stream::Labels,
            Outcome::Dead => true,
        };
        assert!(fits, "{outcome:?} of {record:?}");
        assert_eq!(self.shard.positions().of(stream), record.offset + 1);
        true
    }

    fn observe(&mut self, at: Arrival, body: &Body) -> Outcome {
        match body {
            Body::Dead => self.shard.dead(at),
            Body::Inference(said) => {
                let segments = segments(self.settings, &said.segments, &mut self.names);
                let features: Vec<Feature<'_>> = said
                    .features
                    .iter()
                    .map(|(name, value)| Feature {
                        name: FeatureId(self.names.intern(name)),
                        value: feature(value),
                    })
                    .collect();
                let class =
                    |(class, score): &(String, f64)| (ClassId(self.names.intern(class)), *score);
                let scores: Vec<_> = said.scores.iter().map(class).collect();
                let inference = Inference {
                    id: RequestId::of(said.id.as_bytes()),
                    model: ModelId(self.names.intern(&said.model)),
                    version: VersionId(self.names.intern(&said.version)),
                    time: EventTime(said.time),
                    prediction: target(said.prediction.as_ref(), &mut self.names),
                    latency_us: said.latency_ms.map(|ms| {
                        u32::try_from(oracle::figures::whole_us(ms)).expect("held to u32::MAX")
                    }),
                    failed: said.failed,
                    score: said.score,
                    scores: &scores,
                    features: &features,
                    segments: &segments,
                };
                self.shard.observe(at, &Event::Inference(inference), &mut self.names)
            }
            Body::Label(said) => {
                let label = Label {
                    id: RequestId::of(said.id.as_bytes()),
                    model: said.model.as_ref().map(|model| ModelId(self.names.intern(model))),
                    time: EventTime(said.time),
                    value: target(Some(&said.value), &mut self.names),
                    weight: weight(said.weight),
                };
                self.shard.observe(at, &Event::Label(label), &mut self.names)
            }
        }
    }

    fn freeze(&mut self, clean: bool, written: &mut Written) {
        let Frozen { mark, states, .. } = self.shard.freeze(&self.names);
        assert_eq!(mark.positions, self.shard.positions());
        for stream in Stream::BOTH {
            assert!(mark.floor.positions.of(stream) <= mark.positions.of(stream), "{mark:?}");
            let log = [&self.log.inferences, &self.log.labels][stream.index()];
            let read = log.partition_point(|record| record.offset < mark.positions.of(stream));
            assert_eq!(
                mark.tally.records(stream),
                i64::try_from(read).unwrap(),
                "one outcome each"
            );
        }
        let is_whole = Stream::BOTH.iter().all(|&stream| self.next(stream).is_none());
        for row in states {
            assert_eq!(row.partition, mark.partition);
            let earlier = self.versions.insert(row.key.clone(), row.version);
            assert!(earlier.is_none_or(|earlier| earlier <= row.version), "{:?} fell", row.key);
            let slot = written.rows.entry((row.key.clone(), row.partition));
            slot.and_modify(|best| {
                // Nothing that was ever written may beat the row of both whole logs, or equal it by chance.
                assert!(!is_whole || best.version <= row.version, "{best:?} beats {row:?}");
                assert!(!is_whole || best.version < row.version || *best == row);
                if row.version >= best.version {
                    *best = row.clone();
                }
            })
            .or_insert(row);
        }
        if clean {
            self.shard.clean(&mark);
        }
        self.marks.push(mark);
    }
}

impl Written {
    /// Panics where the tables differ from those that the oracle computes of the same logs.
    pub(crate) fn must_equal(&self, settings: &oracle::Settings, logs: &[oracle::Partition]) {
        let expected = oracle::compute(settings, logs);
        for (mark, account) in self.last.iter().zip(&expected.partitions) {
            compare_accounts(mark, account);
        }
        let mut wanted: BTreeMap<_, _> = expected
            .rows
            .iter()
            .map(|row| {
                let names = [&*row.model, &*row.version, &*row.segment];
                ((row.table, row.grain, names, row.start, row.own_key.clone()), row)
            })
            .collect();
        let mut differences = String::new();
        let rows = self.metric_rows(settings, None);
        for row in &rows {
            let names = [&*row.key.model, &*row.key.version, &*row.key.segment];
            let grain = row.key.window.size();
            assert_eq!(*row.grain, grain_name(grain));
            let (table, start) = (row.table.name(), row.key.window.start.0);
            match wanted.remove(&(table, grain.0, names, start, own_key(row))) {
                None => writeln!(differences, "unexpected row {row:?}").unwrap(),
                Some(expected) => compare_rows(row, expected, &mut differences),
            }
        }
        for (key, _) in wanted {
            writeln!(differences, "missing row {key:?}").unwrap();
        }
        assert!(differences.is_empty(), "{differences}");
    }

    /// Merges partitions, and windows to grains, as the writer does.
    pub(crate) fn metric_rows(
        &self,
        settings: &oracle::Settings,
        reference: Option<&Arc<Profile>>,
    ) -> Vec<MetricRow> {
        let [counted, scored] = settings.class_caps;
        let caps = ClassCaps { counted, scored };
        let sealed_until = self.last.iter().map(|mark| mark.floor.sealed_until).min().unwrap();
        let mut rows = Vec::new();
        for grain in std::iter::once(settings.window).chain(settings.grains.iter().copied()) {
            let mut coarse: BTreeMap<Key, Merged> = BTreeMap::new();
            for row in self.rows.values() {
                let window = Window::of(row.key.window.start, Millis(grain));
                let key = Key { window, ..row.key.clone() };
                coarse.entry(key).or_default().add(row, caps).unwrap();
            }
            for (key, merged) in coarse {
                let rule = oracle::rule_of(settings, &key.model);
                let context = RowContext {
                    grain: Arc::from(grain_name(Millis(grain))),
                    generation: settings.generation,
                    sealed: key.window.end <= sealed_until,
                    value: rule.value.map(shard::value_matrix),
                    thresholds: rule.thresholds,
                    weighted: rule.weighted,
                    reference: reference.cloned(),
                    drift: Options::default(),
                    custom: Vec::new(),
                };
                rows.extend(merged.rows(&key, &context, Asked::All));
            }
        }
        rows
    }
}

/// What tells several rows of a window apart, as the oracle writes it.
fn own_key(row: &MetricRow) -> String {
    let of = |value: &Value| match value {
        Value::Count(count) => count.to_string(),
        Value::Figure(Ok(number)) => number.to_string(),
        Value::Text(text) => text.to_string(),
        other => panic!("{other:?} is no key"),
    };
    row.values.iter().take(row.table.keys()).map(of).collect::<Vec<_>>().join("/")
}

fn feature(value: &Held) -> FeatureValue<'_> {
    match value {
        Held::Null => FeatureValue::Missing,
        Held::NotFinite => FeatureValue::NotFinite,
        Held::Number(number) => FeatureValue::Number(*number),
        Held::Text(text) => FeatureValue::Text(text),
        Held::Boolean(value) => FeatureValue::Boolean(*value),
    }
}

fn compare_accounts(mark: &Mark, account: &Account) {
    let clocks = mark.clocks.each_ref().map(|clock| clock.now().map(|time| time.0));
    assert_eq!(clocks, account.clocks, "clocks");
    let positions = [mark.positions.inferences, mark.positions.labels];
    assert_eq!(positions, account.positions, "positions");
    let sealed_until = account.seal_mark.unwrap_or(i64::MIN);
    assert_eq!(mark.floor.sealed_until.0, sealed_until, "seal mark");
    assert_eq!(shard::counts(&mark.tally), account.tally, "tally");
}

fn compare_rows(row: &MetricRow, expected: &oracle::Row, differences: &mut String) {
    let expected_cells: BTreeMap<&str, &Cell> =
        expected.cells.iter().map(|(name, cell)| (&**name, cell)).collect();
    let about = format!("{} {:?}", row.table.name(), row.key);
    let mut undefined = Vec::new();
    assert_eq!(row.table.columns().len(), row.values.len());
    for (column, value) in row.table.columns().iter().zip(&row.values) {
        let Some(cell) = expected_cells.get(column.name) else {
            writeln!(differences, "{about}: the oracle has no column {}", column.name).unwrap();
            continue;
        };
        if !is_same(value, cell) {
            let name = column.name;
            writeln!(differences, "{about}: {name} is {value:?}, expected {cell:?}").unwrap();
        }
        if let (Cell::Null(reason), false) = (cell, column.name.ends_with("_upper")) {
            undefined.push(format!("{}={reason}", column.name));
        }
    }
    if row.values.len() != expected_cells.len() {
        writeln!(differences, "{about}: columns {:?}", expected_cells.keys()).unwrap();
    }
    let mut compare = |name: &str, is: String, expected: String| {
        if is != expected {
            writeln!(differences, "{about}: {name} is {is}, expected {expected}").unwrap();
        }
    };
    compare("undefined", row.undefined.clone(), undefined.join(" "));
    compare("sealed", row.sealed.to_string(), expected.sealed.to_string());
    compare("version", row.version.0.to_string(), expected.row_version.to_string());
}

fn is_same(value: &Value, cell: &Cell) -> bool {
    match (value, cell) {
        (Value::Count(is), Cell::Count(expected)) => is == expected,
        (Value::Time(is), Cell::Time(expected)) => is == expected,
        (Value::Text(is), Cell::Text(expected)) => **is == *expected,
        (Value::Figure(Ok(is)), Cell::Number(expected)) => oracle::is_close(*is, *expected),
        (Value::Figure(Ok(is)), Cell::About(expected)) => oracle::is_about(*is, *expected),
        (Value::Figure(Err(is)), Cell::Null(expected)) => is.code() == *expected,
        _ => false,
    }
}

fn weight(weight: f64) -> u64 {
    let units = [0.0, 0.5, 1.0, 2.0, 3.0].into_iter().position(|known| known == weight);
    [0, WEIGHT_ONE / 2, WEIGHT_ONE, 2 * WEIGHT_ONE, 3 * WEIGHT_ONE][units.expect("a known weight")]
}

fn target(given: Option<&Given>, names: &mut Names) -> Target {
    match given.map(Given::normal) {
        None => Target::Absent,
        Some(Given::Number(number)) => Target::Number(number),
        Some(Given::Boolean(boolean)) => Target::Boolean(boolean),
        Some(Given::Text(text)) => Target::Class(ClassId(names.intern(&text))),
    }
}

fn segments(
    settings: &ShardSettings,
    given: &[(String, String)],
    names: &mut Names,
) -> Vec<Segment> {
    let mut segments = Vec::new();
    for (index, dimension) in settings.dimensions.iter().enumerate() {
        for (_, value) in given.iter().filter(|(name, _)| name == dimension) {
            let id = SegmentId(names.intern(&format!("{dimension}={value}")));
            segments.push(Segment { dimension: u16::try_from(index).unwrap(), id });
        }
    }
    segments
}

/// Model, version and segment; the start of the window and its length.
pub(crate) type Group = ([String; 3], i64, i64);

/// The inferences of each key and window, of every grain.
pub(crate) fn groups<'a>(
    settings: &oracle::Settings,
    folded: &'a [Folded],
) -> BTreeMap<Group, Vec<&'a Folded>> {
    let mut groups: BTreeMap<Group, Vec<&Folded>> = BTreeMap::new();
    for grain in std::iter::once(settings.window).chain(settings.grains.iter().copied()) {
        for one in folded {
            for key in &one.keys {
                let start = one.time.div_euclid(grain) * grain;
                groups.entry((key.clone(), start, grain)).or_default().push(one);
            }
        }
    }
    groups
}
