//! Estimates of binary models whose reference makes another probability of every score: what shards fold, against loops
//! over all records.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::engine::metrics::reference::{CalibrationMap, Calibrator, Profile};

use crate::class_estimate::{Naive, area, is_same, must_equal, rows, size};
use crate::data_quality::profile;
use crate::oracle::Folded;
use crate::oracle::figures::cell_of;
use crate::properties::{partitions, settings};
use crate::scenarios::{Scenario, interleavings, parse};

/// The probabilities that the scores 0 and 1 stand for; the others lie on a line between.
const RATES: [f64; 2] = [0.2, 0.7];

fn reference() -> Arc<Profile> {
    let map = CalibrationMap::Isotonic { knots: vec![0.0, 1.0].into(), rates: RATES.to_vec() };
    let it = Calibrator { map, n: 9, positives: 3, ece_identity: 0.1, ece_isotonic: 0.1 };
    Arc::new(Profile { calibrator: Some(it), ..profile([]) })
}

/// With the scores as probabilities the accuracy would be 0.9.
#[test]
fn probabilities_are_those_of_the_calibrator() {
    let Scenario { settings, logs, steps, .. } = parse(
        "inference 0s a score=0.9
         inference 0s b score=0.1
         label 10s a label=1
         label 10s b label=0
         label 20s b label=1",
    );
    let figures = [
        ("n", 2.0),
        ("est_tp", 0.65),
        ("est_fp", 0.35),
        ("est_fn", 0.25),
        ("est_tn", 0.75),
        ("est_accuracy", 0.7),
        ("est_precision", 0.65),
        ("est_recall", 0.65 / 0.9),
        ("est_f1", 1.3 / 1.9),
        ("est_auroc", 0.695 / 0.99),
        ("n_labelled", 2.0),
        ("realized_accuracy", 0.5),
        ("realized_f1", 2.0 / 3.0),
        ("est_labelled_accuracy", 0.7),
        ("est_labelled_f1", 1.3 / 1.9),
        ("est_labelled_auroc", 0.695 / 0.99),
        ("accuracy_gap", -0.2),
        ("blended_accuracy", 0.5),
    ];
    for steps in interleavings(&logs, &steps) {
        let rows: Vec<_> = rows(&settings, &logs, &steps, &reference()).into_values().collect();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        for (name, expected) in figures {
            assert!(is_same(&row[name], Ok(expected)), "{name} is {:?}, not {expected}", row[name]);
        }
    }
}

/// A record as the estimate sees it.
struct Seen {
    cell: u64,
    decision: bool,
    /// How likely it is positive.
    chance: f64,
    /// Whether its label is.
    positive: Option<bool>,
}

impl Seen {
    fn of(one: &Folded) -> Option<Self> {
        let score = one.score?;
        let chance = RATES[0] * (1.0 - score) + RATES[1] * score;
        let (decision, positive) = (one.decision?, one.walk.positive);
        Some(Self { cell: cell_of(score), decision, chance, positive })
    }

    fn truth(&self) -> f64 {
        f64::from(u8::from(self.positive == Some(true)))
    }
}

type Figure = Result<f64, &'static str>;

fn ratio(part: f64, whole: f64) -> Figure {
    if whole > 0.0 { Ok(part / whole) } else { Err("zero_denominator") }
}

/// tp, fp, fn and tn of records, each as far as it is positive.
fn confusion(all: &[&Seen], part: fn(&Seen) -> f64) -> [f64; 4] {
    let mut cells = [0.0; 4];
    for one in all {
        let first = if one.decision { 0 } else { 2 };
        cells[first] += part(one);
        cells[first + 1] += 1.0 - part(one);
    }
    cells
}

/// Accuracy, F1 and area under the ROC curve of the same.
fn figures(all: &[&Seen], part: fn(&Seen) -> f64) -> [Figure; 3] {
    let [tp, fp, fn_, tn] = confusion(all, part);
    let weighed: Vec<_> = all.iter().map(|one| (one.cell, part(one), 1.0 - part(one))).collect();
    let accuracy = ratio(tp + tn, size(all.len()));
    [accuracy, ratio(2.0 * tp, 2.0 * tp + fp + fn_), area(&weighed).ok_or("one_class")]
}

/// The variance of the accuracy if each label is drawn with its chance.
fn variance(all: &[&Seen]) -> f64 {
    let n = size(all.len());
    all.iter().map(|one| one.chance * (1.0 - one.chance)).sum::<f64>() / n / n
}

fn naive(members: &[&Folded]) -> Option<Naive> {
    let all: Vec<Seen> = members.iter().filter_map(|one| Seen::of(one)).collect();
    if all.is_empty() {
        return None;
    }
    let everyone: Vec<&Seen> = all.iter().collect();
    let (labelled, open): (Vec<&Seen>, Vec<&Seen>) =
        all.iter().partition(|one| one.positive.is_some());
    let (n, known) = (size(all.len()), size(labelled.len()));
    let chance = |one: &Seen| one.chance;
    let [tp, fp, fn_, tn] = confusion(&everyone, chance);
    let [accuracy, f1, auroc] = figures(&everyone, chance);
    let if_labelled = |figures: [Figure; 3]| {
        figures.map(|figure| if labelled.is_empty() { Err("no_labels") } else { figure })
    };
    let realized = if_labelled(figures(&labelled, Seen::truth));
    let of_labelled = if_labelled(figures(&labelled, chance));
    let gaps = [0, 1, 2].map(|at| realized[at].and_then(|is| Ok(is - of_labelled[at]?)));
    let half = 1.959_963_984_540_054 * variance(&everyone).sqrt();
    let [right, _, _, right_too] = confusion(&labelled, Seen::truth);
    let [likely, _, _, likely_too] = confusion(&open, chance);
    Some(BTreeMap::from([
        ("n", Ok(n)),
        ("est_tp", Ok(tp)),
        ("est_fp", Ok(fp)),
        ("est_fn", Ok(fn_)),
        ("est_tn", Ok(tn)),
        ("est_accuracy", accuracy),
        ("est_accuracy_lower", accuracy.map(|it| (it - half).max(0.0))),
        ("est_accuracy_upper", accuracy.map(|it| (it + half).min(1.0))),
        ("est_precision", ratio(tp, tp + fp)),
        ("est_recall", ratio(tp, tp + fn_)),
        ("est_f1", f1),
        ("est_auroc", auroc),
        ("n_labelled", Ok(known)),
        ("realized_accuracy", realized[0]),
        ("realized_f1", realized[1]),
        ("realized_auroc", realized[2]),
        ("est_labelled_accuracy", of_labelled[0]),
        ("est_labelled_f1", of_labelled[1]),
        ("est_labelled_auroc", of_labelled[2]),
        ("accuracy_gap", gaps[0]),
        ("f1_gap", gaps[1]),
        ("auroc_gap", gaps[2]),
        ("accuracy_gap_z", gaps[0].map(|gap| gap / variance(&labelled).sqrt())),
        ("blended_accuracy", Ok((right + right_too + likely + likely_too) / n)),
    ]))
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_interleaving_estimates_by_the_calibrator(settings in settings(), both in partitions()) {
        let (mut logs, steps): (Vec<_>, Vec<_>) = both.into_iter().unzip();
        if !settings.has_labels {
            for log in &mut logs {
                log.labels.clear();
            }
        }
        let found = rows(&settings, &logs, &steps, &reference());
        must_equal(found, &settings, &logs, naive);
    }
}
