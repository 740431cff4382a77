//! Alerts over rows in a real ClickHouse, told to a real receiver.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::time::Duration;

use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::message::{Headers as _, Message as _};
use rdkafka::{Offset, TopicPartitionList};
use serde_json::Value as Json;
use tidegauge::alerting::{Alerting, Left, Medium, NotTaken, Target, TargetSettings, Topic};
use tidegauge::alerts::Rule;
use tidegauge::config::{Environment, Settings};
use tidegauge::engine::dead_schemas::DeadSchemas;
use tidegauge::engine::event::{PartitionId, Positions};
use tidegauge::engine::floor::{Floor, Mark};
use tidegauge::engine::log_time::LogClock;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::metrics::accumulator::{Kind, Undefined, Value};
use tidegauge::engine::outcome::Tally;
use tidegauge::engine::state::{Key, Version};
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::evaluate::MetricRow;
use tidegauge::sink::clickhouse::{ClickHouse, ClickHouseSettings};
use tidegauge::sink::row;
use tidegauge::telemetry::Telemetry;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::job::{Job, sections};
use crate::support::log::{Message, Producer, json_payload};
use crate::support::oracle::{Body, Inference};
use crate::support::receiver::{Received, Receiver};
use crate::support::{requests, services, wait_until};

const JOB: &str = "fraud";
const DEADLINE: Duration = Duration::from_secs(300);
/// 2026-01-05 00:00 UTC.
const START_MS: i64 = 1_767_571_200_000;
const SIZE: Millis = Millis(300_000);
const GOLDEN: [f64; 8] = [0.82, 0.79, 0.78, 0.81, 0.86, 0.84, 0.87, 0.88];

const RULE: &str = "[[alerts]]\nname = \"precision low\"\nmodels = [\"fraud-*\"]\n\
                    metric = \"quality_binary.precision\"\nbelow = 0.80\nclear = 0.85\n";

fn rules(text: &str) -> Vec<Rule> {
    let text = format!("[inferences]\ntopic = \"i\"\n[labels]\ntopic = \"l\"\n{text}");
    Settings::parse("t.toml", &text, &Environment::default()).unwrap().rules
}

fn metric_row(table: MetricTable, i: usize, figures: &[(&str, f64)], version: u64) -> MetricRow {
    let start = START_MS + i64::try_from(i).unwrap() * SIZE.0;
    let values = table.columns().iter().map(|column| {
        let figure = figures.iter().find(|(name, _)| *name == column.name).map(|(_, x)| *x);
        match column.kind {
            Kind::Count => Value::Count(500),
            Kind::Number => Value::Figure(Ok(figure.unwrap_or(0.0))),
            Kind::Text => Value::Text("".into()),
            Kind::Time => Value::Time(start),
            _ => Value::Figure(figure.ok_or(Undefined::NoLabels)),
        }
    });
    MetricRow {
        table,
        key: Key {
            model: "fraud-cards".into(),
            version: "1".into(),
            segment: "all".into(),
            window: Window::of(EventTime(start), SIZE),
        }
        .into(),
        grain: "5m".into(),
        values: values.collect(),
        undefined: String::new(),
        sealed: false,
        version: Version::of(0, version, false),
    }
}

fn of_model(model: &str, row: MetricRow) -> MetricRow {
    let key = Key { model: model.into(), ..(*row.key).clone() };
    MetricRow { key: key.into(), ..row }
}

/// Whose figure stays low, so that an alert opens.
fn low(model: &str, windows: usize) -> Vec<MetricRow> {
    let row = |i, table, figure| of_model(model, metric_row(table, i, &[figure], 1));
    let rows = (1..=windows).flat_map(|i| {
        [
            row(i, MetricTable::Labels, ("coverage", 0.9)),
            row(i, MetricTable::QualityBinary, ("precision", 0.7)),
        ]
    });
    rows.collect()
}

/// Of one class, with one of its counts.
fn of_class(
    i: usize,
    class: &'static str,
    figure: (&str, f64),
    (column, count): (&str, u64),
    version: u64,
) -> MetricRow {
    let row = metric_row(MetricTable::QualityClasses, i, &[figure], version);
    let row = with(row, "class", Value::Text(class.into()));
    with(row, column, Value::Count(count))
}

/// Of one comparison; psi is the primary method.
fn of_drift(
    i: usize,
    [kind, method]: [&'static str; 2],
    figure: (&str, f64),
    version: u64,
) -> MetricRow {
    let row = metric_row(MetricTable::Drift, i, &[figure], version);
    let row = with(row, "kind", Value::Text(kind.into()));
    let row = with(row, "method", Value::Text(method.into()));
    with(row, "is_primary", Value::Count(u64::from(method == "psi")))
}

fn with(mut row: MetricRow, column: &str, value: Value) -> MetricRow {
    let at = row.table.columns().iter().position(|known| known.name == column).unwrap();
    row.values[at] = value;
    row
}

/// A database with a rule over it, a target, and an instance that evaluates.
struct Setup {
    server: services::ClickHouse,
    clickhouse: ClickHouse,
    runtime: tokio::runtime::Runtime,
}

/// Patient: an answer that comes too late has been taken, and is asked for once more.
fn hook(url: &str) -> TargetSettings {
    TargetSettings {
        name: "hook".to_owned(),
        medium: Medium::Webhook,
        url: url.to_owned(),
        secret: Some("s3cret".to_owned()),
        timeout: Duration::from_secs(60),
    }
}

struct Instance {
    flushed: Option<watch::Sender<u64>>,
    task: JoinSet<Left>,
    telemetry: Telemetry,
}

impl Setup {
    fn start() -> Self {
        drop(rustls::crypto::ring::default_provider().install_default());
        let server = services::ClickHouse::start();
        let clickhouse = ClickHouse::new(ClickHouseSettings::new(&server.url(), "tidegauge", JOB));
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(clickhouse.init()).unwrap();
        Self { server, clickhouse, runtime }
    }

    /// Windows from the first on, each a precision; coverage and version are those of all.
    fn write(&self, precisions: &[f64], coverage: f64, version: u64) {
        let rows = precisions.iter().enumerate().flat_map(|(i, precision)| {
            [
                metric_row(MetricTable::Labels, i + 1, &[("coverage", coverage)], version),
                metric_row(
                    MetricTable::QualityBinary,
                    i + 1,
                    &[("precision", *precision)],
                    version,
                ),
            ]
        });
        self.insert(&rows.collect::<Vec<_>>());
    }

    fn insert(&self, rows: &[MetricRow]) {
        self.runtime.block_on(self.clickhouse.insert(&row::metrics(JOB, rows))).unwrap();
    }

    /// All partitions say that the first so many windows are sealed.
    fn seal(&self, windows: i64) {
        let marks: Vec<_> =
            (0..2).map(|partition| mark(partition, START_MS + windows * SIZE.0)).collect();
        self.runtime
            .block_on(self.clickhouse.insert(row::marks(JOB, 0, &marks).as_slice()))
            .unwrap();
    }

    fn instance(&self, url: &str) -> Instance {
        self.instance_with(RULE, url)
    }

    fn instance_with(&self, rules: &str, url: &str) -> Instance {
        self.instance_telling(rules, hook(url))
    }

    fn instance_telling(&self, text: &str, target: TargetSettings) -> Instance {
        self.start_instance(text, target, Duration::ZERO)
    }

    /// Of a job that is done: nothing but an end, which goes on for so long while nothing succeeds.
    fn ending(&self, target: TargetSettings, patience: Duration) -> Instance {
        let mut instance = self.start_instance(RULE, target, patience);
        instance.flushed.take();
        instance
    }

    fn start_instance(&self, text: &str, target: TargetSettings, patience: Duration) -> Instance {
        let (clickhouse, telemetry) = (self.clickhouse.clone(), Telemetry::new());
        let said = telemetry.clone();
        let alerting = Alerting::new(rules(text), &[target], 2, clickhouse, said).unwrap();
        let (flushed, said) = watch::channel(0);
        let mut task = JoinSet::new();
        task.spawn_on(alerting.insisting(patience).run(said), self.runtime.handle());
        Instance { flushed: Some(flushed), task, telemetry }
    }

    fn alerts(&self) -> String {
        let columns = "rule, opened_window, state, ifNull(toString(resolved_window), '-'), value, threshold, n, announced";
        self.server.query(&format!(
            "SELECT {columns} FROM tidegauge.alerts FINAL ORDER BY opened_window FORMAT CSV"
        ))
    }

    fn wait_for(&self, state: &str) {
        wait_until(state, DEADLINE, || self.alerts().contains(&format!("\"{state}\"")));
    }
}

impl Instance {
    fn flush(&self) {
        self.flushed.as_ref().unwrap().send_modify(|flushes| *flushes += 1);
    }

    /// As at the end of a run: the last pass and the last deliveries.
    fn end(self, setup: &Setup) {
        drop(self.left(setup));
    }

    /// The same; what could not be done.
    fn left(mut self, setup: &Setup) -> Left {
        self.flushed.take();
        setup.runtime.block_on(self.task.join_next()).unwrap().unwrap()
    }
}

fn must_be_done(left: &Left) {
    assert!(left.failed.is_empty() && left.untold.is_empty(), "{left:?}");
}

fn mark(partition: i32, sealed_until: i64) -> Mark {
    let clock = || LogClock::restore(1, &[sealed_until]);
    let positions = Positions { inferences: sealed_until % 1_000_000_007, labels: 0 };
    Mark {
        partition: PartitionId(partition),
        positions,
        floor: Floor {
            positions,
            inferences: clock(),
            labels: clock(),
            sealed_until: EventTime(sealed_until),
        },
        clocks: [clock(), clock()],
        tally: Tally::default(),
        dead_schemas: [DeadSchemas::default(), DeadSchemas::default()],
    }
}

fn states(received: &[Received]) -> Vec<String> {
    let taken = received.iter().filter(|request| request.status == 200);
    let state = |request: &Received| {
        let body: Json = serde_json::from_str(&request.body).unwrap();
        assert_eq!(body["idempotency_key"], request.header("idempotency-key"));
        assert!(request.header("x-tidegauge-signature").starts_with("sha256="));
        format!(
            "{} {}",
            body["state"].as_str().unwrap(),
            body["opened_window"]["start"].as_str().unwrap()
        )
    };
    taken.map(state).collect()
}

#[test]
fn an_alert_opens_resolves_and_late_labels_retract_another() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..2], 0.9, 1);
    let instance = setup.instance(receiver.url());
    setup.write(&GOLDEN[..3], 0.9, 2);
    instance.flush();
    setup.wait_for("opened");
    let opened = "\"precision low\",\"2026-01-05 00:15:00.000\",\"opened\",\"-\",0.78,0.8,500,1\n";
    assert_eq!(setup.alerts(), opened);
    wait_until("the first notification", DEADLINE, || receiver.received().len() == 1);
    let is_open = || instance.telemetry.encode().contains("tidegauge_alerts_open 1\n");
    wait_until("the gauge", DEADLINE, is_open);
    setup.write(&GOLDEN, 0.9, 3);
    setup.seal(4);
    instance.flush();
    setup.wait_for("resolved");
    let resolved = "\"precision low\",\"2026-01-05 00:15:00.000\",\"resolved\",\"2026-01-05 00:40:00.000\",0.88,0.8,500,2\n";
    assert_eq!(setup.alerts(), resolved);
    // Another one, which late labels take back; the first is final by then.
    let mut windows = GOLDEN.to_vec();
    windows.extend([0.7, 0.6]);
    setup.write(&windows, 0.9, 4);
    instance.flush();
    setup.wait_for("opened");
    windows[8] = 0.9;
    setup.write(&windows, 0.9, 5);
    instance.flush();
    setup.wait_for("retracted");
    instance.end(&setup);
    let first = "2026-01-05T00:15:00.000Z";
    let second = "2026-01-05T00:50:00.000Z";
    let expected = [
        format!("opened {first}"),
        format!("resolved {first}"),
        format!("opened {second}"),
        format!("retracted {second}"),
    ];
    assert_eq!(states(&receiver.received()), expected);
    // Another instance, which knows nothing, finds the same and has nothing to write or say. (Merges do not change
    // what is merged already.)
    setup.server.query("OPTIMIZE TABLE tidegauge.alerts FINAL");
    let before = setup.server.query("SELECT * FROM tidegauge.alerts ORDER BY ALL");
    setup.instance(receiver.url()).end(&setup);
    assert_eq!(setup.server.query("SELECT * FROM tidegauge.alerts ORDER BY ALL"), before);
    assert_eq!(states(&receiver.received()), expected);
}

#[test]
fn a_change_outlives_the_process_between_its_row_and_its_delivery() {
    let (setup, receiver) = (Setup::start(), Receiver::start(0));
    setup.write(&GOLDEN[..3], 0.9, 1);
    // Ended while the target hangs: the row and the note are there, and nothing was taken.
    let mut instance = setup.instance(receiver.url());
    wait_until("an attempt", DEADLINE, || !receiver.received().is_empty());
    setup.wait_for("opened");
    setup.runtime.block_on(instance.task.shutdown());
    let row = setup.server.query("SELECT * FROM tidegauge.alerts ORDER BY ALL");
    receiver.answer(200);
    let instance = setup.instance(receiver.url());
    wait_until("the change to be told", DEADLINE, || !states(&receiver.received()).is_empty());
    instance.end(&setup);
    assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:15:00.000Z"]);
    let keys = receiver.received();
    assert!(keys.iter().all(|r| r.header("idempotency-key") == keys[0].header("idempotency-key")));
    // Ended between the row and the note: the note is made up for, once.
    setup.server.query("TRUNCATE TABLE tidegauge.notifications");
    setup.instance(receiver.url()).end(&setup);
    let told = states(&receiver.received());
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        receiver.received().last().unwrap().header("idempotency-key"),
        keys[0].header("idempotency-key")
    );
    setup.instance(receiver.url()).end(&setup);
    assert_eq!(states(&receiver.received()), told);
    assert_eq!(setup.server.query("SELECT * FROM tidegauge.alerts ORDER BY ALL"), row);
}

#[test]
fn a_target_that_fails_is_asked_again_and_holds_up_nothing() {
    let (setup, receiver) = (Setup::start(), Receiver::start(500));
    setup.write(&GOLDEN[..3], 0.9, 1);
    let instance = setup.instance(receiver.url());
    wait_until("two attempts", DEADLINE, || receiver.received().len() >= 2);
    // Meanwhile rows go on.
    setup.write(&GOLDEN, 0.9, 2);
    instance.flush();
    setup.wait_for("resolved");
    receiver.answer(200);
    wait_until("both changes", DEADLINE, || states(&receiver.received()).len() == 2);
    instance.end(&setup);
    let first = "2026-01-05T00:15:00.000Z";
    assert_eq!(
        states(&receiver.received()),
        [format!("opened {first}"), format!("resolved {first}")]
    );
    let left = "SELECT count() FROM tidegauge.notifications FINAL WHERE target != '' AND status != 'delivered'";
    assert_eq!(setup.server.query(left), "0\n");
}

/// Only the later changes of the same alert wait for one that is refused.
#[test]
fn a_refused_change_holds_up_its_own_alert_alone() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    receiver.refuse("fraud-cards", 422);
    setup.write(&GOLDEN[..3], 0.9, 1);
    let instance = setup.instance(receiver.url());
    wait_until("the refusal", DEADLINE, || !receiver.received().is_empty());
    setup.write(&GOLDEN, 0.9, 2);
    setup.insert(&low("fraud-loans", 2));
    instance.flush();
    wait_until("the other alert", DEADLINE, || !states(&receiver.received()).is_empty());
    assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:10:00.000Z"]);
    setup.wait_for("resolved");
    let refused = |request: &Received| request.status == 422;
    let before = receiver.received().into_iter().filter(refused).count();
    wait_until("another attempt", DEADLINE, || {
        receiver.received().into_iter().filter(refused).count() > before
    });
    receiver.refuse("fraud-cards", 200);
    wait_until("all changes", DEADLINE, || states(&receiver.received()).len() == 3);
    instance.end(&setup);
    let first = "2026-01-05T00:15:00.000Z";
    assert_eq!(
        states(&receiver.received())[1..],
        [format!("opened {first}"), format!("resolved {first}")]
    );
    // The resolution was not tried before the change that it follows was taken.
    let of_cards = |request: &Received| request.body.contains("fraud-cards");
    let asked = receiver.received().into_iter().filter(of_cards);
    let keys: Vec<_> = asked.map(|r| r.header("idempotency-key").to_owned()).collect();
    assert!(keys.iter().all(|key| *key == keys[0] || key == keys.last().unwrap()), "{keys:?}");
    assert_eq!(keys.iter().filter(|key| **key != keys[0]).count(), 1, "{keys:?}");
}

/// Another instance leaves a change to the one that noted it, for a while, and must not tell a later one meanwhile.
#[test]
fn a_change_does_not_overtake_the_one_before_it() {
    let (setup, receiver) = (Setup::start(), Receiver::start(0));
    setup.write(&GOLDEN[..3], 0.9, 1);
    let mut ended = setup.instance(receiver.url());
    wait_until("an attempt", DEADLINE, || !receiver.received().is_empty());
    setup.runtime.block_on(ended.task.shutdown());
    receiver.answer(200);
    setup.write(&GOLDEN, 0.9, 2);
    let instance = setup.instance(receiver.url());
    wait_until("both changes", DEADLINE, || states(&receiver.received()).len() == 2);
    instance.end(&setup);
    let first = "2026-01-05T00:15:00.000Z";
    assert_eq!(
        states(&receiver.received()),
        [format!("opened {first}"), format!("resolved {first}")]
    );
}

/// An end that another start follows asks a target twice at most.
#[test]
fn a_job_that_is_done_goes_on_asking_a_target_that_hangs() {
    let (setup, receiver) = (Setup::start(), Receiver::start(0));
    setup.write(&GOLDEN[..3], 0.9, 1);
    let target = TargetSettings { timeout: Duration::from_secs(5), ..hook(receiver.url()) };
    let instance = setup.ending(target, DEADLINE);
    wait_until("three attempts", DEADLINE, || receiver.received().len() >= 3);
    receiver.answer(200);
    must_be_done(&instance.left(&setup));
    assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:15:00.000Z"]);
}

#[test]
fn a_job_that_is_done_says_who_is_not_told_and_its_next_start_tells() {
    for (status, said) in [(503, "503"), (422, "422")] {
        let (setup, receiver) = (Setup::start(), Receiver::start(status));
        setup.write(&GOLDEN[..3], 0.9, 1);
        let left = setup.ending(hook(receiver.url()), Duration::from_secs(2)).left(&setup);
        let [untold] = &left.untold[..] else { panic!("{left:?}") };
        assert!(untold.starts_with("hook (changes not taken: 1, "), "{untold}");
        assert!(untold.contains(said) && left.failed.is_empty(), "{left:?}");
        assert!(setup.alerts().contains("\"opened\""), "{}", setup.alerts());
        receiver.answer(200);
        must_be_done(&setup.ending(hook(receiver.url()), DEADLINE).left(&setup));
        assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:15:00.000Z"]);
    }
}

#[test]
fn a_last_evaluation_that_fails_is_repeated() {
    let (mut setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..3], 0.9, 1);
    setup.server.kill();
    let instance = setup.ending(hook(receiver.url()), DEADLINE);
    setup.server.start_again();
    must_be_done(&instance.left(&setup));
    assert!(setup.alerts().contains("\"opened\""), "{}", setup.alerts());
    assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:15:00.000Z"]);
}

/// It is asked of one change in each round, however many there are.
#[test]
fn a_target_that_is_down_is_not_asked_of_every_change() {
    let (setup, receiver) = (Setup::start(), Receiver::start(503));
    setup.insert(&low("fraud-loans", 2));
    setup.insert(&low("fraud-cards", 2));
    let instance = setup.instance(receiver.url());
    wait_until("three attempts", DEADLINE, || receiver.received().len() >= 3);
    let attempts = receiver.received();
    let keys: Vec<_> = attempts.iter().map(|r| r.header("idempotency-key")).collect();
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    receiver.answer(200);
    wait_until("both", DEADLINE, || states(&receiver.received()).len() == 2);
    instance.end(&setup);
}

/// Answers that blame the change, and those that all changes get.
#[test]
fn the_status_says_whether_others_may_follow() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let receiver = Receiver::start(200);
    let patient = hook(receiver.url());
    let impatient = TargetSettings { timeout: Duration::from_secs(1), ..patient.clone() };
    let [patient, impatient] = [patient, impatient].map(|it| Target::new(&it).unwrap());
    for (status, is_of_change) in [
        (400, true),
        (403, true),
        (413, true),
        (422, true),
        (301, false),
        (401, false),
        (404, false),
        (408, false),
        (429, false),
        (500, false),
        (503, false),
        (0, false),
    ] {
        receiver.answer(status);
        let target = if status == 0 { &impatient } else { &patient };
        let refused = runtime.block_on(target.send(&Json::Null)).unwrap_err();
        assert_eq!(matches!(refused, NotTaken::Change(_)), is_of_change, "{status}");
    }
}

#[test]
fn windows_with_few_labels_say_nothing() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..3], 0.4, 1);
    setup.instance(receiver.url()).end(&setup);
    assert_eq!((setup.alerts().as_str(), receiver.received().len()), ("", 0));
    setup.write(&GOLDEN[..3], 0.6, 2);
    setup.instance(receiver.url()).end(&setup);
    assert!(setup.alerts().contains("\"opened\""), "{}", setup.alerts());
}

#[test]
fn limits_and_seals_of_rows_are_what_rules_see() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let rule = "[[alerts]]\nname = \"a\"\nmetric = \"quality_binary.precision\"\nbelow = 0.80\n";
    let write = |[value, lower, upper]: [f64; 3], sealed: bool, version: u64| {
        let figures =
            [("precision", value), ("precision_lower", lower), ("precision_upper", upper)];
        let rows = (1..=2).flat_map(|i| {
            [
                metric_row(MetricTable::Labels, i, &[("coverage", 0.9)], version),
                metric_row(MetricTable::QualityBinary, i, &figures, version),
            ]
        });
        setup.insert(&rows.map(|row| MetricRow { sealed, ..row }).collect::<Vec<_>>());
    };
    let alerts_after = |more: &str| {
        setup.instance_with(&format!("{rule}{more}"), receiver.url()).end(&setup);
        let columns = "state, value, lower, upper";
        setup.server.query(&format!("SELECT {columns} FROM tidegauge.alerts FINAL FORMAT CSV"))
    };
    let [certain, sealed_only] = ["certain = true\n", "sealed_only = true\n"];
    // The interval reaches beyond the threshold.
    write([0.79, 0.75, 0.83], false, 1);
    assert_eq!(alerts_after(certain), "");
    let sure = [0.7, 0.65, 0.75];
    write(sure, false, 2);
    assert_eq!(alerts_after(sealed_only), "");
    write(sure, true, 3);
    let both = [certain, sealed_only].concat();
    let opened = "\"opened\",0.7,0.65,0.75\n";
    assert_eq!(alerts_after(&both), opened);
    let told = receiver.received();
    let [change] = &told[..] else { panic!("{told:?}") };
    let told: Json = serde_json::from_str(&change.body).unwrap();
    assert_eq!(["value", "lower", "upper"].map(|name| told[name].as_f64()), sure.map(Some));
    // Who reads the alert back finds it as it is, and has nothing to write.
    setup.server.query("OPTIMIZE TABLE tidegauge.alerts FINAL");
    assert_eq!(alerts_after(&both), opened);
    assert_eq!(setup.server.query("SELECT count() FROM tidegauge.alerts"), "1\n");
}

/// The table's count is in another column than that of other tables.
#[test]
fn a_class_with_few_labels_says_nothing() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let rule = "[[alerts]]\nname = \"recall\"\nmetric = \"quality_classes.recall\"\nbelow = 0.8\n";
    let alerts_after = |rule: &str, labels, version| {
        let rows = (1..=2).flat_map(|i| {
            let recall =
                |class, support| of_class(i, class, ("recall", 0.1), ("support", support), version);
            let coverage = metric_row(MetricTable::Labels, i, &[("coverage", 0.9)], version);
            [coverage, recall("cat", labels), recall("dog", 1)]
        });
        setup.insert(&rows.collect::<Vec<_>>());
        setup.instance_with(rule, receiver.url()).end(&setup);
        setup.server.query("SELECT feature, n FROM tidegauge.alerts FINAL ORDER BY feature")
    };
    assert_eq!(alerts_after(rule, 99, 1), "");
    assert_eq!(alerts_after(rule, 100, 2), "cat\t100\n");
    assert_eq!(alerts_after(&format!("{rule}min_n = 1\n"), 100, 3), "cat\t100\ndog\t1\n");
}

/// However many are of the class: a rare one that is often said, and a frequent one that hardly ever is.
#[test]
fn the_precision_of_a_class_is_judged_where_it_is_said_often_enough() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let rule = "[[alerts]]\nname = \"a\"\nmetric = \"quality_classes.precision\"\nbelow = 0.5\n";
    let rows = (1..=2).flat_map(|i| {
        let precision = |class, precision, predicted, support| {
            let row = of_class(i, class, ("precision", precision), ("predicted", predicted), 1);
            with(row, "support", Value::Count(support))
        };
        let coverage = metric_row(MetricTable::Labels, i, &[("coverage", 0.9)], 1);
        [coverage, precision("rare", 0.002, 5000, 20), precision("shy", 0.0, 2, 500)]
    });
    setup.insert(&rows.collect::<Vec<_>>());
    setup.instance_with(rule, receiver.url()).end(&setup);
    let found = setup.server.query("SELECT feature, n FROM tidegauge.alerts FINAL");
    assert_eq!(found, "rare\t5000\n");
}

#[test]
fn the_records_behind_a_figure_are_read_from_every_table() {
    let setup = Setup::start();
    // It holds 7, all others 500.
    let counted = [
        ("serving.error_rate", "inferences"),
        ("serving.latency_p99_ms", "latency_n"),
        ("labels.coverage", "inferences"),
        ("quality_binary.precision", "n"),
        ("quality_threshold.precision", "n"),
        ("calibration.ece", "n_scored"),
        ("calibration_bins.positive_rate", "n"),
        ("quality_regression.mae", "n"),
        ("quality_multiclass.accuracy", "n"),
        ("quality_classes.precision", "predicted"),
        ("quality_classes.recall", "support"),
        ("quality_classes.auroc", "support"),
        ("confusion.n", "n"),
        ("quality_estimated.est_accuracy", "n"),
        ("quality_estimated.accuracy_gap", "n_labelled"),
        ("data_quality.missing_rate", "inferences"),
        ("data_quality.mean", "values"),
        ("categories.share", "values"),
        ("drift.value", "n"),
    ];
    for (version, (metric, count)) in (1..).zip(counted) {
        let text = format!("[[alerts]]\nname = \"a\"\nmetric = \"{metric}\"\nabove = 0.5\n");
        let rule = rules(&text).remove(0);
        let row = match rule.metric.table {
            MetricTable::Drift => of_drift(1, ["score", "psi"], ("value", 1.0), version),
            table => metric_row(table, 1, &[], version),
        };
        let row = with(row, count, Value::Count(7));
        let span = row.key.window;
        setup.insert(&[row]);
        let seen = setup.runtime.block_on(setup.clickhouse.rule_windows(&rule, span)).unwrap();
        let found: Vec<_> = seen.iter().map(|row| row.seen.n).collect();
        assert_eq!(found, [Some(7)], "{metric}");
    }
}

/// The server refuses answers of more than 12 rows here, and each model has 10.
#[test]
fn a_rule_reads_its_own_keys_and_those_that_fail_hold_up_no_other() {
    let (mut setup, receiver) = (Setup::start(), Receiver::start(200));
    let models = ["a_b", "a%b", "a\\b", "axb", "fraud-cards"];
    for model in models {
        setup.insert(&low(model, 10));
    }
    let mut settings = ClickHouseSettings::new(&setup.server.url(), "tidegauge", JOB);
    settings.read_settings = vec![("max_result_rows".to_owned(), "12".to_owned())];
    setup.clickhouse = ClickHouse::new(settings);
    let rule = |name: &str, models: &str| {
        format!(
            "[[alerts]]\nname = \"{name}\"\nmodels = [{models}]\n\
             metric = \"quality_binary.precision\"\nbelow = 0.8\n"
        )
    };
    let rules = [
        rule("all", "'*'"),
        rule("backslash", "'a\\b'"),
        rule("line", "'a_*'"),
        rule("none", ""),
        rule("one of two", "'fraud-*', 'churn'"),
        rule("percent", "'*%*'"),
        rule("two", "'a_b', 'a%b'"),
    ];
    let instance = setup.instance_with(&rules.concat(), receiver.url());
    let telemetry = instance.telemetry.clone();
    instance.end(&setup);
    let found = "SELECT rule, model FROM tidegauge.alerts FINAL ORDER BY rule FORMAT CSV";
    let expected = "\"backslash\",\"a\\b\"\n\"line\",\"a_b\"\n\"one of two\",\"fraud-cards\"\n\
                    \"percent\",\"a%b\"\n";
    assert_eq!(setup.server.query(found), expected);
    // What the others have open is known all the same.
    let gauge = "tidegauge_alerts_open 4\n";
    assert!(telemetry.encode().contains(gauge), "{}", telemetry.encode());
}

/// Nothing else would end it: neither in the table nor for whoever was told.
#[test]
fn an_open_alert_that_no_rule_is_about_any_more_is_retracted() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..3], 0.9, 1);
    let narrowed = RULE.replace("fraud-*", "fraud-loans");
    let coarser = format!("{RULE}grain = \"1h\"\n");
    let renamed = RULE.replace("precision low", "too low").replace("below = 0.80", "below = 0.1");
    let mut changes = 0;
    for others in [narrowed, coarser, renamed, String::new()] {
        for (text, state) in [(RULE, "opened"), (&others, "retracted")] {
            setup.instance_with(text, receiver.url()).end(&setup);
            changes += 1;
            let row = format!(
                "\"precision low\",\"2026-01-05 00:15:00.000\",\"{state}\",\"-\",0.78,0.8,500,{changes}\n"
            );
            assert_eq!(setup.alerts(), row, "{text}");
            let told = states(&receiver.received());
            assert_eq!(told.len(), changes, "{told:?}");
            assert_eq!(told[changes - 1], format!("{state} 2026-01-05T00:15:00.000Z"));
        }
    }
}

/// A record with a time of 1970 stands thousands of weeks before all others.
#[test]
fn one_old_stamp_does_not_make_a_query_of_every_week_since() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let tables = [(MetricTable::Labels, "coverage"), (MetricTable::QualityBinary, "precision")];
    let old = tables.map(|(table, name)| {
        let row = metric_row(table, 0, &[(name, 0.9)], 1);
        let key = Key { window: Window::of(EventTime(0), SIZE), ..(*row.key).clone() };
        MetricRow { key: key.into(), ..row }
    });
    setup.insert(&old);
    // No rule is about it.
    let other = metric_row(MetricTable::QualityBinary, 0, &[("precision", 0.1)], 1);
    setup.insert(&[of_model("churn", other)]);
    setup.write(&GOLDEN, 0.9, 1);
    let rule = rules(RULE).remove(0);
    let next =
        |from| setup.runtime.block_on(setup.clickhouse.rule_next(&rule, EventTime(from))).unwrap();
    assert_eq!(next(0), Some(EventTime(0)));
    assert_eq!(next(1), Some(EventTime(START_MS + SIZE.0)));
    assert_eq!(next(START_MS + 8 * SIZE.0), Some(EventTime(START_MS + 8 * SIZE.0)));
    assert_eq!(next(START_MS + 8 * SIZE.0 + 1), None);
    let asked = || -> u64 {
        let sql = "SELECT value FROM system.events WHERE event = 'SelectQuery'";
        setup.server.query(sql).trim().parse().unwrap()
    };
    let before = asked();
    setup.instance(receiver.url()).end(&setup);
    let queries = asked() - before;
    assert!(queries < 200, "{queries} queries");
    let resolved = "\"precision low\",\"2026-01-05 00:15:00.000\",\"resolved\",\"2026-01-05 00:40:00.000\",0.88,0.8,500,1\n";
    assert_eq!(setup.alerts(), resolved);
}

/// Someone drops old rows: what has ended stays as it is, and what is open can end.
#[test]
fn alerts_outlive_the_rows_that_they_were_found_in() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN, 0.9, 9);
    setup.insert(&low("fraud-loans", 3));
    setup.instance(receiver.url()).end(&setup);
    let first = [
        "opened 2026-01-05T00:10:00.000Z".to_owned(),
        "resolved 2026-01-05T00:15:00.000Z".to_owned(),
    ];
    let told = || {
        let mut told = states(&receiver.received());
        told.sort();
        told
    };
    assert_eq!(told(), first);
    for table in ["labels", "quality_binary"] {
        setup.server.query(&format!("TRUNCATE TABLE tidegauge.{table}"));
    }
    let good = [9, 10].into_iter().flat_map(|i| {
        [(MetricTable::Labels, "coverage"), (MetricTable::QualityBinary, "precision")]
            .map(|(table, name)| metric_row(table, i, &[(name, 0.9)], 1))
    });
    let good: Vec<_> = good.collect();
    let of_loans = good.iter().map(|row| of_model("fraud-loans", row.clone()));
    let of_loans: Vec<_> = of_loans.collect();
    setup.insert(&[good, of_loans].concat());
    let rows = "\"precision low\",\"2026-01-05 00:10:00.000\",\"retracted\",\"-\",0.7,0.8,500,2\n\
                \"precision low\",\"2026-01-05 00:15:00.000\",\"resolved\",\"2026-01-05 00:40:00.000\",0.88,0.8,500,1\n";
    setup.instance(receiver.url()).end(&setup);
    assert_eq!(setup.alerts(), rows);
    let [opened, resolved] = first;
    let expected = [opened, resolved, "retracted 2026-01-05T00:10:00.000Z".to_owned()];
    assert_eq!(told(), expected);
    // The next pass has nothing to write.
    setup.server.query("OPTIMIZE TABLE tidegauge.alerts FINAL");
    setup.instance(receiver.url()).end(&setup);
    assert_eq!(setup.server.query("SELECT count() FROM tidegauge.alerts"), "2\n");
    assert_eq!(told(), expected);
}

/// What has ended in sealed windows is looked at no more, until ClickHouse is put back to when it had not ended, or was
/// not there: while other rows come again by themselves, nothing else would end it.
#[test]
fn alerts_that_are_put_back_to_an_older_state_end_again() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..3], 0.9, 1);
    let instance = setup.instance(receiver.url());
    setup.wait_for("opened");
    setup.server.query("CREATE TABLE default.older AS tidegauge.alerts");
    setup.server.query("INSERT INTO default.older SELECT * FROM tidegauge.alerts");
    setup.write(&GOLDEN, 0.9, 2);
    setup.seal(9);
    instance.flush();
    setup.wait_for("resolved");
    let resolved = setup.alerts();
    setup.server.query("TRUNCATE TABLE tidegauge.alerts");
    setup.server.query("INSERT INTO tidegauge.alerts SELECT * FROM default.older");
    assert!(setup.alerts().contains("\"opened\""), "{}", setup.alerts());
    instance.flush();
    setup.wait_for("resolved");
    assert_eq!(setup.alerts(), resolved);
    setup.server.query("TRUNCATE TABLE tidegauge.alerts");
    instance.flush();
    setup.wait_for("resolved");
    instance.end(&setup);
    // Nobody is told anything twice.
    let first = "2026-01-05T00:15:00.000Z";
    let expected = [format!("opened {first}"), format!("resolved {first}")];
    assert_eq!(states(&receiver.received()), expected);
}

/// Without the rows of its alerts a new process asks the notifications, or `resolved` would have the number of a change
/// that was told, and never come.
#[test]
fn changes_of_alerts_whose_rows_are_lost_are_told_by_a_new_process() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let lifted = [0.82, 0.81, 0.78];
    for (values, version) in [(&GOLDEN[..3], 1), (&lifted[..], 2), (&GOLDEN[..3], 3)] {
        setup.write(values, 0.9, version);
        setup.instance(receiver.url()).end(&setup);
    }
    let first = "2026-01-05T00:15:00.000Z";
    let mut expected = ["opened", "retracted", "opened"].map(|it| format!("{it} {first}")).to_vec();
    assert_eq!(states(&receiver.received()), expected);
    setup.server.query("TRUNCATE TABLE tidegauge.alerts");
    setup.instance(receiver.url()).end(&setup);
    assert_eq!(states(&receiver.received()), expected, "that it holds was said");
    setup.server.query("TRUNCATE TABLE tidegauge.alerts");
    setup.write(&GOLDEN, 0.9, 4);
    setup.instance(receiver.url()).end(&setup);
    expected.push(format!("resolved {first}"));
    assert_eq!(states(&receiver.received()), expected);
    let announced = "SELECT announced FROM tidegauge.alerts FINAL";
    assert_eq!(setup.server.query(announced), "4\n");
}

/// Gaps are over the labelled, however many inferences there are; of drift only the rows of labels wait for them.
#[test]
fn gaps_and_drift_of_labels_wait_for_labels() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let rules = "[[alerts]]\nname = \"drifts\"\nmetric = \"drift.verdict\"\n\
                 [[alerts]]\nname = \"gap\"\nmetric = \"quality_estimated.accuracy_gap\"\nbelow = -0.1\n";
    let drift = |i, kind, version| {
        let row = of_drift(i, [kind, "psi"], ("effect", 0.5), version);
        with(row, "verdict", Value::Text("drift".into()))
    };
    let alerts_after = |coverage, labelled, version| {
        let rows = (1..=2).flat_map(|i| {
            let gap = [("accuracy_gap", -0.5)];
            let gap = metric_row(MetricTable::QualityEstimated, i, &gap, version);
            [
                metric_row(MetricTable::Labels, i, &[("coverage", coverage)], version),
                // Labels write only the rows of drift that they change.
                drift(i, "score", 1),
                drift(i, "label", version),
                with(gap, "n_labelled", Value::Count(labelled)),
            ]
        });
        setup.insert(&rows.collect::<Vec<_>>());
        setup.instance_with(rules, receiver.url()).end(&setup);
        let sql = "SELECT feature FROM tidegauge.alerts FINAL ORDER BY rule, feature";
        setup.server.query(sql)
    };
    assert_eq!(alerts_after(0.1, 200, 5), "score/psi\n");
    assert_eq!(alerts_after(0.9, 30, 6), "label/psi\nscore/psi\n");
    assert_eq!(alerts_after(0.9, 200, 7), "label/psi\nscore/psi\n\n");
}

/// Without drift the statistics of tests are great, and so may the rate of missing values be.
#[test]
fn of_the_methods_of_drift_rules_read_the_primary_one() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    let rule = "[[alerts]]\nname = \"a\"\nmetric = \"drift.value\"\nabove = 0.25\n";
    let alerts_after = |psi, version| {
        let rows = (1..=2).flat_map(|i| {
            [("psi", psi), ("chi2", 9.0), ("missing_rate", 0.3)]
                .map(|(method, value)| of_drift(i, ["feature", method], ("value", value), version))
        });
        setup.insert(&rows.collect::<Vec<_>>());
        setup.instance_with(rule, receiver.url()).end(&setup);
        setup.server.query("SELECT feature, value FROM tidegauge.alerts FINAL")
    };
    assert_eq!(alerts_after(0.05, 1), "");
    assert_eq!(alerts_after(0.5, 2), "feature/psi\t0.5\n");
}

/// Between two tables of a flush a key is not judged. Windows that seal meanwhile are not forgotten.
#[test]
fn what_seals_while_a_key_is_being_written_is_told_afterwards() {
    let (setup, receiver) = (Setup::start(), Receiver::start(200));
    setup.write(&GOLDEN[..3], 0.9, 3);
    let instance = setup.instance(receiver.url());
    setup.wait_for("opened");
    let quality =
        |version| metric_row(MetricTable::QualityBinary, 9, &[("precision", 0.9)], version);
    setup.insert(&[metric_row(MetricTable::Labels, 9, &[("coverage", 0.9)], 4), quality(3)]);
    setup.write(&GOLDEN, 0.9, 3);
    // Up to the end of window 8, which begins 8 windows after the start.
    setup.seal(9);
    // Another key shows when a pass has seen all that.
    setup.insert(&low("fraud-loans", 2));
    instance.flush();
    let other =
        "SELECT count() FROM tidegauge.alerts WHERE model = 'fraud-loans' AND state = 'opened'";
    wait_until("the other key's alert", DEADLINE, || setup.server.query(other) == "1\n");
    assert!(!setup.alerts().contains("\"resolved\""), "{}", setup.alerts());
    setup.insert(&[quality(4)]);
    instance.end(&setup);
    let resolved = "\"2026-01-05 00:15:00.000\",\"resolved\",\"2026-01-05 00:40:00.000\",0.88,";
    assert!(setup.alerts().contains(resolved), "{}", setup.alerts());
}

/// All records of a topic with three partitions, until there are so many changes: partition, key, idempotency key and
/// value.
fn told_in(
    kafka: &services::Kafka,
    topic: &str,
    changes: usize,
) -> Vec<(i32, String, String, Json)> {
    let mut config = kafka.client_config();
    let consumer: BaseConsumer = config.set("group.id", "reader").create().unwrap();
    let mut from = TopicPartitionList::new();
    for partition in 0..3 {
        from.add_partition_offset(topic, partition, Offset::Beginning).unwrap();
    }
    consumer.assign(&from).unwrap();
    let mut told: Vec<(i32, String, String, Json)> = Vec::new();
    wait_until(&format!("{changes} changes in {topic}"), DEADLINE, || {
        if let Some(Ok(record)) = consumer.poll(Duration::from_millis(100)) {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let headers = record.headers().unwrap();
            let header = headers.iter().find(|header| header.key == "idempotency-key").unwrap();
            let value = serde_json::from_slice(record.payload().unwrap()).unwrap();
            told.push((record.partition(), text(record.key()), text(header.value), value));
        }
        let keys: std::collections::BTreeSet<_> = told.iter().map(|(_, _, key, _)| key).collect();
        keys.len() >= changes
    });
    told
}

/// A topic in place of a webhook: while the broker does not answer rules go on, and then each change is there in order.
#[test]
fn a_topic_gets_each_change_in_order_once_its_broker_is_back() {
    let (setup, kafka) = (Setup::start(), services::Kafka::start());
    kafka.create_topic("told", 3, &[]);
    let topic = Topic {
        name: "told".to_owned(),
        brokers: kafka.bootstrap(),
        properties: vec![("client.id".to_owned(), "rules".to_owned())],
    };
    let target = TargetSettings {
        name: "topic".to_owned(),
        medium: Medium::Kafka(topic),
        url: String::new(),
        secret: None,
        timeout: Duration::from_secs(10),
    };
    kafka.pause();
    setup.write(&GOLDEN[..3], 0.9, 1);
    let instance = setup.instance_telling(RULE, target);
    setup.wait_for("opened");
    setup.write(&GOLDEN, 0.9, 2);
    instance.flush();
    setup.wait_for("resolved");
    let left = "SELECT count() FROM tidegauge.notifications FINAL WHERE target = 'topic' AND status = 'pending'";
    wait_until("both to be noted", DEADLINE, || setup.server.query(left) == "2\n");
    kafka.resume();
    wait_until("both to be taken", DEADLINE, || setup.server.query(left) == "0\n");
    instance.end(&setup);
    let mut told = told_in(&kafka, "told", 2);
    // An attempt that was given up may have arrived all the same: who has seen its key drops it.
    told.dedup_by(|a, b| a.2 == b.2);
    let states: Vec<_> = told.iter().map(|(_, _, _, change)| change["state"].clone()).collect();
    assert_eq!(states, ["opened", "resolved"]);
    for (partition, key, idempotency_key, change) in &told {
        assert_eq!(
            (partition, key),
            (&told[0].0, &told[0].1),
            "all of an alert are in one partition"
        );
        assert!(idempotency_key.starts_with(&**key));
        assert_eq!(change["idempotency_key"], **idempotency_key);
    }

    // The same through the program and its configuration.
    kafka.create_topic("tried", 3, &[]);
    let topics = ["tried.inferences", "tried.labels"];
    let more = format!(
        "{}\n[[notify]]\nname = \"topic\"\ntype = \"kafka\"\ntopic = \"tried\"\n",
        sections(topics)
    );
    let mut job = Job::new("tried", &kafka, &setup.server, topics, &requests::settings(), &more);
    let said = job.run(&["alerts", "test"], 0, DEADLINE);
    assert!(said.contains("topic  topic tried has it"), "{said}");
    assert_eq!(told_in(&kafka, "tried", 1)[0].3["state"], "test");
    let listed = job.run(&["alerts", "list"], 0, DEADLINE);
    assert!(listed.contains("job tried has no open alert"), "{listed}");
    let listed = job.run(&["alerts", "list", "--all"], 0, DEADLINE);
    let others = "; jobs with alerts: fraud (1): choose one with --job\n";
    assert!(listed.contains(&format!("job tried has had no alert yet{others}")), "{listed}");
}

/// The whole program, killed once the row of a change is acknowledged, and once more when its note is.
#[test]
fn a_killed_processor_tells_each_change_once_it_is_back() {
    let services = services::shared();
    let services::Services { kafka, clickhouse } = &*services;
    let receiver = Receiver::start(200);
    let topics = ["told.inferences", "told.labels"];
    let rules = format!(
        "{}\n[[alerts]]\nname = \"traffic\"\nmetric = \"serving.inferences\"\nabove = 0\n\
         [[notify]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret = \"s3cret\"\n",
        sections(topics),
        receiver.url()
    );
    let mut job = Job::new("told", kafka, clickhouse, topics, &requests::settings(), &rules);
    job.create_topics(kafka, 1);
    job.run(&["init"], 0, DEADLINE);
    let mut producer = Producer::new(kafka.client_config(), topics, 1);
    for number in 0..900 {
        let stamp = START_MS + number * 1000;
        let inference = Inference {
            id: number.to_string(),
            model: "fraud-cards".to_owned(),
            time: stamp,
            ..Inference::default()
        };
        let body = Body::Inference(inference);
        let payload = Some(json_payload(&body));
        let key = number.to_string();
        producer.send(Message { topic: 0, partition: 0, stamp, body, key, payload });
    }
    producer.flush();
    for (point, noted) in [("alerts-written", "0\n"), ("notifications-written", "1\n")] {
        let kill = format!("{point}@1=kill");
        let mut instance = job.start_with(&["run"], &[("TIDEGAUGE_FAILPOINTS", &kill)]);
        assert_eq!(instance.wait(point, DEADLINE), None, "{}", instance.log_text());
        let pending =
            "SELECT count() FROM tidegauge.notifications WHERE job = 'told' AND target = 'hook'";
        assert_eq!(clickhouse.query(pending), noted, "{point}");
        assert_eq!(receiver.received().len(), 0, "{point}");
    }
    let instance = job.start(&["run"]);
    wait_until("the change to be told", DEADLINE, || !receiver.received().is_empty());
    instance.stop();
    assert_eq!(states(&receiver.received()), ["opened 2026-01-05T00:05:00.000Z"]);
    let changes = "SELECT uniqExact(opened_window, state) FROM tidegauge.alerts WHERE job = 'told'";
    assert_eq!(clickhouse.query(changes), "1\n");

    // It is listed under the job's name, and under another one that is said to have it.
    let open = "opened     2026-01-05T00:05:00.000Z  traffic  fraud-cards";
    for more in [&[][..], &["--job", "told"]] {
        let listed = job.run(&[&["alerts", "list"], more].concat(), 0, DEADLINE);
        assert!(listed.contains(open), "{listed}");
    }
    let other = ["alerts", "list", "--job", "untold"];
    for (more, said) in [
        (&[][..], "job untold has no open alert; jobs with open alerts: "),
        (&["--all"][..], "job untold has had no alert yet; jobs with alerts: "),
    ] {
        let listed = job.run(&[&other[..], more].concat(), 0, DEADLINE);
        assert!(listed.contains(said) && listed.contains("told (1)"), "{listed}");
        assert!(listed.contains("choose one with --job"), "{listed}");
    }
}

/// The whole program over files: its end waits for a target that is down, until a signal comes; the next start tells.
#[test]
fn a_backfill_ends_well_once_everybody_is_told() {
    let services = services::shared();
    let services::Services { kafka, clickhouse } = &*services;
    let (receiver, folder) = (Receiver::start(503), tempfile::tempdir().unwrap());
    let path = folder.path().join("scored.csv");
    let rows = (0..40).map(|i| {
        let time = START_MS + i * 60_000;
        format!("r-{i},fraud-cards,{time},0.9,0\n")
    });
    let head = "request_id,model,timestamp,score,label\n".to_owned();
    std::fs::write(&path, head + &rows.collect::<String>()).unwrap();
    let topics = ["nightly.inferences", "nightly.labels"];
    let more = format!(
        "{}\n[[alerts]]\nname = \"wrong\"\nmetric = \"quality_binary.accuracy\"\nbelow = 0.9\nmin_n = 1\n\
         for = 1\nsealed_only = true\n\
         [[notify]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\nsecret = \"s3cret\"\n",
        sections(topics),
        receiver.url()
    );
    let mut job = Job::new("nightly", kafka, clickhouse, topics, &requests::settings(), &more);
    job.run(&["init"], 0, DEADLINE);
    let file = path.to_str().unwrap();
    let files = ["--inferences", file, "--labels", file];
    let arguments = [&["backfill", "--job", "nightly-1", "--alerts"], &files[..]].concat();
    let mut first = job.start(&arguments);
    // An end that does not insist comes to two.
    wait_until("five attempts", DEADLINE, || receiver.received().len() >= 5);
    first.signal(Signal::SIGTERM);
    let code = first.wait("its end", DEADLINE);
    assert_eq!(code, Some(130), "{}", first.log_text());
    assert!(first.log_text().contains("interrupted: start it again"), "{}", first.log_text());
    receiver.answer(200);
    let said = job.run(&arguments, 0, DEADLINE);
    assert!(said.contains("all rows are written and sealed"), "{said}");
    let told = states(&receiver.received());
    assert!(told.len() == 1 && told[0].starts_with("opened "), "{told:?}");
    let pending = "SELECT count() FROM tidegauge.notifications FINAL \
                   WHERE job = 'nightly-1' AND target != '' AND status != 'delivered'";
    assert_eq!(clickhouse.query(pending), "0\n");
}
