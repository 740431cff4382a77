//! Records of one producer differ in their values only. A shape is a record that the parser has read, without its
//! values: the next record is compared with it literal by literal, and its values are read in place. Whatever surprises
//! here is left to the parser, so a shape makes reading faster and decides nothing.

use super::fields::{NodeIndex, SlotIndex, Tree};
use super::found::{Entry, FeatureNames, Found, KnownName, feature_value};
use super::scalar::{Scalar, are_same};
use crate::engine::event::FeatureValue;

/// Producers that leave out what is null send a few shapes in turn.
const SHAPES_MAX: usize = 4;
/// Longer records are the parser's.
const BYTES_MAX: usize = 1 << 16;
/// Records that may fit no shape, one after the other, until no more of them are tried.
const PATIENCE: u32 = 16;
/// From then on only each so many-th is tried.
const RARELY: u32 = 256;
/// Numbers of so many digits fit `u64`, and any more are the parser's where they are whole.
const DIGITS_MAX: usize = 18;
/// Up to here all whole numbers are doubles.
const EXACT_MAX: u64 = 1 << 53;
/// Powers of ten that are doubles, so that one division rounds once.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

/// The shapes of the records before.
#[derive(Debug, Default)]
pub(super) struct Shapes {
    /// The one that fitted last stands first.
    known: Vec<Shape>,
    /// Records in a row that fitted none.
    misses: u32,
}

impl Shapes {
    /// Whether the record was read. If not, `found` is as it was.
    #[inline]
    pub(super) fn read<'a>(
        &mut self,
        text: &'a str,
        tree: &Tree,
        found: &mut Found<'a, '_>,
    ) -> bool {
        if !self.is_tried() {
            return false;
        }
        for (at, shape) in self.known.iter().enumerate() {
            if shape.read(text, tree, found).is_some() {
                self.misses = 0;
                self.known.swap(0, at);
                return true;
            }
            found.restart();
        }
        false
    }

    /// Learns the shape of a record that the parser has read.
    #[cold]
    pub(super) fn learn(&mut self, text: &str, tree: &Tree) {
        if self.is_tried()
            && let Some(shape) = Shape::of(text, tree)
        {
            self.known.truncate(SHAPES_MAX - 1);
            self.known.insert(0, shape);
        }
        self.misses = self.misses.saturating_add(1);
    }

    fn is_tried(&self) -> bool {
        self.misses < PATIENCE || self.misses.is_multiple_of(RARELY)
    }
}

/// A record without its values.
#[derive(Debug)]
struct Shape {
    parts: Vec<Part>,
    /// What stands behind the last part.
    end: Box<str>,
    /// The names of all features, where no two are alike and nothing else can become a feature.
    features: Option<FeatureNames>,
}

#[derive(Debug)]
struct Part {
    /// What stands before it.
    literal: Box<str>,
    goal: Goal,
}

/// What becomes of a part.
#[derive(Debug)]
enum Goal {
    /// A scalar that nobody wants.
    Unwanted,
    /// A scalar for one slot.
    Slot(SlotIndex),
    /// A scalar that is a feature and nothing else.
    Feature(KnownName),
    /// A scalar for all that is wanted of it.
    Scalar(Wanted),
    /// An object or array of which something is wanted. The literal before it ends with its bracket.
    Opened(Wanted, &'static str),
}

/// Everything that may be wanted of a value.
#[derive(Debug)]
struct Wanted {
    /// Its own node of the tree.
    node: Option<NodeIndex>,
    /// That of the object which it is an entry of, where its entries are features or scores.
    entries: Option<NodeIndex>,
    /// Its name there.
    name: KnownName,
}

impl Wanted {
    /// Of what no path leads to: the elements of arrays, and all that is in what nobody wants.
    fn nothing() -> Self {
        Self { node: None, entries: None, name: KnownName::of("") }
    }

    fn of_entry(parent: Option<NodeIndex>, name: &str, tree: &Tree) -> Self {
        let node = parent.and_then(|parent| tree.node(parent).child(name.into()));
        let entries = parent.filter(|&parent| tree.node(parent).is_of_entries());
        Self { node, entries, name: KnownName::of(name) }
    }

    fn goal(self, tree: &Tree) -> Goal {
        let node = self.node.map(|node| tree.node(node));
        let is_feature =
            |entries| matches!(Entry::of(tree.node(entries), "".into()), Entry::Feature(_));
        match (node, self.entries) {
            (None, None) => Goal::Unwanted,
            (None, Some(entries)) if is_feature(entries) => Goal::Feature(self.name),
            (Some(node), None) => node.only_slot().map_or(Goal::Scalar(self), Goal::Slot),
            _ => Goal::Scalar(self),
        }
    }

    /// Whether anything is to be done where it is an object, beside what is to be done with its entries.
    fn is_told_of_object(&self, tree: &Tree) -> bool {
        self.entries.is_some() || self.node.is_some_and(|node| !tree.node(node).slots.is_empty())
    }

    /// Whether a feature may come of it.
    fn may_be_feature(&self, tree: &Tree) -> bool {
        self.entries.is_some_and(|entries| tree.node(entries).features)
    }

    fn take<'a>(&self, value: Scalar<'a>, tree: &Tree, found: &mut Found<'a, '_>) {
        let entry =
            self.entries.map_or(Entry::None, |of| Entry::of_known(tree.node(of), &self.name));
        found.take(self.node.map(|node| tree.node(node)), entry, value);
    }
}

/// An object or array around what is looked at.
struct Around {
    /// `None` where nothing in it is wanted.
    node: Option<NodeIndex>,
    is_array: bool,
    /// Whether a name comes next.
    is_before_name: bool,
}

impl Shape {
    /// The shape of a record that is sound JSON; none where it is not worth one.
    fn of(text: &str, tree: &Tree) -> Option<Self> {
        let bytes = text.as_bytes();
        if bytes.len() > BYTES_MAX {
            return None;
        }
        let mut parts = Vec::new();
        let mut around: Vec<Around> = Vec::new();
        let mut next = Wanted { node: Some(Tree::ROOT), ..Wanted::nothing() };
        let (mut at, mut literal) = (0, 0);
        while let Some(&byte) = bytes.get(at) {
            match byte {
                b'{' | b'[' => {
                    at += 1;
                    let is_array = byte == b'[';
                    let kind = if is_array { Scalar::ARRAY } else { Scalar::OBJECT };
                    let wanted = std::mem::replace(&mut next, Wanted::nothing());
                    let node = wanted.node.filter(|_| !is_array);
                    let is_told = if is_array {
                        wanted.node.is_some() || wanted.entries.is_some()
                    } else {
                        wanted.is_told_of_object(tree)
                    };
                    if is_told {
                        let goal = Goal::Opened(wanted, kind);
                        parts.push(Part { literal: text.get(literal..at)?.into(), goal });
                        literal = at;
                    }
                    around.push(Around { node, is_array, is_before_name: !is_array });
                }
                b'}' | b']' => {
                    at += 1;
                    around.pop();
                }
                b',' => {
                    at += 1;
                    let around = around.last_mut()?;
                    around.is_before_name = !around.is_array;
                }
                b'"' if around.last().is_some_and(|around| around.is_before_name) => {
                    let around = around.last_mut()?;
                    around.is_before_name = false;
                    // A name with escapes is written in more than one way.
                    let end = at + 1 + plain_length(bytes.get(at + 1..)?)?;
                    next = Wanted::of_entry(around.node, text.get(at + 1..end)?, tree);
                    at = end + 1;
                }
                b':' | b' ' | b'\t' | b'\n' | b'\r' => at += 1,
                _ => {
                    let wanted = std::mem::replace(&mut next, Wanted::nothing());
                    let goal = wanted.goal(tree);
                    parts.push(Part { literal: text.get(literal..at)?.into(), goal });
                    at += value_length(bytes.get(at..)?)?;
                    literal = at;
                }
            }
        }
        let features = Self::features(&parts, tree);
        Some(Self { parts, end: text.get(literal..)?.into(), features })
    }

    fn features(parts: &[Part], tree: &Tree) -> Option<FeatureNames> {
        let is_other = |part: &Part| match &part.goal {
            Goal::Scalar(wanted) | Goal::Opened(wanted, _) => wanted.may_be_feature(tree),
            Goal::Unwanted | Goal::Slot(_) | Goal::Feature(_) => false,
        };
        if parts.iter().any(is_other) {
            return None;
        }
        FeatureNames::new(parts.iter().filter_map(|part| match &part.goal {
            Goal::Feature(name) => Some(name.as_str()),
            _ => None,
        }))
    }

    /// Reads a record of this shape.
    fn read<'a>(&self, text: &'a str, tree: &Tree, found: &mut Found<'a, '_>) -> Option<()> {
        if let Some(names) = &self.features {
            found.list_features(names);
        }
        let mut rest = text;
        let mut features = 0;
        for Part { literal, goal } in &self.parts {
            rest = behind(rest, literal)?;
            match goal {
                Goal::Opened(wanted, kind) => wanted.take(Scalar::Other(kind), tree, found),
                Goal::Feature(name) => {
                    let value;
                    (value, rest) = feature(rest)?;
                    if self.features.is_some() {
                        found.set_feature(features, value);
                        features += 1;
                    } else {
                        found.known_feature(name, value);
                    }
                }
                goal => {
                    let value;
                    (value, rest) = scalar(rest)?;
                    match goal {
                        Goal::Slot(slot) => found.fill(*slot, value),
                        Goal::Scalar(wanted) => wanted.take(value, tree, found),
                        Goal::Unwanted | Goal::Opened(..) | Goal::Feature(_) => {}
                    }
                }
            }
        }
        (*rest == *self.end).then_some(())
    }
}

/// What comes behind the literal that comes first.
#[inline]
fn behind<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    let (first, behind) = text.split_at_checked(literal.len())?;
    are_same(first.as_bytes(), literal.as_bytes()).then_some(behind)
}

/// How long a scalar of a sound record is.
fn value_length(bytes: &[u8]) -> Option<usize> {
    if bytes.first() != Some(&b'"') {
        let ends = |byte: &u8| matches!(byte, b',' | b'}' | b']' | b' ' | b'\t' | b'\n' | b'\r');
        return Some(bytes.iter().position(ends).unwrap_or(bytes.len()));
    }
    let mut is_escaped = false;
    let end = bytes.iter().skip(1).position(|&byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })?;
    Some(end + 2)
}

/// The scalar that comes first, and what comes behind it; none where it is no plain one.
#[inline]
fn scalar(text: &str) -> Option<(Scalar<'_>, &str)> {
    let word = |word, value| text.strip_prefix(word).map(|behind| (value, behind));
    match text.as_bytes().first()? {
        b'"' => plain(text).map(|(text, behind)| (Scalar::Text(text.into()), behind)),
        b'-' | b'0'..=b'9' => number(text),
        b'n' => word("null", Scalar::Null),
        b't' => word("true", Scalar::Boolean(true)),
        b'f' => word("false", Scalar::Boolean(false)),
        _ => None,
    }
}

/// The same of a feature.
#[inline]
fn feature(text: &str) -> Option<(FeatureValue<'_>, &str)> {
    if text.starts_with('"') {
        return plain(text).map(|(text, behind)| (FeatureValue::Text(text), behind));
    }
    let (value, behind) = scalar(text)?;
    Some((feature_value(value)?, behind))
}

/// The text without escapes that comes first.
#[inline]
fn plain(text: &str) -> Option<(&str, &str)> {
    let text = text.strip_prefix('"')?;
    let (text, behind) = text.split_at_checked(plain_length(text.as_bytes())?)?;
    Some((text, behind.strip_prefix('"')?))
}

/// Bytes until the closing quote of a text; none if an escape or what JSON does not allow comes first.
#[inline]
fn plain_length(bytes: &[u8]) -> Option<usize> {
    const LOW: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    // The lowest byte whose high bit is set tells the first that is special; those above it may be wrong.
    let below = |word: u64, limit: u64| word.wrapping_sub(LOW * limit) & !word & HIGH;
    let is_byte = |word: u64, byte: u8| below(word ^ (LOW * u64::from(byte)), 1);
    let (chunks, rest) = bytes.as_chunks::<8>();
    let mut length = 0;
    for chunk in chunks {
        let word = u64::from_le_bytes(*chunk);
        let special = is_byte(word, b'"') | is_byte(word, b'\\') | below(word, 0x20);
        if special != 0 {
            length += usize::try_from(special.trailing_zeros() / 8).ok()?;
            return (bytes.get(length) == Some(&b'"')).then_some(length);
        }
        length += chunk.len();
    }
    let at = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
    (rest.get(at) == Some(&b'"')).then_some(length + at)
}

/// The number that comes first, and what comes behind it; none where it is not sound, or where readers may differ.
#[inline]
fn number(text: &str) -> Option<(Scalar<'_>, &str)> {
    let bytes = text.as_bytes();
    let (is_negative, unsigned) = match bytes {
        [b'-', unsigned @ ..] => (true, unsigned),
        _ => (false, bytes),
    };
    if let Some((x, length)) = short_decimal(unsigned) {
        let (_, behind) = text.split_at_checked(bytes.len() - unsigned.len() + length)?;
        return Some((Scalar::Float(if is_negative { -x } else { x }), behind));
    }
    let (whole, behind) = digits(unsigned, 0);
    let count = unsigned.len() - behind.len();
    if count == 0 || (count > 1 && unsigned.first() == Some(&b'0')) {
        return None;
    }
    match behind {
        [b'.', fraction @ ..] => {
            let (mantissa, behind) = digits(fraction, whole);
            let places = fraction.len() - behind.len();
            let is_short = count + places <= DIGITS_MAX && mantissa <= EXACT_MAX;
            if places == 0 || !is_short || matches!(behind, [b'e' | b'E', ..]) {
                return long_number(text);
            }
            let x = exact(mantissa) / POWERS.get(places)?;
            let (_, behind) = text.split_at_checked(bytes.len() - behind.len())?;
            Some((Scalar::Float(if is_negative { -x } else { x }), behind))
        }
        [b'e' | b'E', ..] => long_number(text),
        _ if count > DIGITS_MAX || (is_negative && whole == 0) => None,
        _ => {
            let x = i64::try_from(whole).ok()?;
            let (_, behind) = text.split_at_checked(bytes.len() - behind.len())?;
            Some((Scalar::Integer(if is_negative { -x } else { x }), behind))
        }
    }
}

/// A number like 12.75 of at most 7 characters, whose digits are put together all at once, and its length; none where
/// it is another.
#[inline]
fn short_decimal(bytes: &[u8]) -> Option<(f64, usize)> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    let values = u64::from_le_bytes(*bytes.first_chunk::<8>()?) ^ (ONES * u64::from(b'0'));
    // The high bit of each byte that is no digit: neither is its value below 10 nor its own high bit unset.
    let others = (((values & (ONES * 0x7f)) + ONES * (0x80 - 10)) | values) & (ONES * 0x80);
    let point = others.trailing_zeros() / 8;
    let end = (others & others.wrapping_sub(1)).trailing_zeros() / 8;
    let [at_point, at_end] = [point, end].map(|at| bytes.get(usize::try_from(at).unwrap_or(8)));
    let is_sound = at_point == Some(&b'.') && (point == 1 || bytes.first() != Some(&b'0'));
    if point == 0 || end > 7 || end < point + 2 || !is_sound || matches!(at_end, Some(b'e' | b'E'))
    {
        return None;
    }
    let whole = (1 << (8 * point)) - 1;
    // Without the point, and with the last digit in the last byte.
    let digits = ((values & whole) | (values >> 8 & !whole)) << (8 * (9 - end));
    let pairs = (digits * 10 + (digits >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs * 100 + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let mantissa = (fours * 10_000 + (fours >> 32)) & 0xffff_ffff;
    let places = usize::try_from(end - point - 1).ok()?;
    Some((exact(mantissa) / POWERS.get(places)?, usize::try_from(end).ok()?))
}

/// The same of a number with an exponent or with many digits, which has a sound whole part.
fn long_number(text: &str) -> Option<(Scalar<'_>, &str)> {
    let some_digits = |bytes| Some(digits(bytes, 0).1).filter(|behind| behind.len() < bytes.len());
    let unsigned = text.strip_prefix('-').unwrap_or(text).as_bytes();
    let mut behind = some_digits(unsigned)?;
    if let [b'.', fraction @ ..] = behind {
        behind = some_digits(fraction)?;
    }
    if let [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] = behind {
        behind = some_digits(exponent)?;
    }
    let (number, behind) = text.split_at_checked(text.len() - behind.len())?;
    let x: f64 = number.parse().ok()?;
    // What is too large or too small for a double is the parser's.
    x.is_normal().then_some((Scalar::Float(x), behind))
}

/// The digits that come first, behind those of `mantissa`, which wraps if they are too many; and what comes behind them.
#[inline]
fn digits(mut bytes: &[u8], mut mantissa: u64) -> (u64, &[u8]) {
    while let [byte, behind @ ..] = bytes {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            break;
        }
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        bytes = behind;
    }
    (mantissa, bytes)
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "at most 2^53: exact")]
fn exact(whole: u64) -> f64 {
    whole as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::fields::FieldPaths;
    use crate::decode::found::Scratch;
    use crate::engine::event::Stream;
    use crate::engine::names::Names;
    use bumpalo::Bump;

    /// Whether the second record is read by the shape of the first.
    fn is_read(first: &str, second: &str) -> bool {
        let tree = Tree::new(&FieldPaths::new(Stream::Inferences), &["region".to_owned()]);
        let (arena, mut names, mut scratch) = (Bump::new(), Names::default(), Scratch::default());
        let mut slots = vec![Scalar::Absent; tree.slot_count()];
        let mut found = Found::new(&arena, &mut names, &mut scratch, &mut slots);
        let mut shapes = Shapes::default();
        shapes.learn(first, &tree);
        shapes.read(second, &tree, &mut found)
    }

    #[test]
    fn a_record_like_the_one_before_needs_no_parser() {
        let spaced = r#"{"request_id": "a", "features": {"x": 1, "y": "t"}, "tags": [1, {}], "score": 0.5} "#;
        let other = r#"{"request_id": 7, "features": {"x": null, "y": -2.5e-7}, "tags": ["u", {}], "score": true} "#;
        let compact = r#"{"request_id":"a","features":{},"more":{"deep":["\"",2]}}"#;
        let later = r#"{"request_id":"München","features":{},"more":{"deep":[12.25,false]}}"#;
        for (first, second) in [(spaced, other), (other, spaced), (compact, later)] {
            assert!(is_read(first, second), "{second}");
        }
    }

    #[test]
    fn what_surprises_is_the_parsers() {
        let first = r#"{"request_id":"a","features":{"x":1},"z":[1]}"#;
        assert!(is_read(first, first));
        for second in [
            r#"{"features":{"x":1},"request_id":"a","z":[1]}"#,
            r#"{"request_id":"a","features":{"x":1},"z":[1],"y":1}"#,
            r#"{"request_id":"a","features":{"x":1},"z":[1,2]}"#,
            r#"{"request_id":"a","features":{"w":1},"z":[1]}"#,
            r#"{"request_id":"a","features":{"x":[]},"z":[1]}"#,
            r#"{"request_id":"a","features":{"x":1},"z":[1]} "#,
            r#"{"request_id":"a","features":{"x":1},"z":[1]"#,
            r#"{"request_id":"a\n","features":{"x":1},"z":[1]}"#,
            "{\"request_id\":\"a\n\",\"features\":{\"x\":1},\"z\":[1]}",
            r#"{"request_id":"a,"features":{"x":1},"z":[1]}"#,
            r#"{"request_id":a,"features":{"x":1},"z":[1]}"#,
            r#"{"request_id":nul,"features":{"x":1},"z":[1]}"#,
            "",
        ] {
            assert!(!is_read(first, second), "{second}");
        }
    }

    #[test]
    fn several_shapes_are_kept_and_hopeless_records_are_not_tried_for_ever() {
        let tree = Tree::new(&FieldPaths::new(Stream::Labels), &[]);
        let (arena, mut names, mut scratch) = (Bump::new(), Names::default(), Scratch::default());
        let mut slots = vec![Scalar::Absent; tree.slot_count()];
        let mut found = Found::new(&arena, &mut names, &mut scratch, &mut slots);
        let mut shapes = Shapes::default();
        let with = |n: usize| format!(r#"{{"request_id":"a","more{n}":1}}"#);
        let kept: Vec<_> = (0..SHAPES_MAX).map(with).collect();
        for text in &kept {
            shapes.learn(text, &tree);
        }
        let kept: Vec<_> = kept.iter().map(|text| &*arena.alloc_str(text)).collect();
        for text in kept.iter().chain(&kept) {
            assert!(shapes.read(text, &tree, &mut found), "{text}");
        }
        let mut tried = 0;
        for n in 0..1000 {
            let text = arena.alloc_str(&with(SHAPES_MAX + n));
            assert!(!shapes.read(text, &tree, &mut found));
            tried += usize::from(shapes.is_tried());
            shapes.learn(text, &tree);
        }
        assert_eq!(tried, 16 + 3, "then each 256th");
    }

    /// Against the parser of the standard library, which rounds correctly.
    #[test]
    fn numbers_are_the_nearest_doubles() {
        let mut texts: Vec<String> = [
            "0.0",
            "-0.0",
            "1.0",
            "0.1",
            "-12.75",
            "1e5",
            "1E-7",
            "2.5e+10",
            "123456789012345678.5",
            "9007199254740993.0",
            "9007199254740992.0",
            "0.30000000000000004",
            "1.2e3",
            "0.05",
            "-0.00",
            "9.99999",
            "99999.9",
            "123.456",
            "1.7976931348623157e308",
            "2.2250738585072014e-308",
            "0.000000000000000000001",
            "12345678901234567890.5",
        ]
        .map(str::to_owned)
        .to_vec();
        let mut x = 1_u64;
        for _ in 0..20_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let number = f64::from_bits(x);
            if number.is_normal() {
                texts.push(format!("{number:e}"));
            }
            let (whole, places) = (x >> 20, usize::try_from(x % 19).unwrap());
            texts.push(format!("{}.{whole:0places$}", x % 1000));
        }
        for text in texts {
            let (value, behind) = number(&text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(behind, "", "{text}");
            let more = format!("{text},\"more\":1");
            assert_eq!(number(&more), Some((value, &more[text.len()..])), "{text}");
            let Scalar::Float(value) = value else { panic!("{text}: {value:?}") };
            let expected: f64 = text.parse().unwrap();
            assert_eq!(value.to_bits(), expected.to_bits(), "{text}");
        }
        for (text, expected) in
            [("0", 0), ("-1", -1), ("123456789012345678", 123_456_789_012_345_678)]
        {
            assert_eq!(number(text), Some((Scalar::Integer(expected), "")));
        }
        for text in [
            "-0",
            "01",
            "-",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-01.5",
            "1e999",
            "1e-400",
            "1234567890123456789",
        ] {
            assert_eq!(number(text), None, "{text}");
            assert_eq!(number(&format!("{text},       ")), None, "{text}");
        }
    }
}
