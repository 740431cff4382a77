//! Avro → what is wanted of it: a plan of the writer's schema walks the bytes once.

use super::checks::{DEPTH_MAX, DecodeError};
use super::fields::{Node, NodeIndex, SlotIndex, Tree};
use super::found::{Entry, FeatureNames, Found, feature_number};
use super::plan::{Leaf, LeafKind, Plan, RecordField, Shape, Step, StepIndex, Wanted, Way};
use super::scalar::{Scalar, Text, Unit};
use crate::engine::event::FeatureValue;
use bumpalo::Bump;

/// Powers of ten beyond this are not exact doubles.
const EXACT_SCALE_MAX: usize = 22;
const UUID_BYTES: usize = 16;

/// Reads one datum, which must be all of `payload` from `start` on.
pub(super) fn read<'a>(
    payload: &'a [u8],
    start: usize,
    plan: &'a Plan,
    tree: &Tree,
    found: &mut Found<'a, '_>,
) -> Result<(), DecodeError> {
    let bytes = payload.get(start..).unwrap_or(&[]);
    let cursor = Cursor { bytes, items_left: bytes.len() };
    let mut reader = Reader { cursor, plan, tree, found };
    let root = reader.resolved(plan.root);
    let result = root.and_then(|root| reader.read_for_all(root, Entry::None, 0));
    let left = reader.cursor.bytes.len();
    match result {
        Ok(()) if left == 0 => Ok(()),
        Ok(()) => Err(DecodeError::TrailingBytes { count: left }),
        Err(fault) => Err(fault.error(payload.len() - left)),
    }
}

/// Why the bytes are no datum of the schema. As small as can be, because every step returns it.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Ends,
    LongNumber,
    LongInt,
    NegativeLength,
    NoUtf8,
    NoBoolean,
    OutOfRange,
    TooManyItems,
    TooDeep,
}

impl Fault {
    #[cold]
    fn error(self, at: usize) -> DecodeError {
        let reason = match self {
            Self::Ends => "it ends too early",
            Self::LongNumber => "a number has more than 64 bits",
            Self::LongInt => "an int has more than 32 bits",
            Self::NegativeLength => "a length is negative",
            Self::NoUtf8 => "a text is no UTF-8",
            Self::NoBoolean => "a boolean is neither 0 nor 1",
            Self::OutOfRange => "the index of an enum or a union is out of range",
            Self::TooManyItems => "it announces more items than it has bytes",
            Self::TooDeep => return DecodeError::NestedTooDeep,
        };
        DecodeError::BrokenAvro { reason, at }
    }
}

struct Cursor<'a> {
    bytes: &'a [u8],
    /// How many more items arrays and maps may announce: items without bytes would make a short payload endless.
    items_left: usize,
}

impl<'a> Cursor<'a> {
    #[inline]
    fn take(&mut self, count: usize) -> Result<&'a [u8], Fault> {
        let (head, rest) = self.bytes.split_at_checked(count).ok_or(Fault::Ends)?;
        self.bytes = rest;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Fault> {
        let (head, rest) = self.bytes.split_first_chunk::<N>().ok_or(Fault::Ends)?;
        self.bytes = rest;
        Ok(*head)
    }

    #[inline]
    fn long(&mut self) -> Result<i64, Fault> {
        let (&first, rest) = self.bytes.split_first().ok_or(Fault::Ends)?;
        if first < 0x80 {
            self.bytes = rest;
            return Ok(unzigzag(u64::from(first)));
        }
        self.long_of_bytes()
    }

    /// The same of several bytes. Most are in the next eight, which are looked at together.
    #[inline(never)]
    fn long_of_bytes(&mut self) -> Result<i64, Fault> {
        const HIGH: u64 = 0x8080_8080_8080_8080;
        if let Some((next, _)) = self.bytes.split_first_chunk::<8>() {
            let word = u64::from_le_bytes(*next);
            let ends = !word & HIGH;
            if ends != 0 {
                let bits = ends.trailing_zeros() + 1;
                let word = word & (u64::MAX >> (64 - bits)) & !HIGH;
                // Each step closes the gaps between two neighbours.
                let word = (word & 0x007f_007f_007f_007f) | (word & 0x7f00_7f00_7f00_7f00) >> 1;
                let word = (word & 0x0000_3fff_0000_3fff) | (word & 0x3fff_0000_3fff_0000) >> 2;
                let word = (word & 0x0fff_ffff) | (word & 0x0fff_ffff_0000_0000) >> 4;
                self.bytes =
                    self.bytes.get(usize::try_from(bits / 8).unwrap_or(8)..).unwrap_or(&[]);
                return Ok(unzigzag(word));
            }
        }
        self.long_byte_by_byte()
    }

    #[inline(never)]
    fn long_byte_by_byte(&mut self) -> Result<i64, Fault> {
        let mut value: u64 = 0;
        for (i, &byte) in self.bytes.iter().take(10).enumerate() {
            // The tenth byte has room for one bit.
            if i == 9 && byte > 1 {
                break;
            }
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.bytes = self.bytes.get(i + 1..).unwrap_or(&[]);
                return Ok(unzigzag(value));
            }
        }
        Err(if self.bytes.len() < 10 { Fault::Ends } else { Fault::LongNumber })
    }

    #[inline]
    fn length(&mut self) -> Result<usize, Fault> {
        match self.count() {
            Some(length) => Ok(length),
            None => usize::try_from(self.long()?).map_err(|_| Fault::NegativeLength),
        }
    }

    /// A number that has one byte and is not negative, as most lengths and counts are. None, with nothing read, if the
    /// next is another.
    #[inline]
    fn count(&mut self) -> Option<usize> {
        let (&first, rest) = self.bytes.split_first()?;
        (first & 0x81 == 0).then(|| {
            self.bytes = rest;
            usize::from(first >> 1)
        })
    }

    #[inline]
    fn sized(&mut self) -> Result<&'a [u8], Fault> {
        let length = self.length()?;
        self.take(length)
    }

    #[inline]
    fn text(&mut self) -> Result<Text<'a>, Fault> {
        Text::new(self.sized()?).ok_or(Fault::NoUtf8)
    }

    #[inline]
    fn double(&mut self) -> Result<f64, Fault> {
        Ok(f64::from_le_bytes(self.array()?))
    }

    #[inline]
    fn float(&mut self) -> Result<f64, Fault> {
        Ok(f64::from(f32::from_le_bytes(self.array()?)))
    }

    #[inline]
    fn boolean(&mut self) -> Result<bool, Fault> {
        match self.array()? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Fault::NoBoolean),
        }
    }

    #[inline]
    fn int(&mut self) -> Result<i64, Fault> {
        let value = self.long()?;
        match i32::try_from(value) {
            Ok(_) => Ok(value),
            Err(_) => Err(Fault::LongInt),
        }
    }

    #[inline]
    fn index<T>(&mut self, of: &'a [T]) -> Result<&'a T, Fault> {
        let index = self.long()?;
        let item = usize::try_from(index).ok().and_then(|i| of.get(i));
        item.ok_or(Fault::OutOfRange)
    }

    /// Reads which variant a union with null holds; a field that is none of those reads nothing. None, with nothing
    /// read, where the bytes are not the usual ones.
    #[inline]
    fn null(&mut self, null_or_value: Option<[u8; 2]>) -> Option<bool> {
        let Some([null, value]) = null_or_value else { return Some(false) };
        let (&first, rest) = self.bytes.split_first()?;
        let is_null = first == null;
        (is_null || first == value).then(|| {
            self.bytes = rest;
            is_null
        })
    }

    /// The item count of the next block of an array or a map, and its size in bytes where it is given.
    #[inline]
    fn block(&mut self) -> Result<(usize, Option<usize>), Fault> {
        let (count, size) = match self.count() {
            Some(count) => (count, None),
            None => self.large_block()?,
        };
        let left = self.items_left.checked_sub(count);
        self.items_left = left.ok_or(Fault::TooManyItems)?;
        Ok((count, size))
    }

    fn large_block(&mut self) -> Result<(usize, Option<usize>), Fault> {
        let count = self.long()?;
        let size = if count < 0 { Some(self.length()?) } else { None };
        Ok((usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX), size))
    }
}

#[inline]
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_wrap,
    reason = "this is the encoding's definition"
)]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

struct Reader<'a, 'r, 'n> {
    cursor: Cursor<'a>,
    plan: &'a Plan,
    tree: &'r Tree,
    found: &'r mut Found<'a, 'n>,
}

impl<'a, 'r> Reader<'a, 'r, '_> {
    /// Reads one value and gives it to whoever wants it.
    #[inline]
    fn read(&mut self, step: StepIndex, entry: Entry<'_>, depth: usize) -> Result<(), Fault> {
        let step = self.resolved(step)?;
        match (&step.wanted, entry) {
            (Wanted::Nowhere, Entry::None) => self.skip(step, depth),
            (Wanted::Slot(slot, _), Entry::None) => {
                let value = scalar_value(&step.shape, &mut self.cursor, self.found.arena)?;
                self.found.fill(*slot, value);
                Ok(())
            }
            _ => self.read_for_all(step, entry, depth),
        }
    }

    /// The step of the value that comes. What is wanted of a union is wanted of each of its variants.
    #[inline]
    fn resolved(&mut self, step: StepIndex) -> Result<&'a Step, Fault> {
        let mut step = self.plan.step(step);
        while let Shape::Union(variants) = &step.shape {
            step = self.plan.step(*self.cursor.index(variants)?);
        }
        Ok(step)
    }

    /// Reads a value that several things may be wanted of.
    fn read_for_all(
        &mut self,
        step: &'a Step,
        entry: Entry<'_>,
        depth: usize,
    ) -> Result<(), Fault> {
        let wanted = step.wanted.node();
        match &step.shape {
            Shape::Record { fields, features } => {
                self.open(wanted, entry);
                match features {
                    Some(names) if self.found.features.is_empty() => {
                        self.features(fields, names, depth + 1)
                    }
                    _ => self.record(fields, wanted, depth + 1),
                }
            }
            Shape::Map { known, other } => self.map(known, *other, wanted, entry, depth + 1),
            Shape::Array(_) => {
                self.take(wanted, entry, Scalar::Other(Scalar::ARRAY));
                self.skip(step, depth)
            }
            scalar => {
                let value = scalar_value(scalar, &mut self.cursor, self.found.arena)?;
                self.take(wanted, entry, value);
                Ok(())
            }
        }
    }

    #[inline]
    fn take(&mut self, wanted: Option<NodeIndex>, entry: Entry<'_>, value: Scalar<'a>) {
        self.found.take(wanted.map(|node| self.tree.node(node)), entry, value);
    }

    /// Tells that a record or map begins.
    #[inline]
    fn open(&mut self, wanted: Option<NodeIndex>, entry: Entry<'_>) {
        let node = wanted.map(|node| self.tree.node(node));
        // Where only its entries are wanted, there is nothing to tell.
        if !matches!(entry, Entry::None) || node.is_some_and(|node| !node.slots.is_empty()) {
            self.found.take(node, entry, Scalar::Other(Scalar::OBJECT));
        }
    }

    /// The node of a record or map, if its entries are features or scores.
    #[inline]
    fn of_entries(&self, wanted: Option<NodeIndex>) -> Option<&'r Node> {
        let tree = self.tree;
        wanted.map(|node| tree.node(node)).filter(|node| node.is_of_entries())
    }

    fn record(
        &mut self,
        fields: &'a [RecordField],
        wanted: Option<NodeIndex>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        let of_entries = self.of_entries(wanted);
        for field in fields {
            let is_read = match &field.way {
                Way::Slot(leaf, slot) => self.fill(leaf, *slot)?,
                Way::Feature(leaf) => {
                    self.feature(leaf, |found, value| found.known_feature(&field.name, value))?
                }
                Way::Step => false,
            };
            match of_entries {
                _ if is_read => {}
                Some(node) => self.entry(Entry::of_known(node, &field.name), field.step, depth)?,
                None => self.read(field.step, Entry::None, depth)?,
            }
        }
        Ok(())
    }

    /// Reads a record of which every field is a feature, and no feature came before it: all are listed at once, and get
    /// their values afterwards.
    fn features(
        &mut self,
        fields: &'a [RecordField],
        names: &'a FeatureNames,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.found.list_features(names);
        let mut at = 0;
        while let Some(field) = fields.get(at) {
            if field.doubles > 1 && self.doubles(at, field.doubles) {
                at += field.doubles;
                continue;
            }
            let is_read = match &field.way {
                Way::Feature(leaf) => {
                    self.feature(leaf, |found, value| found.set_feature(at, value))?
                }
                Way::Slot(..) | Way::Step => false,
            };
            if !is_read {
                self.entry(Entry::KnownFeature(&field.name), field.step, depth)?;
            }
            at += 1;
        }
        Ok(())
    }

    /// Reads so many double features with one look at whether their bytes are there. False, with nothing read, where
    /// bytes are missing: one by one it shows at which of them.
    #[inline]
    fn doubles(&mut self, at: usize, count: usize) -> bool {
        let bytes = self.cursor.bytes.split_at_checked(count * size_of::<f64>());
        let Some((bytes, left)) = bytes else { return false };
        self.cursor.bytes = left;
        let (numbers, _) = bytes.as_chunks();
        self.found.set_features(at, numbers.iter().map(|number| f64::from_le_bytes(*number)));
        true
    }

    /// Reads a leaf into its slot. False, with nothing read, where the bytes are not the usual ones.
    #[inline]
    fn fill(&mut self, leaf: &Leaf, slot: SlotIndex) -> Result<bool, Fault> {
        let Self { cursor, plan, found, .. } = self;
        let Some(is_null) = cursor.null(leaf.null_or_value) else { return Ok(false) };
        let value = match leaf.kind {
            _ if is_null => Scalar::Null,
            LeafKind::Text => Scalar::Text(cursor.text()?),
            LeafKind::Double => Scalar::Float(cursor.double()?),
            LeafKind::Float => Scalar::Float(cursor.float()?),
            LeafKind::Boolean => Scalar::Boolean(cursor.boolean()?),
            LeafKind::Int => Scalar::Integer(cursor.int()?),
            LeafKind::Long => Scalar::Integer(cursor.long()?),
            LeafKind::Millis => Scalar::Instant(cursor.long()?, Unit::Millis),
            LeafKind::Other => {
                // Filled in here, so that the others need no room for all that a scalar may be.
                let value = scalar_value(&plan.step(leaf.step).shape, cursor, found.arena)?;
                found.fill(slot, value);
                return Ok(true);
            }
        };
        found.fill(slot, value);
        Ok(true)
    }

    /// Reads a leaf that is a feature. False, with nothing read, also where its kind is not a usual one.
    #[inline]
    fn feature(
        &mut self,
        leaf: &'a Leaf,
        take: impl FnOnce(&mut Found<'a, '_>, FeatureValue<'a>),
    ) -> Result<bool, Fault> {
        if leaf.kind == LeafKind::Other {
            return Ok(false);
        }
        let Self { cursor, found, .. } = self;
        let Some(is_null) = cursor.null(leaf.null_or_value) else { return Ok(false) };
        let value = match leaf.kind {
            _ if is_null => FeatureValue::Missing,
            LeafKind::Double => feature_number(cursor.double()?),
            LeafKind::Float => feature_number(cursor.float()?),
            LeafKind::Text => {
                FeatureValue::Text(leaf.texts.find(cursor.sized()?).ok_or(Fault::NoUtf8)?)
            }
            LeafKind::Boolean => FeatureValue::Boolean(cursor.boolean()?),
            LeafKind::Int => whole_number(cursor.int()?),
            LeafKind::Long | LeafKind::Millis => whole_number(cursor.long()?),
            LeafKind::Other => return Ok(false),
        };
        take(found, value);
        Ok(true)
    }

    /// Reads an entry of features or scores.
    #[inline]
    fn entry(&mut self, entry: Entry<'_>, step: StepIndex, depth: usize) -> Result<(), Fault> {
        let step = self.resolved(step)?;
        // Most values of most maps are numbers that are wanted as features only.
        if let (Wanted::Nowhere, Shape::Double, Entry::Feature(name)) =
            (&step.wanted, &step.shape, entry)
        {
            let value = self.cursor.double()?;
            self.found.feature(name, Scalar::Float(value));
            return Ok(());
        }
        self.read_for_all(step, entry, depth)
    }

    fn map(
        &mut self,
        known: &'a [(Box<str>, StepIndex)],
        other: StepIndex,
        wanted: Option<NodeIndex>,
        entry: Entry<'_>,
        depth: usize,
    ) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        self.open(wanted, entry);
        let of_entries = self.of_entries(wanted);
        loop {
            let (count, _) = self.cursor.block()?;
            if count == 0 {
                return Ok(());
            }
            if of_entries.is_some_and(|node| node.features) {
                self.found.expect_features(count);
            }
            for _ in 0..count {
                let name = self.cursor.text()?;
                let step = known.iter().find(|(known, _)| known.as_bytes() == name.as_bytes());
                let step = step.map_or(other, |(_, step)| *step);
                match (of_entries, self.plan.step(step)) {
                    (Some(node), _) => self.entry(Entry::of(node, name), step, depth)?,
                    // Most maps of segments are of texts.
                    (None, Step { shape: Shape::Text, wanted: Wanted::Slot(slot, _), .. }) => {
                        let text = self.cursor.text()?;
                        self.found.fill(*slot, Scalar::Text(text));
                    }
                    (None, _) => self.read(step, Entry::None, depth)?,
                }
            }
        }
    }

    fn skip(&mut self, step: &'a Step, depth: usize) -> Result<(), Fault> {
        if depth > DEPTH_MAX {
            return Err(Fault::TooDeep);
        }
        if step.is_empty {
            return Ok(());
        }
        match &step.shape {
            Shape::Record { fields, .. } => {
                for field in fields {
                    self.skip(self.plan.step(field.step), depth + 1)?;
                }
                Ok(())
            }
            Shape::Array(items) => self.skip_blocks(*items, false, depth + 1),
            Shape::Map { other, .. } => self.skip_blocks(*other, true, depth + 1),
            Shape::Union(variants) => {
                let variant = *self.cursor.index(variants)?;
                self.skip(self.plan.step(variant), depth + 1)
            }
            // The text of a skipped value is nobody's business, so it is not even looked at.
            Shape::Text => self.cursor.sized().map(drop),
            scalar => scalar_value(scalar, &mut self.cursor, self.found.arena).map(drop),
        }
    }

    fn skip_blocks(&mut self, items: StepIndex, named: bool, depth: usize) -> Result<(), Fault> {
        let items = self.plan.step(items);
        loop {
            let (count, size) = self.cursor.block()?;
            if count == 0 {
                return Ok(());
            }
            if let Some(size) = size {
                self.cursor.take(size)?;
            } else if named || !items.is_empty {
                for _ in 0..count {
                    if named {
                        self.cursor.sized()?;
                    }
                    self.skip(items, depth)?;
                }
            }
        }
    }
}

#[inline]
fn scalar_value<'a>(
    shape: &'a Shape,
    cursor: &mut Cursor<'a>,
    arena: &'a Bump,
) -> Result<Scalar<'a>, Fault> {
    Ok(match shape {
        Shape::Null => Scalar::Null,
        Shape::Boolean => Scalar::Boolean(cursor.boolean()?),
        Shape::Int => Scalar::Integer(cursor.int()?),
        Shape::Long => Scalar::Integer(cursor.long()?),
        Shape::Instant32(unit) => Scalar::Instant(cursor.int()?, *unit),
        Shape::Instant64(unit) => Scalar::Instant(cursor.long()?, *unit),
        Shape::Float => Scalar::Float(cursor.float()?),
        Shape::Double => Scalar::Float(cursor.double()?),
        Shape::Text => Scalar::Text(cursor.text()?),
        Shape::Enum(symbols) => Scalar::Text(Text::from(&**cursor.index(symbols)?)),
        Shape::Bytes => {
            cursor.sized()?;
            Scalar::Other("bytes")
        }
        Shape::Fixed(size) => {
            cursor.take(*size)?;
            Scalar::Other("bytes of fixed size")
        }
        Shape::Uuid => uuid(cursor.take(UUID_BYTES)?, arena),
        Shape::UuidBytes => uuid(cursor.sized()?, arena),
        Shape::Decimal { size, scale } => {
            let bytes = match size {
                Some(size) => cursor.take(*size)?,
                None => cursor.sized()?,
            };
            decimal(bytes, *scale)
        }
        Shape::Record { .. } | Shape::Array(_) | Shape::Map { .. } | Shape::Union(_) => {
            Scalar::Other(Scalar::OBJECT)
        }
    })
}

/// A whole number as a feature: the nearest double.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the nearest double is meant"
)]
fn whole_number<'a>(number: i64) -> FeatureValue<'a> {
    FeatureValue::Number(number as f64)
}

/// The usual text of a UUID, as JSON has it.
fn uuid<'a>(bytes: &[u8], arena: &'a Bump) -> Scalar<'a> {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    if bytes.len() != UUID_BYTES {
        return Scalar::Other("a UUID of another size than 16 bytes");
    }
    let mut text = bumpalo::collections::String::with_capacity_in(36, arena);
    for (i, byte) in bytes.iter().enumerate() {
        if matches!(i, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        for half in [byte >> 4, byte & 15] {
            text.push(DIGITS.get(usize::from(half)).copied().map_or('0', char::from));
        }
    }
    Scalar::Text(Text::from(text.into_bump_str()))
}

/// The double of a decimal; exact to the last bit while the digits are below 2^53.
#[expect(
    clippy::as_conversions,
    clippy::cast_precision_loss,
    reason = "the nearest double is meant"
)]
fn decimal(bytes: &[u8], scale: usize) -> Scalar<'static> {
    if bytes.is_empty() || bytes.len() > size_of::<i128>() || scale > EXACT_SCALE_MAX {
        return Scalar::Other("a decimal of more than 16 bytes or 22 places");
    }
    let negative = bytes.first().is_some_and(|first| first & 0x80 != 0);
    let start: i128 = if negative { -1 } else { 0 };
    let unscaled = bytes.iter().fold(start, |value, &byte| value << 8 | i128::from(byte));
    let power = (0..scale).fold(1.0, |power, _| power * 10.0);
    Scalar::Float(unscaled as f64 / power)
}
