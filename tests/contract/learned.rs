//! Rules whose limits come from the model's reference.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tidegauge::alerts::{
    AlertKey, AlertRow, Bound, Judgement, Machine, Recent, Rule, Seen, State, Told, changes,
};
use tidegauge::config::{ConfigError, Settings};
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::expected::{Expectation, Expected};
use tidegauge::engine::state::Version;
use tidegauge::engine::time::{EventTime, Millis};
use tidegauge::engine::window::Window;
use tidegauge::profile::builder::{Options, Record};
use tidegauge::profile::{ProfileBuilder, write};

use crate::config::{self, SMALLEST};

const SIZE: Millis = Millis(300_000);

/// The document of a profile that expects an AUROC of 0.9 ± 0.01 in five minutes, and more.
fn document() -> String {
    let expectation = |mean, sd| Expectation { windows: 12, mean, sd };
    let names = |of: &[(&str, f64, f64)]| {
        of.iter().map(|(name, mean, sd)| (Arc::from(*name), expectation(*mean, *sd))).collect()
    };
    let mut expected = Expected::default();
    let of_grain = expected.0.entry("5m".into()).or_default();
    of_grain.insert(
        "all".into(),
        names(&[
            ("quality_binary.auroc", 0.9, 0.01),
            ("quality_threshold.precision/0.00001", 0.5, 0.1),
            ("quality_classes.recall/a/b", 0.7, 0.1),
            ("serving.inferences", 1000.0, 0.0),
        ]),
    );
    of_grain.insert("region=eu".into(), names(&[("quality_binary.auroc", 0.8, 0.03)]));
    let mut builder = ProfileBuilder::new(Options::new("r")).unwrap();
    let record = Record {
        id: RequestId::of(b"1"),
        features: &[("amount", FeatureValue::Number(1.0))],
        score: None,
        scores: &[],
        prediction: FeatureValue::Missing,
        label: FeatureValue::Missing,
        positive: None,
    };
    builder.add(&record).unwrap();
    builder.expect(expected);
    write(&builder.finish().unwrap().profile)
}

fn parse(folder: &Path, rule: &str) -> Result<Settings, ConfigError> {
    std::fs::write(folder.join("r.json"), document()).unwrap();
    let reference = folder.join("r.json");
    let text = format!(
        "{SMALLEST}[models.fraud-plain]\nthreshold = 0.5\n\
         [models.\"fraud-*\"]\nreference = \"{}\"\n[[alerts]]\nname = \"odd\"\n{rule}",
        reference.display()
    );
    config::parse(&text)
}

fn rule(text: &str) -> Rule {
    let folder = tempfile::tempdir().unwrap();
    let mut settings = parse(folder.path(), text).unwrap();
    settings.check_rules().unwrap();
    settings.rules.remove(0)
}

fn key(model: &str, segment: &str, feature: &str) -> AlertKey {
    AlertKey {
        rule: "odd".into(),
        model: model.into(),
        version: "1".into(),
        segment: segment.into(),
        feature: feature.into(),
        grain: "5m".into(),
    }
}

const AUROC: &str = "metric = \"quality_binary.auroc\"\nlearned = 3\n";

#[test]
fn limits_are_those_of_the_reference_of_each_key() {
    let of = |rule: &Rule, model: &str, segment: &str, feature: &str| {
        rule.bound_of(&key(model, segment, feature)).map(|bound| match bound {
            Bound::Outside { at, clear } => {
                [at.0, at.1, clear.0, clear.1].map(|x| (x * 1e6).round() / 1e6)
            }
            other => panic!("{other:?}"),
        })
    };
    let auroc = rule(&format!("{AUROC}segments = [\"*\"]\n"));
    assert_eq!(auroc.bound, Bound::Learned { at: 3.0, clear: 3.0 });
    assert_eq!(of(&auroc, "fraud-cards", "all", ""), Some([0.87, 0.93, 0.87, 0.93]));
    assert_eq!(of(&auroc, "fraud-cards", "region=eu", ""), Some([0.71, 0.89, 0.71, 0.89]));
    // A segment or a model that nothing is known of, and a model of the first section that fits, which has no reference.
    assert_eq!(of(&auroc, "fraud-cards", "region=us", ""), None);
    assert_eq!(of(&auroc, "churn", "all", ""), None);
    assert_eq!(of(&auroc, "fraud-plain", "all", ""), None);
    let wide = rule("metric = \"quality_binary.auroc\"\nlearned = 2\nclear = 0.5\n");
    assert_eq!(of(&wide, "fraud-cards", "all", ""), Some([0.88, 0.92, 0.895, 0.905]));
    // Keys of rows, as ClickHouse writes them.
    let threshold = rule("metric = \"quality_threshold.precision\"\nlearned = 1\n");
    assert_eq!(of(&threshold, "fraud-cards", "all", "1e-5"), Some([0.4, 0.6, 0.4, 0.6]));
    assert_eq!(of(&threshold, "fraud-cards", "all", "0.1"), None);
    let class = rule("metric = \"quality_classes.recall\"\nlearned = 1\n");
    assert_eq!(of(&class, "fraud-cards", "all", "a/b"), Some([0.6, 0.8, 0.6, 0.8]));
    // Other rules are held against what they say.
    let below = rule("metric = \"quality_binary.auroc\"\nbelow = 0.8\n");
    assert_eq!(below.bound_of(&key("churn", "all", "")), Some(below.bound));
}

#[test]
fn learned_limits_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (rule, expected) in [
        ("metric = \"quality_binary.auroc\"\nlearned = 0\n", "more than 0 standard deviations"),
        ("metric = \"quality_binary.auroc\"\nlearned = nan\n", "not finite"),
        ("metric = \"quality_binary.auroc\"\nlearned = 3\nbelow = 0.8\n", "write two rules"),
        ("metric = \"quality_binary.auroc\"\nlearned = 3\nclear = 4\n", "0 to `learned` (3)"),
        ("metric = \"labels.coverage\"\nlearned = 3\n", "write `below` or `above`"),
        ("metric = \"serving.freshness_p50_ms\"\nlearned = 3\n", "write `below` or `above`"),
        ("metric = \"drift.verdict\"\nlearned = 3\n", "is for numbers"),
    ] {
        let error = parse(folder.path(), rule).expect_err(rule);
        assert_eq!(error.code(), "config_invalid_value");
        let message = error.to_string();
        assert!(message.contains("\"odd\"") && message.contains(expected), "{message}");
    }
    // What no reference knows is said by whoever evaluates rules: others may still have to build the reference.
    for (rule, is_judged) in [
        (AUROC.to_owned(), true),
        (format!("{AUROC}models = [\"fraud-cards\", \"churn\"]\n"), true),
        (format!("{AUROC}models = [\"*-cards\"]\n"), true),
        (format!("{AUROC}models = [\"churn\"]\n"), false),
        (format!("{AUROC}models = [\"fraud-plain\"]\n"), true),
        (format!("{AUROC}segments = [\"region=*\"]\n"), true),
        (format!("{AUROC}segments = [\"channel=*\"]\n"), false),
        (format!("{AUROC}grain = \"1h\"\n"), false),
        ("metric = \"quality_binary.precision\"\nlearned = 3\n".to_owned(), false),
        ("metric = \"quality_threshold.precision\"\nlearned = 3\n".to_owned(), true),
    ] {
        let said = parse(folder.path(), &rule).unwrap().check_rules();
        assert_eq!(said.is_ok(), is_judged, "{rule}: {said:?}");
        if let Err(error) = said {
            let message = error.to_string();
            assert!(message.contains("\"odd\" can never be judged"), "{message}");
            assert!(message.contains("t.toml:1") && message.contains("profile"), "{message}");
        }
    }
}

#[test]
fn rules_about_a_reference_that_no_model_has_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let drift = "metric = \"drift.verdict\"\n";
    let gap = "metric = \"quality_estimated.accuracy_gap\"\nbelow = -0.1\n";
    for rule in [drift, gap] {
        for (models, is_judged) in
            [("", true), ("models = [\"*-cards\"]\n", true), ("models = [\"churn\"]\n", false)]
        {
            let said = parse(folder.path(), &format!("{rule}{models}")).unwrap().check_rules();
            assert_eq!(said.is_ok(), is_judged, "{rule}{models}: {said:?}");
        }
        let bare = format!("{SMALLEST}[[alerts]]\nname = \"odd\"\n{rule}");
        let error = config::parse(&bare).unwrap().check_rules().unwrap_err().to_string();
        assert!(error.contains("can never be judged") && error.contains("profile"), "{error}");
    }
}

fn seen(i: i64, value: f64, spread: Option<f64>) -> Seen {
    Seen {
        window: Window::of(EventTime(i * SIZE.0), SIZE),
        value: Some(value),
        lower: spread.map(|spread| value - spread),
        upper: spread.map(|spread| value + spread),
        verdict: "".into(),
        n: Some(1000),
        coverage: Some(1.0),
        sealed: true,
        version: Version(2),
    }
}

fn run(rule: &Rule, key: &AlertKey, values: &[f64]) -> Machine {
    let mut machine = Machine::new(rule, key);
    for (i, value) in (1..).zip(values) {
        machine.step(rule, &seen(i, *value, None));
    }
    machine
}

#[test]
fn an_alert_holds_the_limit_that_was_crossed() {
    let (rule, key) = (rule(AUROC), key("fraud-cards", "all", ""));
    let rows = |values: &[f64], stored: &[AlertRow]| {
        let machine = run(&rule, &key, values);
        let (after, news_after) = (EventTime(i64::MIN), EventTime(0));
        let recent = Recent { after, news_after, told: &Told::nothing() };
        changes(&rule, &key, (machine.alerts(), machine.version()), stored, recent)
    };
    let near = |row: &AlertRow, limit: f64| (row.alert.threshold.unwrap() - limit).abs() < 1e-12;
    let low = rows(&[0.9, 0.86, 0.85], &[]);
    assert!(near(&low[0], 0.87) && low[0].alert.state == State::Opened, "{low:?}");
    // Windows on either side are breaches in a row; the last one opens.
    let high = rows(&[0.9, 0.86, 0.95], &[]);
    assert!(near(&high[0], 0.93), "{high:?}");
    // What resolves it, or takes it back, changes nothing of it.
    let resolved = rows(&[0.9, 0.86, 0.85, 0.9, 0.91], &low);
    assert!(near(&resolved[0], 0.87) && resolved[0].alert.state == State::Resolved);
    let retracted = rows(&[0.9, 0.88, 0.85], &low);
    assert!(near(&retracted[0], 0.87) && retracted[0].alert.state == State::Retracted);
    // A model without a reference is never alerted about.
    assert_eq!(
        run(&rule, &AlertKey { model: "churn".into(), ..key.clone() }, &[0.0; 9]).alerts(),
        []
    );
    // What never varied is bad at any other value.
    let silent =
        Rule { opens_after: 1, ..self::rule("metric = \"serving.inferences\"\nlearned = 3\n") };
    assert_eq!(run(&silent, &key, &[1000.0]).alerts(), []);
    assert!(run(&silent, &key, &[1000.0, 999.0]).is_open());
}

proptest! {
    #[test]
    fn learned_limits_judge_as_the_same_numbers_below_and_above(
        (at, share) in (0.1..5.0_f64, 0.0..=1.0_f64),
        values in prop::collection::vec((0.8..1.0_f64, prop::option::of(0.0..0.05_f64)), 1..40),
        certain in any::<bool>(),
        segment in prop_oneof![Just("all"), Just("region=eu")],
    ) {
        let text = format!("metric = \"quality_binary.auroc\"\nsegments = [\"*\"]\nlearned = {at}\nclear = {}\n", at * share);
        let learned = Rule { certain, ..rule(&text) };
        let key = key("fraud-cards", segment, "");
        let (mean, sd) = if segment == "all" { (0.9, 0.01) } else { (0.8, 0.03) };
        let [low, low_clear] = [at, at * share].map(|k| mean - k * sd);
        let [high, high_clear] = [at, at * share].map(|k| mean + k * sd);
        let below = Rule { bound: Bound::Below { at: low, clear: low_clear }, ..learned.clone() };
        let above = Rule { bound: Bound::Above { at: high, clear: high_clear }, ..learned.clone() };
        let bound = learned.bound_of(&key);
        for (i, (value, spread)) in (1..).zip(&values) {
            let seen = seen(i, *value, *spread);
            let numeric = [&below, &above].map(|rule| rule.judge(Some(rule.bound), &seen));
            let expected = if numeric.contains(&Judgement::Breach) {
                Judgement::Breach
            } else if numeric == [Judgement::Clear; 2] {
                Judgement::Clear
            } else {
                Judgement::Between
            };
            prop_assert_eq!(learned.judge(bound, &seen), expected, "{:?} {:?}", seen, bound);
        }
        // Where values leave one side only, the alerts are those of the one rule, thresholds included.
        for (rule, is_low) in [(&below, true), (&above, false)] {
            let values: Vec<f64> =
                values.iter().map(|(value, _)| if is_low { value.min(mean) } else { value.max(mean) }).collect();
            let [found, expected] =
                [&learned, rule].map(|rule| run(&Rule { certain: false, ..rule.clone() }, &key, &values).alerts().to_vec());
            prop_assert_eq!(found, expected);
        }
    }
}
