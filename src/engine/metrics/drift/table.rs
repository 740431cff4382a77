//! The rows of table `drift`.

use std::sync::Arc;

use super::method::{Method, Options};
use super::verdict::{Judged, Kind, Measured, judge};
use super::{CurrentCounts, Measure, drift};
use crate::engine::metrics::accumulator::{Asked, Column, Undefined, Value};
use crate::engine::metrics::binary::Binary;
use crate::engine::metrics::feature::FeatureState;
use crate::engine::metrics::features::Features;
use crate::engine::metrics::interval::{count, figure, plain, put, text};
use crate::engine::metrics::reference::{FeatureProfile, Profile, Values};
use crate::engine::metrics::targets::{TargetCounts, Targets};

/// The columns of `drift`; the first three are keys.
pub const DRIFT_FIGURES: &[Column] = &[
    text("kind", "What was compared: feature, score, prediction or label."),
    text("feature", "The feature's name; else empty."),
    text("method", "How it was compared."),
    figure("value", "Distance, statistic or rate, by method."),
    figure(
        "value_lower",
        "The least that the raw values may have, or lower 95 % limit of a rate (Wilson).",
    ),
    figure(
        "value_upper",
        "The greatest that the raw values may have, or upper 95 % limit of a rate (Wilson).",
    ),
    figure("effect", "What thresholds are held against."),
    figure("p_value", "How likely chance alone makes as much."),
    figure(
        "p_adjusted",
        "p_value (with rare bins or names not below that of chi2), adjusted for all comparisons of the window by the same method, labels by themselves (Benjamini-Hochberg).",
    ),
    figure("warn_at", "The least effect that is worth a warning."),
    plain("drift_at", "The least effect that is drift."),
    plain("alpha", "Adjusted p-values above it are chance; rates do not use it."),
    text("verdict", "ok, warn, drift, or insufficient_data."),
    text("reason", "Why there is no value or no verdict; empty where there is one."),
    count("is_primary", "1 for the one method of each feature that alerts and overviews read."),
    count("bins", "Bins or categories that hold any value; 0 for rates."),
    text("binning", "What the bins are: quantile, edges, category."),
    count("n", "Values of the window; of the missing rate its inferences."),
    count("reference_n", "Those of the reference."),
    text("reference_id", "The profile that was compared with."),
];

/// What one key's window holds of all that a profile is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Compared<'a> {
    /// The features.
    pub features: Option<&'a Features>,
    /// The scores.
    pub binary: Option<&'a Binary>,
    /// Predictions and labels.
    pub targets: Option<&'a Targets>,
    /// All inferences.
    pub inferences: u64,
    /// Those that predict something.
    pub predictions: u64,
    /// Those that have a label.
    pub labelled: u64,
}

/// Comparisons of one key's window with a profile, judged by these options or by the defaults. Those of labels are judged
/// by themselves, so they may be asked for alone.
pub fn rows(
    profile: &Profile,
    window: &Compared<'_>,
    options: Option<&Options>,
    asked: Asked,
) -> Vec<Vec<Value>> {
    let defaults = Options::default();
    let options = options.unwrap_or(&defaults);
    let mut compared = match asked {
        Asked::All => of_inferences(profile, window, options),
        Asked::OfLabels => Vec::new(),
    };
    let measures = match &profile.label {
        Some(reference) => {
            let labels = window.targets.map(Targets::labels).unwrap_or_default();
            of_labels(reference, &labels, window.labelled)
        }
        None => lacking(options.primary, window.labelled),
    };
    compared.push(Measured { kind: Kind::Label, feature: Arc::from(""), measures });
    let judged = judge(compared, options);
    let mut rows = Vec::with_capacity(judged.len());
    for same in judged.chunk_by(|a, b| a.kind == b.kind && a.feature == b.feature) {
        let binning = binning(profile, &same[0]);
        rows.extend(same.iter().map(|one| row(one, binning, &profile.id)));
    }
    rows
}

/// Whether a row is one of labels.
pub fn is_of_labels(row: &[Value]) -> bool {
    matches!(row.first(), Some(Value::Text(kind)) if **kind == *Kind::Label.name())
}

/// Measures of all that inferences carry.
fn of_inferences(profile: &Profile, window: &Compared<'_>, options: &Options) -> Vec<Measured> {
    let mut compared = Vec::with_capacity(profile.features.len() + 3);
    let states = window.features.map(Features::sorted).unwrap_or_default();
    let are_capped = window.features.is_some_and(Features::are_capped);
    let nothing = FeatureState::default();
    for (name, reference) in &profile.features {
        let at = states.binary_search_by(|(known, _)| (*known).cmp(name));
        let state = at.map_or(&nothing, |at| &states[at].1);
        let measures = of_feature(reference, state, window.inferences);
        let measures = if are_capped { capped(measures, state) } else { measures };
        compared.push(Measured { kind: Kind::Feature, feature: Arc::clone(name), measures });
    }
    let scores = of_scores(profile, window).unwrap_or_default();
    let predictions = match &profile.prediction {
        Some(reference) => {
            let predictions = window.targets.map(Targets::predictions).unwrap_or_default();
            of_target(reference, &predictions)
        }
        None => lacking(options.primary, window.predictions),
    };
    let others = [(Kind::Score, scores), (Kind::Prediction, predictions)];
    compared.extend(others.map(|(kind, measures)| Measured {
        kind,
        feature: Arc::from(""),
        measures,
    }));
    compared
}

/// Measures of binary scores, where profile and window have any.
fn of_scores(profile: &Profile, window: &Compared<'_>) -> Option<Vec<Measure>> {
    let (score, binary) = (profile.score.as_ref()?, window.binary?);
    let scores = binary.scores().iter().map(|(cell, n)| (f64::from(cell), n));
    let cells = score.numeric()?.gather(scores);
    let missing = binary.inferences() - binary.scores().total();
    Some(drift(score, &CurrentCounts::Cells { cells: &cells, missing }))
}

/// Of n values that the profile has no counterpart of: that there is no figure.
fn lacking(primary: Method, n: u64) -> Vec<Measure> {
    if n == 0 {
        return Vec::new();
    }
    vec![Measure::undefined(primary, Undefined::NoReference, (n, 0), 0)]
}

/// Measures of predictions or labels.
fn of_target(reference: &FeatureProfile, counts: &TargetCounts) -> Vec<Measure> {
    let TargetCounts { cells, missing } = counts;
    let missing = *missing;
    let Some(listed) = reference.categories() else {
        return drift(reference, &CurrentCounts::Cells { cells, missing });
    };
    let category = |&(place, n): &(u64, u64)| {
        let (name, _) = listed.categories.get(usize::try_from(place).ok()?)?;
        Some((&**name, n))
    };
    let names: Vec<(&str, u64)> = cells.iter().filter_map(category).collect();
    let unlisted = cells.iter().filter(|cell| category(cell).is_none());
    let other = unlisted.map(|(_, n)| n).sum();
    drift(reference, &CurrentCounts::Names { names: &names, other, missing })
}

/// Measures of labels. Those that are not there may still come, so that there is no missing rate: their coverage is a
/// figure of its own.
fn of_labels(reference: &FeatureProfile, counts: &TargetCounts, labelled: u64) -> Vec<Measure> {
    let known = |measure: Measure| {
        let reason = if measure.method == Method::MissingRate {
            Undefined::NotApplicable
        } else if labelled == 0 {
            Undefined::NoLabels
        } else {
            return measure;
        };
        let sizes = (measure.n, measure.reference_n);
        Measure::undefined(measure.method, reason, sizes, measure.bins)
    };
    of_target(reference, counts).into_iter().map(known).collect()
}

/// Where values of a feature may be counted under `(other)`: nobody knows how many are missing, and one without values
/// may have some.
fn capped(measures: Vec<Measure>, state: &FeatureState) -> Vec<Measure> {
    let has_none = state.present() == 0;
    let known = |measure: Measure| {
        if !has_none && measure.method != Method::MissingRate {
            return measure;
        }
        let sizes = (measure.n, measure.reference_n);
        Measure::undefined(measure.method, Undefined::Capped, sizes, measure.bins)
    };
    measures.into_iter().map(known).collect()
}

fn of_feature(reference: &FeatureProfile, state: &FeatureState, inferences: u64) -> Vec<Measure> {
    // Values of another kind are type errors, and no values of this one.
    let missing = inferences.saturating_sub(state.present());
    match &reference.values {
        Values::Numeric(_) => {
            let cells = state.cells.to_pairs();
            drift(reference, &CurrentCounts::Cells { cells: &cells, missing })
        }
        Values::Categorical(_) => {
            let texts = state.known.iter().chain(state.texts.iter());
            let names: Vec<_> = texts.map(|(name, count)| (&**name, count)).collect();
            let other = state.texts.other();
            drift(reference, &CurrentCounts::Names { names: &names, other, missing })
        }
        Values::Boolean(_) => {
            let [falses, trues] = state.booleans;
            let names = [("false", falses), ("true", trues)];
            drift(reference, &CurrentCounts::Names { names: &names, other: 0, missing })
        }
    }
}

/// What the bins are that it was compared in; empty where there is no reference.
fn binning(profile: &Profile, of: &Judged) -> &'static str {
    let reference = match of.kind {
        Kind::Feature => profile.features.get(&of.feature).map(|feature| &**feature),
        Kind::Score => profile.score.as_ref(),
        Kind::Prediction => profile.prediction.as_ref(),
        Kind::Label => profile.label.as_ref(),
    };
    reference.map_or("", |reference| reference.binning().name())
}

fn row(one: &Judged, binning: &'static str, reference: &Arc<str>) -> Vec<Value> {
    let text = |word: &'static str| Value::Text(word.into());
    let measure = &one.measure;
    let mut out = Vec::with_capacity(DRIFT_FIGURES.len());
    out.extend([text(one.kind.name()), Value::Text(Arc::clone(&one.feature).into())]);
    out.push(text(measure.method.name()));
    put(&mut out, measure.value);
    put(&mut out, measure.value_lower);
    put(&mut out, measure.value_upper);
    put(&mut out, measure.effect);
    put(&mut out, measure.p_value);
    put(&mut out, one.p_adjusted);
    put(&mut out, one.limits.warn_at.ok_or(Undefined::NotApplicable));
    put(&mut out, Ok(one.limits.drift_at));
    put(&mut out, Ok(one.limits.alpha));
    out.push(text(one.verdict.name()));
    out.push(text(one.reason.map_or("", Undefined::code)));
    out.extend([u64::from(one.is_primary), measure.bins].map(Value::Count));
    out.push(text(binning));
    out.extend([measure.n, measure.reference_n].map(Value::Count));
    out.push(Value::Text(Arc::clone(reference).into()));
    out
}
