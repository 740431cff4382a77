//! Rules over metric rows, and what follows from them: alerts that open, resolve and are retracted. Pure: rows in,
//! rows out; who reads and writes them is [`alerting`](crate::alerting).

mod rule;
mod machine;
mod changes;

pub use changes::{AlertRow, Change, Recent, Told, changes, left_behind};
pub use machine::{Alert, Machine, State};
pub use rule::{AlertKey, Bound, Judgement, Metric, Rule, Seen};
