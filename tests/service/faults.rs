//! The fault matrix: real processes are killed, held, cut off and moved while records flow. What is in the tables at
//! the end equals the oracle's, and what could be read on the way never contradicted it.
//!
//! `cargo test` runs the rows of [`IN_CI`]; `make faults` all of them, and writes `target/faults/report.md`;
//! `make soak` random faults for hours.

#![expect(unreachable_pub, reason = "the parts of the harness use one another")]

mod compared;
mod controls;
mod data;
mod database;
mod invariants;
pub mod matrix;
mod network;
mod pairs;
mod points;
mod process;
mod raw;
pub mod report;
pub mod rolling;
mod samples;
mod soak;
mod topics;
pub mod trial;

/// A test for each row that `cargo test` runs, so that they run at the same time.
macro_rules! rows_in_ci {
    ($($name:ident $id:literal),* $(,)?) => {
        const IN_CI: &[&str] = &[$($id),*];
        $(
            #[test]
            fn $name() {
                matrix::run_in_ci($id);
            }
        )*
    };
}

rows_in_ci! {
    p1 "P1", p2 "P2", p3 "P3", p5 "P5", k1 "K1", c1 "C1", c2 "C2", c3 "C3"
}

/// With `TIDEGAUGE_FAULTS` the rows that it asks for; without, whether the rows are what they should be.
#[test]
fn every_row_is_sound_and_those_asked_for_hold() {
    let mut ids: Vec<&str> = matrix::rows().iter().map(|fault| fault.id).collect();
    ids.sort_unstable();
    ids.windows(2).for_each(|two| assert_ne!(two[0], two[1], "two rows of one name"));
    for fault in matrix::rows() {
        let id = fault.id;
        let least = if matches!(id, "P1" | "P2") { 20 } else { 5 };
        assert!(fault.least >= least, "{id}: {} injections show too little", fault.least);
        assert_eq!(fault.in_ci, IN_CI.contains(&id), "{id}: in CI or not");
        assert!(fault.lasts_ms.0 <= fault.lasts_ms.1, "{id}: how long it lasts");
    }
    if let Some(asked) = matrix::Asked::read() {
        matrix::run_asked(&asked);
    }
}
