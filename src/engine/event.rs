//! What one record says, after decoding: an inference or a label. Nothing here needs a range check again.

use std::borrow::Cow;

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
/// that number, so that `"1"`, `"1.0"`, `1` and `1.0` are one class.
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

impl Target {
    /// What a text says that is no class's name: a truth value, as JSON, Python or a spreadsheet writes it, or a whole
    /// number smaller than 2^53, with zeros behind its point or none.
    #[inline]
    pub fn of_text(text: &[u8]) -> Option<Self> {
        match text {
            b"true" | b"True" | b"TRUE" => Some(Self::Boolean(true)),
            b"false" | b"False" | b"FALSE" => Some(Self::Boolean(false)),
            _ => whole_number(text).map(Self::Number),
        }
    }

    /// The value as a class: the text that it is compared by; empty where there is none.
    pub fn text(self, names: &Names) -> Cow<'_, str> {
        match self {
            Self::Absent => Cow::Borrowed(""),
            Self::Number(number) => Cow::Owned(number.to_string()),
            Self::Boolean(boolean) => Cow::Borrowed(if boolean { "true" } else { "false" }),
            Self::Class(class) => Cow::Borrowed(names.text(class.0)),
        }
    }

    /// The value as a number: text that says one too, since producers that write all values as text write `3.5` so, and
    /// whole ones have been read as numbers already.
    pub fn number(self, names: &Names) -> Option<f64> {
        match self {
            Self::Number(number) => Some(number),
            Self::Class(class) => {
                let number = names.text(class.0).parse().ok();
                number.filter(|number: &f64| number.abs() <= NUMBER_MAX)
            }
            Self::Absent | Self::Boolean(_) => None,
        }
    }
}

#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "below 2^53 it is exact")]
fn whole_number(text: &[u8]) -> Option<f64> {
    const EXACT_MAX: u64 = 1 << 53;
    let (is_negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        [b'+', digits @ ..] | digits => (false, digits),
    };
    let mut number: u64 = 0;
    for (at, byte) in digits.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                number = number.checked_mul(10)?.checked_add(u64::from(byte - b'0'))?;
            }
            b'.' if at > 0 => {
                let places = &digits[at + 1..];
                if places.is_empty() || places.iter().any(|place| *place != b'0') {
                    return None;
                }
                break;
            }
            _ => return None,
        }
    }
    if digits.is_empty() || number >= EXACT_MAX {
        return None;
    }
    let number = number as f64;
    Some(if is_negative { 0.0 - number } else { number })
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
