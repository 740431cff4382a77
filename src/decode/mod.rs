//! Bytes → [`Event`]. Nothing behind this module checks a range again.
#![deny(clippy::indexing_slicing)]
#![warn(missing_docs)]

pub mod avro;
pub mod checks;
pub mod fields;
pub mod json;
pub mod registry;

use crate::engine::event::{Event, Stream};
use crate::engine::names::Names;
use fields::FieldPaths;
use registry::Schemas;
use std::sync::Arc;

pub use checks::DecodeError;

/// Why a payload gave no event.
#[derive(Debug, PartialEq)]
pub enum NotDecoded {
    /// The record is bad for ever: a dead letter.
    Bad(DecodeError),
    /// Its schema is not known yet: the registry has to be asked, and the partition waits. Never a dead letter.
    Waiting(SchemaId),
}

/// The id of a writer schema in the registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SchemaId(pub u32);

/// How the payloads of one topic are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// One JSON object in UTF-8.
    Json,
    /// Avro in the registry's wire format: a zero byte, the schema id as four bytes, the greatest first, the datum.
    AvroRegistry,
    /// A plain Avro datum of the schema with this text.
    AvroFile(String),
}

/// What a [`Decoder`] of one topic has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecoderSettings {
    /// The topic.
    pub stream: Stream,
    /// How its payloads are written.
    pub format: Format,
    /// Where its fields live.
    pub fields: FieldPaths,
    /// The segment dimensions that are looked for; an event names them by their index here.
    pub segments: Vec<String>,
}

/// Why no decoder can be made of the settings.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecoderError {
    /// The schema file's text is no Avro schema.
    #[error("the Avro schema file of {stream} can't be used ({reason}): fix the file")]
    BadSchemaFile {
        /// The topic.
        stream: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// More segment dimensions than an event can number.
    #[error("{count} segment dimensions are too many: configure at most 65536")]
    TooManySegments {
        /// How many.
        count: usize,
    },
    /// The paths are those of the other topic.
    #[error("the field paths of {stream} are those of the other topic: build them for this one")]
    OtherStream {
        /// The topic.
        stream: &'static str,
    },
}

impl DecoderError {
    /// A stable name of the error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadSchemaFile { .. } => "bad_schema_file",
            Self::TooManySegments { .. } => "too_many_segments",
            Self::OtherStream { .. } => "fields_of_other_topic",
        }
    }
}

/// Decodes the payloads of one topic. One for each worker and topic, so plans and scratch need no lock.
#[derive(Debug)]
pub struct Decoder {
    schemas: Arc<Schemas>,
}

impl Decoder {
    /// A decoder for one topic. Only [`Format::AvroRegistry`] asks `schemas`.
    pub fn new(settings: &DecoderSettings, schemas: Arc<Schemas>) -> Result<Self, DecoderError> {
        let _ = settings;
        Ok(Self { schemas })
    }

    /// The event in a payload. It borrows the payload and the decoder's scratch until the next call.
    pub fn decode<'a>(
        &'a mut self,
        payload: Option<&'a [u8]>,
        names: &mut Names,
    ) -> Result<Event<'a>, NotDecoded> {
        let _ = (payload, names, &self.schemas);
        Err(NotDecoded::Bad(DecodeError::Tombstone))
    }
}
