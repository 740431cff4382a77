//! Every check of an id, range and unit, and the error of a record that fails one.

use super::fields::Field;
use crate::engine::event::{RequestId, Target};
use crate::engine::names::{ClassId, Names};
use crate::engine::time::EventTime;
use std::borrow::Cow;

/// Numbers beyond this can't be squared and summed exactly.
pub const NUMBER_MAX: f64 = 1e150;
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
        "the payload is not one JSON object ({reason}): fix the producer, or set the topic's `format`"
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
    #[error("`{field}` is missing or null: send it, or set its path under `fields`")]
    MissingField {
        /// The field.
        field: &'static str,
    },
    /// An ID without a character.
    #[error("`request_id` is empty: send an ID that is unique for each request")]
    EmptyRequestId,
    /// A value of the wrong type.
    #[error(
        "`{field}` is {found}, not {expected}: fix the producer, or set its path under `fields`"
    )]
    WrongType {
        /// The field, with the entry's name where it has entries.
        field: Cow<'static, str>,
        /// What can be used.
        expected: &'static str,
        /// What was there.
        found: &'static str,
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
    #[error("`timestamp` is later than the record's arrival: set the clock of the producer right")]
    TimestampInFuture,
    /// Not a probability.
    #[error("`{field}` is {value}, not in 0 to 1: send a probability")]
    ScoreOutOfRange {
        /// The field.
        field: Cow<'static, str>,
        /// The value.
        value: f64,
    },
    /// Negative or not finite.
    #[error("`latency_ms` is {value}: send milliseconds from 0 on, or leave the field out")]
    LatencyOutOfRange {
        /// The value.
        value: f64,
    },
    /// Not finite, or beyond 1e150.
    #[error("`{field}` is {value}: send a finite number of at most 1e150")]
    NumberOutOfRange {
        /// The field.
        field: &'static str,
        /// The value.
        value: f64,
    },
    /// A weight that can't be counted.
    #[error("`weight` is {value}: send a number from 0 to 1048576, or leave the field out")]
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
            Self::WrongType { .. } => "wrong_type",
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
