//! Calibration of binary scores: what the scores promise against what the labels say, in ten bins.

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::cells::Cells;
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, cells, count, figure, mean, number, plain, put, put_with_limits, ratio, sum, sums,
    whole, wilson_limits,
};
use super::sign::Sign;
use super::stored::Stored;
use super::weights::{Mass, Weight, Weights, one, times};

/// Bins of equal width over 0..=1.
pub(crate) const BINS: usize = 10;

/// A labelled score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CalibrationInput {
    /// In 0..=1.
    pub score: f64,
    /// Whether the label is positive.
    pub positive: bool,
    /// What the label weighs, where the model uses weights.
    pub weight: Weight,
}

/// The state of tables `calibration` and `calibration_bins`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Calibration {
    n: Cells,
    positives: Cells,
    scores: [ExactSum; BINS],
    /// Of w^2 s (1 - s): the variance of the weighted labels, if the scores are right.
    variance: ExactSum,
    /// Of (s - y)^2.
    brier: ExactSum,
    /// Of each bin, then of the positives in each.
    weights: Weights,
}

/// The place of the weights of a bin's positives, counted from the first.
const POSITIVES: u32 = 10;

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

/// One bin with labelled scores that weigh something.
struct Bin {
    index: u16,
    n: Mass,
    positives: Mass,
    /// Over units of weight.
    score_sum: f64,
}

impl Bin {
    fn mean_score(&self) -> f64 {
        self.score_sum / number(self.n.units)
    }

    fn positive_rate(&self) -> f64 {
        number(self.positives.units) / number(self.n.units)
    }

    /// How far the scores are off: positive is too low.
    fn gap(&self) -> f64 {
        self.positive_rate() - self.mean_score()
    }
}

/// All that figures are read from.
struct Bins {
    all: Vec<Bin>,
    n: Mass,
    positives: Mass,
    score_sum: ExactSum,
}

impl Bins {
    /// The sum over the bins of a term, weighted by their shares.
    fn weighted(&self, term: impl Fn(&Bin) -> f64) -> f64 {
        let n = number(self.n.units);
        self.all.iter().map(|bin| number(bin.n.units) / n * term(bin)).sum()
    }

    /// Sum of scores less sum of labels, over units of weight.
    fn excess(&self) -> ExactSum {
        let mut excess = self.score_sum.clone();
        excess.add(-number(self.positives.units));
        excess
    }
}

impl Calibration {
    /// The bins that hold any, ascending, and their sums.
    fn bins(&self, is_weighted: bool) -> Bins {
        let bin = |(index, n)| {
            let positives = self.positives.iter().find(|(bin, _)| *bin == index);
            let positives = positives.map_or(0, |(_, count)| count);
            let place = u32::from(index);
            Bin {
                index,
                n: self.weights.mass(place, n, is_weighted),
                positives: self.weights.mass(POSITIVES + place, positives, is_weighted),
                score_sum: self.scores[usize::from(index)].value(),
            }
        };
        let mut all: Vec<_> = self.n.iter().map(bin).collect();
        let (n, positives) =
            (all.iter().map(|bin| bin.n).sum(), all.iter().map(|bin| bin.positives).sum());
        all.retain(|bin| bin.n.units > 0);
        let mut score_sum = ExactSum::default();
        self.scores.iter().for_each(|sum| score_sum.merge(sum));
        Bins { all, n, positives, score_sum }
    }

    /// Standardised difference of scores and labels (Spiegelhalter 1986, of the mean): about standard normal where the
    /// scores are right.
    fn z(&self, bins: &Bins) -> Figure {
        let spread = self.variance.value();
        if spread <= 0.0 {
            return Err(Undefined::ZeroVariance);
        }
        Ok(bins.excess().value() / spread.sqrt())
    }

    /// The rows of `calibration_bins`: the bin's number and its figures.
    pub fn bin_rows(&self, context: &FigureContext<'_>) -> Vec<Vec<Value>> {
        let row = |bin: Bin| {
            let mut out = vec![Value::Count(u64::from(bin.index) + 1)];
            for number in [edge(bin.index), edge(bin.index + 1)] {
                out.push(Value::Figure(Ok(number)));
            }
            out.extend([bin.n.records, bin.positives.records].map(Value::Count));
            put(&mut out, Ok(bin.score_sum / one(context.weighted)));
            put(&mut out, Ok(bin.mean_score()));
            let rate = ratio(bin.positives, bin.n, Undefined::NoScores);
            let limits = wilson_limits(bin.positives, bin.n, Undefined::NoScores);
            put_with_limits(&mut out, rate, limits);
            out.extend([bin.n, bin.positives].map(|mass| Value::Figure(Ok(mass.weight()))));
            out
        };
        self.bins(context.weighted).all.into_iter().map(row).collect()
    }
}

/// The figures of a row of `calibration_bins`, behind its key.
pub const BIN_FIGURES: &[Column] = &[
    count("bin", "Number of the bin, 1 to 10."),
    plain("bin_lower", "Scores of the bin are greater (the first bin holds 0 too)."),
    plain("bin_upper", "Scores of the bin are at most this."),
    count("n", "Labelled scores in the bin."),
    count("positives", "Positive labels among them."),
    plain("score_sum", "Sum of the scores, each as often as it weighs."),
    plain("mean_score", "score_sum / n_weight: what the scores promise."),
    figure("positive_rate", "positives_weight / n_weight: what the labels say."),
    figure("positive_rate_lower", "Lower limit of the 95 % interval of positive_rate (Wilson)."),
    figure("positive_rate_upper", "Upper limit of the 95 % interval of positive_rate (Wilson)."),
    plain("n_weight", "Sum of the label weights over n; n itself where weights are ignored."),
    plain("positives_weight", "Sum of the label weights over positives."),
];

impl Accumulator for Calibration {
    type Input<'a> = CalibrationInput;

    const STATE: &'static [Column] = &[
        cells("calibration_cells", "Labelled scores by bin of tenths."),
        cells("calibration_positive_cells", "Positive labels by bin of tenths."),
        sums(
            "calibration_score_sums",
            "Exact sums by bin of tenths of the scores, each times its units of weight.",
        ),
        sum(
            "calibration_variance_sum",
            "Exact sum of score (1 - score), each times the square of its units of weight.",
        ),
        sum(
            "calibration_brier_sum",
            "Exact sum of (score - label)^2, each times its units of weight.",
        ),
        cells(
            "calibration_weight_cells",
            "Sums of label weights in units of 2^-20, and of their squares, by bin: all, positive. Where weights are ignored it is empty, and a record has one unit.",
        ),
    ];

    const FIGURES: &'static [Column] = &[
        count("n_scored", "Labelled inferences with a score."),
        figure(
            "ece",
            "Expected calibration error: mean distance of the bins' rates and scores, biased upward for few records.",
        ),
        figure("mce", "Greatest distance of a bin's rate and mean score."),
        plain(
            "score_sum",
            "Sum of the scores, each as often as it weighs: the positives they promise.",
        ),
        count("positives", "Positive labels."),
        figure(
            "calibration_bias",
            "(score_sum - positives_weight) / n_scored_weight: positive is too high.",
        ),
        figure("calibration_z", "Standardised bias: beyond 2 in size it is hardly chance."),
        figure("brier_reliability", "Part of the Brier score that miscalibration makes (Murphy)."),
        figure("brier_resolution", "Part of the Brier score that telling cases apart takes away."),
        figure("brier_uncertainty", "Part of the Brier score that the base rate makes."),
        figure("brier_residual", "The rest of the Brier score: spread inside the bins."),
        plain("n_scored_weight", "Sum of the label weights over n_scored; n_scored where ignored."),
        plain("positives_weight", "Sum of the label weights over positives."),
    ];

    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        let (CalibrationInput { score, positive, weight }, bin) = (*input, bin_of(input.score));
        let (distance, times) = (if positive { score - 1.0 } else { score }, times(weight));
        sign.cell(&mut self.n, bin);
        self.weights.fold(u32::from(bin), weight, sign);
        if positive {
            sign.cell(&mut self.positives, bin);
            self.weights.fold(POSITIVES + u32::from(bin), weight, sign);
        }
        self.scores[usize::from(bin)].add_times(sign.of(score), times);
        let size = number(times);
        self.variance.add_product(sign.of(size * score), size * (1.0 - score));
        self.brier.add_times(sign.of(distance * distance), times);
    }

    fn merge(&mut self, other: &Self) {
        self.n.merge(&other.n);
        self.positives.merge(&other.positives);
        for (sum, more) in self.scores.iter_mut().zip(&other.scores) {
            sum.merge(more);
        }
        self.variance.merge(&other.variance);
        self.brier.merge(&other.brier);
        self.weights.merge(&other.weights);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([&self.n, &self.positives].map(|cells| Value::Cells(cells.to_pairs())));
        let is_empty = self.scores.iter().all(ExactSum::is_zero);
        out.push(Value::Sums(if is_empty { Vec::new() } else { self.scores.to_vec() }));
        out.extend([&self.variance, &self.brier].map(|sum| Value::Sum(Box::new(sum.clone()))));
        out.push(self.weights.to_value());
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let bins = u16::try_from(BINS).expect("ten");
        Ok(Self {
            n: stored.cells(bins)?,
            positives: stored.cells(bins)?,
            scores: stored.sums()?,
            variance: stored.sum()?,
            brier: stored.sum()?,
            weights: stored.weights(2 * POSITIVES)?,
        })
    }

    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>) {
        let bins = self.bins(context.weighted);
        let n = whole(bins.n, Undefined::NoScores);
        let scored = |figure: &dyn Fn() -> f64| n.map(|_| figure());
        out.push(Value::Count(bins.n.records));
        put(out, scored(&|| bins.weighted(|bin| bin.gap().abs())));
        put(out, scored(&|| bins.all.iter().map(|bin| bin.gap().abs()).fold(0.0, f64::max)));
        put(out, Ok(bins.score_sum.value() / one(context.weighted)));
        out.push(Value::Count(bins.positives.records));
        put(out, scored(&|| bins.excess().value() / number(bins.n.units)));
        put(out, n.and_then(|_| self.z(&bins)));
        let rate = number(bins.positives.units) / number(bins.n.units.max(1));
        let reliability = bins.weighted(|bin| bin.gap() * bin.gap());
        let resolution =
            bins.weighted(|bin| (bin.positive_rate() - rate) * (bin.positive_rate() - rate));
        let uncertainty = rate * (1.0 - rate);
        put(out, scored(&|| reliability));
        put(out, scored(&|| resolution));
        put(out, scored(&|| uncertainty));
        let brier = mean(bins.n, &self.brier, Undefined::NoScores);
        put(out, brier.map(|brier| brier - (reliability - resolution + uncertainty)));
        out.extend([bins.n, bins.positives].map(|mass| Value::Figure(Ok(mass.weight()))));
    }

    fn heap_bytes(&self) -> usize {
        self.n.heap_bytes()
            + self.positives.heap_bytes()
            + self.scores.iter().map(ExactSum::heap_bytes).sum::<usize>()
            + self.variance.heap_bytes()
            + self.brier.heap_bytes()
            + self.weights.heap_bytes()
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
