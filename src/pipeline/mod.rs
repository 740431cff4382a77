//! The flow.
pub mod worker;
pub mod writer;
