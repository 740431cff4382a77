//! Labels: those that matched nothing yet, and the records of those that matched.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

use hashbrown::HashMap;
use smallvec::SmallVec;

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

/// Labels of one ID by number: nearly always one, which needs no memory of its own.
#[derive(Debug, Default)]
struct Numbers {
    list: SmallVec<[u64; 2]>,
    /// How many of them are gone by now: a producer may give all labels one ID, and to close each hole at once would
    /// cost as much as there are labels.
    gone: usize,
}

/// Labels that matched nothing yet and may still match: until the inference clock has passed their limit.
#[derive(Debug, Default)]
pub struct KeptLabels {
    /// In the order of offsets; a label that is gone leaves a hole until the front or a clean-up reaches it.
    labels: VecDeque<Option<Placed>>,
    /// The number of the first of `labels`.
    first: u64,
    alive: usize,
    by_id: HashMap<RequestId, Numbers, foldhash::fast::FixedState>,
    limits: BinaryHeap<Reverse<(LogTime, u64)>>,
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

    /// Memory held, in bytes, nearly.
    pub fn bytes(&self) -> usize {
        self.labels.capacity() * size_of::<Option<Placed>>()
            + self.by_id.capacity() * (size_of::<(RequestId, Numbers)>() + 1)
            + self.limits.capacity() * size_of::<(LogTime, u64)>()
    }

    /// The offset of the oldest.
    pub fn oldest_offset(&self) -> Option<i64> {
        self.labels
            .front()
            .map(|label| label.as_ref().expect("holes at the front are removed").offset)
    }

    /// Adds one; offsets ascend. It is kept until a clock has passed `limit`.
    pub fn push(&mut self, placed: Placed, limit: LogTime) {
        let number = self.first + u64::try_from(self.labels.len()).expect("a length fits u64");
        self.labels.push_back(Some(placed));
        self.by_id.entry(placed.label.id).or_default().list.push(number);
        self.limits.push(Reverse((limit, number)));
        self.alive += 1;
    }

    /// Takes out those of an ID that `wanted` says yes to, in the order of offsets.
    pub fn take(
        &mut self,
        id: RequestId,
        mut wanted: impl FnMut(&Placed) -> bool,
        out: &mut Vec<Placed>,
    ) {
        let Some(numbers) = self.by_id.get_mut(&id) else { return };
        let (labels, first, alive) = (&mut self.labels, self.first, &mut self.alive);
        numbers.list.retain(|&mut number| {
            if number < first {
                return false;
            }
            let slot = &mut labels[index(number, first)];
            let take = slot.as_ref().is_some_and(&mut wanted);
            if take {
                out.extend(slot.take());
                *alive -= 1;
            }
            slot.is_some()
        });
        numbers.gone = 0;
        if numbers.list.is_empty() {
            self.by_id.remove(&id);
        }
        self.tidy();
    }

    /// Takes out one whose limit `has_passed`.
    pub fn expire(&mut self, has_passed: impl Fn(LogTime) -> bool) -> Option<Placed> {
        while let Some(&Reverse((limit, number))) = self.limits.peek() {
            let is_gone = number < self.first || self.labels[index(number, self.first)].is_none();
            if !is_gone && !has_passed(limit) {
                return None;
            }
            self.limits.pop();
            if is_gone {
                continue;
            }
            let placed = self.labels[index(number, self.first)].take()?;
            self.alive -= 1;
            let numbers = self.by_id.get_mut(&placed.label.id).expect("a kept label has its ID");
            numbers.gone += 1;
            let left = numbers.list.len() - numbers.gone;
            if left == 0 {
                self.by_id.remove(&placed.label.id);
            } else if numbers.gone > left {
                let (labels, first) = (&self.labels, self.first);
                numbers.list.retain(|&mut n| n >= first && labels[index(n, first)].is_some());
                numbers.gone = 0;
            }
            self.tidy();
            return Some(placed);
        }
        None
    }

    fn tidy(&mut self) {
        while let Some(None) = self.labels.front() {
            self.labels.pop_front();
            self.first += 1;
        }
        if self.labels.len() > 1024 && self.alive * 2 < self.labels.len() {
            self.renumber();
        }
        if self.limits.len() > 1024 && self.alive * 2 < self.limits.len() {
            let (labels, first) = (&self.labels, self.first);
            self.limits.retain(|Reverse((_, n))| *n >= first && labels[index(*n, first)].is_some());
        }
    }

    /// Closes the holes behind a label that stays long.
    fn renumber(&mut self) {
        let first = self.first;
        let mut moved = vec![None; self.labels.len()];
        let mut next = first;
        for (slot, label) in moved.iter_mut().zip(&self.labels) {
            if label.is_some() {
                *slot = Some(next);
                next += 1;
            }
        }
        self.labels.retain(Option::is_some);
        for numbers in self.by_id.values_mut() {
            numbers.list.retain(|number| {
                let place = (*number >= first).then(|| moved[index(*number, first)]).flatten();
                place.inspect(|&place| *number = place).is_some()
            });
            numbers.gone = 0;
        }
        let limits = std::mem::take(&mut self.limits);
        self.limits = limits
            .into_iter()
            .filter(|Reverse((_, n))| *n >= first)
            .filter_map(|Reverse((limit, n))| Some(Reverse((limit, moved[index(n, first)]?))))
            .collect();
    }
}

fn index(number: u64, first: u64) -> usize {
    usize::try_from(number - first).expect("an index into memory")
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
            kept.push(Placed { label, offset, arrival: LogTime(0) }, limit);
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
            let placed = Placed {
                label: label(id, None, Target::Boolean(true), 1),
                offset,
                arrival: LogTime(offset),
            };
            // The first stays for ever, as a label with a timestamp far ahead does.
            let limit = if offset == 0 { i64::MAX } else { offset + 500 };
            kept.push(placed, LogTime(limit));
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
        assert!(kept.labels.len() < 2048, "holes are closed");
    }
}
