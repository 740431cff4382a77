//! What every shard of a job goes by.

use std::sync::Arc;

use super::event::{Inference, Target};
use super::glob::fits;
use super::lateness::Limits;
use super::metrics::accumulator::ValueMatrix;
use super::metrics::custom::CustomMetric;
use super::metrics::dictionary::ClassCaps;
use super::metrics::method::Options;
use super::metrics::reference::Profile;
use super::time::Millis;

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
    /// Records of a group of keys that go to each of them before the next ones wait for each other, and are gathered for
    /// all of several keys. The states are the same whatever it is; see [`Spread`](super::keys::Spread).
    pub gather_after: u32,
    /// The configured segment dimensions, in the order of [`Segment::dimension`](super::event::Segment::dimension).
    pub dimensions: Vec<String>,
    /// How to read the models' records: the first pattern that fits a model's name counts.
    pub models: Vec<ModelSettings>,
    /// The metrics that the configuration defines, by name.
    pub custom: Vec<Arc<CustomMetric>>,
}

/// What moves the clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Kafka's timestamps.
    Log,
    /// The records' own times, for topics whose history was loaded later.
    Event,
    /// Nothing, for files: they have no log time and all that there is stands in them. A record arrives at its own time,
    /// nothing is late, and [`Shard::finish`](super::Shard::finish) seals all.
    End,
}

/// How many names one window of one partition may hold, of classes also one of several; the rest goes to `(other)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Caps {
    /// Distinct models.
    pub models: usize,
    /// Distinct versions of one model.
    pub versions: usize,
    /// Distinct values of one segment dimension of one model and version.
    pub segments: usize,
    /// Distinct features of one model, version and segment.
    pub features: usize,
    /// Distinct classes of one model, version and segment, predicted and true together.
    pub max_classes: usize,
    /// Those of them whose scores are kept.
    pub auroc_classes: usize,
}

impl Caps {
    /// The caps on classes.
    pub fn classes(&self) -> ClassCaps {
        ClassCaps { counted: self.max_classes, scored: self.auroc_classes }
    }
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
    /// Other thresholds whose quality gets rows of its own, ascending; at most
    /// [`MOST_THRESHOLDS`](super::metrics::binary::MOST_THRESHOLDS).
    pub thresholds: Vec<f64>,
    /// Indices into [`ShardSettings::dimensions`] of those whose values get rows of their own.
    pub dimensions: Vec<u16>,
    /// What each cell of the confusion matrix is worth.
    pub value: Option<ValueMatrix>,
    /// Whether figures take the weights of the labels.
    pub weighted: bool,
    /// What its windows are compared with.
    pub reference: Option<Arc<Profile>>,
    /// What the comparisons are judged by.
    pub drift: Options,
    /// Globs of the features whose distinct numbers are counted.
    pub distinct: Arc<[String]>,
}

/// A value that counts as positive, in the form of [`Target`].
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

impl Task {
    /// The task that a record has by itself.
    pub fn of(inference: &Inference<'_>) -> Option<Self> {
        if !inference.scores.is_empty() {
            return Some(Self::Multiclass);
        }
        if inference.score.is_some() {
            return Some(Self::Binary);
        }
        match inference.prediction {
            Target::Boolean(_) => Some(Self::Binary),
            Target::Class(_) => Some(Self::Multiclass),
            Target::Number(_) => Some(Self::Regression),
            Target::Absent => None,
        }
    }
}

/// What takes the place of the negative class where the positive one is a name, since no other is known.
pub const NEGATIVE: &str = "(negative)";

impl ModelSettings {
    /// The two classes, negative and positive, that stand for the decision of a score that comes without a prediction:
    /// the first that counts as positive, and its opposite.
    pub fn decided(&self) -> [Positive; 2] {
        let positive = self.positive.first().cloned().unwrap_or(Positive::Boolean(true));
        let negative = match &positive {
            Positive::Number(number) => Positive::Number(f64::from(u8::from(*number == 0.0))),
            Positive::Boolean(truth) => Positive::Boolean(!truth),
            Positive::Class(_) => Positive::Class(NEGATIVE.to_owned()),
        };
        [negative, positive]
    }
}

impl ShardSettings {
    /// What holds for a model: the first pattern that fits its name, else the defaults.
    pub fn model(&self, name: &str) -> ModelSettings {
        self.models.iter().find(|model| fits(&model.pattern, name)).cloned().unwrap_or_default()
    }

    /// The profiles that the models' windows are compared with; one of several models comes as often.
    pub fn references(&self) -> impl Iterator<Item = Arc<Profile>> + '_ {
        self.models.iter().filter_map(|model| model.reference.clone())
    }

    /// The custom metrics that a model's segment has, by name.
    pub fn custom_of(&self, model: &str, segment: &str) -> Vec<Arc<CustomMetric>> {
        let any = |globs: &[String], name: &str| globs.iter().any(|glob| fits(glob, name));
        let has = |metric: &&Arc<CustomMetric>| {
            any(&metric.models, model) && any(&metric.segments, segment)
        };
        self.custom.iter().filter(has).cloned().collect()
    }
}

impl Default for ModelSettings {
    /// By shape, positive is `1` or `true`, threshold 0.5 and no other, no segments.
    fn default() -> Self {
        Self {
            pattern: "*".into(),
            task: None,
            positive: vec![Positive::Number(1.0), Positive::Boolean(true)],
            threshold: 0.5,
            thresholds: Vec::new(),
            dimensions: Vec::new(),
            value: None,
            weighted: false,
            reference: None,
            drift: Options::default(),
            distinct: Arc::default(),
        }
    }
}
