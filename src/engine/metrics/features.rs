//! All features of one key: which there are, and the state of each.

use std::borrow::Cow;
use std::sync::Arc;

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Value};
use super::cells::Cells;
use super::dictionary::Dictionary;
use super::distinct::{Numbers, Registers, WORDS};
use super::exact_sum::ExactSum;
use super::feature::FeatureState;
use super::growing::{FEW, Growing, Waiting};
use super::interval::{cells, names, sums};
use super::lattice::FEATURE;
use super::reference::Profile;
use super::sign::Sign;
use super::stored::Stored;
use crate::engine::event::{Feature, FeatureValue};
use crate::engine::glob::fits;
use crate::engine::names::{FeatureId, Names, OTHER, index};

/// The features of one inference.
#[derive(Clone, Copy, Debug)]
pub struct FeaturesInput<'a> {
    /// As the record gives them.
    pub features: &'a [Feature<'a>],
    /// The table of their names.
    pub names: &'a Names,
    /// What the model's windows are compared with, the same for all inferences of a key.
    pub reference: Option<&'a Profile>,
    /// Distinct features that a state of one window and partition keeps, at least 1; values of the others are counted
    /// under `(other)`.
    pub most: usize,
    /// Globs of the features whose distinct numbers are counted.
    pub distinct: &'a [String],
}

/// The state of all features that any inference carried.
#[derive(Clone, Debug, Default)]
pub struct Features {
    all: Vec<(Arc<str>, Growing)>,
    /// Places in `all` by the worker's own numbers, in the order in which records carry them.
    known: Vec<(FeatureId, u32)>,
    /// Numbers that are not folded in yet, by place in `all`.
    waiting: Waiting,
    /// Whether there were so many that some have been folded in.
    are_many: bool,
}

/// Counts of one feature in column `feature_counts`.
const COUNTS: u64 = 5;
/// Sums of one feature in column `feature_sums`.
const SUMS: usize = 2;
/// The feature's number stands above the cell's, and above the category's.
const CELL_BITS: u32 = 16;
/// Categories of the reference are counted from here.
const FIRST_KNOWN: u64 = 1 << 15;

impl Features {
    /// The features by name.
    pub fn sorted(&self) -> Vec<(&Arc<str>, Cow<'_, FeatureState>)> {
        let mut sorted: Vec<_> = self.all.iter().enumerate().collect();
        sorted.sort_unstable_by(|(_, a), (_, b)| a.0.cmp(&b.0));
        sorted.into_iter().map(|(place, (name, _))| (name, self.whole(place))).collect()
    }

    /// The feature at this place, with what waits.
    fn whole(&self, place: usize) -> Cow<'_, FeatureState> {
        self.all[place].1.with(self.waiting.of(place, &mut [0.0; FEW]))
    }

    /// Whether values of some features are counted under `(other)`, so that those of no feature may be all.
    pub fn are_capped(&self) -> bool {
        self.all.iter().any(|(name, _)| **name == *OTHER)
    }

    /// Whether a value of this feature was folded in, and that of a record in which it stands `at` there.
    #[inline]
    pub fn knows(&self, at: usize, name: FeatureId) -> bool {
        let is = |(known, _): &(FeatureId, u32)| *known == name;
        self.known.get(at).is_some_and(is) || self.known.iter().any(is)
    }

    /// Whether the feature is counted under its own name; if there is room it is from now on.
    pub fn keeps(&mut self, name: FeatureId, input: &FeaturesInput<'_>) -> bool {
        let place = self.find(name, input);
        self.all[place].0 == *input.names.text(name.0)
    }

    /// Folds in the value of the feature that stands `at` there in the record.
    #[inline]
    pub fn add_value(
        &mut self,
        at: usize,
        name: FeatureId,
        value: &FeatureValue<'_>,
        input: &FeaturesInput<'_>,
    ) {
        let place = self.place(at, name, input);
        let FeatureValue::Number(x) = value else { return self.all[place].1.add(value) };
        if !self.waiting.put(place, *x) {
            self.begin_with(place, *x, input);
        }
    }

    /// Folds in a number that has no place in the newest row.
    fn begin_with(&mut self, place: usize, x: f64, input: &FeaturesInput<'_>) {
        // A record may have very many numbers of features that are not kept: they would each begin a row.
        if self.all.len() > input.most && *self.all[place].0 == *OTHER {
            return self.all[place].1.add_numbers(&[x]);
        }
        self.make_room();
        let width = input.features.len().min(self.all.capacity()).max(place + 1);
        self.waiting.begin(width)[place] = x;
    }

    /// Folds in the values of features that stand as they are known, so that their places need no look; false, with
    /// nothing done, if they stand otherwise, or are less than half of those known, whose row would be nearly empty.
    #[inline]
    pub fn add_as_known(&mut self, features: &[Feature<'_>]) -> bool {
        let fit = self.known.len() / 2..=self.known.len();
        let mut pairs = features.iter().zip(&self.known);
        if !fit.contains(&features.len()) || !pairs.all(|(of, (known, _))| of.name == *known) {
            return false;
        }
        if !features.iter().any(|of| matches!(of.value, FeatureValue::Number(_))) {
            for (Feature { value, .. }, &(_, place)) in features.iter().zip(&self.known) {
                self.all[index(place)].1.add(value);
            }
            return true;
        }
        self.make_room();
        let row = self.waiting.begin(self.all.len());
        for (Feature { value, .. }, &(_, place)) in features.iter().zip(&self.known) {
            if let FeatureValue::Number(x) = value {
                row[index(place)] = *x;
            } else {
                self.all[index(place)].1.add(value);
            }
        }
        true
    }

    /// Folds in what waits where much was folded in before, so that a look at the features need not copy that.
    pub fn settle(&mut self) {
        if self.are_many {
            self.fold_waiting();
        }
    }

    /// Makes room for one more row of numbers.
    #[inline]
    fn make_room(&mut self) {
        if self.waiting.is_full() {
            self.fold_waiting();
        }
    }

    /// Folds in what waits, however little that is.
    #[inline(never)]
    pub fn fold_waiting(&mut self) {
        if self.waiting.is_empty() {
            return;
        }
        let mut room = [0.0; FEW];
        for (place, (_, state)) in self.all.iter_mut().enumerate() {
            state.add_numbers(self.waiting.of(place, &mut room));
        }
        self.waiting.clear();
        self.are_many = true;
    }

    /// The place of the feature that stands `at` there in its record.
    #[inline]
    fn place(&mut self, at: usize, id: FeatureId, input: &FeaturesInput<'_>) -> usize {
        match self.known.get(at) {
            Some(&(known, place)) if known == id => index(place),
            _ => self.find(id, input),
        }
    }

    fn find(&mut self, id: FeatureId, input: &FeaturesInput<'_>) -> usize {
        if let Some(&(_, place)) = self.known.iter().find(|(known, _)| *known == id) {
            return index(place);
        }
        if self.known.is_empty() {
            // Most records of a key have the same features: doubling would leave much unused.
            self.known.reserve_exact(input.features.len());
            self.all.reserve_exact(input.features.len().min(input.most));
        }
        let name = input.names.text(id.0);
        if let Some(place) = self.all.iter().position(|(known, _)| known == name) {
            self.known.push((id, number(place)));
            return place;
        }
        let profile = |name| input.reference.and_then(|reference| reference.features.get(name));
        if self.all.len() >= input.most {
            return self.place_of_name(&OTHER.into(), || Growing::of(profile(OTHER), false));
        }
        // The numbers of several features are no numbers of one, not even where one of them is called `(other)`.
        let is_distinct = **name != *OTHER && input.distinct.iter().any(|glob| fits(glob, name));
        let place = self.place_of_name(name, || Growing::of(profile(name), is_distinct));
        self.known.push((id, number(place)));
        place
    }

    fn place_of_name(&mut self, name: &Arc<str>, new: impl FnOnce() -> Growing) -> usize {
        let found = self.all.iter().position(|(known, _)| known == name);
        found.unwrap_or_else(|| {
            self.all.push((Arc::clone(name), new()));
            self.all.len() - 1
        })
    }
}

fn number(place: usize) -> u32 {
    u32::try_from(place).expect("a state has at most `most` features")
}

impl PartialEq for Features {
    fn eq(&self, other: &Self) -> bool {
        self.sorted() == other.sorted()
    }
}

impl Accumulator for Features {
    type Input<'a> = FeaturesInput<'a>;

    const STATE: &'static [Column] = &[
        names(
            "features",
            "Names of the features that inferences carry, ascending; i counts them from 0.",
        ),
        cells(
            "feature_counts",
            "By 5i: numbers, false, true, not finite numbers, numbers out of range.",
        ),
        sums("feature_sums", "By 2i: exact sum of the numbers, and of their squares."),
        cells("feature_ranges", "By 2i: bits of the least and the greatest number."),
        cells(
            "feature_cells",
            "Numbers by 2^16 i + cell, of the reference's lattice or else the built-in one.",
        ),
        names("feature_categories", "Texts, of one feature after the other, by XXH3-64."),
        cells(
            "feature_category_counts",
            "By 2^16 i + k: how often the k-th text of the feature came (from 1), and at k = 0 those not kept; from 2^15 on those of the reference.",
        ),
        cells(
            "feature_numbers",
            "By 2^16 i + k: bits of the k-th distinct number (from 1) while they are few, and 1 at k = 0 if they are counted.",
        ),
        cells(
            "feature_registers",
            "By 2^16 i + k: HyperLogLog registers 8k to 8k + 7 of many distinct numbers, from k = 512 on of many texts.",
        ),
    ];

    /// The figures are in table `data_quality`, a row for each feature.
    const FIGURES: &'static [Column] = &[];

    #[inline]
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        assert!(sign.adds(), "no label is read here, so nothing is taken back: {input:?}");
        if self.add_as_known(input.features) {
            return;
        }
        for (at, feature) in input.features.iter().enumerate() {
            self.add_value(at, feature.name, &feature.value, input);
        }
    }

    fn merge(&mut self, other: &Self) {
        self.fold_waiting();
        self.are_many = true;
        for (at, (name, _)) in other.all.iter().enumerate() {
            // States of one model mostly have their features in one order.
            let place = match self.all.get(at) {
                Some((known, _)) if known == name => at,
                _ => self.place_of_name(name, Growing::default),
            };
            self.all[place].1.merge(&other.whole(at));
        }
    }

    fn state(&self, out: &mut Vec<Value>) {
        let sorted = self.sorted();
        let mut flat = Flat::default();
        for (i, (_, state)) in (0_u64..).zip(&sorted) {
            flat.push(i, state);
        }
        out.push(Value::Names(sorted.iter().map(|&(name, _)| Arc::clone(name)).collect()));
        out.push(Value::Cells(flat.counts));
        out.push(Value::Sums(flat.sums));
        out.push(Value::Cells(flat.ranges));
        out.push(Value::Cells(flat.cells));
        out.push(Value::Names(flat.categories));
        out.push(Value::Cells(flat.category_counts));
        out.push(Value::Cells(flat.numbers));
        out.push(Value::Cells(flat.registers));
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let features = stored.names()?;
        let packed = Packed {
            counts: stored.pairs()?,
            sums: stored.all_sums()?,
            ranges: stored.pairs()?,
            cells: stored.pairs()?,
            categories: stored.names()?,
            category_counts: stored.pairs()?,
            numbers: stored.pairs()?,
            registers: stored.pairs()?,
        };
        packed.check_order()?;
        if !features.is_sorted_by(|a, b| a < b) {
            return Err(StateError::Malformed("features"));
        }
        packed.unpack(features)
    }

    fn figures(&self, _: &FigureContext<'_>, _: &mut Vec<Value>) {}

    fn heap_bytes(&self) -> usize {
        self.all.capacity() * size_of::<(Arc<str>, Growing)>()
            + self.known.capacity() * size_of::<(FeatureId, u32)>()
            + self.waiting.heap_bytes()
            + self.all.iter().map(|(_, state)| state.heap_bytes()).sum::<usize>()
    }
}

/// The states of all features in columns.
#[derive(Default)]
struct Flat {
    counts: Vec<(u64, u64)>,
    sums: Vec<ExactSum>,
    ranges: Vec<(u64, u64)>,
    cells: Vec<(u64, u64)>,
    categories: Vec<Arc<str>>,
    category_counts: Vec<(u64, u64)>,
    numbers: Vec<(u64, u64)>,
    registers: Vec<(u64, u64)>,
}

impl Flat {
    fn push(&mut self, i: u64, state: &FeatureState) {
        let [falses, trues] = state.booleans;
        let counts = [state.numbers, falses, trues, state.not_finite, state.outside];
        let counts = (i * COUNTS..).zip(counts).filter(|&(_, count)| count > 0);
        self.counts.extend(counts);
        self.sums.extend([&state.sum, &state.squares].map(ExactSum::clone));
        if let Some((least, greatest)) = state.range {
            self.ranges.extend([(2 * i, least.to_bits()), (2 * i + 1, greatest.to_bits())]);
        }
        let first = i << CELL_BITS;
        self.cells.extend(state.cells.to_pairs().iter().map(|(cell, n)| (first + cell, *n)));
        if state.texts.other() > 0 {
            self.category_counts.push((first, state.texts.other()));
        }
        for (k, (name, count)) in (1_u64..).zip(state.texts.iter()) {
            self.categories.push(Arc::clone(name));
            self.category_counts.push((first + k, count));
        }
        for (k, (name, count)) in (first + FIRST_KNOWN..).zip(state.known.iter()) {
            self.categories.push(Arc::clone(name));
            self.category_counts.push((k, count));
        }
        let mut push_registers = |first: u64, registers: &Registers| {
            self.registers.extend(registers.words().map(|(at, word)| (first + at, word)));
        };
        if let Some(numbers) = &state.distinct_numbers {
            self.numbers.push((first, 1));
            match numbers {
                Numbers::Few(few) => self.numbers.extend((first + 1..).zip(few.iter().copied())),
                Numbers::Many(registers) => push_registers(first, registers),
            }
        }
        if let Some(registers) = &state.text_registers {
            push_registers(first + WORDS, registers);
        }
    }
}

/// What [`Flat`] wrote, to be read.
struct Packed<'v> {
    counts: &'v [(u64, u64)],
    sums: &'v [ExactSum],
    ranges: &'v [(u64, u64)],
    cells: &'v [(u64, u64)],
    categories: Vec<Arc<str>>,
    category_counts: &'v [(u64, u64)],
    numbers: &'v [(u64, u64)],
    registers: &'v [(u64, u64)],
}

impl Packed<'_> {
    /// Pairs stand by ascending index.
    fn check_order(&self) -> Result<(), StateError> {
        let all = [
            ("feature_counts", self.counts),
            ("feature_ranges", self.ranges),
            ("feature_cells", self.cells),
            ("feature_category_counts", self.category_counts),
            ("feature_numbers", self.numbers),
            ("feature_registers", self.registers),
        ];
        let is_written = |pairs: &[(u64, u64)]| pairs.is_sorted_by(|a, b| a.0 < b.0);
        match all.into_iter().find(|(_, pairs)| !is_written(pairs)) {
            Some((column, _)) => Err(StateError::Malformed(column)),
            None => Ok(()),
        }
    }

    /// Reads what [`push`](Flat::push) wrote of these features.
    fn unpack(self, features: Vec<Arc<str>>) -> Result<Features, StateError> {
        if self.sums.len() != SUMS * features.len() {
            return Err(StateError::Malformed("feature_sums"));
        }
        let mut categories = self.categories.into_iter();
        let mut sums = self.sums.iter().cloned();
        let (mut counts, mut ranges) = (Pairs::of(self.counts), Pairs::of(self.ranges));
        let (mut by_cell, mut by_text) = (Pairs::of(self.cells), Pairs::of(self.category_counts));
        let (mut numbers, mut registers) = (Pairs::of(self.numbers), Pairs::of(self.registers));
        let mut all = Vec::with_capacity(features.len());
        for (i, name) in (0_u64..).zip(features) {
            let mut state = FeatureState::default();
            for (at, count) in counts.below((i + 1) * COUNTS) {
                match at - i * COUNTS {
                    0 => state.numbers = count,
                    1 => state.booleans[0] = count,
                    2 => state.booleans[1] = count,
                    3 => state.not_finite = count,
                    _ => state.outside = count,
                }
            }
            state.sum = sums.next().unwrap_or_default();
            state.squares = sums.next().unwrap_or_default();
            state.range = range(&ranges.below(2 * (i + 1)).collect::<Vec<_>>())?;
            let first = i << CELL_BITS;
            let next = (i + 1) << CELL_BITS;
            let pairs: Vec<_> = by_cell.below(next).map(|(at, n)| (at - first, n)).collect();
            state.cells = Cells::from_pairs(&pairs, FEATURE.cells())
                .filter(|cells| cells.total() == state.numbers)
                .ok_or(StateError::Malformed("feature_cells"))?;
            let new = by_text.below(first + FIRST_KNOWN).map(|(at, n)| (at - first, n));
            state.texts = texts(new, &mut categories)?;
            let known = by_text.below(next).map(|(at, n)| (at - first - FIRST_KNOWN + 1, n));
            state.known = texts(known, &mut categories)?;
            let many = registers_of(registers.below(first + WORDS), first)?;
            state.distinct_numbers = numbers_of(numbers.below(next), many, first)?;
            state.text_registers = registers_of(registers.below(next), first + WORDS)?;
            all.push((name, state.into()));
        }
        let ends = [
            ("feature_counts", counts.is_at_end()),
            ("feature_ranges", ranges.is_at_end()),
            ("feature_cells", by_cell.is_at_end()),
            ("feature_category_counts", by_text.is_at_end()),
            ("feature_numbers", numbers.is_at_end()),
            ("feature_registers", registers.is_at_end()),
            ("feature_categories", categories.next().is_none()),
        ];
        match ends.into_iter().find(|(_, is_at_end)| !is_at_end) {
            Some((column, _)) => Err(StateError::Malformed(column)),
            None => Ok(Features { all, ..Features::default() }),
        }
    }
}

fn range(bits: &[(u64, u64)]) -> Result<Option<(f64, f64)>, StateError> {
    let malformed = StateError::Malformed("feature_ranges");
    match bits {
        [] => Ok(None),
        [(_, least), (_, greatest)] => {
            let (least, greatest) = (f64::from_bits(*least), f64::from_bits(*greatest));
            let is_written = least <= greatest && least.is_finite() && greatest.is_finite();
            if is_written { Ok(Some((least, greatest))) } else { Err(malformed) }
        }
        _ => Err(malformed),
    }
}

/// Registers whose words begin at `first`.
fn registers_of(
    words: impl Iterator<Item = (u64, u64)>,
    first: u64,
) -> Result<Option<Registers>, StateError> {
    let words: Vec<_> = words.map(|(at, word)| (at - first, word)).collect();
    if words.is_empty() {
        return Ok(None);
    }
    let registers = Registers::from_words(&words);
    registers.map(Some).ok_or(StateError::Malformed("feature_registers"))
}

/// Distinct numbers: few, whose bits begin after `first`, or many.
fn numbers_of(
    mut pairs: impl Iterator<Item = (u64, u64)>,
    many: Option<Registers>,
    first: u64,
) -> Result<Option<Numbers>, StateError> {
    let malformed = StateError::Malformed("feature_numbers");
    let is_counted = match pairs.next() {
        None => false,
        Some(counted) if counted == (first, 1) => true,
        Some(_) => return Err(malformed),
    };
    let mut few = Vec::new();
    for (at, bits) in pairs {
        few.push(bits);
        if at - first != position(few.len() - 1) {
            return Err(malformed);
        }
    }
    match (is_counted, many) {
        (false, None) => Ok(None),
        (true, Some(many)) if few.is_empty() => Ok(Some(Numbers::Many(many))),
        (true, None) => Numbers::from_bits(few).map(Some).ok_or(malformed),
        (_, Some(_)) => Err(malformed),
    }
}

fn texts(
    counts: impl Iterator<Item = (u64, u64)>,
    categories: &mut impl Iterator<Item = Arc<str>>,
) -> Result<Dictionary, StateError> {
    let malformed = StateError::Malformed("feature_categories");
    let (mut other, mut names, mut places) = (0, Vec::new(), Vec::new());
    for (k, count) in counts {
        match k {
            0 => other = count,
            _ if k == position(names.len()) => {
                places.push((k - 1, count));
                names.push(categories.next().ok_or(malformed)?);
            }
            _ => return Err(malformed),
        }
    }
    Dictionary::from_parts(names, &places, other).ok_or(malformed)
}

/// The number of the text that follows so many.
fn position(before: usize) -> u64 {
    u64::try_from(before).map_or(u64::MAX, |before| before + 1)
}

/// Pairs that are taken off from the front, by ascending index.
struct Pairs<'a> {
    rest: &'a [(u64, u64)],
}

impl<'a> Pairs<'a> {
    fn of(all: &'a [(u64, u64)]) -> Self {
        Self { rest: all }
    }

    /// Those whose index is below this one.
    fn below(&mut self, end: u64) -> impl Iterator<Item = (u64, u64)> + 'a {
        let length = self.rest.iter().take_while(|(index, _)| *index < end).count();
        let (front, rest) = self.rest.split_at(length);
        self.rest = rest;
        front.iter().copied()
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }
}
