//! What other programs see of Tidegauge, and what its parts promise each other. In memory, in seconds.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod acknowledgement;
mod cli;
mod codes;
mod config;
mod decode;
mod decode_avro;
mod decode_json;
mod memory;
mod pipeline;
mod registry;
mod source;
mod tables;
mod traffic;
