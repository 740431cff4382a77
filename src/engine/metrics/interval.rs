//! The 95 % intervals of `metrics.md` 1.4, and how figures are put into a row.

use super::accumulator::{Column, Kind, Undefined, Value};
use super::exact_sum::ExactSum;
use super::weights::Mass;
pub use super::weights::{number, wide_number};

/// A figure, or why there is none.
pub type Figure = Result<f64, Undefined>;
/// Lower and upper limit, or why there are none.
pub type Limits = Result<(f64, f64), Undefined>;

/// The 97.5 % point of the standard normal distribution.
pub const Z: f64 = 1.959_963_984_540_054;

/// What is divided by, undefined for this reason where there are no records, and where they weigh nothing.
pub fn whole(whole: Mass, otherwise: Undefined) -> Result<Mass, Undefined> {
    match whole {
        Mass { records: 0, .. } => Err(otherwise),
        Mass { units: 0, .. } => Err(Undefined::ZeroDenominator),
        whole => Ok(whole),
    }
}

/// `part / whole`, undefined for this reason where there are no records in `whole`.
pub fn ratio(part: impl Into<Mass>, all: impl Into<Mass>, otherwise: Undefined) -> Figure {
    let all = whole(all.into(), otherwise)?;
    Ok(number(part.into().units) / number(all.units))
}

/// Wilson score interval of k of n (statsmodels `proportion_confint(method="wilson")`), n by its effective size; n
/// weighs something.
pub fn wilson(k: Mass, n: Mass) -> (f64, f64) {
    debug_assert!(0 < n.units && k.units <= n.units, "a proportion of something");
    let size = n.effective();
    let share = number(k.units) / number(n.units);
    let scale = 1.0 + Z * Z / size;
    let centre = (share + Z * Z / (2.0 * size)) / scale;
    let half = Z * (share * (1.0 - share) / size + Z * Z / (4.0 * size * size)).sqrt() / scale;
    // At the ends the limit is the end itself; rounding must not move it.
    let lower = if k.units == 0 { 0.0 } else { (centre - half).max(0.0) };
    let upper = if k.units == n.units { 1.0 } else { (centre + half).min(1.0) };
    (lower, upper)
}

/// [`wilson`], undefined as [`ratio`] is.
pub fn wilson_limits(k: impl Into<Mass>, n: impl Into<Mass>, otherwise: Undefined) -> Limits {
    Ok(wilson(k.into(), whole(n.into(), otherwise)?))
}

/// Limits of F1: those of the Jaccard index J = tp / (tp + fp + fn), mapped by 2J / (1 + J).
pub fn f1_limits(tp: Mass, fp: Mass, fn_: Mass) -> Limits {
    let (lower, upper) = wilson_limits(tp, tp + fp + fn_, Undefined::ZeroDenominator)?;
    let map = |jaccard: f64| 2.0 * jaccard / (1.0 + jaccard);
    Ok((map(lower), map(upper)))
}

/// The mean of two independent proportions, and its limits from the Wilson limits of each (MOVER, Zou and Donner
/// 2008). Undefined where one has no records, or none that weigh anything.
pub fn mean_of_two(a: (Mass, Mass), b: (Mass, Mass)) -> Result<(f64, (f64, f64)), Undefined> {
    let of = |(part, all): (Mass, Mass)| {
        let all = whole(all, Undefined::OneClass)?;
        Ok((number(part.units) / number(all.units), wilson(part, all)))
    };
    let ((p, p_limits), (q, q_limits)) = (of(a)?, of(b)?);
    let mean = f64::midpoint(p, q);
    let below = libm::hypot(p - p_limits.0, q - q_limits.0) / 2.0;
    let above = libm::hypot(p_limits.1 - p, q_limits.1 - q) / 2.0;
    Ok((mean, ((mean - below).max(0.0), (mean + above).min(1.0))))
}

/// Normal limits of a figure in 0..=1 with this standard error.
pub fn normal(figure: f64, standard_error: f64) -> (f64, f64) {
    ((figure - Z * standard_error).max(0.0), (figure + Z * standard_error).min(1.0))
}

/// Logit limits of an average precision over that many positives (Boyd et al. 2013).
pub fn logit(figure: f64, positives: u64) -> Limits {
    let spread = number(positives) * figure * (1.0 - figure);
    if spread <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let centre = libm::log(figure / (1.0 - figure));
    let half = Z / spread.sqrt();
    let back = |x: f64| 1.0 / (1.0 + libm::exp(-x));
    Ok((back(centre - half), back(centre + half)))
}

/// The mean of n terms from their sum, undefined as [`ratio`] is.
pub fn mean(n: Mass, sum: &ExactSum, otherwise: Undefined) -> Figure {
    Ok(sum.mean(whole(n, otherwise)?.units))
}

/// Normal limits of a mean of n terms, from their sum and sum of squares, not clipped (scipy `norm.interval` with the
/// standard error of the mean). Of weighted ones the variance is that of their weighted distribution, and the size the
/// effective one.
pub fn mean_limits(n: Mass, sum: &ExactSum, squares: &ExactSum) -> Limits {
    if n.records < 2 {
        return Err(Undefined::TooFewSamples);
    }
    let whole = whole(n, Undefined::ZeroDenominator)?;
    let size = whole.effective();
    if size <= 1.0 {
        return Err(Undefined::TooFewSamples);
    }
    let spread = ExactSum::covariance(whole.units, squares, sum, sum);
    if spread <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let half = Z * (spread / (size - 1.0)).sqrt();
    let mean = sum.mean(whole.units);
    Ok((mean - half, mean + half))
}

/// Appends a figure.
pub(super) fn put(out: &mut Vec<Value>, figure: Figure) {
    out.push(Value::Figure(figure));
}

/// Appends a figure, its lower and its upper limit.
pub(super) fn put_with_limits(out: &mut Vec<Value>, figure: Figure, limits: Limits) {
    put(out, figure);
    put(out, limits.map(|(lower, _)| lower));
    put(out, limits.map(|(_, upper)| upper));
}

/// A column of counts.
pub(super) const fn count(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Count, comment }
}

/// A column of figures that may be undefined.
pub(super) const fn figure(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Figure, comment }
}

/// A column of numbers that are never NULL.
pub(super) const fn plain(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Number, comment }
}

/// A column of one name.
pub(super) const fn text(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Text, comment }
}

/// A column of lists of names.
pub(super) const fn names(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Names, comment }
}

/// A column of cells.
pub(super) const fn cells(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Cells, comment }
}

/// A column of exact sums.
pub(super) const fn sum(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Sum, comment }
}

/// A column of lists of exact sums.
pub(super) const fn sums(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Sums, comment }
}

/// The columns of several lists, one behind the other; N is how many there are.
pub(super) const fn joined<const N: usize>(lists: &[&[Column]]) -> [Column; N] {
    let mut all = [count("", ""); N];
    let (mut list, mut filled) = (0, 0);
    while list < lists.len() {
        let mut at = 0;
        while at < lists[list].len() {
            all[filled] = lists[list][at];
            filled += 1;
            at += 1;
        }
        list += 1;
    }
    assert!(filled == N, "N is the length of all lists");
    all
}
