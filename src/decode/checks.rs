//! Every check of an id, range and unit.

/// Why a record can't be used.
#[derive(Clone, Debug, PartialEq)]
pub struct DecodeError;
