//! Whether something is added or taken back.

use super::cells::Cells;

/// Whether something is added or taken back: a type for each, so that what a record does is written once and compiled
/// twice, and adding, which every record asks for, never looks.
pub trait Sign: Copy {
    /// Whether it is added.
    fn adds(self) -> bool;

    /// A number, or the first factor of a product, as it goes into an exact sum.
    #[inline]
    fn of(self, number: f64) -> f64 {
        if self.adds() { number } else { -number }
    }

    /// Adds to a count, or takes from one that has at least as much.
    #[inline]
    fn count(self, count: &mut u64, by: u64) {
        if self.adds() { *count += by } else { *count -= by }
    }

    /// Adds one to a cell, or takes it from one that has at least one.
    #[inline]
    fn cell(self, cells: &mut Cells, index: u16) {
        if self.adds() { cells.add(index) } else { cells.remove(index) }
    }

    /// Adds `by` to a cell, or takes it from one that has at least as much.
    #[inline]
    fn cell_count(self, cells: &mut Cells, index: u16, by: u64) {
        if self.adds() { cells.add_count(index, by) } else { cells.remove_count(index, by) }
    }
}

/// It is added.
#[derive(Clone, Copy, Debug)]
pub struct Plus;

/// It is taken back.
#[derive(Clone, Copy, Debug)]
pub struct Minus;

impl Sign for Plus {
    #[inline]
    fn adds(self) -> bool {
        true
    }
}

impl Sign for Minus {
    #[inline]
    fn adds(self) -> bool {
        false
    }
}
