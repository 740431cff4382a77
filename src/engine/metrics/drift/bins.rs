//! Distances and tests of two samples counted in the same bins or categories.

use super::tail::chi_square_tail;
use crate::engine::metrics::accumulator::Undefined;
use crate::engine::metrics::interval::{Figure, number};

/// Shares below this one count as it in the population stability index.
const LEAST_SHARE: f64 = 1e-4;
/// Bins that are expected to hold fewer values are sparse: a test merges those that do so in the window.
const LEAST_EXPECTED: f64 = 5.0;

/// One bin: how many values of the reference and of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Bin {
    reference: u64,
    current: u64,
}

impl Bin {
    fn size(self) -> u64 {
        self.reference + self.current
    }
}

/// Two samples, each with at least one value, in the bins that hold any.
#[derive(Clone, Debug, PartialEq)]
pub struct Bins {
    filled: Vec<Bin>,
    /// Those of the tests.
    merged: Vec<Bin>,
    /// What [`chi2`](Self::chi2) gives.
    chi2: Result<Tested, Undefined>,
    /// M.
    reference_n: u64,
    /// n.
    n: u64,
}

/// A figure with what is judged and how likely chance makes as much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tested {
    /// Distance or statistic.
    pub value: f64,
    /// What thresholds are held against.
    pub effect: f64,
    /// The p-value.
    pub p_value: Figure,
    /// What of it is judged.
    pub judged_p: Figure,
    /// B: bins, as far as the test did not merge them.
    pub bins: usize,
}

impl Bins {
    /// Pairs of reference and current count; none if one of the samples is empty.
    pub fn new(counts: impl IntoIterator<Item = (u64, u64)>) -> Option<Self> {
        let filled: Vec<Bin> = counts
            .into_iter()
            .map(|(reference, current)| Bin { reference, current })
            .filter(|bin| bin.size() > 0)
            .collect();
        let reference_n = filled.iter().map(|bin| bin.reference).sum();
        let n = filled.iter().map(|bin| bin.current).sum();
        (n > 0 && reference_n > 0).then(|| {
            let share = number(n) / (number(n) + number(reference_n));
            let merged = merged(filled.clone(), share);
            let none = Err(Undefined::TooFewSamples);
            let mut bins = Self { filled, merged, chi2: none, reference_n, n };
            bins.chi2 =
                bins.table_test(|observed, expected| (observed - expected).powi(2) / expected);
            bins
        })
    }

    /// B: bins that hold any value.
    pub fn count(&self) -> usize {
        self.filled.len()
    }

    /// h = 1/n + 1/M.
    fn spread(&self) -> f64 {
        1.0 / number(self.n) + 1.0 / number(self.reference_n)
    }

    /// Shares p of the reference and q of the window.
    fn shares(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        let (reference_n, n) = (number(self.reference_n), number(self.n));
        self.filled
            .iter()
            .map(move |bin| (number(bin.reference) / reference_n, number(bin.current) / n))
    }

    /// Whether one of the two samples is expected to have too few values in some bin for the laws of
    /// [`divergence`](Self::divergence): with a few rare names these would call every second window unlikely.
    fn is_sparse(&self) -> bool {
        let (n, reference_n) = (number(self.n), number(self.reference_n));
        let share = n.min(reference_n) / (n + reference_n);
        self.filled.iter().any(|bin| number(bin.size()) * share < LEAST_EXPECTED)
    }

    /// A distance with this statistic, which, over h, is about chi-square: the first-order law of an f-divergence. Where
    /// bins are sparse it is judged by a p-value not below that of [`chi2`](Self::chi2), which merges them, if there is
    /// one.
    fn divergence(&self, value: f64, statistic: f64) -> Tested {
        let p_value = chi_square_tail(statistic / self.spread(), self.filled.len() - 1);
        let merged = self.chi2.and_then(|chi2| chi2.p_value);
        let judged_p = merged.map_or(p_value, |merged| p_value.max(merged));
        let judged_p = Ok(if self.is_sparse() { judged_p } else { p_value });
        Tested { value, effect: value, p_value: Ok(p_value), judged_p, bins: self.filled.len() }
    }

    /// Population stability index: Σ (q - p) ln(q/p), shares raised to at least 1e-4 (law: Yurdakul 2018).
    pub fn psi(&self) -> Tested {
        let term = |(p, q): (f64, f64)| {
            let (p, q) = (p.max(LEAST_SHARE), q.max(LEAST_SHARE));
            (q - p) * libm::log(q / p)
        };
        let value = self.shares().map(term).sum();
        self.divergence(value, value)
    }

    /// Jensen-Shannon distance, base 2: √(½ KL(p‖m) + ½ KL(q‖m)), m = (p + q)/2 (Lin 1991).
    pub fn js(&self) -> Tested {
        let part = |share: f64, middle: f64| {
            if share > 0.0 { share * libm::log2(share / middle) } else { 0.0 }
        };
        let term = |(p, q): (f64, f64)| {
            let middle = f64::midpoint(p, q);
            f64::midpoint(part(p, middle), part(q, middle))
        };
        let square = self.shares().map(term).sum::<f64>().clamp(0.0, 1.0);
        self.divergence(square.sqrt(), 8.0 * std::f64::consts::LN_2 * square)
    }

    /// Hellinger distance: √(1 - Σ √(pq)), summed as √(½ Σ (√p - √q)²), which cancels nothing.
    pub fn hellinger(&self) -> Tested {
        let term = |(p, q): (f64, f64)| (p.sqrt() - q.sqrt()).powi(2);
        let square = (self.shares().map(term).sum::<f64>() / 2.0).min(1.0);
        self.divergence(square.sqrt(), 8.0 * square)
    }

    /// A distance that has the p-value of [`chi2`](Self::chi2): none where the test has merged all bins into one.
    fn with_p_value_of_chi2(&self, value: f64) -> Tested {
        let p_value = match self.chi2 {
            Ok(chi2) => chi2.p_value,
            Err(_) if self.filled.len() == 1 => Ok(1.0),
            Err(reason) => Err(reason),
        };
        Tested { value, effect: value, p_value, judged_p: p_value, bins: self.filled.len() }
    }

    /// Greatest difference of shares: max |q - p|.
    pub fn linf(&self) -> Tested {
        self.with_p_value_of_chi2(self.shares().map(|(p, q)| (q - p).abs()).fold(0.0, f64::max))
    }

    /// Total variation: ½ Σ |q - p|.
    pub fn tv(&self) -> Tested {
        self.with_p_value_of_chi2(self.shares().map(|(p, q)| (q - p).abs()).sum::<f64>() / 2.0)
    }

    /// Pearson's statistic of the 2 × B table, Σ (O - E)²/E, without continuity correction.
    pub fn chi2(&self) -> Result<Tested, Undefined> {
        self.chi2
    }

    /// Likelihood-ratio statistic of the same table: 2 Σ O ln(O/E).
    pub fn g(&self) -> Result<Tested, Undefined> {
        self.table_test(|observed, expected| {
            if observed > 0.0 { 2.0 * observed * libm::log(observed / expected) } else { 0.0 }
        })
    }

    fn table_test(&self, term: impl Fn(f64, f64) -> f64) -> Result<Tested, Undefined> {
        let bins = &self.merged;
        if bins.len() < 2 {
            return Err(Undefined::TooFewSamples);
        }
        let (n, reference_n) = (number(self.n), number(self.reference_n));
        let of_bin = |bin: &Bin| {
            let both = number(bin.size()) / (n + reference_n);
            term(number(bin.reference), both * reference_n) + term(number(bin.current), both * n)
        };
        // Rounding may leave a likelihood ratio of equal samples a little below 0.
        let value = bins.iter().map(of_bin).sum::<f64>().max(0.0);
        let p_value = Ok(chi_square_tail(value, bins.len() - 1));
        let effect = value * self.spread();
        Ok(Tested { value, effect, p_value, judged_p: p_value, bins: bins.len() })
    }
}

/// The bins of a test: while the least expected current count is below 5, the two least are merged at the place of the
/// first of them; of equal ones the first is less. The current sample is expected to be this share of both.
fn merged(mut bins: Vec<Bin>, share: f64) -> Vec<Bin> {
    while bins.len() > 1 {
        let least_but = |taken: usize| {
            let places = (0..bins.len()).filter(|&place| place != taken);
            places.min_by_key(|&place| bins[place].size()).expect("there are two at least")
        };
        let least = least_but(bins.len());
        if number(bins[least].size()) * share >= LEAST_EXPECTED {
            break;
        }
        let next = least_but(least);
        let other = bins.remove(least.max(next));
        bins[least.min(next)].reference += other.reference;
        bins[least.min(next)].current += other.current;
    }
    bins
}
