//! The generator's records are what the decoders read, in every encoding, and its truth adds up.

use std::collections::BTreeMap;
use std::sync::Arc;

use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, Feature, Stream};
use tidegauge::engine::names::Names;
use tidegauge::traffic::encode::{Encoding, INFERENCE_SCHEMA, LABEL_SCHEMA, inference_schema};
use tidegauge::traffic::{Produced, Shape, Shares, Traffic, TrafficSettings};

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
        shape: Shape::USUAL,
    }
}

/// All records of so many inferences.
fn records(shares: Shares, encoding: Encoding, inferences: u64) -> (Vec<Produced>, Traffic) {
    records_of(settings(shares), encoding, inferences)
}

fn records_of(
    settings: TrafficSettings,
    encoding: Encoding,
    inferences: u64,
) -> (Vec<Produced>, Traffic) {
    let mut traffic = Traffic::new(settings, encoding);
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

#[test]
fn more_models_and_features_and_later_labels_leave_the_rest_as_it_is() {
    let shape = Shape { models: 5, label_delay_ms: Some(20_000), features: 15 };
    let wide = TrafficSettings { shape, ..settings(Shares::NONE) };
    let (json, traffic) = records_of(wide.clone(), Encoding::Json, 1_000);
    let (avro, _) = records_of(wide, AVRO, 1_000);
    let (usual, _) = records(Shares::NONE, Encoding::Json, 1_000);
    let schema = inference_schema(15);
    let mut of_json = decoders(None);
    let mut of_avro = decoders(Some([&schema, LABEL_SCHEMA]));
    let mut sent = BTreeMap::new();
    for (left, right) in json.iter().zip(&avro) {
        let (mut left_names, mut right_names) = (Names::default(), Names::default());
        let i = left.stream.index();
        let named = of_json[i].decode(left.payload.as_deref(), &mut left_names).expect("good");
        let plain = of_avro[i].decode(right.payload.as_deref(), &mut right_names).expect("good");
        match (named, plain) {
            (Event::Inference(left_event), Event::Inference(right_event)) => {
                assert_eq!(left_event.features.len(), 15);
                let values = |of: &[Feature<'_>]| -> Vec<String> {
                    of.iter().map(|it| format!("{:?}", it.value)).collect()
                };
                assert_eq!(values(left_event.features), values(right_event.features));
                sent.insert(left.key.clone(), left.at_ms);
            }
            (Event::Label(left_event), Event::Label(right_event)) => {
                assert_eq!(left_event, right_event);
                let delay = left.at_ms - sent[&left.key];
                assert!((10_000..19_000).contains(&delay), "{delay} ms");
            }
            (left, right) => panic!("{left:?}\n{right:?}"),
        }
    }
    let models: Vec<&str> = traffic.truth().inferences.keys().map(String::as_str).collect();
    assert_eq!(models, ["churn", "credit", "fraud", "model-3", "model-4"]);
    let first = |all: &[Produced]| {
        let text = String::from_utf8(all[0].payload.clone().expect("no tombstone")).expect("JSON");
        text.strip_suffix("}}").expect("the features come last").to_owned()
    };
    assert!(first(&json).starts_with(&format!("{},", first(&usual))));
}
