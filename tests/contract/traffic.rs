//! The generator's records are what the decoders read, in every encoding, and its truth adds up.

use std::sync::Arc;

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, Stream};
use tidegauge::engine::names::Names;
use tidegauge::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA};
use tidegauge::traffic::{Produced, Shares, Traffic, TrafficSettings};

const AVRO: Encoding = Encoding::Avro { ids: None };

fn settings(shares: Shares) -> TrafficSettings {
    TrafficSettings {
        seed: 7,
        start_ms: 1_700_000_000_000,
        inferences_per_s: 500.0,
        window_ms: 10_000,
        lateness_ms: 2_000,
        label_wait_ms: 20_000,
        falls_after_ms: 5_000,
        shares,
    }
}

/// All records of so many inferences.
fn records(shares: Shares, encoding: Encoding, inferences: u64) -> (Vec<Produced>, Traffic) {
    let mut traffic = Traffic::new(settings(shares), encoding);
    let mut records = Vec::new();
    while let Some(record) = traffic.produce(traffic.inferences() < inferences) {
        records.push(record);
    }
    (records, traffic)
}

fn decoders(schemas: Option<[&str; 2]>) -> [Decoder; 2] {
    Stream::BOTH.map(|stream| {
        let format = schemas.map_or(Format::Json, |s| Format::AvroFile(s[stream.index()].into()));
        let fields = FieldPaths::new(stream);
        let segments = vec!["region".to_owned()];
        let settings = DecoderSettings { stream, format, fields, segments };
        Decoder::new(&settings, Arc::new(Schemas::none())).unwrap()
    })
}

#[test]
fn the_same_seed_sends_the_same_records_in_order_of_time() {
    let (first, traffic) = records(Shares::USUAL, Encoding::Json, 3_000);
    let (second, _) = records(Shares::USUAL, Encoding::Json, 3_000);
    assert_eq!(first, second);
    assert!(first.is_sorted_by_key(|record| record.at_ms));
    let truth = traffic.truth();
    let sent = u64::try_from(first.len()).unwrap();
    assert_eq!(truth.inference_records() + truth.label_records(), sent);
    for counts in truth.rows.values() {
        assert_eq!(counts.labelled, counts.tp + counts.fp + counts.fn_ + counts.tn);
        assert!(counts.labelled <= counts.inferences);
    }
    assert!(truth.inferences.values().any(|o| o.late > 0 && o.duplicate > 0 && o.dead > 0));
}

#[test]
fn without_faults_each_inference_has_one_label() {
    let (records, traffic) = records(Shares::NONE, Encoding::Json, 1_000);
    assert_eq!(records.len(), 2_000);
    let truth = traffic.truth();
    assert_eq!(truth.inferences.values().map(|o| o.accepted).sum::<u64>(), 1_000);
    assert_eq!(truth.labels.values().map(|o| o.matched).sum::<u64>(), 1_000);
}

#[test]
fn json_and_avro_say_the_same_and_only_broken_records_are_refused() {
    let (json, traffic) = records(Shares::USUAL, Encoding::Json, 3_000);
    let (avro, _) = records(Shares::USUAL, AVRO, 3_000);
    let mut of_json = decoders(None);
    let mut of_avro = decoders(Some([INFERENCE_SCHEMA, LABEL_SCHEMA]));
    let mut refused = 0;
    for (left, right) in json.iter().zip(&avro) {
        let (mut left_names, mut right_names) = (Names::default(), Names::default());
        let i = left.stream.index();
        let left = of_json[i].decode(left.payload.as_deref(), &mut left_names);
        let right = of_avro[i].decode(right.payload.as_deref(), &mut right_names);
        match (left, right) {
            (Ok(Event::Inference(left)), Ok(Event::Inference(right))) => {
                assert_eq!((left.id, left.time, left.score), (right.id, right.time, right.score));
                assert_eq!((left.latency_us, left.failed), (right.latency_us, right.failed));
                assert_eq!(left.prediction, right.prediction);
                assert_eq!((left.features.len(), left.segments.len()), (12, 1));
                assert_eq!((right.features.len(), right.segments.len()), (12, 1));
            }
            (Ok(Event::Label(left)), Ok(Event::Label(right))) => assert_eq!(left, right),
            (Err(NotDecoded::Bad(_)), Err(NotDecoded::Bad(_))) => refused += 1,
            (left, right) => panic!("{left:?}\n{right:?}"),
        }
    }
    let truth = traffic.truth();
    let unreadable = truth.inferences[""].dead + truth.labels[""].dead;
    assert_eq!(refused, unreadable);
}
