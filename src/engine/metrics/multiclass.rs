//! Quality of models that decide between several classes: confusion, figures by class, losses and ranks of scores.

use std::sync::Arc;

use super::accumulator::{Accumulator, Column, FigureContext, Kind, StateError, Undefined, Value};
use super::binary::{log_loss, loss_mean};
use super::confusion::{ClassCounts, Confusion};
use super::dictionary::ClassCaps;
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, cells, count, f1_limits, figure, mean, normal, number, plain, put, put_with_limits,
    ratio, sum, wide_number, wilson_limits,
};
use super::one_vs_rest::OneVsRest;
use super::ranking::Ranking;
use super::sign::Sign;
use super::stored::Stored;
use super::weights::{Mass, Weight, Weights, times};
use crate::engine::names::OTHER;

/// What one inference of a multiclass model, or its winning label, adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum MulticlassInput<'a> {
    /// An accepted inference.
    Inference,
    /// An inference with its winning label. Classes are texts in the form in which they are compared.
    Labelled {
        /// The class that it decided for, where it has a decision.
        predicted: Option<&'a str>,
        /// The label's class.
        actual: &'a str,
        /// Probability by class, each class once; empty where it has none. A class without one has 0.
        scores: &'a [(&'a str, f64)],
        /// What the label weighs, where the model uses weights.
        weight: Weight,
    },
}

/// The state of the tables `quality_multiclass`, `quality_classes` and `confusion`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Multiclass {
    inferences: u64,
    correct: u64,
    confusion: Confusion,
    scored: u64,
    log_loss: ExactSum,
    log_loss_squares: ExactSum,
    log_loss_clipped: u64,
    brier: ExactSum,
    /// Records whose true class is among the 2, 3 or 5 of greatest score.
    hits: [u64; 3],
    one_vs_rest: OneVsRest,
    /// Of the correct ones, the scored ones, and of each of `hits`.
    weights: Weights,
}

/// The places of weights.
const CORRECT: u32 = 0;
const SCORED: u32 = 1;
const HITS: u32 = 2;
const PLACES: u32 = 5;

/// The ranks up to which hits are counted.
const TOP: [u64; 3] = [2, 3, 5];

/// What the scores of one record say about its true class.
struct Losses {
    log: f64,
    is_clipped: bool,
    /// 1 + classes of greater score + later classes of the same score.
    rank: u64,
    /// Whether the true class has a score.
    is_scored: bool,
}

impl Losses {
    fn of(actual: &str, scores: &[(&str, f64)]) -> Self {
        let own = scores.iter().find(|(class, _)| *class == actual).map(|(_, score)| *score);
        let score = own.unwrap_or(0.0);
        let is_before =
            |(class, other): &&(&str, f64)| *other > score || (*other >= score && *class > actual);
        let before = scores.iter().filter(is_before).count();
        let (log, is_clipped) = log_loss(score);
        let rank = 1 + u64::try_from(before).expect("a count fits u64");
        Self { log, is_clipped, rank, is_scored: own.is_some() }
    }
}

impl Multiclass {
    /// Keeps so many classes from now on: said before the first record.
    pub fn go_by(&mut self, caps: ClassCaps) -> &mut Self {
        self.confusion.go_by(caps.counted);
        self.one_vs_rest.go_by(caps.scored);
        self
    }

    /// An error where it holds more classes than it may.
    pub fn check_caps(&self) -> Result<(), StateError> {
        if !self.confusion.keeps_its_cap() {
            return Err(StateError::Malformed("classes"));
        }
        if !self.one_vs_rest.keeps_its_cap() {
            return Err(StateError::Malformed("scored_classes"));
        }
        Ok(())
    }

    /// Accepted inferences of a multiclass model.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    fn fold_scores(
        &mut self,
        actual: &str,
        scores: &[(&str, f64)],
        weight: Weight,
        sign: impl Sign,
    ) {
        let (losses, times) = (Losses::of(actual, scores), times(weight));
        sign.count(&mut self.scored, 1);
        self.weights.fold(SCORED, weight, sign);
        self.log_loss.add_times(sign.of(losses.log), times);
        self.log_loss_squares.add_product_times(sign.of(losses.log), losses.log, times);
        sign.count(&mut self.log_loss_clipped, u64::from(losses.is_clipped));
        for ((hits, place), top) in self.hits.iter_mut().zip(HITS..).zip(TOP) {
            if losses.rank <= top {
                sign.count(hits, 1);
                self.weights.fold(place, weight, sign);
            }
        }
        for (class, score) in with_actual(scores, actual, &losses) {
            let positive = class == actual;
            let distance = score - f64::from(u8::from(positive));
            self.brier.add_product_times(sign.of(distance), distance, times);
            self.one_vs_rest.fold(class, score, positive, times, sign);
        }
    }

    /// A figure of all classes, which a cap makes inexact.
    fn of_classes(&self, n: Mass, figure: impl FnOnce() -> Figure) -> Figure {
        match n.records {
            0 => Err(Undefined::NoLabels),
            _ if self.confusion.is_capped() => Err(Undefined::Capped),
            _ => figure(),
        }
    }

    /// Columns `n` to `mcc`.
    fn put_decisions(&self, weighted: bool, out: &mut Vec<Value>) {
        let (n, classes) = (self.confusion.total(weighted), self.confusion.classes(weighted));
        let correct = self.weights.mass(CORRECT, self.correct, weighted);
        out.extend([n.records, correct.records].map(Value::Count));
        let limits = wilson_limits(correct, n, Undefined::NoLabels);
        put_with_limits(out, ratio(correct, n, Undefined::NoLabels), limits);
        let of = [precision, recall, f1];
        let defined = of.map(|of| -> Vec<_> {
            let classes = classes.iter().filter(|it| it.class.is_some());
            classes.filter_map(|it| Some((of(it).ok()?, it.support.units))).collect()
        });
        for figures in &defined {
            let sum: f64 = figures.iter().map(|(figure, _)| figure).sum();
            let count = u64::try_from(figures.len()).expect("a count fits u64");
            let mean = || match count {
                0 => Err(Undefined::ZeroDenominator),
                count => Ok(sum / number(count)),
            };
            put(out, self.of_classes(n, mean));
            out.push(Value::Count(count));
        }
        for figures in &defined {
            let sum: f64 = figures.iter().map(|(figure, support)| figure * number(*support)).sum();
            let support: u64 = figures.iter().map(|(_, support)| support).sum();
            let mean = || match support {
                0 => Err(Undefined::ZeroDenominator),
                support => Ok(sum / number(support)),
            };
            put(out, self.of_classes(n, mean));
        }
        put(out, self.mcc(n, correct, &classes));
    }

    /// Matthews correlation of several classes (Gorodkin 2004, scikit-learn `matthews_corrcoef`, which says 0 where it is
    /// undefined).
    fn mcc(&self, n: Mass, correct: Mass, classes: &[ClassCounts]) -> Figure {
        if self.confusion.is_capped() {
            return Err(Undefined::Capped);
        }
        let sum = |of: fn(&ClassCounts) -> [Mass; 2]| -> i128 {
            let terms = classes.iter().map(of);
            terms.map(|[a, b]| i128::from(a.units) * i128::from(b.units)).sum()
        };
        let n = i128::from(n.units);
        let predicted = wide_number(n * n - sum(|it| [it.predicted, it.predicted])).sqrt();
        let actual = wide_number(n * n - sum(|it| [it.support, it.support])).sqrt();
        if predicted == 0.0 || actual == 0.0 {
            return Err(Undefined::ZeroDenominator);
        }
        let both = i128::from(correct.units) * n - sum(|it| [it.predicted, it.support]);
        Ok((wide_number(both) / predicted / actual).clamp(-1.0, 1.0))
    }

    /// Records with scores.
    fn scored(&self, weighted: bool) -> Mass {
        self.weights.mass(SCORED, self.scored, weighted)
    }

    /// Records whose true class is among the 2, 3 or 5 of greatest score.
    fn hits(&self, weighted: bool) -> [Mass; 3] {
        let mut places = (HITS..).zip(self.hits);
        std::array::from_fn(|_| {
            let (place, hits) = places.next().expect("three of them");
            self.weights.mass(place, hits, weighted)
        })
    }

    /// Columns `n_scored` to `auroc_ovr_classes`.
    fn put_scores(&self, weighted: bool, out: &mut Vec<Value>) {
        let n = self.scored(weighted);
        out.push(Value::Count(n.records));
        let (loss, limits) = loss_mean(n, &self.log_loss, &self.log_loss_squares);
        put_with_limits(out, loss, limits);
        out.push(Value::Count(self.log_loss_clipped));
        put(out, mean(n, &self.brier, Undefined::NoScores));
        for hits in self.hits(weighted) {
            out.push(Value::Count(hits.records));
            let limits = wilson_limits(hits, n, Undefined::NoScores);
            put_with_limits(out, ratio(hits, n, Undefined::NoScores), limits);
        }
        let (mean, classes) = self.one_vs_rest.macro_auroc(n.units);
        let none = if n.records == 0 { Undefined::NoScores } else { Undefined::ZeroDenominator };
        put(out, if n.units == 0 { Err(none) } else { mean });
        out.push(Value::Count(classes));
    }

    /// Columns `n_weight` to `n_eff`.
    fn put_weights(&self, weighted: bool, out: &mut Vec<Value>) {
        let n = self.confusion.total(weighted);
        let correct = self.weights.mass(CORRECT, self.correct, weighted);
        for mass in [n, correct, self.scored(weighted)].into_iter().chain(self.hits(weighted)) {
            put(out, Ok(mass.weight()));
        }
        put(out, Ok(n.effective()));
    }

    /// The rows of `quality_classes`: each class that is a true or a predicted one, by name, `(other)` last.
    pub fn class_rows(&self, context: &FigureContext<'_>) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        let classes = self.confusion.classes(context.weighted);
        let known = classes.iter().filter(|it| it.class.is_some());
        let tp_known: Mass = known.map(|it| it.tp).sum();
        // Whether one class kept out was predicted as another is known only of all together.
        let tp_other = self.weights.mass(CORRECT, self.correct, context.weighted) - tp_known;
        for counts in &classes {
            let ClassCounts { support, predicted, tp, .. } = *counts;
            let tp = if counts.class.is_some() { tp } else { tp_other };
            let masses = [support, predicted, tp];
            let mut out = vec![name(counts.class.as_ref())];
            out.extend(masses.map(|mass| Value::Count(mass.records)));
            if let Some(class) = &counts.class {
                put_class(counts, &mut out);
                self.put_ranking(class, context.weighted, &mut out);
            } else {
                let figures = CLASS_FIGURES.len() - masses.len();
                out.resize(figures, Value::Figure(Err(Undefined::Capped)));
            }
            out.extend(masses.map(|mass| Value::Figure(Ok(mass.weight()))));
            rows.push(out);
        }
        rows
    }

    fn put_ranking(&self, class: &str, weighted: bool, out: &mut Vec<Value>) {
        let n = self.scored(weighted);
        let ranking = match n {
            Mass { records: 1.., units: 0, .. } => Err(Undefined::ZeroDenominator),
            n => self.one_vs_rest.ranking(class, n.units),
        };
        let of = |figure: fn(&Ranking) -> Figure| {
            ranking.as_ref().map_err(|reason| *reason).and_then(figure)
        };
        let auroc = of(Ranking::auroc);
        let error = || {
            if weighted { Err(Undefined::Weighted) } else { of(Ranking::auroc_standard_error) }
        };
        put_with_limits(out, auroc, auroc.and_then(|figure| Ok(normal(figure, error()?))));
        put(out, of(Ranking::auroc_error_bound));
    }

    /// The rows of `confusion`: the cells with a count, by name, `(other)` last.
    pub fn confusion_rows(&self, context: &FigureContext<'_>) -> Vec<Vec<Value>> {
        let row = |(actual, predicted, n): (Option<Arc<str>>, Option<Arc<str>>, Mass)| {
            let [actual, predicted] = [name(actual.as_ref()), name(predicted.as_ref())];
            vec![actual, predicted, Value::Count(n.records), Value::Figure(Ok(n.weight()))]
        };
        self.confusion.cells(context.weighted).into_iter().map(row).collect()
    }
}

/// The scores, and that of the true class where it has none.
fn with_actual<'a>(
    scores: &'a [(&'a str, f64)],
    actual: &'a str,
    losses: &Losses,
) -> impl Iterator<Item = (&'a str, f64)> {
    let missing = (!losses.is_scored).then_some((actual, 0.0));
    scores.iter().copied().chain(missing)
}

fn name(class: Option<&Arc<str>>) -> Value {
    Value::Text(class.map_or(OTHER.into(), |class| Arc::clone(class).into()))
}

fn precision(of: &ClassCounts) -> Figure {
    ratio(of.tp, of.predicted, Undefined::ZeroDenominator)
}

fn recall(of: &ClassCounts) -> Figure {
    ratio(of.tp, of.support, Undefined::ZeroDenominator)
}

fn f1(of: &ClassCounts) -> Figure {
    ratio(of.tp + of.tp, of.predicted + of.support, Undefined::ZeroDenominator)
}

/// Columns `precision` to `f1_upper`.
fn put_class(of: &ClassCounts, out: &mut Vec<Value>) {
    let ClassCounts { support, predicted, tp, .. } = *of;
    let limits = |whole| wilson_limits(tp, whole, Undefined::ZeroDenominator);
    put_with_limits(out, precision(of), limits(predicted));
    put_with_limits(out, recall(of), limits(support));
    put_with_limits(out, f1(of), f1_limits(tp, predicted - tp, support - tp));
}

const fn text(name: &'static str, comment: &'static str) -> Column {
    Column { name, kind: Kind::Text, comment }
}

/// The columns of `quality_classes`, its key first.
pub const CLASS_FIGURES: &[Column] = &[
    text("class", "The class; (other) beyond the cap on classes."),
    count("support", "Labelled inferences whose true class it is."),
    count("predicted", "Labelled inferences whose predicted class it is."),
    count("tp", "True positives: it is both."),
    figure("precision", "tp / predicted."),
    figure("precision_lower", "Lower limit of the 95 % interval of precision (Wilson)."),
    figure("precision_upper", "Upper limit of the 95 % interval of precision (Wilson)."),
    figure("recall", "tp / support."),
    figure("recall_lower", "Lower limit of the 95 % interval of recall (Wilson)."),
    figure("recall_upper", "Upper limit of the 95 % interval of recall (Wilson)."),
    figure("f1", "2 tp / (predicted + support)."),
    figure("f1_lower", "Lower limit of the 95 % interval of f1 (Wilson, mapped)."),
    figure("f1_upper", "Upper limit of the 95 % interval of f1 (Wilson, mapped)."),
    figure("auroc", "Area under the ROC curve of the class against the rest, from score cells."),
    figure("auroc_lower", "Lower limit of the 95 % interval of auroc (DeLong)."),
    figure("auroc_upper", "Upper limit of the 95 % interval of auroc (DeLong)."),
    figure("auroc_error_bound", "Greatest difference of auroc to that of the raw scores."),
    plain("support_weight", "Sum of the label weights over support; support where ignored."),
    plain("predicted_weight", "Sum of the label weights over predicted."),
    plain("tp_weight", "Sum of the label weights over tp."),
];

/// The columns of `confusion`, its keys first.
pub const CONFUSION_FIGURES: &[Column] = &[
    text("true_class", "The label's class; (other) beyond the cap on classes."),
    text("predicted_class", "The predicted class; (other) beyond the cap on classes."),
    count("n", "Labelled inferences of this true and predicted class."),
    plain("n_weight", "Sum of the label weights over n; n itself where weights are ignored."),
];

impl Accumulator for Multiclass {
    type Input<'a> = MulticlassInput<'a>;

    const STATE: &'static [Column] = &[
        count("multiclass_inferences", "Accepted inferences of a multiclass model."),
        count("multiclass_correct", "Labelled inferences whose predicted class is the true one."),
        Column { name: "classes", kind: Kind::Names, comment: "Kept classes, in a fixed order." },
        cells(
            "confusion_cells",
            "Labelled inferences by place of true and predicted class; the place behind the last is (other).",
        ),
        count("multiclass_scored", "Labelled inferences with scores by class."),
        sum(
            "class_log_loss_sum",
            "Exact sum of log losses of the true class, each times its units of weight.",
        ),
        sum("class_log_loss_square_sum", "Exact sum of the squares of these log losses, likewise."),
        count("class_log_loss_clipped", "Labelled inferences whose log loss was held to 2^-52."),
        sum(
            "class_brier_sum",
            "Exact sum of (score - truth)^2 over inferences and classes, each times its units of weight.",
        ),
        count("top_2_hits", "Labelled inferences whose true class has rank 2 or better."),
        count("top_3_hits", "Labelled inferences whose true class has rank 3 or better."),
        count("top_5_hits", "Labelled inferences whose true class has rank 5 or better."),
        Column {
            name: "scored_classes",
            kind: Kind::Names,
            comment: "Classes whose scores are kept, in a fixed order.",
        },
        cells(
            "class_positive_cells",
            "Units of weight of the scores of true classes, by class and score cell.",
        ),
        cells(
            "class_negative_cells",
            "Units of weight of the scores of other classes, by class and score cell.",
        ),
        count(
            "scores_kept_out",
            "Units of weight of the scores of classes beyond the cap, modulo 2^64.",
        ),
        cells(
            "confusion_weight_cells",
            "Sums of label weights in units of 2^-20, and of their squares, by true and predicted class. Where weights are ignored it is empty, and a record has one unit.",
        ),
        cells("multiclass_weight_cells", "The same by other count."),
    ];

    const FIGURES: &'static [Column] = &[
        count("n", "Labelled inferences with a predicted class."),
        count("correct", "Those whose predicted class is the true one."),
        figure("accuracy", "correct / n; micro precision, recall and F1 are equal to it."),
        figure("accuracy_lower", "Lower limit of the 95 % interval of accuracy (Wilson)."),
        figure("accuracy_upper", "Upper limit of the 95 % interval of accuracy (Wilson)."),
        figure("macro_precision", "Mean of the precision of all classes that have one."),
        count("macro_precision_classes", "Classes with a precision."),
        figure("macro_recall", "Mean of the recall of all classes that have one."),
        count("macro_recall_classes", "Classes with a recall."),
        figure("macro_f1", "Mean of the F1 of all classes that have one."),
        count("macro_f1_classes", "Classes with an F1."),
        figure("weighted_precision", "Mean precision, weighted by support."),
        figure("weighted_recall", "Mean recall, weighted by support."),
        figure("weighted_f1", "Mean F1, weighted by support."),
        figure("mcc", "Matthews correlation coefficient of several classes."),
        count("n_scored", "Labelled inferences with scores by class."),
        figure("log_loss", "Mean of -ln of the score of the true class."),
        figure("log_loss_lower", "Lower limit of the 95 % interval of log_loss (normal)."),
        figure("log_loss_upper", "Upper limit of the 95 % interval of log_loss (normal)."),
        count("log_loss_clipped", "Labelled inferences whose log loss was held to 2^-52."),
        figure("brier", "Mean of the sum of (score - truth)^2 over classes."),
        count("top_2_hits", "Inferences whose true class is among the 2 of greatest score."),
        figure("top_2_accuracy", "top_2_hits / n_scored."),
        figure("top_2_accuracy_lower", "Lower limit of its 95 % interval (Wilson)."),
        figure("top_2_accuracy_upper", "Upper limit of its 95 % interval (Wilson)."),
        count("top_3_hits", "Inferences whose true class is among the 3 of greatest score."),
        figure("top_3_accuracy", "top_3_hits / n_scored."),
        figure("top_3_accuracy_lower", "Lower limit of its 95 % interval (Wilson)."),
        figure("top_3_accuracy_upper", "Upper limit of its 95 % interval (Wilson)."),
        count("top_5_hits", "Inferences whose true class is among the 5 of greatest score."),
        figure("top_5_accuracy", "top_5_hits / n_scored."),
        figure("top_5_accuracy_lower", "Lower limit of its 95 % interval (Wilson)."),
        figure("top_5_accuracy_upper", "Upper limit of its 95 % interval (Wilson)."),
        figure("auroc_ovr_macro", "Mean of the AUROC of each class against the rest."),
        count("auroc_ovr_classes", "Classes with an AUROC."),
        plain("n_weight", "Sum of the label weights over n; n itself where weights are ignored."),
        plain("correct_weight", "Sum of the label weights over correct."),
        plain("n_scored_weight", "Sum of the label weights over n_scored."),
        plain("top_2_hits_weight", "Sum of the label weights over top_2_hits."),
        plain("top_3_hits_weight", "Sum of the label weights over top_3_hits."),
        plain("top_5_hits_weight", "Sum of the label weights over top_5_hits."),
        plain("n_eff", "Effective sample size (Kish): n_weight^2 / sum of the squared weights."),
    ];

    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match *input {
            MulticlassInput::Inference => sign.count(&mut self.inferences, 1),
            MulticlassInput::Labelled { predicted, actual, scores, weight } => {
                if let Some(predicted) = predicted {
                    self.confusion.fold(actual, predicted, weight, sign);
                    if actual == predicted {
                        sign.count(&mut self.correct, 1);
                        self.weights.fold(CORRECT, weight, sign);
                    }
                }
                if !scores.is_empty() {
                    self.fold_scores(actual, scores, weight, sign);
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.inferences += other.inferences;
        self.correct += other.correct;
        self.confusion.merge(&other.confusion);
        self.scored += other.scored;
        self.log_loss.merge(&other.log_loss);
        self.log_loss_squares.merge(&other.log_loss_squares);
        self.log_loss_clipped += other.log_loss_clipped;
        self.brier.merge(&other.brier);
        for (hits, more) in self.hits.iter_mut().zip(other.hits) {
            *hits += more;
        }
        self.one_vs_rest.merge(&other.one_vs_rest);
        self.weights.merge(&other.weights);
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([self.inferences, self.correct].map(Value::Count));
        out.push(Value::Names(self.confusion.names()));
        let [counts, weights] = self.confusion.to_values();
        out.push(counts);
        out.push(Value::Count(self.scored));
        out.extend(
            [&self.log_loss, &self.log_loss_squares].map(|sum| Value::Sum(Box::new(sum.clone()))),
        );
        out.push(Value::Count(self.log_loss_clipped));
        out.push(Value::Sum(Box::new(self.brier.clone())));
        out.extend(self.hits.map(Value::Count));
        self.one_vs_rest.state(out);
        out.extend([weights, self.weights.to_value()]);
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let (inferences, correct) = (stored.count()?, stored.count()?);
        let (classes, confusion) = (stored.names()?, stored.pairs()?);
        Ok(Self {
            inferences,
            correct,
            scored: stored.count()?,
            log_loss: stored.sum()?,
            log_loss_squares: stored.sum()?,
            log_loss_clipped: stored.count()?,
            brier: stored.sum()?,
            hits: [stored.count()?, stored.count()?, stored.count()?],
            one_vs_rest: {
                let (names, positives) = (stored.names()?, stored.pairs()?);
                let (negatives, other) = (stored.pairs()?, stored.count()?);
                let malformed = StateError::Malformed("scored_classes");
                OneVsRest::restore(names, positives, negatives, other).ok_or(malformed)?
            },
            confusion: {
                let weights = stored.pairs()?;
                let malformed = StateError::Malformed("confusion_cells");
                Confusion::restore(classes, confusion, weights).ok_or(malformed)?
            },
            weights: stored.weights(PLACES)?,
        })
    }

    fn figures(&self, context: &FigureContext<'_>, out: &mut Vec<Value>) {
        self.put_decisions(context.weighted, out);
        self.put_scores(context.weighted, out);
        self.put_weights(context.weighted, out);
    }

    fn heap_bytes(&self) -> usize {
        let sums = [&self.log_loss, &self.log_loss_squares, &self.brier];
        self.confusion.heap_bytes()
            + self.one_vs_rest.heap_bytes()
            + sums.map(ExactSum::heap_bytes).iter().sum::<usize>()
            + self.weights.heap_bytes()
    }
}
