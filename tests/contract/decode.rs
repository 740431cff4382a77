//! The published examples, and the same event in JSON and Avro.

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::writer::datum::GenericDatumWriter;
use proptest::prelude::*;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tidegauge::decode::registry::{Schemas, WriterSchema};
use tidegauge::decode::{DecodeError, Decoder, Format, NotDecoded, SchemaId};
use tidegauge::engine::event::{Event, FeatureValue, Inference, RequestId, Stream, Target};
use tidegauge::engine::names::Names;

pub(crate) use crate::cases::{canonical, event_text as text, settings};

pub(crate) const INFERENCE: &str = include_str!("../../schemas/inference.avsc");
pub(crate) const LABEL: &str = include_str!("../../schemas/label.avsc");

pub(crate) fn decoder(stream: Stream, format: Format) -> Decoder {
    Decoder::new(&settings(stream, format), Arc::new(Schemas::none())).unwrap()
}

pub(crate) fn json(stream: Stream) -> Decoder {
    decoder(stream, Format::Json)
}

pub(crate) fn avro(stream: Stream) -> Decoder {
    decoder(stream, Format::AvroFile(canonical(stream).to_owned()))
}

pub(crate) fn code(result: Result<Event<'_>, NotDecoded>) -> &'static str {
    match result {
        Ok(_) => "fine",
        Err(NotDecoded::Waiting(_)) => "waiting",
        Err(NotDecoded::Bad(error)) => {
            assert!(error.to_string().len() < 500, "{error}");
            assert!(DecodeError::CODES.contains(&error.code()), "{error}");
            error.code()
        }
    }
}

pub(crate) fn inference(event: Event<'_>) -> Inference<'_> {
    match event {
        Event::Inference(inference) => inference,
        Event::Label(label) => panic!("{label:?}"),
    }
}

pub(crate) fn write_datum(schema: &Schema, value: Value) -> Vec<u8> {
    let writer = GenericDatumWriter::builder(schema).build().unwrap();
    writer.write_value_to_vec(value).unwrap()
}

pub(crate) fn read_datum(schema: &Schema, bytes: &mut &[u8]) -> Value {
    let reader = GenericDatumReader::builder(schema).build().unwrap();
    reader.read_value(bytes).unwrap()
}

fn examples(stream: Stream) -> Vec<PathBuf> {
    let folder = match stream {
        Stream::Inferences => "inference",
        Stream::Labels => "label",
    };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/examples").join(folder);
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(|f| f.unwrap().path()).collect();
    files.sort();
    files
}

fn decode_file(stream: Stream, path: &Path) -> Result<String, &'static str> {
    let payload = fs::read(path).unwrap();
    let is_json = path.extension().unwrap() == "json";
    let mut decoder = if is_json { json(stream) } else { avro(stream) };
    let mut names = Names::default();
    match decoder.decode(Some(&payload), &mut names) {
        Ok(event) => Ok(text(&event, &names)),
        bad => Err(code(bad)),
    }
}

#[test]
fn every_example_is_what_its_name_says() {
    let mut counts = [0, 0];
    for stream in Stream::BOTH {
        for path in examples(stream) {
            let name = path.file_stem().unwrap().to_str().unwrap();
            let result = decode_file(stream, &path);
            if let Some(rest) = name.strip_prefix("bad-") {
                let expected = rest.split_once('-').unwrap().0;
                assert_eq!(result, Err(expected), "{}", path.display());
                counts[0] += 1;
                continue;
            }
            assert!(name.starts_with("good-"), "{}", path.display());
            let event = result.unwrap_or_else(|code| panic!("{}: {code}", path.display()));
            let other = path.with_extension("avro");
            if other.exists() {
                assert_eq!(Ok(event), decode_file(stream, &other), "{}", path.display());
            }
            counts[1] += 1;
        }
    }
    assert!(counts[0] > 50 && counts[1] > 20, "{counts:?}");
}

#[test]
fn good_avro_examples_are_read_alike_by_another_reader() {
    for stream in Stream::BOTH {
        let schema = Schema::parse_str(canonical(stream)).unwrap();
        let files = examples(stream);
        for path in files.iter().filter(|p| p.extension().unwrap() == "avro") {
            if path.file_name().unwrap().to_str().unwrap().starts_with("good-") {
                let mut payload: &[u8] = &fs::read(path).unwrap();
                let value = read_datum(&schema, &mut payload);
                assert!(payload.is_empty(), "{}", path.display());
                let again = write_datum(&schema, value);
                assert_eq!(decode_file(stream, path), {
                    let mut names = Names::default();
                    let mut decoder = avro(stream);
                    let event = decoder.decode(Some(&again), &mut names).unwrap();
                    Ok(text(&event, &names))
                });
            }
        }
    }
}

#[test]
fn json_schemas_name_the_fields_of_the_avro_schemas() {
    let schemas = [
        (include_str!("../../schemas/inference.schema.json"), INFERENCE),
        (include_str!("../../schemas/label.schema.json"), LABEL),
    ];
    for (json, avro) in schemas {
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let mut in_json: Vec<_> = json["properties"].as_object().unwrap().keys().collect();
        let avro: serde_json::Value = serde_json::from_str(avro).unwrap();
        let fields = avro["fields"].as_array().unwrap();
        let mut in_avro: Vec<_> = fields.iter().map(|f| f["name"].as_str().unwrap()).collect();
        in_json.sort();
        in_avro.sort_unstable();
        assert_eq!(in_json, in_avro);
    }
}

#[test]
fn a_tombstone_has_its_code() {
    for mut decoder in [json(Stream::Labels), avro(Stream::Labels)] {
        assert_eq!(code(decoder.decode(None, &mut Names::default())), "tombstone");
    }
}

#[derive(Clone, Debug)]
enum Any {
    Null,
    Number(f64),
    Text(String),
    Boolean(bool),
}

impl Any {
    fn json(&self) -> serde_json::Value {
        match self {
            Self::Null => serde_json::Value::Null,
            Self::Number(x) => (*x).into(),
            Self::Text(x) => x.as_str().into(),
            Self::Boolean(x) => (*x).into(),
        }
    }

    /// As a value of the union of the canonical schema.
    fn avro(&self) -> Value {
        let (branch, value) = match self {
            Self::Null => (0, Value::Null),
            Self::Number(x) => (1, Value::Double(*x)),
            Self::Text(x) => (3, Value::String(x.clone())),
            Self::Boolean(x) => (4, Value::Boolean(*x)),
        };
        Value::Union(branch, Box::new(value))
    }
}

fn any() -> impl Strategy<Value = Any> {
    let number = any_finite();
    prop_oneof![
        Just(Any::Null),
        number.prop_map(Any::Number),
        "\\PC{0,6}".prop_map(Any::Text),
        "[+-]?[0-9]{1,4}".prop_map(Any::Text),
        proptest::bool::ANY.prop_map(Any::Boolean),
    ]
}

fn any_finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-1000_i32..1000).prop_map(f64::from),
        proptest::num::f64::NORMAL.prop_filter("too large", |x| x.abs() <= 1e150),
        Just(-0.0),
    ]
}

fn expected_feature(value: &Any) -> FeatureValue<'_> {
    match value {
        Any::Null => FeatureValue::Missing,
        Any::Number(x) => FeatureValue::Number(x + 0.0),
        Any::Text(x) => FeatureValue::Text(x),
        Any::Boolean(x) => FeatureValue::Boolean(*x),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn an_event_is_the_same_in_json_and_avro(
        id in "\\PC{1,12}", model in "[a-zA-Z\"\\\\]{1,8}", version in "[0-9.]{0,3}",
        time in -2_000_000_000_000_i64..7_000_000_000_000, prediction in any(),
        score in proptest::option::of(0.0..=1.0_f64),
        scores in proptest::collection::btree_map("[a-z]{1,5}", 0.0..=1.0_f64, 0..4),
        features in proptest::collection::btree_map("\\PC{1,9}", any(), 0..14),
        region in "[a-z]{0,3}", latency in proptest::option::of(0.0..1e10_f64),
        error in proptest::option::of("[a-z]{0,2}"),
    ) {
        let as_json = serde_json::json!({
            "request_id": id, "model": model, "version": version, "timestamp": time,
            "prediction": prediction.json(), "score": score, "scores": scores,
            "features": features.iter().map(|(k, v)| (k.clone(), v.json()))
                .collect::<serde_json::Map<_, _>>(),
            "segments": {"region": region}, "latency_ms": latency, "error": error,
        });
        let option = |value: Option<Value>| match value {
            None => Value::Union(0, Box::new(Value::Null)),
            Some(value) => Value::Union(1, Box::new(value)),
        };
        let map = |entries: Vec<(String, Value)>| {
            option(Some(Value::Map(entries.into_iter().collect())))
        };
        let as_avro = Value::Record(vec![
            ("request_id".into(), Value::String(id.clone())),
            ("model".into(), Value::String(model.clone())),
            ("version".into(), Value::String(version.clone())),
            ("timestamp".into(), Value::TimestampMillis(time)),
            ("prediction".into(), prediction.avro()),
            ("score".into(), option(score.map(Value::Double))),
            ("scores".into(),
                map(scores.iter().map(|(k, v)| (k.clone(), Value::Double(*v))).collect())),
            ("features".into(), map(features.iter().map(|(k, v)| (k.clone(), v.avro())).collect())),
            ("segments".into(), map(vec![("region".into(), Value::String(region.clone()))])),
            ("latency_ms".into(), option(latency.map(Value::Double))),
            ("error".into(), option(error.clone().map(Value::String))),
        ]);
        let schema = Schema::parse_str(INFERENCE).unwrap();
        let as_avro = write_datum(&schema, as_avro);
        let as_json = serde_json::to_vec(&as_json).unwrap();

        let mut names = Names::default();
        let (mut from_json, mut from_avro) = (json(Stream::Inferences), avro(Stream::Inferences));
        let a = from_json.decode(Some(&as_json), &mut names).unwrap();
        let b = from_avro.decode(Some(&as_avro), &mut names).unwrap();
        prop_assert_eq!(text(&a, &names), text(&b, &names));

        let a = inference(a);
        prop_assert_eq!(a.id, RequestId::of(id.as_bytes()));
        prop_assert_eq!(&**names.text(a.model.0), model.as_str());
        prop_assert_eq!(&**names.text(a.version.0), version.as_str());
        prop_assert_eq!(a.time.0, time);
        prop_assert_eq!(a.score, score);
        prop_assert_eq!(a.scores.len(), scores.len());
        prop_assert_eq!(a.failed, error.is_some_and(|e| !e.is_empty()));
        let segment = format!("region={region}");
        prop_assert_eq!(&**names.text(a.segments[0].id.0), segment.as_str());
        prop_assert_eq!(a.features.len(), features.len());
        for feature in a.features {
            let name = names.text(feature.name.0);
            prop_assert_eq!(feature.value, expected_feature(&features[&**name]));
        }
        match &prediction {
            Any::Null => prop_assert_eq!(a.prediction, Target::Absent),
            Any::Number(x) => prop_assert_eq!(a.prediction, Target::Number(x + 0.0)),
            Any::Boolean(x) => prop_assert_eq!(a.prediction, Target::Boolean(*x)),
            Any::Text(x) => match x.strip_prefix('+').unwrap_or(x).parse::<i32>() {
                Ok(whole) => prop_assert_eq!(a.prediction, Target::Number(whole.into())),
                Err(_) => prop_assert!(matches!(a.prediction, Target::Class(_))),
            },
        }
    }

    #[test]
    fn no_mutation_makes_a_decoder_panic(
        file in 0_usize..10_000, stream in 0_usize..2,
        edits in proptest::collection::vec((0_usize..400, 0_u8..=255, 0_u8..4), 1..6),
    ) {
        let stream = Stream::BOTH[stream];
        let files = examples(stream);
        let mut payload = fs::read(&files[file % files.len()]).unwrap();
        for (at, byte, kind) in edits {
            let at = at % (payload.len() + 1);
            match kind {
                0 if at < payload.len() => payload[at] = byte,
                1 => payload.insert(at, byte),
                2 if at < payload.len() => drop(payload.remove(at)),
                _ => payload.truncate(at.max(1)),
            }
        }
        let schemas = Arc::new(Schemas::none());
        schemas.remember(SchemaId(7), WriterSchema::parse(canonical(stream), &[]).unwrap());
        let settings = settings(stream, Format::AvroRegistry);
        let mut framed = Decoder::new(&settings, schemas).unwrap();
        let mut wire = vec![0, 0, 0, 0, 7];
        wire.extend(&payload);
        let mut names = Names::default();
        let a = code(avro(stream).decode(Some(&payload), &mut names));
        if !payload.is_empty() {
            prop_assert_eq!(a, code(framed.decode(Some(&wire), &mut names)));
        }
        code(framed.decode(Some(&payload), &mut names));
        code(json(stream).decode(Some(&payload), &mut names));
    }
}
