//! Performance of models with several classes estimated without labels, from scores that are calibrated one class
//! against the rest (confidence based estimation, CBPE, as `NannyML` 0.13).

use std::sync::Arc;

use super::accumulator::{Accumulator, Column, FigureContext, StateError, Undefined, Value};
use super::cells::Cells;
use super::dictionary::{ClassCap, ClassCaps, Kept};
use super::estimate::{Estimate, ExpectedRanking, band, units};
use super::exact_sum::ExactSum;
use super::interval::{Figure, cells, names, number, put, put_with_limits, ratio, sums};
use super::lattice::{SCORE_CELLS, score_cell};
use super::one_vs_rest::{MOST_SCORED_CLASSES, by_class};
use super::ranking::Ranking;
use super::reference::Calibrator;
use super::sign::Sign;
use super::stored::Stored;

/// What one inference says about one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Chance<'a> {
    /// The class.
    pub class: &'a str,
    /// In 0..=1; 0 where the inference gives it none.
    pub score: f64,
    /// The probability that it is the true one, in 0..=1.
    pub probability: f64,
}

/// The chances of all classes that have a calibrator, in their order, and of those that have a score only, whose
/// calibrator is the identity. They add up to 1.
pub fn chances<'a>(
    calibrators: &'a [(Arc<str>, Calibrator)],
    scores: &[(&'a str, f64)],
) -> Vec<Chance<'a>> {
    let score_at = |at: usize, class: &str| {
        // Mostly both stand in one order.
        let there = scores.get(at).filter(|(name, _)| *name == class);
        let found = there.or_else(|| scores.iter().find(|(name, _)| *name == class));
        found.map_or(0.0, |(_, score)| *score)
    };
    let known = calibrators.iter().enumerate().map(|(at, (class, calibrator))| {
        let score = score_at(at, class);
        Chance { class, score, probability: calibrator.map.apply(score).clamp(0.0, 1.0) }
    });
    let is_new =
        |class: &str| calibrators.binary_search_by(|(known, _)| (**known).cmp(class)).is_err();
    let new = scores.iter().filter(|(class, _)| is_new(class));
    let new = new.map(|&(class, score)| Chance { class, score, probability: score });
    let mut chances: Vec<_> = known.chain(new).collect();
    let sum: f64 = chances.iter().map(|chance| chance.probability).sum();
    let alike = 1.0 / number(u64::try_from(chances.len()).unwrap_or(u64::MAX));
    for chance in &mut chances {
        chance.probability = if sum > 0.0 { (chance.probability / sum).min(1.0) } else { alike };
    }
    chances
}

/// An inference with scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClassesEstimated<'a> {
    /// Each class once.
    pub chances: &'a [Chance<'a>],
    /// The class that it decided for.
    pub predicted: &'a str,
}

impl ClassesEstimated<'_> {
    /// The probability that the decision is right.
    fn probability(&self) -> f64 {
        let decided = self.chances.iter().find(|chance| chance.class == self.predicted);
        decided.map_or(0.0, |chance| chance.probability)
    }
}

/// What one inference with scores by class, or its winning label, adds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ClassEstimateInput<'a> {
    /// An accepted inference.
    Inference(ClassesEstimated<'a>),
    /// An inference with its winning label.
    Labelled {
        /// The inference.
        of: ClassesEstimated<'a>,
        /// The label's class.
        actual: &'a str,
    },
}

/// Decisions of some inferences, each with the probability p that it is right.
#[derive(Clone, Debug, Default, PartialEq)]
struct Decisions {
    n: u64,
    /// Exact sum of p.
    probability: ExactSum,
    /// Exact sum of p (1 - p).
    variance: ExactSum,
}

impl Decisions {
    fn fold(&mut self, p: f64, sign: impl Sign) {
        sign.count(&mut self.n, 1);
        self.probability.add(sign.of(p));
        self.variance.add(sign.of(p * (1.0 - p)));
    }

    fn merge(&mut self, other: &Self) {
        self.n += other.n;
        self.probability.merge(&other.probability);
        self.variance.merge(&other.variance);
    }

    fn accuracy(&self) -> (f64, f64) {
        let n = number(self.n);
        (self.probability.value() / n, self.variance.value() / (n * n))
    }
}

/// The scores of one class against the rest, by score cell.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scores {
    n: Cells,
    /// Sums of its probability, in units of 2^-32.
    probability: Cells,
    /// The same of the labelled.
    labelled_probability: Cells,
    /// Labelled inferences whose true class is another.
    negatives: Cells,
    /// Labelled inferences whose true class it is.
    positives: Cells,
}

impl Scores {
    fn lists(&self) -> [&Cells; 5] {
        let Self { n, probability, labelled_probability, negatives, positives } = self;
        [n, probability, labelled_probability, negatives, positives]
    }

    fn labels(&mut self, positive: bool) -> &mut Cells {
        if positive { &mut self.positives } else { &mut self.negatives }
    }

    fn total(&self) -> u64 {
        self.n.total() + self.negatives.total() + self.positives.total()
    }

    /// What `n` inferences in all are expected to be.
    fn expected(&self, n: u64) -> ExpectedRanking {
        ExpectedRanking::new(filled(self.n.clone(), n).iter(), &self.probability)
    }

    /// What `n` labelled inferences in all were expected to be.
    fn expected_of_labelled(&self, n: u64) -> ExpectedRanking {
        let mut labelled = self.negatives.clone();
        labelled.merge(&self.positives);
        ExpectedRanking::new(filled(labelled, n).iter(), &self.labelled_probability)
    }

    /// The realised area under the ROC curve of `n` labelled inferences in all.
    fn realized(&self, n: u64) -> Figure {
        let rest = n.saturating_sub(self.positives.total());
        Ranking::new(&self.positives, &filled(self.negatives.clone(), rest)).auroc()
    }
}

/// Scores of `n` inferences: those that give the class none give it 0.
fn filled(mut scores: Cells, n: u64) -> Cells {
    scores.add_count(score_cell(0.0), n.saturating_sub(scores.total()));
    scores
}

/// The state of the rows of table `quality_estimated` of models with several classes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClassEstimate {
    all: Decisions,
    labelled: Decisions,
    /// Labelled inferences that were decided right.
    right: u64,
    cap: ClassCap<{ ClassCaps::DEFAULT.scored }>,
    classes: Kept<Scores>,
    /// Scores of classes that the cap keeps out.
    kept_out: u64,
}

impl ClassEstimate {
    /// Keeps so many classes from now on: said before the first record.
    pub fn go_by(&mut self, caps: ClassCaps) -> &mut Self {
        self.cap.set(caps.scored);
        self
    }

    /// An error where it holds more classes than it may.
    pub fn check_caps(&self) -> Result<(), StateError> {
        let keeps = self.classes.len() <= self.cap.classes();
        if keeps { Ok(()) } else { Err(StateError::Malformed("class_estimate_classes")) }
    }

    /// Adds or takes back the score of one class; `positive` of a labelled inference says that it is the true one.
    fn fold_chance(&mut self, chance: &Chance<'_>, positive: Option<bool>, sign: impl Sign) {
        let Self { cap, classes, kept_out, .. } = self;
        let mut fallen = 0;
        let (cell, units) = (score_cell(chance.score), units(chance.probability));
        match classes.at(&cap.cap(), chance.class, |scores| fallen = scores.total()) {
            None => sign.count(kept_out, 1),
            Some(scores) => match positive {
                None => {
                    sign.cell(&mut scores.n, cell);
                    sign.cell_count(&mut scores.probability, cell, units);
                }
                Some(positive) => {
                    sign.cell_count(&mut scores.labelled_probability, cell, units);
                    sign.cell(scores.labels(positive), cell);
                }
            },
        }
        *kept_out += fallen;
    }

    /// The mean over classes of an area, over those that have one.
    fn mean(&self, area: impl FnMut(&Scores) -> Option<f64>) -> Figure {
        let areas: Vec<f64> =
            self.classes.iter().map(|(_, scores)| scores).filter_map(area).collect();
        match u32::try_from(areas.len()).expect("at most 1000 classes") {
            _ if self.kept_out > 0 => Err(Undefined::Capped),
            0 => Err(Undefined::OneClass),
            count => Ok(areas.iter().sum::<f64>() / f64::from(count)),
        }
    }

    fn put_labelled(&self, out: &mut Vec<Value>) {
        let n = self.labelled.n;
        let labelled = if n > 0 { Ok(()) } else { Err(Undefined::NoLabels) };
        let none = Err(Undefined::NotApplicable);
        let expected = |of: &Scores| of.expected_of_labelled(n);
        let realized = labelled.and_then(|()| self.mean(|of| of.realized(n).ok()));
        // Of the same classes, so that the gap compares like with like.
        let estimated = labelled.and_then(|()| {
            self.mean(|of| of.realized(n).ok().and_then(|_| expected(of).auroc().ok()))
        });
        let accuracy = ratio(self.right, n, Undefined::NoLabels);
        let (mean, variance) = self.labelled.accuracy();
        let estimated_accuracy = labelled.map(|()| mean);
        let gap = |is: Figure, estimated: Figure| is.and_then(|is| Ok(is - estimated?));
        let accuracy_gap = gap(accuracy, estimated_accuracy);
        let z = accuracy_gap.and_then(|gap| {
            if variance > 0.0 { Ok(gap / variance.sqrt()) } else { Err(Undefined::ZeroVariance) }
        });
        out.push(Value::Count(n));
        let figures = [accuracy, none, realized, estimated_accuracy, none, estimated];
        out.extend(figures.map(Value::Figure));
        out.extend([accuracy_gap, none, gap(realized, estimated), z].map(Value::Figure));
        let rest = self.all.probability.value() - self.labelled.probability.value();
        let blended = (number(self.right) + rest.max(0.0)) / number(self.all.n);
        put(out, if self.all.n > 0 { Ok(blended) } else { Err(Undefined::NoScores) });
    }
}

impl Accumulator for ClassEstimate {
    type Input<'a> = ClassEstimateInput<'a>;

    const STATE: &'static [Column] = &[
        cells(
            "class_estimate_counts",
            "Inferences with scores by class, labelled ones, those decided right, scores kept out.",
        ),
        sums(
            "class_estimate_sums",
            "Exact sums of the probability p of the decided class, of p (1 - p); the same of the labelled.",
        ),
        names("class_estimate_classes", "Classes whose estimates are kept, by XXH3-64."),
        cells(
            "class_estimate_cells",
            "By score cell, five lists for each class: inferences, sums of p (2^-32), sums of p of the labelled, negatives, positives.",
        ),
    ];

    /// In the same table.
    const FIGURES: &'static [Column] = Estimate::FIGURES;

    /// The classes of what is taken back stay known.
    fn fold(&mut self, input: &Self::Input<'_>, sign: impl Sign) {
        match *input {
            ClassEstimateInput::Inference(of) => {
                self.all.fold(of.probability(), sign);
                for chance in of.chances {
                    self.fold_chance(chance, None, sign);
                }
            }
            ClassEstimateInput::Labelled { of, actual } => {
                self.labelled.fold(of.probability(), sign);
                sign.count(&mut self.right, u64::from(of.predicted == actual));
                let is_true = |chance: &Chance<'_>| chance.class == actual;
                for chance in of.chances {
                    self.fold_chance(chance, Some(is_true(chance)), sign);
                }
                if !of.chances.iter().any(is_true) {
                    let chance = Chance { class: actual, score: 0.0, probability: 0.0 };
                    self.fold_chance(&chance, Some(true), sign);
                }
            }
        }
    }

    fn merge(&mut self, other: &Self) {
        self.all.merge(&other.all);
        self.labelled.merge(&other.labelled);
        self.right += other.right;
        self.kept_out += other.kept_out;
        self.cap.merge(other.cap);
        let cap = self.cap.cap();
        for (class, from) in other.classes.iter() {
            let mut fallen = 0;
            match self.classes.at(&cap, &**class, |scores| fallen = scores.total()) {
                Some(scores) => {
                    scores.n.merge(&from.n);
                    scores.probability.merge(&from.probability);
                    scores.labelled_probability.merge(&from.labelled_probability);
                    scores.negatives.merge(&from.negatives);
                    scores.positives.merge(&from.positives);
                }
                None => self.kept_out += from.total(),
            }
            self.kept_out += fallen;
        }
    }

    fn state(&self, out: &mut Vec<Value>) {
        let counts = [self.all.n, self.labelled.n, self.right, self.kept_out];
        out.push(Value::Cells((0..).zip(counts).filter(|&(_, count)| count > 0).collect()));
        let of =
            |decisions: &Decisions| [&decisions.probability, &decisions.variance].map(Clone::clone);
        let sums = [of(&self.all), of(&self.labelled)].concat();
        let is_empty = sums.iter().all(ExactSum::is_zero);
        out.push(Value::Sums(if is_empty { Vec::new() } else { sums }));
        out.push(Value::Names(self.classes.iter().map(|(class, _)| Arc::clone(class)).collect()));
        let lists = self.classes.iter().flat_map(|(_, scores)| scores.lists());
        let cells = (0_u64..).zip(lists).flat_map(|(place, list)| {
            let first = place * u64::from(SCORE_CELLS);
            list.iter().map(move |(cell, count)| (first + u64::from(cell), count))
        });
        out.push(Value::Cells(cells.collect()));
    }

    fn restore(values: &mut dyn Iterator<Item = &Value>) -> Result<Self, StateError> {
        let mut stored = Stored::new(Self::STATE, values);
        let mut counts = [0; 4];
        stored.cells(4)?.iter().for_each(|(at, count)| counts[usize::from(at)] = count);
        let [n, labelled, right, kept_out] = counts;
        let [all_p, all_v, labelled_p, labelled_v] = stored.sums()?;
        let names = stored.names()?;
        let malformed = StateError::Malformed("class_estimate_cells");
        if names.len() > MOST_SCORED_CLASSES {
            return Err(malformed);
        }
        let lists = by_class(stored.pairs()?, 5 * names.len()).ok_or(malformed)?;
        let mut lists = lists.into_iter();
        let scores = |_| {
            let mut next = || lists.next().unwrap_or_default();
            Scores {
                n: next(),
                probability: next(),
                labelled_probability: next(),
                negatives: next(),
                positives: next(),
            }
        };
        let classes = Kept::restore(names, scores);
        Ok(Self {
            all: Decisions { n, probability: all_p, variance: all_v },
            labelled: Decisions { n: labelled, probability: labelled_p, variance: labelled_v },
            right,
            cap: ClassCap::default(),
            classes: classes.ok_or(StateError::Malformed("class_estimate_classes"))?,
            kept_out,
        })
    }

    fn figures(&self, _: &FigureContext<'_>, out: &mut Vec<Value>) {
        let n = self.all.n;
        let scored = if n > 0 { Ok(()) } else { Err(Undefined::NoScores) };
        let none = Value::Figure(Err(Undefined::NotApplicable));
        out.push(Value::Count(n));
        // The cells of one confusion matrix.
        out.extend(std::iter::repeat_n(none.clone(), 4));
        let (accuracy, limits) = band(scored.map(|()| self.all.accuracy()));
        put_with_limits(out, accuracy, limits);
        // Precision, recall and F1 with their bands.
        out.extend(std::iter::repeat_n(none.clone(), 9));
        put(out, scored.and_then(|()| self.mean(|of| of.expected(n).auroc().ok())));
        // Classes share inferences, so the band of the mean does not follow from theirs.
        out.extend([none.clone(), none]);
        put(out, scored.and_then(|()| self.mean(|of| of.expected(n).error_bound().ok())));
        self.put_labelled(out);
    }

    fn heap_bytes(&self) -> usize {
        let sums = [&self.all, &self.labelled].into_iter();
        let sums = sums.flat_map(|of| [&of.probability, &of.variance]).map(ExactSum::heap_bytes);
        let lists = self.classes.iter().flat_map(|(_, scores)| scores.lists());
        self.classes.heap_bytes()
            + sums.sum::<usize>()
            + lists.map(Cells::heap_bytes).sum::<usize>()
    }
}
