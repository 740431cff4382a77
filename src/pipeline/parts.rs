//! What the writer remembers of state rows: for each key and partition the row of the greatest version seen, while
//! its base window is open; and for each coarser window in use the merge of its base windows that are done.
//!
//! Pure: [`Parts::spans`] says which versions to ask for, [`Parts::missing`] which rows; then [`Parts::due`] gives the
//! keys, and [`Parts::rows`] the metric rows of one, so that those of all are never held at once. The effects are the
//! writer's.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use crate::engine::ShardSettings;
use crate::engine::event::PartitionId;
use crate::engine::metrics::accumulator::{Asked, StateError};
use crate::engine::metrics::dictionary::ClassCaps;
use crate::engine::state::{Key, StateRow, Version};
use crate::engine::time::{EventTime, Millis};
use crate::engine::window::Window;
use crate::evaluate::{Merged, MetricRow, RowContext, grain_name};
use crate::sink::StateVersion;

/// The least and greatest time that ClickHouse's `DateTime64` shows: 1900-01-01 and 2299-12-31.
const EARLIEST: EventTime = EventTime(-2_208_988_800_000);
const LATEST: EventTime = EventTime::LATEST;

/// Flushes after which a window that none of them touched is forgotten: where a partition stays silent, windows are
/// not sealed by all, and memory of them would grow without end. ClickHouse has what is needed of it again.
const FORGET_AFTER: u64 = 256;

/// Base windows that are evaluated at once, about, when many are sealed at once.
const PIECE_WINDOWS: i64 = 16;

/// A key without its window.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Slot {
    model: Arc<str>,
    version: Arc<str>,
    segment: Arc<str>,
}

impl Slot {
    fn of(key: &Key) -> Self {
        Self {
            model: Arc::clone(&key.model),
            version: Arc::clone(&key.version),
            segment: Arc::clone(&key.segment),
        }
    }

    fn key(&self, window: Window) -> Key {
        Key {
            model: Arc::clone(&self.model),
            version: Arc::clone(&self.version),
            segment: Arc::clone(&self.segment),
            window,
        }
    }
}

/// What one flush has to evaluate.
#[derive(Debug)]
pub(super) struct Plan {
    /// The keys whose rows were frozen, by window of every grain.
    touched: BTreeMap<Window, BTreeSet<Slot>>,
    /// From where to where the own partitions' seal marks have moved.
    advanced: Option<(EventTime, EventTime)>,
    /// Windows that end after the first and at or before the second were sealed by all partitions: all their keys.
    sealed: Option<(EventTime, EventTime)>,
    /// The seal mark that all partitions have passed.
    common: EventTime,
    /// What has come of the rows that are needed.
    folding: Folding,
    /// Inferences behind the rows of windows that are not sealed.
    inferences: Inferences,
}

/// Inferences by window of every grain and key.
type Inferences = BTreeMap<Window, BTreeMap<Slot, u64>>;

/// Stored rows that are needed for coarser windows only and whose own windows all partitions have sealed. They are merged
/// as they come and none is kept: after a start they are those of a day, of all keys and partitions.
#[derive(Debug, Default)]
pub(super) struct Folding {
    merged: BTreeMap<Window, BTreeMap<Slot, Merged>>,
    versions: BTreeMap<PartitionId, BTreeMap<Key, Version>>,
}

impl Folding {
    fn version(&self, key: &Key, partition: PartitionId) -> Option<Version> {
        self.versions.get(&partition)?.get(key).copied()
    }
}

impl Plan {
    /// Goes on with what came for a plan of the same keys and seal marks, unless a row of it has a newer version now. Other
    /// partitions may have sealed more meanwhile: what was only folded before still is.
    pub(super) fn go_on(&mut self, before: Self, versions: &[StateVersion]) {
        let is_old = |known: &StateVersion| {
            let folded = before.folding.version(&known.key, known.partition);
            folded.is_some_and(|version| version < known.version)
        };
        if before.common <= self.common && !versions.iter().any(is_old) {
            self.folding = before.folding;
        }
    }

    /// Whether there is nothing to do.
    pub(super) fn is_empty(&self) -> bool {
        self.touched.is_empty() && self.sealed.is_none()
    }

    fn is_newly_sealed(&self, window: Window) -> bool {
        self.sealed.is_some_and(|span| ends_in(window, span))
    }

    /// Whether rows of this coarser window are to be written.
    fn wants(&self, coarse: Window) -> bool {
        self.touched.contains_key(&coarse) || self.is_newly_sealed(coarse)
    }

    /// The same, or they will be where other partitions seal it before the flush ends.
    fn may_want(&self, coarse: Window) -> bool {
        self.touched.contains_key(&coarse)
            || self.advanced.is_some_and(|span| ends_in(coarse, span))
    }

    /// Whether rows of this base window are needed for nothing but to be folded into coarser ones.
    fn only_folds(&self, base: Window) -> bool {
        base.end <= self.common && !self.touched.contains_key(&base) && !self.is_newly_sealed(base)
    }

    fn touches(&self, window: Window, slot: &Slot) -> bool {
        self.touched.get(&window).is_some_and(|slots| slots.contains(slot))
    }
}

/// The rows of one key of a base window.
#[derive(Debug, Default)]
struct Open {
    parts: BTreeMap<PartitionId, StateRow>,
    /// Of all of them, until one changes: it serves the base window and all coarser ones.
    merged: Option<Merged>,
}

impl Open {
    fn merged(&mut self, caps: ClassCaps) -> Result<&Merged, StateError> {
        if self.merged.is_none() {
            let mut merged = Merged::default();
            for part in self.parts.values() {
                merged.add(part, caps)?;
            }
            self.merged = Some(merged);
        }
        Ok(self.merged.get_or_insert_default())
    }
}

type Slots = BTreeMap<Slot, Open>;

/// A coarser window: the merge of its base windows that end by `folded_until`.
#[derive(Debug)]
struct Coarse {
    folded_until: EventTime,
    merged: BTreeMap<Slot, Merged>,
}

/// The writer's memory of state rows.
#[derive(Debug)]
pub(super) struct Parts {
    settings: Arc<ShardSettings>,
    grains: Vec<Millis>,
    /// Coarser windows that do not lie wholly within are not evaluated: they lack base windows.
    within: Window,
    names: BTreeMap<i64, Arc<str>>,
    open: BTreeMap<Window, Slots>,
    coarse: BTreeMap<Window, Coarse>,
    /// Coarser windows of all grains but the coarsest, merged, until a row of theirs changes. A window of a coarser grain
    /// is merged of these: where labels come for a day, a record changes one hour of it, and not all.
    pieces: BTreeMap<Window, BTreeMap<Slot, Merged>>,
    /// Inferences behind the rows that were acknowledged last: as long as no more come, rows that read no labels stay as
    /// they are. Most labels come when a window has all its inferences, and most rows read none.
    acknowledged: Inferences,
    /// Evaluations so far, and the last one that touched a window of any grain.
    evaluations: u64,
    touched: BTreeMap<Window, u64>,
}

impl Parts {
    /// An empty memory. `grains` are the coarser windows' lengths, multiples of the base window's. The windows of all
    /// rows lie `within`, and of the coarser ones those that do so are evaluated.
    pub(super) fn new(settings: Arc<ShardSettings>, grains: &[Millis], within: Window) -> Self {
        let sizes = std::iter::once(settings.window).chain(grains.iter().copied());
        let names = sizes.map(|size| (size.0, Arc::from(grain_name(size)))).collect();
        let grains = grains.to_vec();
        Self {
            settings,
            grains,
            within,
            names,
            open: BTreeMap::new(),
            coarse: BTreeMap::new(),
            pieces: BTreeMap::new(),
            acknowledged: Inferences::new(),
            evaluations: 0,
            touched: BTreeMap::new(),
        }
    }

    /// How many rows are remembered.
    pub(super) fn len(&self) -> usize {
        let slots = self.open.values().flat_map(BTreeMap::values);
        slots.map(|open| open.parts.len()).sum::<usize>()
            + self.coarse.values().map(|coarse| coarse.merged.len()).sum::<usize>()
    }

    /// Remembers rows; of several of a key and partition the greatest version. Rows of another generation are never
    /// merged with ours, nor rows of windows of another length: someone has changed what the job is bound to.
    pub(super) fn take_in(&mut self, rows: impl IntoIterator<Item = StateRow>) {
        let caps = self.settings.caps.classes();
        for mut row in rows {
            let (window, slot) = (row.key.window, Slot::of(&row.key));
            if !self.is_ours(&row) {
                continue;
            }
            let open = self.open.entry(window).or_default().entry(slot.clone()).or_default();
            let old = open.parts.get(&row.partition);
            if old.is_some_and(|old| old.version >= row.version) {
                continue;
            }
            row.state.restore(caps);
            open.parts.insert(row.partition, row);
            self.changed(window, &slot);
        }
    }

    fn is_ours(&self, row: &StateRow) -> bool {
        row.version.generation() == self.settings.generation && self.is_base(row.key.window)
    }

    /// What was merged of rows of which one is another now is merged again.
    fn changed(&mut self, base: Window, slot: &Slot) {
        if let Some(open) = self.open.get_mut(&base).and_then(|slots| slots.get_mut(slot)) {
            open.merged = None;
        }
        for grain in &self.grains {
            if let Some(slots) = self.pieces.get_mut(&Window::of(base.start, *grain)) {
                slots.remove(slot);
            }
        }
    }

    /// Takes in rows that were [`missing`](Self::missing). Those that are only folded are merged, and not remembered.
    pub(super) fn receive(
        &mut self,
        plan: &mut Plan,
        rows: impl IntoIterator<Item = StateRow>,
    ) -> Result<(), StateError> {
        let caps = self.settings.caps.classes();
        for mut row in rows {
            let (base, slot) = (row.key.window, Slot::of(&row.key));
            if !plan.only_folds(base) || !self.is_ours(&row) {
                self.take_in([row]);
                continue;
            }
            if plan.folding.version(&row.key, row.partition).is_some() {
                continue;
            }
            self.drop_part(base, &slot, row.partition);
            self.changed(base, &slot);
            row.state.restore(caps);
            for coarse in self.coarser(base) {
                if plan.may_want(coarse) && self.folded_until(coarse) <= base.start {
                    let slots = plan.folding.merged.entry(coarse).or_default();
                    slots.entry(slot.clone()).or_default().add(&row, caps)?;
                }
            }
            let versions = plan.folding.versions.entry(row.partition).or_default();
            versions.insert(row.key, row.version);
        }
        Ok(())
    }

    /// Forgets a row of which a newer version has come.
    fn drop_part(&mut self, base: Window, slot: &Slot, partition: PartitionId) {
        let Some(slots) = self.open.get_mut(&base) else { return };
        let is_empty = slots.get_mut(slot).is_some_and(|open| {
            open.parts.remove(&partition);
            open.parts.is_empty()
        });
        if is_empty {
            slots.remove(slot);
        }
    }

    /// What a flush has to evaluate: the frozen keys in every grain, and all keys of the windows that the own
    /// partitions' seal marks have passed just now (`advanced`: from, to), as far as all partitions have.
    pub(super) fn plan(
        &self,
        frozen: &[StateRow],
        advanced: Option<(EventTime, EventTime)>,
        common: EventTime,
    ) -> Plan {
        let mut touched: BTreeMap<Window, BTreeSet<Slot>> = BTreeMap::new();
        for StateRow { key, .. } in frozen {
            let slot = Slot::of(key);
            for window in self.coarser(key.window) {
                touched.entry(window).or_default().insert(slot.clone());
            }
            touched.entry(key.window).or_default().insert(slot);
        }
        let sealed = advanced
            .map(|(after, until)| (after.max(EARLIEST), until.min(common).min(LATEST)))
            .filter(|(after, until)| after < until);
        let (folding, inferences) = (Folding::default(), Inferences::new());
        Plan { touched, advanced, sealed, common, folding, inferences }
    }

    /// The pieces in which a span of windows that were sealed at once is evaluated, each with memory of its own states
    /// only: where a partition speaks after weeks, all windows since are sealed at once. A window of the coarsest grain
    /// lies in one piece with all that it is merged of. `starts` are those of all windows that there are, ascending.
    pub(super) fn pieces(
        &self,
        (after, until): (EventTime, EventTime),
        starts: &[EventTime],
    ) -> Vec<(EventTime, EventTime)> {
        let ends = starts.iter().map(|&start| Window::of(start, self.piece()).end);
        // Behind the last window there is nothing to divide.
        let divides = |end: &EventTime| {
            after < *end && *end < until && starts.last().is_some_and(|last| end <= last)
        };
        let mut ends: Vec<EventTime> = ends.filter(divides).collect();
        ends.dedup();
        let froms = std::iter::once(after).chain(ends.iter().copied());
        froms.zip(ends.iter().copied().chain([until])).collect()
    }

    /// Whether a span is more than one piece.
    pub(super) fn is_long(&self, (after, until): (EventTime, EventTime)) -> bool {
        until.0.saturating_sub(after.max(EARLIEST).0) > self.piece().0
    }

    /// A multiple of the coarsest window's length.
    pub(super) fn piece(&self) -> Millis {
        let base = self.settings.window.times(PIECE_WINDOWS);
        self.grains
            .iter()
            .copied()
            .max()
            .map_or(base, |coarsest| Millis(coarsest.0 * (base.0 / coarsest.0).max(1)))
    }

    fn is_base(&self, window: Window) -> bool {
        window.size() == self.settings.window
    }

    /// The coarser windows that hold a base window, and are evaluated.
    fn coarser(&self, base: Window) -> impl Iterator<Item = Window> {
        let windows = self.grains.iter().map(move |&grain| Window::of(base.start, grain));
        windows.filter(move |&window| self.within.holds(window))
    }

    fn folded_until(&self, coarse: Window) -> EventTime {
        self.coarse.get(&coarse).map_or(coarse.start, |cached| cached.folded_until)
    }

    /// The base windows whose versions have to be known, as spans that lie apart: one partition may be weeks behind
    /// the others, and what lies between them is not asked for.
    pub(super) fn spans(&self, plan: &Plan) -> Vec<Window> {
        let mut spans = Vec::new();
        let mut cover = |start: EventTime, end: EventTime| {
            spans.push(Window { start: start.max(EARLIEST), end: end.min(LATEST) });
        };
        for &window in plan.touched.keys() {
            if self.is_base(window) {
                cover(window.start, window.end);
            } else {
                cover(self.folded_until(window), window.end);
            }
        }
        if let Some((after, until)) = plan.sealed {
            cover(after, until);
            for &grain in &self.grains {
                // The first window of this grain that ends after `after` starts in it or before it.
                let first = Window::of(after, grain);
                if first.end <= until {
                    cover(self.folded_until(first), until);
                }
            }
        }
        spans.retain(|span| span.start < span.end);
        spans.sort_unstable();
        // Each is a question, so those that lie near each other are one.
        let near = self.piece().0;
        spans.dedup_by(|next, last| {
            let meets = next.start.0 <= last.end.0.saturating_add(near);
            if meets {
                last.end = last.end.max(next.end);
            }
            meets
        });
        spans
    }

    /// The windows of these rows as spans to ask for versions of, each within one piece: an answer about weeks would
    /// be too large.
    pub(super) fn spans_of(&self, rows: &[StateRow]) -> Vec<Window> {
        let mut spans: BTreeMap<Window, Window> = BTreeMap::new();
        for window in rows.iter().map(|row| row.key.window) {
            let span = spans.entry(Window::of(window.start, self.piece())).or_insert(window);
            span.start = span.start.min(window.start);
            span.end = span.end.max(window.end);
        }
        spans.into_values().collect()
    }

    /// Whether the flush needs the row of this key.
    fn needs(&self, plan: &Plan, key: &Key) -> bool {
        let slot = Slot::of(key);
        if plan.touches(key.window, &slot) || plan.is_newly_sealed(key.window) {
            return true;
        }
        self.coarser(key.window).any(|coarse| {
            let is_folded = key.window.start < self.folded_until(coarse);
            // What all partitions have sealed is folded for all keys at once, the rest is merged for those touched.
            let will_fold = key.window.end <= plan.common;
            plan.wants(coarse) && !is_folded && (will_fold || plan.touches(coarse, &slot))
        })
    }

    /// The rows that are needed, and of which ClickHouse has a greater version than memory.
    pub(super) fn missing(
        &self,
        plan: &Plan,
        versions: &[StateVersion],
    ) -> Vec<(Key, PartitionId)> {
        let is_missing = |known: &&StateVersion| {
            let StateVersion { key, partition, version } = known;
            let own = self
                .open
                .get(&key.window)
                .and_then(|slots| slots.get(&Slot::of(key)))
                .and_then(|open| open.parts.get(partition));
            version.generation() == self.settings.generation
                && self.is_base(key.window)
                && own.is_none_or(|row| row.version < *version)
                && plan.folding.version(key, *partition).is_none_or(|folded| folded < *version)
                && self.needs(plan, key)
        };
        versions
            .iter()
            .filter(is_missing)
            .map(|known| (known.key.clone(), known.partition))
            .collect()
    }

    /// The keys whose metric rows are due, once all state rows are there. What is done is folded.
    pub(super) fn due(&mut self, plan: &mut Plan) -> Result<Vec<Key>, StateError> {
        let mut due = Vec::new();
        let mut folding = std::mem::take(&mut plan.folding).merged;
        let sealed_now: Vec<Window> =
            self.open.keys().copied().filter(|&window| plan.is_newly_sealed(window)).collect();
        let touched_base = plan.touched.keys().copied().filter(|&window| self.is_base(window));
        for window in touched_base.chain(sealed_now).collect::<BTreeSet<_>>() {
            let all = plan.is_newly_sealed(window);
            let slots = self.open.get(&window).into_iter().flat_map(BTreeMap::keys);
            let slots = slots.filter(|slot| all || plan.touches(window, slot));
            due.extend(slots.map(|slot| slot.key(window)));
        }
        let touched = plan.touched.keys().copied().filter(|&window| !self.is_base(window));
        let coarser = self.open.keys().flat_map(|&base| self.coarser(base));
        let sealed = coarser.chain(self.coarse.keys().copied()).chain(folding.keys().copied());
        let sealed = sealed.filter(|&window| plan.is_newly_sealed(window));
        for window in touched.chain(sealed).collect::<BTreeSet<_>>() {
            self.fold(window, plan.common, folding.remove(&window).unwrap_or_default())?;
            let slots: BTreeSet<&Slot> = if plan.is_newly_sealed(window) {
                self.coarse[&window].merged.keys().collect()
            } else {
                plan.touched.get(&window).into_iter().flatten().collect()
            };
            due.extend(slots.into_iter().map(|slot| slot.key(window)));
        }
        Ok(due)
    }

    /// The metric rows of one key that is [`due`](Self::due), as far as they may have changed since they were
    /// [acknowledged](Self::acknowledge); until the plan is [forgotten](Self::forget).
    pub(super) fn rows(
        &mut self,
        key: &Key,
        plan: &mut Plan,
    ) -> Result<Vec<MetricRow>, StateError> {
        let slot = Slot::of(key);
        let merged = self.merged(key.window, &slot)?;
        let grain = &self.names[&key.window.size().0];
        let sealed = key.window.end <= plan.common;
        let about = RowContext::of(&self.settings, key, grain, sealed);
        if sealed {
            return Ok(merged.rows(key, &about, Asked::All));
        }
        let inferences = merged.inferences();
        let before = self.acknowledged.get(&key.window).and_then(|slots| slots.get(&slot));
        let asked = if before == Some(&inferences) { Asked::OfLabels } else { Asked::All };
        plan.inferences.entry(key.window).or_default().insert(slot, inferences);
        Ok(merged.rows(key, &about, asked))
    }

    /// Notes that the rows of a plan are all stored, and forgets what is done.
    pub(super) fn acknowledge(&mut self, mut plan: Plan) {
        for (window, slots) in std::mem::take(&mut plan.inferences) {
            self.acknowledged.entry(window).or_default().extend(slots);
        }
        self.forget(&plan);
    }

    /// Stored rows may have been lost: of every key all are due again.
    pub(super) fn doubt(&mut self) {
        self.acknowledged.clear();
    }

    /// All rows of a key's window, merged.
    fn merged(&mut self, window: Window, slot: &Slot) -> Result<Merged, StateError> {
        if self.is_base(window) {
            let open = self.open.get_mut(&window).and_then(|slots| slots.get_mut(slot));
            let merged = open.map(|open| open.merged(self.settings.caps.classes())).transpose()?;
            return Ok(merged.cloned().unwrap_or_default());
        }
        if let Some(merged) = self.pieces.get(&window).and_then(|slots| slots.get(slot)) {
            return Ok(merged.clone());
        }
        let folded = self.coarse.get(&window).and_then(|coarse| coarse.merged.get(slot));
        let mut merged = folded.cloned().unwrap_or_default();
        let mut from = self.folded_until(window);
        let next = |parts: &Self, from| {
            let (&base, _) = within(&parts.open, from, window.end).next()?;
            Some(base)
        };
        while let Some(base) = next(self, from) {
            let piece = self.piece_of(window, from, base);
            merged.add_all(&self.merged(piece, slot)?);
            from = piece.end;
        }
        let is_piece = self.grains.last().is_some_and(|coarsest| window.size() < *coarsest);
        if is_piece && !merged.is_empty() {
            self.pieces.entry(window).or_default().insert(slot.clone(), merged.clone());
        }
        Ok(merged)
    }

    /// The largest window that holds the base window and lies in what is left of a coarser one.
    fn piece_of(&self, window: Window, from: EventTime, base: Window) -> Window {
        let finer = self.grains.iter().rev().filter(|grain| **grain < window.size());
        let mut pieces = finer.map(|&grain| Window::of(base.start, grain));
        pieces.find(|piece| from <= piece.start && piece.end <= window.end).unwrap_or(base)
    }

    /// Drops what all partitions have sealed, and what no flush has touched for long; called when the flush is done.
    pub(super) fn forget(&mut self, plan: &Plan) {
        self.evaluations += 1;
        self.touched.extend(plan.touched.keys().map(|&window| (window, self.evaluations)));
        let oldest = self.evaluations.saturating_sub(FORGET_AFTER);
        self.touched.retain(|window, at| window.end > plan.common && *at > oldest);
        let Self { open, coarse, pieces, acknowledged, touched, grains, .. } = self;
        // A base window serves the coarser ones that hold it, sealed itself or not.
        open.retain(|base, _| {
            let mut coarser = grains.iter().map(|&grain| Window::of(base.start, grain));
            base.end > plan.common
                && (touched.contains_key(base)
                    || coarser.any(|window| touched.contains_key(&window)))
        });
        coarse.retain(|window, _| touched.contains_key(window));
        acknowledged.retain(|window, _| touched.contains_key(window));
        pieces.retain(|piece, _| within(open, piece.start, piece.end).next().is_some());
    }

    /// Folds the base windows that all partitions have sealed into a coarser one; `came` is merged of those of them that
    /// are not remembered.
    fn fold(
        &mut self,
        window: Window,
        common: EventTime,
        came: BTreeMap<Slot, Merged>,
    ) -> Result<(), StateError> {
        let caps = self.settings.caps.classes();
        let Self { open, coarse, .. } = self;
        let coarse = coarse
            .entry(window)
            .or_insert_with(|| Coarse { folded_until: window.start, merged: BTreeMap::new() });
        let until = common.min(window.end);
        if until <= coarse.folded_until {
            return Ok(());
        }
        for (slot, all) in came {
            coarse.merged.entry(slot).or_default().add_all(&all);
        }
        for (base, slots) in open.range_mut(bounds(coarse.folded_until, until)) {
            if base.end > until {
                continue;
            }
            for (slot, open) in slots {
                let merged = coarse.merged.entry(slot.clone()).or_default();
                merged.add_all(open.merged(caps)?);
            }
        }
        coarse.folded_until = until;
        Ok(())
    }
}

/// The seal mark that all of so many partitions have passed.
pub(super) fn common(partitions: i32, seals: &[(PartitionId, EventTime)]) -> EventTime {
    let seals: BTreeMap<PartitionId, EventTime> = seals.iter().copied().collect();
    let nothing = EventTime(i64::MIN);
    let all = (0..partitions).map(PartitionId);
    all.map(|of| seals.get(&of).copied().unwrap_or(nothing)).min().unwrap_or(nothing)
}

/// Whether a window ends after the first and at or before the second.
pub(super) fn ends_in(window: Window, (after, until): (EventTime, EventTime)) -> bool {
    after < window.end && window.end <= until
}

/// The base windows that start at or after `from` and before `until`.
fn within(
    open: &BTreeMap<Window, Slots>,
    from: EventTime,
    until: EventTime,
) -> impl Iterator<Item = (&Window, &Slots)> {
    open.range(bounds(from, until))
}

fn bounds(from: EventTime, until: EventTime) -> (Bound<Window>, Bound<Window>) {
    let least = Window { start: from, end: EventTime(i64::MIN) };
    let beyond = Window { start: until.max(from), end: EventTime(i64::MIN) };
    (Bound::Included(least), Bound::Excluded(beyond.max(least)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::keys::GATHER_AFTER;
    use crate::engine::metrics::Families;
    use crate::engine::metrics::accumulator::Accumulator as _;
    use crate::engine::metrics::labels::LabelsInput;
    use crate::engine::metrics::serving::ServingInput;
    use crate::engine::{Caps, Progress};

    const MINUTE: Millis = Millis(60_000);
    const HOUR: Millis = Millis(3_600_000);

    fn parts() -> Parts {
        let settings = ShardSettings {
            window: MINUTE,
            limits: crate::engine::lateness::Limits {
                lateness: MINUTE,
                label_wait: MINUTE,
                max_future: MINUTE,
                max_gap: HOUR,
            },
            clock_stamps: 1,
            progress: Progress::Log,
            has_labels: true,
            generation: 0,
            caps: Caps {
                models: 9,
                versions: 9,
                segments: 9,
                features: 9,
                max_classes: 9,
                auroc_classes: 9,
            },
            gather_after: GATHER_AFTER,
            dimensions: Vec::new(),
            models: Vec::new(),
            custom: Vec::new(),
        };
        Parts::new(Arc::new(settings), &[HOUR], Window::ALL)
    }

    /// One inference at a minute.
    fn state(minute: i64) -> StateRow {
        let start = EventTime(minute * MINUTE.0);
        let mut families = Families::default();
        families.serving.add(&ServingInput {
            time: start,
            latency_us: None,
            failed: false,
            freshness_ms: 0,
        });
        let [model, version, segment] = ["m", "", "all"].map(Arc::from);
        StateRow {
            key: Key { model, version, segment, window: Window::of(start, MINUTE) },
            partition: PartitionId(0),
            version: Version::of(0, 1, false),
            state: families.state().into(),
        }
    }

    #[test]
    fn memory_does_not_grow_while_a_partition_is_silent_and_rows_stay_right() {
        let mut parts = parts();
        let mut table: Vec<StateRow> = Vec::new();
        let nobody = EventTime(i64::MIN);
        let mut flush = |parts: &mut Parts, minute: i64| {
            let row = state(minute);
            table.push(row.clone());
            parts.take_in([row.clone()]);
            let mut plan = parts.plan(&[row], None, nobody);
            let spans = parts.spans(&plan);
            let stored =
                table.iter().filter(|row| spans.iter().any(|span| span.holds(row.key.window)));
            let versions: Vec<StateVersion> = stored
                .map(|row| StateVersion {
                    key: row.key.clone(),
                    partition: row.partition,
                    version: row.version,
                })
                .collect();
            let missing = parts.missing(&plan, &versions);
            let found = table
                .iter()
                .filter(|row| missing.contains(&(row.key.clone(), row.partition)))
                .cloned();
            parts.receive(&mut plan, found).unwrap();
            let due = parts.due(&mut plan).unwrap();
            let rows: Vec<_> =
                due.iter().flat_map(|key| parts.rows(key, &mut plan).unwrap()).collect();
            parts.forget(&plan);
            let records = rows
                .iter()
                .find(|row| row.key.window.size() == HOUR && row.table.name() == "serving");
            (records.unwrap().version.records(), missing.len())
        };
        for minute in 0..1200 {
            let records = flush(&mut parts, minute).0;
            assert_eq!(records, u64::try_from(minute % 60 + 1).unwrap());
            assert!(parts.len() < 700, "{} rows after {minute} minutes", parts.len());
        }
        // A row of the first hour again: the other minutes of the hour come from the table.
        assert_eq!(flush(&mut parts, 7), (60, 59));
    }

    /// The same inference so many times, read by a partition.
    fn part(minute: i64, partition: i32, records: u64) -> StateRow {
        let mut row = state(minute);
        let mut merged = Families::default();
        let caps = parts().settings.caps.classes();
        for _ in 0..records {
            merged.merge(&row.state.families(caps).unwrap());
        }
        (row.partition, row.version) = (PartitionId(partition), Version::of(0, records, false));
        row.state = merged.state().into();
        row
    }

    fn known(row: &StateRow) -> StateVersion {
        let StateRow { key, partition, version, .. } = row;
        StateVersion { key: key.clone(), partition: *partition, version: *version }
    }

    /// Memory that grew flush by flush against one that is given the whole table, of which nothing was merged before.
    /// Half of what is missing comes in a first round, in which other partitions have sealed less.
    #[test]
    fn coarser_windows_follow_every_change_of_a_window_in_them() {
        const QUARTER: Millis = Millis(6 * HOUR.0);
        let grains = [HOUR, Millis(90 * MINUTE.0), QUARTER];
        let make = || Parts::new(parts().settings, &grains, Window::ALL);
        let mut grown = make();
        let mut table: BTreeMap<(i64, i32, bool), StateRow> = BTreeMap::new();
        let (mut sealed, mut number, mut compared) = (0, 7_u64, BTreeMap::new());
        let mut below = |limit: i64| {
            number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            i64::try_from(number >> 33).unwrap() % limit
        };
        for flush in 0..600 {
            // What this instance has frozen, and what another one has written.
            let written = [0; 2].map(|_| {
                let at = (sealed + below(200), i32::try_from(below(3)).unwrap(), below(2) == 0);
                let records = table.get(&at).map_or(0, |row| row.version.records());
                let mut row = part(at.0, at.1, records + 1);
                if at.2 {
                    row.key.segment = Arc::from("region=eu");
                }
                table.insert(at, row.clone());
                row
            });
            let frozen = written[..1].to_vec();
            let before = EventTime(sealed * MINUTE.0);
            sealed += [0, 1, 1, 1, 40][usize::try_from(below(5)).unwrap()];
            let common = EventTime(sealed * MINUTE.0);
            let advanced = Some((before, common.plus(HOUR)));
            let versions: Vec<_> = table.values().map(known).collect();
            let stored = |keys: &[(Key, PartitionId)]| {
                let is = |row: &&StateRow| keys.contains(&(row.key.clone(), row.partition));
                table.values().filter(is).cloned().collect::<Vec<_>>()
            };
            let rows = [&mut grown, &mut make()].map(|parts| {
                parts.take_in(frozen.clone());
                let mut first = parts.plan(&frozen, advanced, before.plus(MINUTE).min(common));
                let missing = parts.missing(&first, &versions);
                parts.receive(&mut first, stored(&missing[..missing.len() / 2])).unwrap();
                let mut plan = parts.plan(&frozen, advanced, common);
                plan.go_on(first, &versions);
                let missing = parts.missing(&plan, &versions);
                parts.receive(&mut plan, stored(&missing)).unwrap();
                assert_eq!(parts.missing(&plan, &versions), []);
                let due = parts.due(&mut plan).unwrap();
                let rows: Vec<_> =
                    due.iter().map(|key| parts.rows(key, &mut plan).unwrap()).collect();
                parts.forget(&plan);
                rows
            });
            let mut whole = make();
            whole.take_in(table.values().cloned());
            let mut plan = whole.plan(&frozen, advanced, common);
            let due = whole.due(&mut plan).unwrap();
            let expected: Vec<_> =
                due.iter().map(|key| whole.rows(key, &mut plan).unwrap()).collect();
            for key in &due {
                *compared.entry(key.window.size()).or_insert(0) += 1;
            }
            assert_eq!(rows, [expected.clone(), expected], "flush {flush}");
        }
        assert!(sealed > 2 * 360, "{sealed} minutes");
        let least = grains.map(|grain| compared[&grain]).into_iter().min().unwrap();
        assert!(least > 600, "{compared:?}");
    }

    #[test]
    fn what_has_a_newer_version_after_a_round_is_asked_for_again() {
        let mut parts = parts();
        let table: Vec<StateRow> = (0..60).map(state).collect();
        let frozen = [state(50)];
        let common = EventTime(40 * MINUTE.0);
        parts.take_in(frozen.clone());
        let mut first = parts.plan(&frozen, None, common);
        parts.receive(&mut first, table[..30].to_vec()).unwrap();
        let mut versions: Vec<_> = table.iter().map(known).collect();
        let again = |parts: &Parts, first, versions: &[StateVersion]| {
            let mut plan = parts.plan(&frozen, None, common);
            plan.go_on(first, versions);
            (parts.missing(&plan, versions).len(), plan)
        };
        let (missing, second) = again(&parts, first, &versions);
        assert_eq!(missing, 29, "and the frozen one");
        versions[7].version = Version::of(0, 2, false);
        assert_eq!(again(&parts, second, &versions).0, 59);
    }

    #[test]
    fn after_a_start_the_rows_of_a_day_are_merged_as_they_come_and_not_remembered() {
        let table: Vec<StateRow> =
            (0..1440).flat_map(|minute| (0..3).map(move |of| part(minute, of, 1))).collect();
        let versions: Vec<_> = table.iter().map(known).collect();
        let frozen = [part(1430, 0, 2)];
        let evaluated = |remembers: bool| {
            let mut parts = Parts::new(parts().settings, &[HOUR, Millis(24 * HOUR.0)], Window::ALL);
            parts.take_in(frozen.clone());
            let mut plan = parts.plan(&frozen, None, EventTime(1400 * MINUTE.0));
            assert_eq!(parts.missing(&plan, &versions).len(), table.len() - 1);
            // What was asked for comes in two parts, the second with some again.
            for some in [&table[..3000], &table[2000..]] {
                if remembers {
                    parts.take_in(some.to_vec());
                } else {
                    parts.receive(&mut plan, some.to_vec()).unwrap();
                }
            }
            assert_eq!(parts.missing(&plan, &versions), []);
            let most = parts.len();
            let due = parts.due(&mut plan).unwrap();
            let rows: Vec<_> = due.iter().map(|key| parts.rows(key, &mut plan).unwrap()).collect();
            (most, rows)
        };
        let (all, expected) = evaluated(true);
        let (few, rows) = evaluated(false);
        assert_eq!((all, few), (3 * 1440, 3 * 40), "rows in memory");
        assert_eq!(rows.len(), 3, "the minute, its hour and its day");
        assert_eq!(rows, expected);
    }

    #[test]
    fn rows_of_windows_of_another_length_are_none_of_ours() {
        let mut parts = parts();
        let (row, mut other) = (state(2), state(3));
        other.key.window = Window::of(other.key.window.start, Millis(2 * MINUTE.0));
        parts.take_in([row.clone(), other.clone()]);
        let advanced = Some((EventTime(i64::MIN), EventTime::LATEST));
        let mut plan = parts.plan(&[row], advanced, EventTime::LATEST);
        let StateRow { key, partition, version, .. } = other;
        let known = StateVersion { key: key.clone(), partition, version };
        assert_eq!(parts.missing(&plan, &[known]), []);
        let due = parts.due(&mut plan).unwrap();
        assert_eq!(due.len(), 2, "a minute and its hour");
        assert!(!due.contains(&key));
        assert!(due.iter().all(|key| !parts.rows(key, &mut plan).unwrap().is_empty()));
    }

    #[test]
    fn coarser_windows_that_reach_beyond_an_end_are_not_evaluated() {
        let within = Window { start: EventTime(30 * MINUTE.0), end: EventTime(200 * MINUTE.0) };
        let mut parts = Parts { within, ..parts() };
        let rows: Vec<StateRow> = (30..200).map(state).collect();
        let advanced = (EventTime(i64::MIN), EventTime::LATEST);
        // By what was frozen, and by what was sealed alone.
        for (frozen, advanced) in [(&rows[..], None), (&[][..], Some(advanced))] {
            parts.take_in(rows.clone());
            let mut plan = parts.plan(frozen, advanced, EventTime::LATEST);
            let due = parts.due(&mut plan).unwrap();
            let hours = due.iter().filter(|key| key.window.size() == HOUR);
            let hours: Vec<i64> = hours.map(|key| key.window.start.0 / MINUTE.0).collect();
            assert_eq!((due.len(), hours), (rows.len() + 2, vec![60, 120]));
            parts.forget(&plan);
        }
    }

    /// Which tables the rows of a flush are of that has these states of a minute and ends well or not.
    fn tables(parts: &mut Parts, families: &Families, common: i64, ends_well: bool) -> String {
        let records = families.serving.inferences() + families.labels.labelled();
        let version = Version::of(0, records, false);
        let row = StateRow { version, state: families.state().into(), ..state(3) };
        parts.take_in([row.clone()]);
        let mut plan = parts.plan(&[row], None, EventTime(common * MINUTE.0));
        let due = parts.due(&mut plan).unwrap();
        let rows: Vec<_> = due.iter().map(|key| parts.rows(key, &mut plan).unwrap()).collect();
        if ends_well {
            parts.acknowledge(plan);
        } else {
            parts.forget(&plan);
        }
        let [minute, hour] = rows.as_slice() else { panic!("{rows:?}") };
        let names = |rows: &[MetricRow]| {
            let said = |row: &MetricRow| format!("{} {}", row.table.name(), row.version.records());
            rows.iter().map(said).collect::<Vec<_>>().join(", ")
        };
        assert_eq!(names(minute), names(hour));
        names(minute)
    }

    #[test]
    fn labels_write_only_the_rows_that_they_change_while_nothing_is_in_doubt() {
        let (mut parts, mut families) = (parts(), Families::default());
        let infer = |families: &mut Families| {
            let one = state(3).state.families(ClassCaps::DEFAULT).unwrap();
            families.serving.merge(&one.serving);
            families.labels.add(&LabelsInput::Inference { decision: None });
        };
        let label = |families: &mut Families| {
            families.labels.add(&LabelsInput::First { delay_ms: 7, decision: None });
        };
        for _ in 0..9 {
            infer(&mut families);
        }
        assert_eq!(tables(&mut parts, &families, 0, true), "serving 9, labels 9");
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, true), "labels 10");
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, true), "labels 11");
        infer(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, false), "serving 10, labels 12");
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, true), "serving 10, labels 13");
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, true), "labels 14");
        parts.doubt();
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 0, true), "serving 10, labels 15");
        label(&mut families);
        assert_eq!(tables(&mut parts, &families, 1000, true), "serving 10, labels 16");
        assert!(parts.acknowledged.is_empty(), "{:?}", parts.acknowledged);
    }

    #[test]
    fn what_lies_between_windows_far_apart_is_not_asked_for() {
        let mut parts = parts();
        let rows = [state(3), state(130), state(10_000)];
        parts.take_in(rows.clone());
        let spans = parts.spans(&parts.plan(&rows, None, EventTime(i64::MIN)));
        let holding = |minute| {
            let window = state(minute).key.window;
            spans.iter().filter(|span| span.holds(window)).count()
        };
        assert_eq!([0, 3, 59, 60, 179, 9_960, 10_000].map(holding), [1; 7], "whole hours, once");
        assert_eq!([180, 5_000, 9_959, 10_020].map(holding), [0; 4]);
        assert_eq!(spans.len(), 2, "near hours are one span");
    }

    #[test]
    fn a_long_span_that_is_sealed_at_once_is_evaluated_with_memory_of_a_piece() {
        let mut parts = parts();
        let table: Vec<StateRow> = (30..1500).map(state).collect();
        let until = EventTime(1500 * MINUTE.0);
        let starts: Vec<_> = table.iter().map(|row| row.key.window.start).collect();
        let advanced = (EventTime(i64::MIN), EventTime::LATEST);
        assert_eq!(parts.pieces(advanced, &starts).last().unwrap().1, EventTime::LATEST);
        assert!(parts.is_long(advanced) && !parts.is_long((EventTime(0), EventTime(HOUR.0))));
        let mut sealed = BTreeMap::new();
        for piece in parts.pieces(advanced, &starts) {
            let mut plan = parts.plan(&[], Some(piece), until);
            let spans = parts.spans(&plan);
            let stored: Vec<_> = table
                .iter()
                .filter(|row| spans.iter().any(|span| span.holds(row.key.window)))
                .cloned()
                .collect();
            assert!(stored.len() <= 60, "{} rows for {piece:?}", stored.len());
            parts.take_in(stored);
            for key in parts.due(&mut plan).unwrap() {
                let rows = parts.rows(&key, &mut plan).unwrap();
                assert!(rows.iter().all(|row| row.sealed));
                assert_eq!(sealed.insert(key.window, rows[0].version.records()), None);
            }
            parts.forget(&plan);
            assert_eq!(parts.len(), 0);
        }
        let of = |size: Millis| sealed.iter().filter(move |(window, _)| window.size() == size);
        assert_eq!(of(MINUTE).count(), table.len());
        let hours: Vec<u64> = of(HOUR).map(|(_, records)| *records).collect();
        assert_eq!(hours, std::iter::once(30).chain([60; 24]).collect::<Vec<_>>());
    }
}
