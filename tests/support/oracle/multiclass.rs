//! Figures of models with several classes, by walking the list of records once for each class or cell.

use std::collections::BTreeSet;

use super::super::OTHER;
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

/// The labelled records of a multiclass model, and the classes that its caps keep.
pub struct Model<'a> {
    all: Vec<Labelled<'a>>,
    /// Of true and predicted classes.
    counted: BTreeSet<&'a str>,
    /// Of classes with scores.
    scored: BTreeSet<&'a str>,
    weighted: bool,
}

/// Those that come first by XXH3-64, of all that were ever seen, also in labels that were corrected.
fn kept(seen: BTreeSet<&str>, cap: usize) -> BTreeSet<&str> {
    let mut seen: Vec<_> = seen.into_iter().collect();
    seen.sort_by_key(|name| xxhash_rust::xxh3::xxh3_64(name.as_bytes()));
    seen.into_iter().take(cap).collect()
}

pub fn labelled<'a>(members: &[&'a Folded], caps: [usize; 2], weighted: bool) -> Model<'a> {
    let members: Vec<_> = members.iter().filter(|one| one.multiclass).collect();
    let record = |one: &&&'a Folded| {
        let (actual, predicted) = (one.walk.class.as_deref()?, one.class.as_deref());
        Some(Labelled { predicted, actual, scores: &one.scores, weight: weight_of(one, weighted) })
    };
    let (mut counted, mut scored) = (BTreeSet::new(), BTreeSet::new());
    for one in members.iter().filter(|one| one.walk.class.is_some()) {
        let winners = one.walk.winners.iter().map(String::as_str);
        if let Some(predicted) = &one.class {
            counted.extend(winners.clone().chain([predicted.as_str()]));
        }
        if !one.scores.is_empty() {
            scored.extend(winners.chain(one.scores.iter().map(|(class, _)| class.as_str())));
        }
    }
    let all = members.iter().filter_map(record).collect();
    Model { all, counted: kept(counted, caps[0]), scored: kept(scored, caps[1]), weighted }
}

/// Truth and decision as far as their classes are kept, whether they are the same class, and the label's weight.
struct Decided<'a> {
    pair: [&'a str; 2],
    is_right: bool,
    weight: f64,
}

impl<'a> Model<'a> {
    fn decided(&self) -> Vec<Decided<'a>> {
        let name = |class: &'a str| if self.counted.contains(class) { class } else { OTHER };
        let decided = |one: &Labelled<'a>| {
            let (actual, predicted) = (one.actual, one.predicted?);
            let pair = [name(actual), name(predicted)];
            Some(Decided { pair, is_right: actual == predicted, weight: one.weight })
        };
        self.all.iter().filter_map(decided).collect()
    }

    /// Whether any score of some weight is of a class that is not kept.
    fn leaves_scores_out(&self) -> bool {
        let mut scored = self.all.iter().filter(|one| !one.scores.is_empty() && one.weight > 0.0);
        scored.any(|one| one.classes().into_iter().any(|class| !self.scored.contains(class)))
    }
}

fn is_capped(decided: &[Decided<'_>]) -> bool {
    decided.iter().any(|one| one.pair.contains(&OTHER))
}

fn classes<'a>(decided: &[Decided<'a>]) -> BTreeSet<&'a str> {
    decided.iter().flat_map(|one| one.pair).collect()
}

fn those(decided: &[Decided<'_>], is: impl Fn(&Decided<'_>) -> bool) -> Weighed {
    Weighed::of(decided.iter().filter(|one| is(one)).map(|one| one.weight))
}

/// Support, predicted, both, and either, of one class.
fn counts(decided: &[Decided<'_>], class: &str) -> [Weighed; 4] {
    [
        those(decided, |it| it.pair[0] == class),
        those(decided, |it| it.pair[1] == class),
        those(decided, |it| it.pair == [class; 2] && it.is_right),
        those(decided, |it| it.pair.contains(&class)),
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
pub fn figures(model: &Model<'_>) -> Cells {
    let mut cells = Cells::new();
    let decided = model.decided();
    let capped = if is_capped(&decided) { Err("capped") } else { Ok(()) };
    let n = those(&decided, |_| true);
    count(&mut cells, "n", n.n);
    let correct = those(&decided, |one| one.is_right);
    count(&mut cells, "correct", correct.n);
    ratio(&mut cells, "accuracy", correct, n, "no_labels");
    let names = ["precision", "recall", "f1"];
    let defined = [0, 1, 2].map(|at| -> Vec<(f64, f64)> {
        let of = |class| {
            let figure = figures_of(&decided, class)[at].ok()?;
            Some((figure, counts(&decided, class)[0].w))
        };
        classes(&decided).into_iter().filter(|class| *class != OTHER).filter_map(of).collect()
    });
    let none = if n.n == 0 { "no_labels" } else { "zero_denominator" };
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum = figures.iter().map(|(figure, _)| figure).sum();
        let mean = divide(sum, figures.len(), none);
        figure(&mut cells, &format!("macro_{name}"), capped.and(mean));
        count(&mut cells, &format!("macro_{name}_classes"), figures.len());
    }
    for (name, figures) in names.into_iter().zip(&defined) {
        let sum: f64 = figures.iter().map(|(figure, support)| figure * support).sum();
        let support: f64 = figures.iter().map(|(_, support)| support).sum();
        let mean = if support > 0.0 { Ok(sum / support) } else { Err(none) };
        figure(&mut cells, &format!("weighted_{name}"), capped.and(mean));
    }
    figure(&mut cells, "mcc", capped.and_then(|()| correlation(&decided)));
    let (scored, hits) = scores(&mut cells, model);
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
                all.map(move |it| (f64::from(u8::from(it.pair[at] == class)), it.weight))
            };
            let mean = |at: usize| is(at).map(|(x, w)| x * w).sum::<f64>() / n;
            let (a, b) = (mean(left), mean(right));
            is(left).zip(is(right)).map(|((x, w), (y, _))| w * (x - a) * (y - b)).sum::<f64>()
        };
        classes(decided).into_iter().map(of_class).sum::<f64>()
    };
    let some: Vec<_> = decided.iter().filter(|one| one.weight > 0.0).map(|one| one.pair).collect();
    let is_constant = |at: usize| some.iter().all(|it| it[at] == some[0][at]);
    if is_constant(0) || is_constant(1) {
        return Err("zero_denominator");
    }
    Ok(covariance(0, 1) / covariance(0, 0).sqrt() / covariance(1, 1).sqrt())
}

/// The columns of scores; all that have any, and the hits by name.
fn scores(cells: &mut Cells, model: &Model<'_>) -> (Weighed, [(&'static str, Weighed); 3]) {
    let scored: Vec<_> = model.all.iter().filter(|one| !one.scores.is_empty()).collect();
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
    let area = |class: &&str| match one_vs_rest(model, class)[0].1 {
        Cell::Number(area) => Some(area),
        _ => None,
    };
    let areas: Vec<f64> = classes.intersection(&model.scored).filter_map(area).collect();
    let macro_auroc = if model.leaves_scores_out() {
        Err("capped")
    } else {
        divide(areas.iter().sum(), areas.len(), "one_class")
    };
    figure(cells, "auroc_ovr_macro", quotient(0.0, n, "no_scores").and(macro_auroc));
    count(cells, "auroc_ovr_classes", areas.len());
    (n, hits)
}

/// Columns `auroc` to `auroc_error_bound` of one class against the rest.
fn one_vs_rest(model: &Model<'_>, class: &str) -> Cells {
    let scored: Vec<(f64, bool, f64)> = model
        .all
        .iter()
        .filter(|one| !one.scores.is_empty())
        .map(|one| (one.score(class), one.actual == class, one.weight))
        .collect();
    let mut ranked = Cells::new();
    areas(&mut ranked, &scored, model.weighted);
    let names = ["auroc", "auroc_lower", "auroc_upper", "auroc_error_bound"];
    let some = quotient(0.0, Weighed::of(scored.iter().map(|one| one.2)), "no_scores");
    let is_left_out = !model.scored.contains(class) && model.leaves_scores_out();
    let some = some.and(if is_left_out { Err("capped") } else { Ok(()) });
    let cell = |name: &str| match some {
        Err(reason) => Cell::Null(reason),
        Ok(()) => ranked.iter().find(|(found, _)| found == name).expect("it is there").1.clone(),
    };
    names.map(|name| (name.to_owned(), cell(name))).to_vec()
}

/// The rows of `quality_classes` by class.
pub fn by_class(model: &Model<'_>) -> Vec<(String, Cells)> {
    let decided = model.decided();
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
        cells.extend(one_vs_rest(model, class));
        if class == OTHER {
            cells[4..].iter_mut().for_each(|(_, cell)| *cell = Cell::Null("capped"));
        }
        for (name, of) in [("support", support), ("predicted", predicted), ("tp", tp)] {
            weight(&mut cells, name, of);
        }
        (class.to_owned(), cells)
    };
    classes(&decided).into_iter().map(row).collect()
}

/// The rows of `confusion` by true and predicted class.
pub fn confusion(model: &Model<'_>) -> Vec<(String, Cells)> {
    let decided = model.decided();
    let row = |pair: [&str; 2]| {
        let mut cells = Cells::new();
        put(&mut cells, "true_class", Cell::Text(pair[0].to_owned()));
        put(&mut cells, "predicted_class", Cell::Text(pair[1].to_owned()));
        let n = those(&decided, |it| it.pair == pair);
        count(&mut cells, "n", n.n);
        weight(&mut cells, "n", n);
        (pair.join("/"), cells)
    };
    decided.iter().map(|one| one.pair).collect::<BTreeSet<_>>().into_iter().map(row).collect()
}
