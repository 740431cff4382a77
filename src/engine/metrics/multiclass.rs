//! Quality of models that decide between several classes: confusion, figures by class, losses and ranks of scores.

use std::sync::Arc;

use super::accumulator::{Accumulator, Column, FigureContext, Kind, StateError, Undefined, Value};
use super::binary::{log_loss, loss_mean};
use super::confusion::{ClassCounts, Confusion};
use super::exact_sum::ExactSum;
use super::interval::{
    Figure, cells, count, f1_limits, figure, normal, number, put, put_with_limits, ratio, sum,
    wide_number, wilson_limits,
};
use super::one_vs_rest::OneVsRest;
use super::ranking::Ranking;
use super::stored::Stored;
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
}

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
    /// Accepted inferences of a multiclass model.
    pub fn inferences(&self) -> u64 {
        self.inferences
    }

    fn add_scores(&mut self, actual: &str, scores: &[(&str, f64)]) {
        let losses = Losses::of(actual, scores);
        self.scored += 1;
        self.log_loss.add(losses.log);
        self.log_loss_squares.add_product(losses.log, losses.log);
        self.log_loss_clipped += u64::from(losses.is_clipped);
        for (hits, top) in self.hits.iter_mut().zip(TOP) {
            *hits += u64::from(losses.rank <= top);
        }
        for (class, score) in with_actual(scores, actual, &losses) {
            let positive = class == actual;
            let distance = score - f64::from(u8::from(positive));
            self.brier.add_product(distance, distance);
            self.one_vs_rest.add(class, score, positive);
        }
    }

    fn remove_scores(&mut self, actual: &str, scores: &[(&str, f64)]) {
        let losses = Losses::of(actual, scores);
        self.scored -= 1;
        self.log_loss.remove(losses.log);
        self.log_loss_squares.remove_product(losses.log, losses.log);
        self.log_loss_clipped -= u64::from(losses.is_clipped);
        for (hits, top) in self.hits.iter_mut().zip(TOP) {
            *hits -= u64::from(losses.rank <= top);
        }
        for (class, score) in with_actual(scores, actual, &losses) {
            let positive = class == actual;
            let distance = score - f64::from(u8::from(positive));
            self.brier.remove_product(distance, distance);
            self.one_vs_rest.remove(class, score, positive);
        }
    }

    /// A figure of all classes, which a cap makes inexact.
    fn of_classes(&self, n: u64, figure: impl FnOnce() -> Figure) -> Figure {
        match n {
            0 => Err(Undefined::NoLabels),
            _ if self.confusion.is_capped() => Err(Undefined::Capped),
            _ => figure(),
        }
    }

    /// Columns `n` to `mcc`.
    fn put_decisions(&self, out: &mut Vec<Value>) {
        let (n, classes) = (self.confusion.total(), self.confusion.classes());
        out.extend([n, self.correct].map(Value::Count));
        let limits = wilson_limits(self.correct, n, Undefined::NoLabels);
        put_with_limits(out, ratio(self.correct, n, Undefined::NoLabels), limits);
        let of = [precision, recall, f1];
        let defined = of.map(|of| -> Vec<_> {
            let classes = classes.iter().filter(|it| it.class.is_some());
            classes.filter_map(|it| Some((of(it).ok()?, it.support))).collect()
        });
        for figures in &defined {
            let sum: f64 = figures.iter().map(|(figure, _)| figure).sum();
            let count = u64::try_from(figures.len()).expect("a count fits u64");
            put(out, self.of_classes(n, || Ok(sum / number(count))));
            out.push(Value::Count(count));
        }
        for figures in &defined {
            let sum: f64 = figures.iter().map(|(figure, weight)| figure * number(*weight)).sum();
            let weight: u64 = figures.iter().map(|(_, weight)| weight).sum();
            let mean = || match weight {
                0 => Err(Undefined::ZeroDenominator),
                weight => Ok(sum / number(weight)),
            };
            put(out, self.of_classes(n, mean));
        }
        put(out, self.mcc(n, &classes));
    }

    /// Matthews correlation of several classes (Gorodkin 2004, scikit-learn `matthews_corrcoef`, which says 0 where it is
    /// undefined).
    fn mcc(&self, n: u64, classes: &[ClassCounts]) -> Figure {
        if self.confusion.is_capped() {
            return Err(Undefined::Capped);
        }
        let sum = |of: fn(&ClassCounts) -> [u64; 2]| -> i128 {
            let terms = classes.iter().map(of);
            terms.map(|[a, b]| i128::from(a) * i128::from(b)).sum()
        };
        let square = i128::from(n) * i128::from(n);
        let predicted = wide_number(square - sum(|it| [it.predicted, it.predicted])).sqrt();
        let actual = wide_number(square - sum(|it| [it.support, it.support])).sqrt();
        if predicted == 0.0 || actual == 0.0 {
            return Err(Undefined::ZeroDenominator);
        }
        let both = i128::from(self.correct) * i128::from(n) - sum(|it| [it.predicted, it.support]);
        Ok((wide_number(both) / predicted / actual).clamp(-1.0, 1.0))
    }

    /// Columns `n_scored` to `auroc_ovr_classes`.
    fn put_scores(&self, out: &mut Vec<Value>) {
        let n = self.scored;
        out.push(Value::Count(n));
        let (mean, limits) = loss_mean(n, &self.log_loss, &self.log_loss_squares);
        put_with_limits(out, mean, limits);
        out.push(Value::Count(self.log_loss_clipped));
        put(out, if n == 0 { Err(Undefined::NoScores) } else { Ok(self.brier.mean(n)) });
        for hits in self.hits {
            out.push(Value::Count(hits));
            let limits = wilson_limits(hits, n, Undefined::NoScores);
            put_with_limits(out, ratio(hits, n, Undefined::NoScores), limits);
        }
        let (mean, classes) = self.one_vs_rest.macro_auroc(n);
        put(out, mean);
        out.push(Value::Count(classes));
    }

    /// The rows of `quality_classes`: each class that is a true or a predicted one, by name, `(other)` last.
    pub fn class_rows(&self) -> Vec<Vec<Value>> {
        let mut rows = Vec::new();
        let (mut tp_known, classes) = (0, self.confusion.classes());
        for counts in &classes {
            let mut out = vec![name(counts.class.as_ref())];
            if let Some(class) = &counts.class {
                tp_known += counts.tp;
                put_class(counts, &mut out);
                self.put_ranking(class, &mut out);
            } else {
                // Whether one class kept out was predicted as another is known only of all together.
                let tp = self.correct - tp_known;
                out.extend([counts.support, counts.predicted, tp].map(Value::Count));
                out.resize(CLASS_FIGURES.len(), Value::Figure(Err(Undefined::Capped)));
            }
            rows.push(out);
        }
        rows
    }

    fn put_ranking(&self, class: &str, out: &mut Vec<Value>) {
        let ranking = self.one_vs_rest.ranking(class, self.scored);
        let of = |figure: fn(&Ranking) -> Figure| {
            ranking.as_ref().map_err(|reason| *reason).and_then(figure)
        };
        let auroc = of(Ranking::auroc);
        let error = of(Ranking::auroc_standard_error);
        put_with_limits(out, auroc, auroc.and_then(|figure| Ok(normal(figure, error?))));
        put(out, of(Ranking::auroc_error_bound));
    }

    /// The rows of `confusion`: the cells with a count, by name, `(other)` last.
    pub fn confusion_rows(&self) -> Vec<Vec<Value>> {
        let row = |(actual, predicted, n): (Option<Arc<str>>, Option<Arc<str>>, u64)| {
            vec![name(actual.as_ref()), name(predicted.as_ref()), Value::Count(n)]
        };
        self.confusion.cells().into_iter().map(row).collect()
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
    Value::Text(class.map_or_else(|| OTHER.into(), Arc::clone))
}

fn precision(of: &ClassCounts) -> Figure {
    ratio(of.tp, of.predicted, Undefined::ZeroDenominator)
}

fn recall(of: &ClassCounts) -> Figure {
    ratio(of.tp, of.support, Undefined::ZeroDenominator)
}

fn f1(of: &ClassCounts) -> Figure {
    ratio(2 * of.tp, of.predicted + of.support, Undefined::ZeroDenominator)
}

/// Columns `support` to `f1_upper`.
fn put_class(of: &ClassCounts, out: &mut Vec<Value>) {
    let ClassCounts { support, predicted, tp, .. } = *of;
    out.extend([support, predicted, tp].map(Value::Count));
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
];

/// The columns of `confusion`, its keys first.
pub const CONFUSION_FIGURES: &[Column] = &[
    text("true_class", "The label's class; (other) beyond the cap on classes."),
    text("predicted_class", "The predicted class; (other) beyond the cap on classes."),
    count("n", "Labelled inferences of this true and predicted class."),
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
        sum("class_log_loss_sum", "Exact sum of log losses of the true class."),
        sum("class_log_loss_square_sum", "Exact sum of the squares of these log losses."),
        count("class_log_loss_clipped", "Labelled inferences whose log loss was held to 2^-52."),
        sum("class_brier_sum", "Exact sum of (score - truth)^2 over inferences and classes."),
        count("top_2_hits", "Labelled inferences whose true class has rank 2 or better."),
        count("top_3_hits", "Labelled inferences whose true class has rank 3 or better."),
        count("top_5_hits", "Labelled inferences whose true class has rank 5 or better."),
        Column {
            name: "scored_classes",
            kind: Kind::Names,
            comment: "Classes whose scores are kept, in a fixed order.",
        },
        cells("class_positive_cells", "Scores of true classes, by class and score cell."),
        cells("class_negative_cells", "Scores of other classes, by class and score cell."),
        count("scores_kept_out", "Scores of classes beyond the cap."),
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
    ];

    fn add(&mut self, input: &Self::Input<'_>) {
        match *input {
            MulticlassInput::Inference => self.inferences += 1,
            MulticlassInput::Labelled { predicted, actual, scores } => {
                if let Some(predicted) = predicted {
                    self.confusion.add(actual, predicted);
                    self.correct += u64::from(actual == predicted);
                }
                if !scores.is_empty() {
                    self.add_scores(actual, scores);
                }
            }
        }
    }

    fn remove(&mut self, input: &Self::Input<'_>) {
        match *input {
            MulticlassInput::Inference => self.inferences -= 1,
            MulticlassInput::Labelled { predicted, actual, scores } => {
                if let Some(predicted) = predicted {
                    self.confusion.remove(actual, predicted);
                    self.correct -= u64::from(actual == predicted);
                }
                if !scores.is_empty() {
                    self.remove_scores(actual, scores);
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
    }

    fn state(&self, out: &mut Vec<Value>) {
        out.extend([self.inferences, self.correct].map(Value::Count));
        out.push(Value::Names(self.confusion.names()));
        out.push(Value::Cells(self.confusion.to_pairs()));
        out.push(Value::Count(self.scored));
        out.extend([&self.log_loss, &self.log_loss_squares].map(|sum| Value::Sum(sum.clone())));
        out.push(Value::Count(self.log_loss_clipped));
        out.push(Value::Sum(self.brier.clone()));
        out.extend(self.hits.map(Value::Count));
        self.one_vs_rest.state(out);
    }

    fn restore(values: &mut dyn Iterator<Item = Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        Ok(Self {
            inferences: stored.count()?,
            correct: stored.count()?,
            confusion: {
                let (names, cells) = (stored.names()?, stored.pairs()?);
                let malformed = StateError::Malformed("confusion_cells");
                Confusion::restore(names, &cells).ok_or(malformed)?
            },
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
                OneVsRest::restore(names, &positives, &negatives, other).ok_or(malformed)?
            },
        })
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        self.put_decisions(out);
        self.put_scores(out);
    }

    fn heap_bytes(&self) -> usize {
        let sums = [&self.log_loss, &self.log_loss_squares, &self.brier];
        self.confusion.heap_bytes()
            + self.one_vs_rest.heap_bytes()
            + sums.map(ExactSum::heap_bytes).iter().sum::<usize>()
    }
}
