//! The rows of table `drift`.

use std::sync::Arc;

use super::method::Options;
use super::verdict::{Judged, Kind, Measured, judge};
use super::{CurrentCounts, drift};
use crate::engine::metrics::accumulator::{Column, Undefined, Value};
use crate::engine::metrics::binary::Binary;
use crate::engine::metrics::feature::FeatureState;
use crate::engine::metrics::features::Features;
use crate::engine::metrics::interval::{count, figure, plain, put, text};
use crate::engine::metrics::reference::{FeatureProfile, Profile, Values};

/// The columns of `drift`; the first three are keys.
pub const DRIFT_FIGURES: &[Column] = &[
    text("kind", "What was compared: feature or score."),
    text("feature", "The feature's name; empty for scores."),
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
        "p_value, adjusted for all comparisons of the window by the same method (Benjamini-Hochberg).",
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

/// All comparisons of one key's window with a profile, of so many inferences.
pub fn rows(
    profile: &Profile,
    features: Option<&Features>,
    binary: Option<&Binary>,
    inferences: u64,
) -> Vec<Vec<Value>> {
    let mut compared = Vec::new();
    let states = features.map(Features::sorted).unwrap_or_default();
    let nothing = FeatureState::default();
    for (name, reference) in &profile.features {
        let at = states.binary_search_by(|(known, _)| known.cmp(name));
        let state = at.map_or(&nothing, |at| &states[at].1);
        let measures = of_feature(reference, state, inferences);
        compared.push(Measured { kind: Kind::Feature, feature: Arc::clone(name), measures });
    }
    let scores = profile.score.as_ref().and_then(|score| Some((score, score.numeric()?)));
    if let (Some((score, numeric)), Some(binary)) = (scores, binary) {
        let cells = numeric.gather(binary.scores().iter().map(|(cell, n)| (f64::from(cell), n)));
        let missing = binary.inferences() - binary.scores().total();
        let measures = drift(score, &CurrentCounts::Cells { cells: &cells, missing });
        compared.push(Measured { kind: Kind::Score, feature: Arc::from(""), measures });
    }
    let judged = judge(compared, &Options::default());
    judged.into_iter().map(|one| row(&one, profile)).collect()
}

fn of_feature(
    reference: &FeatureProfile,
    state: &FeatureState,
    inferences: u64,
) -> Vec<super::Measure> {
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

fn row(one: &Judged, profile: &Profile) -> Vec<Value> {
    let text = |text: &str| Value::Text(Arc::from(text));
    let measure = &one.measure;
    let mut out = Vec::with_capacity(DRIFT_FIGURES.len());
    out.extend([text(one.kind.name()), Value::Text(Arc::clone(&one.feature))]);
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
    let of = match one.kind {
        Kind::Feature => profile.features.get(&one.feature).map(|feature| &**feature),
        Kind::Score => profile.score.as_ref(),
        Kind::Prediction => profile.prediction.as_ref(),
        Kind::Label => profile.label.as_ref(),
    };
    out.push(text(of.map_or("", |of| of.binning().name())));
    out.extend([measure.n, measure.reference_n].map(Value::Count));
    out.push(Value::Text(Arc::clone(&profile.id)));
    out
}
