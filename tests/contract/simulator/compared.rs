//! References and custom metrics of a case. The oracle knows nothing of what comes of them: their rows are held against
//! those that one reader makes of the whole logs at once.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, NotDecoded};
use tidegauge::engine::event::{Arrival, FeatureValue, PartitionId, Positions, RequestId, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::metrics::accumulator::{Asked, Value};
use tidegauge::engine::metrics::custom::CustomMetric;
use tidegauge::engine::metrics::method::{Method, Options};
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::engine::names::Names;
use tidegauge::engine::state::{Frozen, Key, StateRow};
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::engine::{Shard, ShardSettings};
use tidegauge::evaluate::{Merged, MetricRow, RowContext, grain_name};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{self, Record};
use tidegauge::sink::row;

use super::JOB;
use super::random::Random;
use super::traffic::Case;
use crate::config::{self, SMALLEST};
use crate::memory::{Tables, Versioned};

/// Records of a reference.
const RECORDS: u64 = 400;
/// A window of few values gets a verdict, for there are no others.
const MIN_N: u64 = 3;
/// One that reads no labels, one that does, one that some keys lack, and one that reads estimates.
const METRICS: &str = r#"
[[metrics]]
name = "approval_rate"
expression = "inferences_positive / inferences"
[[metrics]]
name = "cost"
expression = "(20 * fn + fp) / quality_binary.n"
models = ["a*"]
segments = ["all", "region=e*"]
[[metrics]]
name = "caught"
expression = "est_tp / (est_tp + est_fn)"
"#;

/// Rows as the tables have them: whole, by table and the bytes of their key.
pub(crate) type Rows = BTreeMap<(&'static str, Vec<u8>), Versioned>;

/// The references of the first two rules of a case: of models with a score, and of one that sorts.
static REFERENCES: LazyLock<[Arc<Profile>; 2]> = LazyLock::new(|| [scored(), sorted()]);

static CUSTOM: LazyLock<Vec<Arc<CustomMetric>>> =
    LazyLock::new(|| config::parse(&format!("{SMALLEST}{METRICS}")).unwrap().shard.custom);

/// Gives the first two models a reference, and all of them custom metrics.
pub(crate) fn add_to(shard: &mut ShardSettings) {
    for (model, reference) in shard.models.iter_mut().zip(REFERENCES.iter()) {
        model.reference = Some(Arc::clone(reference));
        model.drift = Options::new(Method::Js, MIN_N);
    }
    shard.custom.clone_from(&CUSTOM);
}

/// Values like those of the traffic, most of them more or less often, and a feature that it has not.
fn scored() -> Arc<Profile> {
    built("scored", |random, id, builder| {
        let age = FeatureValue::Number(*random.pick(&[-1.5, 0.0, 0.0, 33.0, 34.5]));
        let city = FeatureValue::Text(["Bern", "Bern", "Oslo", ""][random.index(4)]);
        let new = FeatureValue::Boolean(random.one_in(3));
        let height = FeatureValue::Number(1.8);
        let features = [("age", age), ("city", city), ("new", new), ("height", height)];
        let score = *random.pick(&[0.1, 0.3, 0.5, 0.62, 0.9]);
        let positive = random.below(10) < if score < 0.5 { 3 } else { 7 };
        let class = |is: bool| FeatureValue::Text(if is { "1" } else { "0" });
        let record = Record {
            id,
            features: &features,
            score: Some(score),
            scores: &[],
            prediction: class(score >= 0.5),
            label: class(positive),
            positive: Some(positive),
        };
        builder.add(&record).unwrap();
    })
}

fn sorted() -> Arc<Profile> {
    built("sorted", |random, id, builder| {
        let classes = ["0", "1", "2"];
        let scores = classes.map(|class| (class, *random.pick(&[0.0, 0.1, 0.3, 0.6])));
        let [prediction, label] = [0, 1].map(|_| FeatureValue::Text(classes[random.index(3)]));
        let (score, positive, features) = (None, None, &[][..]);
        let record = Record { id, features, score, scores: &scores, prediction, label, positive };
        builder.add(&record).unwrap();
    })
}

fn built(name: &str, add: impl Fn(&mut Random, RequestId, &mut ProfileBuilder)) -> Arc<Profile> {
    let mut builder = ProfileBuilder::new(builder::Options::new(name)).unwrap();
    let mut random = Random::new(7);
    for number in 0..RECORDS {
        add(&mut random, RequestId::of(&number.to_le_bytes()), &mut builder);
    }
    Arc::new(builder.finish().unwrap().profile)
}

/// Whether a row is none of the oracle's: one of a custom metric, or one that reads a reference. `feature` is the first
/// of the row's own keys.
pub(crate) fn is_beyond_oracle(
    shard: &ShardSettings,
    table: MetricTable,
    model: &str,
    feature: &str,
) -> bool {
    let has = |reference: &Profile| match table {
        MetricTable::Drift | MetricTable::QualityEstimated => true,
        MetricTable::DataQuality | MetricTable::Categories => {
            reference.features.contains_key(feature)
        }
        _ => false,
    };
    let reference = || shard.model(model).reference;
    match table {
        MetricTable::Custom => !shard.custom.is_empty(),
        _ => reference().is_some_and(|reference| has(&reference)),
    }
}

/// The rows that are none of the oracle's: each partition read once from end to end, by one shard, and evaluated once.
pub(crate) fn batch(case: &Case) -> Rows {
    let mut tables = Tables::new();
    if !case.compares {
        return tables.metrics;
    }
    let settings = Arc::new(case.shard());
    let all = (0..case.partitions()).map(|number| read(case, &settings, PartitionId(number)));
    let all: Vec<Frozen> = all.collect();
    let common = all.iter().map(|shard| shard.mark.floor.sealed_until).min().unwrap();
    let states = all.into_iter().flat_map(|shard| shard.states);
    let states: Vec<StateRow> =
        states.filter(|row| case.rows_within.holds(row.key.window)).collect();
    let grains = case.settings.grains.iter().copied();
    for grain in std::iter::once(case.settings.window).chain(grains).map(Millis) {
        let rows = evaluated(&settings, grain, common, &states);
        let rows = rows.into_iter().filter(|row| {
            let first = match row.values.first() {
                Some(Value::Text(text)) => text,
                _ => "",
            };
            case.rows_within.holds(row.key.window)
                && is_beyond_oracle(&settings, row.table, &row.key.model, first)
        });
        for batch in row::metrics(JOB, &rows.collect::<Vec<_>>()) {
            tables.apply(&batch);
        }
    }
    tables.metrics
}

/// All inferences of a partition, and then all its labels.
fn read(case: &Case, settings: &Arc<ShardSettings>, partition: PartitionId) -> Frozen {
    let mark = Mark::start(partition, Positions::default(), settings.clock_stamps);
    let mut shard = Shard::new(Arc::clone(settings), &mark);
    let mut names = Names::default();
    for stream in Stream::BOTH {
        let schemas = Arc::new(Schemas::none());
        let mut decoder = Decoder::new(&Case::decoder(stream, settings), schemas).unwrap();
        for record in case.records.get(&(stream, partition)).into_iter().flatten() {
            let at = Arrival { stream, offset: record.offset, time: record.time };
            let _outcome = match decoder.decode(record.payload, &mut names) {
                Ok(event) => shard.observe(at, &event, &mut names),
                Err(NotDecoded::Bad(_)) => shard.dead(at),
                Err(NotDecoded::Waiting(schema)) => panic!("JSON has no {schema:?}"),
            };
        }
    }
    shard.freeze(&names)
}

/// The metric rows of windows of one length.
fn evaluated(
    settings: &ShardSettings,
    grain: Millis,
    common: EventTime,
    states: &[StateRow],
) -> Vec<MetricRow> {
    let mut merged: BTreeMap<Key, Merged> = BTreeMap::new();
    for state in states {
        let key = Key { window: Window::of(state.key.window.start, grain), ..state.key.clone() };
        merged.entry(key).or_default().add(state, settings.caps.classes()).unwrap();
    }
    let name: Arc<str> = grain_name(grain).into();
    let rows = merged.iter().flat_map(|(key, merged)| {
        let about = RowContext::of(settings, key, &name, key.window.end <= common);
        merged.rows(key, &about, Asked::All)
    });
    rows.collect()
}

#[test]
fn rows_that_the_oracle_lacks_say_something() {
    let column = |name: &str| {
        let mut columns = MetricTable::Drift.columns().iter();
        columns.position(|column| column.name == name).unwrap()
    };
    let (verdict, kind) = (column("verdict"), column("kind"));
    let mut found: BTreeMap<String, usize> = BTreeMap::new();
    for case in (0..60).map(Case::new) {
        let settings = Arc::new(case.shard());
        let all = (0..case.partitions()).map(|number| read(&case, &settings, PartitionId(number)));
        let states: Vec<StateRow> = all.flat_map(|shard| shard.states).collect();
        let coarsest = Millis(*case.settings.grains.last().unwrap());
        for row in evaluated(&settings, coarsest, EventTime::LATEST, &states) {
            let what = match (row.table, &*row.values) {
                (MetricTable::Drift, values) => match (&values[kind], &values[verdict]) {
                    (Value::Text(kind), Value::Text(verdict)) => {
                        format!("{} {}", &**kind, &**verdict)
                    }
                    other => panic!("{other:?}"),
                },
                (MetricTable::Custom, [Value::Text(name), Value::Figure(Ok(_)), ..]) => {
                    name.to_string()
                }
                (MetricTable::QualityEstimated, _) => format!("estimates of {}", row.key.model),
                _ => continue,
            };
            *found.entry(what).or_default() += 1;
        }
    }
    for what in [
        "feature ok",
        "feature drift",
        "score drift",
        "prediction ok",
        "label ok",
        "label drift",
        "approval_rate",
        "cost",
        "caught",
        "estimates of a",
        "estimates of route",
    ] {
        assert!(found.contains_key(what), "{what} is not in {found:?}");
    }
}
