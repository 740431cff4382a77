//! JSON → what is wanted of it. Most records have the shape of one before; of the others sonic-rs's events tell, without
//! a value tree.

use super::checks::{DEPTH_MAX, DecodeError};
use super::fields::{NodeIndex, Tree};
use super::found::{Entry, Found};
use super::json_shape::Shapes;
use super::scalar::{Scalar, Text};
use serde::de::{
    Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor,
};
use sonic_rs::LazyValue;
use sonic_rs::error::Category;
use std::fmt;

/// Reads one JSON object.
pub(super) fn read<'a>(
    payload: &'a [u8],
    tree: &Tree,
    shapes: &mut Shapes,
    found: &mut Found<'a, '_>,
) -> Result<(), DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|error| DecodeError::BrokenJson {
        reason: format!("no UTF-8 from byte {}", error.valid_up_to()),
    })?;
    if shapes.read(text, tree, found) {
        return Ok(());
    }
    if is_nested_too_deep(payload) {
        return Err(DecodeError::NestedTooDeep);
    }
    let mut deserializer = sonic_rs::Deserializer::from_str(text);
    let value = Value { found: &mut *found, tree, node: Some(Tree::ROOT), entry: Entry::None };
    let shape = value.deserialize(&mut deserializer).map_err(|error| broken(&error))?;
    deserializer.end().map_err(|error| broken(&error))?;
    match shape {
        Shape::Object => {
            shapes.learn(text, tree);
            Ok(())
        }
        Shape::Other => Err(DecodeError::BrokenJson { reason: "no object".to_owned() }),
    }
}

/// The parser skips what nobody wants by recursion without a limit, and a payload of brackets would overflow the
/// stack. Up to the first fault of a payload this sees strings as the parser does.
fn is_nested_too_deep(payload: &[u8]) -> bool {
    // Few records have that many brackets at all, and counting them is much cheaper than following them.
    let opening = |byte: u8| byte | 0x20 == b'{'; // also `[`
    if payload.iter().filter(|&&byte| opening(byte)).count() <= DEPTH_MAX {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for &byte in payload {
        if escaped {
            escaped = false;
        } else if in_text {
            escaped = byte == b'\\';
            in_text = byte != b'"';
        } else if byte == b'"' {
            in_text = true;
        } else if opening(byte) {
            depth += 1;
            if depth > DEPTH_MAX {
                return true;
            }
        } else if matches!(byte, b'}' | b']') {
            depth = depth.saturating_sub(1);
        }
    }
    false
}

/// The parser's own text would show the payload.
#[cold]
fn broken(error: &sonic_rs::Error) -> DecodeError {
    let what = match error.classify() {
        Category::Eof => "it ends too early",
        Category::Syntax => "bad syntax",
        _ => "bad value",
    };
    let reason = format!("{what}, line {} column {}", error.line(), error.column());
    DecodeError::BrokenJson { reason }
}

enum Shape {
    Object,
    Other,
}

/// One JSON value that something is wanted of.
struct Value<'a, 'f, 'n, 't> {
    found: &'f mut Found<'a, 'n>,
    tree: &'t Tree,
    node: Option<NodeIndex>,
    entry: Entry<'a>,
}

impl<'a> Value<'a, '_, '_, '_> {
    fn take(&mut self, value: Scalar<'a>) {
        self.found.take(self.node.map(|node| self.tree.node(node)), self.entry, value);
    }
}

impl<'de> DeserializeSeed<'de> for Value<'de, '_, '_, '_> {
    type Value = Shape;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Shape, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'de, '_, '_, '_> {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E: Error>(mut self, value: bool) -> Result<Shape, E> {
        self.take(Scalar::Boolean(value));
        Ok(Shape::Other)
    }

    fn visit_i64<E: Error>(mut self, value: i64) -> Result<Shape, E> {
        self.take(Scalar::Integer(value));
        Ok(Shape::Other)
    }

    fn visit_u64<E: Error>(mut self, value: u64) -> Result<Shape, E> {
        self.take(i64::try_from(value).map_or(Scalar::Unsigned(value), Scalar::Integer));
        Ok(Shape::Other)
    }

    fn visit_f64<E: Error>(mut self, value: f64) -> Result<Shape, E> {
        self.take(Scalar::Float(value));
        Ok(Shape::Other)
    }

    fn visit_unit<E: Error>(mut self) -> Result<Shape, E> {
        self.take(Scalar::Null);
        Ok(Shape::Other)
    }

    fn visit_borrowed_str<E: Error>(mut self, value: &'de str) -> Result<Shape, E> {
        self.take(Scalar::Text(value.into()));
        Ok(Shape::Other)
    }

    fn visit_str<E: Error>(mut self, value: &str) -> Result<Shape, E> {
        // A text with escapes lives in the parser's scratch, which the next one overwrites.
        let copy = self.found.arena.alloc_str(value);
        self.take(Scalar::Text((&*copy).into()));
        Ok(Shape::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut seq: A) -> Result<Shape, A::Error> {
        self.take(Scalar::Other(Scalar::ARRAY));
        while seq.next_element::<Unwanted>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Shape, A::Error> {
        self.take(Scalar::Other(Scalar::OBJECT));
        let Self { found, tree, node, .. } = self;
        let Some(node) = node.map(|node| tree.node(node)) else {
            while map.next_key_seed(Name { arena: found.arena })?.is_some() {
                map.next_value::<Unwanted>()?;
            }
            return Ok(Shape::Object);
        };
        while let Some(name) = map.next_key_seed(Name { arena: found.arena })? {
            let name = Text::from(name);
            let entry = Entry::of(node, name);
            let child = node.child(name);
            if child.is_none() && matches!(entry, Entry::None) {
                map.next_value::<Unwanted>()?;
            } else {
                map.next_value_seed(Value { found: &mut *found, tree, node: child, entry })?;
            }
        }
        Ok(Shape::Object)
    }
}

/// A value that nobody wants. sonic-rs only looks for its end, so another parser looks whether it is sound: a record
/// that is broken anywhere is a dead letter.
struct Unwanted;

impl<'de> Deserialize<'de> for Unwanted {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = LazyValue::deserialize(deserializer)?;
        let sound: Result<IgnoredAny, _> = serde_json::from_str(value.as_raw_str());
        sound.map(|_| Self).map_err(D::Error::custom)
    }
}

/// A name in an object; one with escapes is copied.
struct Name<'a> {
    arena: &'a bumpalo::Bump,
}

impl<'de> DeserializeSeed<'de> for Name<'de> {
    type Value = &'de str;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<&'de str, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de> Visitor<'de> for Name<'de> {
    type Value = &'de str;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E: Error>(self, name: &'de str) -> Result<&'de str, E> {
        Ok(name)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<&'de str, E> {
        Ok(self.arena.alloc_str(name))
    }
}
