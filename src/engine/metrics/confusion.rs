//! The confusion matrix of many classes: sparse counts by true and predicted class, whose names are capped.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::accumulator::Value;
use super::dictionary::{ClassCap, ClassCaps, Kept};
use super::sign::Sign;
use super::weights::{Mass, Weight, Weights};

/// Classes that may at most have counts of their own: beyond it nobody reads the matrix, and their numbers fit 16 bits.
pub const MOST_CLASSES: usize = 10_000;

/// The number of `(other)`; kept classes have numbers from 1, in the order in which they came.
const OTHER: u16 = 0;

/// Counts by true and predicted class. Equal when classes and counts are, whatever the classes' numbers.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    cap: ClassCap<{ ClassCaps::DEFAULT.counted }>,
    classes: Kept<u16>,
    /// By the numbers of the true and the predicted class; no count of 0.
    counts: HashMap<(u16, u16), u64, FixedState>,
    /// By [`place`] of the same numbers.
    weights: Weights,
}

/// Where the weights of a cell are.
fn place(actual: u16, predicted: u16) -> u32 {
    u32::from(actual) << 16 | u32::from(predicted)
}

/// The numbers of the cell at a place.
fn numbers(place: u32) -> (u16, u16) {
    let half = |half: u32| u16::try_from(half).expect("16 bits");
    (half(place >> 16), half(place & 0xffff))
}

/// What is counted of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// Its name; none for `(other)`.
    pub class: Option<Arc<str>>,
    /// Records whose true class it is.
    pub support: Mass,
    /// Records whose predicted class it is.
    pub predicted: Mass,
    /// Records of which both hold. Of `(other)` it also counts one class predicted as another.
    pub tp: Mass,
}

/// One cell: the true class, the predicted class (none for `(other)`), the count.
pub type Cell = (Option<Arc<str>>, Option<Arc<str>>, Mass);

impl Confusion {
    /// Keeps so many classes from now on: said before the first is counted.
    pub fn go_by(&mut self, classes: usize) {
        self.cap.set(classes);
    }

    /// Whether it holds no more classes than it may.
    pub fn keeps_its_cap(&self) -> bool {
        self.classes.len() <= self.cap.classes()
    }

    /// Counts one record, or takes one back that was counted, whose classes stay known.
    pub fn fold(&mut self, actual: &str, predicted: &str, weight: Weight, sign: impl Sign) {
        let cell = self.cell(actual, predicted);
        let count = self.counts.entry(cell).or_default();
        sign.count(count, 1);
        if *count == 0 {
            self.counts.remove(&cell);
        }
        self.weights.fold(place(cell.0, cell.1), weight, sign);
    }

    fn cell(&mut self, actual: &str, predicted: &str) -> (u16, u16) {
        // The second of two new classes may need the place of the first, which is then out: asked once more, it stays so.
        self.number(actual);
        let predicted = self.number(predicted);
        (self.number(actual), predicted)
    }

    /// The number of a class; a new one takes that of the class whose place it needs.
    fn number(&mut self, class: &str) -> u16 {
        let next = u16::try_from(self.classes.len() + 1).expect("the cap is far below 2^16");
        let mut fallen = None;
        let number = self.classes.at(&self.cap.cap(), class, |number| fallen = Some(number));
        let Some(number) = number else { return OTHER };
        if *number == OTHER {
            *number = fallen.unwrap_or(next);
        }
        let number = *number;
        if let Some(fallen) = fallen {
            self.move_to_other(fallen);
        }
        number
    }

    fn move_to_other(&mut self, from: u16) {
        let is_of = |(cell, _): &(&(u16, u16), &u64)| cell.0 == from || cell.1 == from;
        let moved: Vec<_> =
            self.counts.iter().filter(is_of).map(|(cell, count)| (*cell, *count)).collect();
        let to = |number| if number == from { OTHER } else { number };
        for (cell, count) in moved {
            self.counts.remove(&cell);
            *self.counts.entry((to(cell.0), to(cell.1))).or_default() += count;
        }
        self.weights.map_places(|at| {
            let (actual, predicted) = numbers(at);
            place(to(actual), to(predicted))
        });
    }

    /// Counts all that `from` has counted.
    pub fn merge(&mut self, from: &Self) {
        self.cap.merge(from.cap);
        for (class, _) in from.classes.iter() {
            self.number(class);
        }
        let mut numbers_of = vec![OTHER; from.classes.len() + 1];
        for (class, &number) in from.classes.iter() {
            numbers_of[usize::from(number)] = self.classes.get(&**class).copied().unwrap_or(OTHER);
        }
        for (&(actual, predicted), count) in &from.counts {
            let cell = (numbers_of[usize::from(actual)], numbers_of[usize::from(predicted)]);
            *self.counts.entry(cell).or_default() += count;
        }
        let mut weights = from.weights.clone();
        let number = |theirs: u16| numbers_of[usize::from(theirs)];
        weights.map_places(|at| {
            let (actual, predicted) = numbers(at);
            place(number(actual), number(predicted))
        });
        self.weights.merge(&weights);
    }

    fn mass(&self, (actual, predicted): (u16, u16), records: u64, is_weighted: bool) -> Mass {
        self.weights.mass(place(actual, predicted), records, is_weighted)
    }

    /// All records.
    pub fn total(&self, is_weighted: bool) -> Mass {
        self.counts.iter().map(|(cell, count)| self.mass(*cell, *count, is_weighted)).sum()
    }

    /// Whether a class was counted as `(other)`.
    pub fn is_capped(&self) -> bool {
        self.counts.keys().any(|&(actual, predicted)| actual == OTHER || predicted == OTHER)
    }

    /// What is counted of each class that has a count, by name, `(other)` last.
    pub fn classes(&self, is_weighted: bool) -> Vec<ClassCounts> {
        let nothing = Mass::default();
        let none = |class| ClassCounts { class, support: nothing, predicted: nothing, tp: nothing };
        let mut all = vec![none(None); self.classes.len() + 1];
        for (class, &number) in self.classes.iter() {
            all[usize::from(number)].class = Some(Arc::clone(class));
        }
        for (&(actual, predicted), count) in &self.counts {
            let mass = self.mass((actual, predicted), *count, is_weighted);
            let add = |to: &mut Mass| *to = *to + mass;
            add(&mut all[usize::from(actual)].support);
            add(&mut all[usize::from(predicted)].predicted);
            if actual == predicted {
                add(&mut all[usize::from(actual)].tp);
            }
        }
        all.retain(|it| it.support.records + it.predicted.records > 0);
        all.sort_unstable_by(|a, b| order(a.class.as_ref(), b.class.as_ref()));
        all
    }

    /// The cells with a count, by the names of true and predicted class, `(other)` last.
    pub fn cells(&self, is_weighted: bool) -> Vec<Cell> {
        let mut names = vec![None; self.classes.len() + 1];
        for (class, &number) in self.classes.iter() {
            names[usize::from(number)] = Some(Arc::clone(class));
        }
        let name = |number: u16| names[usize::from(number)].clone();
        let cells = self.counts.iter();
        let mut cells: Vec<_> = cells
            .map(|(&(actual, by), &count)| {
                (name(actual), name(by), self.mass((actual, by), count, is_weighted))
            })
            .collect();
        cells.sort_unstable_by(|a, b| {
            order(a.0.as_ref(), b.0.as_ref()).then_with(|| order(a.1.as_ref(), b.1.as_ref()))
        });
        cells
    }

    /// The kept classes in their fixed order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.classes.iter().map(|(class, _)| Arc::clone(class)).collect()
    }

    /// For each number of a class its place in the state: that of its name among the n [`names`](Self::names), n for
    /// `(other)`.
    fn places(&self) -> Vec<u64> {
        let size = self.classes.len();
        let as_u64 = |at: usize| u64::try_from(at).expect("at most 10,000");
        let mut places = vec![as_u64(size); size + 1];
        for (place, (_, &number)) in self.classes.iter().enumerate() {
            places[usize::from(number)] = as_u64(place);
        }
        places
    }

    /// The counts, and the weights, by ascending t * (n + 1) + p: the places of the true and the predicted class among
    /// the n [`names`](Self::names), that of `(other)` being n.
    pub fn to_values(&self) -> [Value; 2] {
        let places = self.places();
        let size = u64::try_from(places.len()).expect("at most 10,001");
        let index = |actual: u16, predicted: u16| {
            places[usize::from(actual)] * size + places[usize::from(predicted)]
        };
        let counts = self.counts.iter();
        let mut pairs: Vec<_> =
            counts.map(|(&(actual, by), &count)| (index(actual, by), count)).collect();
        pairs.sort_unstable();
        let mut weights = self.weights.clone();
        weights.map_places(|at| {
            let (actual, predicted) = numbers(at);
            u32::try_from(index(actual, predicted)).expect("less than 2^27")
        });
        [Value::Cells(pairs), weights.to_value()]
    }

    /// What [`names`](Self::names) and [`to_values`](Self::to_values) gave; none for other values.
    pub fn restore(
        names: Vec<Arc<str>>,
        pairs: &[(u64, u64)],
        weights: &[(u64, u64)],
    ) -> Option<Self> {
        let size = u64::try_from(names.len()).ok().filter(|_| names.len() <= MOST_CLASSES)?;
        let cells = (size + 1) * (size + 1);
        let is_written = pairs.is_sorted_by(|a, b| a.0 < b.0)
            && pairs.iter().all(|&(at, count)| at < cells && count > 0);
        if !is_written {
            return None;
        }
        let number = |place: u64| {
            u16::try_from(if place == size { 0 } else { place + 1 }).expect("at most 10,000")
        };
        let cell = |at: u64| (number(at / (size + 1)), number(at % (size + 1)));
        let counts = pairs.iter().map(|&(at, count)| (cell(at), count)).collect();
        let mut weights = Weights::from_pairs(weights, u32::try_from(cells).ok()?)?;
        weights.map_places(|at| {
            let (actual, predicted) = cell(u64::from(at));
            place(actual, predicted)
        });
        let number = |at: usize| u16::try_from(at + 1).expect("at most 10,000");
        Some(Self {
            cap: ClassCap::default(),
            classes: Kept::restore(names, number)?,
            counts,
            weights,
        })
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.classes.heap_bytes() + self.counts.allocation_size() + self.weights.heap_bytes()
    }
}

/// By name, `(other)` last.
fn order(left: Option<&Arc<str>>, right: Option<&Arc<str>>) -> std::cmp::Ordering {
    (left.is_none(), left).cmp(&(right.is_none(), right))
}

impl PartialEq for Confusion {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names() && self.to_values() == other.to_values()
    }
}
