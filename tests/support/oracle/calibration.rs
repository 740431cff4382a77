//! Calibration by looking at each bin's list of scores.

use super::{Cells, Scored, Weighed, careful_sum, count, figure, quotient, ratio, weight};

/// The labelled scores of each bin, from 1, that has any. A score on an edge belongs to the bin below it.
fn binned(scored: &[Scored]) -> Vec<(usize, Vec<Scored>)> {
    let edges: Vec<f64> = (1..10).map(|k| f64::from(k) * 0.1).collect();
    let bin = |score: f64| 1 + edges.iter().take_while(|edge| **edge < score).count();
    let of = |number: usize| -> Vec<Scored> {
        scored.iter().copied().filter(|(score, ..)| bin(*score) == number).collect()
    };
    let bins = (1..=10).map(|number| (number, of(number)));
    bins.filter(|(_, all)| all.iter().any(|one| one.2 > 0.0)).collect()
}

fn sum(scored: &[Scored]) -> f64 {
    careful_sum(scored.iter().map(|(score, _, weight)| score * weight))
}

fn all(scored: &[Scored]) -> Weighed {
    Weighed::of(scored.iter().map(|one| one.2))
}

fn positives(scored: &[Scored]) -> Weighed {
    Weighed::of(scored.iter().filter(|(_, positive, _)| *positive).map(|one| one.2))
}

/// Mean score and rate of positives.
fn means(scored: &[Scored]) -> [f64; 2] {
    [sum(scored), positives(scored).w].map(|sum| sum / all(scored).w)
}

/// The row of `calibration`.
pub fn summary(scored: &[Scored]) -> Cells {
    let mut cells = Cells::new();
    let n = all(scored);
    let bins = binned(scored);
    let gaps: Vec<(f64, f64)> =
        bins.iter().map(|(_, of)| (all(of).w / n.w, means(of)[1] - means(of)[0])).collect();
    let some = |figure: f64| quotient(figure * n.w, n, "no_scores");
    let rate = positives(scored).w / n.w;
    count(&mut cells, "n_scored", n.n);
    let ece = gaps.iter().map(|(share, gap)| share * gap.abs()).sum();
    figure(&mut cells, "ece", some(ece));
    let mce = gaps.iter().map(|(_, gap)| gap.abs()).fold(0.0, f64::max);
    figure(&mut cells, "mce", some(mce));
    figure(&mut cells, "score_sum", Ok(sum(scored)));
    count(&mut cells, "positives", positives(scored).n);
    let excess =
        careful_sum(scored.iter().map(|(s, positive, w)| w * (s - f64::from(u8::from(*positive)))));
    figure(&mut cells, "calibration_bias", quotient(excess, n, "no_scores"));
    let spread = careful_sum(scored.iter().map(|(s, _, w)| w * w * s * (1.0 - s)));
    let z = if spread > 0.0 { Ok(excess / spread.sqrt()) } else { Err("zero_variance") };
    figure(&mut cells, "calibration_z", some(0.0).and(z));
    let reliability: f64 = gaps.iter().map(|(share, gap)| share * gap * gap).sum();
    let resolution: f64 =
        bins.iter().map(|(_, of)| all(of).w / n.w * (means(of)[1] - rate).powi(2)).sum();
    let uncertainty = rate * (1.0 - rate);
    figure(&mut cells, "brier_reliability", some(reliability));
    figure(&mut cells, "brier_resolution", some(resolution));
    figure(&mut cells, "brier_uncertainty", some(uncertainty));
    let squares =
        scored.iter().map(|(s, positive, w)| w * (s - f64::from(u8::from(*positive))).powi(2));
    let brier = careful_sum(squares) / n.w;
    figure(&mut cells, "brier_residual", some(brier - (reliability - resolution + uncertainty)));
    weight(&mut cells, "n_scored", n);
    weight(&mut cells, "positives", positives(scored));
    cells
}

/// The rows of `calibration_bins` by bin.
pub fn bins(scored: &[Scored]) -> Vec<(usize, Cells)> {
    let row = |(bin, of): (usize, Vec<Scored>)| {
        let mut cells = Cells::new();
        count(&mut cells, "bin", bin);
        figure(&mut cells, "bin_lower", Ok((bin - 1) as f64 * 0.1));
        figure(&mut cells, "bin_upper", Ok(bin as f64 * 0.1));
        count(&mut cells, "n", of.len());
        count(&mut cells, "positives", positives(&of).n);
        figure(&mut cells, "score_sum", Ok(sum(&of)));
        figure(&mut cells, "mean_score", Ok(means(&of)[0]));
        ratio(&mut cells, "positive_rate", positives(&of), all(&of), "no_scores");
        weight(&mut cells, "n", all(&of));
        weight(&mut cells, "positives", positives(&of));
        (bin, cells)
    };
    binned(scored).into_iter().map(row).collect()
}
