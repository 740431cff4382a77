//! Figures of models with several classes, by walking the list of records once for each class or cell.

use std::collections::BTreeSet;

use super::{
    Cell, Cells, Figure, Folded, Weighed, areas, careful_sum, count, divide, f1_interval, figure,
    mean, put, quotient, ratio, weight, weight_of, with_interval,
};

/// A labelled record: the decision, the truth, the scores.
pub struct Labelled<'a> {
    predicted: Option<&'a str>,
    actual: &'a str,
    scores: &'a [(String, f64)],
    weight: f64,
}

impl Labelled<'_> {
    /// The score of a class; one that has none was given 0.
    fn score(&self, class: &str) -> f64 {
        self.scores.iter().find(|(name, _)| name == class).map_or(0.0, |(_, score)| *score)
    }

    /// Every class that has a score, and the true one.
    fn classes(&self) -> BTreeSet<&str> {
        let scored = self.scores.iter().map(|(class, _)| class.as_str());
        scored.chain([self.actual]).collect()
    }

    /// How many places from the top the true class is, the later of two equals being higher.
    fn rank(&self) -> usize {
        let own = (self.score(self.actual), self.actual);
        let above = |class: &&str| (self.score(class), *class) > own;
        1 + self.classes().into_iter().filter(above).count()
    }
}

/// The labelled records of a multiclass model.
pub fn labelled<'a>(members: &[&'a Folded], weighted: bool) -> Vec<Labelled<'a>> {
    let record = |one: &&'a Folded| {
        let (actual, predicted) = (one.walk.class.as_deref()?, one.class.as_deref());
        Some(Labelled { predicted, actual, scores: &one.scores, weight: weight_of(one, weighted) })
    };
    members.iter().filter(|one| one.multiclass).filter_map(record).collect()
}

/// Truth and decision, and the label's weight.
type Decided<'a> = ([&'a str; 2], f64);

fn decided<'a>(all: &[Labelled<'a>]) -> Vec<Decided<'a>> {
    all.iter().filter_map(|one| Some(([one.actual, one.predicted?], one.weight))).collect()
}

fn classes<'a>(decided: &[Decided<'a>]) -> BTreeSet<&'a str> {
    decided.iter().flat_map(|(pair, _)| pair).copied().collect()
}

fn those(decided: &[Decided<'_>], is: impl Fn(&[&str; 2]) -> bool) -> Weighed {
    Weighed::of(decided.iter().filter(|(pair, _)| is(pair)).map(|(_, weight)| *weight))
}

/// Support, predicted, both, and either, of one class.
fn counts(decided: &[Decided<'_>], class: &str) -> [Weighed; 4] {
    [
        those(decided, |it| it[0] == class),
        those(decided, |it| it[1] == class),
        those(decided, |it| it[0] == class && it[1] == class),
        those(decided, |it| it[0] == class || it[1] == class),
    ]
}

/// Precision, recall and F1 of one class.
fn figures_of(decided: &[Decided<'_>], class: &str) -> [Figure; 3] {
    let [support, predicted, tp, _] = counts(decided, class);
    let none = "zero_denominator";
    [
        quotient(tp.w, predicted, none),
        quotient(tp.w, support, none),
        quotient(2.0 * tp.w, predicted + support, none),
    ]
}

/// The row of `quality_multiclass`.
pub fn figures(all: &[Labelled<'_>], weighted: bool) -> Cells {
    let mut cells = Cells::new();
    let decided = decided(all);
    let n = those(&decided, |_| true);
    count(&mut cells, "n", n.n);
    let correct = those(&decided, |[actual, predicted]| actual == predicted);
    count(&mut cells, "correct", correct.n);
    ratio(&mut cells, "accuracy", correct, n, "no_labels");
    let names = ["precision", "recall", "f1"];
    let defined = [0, 1, 2].map(|at| -> Vec<(f64, f64)> {
        let of = |class| {
            let figure = figures_of(&decided, class)[at].ok()?;
            Some((figure, counts(&decided, class)[0].w))
        };
        classes(&decided).into_iter().filter_map(of).collect()
    });
    let none = if n.n == 0 { "no_labels" } else { "zero_denominator" };
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum = figures.iter().map(|(figure, _)| figure).sum();
        figure(&mut cells, &format!("macro_{name}"), divide(sum, figures.len(), none));
        count(&mut cells, &format!("macro_{name}_classes"), figures.len());
    }
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum: f64 = figures.iter().map(|(figure, support)| figure * support).sum();
        let support: f64 = figures.iter().map(|(_, support)| support).sum();
        let mean = if support > 0.0 { Ok(sum / support) } else { Err(none) };
        figure(&mut cells, &format!("weighted_{name}"), mean);
    }
    figure(&mut cells, "mcc", correlation(&decided));
    let (scored, hits) = scores(&mut cells, all, weighted);
    let masses = [("n", n), ("correct", correct), ("n_scored", scored)];
    for (name, of) in masses.into_iter().chain(hits) {
        weight(&mut cells, name, of);
    }
    figure(&mut cells, "n_eff", Ok(n.effective()));
    cells
}

/// The correlation of truth and decision as the mean covariance over classes (Gorodkin), each one 0 or 1 by record.
fn correlation(decided: &[Decided<'_>]) -> Figure {
    let n = those(decided, |_| true).w;
    let covariance = |left: usize, right: usize| {
        let of_class = |class: &str| {
            let is = |at: usize| {
                let all = decided.iter();
                all.map(move |(it, w)| (f64::from(u8::from(it[at] == class)), *w))
            };
            let mean = |at: usize| is(at).map(|(x, w)| x * w).sum::<f64>() / n;
            let (a, b) = (mean(left), mean(right));
            is(left).zip(is(right)).map(|((x, w), (y, _))| w * (x - a) * (y - b)).sum::<f64>()
        };
        classes(decided).into_iter().map(of_class).sum::<f64>()
    };
    let some: Vec<_> = decided.iter().filter(|one| one.1 > 0.0).map(|one| one.0).collect();
    let is_constant = |at: usize| some.iter().all(|it| it[at] == some[0][at]);
    if is_constant(0) || is_constant(1) {
        return Err("zero_denominator");
    }
    Ok(covariance(0, 1) / covariance(0, 0).sqrt() / covariance(1, 1).sqrt())
}

/// The columns of scores; all that have any, and the hits by name.
fn scores(
    cells: &mut Cells,
    all: &[Labelled<'_>],
    weighted: bool,
) -> (Weighed, [(&'static str, Weighed); 3]) {
    let scored: Vec<_> = all.iter().filter(|one| !one.scores.is_empty()).collect();
    let n = Weighed::of(scored.iter().map(|one| one.weight));
    count(cells, "n_scored", n.n);
    let least = 2.0_f64.powi(-52);
    let loss =
        |one: &&Labelled<'_>| (-one.score(one.actual).clamp(least, 1.0 - least).ln(), one.weight);
    let losses = scored.iter().map(loss).collect();
    mean(cells, "log_loss", [0.0, f64::INFINITY], "no_scores", losses);
    let is_clipped = |one: &&&Labelled<'_>| {
        let score = one.score(one.actual);
        score < least || score > 1.0 - least
    };
    count(cells, "log_loss_clipped", scored.iter().filter(is_clipped).count());
    let distance = |one: &Labelled<'_>| -> f64 {
        let truth = |class| f64::from(u8::from(class == one.actual));
        one.classes().into_iter().map(|class| (one.score(class) - truth(class)).powi(2)).sum()
    };
    let sum = careful_sum(scored.iter().map(|one| one.weight * distance(one)));
    figure(cells, "brier", quotient(sum, n, "no_scores"));
    let hits = [(2, "top_2_hits"), (3, "top_3_hits"), (5, "top_5_hits")].map(|(top, name)| {
        let of = scored.iter().filter(|one| one.rank() <= top);
        let hits = Weighed::of(of.map(|one| one.weight));
        count(cells, name, hits.n);
        ratio(cells, &format!("top_{top}_accuracy"), hits, n, "no_scores");
        (name, hits)
    });
    let classes: BTreeSet<&str> = scored.iter().flat_map(|one| one.classes()).collect();
    let area = |class: &str| match one_vs_rest(all, class, weighted)[0].1 {
        Cell::Number(area) => Some(area),
        _ => None,
    };
    let areas: Vec<f64> = classes.into_iter().filter_map(area).collect();
    let macro_auroc = divide(areas.iter().sum(), areas.len(), "one_class");
    figure(cells, "auroc_ovr_macro", quotient(0.0, n, "no_scores").and(macro_auroc));
    count(cells, "auroc_ovr_classes", areas.len());
    (n, hits)
}

/// Columns `auroc` to `auroc_error_bound` of one class against the rest.
fn one_vs_rest(all: &[Labelled<'_>], class: &str, weighted: bool) -> Cells {
    let scored: Vec<(f64, bool, f64)> = all
        .iter()
        .filter(|one| !one.scores.is_empty())
        .map(|one| (one.score(class), one.actual == class, one.weight))
        .collect();
    let mut ranked = Cells::new();
    areas(&mut ranked, &scored, weighted);
    let names = ["auroc", "auroc_lower", "auroc_upper", "auroc_error_bound"];
    let some = quotient(0.0, Weighed::of(scored.iter().map(|one| one.2)), "no_scores");
    let cell = |name: &str| match some {
        Err(reason) => Cell::Null(reason),
        Ok(_) => ranked.iter().find(|(found, _)| found == name).expect("it is there").1.clone(),
    };
    names.map(|name| (name.to_owned(), cell(name))).to_vec()
}

/// The rows of `quality_classes` by class.
pub fn by_class(all: &[Labelled<'_>], weighted: bool) -> Vec<(String, Cells)> {
    let decided = decided(all);
    let row = |class: &str| {
        let mut cells = Cells::new();
        let [support, predicted, tp, either] = counts(&decided, class);
        put(&mut cells, "class", Cell::Text(class.to_owned()));
        count(&mut cells, "support", support.n);
        count(&mut cells, "predicted", predicted.n);
        count(&mut cells, "tp", tp.n);
        ratio(&mut cells, "precision", tp, predicted, "zero_denominator");
        ratio(&mut cells, "recall", tp, support, "zero_denominator");
        let f1 = figures_of(&decided, class)[2];
        with_interval(&mut cells, "f1", f1, f1_interval(tp, either));
        cells.extend(one_vs_rest(all, class, weighted));
        for (name, of) in [("support", support), ("predicted", predicted), ("tp", tp)] {
            weight(&mut cells, name, of);
        }
        (class.to_owned(), cells)
    };
    classes(&decided).into_iter().map(row).collect()
}

/// The rows of `confusion` by true and predicted class.
pub fn confusion(all: &[Labelled<'_>]) -> Vec<(String, Cells)> {
    let decided = decided(all);
    let row = |pair: &[&str; 2]| {
        let mut cells = Cells::new();
        put(&mut cells, "true_class", Cell::Text(pair[0].to_owned()));
        put(&mut cells, "predicted_class", Cell::Text(pair[1].to_owned()));
        let n = those(&decided, |it| it == pair);
        count(&mut cells, "n", n.n);
        weight(&mut cells, "n", n);
        (pair.join("/"), cells)
    };
    decided.iter().map(|(pair, _)| pair).collect::<BTreeSet<_>>().into_iter().map(row).collect()
}
