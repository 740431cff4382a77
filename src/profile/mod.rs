//! Reference profiles outside the engine: built from records, written as JSON documents and read back.

pub mod document;
pub mod numbers;
pub mod calibrate;
pub mod classes;
pub mod builder;
pub mod expected;
pub mod target;

pub use builder::{Built, ProfileBuilder};
pub use document::{DocumentError, is_profile, read, write};
