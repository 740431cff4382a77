//! Records that wait for each other, against the same folded in one by one: enough of one group that rows fill up, with
//! corrections that take back what may still wait, and a reference, so that there are estimates and targets.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format};
use tidegauge::engine::event::{
    Arrival, Event, FeatureValue, Offset, PartitionId, Positions, RequestId, Stream, Target,
};
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::engine::names::Names;
use tidegauge::engine::state::Frozen;
use tidegauge::engine::time::RecordTime;
use tidegauge::engine::{ModelSettings, Shard, ShardSettings};
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};
use tidegauge::traffic::encode::Encoding;
use tidegauge::traffic::{Produced, Shape, Shares, Traffic, TrafficSettings};

use crate::{scenarios, shard};

const MINUTE: i64 = 60_000;

fn records() -> Vec<Produced> {
    let shares = Shares { broken: 0.0, corrected: 0.1, ..Shares::USUAL };
    let mut traffic = Traffic::new(
        TrafficSettings {
            seed: 3,
            start_ms: 0,
            inferences_per_s: 10.0,
            window_ms: MINUTE,
            lateness_ms: 10 * MINUTE,
            label_wait_ms: 60 * MINUTE,
            falls_after_ms: i64::MAX / 2,
            shares,
            shape: Shape::USUAL,
        },
        Encoding::Json,
    );
    std::iter::from_fn(|| traffic.produce(traffic.inferences() < 3000)).collect()
}

fn decoders() -> [Decoder; 2] {
    Stream::BOTH.map(|stream| {
        let (fields, segments) = (FieldPaths::new(stream), vec!["region".to_owned()]);
        let settings = DecoderSettings { stream, format: Format::Json, fields, segments };
        Decoder::new(&settings, Arc::new(Schemas::none())).unwrap()
    })
}

/// A profile with a calibrator, predictions and labels.
fn reference(records: &[Produced]) -> Profile {
    let (mut decoders, mut names) = (decoders(), Names::default());
    let mut labels: BTreeMap<RequestId, bool> = BTreeMap::new();
    let mut builder = ProfileBuilder::new(Options::new("of-all")).unwrap();
    for record in records.iter().filter(|record| record.stream == Stream::Labels) {
        let event = decoders[1].decode(record.payload.as_deref(), &mut names).unwrap();
        let Event::Label(label) = event else { unreachable!() };
        labels.insert(label.id, label.value == Target::Number(1.0));
    }
    for record in records.iter().filter(|record| record.stream == Stream::Inferences) {
        let event = decoders[0].decode(record.payload.as_deref(), &mut names).unwrap();
        let Event::Inference(inference) = event else { unreachable!() };
        let number = |is_one: bool| FeatureValue::Number(f64::from(u8::from(is_one)));
        let label = labels.get(&inference.id).copied();
        let record = Record {
            id: inference.id,
            features: &[],
            score: inference.score,
            scores: &[],
            prediction: number(inference.score >= Some(0.5)),
            label: label.map_or(FeatureValue::Missing, number),
            positive: label,
        };
        builder.add(&record).unwrap();
    }
    let profile = builder.finish().unwrap().profile;
    assert!(profile.calibrator.is_some() && profile.label.is_some(), "{:?}", profile.calibrator);
    profile
}

/// All that is frozen, each time after so many records.
fn frozen(settings: ShardSettings, records: &[Produced], each: usize) -> Vec<Frozen> {
    let (mut decoders, mut names) = (decoders(), Names::default());
    let start = Mark::start(PartitionId(0), Positions::default(), settings.clock_stamps);
    let mut shard = Shard::new(Arc::new(settings), &start);
    let mut next = [0, 0];
    let mut all = Vec::new();
    for some in records.chunks(each) {
        for record in some {
            let stream = record.stream;
            let offset = Offset(next[stream.index()]);
            next[stream.index()] += 1;
            let event = decoders[stream.index()].decode(record.payload.as_deref(), &mut names);
            let at = Arrival { stream, offset, time: RecordTime(record.at_ms) };
            let _outcome = shard.observe(at, &event.unwrap(), &mut names);
        }
        all.push(shard.freeze(&names));
        shard.clean(&all[all.len() - 1].mark);
    }
    all
}

/// Windows of a minute.
fn settings(gather_after: u32, model: &ModelSettings) -> ShardSettings {
    let job = scenarios::parse("job window=1m lateness=10m label_wait=1h clock_stamps=8");
    ShardSettings {
        gather_after,
        dimensions: vec!["region".to_owned()],
        models: vec![model.clone()],
        ..shard::settings(&job.settings)
    }
}

#[test]
fn states_are_the_same_however_many_records_wait() {
    let records = records();
    let reference = Some(Arc::new(reference(&records)));
    let of = |dimensions: &[u16], thresholds: &[f64], weighted| ModelSettings {
        dimensions: dimensions.to_vec(),
        thresholds: thresholds.to_vec(),
        weighted,
        reference: reference.clone(),
        ..ModelSettings::default()
    };
    for model in [of(&[], &[], false), of(&[0], &[0.2, 0.7], false), of(&[], &[0.4], true)] {
        for each in [records.len(), 700] {
            let one_by_one = frozen(settings(u32::MAX, &model), &records, each);
            let states: usize = one_by_one.iter().map(|frozen| frozen.states.len()).sum();
            // More records of a key than wait for each other.
            assert!(states >= 8 && records.len() > 16 * states, "{states} states");
            for gather_after in [1, 32] {
                let waited = frozen(settings(gather_after, &model), &records, each);
                assert!(waited == one_by_one, "gathered after {gather_after}, {model:?}");
            }
        }
    }
}
