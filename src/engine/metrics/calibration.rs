//! Calibration of binary scores: what the scores promise against what the labels say, in ten bins.

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::exact_sum::ExactSum;
use super::histogram::Cells;
use super::interval::{
    Figure, cells, count, figure, number, plain, put, put_with_limits, ratio, sum, sums,
    wilson_limits,
};
use super::stored::Stored;

/// Bins of equal width over 0..=1.
pub(crate) const BINS: usize = 10;

/// A labelled score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationInput {
    /// In 0..=1.
    pub score: f64,
    /// Whether the label is positive.
    pub positive: bool,
}

/// The state of tables `calibration` and `calibration_bins`.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibration {
    n: Cells,
    positives: Cells,
    scores: [ExactSum; BINS],
    /// Of s (1 - s): the variance of the labels, if the scores are right.
    variance: ExactSum,
    /// Of (s - y)^2.
    brier: ExactSum,
}

impl Default for Calibration {
    fn default() -> Self {
        Self {
            n: Cells::default(),
            positives: Cells::default(),
            scores: [const { ExactSum::ZERO }; BINS],
            variance: ExactSum::ZERO,
            brier: ExactSum::ZERO,
        }
    }
}

/// The bin of a score, from 0. Bins are closed on the right: scikit-learn's `calibration_curve` puts a score behind
/// each of `numpy.linspace(0, 1, 11)` that is below it.
#[inline]
pub(crate) fn bin_of(score: f64) -> u16 {
    (1..10_u16).filter(|k| f64::from(*k) * 0.1 < score).map(|_| 1).sum()
}

/// The bin's lower or upper edge.
fn edge(k: u16) -> f64 {
    f64::from(k) * 0.1
}

/// One bin with labelled scores.
struct Bin {
    index: u16,
    n: u64,
    positives: u64,
    score_sum: f64,
}

impl Bin {
    fn mean_score(&self) -> f64 {
        self.score_sum / number(self.n)
    }

    fn positive_rate(&self) -> f64 {
        number(self.positives) / number(self.n)
    }

    /// How far the scores are off: positive is too low.
    fn gap(&self) -> f64 {
        self.positive_rate() - self.mean_score()
    }
}

impl Calibration {
    /// Labelled scores.
    fn n(&self) -> u64 {
        self.n.total()
    }

    /// The bins that hold any, ascending.
    fn bins(&self) -> impl Iterator<Item = Bin> + '_ {
        self.n.iter().map(|(index, n)| {
            let positives = self.positives.iter().find(|(bin, _)| *bin == index);
            Bin {
                index,
                n,
                positives: positives.map_or(0, |(_, count)| count),
                score_sum: self.scores[usize::from(index)].value(),
            }
        })
    }

    /// The sum over the bins of a term, weighted by their shares.
    fn weighted(&self, term: impl Fn(&Bin) -> f64) -> f64 {
        let n = number(self.n());
        self.bins().map(|bin| number(bin.n) / n * term(&bin)).sum()
    }

    fn score_sum(&self) -> ExactSum {
        let mut all = ExactSum::default();
        self.scores.iter().for_each(|sum| all.merge(sum));
        all
    }

    /// Standardised difference of scores and labels (Spiegelhalter 1986, of the mean): about standard normal where the
    /// scores are right.
    fn z(&self) -> Figure {
        let spread = self.variance.value();
        if spread <= 0.0 {
            return Err(Undefined::ZeroVariance);
        }
        Ok(self.excess() / spread.sqrt())
    }

    /// Sum of scores less number of positives.
    fn excess(&self) -> f64 {
        let mut excess = self.score_sum();
        excess.add(-number(self.positives.total()));
        excess.value()
    }

    /// The rows of `calibration_bins`: the bin's number and its figures.
    pub fn bin_rows(&self) -> Vec<Vec<Value>> {
        let row = |bin: Bin| {
            let mut out = vec![Value::Count(u64::from(bin.index) + 1)];
            for number in [edge(bin.index), edge(bin.index + 1)] {
                out.push(Value::Figure(Ok(number)));
            }
            out.extend([bin.n, bin.positives].map(Value::Count));
            out.extend([bin.score_sum, bin.mean_score()].map(|number| Value::Figure(Ok(number))));
            let rate = ratio(bin.positives, bin.n, Undefined::NoScores);
            let limits = wilson_limits(bin.positives, bin.n, Undefined::NoScores);
            put_with_limits(&mut out, rate, limits);
            out
        };
        self.bins().map(row).collect()
    }
}

/// The figures of a row of `calibration_bins`, behind its key.
pub const BIN_FIGURES: &[Column] = &[
    count("bin", "Number of the bin, 1 to 10."),
    plain("bin_lower", "Scores of the bin are greater (the first bin holds 0 too)."),
    plain("bin_upper", "Scores of the bin are at most this."),
    count("n", "Labelled scores in the bin."),
    count("positives", "Positive labels among them."),
    plain("score_sum", "Sum of the scores."),
    plain("mean_score", "score_sum / n: what the scores promise."),
    figure("positive_rate", "positives / n: what the labels say."),
    figure("positive_rate_lower", "Lower limit of the 95 % interval of positive_rate (Wilson)."),
    figure("positive_rate_upper", "Upper limit of the 95 % interval of positive_rate (Wilson)."),
];

impl Accumulator for Calibration {
    type Input<'a> = CalibrationInput;

    const STATE: &'static [Column] = &[
        cells("calibration_cells", "Labelled scores by bin of tenths."),
        cells("calibration_positive_cells", "Positive labels by bin of tenths."),
        sums("calibration_score_sums", "Exact sums of the scores by bin of tenths."),
        sum("calibration_variance_sum", "Exact sum of score (1 - score)."),
        sum("calibration_brier_sum", "Exact sum of (score - label)^2."),
    ];

    const FIGURES: &'static [Column] = &[
        count("n_scored", "Labelled inferences with a score."),
        figure(
            "ece",
            "Expected calibration error: mean distance of the bins' rates and scores, biased upward for few records.",
        ),
        figure("mce", "Greatest distance of a bin's rate and mean score."),
        plain("score_sum", "Sum of the scores: how many positives they promise."),
        count("positives", "Positive labels."),
        figure("calibration_bias", "(score_sum - positives) / n_scored: positive is too high."),
        figure("calibration_z", "Standardised bias: beyond 2 in size it is hardly chance."),
        figure("brier_reliability", "Part of the Brier score that miscalibration makes (Murphy)."),
        figure("brier_resolution", "Part of the Brier score that telling cases apart takes away."),
        figure("brier_uncertainty", "Part of the Brier score that the base rate makes."),
        figure("brier_residual", "The rest of the Brier score: spread inside the bins."),
    ];

    fn add(&mut self, input: &Self::Input<'_>) {
        let (CalibrationInput { score, positive }, bin) = (*input, bin_of(input.score));
        let distance = if positive { score - 1.0 } else { score };
        self.n.add(bin);
        if positive {
            self.positives.add(bin);
        }
        self.scores[usize::from(bin)].add(score);
        self.variance.add_product(score, 1.0 - score);
        self.brier.add(distance * distance);
    }

    fn remove(&mut self, input: &Self::Input<'_>) {
        let (CalibrationInput { score, positive }, bin) = (*input, bin_of(input.score));
        let distance = if positive { score - 1.0 } else { score };
        self.n.remove(bin);
        if positive {
            self.positives.remove(bin);
        }
        self.scores[usize::from(bin)].remove(score);
        self.variance.remove_product(score, 1.0 - score);
        self.brier.remove(distance * distance);
    }

    fn merge(&mut self, other: &Self) {
        self.n.merge(&other.n);
        self.positives.merge(&other.positives);
        for (sum, more) in self.scores.iter_mut().zip(&other.scores) {
            sum.merge(more);
        }
        self.variance.merge(&other.variance);
        self.brier.merge(&other.brier);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([&self.n, &self.positives].map(|cells| Value::Cells(cells.to_pairs())));
        let is_empty = self.scores.iter().all(ExactSum::is_zero);
        out.push(Value::Sums(if is_empty { Vec::new() } else { self.scores.to_vec() }));
        out.extend([&self.variance, &self.brier].map(|sum| Value::Sum(sum.clone())));
    }

    fn restore(values: &mut dyn Iterator<Item = Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let bins = u16::try_from(BINS).expect("ten");
        Ok(Self {
            n: stored.cells(bins)?,
            positives: stored.cells(bins)?,
            scores: stored.sums()?,
            variance: stored.sum()?,
            brier: stored.sum()?,
        })
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        let n = self.n();
        let scored = |figure: &dyn Fn() -> f64| {
            if n == 0 { Err(Undefined::NoScores) } else { Ok(figure()) }
        };
        out.push(Value::Count(n));
        put(out, scored(&|| self.weighted(|bin| bin.gap().abs())));
        put(out, scored(&|| self.bins().map(|bin| bin.gap().abs()).fold(0.0, f64::max)));
        out.push(Value::Figure(Ok(self.score_sum().value())));
        out.push(Value::Count(self.positives.total()));
        put(out, scored(&|| self.excess() / number(n)));
        put(out, if n == 0 { Err(Undefined::NoScores) } else { self.z() });
        let rate = number(self.positives.total()) / number(n.max(1));
        let reliability = self.weighted(|bin| bin.gap() * bin.gap());
        let resolution =
            self.weighted(|bin| (bin.positive_rate() - rate) * (bin.positive_rate() - rate));
        let uncertainty = rate * (1.0 - rate);
        put(out, scored(&|| reliability));
        put(out, scored(&|| resolution));
        put(out, scored(&|| uncertainty));
        put(out, scored(&|| self.brier.mean(n) - (reliability - resolution + uncertainty)));
    }

    fn heap_bytes(&self) -> usize {
        self.n.heap_bytes()
            + self.positives.heap_bytes()
            + self.scores.iter().map(ExactSum::heap_bytes).sum::<usize>()
            + self.variance.heap_bytes()
            + self.brier.heap_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_closed_on_the_right() {
        // 3 * 0.1 is above 0.3, so 0.3 lies in the third bin; 0.7 and 0.6 lie below their edges too.
        let bins =
            [(0.0, 0), (0.1, 0), (0.10001, 1), (0.3, 2), (0.6, 5), (0.7, 6), (0.95, 9), (1.0, 9)];
        for (score, bin) in bins {
            assert_eq!(bin_of(score), bin, "{score}");
        }
    }
}
