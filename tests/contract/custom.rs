//! Custom metrics: what the configuration may say, and what a person is told who got it wrong.

use tidegauge::alerts::Metric;
use tidegauge::config::{ConfigError, Settings};
use tidegauge::engine::metrics::MetricTable;

use crate::config::{self, SMALLEST};

const RATE: &str =
    "[[metrics]]\nname = \"approval_rate\"\nexpression = \"inferences_positive / inferences\"\n";

fn parse(text: &str) -> Result<Settings, ConfigError> {
    config::parse(&format!("{SMALLEST}{text}"))
}

fn refused(text: &str) -> (&'static str, String) {
    config::refused(&format!("{SMALLEST}{text}"))
}

#[test]
fn a_short_metric_is_of_all_models_and_segments() {
    let settings = parse(RATE).unwrap();
    let definition = &settings.metrics[0];
    assert_eq!(definition.metric, settings.shard.custom[0]);
    assert_eq!(&*definition.metric.name, "approval_rate");
    assert_eq!(
        (&*definition.metric.models, &*definition.metric.segments),
        (&["*".into()][..], &["*".into()][..])
    );
    assert_eq!((definition.unit.as_str(), definition.better), ("1", "none"));
    let written = "inferences_positive / inferences";
    assert_eq!(
        (definition.expression.as_str(), definition.description.as_str()),
        (written, written)
    );
    assert!(!definition.metric.reads_labels());
    let whole = format!("{RATE}unit = \"ratio\"\nbetter = \"zero\"\ndescription = \"Approved\"\n");
    let settings = parse(&whole).unwrap();
    let definition = &settings.metrics[0];
    assert_eq!((definition.unit.as_str(), definition.better), ("ratio", "zero"));
    assert_eq!(definition.description, "Approved");
}

#[test]
fn what_is_wrong_with_a_metric_names_it_its_line_and_the_remedy() {
    let named = |name: &str| format!("[[metrics]]\nname = \"{name}\"\nexpression = \"tp / fp\"\n");
    let with =
        |expression: &str| format!("[[metrics]]\nname = \"own\"\nexpression = \"{expression}\"\n");
    for (text, name, line, part) in [
        (with("tp / (fp"), "own", 7, "ends too early"),
        (with("tp % fp"), "own", 7, "is not understood at \"% fp\""),
        (with("tp / fpp"), "own", 7, "did you mean `fp`? There are serving: inferences, errors"),
        (with("accuracy * 2"), "own", 7, "`accuracy`, which is no count or sum"),
        (with("n"), "own", 7, "write `quality_binary.n`"),
        (with("1"), "own", 7, "names no count or sum. There are serving"),
        (
            named("accuracy"),
            "accuracy",
            6,
            "is the name of quality_binary.accuracy: choose another",
        ),
        (named("tp"), "tp", 6, "quality_binary.tp"),
        (named("auroc_lower"), "auroc_lower", 6, "quality_binary.auroc_lower"),
        (named("Own"), "Own", 6, "a to z, 0 to 9 and _"),
        (named("1st"), "1st", 6, "begin with a letter"),
        (named("a-b"), "a-b", 6, "a to z, 0 to 9 and _"),
        (named("own").repeat(2), "own", 9, "stands twice"),
        ("[[metrics]]\nname = \"own\"\n".to_owned(), "own", 6, "needs an `expression`"),
    ] {
        let (code, message) = refused(&text);
        assert_eq!(code, "config_invalid_value", "{message}");
        assert!(message.starts_with(&format!("t.toml:{line}: ")), "{message}");
        assert!(
            message.contains(&format!("of \"{name}\" ")) && message.contains(part),
            "{message}"
        );
    }
    let (code, message) = refused("[[metrics]]\nexpression = \"tp\"\n");
    assert!(code == "config_required" && message.contains("`metrics.name`"), "{message}");
    let (code, message) = refused(&format!("{RATE}beter = \"higher\"\n"));
    assert!(code == "config_unknown_key" && message.contains("`metrics.better`"), "{message}");
    let (code, message) = refused(&format!("{RATE}better = \"up\"\n"));
    assert!(code == "config_invalid_value" && message.contains("\"higher\" or"), "{message}");
    let many: String = (0..101).map(|i| named(&format!("m{i}"))).collect();
    assert!(refused(&many).1.contains("at most 100"));
}

#[test]
fn the_digest_has_what_changes_values_and_not_what_the_catalogue_says() {
    let digest = |text: &str| parse(text).unwrap().digest();
    let base = digest(RATE);
    assert_ne!(base, digest(""));
    let other = "[[metrics]]\nname = \"another\"\nexpression = \"tp\"\n";
    for same in [
        RATE.replace(" / ", "/"),
        format!("{RATE}unit = \"ratio\"\nbetter = \"higher\"\ndescription = \"x\"\n"),
        format!("{RATE}models = [\"*\"]\n"),
        RATE.replace("/ inferences", "/ serving.inferences"),
    ] {
        assert_eq!(digest(&same), base, "{same}");
    }
    assert_eq!(digest(&format!("{RATE}{other}")), digest(&format!("{other}{RATE}")));
    for changed in [
        RATE.replace("approval_rate", "rate"),
        RATE.replace("_positive", "_negative"),
        format!("{RATE}models = [\"m\"]\n"),
        format!("{RATE}segments = [\"all\"]\n"),
        format!("{RATE}{other}"),
    ] {
        assert_ne!(digest(&changed), base, "{changed}");
    }
}

#[test]
fn rules_name_a_custom_metric_like_any_other() {
    let rule =
        |metric: &str| format!("[[alerts]]\nname = \"low\"\nmetric = \"{metric}\"\nbelow = 0.2\n");
    let cost = "[[metrics]]\nname = \"cost\"\nexpression = \"20 * fn + fp\"\n";
    let settings = parse(&format!(
        "{}{}{RATE}{cost}",
        rule("custom.approval_rate"),
        rule("custom.cost").replace("\"low\"", "\"dear\"")
    ))
    .unwrap();
    let [rate, cost] = settings.rules.as_slice() else { panic!("{:?}", settings.rules) };
    assert_eq!((rate.metric, rate.about().as_str()), (Metric::CUSTOM, "custom.approval_rate"));
    assert_eq!(cost.about(), "custom.cost");
    // Only what reads labels waits for them.
    assert_eq!((rate.reads_labels(), rate.min_coverage, rate.min_n), (false, 0.0, 100));
    assert_eq!((cost.reads_labels(), cost.min_coverage, cost.min_n), (true, 0.5, 100));
    assert_eq!(rate.metric.count_column(), Some("n"));
    for (expression, reads_labels) in
        [("est_tp / quality_estimated.n", false), ("n_labelled", true)]
    {
        let metric = format!("[[metrics]]\nname = \"own\"\nexpression = \"{expression}\"\n");
        let settings = parse(&metric).unwrap();
        assert_eq!(settings.metrics[0].metric.reads_labels(), reads_labels, "{expression}");
    }
    for (text, part) in [
        (rule("custom.approval_rat"), "did you mean \"custom.approval_rate\""),
        (rule("custom.value"), "which is no table.column"),
        (rule("custom.approval_rate") + "certain = true\n", "needs an interval"),
        (rule("custom.approval_rate") + "min_coverage = 0.1\n", "custom.approval_rate reads none"),
    ] {
        let (code, message) = refused(&format!("{text}{RATE}"));
        assert!(code == "config_invalid_value" && message.contains(part), "{message}");
    }
    assert!(Metric::all().all(|metric| metric.table != MetricTable::Custom));
}
