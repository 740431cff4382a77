//! The state of one key, and the row that carries it to the state table and back.

use std::borrow::Cow;
use std::sync::Arc;

use super::event::PartitionId;
use super::floor::Mark;
use super::metrics::Families;
use super::metrics::accumulator::{StateError, Value};
use super::metrics::dictionary::ClassCaps;
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

/// Which of several rows of one key is the truth: the greatest. A generation in the top 16 bits, then twice the number of
/// records that it counts, plus one when sealed. A state row counts all records that were folded in, a metric row those
/// that its figures are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(pub u64);

impl Version {
    const GENERATION_SHIFT: u32 = 48;
    /// Set in versions of metric rows. Earlier versions of the program counted all records in all of them and did not set
    /// it: rows that count fewer win over theirs all the same.
    const OF_METRICS: u64 = 1 << 46;
    pub(crate) const BODY: u64 = Self::OF_METRICS - 1;

    /// The version of a state row.
    pub fn of(generation: u16, records: u64, sealed: bool) -> Self {
        let body = records * 2 + u64::from(sealed);
        debug_assert!(body <= Self::BODY, "2^45 records in one window");
        Self((u64::from(generation) << Self::GENERATION_SHIFT) | body)
    }

    /// The version of several parts of one generation, which stands once and is never summed.
    pub fn sum(generation: u16, parts: impl IntoIterator<Item = Self>) -> Self {
        let body: u64 = parts.into_iter().map(|part| part.0 & Self::BODY).sum();
        Self((u64::from(generation) << Self::GENERATION_SHIFT) | body)
    }

    /// The version of a metric row that counts so much, plus one when the seal marks of all partitions have passed its
    /// window.
    pub fn of_metrics(generation: u16, counted: Self, sealed: bool) -> Self {
        let Self(sum) = Self::sum(generation, [counted, Self(u64::from(sealed))]);
        Self(sum | Self::OF_METRICS)
    }

    /// The generation.
    pub fn generation(self) -> u16 {
        u16::try_from(self.0 >> Self::GENERATION_SHIFT).expect("64 - 48 bits are left")
    }

    /// Records that it counts.
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
    /// What it holds.
    pub state: RowState,
}

/// The state of a row, in one of two forms. What a shard has folded is in neither: it is quick to add to, and figures
/// take several times as long to read from it.
#[derive(Clone, Debug)]
pub enum RowState {
    /// As it is stored: one value for each of [`state_columns`](super::metrics::state_columns), in that order. Of those
    /// that were read back only a merge says whether they are a state.
    Columns(Arc<[Value]>),
    /// As it is merged. Takes less memory.
    Families(Arc<Families>),
}

impl RowState {
    /// One value for each of [`state_columns`](super::metrics::state_columns), in that order.
    pub fn columns(&self) -> Cow<'_, [Value]> {
        match self {
            Self::Columns(values) => Cow::Borrowed(values),
            Self::Families(families) => Cow::Owned(families.state()),
        }
    }

    /// The families of a state with these caps.
    pub fn families(&self, caps: ClassCaps) -> Result<Arc<Families>, StateError> {
        match self {
            Self::Columns(values) => Families::restore(values, caps).map(Arc::new),
            Self::Families(families) => Ok(Arc::clone(families)),
        }
    }

    /// Makes families of the columns of a state with these caps, so that it is done once and not for each grain. Those
    /// of no such state stay as they are: the merge will say what is wrong with them.
    pub fn restore(&mut self, caps: ClassCaps) {
        if let Ok(families) = self.families(caps) {
            *self = Self::Families(families);
        }
    }
}

impl From<Vec<Value>> for RowState {
    fn from(values: Vec<Value>) -> Self {
        Self::Columns(values.into())
    }
}

/// Equal when the same is stored.
impl PartialEq for RowState {
    fn eq(&self, other: &Self) -> bool {
        self.columns() == other.columns()
    }
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
