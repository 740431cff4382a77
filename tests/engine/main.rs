//! Tests of the engine and of what is computed from its states: pure, in seconds, without I/O.

mod exact_sum;
mod golden;
mod histogram;
mod laws;
