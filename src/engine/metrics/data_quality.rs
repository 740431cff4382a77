//! The figures of table `data_quality`: one row for each feature.

use std::sync::Arc;

use super::accumulator::{Column, Text, Undefined, Value};
use super::distinct::Numbers;
use super::exact_sum::ExactSum;
use super::feature::FeatureState;
use super::interval::{
    Figure, count, figure, number, put, put_with_limits, ratio, text, wilson_limits,
};
use super::lattice::FEATURE;
use super::reference::{FeatureKind, FeatureProfile, NumericProfile};

/// The columns of `data_quality`; the feature is a key.
pub const DATA_QUALITY_FIGURES: &[Column] = &[
    text(
        "feature",
        "The feature's name; (other) holds the values of features beyond the cap on them.",
    ),
    text("kind", "What most of its values are: numeric, categorical, boolean."),
    count("inferences", "Accepted inferences."),
    count("values", "Values of its kind."),
    count("missing", "Inferences without a value: absent, null, NaN or infinite."),
    figure("missing_rate", "missing / inferences."),
    figure("missing_rate_lower", "Lower limit of the 95 % interval of missing_rate (Wilson)."),
    figure("missing_rate_upper", "Upper limit of the 95 % interval of missing_rate (Wilson)."),
    count("non_finite", "NaN, infinite, or beyond 1e150, among the missing."),
    count("type_errors", "Values of another kind; they enter no other figure."),
    figure("type_error_rate", "type_errors / inferences."),
    figure("out_of_range", "Numbers outside the declared range, or else that of the reference."),
    figure("out_of_range_rate", "out_of_range / values."),
    figure("new_categories", "Distinct texts that the reference does not have."),
    figure("new_category_values", "Values with such a text."),
    figure(
        "distinct",
        "Distinct values: exact up to 100 beside those of the reference, else estimated. Numbers only where configured.",
    ),
    figure("is_constant", "1 if there are at least two values and all are equal, else 0."),
    figure("min", "Least number."),
    figure("max", "Greatest number."),
    figure("mean", "Mean of the numbers."),
    figure("sd", "Standard deviation of the numbers (n - 1)."),
    figure(
        "p01",
        "1 % quantile of the numbers, within 1/64 of the exact one; with a reference inside its cells of 1 %.",
    ),
    figure("p25", "25 % quantile of the numbers, alike."),
    figure("p50", "Median of the numbers, alike."),
    figure("p75", "75 % quantile of the numbers, alike."),
    figure("p99", "99 % quantile of the numbers, alike."),
    text(
        "top_category",
        "Most frequent text, of several the first; empty where there is none, or where one beyond the cap on texts may be as frequent.",
    ),
    count("top_category_n", "How often it came; 0 where there is none, or it is not known."),
];

/// The row of a feature of so many inferences, beside its profile where the model's reference has one. Where features
/// `are_capped`, values of this one may be counted under `(other)`.
pub fn row(
    name: &Arc<str>,
    state: &FeatureState,
    reference: Option<&FeatureProfile>,
    (inferences, are_capped): (u64, bool),
) -> Vec<Value> {
    let mut out = Vec::with_capacity(DATA_QUALITY_FIGURES.len());
    let kind = reference.map_or_else(|| state.kind(), FeatureProfile::kind);
    let one = Of { state, kind, reference };
    let (values, present) = (state.values(kind), state.present());
    // What stands under (other) may be several values of one inference.
    let missing = inferences.saturating_sub(present);
    let type_errors = present - values;
    let none = Undefined::NoValues;
    out.push(Value::Text(Arc::clone(name).into()));
    out.push(Value::Text(kind.name().into()));
    out.extend([inferences, values, missing].map(Value::Count));
    if are_capped {
        put_with_limits(&mut out, Err(Undefined::Capped), Err(Undefined::Capped));
    } else {
        let limits = wilson_limits(missing, inferences, none);
        put_with_limits(&mut out, ratio(missing, inferences, none), limits);
    }
    out.extend([state.not_finite, type_errors].map(Value::Count));
    // Several values of one inference again.
    put(&mut out, ratio(type_errors.min(inferences), inferences, none));
    let outside = one.numeric_reference().map(|_| state.outside);
    put(&mut out, outside.map(number));
    put(&mut out, outside.and_then(|outside| ratio(outside, values, none)));
    one.put_new_categories(&mut out);
    put(&mut out, one.distinct());
    put(&mut out, one.is_constant());
    put(&mut out, one.of_numbers(|state| state.range.map(|(least, _)| least).ok_or(none)));
    put(&mut out, one.of_numbers(|state| state.range.map(|(_, greatest)| greatest).ok_or(none)));
    put(&mut out, one.of_numbers(|state| Ok(state.sum.mean(state.numbers))));
    put(&mut out, one.of_numbers(deviation));
    for percent in [1, 25, 50, 75, 99] {
        put(&mut out, one.of_numbers(|state| quantile(state, reference, percent)));
    }
    let (category, n) =
        one.top().map_or((Text::from(""), 0), |(name, n)| (Arc::clone(name).into(), n));
    out.extend([Value::Text(category), Value::Count(n)]);
    out
}

/// A feature as values of one kind.
struct Of<'a> {
    state: &'a FeatureState,
    kind: FeatureKind,
    reference: Option<&'a FeatureProfile>,
}

impl Of<'_> {
    fn of_numbers(&self, figure: impl FnOnce(&FeatureState) -> Figure) -> Figure {
        if self.kind != FeatureKind::Numeric {
            Err(Undefined::NotApplicable)
        } else if self.state.numbers == 0 {
            Err(Undefined::NoValues)
        } else {
            figure(self.state)
        }
    }

    fn numeric_reference(&self) -> Result<&NumericProfile, Undefined> {
        if self.kind != FeatureKind::Numeric {
            return Err(Undefined::NotApplicable);
        }
        self.reference.and_then(FeatureProfile::numeric).ok_or(Undefined::NoReference)
    }

    fn put_new_categories(&self, out: &mut Vec<Value>) {
        let texts = &self.state.texts;
        let reference = match (self.kind, self.reference.and_then(FeatureProfile::categories)) {
            (FeatureKind::Numeric | FeatureKind::Boolean, _) => Err(Undefined::NotApplicable),
            (FeatureKind::Categorical, None) => Err(Undefined::NoReference),
            // A text that the reference does not list may be one of those that it only counts.
            (FeatureKind::Categorical, Some(known)) if known.other > 0 => Err(Undefined::Capped),
            (FeatureKind::Categorical, Some(_)) => Ok(()),
        };
        let names = if texts.other() > 0 { Err(Undefined::Capped) } else { Ok(size(texts.len())) };
        put(out, reference.and(names));
        put(out, reference.map(|()| number(texts.total())));
    }

    fn distinct(&self) -> Figure {
        let FeatureState { known, texts, booleans, text_registers, distinct_numbers, .. } =
            self.state;
        match (self.kind, text_registers) {
            (FeatureKind::Numeric, _) => {
                distinct_numbers.as_ref().map(Numbers::count).ok_or(Undefined::NotConfigured)
            }
            (FeatureKind::Categorical, Some(many)) => Ok(size(known.len()) + many.estimate()),
            (FeatureKind::Categorical, None) if texts.other() > 0 => Err(Undefined::Capped),
            (FeatureKind::Categorical, None) => Ok(size(known.len() + texts.len())),
            (FeatureKind::Boolean, _) => {
                Ok(size(booleans.iter().filter(|&&count| count > 0).count()))
            }
        }
    }

    fn is_constant(&self) -> Figure {
        let FeatureState { known, texts, booleans, range, .. } = self.state;
        let is_one = match self.kind {
            FeatureKind::Numeric => {
                range.is_some_and(|(least, greatest)| least.total_cmp(&greatest).is_eq())
            }
            FeatureKind::Categorical => known.len() + texts.len() == 1 && texts.other() == 0,
            FeatureKind::Boolean => booleans.contains(&0),
        };
        match self.state.values(self.kind) {
            0 => Err(Undefined::NoValues),
            1 => Ok(0.0),
            _ => Ok(if is_one { 1.0 } else { 0.0 }),
        }
    }

    /// The most frequent text, of several the first; none where a text that is not told apart may have come as often.
    fn top(&self) -> Option<(&Arc<str>, u64)> {
        if self.kind != FeatureKind::Categorical {
            return None;
        }
        let tops = [self.state.known.top(), self.state.texts.top()];
        let top = tops.into_iter().flatten().min_by(|a, b| (b.1, a.0).cmp(&(a.1, b.0)));
        top.filter(|&(_, n)| n > self.state.texts.other())
    }
}

fn size(count: usize) -> f64 {
    number(u64::try_from(count).unwrap_or(u64::MAX))
}

fn deviation(state: &FeatureState) -> Figure {
    if state.numbers < 2 {
        return Err(Undefined::TooFewSamples);
    }
    let n = state.numbers;
    let spread = ExactSum::covariance(n, &state.squares, &state.sum, &state.sum);
    Ok((spread * (number(n) / (number(n) - 1.0))).sqrt())
}

fn quantile(state: &FeatureState, reference: Option<&FeatureProfile>, percent: u64) -> Figure {
    let (least, greatest) = state.range.ok_or(Undefined::NoValues)?;
    if let Some(numeric) = reference.and_then(FeatureProfile::numeric) {
        let inside = inside_cell(state, numeric, percent).ok_or(Undefined::NoValues)?;
        return Ok(inside.clamp(least, greatest));
    }
    let cell = state.cells.quantile(percent).ok_or(Undefined::NoValues)?;
    // The outermost cells hold all that is greater in size: the extreme stands for them.
    Ok(match cell {
        0 => least,
        top if top + 1 == FEATURE.cells() => greatest,
        inner => FEATURE.middle(inner).clamp(least, greatest),
    })
}

/// The quantile if those values of each cell of the reference that may lie [below its upper edge](below_edge) lay at
/// equal distances, and the others on it; the outermost cells end at the extremes.
fn inside_cell(state: &FeatureState, numeric: &NumericProfile, percent: u64) -> Option<f64> {
    let (least, greatest) = state.range?;
    let rank = (u128::from(percent) * u128::from(state.numbers)).div_ceil(100).max(1);
    let mut below = 0_u128;
    for (cell, count) in state.cells.iter() {
        if below + u128::from(count) < rank {
            below += u128::from(count);
            continue;
        }
        // Given edges may lie beyond the values of the reference, where these cells hold none.
        let edge = |at: usize| {
            let edge = numeric.fine_edges.get(at).copied().unwrap_or(numeric.max);
            edge.clamp(numeric.min, numeric.max)
        };
        let (lower, upper, below_upper) = match usize::from(cell).checked_sub(1) {
            None => (least, numeric.min, 1.0),
            Some(_) if cell + 1 == numeric.cells() => (numeric.max, greatest, 1.0),
            Some(0) => (numeric.min, edge(0), below_edge(numeric, 0)),
            Some(inner) => (edge(inner - 1), edge(inner), below_edge(numeric, inner)),
        };
        let within = u64::try_from(rank - below).ok()?;
        let way = number(within) / number(count) / below_upper;
        return Some(if way < 1.0 { lower + (upper - lower) * way } else { upper });
    }
    None
}

/// Which share of the values in one of the cells between minimum and maximum may lie below its upper edge, as far as the
/// reference tells.
///
/// Where the edge is one of its percentiles, this one is the first of them above the edge before. So at that
/// percentile's rank the reference has reached the edge, and what more the cell holds lies on the edge: of a flag or a
/// whole number nearly all. Where that is half of the cell or more the value stands for all of it. A cell below another
/// edge holds less than reaches a percentile.
fn below_edge(numeric: &NumericProfile, cell: usize) -> f64 {
    let Some(&held) = numeric.counts.get(cell) else { return 1.0 };
    let (before, total): (u64, u64) = (numeric.counts[..cell].iter().sum(), numeric.total());
    // A checked profile has 2^53 values at most.
    let percent = 100 * before / total + 1;
    let spread = (percent * total).div_ceil(100) - before;
    if numeric.has_given_edges || held <= spread {
        1.0
    } else if held - spread >= spread {
        0.0
    } else {
        number(spread) / number(held)
    }
}
