//! JSON as producers really send it.

use crate::decode::{code, inference, json, text};
use proptest::prelude::*;
use std::sync::Arc;
use tidegauge::decode::fields::{FieldError, FieldPaths};
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{DecodeError, Decoder, DecoderSettings, Format, NotDecoded};
use tidegauge::engine::event::{Event, FeatureValue, RequestId, Stream, Target, WEIGHT_ONE};
use tidegauge::engine::names::Names;

fn with_paths(paths: &[(&str, &[&str])]) -> Decoder {
    let mut fields = FieldPaths::new(Stream::Inferences);
    for (name, paths) in paths {
        fields.set(name, paths.iter().map(|&p| p.to_owned()).collect()).unwrap();
    }
    let settings = DecoderSettings {
        stream: Stream::Inferences,
        format: Format::Json,
        fields,
        segments: vec!["region".to_owned()],
    };
    Decoder::new(&settings, Arc::new(Schemas::none())).unwrap()
}

fn inference_code(payload: &str) -> &'static str {
    code(json(Stream::Inferences).decode(Some(payload.as_bytes()), &mut Names::default()))
}

fn label(fields: &str) -> Result<tidegauge::engine::event::Label, NotDecoded> {
    let payload = format!(r#"{{"request_id":"r","timestamp":0,{fields}}}"#);
    let mut decoder = json(Stream::Labels);
    match decoder.decode(Some(payload.as_bytes()), &mut Names::default())? {
        Event::Label(label) => Ok(label),
        Event::Inference(inference) => panic!("{inference:?}"),
    }
}

#[test]
fn fields_are_found_wherever_the_paths_point() {
    let mut decoder = with_paths(&[
        ("request_id", &["meta.rid"]),
        ("model", &["meta.model.name", "model"]),
        ("features", &["payload.features", "more"]),
        ("segments", &["payload.features"]),
    ]);
    let payload = br#"{"meta":{"rid":"r1","other":{},"model":null},"model":"m","timestamp":5,
        "payload":{"x":[{}],"features":{"region":"eu","a":1}},"more":{"b":true,"a":2}}"#;
    let mut names = Names::default();
    let event = inference(decoder.decode(Some(payload), &mut names).unwrap());
    assert_eq!(event.id, RequestId::of(b"r1"));
    assert_eq!(&**names.text(event.model.0), "m");
    assert_eq!(&**names.text(event.segments[0].id.0), "region=eu");
    let features: Vec<_> =
        event.features.iter().map(|f| (&**names.text(f.name.0), f.value)).collect();
    assert_eq!(
        features,
        [
            ("region", FeatureValue::Text("eu")),
            ("a", FeatureValue::Number(2.0)),
            ("b", FeatureValue::Boolean(true))
        ]
    );
}

#[test]
fn parts_of_an_id_keep_their_borders() {
    let mut decoder = with_paths(&[("request_id", &["a", "b"])]);
    let mut id = |a: &str, b: &str| {
        let payload = format!(r#"{{"a":{a},"b":{b},"model":"m","timestamp":0}}"#);
        let mut names = Names::default();
        let result = decoder.decode(Some(payload.as_bytes()), &mut names);
        result.map(|event| inference(event).id)
    };
    assert_ne!(id(r#""a""#, r#""bc""#), id(r#""ab""#, r#""c""#));
    assert_eq!(id("12", r#""x""#), id(r#""12""#, r#""x""#));
    let bytes = [&1_u64.to_le_bytes()[..], b"a", &2_u64.to_le_bytes()[..], b"bc"].concat();
    assert_eq!(id(r#""a""#, r#""bc""#), Ok(RequestId::of(&bytes)));
    assert_eq!(id(r#""""#, r#""""#), Err(NotDecoded::Bad(DecodeError::EmptyRequestId)));
    assert!(id("null", r#""x""#).is_err());
}

#[test]
fn whole_numbers_are_ids_as_their_decimal_text() {
    for number in ["0", "-7", "18446744073709551615", "-9223372036854775808"] {
        let payload = format!(r#"{{"request_id":{number},"model":"m","timestamp":0}}"#);
        let mut decoder = json(Stream::Inferences);
        let mut names = Names::default();
        let event = decoder.decode(Some(payload.as_bytes()), &mut names).unwrap();
        assert_eq!(inference(event).id, RequestId::of(number.as_bytes()));
    }
    let id = |number: &str| format!(r#"{{"request_id":{number},"model":"m","timestamp":0}}"#);
    assert_eq!(inference_code(&id("18446744073709551616")), "wrong_type");
    assert_eq!(inference_code(&id("1.0")), "wrong_type");
}

#[test]
fn the_last_of_equal_names_counts() {
    let payload = br#"{"request_id":"a","request_id":"b","model":"m","timestamp":0,
        "features":{"x":1,"y":2,"x":3},"scores":{"1":0.1,"01":0.2}}"#;
    let mut names = Names::default();
    let mut decoder = json(Stream::Inferences);
    // The first one teaches the decoder what such records look like.
    for _ in 0..3 {
        let event = inference(decoder.decode(Some(payload), &mut names).unwrap());
        assert_eq!(event.id, RequestId::of(b"b"));
        let values: Vec<_> = event.features.iter().map(|f| f.value).collect();
        assert_eq!(values, [FeatureValue::Number(3.0), FeatureValue::Number(2.0)]);
        assert_eq!(event.scores.len(), 1);
        assert_eq!(event.scores[0].1.to_bits(), 0.2_f64.to_bits());
    }
}

#[test]
fn features_of_several_objects_are_put_together() {
    let mut decoder = with_paths(&[("features", &["features", "more"]), ("version", &["more.v"])]);
    let mut tables = [Names::default(), Names::default()];
    tables[1].intern("another table has other numbers");
    for (round, value) in [1.5, -2.25, 0.25, 123.456].into_iter().enumerate() {
        for more in [r#""y":{},"z":"t""#, r#""z":null,"v":"1","y":{}"#, r#""w":true"#] {
            let more = more.replace("{}", &format!("{value}"));
            let payload = format!(
                r#"{{"request_id":"a","model":"m","timestamp":0,"features":{{"x":1,"y":-7}},"more":{{{more}}}}}"#
            );
            let names = &mut tables[round % 2];
            let event = inference(decoder.decode(Some(payload.as_bytes()), names).unwrap());
            let found: serde_json::Map<_, _> = event
                .features
                .iter()
                .map(|feature| {
                    let value = match feature.value {
                        FeatureValue::Number(x) => x.into(),
                        FeatureValue::Text(text) => text.into(),
                        FeatureValue::Boolean(x) => x.into(),
                        FeatureValue::Missing | FeatureValue::NotFinite => serde_json::Value::Null,
                    };
                    (names.text(feature.name.0).to_string(), value)
                })
                .collect();
            assert_eq!(found.len(), event.features.len(), "each name once");
            let oracle: serde_json::Value = serde_json::from_str(&payload).unwrap();
            let mut expected = serde_json::json!({"x": 1.0, "y": -7.0});
            for (name, value) in oracle["more"].as_object().unwrap() {
                expected[name] = value.clone();
            }
            assert_eq!(serde_json::Value::Object(found), expected, "{payload}");
        }
    }
}

#[test]
fn many_names_in_any_order_are_told_apart() {
    let mut names = Names::default();
    let mut decoder = json_decoder();
    for i in (0..400).chain((0..400).rev()) {
        let (model, version, region) = (i, i % 7, i % 90);
        let payload = format!(
            r#"{{"request_id":"a","model":"m{model}","version":"{version}","timestamp":0,"segments":{{"region":"r{region}"}}}}"#
        );
        let event = inference(decoder.decode(Some(payload.as_bytes()), &mut names).unwrap());
        assert_eq!(&**names.text(event.model.0), format!("m{model}"));
        assert_eq!(&**names.text(event.version.0), format!("{version}"));
        assert_eq!(&**names.text(event.segments[0].id.0), format!("region=r{region}"));
    }
}

#[test]
fn deep_nesting_ends_in_an_answer() {
    for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
        for depth in [10, 1_000, 1_000_000] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            for field in ["other", "features", "model"] {
                let payload =
                    format!(r#"{{"request_id":"r","model":"m","timestamp":0,"{field}":{deep}}}"#);
                let code = inference_code(&payload);
                let fine = ["fine", "wrong_type", "nested_too_deep", "broken_json"];
                assert!(fine.contains(&code), "{field} {depth}: {code}");
            }
            inference_code(&open.repeat(depth));
        }
    }
}

#[test]
fn ten_megabytes_are_one_record_like_any_other() {
    let filler = "x".repeat(10 << 20);
    let payload =
        |fields: &str| format!(r#"{{"request_id":"r","model":"m","timestamp":0,{fields}}}"#);
    assert_eq!(inference_code(&payload(&format!(r#""other":"{filler}""#))), "fine");
    assert_eq!(inference_code(&payload(&format!(r#""features":{{"a":"{filler}"}}"#))), "fine");
    assert_eq!(inference_code(&payload(&format!(r#""version":"{filler}""#))), "name_too_long");
    let many: Vec<_> = (0..500_000).map(|i| format!(r#""f{i}":{i}"#)).collect();
    let many = payload(&format!(r#""features":{{{}}}"#, many.join(",")));
    assert_eq!(inference_code(&many), "too_many_values");
}

#[test]
fn labels_are_compared_in_one_form() {
    let number = |x| Ok(Target::Number(x));
    let value = |json: &str| label(&format!(r#""label":{json}"#)).map(|label| label.value);
    for one in ["1", "1.0", r#""1""#, r#""+01""#, "1e0", r#""1.0""#, r#""1.000""#] {
        assert_eq!(value(one), number(1.0), "{one}");
    }
    assert_eq!(value("-0.0"), number(0.0));
    assert_eq!(value(r#""-5""#), number(-5.0));
    for (text, truth) in [("true", true), ("True", true), ("FALSE", false), ("false", false)] {
        assert_eq!(value(&format!("{text:?}")), Ok(Target::Boolean(truth)));
    }
    assert_eq!(value("false"), Ok(Target::Boolean(false)));
    for class in [
        "1.5",
        "1.",
        ".0",
        "-.0",
        "1.0.0",
        "1.0x",
        "+",
        "-",
        "",
        "1e3",
        "9007199254740992",
        " 1",
        "true ",
        "tRUE",
    ] {
        let value = value(&serde_json::to_string(class).unwrap());
        assert!(matches!(value, Ok(Target::Class(_))), "{class}");
    }
    assert_eq!(value(r#""9007199254740991""#), number(9_007_199_254_740_991.0));
}

/// As Python writes names of classes that are numbers or truth values.
#[test]
fn classes_of_scores_have_the_form_of_labels() {
    let mut names = Names::default();
    let mut decoder = json_decoder();
    for (key, class) in [("1.0", "1"), ("-07", "-7"), ("True", "true"), ("1.5", "1.5"), ("a", "a")]
    {
        let payload =
            format!(r#"{{"request_id":"r","model":"m","timestamp":0,"scores":{{{key:?}:0.25}}}}"#);
        let event = inference(decoder.decode(Some(payload.as_bytes()), &mut names).unwrap());
        let [(id, _)] = event.scores else { panic!("{event:?}") };
        let id = *id;
        assert_eq!(&**names.text(id.0), class, "{key}");
    }
}

#[test]
fn probabilities_are_held_to_0_and_1_as_far_as_rounding_goes() {
    let mut names = Names::default();
    let mut decoder = json_decoder();
    let mut score = |value: f64| {
        let payload = format!(
            r#"{{"request_id":"r","model":"m","timestamp":0,"score":{value},"scores":{{"a":{value}}}}}"#
        );
        match decoder.decode(Some(payload.as_bytes()), &mut names) {
            Ok(event) => {
                let event = inference(event);
                assert_eq!(event.score, Some(event.scores[0].1));
                event.score
            }
            Err(NotDecoded::Bad(error)) => {
                assert_eq!(error.code(), "score_out_of_range");
                None
            }
            Err(other) => panic!("{other:?}"),
        }
    };
    for beyond in [f64::EPSILON, f64::from(f32::EPSILON)] {
        assert_eq!((score(1.0 + beyond), score(-beyond)), (Some(1.0), Some(0.0)));
    }
    for beyond in [0.000_001, 0.1] {
        assert_eq!((score(1.0 + beyond), score(-beyond)), (None, None));
    }
    assert_eq!(score(1.0_f64.next_down()), Some(1.0_f64.next_down()));
}

#[test]
fn weights_are_units_of_two_to_the_minus_20() {
    let weight = |json: &str| label(&format!(r#""label":1,"weight":{json}"#)).map(|l| l.weight);
    assert_eq!(label(r#""label":1"#).unwrap().weight, WEIGHT_ONE);
    assert_eq!(weight("null"), Ok(WEIGHT_ONE));
    assert_eq!(weight("0"), Ok(0));
    assert_eq!(weight("2.5"), Ok(5 << 19));
    assert_eq!(weight("1048576"), Ok(1 << 40));
    assert_eq!(weight("0.0000004"), Ok(0)); // 0.42 units
    assert_eq!(weight("0.0000005"), Ok(1)); // 0.52 units
    assert!(weight("-0.1").is_err());
}

#[test]
fn latency_is_whole_microseconds() {
    let latency = |json: &str| {
        let payload =
            format!(r#"{{"request_id":"r","model":"m","timestamp":0,"latency_ms":{json}}}"#);
        let mut decoder = json_decoder();
        let mut names = Names::default();
        let event = decoder.decode(Some(payload.as_bytes()), &mut names).unwrap();
        inference(event).latency_us
    };
    assert_eq!(latency("12"), Some(12_000));
    assert_eq!(latency("0.0005"), Some(1));
    assert_eq!(latency("0.00049"), Some(0));
    assert_eq!(latency("1e300"), Some(u32::MAX));
    assert_eq!(latency("null"), None);
}

fn json_decoder() -> Decoder {
    json(Stream::Inferences)
}

#[test]
fn times_are_read_in_every_form() {
    let time = |json: &str| {
        let payload = format!(r#"{{"request_id":"r","model":"m","timestamp":{json}}}"#);
        let mut decoder = json_decoder();
        let result = decoder.decode(Some(payload.as_bytes()), &mut Names::default());
        result.map(|event| inference(event).time.0).ok()
    };
    // Right sides: GNU date, `date -u -d ... +%s`.
    for (text, expected) in [
        ("1970-01-01T00:00:00Z", 0),
        ("1969-12-31T23:59:59.999Z", -1),
        ("2000-02-29T12:00:00+00:00", 951_825_600_000),
        ("2026-11-23T15:12:22.5+05:30", 1_795_426_942_500),
        ("2026-11-23 15:12:22.123456789-08:00", 1_795_475_542_123),
        ("1900-01-01t00:00:00z", -2_208_988_800_000),
        ("2199-12-31T23:59:59.999Z", 7_258_118_399_999),
    ] {
        let parsed = time(&format!("{text:?}"));
        assert_eq!(parsed, Some(expected), "{text}");
    }
    assert_eq!(time("1767225600123.0"), Some(1_767_225_600_123));
    for bad in [
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:00:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01T00:00:00+0100",
        "2026-1-01T00:00:00Z",
        "1899-12-31T23:59:59Z",
        "",
    ] {
        assert_eq!(time(&format!("{bad:?}")), None, "{bad}");
    }
}

/// As pandas writes times of which it was told no zone.
#[test]
fn a_time_without_a_zone_is_named_with_what_it_lacks() {
    let error = |text: &str| {
        let payload = format!(r#"{{"request_id":"r","model":"m","timestamp":{text:?}}}"#);
        match json_decoder().decode(Some(payload.as_bytes()), &mut Names::default()) {
            Err(NotDecoded::Bad(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    for text in ["2026-01-05 10:00:00", "2026-01-05T10:00:00.123456"] {
        let error = error(text);
        assert_eq!(error.code(), "wrong_type");
        let expected = format!("`timestamp` {text} has no zone: append Z ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
    let digits = "1".repeat(5000);
    let error_of_digits = error(&format!("2026-01-05 10:00:00.{digits}")).to_string();
    assert!(error_of_digits.contains("has no zone") && error_of_digits.len() < 200);
    for text in ["2026-01-05 25:00:00", "2026-01-05", "yesterday", ""] {
        let error = error(text);
        assert_eq!(error.code(), "wrong_type");
        let expected = format!("`timestamp` {text:?} is no time: send milliseconds ");
        assert!(error.to_string().starts_with(&expected), "{error}");
    }
}

#[test]
fn bad_paths_say_what_to_do() {
    let mut fields = FieldPaths::new(Stream::Labels);
    let error = fields.set("score", vec!["x".to_owned()]).unwrap_err();
    assert!(matches!(&error, FieldError::Unknown { known, .. } if known.contains("label")));
    assert_eq!(fields.set("label", Vec::new()).unwrap_err().code(), "field_without_path");
    let bad = fields.set("label", vec!["a..b".to_owned()]);
    assert_eq!(bad.unwrap_err().code(), "bad_field_path");
}

/// A JSON document of any shape, as text, duplicates apart.
fn any_json() -> impl Strategy<Value = serde_json::Value> {
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        proptest::bool::ANY.prop_map(Into::into),
        proptest::num::i64::ANY.prop_map(Into::into),
        proptest::num::u64::ANY.prop_map(Into::into),
        proptest::num::f64::NORMAL.prop_map(Into::into),
        "\\PC{0,8}".prop_map(Into::into),
    ];
    leaf.prop_recursive(4, 32, 5, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Into::into),
            proptest::collection::btree_map("\\PC{0,4}", inner, 0..5)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn numbers_are_exact_and_junk_is_skipped(
        junk in any_json(), number in proptest::num::f64::NORMAL, digits in "-?[1-9][0-9]{0,25}(\\.[0-9]{1,25})?(e-?[0-9]{1,2})?",
    ) {
        prop_assume!(number.abs() <= 1e150);
        let text_of = format!(
            r#"{{"junk":{junk},"request_id":"r","model":"m","timestamp":0,
                "features":{{"n":{number:e},"d":{digits}}},"more":{junk}}}"#
        );
        let oracle: serde_json::Value = serde_json::from_str(&text_of).unwrap();
        let mut names = Names::default();
        let mut decoder = json_decoder();
        let event = inference(decoder.decode(Some(text_of.as_bytes()), &mut names).unwrap());
        for (i, name) in ["n", "d"].into_iter().enumerate() {
            let expected = oracle["features"][name].as_f64().unwrap();
            prop_assert_eq!(event.features[i].value, FeatureValue::Number(expected));
        }
    }
}

/// One scalar after the other replaced by others.
fn refilled(
    of: &serde_json::Value,
    with: &mut impl Iterator<Item = serde_json::Value>,
) -> serde_json::Value {
    use serde_json::Value;
    match of {
        Value::Object(map) => {
            let entries = map.iter().map(|(name, value)| (name.clone(), refilled(value, with)));
            Value::Object(entries.collect())
        }
        Value::Array(values) => values.iter().map(|value| refilled(value, with)).collect(),
        scalar => with.next().unwrap_or_else(|| scalar.clone()),
    }
}

proptest! {
    /// A decoder that has read other records of the same producer, or of another one, reads as a new one does.
    #[test]
    fn what_was_read_before_does_not_show(
        shapes in proptest::collection::vec(any_json(), 1..3),
        fills in proptest::collection::vec(proptest::collection::vec(any_json(), 0..12), 1..8),
        is_pretty in proptest::bool::ANY,
        broken in proptest::option::of((0_usize..200, 0_u8..=255)),
    ) {
        let mut warm = json_decoder();
        for (i, fill) in fills.iter().enumerate() {
            let (shape, order) = (&shapes[i % shapes.len()], i % 3);
            let base = serde_json::json!({
                "request_id": "r", "model": "m", "timestamp": 5, "score": 0.5, "error": null,
                "features": {"a": 1, "b": 2.5, "c": "t", "more": shape}, "other": shape,
                "segments": {"region": "eu"},
            });
            let scalars = fill.iter().filter(|value| !value.is_object() && !value.is_array());
            let mut record = if order == 0 { base.clone() } else { refilled(&base, &mut scalars.cloned()) };
            if order < 2 {
                for field in ["request_id", "model", "timestamp", "score", "error", "segments"] {
                    record[field] = base[field].clone();
                }
            }
            let mut bytes = if is_pretty {
                serde_json::to_vec_pretty(&record).unwrap()
            } else {
                serde_json::to_vec(&record).unwrap()
            };
            if let Some((at, byte)) = broken
                && i == 3
            {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let read = |decoder: &mut Decoder| {
                let mut names = Names::default();
                let event = decoder.decode(Some(&bytes), &mut names);
                format!("{:?}", event.map(|event| text(&event, &names)))
            };
            prop_assert_eq!(read(&mut warm), read(&mut json_decoder()));
        }
    }
}

#[test]
fn what_one_reader_calls_broken_the_other_does() {
    // Escapes in texts that nobody wants are not looked at, so there are none here.
    let good = br#"{"request_id":"a\u00e9\n","model":"m","timestamp":1,"x":[1,-2.5e3,{"y":null,
        "z":"text"}],"features":{"a":true,"b":"\ud83e\udd80"},"score":0.5}"#;
    let mut decoder = json_decoder();
    let mut names = Names::default();
    for at in 0..good.len() {
        for byte in 0..=255 {
            let mut payload = good.to_vec();
            payload[at] = byte;
            let oracle: Result<serde_json::Value, _> = serde_json::from_slice(&payload);
            let is_sound = oracle.is_ok_and(|value| value.is_object());
            let found = code(decoder.decode(Some(&payload), &mut names));
            let shown = String::from_utf8_lossy(&payload);
            let in_skipped_text = payload.windows(3).any(|part| part == b"tex") && byte == b'\\';
            if !in_skipped_text {
                assert_eq!(found != "broken_json", is_sound, "{shown} {found}");
            }
        }
    }
}

#[test]
fn a_decoder_forgets_the_record_before() {
    let mut names = Names::default();
    let mut decoder = json_decoder();
    let rich = br#"{"request_id":"r","model":"m","timestamp":0,"features":{"a":1},"score":0.5,"segments":{"region":"x"}}"#;
    let plain = br#"{"request_id":"s","model":"m","timestamp":0}"#;
    decoder.decode(Some(rich), &mut names).unwrap();
    let event = decoder.decode(Some(plain), &mut names).unwrap();
    let shown = text(&event, &names);
    assert_eq!(shown, text(&json_decoder().decode(Some(plain), &mut names).unwrap(), &names));
    let event = inference(decoder.decode(Some(plain), &mut Names::default()).unwrap());
    assert!(event.features.is_empty() && event.segments.is_empty() && event.score.is_none());
}
