//! Random faults out of all rows, for as long as asked.

use std::time::Duration;

use super::matrix::{self, Fault};
use super::report::{self, Check, Report};
use super::trial::{Plan, Trial, now};
use super::{compared, pairs, process};

const TITLE: &str = "random faults out of all rows";
const RECOVERS_WITHIN: Duration = Duration::from_secs(30);
const SECONDS_IN_CI: u64 = 15;
/// The oracle's input stays in memory: about 500 bytes a record.
const MOST_RECORDS: usize = 4_000_000;
const RECORDS_PER_SECOND: usize = 300;
const SAYS_EVERY: Duration = Duration::from_secs(60);

/// `TIDEGAUGE_SOAK=SEED:HOURS` runs another seed, or longer.
#[test]
#[expect(clippy::disallowed_methods, reason = "a test's own switch")]
fn random_faults_leave_the_tables_equal_to_the_oracle() {
    let Ok(asked) = std::env::var("TIDEGAUGE_SOAK") else {
        let report = run(42, SECONDS_IN_CI, 1000);
        return matrix::must_be_good(&report);
    };
    let (seed, hours) = asked.split_once(':').expect("SEED:HOURS");
    let (seed, hours): (u64, f64) = (seed.parse().expect("a seed"), hours.parse().expect("hours"));
    let seconds = Duration::from_secs_f64(hours * 3600.0).as_secs();
    let most = MOST_RECORDS / usize::try_from(seconds).expect("hours").max(1);
    let report = run(seed, seconds, RECORDS_PER_SECOND.min(most));
    eprintln!("{}", report::write("soak", std::slice::from_ref(&report)));
    matrix::must_be_good(&report);
}

fn run(seed: u64, seconds: u64, rate: usize) -> Report {
    let mut report = matrix::guarded("soak", TITLE, seed, || soak(seed, seconds, rate));
    report.least = usize::try_from(seconds / 30).expect("hours").max(1);
    report
}

fn soak(seed: u64, seconds: u64, rate: usize) -> Report {
    let mut plan = Plan::new("soak", seed);
    let whole = usize::try_from(seconds).expect("hours");
    plan.seconds = whole + 30;
    plan.records_per_second = rate;
    // About a minute of event time each second.
    plan.hours = 28.max(i64::try_from(seconds / 60).expect("hours"));
    pairs::prepare(&mut plan);
    compared::prepare(&mut plan);
    let mut trial = Trial::start(plan);
    let (lasts, mut said) = (Duration::from_secs(seconds), Duration::ZERO);
    // On a slow machine the instances' start alone takes as long.
    let began = now();
    while began.elapsed() < lasts {
        let pause = matrix::between(&mut trial.random, (500, 3000));
        trial.flow(pause);
        let all = pairs::rows();
        let fault: &Fault = all[trial.below(all.len())];
        (fault.begin)(&mut trial);
        let held = matrix::between(&mut trial.random, fault.lasts_ms);
        trial.flow(held);
        (fault.end)(&mut trial);
        // Every other fault meets what the one before has left.
        if trial.random.below(2) == 0 {
            trial.rows_move(RECOVERS_WITHIN);
        }
        if began.elapsed() >= said + SAYS_EVERY {
            said = began.elapsed();
            let most = trial.recoveries.iter().max().copied().unwrap_or_default();
            let (minutes, faults) = (said.as_secs() / 60, trial.injections.len());
            let records = trial.sent;
            eprintln!(
                "{minutes} min: {records} records, {faults} faults, recovery at most {most:.1?}"
            );
        }
    }
    trial.rows_move(RECOVERS_WITHIN);
    let in_traffic = in_traffic(&trial);
    let mut report = trial.finish();
    report.checks.push(in_traffic);
    report
}

/// The faults of the data that every trial's log holds beside the others.
fn in_traffic(trial: &Trial) -> Check {
    let (mut compared, mut abouts, mut failures) = (0, Vec::new(), Vec::new());
    for fault in matrix::rows() {
        // Other rows of data bring traffic of their own.
        let Some(count) = fault.injections.filter(|_| process::IN_TRAFFIC.contains(&fault.id))
        else {
            continue;
        };
        let is = count(trial);
        if is < fault.least {
            failures.push(format!("{} only {is} times", fault.id));
        }
        compared += is;
        abouts.push(format!("{} {is}", fault.id));
    }
    let name = "D1, D2, D3 are in the traffic";
    Check { name, compared, about: abouts.join(", "), failures }
}
