//! Calibration by looking at each bin's list of scores.

use super::{Cells, careful_sum, count, divide, figure, ratio};

/// The labelled scores of each bin, from 1, that has any. A score on an edge belongs to the bin below it.
fn binned(scored: &[(f64, bool)]) -> Vec<(usize, Vec<(f64, bool)>)> {
    let edges: Vec<f64> = (1..10).map(|k| f64::from(k) * 0.1).collect();
    let bin = |score: f64| 1 + edges.iter().take_while(|edge| **edge < score).count();
    let of = |number: usize| -> Vec<(f64, bool)> {
        scored.iter().copied().filter(|(score, _)| bin(*score) == number).collect()
    };
    (1..=10).map(|number| (number, of(number))).filter(|(_, all)| !all.is_empty()).collect()
}

fn sum(scored: &[(f64, bool)]) -> f64 {
    careful_sum(scored.iter().map(|(score, _)| *score))
}

fn positives(scored: &[(f64, bool)]) -> usize {
    scored.iter().filter(|(_, positive)| *positive).count()
}

/// Mean score and rate of positives.
fn means(scored: &[(f64, bool)]) -> [f64; 2] {
    let n = scored.len() as f64;
    [sum(scored) / n, positives(scored) as f64 / n]
}

/// The row of `calibration`.
pub fn summary(scored: &[(f64, bool)]) -> Cells {
    let mut cells = Cells::new();
    let n = scored.len();
    let bins = binned(scored);
    let gaps: Vec<(f64, f64)> = bins
        .iter()
        .map(|(_, all)| (all.len() as f64 / n as f64, means(all)[1] - means(all)[0]))
        .collect();
    let rate = positives(scored) as f64 / n as f64;
    count(&mut cells, "n_scored", n);
    let ece = gaps.iter().map(|(share, gap)| share * gap.abs()).sum();
    figure(&mut cells, "ece", Ok(ece));
    let mce = gaps.iter().map(|(_, gap)| gap.abs()).fold(0.0, f64::max);
    figure(&mut cells, "mce", Ok(mce));
    figure(&mut cells, "score_sum", Ok(sum(scored)));
    count(&mut cells, "positives", positives(scored));
    let excess = careful_sum(scored.iter().map(|(s, positive)| s - f64::from(u8::from(*positive))));
    figure(&mut cells, "calibration_bias", divide(excess, n, "no_scores"));
    let spread = careful_sum(scored.iter().map(|(s, _)| s * (1.0 - s)));
    let z = if spread > 0.0 { Ok(excess / spread.sqrt()) } else { Err("zero_variance") };
    figure(&mut cells, "calibration_z", z);
    let reliability: f64 = gaps.iter().map(|(share, gap)| share * gap * gap).sum();
    let resolution: f64 = bins
        .iter()
        .map(|(_, all)| all.len() as f64 / n as f64 * (means(all)[1] - rate).powi(2))
        .sum();
    let uncertainty = rate * (1.0 - rate);
    figure(&mut cells, "brier_reliability", Ok(reliability));
    figure(&mut cells, "brier_resolution", Ok(resolution));
    figure(&mut cells, "brier_uncertainty", Ok(uncertainty));
    let squares = scored.iter().map(|(s, positive)| (s - f64::from(u8::from(*positive))).powi(2));
    let brier = careful_sum(squares) / n as f64;
    figure(&mut cells, "brier_residual", Ok(brier - (reliability - resolution + uncertainty)));
    cells
}

/// The rows of `calibration_bins` by bin.
pub fn bins(scored: &[(f64, bool)]) -> Vec<(usize, Cells)> {
    let row = |(bin, all): (usize, Vec<(f64, bool)>)| {
        let mut cells = Cells::new();
        count(&mut cells, "bin", bin);
        figure(&mut cells, "bin_lower", Ok((bin - 1) as f64 * 0.1));
        figure(&mut cells, "bin_upper", Ok(bin as f64 * 0.1));
        count(&mut cells, "n", all.len());
        count(&mut cells, "positives", positives(&all));
        figure(&mut cells, "score_sum", Ok(sum(&all)));
        figure(&mut cells, "mean_score", Ok(means(&all)[0]));
        ratio(&mut cells, "positive_rate", positives(&all), all.len(), "no_scores");
        (bin, cells)
    };
    binned(scored).into_iter().map(row).collect()
}
