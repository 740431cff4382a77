//! What became of each record, and the tally that adds up to the records read.

use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::event::Stream;
use super::names::{NameId, OTHER, index};

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

/// What the outcomes of one shard are counted by.
type Key = (Stream, NameId);

/// Outcomes by topic and model's number. Each record is counted, most of few models: where those stand is remembered.
#[derive(Debug, Default)]
pub struct Counts {
    all: Vec<(Key, Outcomes)>,
    places: HashMap<Key, usize, FixedState>,
    /// Places in `all` of those counted lately, by the lower bits of the model's number.
    lately: [[usize; Self::LATELY]; 2],
}

impl Counts {
    const LATELY: usize = 16;

    /// Those of a key.
    #[inline]
    pub fn of(&mut self, key: Key) -> &mut Outcomes {
        let (stream, model) = key;
        let lately = &mut self.lately[stream.index()][index(model.0) % Self::LATELY];
        if self.all.get(*lately).is_none_or(|(known, _)| *known != key) {
            *lately = *self.places.entry(key).or_insert_with(|| {
                self.all.push((key, Outcomes::default()));
                self.all.len() - 1
            });
        }
        &mut self.all[*lately].1
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &(Key, Outcomes)> {
        self.all.iter()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_key_has_its_own_counts() {
        let (mut counts, mut map) = (Counts::default(), BTreeMap::<Key, i64>::new());
        for n in 0..5000_u32 {
            let model = NameId(n.wrapping_mul(0x9e37_79b9) >> 26);
            let stream = Stream::BOTH[usize::from(n % 3 == 0)];
            counts.of((stream, model)).count(Outcome::Dead, i64::from(n));
            *map.entry((stream, model)).or_default() += i64::from(n);
        }
        let found: BTreeMap<_, _> = counts.iter().map(|(key, of)| (*key, of.dead)).collect();
        assert_eq!(found, map);
        assert_eq!(counts.iter().count(), map.len());
    }
}
