//! The figures of table `categories`: how often each category of a feature came, beside the reference.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::accumulator::{Column, Undefined, Value};
use super::feature::FeatureState;
use super::interval::{
    Figure, count, figure, number, put, put_with_limits, ratio, text, wilson_limits,
};
use super::reference::{CategoricalProfile, FeatureKind, FeatureProfile};
use crate::engine::names::OTHER;

/// The columns of `categories`; feature and category are its keys.
pub const CATEGORY_FIGURES: &[Column] = &[
    text("feature", "The feature's name."),
    text(
        "category",
        "A text, true or false; (other) holds all but the 20 most frequent, and texts beyond the cap, which may be more frequent.",
    ),
    count("n", "Values that are it."),
    count("values", "Values of the feature's kind."),
    figure("share", "n / values."),
    figure("share_lower", "Lower limit of the 95 % interval of share (Wilson)."),
    figure("share_upper", "Upper limit of the 95 % interval of share (Wilson)."),
    figure("reference_n", "Values of the reference that are it."),
    figure("reference_share", "reference_n / values of the reference."),
];

/// Categories of a feature that have rows of their own.
pub const MOST_ROWS: usize = 20;

/// The rows of a feature that holds texts or booleans: of the categories with the greatest share in the window or in
/// the reference, then of all others together, where there are any. Texts that the state does not tell apart are among
/// the others, however often they came.
pub fn rows(
    name: &Arc<str>,
    state: &FeatureState,
    reference: Option<&FeatureProfile>,
) -> Vec<Vec<Value>> {
    let kind = reference.map_or_else(|| state.kind(), FeatureProfile::kind);
    let values = state.values(kind);
    if kind == FeatureKind::Numeric || values == 0 {
        return Vec::new();
    }
    let expected = reference.and_then(FeatureProfile::categories);
    let expected_n = expected.map_or(0, CategoricalProfile::total);
    let mut found: BTreeMap<Arc<str>, Counts> = BTreeMap::new();
    for (category, n) in counted(state, kind) {
        found.entry(category).or_default().n += n;
    }
    for (category, n) in expected.into_iter().flat_map(|profile| &profile.categories) {
        found.entry(Arc::clone(category)).or_default().expected = *n;
    }
    let mut others = found.remove(OTHER).unwrap_or_default();
    others.n += state.texts.other() * u64::from(kind == FeatureKind::Categorical);
    others.expected += expected.map_or(0, |profile| profile.other);
    // A name that the reference does not list may be one of those that it only counts.
    let is_open = expected.is_some_and(|profile| profile.other > 0);
    let mut found: Vec<_> = found.into_iter().collect();
    // Shares n / values and expected / expected_n on one scale, without rounding.
    let size = |counts: &Counts| {
        let of_window = u128::from(counts.n) * u128::from(expected_n.max(1));
        of_window.max(u128::from(counts.expected) * u128::from(values))
    };
    found.sort_by(|(a, x), (b, y)| (Reverse(size(x)), a).cmp(&(Reverse(size(y)), b)));
    for (_, counts) in found.drain(MOST_ROWS.min(found.len())..) {
        others.n += counts.n;
        others.expected += counts.expected;
    }
    let row = |category: Arc<str>, counts: Counts, expected: Figure| {
        let mut out = Vec::with_capacity(CATEGORY_FIGURES.len());
        out.extend([Value::Text(Arc::clone(name).into()), Value::Text(category.into())]);
        out.extend([counts.n, values].map(Value::Count));
        let limits = wilson_limits(counts.n, values, Undefined::NoValues);
        put_with_limits(&mut out, ratio(counts.n, values, Undefined::NoValues), limits);
        put(&mut out, expected);
        put(&mut out, expected.map(|n| n / number(expected_n)));
        out
    };
    let expected_of = |counts: &Counts, is_known: bool| match expected {
        None => Err(Undefined::NoReference),
        Some(_) if !is_known => Err(Undefined::Capped),
        Some(_) => Ok(number(counts.expected)),
    };
    let mut rows = Vec::with_capacity(found.len() + 1);
    for (category, counts) in found {
        let expected = expected_of(&counts, counts.expected > 0 || !is_open);
        rows.push(row(category, counts, expected));
    }
    if others.n > 0 || others.expected > 0 {
        let expected = expected_of(&others, true);
        rows.push(row(Arc::from(OTHER), others, expected));
    }
    rows
}

/// How often a category came in the window and in the reference.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    n: u64,
    expected: u64,
}

/// The categories that came.
fn counted(state: &FeatureState, kind: FeatureKind) -> Vec<(Arc<str>, u64)> {
    let all: Vec<(Arc<str>, u64)> = match kind {
        FeatureKind::Numeric => Vec::new(),
        FeatureKind::Categorical => {
            let texts = state.known.iter().chain(state.texts.iter());
            texts.map(|(name, n)| (Arc::clone(name), n)).collect()
        }
        FeatureKind::Boolean => {
            let [falses, trues] = state.booleans;
            vec![(Arc::from("false"), falses), (Arc::from("true"), trues)]
        }
    };
    // Of the two booleans one may not have come.
    all.into_iter().filter(|&(_, n)| n > 0).collect()
}
