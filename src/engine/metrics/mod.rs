//! The registry of metric families: one line each.

pub mod accumulator;
pub mod binary;
pub mod exact_sum;
pub mod histogram;
pub mod labels;
pub mod serving;
