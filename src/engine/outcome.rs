//! What became of each record, and the tally that adds up to the records read.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Stream;
use super::names::OTHER;

/// What became of one record.
#[must_use]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An inference that was folded into its window.
    Accepted,
    /// An inference of an identity that is already there.
    Duplicate,
    /// An inference that arrived more than `lateness` after its event.
    Late,
    /// A label that matched at least one inference.
    Matched,
    /// A label that matched none yet, but one may come. The only outcome that moves on: to matched or orphan.
    Kept,
    /// A label that matched none, and none can come.
    Orphan,
    /// A record of either topic that went to the dead letters.
    Dead,
}

/// Outcomes of the records of one topic partition and model. Signed, because a kept label may have been counted
/// under `(other)` before and moves on under its own name; sums over all names are never negative.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcomes {
    /// Inferences: accepted. Labels: matched.
    pub first: i64,
    /// Inferences: duplicate. Labels: kept.
    pub second: i64,
    /// Inferences: late. Labels: orphan.
    pub third: i64,
    /// Either: dead.
    pub dead: i64,
}

impl Outcomes {
    /// All of them: the records read.
    pub fn records(&self) -> i64 {
        self.first + self.second + self.third + self.dead
    }

    /// Adds `by` to the count of one outcome.
    pub fn count(&mut self, outcome: Outcome, by: i64) {
        let slot = match outcome {
            Outcome::Accepted | Outcome::Matched => &mut self.first,
            Outcome::Duplicate | Outcome::Kept => &mut self.second,
            Outcome::Late | Outcome::Orphan => &mut self.third,
            Outcome::Dead => &mut self.dead,
        };
        *slot += by;
    }

    /// Adds the counts of `other`.
    pub fn add(&mut self, other: &Self) {
        self.first += other.first;
        self.second += other.second;
        self.third += other.third;
        self.dead += other.dead;
    }

    /// Whether nothing was counted.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }
}

/// Outcomes since the job's start, by topic and the model that the record names (`''` where it names none; a label
/// that names none counts for the model that it matched). A function of the two prefixes read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    by_model: [BTreeMap<Arc<str>, Outcomes>; 2],
}

impl Tally {
    /// Adds outcomes to those of a model.
    pub fn add(&mut self, stream: Stream, model: &Arc<str>, outcomes: &Outcomes) {
        if !outcomes.is_zero() {
            self.by_model[stream.index()].entry(Arc::clone(model)).or_default().add(outcomes);
        }
    }

    /// The outcomes of one topic, in the order of the models' names.
    pub fn of(&self, stream: Stream) -> impl Iterator<Item = (&Arc<str>, &Outcomes)> {
        self.by_model[stream.index()].iter()
    }

    /// Records read of one topic.
    pub fn records(&self, stream: Stream) -> i64 {
        self.of(stream).map(|(_, outcomes)| outcomes.records()).sum()
    }

    /// Keeps `''` and the `max_models` names that come first by XXH3-64 (ties by bytes), as `metrics.md` 1.3 orders
    /// names; the rest is summed under `(other)`. Idempotent, and the same whatever order the names came in.
    #[must_use]
    pub fn capped(&self, max_models: usize) -> Self {
        let mut capped = Self::default();
        for stream in Stream::BOTH {
            let mut names: Vec<_> = self
                .of(stream)
                .filter(|(name, _)| !name.is_empty() && &***name != OTHER)
                .map(|(name, _)| (xxhash_rust::xxh3::xxh3_64(name.as_bytes()), name))
                .collect();
            names.sort_unstable();
            names.truncate(max_models);
            let kept: std::collections::BTreeSet<_> = names.into_iter().map(|(_, n)| n).collect();
            let other: Arc<str> = Arc::from(OTHER);
            for (name, outcomes) in self.of(stream) {
                let is_kept = name.is_empty() || kept.contains(name);
                capped.add(stream, if is_kept { name } else { &other }, outcomes);
            }
        }
        capped
    }
}
