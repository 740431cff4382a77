//! Random logs in random interleavings, with flushes and restarts anywhere, give the tables that the oracle computes
//! in one batch. Finds what hand-written cases do not think of: collisions of duplicates, corrections, wrong clocks,
//! exact limits and caps. `PROPTEST_CASES=20000` runs more of them.

use std::sync::Arc;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use tidegauge::engine::ShardSettings;
use tidegauge::engine::event::Stream;

use crate::drive::{self, Step};
use crate::oracle::{
    Body, Given, Held, Inference, Label, ModelRule, OTHER, Partition, Record, Settings, Task,
};
use crate::shard;

/// All times of a random log are whole seconds, few of them, so that limits are met exactly.
const UNIT: i64 = 1000;

fn rules() -> impl Strategy<Value = Vec<ModelRule>> {
    let task =
        select(vec![None, Some(Task::Binary), Some(Task::Regression), Some(Task::Multiclass)]);
    let positive = select(vec![
        vec![Given::Number(1.0), Given::Boolean(true)],
        vec![Given::Text("yes".to_owned())],
        vec![Given::Text("1".to_owned())],
    ]);
    let value = select(vec![None, Some([10.0, -4.0, -20.0, 0.5])]);
    let thresholds = select(vec![vec![], vec![0.3, 0.5], vec![0.0, 0.45, 1.0]]);
    let flags = any::<[bool; 3]>();
    (task, positive, value, thresholds, flags).prop_map(
        |(task, positive, value, thresholds, [two, first, second])| {
            let region = "region".to_owned();
            let tier = "tier".to_owned();
            vec![
                ModelRule {
                    pattern: "a*".to_owned(),
                    task: Some(Task::Binary),
                    thresholds,
                    dimensions: if two { vec![tier.clone(), region.clone()] } else { vec![] },
                    value,
                    weighted: first,
                    distinct: true,
                    ..ModelRule::default()
                },
                ModelRule {
                    pattern: "b".to_owned(),
                    task,
                    positive,
                    threshold: 0.45,
                    dimensions: vec![region],
                    weighted: second,
                    ..ModelRule::default()
                },
            ]
        },
    )
}

pub(crate) fn settings() -> impl Strategy<Value = Settings> {
    let limits = (0..=6_i64, 0..=12_i64, 0..=5_i64, select(vec![0, 3, 20, 600_000]));
    let caps = (1..=3_usize, 1..=3_usize, 1..=3_usize);
    let class_caps = select(vec![[256, 32], [3, 2], [1, 0], [2, 3]]);
    let window = select(vec![1_i64, 5, 10]);
    (window, limits, 1..=8_usize, (caps, class_caps), rules(), 0..8_u8, 0..3_u16).prop_map(
        |(
            window,
            (lateness, more, max_future, max_gap),
            k,
            (caps, class_caps),
            models,
            kind,
            generation,
        )| {
            Settings {
                window: window * UNIT,
                lateness: lateness * UNIT,
                label_wait: (lateness + more) * UNIT,
                max_future: max_future * UNIT,
                max_gap: max_gap * UNIT,
                clock_stamps: k,
                caps: [caps.0, caps.1, caps.2],
                most_features: 3,
                class_caps,
                models,
                grains: vec![20 * UNIT, 60 * UNIT],
                has_labels: kind != 0,
                event_progress: kind == 1,
                generation,
            }
        },
    )
}

/// Seconds since the record before, offsets since then, and by how much the Kafka timestamp is wrong.
fn place() -> impl Strategy<Value = (i64, i64, i64)> {
    let wrong = prop_oneof![
        40 => Just(0),
        6 => -9..=9_i64,
        1 => Just(5_000),
        1 => Just(-5_000),
    ];
    let hole = prop_oneof![9 => Just(1), 1 => 2..=4_i64];
    let step = prop_oneof![12 => 0..=3_i64, 1 => 4..=25_i64];
    (step, hole, wrong)
}

fn prediction() -> impl Strategy<Value = Option<Given>> {
    let text = |text: &str| Some(Given::Text(text.to_owned()));
    select(vec![
        None,
        None,
        Some(Given::Number(1.0)),
        Some(Given::Number(0.0)),
        Some(Given::Number(2.5)),
        Some(Given::Boolean(true)),
        Some(Given::Boolean(false)),
        text("yes"),
        text("no"),
    ])
}

fn score() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        1 => Just(None),
        3 => select(vec![0.0, 1e-7, 0.1, 0.3, 0.45, 0.5, 0.62, 0.6201, 0.9, 1.0]).prop_map(Some),
        1 => (0.0..=1.0_f64).prop_map(Some),
    ]
}

fn held() -> impl Strategy<Value = Held> {
    prop_oneof![
        4 => select(vec![0.0, -0.0, 1.0, -2.5, 1e150, -1e150, 5e-324, 0.1, 1e20]).prop_map(Held::Number),
        2 => (-100.0..100.0_f64).prop_map(Held::Number),
        2 => select(vec!["", "x", "y", "z"]).prop_map(|text| Held::Text(text.to_owned())),
        1 => any::<bool>().prop_map(Held::Boolean),
        1 => select(vec![Held::Null, Held::NotFinite]),
    ]
}

/// Few classes and few scores, so that ties and classes without a score are frequent.
fn scores() -> impl Strategy<Value = Vec<(String, f64)>> {
    let classes = select(vec![vec!["1", "0"], vec!["yes", "no", "0", "1"], vec!["true", "2.5"]]);
    let scores = vec(select(vec![0.0, 1e-7, 0.1, 0.3, 0.45, 0.5, 1.0]), 4);
    let some = (classes, scores)
        .prop_map(|(classes, scores)| classes.into_iter().map(str::to_owned).zip(scores).collect());
    prop_oneof![7 => Just(Vec::new()), 3 => some]
}

fn inference() -> impl Strategy<Value = Inference> {
    let identity = (0..4_u8, select(vec!["a", "a", "b", "b", "a2", "c"]), 0..3_u8);
    let latency = proptest::option::of(select(vec![0.0, 0.0004, 0.0005, 1.5, 12.0, 250.25, 5e9]));
    let said = (prediction(), score(), scores(), latency, any::<bool>());
    let segments = (proptest::option::of(0..4_u8), proptest::option::of(0..3_u8));
    // The event's seconds before the log's; the log's are added later.
    let before = prop_oneof![4 => 0..=4_i64, 1 => -7..=12_i64];
    // One has the name of those that the cap leaves out.
    let names = select(vec!["a", "b", "c", "d", OTHER]);
    let features = proptest::collection::btree_map(names, held(), 0..4);
    (identity, before, said, segments, features).prop_map(
        |(
            (id, model, version),
            time,
            (prediction, score, scores, latency_ms, failed),
            segment,
            features,
        )| {
            let features =
                features.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
            let mut segments = Vec::new();
            segments.extend(segment.0.map(|value| ("region".to_owned(), format!("r{value}"))));
            segments.extend(segment.1.map(|value| ("tier".to_owned(), format!("t{value}"))));
            Inference {
                id: format!("id{id}"),
                model: model.to_owned(),
                version: if version == 0 { String::new() } else { format!("v{version}") },
                time,
                prediction,
                score,
                scores,
                latency_ms,
                failed,
                segments,
                features,
            }
        },
    )
}

fn label() -> impl Strategy<Value = Label> {
    let model = select(vec![None, None, None, Some("a"), Some("b"), Some("a2"), Some("absent")]);
    let value = prop_oneof![
        4 => select(vec![Given::Number(1.0), Given::Number(0.0)]),
        1 => Just(Given::Text("1".to_owned())),
        1 => select(vec![Given::Boolean(true), Given::Text("yes".to_owned()), Given::Number(2.5)]),
    ];
    let weight = prop_oneof![6 => Just(1.0), 1 => select(vec![0.0, 0.5, 2.0])];
    (0..4_u8, model, -6..=6_i64, value, weight).prop_map(|(id, model, time, value, weight)| Label {
        id: format!("id{id}"),
        model: model.map(str::to_owned),
        time,
        value,
        weight,
    })
}

/// A log from spaced bodies; `None` is a dead record.
fn log(start: i64, records: Vec<((i64, i64, i64), Option<Body>)>) -> Vec<Record> {
    let (mut now, mut offset) = (start, -1);
    let mut log = Vec::new();
    for ((step, hole, wrong), body) in records {
        now += step;
        offset += hole;
        let body = match body {
            None | Some(Body::Dead) => Body::Dead,
            Some(Body::Inference(inference)) => {
                Body::Inference(Inference { time: (now - inference.time) * UNIT, ..inference })
            }
            Some(Body::Label(label)) => {
                Body::Label(Label { time: (now + label.time) * UNIT, ..label })
            }
        };
        log.push(Record { offset, stamp: (now + wrong) * UNIT, body });
    }
    log
}

fn partition() -> impl Strategy<Value = Partition> {
    let inferences =
        (place(), proptest::option::weighted(0.93, inference().prop_map(Body::Inference)));
    let labels = (place(), proptest::option::weighted(0.95, label().prop_map(Body::Label)));
    (select(vec![-13_i64, 0, 100]), -4..=8_i64, vec(inferences, 0..40), vec(labels, 0..40))
        .prop_map(|(start, later, inferences, labels)| Partition {
            inferences: log(start, inferences),
            labels: log(start + later, labels),
        })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => Just(Step::Read(Stream::Inferences)),
        10 => Just(Step::Read(Stream::Labels)),
        2 => any::<bool>().prop_map(|clean| Step::Freeze { clean }),
        1 => Just(Step::Settle),
        1 => Just(Step::CatchUp),
        1 => (0..50_usize).prop_map(Step::Restart),
    ]
}

pub(crate) fn partitions() -> impl Strategy<Value = Vec<(Partition, Vec<Step>)>> {
    vec((partition(), vec(step(), 0..150)), 1..=3)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_with_restarts_equals_the_batch(
        settings in settings(),
        both in partitions(),
        gather_after in select(vec![1, 2, 4, u32::MAX]),
    ) {
        let (mut logs, steps): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        if !settings.has_labels {
            for log in &mut logs {
                log.labels.clear();
            }
        }
        let by = Arc::new(ShardSettings { gather_after, ..shard::settings(&settings) });
        drive::run_with(&by, &logs, &steps).must_equal(&settings, &logs);
    }
}
