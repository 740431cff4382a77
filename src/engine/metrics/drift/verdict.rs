//! From measures to verdicts: what chance does not explain, and what is large.

use std::sync::Arc;

use super::Measure;
use super::method::{Limits, Options};
use crate::engine::metrics::accumulator::Undefined;

/// What was compared: column `kind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A feature.
    Feature,
    /// Scores.
    Score,
    /// Predictions.
    Prediction,
    /// Labels.
    Label,
}

impl Kind {
    /// As column `kind` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Feature => "feature",
            Self::Score => "score",
            Self::Prediction => "prediction",
            Self::Label => "label",
        }
    }
}

/// All measures of one feature, or of scores, predictions or labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// What was compared.
    pub kind: Kind,
    /// The feature's name, else `''`.
    pub feature: Arc<str>,
    /// One of each method.
    pub measures: Vec<Measure>,
}

/// Column `verdict`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// Chance explains it, or it is small.
    Ok,
    /// Chance does not explain it, and it is worth a look.
    Warn,
    /// Chance does not explain it, and it is large.
    Drift,
    /// Too few values to say.
    InsufficientData,
}

impl Verdict {
    /// As column `verdict` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Drift => "drift",
            Self::InsufficientData => "insufficient_data",
        }
    }
}

/// One row of `drift`.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// What was compared.
    pub kind: Kind,
    /// The feature's name, else `''`.
    pub feature: Arc<str>,
    /// What was measured.
    pub measure: Measure,
    /// The p-value that is judged, adjusted for all comparisons of the key and window by the same method (Benjamini-Hochberg).
    pub p_adjusted: Result<f64, Undefined>,
    /// What it was held against.
    pub limits: Limits,
    /// What follows.
    pub verdict: Verdict,
    /// Why there is no value or no verdict.
    pub reason: Option<Undefined>,
    /// Whether its method is the one that alerts and overviews read.
    pub is_primary: bool,
}

/// The rows of one key and window, in the order of what was measured. Features, score and prediction are one family of
/// tests for each method, labels are one of their own.
pub fn judge(measured: Vec<Measured>, options: &Options) -> Vec<Judged> {
    let mut rows = Vec::with_capacity(measured.iter().map(|one| one.measures.len()).sum());
    for Measured { kind, feature, measures } in measured {
        rows.extend(measures.into_iter().map(|measure| Judged {
            kind,
            feature: Arc::clone(&feature),
            p_adjusted: measure.judged_p,
            limits: options.limits(measure.method),
            verdict: Verdict::InsufficientData,
            reason: None,
            is_primary: measure.method == options.primary,
            measure,
        }));
    }
    let family = |row: &Judged| (row.kind == Kind::Label, row.measure.method);
    let mut tests: Vec<&mut Judged> =
        rows.iter_mut().filter(|row| row.measure.judged_p.is_ok()).collect();
    tests.sort_by_key(|row| family(row));
    for tests in tests.chunk_by_mut(|a, b| family(a) == family(b)) {
        let p_values: Vec<f64> = tests.iter().filter_map(|row| row.measure.judged_p.ok()).collect();
        for (row, adjusted) in tests.iter_mut().zip(false_discovery(&p_values)) {
            row.p_adjusted = Ok(adjusted);
        }
    }
    for row in &mut rows {
        (row.verdict, row.reason) = verdict(row, options.min_n);
    }
    rows
}

/// The verdict of a row whose p-value is adjusted, and the reason where there is none.
fn verdict(row: &Judged, min_n: u64) -> (Verdict, Option<Undefined>) {
    let Judged { measure, limits, .. } = row;
    let (Ok(_), Ok(effect)) = (measure.value, measure.effect) else {
        return (Verdict::InsufficientData, measure.value.and(measure.effect).err());
    };
    if measure.n.min(measure.reference_n) < measure.least_n(min_n) {
        return (Verdict::InsufficientData, Some(Undefined::TooFewSamples));
    }
    if measure.method.is_rate() {
        // Both rates are those of samples. One that did not come in a small reference may well be more than 0: beyond
        // the extremes of 100 values lie on average 2 of 100.
        let rise = measure.value_lower.and_then(|lower| {
            let reference = measure.reference_upper?;
            Ok(lower - reference)
        });
        let is_drift = rise.is_ok_and(|rise| rise >= limits.drift_at);
        return (if is_drift { Verdict::Drift } else { Verdict::Ok }, None);
    }
    match row.p_adjusted {
        Err(reason) => (Verdict::InsufficientData, Some(reason)),
        Ok(p_adjusted) if p_adjusted > limits.alpha => (Verdict::Ok, None),
        Ok(_) if effect >= limits.drift_at => (Verdict::Drift, None),
        Ok(_) if limits.warn_at.is_some_and(|warn_at| effect >= warn_at) => (Verdict::Warn, None),
        Ok(_) => (Verdict::Ok, None),
    }
}

/// P-values adjusted for the number of tests: those that stay below α have a share of at most α of false discoveries
/// among them on average (Benjamini and Hochberg 1995; scipy `false_discovery_control`).
pub fn false_discovery(p_values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p_values.len()).collect();
    order.sort_by(|&a, &b| p_values[b].total_cmp(&p_values[a]));
    let mut adjusted = vec![0.0; p_values.len()];
    let tests = count(p_values.len());
    let mut least = 1.0_f64;
    for (place, &test) in order.iter().enumerate() {
        let rank = count(p_values.len() - place);
        least = least.min(p_values[test] * (tests / rank));
        adjusted[test] = least;
    }
    adjusted
}

fn count(tests: usize) -> f64 {
    f64::from(u32::try_from(tests).expect("fewer comparisons than 2^32"))
}
