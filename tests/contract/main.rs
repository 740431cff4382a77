//! What other programs see of Tidegauge, and what its parts promise each other. In memory, in seconds.
#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

#[path = "../fuzz/cases/mod.rs"]
#[expect(unreachable_pub, reason = "each fuzz target has it as a module too")]
mod cases;
#[path = "../support/log.rs"]
#[expect(dead_code, unreachable_pub, reason = "other tests have it as a module of a module")]
mod log;
#[path = "../support/oracle.rs"]
#[expect(dead_code, unreachable_pub, reason = "other tests have it as a module of a module")]
mod oracle;
#[path = "../support/requests.rs"]
#[expect(unreachable_pub, reason = "other tests have it as a module of a module")]
mod requests;
#[path = "../support/shard.rs"]
#[expect(unreachable_pub, reason = "other tests have it as a module of a module")]
mod shard;
#[path = "../support/wait.rs"]
#[expect(unreachable_pub, reason = "other tests have it as a module of a module")]
mod wait;

mod acknowledgement;
mod alerts;
mod cli;
mod codes;
mod config;
mod controls;
mod custom;
mod dashboards;
mod expected;
mod deploy;
mod decode;
mod decode_avro;
mod decode_json;
mod files;
mod fuzz;
mod learned;
mod memory;
mod notify;
mod pipeline;
mod profile;
mod registry;
mod simulator;
mod source;
mod tables;
mod traffic;
