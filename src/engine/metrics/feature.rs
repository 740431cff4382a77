//! What the inferences of one key hold in one feature. Reads no label, so nothing is ever taken back.

use std::sync::Arc;

use super::cells::Cells;
use super::dictionary::{Cap, Dictionary, Hashed};
use super::distinct::{Numbers, Registers};
use super::exact_sum::ExactSum;
use super::lattice::FEATURE;
use super::reference::{FeatureKind, FeatureProfile};
use crate::engine::event::FeatureValue;

/// How many distinct texts one feature keeps that the reference does not have; the others are counted together. Which
/// they are goes by a hash of the text and not by how often it comes.
pub static CATEGORIES: Cap = Cap::of(100);
/// Those that the reference has are all kept, but for one that is called `(other)`.
pub static KNOWN: Cap = Cap::of(usize::MAX);

/// The state of one feature. Equal when the same values were folded in, in any order.
#[derive(Clone, Debug, Default)]
pub struct FeatureState {
    /// Finite numbers.
    pub numbers: u64,
    /// `false` and `true`.
    pub booleans: [u64; 2],
    /// NaN, infinite, or beyond 1e150.
    pub not_finite: u64,
    /// Exact sum of the numbers.
    pub sum: ExactSum,
    /// Exact sum of their squares.
    pub squares: ExactSum,
    /// The least and the greatest number; none without numbers.
    pub range: Option<(f64, f64)>,
    /// Numbers by cell: of the reference profile where it has the feature as numbers, else of [`FEATURE`].
    pub cells: Cells,
    /// Texts that are categories of the reference profile; all of them are kept.
    pub known: Dictionary,
    /// Other texts.
    pub texts: Dictionary,
    /// Numbers beyond the declared range, or else beyond the least and greatest of the reference.
    pub outside: u64,
    /// All of `texts`, once some of them are not kept. None with such texts: an earlier version wrote the state.
    pub text_registers: Option<Registers>,
    /// The distinct numbers. None with numbers: they are not told apart.
    pub distinct_numbers: Option<Numbers>,
    /// What the values are held against; a state that was read back does not know it, and folds no record in.
    profile: Option<Arc<FeatureProfile>>,
}

impl PartialEq for FeatureState {
    fn eq(&self, other: &Self) -> bool {
        self.numbers == other.numbers
            && self.booleans == other.booleans
            && self.not_finite == other.not_finite
            && self.sum == other.sum
            && self.squares == other.squares
            && self.range == other.range
            && self.cells == other.cells
            && self.known == other.known
            && self.texts == other.texts
            && self.outside == other.outside
            && self.text_registers == other.text_registers
            && self.distinct_numbers == other.distinct_numbers
    }
}

impl FeatureState {
    /// An empty state whose values are held against this profile, and whether its numbers are told apart.
    pub fn of(profile: Option<&Arc<FeatureProfile>>, is_distinct: bool) -> Self {
        let distinct_numbers = is_distinct.then(|| Numbers::Few(Vec::new()));
        Self { profile: profile.cloned(), distinct_numbers, ..Self::default() }
    }

    /// Folds one value in.
    #[inline]
    pub fn add(&mut self, value: &FeatureValue<'_>) {
        match *value {
            FeatureValue::Missing => {}
            FeatureValue::NotFinite => self.not_finite += 1,
            FeatureValue::Number(x) => self.add_numbers(&[x]),
            FeatureValue::Text(text) => self.add_text(text),
            FeatureValue::Boolean(value) => self.booleans[usize::from(value)] += 1,
        }
    }

    /// Folds in finite numbers.
    pub fn add_numbers(&mut self, numbers: &[f64]) {
        let Some(&first) = numbers.first() else { return };
        self.numbers += u64::try_from(numbers.len()).expect("usize is at most 64 bits");
        self.sum.add_with_squares(&mut self.squares, numbers);
        let least = numbers.iter().fold(first, |least, &x| if x < least { x } else { least });
        let greatest = numbers.iter().fold(first, |most, &x| if x > most { x } else { most });
        let range = self.range.unwrap_or((least, greatest));
        // -0.0 is 0.0, so that nothing depends on which of them came first.
        self.range = Some((range.0.min(least) + 0.0, range.1.max(greatest) + 0.0));
        match self.profile.as_deref().and_then(FeatureProfile::numeric) {
            Some(numeric) => {
                let (lower, upper) = numeric.range.unwrap_or((numeric.min, numeric.max));
                if least < lower || greatest > upper {
                    let outside = numbers.iter().filter(|&&x| x < lower || x > upper).count();
                    self.outside += u64::try_from(outside).expect("usize is at most 64 bits");
                }
                self.cells.add_all(numbers.iter().map(|&x| numeric.cell(x)));
            }
            None => self.cells.add_all(numbers.iter().map(|&x| FEATURE.cell(x))),
        }
        if let Some(distinct) = &mut self.distinct_numbers {
            for &x in numbers {
                distinct.add(x + 0.0);
            }
        }
    }

    fn add_text(&mut self, text: &str) {
        let hashed = Hashed::from(text);
        if self.known.add_known(hashed) {
            return;
        }
        let categories = self.profile.as_deref().and_then(FeatureProfile::categories);
        let is_category =
            || categories.is_some_and(|categories| categories.position(text).is_some());
        // What is called like all those that are not kept counts among them.
        if !hashed.is_other() && is_category() {
            self.known.add(&KNOWN, hashed);
        } else {
            if let Some(registers) = &mut self.text_registers {
                registers.add(hashed.hash());
            } else if !self.has_place_for(hashed) {
                self.text_registers = Some(self.texts.hashes().chain([hashed.hash()]).collect());
            }
            self.texts.add(&CATEGORIES, hashed);
        }
    }

    /// Whether no text falls out if this one is counted.
    fn has_place_for(&self, text: Hashed<'_>) -> bool {
        let is_full = self.texts.len() >= CATEGORIES.names();
        !text.is_other() && (!is_full || self.texts.get(text).is_some())
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.merge_numbers(other);
        self.merge_texts(other);
        self.numbers += other.numbers;
        self.booleans[0] += other.booleans[0];
        self.booleans[1] += other.booleans[1];
        self.not_finite += other.not_finite;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.cells.merge(&other.cells);
        self.known.merge(&KNOWN, &other.known);
        self.outside += other.outside;
        self.range = match (self.range, other.range) {
            (Some(left), Some(right)) => Some((left.0.min(right.0), left.1.max(right.1))),
            (only, None) | (None, only) => only,
        };
    }

    /// Before the counts are merged. Numbers that one of both did not tell apart can't be told apart any more.
    fn merge_numbers(&mut self, other: &Self) {
        let is_lost = |of: &Self| of.numbers > 0 && of.distinct_numbers.is_none();
        if is_lost(self) || is_lost(other) {
            self.distinct_numbers = None;
        } else if let Some(numbers) = &other.distinct_numbers {
            self.distinct_numbers.get_or_insert_with(|| Numbers::Few(Vec::new())).merge(numbers);
        }
    }

    fn merge_texts(&mut self, other: &Self) {
        let is_lost = |of: &Self| of.texts.other() > 0 && of.text_registers.is_none();
        let is_lost = is_lost(self) || is_lost(other);
        let are_few = [&*self, other].iter().all(|of| of.text_registers.is_none())
            && self.texts.len() + other.texts.len() <= CATEGORIES.names();
        let registers = if is_lost || are_few {
            None
        } else {
            let own = self.text_registers.take();
            let mut all = own.unwrap_or_else(|| self.texts.hashes().collect());
            match &other.text_registers {
                Some(others) => all.merge(others),
                None => other.texts.hashes().for_each(|hash| all.add(hash)),
            }
            Some(all)
        };
        self.texts.merge(&CATEGORIES, &other.texts);
        self.text_registers = registers.filter(|_| self.texts.other() > 0);
    }

    /// Values of a kind.
    pub fn values(&self, kind: FeatureKind) -> u64 {
        match kind {
            FeatureKind::Numeric => self.numbers,
            FeatureKind::Categorical => self.known.total() + self.texts.total(),
            FeatureKind::Boolean => self.booleans[0] + self.booleans[1],
        }
    }

    /// Values of every kind that are not missing.
    pub fn present(&self) -> u64 {
        [FeatureKind::Numeric, FeatureKind::Categorical, FeatureKind::Boolean]
            .into_iter()
            .map(|kind| self.values(kind))
            .sum()
    }

    /// The kind with most values; of several the first in the order of [`FeatureKind`].
    pub fn kind(&self) -> FeatureKind {
        let kinds = [FeatureKind::Boolean, FeatureKind::Categorical, FeatureKind::Numeric];
        // Of equal ones `max_by_key` gives the last.
        kinds.into_iter().max_by_key(|&kind| self.values(kind)).unwrap_or(FeatureKind::Numeric)
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.sum.heap_bytes()
            + self.squares.heap_bytes()
            + self.cells.heap_bytes()
            + self.known.heap_bytes()
            + self.texts.heap_bytes()
            + self.text_registers.as_ref().map_or(0, Registers::heap_bytes)
            + self.distinct_numbers.as_ref().map_or(0, Numbers::heap_bytes)
    }
}
