//! Every check of an id, range and unit, and the error of a record that fails one.

use super::fields::Field;
use super::scalar::{Digits, Scalar, Text, Unit};
use crate::calendar;
use crate::engine::event::{RequestId, SchemaId, Target, WEIGHT_ONE};
use crate::engine::names::{ClassId, NameId};
use crate::engine::time::EventTime;
use crate::failpoint;
use bumpalo::Bump;
use std::borrow::Cow;
use std::fmt::Display;

pub use crate::engine::event::NUMBER_MAX;

/// The longest name of a model, version, class, segment value or feature, in bytes.
pub const NAME_BYTES_MAX: usize = 1024;
/// The most features, and the most scores, of one record.
pub const VALUES_MAX: usize = 8192;
/// The deepest nesting of a record that is followed.
pub const DEPTH_MAX: usize = 64;
/// The code of an inference from the future: decided by the pipeline, which knows when the record arrived.
pub const TIMESTAMP_IN_FUTURE: &str = "timestamp_in_future";

/// 1900-01-01 in milliseconds.
const TIME_MIN_MS: i64 = -2_208_988_800_000;
/// 2200-01-01 in milliseconds.
const TIME_MAX_MS: i64 = 7_258_118_400_000;
const WEIGHT_MAX: f64 = 1_048_576.0;
const MICROS_PER_MILLI: f64 = 1000.0;
/// What a timestamp can be.
const TIMES: &str = "milliseconds since 1970 as an integer, or RFC 3339 text";
/// So much of a time is shown: the digits of its second have no end.
const TIME_SHOWN: usize = 40;
/// Four units in the last place of 1 in single precision: so far beyond 0 or 1 models' own rounding takes probabilities,
/// the surest ones first. Without these a model would look worse than it is.
const SCORE_ROUNDING: f64 = 1.0 / 2_097_152.0;
/// From here on not every whole number is a double.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;

/// Why a record can't be used, for ever.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The record has a null payload.
    #[error("the record has no payload (a tombstone): have the producer send events only")]
    Tombstone,
    /// The payload has no bytes.
    #[error("the payload is empty: have the producer send the event")]
    EmptyPayload,
    /// Not one JSON object.
    #[error(
        "the record is not one JSON object ({reason}): send each record as one object, in a file each on one line, or \
         set the topic's `format`"
    )]
    BrokenJson {
        /// What is wrong, and where.
        reason: String,
    },
    /// Bytes that don't fit the writer's schema.
    #[error(
        "the payload does not fit its Avro schema at byte {at} ({reason}): \
         fix the producer, or set the topic's `format` or schema file"
    )]
    BrokenAvro {
        /// What is wrong.
        reason: &'static str,
        /// Where, in bytes from the payload's start.
        at: usize,
    },
    /// Not a zero byte and a schema id.
    #[error(
        "the payload does not begin with a zero byte and a 4-byte schema id: \
         use a serializer with the registry's wire format, or set the topic's `format`"
    )]
    WireFormat,
    /// The registry knows no such schema.
    #[error("the registry has no schema {id}: check `schema_registry.url`, or register the schema")]
    UnknownSchema {
        /// The id in the payload.
        id: u32,
    },
    /// The writer's schema can't be used.
    #[error("schema {id} can't be used ({reason}): register a valid Avro schema")]
    BadSchema {
        /// The id in the payload.
        id: u32,
        /// What is wrong.
        reason: String,
    },
    /// Bytes after the event.
    #[error("{count} bytes follow the event: send one event in each record, with its own schema")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A required field is absent or null.
    #[error("`{field}` is missing or null: add it, or set its path under `fields`")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// An ID without a character.
    #[error("`request_id` is empty: send an ID that is unique for each request")]
    EmptyRequestId,
    /// A value of the wrong type.
    #[error("`{field}` is {found}, not {expected}: correct it, or set its path under `fields`")]
    WrongType {
        /// The field, with the entry's name where it has entries.
        field: Cow<'static, str>,
        /// What can be used.
        expected: &'static str,
        /// What was there.
        found: &'static str,
    },
    /// A time of which only its sender knows when it was.
    #[error(
        "`timestamp` {value} has no zone: append Z where it is UTC, else an offset like +01:00"
    )]
    TimestampWithoutZone {
        /// The text as the record has it.
        value: String,
    },
    /// A text that says no time.
    #[error(
        "`timestamp` {value:?} is no time: send milliseconds since 1970 as an integer, or RFC 3339 text"
    )]
    TimestampUnreadable {
        /// The text's first characters.
        value: String,
    },
    /// Not between the years 1900 and 2200.
    #[error("`timestamp` {value} is not in the years 1900 to 2200: {hint}")]
    TimestampOutOfRange {
        /// The value as the record has it.
        value: String,
        /// What the number looks like.
        hint: &'static str,
    },
    /// An inference from the future.
    #[error(
        "`timestamp` is later than the record's arrival: set the clock of the producer right, or `windows.max_gap` to \
         more than the longest pause of a partition"
    )]
    TimestampInFuture,
    /// Not a probability.
    #[error("`{field}` is {}, not in 0 to 1: send a probability", shown(.value))]
    ScoreOutOfRange {
        /// The field.
        field: Cow<'static, str>,
        /// The value.
        value: f64,
    },
    /// Negative or not finite.
    #[error("`latency_ms` is {}: send milliseconds from 0 on, or leave the field out", shown(.value))]
    LatencyOutOfRange {
        /// The value.
        value: f64,
    },
    /// Not finite, or beyond 1e150.
    #[error("`{field}` is {}: send a finite number of at most 1e150", shown(.value))]
    NumberOutOfRange {
        /// The field.
        field: &'static str,
        /// The value.
        value: f64,
    },
    /// A weight that can't be counted.
    #[error("`weight` is {}: send a number from 0 to 1048576, or leave the field out", shown(.value))]
    WeightOutOfRange {
        /// The value.
        value: f64,
    },
    /// Nesting that only an attack or a mistake has.
    #[error("the record is nested more than {DEPTH_MAX} levels deep: send it flatter")]
    NestedTooDeep,
    /// A name that is no name.
    #[error("`{field}` is a name of {bytes} bytes: send at most {NAME_BYTES_MAX}")]
    NameTooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        bytes: usize,
    },
    /// More entries than a record may have.
    #[error("`{field}` has more than {VALUES_MAX} entries: send fewer")]
    TooManyValues {
        /// The field.
        field: &'static str,
    },
}

impl DecodeError {
    /// Every code that there is.
    pub const CODES: [&'static str; 20] = [
        "tombstone",
        "empty_payload",
        "broken_json",
        "broken_avro",
        "wire_format",
        "unknown_schema",
        "bad_schema",
        "trailing_bytes",
        "missing_field",
        "empty_request_id",
        "wrong_type",
        "timestamp_out_of_range",
        TIMESTAMP_IN_FUTURE,
        "score_out_of_range",
        "latency_out_of_range",
        "number_out_of_range",
        "weight_out_of_range",
        "nested_too_deep",
        "name_too_long",
        "too_many_values",
    ];

    /// The schema, where nothing but what the registry says of it makes the record bad.
    pub fn schema(&self) -> Option<SchemaId> {
        match self {
            Self::UnknownSchema { id } | Self::BadSchema { id, .. } => Some(SchemaId(*id)),
            _ => None,
        }
    }

    /// A stable name of the error, for headers, telemetry and the README.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Tombstone => "tombstone",
            Self::EmptyPayload => "empty_payload",
            Self::BrokenJson { .. } => "broken_json",
            Self::BrokenAvro { .. } => "broken_avro",
            Self::WireFormat => "wire_format",
            Self::UnknownSchema { .. } => "unknown_schema",
            Self::BadSchema { .. } => "bad_schema",
            Self::TrailingBytes { .. } => "trailing_bytes",
            Self::MissingField { .. } => "missing_field",
            Self::EmptyRequestId => "empty_request_id",
            Self::WrongType { .. }
            | Self::TimestampWithoutZone { .. }
            | Self::TimestampUnreadable { .. } => "wrong_type",
            Self::TimestampOutOfRange { .. } => "timestamp_out_of_range",
            Self::TimestampInFuture => TIMESTAMP_IN_FUTURE,
            Self::ScoreOutOfRange { .. } => "score_out_of_range",
            Self::LatencyOutOfRange { .. } => "latency_out_of_range",
            Self::NumberOutOfRange { .. } => "number_out_of_range",
            Self::WeightOutOfRange { .. } => "weight_out_of_range",
            Self::NestedTooDeep => "nested_too_deep",
            Self::NameTooLong { .. } => "name_too_long",
            Self::TooManyValues { .. } => "too_many_values",
        }
    }
}

/// The name of one entry of a field, for messages.
pub(super) fn entry(field: &'static str, name: &str) -> Cow<'static, str> {
    const SHOWN: usize = 64;
    let end = (0..=SHOWN.min(name.len())).rev().find(|&i| name.is_char_boundary(i)).unwrap_or(0);
    Cow::Owned(format!("{field}.{}", name.get(..end).unwrap_or("")))
}

/// A number for a message. The greatest one stands for what no double holds.
#[expect(clippy::trivially_copy_pass_by_ref, reason = "messages hand over references")]
fn shown(number: &f64) -> String {
    match number.abs() {
        f64::MAX.. => if *number < 0.0 { "-infinite" } else { "infinite" }.to_owned(),
        1e15.. => format!("{number:e}"),
        _ => number.to_string(),
    }
}

fn wrong(field: Field, expected: &'static str, value: Scalar<'_>) -> DecodeError {
    DecodeError::WrongType { field: field.name().into(), expected, found: value.kind() }
}

/// The hash of a request ID: of its own bytes, or where it has several parts, of each part's length (as eight bytes,
/// the least first) and bytes. Whole numbers stand for their decimal text.
pub(super) fn request_id<'a>(
    parts: impl ExactSizeIterator<Item = Scalar<'a>>,
    bytes: &mut Vec<u8>,
) -> Result<RequestId, DecodeError> {
    let single = parts.len() == 1;
    let mut length = 0;
    bytes.clear();
    for part in parts {
        match part {
            Scalar::Text(text) => add_part(bytes, single, text.as_bytes()),
            Scalar::Integer(x) | Scalar::Instant(x, _) => {
                add_part(bytes, single, Digits::of(i128::from(x)).as_str().as_bytes());
            }
            Scalar::Unsigned(x) => {
                add_part(bytes, single, Digits::of(i128::from(x)).as_str().as_bytes());
            }
            Scalar::Absent | Scalar::Null => {
                return Err(DecodeError::MissingField { field: Field::RequestId.name() });
            }
            Scalar::Boolean(_) | Scalar::Float(_) | Scalar::Other(_) => {
                return Err(wrong(Field::RequestId, "text or an integer of at most 64 bits", part));
            }
        }
        length += if single { 0 } else { size_of::<u64>() };
    }
    if bytes.len() == length {
        return Err(DecodeError::EmptyRequestId);
    }
    Ok(failpoint::request_id(RequestId::of(bytes)))
}

/// The same of a text, which is the only part.
#[inline]
pub(super) fn text_id(text: Text<'_>) -> Result<RequestId, DecodeError> {
    if text.as_bytes().is_empty() {
        return Err(DecodeError::EmptyRequestId);
    }
    Ok(failpoint::request_id(RequestId::of(text.as_bytes())))
}

fn add_part(bytes: &mut Vec<u8>, single: bool, part: &[u8]) {
    if !single {
        let length = u64::try_from(part.len()).expect("a length fits 64 bits");
        bytes.extend_from_slice(&length.to_le_bytes());
    }
    bytes.extend_from_slice(part);
}

/// The text of a name: text itself, or the decimal text of a whole number. `None` where none is given.
pub(super) fn name<'a>(
    field: Field,
    value: Scalar<'a>,
    arena: &'a Bump,
) -> Result<Option<Text<'a>>, DecodeError> {
    let digits = |x: i128| Text::from(&*arena.alloc_str(Digits::of(x).as_str()));
    Ok(match value {
        Scalar::Absent | Scalar::Null => None,
        Scalar::Text(text) => Some(text).filter(|text| !text.as_bytes().is_empty()),
        Scalar::Integer(x) | Scalar::Instant(x, _) => Some(digits(i128::from(x))),
        Scalar::Unsigned(x) => Some(digits(i128::from(x))),
        Scalar::Boolean(_) | Scalar::Float(_) | Scalar::Other(_) => {
            return Err(wrong(field, "text", value));
        }
    })
}

/// The text of a segment value; `None` where none is given. The empty text is a value.
pub(super) fn segment<'a>(
    dimension: &str,
    value: Scalar<'a>,
    arena: &'a Bump,
) -> Result<Option<Text<'a>>, DecodeError> {
    match value {
        Scalar::Text(text) => Ok(Some(text)),
        Scalar::Boolean(true) => Ok(Some("true".into())),
        Scalar::Boolean(false) => Ok(Some("false".into())),
        Scalar::Float(_) | Scalar::Other(_) => Err(DecodeError::WrongType {
            field: entry(Field::Segments.name(), dimension),
            expected: "text, an integer, a boolean or null",
            found: value.kind(),
        }),
        _ => name(Field::Segments, value, arena),
    }
}

/// The time of an event.
pub(super) fn time(value: Scalar<'_>) -> Result<EventTime, DecodeError> {
    let milliseconds = match value {
        Scalar::Absent | Scalar::Null => {
            return Err(DecodeError::MissingField { field: Field::Timestamp.name() });
        }
        Scalar::Integer(x) | Scalar::Instant(x, Unit::Millis) => x,
        Scalar::Instant(x, Unit::Micros) => x.div_euclid(1_000),
        Scalar::Instant(x, Unit::Nanos) => x.div_euclid(1_000_000),
        Scalar::Instant(x, Unit::Days) => x.saturating_mul(86_400_000),
        Scalar::Float(x) => match whole(x) {
            Some(x) => x,
            None if x.is_nan() || x.fract() != 0.0 => {
                return Err(wrong(Field::Timestamp, TIMES, value));
            }
            None => return Err(out_of_years(x, "send milliseconds since 1970")),
        },
        Scalar::Unsigned(x) => return Err(out_of_years(x, "send milliseconds since 1970")),
        Scalar::Text(text) => {
            let text = text.as_str();
            calendar::milliseconds(text).ok_or_else(|| not_a_time(text))?
        }
        Scalar::Boolean(_) | Scalar::Other(_) => {
            return Err(wrong(Field::Timestamp, TIMES, value));
        }
    };
    if in_years(milliseconds) {
        return Ok(EventTime(milliseconds));
    }
    Err(out_of_years(
        milliseconds,
        if in_years(milliseconds / 1_000) {
            "it looks like microseconds: send milliseconds since 1970"
        } else if in_years(milliseconds / 1_000_000) {
            "it looks like nanoseconds: send milliseconds since 1970"
        } else {
            "send milliseconds since 1970"
        },
    ))
}

/// What is wrong with a text. Many programs write times without a zone unless they are told otherwise.
fn not_a_time(text: &str) -> DecodeError {
    let value = text.chars().take(TIME_SHOWN).collect();
    if calendar::milliseconds(&format!("{text}Z")).is_some() {
        return DecodeError::TimestampWithoutZone { value };
    }
    DecodeError::TimestampUnreadable { value }
}

fn in_years(milliseconds: i64) -> bool {
    (TIME_MIN_MS..TIME_MAX_MS).contains(&milliseconds)
}

fn out_of_years(value: impl Display, hint: &'static str) -> DecodeError {
    DecodeError::TimestampOutOfRange { value: value.to_string(), hint }
}

/// A double that is a whole number and exact as such.
#[expect(clippy::as_conversions, clippy::cast_possible_truncation, reason = "checked before")]
fn whole(x: f64) -> Option<i64> {
    (x.fract() == 0.0 && x.abs() < EXACT_MAX).then_some(x as i64)
}

/// A prediction or label in the form in which two are compared.
pub(super) fn target(
    field: Field,
    value: Scalar<'_>,
    intern: impl FnOnce(Text<'_>) -> Result<NameId, DecodeError>,
) -> Result<Target, DecodeError> {
    match value {
        Scalar::Absent | Scalar::Null => Ok(Target::Absent),
        Scalar::Boolean(x) => Ok(Target::Boolean(x)),
        Scalar::Text(text) => match Target::of_text(text.as_bytes()) {
            Some(said) => Ok(said),
            None => Ok(Target::Class(ClassId(intern(text)?))),
        },
        Scalar::Other(_) => Err(wrong(field, "a number, text or a boolean", value)),
        Scalar::Integer(_) | Scalar::Unsigned(_) | Scalar::Float(_) | Scalar::Instant(..) => {
            let number = value.number().unwrap_or(f64::NAN);
            if number.abs() <= NUMBER_MAX {
                Ok(Target::Number(number + 0.0)) // -0.0 becomes 0.0
            } else {
                Err(DecodeError::NumberOutOfRange { field: field.name(), value: number })
            }
        }
    }
}

/// A class's text in the form in which labels have it, which `digits` holds where it is a whole number.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    reason = "a whole number below 2^53"
)]
pub(super) fn class_text<'a>(text: Text<'a>, digits: &'a mut Option<Digits>) -> Text<'a> {
    match Target::of_text(text.as_bytes()) {
        Some(Target::Number(number)) => digits.insert(Digits::of(number as i128)).as_str().into(),
        Some(Target::Boolean(true)) => "true".into(),
        Some(Target::Boolean(false)) => "false".into(),
        _ => text,
    }
}

/// A probability.
pub(super) fn score(
    field: impl FnOnce() -> Cow<'static, str>,
    value: Scalar<'_>,
) -> Result<f64, DecodeError> {
    match value.number() {
        Some(score) if (0.0..=1.0).contains(&score) => Ok(score + 0.0), // -0.0 becomes 0.0
        Some(score) if (-SCORE_ROUNDING..=1.0 + SCORE_ROUNDING).contains(&score) => {
            Ok(score.clamp(0.0, 1.0))
        }
        Some(value) => Err(DecodeError::ScoreOutOfRange { field: field(), value }),
        None => Err(DecodeError::WrongType {
            field: field(),
            expected: "a number from 0 to 1",
            found: value.kind(),
        }),
    }
}

/// Whole microseconds, rounded half up, held to `u32::MAX`.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value is at least 0, and the cast holds it to the range"
)]
pub(super) fn latency_us(value: Scalar<'_>) -> Result<Option<u32>, DecodeError> {
    match value.number() {
        Some(value) if (value * MICROS_PER_MILLI).is_finite() && value >= 0.0 => {
            Ok(Some((value * MICROS_PER_MILLI).round() as u32))
        }
        Some(value) => Err(DecodeError::LatencyOutOfRange { value }),
        None if value.is_given() => Err(wrong(Field::LatencyMs, "a number", value)),
        None => Ok(None),
    }
}

/// Whether an `error` says that the inference failed.
pub(super) fn failed(value: Scalar<'_>) -> Result<bool, DecodeError> {
    match value {
        Scalar::Absent | Scalar::Null => Ok(false),
        Scalar::Text(text) => Ok(!text.as_bytes().is_empty()),
        Scalar::Boolean(failed) => Ok(failed),
        _ => Err(wrong(Field::Error, "text", value)),
    }
}

/// A label's weight in units of 2^-20, rounded to the nearest.
#[expect(
    clippy::as_conversions,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "from 0 to 2^40"
)]
pub(super) fn weight(value: Scalar<'_>) -> Result<u64, DecodeError> {
    match value.number() {
        Some(weight) if (0.0..=WEIGHT_MAX).contains(&weight) => {
            Ok((weight * WEIGHT_MAX).round() as u64)
        }
        Some(value) => Err(DecodeError::WeightOutOfRange { value }),
        None if value.is_given() => Err(wrong(Field::Weight, "a number", value)),
        None => Ok(WEIGHT_ONE),
    }
}
