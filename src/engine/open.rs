//! What is not sealed yet: open windows, the states of their keys, and the groups that held inferences point to.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use std::hash::BuildHasher;

use super::caps::Admitted;
use super::event::{Inference, Segment, Target};
use super::group::Group;
use super::held::MAX_GROUPS;
use super::kept::MatchedLabels;
use super::keys::{KeyState, Spread, at};
use super::metrics::Families;
use super::metrics::dictionary::ClassCaps;
use super::metrics::features::FeaturesInput;
use super::metrics::reference::Profile;
use super::metrics::targets::TargetCells;
use super::names::{ClassId, ModelId, Names, SegmentId, VersionId};
use super::scored::ScoreLists;
use super::settings::{ModelSettings, Positive, ShardSettings};
use super::state::ALL;
use super::time::{EventTime, Millis};
use super::waiting::Row;
use super::window::Window;

/// One window that is not dropped yet.
#[derive(Debug)]
pub struct OpenWindow {
    /// Its bounds.
    pub window: Window,
    /// The first offset of an accepted or duplicate inference in it.
    pub first_offset: i64,
    /// The least offset of a label matched in it.
    pub first_label: Option<i64>,
    /// False for a window that was sealed before the mark: a replay only remembers its identities.
    pub is_folded: bool,
    /// The states of its keys. What they hold is whole after [`settle`](Open::settle).
    pub states: Vec<KeyState>,
    spreads: Vec<Spread>,
    /// The groups whose spreads gather at present; some may be settled already.
    gathering: Vec<u32>,
    /// The labels matched in it.
    pub labels: MatchedLabels,
    /// The scores by class of its held inferences.
    pub scores: ScoreLists,
    by_key: HashTable<u32>,
    groups: HashTable<u32>,
    admitted: Admitted,
    /// Set when it is sealed: the epoch of the freeze that took it along.
    pub sealed: Option<u64>,
}

/// All windows that are not dropped yet, and their groups.
#[derive(Debug, Default)]
pub struct Open {
    windows: Vec<Option<OpenWindow>>,
    by_start: BTreeMap<EventTime, usize>,
    groups: Vec<Group>,
    free_groups: Vec<u32>,
    retired_groups: Vec<u32>,
    hasher: FixedState,
    last: Option<(Window, usize)>,
    /// One for each reference.
    targets: Vec<Arc<TargetCells>>,
}

impl Open {
    /// The window that holds `time`; made if it is not there. `offset` is that of an inference in it.
    pub fn window_at(
        &mut self,
        time: EventTime,
        size: Millis,
        offset: i64,
        sealed_until: EventTime,
    ) -> usize {
        if let Some((window, slot)) = self.last
            && window.start <= time
            && time < window.end
        {
            return slot;
        }
        let window = Window::of(time, size);
        let slot = match self.by_start.get(&window.start) {
            Some(&slot) => slot,
            None => self.add(window, offset, window.end > sealed_until),
        };
        self.last = Some((window, slot));
        slot
    }

    fn add(&mut self, window: Window, first_offset: i64, is_folded: bool) -> usize {
        let open = OpenWindow {
            window,
            first_offset,
            first_label: None,
            is_folded,
            states: Vec::new(),
            spreads: Vec::new(),
            gathering: Vec::new(),
            labels: MatchedLabels::default(),
            scores: ScoreLists::default(),
            by_key: HashTable::new(),
            groups: HashTable::new(),
            admitted: Admitted::default(),
            sealed: None,
        };
        let slot = self.windows.iter().position(Option::is_none).unwrap_or_else(|| {
            self.windows.push(None);
            self.windows.len() - 1
        });
        self.windows[slot] = Some(open);
        self.by_start.insert(window.start, slot);
        slot
    }

    /// A window that is there.
    pub fn window(&self, slot: usize) -> &OpenWindow {
        self.windows[slot].as_ref().expect("a slot is given out for a window that is there")
    }

    /// A window that is there, with the groups.
    pub fn window_and_groups(&mut self, slot: usize) -> (&mut OpenWindow, &[Group]) {
        let window = self.windows[slot].as_mut();
        (window.expect("a slot is given out for a window that is there"), &self.groups)
    }

    /// All windows, by start.
    pub fn iter(&self) -> impl Iterator<Item = &OpenWindow> {
        self.by_start.values().map(|&slot| self.window(slot))
    }

    /// All windows.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut OpenWindow> {
        self.windows.iter_mut().flatten()
    }

    /// A group by number.
    pub fn group(&self, number: u32) -> &Group {
        &self.groups[at(number)]
    }

    /// Whether entries of this group still matter.
    pub fn is_alive(&self) -> impl Fn(u32) -> bool {
        |number| self.groups[at(number)].window.is_some()
    }

    /// Adds to all states what was gathered for them.
    pub fn settle(&mut self) {
        let Self { windows, groups, .. } = self;
        windows.iter_mut().flatten().for_each(|window| window.settle(groups));
    }

    /// Memory of the states of open windows, in bytes.
    pub fn state_bytes(&mut self) -> usize {
        let Self { windows, groups, .. } = self;
        // With what the allocator takes beside the three boxes of each.
        let of_group = |group: &Group| size_of::<Group>() + 48 + group.heap_bytes();
        let of_groups = groups.iter().map(of_group).sum::<usize>();
        let windows = windows.iter_mut().flatten().map(|window| window.state_bytes(groups));
        windows.sum::<usize>() + of_groups
    }

    /// Memory of matched labels and of scores by class, in bytes.
    pub fn record_bytes(&self) -> usize {
        self.iter().map(|window| window.labels.bytes() + window.scores.bytes()).sum()
    }

    /// The group of an accepted inference; made, with the states that it needs, if it is not there.
    pub fn group_of(
        &mut self,
        slot: usize,
        inference: &Inference<'_>,
        offset: i64,
        settings: &ShardSettings,
        names: &mut Names,
    ) -> u32 {
        let (model, version) = (inference.model, inference.version);
        if let Some(number) = self.find_group(slot, model, version, inference.segments, false) {
            let base = self.groups[at(number)].base_offset;
            if u32::try_from(offset - base).is_ok() {
                return number;
            }
        }
        let of_model = settings.model(names.text(model.0));
        let window = self.windows[slot].as_mut().expect("the caller's window is there");
        let keys = window.states_for(&self.hasher, settings, &of_model, inference, names);
        let spread = Spread::new(keys, settings.gather_after);
        let counted_as = window.states[at(spread.all())].model;
        let number = u32::try_from(window.spreads.len()).expect("there are fewer than groups");
        window.spreads.push(spread);
        let counted = settings.model(names.text(counted_as.0));
        let group = Group {
            number: 0,
            window: Some(slot),
            model,
            version,
            segments: inference.segments.into(),
            base_offset: offset,
            spread: Some(number),
            positive: positive_targets(&of_model, names),
            threshold: of_model.threshold,
            thresholds: counted.thresholds.into(),
            weighted: counted.weighted,
            targets: self.targets_of(counted.reference.as_ref(), names),
            decided: of_model.decided().map(|class| target(&class, names)),
            reference: counted.reference,
            distinct: counted.distinct,
            task: of_model.task,
            classes: settings.caps.classes(),
        };
        self.add_group(slot, group, false)
    }

    /// The group of an identity that is only remembered.
    pub fn remembered_group_of(&mut self, slot: usize, model: ModelId, version: VersionId) -> u32 {
        if let Some(number) = self.find_group(slot, model, version, &[], true) {
            return number;
        }
        let group = Group {
            number: 0,
            window: Some(slot),
            model,
            version,
            segments: Box::default(),
            base_offset: 0,
            spread: None,
            positive: Box::default(),
            threshold: 0.0,
            thresholds: Box::default(),
            weighted: false,
            reference: None,
            targets: None,
            decided: [Target::Absent; 2],
            distinct: Arc::default(),
            task: None,
            classes: ClassCaps::DEFAULT,
        };
        self.add_group(slot, group, true)
    }

    /// Where predictions and labels are counted that are compared with this reference.
    fn targets_of(
        &mut self,
        reference: Option<&Arc<Profile>>,
        names: &mut Names,
    ) -> Option<Arc<TargetCells>> {
        let reference = reference?;
        if let Some(known) = self.targets.iter().find(|known| known.is_of(reference)) {
            return Some(Arc::clone(known));
        }
        let targets = Arc::new(TargetCells::new(reference, names)?);
        self.targets.push(Arc::clone(&targets));
        Some(targets)
    }

    fn find_group(
        &self,
        slot: usize,
        model: ModelId,
        version: VersionId,
        segments: &[Segment],
        is_remembered: bool,
    ) -> Option<u32> {
        let hash = self.hasher.hash_one((model, version, segments, is_remembered));
        let found = self.window(slot).groups.find(hash, |&number| {
            let group = &self.groups[at(number)];
            group.model == model
                && group.version == version
                && *group.segments == *segments
                && group.spread.is_none() == is_remembered
        });
        found.copied()
    }

    fn add_group(&mut self, slot: usize, mut group: Group, is_remembered: bool) -> u32 {
        let hash = |g: &Group| {
            self.hasher.hash_one((g.model, g.version, &*g.segments, g.spread.is_none()))
        };
        debug_assert_eq!(group.spread.is_none(), is_remembered);
        let hash_of_new = hash(&group);
        let next = || u32::try_from(self.groups.len()).expect("checked below");
        let number = self.free_groups.pop().unwrap_or_else(next);
        group.number = number;
        if at(number) < self.groups.len() {
            self.groups[at(number)] = group;
        } else {
            self.groups.push(group);
        }
        assert!(self.groups.len() < MAX_GROUPS, "the byte budget ends before 2^27 groups");
        let groups = &self.groups;
        let window = self.windows[slot].as_mut().expect("the caller's window is there");
        // A group whose offsets are used up stays in the entries but not in the index.
        let same = |&other: &u32| {
            let (a, b) = (&groups[at(other)], &groups[at(number)]);
            a.model == b.model
                && a.version == b.version
                && a.segments == b.segments
                && a.spread.is_none() == b.spread.is_none()
        };
        match window.groups.find_mut(hash_of_new, same) {
            Some(known) => *known = number,
            None => {
                window.groups.insert_unique(hash_of_new, number, |&n| hash(&groups[at(n)]));
            }
        }
        number
    }

    /// Forgets the windows that `is_done` says yes to, and gives their ends and first offsets. Their groups stay
    /// dead until [`free_retired`](Self::free_retired).
    pub fn drop_windows(&mut self, is_done: impl Fn(&OpenWindow) -> bool) -> Vec<(EventTime, i64)> {
        let mut dropped = Vec::new();
        for slot in 0..self.windows.len() {
            if self.windows[slot].as_ref().is_some_and(&is_done) {
                let window = self.windows[slot].take().expect("just seen");
                self.by_start.remove(&window.window.start);
                dropped.push((window.window.end, window.first_offset));
            }
        }
        if !dropped.is_empty() {
            self.last = None;
            for (group, number) in self.groups.iter_mut().zip(0..) {
                if group.window.is_some_and(|slot| self.windows[slot].is_none()) {
                    group.window = None;
                    group.spread = None;
                    group.segments = Box::default();
                    group.positive = Box::default();
                    group.thresholds = Box::default();
                    group.reference = None;
                    group.targets = None;
                    group.distinct = Arc::default();
                    self.retired_groups.push(number);
                }
            }
        }
        dropped
    }

    /// No entry points to a dead group any more: their numbers may be used again. The lowest first, so that those at
    /// the end go unused and what many groups took is given back.
    pub fn free_retired(&mut self) {
        let last = self.groups.iter().rposition(|group| group.window.is_some());
        let alive = last.map_or(0, |last| last + 1);
        self.groups.truncate(alive);
        self.groups.shrink_to(alive * 2);
        self.free_groups.append(&mut self.retired_groups);
        self.free_groups.retain(|&number| at(number) < alive);
        self.free_groups.shrink_to(alive);
        self.free_groups.sort_unstable_by_key(|&number| Reverse(number));
    }
}

impl OpenWindow {
    /// Folds one record of a group into the states of its keys. Records before the mark have epoch 0: they make no key
    /// dirty.
    #[inline]
    pub fn fold(&mut self, group: &Group, epoch: u64, record: impl FnMut(&mut Families)) {
        if self.spreads[at(group.spread())].fold(&mut self.states, epoch, record) {
            self.gathering.push(group.number);
        }
    }

    /// The same of a record that may wait for others.
    #[inline]
    pub fn fold_row(&mut self, group: &Group, epoch: u64, row: Row) {
        if self.spreads[at(group.spread())].fold_row(&mut self.states, group, epoch, row) {
            self.gathering.push(group.number);
        }
    }

    /// Folds in the values of the features of a record of the group.
    pub fn fold_features(&mut self, group: &Group, input: &FeaturesInput<'_>) {
        self.spreads[at(group.spread())].fold_features(&mut self.states, input);
    }

    /// Makes the states of a group's keys hold all that a record may take back.
    pub fn make_whole(&mut self, group: &Group) {
        if self.spreads[at(group.spread())].make_whole(&mut self.states, group) {
            // It is listed again when it gathers again.
            self.gathering.retain(|other| *other != group.number);
        }
    }

    /// Adds to all states what was gathered for them.
    fn settle(&mut self, groups: &[Group]) {
        for number in self.gathering.drain(..) {
            let group = &groups[at(number)];
            self.spreads[at(group.spread())].settle(&mut self.states, group);
        }
    }

    fn state_bytes(&mut self, groups: &[Group]) -> usize {
        let states = self.states.iter_mut().map(KeyState::bytes).sum::<usize>();
        // With the keys of a spread, which are few.
        let spreads = self.spreads.len() * (size_of::<Spread>() + 16);
        let spread = |&number: &u32| &self.spreads[at(groups[at(number)].spread())];
        let gathered = self.gathering.iter().map(|number| spread(number).gathered_bytes());
        states + spreads + gathered.sum::<usize>()
    }

    /// The states that an inference is folded into: `all`, and one for each configured dimension that it has.
    fn states_for(
        &mut self,
        hasher: &FixedState,
        settings: &ShardSettings,
        of_model: &ModelSettings,
        inference: &Inference<'_>,
        names: &mut Names,
    ) -> Box<[u32]> {
        let caps = &settings.caps;
        let (model, version) = self.admitted.model(caps, inference.model, inference.version, names);
        let all = SegmentId(names.intern(ALL));
        let mut states = vec![self.state_of(hasher, model, version, all)];
        for segment in inference.segments {
            if !of_model.dimensions.contains(&segment.dimension) {
                continue;
            }
            let dimension = &settings.dimensions[usize::from(segment.dimension)];
            let segment = self.admitted.segment(caps, (model, version), *segment, dimension, names);
            let state = self.state_of(hasher, model, version, segment);
            if !states.contains(&state) {
                states.push(state);
            }
        }
        states.into()
    }

    fn state_of(
        &mut self,
        hasher: &FixedState,
        model: ModelId,
        version: VersionId,
        segment: SegmentId,
    ) -> u32 {
        let states = &mut self.states;
        let hash = hasher.hash_one((model, version, segment));
        let found = self.by_key.find(hash, |&i| {
            let state = &states[at(i)];
            (state.model, state.version, state.segment) == (model, version, segment)
        });
        if let Some(&i) = found {
            return i;
        }
        let i = u32::try_from(states.len()).expect("caps bound the keys");
        states.push(KeyState::new(model, version, segment));
        self.by_key.insert_unique(hash, i, |&i| {
            let state = &states[at(i)];
            hasher.hash_one((state.model, state.version, state.segment))
        });
        i
    }
}

fn positive_targets(model: &ModelSettings, names: &mut Names) -> Box<[Target]> {
    model.positive.iter().map(|positive| target(positive, names)).collect()
}

fn target(class: &Positive, names: &mut Names) -> Target {
    match class {
        Positive::Number(x) => Target::Number(*x),
        Positive::Boolean(b) => Target::Boolean(*b),
        Positive::Class(name) => Target::Class(ClassId(names.intern(name))),
    }
}

/// The name of a key's parts.
pub fn key_texts(state: &KeyState, names: &Names) -> [Arc<str>; 3] {
    [state.model.0, state.version.0, state.segment.0].map(|name| Arc::clone(names.text(name)))
}
