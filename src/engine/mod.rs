//! The engine: records in, window states out. Pure: no clock, I/O, randomness or logging; any run can be repeated
//! from its input.

pub mod caps;
pub mod event;
pub mod floor;
pub mod held;
pub mod join;
pub mod lateness;
pub mod log_time;
pub mod metrics;
pub mod names;
pub mod outcome;
pub mod state;
pub mod time;
pub mod window;

use std::sync::Arc;

use event::{Arrival, Event, PartitionId, Positions};
use floor::Mark;
use lateness::Limits;
use metrics::accumulator::ValueMatrix;
use names::Names;
use outcome::Outcome;
use state::Frozen;
use time::{LogTime, Millis};

/// What every shard of a job goes by.
#[derive(Clone, Debug, PartialEq)]
pub struct ShardSettings {
    /// Length of the base window, greater than 0.
    pub window: Millis,
    /// The time limits.
    pub limits: Limits,
    /// How many timestamps make a clock: 8, or 1 where the broker stamps the records (`LogAppendTime`).
    pub clock_stamps: usize,
    /// What moves the clocks.
    pub progress: Progress,
    /// Whether there is a label topic. Without one, windows seal by the inference clock alone.
    pub has_labels: bool,
    /// The generation of the rows.
    pub generation: u16,
    /// How many names one window may hold.
    pub caps: Caps,
    /// The configured segment dimensions, in the order of [`event::Segment::dimension`].
    pub dimensions: Vec<String>,
    /// How to read the models' records: the first pattern that fits a model's name counts.
    pub models: Vec<ModelSettings>,
}

/// What moves the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Kafka's timestamps.
    Log,
    /// The records' own times, for topics whose history was loaded later.
    Event,
}

/// How many names one window of one partition may hold; the rest goes to `(other)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Distinct models.
    pub models: usize,
    /// Distinct versions of one model.
    pub versions: usize,
    /// Distinct values of one segment dimension of one model and version.
    pub segments: usize,
}

/// What the configuration says about some models.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelSettings {
    /// A name, in which `*` stands for any text.
    pub pattern: String,
    /// The task; none means by each record's own shape.
    pub task: Option<Task>,
    /// The positive class: a label or prediction that equals one of these is positive.
    pub positive: Vec<Positive>,
    /// Scores at or above it are decided positive.
    pub threshold: f64,
    /// Indices into [`ShardSettings::dimensions`] of those whose values get rows of their own.
    pub dimensions: Vec<u16>,
    /// What each cell of the confusion matrix is worth.
    pub value: Option<ValueMatrix>,
}

/// A value that counts as positive, in the form of [`event::Target`].
#[derive(Clone, Debug, PartialEq)]
pub enum Positive {
    /// A number.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A class by name.
    Class(String),
}

/// What a model predicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    /// One of two classes.
    Binary,
    /// One of several classes.
    Multiclass,
    /// A number.
    Regression,
}

/// One partition number of both topics. Synchronous, deterministic, infallible: whatever can be wrong was refused
/// before.
#[derive(Debug)]
pub struct Shard {
    mark: Mark,
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
}

impl Shard {
    /// A shard that begins to read at the floor of `mark`. Records before the mark's positions rebuild memory; they
    /// are not counted and make no key dirty.
    pub fn new(settings: Arc<ShardSettings>, mark: &Mark) -> Self {
        drop(settings);
        Self { mark: mark.clone() }
    }

    /// Folds one record in. Offsets ascend per topic. [`Outcome::Dead`] means that the event's time is too far in
    /// the future; the caller writes the dead letter.
    pub fn observe(&mut self, at: Arrival, event: &Event<'_>, names: &mut Names) -> Outcome {
        unimplemented!("{at:?} {event:?} {names:?}")
    }

    /// Takes in a record that could not be decoded: it still moves position and clock.
    pub fn dead(&mut self, at: Arrival) -> Outcome {
        unimplemented!("{at:?}")
    }

    /// Whether the record at this place was counted before the last mark: then it writes no dead letter again.
    pub fn is_replay(&self, at: Arrival) -> bool {
        at.offset.0 < self.mark.positions.of(at.stream)
    }

    /// Whether both topics have reached the positions of the mark that the shard began from. Before that nothing
    /// may be frozen.
    pub fn has_caught_up(&self) -> bool {
        unimplemented!()
    }

    /// Next offsets to read.
    pub fn positions(&self) -> Positions {
        unimplemented!()
    }

    /// Seals what may seal and copies out the rows of all dirty keys; they stay dirty until [`clean`](Self::clean).
    /// Only after [`has_caught_up`](Self::has_caught_up).
    pub fn freeze(&mut self, names: &Names) -> Frozen {
        unimplemented!("{names:?}")
    }

    /// All that was frozen with this mark is acknowledged: keys that did not change since are clean, sealed windows
    /// are dropped.
    pub fn clean(&mut self, mark: &Mark) {
        unimplemented!("{mark:?}")
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        unimplemented!()
    }

    /// The partition number.
    pub fn partition(&self) -> PartitionId {
        self.mark.partition
    }
}
