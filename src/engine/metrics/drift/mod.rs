//! Drift: how far the values of a window lie from those of the reference, and whether chance explains it
//! (`metrics.md` 8).

pub mod tail;
pub mod bins;
pub mod ordered;
pub mod verdict;
pub mod table;

use bins::{Bins, Tested};
use ordered::{Bracketed, Ordered};

use super::accumulator::Undefined;
use super::interval::{Figure, ratio, wilson_limits};
pub use super::method;
use super::method::Method;
use super::reference::{CategoricalProfile, FeatureProfile, NumericProfile, Values};
use crate::engine::names::OTHER;

/// What a window holds of one feature, or of scores, predictions or labels.
#[derive(Clone, Copy, Debug)]
pub enum CurrentCounts<'a> {
    /// Numbers.
    Cells {
        /// Counts by fine cell of the profile, each cell once; by cells that it does not have nothing is compared.
        cells: &'a [(u64, u64)],
        /// Records without a value.
        missing: u64,
    },
    /// Categories, `true` and `false` included.
    Names {
        /// Counts by name, each name once.
        names: &'a [(&'a str, u64)],
        /// Values whose name a cap has hidden; no name of the reference is among them.
        other: u64,
        /// Records without a value.
        missing: u64,
    },
}

/// One figure of a comparison.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measure {
    /// How it was compared.
    pub method: Method,
    /// The distance, statistic or rate.
    pub value: Figure,
    /// Of distances of ordered values the least that the raw values may have; of rates the lower 95 % limit (Wilson).
    pub value_lower: Figure,
    /// The greatest, or the upper limit.
    pub value_upper: Figure,
    /// What thresholds are held against.
    pub effect: Figure,
    /// Of rates the upper 95 % limit of the reference's own (Wilson).
    pub reference_upper: Figure,
    /// How likely chance alone makes as much.
    pub p_value: Figure,
    /// What of it is adjusted and judged: the same, but where bins are so sparse that the law of the p-value does not
    /// hold, at least that of the test that merges them.
    pub judged_p: Figure,
    /// Values of the window; of the missing rate its records.
    pub n: u64,
    /// Those of the reference.
    pub reference_n: u64,
    /// B: bins or categories that hold any value, as far as a test did not merge them; 0 for rates.
    pub bins: u64,
}

impl Measure {
    /// How many values window and reference must each have for a verdict: so many, and ten for each bin.
    pub fn least_n(&self, min_n: u64) -> u64 {
        (10 * self.bins).max(min_n)
    }

    fn undefined(
        method: Method,
        reason: Undefined,
        (n, reference_n): (u64, u64),
        bins: u64,
    ) -> Self {
        let (value, value_lower, value_upper) = (Err(reason), Err(reason), Err(reason));
        Self {
            method,
            value,
            value_lower,
            value_upper,
            effect: Err(reason),
            reference_upper: Err(reason),
            p_value: Err(reason),
            judged_p: Err(reason),
            n,
            reference_n,
            bins,
        }
    }

    /// A rate `part / n` against that of the reference.
    fn rate(method: Method, part: u64, n: u64, reference: (u64, u64)) -> Self {
        let value = ratio(part, n, Undefined::NoValues);
        let limits = wilson_limits(part, n, Undefined::NoValues);
        let expected = ratio(reference.0, reference.1, Undefined::NoValues);
        let of_reference = wilson_limits(reference.0, reference.1, Undefined::NoValues);
        Self {
            method,
            value,
            value_lower: limits.map(|(lower, _)| lower),
            value_upper: limits.map(|(_, upper)| upper),
            effect: value.and_then(|value| expected.map(|expected| value - expected)),
            reference_upper: of_reference.map(|(_, upper)| upper),
            p_value: Err(Undefined::NotApplicable),
            judged_p: Err(Undefined::NotApplicable),
            n,
            reference_n: reference.1,
            bins: 0,
        }
    }

    /// A distance or test over bins.
    fn tested(method: Method, tested: Result<Tested, Undefined>, sizes: (u64, u64)) -> Self {
        let Tested { value, effect, p_value, judged_p, bins } = match tested {
            Ok(tested) => tested,
            Err(reason) => return Self::undefined(method, reason, sizes, 1),
        };
        let (n, reference_n) = sizes;
        Self {
            method,
            value: Ok(value),
            value_lower: Err(Undefined::NotApplicable),
            value_upper: Err(Undefined::NotApplicable),
            effect: Ok(effect),
            reference_upper: Err(Undefined::NotApplicable),
            p_value,
            judged_p,
            n,
            reference_n,
            bins: wide(bins),
        }
    }

    /// A distance of ordered values.
    fn bracketed(
        method: Method,
        bracketed: Result<Bracketed, Undefined>,
        p_value: Figure,
        sizes: (u64, u64),
        bins: u64,
    ) -> Self {
        let Bracketed { value, lower, upper } = match bracketed {
            Ok(bracketed) => bracketed,
            Err(reason) => return Self::undefined(method, reason, sizes, bins),
        };
        let (n, reference_n) = sizes;
        Self {
            method,
            value: Ok(value),
            value_lower: Ok(lower),
            value_upper: upper,
            effect: Ok(value),
            reference_upper: Err(Undefined::NotApplicable),
            p_value,
            judged_p: p_value,
            n,
            reference_n,
            bins,
        }
    }
}

/// One measure of each method that exists for the kind of the reference, in the order of [`Method::ALL`]. Where the
/// window holds values of another kind, all are undefined (`not_applicable`).
pub fn drift(reference: &FeatureProfile, current: &CurrentCounts<'_>) -> Vec<Measure> {
    match (&reference.values, current) {
        (Values::Numeric(numeric), CurrentCounts::Cells { cells, missing }) => {
            of_numbers(reference, numeric, cells, *missing)
        }
        (
            Values::Categorical(names) | Values::Boolean(names),
            CurrentCounts::Names { names: current, other, missing },
        ) => of_names(reference, names, current, *other, *missing),
        (Values::Numeric(_), CurrentCounts::Names { .. })
        | (Values::Categorical(_) | Values::Boolean(_), CurrentCounts::Cells { .. }) => {
            not_applicable(reference)
        }
    }
}

/// Where values can't be compared with those of the reference.
fn not_applicable(reference: &FeatureProfile) -> Vec<Measure> {
    let sizes = (0, reference.total());
    let methods = Method::ALL.into_iter().filter(|it| it.applies_to(reference.kind()));
    methods.map(|method| Measure::undefined(method, Undefined::NotApplicable, sizes, 0)).collect()
}

fn of_numbers(
    reference: &FeatureProfile,
    numeric: &NumericProfile,
    cells: &[(u64, u64)],
    missing: u64,
) -> Vec<Measure> {
    let mut counts = vec![0_u64; usize::from(numeric.cells())];
    for &(cell, count) in cells {
        let place = usize::try_from(cell).unwrap_or(usize::MAX);
        // It was counted by the cells of something else.
        let Some(counted) = counts.get_mut(place) else { return not_applicable(reference) };
        *counted += count;
    }
    let mut pairs = vec![(0, 0); numeric.bins()];
    let of_reference = std::iter::once(&0).chain(&numeric.counts).chain(std::iter::once(&0));
    for ((bin, reference), current) in numeric.bins_of_cells().zip(of_reference).zip(&counts) {
        pairs[bin].0 += reference;
        pairs[bin].1 += current;
    }
    let n: u64 = counts.iter().sum();
    let outside = counts[0] + counts[counts.len() - 1];
    let bins = Bins::new(pairs);
    let ordered = (n > 0).then(|| Ordered::new(numeric, &counts));
    let sizes = (n, reference.total());
    let mut measures = over_bins(bins.as_ref(), sizes);
    let filled = bins.map_or(0, |bins| wide(bins.count()));
    let (ks, wasserstein, p_value) = match &ordered {
        Some(ordered) => {
            let ks = ordered.ks();
            (Ok(ks), ordered.wasserstein(), Ok(ordered.p_value(&ks)))
        }
        None => (Err(Undefined::NoValues), Err(Undefined::NoValues), Err(Undefined::NoValues)),
    };
    for (method, distance) in [(Method::Ks, ks), (Method::Wasserstein, wasserstein)] {
        measures.push(Measure::bracketed(method, distance, p_value, sizes, filled));
    }
    measures.push(missing_rate(reference, missing, n));
    measures.push(Measure::rate(Method::OutOfRangeRate, outside, n, (0, sizes.1)));
    measures
}

fn of_names(
    reference: &FeatureProfile,
    profile: &CategoricalProfile,
    names: &[(&str, u64)],
    other: u64,
    missing: u64,
) -> Vec<Measure> {
    let mut pairs: Vec<(u64, u64)> = profile.categories.iter().map(|(_, n)| (*n, 0)).collect();
    let mut unknown = other;
    for (name, count) in names {
        match profile.position(name) {
            Some(place) => pairs[place].1 += count,
            None => unknown += count,
        }
    }
    let mut unlisted = profile.other;
    // A name that is called so itself can't be told from those that are not listed, neither here nor there.
    if let Some(place) = profile.position(OTHER) {
        let (expected, found) = std::mem::take(&mut pairs[place]);
        (unlisted, unknown) = (unlisted + expected, unknown + found);
    }
    let n = pairs.iter().map(|(_, count)| count).sum::<u64>() + unknown;
    // Where the reference has names that it does not list, an unknown name may be one of them: `(other)`; else `(new)`.
    pairs.push((unlisted, unknown));
    let sizes = (n, reference.total());
    let mut measures = over_bins(Bins::new(pairs).as_ref(), sizes);
    measures.push(missing_rate(reference, missing, n));
    measures.push(if unlisted > 0 {
        Measure::undefined(Method::NewCategoryRate, Undefined::Capped, sizes, 0)
    } else {
        Measure::rate(Method::NewCategoryRate, unknown, n, (0, sizes.1))
    });
    measures
}

/// The methods over bins, undefined where there are no values.
fn over_bins(bins: Option<&Bins>, sizes: (u64, u64)) -> Vec<Measure> {
    let measure = |method, tested: &dyn Fn(&Bins) -> Result<Tested, Undefined>| match bins {
        Some(bins) => Measure::tested(method, tested(bins), sizes),
        None => Measure::undefined(method, Undefined::NoValues, sizes, 0),
    };
    let mut measures = Vec::with_capacity(Method::ALL.len());
    measures.extend([
        measure(Method::Psi, &|bins| Ok(bins.psi())),
        measure(Method::Js, &|bins| Ok(bins.js())),
        measure(Method::Hellinger, &|bins| Ok(bins.hellinger())),
        measure(Method::Linf, &|bins| Ok(bins.linf())),
        measure(Method::Tv, &|bins| Ok(bins.tv())),
        measure(Method::Chi2, &Bins::chi2),
        measure(Method::G, &Bins::g),
    ]);
    measures
}

/// The missing rate of a window with n values.
fn missing_rate(reference: &FeatureProfile, missing: u64, n: u64) -> Measure {
    let of_reference = (reference.missing, reference.missing + reference.total());
    Measure::rate(Method::MissingRate, missing, missing + n, of_reference)
}

fn wide(bins: usize) -> u64 {
    u64::try_from(bins).expect("fewer bins than 2^64")
}
