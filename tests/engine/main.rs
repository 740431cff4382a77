//! Tests of the engine and of what is computed from its states: pure, in seconds, without I/O.
#![expect(clippy::unwrap_used, reason = "a test may panic, helpers of tests too")]
#![expect(clippy::float_cmp, reason = "what is exact is compared exactly")]

#[path = "../support/oracle.rs"]
#[expect(unreachable_pub, reason = "other tests have it as a module of a module")]
mod oracle;
#[path = "../support/shard.rs"]
#[expect(unreachable_pub, reason = "other tests have it as a module of a module")]
mod shard;

mod cells;
mod class_estimate;
mod custom;
mod data_quality;
mod dictionary;
mod distinct;
mod drift;
mod drift_experiment;
mod drift_golden;
mod drift_laws;
mod drive;
mod estimate;
mod exact_sum;
mod feature_laws;
mod golden;
mod growing;
mod laws;
mod memory;
mod multiclass;
mod profile;
mod properties;
mod reference;
mod ranking;
mod scenarios;
mod targets;
mod tasks;
mod waiting;
mod weights;
