//! Performance of binary models estimated without labels, from calibrated scores, beside what labels say (confidence
//! based estimation, CBPE).

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::cells::Cells;
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, Limits, Z, cells, count, figure, number, put, put_with_limits, ratio, sums,
};
use super::lattice::{SCORE_CELLS, score_cell};
use super::ranking::Ranking;
use super::sign::Sign;
use super::stored::Stored;

/// A score with what its model decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Estimated {
    /// In 0..=1.
    pub score: f64,
    /// The probability of the positive class that the reference's calibrator makes of it, in 0..=1.
    pub probability: f64,
    /// Whether it was decided positive.
    pub decision: bool,
}

/// What one inference with a score, or its winning label, adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum EstimateInput {
    /// An accepted inference.
    Inference(Estimated),
    /// An inference with its winning label.
    Labelled {
        /// The inference.
        of: Estimated,
        /// Whether the label is positive.
        positive: bool,
    },
}

/// Probabilities of some inferences.
#[derive(Clone, Debug, Default, PartialEq)]
struct Sums {
    /// Inferences decided negative, positive.
    n: [u64; 2],
    /// Exact sums of their probabilities p.
    probability: [ExactSum; 2],
    /// Exact sums of their p (1 - p).
    variance: [ExactSum; 2],
    /// Sums of p by score cell, in units of 2^-32.
    cells: Cells,
}

/// The state of table `quality_estimated`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Estimate {
    all: Sums,
    labelled: Sums,
    /// Inferences by score cell.
    scores: Cells,
    /// Labelled inferences by score cell: negatives, positives.
    labels: [Cells; 2],
    /// Labelled inferences that were decided right: negatives, positives.
    right: [u64; 2],
}

/// One unit of a cell's sum.
const UNIT: f64 = 1.0 / 4_294_967_296.0;

#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "0 to 2^32, whole")]
#[expect(clippy::cast_sign_loss, reason = "a probability is not negative")]
pub(super) fn units(probability: f64) -> u64 {
    (probability / UNIT).round_ties_even() as u64
}

impl Sums {
    fn fold(&mut self, of: &Estimated, sign: impl Sign) {
        let (at, p) = (usize::from(of.decision), of.probability);
        sign.count(&mut self.n[at], 1);
        self.probability[at].add(sign.of(p));
        self.variance[at].add(sign.of(p * (1.0 - p)));
        sign.cell_count(&mut self.cells, score_cell(of.score), units(p));
    }

    fn merge(&mut self, other: &Self) {
        for at in 0..2 {
            self.n[at] += other.n[at];
            self.probability[at].merge(&other.probability[at]);
            self.variance[at].merge(&other.variance[at]);
        }
        self.cells.merge(&other.cells);
    }

    fn sums(&self) -> impl Iterator<Item = &ExactSum> {
        self.probability.iter().chain(&self.variance)
    }

    fn heap_bytes(&self) -> usize {
        self.sums().map(ExactSum::heap_bytes).sum::<usize>() + self.cells.heap_bytes()
    }

    fn expected(&self) -> Expected {
        let [negatives, positives] = self.n.map(number);
        let [fn_, tp] = self.probability.each_ref().map(ExactSum::value);
        let [v0, v1] = self.variance.each_ref().map(ExactSum::value);
        Expected { tp, fp: positives - tp, fn_, tn: negatives - fn_, v1, v0, positives }
    }
}

/// Expected confusion cells and variances.
#[derive(Clone, Copy)]
struct Expected {
    tp: f64,
    fp: f64,
    fn_: f64,
    tn: f64,
    /// Sum of p (1 - p) over those decided positive.
    v1: f64,
    /// The same over those decided negative.
    v0: f64,
    /// Decided positive.
    positives: f64,
}

impl Expected {
    fn n(&self) -> f64 {
        self.tp + self.fp + self.fn_ + self.tn
    }

    fn accuracy(&self) -> (f64, f64) {
        let n = self.n();
        ((self.tp + self.tn) / n, (self.v1 + self.v0) / (n * n))
    }

    fn precision(&self) -> Result<(f64, f64), Undefined> {
        let n = self.positives;
        if n > 0.0 { Ok((self.tp / n, self.v1 / (n * n))) } else { Err(Undefined::ZeroDenominator) }
    }

    fn recall(&self) -> Result<(f64, f64), Undefined> {
        let (t, u) = (self.tp, self.fn_);
        let all = t + u;
        if all > 0.0 {
            Ok((t / all, (u * u * self.v1 + t * t * self.v0) / all.powi(4)))
        } else {
            Err(Undefined::ZeroDenominator)
        }
    }

    fn f1(&self) -> Result<(f64, f64), Undefined> {
        let (t, u) = (self.tp, self.fn_);
        let d = self.positives + t + u;
        if d > 0.0 {
            let of_positives = 4.0 * (self.positives + u).powi(2) * self.v1;
            Ok((2.0 * t / d, (of_positives + 4.0 * t * t * self.v0) / d.powi(4)))
        } else {
            Err(Undefined::ZeroDenominator)
        }
    }
}

/// Expected positives and negatives by score cell, ascending.
pub(super) struct ExpectedRanking {
    cells: Vec<(f64, f64)>,
    positives: f64,
    negatives: f64,
}

impl ExpectedRanking {
    pub(super) fn new(scores: impl Iterator<Item = (u16, u64)>, probabilities: &Cells) -> Self {
        let mut sums = probabilities.iter().peekable();
        let cells: Vec<(f64, f64)> = scores
            .map(|(cell, n)| {
                let sum = sums.next_if(|(at, _)| *at == cell).map_or(0, |(_, sum)| sum);
                // Rounded units of many scores may exceed their number by a little.
                let positives = (number(sum) * UNIT).min(number(n));
                (positives, number(n) - positives)
            })
            .collect();
        let positives = cells.iter().map(|(positives, _)| positives).sum();
        let negatives = cells.iter().map(|(_, negatives)| negatives).sum();
        Self { cells, positives, negatives }
    }

    fn pairs(&self) -> Result<f64, Undefined> {
        let pairs = self.positives * self.negatives;
        if pairs > 0.0 { Ok(pairs) } else { Err(Undefined::OneClass) }
    }

    /// Area under the ROC curve, ties inside a cell counted half.
    pub(super) fn auroc(&self) -> Figure {
        let (mut below, mut won) = (0.0, 0.0);
        for (positives, negatives) in &self.cells {
            won += positives * (below + negatives / 2.0);
            below += negatives;
        }
        Ok(won / self.pairs()?)
    }

    pub(super) fn error_bound(&self) -> Figure {
        let inside: f64 = self.cells.iter().map(|(p, n)| p * n).sum();
        Ok(inside / 2.0 / self.pairs()?)
    }

    /// The variance of [`auroc`](Self::auroc) if each label is drawn with its probability.
    fn variance(&self) -> Figure {
        let auroc = self.auroc()?;
        let (mut below, mut above, mut variance) = (0.0, self.positives, 0.0);
        for (positives, negatives) in &self.cells {
            above -= positives;
            let v10 = (below + negatives / 2.0) / self.negatives;
            let v01 = (above + positives / 2.0) / self.positives;
            below += negatives;
            let n = positives + negatives;
            let weight = (v10 - auroc) / self.positives - (v01 - auroc) / self.negatives;
            variance += positives * (1.0 - positives / n) * weight * weight;
        }
        Ok(variance)
    }
}

/// The band in which the realised figure falls in 95 % of cases, if the probabilities are calibrated.
pub(super) fn band(estimate: Result<(f64, f64), Undefined>) -> (Figure, Limits) {
    let limits = estimate.map(|(value, variance)| {
        let half = Z * variance.max(0.0).sqrt();
        ((value - half).max(0.0), (value + half).min(1.0))
    });
    (estimate.map(|(value, _)| value), limits)
}

impl Accumulator for Estimate {
    type Input<'a> = EstimateInput;

    const STATE: &'static [Column] = &[
        cells(
            "estimate_counts",
            "Inferences with a score: decided negative, positive; the same of the labelled; right negative, positive.",
        ),
        sums(
            "estimate_sums",
            "Exact sums of p decided negative, positive, of p (1 - p) likewise; the same of the labelled.",
        ),
        cells("estimate_cells", "Sums of p by cell of the score lattice, in units of 2^-32."),
        cells("estimate_labelled_cells", "The same of the labelled."),
        cells("estimate_score_cells", "Inferences by cell of the score lattice."),
        cells("estimate_negative_cells", "Negative labels by cell of the score lattice."),
        cells("estimate_positive_cells", "Positive labels by cell of the score lattice."),
    ];

    const FIGURES: &'static [Column] = &[
        count("n", "Inferences with a score."),
        figure("est_tp", "Expected true positives, of a binary model."),
        figure("est_fp", "Expected false positives, of a binary model."),
        figure("est_fn", "Expected false negatives, of a binary model."),
        figure("est_tn", "Expected true negatives, of a binary model."),
        figure("est_accuracy", "Estimated share of right decisions."),
        figure("est_accuracy_lower", "Lower end of the 95 % band of the realised accuracy."),
        figure("est_accuracy_upper", "Upper end of the 95 % band of the realised accuracy."),
        figure("est_precision", "Estimated precision."),
        figure("est_precision_lower", "Lower end of the 95 % band of the realised precision."),
        figure("est_precision_upper", "Upper end of the 95 % band of the realised precision."),
        figure("est_recall", "Estimated recall."),
        figure("est_recall_lower", "Lower end of the 95 % band of the realised recall."),
        figure("est_recall_upper", "Upper end of the 95 % band of the realised recall."),
        figure("est_f1", "Estimated F1."),
        figure("est_f1_lower", "Lower end of the 95 % band of the realised F1."),
        figure("est_f1_upper", "Upper end of the 95 % band of the realised F1."),
        figure(
            "est_auroc",
            "Estimated area under the ROC curve, from score cells; of several classes the mean, each against the rest.",
        ),
        figure("est_auroc_lower", "Lower end of the 95 % band of the realised area."),
        figure("est_auroc_upper", "Upper end of the 95 % band of the realised area."),
        figure("est_auroc_error_bound", "What binning may change of est_auroc at most."),
        count("n_labelled", "Labelled inferences with a score."),
        figure("realized_accuracy", "Share of right decisions of the labelled."),
        figure("realized_f1", "F1 of the labelled."),
        figure("realized_auroc", "Area under the ROC curve of the labelled, likewise."),
        figure("est_labelled_accuracy", "Estimated accuracy of exactly the labelled."),
        figure("est_labelled_f1", "Estimated F1 of exactly the labelled."),
        figure("est_labelled_auroc", "Estimated area under the ROC curve of exactly the labelled."),
        figure("accuracy_gap", "realized_accuracy - est_labelled_accuracy."),
        figure("f1_gap", "realized_f1 - est_labelled_f1."),
        figure("auroc_gap", "realized_auroc - est_labelled_auroc."),
        figure(
            "accuracy_gap_z",
            "accuracy_gap over its standard deviation: beyond 2 in size the calibration no longer holds.",
        ),
        figure("blended_accuracy", "Realised where labels are in, estimated for the rest."),
    ];

    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match input {
            EstimateInput::Inference(of) => {
                self.all.fold(of, sign);
                sign.cell(&mut self.scores, score_cell(of.score));
            }
            EstimateInput::Labelled { of, positive } => {
                let at = usize::from(*positive);
                self.labelled.fold(of, sign);
                sign.cell(&mut self.labels[at], score_cell(of.score));
                sign.count(&mut self.right[at], u64::from(of.decision == *positive));
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.labelled.merge(&other.labelled);
        self.scores.merge(&other.scores);
        for at in 0..2 {
            self.labels[at].merge(&other.labels[at]);
            self.right[at] += other.right[at];
        }
    }

    fn state(&self, out: &mut Vec<Value>) {
        let counts = [self.all.n, self.labelled.n, self.right].concat();
        let counts = (0..).zip(counts).filter(|&(_, count)| count > 0).collect();
        out.push(Value::Cells(counts));
        let sums: Vec<ExactSum> = self.all.sums().chain(self.labelled.sums()).cloned().collect();
        let is_empty = sums.iter().all(ExactSum::is_zero);
        out.push(Value::Sums(if is_empty { Vec::new() } else { sums }));
        let [negatives, positives] = &self.labels;
        let cells = [&self.all.cells, &self.labelled.cells, &self.scores, negatives, positives];
        out.extend(cells.map(|cells| Value::Cells(cells.to_pairs())));
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let counts = stored.cells(6)?;
        let mut n = [0; 6];
        counts.iter().for_each(|(at, count)| n[usize::from(at)] = count);
        let [a0, a1, v0, v1, b0, b1, w0, w1] = stored.sums()?;
        let mut cells = || stored.cells(SCORE_CELLS);
        Ok(Self {
            all: Sums {
                n: [n[0], n[1]],
                probability: [a0, a1],
                variance: [v0, v1],
                cells: cells()?,
            },
            labelled: Sums {
                n: [n[2], n[3]],
                probability: [b0, b1],
                variance: [w0, w1],
                cells: cells()?,
            },
            scores: cells()?,
            labels: [cells()?, cells()?],
            right: [n[4], n[5]],
        })
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        let expected = self.all.expected();
        let n = self.all.n[0] + self.all.n[1];
        out.push(Value::Count(n));
        let cells = [expected.tp, expected.fp, expected.fn_, expected.tn];
        out.extend(cells.map(|cell| Value::Figure(Ok(cell))));
        let scored = if n > 0 { Ok(()) } else { Err(Undefined::NoScores) };
        let ranking = ExpectedRanking::new(self.scores.iter(), &self.all.cells);
        let auroc = ranking.auroc().and_then(|auroc| Ok((auroc, ranking.variance()?)));
        let estimates = [
            Ok(expected.accuracy()),
            expected.precision(),
            expected.recall(),
            expected.f1(),
            auroc,
        ];
        for estimate in estimates {
            let (value, limits) = band(scored.and(estimate));
            put_with_limits(out, value, limits);
        }
        put(out, scored.and_then(|()| ranking.error_bound()));
        self.put_labelled(out, &expected);
    }

    fn heap_bytes(&self) -> usize {
        let cells = self.labels.iter().chain([&self.scores]).map(Cells::heap_bytes);
        self.all.heap_bytes() + self.labelled.heap_bytes() + cells.sum::<usize>()
    }
}

/// Whether a column is over the labelled alone, of which there are `n_labelled`.
pub(super) fn is_of_labelled(column: &str) -> bool {
    column.starts_with("realized_")
        || column.starts_with("est_labelled_")
        || column.contains("_gap")
}

/// Whether a column is computed from labels; the others need scores only.
pub(super) fn reads_labels(column: &str) -> bool {
    is_of_labelled(column) || ["n_labelled", "blended_accuracy"].contains(&column)
}

impl Estimate {
    fn put_labelled(&self, out: &mut Vec<Value>, all: &Expected) {
        let expected = self.labelled.expected();
        let [decided_negative, decided_positive] = self.labelled.n;
        let n = decided_negative + decided_positive;
        let [negatives, positives] = &self.labels;
        let [tn, tp] = self.right;
        let labelled = if n > 0 { Ok(()) } else { Err(Undefined::NoLabels) };
        let accuracy = ratio(tn + tp, n, Undefined::NoLabels);
        let halves = decided_positive + positives.total();
        let f1 = labelled.and_then(|()| ratio(2 * tp, halves, Undefined::ZeroDenominator));
        let auroc = labelled.and_then(|()| Ranking::new(positives, negatives).auroc());
        out.push(Value::Count(n));
        let realized = [accuracy, f1, auroc];
        out.extend(realized.map(Value::Figure));
        let mut scores = negatives.clone();
        scores.merge(positives);
        let ranking = ExpectedRanking::new(scores.iter(), &self.labelled.cells);
        let estimated =
            [Ok(expected.accuracy().0), expected.f1().map(|(f1, _)| f1), ranking.auroc()];
        let estimated = estimated.map(|figure| labelled.and(figure));
        out.extend(estimated.map(Value::Figure));
        let gaps = [0, 1, 2].map(|at| realized[at].and_then(|is| Ok(is - estimated[at]?)));
        out.extend(gaps.map(Value::Figure));
        let variance = expected.accuracy().1;
        let z = gaps[0].and_then(|gap| {
            if variance > 0.0 { Ok(gap / variance.sqrt()) } else { Err(Undefined::ZeroVariance) }
        });
        put(out, z);
        let rest = (all.tp + all.tn) - (expected.tp + expected.tn);
        let of_all = number(self.all.n[0] + self.all.n[1]);
        let blended = (number(tn + tp) + rest.max(0.0)) / of_all;
        put(out, if of_all > 0.0 { Ok(blended) } else { Err(Undefined::NoScores) });
    }
}
