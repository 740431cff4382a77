//! Quality of binary models: confusion at the own decision, ranking of scores, calibration losses, value.

use super::accumulator::{
    Accumulator, Column, FigureContext, StateError, Undefined, Value, ValueMatrix,
};
use super::cells::Cells;
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, Limits, cells, count, f1_limits, figure, joined, logit, mean, mean_limits, mean_of_two,
    normal, number, plain, put, put_with_limits, ratio, sum, wide_number, wilson_limits,
};
use super::lattice::{SCORE_CELLS, score_cell};
use super::ranking::Ranking;
use super::sign::Sign;
use super::stored::Stored;
use super::weights::{Mass, Weight, Weights, one, times};

/// What one binary inference, or its winning label, adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum BinaryInput<'a> {
    /// An accepted inference.
    Inference {
        /// Its score in 0..=1, where it has one.
        score: Option<f64>,
    },
    /// An inference with its winning label.
    Labelled {
        /// Whether it was decided positive, where it has a decision.
        decision: Option<bool>,
        /// Whether its own prediction differs from its score's side of the threshold.
        off_threshold: bool,
        /// Its score in 0..=1, where it has one.
        score: Option<f64>,
        /// Whether the label is positive.
        positive: bool,
        /// The other thresholds of the model, always the same for one key.
        thresholds: &'a [f64],
        /// What the label weighs, where the model uses weights.
        weight: Weight,
    },
}

/// Thresholds of a model beside its own.
pub const MOST_THRESHOLDS: u16 = 64;

/// The least probability that the log loss counts with: 2^-52, as scikit-learn.
const LEAST_PROBABILITY: f64 = f64::EPSILON;

/// The state of table `quality_binary`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Binary {
    inferences: u64,
    tp: u64,
    fp: u64,
    fn_: u64,
    tn: u64,
    off_threshold: u64,
    /// The confusion cells of the other thresholds: four for each, in the order tp, fp, fn, tn.
    at_thresholds: Cells,
    scores: Cells,
    scored_positives: Cells,
    scored_negatives: Cells,
    brier: ExactSum,
    brier_squares: ExactSum,
    log_loss: ExactSum,
    log_loss_squares: ExactSum,
    log_loss_clipped: u64,
    /// By [`places`].
    weights: Weights,
}

/// Where the weights of what is counted are.
mod places {
    use super::{MOST_THRESHOLDS, SCORE_CELLS};

    /// The other thresholds begin, behind tp, fp, fn and tn.
    pub(super) const THRESHOLDS: u32 = 4;
    /// Labelled scores.
    #[expect(clippy::as_conversions, reason = "wider; `from` is not const")]
    pub(super) const SCORED: u32 = THRESHOLDS + 4 * MOST_THRESHOLDS as u32;
    /// The score cells of positives begin.
    pub(super) const POSITIVES: u32 = SCORED + 1;
    /// The score cells of negatives begin.
    #[expect(clippy::as_conversions, reason = "wider; `from` is not const")]
    pub(super) const NEGATIVES: u32 = POSITIVES + SCORE_CELLS as u32;
    #[expect(clippy::as_conversions, reason = "wider; `from` is not const")]
    pub(super) const END: u32 = NEGATIVES + SCORE_CELLS as u32;
}

/// The losses of one labelled score: the terms whose sums, and sums of squares, are exact.
struct Losses {
    brier: f64,
    log: f64,
    is_clipped: bool,
}

impl Losses {
    fn of(score: f64, positive: bool) -> Self {
        let distance = if positive { score - 1.0 } else { score };
        let probability = if positive { score } else { 1.0 - score };
        let (log, is_clipped) = log_loss(probability);
        Self { brier: distance * distance, log, is_clipped }
    }
}

/// -ln of the probability given to what came true, and whether the probability had to be held to 2^-52 from 0 or 1.
pub(super) fn log_loss(probability: f64) -> (f64, bool) {
    let held = probability.clamp(LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY);
    (-libm::log(held), held.to_bits() != probability.to_bits())
}

/// Decisions against labels.
#[derive(Clone, Copy, Debug)]
struct Confusion {
    tp: Mass,
    fp: Mass,
    fn_: Mass,
    tn: Mass,
}

impl Confusion {
    fn n(&self) -> Mass {
        self.tp + self.fp + self.fn_ + self.tn
    }

    /// Columns `n` to `mcc`.
    fn put(&self, out: &mut Vec<Value>) {
        let Self { tp, fp, fn_, tn } = *self;
        let (n, positives, negatives, predicted) = (self.n(), tp + fn_, fp + tn, tp + fp);
        let counts = [n, tp, fp, fn_, tn, positives, negatives, predicted];
        out.extend(counts.map(|mass| Value::Count(mass.records)));
        let mut put_share = |part, whole, otherwise| {
            put_with_limits(
                out,
                ratio(part, whole, otherwise),
                wilson_limits(part, whole, otherwise),
            );
        };
        put_share(tp + tn, n, Undefined::NoLabels);
        put_share(tp, predicted, Undefined::ZeroDenominator);
        put_share(tn, tn + fn_, Undefined::ZeroDenominator);
        put_share(tp, positives, Undefined::ZeroDenominator);
        put_share(tn, negatives, Undefined::ZeroDenominator);
        put_share(positives, n, Undefined::NoLabels);
        put_share(predicted, n, Undefined::NoLabels);
        let f1 = ratio(tp + tp, tp + tp + fp + fn_, Undefined::ZeroDenominator);
        put_with_limits(out, f1, f1_limits(tp, fp, fn_));
        let balanced = mean_of_two((tp, positives), (tn, negatives));
        put_with_limits(out, balanced.map(|(mean, _)| mean), balanced.map(|(_, limits)| limits));
        put(out, self.mcc());
    }

    /// Matthews correlation coefficient (Matthews 1975); scikit-learn says 0 where it is undefined.
    fn mcc(&self) -> Figure {
        let all = [self.tp, self.fp, self.fn_, self.tn];
        let [tp, fp, fn_, tn] = all.map(|mass| i128::from(mass.units));
        let predicted = wide_number((tp + fp) * (tn + fn_)).sqrt();
        let actual = wide_number((tp + fn_) * (tn + fp)).sqrt();
        if predicted == 0.0 || actual == 0.0 {
            return Err(Undefined::ZeroDenominator);
        }
        Ok((wide_number(tp * tn - fp * fn_) / predicted / actual).clamp(-1.0, 1.0))
    }

    /// Columns `n_weight` to `n_eff`.
    fn put_weights(&self, out: &mut Vec<Value>) {
        let n = self.n();
        for mass in [n, self.tp, self.fp, self.fn_, self.tn] {
            put(out, Ok(mass.weight()));
        }
        put(out, Ok(n.effective()));
    }

    /// What the decisions are worth together.
    fn value_sum(&self, value: Option<ValueMatrix>) -> Figure {
        let value = value.ok_or(Undefined::NotConfigured)?;
        Ok(value.tp * self.tp.weight()
            + value.fp * self.fp.weight()
            + value.fn_ * self.fn_.weight()
            + value.tn * self.tn.weight())
    }

    /// Columns `value_sum` and `value_per_label`.
    fn put_value(&self, value: Option<ValueMatrix>, out: &mut Vec<Value>) {
        let sum = self.value_sum(value);
        put(out, sum);
        let n = self.n();
        let per_label = |sum| match n {
            Mass { records: 0, .. } => Err(Undefined::NoLabels),
            Mass { units: 0, .. } => Err(Undefined::ZeroDenominator),
            n => Ok(sum / n.weight()),
        };
        put(out, sum.and_then(per_label));
    }
}

impl Binary {
    /// All scores, labelled or not, by cell of the score lattice.
    pub fn scores(&self) -> &Cells {
        &self.scores
    }

    /// Accepted binary inferences.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    /// The cell of the confusion matrix that a decision falls in.
    fn confusion_mut(&mut self, decision: bool, positive: bool) -> &mut u64 {
        match (decision, positive) {
            (true, true) => &mut self.tp,
            (true, false) => &mut self.fp,
            (false, true) => &mut self.fn_,
            (false, false) => &mut self.tn,
        }
    }

    fn cells(&self) -> [&Cells; 4] {
        [&self.at_thresholds, &self.scores, &self.scored_positives, &self.scored_negatives]
    }

    /// Of counts tp, fp, fn and tn, whose weights stand from `place` on.
    fn confusion(&self, counts: [u64; 4], place: u32, weighted: bool) -> Confusion {
        let mut places = (place..).zip(counts);
        let [tp, fp, fn_, tn] = std::array::from_fn(|_| {
            let (place, count) = places.next().expect("four of them");
            self.weights.mass(place, count, weighted)
        });
        Confusion { tp, fp, fn_, tn }
    }

    fn own_confusion(&self, weighted: bool) -> Confusion {
        self.confusion([self.tp, self.fp, self.fn_, self.tn], 0, weighted)
    }

    /// The rows of `quality_threshold`: the threshold and its figures.
    pub fn threshold_rows(&self, context: &FigureContext<'_>) -> Vec<Vec<Value>> {
        let row = |(index, threshold): (u16, &f64)| {
            let count = |cell: u16| {
                let mut cells = self.at_thresholds.iter();
                cells.find(|(at, _)| *at == index * 4 + cell).map_or(0, |(_, count)| count)
            };
            let place = places::THRESHOLDS + 4 * u32::from(index);
            let confusion = self.confusion([0, 1, 2, 3].map(count), place, context.weighted);
            let mut out = vec![Value::Figure(Ok(*threshold))];
            confusion.put(&mut out);
            confusion.put_value(context.value, &mut out);
            confusion.put_weights(&mut out);
            out
        };
        (0..).zip(context.thresholds).map(row).collect()
    }

    /// The cells of labelled scores of one class.
    fn scored_mut(&mut self, positive: bool) -> &mut Cells {
        if positive { &mut self.scored_positives } else { &mut self.scored_negatives }
    }

    fn fold_score(&mut self, score: f64, positive: bool, weight: Weight, sign: impl Sign) {
        let (losses, times) = (Losses::of(score, positive), times(weight));
        let cell = score_cell(score);
        sign.cell(self.scored_mut(positive), cell);
        self.weights.fold(places::SCORED, weight, sign);
        self.weights.fold(score_place(cell, positive), weight, sign);
        self.brier.add_times(sign.of(losses.brier), times);
        self.brier_squares.add_square_times(losses.brier, times, sign.adds());
        self.log_loss.add_times(sign.of(losses.log), times);
        self.log_loss_squares.add_square_times(losses.log, times, sign.adds());
        sign.count(&mut self.log_loss_clipped, u64::from(losses.is_clipped));
    }

    /// The cells of labelled scores, as their weights count them.
    fn ranking(&self, weighted: bool) -> Ranking {
        if !weighted {
            return Ranking::new(&self.scored_positives, &self.scored_negatives);
        }
        let cells = |first: u32| {
            let mut cells = Cells::default();
            for (cell, units) in self.weights.units(first, first + u32::from(SCORE_CELLS)) {
                cells.add_count(u16::try_from(cell).expect("a score cell"), units);
            }
            cells
        };
        let records: Vec<(u16, u64)> = self.scored_positives.iter().collect();
        let steps = |cell: u16, units: u64| {
            let found = records.binary_search_by_key(&cell, |(cell, _)| *cell).ok();
            let records = found.map_or(0, |at| records[at].1);
            let is_equal = self.weights.are_equal(score_place(cell, true), records);
            if is_equal { records } else { units }
        };
        Ranking::of_steps(&cells(places::POSITIVES), &cells(places::NEGATIVES), steps)
    }

    /// Columns `n_scored` to `brier_upper`.
    fn put_scores(&self, ranking: &Ranking, weighted: bool, out: &mut Vec<Value>) {
        let counts = [&self.scored_positives, &self.scored_negatives].map(Cells::total);
        let n_scored = self.weights.mass(places::SCORED, counts.iter().sum(), weighted);
        out.extend([n_scored.records, counts[0], counts[1]].map(Value::Count));
        let unweighted = if weighted { Err(Undefined::Weighted) } else { Ok(()) };
        let auroc = ranking.auroc();
        let standard_error = auroc.and(unweighted).and_then(|()| ranking.auroc_standard_error());
        let limits = auroc.and_then(|figure| Ok(normal(figure, standard_error?)));
        put_with_limits(out, auroc, limits);
        put(out, ranking.auroc_error_bound());
        put(out, standard_error);
        let precision = ranking.average_precision();
        let limits = precision.and_then(|figure| unweighted.map(|()| figure));
        put_with_limits(out, precision, limits.and_then(|figure| logit(figure, ranking.positives)));
        put(out, ranking.average_precision_min());
        put(out, ranking.average_precision_max());
        let (figure, limits) = loss_mean(n_scored, &self.log_loss, &self.log_loss_squares);
        put_with_limits(out, figure, limits);
        out.push(Value::Count(self.log_loss_clipped));
        let (figure, limits) = loss_mean(n_scored, &self.brier, &self.brier_squares);
        put_with_limits(out, figure, limits.map(|(lower, upper)| (lower, upper.min(1.0))));
    }
}

/// The place of a labelled score's weight.
fn score_place(cell: u16, positive: bool) -> u32 {
    u32::from(cell) + if positive { places::POSITIVES } else { places::NEGATIVES }
}

/// The place of a decision's weight.
fn decision_place(decision: bool, positive: bool) -> u32 {
    match (decision, positive) {
        (true, true) => 0,
        (true, false) => 1,
        (false, true) => 2,
        (false, false) => 3,
    }
}

/// The confusion cell of each threshold that a labelled score falls in.
fn threshold_cells(
    thresholds: &[f64],
    score: f64,
    positive: bool,
) -> impl Iterator<Item = u16> + '_ {
    (0_u16..).zip(thresholds).map(move |(index, threshold)| {
        index * 4 + u16::from(score < *threshold) * 2 + u16::from(!positive)
    })
}

/// The mean of n losses, which are never negative, and its limits.
pub(super) fn loss_mean(n: Mass, sum: &ExactSum, squares: &ExactSum) -> (Figure, Limits) {
    let figure = mean(n, sum, Undefined::NoScores);
    let limits = figure.and_then(|_| mean_limits(n, sum, squares));
    (figure, limits.map(|(lower, upper)| (lower.max(0.0), upper)))
}

/// Columns of decisions.
const DECISIONS: &[Column] = &[
    count("n", "Labelled inferences with a decision."),
    count("tp", "True positives: decided and labelled positive."),
    count("fp", "False positives: decided positive, labelled negative."),
    count("fn", "False negatives: decided negative, labelled positive."),
    count("tn", "True negatives: decided and labelled negative."),
    count("positives", "tp + fn."),
    count("negatives", "fp + tn."),
    count("predicted_positive", "tp + fp."),
    figure("accuracy", "(tp + tn) / n."),
    figure("accuracy_lower", "Lower limit of the 95 % interval of accuracy (Wilson)."),
    figure("accuracy_upper", "Upper limit of the 95 % interval of accuracy (Wilson)."),
    figure("precision", "tp / (tp + fp)."),
    figure("precision_lower", "Lower limit of the 95 % interval of precision (Wilson)."),
    figure("precision_upper", "Upper limit of the 95 % interval of precision (Wilson)."),
    figure("npv", "Negative predictive value: tn / (tn + fn)."),
    figure("npv_lower", "Lower limit of the 95 % interval of npv (Wilson)."),
    figure("npv_upper", "Upper limit of the 95 % interval of npv (Wilson)."),
    figure("recall", "tp / (tp + fn)."),
    figure("recall_lower", "Lower limit of the 95 % interval of recall (Wilson)."),
    figure("recall_upper", "Upper limit of the 95 % interval of recall (Wilson)."),
    figure("specificity", "tn / (tn + fp)."),
    figure("specificity_lower", "Lower limit of the 95 % interval of specificity (Wilson)."),
    figure("specificity_upper", "Upper limit of the 95 % interval of specificity (Wilson)."),
    figure("prevalence", "positives / n."),
    figure("prevalence_lower", "Lower limit of the 95 % interval of prevalence (Wilson)."),
    figure("prevalence_upper", "Upper limit of the 95 % interval of prevalence (Wilson)."),
    figure("predicted_positive_rate", "predicted_positive / n."),
    figure(
        "predicted_positive_rate_lower",
        "Lower limit of the 95 % interval of predicted_positive_rate (Wilson).",
    ),
    figure(
        "predicted_positive_rate_upper",
        "Upper limit of the 95 % interval of predicted_positive_rate (Wilson).",
    ),
    figure("f1", "2 tp / (2 tp + fp + fn)."),
    figure("f1_lower", "Lower limit of the 95 % interval of f1 (Wilson, mapped)."),
    figure("f1_upper", "Upper limit of the 95 % interval of f1 (Wilson, mapped)."),
    figure("balanced_accuracy", "(recall + specificity) / 2."),
    figure(
        "balanced_accuracy_lower",
        "Lower limit of the 95 % interval of balanced_accuracy (MOVER).",
    ),
    figure(
        "balanced_accuracy_upper",
        "Upper limit of the 95 % interval of balanced_accuracy (MOVER).",
    ),
    figure("mcc", "Matthews correlation coefficient."),
];

/// Columns of scores.
const SCORES: &[Column] = &[
    count("n_scored", "Labelled inferences with a score."),
    count("scored_positives", "Positive ones among n_scored."),
    count("scored_negatives", "Negative ones among n_scored."),
    figure("auroc", "Area under the ROC curve, from score cells."),
    figure("auroc_lower", "Lower limit of the 95 % interval of auroc (DeLong)."),
    figure("auroc_upper", "Upper limit of the 95 % interval of auroc (DeLong)."),
    figure("auroc_error_bound", "Greatest difference of auroc to that of the raw scores."),
    figure("auroc_se", "Standard error of auroc (DeLong)."),
    figure("average_precision", "Average precision, from score cells."),
    figure(
        "average_precision_lower",
        "Lower limit of the 95 % interval of average_precision (logit).",
    ),
    figure(
        "average_precision_upper",
        "Upper limit of the 95 % interval of average_precision (logit).",
    ),
    figure("average_precision_min", "Least average precision that the raw scores can have."),
    figure("average_precision_max", "Greatest average precision that the raw scores can have."),
    figure("log_loss", "Mean of -ln of the probability given to the label."),
    figure("log_loss_lower", "Lower limit of the 95 % interval of log_loss (normal)."),
    figure("log_loss_upper", "Upper limit of the 95 % interval of log_loss (normal)."),
    count("log_loss_clipped", "Labelled scores whose log loss was held to 2^-52."),
    figure("brier", "Mean of (score - label)^2."),
    figure("brier_lower", "Lower limit of the 95 % interval of brier (normal)."),
    figure("brier_upper", "Upper limit of the 95 % interval of brier (normal)."),
    count(
        "decisions_off_threshold",
        "Labelled inferences whose own prediction differs from score >= threshold.",
    ),
];

/// Columns of what decisions are worth.
const VALUES: &[Column] = &[
    figure("value_sum", "What the decisions are worth together, by the model's value matrix."),
    figure("value_per_label", "value_sum / n_weight."),
];

/// Columns of what decisions weigh.
const WEIGHTS: &[Column] = &[
    plain("n_weight", "Sum of the label weights over n; n itself where weights are ignored."),
    plain("tp_weight", "Sum of the label weights over tp."),
    plain("fp_weight", "Sum of the label weights over fp."),
    plain("fn_weight", "Sum of the label weights over fn."),
    plain("tn_weight", "Sum of the label weights over tn."),
    plain("n_eff", "Effective sample size (Kish): n_weight^2 / sum of the squared weights."),
];

/// Columns of what labelled scores weigh.
const SCORE_WEIGHTS: &[Column] = &[
    plain("scored_positives_weight", "Sum of the label weights over scored_positives."),
    plain("scored_negatives_weight", "Sum of the label weights over scored_negatives."),
];

/// The columns of `quality_threshold`, its key first.
pub const THRESHOLD_FIGURES: &[Column] =
    &joined::<{ 1 + DECISIONS.len() + VALUES.len() + WEIGHTS.len() }>(&[
        &[plain("threshold", "Scores at or above it are decided positive.")],
        DECISIONS,
        VALUES,
        WEIGHTS,
    ]);

impl Accumulator for Binary {
    type Input<'a> = BinaryInput<'a>;

    const STATE: &'static [Column] = &[
        count("binary_inferences", "Accepted inferences of a binary model."),
        count("binary_tp", "True positives at the own decision."),
        count("binary_fp", "False positives at the own decision."),
        count("binary_fn", "False negatives at the own decision."),
        count("binary_tn", "True negatives at the own decision."),
        count(
            "decisions_off_threshold",
            "Labelled inferences whose own prediction differs from score >= threshold.",
        ),
        cells("threshold_cells", "Labelled scores by other threshold: tp, fp, fn, tn of each."),
        cells("score_cells", "Inferences by cell of the score lattice."),
        cells("score_positive_cells", "Positive labels by cell of the score lattice."),
        cells("score_negative_cells", "Negative labels by cell of the score lattice."),
        sum("brier_sum", "Exact sum of (score - label)^2, each times its units of weight."),
        sum("brier_square_sum", "Exact sum of the squares of (score - label)^2, likewise."),
        sum("log_loss_sum", "Exact sum of log losses, each times its units of weight."),
        sum("log_loss_square_sum", "Exact sum of the squares of log losses, likewise."),
        count("log_loss_clipped", "Labelled scores whose log loss was held to 2^-52."),
        cells(
            "binary_weight_cells",
            "Sums of label weights in units of 2^-20, and of their squares, by what they count. Where weights are ignored it is empty, and a record has one unit.",
        ),
    ];

    const FIGURES: &'static [Column] = &joined::<
        { DECISIONS.len() + SCORES.len() + VALUES.len() + WEIGHTS.len() + SCORE_WEIGHTS.len() },
    >(&[DECISIONS, SCORES, VALUES, WEIGHTS, SCORE_WEIGHTS]);

    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match *input {
            BinaryInput::Inference { score } => {
                sign.count(&mut self.inferences, 1);
                if let Some(score) = score {
                    sign.cell(&mut self.scores, score_cell(score));
                }
            }
            BinaryInput::Labelled {
                decision,
                off_threshold,
                score,
                positive,
                thresholds,
                weight,
            } => {
                if let Some(decision) = decision {
                    sign.count(self.confusion_mut(decision, positive), 1);
                    self.weights.fold(decision_place(decision, positive), weight, sign);
                }
                sign.count(&mut self.off_threshold, u64::from(off_threshold));
                if let Some(score) = score {
                    self.fold_score(score, positive, weight, sign);
                    for cell in threshold_cells(thresholds, score, positive) {
                        sign.cell(&mut self.at_thresholds, cell);
                        self.weights.fold(places::THRESHOLDS + u32::from(cell), weight, sign);
                    }
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.inferences += other.inferences;
        self.tp += other.tp;
        self.fp += other.fp;
        self.fn_ += other.fn_;
        self.tn += other.tn;
        self.off_threshold += other.off_threshold;
        self.at_thresholds.merge(&other.at_thresholds);
        self.scores.merge(&other.scores);
        self.scored_positives.merge(&other.scored_positives);
        self.scored_negatives.merge(&other.scored_negatives);
        self.brier.merge(&other.brier);
        self.brier_squares.merge(&other.brier_squares);
        self.log_loss.merge(&other.log_loss);
        self.log_loss_squares.merge(&other.log_loss_squares);
        self.log_loss_clipped += other.log_loss_clipped;
        self.weights.merge(&other.weights);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([self.inferences, self.tp, self.fp, self.fn_, self.tn].map(Value::Count));
        out.push(Value::Count(self.off_threshold));
        out.extend(self.cells().map(|cells| Value::Cells(cells.to_pairs())));
        for sum in [&self.brier, &self.brier_squares, &self.log_loss, &self.log_loss_squares] {
            out.push(Value::Sum(Box::new(sum.clone())));
        }
        out.push(Value::Count(self.log_loss_clipped));
        out.push(self.weights.to_value());
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        Ok(Self {
            inferences: stored.count()?,
            tp: stored.count()?,
            fp: stored.count()?,
            fn_: stored.count()?,
            tn: stored.count()?,
            off_threshold: stored.count()?,
            at_thresholds: stored.cells(4 * MOST_THRESHOLDS)?,
            scores: stored.cells(SCORE_CELLS)?,
            scored_positives: stored.cells(SCORE_CELLS)?,
            scored_negatives: stored.cells(SCORE_CELLS)?,
            brier: stored.sum()?,
            brier_squares: stored.sum()?,
            log_loss: stored.sum()?,
            log_loss_squares: stored.sum()?,
            log_loss_clipped: stored.count()?,
            weights: stored.weights(places::END)?,
        })
    }

    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>) {
        let confusion = self.own_confusion(context.weighted);
        confusion.put(out);
        let ranking = self.ranking(context.weighted);
        self.put_scores(&ranking, context.weighted, out);
        out.push(Value::Count(self.off_threshold));
        confusion.put_value(context.value, out);
        confusion.put_weights(out);
        for units in [ranking.positives, ranking.negatives] {
            put(out, Ok(number(units) / one(context.weighted)));
        }
    }

    fn heap_bytes(&self) -> usize {
        let sums = [&self.brier, &self.brier_squares, &self.log_loss, &self.log_loss_squares];
        self.cells().map(Cells::heap_bytes).iter().sum::<usize>()
            + sums.map(ExactSum::heap_bytes).iter().sum::<usize>()
            + self.weights.heap_bytes()
    }
}
