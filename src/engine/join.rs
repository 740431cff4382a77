//! The join: duplicates, matches and corrections. Each fold is a function of the two prefixes read, never of the order
//! in which they were mixed.

use std::borrow::Cow;

use super::event::{Inference, Label, Positions, Target};
use super::held::{Entry, Held, Place, Prediction};
use super::kept::{KeptLabels, Placed};
use super::lateness::{delay_ms, has_passed};
use super::metrics::Families;
use super::metrics::accumulator::Accumulator;
use super::metrics::binary::BinaryInput;
use super::metrics::calibration::CalibrationInput;
use super::metrics::estimate::EstimateInput;
use super::metrics::feature::Folded;
use super::metrics::features::FeaturesInput;
use super::metrics::labels::LabelsInput;
use super::metrics::multiclass::MulticlassInput;
use super::metrics::regression::RegressionInput;
use super::metrics::serving::ServingInput;
use super::metrics::targets::TargetsInput;
use super::names::{ClassId, ModelId, Names};
use super::open::{Group, Open, OpenWindow};
use super::outcome::Outcome;
use super::settings::{ShardSettings, Task};
use super::time::{EventTime, LogTime};
use super::window::Window;

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
        let group = &groups[usize_of(number)];
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

    /// The end of the newest window in which this identity stands, if one of its horizons has not passed yet.
    fn known_identity(
        &self,
        context: &Context<'_>,
        arrival: LogTime,
        inference: &Inference<'_>,
    ) -> Option<EventTime> {
        let limits = &context.settings.limits;
        let identity = (inference.model, inference.version);
        self.held
            .find(inference.id)
            .filter_map(|(_, entry)| {
                let group = self.open.group(entry.group());
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
    /// nothing yet, and those that matched another identity of the same request.
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
        for placed in &self.waiting {
            let was_counted = placed.offset < context.counted.labels;
            if !was_counted || offset >= context.counted.inferences {
                moves.push(Move {
                    named: placed.label.model,
                    was_kept: true,
                    outcome: Outcome::Matched,
                    matched: Some(inference.model),
                });
            }
        }
        for (_, entry) in self.held.find(inference.id) {
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
            let group = &groups[usize_of(entry.group())];
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
                self.kept.push(*placed, limit);
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
            let time = event_time(self.open.window(slot).window, entry);
            if label.model.is_none_or(|model| model == group.model)
                && context.settings.limits.may_match(placed.arrival, time)
            {
                self.found.push(place);
            }
        }
    }

    /// Labels that nothing can match any more become orphans. `offset` is that of the inference that moved the clock.
    pub fn expire(&mut self, context: &Context<'_>, offset: i64, moves: &mut Vec<Move>) {
        while let Some(placed) = self.kept.expire(|limit| has_passed(context.clock, limit)) {
            let was_counted = placed.offset < context.counted.labels;
            if !was_counted || offset >= context.counted.inferences {
                moves.push(Move {
                    named: placed.label.model,
                    was_kept: true,
                    outcome: Outcome::Orphan,
                    matched: None,
                });
            }
        }
    }

    /// Drops the windows that `is_done` says yes to; gives their ends and first offsets.
    pub fn drop_windows(&mut self, is_done: impl Fn(&OpenWindow) -> bool) -> Vec<(EventTime, i64)> {
        let dropped = self.open.drop_windows(is_done);
        if !dropped.is_empty() {
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

fn event_time(window: Window, entry: &Entry) -> EventTime {
    EventTime(window.start.0 + i64::from(entry.time_in_window))
}

/// What an inference predicts, by the model's task or the record's own shape.
fn predict(inference: &Inference<'_>, group: &Group, names: &mut Names) -> Prediction {
    match group.task.or_else(|| Task::of(inference)) {
        Some(Task::Binary) => {
            let own = (inference.prediction != Target::Absent)
                .then(|| group.is_positive(inference.prediction));
            let by_score = inference.score.map(|score| score >= group.threshold);
            Prediction::Binary {
                decision: own.or(by_score),
                off_threshold: own.zip(by_score).is_some_and(|(own, by_score)| own != by_score),
                score: inference.score,
            }
        }
        Some(Task::Regression) => Prediction::Regression(number_of(inference.prediction)),
        Some(Task::Multiclass) => {
            let class = match inference.prediction {
                Target::Absent => inference.likeliest(names),
                Target::Class(class) => Some(class),
                other @ (Target::Number(_) | Target::Boolean(_)) => {
                    let text = class_text(other, names).into_owned();
                    Some(ClassId(names.intern(&text)))
                }
            };
            Prediction::Multiclass { class, scores: 0 }
        }
        None => Prediction::None,
    }
}

/// What an inference predicts, as its drift is measured: its own prediction, or else what follows from its scores.
fn said(own: Target, prediction: &Prediction, group: &Group) -> Target {
    match (own, *prediction) {
        (Target::Absent, Prediction::Multiclass { class: Some(class), .. }) => Target::Class(class),
        (Target::Absent, Prediction::Binary { decision: Some(decision), .. }) => {
            group.decided[usize::from(decision)]
        }
        (own, _) => own,
    }
}

/// A value as a class: the text that it is compared by.
fn class_text(value: Target, names: &Names) -> Cow<'_, str> {
    match value {
        Target::Absent => Cow::Borrowed(""),
        Target::Number(number) => Cow::Owned(number.to_string()),
        Target::Boolean(boolean) => Cow::Borrowed(if boolean { "true" } else { "false" }),
        Target::Class(class) => Cow::Borrowed(names.text(class.0)),
    }
}

fn number_of(value: Target) -> Option<f64> {
    match value {
        Target::Number(number) => Some(number),
        Target::Absent | Target::Boolean(_) | Target::Class(_) => None,
    }
}

fn fold_inference(
    window: &mut OpenWindow,
    group: &Group,
    serving: &ServingInput,
    features: &FeaturesInput<'_>,
    (prediction, said): (&Prediction, Target),
    epoch: u64,
) {
    let target = group.targets.as_ref().and_then(|targets| targets.prediction(said));
    for &state in &group.states {
        let state = &mut window.states[usize_of(state)];
        let families = &mut state.families;
        families.serving.add(serving);
        families.labels.add(&LabelsInput::Inference { decision: prediction.decision() });
        if let Some(target) = &target {
            families.targets.get_mut().add(target);
        }
        match prediction {
            Prediction::None => {}
            Prediction::Binary { score, .. } => {
                families.binary.get_mut().add(&BinaryInput::Inference { score: *score });
                if let Some(of) = group.estimated(prediction) {
                    families.estimate.get_mut().add(&EstimateInput::Inference(of));
                }
            }
            Prediction::Regression(_) => {
                families.regression.get_mut().add(&RegressionInput::Inference);
            }
            Prediction::Multiclass { .. } => {
                families.multiclass.get_mut().add(&MulticlassInput::Inference);
            }
        }
        state.records += 1;
        state.touched = state.touched.max(epoch);
    }
    // What a value adds is the same for all keys, and costs more than to add it.
    for (at, feature) in features.features.iter().enumerate() {
        let mut value = Folded::of(&feature.value);
        for &state in &group.states {
            let families = &mut window.states[usize_of(state)].families;
            families.features.get_mut().add_value(at, feature.name, &mut value, features);
        }
    }
}

/// What an inference with its winning label adds to the families that read labels, or takes back.
struct Terms<'a> {
    binary: Option<BinaryInput<'a>>,
    calibration: Option<CalibrationInput>,
    estimate: Option<EstimateInput>,
    regression: Option<RegressionInput>,
    multiclass: Option<MulticlassTerms<'a>>,
    target: Option<TargetsInput>,
}

/// The terms of a multiclass inference, whose input borrows the label's text.
struct MulticlassTerms<'a> {
    predicted: Option<&'a str>,
    actual: Cow<'a, str>,
    scores: &'a [(&'a str, f64)],
}

impl MulticlassTerms<'_> {
    fn input(&self) -> MulticlassInput<'_> {
        let Self { predicted, ref actual, scores } = *self;
        MulticlassInput::Labelled { predicted, actual, scores }
    }
}

impl<'a> Terms<'a> {
    fn of(
        prediction: Prediction,
        scores: &'a [(&'a str, f64)],
        label: Target,
        group: &'a Group,
        names: &'a Names,
    ) -> Self {
        let mut terms = Self {
            binary: None,
            calibration: None,
            estimate: None,
            regression: None,
            multiclass: None,
            target: group.targets.as_ref().and_then(|targets| targets.label(label)),
        };
        match prediction {
            Prediction::None => {}
            Prediction::Binary { decision, off_threshold, score } => {
                let (positive, thresholds) = (group.is_positive(label), &*group.thresholds);
                terms.binary = Some(BinaryInput::Labelled {
                    decision,
                    off_threshold,
                    score,
                    positive,
                    thresholds,
                });
                terms.calibration = score.map(|score| CalibrationInput { score, positive });
                let estimated = group.estimated(&prediction);
                terms.estimate = estimated.map(|of| EstimateInput::Labelled { of, positive });
            }
            Prediction::Regression(predicted) => {
                let both = predicted.zip(number_of(label));
                terms.regression =
                    both.map(|(predicted, actual)| RegressionInput::Labelled { predicted, actual });
            }
            Prediction::Multiclass { class, .. } => {
                let predicted = class.map(|class| &**names.text(class.0));
                let actual = class_text(label, names);
                terms.multiclass = Some(MulticlassTerms { predicted, actual, scores });
            }
        }
        terms
    }

    fn add_to(&self, families: &mut Families) {
        if let Some(input) = &self.binary {
            families.binary.get_mut().add(input);
        }
        if let Some(input) = &self.calibration {
            families.calibration.get_mut().add(input);
        }
        if let Some(input) = &self.estimate {
            families.estimate.get_mut().add(input);
        }
        if let Some(input) = &self.regression {
            families.regression.get_mut().add(input);
        }
        if let Some(terms) = &self.multiclass {
            families.multiclass.get_mut().add(&terms.input());
        }
        if let Some(input) = &self.target {
            families.targets.get_mut().add(input);
        }
    }

    fn take_from(&self, families: &mut Families) {
        if let Some(input) = &self.binary {
            families.binary.get_mut().remove(input);
        }
        if let Some(input) = &self.calibration {
            families.calibration.get_mut().remove(input);
        }
        if let Some(input) = &self.estimate {
            families.estimate.get_mut().remove(input);
        }
        if let Some(input) = &self.regression {
            families.regression.get_mut().remove(input);
        }
        if let Some(terms) = &self.multiclass {
            families.multiclass.get_mut().remove(&terms.input());
        }
        if let Some(input) = &self.target {
            families.targets.get_mut().remove(input);
        }
    }
}

/// What a label does to an inference that it matches.
enum Effect {
    /// The first one joins.
    First,
    /// It wins with another value or weight than the winner's, which is taken back.
    Correction(Label),
    /// It says the same, or loses.
    Duplicate { conflict: bool },
}

/// Folds a label into one inference. Labels of one inference come in the order of their offsets.
fn fold_label(
    window: &mut OpenWindow,
    group: &Group,
    entry: &mut Entry,
    placed: &Placed,
    names: &Names,
    epoch: u64,
) {
    let label = &placed.label;
    let effect = link(&mut window.labels, group.model, entry, placed);
    window.first_label =
        Some(window.first_label.map_or(placed.offset, |first| first.min(placed.offset)));
    let prediction = entry.prediction();
    let scores: Vec<(&str, f64)> = match prediction {
        Prediction::Multiclass { scores, .. } => {
            let scores = window.scores.get(scores);
            scores.map(|(class, score)| (&**names.text(class.0), score)).collect()
        }
        Prediction::None | Prediction::Binary { .. } | Prediction::Regression(_) => Vec::new(),
    };
    let terms = Terms::of(prediction, &scores, label.value, group, names);
    let earlier = match &effect {
        Effect::Correction(earlier) => {
            Some(Terms::of(prediction, &scores, earlier.value, group, names))
        }
        Effect::First | Effect::Duplicate { .. } => None,
    };
    let delay_ms = delay_ms(placed.arrival, event_time(window.window, entry));
    for &state in &group.states {
        let state = &mut window.states[usize_of(state)];
        let families = &mut state.families;
        families.labels.add(&match effect {
            Effect::First => LabelsInput::First { delay_ms, decision: prediction.decision() },
            Effect::Correction(_) => LabelsInput::Correction,
            Effect::Duplicate { conflict } => LabelsInput::Duplicate { conflict },
        });
        if let Some(earlier) = &earlier {
            earlier.take_from(families);
        }
        if !matches!(effect, Effect::Duplicate { .. }) {
            terms.add_to(families);
        }
        state.records += 1;
        state.touched = state.touched.max(epoch);
    }
}

/// Puts a label among those of an inference, the winner first, and tells what it does.
fn link(
    labels: &mut super::kept::MatchedLabels,
    model: ModelId,
    entry: &mut Entry,
    placed: &Placed,
) -> Effect {
    if entry.label == 0 {
        entry.label = labels.push(placed, 0);
        return Effect::First;
    }
    let (winner, after) = labels.get(entry.label, placed.label.id, model);
    let is_same =
        (winner.label.value, winner.label.weight) == (placed.label.value, placed.label.weight);
    if (placed.label.time, placed.offset) > (winner.label.time, winner.offset) {
        entry.label = labels.push(placed, entry.label);
        return if is_same {
            Effect::Duplicate { conflict: false }
        } else {
            Effect::Correction(winner.label)
        };
    }
    let next = labels.push(placed, after);
    labels.set_next(entry.label, next);
    Effect::Duplicate { conflict: !is_same }
}

fn small(n: i64) -> u32 {
    u32::try_from(n).expect("windows are at most 49 days long, and a group's offsets fit 32 bits")
}

#[expect(clippy::as_conversions, reason = "u32 fits usize on every supported target")]
fn usize_of(n: u32) -> usize {
    n as usize
}
