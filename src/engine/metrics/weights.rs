//! What labelled records count for: one each, or what their labels weigh (`metrics.md` 1.6).
//!
//! A label of weight w counts as w 2^20 labels would: cells and exact sums take it so many times, which leaves every
//! ratio and mean what it should be. Plain counts stay beside them, and intervals go by the effective sample size.

use std::collections::BTreeMap;
use std::iter::Sum;
use std::ops::{Add, Sub};

use super::accumulator::Value;
use super::sign::Sign;

/// The double nearest to a count.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "rounded to nearest")]
pub fn number(count: u64) -> f64 {
    count as f64
}

/// The double nearest to a whole number.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "rounded to nearest")]
pub fn wide_number(whole: i128) -> f64 {
    whole as f64
}

/// A label's weight in units of 2^-20, from 0 to 2^40; none where the model ignores weights.
pub type Weight = Option<u64>;

/// What is said where they add up to more.
const TOO_HEAVY: &str = "label weights of one key and window add up to less than 2^43 (README, Limits): \
    send smaller ones, or set `weights = \"ignore\"`";

/// How many times a record is counted in sums and cells.
#[inline]
pub fn times(weight: Weight) -> u64 {
    weight.unwrap_or(1)
}

/// Units of a weight of 1: those of a plain record are 1.
pub fn one(is_weighted: bool) -> f64 {
    if is_weighted { 1_048_576.0 } else { 1.0 }
}

/// A number of records and what they count for. Weights add up to less than 2^63 units: 8 million of the greatest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mass {
    /// How many they are.
    pub records: u64,
    /// The sum of their weights in units; of plain records, their number.
    pub units: u64,
    /// The sum of the squares of the weights in units.
    squares: u128,
    is_weighted: bool,
}

impl Mass {
    /// The sum of the weights; of plain records their number.
    pub fn weight(self) -> f64 {
        number(self.units) / one(self.is_weighted)
    }

    /// The effective sample size (Kish 1965): (sum of w)^2 / (sum of w^2); at most the number of records.
    pub fn effective(self) -> f64 {
        if self.squares == u128::from(self.units) {
            return number(self.units);
        }
        // Both below 2^126, as the sum of the weights is below 2^63.
        let [square, squares] = [square(self.units), self.squares]
            .map(|wide| wide_number(i128::try_from(wide).expect(TOO_HEAVY)));
        (square / squares).min(number(self.records))
    }
}

impl From<u64> for Mass {
    /// Plain records.
    fn from(records: u64) -> Self {
        Self { records, units: records, squares: u128::from(records), is_weighted: false }
    }
}

impl Add for Mass {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            records: self.records + other.records,
            units: self.units.checked_add(other.units).expect(TOO_HEAVY),
            squares: self.squares + other.squares,
            is_weighted: self.is_weighted || other.is_weighted,
        }
    }
}

impl Sub for Mass {
    type Output = Self;

    /// The rest, where `other` is a part.
    fn sub(self, other: Self) -> Self {
        Self {
            records: self.records - other.records,
            units: self.units - other.units,
            squares: self.squares - other.squares,
            is_weighted: self.is_weighted || other.is_weighted,
        }
    }
}

impl Sum for Mass {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

/// Sums of weights, and of their squares, at one place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    units: u64,
    squares: u128,
}

/// Sums of weights by place: the twins of a family's counts, whose places are its own affair. Empty where weights are
/// ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Weights(BTreeMap<u32, Tally>);

impl Weights {
    /// Adds a record's weight at a place, or takes one back that was added there.
    #[inline]
    pub fn fold(&mut self, place: u32, weight: Weight, sign: impl Sign) {
        let Some(units @ 1..) = weight else { return };
        if sign.adds() {
            return self.add_tally(place, Tally { units, squares: square(units) });
        }
        let tally = self.0.get_mut(&place).expect("what is taken back was added");
        tally.units -= units;
        tally.squares -= square(units);
        if tally.squares == 0 {
            self.0.remove(&place);
        }
    }

    fn add_tally(&mut self, place: u32, more: Tally) {
        let tally = self.0.entry(place).or_default();
        tally.units = tally.units.checked_add(more.units).expect(TOO_HEAVY);
        tally.squares += more.squares;
    }

    /// Adds all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        for (place, tally) in &other.0 {
            self.add_tally(*place, *tally);
        }
    }

    /// Gives every place another one; of several that get the same, the sum.
    pub fn map_places(&mut self, to: impl Fn(u32) -> u32) {
        let old = std::mem::take(&mut self.0);
        for (place, tally) in old {
            self.add_tally(to(place), tally);
        }
    }

    /// What so many records at a place count for. `is_weighted` says whether their weights are used.
    pub fn mass(&self, place: u32, records: u64, is_weighted: bool) -> Mass {
        if !is_weighted {
            return Mass::from(records);
        }
        let Tally { units, squares } = self.0.get(&place).copied().unwrap_or_default();
        assert!(units < 1 << 63, "{TOO_HEAVY}");
        Mass { records, units, squares, is_weighted }
    }

    /// Whether so many records at a place, and not all of them without weight, weigh the same: by the equality of Cauchy
    /// and Schwarz, n sum of w^2 = (sum of w)^2. False also where the product is beyond 2^128.
    pub fn are_equal(&self, place: u32, records: u64) -> bool {
        self.0.get(&place).is_some_and(|tally| {
            u128::from(records).checked_mul(tally.squares) == Some(square(tally.units))
        })
    }

    /// Sums of weights in units of the places from `first` on, less than `end`, each counted from `first`.
    pub fn units(&self, first: u32, end: u32) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.0.range(first..end).map(move |(place, tally)| (place - first, tally.units))
    }

    /// The one written form: three numbers for each place, at three times the place and behind it: the sum of the
    /// weights in units, and that of their squares, the low 64 bits first. What is 0 is left out.
    pub fn to_value(&self) -> Value {
        let triples = self.0.iter().flat_map(|(place, tally)| {
            let at = 3 * u64::from(*place);
            let [low, high] = [tally.squares & u128::from(u64::MAX), tally.squares >> 64]
                .map(|half| u64::try_from(half).expect("64 bits"));
            [(at, tally.units), (at + 1, low), (at + 2, high)]
        });
        Value::Cells(triples.filter(|(_, number)| *number > 0).collect())
    }

    /// What [`to_value`](Self::to_value) wrote for places below `places`; none for anything else.
    pub fn from_pairs(pairs: &[(u64, u64)], places: u32) -> Option<Self> {
        if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
            return None;
        }
        let mut all: BTreeMap<u32, Tally> = BTreeMap::new();
        for &(at, number) in pairs {
            let place = u32::try_from(at / 3).ok().filter(|place| *place < places)?;
            let tally = all.entry(place).or_default();
            match at % 3 {
                _ if number == 0 => return None,
                0 => tally.units = number,
                1 => tally.squares += u128::from(number),
                _ => tally.squares += u128::from(number) << 64,
            }
        }
        // Of whole numbers, the sum of the squares is at least the sum.
        let is_sum = |tally: &Tally| tally.units > 0 && tally.squares >= u128::from(tally.units);
        all.values().all(is_sum).then_some(Self(all))
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        // A leaf has room for eleven; those of a tree that grows are two thirds full.
        let leaf = 11 * (size_of::<u32>() + size_of::<Tally>()) + 2 * size_of::<usize>();
        self.0.len().div_ceil(7) * leaf
    }
}

fn square(units: u64) -> u128 {
    u128::from(units) * u128::from(units)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::metrics::sign::{Minus, Plus};

    fn pairs(weights: &Weights) -> Vec<(u64, u64)> {
        let Value::Cells(pairs) = weights.to_value() else { panic!("cells") };
        pairs
    }

    #[test]
    fn weights_of_any_size_come_back() {
        let mut weights = Weights::default();
        let greatest = 1 << 40;
        for (place, units) in [(0, 0), (0, 1), (7, greatest), (7, greatest), (9, 3)] {
            weights.fold(place, Some(units), Plus);
        }
        weights.fold(5, None, Plus);
        assert_eq!(Weights::from_pairs(&pairs(&weights), 10), Some(weights.clone()));
        assert_eq!(Weights::from_pairs(&pairs(&weights), 9), None);
        let mass = weights.mass(7, 2, true);
        assert_eq!((mass.units, mass.weight()), (2 * greatest, 2.0 * 1_048_576.0));
        assert!((mass.effective() - 2.0).abs() < 1e-15);
        for (place, units) in [(7, greatest), (0, 1), (9, 3), (7, greatest), (0, 0)] {
            weights.fold(place, Some(units), Minus);
        }
        assert_eq!(weights, Weights::default());
    }

    #[test]
    fn other_forms_are_refused() {
        for pairs in [vec![(1, 4)], vec![(0, 2), (1, 1)], vec![(0, 0)], vec![(1, 4), (0, 2)]] {
            assert_eq!(Weights::from_pairs(&pairs, 10), None, "{pairs:?}");
        }
    }

    #[test]
    fn equal_weights_are_told_from_others() {
        let of = |all: &[u64]| {
            let mut weights = Weights::default();
            for weight in all {
                weights.fold(0, Some(*weight), Plus);
            }
            weights.are_equal(0, u64::try_from(all.len()).unwrap())
        };
        assert!(of(&[5]) && of(&[3; 7]) && of(&[1 << 40; 9]));
        assert!(!of(&[5, 5, 6]) && !of(&[4, 0]) && !of(&[1 << 40, (1 << 40) - 1]) && !of(&[0, 0]));
    }

    #[test]
    fn one_heavy_record_among_light_ones_is_hardly_more_than_one() {
        // 7 records of weight 1 and one of 3: 10^2 / 16 = 6.25.
        let mut weights = Weights::default();
        (0..7).for_each(|_| weights.fold(0, Some(1 << 20), Plus));
        weights.fold(0, Some(3 << 20), Plus);
        assert!((weights.mass(0, 8, true).effective() - 6.25).abs() < 1e-12);
        assert_eq!(weights.mass(0, 8, false), Mass::from(8));
    }
}
