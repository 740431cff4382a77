//! Faults of the network between the program and its services, made by a proxy in front of each.

use std::time::Duration;

use tidegauge::engine::event::PartitionId;
use tidegauge::engine::time::EventTime;
use tidegauge::sink::clickhouse::{ClickHouse as Sinks, ClickHouseSettings};
use tidegauge::sink::{FailureClass, Sink as _, row};

use super::matrix::Fault;
use super::process::{AFTER_SERVICE, start_missing};
use super::trial::{Plan, Trial, now};
use crate::support::proxy::front::Reply;
use crate::support::proxy::{self, Aim, Coordinator, Did, Proxy, Way};
use crate::support::services::{ClickHouse, block_on};

/// For a fault that is due to come to pass.
const DEADLINE: Duration = Duration::from_secs(180);
const CLICKHOUSE_NETWORK: &str = "the network to ClickHouse";
const BROKER_NETWORK: &str = "the network to the broker";
/// Tables that every flush with records writes to.
const TABLES: [&str; 5] = ["window_state", "serving", "labels", "quality_binary", "marks"];

/// A stopped instance has this long to write what it has; half of the default for a test's sake.
const DRAIN_BUDGET: Duration = Duration::from_secs(5);
/// Beyond the budget, so that it is not the time-out that ends an insert.
const SLOW_TIMEOUT: Duration = Duration::from_secs(6);
/// And so long beyond that to leave the group and to end.
const ENDS_WITHIN: Duration = Duration::from_secs(10);

/// Without its coordinator it waits some seconds for the group, beyond what it writes; Kubernetes kills after 30.
const LEAVES_WITHIN: Duration = Duration::from_secs(30);

const CUT_ANSWERS: [proxy::Fault; 3] =
    [proxy::Fault::CutAnswer, proxy::Fault::CutAnswerHalfWay, proxy::Fault::LoseAnswer];
const CUT_BODIES: [proxy::Fault; 3] =
    [proxy::Fault::CutBody, proxy::Fault::EndBody, proxy::Fault::LoseBody];
/// One that comes in time, and one that outlasts the time-out.
const DRIPS_MS: [u64; 2] = [500, 6000];

pub const ROWS: &[Fault] = &[
    Fault {
        id: "P7",
        title: "SIGTERM while the sink is slow",
        least: 6,
        in_ci: false,
        prepare: prepare_stop,
        begin: stop_while_slow,
        lasts_ms: (0, 500),
        end: |trial| {
            speed_up(trial);
            start_missing(trial);
        },
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "K3",
        title: "coordinator unreachable while fetching works",
        least: 6,
        in_ci: false,
        prepare: prepare_broker,
        begin: lose_coordinator,
        lasts_ms: (2000, 12_000),
        end: find_coordinator,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "K4",
        title: "latency, resets, half-open connections to the broker",
        least: 7,
        in_ci: false,
        prepare: prepare_broker,
        begin: harm_broker,
        lasts_ms: (2000, 9000),
        end: mend_broker,
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "C3",
        title: "answer cut off or lost after ClickHouse has applied the insert",
        least: 6,
        in_ci: true,
        prepare: prepare_clickhouse,
        begin: |trial| harm_inserts(trial, &CUT_ANSWERS),
        lasts_ms: (0, 500),
        end: |_| {},
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "C4",
        title: "request body cut half-way",
        least: 6,
        in_ci: false,
        prepare: prepare_clickhouse,
        begin: |trial| harm_inserts(trial, &CUT_BODIES),
        lasts_ms: (0, 500),
        end: |_| {},
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
    Fault {
        id: "C5",
        title: "200 with an exception, 4xx, 5xx, a reply that trickles",
        least: 2 * Reply::ALL.len() + DRIPS_MS.len(),
        in_ci: false,
        prepare: prepare_clickhouse,
        begin: |trial| harm_inserts(trial, &replies()),
        lasts_ms: (0, 500),
        end: |_| {},
        recovers_within: AFTER_SERVICE,
        injections: None,
    },
];

fn prepare_clickhouse(plan: &mut Plan) {
    plan.clickhouse_through_proxy = true;
    plan.environment.push(("TIDEGAUGE__CLICKHOUSE__TIMEOUT", "2s".to_owned()));
}

fn prepare_stop(plan: &mut Plan) {
    // What a stopped instance still wrote has labels that its heir has not read yet, and fewer inferences. Of the two
    // rows it is the one of more records, until the heir has read those labels too: meanwhile the heir's mark counts
    // inferences that are in acknowledged rows, but not in the newest ones.
    plan.samples_marks = false;
    plan.clickhouse_through_proxy = true;
    let budget = format!("{}s", DRAIN_BUDGET.as_secs());
    plan.environment.push(("TIDEGAUGE__DRAIN_BUDGET", budget));
    let timeout = format!("{}s", SLOW_TIMEOUT.as_secs());
    plan.environment.push(("TIDEGAUGE__CLICKHOUSE__TIMEOUT", timeout));
}

/// By default, 60 s, a connection that has gone deaf is given up later than a recovery may last.
fn prepare_broker(plan: &mut Plan) {
    plan.kafka_through_proxy = true;
    let timeout = "TIDEGAUGE__KAFKA__PROPERTIES__SOCKET_TIMEOUT_MS";
    plan.environment.push((timeout, "5000".to_owned()));
}

/// Every reply instead of the server's doing, then each instead of its answer; then answers that drip.
fn replies() -> Vec<proxy::Fault> {
    let instead = Reply::ALL.map(proxy::Fault::Answer);
    let after = Reply::ALL.map(proxy::Fault::ReplaceAnswer);
    let drips = DRIPS_MS.map(|lasts_ms| proxy::Fault::Drip { lasts_ms });
    [&instead[..], &drips[..], &after[..]].concat()
}

/// One of these in turn for each injection of a run, from a place that the seed decides.
fn in_turn<T: Copy>(trial: &Trial, of: &[T]) -> T {
    let seed = usize::try_from(trial.plan.seed % 1000).expect("small");
    of[(seed + trial.injections.len()) % of.len()]
}

/// The next insert into some table, or the next two or three, meet this.
fn harm_inserts(trial: &mut Trial, faults: &[proxy::Fault]) {
    let fault = in_turn(trial, faults);
    let times = 1 + trial.below(3);
    let table = TABLES.get(trial.below(TABLES.len() + 2));
    let aim = table.map_or(Aim::INSERTS, |table| Aim::inserts_into(table));
    trial.away(CLICKHOUSE_NETWORK);
    let before = trial.clickhouse.proxy().did(Did::Http(fault));
    trial.clickhouse.proxy().inject(fault, aim, times);
    trial.flow_until(&format!("{times} times {fault:?}"), DEADLINE, |trial| {
        trial.clickhouse.proxy().did(Did::Http(fault)) >= before + times
    });
    trial.back(CLICKHOUSE_NETWORK);
    let at = table.map_or("any table", |table| *table);
    trial.injected(&format!("{times} times {fault:?} of inserts into {at}"));
}

/// An instance is asked to end while its inserts take long: less than the budget, more, or for ever.
fn stop_while_slow(trial: &mut Trial) {
    let Some(at) = trial.any_running() else { return };
    let slow_ms = 500 + trial.random.below(1000);
    let (what, did) = match in_turn(trial, &[0, 1, 2]) {
        0 => {
            trial.clickhouse.proxy().delay(Way::ToServer, Duration::from_millis(slow_ms));
            ("slow", Did::Delay)
        }
        1 => {
            trial.clickhouse.proxy().delay(Way::ToClient, DRAIN_BUDGET * 2);
            ("slower than the budget", Did::Delay)
        }
        _ => {
            trial.clickhouse.proxy().lose(Way::ToServer);
            ("deaf", Did::Lose)
        }
    };
    trial.away(CLICKHOUSE_NETWORK);
    let before = trial.clickhouse.proxy().did(did);
    trial.flow_until("a request that meets it", DEADLINE, |trial| {
        trial.clickhouse.proxy().did(did) > before
    });
    let pause = Duration::from_millis(trial.random.below(1500));
    trial.flow(pause);
    let took = stop_and_wait(trial, at);
    trial.injected(&format!("SIGTERM while ClickHouse is {what}: it ended after {took:?}"));
    assert!(took < DRAIN_BUDGET + ENDS_WITHIN, "the sink was {what}: {took:?} until the end");
}

fn speed_up(trial: &mut Trial) {
    trial.clickhouse.proxy().pass();
    trial.back(CLICKHOUSE_NETWORK);
}

/// Of all instances or of one, whose partitions then go to the other while it still reads.
fn lose_coordinator(trial: &mut Trial) {
    let ways = [
        (Coordinator::Cut, true),
        (Coordinator::Stalled, false),
        (Coordinator::Cut, false),
        (Coordinator::Stalled, true),
    ];
    let (how, is_one) = in_turn(trial, &ways);
    let Some(at) = trial.any_running() else { return };
    if is_one {
        trial.kafka.proxy().only(pid(trial, at));
    }
    let before = trial.kafka.proxy().did(Did::Coordinator);
    trial.away(BROKER_NETWORK);
    trial.kafka.proxy().lose_coordinator(how);
    trial.flow_until("a request to the coordinator", DEADLINE, |trial| {
        trial.kafka.proxy().did(Did::Coordinator) > before
    });
    let of = if is_one { "one instance" } else { "all instances" };
    trial.injected(&format!("coordinator {how:?} for {of}"));
}

/// Now and then an instance ends before: leaving its group takes the coordinator too.
fn find_coordinator(trial: &mut Trial) {
    let ends = trial.injections.len().is_multiple_of(3);
    if let Some(at) = trial.any_running().filter(|_| ends) {
        let took = stop_and_wait(trial, at);
        trial.note(&format!("without a coordinator an instance ended after {took:?}"));
        assert!(took < LEAVES_WITHIN, "without a coordinator: {took:?} until the end");
    }
    mend_broker(trial);
    start_missing(trial);
}

/// SIGTERM; how long until the process has ended.
fn stop_and_wait(trial: &mut Trial, at: usize) -> Duration {
    let number = trial.runners[at].number;
    trial.stop(at);
    let since = now();
    trial.flow_until("an instance to end", DEADLINE, |trial| {
        trial.runners.iter().all(|runner| runner.number != number)
    });
    since.elapsed()
}

fn pid(trial: &Trial, at: usize) -> u32 {
    u32::try_from(trial.runners[at].instance.pid().as_raw()).expect("process ids are positive")
}

/// What the broker seems to be or do, what the proxy then counts, and how.
type Harm = (&'static str, Did, fn(&Proxy));

fn harm_broker(trial: &mut Trial) {
    const SLOW: Duration = Duration::from_millis(700);
    let ways: [Harm; 7] = [
        ("slow", Did::Delay, |proxy| Way::BOTH.into_iter().for_each(|way| proxy.delay(way, SLOW))),
        ("resets", Did::Reset, |proxy| {
            proxy.reset_all();
            proxy.reset_next(4);
        }),
        ("hears nothing", Did::Lose, |proxy| proxy.lose(Way::ToServer)),
        ("trickles", Did::Trickle, |proxy| proxy.trickle(Way::ToClient, 20_000)),
        ("says nothing", Did::Lose, |proxy| proxy.lose(Way::ToClient)),
        ("refuses", Did::Refuse, |proxy| {
            proxy.refuse();
            proxy.reset_all();
        }),
        ("is cut off", Did::Lose, |proxy| Way::BOTH.into_iter().for_each(|way| proxy.lose(way))),
    ];
    let (what, did, harm) = in_turn(trial, &ways);
    let proxy = trial.kafka.proxy();
    let before = proxy.did(did);
    trial.away(BROKER_NETWORK);
    harm(trial.kafka.proxy());
    trial.flow_until("a connection that meets it", DEADLINE, |trial| {
        trial.kafka.proxy().did(did) > before
    });
    trial.injected(&format!("the broker {what}"));
}

fn mend_broker(trial: &mut Trial) {
    trial.kafka.proxy().pass();
    trial.back(BROKER_NETWORK);
}

/// Whatever stands in the place of an acknowledgement is none, and says who can help.
#[test]
fn only_an_acknowledgement_is_taken_for_one() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let server = ClickHouse::start_behind_proxy();
    let mut settings = ClickHouseSettings::new(&server.program_url(), "tidegauge", "job");
    settings.timeout = TIMEOUT;
    block_on(async {
        let mut sink = Sinks::new(settings);
        sink.init().await.expect("an empty server");
        let mut sealed = 0;
        let mut write = async || {
            sealed += 1;
            let batch = row::seals("job", 0, &[(PartitionId(0), EventTime(sealed))]);
            sink.write(&batch.expect("one row")).await
        };
        write().await.expect("no fault yet");
        let faults = [&replies()[..], &CUT_ANSWERS, &CUT_BODIES].concat();
        for fault in faults {
            server.proxy().inject(fault, Aim::inserts_into("seals"), 1);
            let written = write().await;
            assert_eq!(server.proxy().did(Did::Http(fault)), 1, "{fault:?}");
            if fault == (proxy::Fault::Drip { lasts_ms: DRIPS_MS[0] }) {
                written.expect("slow and right");
            } else {
                let error = written.expect_err(&format!("{fault:?} was taken for success"));
                assert_eq!(error.class(), FailureClass::Retry, "{fault:?}: {error}");
            }
            write().await.expect("nothing stays behind");
        }
    });
}
