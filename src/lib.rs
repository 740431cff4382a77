//! Tidegauge.

pub mod commands;
pub mod config;
pub mod decode;
pub mod embedded;
pub mod engine;
pub mod evaluate;
pub mod http;
pub mod pipeline;
pub mod sink;
pub mod source;
pub mod telemetry;
pub mod traffic;
