//! Estimates of binary models whose reference makes another probability of every score: what shards fold, against loops
//! over all records.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::engine::metrics::reference::{CalibrationMap, Calibrator, Profile};

use crate::class_estimate::{Naive, area, is_same, must_equal, rows, size, tied, wins};
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

/// A figure with the ends of its band.
fn with_band(figure: Figure, variance: f64) -> [Figure; 3] {
    let half = 1.959_963_984_540_054 * variance.sqrt();
    [figure, figure.map(|it| (it - half).max(0.0)), figure.map(|it| (it + half).min(1.0))]
}

/// A quotient of two sums over records, with its band. A record of a decision and a label adds what `term` says to the
/// part and to the whole. By the delta method each label adds to the variance its own, times the square of how fast the
/// quotient moves with it.
fn quotient(all: &[&Seen], term: fn(bool, f64) -> [f64; 2]) -> [Figure; 3] {
    let sum = |at: usize| all.iter().map(|one| term(one.decision, one.chance)[at]).sum::<f64>();
    let (part, whole) = (sum(0), sum(1));
    let of_label = |one: &&Seen| {
        let [if_not, if_positive] = [0.0, 1.0].map(|label| term(one.decision, label));
        let [more, more_of_whole] = [0, 1].map(|at| if_positive[at] - if_not[at]);
        let slope = (more * whole - part * more_of_whole) / whole / whole;
        one.chance * (1.0 - one.chance) * slope * slope
    };
    with_band(ratio(part, whole), all.iter().map(of_label).sum())
}

/// The area under the ROC curve with its band, likewise, and what the order inside cells may change of it at most. The
/// label of a record has the mean chance of its cell.
fn ranking(all: &[&Seen]) -> [Figure; 4] {
    let weighed: Vec<_> = all.iter().map(|one| (one.cell, one.chance, 1.0 - one.chance)).collect();
    let positives: f64 = all.iter().map(|one| one.chance).sum();
    let negatives = size(all.len()) - positives;
    let auroc = area(&weighed).ok_or("one_class");
    let of_label = |(cell, ..): &(u64, f64, f64)| {
        let (mut won, mut same, mut chance) = (0.0, 0.0, 0.0);
        for (other, positive, negative) in &weighed {
            won += negative * wins(*cell, *other) - positive * wins(*other, *cell);
            if cell == other {
                (same, chance) = (same + 1.0, chance + *positive);
            }
        }
        let (p, area) = (chance / same, auroc.unwrap_or(0.0));
        let slope = (won - area * (negatives - positives)) / positives / negatives;
        p * (1.0 - p) * slope * slope
    };
    let [value, lower, upper] = with_band(auroc, weighed.iter().map(of_label).sum());
    [value, lower, upper, tied(&weighed).ok_or("one_class")]
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
    let accuracy = quotient(&everyone, |decision, y| [if decision { y } else { 1.0 - y }, 1.0]);
    let precision = quotient(&everyone, |decision, y| if decision { [y, 1.0] } else { [0.0; 2] });
    let recall = quotient(&everyone, |decision, y| [if decision { y } else { 0.0 }, y]);
    let f1 =
        quotient(&everyone, |decision, y| if decision { [2.0 * y, 1.0 + y] } else { [0.0, y] });
    let [auroc, auroc_lower, auroc_upper, auroc_error_bound] = ranking(&everyone);
    let if_labelled = |figures: [Figure; 3]| {
        figures.map(|figure| if labelled.is_empty() { Err("no_labels") } else { figure })
    };
    let realized = if_labelled(figures(&labelled, Seen::truth));
    let of_labelled = if_labelled(figures(&labelled, chance));
    let gaps = [0, 1, 2].map(|at| realized[at].and_then(|is| Ok(is - of_labelled[at]?)));
    let [right, _, _, right_too] = confusion(&labelled, Seen::truth);
    let [likely, _, _, likely_too] = confusion(&open, chance);
    Some(BTreeMap::from([
        ("n", Ok(n)),
        ("est_tp", Ok(tp)),
        ("est_fp", Ok(fp)),
        ("est_fn", Ok(fn_)),
        ("est_tn", Ok(tn)),
        ("est_accuracy", accuracy[0]),
        ("est_accuracy_lower", accuracy[1]),
        ("est_accuracy_upper", accuracy[2]),
        ("est_precision", precision[0]),
        ("est_precision_lower", precision[1]),
        ("est_precision_upper", precision[2]),
        ("est_recall", recall[0]),
        ("est_recall_lower", recall[1]),
        ("est_recall_upper", recall[2]),
        ("est_f1", f1[0]),
        ("est_f1_lower", f1[1]),
        ("est_f1_upper", f1[2]),
        ("est_auroc", auroc),
        ("est_auroc_lower", auroc_lower),
        ("est_auroc_upper", auroc_upper),
        ("est_auroc_error_bound", auroc_error_bound),
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
