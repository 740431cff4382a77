//! The engine: records in, window states out. Pure: no clock, I/O, randomness or logging; any run can be repeated
//! from its input.
#![warn(missing_docs)]
#![warn(clippy::wildcard_enum_match_arm)]

pub mod time;
pub mod glob;
pub mod names;
pub mod event;
pub mod window;
pub mod log_time;
pub mod lateness;
pub mod outcome;
pub mod prefetch;
pub mod checkpoints;
pub mod dead_schemas;
pub mod floor;
pub mod metrics;
pub mod settings;
pub mod caps;
pub mod state;
pub mod held;
pub mod kept;
pub mod scored;
pub mod group;
pub mod waiting;
pub mod keys;
pub mod open;
mod fold;
pub mod join;

pub use settings::{Caps, ModelSettings, Positive, Progress, ShardSettings, Task};

use std::collections::BTreeMap;
use std::sync::Arc;

use checkpoints::Checkpoints;
use dead_schemas::{DeadSchemas, Judged};
use event::{
    Arrival, Event, Inference, Label, PartitionId, Positions, RequestId, SchemaId, Stream,
};
use floor::{Floor, Mark};
use join::{Context, Join, Move};
use kept::Placed;
use lateness::has_passed;
use log_time::LogClock;
use names::{NameId, Names};
use open::OpenWindow;
use outcome::{Counts, Outcome};
use state::{Frozen, Key, StateRow, Version};
use time::{EventTime, LogTime, RecordTime};

/// Records between two looks at whether the states are to be weighed,
const LOOK_EVERY: usize = 128;
/// and one more for so many windows, since all are gone through.
const WINDOWS_A_RECORD: usize = 8;
/// Records after which they are, and one more for each state: every box of those that changed is asked for its size.
const WEIGH_EVERY: usize = 1024;
/// New states for which that is not waited for,
const NEW_STATES: usize = 128;
/// and one more for so many that there were, so that to look at them all again costs little for each new one.
const STATES_A_NEW_STATE: usize = 8;
/// Records between two steps of a sweep.
const SWEEP_EVERY: usize = 16;
/// Remembered windows are dropped after one record for so many slots of the join's table: to sweep out their entries
/// costs as much as there are slots.
const SLOTS_A_RECORD: usize = 8;

/// One partition number of both topics. Synchronous, deterministic, infallible: whatever can be wrong was refused
/// before.
#[derive(Debug)]
pub struct Shard {
    settings: Arc<ShardSettings>,
    partition: PartitionId,
    /// Where the shard began: its tally holds the records before its positions.
    began: Mark,
    /// Records before these were written down before, by whoever owned the partition then.
    counted: Positions,
    /// What was decided then of the schemas of those records, by topic.
    judged_before: [DeadSchemas; 2],
    /// What was decided of the schemas of all records that the shard has read and a replay may need.
    dead_schemas: [DeadSchemas; 2],
    positions: Positions,
    clocks: [LogClock; 2],
    checkpoints: [Checkpoints; 2],
    sealed_until: EventTime,
    join: Join,
    /// First offsets of dropped windows by their ends, as long as a replay may need them.
    first_offsets: BTreeMap<EventTime, i64>,
    tally: Counts,
    moves: Vec<Move>,
    /// Kept labels that have become orphans since [`take_orphaned`](Self::take_orphaned).
    orphaned: u64,
    /// Each freeze ends an epoch; keys touched after `clean_epoch` are dirty.
    epoch: u64,
    clean_epoch: u64,
    frozen: Vec<(Positions, u64)>,
    records: usize,
    /// `records` when remembered windows were last dropped.
    forgot_at: usize,
    state_bytes: usize,
    /// Records until the next look.
    until_look: usize,
    /// `records` when the states were weighed, and how many they were.
    weighed_at: usize,
    weighed_states: usize,
}

/// How a shard stands, for telemetry, backpressure and `/readyz`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Memory held, in bytes, without the names (they are the worker's).
    pub bytes: usize,
    /// Inferences held.
    pub held: usize,
    /// Labels kept that matched nothing yet.
    pub kept: usize,
    /// The clocks of both topics.
    pub clocks: [Option<LogTime>; 2],
    /// Windows that end by then are sealed.
    pub sealed_until: EventTime,
    /// Windows that end by then would be, if memory were frozen now.
    pub seals_until: EventTime,
}

impl Shard {
    /// A shard that begins to read at the floor of `mark`. Records before the mark's positions rebuild memory; they
    /// are not counted and make no key dirty.
    pub fn new(settings: Arc<ShardSettings>, mark: &Mark) -> Self {
        let floor = &mark.floor;
        let clocks = [floor.inferences.clone(), floor.labels.clone()];
        Self {
            partition: mark.partition,
            positions: floor.positions,
            checkpoints: [
                Checkpoints::new(floor.positions.inferences, &clocks[0]),
                Checkpoints::new(floor.positions.labels, &clocks[1]),
            ],
            clocks,
            sealed_until: floor.sealed_until,
            join: Join::default(),
            first_offsets: BTreeMap::new(),
            tally: Counts::default(),
            moves: Vec::new(),
            orphaned: 0,
            epoch: 1,
            clean_epoch: 0,
            frozen: Vec::new(),
            records: 0,
            forgot_at: 0,
            state_bytes: 0,
            until_look: LOOK_EVERY,
            weighed_at: 0,
            weighed_states: 0,
            began: mark.clone(),
            counted: mark.positions,
            judged_before: mark.dead_schemas.clone(),
            dead_schemas: [DeadSchemas::default(), DeadSchemas::default()],
            settings,
        }
    }

    /// Asks for the places of the join's table that records of this ID need. Changes nothing: call it for several
    /// records, and only then [`observe`](Self::observe) them.
    #[inline]
    pub fn prefetch(&self, id: RequestId) {
        self.join.held.prefetch(id);
    }

    /// Folds one record in. Offsets ascend per topic. [`Outcome::Dead`] means that the event's time is too far in
    /// the future; the caller writes the dead letter.
    pub fn observe(&mut self, at: Arrival, event: &Event<'_>, names: &mut Names) -> Outcome {
        let own = match event {
            Event::Inference(inference) => RecordTime(inference.time.0),
            Event::Label(label) => RecordTime(label.time.0),
        };
        let arrival = match self.settings.progress {
            Progress::Log => self.step(at, Some(at.time)),
            Progress::Event => self.step(at, Some(own)),
            Progress::End => self.step(Arrival { time: own, ..at }, None),
        };
        match event {
            Event::Inference(inference) => self.inference(at, arrival, inference, names),
            Event::Label(label) => self.label(at, arrival, label, names),
        }
    }

    /// Takes in a record that could not be decoded: it still moves position and clock.
    pub fn dead(&mut self, at: Arrival) -> Outcome {
        let time = match self.settings.progress {
            Progress::Log => Some(at.time),
            Progress::Event | Progress::End => None,
        };
        self.step(at, time);
        self.expire_labels(at);
        if !self.is_in_tally(at) {
            self.count(at.stream, Names::EMPTY, Outcome::Dead, 1);
        }
        Outcome::Dead
    }

    /// The same of one that could not be decoded because of what the registry says of its schema, or said when the
    /// record was counted: marks remember it, so that a replay decides the same.
    pub fn dead_by_schema(&mut self, at: Arrival, schema: SchemaId) -> Outcome {
        self.dead_schemas[at.stream.index()].dead(schema, at.offset.0);
        self.dead(at)
    }

    /// A record of this schema was decoded.
    #[inline]
    pub fn usable(&mut self, stream: Stream, schema: SchemaId) {
        self.dead_schemas[stream.index()].usable(schema);
    }

    /// What was decided of a record of this schema when it was counted; nothing where it was not.
    pub fn judged(&self, at: Arrival, schema: SchemaId) -> Judged {
        if self.is_replay(at) {
            self.judged_before[at.stream.index()].judge(schema, at.offset.0)
        } else {
            Judged::Open
        }
    }

    /// Whether what it has decided of schemas is what the owner of `mark` has, of the records that both have read. If
    /// not, it is no function of what was counted, and can't go on from there.
    pub fn has_judged_as(&self, mark: &Mark) -> bool {
        Stream::BOTH.into_iter().all(|stream| {
            let to = self.positions.of(stream).min(mark.positions.of(stream));
            let theirs = &mark.dead_schemas[stream.index()];
            self.dead_schemas[stream.index()].agrees(theirs, mark.floor.positions.of(stream), to)
        })
    }

    /// Moves position and clock; gives the record's arrival.
    fn step(&mut self, at: Arrival, time: Option<RecordTime>) -> LogTime {
        let (stream, clock) = (at.stream.index(), &mut self.clocks[at.stream.index()]);
        self.checkpoints[stream].before(at.offset.0, clock);
        if let Some(time) = time {
            clock.read(time);
        }
        self.positions.set(at.stream, at.offset.0 + 1);
        self.records = self.records.wrapping_add(1);
        if self.records.is_multiple_of(SWEEP_EVERY) {
            self.join.sweep_step();
        }
        match self.until_look.checked_sub(1) {
            Some(left) => self.until_look = left,
            None => self.look(),
        }
        self.clocks[stream].arrival(time.unwrap_or(at.time), self.settings.limits.max_gap)
    }

    fn inference(
        &mut self,
        at: Arrival,
        arrival: LogTime,
        inference: &Inference<'_>,
        names: &mut Names,
    ) -> Outcome {
        let limits = &self.settings.limits;
        let outcome = if limits.is_late(arrival, inference.time) {
            Outcome::Late
        } else if limits.is_future(arrival, inference.time) {
            Outcome::Dead
        } else {
            let mut moves = std::mem::take(&mut self.moves);
            let (context, join) = self.context();
            let outcome =
                join.inference(&context, at.offset.0, arrival, inference, names, &mut moves);
            self.moves = moves;
            outcome
        };
        self.expire_labels(at);
        if !self.is_in_tally(at) {
            self.count(at.stream, inference.model.0, outcome, 1);
        }
        outcome
    }

    fn label(&mut self, at: Arrival, arrival: LogTime, label: &Label, names: &Names) -> Outcome {
        let placed = Placed { label: *label, offset: at.offset.0, arrival };
        let (context, join) = self.context();
        let (outcome, moved) = join.label(&context, &placed, names);
        if let Some(moved) = moved {
            self.count_move(moved);
        }
        outcome
    }

    /// Nothing more will come: labels that never matched are orphans, and the next freeze seals all windows.
    pub fn finish(&mut self) {
        self.expire_until(Some(LogTime(i64::MAX)), self.positions.inferences);
        self.sealed_until = EventTime::LATEST;
    }

    /// What the inference clock has decided about kept labels, and the moves that the record made.
    fn expire_labels(&mut self, at: Arrival) {
        // Labels come after their inferences, as a rule: then there is nothing to do.
        let is_idle = self.moves.is_empty() && self.join.kept.none_can_expire();
        if at.stream == Stream::Inferences && !is_idle {
            self.expire_until(self.clocks[at.stream.index()].now(), at.offset.0);
        }
    }

    fn expire_until(&mut self, clock: Option<LogTime>, offset: i64) {
        let mut moves = std::mem::take(&mut self.moves);
        let (context, join) = self.context();
        join.expire(&Context { clock, ..context }, offset, &mut moves);
        for moved in moves.drain(..) {
            self.count_move(moved);
        }
        self.moves = moves;
    }

    fn context(&mut self) -> (Context<'_>, &mut Join) {
        let context = Context {
            settings: &self.settings,
            counted: self.began.positions,
            counted_clock: self.began.clocks[Stream::Inferences.index()].now(),
            clock: self.clocks[Stream::Inferences.index()].now(),
            epoch: self.epoch,
            sealed_until: self.began.floor.sealed_until,
        };
        (context, &mut self.join)
    }

    fn count(&mut self, stream: Stream, model: NameId, outcome: Outcome, by: i64) {
        self.tally.of((stream, model)).count(outcome, by);
    }

    fn count_move(&mut self, moved: Move) {
        let named = moved.named.map_or(Names::EMPTY, |model| model.0);
        if moved.was_kept {
            self.count(Stream::Labels, named, Outcome::Kept, -1);
            self.orphaned += u64::from(moved.outcome == Outcome::Orphan);
        }
        let matched = moved.matched.map_or(named, |model| model.0);
        let model = if named == Names::EMPTY { matched } else { named };
        self.count(Stream::Labels, model, moved.outcome, 1);
    }

    /// How many kept labels have become orphans since the last call, those left out that a mark counted as such.
    pub fn take_orphaned(&mut self) -> u64 {
        std::mem::take(&mut self.orphaned)
    }

    /// Whether the tally of the mark that the shard began from holds the record.
    fn is_in_tally(&self, at: Arrival) -> bool {
        at.offset.0 < self.began.positions.of(at.stream)
    }

    /// Goes on from where it stands, after another owner of the partition has come as far as `mark`. It is a function
    /// of what it has read, so it counts on from its own tally and comes to what the other has written.
    pub fn go_on(&mut self, mark: &Mark) {
        for stream in Stream::BOTH {
            let counted = mark.positions.of(stream);
            if counted >= self.counted.of(stream) {
                self.counted.set(stream, counted);
                self.judged_before[stream.index()] = mark.dead_schemas[stream.index()].clone();
            }
        }
    }

    /// Whether the record at this place was counted before the mark that the shard began or goes on from: then it
    /// writes no dead letter again.
    pub fn is_replay(&self, at: Arrival) -> bool {
        at.offset.0 < self.counted.of(at.stream)
    }

    /// Whether both topics have reached the positions of the mark that the shard began or goes on from. Before that
    /// nothing may be frozen.
    pub fn has_caught_up(&self) -> bool {
        Stream::BOTH.iter().all(|&s| self.positions.of(s) >= self.counted.of(s))
    }

    /// Moves a position over offsets that hold no record: the log was read to `next` and there was nothing more.
    pub fn skip_to(&mut self, stream: Stream, next: i64) {
        self.positions.set(stream, self.positions.of(stream).max(next));
    }

    /// Next offsets to read.
    pub fn positions(&self) -> Positions {
        self.positions
    }

    /// Seals what may seal and copies out the rows of all dirty keys; they stay dirty until [`clean`](Self::clean).
    /// Only after [`has_caught_up`](Self::has_caught_up).
    pub fn freeze(&mut self, names: &Names) -> Frozen {
        debug_assert!(self.has_caught_up(), "a replay is not frozen");
        self.join.open.settle();
        self.seal();
        let mut states = Vec::new();
        for window in self.join.open.iter_mut().filter(|window| window.is_folded) {
            let is_sealed = window.sealed.is_some();
            for state in window.states.iter_mut().filter(|s| s.touched > self.clean_epoch) {
                state.settle();
                let [model, version, segment] = open::key_texts(state, names);
                states.push(StateRow {
                    key: Key { model, version, segment, window: window.window },
                    partition: self.partition,
                    version: Version::of(self.settings.generation, state.records, is_sealed),
                    state: state.families.state().into(),
                });
            }
        }
        states.sort_unstable_by(|a, b| a.key.cmp(&b.key));
        let mark = self.mark(names);
        self.frozen.push((mark.positions, self.epoch));
        self.epoch += 1;
        self.weigh();
        Frozen { began: self.began.clone(), mark, states }
    }

    /// The end of the windows whose horizon both clocks have passed.
    fn seals_until(&self) -> EventTime {
        let streams = if self.settings.has_labels { 2 } else { 1 };
        let clocks = self.clocks.iter().take(streams).map(LogClock::now);
        let least = clocks.reduce(|a, b| a.zip(b).map(|(a, b)| a.min(b))).flatten();
        let ShardSettings { limits, window, .. } = &*self.settings;
        let passed = least.map(|clock| limits.sealed_until(clock, *window));
        passed.map_or(self.sealed_until, |passed| self.sealed_until.max(passed))
    }

    /// Seals them.
    fn seal(&mut self) {
        self.sealed_until = self.seals_until();
        let (sealed_until, epoch) = (self.sealed_until, self.epoch);
        for window in self.join.open.iter_mut() {
            if window.sealed.is_none() && window.window.end <= sealed_until {
                window.sealed = Some(epoch);
                for state in window.states.iter_mut().filter(|_| window.is_folded) {
                    state.families.labels.seal();
                    state.touched = epoch;
                }
            }
        }
    }

    fn mark(&mut self, names: &Names) -> Mark {
        let mut tally = self.began.tally.clone();
        for ((stream, model), outcomes) in self.tally.iter() {
            tally.add(*stream, names.text(*model), outcomes);
        }
        let floor = self.floor();
        let dead_schemas = Stream::BOTH
            .map(|stream| self.dead_schemas[stream.index()].since(floor.positions.of(stream)));
        Mark {
            partition: self.partition,
            positions: self.positions,
            floor,
            clocks: self.clocks.clone(),
            tally: tally.capped(self.settings.caps.models),
            dead_schemas,
        }
    }

    /// Where a replay must start so that all that is not sealed comes out the same.
    fn floor(&mut self) -> Floor {
        let bound = self.settings.limits.replay_bound(self.sealed_until);
        self.first_offsets = self.first_offsets.split_off(&bound);
        let windows = self.join.open.iter().filter(|window| window.window.end >= bound);
        let first_inference = windows
            .map(|window| window.first_offset)
            .chain(self.first_offsets.values().copied())
            .min();
        let unsealed = self.join.open.iter().filter(|window| window.sealed.is_none());
        let first_label = unsealed
            .filter_map(|window| window.first_label)
            .chain(self.join.kept.oldest_offset())
            .min();
        let (inferences, inference_clock) = self.floor_of(Stream::Inferences, first_inference);
        let (labels, label_clock) = self.floor_of(Stream::Labels, first_label);
        Floor {
            positions: Positions { inferences, labels },
            inferences: inference_clock,
            labels: label_clock,
            sealed_until: self.sealed_until,
        }
    }

    fn floor_of(&mut self, stream: Stream, first: Option<i64>) -> (i64, LogClock) {
        let position = self.positions.of(stream);
        match first {
            Some(first) if first < position => {
                self.checkpoints[stream.index()].floor(first).clone()
            }
            _ => (position, self.clocks[stream.index()].clone()),
        }
    }

    /// All that was frozen with this mark is acknowledged: keys that did not change since are clean, sealed windows
    /// are dropped.
    pub fn clean(&mut self, mark: &Mark) {
        let Some(at) = self.frozen.iter().rposition(|(positions, _)| *positions == mark.positions)
        else {
            return;
        };
        let (_, epoch) = self.frozen[at];
        self.frozen.drain(..=at);
        self.clean_epoch = self.clean_epoch.max(epoch);
        let is_done = |window: &OpenWindow| window.sealed.is_some_and(|s| s <= epoch);
        self.first_offsets.extend(self.join.drop_windows(is_done));
        self.weigh();
    }

    /// Gives memory back that only saves time: what was gathered for several keys is added to each of them.
    pub fn settle(&mut self) {
        self.join.open.settle();
        self.weigh();
    }

    /// Drops the windows that a replay only remembers and whose horizon the inference clock has passed: what comes
    /// from then on arrives later, so that nothing is a duplicate of theirs any more. Else all identities since the
    /// floor would be held at once, and one record with a time far ahead holds the floor back for days.
    fn forget(&mut self) {
        let clock = self.clocks[Stream::Inferences.index()].now();
        let limits = self.settings.limits;
        let is_done = |window: &OpenWindow| {
            !window.is_folded && has_passed(clock, limits.horizon(window.window))
        };
        let since = self.records.wrapping_sub(self.forgot_at);
        if self.join.open.iter().any(is_done) && since >= self.join.held.slots() / SLOTS_A_RECORD {
            self.forgot_at = self.records;
            self.first_offsets.extend(self.join.drop_windows(is_done));
        }
    }

    /// Weighs the states if it is time, or if there are many new ones.
    fn look(&mut self) {
        let (windows, states) = self.sizes();
        self.until_look = LOOK_EVERY + windows / WINDOWS_A_RECORD;
        let since = self.records.wrapping_sub(self.weighed_at);
        let known = self.weighed_states;
        let are_new = states >= known + NEW_STATES + known / STATES_A_NEW_STATE;
        if are_new || since >= WEIGH_EVERY + known { self.weigh() } else { self.forget() }
    }

    /// How many windows and states there are.
    fn sizes(&self) -> (usize, usize) {
        let sizes = self.join.open.iter().map(|window| window.states.len());
        sizes.fold((0, 0), |(windows, states), size| (windows + 1, states + size))
    }

    fn weigh(&mut self) {
        self.forget();
        self.state_bytes = self.join.open.state_bytes()
            + self.checkpoints.iter().map(Checkpoints::bytes).sum::<usize>();
        self.weighed_at = self.records;
        (_, self.weighed_states) = self.sizes();
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let Join { held, kept, open, inferences, .. } = &self.join;
        Standing {
            bytes: held.bytes() + kept.bytes() + open.record_bytes() + self.state_bytes,
            held: *inferences,
            kept: kept.len(),
            clocks: [self.clocks[0].now(), self.clocks[1].now()],
            sealed_until: self.sealed_until,
            seals_until: self.seals_until(),
        }
    }

    /// The partition number.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }
}
