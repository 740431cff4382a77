//! What decoding one event costs: 9 numeric, 2 text and 1 boolean feature, 4096 different events in turn.
//! Targets: Avro 100 to 200 ns, JSON about 600 ns an event.

use apache_avro::Schema;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use std::sync::Arc;
use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{Decoder, DecoderSettings, Format};
use tidegauge::engine::event::Stream;
use tidegauge::engine::names::Names;

const EVENTS: u64 = 4096;
const NUMBERS: [&str; 9] =
    ["amount", "age_days", "items", "distance_km", "ratio", "velocity", "balance", "tenure", "z"];

fn main_schema(features: &str) -> String {
    format!(
        r#"{{"type":"record","name":"Inference","fields":[
        {{"name":"request_id","type":"string"}},{{"name":"model","type":"string"}},
        {{"name":"version","type":"string"}},
        {{"name":"timestamp","type":{{"type":"long","logicalType":"timestamp-millis"}}}},
        {{"name":"prediction","type":["null","string"]}},{{"name":"score","type":["null","double"]}},
        {{"name":"latency_ms","type":["null","double"]}},
        {{"name":"segments","type":{{"type":"map","values":"string"}}}},
        {{"name":"features","type":{features}}}]}}"#
    )
}

/// A record with a nullable double for each number, two texts and a boolean.
fn record_schema() -> String {
    let numbers: Vec<_> =
        NUMBERS.iter().map(|n| format!(r#"{{"name":"{n}","type":["null","double"]}}"#)).collect();
    main_schema(&format!(
        r#"{{"type":"record","name":"Features","fields":[{},{{"name":"country","type":"string"}},
        {{"name":"device","type":"string"}},{{"name":"returning","type":"boolean"}}]}}"#,
        numbers.join(",")
    ))
}

fn map_schema() -> String {
    main_schema(r#"{"type":"map","values":["null","double","string","boolean"]}"#)
}

/// `SplitMix64`: the same events in every run.
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

enum Feature {
    Number(f64),
    Text(&'static str),
    Boolean(bool),
}

fn features(event: u64) -> Vec<(&'static str, Feature)> {
    let mut features = Vec::new();
    for (i, name) in (0..).zip(NUMBERS) {
        let x = unit(event * 100 + i);
        let x = match i % 3 {
            0 => x * 1000.0,
            1 => (x * 1000.0).round(),
            _ => (x * 100_000.0).round() / 100.0,
        };
        features.push((name, Feature::Number(x)));
    }
    let pick =
        |names: [&'static str; 3], of: u64| names.into_iter().cycle().nth(of_three(event + of));
    features.push(("country", Feature::Text(pick(["DE", "FR", "PL"], 1).unwrap_or("DE"))));
    features.push(("device", Feature::Text(pick(["phone", "tablet", "desktop"], 2).unwrap_or(""))));
    features.push(("returning", Feature::Boolean(event.is_multiple_of(2))));
    features
}

fn of_three(seed: u64) -> usize {
    usize::try_from(mix(seed) % 3).unwrap_or(0)
}

fn request_id(event: u64) -> String {
    let (a, b) = (mix(event), mix(event + EVENTS));
    let hex = format!("{a:016x}{b:016x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or("");
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

fn json_event(event: u64) -> Vec<u8> {
    let features: serde_json::Map<_, _> = features(event)
        .into_iter()
        .map(|(name, value)| {
            let value = match value {
                Feature::Number(x) => serde_json::Value::from(x),
                Feature::Text(x) => x.into(),
                Feature::Boolean(x) => x.into(),
            };
            (name.to_owned(), value)
        })
        .collect();
    let event = serde_json::json!({
        "request_id": request_id(event), "model": "fraud-eu", "version": "2026-01",
        "timestamp": 1_767_225_600_000 + event, "prediction": "1", "score": unit(event),
        "latency_ms": 12.25, "segments": {"region": "eu"}, "features": features,
    });
    serde_json::to_vec(&event).expect("a value has a text")
}

fn avro_event(event: u64, schema: &Schema, is_map: bool) -> Vec<u8> {
    let some = |value| Value::Union(1, Box::new(value));
    let features = features(event).into_iter().map(|(name, value)| {
        let (branch, value) = match value {
            Feature::Number(x) => (1, Value::Double(x)),
            Feature::Text(x) => (2, Value::String(x.to_owned())),
            Feature::Boolean(x) => (3, Value::Boolean(x)),
        };
        let is_union = is_map || branch == 1;
        let value = if is_union { Value::Union(branch, Box::new(value)) } else { value };
        (name.to_owned(), value)
    });
    let features =
        if is_map { Value::Map(features.collect()) } else { Value::Record(features.collect()) };
    let text = |text: &str| Value::String(text.to_owned());
    let segments = [("region".to_owned(), text("eu"))];
    let time = 1_767_225_600_000 + i64::try_from(event).unwrap_or(0);
    let fields = [
        ("request_id", text(&request_id(event))),
        ("model", text("fraud-eu")),
        ("version", text("2026-01")),
        ("timestamp", Value::TimestampMillis(time)),
        ("prediction", some(text("1"))),
        ("score", some(Value::Double(unit(event)))),
        ("latency_ms", some(Value::Double(12.25))),
        ("segments", Value::Map(segments.into())),
        ("features", features),
    ];
    let value = Value::Record(fields.map(|(name, value)| (name.to_owned(), value)).into());
    let writer = GenericDatumWriter::builder(schema).build().expect("the schema is complete");
    writer.write_value_to_vec(value).expect("the value fits its schema")
}

fn label_event(event: u64) -> Vec<u8> {
    let time = 1_767_225_600_000 + event;
    format!(r#"{{"request_id":"{}","timestamp":{time},"label":"1"}}"#, request_id(event))
        .into_bytes()
}

fn measure(c: &mut Criterion, name: &str, stream: Stream, format: Format, payloads: &[Vec<u8>]) {
    let segments = vec!["region".to_owned()];
    let settings = DecoderSettings { stream, format, fields: FieldPaths::new(stream), segments };
    let schemas = Arc::new(Schemas::none());
    let mut decoder = Decoder::new(&settings, schemas).expect("the settings are good");
    let mut names = Names::default();
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    group.bench_function(name, |b| {
        let mut turn = payloads.iter().cycle();
        b.iter(|| {
            let payload = turn.next().map(Vec::as_slice);
            let event = decoder.decode(black_box(payload), &mut names);
            black_box(event).expect("the event is good");
        });
    });
    group.finish();
}

fn decode(c: &mut Criterion) {
    for (name, schema, is_map) in
        [("avro_record", record_schema(), false), ("avro_map", map_schema(), true)]
    {
        let parsed = Schema::parse_str(&schema).expect("the schema is good");
        let payloads: Vec<_> = (0..EVENTS).map(|i| avro_event(i, &parsed, is_map)).collect();
        measure(c, name, Stream::Inferences, Format::AvroFile(schema), &payloads);
    }
    let payloads: Vec<_> = (0..EVENTS).map(json_event).collect();
    measure(c, "json", Stream::Inferences, Format::Json, &payloads);
    let payloads: Vec<_> = (0..EVENTS).map(label_event).collect();
    measure(c, "json_label", Stream::Labels, Format::Json, &payloads);
}

criterion_group!(benches, decode);
criterion_main!(benches);
