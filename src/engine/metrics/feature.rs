//! What the inferences of one key hold in one feature. Reads no label, so nothing is ever taken back.

use std::sync::Arc;

use super::dictionary::{Cap, Dictionary};
use super::exact_sum::ExactSum;
use super::histogram::{Cells, FEATURE};
use super::reference::{FeatureKind, FeatureProfile};
use crate::engine::event::FeatureValue;

/// How many distinct texts one feature keeps that the reference does not have; the others are counted together.
pub const CATEGORIES: Cap = Cap::of(100);
/// Those that the reference has are all kept.
pub const KNOWN: Cap = Cap::of(usize::MAX);

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
    }
}

impl FeatureState {
    /// An empty state whose values are held against this profile.
    pub fn of(profile: Option<&Arc<FeatureProfile>>) -> Self {
        Self { profile: profile.cloned(), ..Self::default() }
    }

    /// Folds one value in.
    #[inline]
    pub fn add(&mut self, value: &FeatureValue<'_>) {
        match *value {
            FeatureValue::Missing => {}
            FeatureValue::NotFinite => self.not_finite += 1,
            FeatureValue::Number(x) => self.add_number(x),
            FeatureValue::Text(text) => self.add_text(text),
            FeatureValue::Boolean(value) => self.booleans[usize::from(value)] += 1,
        }
    }

    #[inline]
    fn add_number(&mut self, x: f64) {
        // -0.0 is 0.0, so that the range does not depend on which of them came first.
        let x = x + 0.0;
        self.numbers += 1;
        self.sum.add(x);
        self.squares.add_product(x, x);
        match self.profile.as_deref().and_then(FeatureProfile::numeric) {
            Some(numeric) => {
                self.cells.add(numeric.cell(x));
                let (lower, upper) = numeric.range.unwrap_or((numeric.min, numeric.max));
                self.outside += u64::from(x < lower || x > upper);
            }
            None => self.cells.add(FEATURE.cell(x)),
        }
        let (least, greatest) = self.range.unwrap_or((x, x));
        self.range = Some((least.min(x), greatest.max(x)));
    }

    fn add_text(&mut self, text: &str) {
        let categories = self.profile.as_deref().and_then(FeatureProfile::categories);
        let is_known = self.known.get(text).is_some()
            || categories.is_some_and(|categories| categories.position(text).is_some());
        if is_known {
            self.known.add(&KNOWN, text);
        } else {
            self.texts.add(&CATEGORIES, text);
        }
    }

    /// Folds in all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        self.numbers += other.numbers;
        self.booleans[0] += other.booleans[0];
        self.booleans[1] += other.booleans[1];
        self.not_finite += other.not_finite;
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
        self.cells.merge(&other.cells);
        self.known.merge(&KNOWN, &other.known);
        self.texts.merge(&CATEGORIES, &other.texts);
        self.outside += other.outside;
        self.range = match (self.range, other.range) {
            (Some(left), Some(right)) => Some((left.0.min(right.0), left.1.max(right.1))),
            (only, None) | (None, only) => only,
        };
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
    }
}
