//! JSON against `serde_json`: the same payloads are well formed, and they say the same.

use super::{choice, decoded, decoder, event_text};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;
use std::sync::Arc;
use tidegauge::decode::checks::{DEPTH_MAX, NUMBER_MAX};
use tidegauge::decode::registry::Schemas;
use tidegauge::decode::{DecodeError, Format, NotDecoded};
use tidegauge::engine::event::{Event, FeatureValue, RequestId, Stream};
use tidegauge::engine::names::Names;

/// The first byte says which topic, the rest is the payload.
pub fn check(bytes: &[u8]) {
    let Some((stream, payload)) = choice(bytes) else { return };
    let stream = Stream::BOTH[stream % 2];
    let mut ours = decoder(stream, Format::Json, Arc::new(Schemas::none()));
    let event = decoded(&mut ours, payload);
    let theirs: Result<Read, _> = serde_json::from_slice(payload);
    match (&event, &theirs) {
        (Err(NotDecoded::Waiting(id)), _) => panic!("JSON waits for schema {id:?}"),
        (Err(NotDecoded::Bad(DecodeError::EmptyPayload)), _) => assert!(payload.is_empty()),
        (Err(NotDecoded::Bad(DecodeError::NestedTooDeep)), read) => {
            assert!(read.as_ref().map_or(true, |read| read.depth > DEPTH_MAX), "{payload:?}");
        }
        (Err(NotDecoded::Bad(DecodeError::BrokenJson { reason })), read) => {
            let is_object = read.as_ref().is_ok_and(|read| read.value.is_object());
            assert!(!is_object, "refused: {reason}");
        }
        // What nobody wants has to be well formed only: a number may be too large, a surrogate alone.
        (_, Err(error)) => {
            let well_formed: Result<IgnoredAny, _> = serde_json::from_slice(payload);
            assert!(well_formed.is_ok(), "only serde_json refuses it: {error}; {event:?}");
        }
        (_, Ok(read)) => {
            assert!(read.value.is_object(), "only an object is a record");
            assert!(read.depth <= DEPTH_MAX, "a record nested {} deep", read.depth);
            // Of two entries with one name the other parser keeps one, where ours may take both apart.
            if !read.has_twins {
                let again = serde_json::to_vec(&read.value).expect("it was read");
                let of_theirs = decoded(&mut ours, &again);
                // Which of several faults is found first depends on the order of the entries.
                assert_eq!(event.as_ref().ok(), of_theirs.as_ref().ok(), "as serde_json has it");
                if event.is_ok() && stream == Stream::Inferences {
                    compare(payload, &read.value);
                }
            }
        }
    }
}

/// The event's values are those of the tree.
fn compare(payload: &[u8], tree: &Value) {
    let mut names = Names::default();
    let mut ours = decoder(Stream::Inferences, Format::Json, Arc::new(Schemas::none()));
    let event = ours.decode(Some(payload), &mut names).expect("it was decoded before");
    let Event::Inference(inference) = event else {
        panic!("a label in the other topic: {}", event_text(&event, &names))
    };
    if let Value::String(id) = &tree["request_id"] {
        assert_eq!(inference.id, RequestId::of(id.as_bytes()));
    }
    if let Value::String(model) = &tree["model"] {
        assert_eq!(&**names.text(inference.model.0), model);
    }
    if let Some(time) = tree["timestamp"].as_i64() {
        assert_eq!(inference.time.0, time);
    }
    assert_eq!(inference.score, tree["score"].as_f64().map(|score| score + 0.0));
    let features = tree["features"].as_object();
    assert_eq!(inference.features.len(), features.map_or(0, Map::len));
    for feature in inference.features {
        let value = &tree["features"][&**names.text(feature.name.0)];
        let expected = match value {
            Value::Null => FeatureValue::Missing,
            Value::Bool(flag) => FeatureValue::Boolean(*flag),
            Value::String(text) => FeatureValue::Text(text),
            Value::Number(number) => match number.as_f64() {
                Some(number) if number.abs() <= NUMBER_MAX => FeatureValue::Number(number + 0.0),
                _ => FeatureValue::NotFinite,
            },
            Value::Array(_) | Value::Object(_) => panic!("taken for a feature: {value}"),
        };
        assert_eq!(feature.value, expected, "{}", names.text(feature.name.0));
    }
}

/// A document as `serde_json` reads it, and whether it has two entries of one name.
struct Read {
    value: Value,
    depth: usize,
    has_twins: bool,
}

impl Read {
    fn scalar(value: impl Into<Value>) -> Self {
        Self { value: value.into(), depth: 0, has_twins: false }
    }
}

impl<'de> Deserialize<'de> for Read {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reader)
    }
}

struct Reader;

impl<'de> Visitor<'de> for Reader {
    type Value = Read;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Read, E> {
        Ok(Read::scalar(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Read, E> {
        Ok(Read::scalar(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Read, E> {
        Ok(Read::scalar(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Read, E> {
        Ok(Read::scalar(value))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Read, E> {
        Ok(Read::scalar(Number::from_f64(value).expect("JSON has finite numbers only")))
    }

    fn visit_str<E>(self, value: &str) -> Result<Read, E> {
        Ok(Read::scalar(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Read, A::Error> {
        let mut all = Read::scalar(Value::Null);
        let mut items = Vec::new();
        while let Some(item) = seq.next_element::<Read>()? {
            all.depth = all.depth.max(item.depth);
            all.has_twins |= item.has_twins;
            items.push(item.value);
        }
        Ok(Read { value: Value::Array(items), depth: all.depth + 1, ..all })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Read, A::Error> {
        let mut all = Read::scalar(Value::Null);
        let mut entries = Map::new();
        while let Some((name, item)) = map.next_entry::<String, Read>()? {
            all.depth = all.depth.max(item.depth);
            all.has_twins |= item.has_twins | entries.insert(name, item.value).is_some();
        }
        Ok(Read { value: Value::Object(entries), depth: all.depth + 1, ..all })
    }
}
