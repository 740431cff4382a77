//! Bytes → [`Event`]. Nothing behind this module checks a range again.
#![deny(clippy::indexing_slicing)]

pub mod avro;
pub mod checks;
pub mod fields;
pub mod json;
pub mod registry;

use crate::engine::event::Event;
use crate::engine::names::Names;

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
