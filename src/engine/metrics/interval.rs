//! The 95 % intervals of `metrics.md` 1.4, and how figures are put into a row.

use super::accumulator::{Column, Kind, Undefined, Value};
use super::exact_sum::ExactSum;

/// A figure, or why there is none.
pub type Figure = Result<f64, Undefined>;
/// Lower and upper limit, or why there are none.
pub type Limits = Result<(f64, f64), Undefined>;

/// The 97.5 % point of the standard normal distribution.
pub const Z: f64 = 1.959_963_984_540_054;

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

/// `part / whole`, undefined for this reason where `whole` is 0.
pub fn ratio(part: u64, whole: u64, otherwise: Undefined) -> Figure {
    if whole == 0 { Err(otherwise) } else { Ok(number(part) / number(whole)) }
}

/// Wilson score interval of k of n (statsmodels `proportion_confint(method="wilson")`); n is at least 1.
pub fn wilson(k: u64, n: u64) -> (f64, f64) {
    debug_assert!(0 < n && k <= n, "a proportion of something");
    let size = number(n);
    let share = number(k) / size;
    let scale = 1.0 + Z * Z / size;
    let centre = (share + Z * Z / (2.0 * size)) / scale;
    let half = Z * (share * (1.0 - share) / size + Z * Z / (4.0 * size * size)).sqrt() / scale;
    // At the ends the limit is the end itself; rounding must not move it.
    let lower = if k == 0 { 0.0 } else { (centre - half).max(0.0) };
    let upper = if k == n { 1.0 } else { (centre + half).min(1.0) };
    (lower, upper)
}

/// [`wilson`], undefined for this reason where n is 0.
pub fn wilson_limits(k: u64, n: u64, otherwise: Undefined) -> Limits {
    if n == 0 { Err(otherwise) } else { Ok(wilson(k, n)) }
}

/// Limits of F1: those of the Jaccard index J = tp / (tp + fp + fn), mapped by 2J / (1 + J).
pub fn f1_limits(tp: u64, fp: u64, fn_: u64) -> Limits {
    let (lower, upper) = wilson_limits(tp, tp + fp + fn_, Undefined::ZeroDenominator)?;
    let map = |jaccard: f64| 2.0 * jaccard / (1.0 + jaccard);
    Ok((map(lower), map(upper)))
}

/// Limits of the mean of two independent proportions from the Wilson limits of each (MOVER, Zou and Donner 2008).
pub fn mean_of_two(a: (u64, u64), b: (u64, u64)) -> (f64, f64) {
    let (p, q) = (number(a.0) / number(a.1), number(b.0) / number(b.1));
    let (p_limits, q_limits) = (wilson(a.0, a.1), wilson(b.0, b.1));
    let mean = f64::midpoint(p, q);
    let below = libm::hypot(p - p_limits.0, q - q_limits.0) / 2.0;
    let above = libm::hypot(p_limits.1 - p, q_limits.1 - q) / 2.0;
    ((mean - below).max(0.0), (mean + above).min(1.0))
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

/// Normal limits of a mean of n terms, from their sum and sum of squares, not clipped (scipy `norm.interval` with the
/// standard error of the mean).
pub fn mean_limits(n: u64, sum: &ExactSum, squares: &ExactSum) -> Limits {
    if n < 2 {
        return Err(Undefined::TooFewSamples);
    }
    let spread = ExactSum::covariance(n, squares, sum, sum);
    if spread <= 0.0 {
        return Err(Undefined::ZeroVariance);
    }
    let half = Z * (spread / (number(n) - 1.0)).sqrt();
    let mean = sum.mean(n);
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
