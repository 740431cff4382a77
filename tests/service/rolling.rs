//! A rolling restart while records flow: how long rows stand still, and that who stays reads nothing again.

use std::time::Duration;

use crate::faults::matrix::limits_are_strict;
use crate::faults::rolling::{self, Freshness, Gaps, group_events};
use crate::faults::trial::{Plan, Trial, now};
use crate::support::wait_until;

const DEADLINE: Duration = Duration::from_secs(300);
const SEED: u64 = 6;

#[test]
fn a_rolling_restart_of_dynamic_members_makes_nobody_else_replay() {
    let shown = measured("rolling-dynamic", rolling::three);
    assert!(shown.events_of_others > 0, "the group did not move a partition");
}

#[test]
fn a_rolling_restart_of_static_members_moves_no_partition() {
    let shown = measured("rolling-static", rolling::three_static);
    assert_eq!(shown.events_of_others, 0, "a restart within the session timeout is no rebalance");
    assert_eq!(shown.replayed_by_others, 0, "who keeps its partitions replays nothing");
}

#[test]
fn of_two_instances_of_one_name_the_older_ends_and_says_why() {
    let mut plan = Plan::new("fenced", SEED);
    plan.instances = 1;
    plan.seconds = 20;
    plan.replays = false;
    plan.is_static = true;
    let mut trial = Trial::start(plan);
    let mut older = trial.runners.remove(0).instance;
    trial.injected("a second instance of the same name");
    trial.add();
    trial.flow_until("the older one to end", DEADLINE, |_| older.ended().is_some());
    let log = older.log_text();
    assert_eq!(older.ended().and_then(|status| status.code()), Some(3), "{log}");
    assert!(log.contains("instance_fenced"), "{log}");
    assert!(log.contains("give each instance of the job its own `group.instance.id`"), "{log}");
    trial.rows_move(Duration::from_secs(10));
    let failures = trial.finish().failures();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
}

/// What a rolling restart of all instances has shown.
struct Shown {
    before: Gaps,
    during: Gaps,
    took: Duration,
    /// Of the instances that stay: events of the group, records replayed, those of them that they had read before.
    events_of_others: usize,
    replayed_by_others: u64,
    reread_by_others: u64,
    /// From the last restart until no record was left to read or to count.
    caught_up: Duration,
}

impl Shown {
    #[expect(clippy::print_stdout, reason = "what was measured")]
    fn print(&self, name: &str) {
        let Self { before, during, took, caught_up, .. } = self;
        println!(
            "{name}: {took:.1?}; longest gap of a partition {:.2?} (before {:.2?}), of all \
             {:.2?} (before {:.2?}), {} looks; by those that stay {} group events, {} records replayed, {} of them \
             read before; caught up {caught_up:.1?} after the last; {:.2?}",
            during.longest(),
            before.longest(),
            during.overall,
            before.overall,
            during.looks,
            self.events_of_others,
            self.replayed_by_others,
            self.reread_by_others,
            during.by_partition,
        );
    }
}

fn measured(name: &str, prepare: fn(&mut Plan)) -> Shown {
    let mut plan = Plan::new(name, SEED);
    // Event time must not run so fast that the floors pass what an instance has read while a partition is elsewhere.
    plan.seconds = 400;
    plan.replays = false;
    prepare(&mut plan);
    let mut trial = Trial::start(plan);
    settle(&mut trial);
    let freshness = Freshness::start(&trial);
    trial.flow(Duration::from_secs(4));
    let before = freshness.stop();
    let (freshness, since) = (Freshness::start(&trial), now());
    let (mut events_of_others, mut replayed_by_others, mut reread_by_others) = (0, 0, 0);
    for slot in 0..trial.plan.instances {
        trial.injected("restart of one of three");
        let of_others = others(&trial, slot);
        rolling::restart(&mut trial, slot);
        trial.rows_move(Duration::from_secs(10));
        let [events, replayed, reread] = others(&trial, slot);
        events_of_others += usize::try_from(events - of_others[0]).expect("few");
        replayed_by_others += replayed - of_others[1];
        reread_by_others += reread - of_others[2];
    }
    let took = since.elapsed();
    trial.flow(Duration::from_secs(2));
    let during = freshness.stop();
    let caught_up = catch_up(&mut trial);
    let report = trial.finish();
    let failures = report.failures();
    assert!(failures.is_empty(), "{} failures\n{}", failures.len(), failures.join("\n"));
    assert!(during.looks > 20, "the marks were read {} times", during.looks);
    assert!(during.by_partition.len() == 6, "partitions without a mark: {during:?}");
    let shown = Shown {
        before,
        during,
        took,
        events_of_others,
        replayed_by_others,
        reread_by_others,
        caught_up,
    };
    shown.print(name);
    assert_eq!(reread_by_others, 0, "records were read again by instances that stay");
    shown
}

/// Every instance has partitions: the joins at the start are over.
fn settle(trial: &mut Trial) {
    trial.flow_until("each instance to own partitions", DEADLINE, |trial| {
        trial.runners.iter().all(|it| it.instance.meter("tidegauge_partitions") == Some(2))
    });
    trial.rows_move(Duration::from_secs(30));
}

/// Of the instances in other slots: events of the group, records replayed, records that they had read before.
fn others(trial: &Trial, slot: usize) -> [u64; 3] {
    let others = || trial.runners.iter().filter(|runner| runner.slot != slot);
    let sum = |name| others().map(|it| it.instance.meter(name).expect("it runs")).sum();
    [
        u64::try_from(others().map(group_events).sum::<usize>()).expect("few"),
        sum("tidegauge_replayed_records_total"),
        sum("tidegauge_reread_records_total"),
    ]
}

/// Nothing more is sent: all is counted, and the lag that the instances tell returns to 0.
fn catch_up(trial: &mut Trial) -> Duration {
    trial.producer.flush();
    let (sent, since) =
        (trial.logs().iter().map(|it| it.inferences.len() + it.labels.len()).sum(), now());
    wait_until("all that was sent to be counted", DEADLINE, || trial.counted() == Some(sent));
    let took = since.elapsed();
    wait_until("the lag to return to 0", DEADLINE, || {
        trial.runners.iter().all(|it| it.instance.meter("tidegauge_lag_records") == Some(0))
    });
    let most = Duration::from_secs(if limits_are_strict() { 10 } else { 60 });
    assert!(took < most, "it took {took:?} to count what was left");
    took
}
