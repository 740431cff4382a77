//! The join: duplicates, matches and corrections. Each fold is a function of the two prefixes read, never of the order
//! in which they were mixed.

use super::event::{Inference, Positions};
use super::fold::{fold_inference, fold_label, predict, said};
use super::held::{Entry, Held, Place, Prediction};
use super::kept::{KeptLabels, Placed};
use super::keys;
use super::lateness::{delay_ms, has_passed};
use super::metrics::features::FeaturesInput;
use super::metrics::serving::ServingInput;
use super::names::{ModelId, Names};
use super::open::{Open, OpenWindow};
use super::outcome::Outcome;
use super::settings::ShardSettings;
use super::time::{EventTime, LogTime};

/// Slots up to which a dropped window's entries are swept out at once.
const SWEEP_AT_ONCE: usize = 1 << 21;

/// What the join holds.
#[derive(Debug, Default)]
pub struct Join {
    /// Inferences that labels may still match, and identities whose duplicates may still come.
    pub held: Held,
    /// Labels that matched nothing yet.
    pub kept: KeptLabels,
    /// Open windows and their states.
    pub open: Open,
    /// Accepted inferences in open windows.
    pub inferences: usize,
    found: Vec<Place>,
    waiting: Vec<Placed>,
}

/// What a record is judged by.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The job's rules.
    pub settings: &'a ShardSettings,
    /// Records before these were counted before: they make no key dirty.
    pub counted: Positions,
    /// The inference clock at `counted`.
    pub counted_clock: Option<LogTime>,
    /// The inference clock now.
    pub clock: Option<LogTime>,
    /// The present epoch.
    pub epoch: u64,
    /// Windows that end by then are done.
    pub sealed_until: EventTime,
}

/// A label moves on: its earlier outcome, where it had been counted, and the new one, each under a model's name.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Move {
    /// The model that the label names.
    pub named: Option<ModelId>,
    /// Whether it had been counted as kept.
    pub was_kept: bool,
    /// What it is now.
    pub outcome: Outcome,
    /// The model of the inference that it matched.
    pub matched: Option<ModelId>,
}

impl Context<'_> {
    /// How the inference at `offset` moves a kept label: matched, or an orphan. None where both were counted before.
    fn moved(&self, offset: i64, placed: &Placed, matched: Option<ModelId>) -> Option<Move> {
        let is_new = placed.offset >= self.counted.labels || offset >= self.counted.inferences;
        let outcome = if matched.is_some() { Outcome::Matched } else { Outcome::Orphan };
        is_new.then_some(Move { named: placed.label.model, was_kept: true, outcome, matched })
    }
}

impl Join {
    /// Folds an inference that is neither late nor in the future; labels that wait for it are pushed to `moves`.
    pub fn inference(
        &mut self,
        context: &Context<'_>,
        offset: i64,
        arrival: LogTime,
        inference: &Inference<'_>,
        names: &mut Names,
        moves: &mut Vec<Move>,
    ) -> Outcome {
        let settings = context.settings;
        let slot =
            self.open.window_at(inference.time, settings.window, offset, context.sealed_until);
        self.found.clear();
        self.found.extend(self.held.find(inference.id).map(|(place, _)| place));
        let known = self.known_identity(context, arrival, inference);
        let window = self.open.window(slot).window;
        let is_folded = self.open.window(slot).is_folded;
        if known.is_some() || !is_folded {
            if known.is_none_or(|end| window.end > end) {
                self.remember(slot, inference);
            }
            return if known.is_some() { Outcome::Duplicate } else { Outcome::Accepted };
        }
        let number = self.open.group_of(slot, inference, offset, settings, names);
        let mut prediction = predict(inference, self.open.group(number), names);
        self.gather(context, inference, offset, moves);
        let is_new = offset >= context.counted.inferences;
        let (open, groups) = self.open.window_and_groups(slot);
        let group = &groups[keys::at(number)];
        if let Prediction::Multiclass { scores, .. } = &mut prediction {
            *scores = open.scores.push(inference.scores);
        }
        let serving = ServingInput {
            time: inference.time,
            latency_us: inference.latency_us,
            failed: inference.failed,
            freshness_ms: delay_ms(arrival, inference.time),
        };
        let features = FeaturesInput {
            features: inference.features,
            names,
            reference: group.reference.as_deref(),
            most: settings.caps.features,
            distinct: &group.distinct,
        };
        let said = said(inference.prediction, &prediction, group);
        let epoch = if is_new { context.epoch } else { 0 };
        fold_inference(open, group, &serving, &features, (&prediction, said), epoch);
        let mut entry = Entry::accepted(inference.id, number, &prediction);
        entry.time_in_window = small(inference.time.0 - window.start.0);
        entry.offset_in_group = small(offset - group.base_offset);
        for placed in &self.waiting {
            let is_new = is_new || placed.offset >= context.counted.labels;
            let epoch = if is_new { context.epoch } else { 0 };
            fold_label(open, group, &mut entry, placed, names, epoch);
        }
        self.held.insert(entry, &self.open.is_alive());
        self.inferences += 1;
        Outcome::Accepted
    }

    /// The end of the newest window in which this identity stands, if one of its horizons has not passed yet. Looks at
    /// the entries of its ID, which were found before.
    fn known_identity(
        &self,
        context: &Context<'_>,
        arrival: LogTime,
        inference: &Inference<'_>,
    ) -> Option<EventTime> {
        let limits = &context.settings.limits;
        let identity = (inference.model, inference.version);
        self.found
            .iter()
            .filter_map(|&place| {
                let group = self.open.group(self.held.get(place).group());
                let window = self.open.window(group.window?).window;
                let is_known = (group.model, group.version) == identity
                    && !has_passed(Some(arrival), limits.horizon(window));
                is_known.then_some(window.end)
            })
            .max()
    }

    fn remember(&mut self, slot: usize, inference: &Inference<'_>) {
        let group = self.open.remembered_group_of(slot, inference.model, inference.version);
        self.held.insert(Entry::remembered(inference.id, group), &self.open.is_alive());
    }

    /// Collects in `waiting` the labels that match a new inference, in the order of their offsets: those that matched
    /// nothing yet, and those that matched another identity of the same request, whose entries were found before.
    fn gather(
        &mut self,
        context: &Context<'_>,
        inference: &Inference<'_>,
        offset: i64,
        moves: &mut Vec<Move>,
    ) {
        let limits = &context.settings.limits;
        let matches = |placed: &Placed| {
            placed.label.model.is_none_or(|model| model == inference.model)
                && limits.may_match(placed.arrival, inference.time)
        };
        self.waiting.clear();
        self.kept.take(inference.id, matches, &mut self.waiting);
        let model = Some(inference.model);
        moves.extend(self.waiting.iter().filter_map(|it| context.moved(offset, it, model)));
        for &place in &self.found {
            let entry = self.held.get(place);
            let group = self.open.group(entry.group());
            let Some(slot) = group.window else { continue };
            let labels = &self.open.window(slot).labels;
            let mut next = entry.label;
            while next != 0 {
                let (placed, after) = labels.get(next, inference.id, group.model);
                next = after;
                if matches(&placed) {
                    self.waiting.push(placed);
                }
            }
        }
        self.waiting.sort_unstable_by_key(|placed| placed.offset);
        self.waiting.dedup_by_key(|placed| placed.offset);
    }

    /// Folds a label into every inference that it matches, else keeps it; gives what to count, if anything.
    pub fn label(
        &mut self,
        context: &Context<'_>,
        placed: &Placed,
        names: &Names,
    ) -> (Outcome, Option<Move>) {
        let label = &placed.label;
        let is_new = placed.offset >= context.counted.labels;
        self.find_matches(context, placed);
        let mut lowest: Option<(i64, ModelId)> = None;
        for &place in &self.found {
            let entry = self.held.at(place);
            let slot = self.open.group(entry.group()).window.expect("find_matches saw it");
            let (window, groups) = self.open.window_and_groups(slot);
            let group = &groups[keys::at(entry.group())];
            let offset = group.base_offset + i64::from(entry.offset_in_group);
            let is_new = is_new || offset >= context.counted.inferences;
            let epoch = if is_new { context.epoch } else { 0 };
            fold_label(window, group, entry, placed, names, epoch);
            lowest = match lowest {
                Some(known) if known.0 <= offset => Some(known),
                _ => Some((offset, group.model)),
            };
        }
        let limit = context.settings.limits.kept_until(placed.arrival);
        let outcome = match lowest {
            Some(_) => Outcome::Matched,
            None if has_passed(context.clock, limit) => Outcome::Orphan,
            None => {
                self.kept.push(*placed);
                Outcome::Kept
            }
        };
        let matched = lowest.map(|(_, model)| model);
        let moved = |was_kept| Move { named: label.model, was_kept, outcome, matched };
        if is_new {
            return (outcome, Some(moved(false)));
        }
        // Counted before: what it was at the mark tells whether it has moved on since.
        let was_matched = lowest.is_some_and(|(offset, _)| offset < context.counted.inferences);
        let was_kept = !was_matched && !has_passed(context.counted_clock, limit);
        (outcome, (was_kept && outcome != Outcome::Kept).then(|| moved(true)))
    }

    fn find_matches(&mut self, context: &Context<'_>, placed: &Placed) {
        let label = &placed.label;
        self.found.clear();
        for (place, entry) in self.held.find(label.id) {
            if entry.is_remembered() {
                continue;
            }
            let group = self.open.group(entry.group());
            let Some(slot) = group.window else { continue };
            let time = entry.event_time(self.open.window(slot).window);
            if label.model.is_none_or(|model| model == group.model)
                && context.settings.limits.may_match(placed.arrival, time)
            {
                self.found.push(place);
            }
        }
    }

    /// Labels that nothing can match any more become orphans. `offset` is that of the inference that moved the clock.
    pub fn expire(&mut self, context: &Context<'_>, offset: i64, moves: &mut Vec<Move>) {
        let limits = &context.settings.limits;
        let is_over = |arrival| has_passed(context.clock, limits.kept_until(arrival));
        while let Some(placed) = self.kept.expire(is_over) {
            moves.extend(context.moved(offset, &placed, None));
        }
    }

    /// Drops the windows that `is_done` says yes to; gives their ends and first offsets.
    pub fn drop_windows(&mut self, is_done: impl Fn(&OpenWindow) -> bool) -> Vec<(EventTime, i64)> {
        let dropped = self.open.drop_windows(is_done);
        if !dropped.is_empty() {
            self.open.settle();
            let windows = self.open.iter().filter(|window| window.is_folded);
            let all = windows.flat_map(|window| {
                // `all` holds each inference of its model and version once.
                window.states.iter().filter(|state| state.segment == all_segment(window))
            });
            let inferences: u64 = all.map(|state| state.families.labels.inferences()).sum();
            self.inferences = usize::try_from(inferences).expect("held in memory");
            self.held.begin_sweep();
            if self.held.slots() <= SWEEP_AT_ONCE {
                while !self.sweep_step() {}
            }
        }
        dropped
    }

    /// Does a bounded part of the sweep that a dropped window asked for. True when that ended it.
    pub fn sweep_step(&mut self) -> bool {
        let ended = self.held.sweep_step(&self.open.is_alive());
        if ended {
            self.open.free_retired();
        }
        ended
    }
}

/// The segment `all`: the first state of every window belongs to it.
fn all_segment(window: &OpenWindow) -> super::names::SegmentId {
    window.states[0].segment
}

fn small(n: i64) -> u32 {
    u32::try_from(n).expect("windows are at most 49 days long, and a group's offsets fit 32 bits")
}
