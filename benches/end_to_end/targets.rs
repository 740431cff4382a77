//! What is aimed at, and what was reached.

use super::freshness::FLUSH_INTERVAL_S;
use super::peers::Peer;
use super::sets::Set;

/// Inferences that a job holds whose restart is aimed at.
pub const HELD: u64 = 10_000_000;
/// Seconds until such a job writes a new row again.
pub const RESTART_S: f64 = 30.0;
/// Seconds that a row may be old, at 99 %: the flush interval and one.
pub const FRESHNESS_S: f64 = FLUSH_INTERVAL_S + 1.0;

/// Of the bare batch consumer: times its CPU at most, times its rate at least.
pub fn of_bare(set: Set) -> (f64, f64) {
    if set.is_json() { (2.5, 0.5) } else { (2.0, 0.7) }
}

/// How many times the program's CPU another system is to take at least.
pub fn of_peer(peer: Peer) -> f64 {
    match peer {
        Peer::Streams => 25.0,
        Peer::Flink => 15.0,
        Peer::Clickhouse => 6.0,
    }
}

/// A measured figure with its target.
#[derive(Clone, Debug)]
pub struct Figure {
    what: String,
    measured: f64,
    target: f64,
    is_least: bool,
}

impl Figure {
    /// One that must not be greater.
    pub fn at_most(target: f64, measured: f64, what: String) -> Self {
        Self { what, measured, target, is_least: false }
    }

    /// One that must not be smaller.
    pub fn at_least(target: f64, measured: f64, what: String) -> Self {
        Self { is_least: true, ..Self::at_most(target, measured, what) }
    }

    fn is_reached(&self) -> bool {
        if self.is_least { self.measured >= self.target } else { self.measured <= self.target }
    }
}

/// One line for each.
pub fn print(figures: &[Figure]) {
    println!("\n| figure | measured | target | |\n|---|---:|---:|---|");
    for figure in figures {
        let Figure { what, measured, target, is_least } = figure;
        let sign = if *is_least { ">=" } else { "<=" };
        let verdict = if figure.is_reached() { "reached" } else { "missed" };
        println!("| {what} | {measured:.2} | {sign} {target} | {verdict} |");
    }
}
