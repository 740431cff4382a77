//! What the engine costs: join and metrics for each record, with no, 12 (9 numeric, 2 text, 1 boolean) and 50 features;
//! what it costs to find an inference among 1 and 10 million held ones, asked for ahead as the pipeline does or not;
//! what a flush of 10,000 keys with 12 features costs, by step; and what it costs to read a record again after a restart.
//! Targets: 1 µs a record with 12 features, 4 µs with 50; evaluation and encoding of all 10,000 keys 1 s each. Memory is
//! the program's allocator's.
//!
//! `cargo bench --bench engine`

mod support;

use std::cell::OnceCell;
use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use tidegauge::engine::event::{
    Arrival, Event, Feature, FeatureValue, Inference, Label, Offset, PartitionId, Positions,
    RequestId, Segment, Stream, Target, WEIGHT_ONE,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::held::{Entry, Held, Prediction};
use tidegauge::engine::metrics::accumulator::Asked;
use tidegauge::engine::metrics::dictionary::ClassCaps;
use tidegauge::engine::metrics::method::Options as DriftOptions;
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::engine::names::{FeatureId, ModelId, Names, SegmentId, VersionId};
use tidegauge::engine::outcome::Outcome;
use tidegauge::engine::state::StateRow;
use tidegauge::engine::time::{EventTime, RecordTime};
use tidegauge::engine::{Shard, ShardSettings};
use tidegauge::evaluate::{Merged, MetricRow, RowContext};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};
use tidegauge::sink::row;

use support::{MINUTE, settings};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const INFERENCES: u64 = 20_000;
const COUNTRIES: [&str; 5] = ["de", "fr", "it", "es", "pl"];
const DEVICES: [&str; 3] = ["phone", "tablet", "desktop"];

/// `SplitMix64`: the same records in every run.
fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[expect(clippy::cast_precision_loss, clippy::as_conversions, reason = "any double will do")]
fn unit(seed: u64) -> f64 {
    (mix(seed) >> 11) as f64 / (1_u64 << 53) as f64
}

fn one_of<T: Copy>(seed: u64, of: &[T]) -> T {
    let count = u64::try_from(of.len()).expect("few");
    of[usize::try_from(mix(seed) % count).expect("few")]
}

/// Three quarters numeric, of several scales; the rest text and boolean in turn, at most 3 and 9 of the numeric first.
fn value(event: u64, feature: u64) -> FeatureValue<'static> {
    let seed = event * 64 + feature;
    match feature % 12 {
        9 => FeatureValue::Text(one_of(seed, &COUNTRIES)),
        10 => FeatureValue::Text(one_of(seed, &DEVICES)),
        11 => FeatureValue::Boolean(mix(seed).is_multiple_of(2)),
        scale => FeatureValue::Number(
            (unit(seed) + unit(seed + 1) - 1.0)
                * 10_f64.powi(i32::try_from(scale).expect("few") - 3),
        ),
    }
}

/// Records of some models, whose windows are so many minutes.
struct Made {
    names: Names,
    settings: Arc<ShardSettings>,
    records: Vec<(Arrival, Owned)>,
}

enum Owned {
    Inference {
        id: RequestId,
        model: ModelId,
        features: Vec<Feature<'static>>,
        segments: [Segment; 2],
        event: u64,
        time: i64,
    },
    Label {
        id: RequestId,
        value: Target,
        time: i64,
    },
}

impl Owned {
    fn event(&self) -> Event<'_> {
        match self {
            Self::Inference { id, model, features, segments, event, time } => {
                Event::Inference(Inference {
                    id: *id,
                    model: *model,
                    version: VersionId(Names::EMPTY),
                    time: EventTime(*time),
                    prediction: Target::Absent,
                    latency_us: Some(12_000),
                    failed: false,
                    score: Some(unit(*event)),
                    scores: &[],
                    features,
                    segments,
                })
            }
            Self::Label { id, value, time } => Event::Label(Label {
                id: *id,
                model: None,
                time: EventTime(*time),
                value: *value,
                weight: WEIGHT_ONE,
            }),
        }
    }
}

/// An inference and its label in turn, over so many minutes of one hour.
fn made(inferences: u64, models: u64, minutes: u64, features: u64) -> Made {
    let mut names = Names::default();
    let models: Vec<_> =
        (0..models).map(|i| ModelId(names.intern(&format!("model-{i}")))).collect();
    let features: Vec<_> =
        (0..features).map(|i| FeatureId(names.intern(&format!("feature-{i}")))).collect();
    let regions = ["eu", "us", "ap"].map(|r| SegmentId(names.intern(&format!("region={r}"))));
    let channels = ["web", "app"].map(|c| SegmentId(names.intern(&format!("channel={c}"))));
    let mut records = Vec::new();
    for event in 0..inferences {
        let time = i64::try_from(event * minutes / inferences).expect("few") * MINUTE;
        let at = |stream| Arrival {
            stream,
            offset: Offset(i64::try_from(event).expect("few")),
            time: RecordTime(time),
        };
        let id = RequestId::of(&event.to_le_bytes());
        let of =
            (0..).zip(&features).map(|(i, name)| Feature { name: *name, value: value(event, i) });
        let inference = Owned::Inference {
            id,
            model: one_of(event, &models),
            features: of.collect(),
            segments: [
                Segment { dimension: 0, id: one_of(event + 1, &regions) },
                Segment { dimension: 1, id: one_of(event + 2, &channels) },
            ],
            event,
            time,
        };
        let positive = unit(event) > unit(event + inferences);
        let label = Owned::Label { id, value: Target::Boolean(positive), time: time + MINUTE };
        records.push((at(Stream::Inferences), inference));
        records.push((at(Stream::Labels), label));
    }
    Made { names, settings: Arc::new(settings(1, &["region", "channel"])), records }
}

fn new_shard(settings: &Arc<ShardSettings>) -> Shard {
    let start = Mark::start(PartitionId(0), Positions::default(), 8);
    Shard::new(Arc::clone(settings), &start)
}

impl Made {
    /// Folds all records in.
    fn fold(&mut self, mut shard: Shard) -> Shard {
        for (at, record) in &self.records {
            let outcome = shard.observe(*at, &record.event(), &mut self.names);
            assert_ne!(black_box(outcome), Outcome::Dead);
        }
        shard
    }

    fn reference(&self) -> Profile {
        let mut builder = ProfileBuilder::new(Options::new("bench")).expect("a good name");
        for (_, record) in &self.records {
            let Event::Inference(inference) = record.event() else { continue };
            let named = inference.features.iter();
            let features: Vec<_> =
                named.map(|of| (&**self.names.text(of.name.0), of.value)).collect();
            let record = Record {
                id: inference.id,
                features: &features,
                score: inference.score,
                scores: &[],
                prediction: FeatureValue::Missing,
                label: FeatureValue::Missing,
                positive: None,
            };
            builder.add(&record).expect("good records");
        }
        builder.finish().expect("records enough").profile
    }
}

fn records(c: &mut Criterion) {
    let mut group = c.benchmark_group("join and metrics");
    group.throughput(Throughput::Elements(2 * INFERENCES));
    for features in [0, 12, 50] {
        let mut made = made(INFERENCES, 3, 10, features);
        let settings = Arc::clone(&made.settings);
        group.bench_function(format!("{features} features"), |b| {
            b.iter_batched(
                || new_shard(&settings),
                |shard| made.fold(shard),
                BatchSize::LargeInput,
            );
        });
    }
    group.finish();
}

/// How many look-ups the pipeline announces together.
const AHEAD: u64 = 16;
const LOOKUPS: u64 = 4096;

fn held(c: &mut Criterion) {
    let mut group = c.benchmark_group("find a held inference");
    group.throughput(Throughput::Elements(LOOKUPS));
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let sizes = if is_measured { [1_000_000, 10_000_000] } else { [1_000, 10_000] };
    for size in sizes {
        let id = |n: u64| RequestId::of(&n.to_le_bytes());
        // Made where it is measured only: ten million take a while.
        let table = OnceCell::new();
        let make = || {
            let mut held = Held::default();
            for n in 0..size {
                held.insert(Entry::accepted(id(n), 1, &Prediction::default()), &|_| true);
            }
            held
        };
        for (name, is_ahead) in [("ahead", true), ("one by one", false)] {
            let mut round = 0;
            group.bench_function(format!("of {size}, {name}"), |b| {
                let held = table.get_or_init(make);
                b.iter(|| {
                    round += LOOKUPS;
                    let mut found = 0;
                    for from in (0..LOOKUPS / AHEAD).map(|part| part * AHEAD) {
                        let ids = || (from..from + AHEAD).map(|n| id(mix(round + n) % size));
                        if is_ahead {
                            ids().for_each(|id| held.prefetch(id));
                        }
                        found += ids().map(|id| held.find(id).count()).sum::<usize>();
                    }
                    assert_eq!(u64::try_from(found), Ok(LOOKUPS), "each is there once");
                });
            });
        }
    }
    group.finish();
}

/// 28 models, 60 windows, 6 segments: 10,073 of their 10,080 keys, of 7 to 20 inferences each as a rule.
fn flush(c: &mut Criterion) {
    let reference = Arc::new(made(33_600, 28, 60, 12).reference());
    for (name, reference) in [("without reference", None), ("with reference", Some(reference))] {
        let mut made = made(33_600, 28, 60, 12);
        let mut settings = settings(1, &["region", "channel"]);
        settings.models[0].reference.clone_from(&reference);
        made.settings = Arc::new(settings);
        let shard = new_shard(&made.settings);
        let mut shard = made.fold(shard);
        let states = shard.freeze(&made.names).states;
        assert!(states.len() > 10_000, "{} keys", states.len());
        let about = RowContext {
            grain: "1m".into(),
            generation: 0,
            sealed: false,
            value: None,
            thresholds: Vec::new(),
            weighted: false,
            reference,
            drift: DriftOptions::default(),
            custom: Vec::new(),
        };
        let mut group = c.benchmark_group(format!("flush of 10,073 keys {name}"));
        group.sample_size(10);
        group.bench_function("freeze", |b| b.iter(|| shard.freeze(&made.names)));
        group.bench_function("encode states", |b| {
            b.iter(|| row::states("bench", &states).map(|batch| batch.body.len()).sum::<usize>());
        });
        group.bench_function("evaluate", |b| {
            b.iter(|| states.iter().map(|state| evaluated(state, &about).len()).sum::<usize>());
        });
        group.bench_function("evaluate and encode", |b| {
            b.iter(|| encoded(states.iter().map(|state| evaluated(state, &about))));
        });
        group.finish();
    }
}

fn evaluated(state: &StateRow, about: &RowContext) -> Vec<MetricRow> {
    let mut merged = Merged::default();
    merged.add(state, ClassCaps::DEFAULT).expect("the engine's own state");
    merged.rows(&state.key, about, Asked::All)
}

fn encoded(keys: impl Iterator<Item = Vec<MetricRow>>) -> usize {
    let mut batches = row::MetricBatches::new("bench");
    let mut bytes = 0;
    for rows in keys {
        batches.add(&rows);
        bytes += batches.full().map(|batch| batch.body.len()).sum::<usize>();
    }
    bytes + batches.finish().map(|batch| batch.body.len()).sum::<usize>()
}

/// From the floor of a mark to where it was set, as the next owner of the partition reads. The first of two hours is
/// sealed: of what the floor keeps of it only the identities come back, of the rest the states too.
fn recovery(c: &mut Criterion) {
    let inferences = if std::env::args().any(|arg| arg == "--bench") { 400_000 } else { 4_000 };
    let mut made = made(inferences, 3, 120, 12);
    let settings = Arc::clone(&made.settings);
    let mark = made.fold(new_shard(&settings)).freeze(&made.names).mark;
    assert!(mark.floor.sealed_until > EventTime(0), "windows are sealed");
    let from = mark.floor.positions;
    made.records.retain(|(at, _)| at.offset.0 >= from.of(at.stream));
    let records = u64::try_from(made.records.len()).expect("few");
    let mut group = c.benchmark_group("recovery");
    group.sample_size(10).throughput(Throughput::Elements(records));
    group.bench_function("a record read again", |b| {
        b.iter_batched(
            || Shard::new(Arc::clone(&settings), &mark),
            |shard| {
                let shard = made.fold(shard);
                assert!(shard.has_caught_up());
                shard
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, records, held, flush, recovery);
criterion_main!(benches);
