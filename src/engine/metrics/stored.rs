//! Takes the columns of a stored state off an iterator, each with its name, so that an error can say where.

use std::sync::Arc;

use super::accumulator::{Column, StateError, Value};
use super::cells::Cells;
use super::exact_sum::ExactSum;
use super::weights::Weights;

/// Reads values beside their columns.
pub(super) struct Stored<'a, 'v> {
    columns: std::slice::Iter<'static, Column>,
    values: &'a mut dyn Iterator<Item = &'v Value>,
}

impl<'a, 'v> Stored<'a, 'v> {
    /// Reads these columns off `values`.
    pub(super) fn new(
        columns: &'static [Column],
        values: &'a mut dyn Iterator<Item = &'v Value>,
    ) -> Self {
        Self { columns: columns.iter(), values }
    }

    fn next(&mut self) -> Result<(&'static str, &'v Value), StateError> {
        let column = self.columns.next().expect("a family reads as many columns as it declares");
        let value = self.values.next().ok_or(StateError::TooShort)?;
        Ok((column.name, value))
    }

    /// A count.
    pub(super) fn count(&mut self) -> Result<u64, StateError> {
        match self.next()? {
            (_, Value::Count(count)) => Ok(*count),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// A time.
    pub(super) fn time(&mut self) -> Result<i64, StateError> {
        match self.next()? {
            (_, Value::Time(time)) => Ok(*time),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// An exact sum.
    pub(super) fn sum(&mut self) -> Result<ExactSum, StateError> {
        match self.next()? {
            (_, Value::Sum(sum)) => Ok((**sum).clone()),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// So many exact sums.
    pub(super) fn sums<const N: usize>(&mut self) -> Result<[ExactSum; N], StateError> {
        match self.next()? {
            (_, Value::Sums(sums)) if sums.is_empty() => {
                Ok(std::array::from_fn(|_| ExactSum::default()))
            }
            (name, Value::Sums(sums)) => {
                let sums = <[ExactSum; N]>::try_from(sums.clone());
                let is_written = |sums: &[ExactSum; N]| !sums.iter().all(ExactSum::is_zero);
                sums.ok().filter(is_written).ok_or(StateError::Malformed(name))
            }
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// A list of names.
    pub(super) fn names(&mut self) -> Result<Vec<Arc<str>>, StateError> {
        match self.next()? {
            (_, Value::Names(names)) => Ok(names.clone()),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// As many exact sums as there are.
    pub(super) fn all_sums(&mut self) -> Result<&'v [ExactSum], StateError> {
        match self.next()? {
            (_, Value::Sums(sums)) => Ok(sums),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// Counts by index, as they are.
    pub(super) fn pairs(&mut self) -> Result<&'v [(u64, u64)], StateError> {
        match self.next()? {
            (_, Value::Cells(pairs)) => Ok(pairs),
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// Weights of that many places.
    pub(super) fn weights(&mut self, places: u32) -> Result<Weights, StateError> {
        match self.next()? {
            (name, Value::Cells(pairs)) => {
                Weights::from_pairs(pairs, places).ok_or(StateError::Malformed(name))
            }
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }

    /// Cells of a lattice of that many.
    pub(super) fn cells(&mut self, cells: u16) -> Result<Cells, StateError> {
        match self.next()? {
            (name, Value::Cells(pairs)) => {
                Cells::from_pairs(pairs, cells).ok_or(StateError::Malformed(name))
            }
            (name, _) => Err(StateError::WrongKind(name)),
        }
    }
}
