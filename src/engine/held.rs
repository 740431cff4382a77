//! Held inferences: an open table of 40-byte entries, kept sorted by hash inside its runs.
//!
//! All windows share one table, so a label asks once and not once for each open window. The table is split into
//! parts by the lower bits of the ID, so that growing and sweeping touch one part at a time and never pause for
//! long. Entries are placed in the order of their hash: a look-up of an ID that is not there ends at the first
//! greater one, a rebuild is one pass in order, and a part may be filled to 87 %.

use super::event::RequestId;
use super::names::{ClassId, NameId};
use super::prefetch::prefetch;
use super::time::EventTime;
use super::window::Window;

/// Parts of the table: a power of two.
const PARTS: usize = 256;
/// A part grows when it is fuller than this share of its home slots, in percent.
const FULL_PERCENT: usize = 87;
/// It grows by one in so many home slots: less would copy each entry more often, more would leave more of them empty.
const GROWTH: usize = 4;
/// Home slots of the smallest part.
const FEWEST_HOMES: usize = 4;

/// One inference that waits for labels, or an identity that is only remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    high: u64,
    low: u64,
    /// The bits of the score or of the predicted number; [`NO_NUMBER`] where there is none. Of several classes the
    /// predicted one in the upper half, [`NO_CLASS`] where there is none, and the reference to the scores in the lower.
    number: u64,
    group_and_flags: u32,
    /// Milliseconds from the window's start to the inference.
    pub time_in_window: u32,
    /// Records from the group's base offset to the inference.
    pub offset_in_group: u32,
    /// One more than the index of the winning label's record in the window's labels; 0 while there is none.
    pub label: u32,
}

const NO_NUMBER: u64 = u64::MAX;
const NO_CLASS: u32 = u32::MAX;
const EMPTY: u32 = u32::MAX;
const GROUP_BITS: u32 = 27;
const GROUP_MASK: u32 = (1 << GROUP_BITS) - 1;
/// Of a binary prediction.
const FLAG_DECIDED: u32 = 1 << 27;
const FLAG_POSITIVE: u32 = 1 << 28;
const FLAG_OFF_THRESHOLD: u32 = 1 << 29;
const FLAG_BINARY: u32 = 1 << 30;
/// Of one that is not binary.
const FLAG_REGRESSION: u32 = FLAG_DECIDED;
const FLAG_MULTICLASS: u32 = FLAG_POSITIVE;
const FLAG_REMEMBERED: u32 = 1 << 31;

/// Groups that entries can point to.
pub const MAX_GROUPS: usize = 1 << GROUP_BITS;

/// What an inference predicted, as far as its label's figures need it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Prediction {
    /// Nothing that a label could be held against.
    #[default]
    None,
    /// One of two classes.
    Binary {
        /// Positive or negative, where decided.
        decision: Option<bool>,
        /// Whether its own prediction differs from what its score would decide.
        off_threshold: bool,
        /// Probability of the positive class.
        score: Option<f64>,
    },
    /// A number; none where the record has none.
    Regression(Option<f64>),
    /// One of several classes.
    Multiclass {
        /// The class that it decided for, where it has a decision.
        class: Option<ClassId>,
        /// The reference to its scores in the window's [`ScoreLists`](super::scored::ScoreLists); 0 where it has none.
        scores: u32,
    },
}

impl Prediction {
    /// Positive or negative, where it is binary and decided.
    pub fn decision(&self) -> Option<bool> {
        match self {
            Self::Binary { decision, .. } => *decision,
            Self::None | Self::Regression(_) | Self::Multiclass { .. } => None,
        }
    }

    /// The score, where it is binary and has one.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Binary { score, .. } => *score,
            Self::None | Self::Regression(_) | Self::Multiclass { .. } => None,
        }
    }
}

impl Entry {
    /// Its event time; `window` is the one that it lies in.
    pub fn event_time(&self, window: Window) -> EventTime {
        EventTime(window.start.0 + i64::from(self.time_in_window))
    }

    /// An accepted inference.
    pub fn accepted(id: RequestId, group: u32, prediction: &Prediction) -> Self {
        let (flags, number) = match *prediction {
            Prediction::None => (0, NO_NUMBER),
            Prediction::Binary { decision, off_threshold, score } => {
                let decided = match decision {
                    None => 0,
                    Some(false) => FLAG_DECIDED,
                    Some(true) => FLAG_DECIDED | FLAG_POSITIVE,
                };
                let off = if off_threshold { FLAG_OFF_THRESHOLD } else { 0 };
                (FLAG_BINARY | decided | off, score.map_or(NO_NUMBER, f64::to_bits))
            }
            Prediction::Regression(number) => {
                (FLAG_REGRESSION, number.map_or(NO_NUMBER, f64::to_bits))
            }
            Prediction::Multiclass { class, scores } => {
                let class = class.map_or(NO_CLASS, |class| class.0.0);
                (FLAG_MULTICLASS, u64::from(class) << 32 | u64::from(scores))
            }
        };
        Self {
            high: id.high,
            low: id.low,
            number,
            group_and_flags: group | flags,
            time_in_window: 0,
            offset_in_group: 0,
            label: 0,
        }
    }

    /// An identity that no label can match, remembered so that its duplicates are known.
    pub fn remembered(id: RequestId, group: u32) -> Self {
        let mut entry = Self::accepted(id, group, &Prediction::default());
        entry.group_and_flags |= FLAG_REMEMBERED;
        entry
    }

    /// The group: model, version, segments and window.
    pub fn group(&self) -> u32 {
        self.group_and_flags & GROUP_MASK
    }

    /// Whether it is only remembered.
    pub fn is_remembered(&self) -> bool {
        self.group_and_flags & FLAG_REMEMBERED != 0
    }

    /// What it predicted.
    pub fn prediction(&self) -> Prediction {
        let flag = |bit| self.group_and_flags & bit != 0;
        let number = (self.number != NO_NUMBER).then(|| f64::from_bits(self.number));
        if flag(FLAG_BINARY) {
            Prediction::Binary {
                decision: flag(FLAG_DECIDED).then(|| flag(FLAG_POSITIVE)),
                off_threshold: flag(FLAG_OFF_THRESHOLD),
                score: number,
            }
        } else if flag(FLAG_REGRESSION) {
            Prediction::Regression(number)
        } else if flag(FLAG_MULTICLASS) {
            let [class, scores] = [self.number >> 32, self.number & u64::from(u32::MAX)]
                .map(|half| u32::try_from(half).expect("cut to 32 bits"));
            let class = (class != NO_CLASS).then_some(ClassId(NameId(class)));
            Prediction::Multiclass { class, scores }
        } else {
            Prediction::None
        }
    }

    fn is_empty(&self) -> bool {
        self.group_and_flags == EMPTY
    }

    fn empty() -> Self {
        Self {
            high: 0,
            low: 0,
            number: 0,
            group_and_flags: EMPTY,
            time_in_window: 0,
            offset_in_group: 0,
            label: 0,
        }
    }
}

/// Where an entry stands, until the next insertion or sweep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    part: usize,
    slot: usize,
}

/// The table.
#[derive(Debug)]
pub struct Held {
    parts: Vec<Part>,
    unswept: usize,
}

#[derive(Debug, Default)]
struct Part {
    slots: Vec<Entry>,
    homes: usize,
    filled: usize,
}

impl Default for Held {
    fn default() -> Self {
        Self { parts: (0..PARTS).map(|_| Part::default()).collect(), unswept: 0 }
    }
}

impl Held {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let slots: usize = self.parts.iter().map(|part| part.slots.capacity()).sum();
        slots * size_of::<Entry>()
    }

    /// The entries of an ID, oldest first. The caller skips those whose group is gone.
    pub fn find(&self, id: RequestId) -> impl Iterator<Item = (Place, &Entry)> {
        let part = part_of(id);
        let Part { slots, homes, .. } = &self.parts[part];
        let from = if slots.is_empty() { 0 } else { home(id.high, *homes) };
        slots[from..]
            .iter()
            .enumerate()
            .take_while(move |(_, entry)| !entry.is_empty() && entry.high <= id.high)
            .filter(move |(_, entry)| entry.high == id.high && entry.low == id.low)
            .map(move |(i, entry)| (Place { part, slot: from + i }, entry))
    }

    /// Asks for where the entries of an ID would stand, so that a look-up soon after finds them in the cache: what
    /// several look-ups need comes together, and not after one another.
    #[inline]
    pub fn prefetch(&self, id: RequestId) {
        let Part { slots, homes, .. } = &self.parts[part_of(id)];
        let from = home(id.high, *homes);
        // Runs are a few entries long, and one entry is two thirds of a cache line.
        [from, from + 2, from + 4].iter().filter_map(|&at| slots.get(at)).for_each(prefetch);
    }

    /// The entry at a place that [`find`](Self::find) gave.
    pub fn get(&self, place: Place) -> &Entry {
        &self.parts[place.part].slots[place.slot]
    }

    /// The same, to be changed.
    pub fn at(&mut self, place: Place) -> &mut Entry {
        &mut self.parts[place.part].slots[place.slot]
    }

    /// Adds an entry behind those of the same ID. `is_alive` tells which groups still matter: once one no longer does, a
    /// [sweep](Self::begin_sweep) must have begun.
    pub fn insert(&mut self, entry: Entry, is_alive: &impl Fn(u32) -> bool) {
        let id = RequestId { high: entry.high, low: entry.low };
        let index = part_of(id);
        // Where the sweep has been all entries are alive: their groups, which lie far apart, need not be asked.
        let is_swept = index >= self.unswept;
        let is_alive = &|group| is_swept || is_alive(group);
        let part = &mut self.parts[index];
        if (part.filled + 1) * 100 > part.homes * FULL_PERCENT {
            let alive = if is_swept { part.filled } else { part.alive(is_alive) };
            part.grow(index, alive, is_alive);
        }
        while !part.try_insert(entry) {
            let homes = part.homes + part.homes / GROWTH + GROWTH;
            part.rebuild(homes, is_alive);
        }
    }

    /// Asks for all entries of groups that are gone to be swept out.
    pub fn begin_sweep(&mut self) {
        self.unswept = PARTS;
    }

    /// Sweeps one part, if a sweep is under way. True when this ended the sweep: from then on no entry points to a
    /// group that was gone when it began.
    pub fn sweep_step(&mut self, is_alive: &impl Fn(u32) -> bool) -> bool {
        let Some(left) = self.unswept.checked_sub(1) else { return false };
        self.unswept = left;
        self.parts[left].shrink(left, is_alive);
        left == 0
    }

    /// Slots of all parts: what a whole sweep costs.
    pub fn slots(&self) -> usize {
        self.parts.iter().map(|part| part.slots.len()).sum()
    }
}

impl Part {
    fn try_insert(&mut self, entry: Entry) -> bool {
        let mut at = home(entry.high, self.homes);
        while at < self.slots.len()
            && !self.slots[at].is_empty()
            && self.slots[at].high <= entry.high
        {
            at += 1;
        }
        let Some(free) = self.slots[at..].iter().position(Entry::is_empty) else { return false };
        self.slots.copy_within(at..at + free, at + 1);
        self.slots[at] = entry;
        self.filled += 1;
        true
    }

    fn grow(&mut self, index: usize, alive: usize, is_alive: &impl Fn(u32) -> bool) {
        let homes = if alive * 100 < self.homes * 70 {
            self.homes
        } else {
            // Parts begin at different sizes, so that they do not all grow at once.
            (self.homes + self.homes / GROWTH + 1).max(FEWEST_HOMES + index / 64)
        };
        self.rebuild(homes, is_alive);
    }

    fn shrink(&mut self, index: usize, is_alive: &impl Fn(u32) -> bool) {
        let alive = self.alive(is_alive);
        if alive < self.filled {
            let wanted = (alive + alive / 4).max(FEWEST_HOMES + index / 64);
            self.rebuild(wanted.min(self.homes), is_alive);
        }
    }

    fn alive(&self, is_alive: &impl Fn(u32) -> bool) -> usize {
        self.slots.iter().filter(|entry| !entry.is_empty() && is_alive(entry.group())).count()
    }

    /// Moves all entries that are alive into a part of `homes` home slots, in one pass in order.
    fn rebuild(&mut self, homes: usize, is_alive: &impl Fn(u32) -> bool) {
        let old = std::mem::take(&mut self.slots);
        // Slots behind the last home slot are for runs that end there.
        let mut slots = vec![Entry::empty(); homes + (homes / 4).clamp(2, 24) + homes / 64];
        let mut next = 0;
        let mut filled = 0;
        for entry in old.into_iter().filter(|e| !e.is_empty() && is_alive(e.group())) {
            let at = home(entry.high, homes).max(next);
            if at == slots.len() {
                slots.reserve_exact(8);
                slots.push(entry);
            } else {
                slots[at] = entry;
            }
            next = at + 1;
            filled += 1;
        }
        *self = Self { slots, homes, filled };
    }
}

#[expect(
    clippy::as_conversions,
    reason = "cut to the lower bits on purpose; PARTS is a power of two"
)]
fn part_of(id: RequestId) -> usize {
    id.low as usize & (PARTS - 1)
}

/// The home slot of a hash: rises with the hash.
#[expect(
    clippy::as_conversions,
    reason = "usize fits u128, and the upper half of the product is below `homes`"
)]
fn home(high: u64, homes: usize) -> usize {
    ((u128::from(high) * homes as u128) >> 64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn id(n: u64) -> RequestId {
        RequestId::of(&n.to_le_bytes())
    }

    #[test]
    fn an_entry_is_40_bytes() {
        assert_eq!(size_of::<Entry>(), 40);
    }

    #[test]
    fn an_entry_gives_back_what_it_was_made_of() {
        let numbers = [None, Some(0.0), Some(1.0), Some(0.3), Some(-1e150)];
        let mut all = vec![Prediction::None];
        all.extend(numbers.map(Prediction::Regression));
        for class in [None, Some(0), Some(u32::MAX - 1)].map(|n| n.map(|n| ClassId(NameId(n)))) {
            all.extend([0, 1, u32::MAX].map(|scores| Prediction::Multiclass { class, scores }));
        }
        for decision in [None, Some(false), Some(true)] {
            for off_threshold in [false, true] {
                all.extend(numbers.map(|score| Prediction::Binary {
                    decision,
                    off_threshold,
                    score,
                }));
            }
        }
        for prediction in all {
            let entry = Entry::accepted(id(7), 12345, &prediction);
            assert_eq!(entry.prediction(), prediction);
            assert_eq!(entry.group(), 12345);
            assert!(!entry.is_remembered());
        }
        assert!(Entry::remembered(id(7), 3).is_remembered());
    }

    /// Against a map: several entries of one ID, groups that die, sweeps in between.
    #[test]
    fn finds_what_a_map_finds() {
        let mut held = Held::default();
        let mut map: BTreeMap<u64, Vec<u32>> = BTreeMap::new();
        let mut oldest = 0;
        for n in 0..60_000_u64 {
            let key = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20_000;
            let group = u32::try_from(n / 1000).unwrap();
            let mut entry = Entry::accepted(id(key), group, &Prediction::default());
            entry.offset_in_group = u32::try_from(n).unwrap();
            held.insert(entry, &|group| group >= oldest);
            map.entry(key).or_default().push(entry.offset_in_group);
            // Some sweeps end at once, some in small steps, and some not before the next begins.
            if n % 5000 == 4999 {
                oldest = group.saturating_sub(9);
                held.begin_sweep();
                while n % 15_000 == 4999 && !held.sweep_step(&|group| group >= oldest) {}
            }
            if n % 61 == 0 {
                held.sweep_step(&|group| group >= oldest);
            }
        }
        while held.unswept > 0 {
            held.sweep_step(&|group| group >= oldest);
        }
        for key in 0..20_001 {
            let found: Vec<u32> = held
                .find(id(key))
                .filter(|(_, e)| e.group() >= oldest)
                .map(|(_, e)| e.offset_in_group)
                .collect();
            let expected: Vec<u32> = map
                .get(&key)
                .into_iter()
                .flatten()
                .copied()
                .filter(|n| n / 1000 >= oldest)
                .collect();
            assert_eq!(found, expected, "key {key}");
        }
        let alive: usize = held.parts.iter().map(|part| part.filled).sum();
        assert_eq!(alive, 10_000);
    }

    #[test]
    fn equal_upper_halves_are_told_apart() {
        let mut held = Held::default();
        for low in (0..6400).step_by(64) {
            let entry = Entry::accepted(RequestId { high: 5, low }, 1, &Prediction::default());
            held.insert(entry, &|_| true);
        }
        for low in (0..6400).step_by(64) {
            assert_eq!(held.find(RequestId { high: 5, low }).count(), 1);
        }
        assert_eq!(held.find(RequestId { high: 5, low: 6400 }).count(), 0);
    }
}
