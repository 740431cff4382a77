//! What a record gave, before the checks: the same from JSON and from Avro.

use super::checks::{self, DecodeError, NAME_BYTES_MAX, NUMBER_MAX, VALUES_MAX};
use super::fields::{Field, Node, SlotIndex};
use super::scalar::{Scalar, Text};
use crate::engine::event::{Feature, FeatureValue};
use crate::engine::names::{ClassId, FeatureId, NameId, Names};
use bumpalo::Bump;
use bumpalo::collections::{String as BumpString, Vec as BumpVec};
use std::cell::OnceCell;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What a value is an entry of.
#[derive(Clone, Copy, Debug)]
pub(super) enum Entry<'e> {
    None,
    Feature(Text<'e>),
    /// The same of a name that the plan holds.
    KnownFeature(&'e KnownName),
    Score(Text<'e>),
    /// Of a map that gives both.
    Both(Text<'e>),
}

impl<'e> Entry<'e> {
    /// What an entry of that name is in the map at `node`.
    #[inline]
    pub(super) fn of(node: &Node, name: Text<'e>) -> Self {
        match (node.features, node.scores) {
            (false, false) => Self::None,
            (true, false) => Self::Feature(name),
            (false, true) => Self::Score(name),
            (true, true) => Self::Both(name),
        }
    }

    /// The same of a name that a plan or a shape holds.
    #[inline]
    pub(super) fn of_known(node: &Node, name: &'e KnownName) -> Self {
        match Self::of(node, name.text()) {
            Self::Feature(_) => Self::KnownFeature(name),
            other => other,
        }
    }
}

/// Interns names by looking first at the name that stood at the same place of the record before: records of one
/// producer name the same things in the same order, and a comparison is cheaper than a hash.
#[derive(Debug, Default)]
pub(super) struct Interner {
    last: Vec<NameId>,
    next: usize,
}

impl Interner {
    /// Records with more names than this are not predicted to their end.
    const PREDICTED_MAX: usize = 1024;

    pub(super) fn begin(&mut self) {
        self.next = 0;
    }

    #[inline]
    pub(super) fn intern(&mut self, names: &mut Names, text: Text<'_>) -> NameId {
        let at = self.next;
        self.next += 1;
        let Some(predicted) = self.last.get_mut(at) else {
            let id = intern(names, text);
            if at < Self::PREDICTED_MAX {
                self.last.push(id);
            }
            return id;
        };
        if names.get(*predicted).is_none_or(|known| known.as_bytes() != text.as_bytes()) {
            *predicted = intern(names, text);
        }
        *predicted
    }
}

/// Interns names of which a few come again and again, in any order: each is looked for first at a place that its text
/// tells.
#[derive(Debug)]
struct Recent {
    places: [NameId; 1 << Self::BITS],
}

impl Default for Recent {
    fn default() -> Self {
        Self { places: [Names::EMPTY; 1 << Self::BITS] }
    }
}

impl Recent {
    const BITS: u32 = 6;

    #[inline]
    fn intern(
        &mut self,
        names: &mut Names,
        hash: u64,
        is: impl FnOnce(&[u8]) -> bool,
        intern: impl FnOnce(&mut Names) -> NameId,
    ) -> NameId {
        // The upper bits of a product depend on all bits of the factors.
        let place = usize::try_from(hash.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - Self::BITS));
        let Some(id) = place.ok().and_then(|place| self.places.get_mut(place)) else {
            return intern(names);
        };
        if !names.get(*id).is_some_and(|known| is(known.as_bytes())) {
            *id = intern(names);
        }
        *id
    }
}

fn intern(names: &mut Names, text: Text<'_>) -> NameId {
    names.find(text.as_bytes()).unwrap_or_else(|| names.intern(text.as_str()))
}

/// A name that a plan or a shape holds: it need not be looked for in every record.
#[derive(Debug)]
pub(super) struct KnownName {
    text: Box<str>,
    is_too_long: bool,
    /// Its number in the table that was asked first, with that table's own text.
    number: OnceCell<(NameId, Arc<str>)>,
}

impl KnownName {
    pub(super) fn of(text: &str) -> Self {
        let is_too_long = text.len() > NAME_BYTES_MAX;
        Self { text: text.into(), is_too_long, number: OnceCell::new() }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.text
    }

    #[inline]
    fn text(&self) -> Text<'_> {
        Text::from(&*self.text)
    }

    #[inline]
    fn number(&self, names: &mut Names) -> NameId {
        match self.number.get() {
            Some((id, text)) if names.holds(*id, text) => *id,
            _ => self.intern(names),
        }
    }

    #[cold]
    fn intern(&self, names: &mut Names) -> NameId {
        let id = names.intern(&self.text);
        self.number.get_or_init(|| (id, Arc::clone(names.text(id))));
        id
    }
}

/// A few texts of one field that are known to be UTF-8: a comparison is cheaper than the check, and most features that
/// are texts have few values.
#[derive(Debug, Default)]
pub(super) struct KnownTexts {
    /// Each text has one place, and the first that comes there stays.
    places: OnceCell<Box<[OnceCell<Box<str>>; 8]>>,
}

impl KnownTexts {
    /// Longer texts are not kept.
    const BYTES_MAX: usize = 32;

    /// The bytes as text; none where they are no UTF-8.
    #[inline]
    pub(super) fn find<'a>(&'a self, bytes: &'a [u8]) -> Option<&'a str> {
        let first = bytes.first().map_or(0, |&first| usize::from(first));
        let places = self.places.get_or_init(Box::default);
        let place = places.get((first ^ bytes.len()) % 8)?;
        match place.get() {
            Some(known) if known.as_bytes() == bytes => Some(known),
            _ => Self::check(place, bytes),
        }
    }

    #[inline(never)]
    fn check<'a>(place: &OnceCell<Box<str>>, bytes: &'a [u8]) -> Option<&'a str> {
        let text = std::str::from_utf8(bytes).ok()?;
        if text.len() <= Self::BYTES_MAX {
            place.get_or_init(|| text.into());
        }
        Some(text)
    }
}

/// Names of features that a plan or a shape holds, no two of them alike, so that they can be listed at once.
#[derive(Debug)]
pub(super) struct FeatureNames {
    texts: Vec<Box<str>>,
    /// The features without values, by their numbers in the table that was asked first; and that table's own text of
    /// the first name.
    listed: OnceCell<(Vec<Feature<'static>>, Arc<str>)>,
}

impl FeatureNames {
    /// None where two are alike, where one is too long, or where there are none or too many.
    pub(super) fn new<'t>(texts: impl Iterator<Item = &'t str>) -> Option<Self> {
        let texts: Vec<Box<str>> = texts.map(Box::from).collect();
        let different: BTreeSet<&str> = texts.iter().map(|text| &**text).collect();
        let are_good = different.len() == texts.len()
            && (1..=VALUES_MAX).contains(&texts.len())
            && texts.iter().all(|text| text.len() <= NAME_BYTES_MAX);
        are_good.then(|| Self { texts, listed: OnceCell::new() })
    }

    /// Adds the features, without values, to those of a record.
    #[inline]
    fn list(&self, names: &mut Names, features: &mut BumpVec<'_, Feature<'_>>) {
        match self.listed.get() {
            // A table only grows: if it holds the first name, it holds the others too.
            Some((listed, text))
                if listed.first().is_some_and(|it| names.holds(it.name.0, text)) =>
            {
                features.extend_from_slice_copy(listed);
            }
            _ => features.extend_from_slice_copy(&self.intern(names)),
        }
    }

    #[cold]
    fn intern(&self, names: &mut Names) -> Vec<Feature<'static>> {
        let value = FeatureValue::Missing;
        let numbers = self.texts.iter().map(|text| FeatureId(names.intern(text)));
        let listed: Vec<_> = numbers.map(|name| Feature { name, value }).collect();
        if let Some(first) = listed.first() {
            self.listed.get_or_init(|| (listed.clone(), Arc::clone(names.text(first.name.0))));
        }
        listed
    }
}

/// Where the last entry of a name stands in the list of this record, so that of two with one name the later counts,
/// without a search.
#[derive(Debug, Default)]
pub(super) struct Seen {
    record: u32,
    places: Vec<(u32, u32)>,
}

impl Seen {
    fn begin(&mut self) {
        if self.record == u32::MAX {
            self.places.clear();
            self.record = 0;
        }
        self.record += 1;
    }

    #[cold]
    fn grow(&mut self, names: usize) {
        self.places.resize(names, (0, 0));
    }

    /// The place of the name's earlier entry, or `None` after noting that it stands at `place`.
    #[inline]
    fn place(&mut self, name: NameId, place: usize) -> Option<usize> {
        let index = usize::try_from(name.0).ok()?;
        if self.places.len() <= index {
            self.grow(index + 1);
        }
        let entry = self.places.get_mut(index)?;
        if entry.0 == self.record {
            return usize::try_from(entry.1).ok();
        }
        *entry = (self.record, u32::try_from(place).ok()?);
        None
    }
}

/// Scratch that outlives the records.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// For the names of entries.
    entries: Interner,
    /// For all other names.
    recent: Recent,
    seen_features: Seen,
    seen_scores: Seen,
}

impl Scratch {
    fn begin(&mut self) {
        self.entries.begin();
        self.seen_features.begin();
        self.seen_scores.begin();
    }
}

/// What one record gave. The first complaint is kept; it counts only if the payload as a whole is sound.
pub(super) struct Found<'a, 'n> {
    pub(super) arena: &'a Bump,
    pub(super) names: &'n mut Names,
    pub(super) scratch: &'n mut Scratch,
    pub(super) slots: &'n mut [Scalar<'a>],
    pub(super) features: BumpVec<'a, Feature<'a>>,
    /// How many of the features `Scratch::seen_features` knows: those that were listed at once are noted when another
    /// comes beside them.
    noted: usize,
    pub(super) scores: BumpVec<'a, (ClassId, f64)>,
    pub(super) bad: Option<DecodeError>,
}

impl<'a, 'n> Found<'a, 'n> {
    pub(super) fn new(
        arena: &'a Bump,
        names: &'n mut Names,
        scratch: &'n mut Scratch,
        slots: &'n mut [Scalar<'a>],
    ) -> Self {
        slots.fill(Scalar::Absent);
        let found = Self {
            arena,
            names,
            scratch,
            slots,
            features: BumpVec::new_in(arena),
            noted: 0,
            scores: BumpVec::new_in(arena),
            bad: None,
        };
        found.scratch.begin();
        found
    }

    /// Forgets everything that the record gave.
    pub(super) fn restart(&mut self) {
        self.scratch.begin();
        self.slots.fill(Scalar::Absent);
        self.features.clear();
        self.noted = 0;
        self.scores.clear();
        self.bad = None;
    }

    /// Takes one value for everything that it is wanted for.
    #[inline]
    pub(super) fn take(&mut self, node: Option<&Node>, entry: Entry<'_>, value: Scalar<'a>) {
        match entry {
            Entry::None => {}
            Entry::Feature(name) => self.feature(name, value),
            Entry::KnownFeature(name) => self.known_scalar(name, value),
            Entry::Score(name) => self.score(name, value),
            Entry::Both(name) => {
                self.feature(name, value);
                self.score(name, value);
            }
        }
        let Some(node) = node else { return };
        for &slot in &node.slots {
            self.fill(slot, value);
        }
        if let Some(field) = node.map_of {
            self.not_a_map(field, value);
        }
    }

    /// Makes room for so many more features.
    #[inline]
    pub(super) fn expect_features(&mut self, count: usize) {
        self.features.reserve(count.min(VALUES_MAX));
    }

    /// Notes what is wrong with a value, unless something was wrong before.
    #[cold]
    pub(super) fn complain(&mut self, error: DecodeError) {
        self.bad.get_or_insert(error);
    }

    #[inline]
    pub(super) fn fill(&mut self, slot: SlotIndex, value: Scalar<'a>) {
        if let Some(place) = self.slots.get_mut(slot) {
            *place = value;
        }
    }

    /// The value of one slot.
    pub(super) fn slot(&self, slot: SlotIndex) -> Scalar<'a> {
        self.slots.get(slot).copied().unwrap_or(Scalar::Absent)
    }

    /// The first value that one of the slots holds; else null or absent.
    pub(super) fn first(&self, slots: &[SlotIndex]) -> Scalar<'a> {
        if let [slot] = slots {
            return self.slot(*slot);
        }
        let mut found = Scalar::Absent;
        for &slot in slots {
            let value = self.slot(slot);
            if value.is_given() {
                return value;
            }
            if value == Scalar::Null {
                found = value;
            }
        }
        found
    }

    /// Interns a name, if it is short enough to be one.
    #[inline]
    pub(super) fn intern(
        &mut self,
        field: &'static str,
        text: Text<'_>,
    ) -> Result<NameId, DecodeError> {
        check_length(field, text.as_bytes().len())?;
        let is = |known: &[u8]| known == text.as_bytes();
        let recent = &mut self.scratch.recent;
        Ok(recent.intern(self.names, text.mixed(), is, |names| intern(names, text)))
    }

    /// The same of the name of an entry.
    #[inline]
    fn intern_entry(&mut self, field: &'static str, text: Text<'_>) -> Result<NameId, DecodeError> {
        check_length(field, text.as_bytes().len())?;
        Ok(self.scratch.entries.intern(self.names, text))
    }

    /// Interns `dimension=value`.
    pub(super) fn intern_segment(
        &mut self,
        index: u16,
        dimension: &str,
        value: Text<'_>,
    ) -> Result<NameId, DecodeError> {
        let bytes = dimension.len() + 1 + value.as_bytes().len();
        check_length(Field::Segments.name(), bytes)?;
        let arena = self.arena;
        let is = |known: &[u8]| {
            let rest = known.strip_prefix(dimension.as_bytes());
            rest.and_then(|rest| rest.strip_prefix(b"=")) == Some(value.as_bytes())
        };
        // Dimensions may have values in common.
        let hash = value.mixed() ^ u64::from(index);
        Ok(self.scratch.recent.intern(self.names, hash, is, |names| {
            let mut text = BumpString::with_capacity_in(bytes, arena);
            text.push_str(dimension);
            text.push('=');
            text.push_str(value.as_str());
            names.intern(&text)
        }))
    }

    /// Takes one entry of `features`.
    #[inline]
    pub(super) fn feature(&mut self, name: Text<'_>, value: Scalar<'a>) {
        match (self.intern_entry(Field::Features.name(), name), feature_value(value)) {
            (Ok(id), Some(value)) => self.feature_of(FeatureId(id), value),
            (Ok(_), None) => self.no_feature(name, value),
            (Err(error), _) => self.complain(error),
        }
    }

    /// Takes one entry of `features` whose name a plan or a shape holds.
    #[inline]
    pub(super) fn known_scalar(&mut self, name: &KnownName, value: Scalar<'a>) {
        match feature_value(value) {
            Some(value) => self.known_feature(name, value),
            None => self.feature(name.text(), value),
        }
    }

    /// The same of a value that is one.
    #[inline]
    pub(super) fn known_feature(&mut self, name: &KnownName, value: FeatureValue<'a>) {
        if name.is_too_long {
            let (field, bytes) = (Field::Features.name(), name.text.len());
            return self.complain(DecodeError::NameTooLong { field, bytes });
        }
        let id = name.number(self.names);
        self.feature_of(FeatureId(id), value);
    }

    #[cold]
    fn no_feature(&mut self, name: Text<'_>, value: Scalar<'a>) {
        self.complain(DecodeError::WrongType {
            field: checks::entry(Field::Features.name(), name.as_str()),
            expected: "a number, text, boolean or null",
            found: value.kind(),
        });
    }

    #[inline]
    pub(super) fn feature_of(&mut self, id: FeatureId, value: FeatureValue<'a>) {
        let feature = Feature { name: id, value };
        let place = self.features.len();
        if self.noted < place {
            self.note_features();
        }
        match self.scratch.seen_features.place(id.0, place) {
            None if place < VALUES_MAX => {
                self.features.push(feature);
                self.noted = place + 1;
            }
            earlier => self.unusual_feature(feature, earlier),
        }
    }

    /// Adds features that get their values by their places among them. There must be none yet.
    #[inline]
    pub(super) fn list_features(&mut self, names: &FeatureNames) {
        names.list(self.names, &mut self.features);
    }

    /// Sets the value of a feature that was listed.
    #[inline]
    pub(super) fn set_feature(&mut self, at: usize, value: FeatureValue<'a>) {
        if let Some(feature) = self.features.get_mut(at) {
            feature.value = value;
        }
    }

    /// Sets the values of features that were listed, from one of them on.
    #[inline]
    pub(super) fn set_features(&mut self, at: usize, numbers: impl Iterator<Item = f64>) {
        let features = self.features.get_mut(at..).unwrap_or(&mut []);
        for (feature, number) in features.iter_mut().zip(numbers) {
            feature.value = feature_number(number);
        }
    }

    #[cold]
    fn note_features(&mut self) {
        for (place, feature) in self.features.iter().enumerate().skip(self.noted) {
            self.scratch.seen_features.place(feature.name.0, place);
        }
        self.noted = self.features.len();
    }

    /// Takes a feature that was there before, or that is one too many. Apart, so that the usual way stays short.
    #[cold]
    fn unusual_feature(&mut self, feature: Feature<'a>, earlier: Option<usize>) {
        match earlier {
            Some(place) => {
                if let Some(place) = self.features.get_mut(place) {
                    *place = feature;
                }
            }
            None => self.complain(DecodeError::TooManyValues { field: Field::Features.name() }),
        }
    }

    /// Takes one entry of `scores`; null is none.
    pub(super) fn score(&mut self, class: Text<'_>, value: Scalar<'a>) {
        let field = Field::Scores.name();
        if value == Scalar::Null {
            return;
        }
        let score = match checks::score(|| checks::entry(field, class.as_str()), value) {
            Ok(score) => score,
            Err(error) => return self.complain(error),
        };
        // The same canonical form that predictions and labels get, so that "01", "1.0" and "1" are one class.
        let mut digits = None;
        let id = match self.intern_entry(field, checks::class_text(class, &mut digits)) {
            Ok(id) => id,
            Err(error) => return self.complain(error),
        };
        let earlier = self.scratch.seen_scores.place(id, self.scores.len());
        match earlier {
            Some(place) => {
                if let Some(place) = self.scores.get_mut(place) {
                    place.1 = score;
                }
            }
            None if self.scores.len() < VALUES_MAX => self.scores.push((ClassId(id), score)),
            None => self.complain(DecodeError::TooManyValues { field }),
        }
    }

    /// Complains about a value where a map of entries should be; null is an empty one.
    fn not_a_map(&mut self, field: Field, value: Scalar<'a>) {
        if value.is_given() && value != Scalar::Other(Scalar::OBJECT) {
            self.complain(DecodeError::WrongType {
                field: field.name().into(),
                expected: "an object of names and values",
                found: value.kind(),
            });
        }
    }
}

#[inline]
fn check_length(field: &'static str, bytes: usize) -> Result<(), DecodeError> {
    if bytes > NAME_BYTES_MAX {
        return Err(DecodeError::NameTooLong { field, bytes });
    }
    Ok(())
}

#[inline]
pub(super) fn feature_value(value: Scalar<'_>) -> Option<FeatureValue<'_>> {
    Some(match value {
        Scalar::Absent | Scalar::Null => FeatureValue::Missing,
        Scalar::Boolean(x) => FeatureValue::Boolean(x),
        Scalar::Text(text) => FeatureValue::Text(text.as_str()),
        Scalar::Other(_) => return None,
        Scalar::Integer(_) | Scalar::Unsigned(_) | Scalar::Float(_) | Scalar::Instant(..) => {
            feature_number(value.number()?)
        }
    })
}

/// What a number is as a feature.
#[inline]
pub(super) fn feature_number<'a>(number: f64) -> FeatureValue<'a> {
    if number.abs() <= NUMBER_MAX {
        // Adding zero turns -0.0 into 0.0.
        FeatureValue::Number(number + 0.0)
    } else {
        FeatureValue::NotFinite
    }
}
