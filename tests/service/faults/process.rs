//! Faults of processes: the program's instances, the broker, ClickHouse.

use std::time::Duration;

use super::matrix::Fault;
use super::trial::{Plan, Trial};

const AFTER_PROCESS: Duration = Duration::from_secs(10);
const AFTER_SERVICE: Duration = Duration::from_secs(30);

pub const ROWS: &[Fault] = &[
    Fault {
        id: "P1",
        title: "SIGKILL of an instance at a random time",
        least: 20,
        in_ci: true,
        prepare: as_it_is,
        begin: kill_one,
        lasts_ms: (0, 600),
        end: start_missing,
        recovers_within: AFTER_PROCESS,
        injections: None,
    },
    Fault {
        id: "C1",
        title: "SIGKILL and restart of ClickHouse",
        least: 5,
        in_ci: true,
        prepare: as_it_is,
        begin: kill_clickhouse,
        lasts_ms: (200, 3000),
        end: start_clickhouse,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
];

/// The standard trial.
pub fn as_it_is(_: &mut Plan) {}

fn kill_one(trial: &mut Trial) {
    if let Some(at) = trial.any_running() {
        trial.kill(at);
        trial.injected("SIGKILL");
    }
}

/// As many run as the plan says.
fn start_missing(trial: &mut Trial) {
    while trial.runners.len() < trial.plan.instances {
        trial.add();
    }
}

fn kill_clickhouse(trial: &mut Trial) {
    trial.away("ClickHouse");
    trial.clickhouse.kill();
    trial.injected("SIGKILL of ClickHouse");
}

fn start_clickhouse(trial: &mut Trial) {
    trial.clickhouse.start_again();
    trial.back("ClickHouse");
}
