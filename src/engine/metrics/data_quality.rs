//! The figures of table `data_quality`: one row for each feature.

use std::sync::Arc;

use super::accumulator::{Column, Undefined, Value};
use super::exact_sum::ExactSum;
use super::feature::{FeatureKind, FeatureState};
use super::histogram::FEATURE;
use super::interval::{
    Figure, count, figure, number, put, put_with_limits, ratio, text, wilson_limits,
};

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
    figure("distinct", "Distinct texts, exact up to the cap on them."),
    figure("is_constant", "1 if there are at least two values and all are equal, else 0."),
    figure("min", "Least number."),
    figure("max", "Greatest number."),
    figure("mean", "Mean of the numbers."),
    figure("sd", "Standard deviation of the numbers (n - 1)."),
    figure("p01", "1 % quantile of the numbers, within 1/64 of the exact one."),
    figure("p25", "25 % quantile of the numbers, within 1/64."),
    figure("p50", "Median of the numbers, within 1/64."),
    figure("p75", "75 % quantile of the numbers, within 1/64."),
    figure("p99", "99 % quantile of the numbers, within 1/64."),
    text("top_category", "Most frequent text, of several the first; empty where there is none."),
    count("top_category_n", "How often it came."),
];

/// The row of a feature of so many inferences.
pub fn row(name: &Arc<str>, state: &FeatureState, inferences: u64) -> Vec<Value> {
    let mut out = Vec::with_capacity(DATA_QUALITY_FIGURES.len());
    let kind = state.kind();
    let (values, present) = (state.values(kind), state.present());
    // What stands under (other) may be several values of one inference.
    let missing = inferences.saturating_sub(present);
    let type_errors = present - values;
    out.push(Value::Text(Arc::clone(name)));
    out.push(Value::Text(Arc::from(kind.name())));
    out.extend([inferences, values, missing].map(Value::Count));
    let none = Undefined::NoValues;
    put_with_limits(
        &mut out,
        ratio(missing, inferences, none),
        wilson_limits(missing, inferences, none),
    );
    out.extend([state.not_finite, type_errors].map(Value::Count));
    // Several values of one inference again.
    put(&mut out, ratio(type_errors.min(inferences), inferences, none));
    put(&mut out, distinct(state, kind));
    put(&mut out, is_constant(state, kind));
    let numeric = Numbers { state, is_numeric: kind == FeatureKind::Numeric };
    put(&mut out, numeric.of(|state| state.range.map(|(least, _)| least).ok_or(none)));
    put(&mut out, numeric.of(|state| state.range.map(|(_, greatest)| greatest).ok_or(none)));
    put(&mut out, numeric.of(|state| Ok(state.sum.mean(state.numbers))));
    put(&mut out, numeric.of(deviation));
    for percent in [1, 25, 50, 75, 99] {
        put(&mut out, numeric.of(|state| quantile(state, percent)));
    }
    let top = (kind == FeatureKind::Categorical).then(|| state.texts.top()).flatten();
    let (category, n) = top.map_or((Arc::from(""), 0), |(name, n)| (Arc::clone(name), n));
    out.extend([Value::Text(category), Value::Count(n)]);
    out
}

/// A feature, asked as one of numbers.
struct Numbers<'a> {
    state: &'a FeatureState,
    is_numeric: bool,
}

impl Numbers<'_> {
    fn of(&self, figure: impl FnOnce(&FeatureState) -> Figure) -> Figure {
        if !self.is_numeric {
            Err(Undefined::NotApplicable)
        } else if self.state.numbers == 0 {
            Err(Undefined::NoValues)
        } else {
            figure(self.state)
        }
    }
}

fn deviation(state: &FeatureState) -> Figure {
    if state.numbers < 2 {
        return Err(Undefined::TooFewSamples);
    }
    let n = state.numbers;
    let spread = ExactSum::covariance(n, &state.squares, &state.sum, &state.sum);
    Ok((spread * (number(n) / (number(n) - 1.0))).sqrt())
}

fn quantile(state: &FeatureState, percent: u64) -> Figure {
    let (least, greatest) = state.range.ok_or(Undefined::NoValues)?;
    let cell = state.cells.quantile(percent).ok_or(Undefined::NoValues)?;
    // The outermost cells hold all that is greater in size: the extreme stands for them.
    Ok(match cell {
        0 => least,
        top if top + 1 == FEATURE.cells() => greatest,
        inner => FEATURE.middle(inner).clamp(least, greatest),
    })
}

fn distinct(state: &FeatureState, kind: FeatureKind) -> Figure {
    match kind {
        // Numbers are not told apart: their cells hold many.
        FeatureKind::Numeric => Err(Undefined::NotConfigured),
        FeatureKind::Categorical if state.texts.other() > 0 => Err(Undefined::Capped),
        FeatureKind::Categorical => {
            Ok(number(u64::try_from(state.texts.len()).unwrap_or(u64::MAX)))
        }
        FeatureKind::Boolean => {
            Ok(if state.booleans.iter().all(|&count| count > 0) { 2.0 } else { 1.0 })
        }
    }
}

fn is_constant(state: &FeatureState, kind: FeatureKind) -> Figure {
    let is_one = match kind {
        FeatureKind::Numeric => {
            state.range.is_some_and(|(least, greatest)| least.total_cmp(&greatest).is_eq())
        }
        FeatureKind::Categorical => state.texts.len() == 1 && state.texts.other() == 0,
        FeatureKind::Boolean => state.booleans.contains(&0),
    };
    match state.values(kind) {
        0 => Err(Undefined::NoValues),
        1 => Ok(0.0),
        _ => Ok(if is_one { 1.0 } else { 0.0 }),
    }
}
