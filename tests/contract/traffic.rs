//! The generator's records are what the decoders read, in every encoding, and its truth adds up.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, Stream};
use tidegauge::engine::names::Names;
use tidegauge::traffic::encode::{
    Encoding, FEATURES, INFERENCE_SCHEMA, LABEL_SCHEMA, inference_schema,
};
use tidegauge::traffic::{Produced, Shape, Shares, Traffic, TrafficSettings};

use crate::cases::event_text;

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

/// All that a record says, or why it is refused. An inference has so many features.
fn said(decoder: &mut Decoder, record: &Produced, features: usize) -> Result<String, NotDecoded> {
    let mut names = Names::default();
    let event = decoder.decode(record.payload.as_deref(), &mut names)?;
    if let Event::Inference(inference) = &event {
        assert_eq!((inference.features.len(), inference.segments.len()), (features, 1));
    }
    Ok(event_text(&event, &names))
}

#[test]
fn json_and_avro_say_the_same_and_only_broken_records_are_refused() {
    let (json, traffic) = records(Shares::USUAL, Encoding::Json, 3_000);
    let (avro, _) = records(Shares::USUAL, AVRO, 3_000);
    let mut of_json = decoders(None);
    let mut of_avro = decoders(Some([INFERENCE_SCHEMA, LABEL_SCHEMA]));
    assert_eq!(json.len(), avro.len());
    let (mut read, mut refused) = (0, 0);
    for (left, right) in json.iter().zip(&avro) {
        assert_eq!((left.stream, &left.key, left.at_ms), (right.stream, &right.key, right.at_ms));
        let i = left.stream.index();
        match (said(&mut of_json[i], left, FEATURES), said(&mut of_avro[i], right, FEATURES)) {
            (Ok(left), Ok(right)) => {
                assert_eq!(left, right);
                read += 1;
            }
            (Err(NotDecoded::Bad(_)), Err(NotDecoded::Bad(_))) => refused += 1,
            (left, right) => panic!("{left:?}\n{right:?}"),
        }
    }
    let truth = traffic.truth();
    let unreadable = truth.inferences[""].dead + truth.labels[""].dead;
    assert_eq!(refused, unreadable);
    assert_eq!(read, truth.inference_records() + truth.label_records() - unreadable);
}

#[test]
fn the_printed_truth_has_a_line_for_each_row_and_for_each_topic_and_model() {
    let (records, traffic) = records(Shares::USUAL, Encoding::Json, 3_000);
    let truth = traffic.truth();
    let text = truth.to_json_lines();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let rows = truth.rows.iter().map(|(key, of)| {
        json!({
            "model": key.model, "version": key.version, "segment": key.segment,
            "window_start_ms": key.window_start_ms, "inferences": of.inferences,
            "errors": of.errors, "labelled": of.labelled, "tp": of.tp, "fp": of.fp, "fn": of.fn_,
            "tn": of.tn, "label_corrections": of.label_corrections,
            "label_duplicates": of.label_duplicates,
        })
    });
    let inferences = truth.inferences.iter().map(|(model, of)| {
        json!({
            "topic": "inferences", "model": model, "accepted": of.accepted,
            "duplicate": of.duplicate, "late": of.late, "dead": of.dead,
        })
    });
    let labels = truth.labels.iter().map(|(model, of)| {
        json!({
            "topic": "labels", "model": model, "matched": of.matched, "unmatched": of.unmatched,
            "dead": of.dead,
        })
    });
    let expected: Vec<Value> = rows.chain(inferences).chain(labels).collect();
    assert_eq!(lines, expected);

    // What the lines say adds up to what was sent.
    let sum = |is: &dyn Fn(&Value) -> bool, names: &[&str]| -> u64 {
        let of = |line: &Value| names.iter().map(|name| line[name].as_u64().unwrap()).sum::<u64>();
        lines.iter().filter(|line| is(line)).map(of).sum()
    };
    let sent = |stream: Stream| {
        let of_stream = records.iter().filter(|record| record.stream == stream);
        u64::try_from(of_stream.count()).unwrap()
    };
    let of_inferences = |line: &Value| line["topic"] == "inferences";
    let outcomes = ["accepted", "duplicate", "late", "dead"];
    assert_eq!(sum(&of_inferences, &outcomes), sent(Stream::Inferences));
    let of_labels = |line: &Value| line["topic"] == "labels";
    assert_eq!(sum(&of_labels, &["matched", "unmatched", "dead"]), sent(Stream::Labels));
    let of_all = |line: &Value| line["segment"] == "all";
    assert_eq!(sum(&of_all, &["inferences"]), sum(&of_inferences, &["accepted"]));
    assert_eq!(sum(&of_all, &["labelled"]), sum(&of_all, &["tp", "fp", "fn", "tn"]));
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
    assert_eq!(json.len(), avro.len());
    for (left, right) in json.iter().zip(&avro) {
        let i = left.stream.index();
        let of_left = said(&mut of_json[i], left, 15).expect("good");
        assert_eq!(of_left, said(&mut of_avro[i], right, 15).expect("good"));
        match left.stream {
            Stream::Inferences => {
                sent.insert(left.key.clone(), left.at_ms);
            }
            Stream::Labels => {
                let delay = left.at_ms - sent[&left.key];
                assert!((10_000..19_000).contains(&delay), "{delay} ms");
            }
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
