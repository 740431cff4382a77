//! The state of one key, and the row that carries it to the state table and back.

use std::sync::Arc;

use super::event::PartitionId;
use super::floor::Mark;
use super::metrics::accumulator::Value;
use super::window::Window;

/// The segment that holds every inference of a model and version.
pub const ALL: &str = "all";

/// What a row is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The model, or `(other)`.
    pub model: Arc<str>,
    /// The version, `''` where none is given, or `(other)`.
    pub version: Arc<str>,
    /// `all`, or `dimension=value`.
    pub segment: Arc<str>,
    /// The window: of the base size in a state row, of any grain in a metric row.
    pub window: Window,
}

/// Which of several rows of one key and partition is the truth: the greatest. A generation in the top 16 bits, then
/// twice the number of records folded in, plus one when sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    const GENERATION_SHIFT: u32 = 48;
    const BODY: u64 = (1 << Self::GENERATION_SHIFT) - 1;

    /// The version of a state row.
    pub fn of(generation: u16, records: u64, sealed: bool) -> Self {
        let body = records * 2 + u64::from(sealed);
        debug_assert!(body <= Self::BODY, "2^47 records in one window");
        Self((u64::from(generation) << Self::GENERATION_SHIFT) | body)
    }

    /// The version of a metric row over parts of one generation: the sum of theirs, plus one when the seal marks of
    /// all partitions have passed the window. The generation stands once, never summed.
    pub fn sum(generation: u16, parts: impl Iterator<Item = Self>, sealed: bool) -> Self {
        let body: u64 = parts.map(|part| part.0 & Self::BODY).sum::<u64>() + u64::from(sealed);
        Self((u64::from(generation) << Self::GENERATION_SHIFT) | body)
    }

    /// The generation.
    pub fn generation(self) -> u16 {
        u16::try_from(self.0 >> Self::GENERATION_SHIFT).expect("64 - 48 bits are left")
    }

    /// Records folded in.
    pub fn records(self) -> u64 {
        (self.0 & Self::BODY) / 2
    }

    /// Whether the state row is sealed.
    pub fn is_sealed(self) -> bool {
        self.0 & 1 == 1
    }
}

/// One type in memory, on its way to the state table, and read back.
#[derive(Clone, Debug, PartialEq)]
pub struct StateRow {
    /// What it is about; the window is one of the base size.
    pub key: Key,
    /// The partition whose records it holds.
    pub partition: PartitionId,
    /// Its version.
    pub version: Version,
    /// One value for each of [`STATE_COLUMNS`](super::metrics::state_columns), in that order.
    pub values: Arc<[Value]>,
}

/// What a shard hands to the writer at a flush.
#[derive(Clone, Debug, PartialEq)]
pub struct Frozen {
    /// The mark that the shard began from.
    pub began: Mark,
    /// Where the shard stands.
    pub mark: Mark,
    /// The rows of all keys that changed since they were last clean.
    pub states: Vec<StateRow>,
}
