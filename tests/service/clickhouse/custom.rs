//! Custom metrics and what the configuration says of them.

use tidegauge::config::{Environment, Settings};
use tidegauge::engine::ModelSettings;
use tidegauge::engine::event::{FeatureValue, RequestId};
use tidegauge::engine::metrics::reference::Profile;
use tidegauge::profile::ProfileBuilder;
use tidegauge::profile::builder::{Options, Record};

use super::*;

fn settings(more: &str) -> Settings {
    let text = format!(
        "[inferences]\ntopic = \"i\"\n[[metrics]]\nname = \"rate\"\nexpression = \"tp / fp\"\n{more}\
         [[metrics]]\nname = \"cost\"\nexpression = \"20 * fn\"\nunit = \"€\"\nbetter = \"lower\"\n\
         [[alerts]]\nname = \"low\"\nmetric = \"custom.rate\"\nbelow = 0.2\ngrain = \"1h\"\n"
    );
    Settings::parse("t.toml", &text, &Environment::default()).expect("a good configuration")
}

/// A window's row of one metric; no value is NULL for the reason `zero_denominator`.
fn custom_row(metric: &'static str, hour: i64, version: u64, value: Option<f64>) -> MetricRow {
    let reason = value.map_or(Undefined::ZeroDenominator.code(), |_| "");
    MetricRow {
        table: MetricTable::Custom,
        key: key("m", "v1", "all", hour).into(),
        grain: "1h".into(),
        values: vec![
            Value::Text(metric.into()),
            Value::Figure(value.ok_or(Undefined::ZeroDenominator)),
            Value::Text(reason.into()),
            Value::Count(500),
            Value::Count(1000),
            Value::Count(500),
        ],
        undefined: if value.is_some() { String::new() } else { format!("value={reason}") },
        sealed: false,
        version: Version(version),
    }
}

#[tokio::test]
async fn custom_metrics_are_seen_like_all_others() {
    let mut sink = ready("custom").await;
    let rows = [
        custom_row("rate", 0, 4, Some(0.5)),
        custom_row("cost", 0, 4, Some(7.0)),
        custom_row("gone", 0, 2, Some(1.0)),
        custom_row("rate", 1, 6, None),
    ];
    write(&mut sink, row::metrics(JOB, &rows)).await;
    // A metric of an older version of the window is none of it any more.
    assert_eq!(
        server().query(
            "SELECT toHour(window_start), metric, value, reason, n, inferences, labelled FROM custom_bi.custom \
             ORDER BY ALL"
        ),
        "0\tcost\t7\t\t500\t1000\t500\n0\trate\t0.5\t\t500\t1000\t500\n1\trate\t\\N\tzero_denominator\t500\t1000\t500\n"
    );
    assert_eq!(
        server().query(
            "SELECT toHour(window_start), family, metric, value, lower, upper, n, reason FROM custom_bi.metrics \
             ORDER BY ALL"
        ),
        "0\tcustom\tcost\t7\t\\N\t\\N\t500\t\n0\tcustom\trate\t0.5\t\\N\t\\N\t500\t\n\
         1\tcustom\trate\t\\N\t\\N\t\\N\t500\tzero_denominator\n"
    );
    let rule = settings("").rules.remove(0);
    let span = sink.rule_span(&rule, None).await.unwrap().unwrap();
    assert_eq!(sink.rule_span(&rule, Some(span.start)).await.unwrap(), Some(span));
    assert_eq!(sink.rule_span(&rule, Some(span.end)).await.unwrap(), None, "nothing begins there");
    let seen = sink.rule_windows(&rule, span).await.unwrap();
    let found: Vec<_> = seen.iter().map(|row| (&*row.key.feature, row.seen.value)).collect();
    // Of a rule that reads labels; there are none of this window.
    assert_eq!(found, [("rate", Some(0.5)), ("rate", None)]);
    assert!(seen.iter().all(|row| row.seen.n == Some(500) && row.seen.coverage.is_none()));
}

#[tokio::test]
async fn profiles_are_written_once_for_each_model_that_names_them() {
    let sink = ready("profiles").await;
    let profile = |top: u32| {
        let mut builder = ProfileBuilder::new(Options::new("its")).unwrap();
        for n in 0..1000_u32 {
            let features = [("amount", FeatureValue::Number(f64::from(n % top)))];
            builder
                .add(&Record {
                    id: RequestId::of(&n.to_le_bytes()),
                    features: &features,
                    score: None,
                    scores: &[],
                    prediction: FeatureValue::Missing,
                    label: FeatureValue::Missing,
                    positive: None,
                })
                .unwrap();
        }
        Arc::new(builder.finish().unwrap().profile)
    };
    let model = |pattern: &str, reference: Option<&Arc<Profile>>| ModelSettings {
        pattern: pattern.to_owned(),
        reference: reference.cloned(),
        ..ModelSettings::default()
    };
    let (first, second) = (profile(90), profile(80));
    let stored = || {
        server().query(
            "SELECT model, reference_id, document, created FROM profiles.reference_profiles FINAL ORDER BY ALL",
        )
    };
    sink.define(&[], &[model("none", None)]).await.unwrap();
    assert_eq!(stored(), "");
    let models = [model("a-*", Some(&first)), model("b", Some(&first)), model("none", None)];
    sink.define(&[], &models).await.unwrap();
    let before = stored();
    assert_eq!(before.lines().count(), 2);
    sink.define(&[], &models).await.unwrap();
    assert_eq!(stored(), before, "nothing was written again");
    sink.define(&[], &[model("b", Some(&second))]).await.unwrap();
    assert_eq!(stored().lines().count(), 3, "another profile stands beside the first");
    let found = server().query(
        "SELECT model, reference_id, name, generation, format FROM profiles_bi.reference_profiles ORDER BY ALL",
    );
    let mut ids = [("b", &first.id), ("b", &second.id)];
    ids.sort_unstable();
    let line = |model: &str, id: &str| format!("{model}\t{}\tits\t1\t1\n", id.replace('\'', "\\'"));
    assert_eq!(found, line("a-*", &first.id) + &ids.map(|(model, id)| line(model, id)).concat());
    let document = server().query(
        "SELECT document FROM profiles.reference_profiles FINAL WHERE model = 'a-*' FORMAT TSVRaw",
    );
    assert_eq!(tidegauge::profile::read(document.trim_end()).unwrap(), *first);
}

#[tokio::test]
async fn definitions_are_written_once_and_again_when_they_change() {
    let sink = ready("definitions").await;
    let catalogue = || {
        server().query(
            "SELECT family, metric, unit, better, has_interval, description, expression \
             FROM definitions_bi.metric_catalogue WHERE job != '' ORDER BY ALL",
        )
    };
    let written = || {
        server()
            .query("SELECT metric, created FROM definitions.custom_metrics FINAL ORDER BY metric")
    };
    assert_eq!(catalogue(), "");
    sink.define(&settings("").metrics, &[]).await.unwrap();
    let first = written();
    assert_eq!(first.lines().count(), 2);
    sink.define(&settings("").metrics, &[]).await.unwrap();
    assert_eq!(written(), first, "nothing was written again");
    assert_eq!(
        catalogue(),
        "custom\tcost\t€\tlower\tfalse\t20 * fn\t20 * fn\ncustom\trate\t1\tnone\tfalse\ttp / fp\ttp / fp\n"
    );
    sink.define(&settings("description = \"it's \\\\ new\"\n").metrics, &[]).await.unwrap();
    let second = written();
    let [first, second] = [&first, &second].map(|text| text.lines().collect::<Vec<_>>());
    assert!(first[0] == second[0] && first[1] < second[1], "one was written again: {second:?}");
    assert!(
        catalogue().contains("rate\t1\tnone\tfalse\tit\\'s \\\\ new\ttp / fp\n"),
        "{}",
        catalogue()
    );
    assert_eq!(catalogue().lines().count(), 2);
    let jobs =
        "SELECT uniqExact(job), any(job) = {} FROM definitions_bi.metric_catalogue WHERE job != ''";
    assert_eq!(server().query(&jobs.replace("{}", "'a \\'job\\'\\n\\\\'")), "1\t1\n");
}
