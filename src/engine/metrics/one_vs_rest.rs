//! Each class against the rest: the scores of labelled records on the score lattice, for a capped number of classes.
//! Where label weights are used, a record is counted as often as it has units of weight.

use std::sync::Arc;

use super::accumulator::{Undefined, Value};
use super::cells::Cells;
use super::dictionary::{ClassCap, ClassCaps, Kept};
use super::lattice::{SCORE_CELLS, score_cell};
use super::ranking::Ranking;
use super::sign::Sign;

/// Classes whose scores may at most be kept: each can take 300 kB in each key.
pub const MOST_SCORED_CLASSES: usize = 1000;

/// The scores that one class was given.
#[derive(Clone, Debug, Default, PartialEq)]
struct Scored {
    /// Where it is the true class.
    positives: Cells,
    /// Where it is not.
    negatives: Cells,
}

impl Scored {
    fn of(&mut self, positive: bool) -> &mut Cells {
        if positive { &mut self.positives } else { &mut self.negatives }
    }

    fn total(&self) -> u64 {
        self.positives.total() + self.negatives.total()
    }
}

/// Scores by class.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OneVsRest {
    cap: ClassCap<{ ClassCaps::DEFAULT.scored }>,
    classes: Kept<Scored>,
    /// Scores of classes that the cap keeps out. Counted modulo 2^64, since thousands of them may come with one record of
    /// great weight: all that is asked is whether there are any.
    other: u64,
}

impl OneVsRest {
    /// Keeps the scores of so many classes from now on: said before the first is added.
    pub fn go_by(&mut self, classes: usize) {
        self.cap.set(classes);
    }

    /// Whether it holds the scores of no more classes than it may.
    pub fn keeps_its_cap(&self) -> bool {
        self.classes.len() <= self.cap.classes()
    }

    /// Adds the score that so many equal labelled records give a class, or takes it back; `positive` says that it is the
    /// true one. The class stays known.
    pub fn fold(&mut self, class: &str, score: f64, positive: bool, times: u64, sign: impl Sign) {
        let Self { cap, classes, other } = self;
        let mut fallen = 0;
        let at = classes.at(&cap.cap(), class, |scored| {
            assert!(sign.adds(), "what is taken back was added");
            fallen = scored.total();
        });
        match at {
            Some(scored) => sign.cell_count(scored.of(positive), score_cell(score), times),
            None if sign.adds() => *other = other.wrapping_add(times),
            None => *other = other.wrapping_sub(times),
        }
        *other = other.wrapping_add(fallen);
    }

    /// Adds all of `from`.
    pub fn merge(&mut self, from: &Self) {
        self.cap.merge(from.cap);
        let Self { cap, classes, other } = self;
        let cap = cap.cap();
        *other = other.wrapping_add(from.other);
        for (class, scores) in from.classes.iter() {
            let mut fallen = 0;
            match classes.at(&cap, &**class, |scored| fallen = scored.total()) {
                Some(scored) => {
                    scored.positives.merge(&scores.positives);
                    scored.negatives.merge(&scores.negatives);
                }
                None => *other = other.wrapping_add(scores.total()),
            }
            *other = other.wrapping_add(fallen);
        }
    }

    /// The ranking of one class over all `n` labelled records with scores: one that gives it none gives it 0.
    pub fn ranking(&self, class: &str, n: u64) -> Result<Ranking, Undefined> {
        if n == 0 {
            return Err(Undefined::NoScores);
        }
        match self.classes.get(class) {
            Some(scored) => Ok(ranking(scored, n)),
            None if self.other > 0 => Err(Undefined::Capped),
            None => Ok(ranking(&Scored::default(), n)),
        }
    }

    /// The mean of the areas of all classes that have positives and negatives among `n` records, and how many these
    /// are.
    pub fn macro_auroc(&self, n: u64) -> (Result<f64, Undefined>, u64) {
        let areas: Vec<_> =
            self.classes.iter().filter_map(|(_, scored)| ranking(scored, n).auroc().ok()).collect();
        let count = u32::try_from(areas.len()).expect("at most 1000 classes");
        let figure = match count {
            _ if n == 0 => Err(Undefined::NoScores),
            _ if self.other > 0 => Err(Undefined::Capped),
            0 => Err(Undefined::OneClass),
            count => Ok(areas.iter().sum::<f64>() / f64::from(count)),
        };
        (figure, u64::from(count))
    }

    /// Appends the state: the kept classes, positives and negatives by class and score cell, and the count of scores
    /// kept out. The cell of the c-th class is c times the number of score cells further.
    pub fn state(&self, out: &mut Vec<Value>) {
        out.push(Value::Names(self.classes.iter().map(|(class, _)| Arc::clone(class)).collect()));
        let cells = |of: fn(&Scored) -> &Cells| {
            let classes = (0_u64..).zip(self.classes.iter());
            let cells = classes.flat_map(|(place, (_, scored))| {
                let first = place * u64::from(SCORE_CELLS);
                of(scored).iter().map(move |(cell, count)| (first + u64::from(cell), count))
            });
            Value::Cells(cells.collect())
        };
        out.extend([cells(|scored| &scored.positives), cells(|scored| &scored.negatives)]);
        out.push(Value::Count(self.other));
    }

    /// What [`state`](Self::state) gave; none when it is not in the one form in which it is written.
    pub fn restore(
        names: Vec<Arc<str>>,
        positives: &[(u64, u64)],
        negatives: &[(u64, u64)],
        other: u64,
    ) -> Option<Self> {
        if names.len() > MOST_SCORED_CLASSES {
            return None;
        }
        let [mut positives, mut negatives] = [
            by_class(positives, names.len())?.into_iter(),
            by_class(negatives, names.len())?.into_iter(),
        ];
        let scored = |_| Scored {
            positives: positives.next().unwrap_or_default(),
            negatives: negatives.next().unwrap_or_default(),
        };
        Some(Self { cap: ClassCap::default(), classes: Kept::restore(names, scored)?, other })
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        let cells = self
            .classes
            .iter()
            .map(|(_, scored)| scored.positives.heap_bytes() + scored.negatives.heap_bytes());
        self.classes.heap_bytes() + cells.sum::<usize>()
    }
}

/// The cells of each class.
pub(super) fn by_class(pairs: &[(u64, u64)], classes: usize) -> Option<Vec<Cells>> {
    if !pairs.is_sorted_by(|a, b| a.0 < b.0) {
        return None;
    }
    let (mut all, mut rest) = (Vec::with_capacity(classes), pairs);
    for class in 0..u64::try_from(classes).ok()? {
        let first = class * u64::from(SCORE_CELLS);
        let end = rest.partition_point(|(at, _)| *at < first + u64::from(SCORE_CELLS));
        let own: Vec<_> = rest[..end].iter().map(|&(at, count)| (at - first, count)).collect();
        all.push(Cells::from_pairs(&own, SCORE_CELLS)?);
        rest = &rest[end..];
    }
    rest.is_empty().then_some(all)
}

fn ranking(scored: &Scored, n: u64) -> Ranking {
    let mut negatives = scored.negatives.clone();
    negatives.add_count(score_cell(0.0), n - scored.total());
    Ranking::new(&scored.positives, &negatives)
}
