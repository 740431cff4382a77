//! Figures of a ranking against their definitions, spelled out as loops over all pairs.

use proptest::prelude::*;
use tidegauge::engine::metrics::cells::Cells;
use tidegauge::engine::metrics::lattice::score_cell;
use tidegauge::engine::metrics::ranking::Ranking;

use crate::golden::is_near;

/// Counts as doubles.
fn number(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap())
}

/// Half-counted wins of one score over another.
fn win(positive: f64, negative: f64) -> f64 {
    if positive > negative {
        1.0
    } else if positive == negative {
        0.5
    } else {
        0.0
    }
}

fn mean_of(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let n = number(values.len());
    values.sum::<f64>() / n
}

/// The area under the ROC curve by counting pairs, and its standard error by `DeLong`'s double loop.
fn pairs_counted(positives: &[f64], negatives: &[f64]) -> (f64, f64) {
    let of_positives: Vec<f64> =
        positives.iter().map(|&p| mean_of(negatives.iter().map(|&n| win(p, n)))).collect();
    let of_negatives: Vec<f64> =
        negatives.iter().map(|&n| mean_of(positives.iter().map(|&p| win(p, n)))).collect();
    let area = mean_of(of_positives.iter().copied());
    let variance = |values: &[f64]| {
        let n = number(values.len());
        values.iter().map(|value| (value - area).powi(2)).sum::<f64>() / (n - 1.0) / n
    };
    (area, (variance(&of_positives) + variance(&of_negatives)).sqrt())
}

/// Average precision of tied scores by going through the thresholds.
fn precision_by_thresholds(positives: &[f64], negatives: &[f64]) -> f64 {
    let at_least = |of: &[f64], t: f64| number(of.iter().filter(|&&score| score >= t).count());
    mean_of(positives.iter().map(|&threshold| {
        let hits = at_least(positives, threshold);
        hits / (hits + at_least(negatives, threshold))
    }))
}

fn score() -> impl Strategy<Value = f64> {
    prop_oneof![
        0.0..=1.0_f64,
        (0_u32..=10).prop_map(|tenth| f64::from(tenth) / 10.0),
        (0.0..40.0_f64).prop_map(|power| 2.0_f64.powf(-power)),
        (0.0..40.0_f64).prop_map(|power| 1.0 - 2.0_f64.powf(-power)),
        0.3..0.3001_f64,
    ]
}

proptest! {
    #[test]
    fn ranking_is_that_of_counted_pairs(
        positives in prop::collection::vec(score(), 2..40),
        negatives in prop::collection::vec(score(), 2..40),
    ) {
        let cells = |scores: &[f64]| {
            let mut cells = Cells::default();
            for &score in scores {
                cells.add(score_cell(score));
            }
            cells
        };
        let binned = |scores: &[f64]| -> Vec<f64> {
            scores.iter().map(|&score| f64::from(score_cell(score))).collect()
        };
        let ranking = Ranking::new(&cells(&positives), &cells(&negatives));
        let (area, error) = pairs_counted(&binned(&positives), &binned(&negatives));
        let found = ranking.auroc().unwrap();
        prop_assert!(is_near(found, area));
        match ranking.auroc_standard_error() {
            Ok(found) => prop_assert!(is_near(found, error), "{found} {error}"),
            Err(_) => prop_assert!(error < 1e-9),
        }
        let (raw, _) = pairs_counted(&positives, &negatives);
        prop_assert!((found - raw).abs() <= ranking.auroc_error_bound().unwrap() + 1e-12);
        let precision = precision_by_thresholds(&binned(&positives), &binned(&negatives));
        prop_assert!(is_near(ranking.average_precision().unwrap(), precision));
        let raw = precision_by_thresholds(&positives, &negatives);
        prop_assert!(ranking.average_precision_min().unwrap() <= raw + 1e-12);
        prop_assert!(raw <= ranking.average_precision_max().unwrap() + 1e-12);
    }
}
