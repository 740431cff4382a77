//! Counts of numbers in bounded memory, and the quantiles that make edges of them.

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use crate::engine::event::NUMBER_MAX;
use crate::engine::metrics::exact_sum::ExactSum;
use crate::engine::metrics::reference::{NumericProfile, Scale};

/// How many distinct numbers of a feature are kept as they are; about 10 MB.
pub const EXACT_NUMBERS: usize = 1 << 18;
/// The bits of a double's mantissa that are kept, once there are more: quantiles are then too high by at most 2^-12 of
/// their size. Each further overflow takes one bit more.
const KEPT_BITS: u32 = 12;
const MANTISSA_BITS: u32 = 52;

/// Numbers with their counts. Minimum, maximum, mean and standard deviation are exact, and so are the counts between
/// edges; edges that were not given are quantiles exactly while there are few distinct numbers, else rounded up.
#[derive(Clone, Debug)]
pub struct Numbers {
    limit: usize,
    /// The edges that were given, and the numbers between them; both empty where the edges will be quantiles. Rounded
    /// numbers lie on the wrong side of edges that were not rounded alike.
    given_edges: Vec<f64>,
    between: Vec<u64>,
    /// Each number; empty where edges were given.
    counts: HashMap<u64, u64, FixedState>,
    dropped_bits: u32,
    n: u64,
    min: f64,
    max: f64,
    sum: ExactSum,
    squares: ExactSum,
}

impl Numbers {
    /// Without numbers. Keeps that many distinct ones, unless edges are given.
    pub fn new(limit: usize, given_edges: &[f64]) -> Self {
        Self {
            limit,
            given_edges: given_edges.to_vec(),
            between: if given_edges.is_empty() {
                Vec::new()
            } else {
                vec![0; given_edges.len() + 1]
            },
            counts: HashMap::with_hasher(FixedState::default()),
            dropped_bits: 0,
            n: 0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            sum: ExactSum::default(),
            squares: ExactSum::default(),
        }
    }

    /// Adds a finite number that is counted as `x`, and as `size` in mean and standard deviation.
    pub fn add(&mut self, x: f64, size: f64) {
        // -0.0 and 0.0 are one number.
        let x = x + 0.0;
        self.n += 1;
        (self.min, self.max) = (self.min.min(x), self.max.max(x));
        self.sum.add(size);
        self.squares.add_product(size, size);
        if let Some(count) = self.between.get_mut(cell(&self.given_edges, x)) {
            *count += 1;
            return;
        }
        *self.counts.entry(rounded_up(x, self.dropped_bits).to_bits()).or_insert(0) += 1;
        while self.counts.len() > self.limit && self.dropped_bits < MANTISSA_BITS {
            self.coarsen();
        }
    }

    #[cold]
    fn coarsen(&mut self) {
        self.dropped_bits = match self.dropped_bits {
            0 => MANTISSA_BITS - KEPT_BITS,
            bits => bits + 1,
        };
        let fine = std::mem::replace(&mut self.counts, HashMap::with_hasher(FixedState::default()));
        for (bits, count) in fine {
            let coarse = rounded_up(f64::from_bits(bits), self.dropped_bits);
            *self.counts.entry(coarse.to_bits()).or_insert(0) += count;
        }
    }

    /// How many numbers there are.
    pub fn n(&self) -> u64 {
        self.n
    }

    /// By how much, relative to its size, an edge may exceed the quantile; 0: not at all.
    pub fn edge_error(&self) -> f64 {
        match self.dropped_bits {
            0 => 0.0,
            bits => (-f64::from(MANTISSA_BITS - bits)).exp2(),
        }
    }

    /// The profile of at least one number.
    pub fn profile(&self, scale: Scale, range: Option<(f64, f64)>) -> NumericProfile {
        let has_given_edges = !self.given_edges.is_empty();
        let (fine_edges, bin_edges, counts) = if has_given_edges {
            (self.given_edges.clone(), self.given_edges.clone(), self.between.clone())
        } else {
            self.quantiles(scale)
        };
        NumericProfile {
            scale,
            min: self.min,
            max: self.max,
            mean: self.sum.mean(self.n),
            sd: ExactSum::covariance(self.n, &self.squares, &self.sum, &self.sum).max(0.0).sqrt(),
            fine_edges: fine_edges.into(),
            bin_edges,
            counts,
            has_given_edges,
            range,
        }
    }

    /// Percentiles, those of them that are tenths, and how many numbers lie between the percentiles; beside these,
    /// common numbers have more edges.
    ///
    /// A bin is closed on the right: what leaves its upper edge upwards leaves the bin, and what leaves it downwards
    /// would mostly stay. So a number that is several of the tenths has a bin of its own, whose other edge lies right
    /// below it, even where it is the least of all. That edge takes the place of a tenth that coincides with another:
    /// there are never more than ten bins, and each has a fifth of the numbers at most, or equal ones only. The cells
    /// also have an edge on the number that comes before, so that it can be told from what nobody has seen.
    fn quantiles(&self, scale: Scale) -> (Vec<f64>, Vec<f64>, Vec<u64>) {
        let sorted = self.sorted();
        let mut fine: Vec<f64> =
            (1..100).map(|percent| quantile(&sorted, self.n, percent)).collect();
        let mut bins: Vec<f64> = fine.iter().copied().skip(9).step_by(10).collect();
        let twice = bins.windows(2).filter(|pair| pair[0].total_cmp(&pair[1]).is_eq());
        let mut common: Vec<f64> = twice.map(|pair| pair[0]).collect();
        common.dedup();
        for x in common {
            let below = self.right_below(x, scale);
            let before = sorted[..sorted.partition_point(|(other, _)| *other < x)].last();
            bins.extend(below);
            fine.extend(below.into_iter().chain(before.map(|(other, _)| *other)));
        }
        let (fine, bins) = (distinct(fine), distinct(bins));
        let mut counts = vec![0; fine.len() + 1];
        for &(x, count) in &sorted {
            counts[cell(&fine, x)] += count;
        }
        (fine, bins, counts)
    }

    /// The greatest number that counts as less than `x`, which is one that is counted; none where nothing can be less.
    fn right_below(&self, x: f64, scale: Scale) -> Option<f64> {
        let (below, least) = match scale {
            Scale::Linear => (next_below(x, self.dropped_bits), -NUMBER_MAX),
            // Cells are numbered from 0 on.
            Scale::Score => (x - 1.0, 0.0),
        };
        (below >= least).then_some(below)
    }

    /// The numbers, rising. Rounded ones never exceed the maximum.
    fn sorted(&self) -> Vec<(f64, u64)> {
        let rounded = |(bits, count): (&u64, &u64)| (f64::from_bits(*bits).min(self.max), *count);
        let mut sorted: Vec<(f64, u64)> = self.counts.iter().map(rounded).collect();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        sorted
    }
}

/// Between which edges a number lies; one that equals an edge lies below it.
fn cell(edges: &[f64], x: f64) -> usize {
    edges.partition_point(|edge| *edge < x)
}

/// The greatest number that has the same bits, but for the lowest ones; 0 has no others beside it.
fn rounded_up(x: f64, dropped_bits: u32) -> f64 {
    if x.to_bits() == 0 {
        return x;
    }
    let mask = (1_u64 << dropped_bits) - 1;
    // Of the least negative numbers it makes -0.0, which is 0.0.
    f64::from_bits(if x < 0.0 { x.to_bits() & !mask } else { x.to_bits() | mask }) + 0.0
}

/// The greatest number that is not rounded up to `x`, but to less.
fn next_below(x: f64, dropped_bits: u32) -> f64 {
    let mask = (1_u64 << dropped_bits) - 1;
    if x > 0.0 {
        // 0 is not rounded.
        f64::from_bits(x.to_bits() & !mask).next_down().max(0.0)
    } else {
        f64::from_bits(x.to_bits() | (-0.0_f64).to_bits() | mask).next_down()
    }
}

/// The k-th smallest of n numbers, k = max(1, ⌈percent · n / 100⌉): numpy's `inverted_cdf`.
fn quantile(sorted: &[(f64, u64)], n: u64, percent: u64) -> f64 {
    let rank = (u128::from(percent) * u128::from(n)).div_ceil(100).max(1);
    let mut below = 0_u128;
    for &(x, count) in sorted {
        below += u128::from(count);
        if below >= rank {
            return x;
        }
    }
    unreachable!("the counts add up to n, which is at least the rank")
}

/// Each number once, rising.
fn distinct(mut all: Vec<f64>) -> Vec<f64> {
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}
