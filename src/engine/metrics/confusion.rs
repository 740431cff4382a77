//! The confusion matrix of many classes: sparse counts by true and predicted class, whose names are capped.

use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::dictionary::{Cap, Kept};

/// Classes that have counts of their own, predicted and true together; the rest counts as `(other)`.
pub const MOST_CLASSES: usize = 256;
static CLASSES: Cap = Cap::of(MOST_CLASSES);

/// The number of `(other)`; kept classes have numbers from 1, in the order in which they came.
const OTHER: u16 = 0;

/// Counts by true and predicted class. Equal when classes and counts are, whatever the classes' numbers.
#[derive(Clone, Debug, Default)]
pub struct Confusion {
    classes: Kept<u16>,
    /// By the numbers of the true and the predicted class; no count of 0.
    counts: HashMap<(u16, u16), u64, FixedState>,
}

/// What is counted of one class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassCounts {
    /// Its name; none for `(other)`.
    pub class: Option<Arc<str>>,
    /// Records whose true class it is.
    pub support: u64,
    /// Records whose predicted class it is.
    pub predicted: u64,
    /// Records of which both hold. Of `(other)` it also counts one class predicted as another.
    pub tp: u64,
}

/// One cell: the true class, the predicted class (none for `(other)`), the count.
pub type Cell = (Option<Arc<str>>, Option<Arc<str>>, u64);

impl Confusion {
    /// Counts one record.
    pub fn add(&mut self, actual: &str, predicted: &str) {
        *self.count_mut(actual, predicted) += 1;
    }

    /// Takes back one record, which was added. Its classes stay known.
    pub fn remove(&mut self, actual: &str, predicted: &str) {
        let count = self.count_mut(actual, predicted);
        *count -= 1;
        if *count == 0 {
            let cell = self.cell(actual, predicted);
            self.counts.remove(&cell);
        }
    }

    fn count_mut(&mut self, actual: &str, predicted: &str) -> &mut u64 {
        let cell = self.cell(actual, predicted);
        self.counts.entry(cell).or_default()
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
        let number = self.classes.at(&CLASSES, class, |number| fallen = Some(number));
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
    }

    /// Counts all that `from` has counted.
    pub fn merge(&mut self, from: &Self) {
        for (class, _) in from.classes.iter() {
            self.number(class);
        }
        let mut numbers = vec![OTHER; from.classes.len() + 1];
        for (class, &number) in from.classes.iter() {
            numbers[usize::from(number)] = self.classes.get(&**class).copied().unwrap_or(OTHER);
        }
        for (&(actual, predicted), count) in &from.counts {
            let cell = (numbers[usize::from(actual)], numbers[usize::from(predicted)]);
            *self.counts.entry(cell).or_default() += count;
        }
    }

    /// All records.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// Whether a class was counted as `(other)`.
    pub fn is_capped(&self) -> bool {
        self.counts.keys().any(|&(actual, predicted)| actual == OTHER || predicted == OTHER)
    }

    /// What is counted of each class that has a count, by name, `(other)` last.
    pub fn classes(&self) -> Vec<ClassCounts> {
        let none = |class| ClassCounts { class, support: 0, predicted: 0, tp: 0 };
        let mut all = vec![none(None); self.classes.len() + 1];
        for (class, &number) in self.classes.iter() {
            all[usize::from(number)].class = Some(Arc::clone(class));
        }
        for (&(actual, predicted), count) in &self.counts {
            all[usize::from(actual)].support += count;
            all[usize::from(predicted)].predicted += count;
            if actual == predicted {
                all[usize::from(actual)].tp += count;
            }
        }
        all.retain(|it| it.support + it.predicted > 0);
        all.sort_unstable_by(|a, b| order(a.class.as_ref(), b.class.as_ref()));
        all
    }

    /// The cells with a count, by the names of true and predicted class, `(other)` last.
    pub fn cells(&self) -> Vec<Cell> {
        let mut names = vec![None; self.classes.len() + 1];
        for (class, &number) in self.classes.iter() {
            names[usize::from(number)] = Some(Arc::clone(class));
        }
        let name = |number: u16| names[usize::from(number)].clone();
        let cells = self.counts.iter();
        let mut cells: Vec<_> =
            cells.map(|(&(actual, by), &count)| (name(actual), name(by), count)).collect();
        cells.sort_unstable_by(|a, b| {
            order(a.0.as_ref(), b.0.as_ref()).then_with(|| order(a.1.as_ref(), b.1.as_ref()))
        });
        cells
    }

    /// The kept classes in their fixed order.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.classes.iter().map(|(class, _)| Arc::clone(class)).collect()
    }

    /// The counts, by ascending t * (n + 1) + p: the places of the true and the predicted class among the n
    /// [`names`](Self::names), that of `(other)` being n.
    pub fn to_pairs(&self) -> Vec<(u64, u64)> {
        let size = self.classes.len();
        let mut places = vec![size; size + 1];
        for (place, (_, &number)) in self.classes.iter().enumerate() {
            places[usize::from(number)] = place;
        }
        let index = |actual: u16, predicted: u16| {
            let index = places[usize::from(actual)] * (size + 1) + places[usize::from(predicted)];
            u64::try_from(index).expect("less than 2^32")
        };
        let counts = self.counts.iter();
        let mut pairs: Vec<_> =
            counts.map(|(&(actual, by), &count)| (index(actual, by), count)).collect();
        pairs.sort_unstable();
        pairs
    }

    /// What [`names`](Self::names) and [`to_pairs`](Self::to_pairs) gave; none for other values.
    pub fn restore(names: Vec<Arc<str>>, pairs: &[(u64, u64)]) -> Option<Self> {
        let size = u64::try_from(names.len()).ok().filter(|_| names.len() <= MOST_CLASSES)?;
        let is_written = pairs.is_sorted_by(|a, b| a.0 < b.0)
            && pairs.iter().all(|&(at, count)| at < (size + 1) * (size + 1) && count > 0);
        if !is_written {
            return None;
        }
        let number = |place: u64| {
            u16::try_from(if place == size { 0 } else { place + 1 }).expect("at most 256")
        };
        let cell =
            |&(at, count): &(u64, u64)| ((number(at / (size + 1)), number(at % (size + 1))), count);
        let counts = pairs.iter().map(cell).collect();
        let place = |at: usize| u16::try_from(at + 1).expect("at most 256");
        Some(Self { classes: Kept::restore(names, place)?, counts })
    }

    /// Memory beyond `size_of::<Self>()`, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.classes.heap_bytes() + self.counts.allocation_size()
    }
}

/// By name, `(other)` last.
fn order(left: Option<&Arc<str>>, right: Option<&Arc<str>>) -> std::cmp::Ordering {
    (left.is_none(), left).cmp(&(right.is_none(), right))
}

impl PartialEq for Confusion {
    fn eq(&self, other: &Self) -> bool {
        self.names() == other.names() && self.to_pairs() == other.to_pairs()
    }
}
