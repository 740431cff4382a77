//! Avro of every type and shape, written by another implementation; several schemas in one topic; hostile bytes.

use crate::decode::{INFERENCE, code, decoder, inference, settings, text, write_datum};
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::types::Value;
use apache_avro::{Decimal, Schema};
use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use tidegauge::decode::checks::VALUES_MAX;
use tidegauge::decode::fields::FieldPaths;
use tidegauge::decode::registry::{Schemas, WriterSchema};
use tidegauge::decode::{DecodeError, Decoder, DecoderSettings, Format, NotDecoded, SchemaId};
use tidegauge::engine::event::{FeatureValue, RequestId, Stream};
use tidegauge::engine::names::Names;

fn local(schema: &str) -> Decoder {
    decoder(Stream::Inferences, Format::AvroFile(schema.to_owned()))
}

/// A record with these fields after the three that each inference needs.
fn record(fields: &str) -> String {
    format!(
        r#"{{"type":"record","name":"I","namespace":"n","fields":[
        {{"name":"request_id","type":"string"}},{{"name":"model","type":"string"}},
        {{"name":"timestamp","type":"long"}}{fields}]}}"#
    )
}

fn values(more: Vec<(&str, Value)>) -> Value {
    let mut fields = vec![
        ("request_id".to_owned(), Value::String("r".to_owned())),
        ("model".to_owned(), Value::String("m".to_owned())),
        ("timestamp".to_owned(), Value::Long(5)),
    ];
    fields.extend(more.into_iter().map(|(name, value)| (name.to_owned(), value)));
    Value::Record(fields)
}

/// The code of the payload that another implementation writes.
fn code_of(fields: &str, more: Vec<(&str, Value)>) -> &'static str {
    let schema = record(fields);
    let payload = write_datum(&Schema::parse_str(&schema).unwrap(), values(more));
    code(local(&schema).decode(Some(&payload), &mut Names::default()))
}

#[test]
fn features_may_be_a_record_of_every_scalar_type() {
    let schema = record(
        r#",{"name":"features","type":{"type":"record","name":"F","fields":[
        {"name":"null","type":"null"},{"name":"boolean","type":"boolean"},
        {"name":"int","type":"int"},{"name":"long","type":"long"},{"name":"float","type":"float"},
        {"name":"double","type":["double","null"]},{"name":"string","type":["null","string"]},
        {"name":"enum","type":{"type":"enum","name":"E","symbols":["A","B"]}},
        {"name":"again","type":"E"},
        {"name":"decimal","type":{"type":"bytes","logicalType":"decimal","precision":9,"scale":2}},
        {"name":"uuid","type":{"type":"fixed","name":"U","size":16,"logicalType":"uuid"}},
        {"name":"date","type":{"type":"int","logicalType":"date"}},
        {"name":"nan","type":"double"}]}}"#,
    );
    let uuid = "6f1c2a34-0b7e-4f0e-9f60-1a2b3c4d5e6f";
    let union = |branch, value| Value::Union(branch, Box::new(value));
    let features: Vec<(String, Value)> = [
        ("null", Value::Null),
        ("boolean", Value::Boolean(true)),
        ("int", Value::Int(-3)),
        ("long", Value::Long(1 << 40)),
        ("float", Value::Float(0.5)),
        ("double", union(0, Value::Double(-0.0))),
        ("string", union(1, Value::String("é".to_owned()))),
        ("enum", Value::Enum(1, "B".to_owned())),
        ("again", Value::Enum(0, "A".to_owned())),
        ("decimal", Value::Decimal(Decimal::from((-12345_i32).to_be_bytes()))),
        ("uuid", Value::Uuid(uuid.parse().unwrap())),
        ("date", Value::Date(20_000)),
        ("nan", Value::Double(f64::NAN)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    let payload = write_datum(
        &Schema::parse_str(&schema).unwrap(),
        values(vec![("features", Value::Record(features))]),
    );
    let mut decoder = local(&schema);
    let mut names = Names::default();
    let event = inference(decoder.decode(Some(&payload), &mut names).unwrap());
    let found: Vec<_> = event.features.iter().map(|f| f.value).collect();
    let expected = [
        FeatureValue::Missing,
        FeatureValue::Boolean(true),
        FeatureValue::Number(-3.0),
        FeatureValue::Number(1_099_511_627_776.0),
        FeatureValue::Number(0.5),
        FeatureValue::Number(0.0),
        FeatureValue::Text("é"),
        FeatureValue::Text("B"),
        FeatureValue::Text("A"),
        FeatureValue::Number(-123.45),
        FeatureValue::Text(uuid),
        FeatureValue::Number(20_000.0),
        FeatureValue::NotFinite,
    ];
    assert_eq!(found, expected);
    assert_eq!(&**names.text(event.features[8].name.0), "again");
}

#[test]
fn logical_types_say_the_unit_of_a_timestamp() {
    for (logical, value, expected) in [
        ("timestamp-millis", -1, -1),
        ("local-timestamp-millis", 7, 7),
        ("timestamp-micros", -1, -1),
        ("local-timestamp-micros", 1_999, 1),
        ("timestamp-nanos", -1, -1),
        ("local-timestamp-nanos", 1_999_999, 1),
        ("none", 12, 12),
    ] {
        let schema = record("").replace(
            r#""timestamp","type":"long""#,
            &format!(r#""timestamp","type":["null",{{"type":"long","logicalType":"{logical}"}}]"#),
        );
        let mut payload = vec![2, b'r', 2, b'm', 2];
        payload.extend(zigzag(value));
        let mut decoder = local(&schema);
        let event = inference(decoder.decode(Some(&payload), &mut Names::default()).unwrap());
        assert_eq!(event.time.0, expected, "{logical}");
    }
}

fn zigzag(value: i64) -> Vec<u8> {
    let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
    let mut bytes = Vec::new();
    while rest > 127 {
        bytes.push(u8::try_from(rest & 127).unwrap() | 128);
        rest >>= 7;
    }
    bytes.push(u8::try_from(rest).unwrap());
    bytes
}

#[test]
fn fields_of_types_that_cannot_serve_are_named() {
    let bytes = || Value::Bytes(vec![1]);
    assert_eq!(
        code_of(r#",{"name":"score","type":"bytes"}"#, vec![("score", bytes())]),
        "wrong_type"
    );
    let array = Value::Array(vec![Value::Int(1), Value::Int(2)]);
    for field in ["score", "features", "scores", "segments", "version", "error", "prediction"] {
        let fields = format!(r#",{{"name":"{field}","type":{{"type":"array","items":"int"}}}}"#);
        let schema = record(&fields);
        let parsed = Schema::parse_str(&schema).unwrap();
        let payload = write_datum(&parsed, values(vec![(field, array.clone())]));
        let mut decoder = local(&schema);
        let result = decoder.decode(Some(&payload), &mut Names::default());
        let Err(NotDecoded::Bad(error)) = result else { panic!("{result:?}") };
        assert_eq!(error.code(), "wrong_type");
        assert!(error.to_string().contains(field), "{error}");
    }
}

#[test]
fn nested_paths_lead_through_records_maps_and_unions() {
    let schema = r#"{"type":"record","name":"R","fields":[
        {"name":"meta","type":["null",{"type":"record","name":"M","fields":[
            {"name":"skipped","type":{"type":"map","values":"M2"}}, {"name":"rid","type":["string","long"]}]}]},
        {"name":"tags","type":{"type":"map","values":["string","long"]}}]}"#
        .replace(r#""M2""#, r#"{"type":"fixed","name":"M2","size":3}"#);
    let mut fields = FieldPaths::new(Stream::Inferences);
    for (name, path) in [
        ("request_id", "meta.rid"),
        ("model", "tags.model"),
        ("timestamp", "tags.at"),
        ("features", "tags"),
    ] {
        fields.set(name, vec![path.to_owned()]).unwrap();
    }
    let settings = DecoderSettings {
        stream: Stream::Inferences,
        format: Format::AvroFile(schema.clone()),
        fields,
        segments: Vec::new(),
    };
    let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
    let union = |branch, value| Value::Union(branch, Box::new(value));
    let skipped = [("k".to_owned(), Value::Fixed(3, vec![1, 2, 3]))];
    let meta = Value::Record(vec![
        ("skipped".to_owned(), Value::Map(skipped.into())),
        ("rid".to_owned(), union(1, Value::Long(42))),
    ]);
    let tags = [
        ("model".to_owned(), union(0, Value::String("m".to_owned()))),
        ("at".to_owned(), union(1, Value::Long(9))),
        ("more".to_owned(), union(1, Value::Long(3))),
    ];
    let value = Value::Record(vec![
        ("meta".to_owned(), union(1, meta)),
        ("tags".to_owned(), Value::Map(tags.into())),
    ]);
    let payload = write_datum(&Schema::parse_str(&schema).unwrap(), value);
    let mut names = Names::default();
    let event = inference(decoder.decode(Some(&payload), &mut names).unwrap());
    assert_eq!((event.id, event.time.0), (RequestId::of(b"42"), 9));
    assert_eq!(&**names.text(event.model.0), "m");
    assert_eq!(event.features.len(), 3);
}

#[test]
fn types_that_contain_themselves_are_skipped_to_a_depth() {
    let fields = r#",{"name":"list","type":{"type":"record","name":"L","fields":[
        {"name":"next","type":["null","L"]}]}}"#;
    let schema = record(fields);
    for (depth, expected) in
        [(0, "fine"), (20, "fine"), (100, "nested_too_deep"), (1_000_000, "nested_too_deep")]
    {
        let mut payload = vec![2, b'r', 2, b'm', 10];
        payload.extend(std::iter::repeat_n(2, depth));
        payload.push(0);
        assert_eq!(code(local(&schema).decode(Some(&payload), &mut Names::default())), expected);
    }
}

#[test]
fn blocks_are_bounded_by_the_bytes_there_are() {
    let head = [2, b'r', 2, b'm', 10];
    let array = record(r#",{"name":"x","type":{"type":"array","items":"null"}}"#);
    let map = record(r#",{"name":"x","type":{"type":"map","values":"long"}}"#);
    let features = record(r#",{"name":"features","type":{"type":"map","values":"long"}}"#);
    let decode = |schema: &str, tail: &[u8]| {
        let payload = [&head, tail].concat();
        code(local(schema).decode(Some(&payload), &mut Names::default()))
    };
    let huge = [zigzag(i64::MAX), vec![0]].concat();
    let most_negative = [zigzag(i64::MIN), vec![0, 0]].concat();
    let size_too_large = [zigzag(-1), zigzag(i64::MAX), vec![0]].concat();
    for schema in [&array, &map, &features] {
        for tail in [&huge, &most_negative, &vec![2]] {
            assert_eq!(decode(schema, tail), "broken_avro", "{schema} {tail:?}");
        }
        assert_eq!(decode(schema, &[0]), "fine");
        assert_eq!(decode(schema, &[0, 0]), "trailing_bytes");
    }
    assert_eq!(decode(&map, &size_too_large), "broken_avro");
    // A block with its size, as some writers give it: one entry `k` = 1, three bytes.
    for schema in [&map, &features] {
        assert_eq!(decode(schema, &[1, 6, 2, b'k', 2, 0]), "fine");
    }
    assert_eq!(decode(&array, &[6, 4, 0]), "fine"); // three nulls, two nulls
    let endless = vec![0xff; 20];
    assert_eq!(decode(&array, &endless), "broken_avro");
}

#[test]
fn doubles_in_a_row_are_missed_one_by_one() {
    let schema = record(
        r#",{"name":"features","type":{"type":"record","name":"F","fields":[
        {"name":"a","type":"double"},{"name":"b","type":"double"},{"name":"c","type":"double"}]}}"#,
    );
    let features = ["a", "b", "c"].map(|name| (name.to_owned(), Value::Double(1.5)));
    let more = vec![("features", Value::Record(features.into()))];
    let payload = write_datum(&Schema::parse_str(&schema).unwrap(), values(more));
    let mut decoder = local(&schema);
    for missing in 1..=24 {
        let cut = &payload[..payload.len() - missing];
        let at = payload.len() - 24 + (24 - missing) / 8 * 8;
        let error = DecodeError::BrokenAvro { reason: "it ends too early", at };
        let found = decoder.decode(Some(cut), &mut Names::default()).unwrap_err();
        assert_eq!(found, NotDecoded::Bad(error), "{missing} bytes are missing");
    }
}

/// The type of a feature of that name in a record, the value, and what it is as a feature. A map has the last type.
fn typed(name: &str, in_map: bool, value: Option<f64>) -> (&'static str, Value, String) {
    let union = |at, value| Value::Union(at, Box::new(value));
    let missing = (union(0, Value::Null), FeatureValue::Missing);
    let number = value.unwrap_or(0.5);
    let text = number.to_string();
    let (kind, (written, expected)) = match (name, value) {
        ("a" | "b", _) if !in_map => {
            (r#""double""#, (Value::Double(number), FeatureValue::Number(number)))
        }
        ("c", None) if !in_map => (r#"["null","string"]"#, missing),
        ("c", Some(_)) if !in_map => {
            let written = union(1, Value::String(text.clone()));
            (r#"["null","string"]"#, (written, FeatureValue::Text(&text)))
        }
        (_, None) => (r#"["null","double","long"]"#, missing),
        (_, Some(_)) => {
            let written = union(1, Value::Double(number));
            (r#"["null","double","long"]"#, (written, FeatureValue::Number(number)))
        }
    };
    (kind, written, format!("{expected:?}"))
}

type Entries = BTreeMap<String, Option<f64>>;

/// A schema of several records or maps of features, a datum of it, and the features in it by name.
fn several(places: &[(bool, Entries)]) -> (String, Vec<u8>, BTreeMap<String, String>) {
    let (mut fields, mut data, mut expected) = (String::new(), Vec::new(), BTreeMap::new());
    for (i, (is_map, entries)) in places.iter().enumerate() {
        let typed = entries.iter().map(|(name, value)| (name, typed(name, *is_map, *value)));
        let typed: Vec<_> = typed.collect();
        let values = typed.iter().map(|(name, (_, value, _))| ((*name).clone(), value.clone()));
        if *is_map {
            let kind = r#"["null","double","long"]"#;
            write!(fields, r#",{{"name":"f{i}","type":{{"type":"map","values":{kind}}}}}"#)
                .unwrap();
            data.push((format!("f{i}"), Value::Map(values.collect())));
        } else {
            let of_record = |(name, (kind, _, _)): &(&String, (&str, Value, String))| {
                format!(r#"{{"name":"{name}","type":{kind}}}"#)
            };
            let of_record = typed.iter().map(of_record).collect::<Vec<_>>().join(",");
            write!(
                fields,
                r#",{{"name":"f{i}","type":{{"type":"record","name":"R{i}","fields":[{of_record}]}}}}"#
            )
            .unwrap();
            data.push((format!("f{i}"), Value::Record(values.collect())));
        }
        expected.extend(typed.into_iter().map(|(name, (_, _, value))| (name.clone(), value)));
    }
    let schema = record(&fields);
    let more = data.iter().map(|(name, value)| (name.as_str(), value.clone())).collect();
    let payload = write_datum(&Schema::parse_str(&schema).unwrap(), values(more));
    (schema, payload, expected)
}

proptest! {
    /// Whether a feature of the same name stood in a record or in a map before.
    #[test]
    fn the_last_of_equal_names_counts_in_records_and_maps(
        places in proptest::collection::vec(
            (any::<bool>(), proptest::collection::btree_map(
                "[a-e]", proptest::option::of(-1e9..1e9_f64), 0..5)),
            1..4)
    ) {
        let (schema, payload, expected) = several(&places);
        let mut settings = settings(Stream::Inferences, Format::AvroFile(schema));
        let paths = (0..places.len()).map(|i| format!("f{i}")).collect();
        settings.fields.set("features", paths).unwrap();
        let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
        let mut tables = [Names::default(), Names::default()];
        tables[1].intern("another table has other numbers");
        for round in 0..4 {
            let names = &mut tables[round % 2];
            let event = inference(decoder.decode(Some(&payload), names).unwrap());
            let found = event.features.iter().map(|feature| {
                (names.text(feature.name.0).to_string(), format!("{:?}", feature.value))
            });
            prop_assert_eq!(event.features.len(), expected.len());
            prop_assert_eq!(&found.collect::<BTreeMap<_, _>>(), &expected);
        }
    }
}

#[test]
fn features_of_a_record_and_of_a_map_behind_it_are_too_many_together() {
    let of_record: Entries = ["a", "b", "c"].map(|name| (name.to_owned(), Some(0.5))).into();
    for (more, expected) in [(VALUES_MAX - 3, "fine"), (VALUES_MAX - 2, "too_many_values")] {
        // One of the record comes again, and counts once.
        let of_map = (0..more).map(|i| (format!("more {i}"), Some(0.5)));
        let of_map = of_map.chain([("a".to_owned(), Some(0.25))]).collect();
        let (schema, payload, _) = several(&[(false, of_record.clone()), (true, of_map)]);
        let mut settings = settings(Stream::Inferences, Format::AvroFile(schema));
        settings.fields.set("features", vec!["f0".to_owned(), "f1".to_owned()]).unwrap();
        let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
        assert_eq!(code(decoder.decode(Some(&payload), &mut Names::default())), expected, "{more}");
    }
}

#[test]
fn features_that_contain_themselves_are_what_they_are_in_json() {
    let schema = record(
        r#",{"name":"features","type":{"type":"record","name":"F","fields":[
        {"name":"a","type":"double"},{"name":"next","type":["null","F"]}]}}"#,
    );
    let of =
        |next| Value::Record(vec![("a".to_owned(), Value::Double(1.5)), ("next".to_owned(), next)]);
    let last = of(Value::Union(0, Box::new(Value::Null)));
    let nested = of(Value::Union(1, Box::new(last.clone())));
    for (features, json) in
        [(last, r#"{"a":1.5,"next":null}"#), (nested, r#"{"a":1.5,"next":{"a":1.5,"next":null}}"#)]
    {
        let more = vec![("features", features)];
        let avro = write_datum(&Schema::parse_str(&schema).unwrap(), values(more));
        let json = format!(r#"{{"request_id":"r","model":"m","timestamp":5,"features":{json}}}"#);
        let read = |mut decoder: Decoder, payload: &[u8]| {
            let mut names = Names::default();
            format!("{:?}", decoder.decode(Some(payload), &mut names))
        };
        let in_json = read(decoder(Stream::Inferences, Format::Json), json.as_bytes());
        assert_eq!(read(local(&schema), &avro), in_json);
    }
}

#[test]
fn numbers_of_every_length_are_read_to_the_bit() {
    let schema = record(r#",{"name":"label","type":"long"},{"name":"pad","type":"string"}"#);
    let schema = schema.replace(r#""name":"request_id""#, r#""name":"x""#);
    let parsed = Schema::parse_str(&schema).unwrap();
    let mut fields = FieldPaths::new(Stream::Inferences);
    fields.set("request_id", vec!["label".to_owned()]).unwrap();
    let (stream, format) = (Stream::Inferences, Format::AvroFile(schema));
    let settings = DecoderSettings { stream, format, fields, segments: Vec::new() };
    let mut decoder = Decoder::new(&settings, Arc::new(Schemas::none())).unwrap();
    for bits in 0..63 {
        for value in
            [1_i64 << bits, (1 << bits) - 1, -(1 << bits), i64::MAX - bits, i64::MIN + bits]
        {
            // Near the end of the payload and far from it.
            for pad in ["", "0123456789"] {
                let datum = Value::Record(vec![
                    ("x".to_owned(), Value::String("r".to_owned())),
                    ("model".to_owned(), Value::String("m".to_owned())),
                    ("timestamp".to_owned(), Value::Long(5)),
                    ("label".to_owned(), Value::Long(value)),
                    ("pad".to_owned(), Value::String(pad.to_owned())),
                ]);
                let payload = write_datum(&parsed, datum);
                let event = decoder.decode(Some(&payload), &mut Names::default()).unwrap();
                let expected = RequestId::of(value.to_string().as_bytes());
                assert_eq!(inference(event).id, expected, "{value}");
            }
        }
    }
}

#[test]
fn texts_of_a_feature_are_checked_whatever_came_before() {
    let schema = record(
        r#",{"name":"features","type":{"type":"record","name":"F","fields":[
        {"name":"a","type":"string"},{"name":"b","type":["null","string"]}]}}"#,
    );
    let mut decoder = local(&schema);
    let mut names = Names::default();
    let long = "long ".repeat(20);
    let mut texts: Vec<String> =
        ["", "web", "ios", "München", "\u{1f980}", &long].map(str::to_owned).into();
    texts.extend((0..60).map(|i| format!("w{i}")));
    for round in 0..3 {
        for (i, text) in texts.iter().enumerate() {
            let mut payload = vec![2, b'r', 2, b'm', 10];
            for lead in [&[][..], &[2]] {
                payload.extend(lead);
                payload.extend(zigzag(i64::try_from(text.len()).unwrap()));
                payload.extend(text.as_bytes());
            }
            let event = inference(decoder.decode(Some(&payload), &mut names).unwrap());
            let found: Vec<_> = event.features.iter().map(|feature| feature.value).collect();
            assert_eq!(found, [FeatureValue::Text(text); 2], "{round}, {i}");
            if let Some(last) = payload.last_mut().filter(|_| !text.is_empty()) {
                *last = 0xff;
                assert_eq!(code(decoder.decode(Some(&payload), &mut names)), "broken_avro");
            }
        }
    }
}

#[test]
fn two_schemas_in_one_topic_are_switched_by_record() {
    let old = record("");
    let new = record(r#",{"name":"score","type":["null","double"]}"#)
        .replace(r#""name":"model","#, r#""name":"model","doc":"x","#);
    let schemas = Arc::new(Schemas::none());
    for (id, schema) in [(1, &old), (0x0102_0304, &new)] {
        schemas.remember(SchemaId(id), WriterSchema::parse(schema, &[]).unwrap());
    }
    let mut decoder =
        Decoder::new(&settings(Stream::Inferences, Format::AvroRegistry), schemas).unwrap();
    let mut names = Names::default();
    for round in 0..5 {
        let first = [0, 0, 0, 0, 1, 2, b'r', 2, b'm', 10];
        let event = inference(decoder.decode(Some(&first), &mut names).unwrap());
        assert_eq!(event.score, None);
        let mut second = vec![0, 1, 2, 3, 4, 2, b'r', 2, b'm', 10, 2];
        let score = f64::from(round) / 8.0;
        second.extend(score.to_le_bytes());
        let event = inference(decoder.decode(Some(&second), &mut names).unwrap());
        assert_eq!(event.score, Some(score));
        let third = [0, 0, 0, 0, 9, 2, b'r', 2, b'm', 10];
        assert_eq!(code(decoder.decode(Some(&third), &mut names)), "unknown_schema");
    }
    for bad in [&[0, 0, 0, 0][..], &[1, 0, 0, 0, 1, 2], b"{\"a\":1}"] {
        assert_eq!(code(decoder.decode(Some(bad), &mut names)), "wire_format");
    }
}

#[test]
fn a_decoder_says_which_schema_of_the_registry_a_payload_needs() {
    let schema = record("");
    let schemas = Arc::new(Schemas::none());
    schemas.remember(SchemaId(1), WriterSchema::parse(&schema, &[]).unwrap());
    let mut decoder =
        Decoder::new(&settings(Stream::Inferences, Format::AvroRegistry), schemas).unwrap();
    let payload = |id: u8| [0, 0, 0, 0, id, 2, b'r', 2, b'm', 10];
    for (id, is_known) in [(1, true), (9, false)] {
        assert_eq!(decoder.schema(Some(&payload(id))), Some(SchemaId(id.into())));
        let bad = match decoder.decode(Some(&payload(id)), &mut Names::default()) {
            Ok(_) => None,
            Err(NotDecoded::Bad(error)) => error.schema(),
            Err(NotDecoded::Waiting(id)) => panic!("{id:?}"),
        };
        assert_eq!(bad, (!is_known).then_some(SchemaId(id.into())));
    }
    for none in [&b"{\"a\":1}"[..], &[], &[0, 0, 0, 0], &[1, 0, 0, 0, 1, 2]] {
        assert_eq!(decoder.schema(Some(none)), None);
    }
    assert_eq!(decoder.schema(None), None);
    assert_eq!(local(&schema).schema(Some(&payload(1))), None, "no registry");
    let unusable = DecodeError::BadSchema { id: 2, reason: "no type".to_owned() };
    assert_eq!(unusable.schema(), Some(SchemaId(2)));
    assert_eq!(DecodeError::WireFormat.schema(), None);
}

#[test]
fn a_bad_schema_file_is_refused_at_once() {
    for text in
        ["", "{", r#"{"type":"record","name":"R","fields":[{"name":"a","type":"Missing"}]}"#]
    {
        let settings = settings(Stream::Labels, Format::AvroFile(text.to_owned()));
        let result = Decoder::new(&settings, Arc::new(Schemas::none()));
        assert_eq!(result.unwrap_err().code(), "bad_schema_file");
    }
}

#[test]
fn what_another_reader_calls_broken_is_broken() {
    let good = include_bytes!("../../schemas/examples/inference/good-full.avro");
    let schema = Schema::parse_str(INFERENCE).unwrap();
    let reader = GenericDatumReader::builder(&schema).build().unwrap();
    let mut decoder = local(INFERENCE);
    let mut names = Names::default();
    for at in 0..good.len() {
        // Greater bytes would make lengths that the other reader allocates before it looks.
        for byte in 0..128 {
            let mut payload = good.to_vec();
            payload[at] = byte;
            // The other reader takes a missing end for zeros, so it gets some, and they are counted.
            let padded = [payload.as_slice(), &[0; 64]].concat();
            let mut rest = padded.as_slice();
            let expected = match reader.read_value(&mut rest).map(|_| rest.len().cmp(&64)) {
                Ok(Ordering::Equal) => None,
                Ok(Ordering::Greater) => Some("trailing_bytes"),
                Ok(Ordering::Less) | Err(_) => Some("broken_avro"),
            };
            let found = code(decoder.decode(Some(&payload), &mut names));
            let broken = ["trailing_bytes", "broken_avro"].contains(&found).then_some(found);
            assert_eq!(broken, expected, "byte {at} is {byte}: {found}");
        }
    }
}

/// A schema's text with a value of it. Named types get their number as name.
fn any_typed() -> impl Strategy<Value = (String, Value)> {
    let plain = |text: &'static str| format!("{text:?}");
    let leaf = prop_oneof![
        Just((plain("null"), Value::Null)),
        any::<bool>().prop_map(move |x| (plain("boolean"), Value::Boolean(x))),
        any::<i32>().prop_map(move |x| (plain("int"), Value::Int(x))),
        any::<i64>().prop_map(move |x| (plain("long"), Value::Long(x))),
        any::<f32>().prop_map(move |x| (plain("float"), Value::Float(x))),
        any::<f64>().prop_map(move |x| (plain("double"), Value::Double(x))),
        any::<Vec<u8>>().prop_map(move |x| (plain("bytes"), Value::Bytes(x))),
        ".{0,5}".prop_map(move |x| (plain("string"), Value::String(x))),
        (0_u32..3).prop_map(|i| {
            let symbol = ["A", "B", "C"][usize::try_from(i).unwrap()].to_owned();
            (
                r#"{"type":"enum","name":"@","symbols":["A","B","C"]}"#.to_owned(),
                Value::Enum(i, symbol),
            )
        }),
        proptest::collection::vec(any::<u8>(), 0..20).prop_map(|x| {
            (
                format!(r#"{{"type":"fixed","name":"@","size":{}}}"#, x.len()),
                Value::Fixed(x.len(), x),
            )
        }),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            (inner.clone(), 0_usize..4).prop_map(|((schema, value), count)| {
                (
                    format!(r#"{{"type":"array","items":{schema}}}"#),
                    Value::Array(vec![value; count]),
                )
            }),
            (inner.clone(), proptest::collection::btree_set(".{0,3}", 0..4)).prop_map(
                |((schema, value), keys)| {
                    let entries = keys.into_iter().map(|key| (key, value.clone())).collect();
                    (format!(r#"{{"type":"map","values":{schema}}}"#), Value::Map(entries))
                }
            ),
            proptest::collection::vec(inner, 0..4).prop_map(|fields| {
                let texts: Vec<_> = fields
                    .iter()
                    .enumerate()
                    .map(|(i, (schema, _))| format!(r#"{{"name":"f{i}","type":{schema}}}"#))
                    .collect();
                let values = fields
                    .into_iter()
                    .enumerate()
                    .map(|(i, (_, v))| (format!("f{i}"), v))
                    .collect();
                let text =
                    format!(r#"{{"type":"record","name":"@","fields":[{}]}}"#, texts.join(","));
                (text, Value::Record(values))
            }),
        ]
    })
}

fn with_names(schema: &str) -> String {
    let parts = schema.split('@').enumerate();
    parts.map(|(i, part)| if i == 0 { part.to_owned() } else { format!("N{i}{part}") }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn whatever_another_writer_writes_is_skipped_to_the_byte((junk, value) in any_typed(), null in any::<bool>()) {
        let (branch, inside) = if null { (0, Value::Null) } else { (1, Value::Record(vec![("v".to_owned(), value.clone())])) };
        let first = with_names(&junk);
        let second = first.replace("\"N", "\"M");
        let schema = format!(r#"{{"type":"record","name":"I","fields":[
            {{"name":"a","type":{first}}},{{"name":"request_id","type":"string"}},
            {{"name":"b","type":["null",{{"type":"record","name":"W","fields":[{{"name":"v","type":{second}}}]}}]}},
            {{"name":"model","type":"string"}},{{"name":"timestamp","type":"long"}}]}}"#);
        let text_of = |x: &str| Value::String(x.to_owned());
        let all = Value::Record(vec![
            ("a".to_owned(), value), ("request_id".to_owned(), text_of("id")),
            ("b".to_owned(), Value::Union(branch, Box::new(inside))),
            ("model".to_owned(), text_of("m")), ("timestamp".to_owned(), Value::Long(77)),
        ]);
        let payload = write_datum(&Schema::parse_str(&schema).unwrap(), all);
        let mut names = Names::default();
        let mut decoder = local(&schema);
        let event = decoder.decode(Some(&payload), &mut names);
        let event = event.map(|event| text(&event, &names));
        let id = RequestId::of(b"id");
        prop_assert!(event.as_ref().is_ok_and(|e| e.starts_with(&format!("{id:?} m "))), "{:?}", event);
    }
}
