//! What one record says, after decoding: an inference or a label. Nothing here needs a range check again.

use super::names::{ClassId, FeatureId, ModelId, Names, SegmentId, VersionId};
use super::time::{EventTime, RecordTime};

/// One of the two topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// The inference topic.
    Inferences,
    /// The label topic.
    Labels,
}

impl Stream {
    /// Both, inferences first.
    pub const BOTH: [Self; 2] = [Self::Inferences, Self::Labels];

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Inferences => Self::Labels,
            Self::Labels => Self::Inferences,
        }
    }

    /// 0 for inferences, 1 for labels: an index into arrays of two.
    pub fn index(self) -> usize {
        match self {
            Self::Inferences => 0,
            Self::Labels => 1,
        }
    }

    /// The name in tables, telemetry and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inferences => "inferences",
            Self::Labels => "labels",
        }
    }
}

/// The number of a partition, the same for both topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub i32);

/// The offset of one record in its topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset(pub i64);

/// The id of a writer schema in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

/// Next offsets to read of one partition number, of both topics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Positions {
    /// Next offset of the inference topic.
    pub inferences: i64,
    /// Next offset of the label topic.
    pub labels: i64,
}

impl Positions {
    /// The position in one of the two topics.
    pub fn of(self, stream: Stream) -> i64 {
        match stream {
            Stream::Inferences => self.inferences,
            Stream::Labels => self.labels,
        }
    }

    /// Of each topic the greater position.
    #[must_use]
    pub fn furthest(self, other: Self) -> Self {
        Self {
            inferences: self.inferences.max(other.inferences),
            labels: self.labels.max(other.labels),
        }
    }

    /// Sets the position in one of the two topics.
    pub fn set(&mut self, stream: Stream, next: i64) {
        match stream {
            Stream::Inferences => self.inferences = next,
            Stream::Labels => self.labels = next,
        }
    }
}

/// Where and when a record stands in its topic partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// Which of the two topics.
    pub stream: Stream,
    /// The record's offset.
    pub offset: Offset,
    /// The record's Kafka timestamp.
    pub time: RecordTime,
}

/// XXH3-128 (seed 0) of the bytes of a request ID, as two halves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId {
    /// The upper 64 bits.
    pub high: u64,
    /// The lower 64 bits.
    pub low: u64,
}

impl RequestId {
    /// The ID of a record's own bytes. An ID of several parts is hashed with each part's length before it.
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_u128(xxhash_rust::xxh3::xxh3_128(bytes))
    }

    /// Splits a 128-bit hash.
    #[expect(clippy::as_conversions, reason = "both halves are cut to 64 bits on purpose")]
    pub fn from_u128(hash: u128) -> Self {
        Self { high: (hash >> 64) as u64, low: (hash & u128::from(u64::MAX)) as u64 }
    }
}

/// A prediction or a true value, in the form in which two of them are compared: a text that is a whole number is
/// that number, so that `"1"`, `1` and `1.0` are one class.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Target {
    /// None was given.
    Absent,
    /// A number, finite; `-0.0` is stored as `0.0`.
    Number(f64),
    /// `true` or `false`.
    Boolean(bool),
    /// A class by name.
    Class(ClassId),
}

/// One decoded record.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Event<'a> {
    /// From the inference topic.
    Inference(Inference<'a>),
    /// From the label topic.
    Label(Label),
}

/// One prediction of a model.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Inference<'a> {
    /// What joins it with its labels.
    pub id: RequestId,
    /// The model that made it.
    pub model: ModelId,
    /// The model's version; the empty name where none is given.
    pub version: VersionId,
    /// When it was made.
    pub time: EventTime,
    /// The predicted class or number, where given.
    pub prediction: Target,
    /// Whole microseconds, rounded half up; larger values are held to `u32::MAX`.
    pub latency_us: Option<u32>,
    /// Whether the record carries a non-empty `error`.
    pub failed: bool,
    /// Probability of the positive class, in 0..=1.
    pub score: Option<f64>,
    /// Probability by class, each in 0..=1; empty where none are given.
    pub scores: &'a [(ClassId, f64)],
    /// The features that the record carries; one that is absent is missing.
    pub features: &'a [Feature<'a>],
    /// The values of the configured segment dimensions.
    pub segments: &'a [Segment],
}

impl Inference<'_> {
    /// The class of the greatest score, the last by name of several.
    pub fn likeliest(&self, names: &Names) -> Option<ClassId> {
        let text = |(class, _): &(ClassId, f64)| names.text(class.0);
        let order = |a: &&(ClassId, f64), b: &&(ClassId, f64)| {
            a.1.partial_cmp(&b.1).expect("scores are finite").then_with(|| text(a).cmp(text(b)))
        };
        self.scores.iter().max_by(order).map(|(class, _)| *class)
    }
}

/// One value of one configured segment dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Index of the dimension in the list that the decoder was given.
    pub dimension: u16,
    /// The interned text `dimension=value`.
    pub id: SegmentId,
}

/// One feature of an inference.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Feature<'a> {
    /// The interned name.
    pub name: FeatureId,
    /// The value.
    pub value: FeatureValue<'a>,
}

/// Numbers beyond this can't be squared and summed exactly.
pub const NUMBER_MAX: f64 = 1e150;

/// The value of a feature.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FeatureValue<'a> {
    /// Null.
    Missing,
    /// NaN, infinite, or beyond 1e150.
    NotFinite,
    /// A finite number.
    Number(f64),
    /// A category.
    Text(&'a str),
    /// `true` or `false`.
    Boolean(bool),
}

/// The truth about one request, as far as one record knows it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Label {
    /// What joins it with its inferences.
    pub id: RequestId,
    /// The model that it is for; none means all that scored the request.
    pub model: Option<ModelId>,
    /// When the label was made: of several, the greatest `(time, offset)` wins.
    pub time: EventTime,
    /// The true class or number; never [`Target::Absent`].
    pub value: Target,
    /// Weight in units of 2^-20, at most 2^40 (a weight of 2^20).
    pub weight: u64,
}

/// The weight of a label that names none: 1.
pub const WEIGHT_ONE: u64 = 1 << 20;
