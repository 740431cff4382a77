//! Figures of models with several classes, by walking the list of records once for each class or cell.

use std::collections::BTreeSet;

use super::{
    Cell, Cells, Figure, Folded, areas, careful_sum, count, divide, f1_interval, figure, mean, put,
    ratio, with_interval,
};

/// A labelled record: the decision, the truth, the scores.
pub struct Labelled<'a> {
    predicted: Option<&'a str>,
    actual: &'a str,
    scores: &'a [(String, f64)],
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
pub fn labelled<'a>(members: &[&'a Folded]) -> Vec<Labelled<'a>> {
    let record = |one: &&'a Folded| {
        let (actual, predicted) = (one.walk.class.as_deref()?, one.class.as_deref());
        Some(Labelled { predicted, actual, scores: &one.scores })
    };
    members.iter().filter(|one| one.multiclass).filter_map(record).collect()
}

/// Pairs of truth and decision.
fn decided<'a>(all: &[Labelled<'a>]) -> Vec<[&'a str; 2]> {
    all.iter().filter_map(|one| Some([one.actual, one.predicted?])).collect()
}

fn classes<'a>(decided: &[[&'a str; 2]]) -> BTreeSet<&'a str> {
    decided.iter().flatten().copied().collect()
}

/// Support, predicted and both, of one class.
fn counts(decided: &[[&str; 2]], class: &str) -> [usize; 3] {
    let with = |is: fn(&[&str; 2], &str) -> bool| decided.iter().filter(|it| is(it, class)).count();
    [
        with(|it, class| it[0] == class),
        with(|it, class| it[1] == class),
        with(|it, class| it[0] == class && it[1] == class),
    ]
}

/// Precision, recall and F1 of one class.
fn figures_of(decided: &[[&str; 2]], class: &str) -> [Figure; 3] {
    let [support, predicted, tp] = counts(decided, class);
    let none = "zero_denominator";
    [
        divide(tp as f64, predicted, none),
        divide(tp as f64, support, none),
        divide(2.0 * tp as f64, predicted + support, none),
    ]
}

/// The row of `quality_multiclass`.
pub fn figures(all: &[Labelled<'_>]) -> Cells {
    let mut cells = Cells::new();
    let decided = decided(all);
    let n = decided.len();
    count(&mut cells, "n", n);
    let correct = decided.iter().filter(|[actual, predicted]| actual == predicted).count();
    count(&mut cells, "correct", correct);
    ratio(&mut cells, "accuracy", correct, n, "no_labels");
    let names = ["precision", "recall", "f1"];
    let defined = [0, 1, 2].map(|at| -> Vec<(f64, usize)> {
        let of = |class| {
            let figure = figures_of(&decided, class)[at].ok()?;
            Some((figure, counts(&decided, class)[0]))
        };
        classes(&decided).into_iter().filter_map(of).collect()
    });
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum = figures.iter().map(|(figure, _)| figure).sum();
        figure(&mut cells, &format!("macro_{name}"), divide(sum, figures.len(), "no_labels"));
        count(&mut cells, &format!("macro_{name}_classes"), figures.len());
    }
    let none = if n == 0 { "no_labels" } else { "zero_denominator" };
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum = figures.iter().map(|(figure, weight)| figure * *weight as f64).sum();
        let weight = figures.iter().map(|(_, weight)| weight).sum();
        figure(&mut cells, &format!("weighted_{name}"), divide(sum, weight, none));
    }
    figure(&mut cells, "mcc", correlation(&decided));
    scores(&mut cells, all);
    cells
}

/// The correlation of truth and decision as the mean covariance over classes (Gorodkin), each one 0 or 1 by record.
fn correlation(decided: &[[&str; 2]]) -> Figure {
    let n = decided.len() as f64;
    let covariance = |left: usize, right: usize| {
        let of_class = |class: &str| {
            let is = |at: usize| decided.iter().map(move |it| f64::from(u8::from(it[at] == class)));
            let mean = |at: usize| is(at).sum::<f64>() / n;
            let (a, b) = (mean(left), mean(right));
            is(left).zip(is(right)).map(|(x, y)| (x - a) * (y - b)).sum::<f64>()
        };
        classes(decided).into_iter().map(of_class).sum::<f64>()
    };
    let is_constant = |at: usize| decided.iter().all(|it| it[at] == decided[0][at]);
    if is_constant(0) || is_constant(1) {
        return Err("zero_denominator");
    }
    Ok(covariance(0, 1) / covariance(0, 0).sqrt() / covariance(1, 1).sqrt())
}

fn scores(cells: &mut Cells, all: &[Labelled<'_>]) {
    let scored: Vec<_> = all.iter().filter(|one| !one.scores.is_empty()).collect();
    let n = scored.len();
    count(cells, "n_scored", n);
    let least = 2.0_f64.powi(-52);
    let losses = scored.iter().map(|one| -one.score(one.actual).clamp(least, 1.0 - least).ln());
    mean(cells, "log_loss", [0.0, f64::INFINITY], "no_scores", losses.collect());
    let is_clipped = |one: &&&Labelled<'_>| {
        let score = one.score(one.actual);
        score < least || score > 1.0 - least
    };
    count(cells, "log_loss_clipped", scored.iter().filter(is_clipped).count());
    let distance = |one: &Labelled<'_>| -> f64 {
        let truth = |class| f64::from(u8::from(class == one.actual));
        one.classes().into_iter().map(|class| (one.score(class) - truth(class)).powi(2)).sum()
    };
    let sum = careful_sum(scored.iter().map(|one| distance(one)));
    figure(cells, "brier", divide(sum, n, "no_scores"));
    for top in [2, 3, 5] {
        let hits = scored.iter().filter(|one| one.rank() <= top).count();
        count(cells, &format!("top_{top}_hits"), hits);
        ratio(cells, &format!("top_{top}_accuracy"), hits, n, "no_scores");
    }
    let classes: BTreeSet<&str> = scored.iter().flat_map(|one| one.classes()).collect();
    let area = |class: &str| match one_vs_rest(all, class)[0].1 {
        Cell::Number(area) => Some(area),
        _ => None,
    };
    let areas: Vec<f64> = classes.into_iter().filter_map(area).collect();
    let none = if n == 0 { "no_scores" } else { "one_class" };
    figure(cells, "auroc_ovr_macro", divide(areas.iter().sum(), areas.len(), none));
    count(cells, "auroc_ovr_classes", areas.len());
}

/// Columns `auroc` to `auroc_error_bound` of one class against the rest.
fn one_vs_rest(all: &[Labelled<'_>], class: &str) -> Cells {
    let scored: Vec<(f64, bool)> = all
        .iter()
        .filter(|one| !one.scores.is_empty())
        .map(|one| (one.score(class), one.actual == class))
        .collect();
    let mut ranked = Cells::new();
    areas(&mut ranked, &scored);
    let names = ["auroc", "auroc_lower", "auroc_upper", "auroc_error_bound"];
    let cell = |name: &str| match scored.len() {
        0 => Cell::Null("no_scores"),
        _ => ranked.iter().find(|(found, _)| found == name).expect("it is there").1.clone(),
    };
    names.map(|name| (name.to_owned(), cell(name))).to_vec()
}

/// The rows of `quality_classes` by class.
pub fn by_class(all: &[Labelled<'_>]) -> Vec<(String, Cells)> {
    let decided = decided(all);
    let row = |class: &str| {
        let mut cells = Cells::new();
        let [support, predicted, tp] = counts(&decided, class);
        put(&mut cells, "class", Cell::Text(class.to_owned()));
        count(&mut cells, "support", support);
        count(&mut cells, "predicted", predicted);
        count(&mut cells, "tp", tp);
        ratio(&mut cells, "precision", tp, predicted, "zero_denominator");
        ratio(&mut cells, "recall", tp, support, "zero_denominator");
        let f1 = figures_of(&decided, class)[2];
        with_interval(&mut cells, "f1", f1, f1_interval(tp, predicted + support - tp));
        cells.extend(one_vs_rest(all, class));
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
        count(&mut cells, "n", decided.iter().filter(|it| *it == pair).count());
        (pair.join("/"), cells)
    };
    decided.iter().collect::<BTreeSet<_>>().into_iter().map(row).collect()
}
