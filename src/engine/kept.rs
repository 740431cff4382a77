//! Labels: those that matched nothing yet, and the records of those that matched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::FixedState;
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;

use super::event::{Label, RequestId, Target, WEIGHT_ONE};
use super::names::{ClassId, ModelId, NameId};
use super::time::{EventTime, LogTime};

/// A label and where it stands in its topic partition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placed {
    /// The label.
    pub label: Label,
    /// Its offset.
    pub offset: i64,
    /// When it arrived.
    pub arrival: LogTime,
}

/// A label that matched an inference, without what the inference knows: 32 bytes.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct LabelRecord {
    time: i64,
    value: u64,
    /// Offset from the window's base in the lower 42 bits, kind of the value in two, whether it names its model and
    /// whether its weight stands apart in one each, and the upper 18 bits of the arrival.
    packed: u64,
    /// The lower 32 bits of the arrival.
    arrival_low: u32,
    /// The reference of the next record of the same inference; 0 at the end.
    next: u32,
}

const OFFSET_BITS: u32 = 42;
/// Offsets are stored from -2^41 on, counted from that of the window's first record.
const OFFSET_BIAS: i64 = 1 << 41;
const KIND_SHIFT: u32 = 42;
const NAMED_SHIFT: u32 = 44;
const WEIGHTED_SHIFT: u32 = 45;
const ARRIVAL_SHIFT: u32 = 46;
/// Arrivals are stored from -2^49 on: 17,000 years around the epoch.
const ARRIVAL_BIAS: i64 = 1 << 49;

/// The labels matched in one window. Freed whole when the window is dropped.
#[derive(Debug, Default)]
pub struct MatchedLabels {
    chunks: Vec<Vec<LabelRecord>>,
    len: usize,
    base_offset: i64,
    /// The weights that are not 1, by reference.
    weights: BTreeMap<u32, u64>,
}

/// Records that are allocated at once. (Blocks of 64 kB waste the least in mimalloc.)
const CHUNK: usize = 2000;

impl MatchedLabels {
    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter();
        let records: usize =
            chunks.map(|chunk| chunk.capacity() * size_of::<LabelRecord>() + 24).sum();
        records + self.weights.len() * 24
    }

    /// Adds a record with the given successor (0: none); its own reference is returned, never 0.
    pub fn push(&mut self, placed: &Placed, next: u32) -> u32 {
        if self.len.is_multiple_of(CHUNK) {
            // The first chunk grows with need: most windows of a quiet partition hold few labels.
            let capacity = if self.len == 0 { 0 } else { CHUNK };
            self.chunks.push(Vec::with_capacity(capacity));
        }
        if self.len == 0 {
            self.base_offset = placed.offset;
        }
        let record = LabelRecord::pack(placed, self.base_offset, next);
        self.chunks.last_mut().expect("pushed above").push(record);
        self.len += 1;
        let reference = u32::try_from(self.len).expect("the byte budget ends long before 2^32");
        if placed.label.weight != WEIGHT_ONE {
            self.weights.insert(reference, placed.label.weight);
        }
        reference
    }

    /// Sets the successor of a record.
    pub fn set_next(&mut self, reference: u32, next: u32) {
        let (chunk, at) = place(reference);
        self.chunks[chunk][at].next = next;
    }

    /// The label of a reference, of the inference with this ID and model, and the reference of its successor.
    pub fn get(&self, reference: u32, id: RequestId, model: ModelId) -> (Placed, u32) {
        let (chunk, at) = place(reference);
        let record = &self.chunks[chunk][at];
        let mut placed = record.unpack(id, model, self.base_offset);
        if record.flag(WEIGHTED_SHIFT) {
            placed.label.weight = self.weights[&reference];
        }
        (placed, record.next)
    }
}

#[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
fn place(reference: u32) -> (usize, usize) {
    let index = reference as usize - 1;
    (index / CHUNK, index % CHUNK)
}

impl LabelRecord {
    #[expect(
        clippy::as_conversions,
        reason = "bits are packed on purpose; checks.rs bounds the times"
    )]
    fn pack(placed: &Placed, base_offset: i64, next: u32) -> Self {
        let label = &placed.label;
        let (kind, value) = match label.value {
            Target::Absent => (0, 0),
            Target::Number(x) => (1, x.to_bits()),
            Target::Boolean(b) => (2, u64::from(b)),
            Target::Class(class) => (3, u64::from(class.0.0)),
        };
        let offset = (placed.offset - base_offset + OFFSET_BIAS) as u64;
        assert!(offset < 1 << OFFSET_BITS, "labels of one window lie within 2^41 records");
        let arrival = placed.arrival.0.clamp(-ARRIVAL_BIAS, ARRIVAL_BIAS - 1) + ARRIVAL_BIAS;
        let packed = offset
            | kind << KIND_SHIFT
            | u64::from(label.model.is_some()) << NAMED_SHIFT
            | u64::from(label.weight != WEIGHT_ONE) << WEIGHTED_SHIFT
            | (arrival as u64 >> 32) << ARRIVAL_SHIFT;
        Self { time: label.time.0, value, packed, arrival_low: arrival as u32, next }
    }

    fn flag(&self, shift: u32) -> bool {
        (self.packed >> shift) & 1 == 1
    }

    #[expect(clippy::as_conversions, reason = "bits are unpacked as `pack` put them")]
    fn unpack(&self, id: RequestId, model: ModelId, base_offset: i64) -> Placed {
        let value = match (self.packed >> KIND_SHIFT) & 3 {
            0 => Target::Absent,
            1 => Target::Number(f64::from_bits(self.value)),
            2 => Target::Boolean(self.value == 1),
            _ => Target::Class(ClassId(NameId(self.value as u32))),
        };
        let offset = (self.packed & ((1 << OFFSET_BITS) - 1)) as i64;
        let arrival = (self.packed >> ARRIVAL_SHIFT) << 32 | u64::from(self.arrival_low);
        Placed {
            label: Label {
                id,
                model: self.flag(NAMED_SHIFT).then_some(model),
                time: EventTime(self.time),
                value,
                weight: WEIGHT_ONE,
            },
            offset: offset - OFFSET_BIAS + base_offset,
            arrival: LogTime(arrival as i64 - ARRIVAL_BIAS),
        }
    }
}

/// A label that is kept, or the hole that it left.
#[derive(Debug)]
struct Slot {
    placed: Option<Placed>,
    /// The number of the one before it with the same ID, which may be gone; 0 if there was none.
    older: u64,
}

/// Numbered labels in the order of offsets.
#[derive(Debug, Default)]
struct Queue {
    /// A label that is gone leaves a hole until the front or a clean-up reaches it.
    slots: VecDeque<Slot>,
    /// Numbers begin at 1. So many have left at the front.
    passed: u64,
}

impl Queue {
    fn at(&self, number: u64) -> Option<usize> {
        let at = number.checked_sub(self.passed + 1)?;
        Some(usize::try_from(at).expect("an index into memory"))
    }

    /// The label of a number, unless it is gone.
    fn placed(&self, number: u64) -> Option<&Placed> {
        self.slots[self.at(number)?].placed.as_ref()
    }

    /// The ID of a label that is not gone.
    fn id(&self, number: u64) -> RequestId {
        self.placed(number).expect("the newest of an ID is there").label.id
    }

    /// The number of the next older label of the same ID that is not gone; 0 if there is none.
    fn older(&self, mut number: u64) -> u64 {
        while let Some(at) = self.at(number) {
            number = self.slots[at].older;
            if self.placed(number).is_some() {
                return number;
            }
        }
        0
    }

    /// The numbers in it, those of holes too.
    fn numbers(&self) -> impl Iterator<Item = u64> + use<> {
        (self.passed + 1..).take(self.slots.len())
    }
}

/// Full lists grow by one in so many places: to double them could lead from well below the byte budget beyond it.
const GROWTH: usize = 8;
/// Fewer holes are not worth closing, and less room is not worth giving back.
const FEW: usize = 1024;

/// Labels that matched nothing yet and may still match: until the inference clock has passed their limit.
#[derive(Debug, Default)]
pub struct KeptLabels {
    queue: Queue,
    alive: usize,
    /// The number of the newest label of each ID. It is never gone: the others hang on it.
    newest: HashTable<u64>,
    hasher: FixedState,
    /// By arrival; some are gone.
    arrivals: BinaryHeap<Reverse<(LogTime, u64)>>,
}

impl KeptLabels {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.alive
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.alive == 0
    }

    /// Memory held, in bytes.
    pub fn bytes(&self) -> usize {
        self.queue.slots.capacity() * size_of::<Slot>()
            + self.newest.allocation_size()
            + self.arrivals.capacity() * size_of::<Reverse<(LogTime, u64)>>()
    }

    /// The offset of the oldest.
    pub fn oldest_offset(&self) -> Option<i64> {
        let front = self.queue.slots.front()?.placed.as_ref();
        Some(front.expect("holes at the front are removed").offset)
    }

    /// Adds one; offsets ascend.
    pub fn push(&mut self, placed: Placed) {
        let Self { queue: Queue { slots, passed }, arrivals, .. } = self;
        if slots.len() == slots.capacity() {
            slots.reserve_exact(slots.len() / GROWTH + GROWTH);
        }
        if arrivals.len() == arrivals.capacity() {
            arrivals.reserve_exact(arrivals.len() / GROWTH + GROWTH);
        }
        slots.push_back(Slot { placed: Some(placed), older: 0 });
        let number = *passed + u64::try_from(slots.len()).expect("a length fits u64");
        arrivals.push(Reverse((placed.arrival, number)));
        self.alive += 1;
        self.link(number);
    }

    /// Makes a label the newest of its ID.
    fn link(&mut self, number: u64) {
        let Self { queue, newest, hasher, .. } = self;
        let id = queue.id(number);
        let is_same = |&other: &u64| queue.id(other) == id;
        let hash = |&other: &u64| hasher.hash_one(queue.id(other));
        let older = match newest.entry(hasher.hash_one(id), is_same, hash) {
            Entry::Occupied(mut known) => std::mem::replace(known.get_mut(), number),
            Entry::Vacant(place) => {
                place.insert(number);
                0
            }
        };
        let at = queue.at(number).expect("its ID was read");
        queue.slots[at].older = older;
    }

    /// Takes out those of an ID that are `wanted`, in the order of offsets.
    pub fn take(&mut self, id: RequestId, wanted: impl Fn(&Placed) -> bool, out: &mut Vec<Placed>) {
        if self.is_empty() {
            return;
        }
        let Self { queue, newest, hasher, alive, .. } = self;
        let found = newest.find_entry(hasher.hash_one(id), |&number| queue.id(number) == id);
        let Ok(mut entry) = found else { return };
        let from = out.len();
        // From the newest to the oldest; those that stay are linked anew, past the holes between them.
        let (mut number, mut head, mut newer) = (*entry.get(), 0, None);
        while let Some(at) = queue.at(number) {
            let Slot { placed, older } = &mut queue.slots[at];
            let next = std::mem::take(older);
            if placed.as_ref().is_some_and(&wanted) {
                out.extend(placed.take());
                *alive -= 1;
            } else if placed.is_some() {
                match newer.replace(at) {
                    Some(newer) => queue.slots[newer].older = number,
                    None => head = number,
                }
            }
            number = next;
        }
        out[from..].reverse();
        if head == 0 {
            entry.remove();
        } else {
            *entry.get_mut() = head;
        }
        self.tidy();
    }

    /// Whether [`expire`](Self::expire) has nothing to look at.
    #[inline]
    pub fn none_can_expire(&self) -> bool {
        self.arrivals.is_empty()
    }

    /// Takes out one for whose arrival it `is_over`: in the order of arrivals.
    pub fn expire(&mut self, is_over: impl Fn(LogTime) -> bool) -> Option<Placed> {
        while let Some(&Reverse((arrival, number))) = self.arrivals.peek() {
            let is_kept = self.queue.placed(number).is_some();
            if is_kept && !is_over(arrival) {
                return None;
            }
            self.arrivals.pop();
            if is_kept {
                return self.remove(number);
            }
        }
        None
    }

    fn remove(&mut self, number: u64) -> Option<Placed> {
        let Self { queue, newest, hasher, alive, .. } = self;
        let id = queue.id(number);
        let found = newest.find_entry(hasher.hash_one(id), |&other| queue.id(other) == id);
        if let Ok(mut entry) = found
            && *entry.get() == number
        {
            let older = queue.older(number);
            if older == 0 {
                entry.remove();
            } else {
                *entry.get_mut() = older;
            }
        }
        let at = queue.at(number)?;
        let placed = queue.slots[at].placed.take();
        *alive -= 1;
        self.tidy();
        placed
    }

    fn tidy(&mut self) {
        let Queue { slots, passed } = &mut self.queue;
        while slots.front().is_some_and(|slot| slot.placed.is_none()) {
            slots.pop_front();
            *passed += 1;
        }
        if slots.len() > FEW && self.alive * 2 < slots.len() {
            self.renumber();
        }
        if self.arrivals.len() > FEW && self.alive * 2 < self.arrivals.len() {
            let queue = &self.queue;
            self.arrivals.retain(|Reverse((_, number))| queue.placed(*number).is_some());
        }
        self.shrink();
    }

    /// Closes the holes behind a label that stays long.
    fn renumber(&mut self) {
        self.queue.slots.retain(|slot| slot.placed.is_some());
        self.newest.clear();
        self.queue.numbers().for_each(|number| self.link(number));
        let arrival = |number| Some(Reverse((self.queue.placed(number)?.arrival, number)));
        self.arrivals = self.queue.numbers().filter_map(arrival).collect();
    }

    /// Gives back what many more labels took: what is allocated counts for the byte budget.
    fn shrink(&mut self) {
        let (most, enough) = (self.alive * 3 + FEW, self.alive + self.alive / 2);
        let Self { queue, newest, hasher, arrivals, .. } = self;
        if queue.slots.capacity() > most {
            queue.slots.shrink_to(enough);
        }
        if newest.capacity() > most {
            newest.shrink_to(enough, |&number| hasher.hash_one(queue.id(number)));
        }
        if arrivals.capacity() > most {
            arrivals.shrink_to(enough);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(id: u64, model: Option<ModelId>, value: Target, weight: u64) -> Label {
        Label { id: RequestId { high: id, low: id }, model, time: EventTime(-5), value, weight }
    }

    #[test]
    fn a_record_is_32_bytes_and_gives_back_what_it_was_made_of() {
        assert_eq!(size_of::<LabelRecord>(), 32);
        let model = ModelId(NameId(9));
        let mut matched = MatchedLabels::default();
        for value in [
            Target::Number(-0.1),
            Target::Boolean(true),
            Target::Boolean(false),
            Target::Class(ClassId(NameId(u32::MAX))),
        ] {
            for model_named in [None, Some(model)] {
                for (weight, arrival, offset) in
                    [(0, -1, 5), (1 << 40, 1_800_000_000_123, 0), (WEIGHT_ONE, 0, 1 << 40)]
                {
                    let label = label(3, model_named, value, weight);
                    let placed = Placed { label, offset, arrival: LogTime(arrival) };
                    let reference = matched.push(&placed, 17);
                    assert_eq!(matched.get(reference, label.id, model), (placed, 17));
                }
            }
        }
    }

    /// Against a plain list: many labels of few IDs, limits in no order, takes and expiries in between.
    #[test]
    fn many_labels_of_one_id_leave_as_from_a_list() {
        let mut kept = KeptLabels::default();
        let mut list: Vec<(i64, u64, LogTime)> = Vec::new();
        let mut random = 7_u64;
        let mut next = |below: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 33) % below
        };
        for offset in 0..20_000 {
            let id = next(3);
            let limit = LogTime(offset + i64::try_from(next(4000)).unwrap());
            let label = label(id, None, Target::Boolean(true), WEIGHT_ONE);
            kept.push(Placed { label, offset, arrival: limit });
            list.push((offset, id, limit));
            while let Some(gone) = kept.expire(|limit| limit.0 < offset) {
                let least =
                    list.iter().filter(|one| one.2.0 < offset).min_by_key(|one| (one.2, one.0));
                assert_eq!(Some(gone.offset), least.map(|one| one.0));
                list.retain(|one| one.0 != gone.offset);
            }
            assert!(list.iter().all(|one| one.2.0 >= offset), "all that have passed are gone");
            if next(2000) == 0 {
                let id = next(3);
                let mut taken = Vec::new();
                let is_even = |placed: &Placed| placed.offset % 2 == 0;
                kept.take(RequestId { high: id, low: id }, is_even, &mut taken);
                let (out, left) = list.iter().partition(|one| one.1 == id && one.0 % 2 == 0);
                let out: Vec<(i64, u64, LogTime)> = out;
                list = left;
                assert!(taken.iter().map(|one| one.offset).eq(out.iter().map(|one| one.0)));
            }
            assert_eq!(kept.len(), list.len());
            assert_eq!(kept.oldest_offset(), list.first().map(|one| one.0));
        }
    }

    #[test]
    fn kept_labels_leave_by_id_or_by_limit_and_the_oldest_is_known() {
        let mut kept = KeptLabels::default();
        let mut left: std::collections::BTreeMap<i64, u64> = std::collections::BTreeMap::new();
        for offset in 0..10_000_i64 {
            let id = u64::try_from(offset % 3001).unwrap();
            // The first stays for ever, as a label with a timestamp far ahead does.
            let limit = LogTime(if offset == 0 { i64::MAX } else { offset + 500 });
            let label = label(id, None, Target::Boolean(true), 1);
            kept.push(Placed { label, offset, arrival: limit });
            left.insert(offset, id);
            if offset % 7 == 0 {
                let wanted = u64::try_from((offset * 31) % 3001).unwrap();
                let mut out = Vec::new();
                let id = RequestId { high: wanted, low: wanted };
                kept.take(id, |placed| placed.offset != 0, &mut out);
                for placed in out {
                    assert_eq!(left.remove(&placed.offset), Some(wanted));
                }
            }
            while let Some(placed) = kept.expire(|limit| limit.0 < offset) {
                assert!(placed.offset + 500 < offset);
                assert!(left.remove(&placed.offset).is_some());
            }
            assert_eq!(kept.len(), left.len());
            assert_eq!(kept.oldest_offset(), left.keys().next().copied());
        }
        assert!(left.keys().all(|&o| o == 0 || o + 500 >= 9_999), "{left:?}");
        assert!(kept.queue.slots.len() < 2048, "holes are closed");
    }

    /// The byte budget goes by what is allocated: it grows in small steps, and falls once the labels are gone.
    #[test]
    fn memory_follows_the_labels() {
        for expires in [true, false] {
            let mut kept = KeptLabels::default();
            for offset in 0..100_000 {
                let id = u64::try_from(offset).unwrap();
                let label = label(id, None, Target::Boolean(true), WEIGHT_ONE);
                let before = kept.bytes();
                kept.push(Placed { label, offset, arrival: LogTime(offset) });
                let grown = kept.bytes() - before;
                assert!(offset < 10_000 || grown < before / 6, "{grown} more than {before}");
            }
            let full = kept.bytes();
            assert!(full > 100_000 * size_of::<Placed>(), "{full} bytes");
            for number in 0..99_000 {
                let mut out = Vec::new();
                if expires {
                    out.extend(kept.expire(|arrival| arrival.0 < 99_000));
                } else {
                    kept.take(RequestId { high: number, low: number }, |_| true, &mut out);
                }
                assert_eq!(out.len(), 1);
            }
            assert_eq!((kept.len(), kept.oldest_offset()), (1000, Some(99_000)));
            assert!(kept.bytes() < full / 20, "{} of {full} bytes", kept.bytes());
        }
    }
}
