//! Rules: what the configuration may say, and what follows from a row of windows.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use assert_cmd::Command;
use proptest::prelude::*;
use tidegauge::alerting::{Alerting, Medium, TargetSettings};
use tidegauge::alerts::{
    Alert, AlertKey, AlertRow, Bound, Judgement, Machine, Metric, Recent, Rule, Seen, State, Told,
    changes, left_behind,
};
use tidegauge::config::{ConfigError, Settings};
use tidegauge::engine::metrics::accumulator::Kind;
use tidegauge::engine::state::Version;
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::sink::SinkError;
use tidegauge::sink::clickhouse::{ClickHouse, ClickHouseSettings};
use tidegauge::telemetry::Telemetry;
use tokio::sync::watch;

use crate::config::{SMALLEST, parse_with};

#[path = "../support/receiver.rs"]
#[expect(dead_code, unreachable_pub, reason = "other tests have it as a module of a module")]
mod receiver;

const SIZE: Millis = Millis(300_000);

fn parse(text: &str) -> Result<Settings, ConfigError> {
    parse_with(&format!("{SMALLEST}{text}"), &[("URL", "http://127.0.0.1:1/")])
}

/// The message of a rule that must be refused.
fn refused(rule: &str) -> (&'static str, String) {
    let error = parse(rule).expect_err(rule);
    (error.code(), error.to_string())
}

/// The rule of the definition: below 0.80, clear at 0.85, two windows each.
fn rule() -> Rule {
    let text = "[[alerts]]\nname = \"precision low\"\nmodels = [\"fraud-*\"]\nmetric = \"quality_binary.precision\"\n\
                below = 0.80\nclear = 0.85\n";
    parse(text).unwrap().rules.remove(0)
}

#[test]
fn a_short_rule_has_the_defaults_of_the_definition() {
    let rule = rule();
    assert_eq!((rule.opens_after, rule.clears_after, rule.min_n), (2, 2, 100));
    assert_eq!((rule.min_coverage, rule.certain, rule.sealed_only), (0.5, false, false));
    assert_eq!(rule.bound, Bound::Below { at: 0.8, clear: 0.85 });
    assert_eq!((&*rule.grain, rule.size, &*rule.severity), ("5m", SIZE, "warning"));
    assert!(rule.is_about("fraud-cards", "all") && !rule.is_about("churn", "all"));
    assert!(!rule.is_about("fraud-cards", "region=eu"));
    let silence = "[[alerts]]\nname = \"a\"\nmetric = \"serving.inferences\"\nbelow = 1\n";
    let silence = parse(silence).unwrap().rules.remove(0);
    assert_eq!((silence.min_n, silence.min_coverage), (0, 0.0));
    assert_eq!(silence.bound, Bound::Below { at: 1.0, clear: 1.0 });
}

#[test]
fn a_rule_says_how_many_windows_open_an_alert_and_how_many_clear_it() {
    let of = |more: &str| {
        let text = "[[alerts]]\nname = \"a\"\nmetric = \"serving.error_rate\"\nabove = 0.1\n";
        let rule = parse(&format!("{text}{more}")).unwrap().rules.remove(0);
        (rule.opens_after, rule.clears_after)
    };
    assert_eq!(of("for = 3\nclear_for = 5\n"), (3, 5));
    assert_eq!(of("for = 3\n"), (3, 2));
    assert_eq!(of("clear_for = 1\n"), (2, 1));
}

#[test]
fn what_is_wrong_with_a_rule_names_it_and_the_remedy() {
    let with = |more: &str| format!("[[alerts]]\nname = \"low\"\n{more}\n");
    for (more, expected) in [
        (
            "metric = \"quality_binary.precison\"\nbelow = 1",
            "did you mean \"quality_binary.precision\"",
        ),
        ("metric = \"quality_binary.precision_lower\"\nbelow = 1", "did you mean"),
        (
            "metric = \"precision\"\nbelow = 1",
            "did you mean \"quality_binary.precision\" or \"quality_",
        ),
        ("metric = \"serving.error_rate\"", "needs `below`, `above` or `learned`"),
        ("below = 1", "needs a `metric`"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nbelow = 0.2", "write two rules"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nclear = 0.2", "must be at most `above`"),
        ("metric = \"quality_binary.f1\"\nbelow = 0.8\nclear = 0.7", "must be at least `below`"),
        ("metric = \"quality_binary.mcc\"\nbelow = 0.8\ncertain = true", "needs an interval"),
        (
            "metric = \"drift.value\"\nabove = 0.25\ncertain = true",
            "needs an interval of 95 %, and drift.value has none: leave it out",
        ),
        ("metric = \"drift.verdict\"\nabove = 1", "`drift` is bad"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nfor = 0", "1 or more windows"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nclear_for = 0", "1 or more windows"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nmin_n = -1", "0 or more records"),
        ("metric = \"quality_binary.f1\"\nbelow = 0.1\nmin_coverage = 2", "0 to 1"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\nmin_coverage = 0.5", "reads none"),
        ("metric = \"serving.error_rate\"\nabove = 0.1\ngrain = \"7m\"", "there are 5m, 1h, 1d"),
    ] {
        let (code, message) = refused(&with(more));
        assert_eq!(code, "config_invalid_value", "{message}");
        assert!(message.contains("\"low\"") && message.contains(expected), "{message}");
        assert!(message.contains("t.toml:"), "{message}");
    }
    let (code, message) = refused("[[alerts]]\nmetric = \"serving.error_rate\"\nabove = 1\n");
    assert!(code == "config_required" && message.contains("`alerts.name`"), "{message}");
    let twice = with("metric = \"serving.error_rate\"\nabove = 0.1").repeat(2);
    assert!(refused(&twice).1.contains("stands twice"));
    let (code, message) = refused(&with("metric = \"serving.error_rate\"\nabov = 0.1"));
    assert!(code == "config_unknown_key" && message.contains("`alerts.above`"), "{message}");
    assert_eq!(refused("[alerts]\nname = \"a\"\n").0, "config_wrong_type");
    assert_eq!(
        refused(&with("metric = \"serving.error_rate\"\nabove = \"x\"")).0,
        "config_wrong_type"
    );
}

/// Of twenty rules one without a name is found by its line.
#[test]
fn a_section_without_a_name_is_named_by_its_place() {
    let rule =
        |name: &str| format!("[[alerts]]\n{name}metric = \"serving.error_rate\"\nabove = 0.1\n");
    let twenty = rule("name = \"a\"\n") + &rule("") + &rule("name = \"b\"\n");
    let remedy = "every `[[alerts]]` has a name of its own, like `name = \"...\"`";
    let expected = format!("t.toml:9: `alerts.name` is missing; {remedy}");
    assert_eq!(refused(&twenty), ("config_required", expected));
    for (list, text, line) in [
        ("alerts", "[[alerts]]\n\n", 5),
        ("alerts", "\n[[alerts]]\nname = \"\"\n", 6),
        ("metrics", "[[metrics]]\nexpression = \"tp\"\n", 5),
        ("notify", "[windows]\n[[notify]]\nurl = \"http://a/\"\n", 6),
    ] {
        let (code, message) = refused(text);
        assert_eq!(code, "config_required", "{text}");
        let expected = format!("t.toml:{line}: `{list}.name` is missing; ");
        assert!(message.starts_with(&expected), "{message}");
    }
    let variable = "TIDEGAUGE__ALERTS__0__METRIC";
    let environment = [(variable, "serving.error_rate")].into_iter().collect();
    let error = Settings::parse("t.toml", "[inferences]\ntopic = \"i\"\n", &environment);
    let message = error.unwrap_err().to_string();
    let expected = format!("environment variable {variable}: `alerts.name` is missing; ");
    assert!(message.starts_with(&expected), "{message}");
}

/// As sections 8 and 10 of the definition have it: which figures read labels, and what they are counted over.
#[test]
fn rules_on_what_reads_labels_wait_for_them() {
    for (metric, reads_labels, count) in [
        ("quality_estimated.n", false, "n"),
        ("quality_estimated.est_tp", false, "n"),
        ("quality_estimated.est_accuracy", false, "n"),
        ("quality_estimated.est_auroc_error_bound", false, "n"),
        ("quality_estimated.n_labelled", true, "n_labelled"),
        ("quality_estimated.realized_accuracy", true, "n_labelled"),
        ("quality_estimated.realized_auroc", true, "n_labelled"),
        ("quality_estimated.est_labelled_f1", true, "n_labelled"),
        ("quality_estimated.accuracy_gap", true, "n_labelled"),
        ("quality_estimated.accuracy_gap_z", true, "n_labelled"),
        ("quality_estimated.auroc_gap", true, "n_labelled"),
        ("quality_estimated.blended_accuracy", true, "n"),
        ("quality_binary.precision", true, "n"),
        ("drift.value", true, "n"),
        ("serving.error_rate", false, "inferences"),
        ("data_quality.missing_rate", false, "inferences"),
    ] {
        let text = format!("[[alerts]]\nname = \"a\"\nmetric = \"{metric}\"\nbelow = 0.5\n");
        let rule = parse(&text).unwrap().rules.remove(0);
        let coverage = if reads_labels { 0.5 } else { 0.0 };
        assert_eq!((rule.reads_labels(), rule.min_coverage), (reads_labels, coverage), "{metric}");
        assert_eq!(rule.metric.count_column(), Some(count), "{metric}");
        let own = parse(&format!("{text}min_coverage = 0.2\n"));
        let own = own.ok().map(|settings| settings.rules[0].min_coverage);
        assert_eq!(own, reads_labels.then_some(0.2), "{metric}");
    }
}

/// Where nothing is counted `min_n` would be held against nothing, and one record could open an alert.
#[test]
fn every_figure_that_rules_may_name_has_counts_of_its_row_behind_it() {
    let expected = [
        ("serving", "inferences, latency_n"),
        (
            "labels",
            "inferences, inferences_negative, inferences_positive, labelled, labels_matched",
        ),
        ("quality_binary", "n"),
        ("quality_threshold", "n"),
        ("calibration", "n_scored"),
        ("calibration_bins", "n"),
        ("quality_regression", "n"),
        ("quality_multiclass", "n"),
        ("quality_classes", "predicted, support"),
        ("confusion", "n"),
        ("quality_estimated", "n, n_labelled"),
        ("data_quality", "inferences, values"),
        ("categories", "values"),
        ("drift", "n"),
        ("custom", "n"),
    ];
    let mut met: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
    for metric in Metric::all().chain([Metric::CUSTOM]) {
        let (name, table) = (metric.name(), metric.table);
        let count = metric.count_column().unwrap_or_else(|| panic!("{name} has none"));
        let is_stored = |column: &str, kind| column == count && kind == Kind::Count;
        assert!(table.columns().iter().any(|c| is_stored(c.name, c.kind)), "{name}: {count}");
        met.entry(table.name()).or_default().insert(count);
    }
    let expected = expected.map(|(table, counts)| (table, counts.split(", ").collect()));
    let expected = BTreeMap::from(expected);
    assert_eq!(met, expected);
}

#[test]
fn a_count_is_not_held_against_itself() {
    for (metric, min_n) in [
        ("serving.inferences", 0),
        ("labels.inferences", 0),
        ("quality_binary.n", 0),
        ("quality_classes.support", 0),
        ("confusion.n", 0),
        ("categories.values", 0),
        ("serving.latency_n", 0),
        ("quality_classes.predicted", 0),
        ("quality_estimated.n_labelled", 0),
        ("labels.labelled", 100),
        ("quality_binary.tp", 100),
        ("quality_binary.n", 0),
        ("quality_binary.n_scored", 100),
        ("quality_classes.recall", 100),
        ("quality_classes.tp", 100),
        ("categories.n", 100),
    ] {
        let text = format!("[[alerts]]\nname = \"a\"\nmetric = \"{metric}\"\nbelow = 0.5\n");
        assert_eq!(parse(&text).unwrap().rules[0].min_n, min_n, "{metric}");
        let own = format!("{text}min_n = 7\n");
        assert_eq!(parse(&own).unwrap().rules[0].min_n, 7, "{metric}");
    }
}

#[test]
fn a_share_in_percent_is_refused() {
    let with = |metric: &str, bound: &str| {
        format!("[[alerts]]\nname = \"a\"\nmetric = \"{metric}\"\n{bound}\n")
    };
    for (metric, bound, given) in [
        ("serving.error_rate", "above = 5", "`alerts.above` of \"a\" is 5"),
        ("quality_binary.accuracy", "below = 80", "`alerts.below` of \"a\" is 80"),
        ("quality_binary.f1", "below = 0.8\nclear = 85", "`alerts.clear` of \"a\" is 85"),
        ("quality_estimated.est_accuracy", "below = -0.1", "`alerts.below` of \"a\" is -0.1"),
    ] {
        let (code, message) = refused(&with(metric, bound));
        assert_eq!(code, "config_invalid_value", "{message}");
        let said = format!("{given}, and {metric} is a share, 0 to 1: 5 % is 0.05");
        assert!(message.ends_with(&said), "{message}");
    }
    for bound in ["above = 1", "above = 0", "below = 1.0\nclear = 1"] {
        parse(&with("serving.error_rate", bound)).expect(bound);
    }
    parse(&with("quality_binary.accuracy", "learned = 3\nclear = 2")).unwrap();

    let schemas = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas/clickhouse/views.sql");
    let catalogue = fs::read_to_string(schemas).unwrap();
    let (mut shares, mut others) = (0, 0);
    for metric in Metric::all().filter(|metric| !metric.is_verdict()) {
        let head = format!("('{}', '{}', 'ratio', ", metric.table.name(), metric.column);
        // A difference of two shares can be below 0.
        let is_share = catalogue.contains(&head) && !catalogue.contains(&format!("{head}'zero'"));
        let is_refused = parse(&with(&metric.name(), "below = 80")).is_err();
        assert_eq!(is_refused, is_share, "{}", metric.name());
        shares += usize::from(is_share);
        others += usize::from(!is_share);
    }
    assert!(shares > 50 && others > 150, "{shares} {others}");
}

#[test]
fn a_target_that_cannot_be_made_is_one_line_and_the_others_are_tried() {
    let hook = receiver::Receiver::start(200);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    let text = format!(
        "kafka.properties = {{ \"no.such.property\" = \"1\" }}\n[inferences]\ntopic = \"i\"\n\
         [[notify]]\nname = \"topic\"\ntype = \"kafka\"\ntopic = \"told\"\n\
         [[notify]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}\"\n",
        hook.url()
    );
    fs::write(&file, text).unwrap();
    let mut command = Command::cargo_bin("tidegauge").unwrap();
    command.timeout(Duration::from_secs(60)).args(["alerts", "test", "-c"]).arg(&file);
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (said, error) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(1), "{said}{error}");
    let lines: Vec<_> = said.lines().collect();
    let [topic, hooked] = lines[..] else { panic!("{said}{error}") };
    assert!(topic.starts_with("failed  topic  ") && topic.contains("no.such.property"), "{topic}");
    assert_eq!(hooked, "ok      hook  200 OK");
    assert_eq!(hook.received().len(), 1);
    assert!(error.contains("error[notify_failed]") && error.contains("not told: topic"), "{error}");
}

#[test]
fn targets_are_checked_and_their_secrets_are_not_shown() {
    let target = |more: &str| parse(&format!("[[notify]]\nname = \"chat\"\n{more}\n"));
    let settings = target("type = \"slack\"\nurl = \"env:URL\"").unwrap();
    assert_eq!(settings.targets[0].url, "http://127.0.0.1:1/");
    assert!(!format!("{settings:?}").contains("127.0.0.1:1"));
    for (more, code) in [
        ("", "config_invalid_value"),
        ("url = \"ftp://a/\"", "config_invalid_value"),
        ("url = \"env:NOT_SET\"", "config_secret"),
        ("url = \"http://a/\"\ntype = \"pigeon\"", "config_invalid_value"),
    ] {
        assert_eq!(target(more).expect_err(more).code(), code, "{more}");
    }
}

#[test]
fn every_figure_can_be_watched_and_no_limit() {
    let names: Vec<_> = Metric::all().map(Metric::name).collect();
    for name in
        ["serving.error_rate", "quality_binary.tp", "drift.verdict", "data_quality.missing_rate"]
    {
        assert!(names.iter().any(|known| known == name), "{name}");
    }
    let is_like_a_limit = |name: &&String| name.ends_with("_lower") || name.ends_with("_upper");
    let like_limits: Vec<_> = names.iter().filter(is_like_a_limit).collect();
    // The edges of a bin, which are limits of nothing.
    assert_eq!(like_limits, ["calibration_bins.bin_lower", "calibration_bins.bin_upper"]);
    for metric in Metric::all() {
        assert_eq!(Metric::named(&metric.name()), Some(metric));
    }
}

fn window(i: usize) -> Window {
    Window::of(EventTime(i64::try_from(i).unwrap() * SIZE.0), SIZE)
}

fn seen(i: usize, value: Option<f64>) -> Seen {
    Seen {
        window: window(i),
        value,
        lower: value.map(|x| x - 0.02),
        upper: value.map(|x| x + 0.02),
        verdict: "".into(),
        n: Some(100),
        coverage: Some(0.5),
        sealed: true,
        version: Version(2),
    }
}

fn run(rule: &Rule, values: &[f64]) -> Machine {
    let mut machine = Machine::new(rule, &key());
    for (i, value) in values.iter().enumerate() {
        machine.step(rule, &seen(i + 1, Some(*value)));
    }
    machine
}

const GOLDEN: [f64; 8] = [0.82, 0.79, 0.78, 0.81, 0.86, 0.84, 0.87, 0.88];

#[test]
fn the_rule_of_the_definition_opens_at_3_and_resolves_at_8() {
    let machine = run(&rule(), &GOLDEN);
    let [alert] = machine.alerts() else { panic!("{machine:?}") };
    assert_eq!((alert.opened, alert.resolved), (window(3), Some(window(8))));
    assert_eq!((alert.state, alert.value), (State::Resolved, Some(0.88)));
    assert_eq!(machine.version(), Version(8 * 2 + 8), "versions of all windows plus their number");
    assert!(run(&rule(), &GOLDEN[..3]).is_open() && run(&rule(), &GOLDEN[..7]).is_open());
}

fn key() -> AlertKey {
    let text = |text: &str| Arc::<str>::from(text);
    AlertKey {
        rule: text("precision low"),
        model: text("fraud-cards"),
        version: text("1"),
        segment: text("all"),
        feature: text(""),
        grain: text("5m"),
    }
}

/// Behind a wrong time of 1970 lie millions of windows.
#[test]
fn silence_that_is_passed_over_is_as_if_it_had_been_judged() {
    let quiet = |more: &str| {
        let text = format!("[[alerts]]\nname = \"a\"\nmetric = \"serving.inferences\"\n{more}\n");
        parse(&text).unwrap().rules.remove(0)
    };
    // 0 is bad, good, between, and says nothing.
    let bounds =
        ["below = 1", "above = 10", "below = -5\nclear = 5", "below = 1\nmin_n = 1"].map(quiet);
    for (rule, windows) in bounds.iter().flat_map(|rule| (0..9).map(move |n| (rule, n))) {
        for (opens_after, clears_after) in [(1, 1), (3, 2), (2, 4)] {
            let rule = Rule { opens_after, clears_after, ..rule.clone() };
            for before in [&[5.0][..], &[0.0, 0.0], &[20.0, 20.0, 20.0, 20.0]] {
                let mut judged = run(&rule, before);
                let mut passed = judged.clone();
                for i in 0..windows {
                    judged.step(&rule, &Seen::silent(window(before.len() + 1 + i)));
                }
                let end = window(before.len() + windows).end;
                // A window that ends later is not silent yet.
                passed.pass_silence(&rule, EventTime(end.0 + SIZE.0 - 1));
                assert_eq!(passed, judged, "{rule:?} {before:?} {windows}");
                passed.pass_silence(&rule, end);
                assert_eq!(passed, judged, "twice is once");
            }
        }
    }
    let rule = Rule { opens_after: 3, ..quiet("below = 1") };
    let mut machine = run(&rule, &[5.0]);
    machine.pass_silence(&rule, window(30_000_000).end);
    let [alert] = machine.alerts() else { panic!("{machine:?}") };
    assert_eq!((alert.opened, alert.state), (window(4), State::Opened));
    assert_eq!(machine.until(), Some(window(30_000_000)));
    assert_eq!(machine.version(), Version(2 + 30_000_000));
}

/// What a pass over these windows writes after what is stored.
fn pass(values: &[f64], stored: &[AlertRow]) -> Vec<AlertRow> {
    pass_of(&rule(), values, stored)
}

fn pass_of(rule: &Rule, values: &[f64], stored: &[AlertRow]) -> Vec<AlertRow> {
    let machine = run(rule, values);
    changes(rule, &key(), (machine.alerts(), machine.version()), stored, ALL)
}

/// Everything is looked at, and is news; of what was told nothing is known but the rows.
const ALL: Recent<'_> =
    Recent { after: EventTime(i64::MIN), news_after: EventTime(0), told: &NOTHING };
static NOTHING: Told = Told::nothing();

#[test]
fn late_labels_retract_an_alert_and_each_change_is_counted_once() {
    let opened = pass(&GOLDEN[..3], &[]);
    assert_eq!((opened[0].alert.state, opened[0].announced), (State::Opened, 1));
    assert_eq!(pass(&GOLDEN[..3], &opened), [], "the same again writes nothing");
    assert_eq!(pass(&GOLDEN[..4], &opened), [], "a window that changes nothing writes nothing");
    let resolved = pass(&GOLDEN, &opened);
    assert_eq!((resolved[0].alert.state, resolved[0].announced), (State::Resolved, 2));
    // Late labels lift window 2 to 0.81.
    let lifted = [0.82, 0.81, 0.78];
    let retracted = pass(&lifted, &opened);
    assert_eq!((retracted[0].alert.state, retracted[0].announced), (State::Retracted, 2));
    assert_eq!(retracted[0].alert.opened, window(3));
    assert_eq!(pass(&lifted, &retracted), [], "it stays retracted, and is not said again");
    let again = pass(&GOLDEN[..3], &retracted);
    assert_eq!((again[0].alert.state, again[0].announced), (State::Opened, 3));
    // A better figure of the same state is written and nobody is told.
    let closer = pass(&[0.82, 0.79, 0.77], &opened);
    assert_eq!((closer[0].alert.value, closer[0].announced), (Some(0.77), 1));
}

#[test]
fn old_alerts_are_written_and_nobody_is_told() {
    let machine = run(&rule(), &GOLDEN);
    let recent = Recent { news_after: window(8).end, ..ALL };
    let rows = changes(&rule(), &key(), (machine.alerts(), machine.version()), &[], recent);
    assert_eq!((rows[0].alert.state, rows[0].announced), (State::Resolved, 0));
    // What is final is not looked at.
    let recent = Recent { after: window(8).end, ..ALL };
    assert_eq!(changes(&rule(), &key(), (&[], Version(99)), &rows, recent), []);
}

/// As after ClickHouse lost rows, or was put back: targets know of more changes than the rows say.
#[test]
fn numbers_of_changes_go_on_where_rows_are_older_than_what_was_told() {
    let lifted = [0.82, 0.81, 0.78];
    let opened = pass(&GOLDEN[..3], &[]);
    let retracted = pass(&lifted, &opened);
    let again = pass(&GOLDEN[..3], &retracted);
    assert_eq!((again[0].alert.state, again[0].announced), (State::Opened, 3));
    let told_of = |rows: &[AlertRow]| {
        let mut told = Told::new("job", BTreeMap::new());
        for row in rows {
            told.add(row);
        }
        told
    };
    let said = |values: &[f64], stored: &[AlertRow], told: &Told| {
        let machine = run(&rule(), values);
        let found = (machine.alerts(), machine.version());
        let rows = changes(&rule(), &key(), found, stored, Recent { told, ..ALL });
        rows.into_iter().map(|row| (row.alert.state, row.announced)).collect::<Vec<_>>()
    };
    let told = told_of(&again);
    // Its row is lost: that it holds was said.
    assert_eq!(said(&GOLDEN[..3], &[], &told), [(State::Opened, 3)]);
    // Its row is as it was first: what comes next is not taken for a change that was told.
    for stored in [&[][..], &opened[..]] {
        assert_eq!(said(&GOLDEN, stored, &told), [(State::Resolved, 4)]);
    }
    assert_eq!(said(&lifted, &opened, &told), [(State::Retracted, 4)]);
    assert_eq!(said(&GOLDEN[..3], &opened, &told), [], "nothing is written where nothing differs");
    let left = left_behind(&opened, &told, |_| false);
    assert_eq!((left[0].alert.state, left[0].announced), (State::Retracted, 4));
    // What was said last is not said again, but what differs is.
    let told = told_of(&retracted);
    assert_eq!(said(&lifted, &opened, &told), [(State::Retracted, 2)]);
    assert_eq!(said(&GOLDEN, &opened, &told), [(State::Resolved, 3)]);
    assert_eq!(said(&GOLDEN[..3], &[], &told), [(State::Opened, 3)]);
    // The newest counts, in whichever order they are known.
    let told = told_of(&[again[0].clone(), opened[0].clone()]);
    assert_eq!(said(&GOLDEN, &opened, &told), [(State::Resolved, 4)]);
}

/// As after a rule was edited: what is stored is held against what the new one finds.
#[test]
fn nobody_is_told_again_of_alerts_that_are_long_over() {
    let change = |values: &[f64], stored: &[AlertRow], news_after: Window| {
        let machine = run(&rule(), values);
        let recent = Recent { news_after: news_after.end, ..ALL };
        let rows = changes(&rule(), &key(), (machine.alerts(), machine.version()), stored, recent);
        rows.into_iter().next().unwrap()
    };
    let good = [0.9; 8];
    let resolved = pass(&GOLDEN, &pass(&GOLDEN[..3], &[]));
    assert_eq!((resolved[0].alert.state, resolved[0].announced), (State::Resolved, 2));
    for (news_after, announced) in [(window(8), 2), (window(7), 3)] {
        let row = change(&good, &resolved, news_after);
        assert_eq!((row.alert.state, row.announced), (State::Retracted, announced));
        // Edited back.
        let again = change(&GOLDEN, &[row], news_after);
        let announced = announced + (announced - 2);
        assert_eq!((again.alert.state, again.announced), (State::Resolved, announced));
    }
    // Whoever was told that it holds is told that it does not, however old it is.
    let opened = pass(&GOLDEN[..3], &[]);
    let row = change(&good, &opened, window(8));
    assert_eq!((row.alert.state, row.announced), (State::Retracted, 2));
    let row = change(&GOLDEN, &opened, window(8));
    assert_eq!((row.alert.state, row.announced), (State::Resolved, 2));
}

/// Alertmanager knows an alert by them: an end with others would end nothing.
#[test]
fn an_alert_ends_with_the_severity_and_the_metric_that_it_was_opened_with() {
    let said = |rows: &[AlertRow]| {
        let [row] = rows else { panic!("{rows:?}") };
        (row.alert.state, row.severity.to_string(), row.metric.to_string(), row.announced)
    };
    let expected = |state, severity: &str, column: &str, announced| {
        (state, severity.to_owned(), format!("quality_binary.{column}"), announced)
    };
    let opened = pass(&GOLDEN[..3], &[]);
    assert_eq!(said(&opened), expected(State::Opened, "warning", "precision", 1));
    let graver = Rule { severity: "critical".into(), ..rule() };
    assert_eq!(pass_of(&graver, &GOLDEN[..3], &opened), [], "it goes on as it was");
    let resolved = pass_of(&graver, &GOLDEN, &opened);
    assert_eq!(said(&resolved), expected(State::Resolved, "warning", "precision", 2));
    assert_eq!(pass_of(&graver, &GOLDEN, &resolved), []);
    let good = [0.9; 8];
    let retracted = pass_of(&graver, &good, &opened);
    assert_eq!(said(&retracted), expected(State::Retracted, "warning", "precision", 2));
    // What opens by then, opens as the rule says by then.
    let again = pass_of(&graver, &GOLDEN[..3], &retracted);
    assert_eq!(said(&again), expected(State::Opened, "critical", "precision", 3));
    // Of another metric it is another alert: the one is taken back, then the other opens.
    let recall = Metric::named("quality_binary.recall").unwrap();
    let of_recall = Rule { metric: recall, ..rule() };
    let left = |stored: &[AlertRow]| {
        left_behind(stored, &NOTHING, |row| {
            of_recall.owns(&row.key) && of_recall.about() == *row.metric
        })
    };
    // While a new configuration is rolled out, another instance has the rule as it was.
    assert_eq!(pass_of(&of_recall, &GOLDEN[..3], &opened), [], "it is not looked at every time");
    let retracted = left(&opened);
    assert_eq!(said(&retracted), expected(State::Retracted, "warning", "precision", 2));
    let again = pass_of(&of_recall, &GOLDEN[..3], &retracted);
    assert_eq!(said(&again), expected(State::Opened, "warning", "recall", 3));
    assert_eq!(left(&again), []);
    // Where it is not found for the other metric, nothing has to wait.
    let retracted = pass_of(&of_recall, &good, &opened);
    assert_eq!(said(&retracted), expected(State::Retracted, "warning", "precision", 2));
}

/// The windows that are there now may sum up to less: someone dropped old rows.
#[test]
fn a_row_is_never_older_than_the_one_it_replaces() {
    let opened = pass(&GOLDEN[..3], &[]);
    let stored = opened[0].version;
    let (machine, none) = (run(&rule(), &GOLDEN), Vec::<Alert>::new());
    for (found, state) in [(machine.alerts(), State::Resolved), (&none[..], State::Retracted)] {
        let rows = changes(&rule(), &key(), (found, Version(1)), &opened, ALL);
        assert_eq!((rows[0].alert.state, rows[0].version), (state, stored));
        let newer = Version(stored.0 + 1);
        let rows = changes(&rule(), &key(), (found, newer), &opened, ALL);
        assert_eq!((rows[0].alert.state, rows[0].version), (state, newer));
    }
    assert_eq!(machine.first(), Some(window(1)));
}

/// Neither the rules nor the target were done with: the next start has to follow.
#[tokio::test]
async fn an_end_without_clickhouse_says_what_is_left() {
    drop(rustls::crypto::ring::default_provider().install_default());
    let settings = ClickHouseSettings::new("http://127.0.0.1:1", "tidegauge", "fraud");
    let clickhouse = ClickHouse::new(settings);
    let target = TargetSettings {
        name: "hook".to_owned(),
        medium: Medium::Webhook,
        url: "http://127.0.0.1:1/".to_owned(),
        secret: None,
        timeout: Duration::from_secs(1),
    };
    let alerting = Alerting::new(vec![rule()], &[target], 1, clickhouse, Telemetry::new());
    // Its sender is gone from the start on.
    let (_, flushed) = watch::channel(0);
    let left = alerting.unwrap().insisting(Duration::from_millis(10)).run(flushed).await;
    let codes: Vec<_> = left.failed.iter().map(SinkError::code).collect();
    assert_eq!(codes, ["clickhouse_unavailable"]);
    let [untold] = &left.untold[..] else { panic!("{left:?}") };
    assert!(untold.starts_with("hook (ClickHouse does not answer"), "{untold}");
}

#[test]
fn judgements_follow_the_definition() {
    let rule = rule();
    let judge = |change: &dyn Fn(&mut Seen)| {
        let mut seen = seen(1, Some(0.7));
        change(&mut seen);
        rule.judge(Some(rule.bound), &seen)
    };
    assert_eq!(judge(&|_| ()), Judgement::Breach);
    assert_eq!(judge(&|s| s.value = None), Judgement::Unknown);
    assert_eq!(judge(&|s| s.n = Some(99)), Judgement::Unknown);
    assert_eq!(judge(&|s| s.coverage = Some(0.49)), Judgement::Unknown);
    assert_eq!(judge(&|s| s.coverage = None), Judgement::Unknown);
    assert_eq!(
        judge(&|s| s.value = Some(0.8)),
        Judgement::Between,
        "on the threshold is no breach"
    );
    assert_eq!(judge(&|s| s.value = Some(0.85)), Judgement::Clear, "on the good side's edge");
    let judged = |rule: &Rule, seen: &Seen| rule.judge(Some(rule.bound), seen);
    let open_window = |rule: &Rule| judged(rule, &Seen { sealed: false, ..seen(1, Some(0.7)) });
    assert_eq!(open_window(&rule), Judgement::Breach);
    assert_eq!(open_window(&Rule { sealed_only: true, ..rule.clone() }), Judgement::Unknown);
    let certain = Rule { certain: true, ..rule.clone() };
    let sure = seen(1, Some(0.79));
    assert_eq!(judged(&certain, &sure), Judgement::Between, "its upper limit is 0.81");
    assert_eq!(judged(&certain, &seen(1, Some(0.7))), Judgement::Breach);
    for bound in [
        Bound::Above { at: 0.8, clear: 0.75 },
        Bound::Outside { at: (0.2, 0.8), clear: (0.25, 0.75) },
    ] {
        let above = Rule { bound, ..certain.clone() };
        let sure = seen(1, Some(0.81));
        assert_eq!(judged(&above, &sure), Judgement::Between, "its lower limit is 0.79");
        assert_eq!(judged(&above, &seen(1, Some(0.9))), Judgement::Breach);
    }
    let verdict =
        parse("[[alerts]]\nname = \"d\"\nmetric = \"drift.verdict\"\n").unwrap().rules.remove(0);
    for (word, expected) in [
        ("drift", Judgement::Breach),
        ("ok", Judgement::Clear),
        ("warn", Judgement::Between),
        ("insufficient_data", Judgement::Unknown),
    ] {
        assert_eq!(
            judged(&verdict, &Seen { verdict: word.into(), ..seen(1, None) }),
            expected,
            "{word}"
        );
    }
}

/// Opened and resolved windows, by looking at the last known windows as a whole instead of counting.
fn naive(judged: &[Judgement], opens: usize, clears: usize) -> Vec<(usize, Option<usize>)> {
    let known: Vec<(usize, Judgement)> =
        judged.iter().copied().enumerate().filter(|(_, j)| *j != Judgement::Unknown).collect();
    let are_all = |end: usize, count: usize, wanted: Judgement| {
        end + 1 >= count && known[end + 1 - count..=end].iter().all(|(_, j)| *j == wanted)
    };
    let mut found: Vec<(usize, Option<usize>)> = Vec::new();
    for (at, (window, _)) in known.iter().enumerate() {
        let is_open = found.last().is_some_and(|(_, resolved)| resolved.is_none());
        if is_open && are_all(at, clears, Judgement::Clear) {
            found.last_mut().expect("it is open").1 = Some(*window);
        } else if !is_open && are_all(at, opens, Judgement::Breach) {
            found.push((*window, None));
        }
    }
    found
}

/// Breach, between, clear, unknown.
fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![Just(Some(0.5)), Just(Some(0.82)), Just(Some(0.9)), Just(None)]
}

proptest! {
    #[test]
    fn the_machine_equals_a_naive_one_wherever_it_is_cut(
        values in prop::collection::vec(value(), 0..60),
        opens in 1..4_u32,
        clears in 1..4_u32,
        cut in 0..60_usize,
    ) {
        let rule = Rule { opens_after: opens, clears_after: clears, ..rule() };
        let all: Vec<Seen> = values.iter().enumerate().map(|(i, v)| seen(i, *v)).collect();
        let judged: Vec<_> = all.iter().map(|seen| rule.judge(Some(rule.bound), seen)).collect();
        let expected: Vec<_> = naive(&judged, usize::try_from(opens).unwrap(), usize::try_from(clears).unwrap())
            .into_iter()
            .map(|(opened, resolved)| (window(opened), resolved.map(window)))
            .collect();
        let mut machine = Machine::new(&rule, &key());
        for seen in &all {
            machine.step(&rule, seen);
        }
        let said = |alerts: &[Alert]| -> Vec<_> { alerts.iter().map(|a| (a.opened, a.resolved)).collect() };
        prop_assert_eq!(&said(machine.alerts()), &expected);
        // The same in two parts, with what is final forgotten in between.
        let (first, second) = all.split_at(cut.min(all.len()));
        let mut parts = Machine::new(&rule, &key());
        for seen in first {
            parts.step(&rule, seen);
        }
        let mut whole: Vec<Alert> = parts.alerts().to_vec();
        parts.settle();
        whole.retain(|alert| alert.state != State::Opened);
        for seen in second {
            parts.step(&rule, seen);
        }
        whole.extend_from_slice(parts.alerts());
        prop_assert_eq!(&said(&whole), &expected);
        prop_assert_eq!(parts.version(), machine.version());
    }
}
