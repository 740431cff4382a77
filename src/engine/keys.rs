//! The states of a window's keys, and how the records of a group reach those of its keys: each of them at once, or,
//! while many come, gathered in one place and added to all of them when the states are looked at. To merge is dearer
//! than to fold a record, but not than many: so a record costs about the same however many segments it belongs to. Where
//! a group has one key, its records go there, but they wait for each other as those that are gathered do. By the
//! families' laws the states are the same either way.

use super::event::Feature;
use super::group::Group;
use super::metrics::Families;
use super::metrics::accumulator::Accumulator;
use super::metrics::features::FeaturesInput;
use super::names::{ModelId, SegmentId, VersionId};
use super::waiting::{Row, Waiting};

/// Where a merge into two states begins to be cheaper than that many records folded twice.
pub const GATHER_AFTER: u32 = 32;

/// The state of one key in one window.
#[derive(Debug)]
pub struct KeyState {
    /// The model, after caps.
    pub model: ModelId,
    /// The version, after caps.
    pub version: VersionId,
    /// `all` or `dimension=value`, after caps.
    pub segment: SegmentId,
    /// The additive state.
    pub families: Families,
    /// Records folded in, without those that are gathered.
    pub records: u64,
    /// The epoch of the last of them past the mark that touched it; 0 for none.
    pub touched: u64,
    /// Its memory, and the records that it had when that was looked at. Whoever changes it without a record of its own
    /// takes this away.
    weighed: Option<(u64, usize)>,
}

impl KeyState {
    /// Of no record yet.
    pub fn new(model: ModelId, version: VersionId, segment: SegmentId) -> Self {
        let families = Families::default();
        Self { model, version, segment, families, records: 0, touched: 0, weighed: None }
    }

    /// Folds in what waits, before the state is read.
    pub fn settle(&mut self) {
        self.families.settle();
        self.weighed = None;
    }

    /// Memory in bytes. Most states have not changed since the last look and need no second one.
    pub fn bytes(&mut self) -> usize {
        if let Some((records, bytes)) = self.weighed
            && records == self.records
        {
            return bytes;
        }
        let bytes = size_of::<Self>() + 16 + self.families.heap_bytes();
        self.weighed = Some((self.records, bytes));
        bytes
    }
}

/// The keys of one group, and what is still to be added to all of them.
#[derive(Debug)]
pub struct Spread {
    keys: Box<[u32]>,
    gather_after: u32,
    /// Records of this epoch that went to the states one by one.
    records: u32,
    epoch: u64,
    gathered: Option<Box<Gathered>>,
}

/// What is still to be added to each of some states, which are not looked for until then.
#[derive(Debug, Default)]
struct Gathered {
    waiting: Waiting,
    /// What does not wait: of several states. That of a single one goes to itself.
    families: Option<Box<Families>>,
    records: u64,
    /// The newest epoch of the records.
    touched: u64,
}

impl Gathered {
    #[inline]
    fn count(&mut self, epoch: u64) {
        self.records += 1;
        self.touched = self.touched.max(epoch);
    }
}

impl Spread {
    /// Of the states with these numbers, at least one. So many records go to each of them before others are gathered.
    pub fn new(keys: Box<[u32]>, gather_after: u32) -> Self {
        Self { keys, gather_after, records: 0, epoch: 0, gathered: None }
    }

    /// The number of the state of the segment `all`.
    pub fn all(&self) -> u32 {
        self.keys[0]
    }

    /// Folds one record in. Records before the mark have epoch 0: they make no key dirty. Whether the next one is the
    /// first that is gathered: then [`settle`](Self::settle) has something to do.
    #[inline]
    pub fn fold(
        &mut self,
        states: &mut [KeyState],
        epoch: u64,
        mut record: impl FnMut(&mut Families),
    ) -> bool {
        if let Some(gathered) = &mut self.gathered {
            gathered.count(epoch);
            record(gathered_in(&self.keys, &mut gathered.families, states));
            return false;
        }
        for &key in &self.keys {
            let state = &mut states[at(key)];
            state.records += 1;
            state.touched = state.touched.max(epoch);
            record(&mut state.families);
        }
        if self.epoch != epoch {
            (self.epoch, self.records) = (epoch, 0);
        }
        self.records = self.records.saturating_add(1);
        let begins = self.records >= self.gather_after;
        if begins {
            let families = (self.keys.len() > 1).then(Box::default);
            self.gathered = Some(Box::new(Gathered { families, ..Gathered::default() }));
        }
        begins
    }

    /// The same of a record of this group that may wait for others.
    #[inline]
    pub fn fold_row(
        &mut self,
        states: &mut [KeyState],
        group: &Group,
        epoch: u64,
        row: Row,
    ) -> bool {
        let Some(gathered) = &mut self.gathered else {
            return self.fold(states, epoch, |families| row.fold(families, group));
        };
        gathered.count(epoch);
        if gathered.waiting.put(row) {
            self.fold_waiting(states, group);
        }
        false
    }

    /// Folds in what waits.
    fn fold_waiting(&mut self, states: &mut [KeyState], group: &Group) {
        if let Some(gathered) = &mut self.gathered {
            let families = gathered_in(&self.keys, &mut gathered.families, states);
            gathered.waiting.fold(families, group);
        }
    }

    /// Folds in the values of the features. Which features a state keeps is decided by each state, when the first value
    /// comes: of too many the first count.
    pub fn fold_features(&mut self, states: &mut [KeyState], input: &FeaturesInput<'_>) {
        let Self { keys, gathered, .. } = self;
        let is_counted_later = gathered.is_some();
        let families = gathered.as_mut().and_then(|gathered| gathered.families.as_mut());
        let Some(families) = families else {
            for &key in &*keys {
                let state = &mut states[at(key)];
                state.families.features.get_mut().add(input);
                if is_counted_later {
                    state.weighed = None;
                }
            }
            return;
        };
        let features = families.features.get_mut();
        if features.add_as_known(input.features) {
            return;
        }
        // The states have decided already on what is gathered.
        let decided = FeaturesInput { most: usize::MAX, ..*input };
        if input.features.iter().enumerate().all(|(place, of)| features.knows(place, of.name)) {
            return features.add(&decided);
        }
        // What is new to the states changes them at once.
        keys.iter().for_each(|&key| states[at(key)].weighed = None);
        for (place, &Feature { name, value }) in input.features.iter().enumerate() {
            let mut all_keep = || {
                keys.iter()
                    .all(|&key| states[at(key)].families.features.get_mut().keeps(name, input))
            };
            if features.knows(place, name) || all_keep() {
                features.add_value(place, name, &value, &decided);
                continue;
            }
            for &key in &*keys {
                let features = states[at(key)].families.features.get_mut();
                features.add_value(place, name, &value, input);
            }
        }
    }

    /// Makes the states hold all that a record may take back. True if nothing is gathered for them any more.
    pub fn make_whole(&mut self, states: &mut [KeyState], group: &Group) -> bool {
        let is_of_several = self.keys.len() > 1;
        if is_of_several {
            self.settle(states, group);
        } else {
            self.fold_waiting(states, group);
        }
        is_of_several
    }

    /// Adds what was gathered to the states, before they are read.
    pub fn settle(&mut self, states: &mut [KeyState], group: &Group) {
        self.records = 0;
        self.fold_waiting(states, group);
        let Some(mut gathered) = self.gathered.take() else { return };
        if let Some(families) = &mut gathered.families
            && families.features.get().is_some()
        {
            families.features.get_mut().fold_waiting();
        }
        for &key in &self.keys {
            let state = &mut states[at(key)];
            if let Some(families) = &gathered.families {
                state.families.merge(families);
            }
            state.records += gathered.records;
            state.touched = state.touched.max(gathered.touched);
            state.weighed = None;
        }
    }

    /// Memory of what is gathered, in bytes: once for each key, since so much may be added to all of them.
    pub fn gathered_bytes(&self) -> usize {
        let families = |it: &Families| size_of::<Families>() + it.heap_bytes();
        let bytes = |it: &Gathered| {
            let of_all = it.families.as_deref().map_or(0, families);
            size_of::<Gathered>() + it.waiting.heap_bytes() + of_all
        };
        let once = self.gathered.as_deref().map_or(0, bytes);
        once * self.keys.len()
    }
}

/// Where what is gathered is folded in.
#[inline]
fn gathered_in<'f>(
    keys: &[u32],
    of_several: &'f mut Option<Box<Families>>,
    states: &'f mut [KeyState],
) -> &'f mut Families {
    if let Some(families) = of_several {
        return families;
    }
    let state = &mut states[at(keys[0])];
    state.weighed = None;
    &mut state.families
}

#[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
pub(super) fn at(number: u32) -> usize {
    number as usize
}
