//! `[[alerts]]` and `[[notify]]`: rules and targets. Messages name the rule.

use std::sync::Arc;

use super::error::ConfigError;
use super::options::edit_distance;
use super::reader::{Reader, text_of};
use super::section::Section;
use super::values;
use crate::alerting::{Letter, Medium, TargetSettings, Topic};
use crate::alerts::{Bound, Metric, Rule};
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::custom::CustomMetric;
use crate::engine::time::Millis;
use crate::evaluate::grain_name;
use crate::sink::definitions::MetricDefinition;

/// Records behind a figure before it says anything.
const MIN_N: u64 = 100;
/// Share of labelled inferences before figures of labels say anything.
const MIN_COVERAGE: f64 = 0.5;
const MOST_WINDOWS: usize = 1_000_000;

/// Every rule, checked against what tables, custom metrics and grains there are.
pub(super) fn rules(
    reader: &Reader<'_>,
    window: Millis,
    grains: &[Millis],
    custom: &[MetricDefinition],
) -> Result<Vec<Rule>, ConfigError> {
    let mut rules: Vec<Rule> = Vec::new();
    for at in 0..reader.raw.list_len("alerts") {
        let section = Section::new(reader, "alerts", at)?;
        if rules.iter().any(|rule| *rule.name == section.name) {
            return Err(section.wrong("name", "stands twice: alerts are kept under it"));
        }
        rules.push(rule(&section, window, grains, custom)?);
    }
    Ok(rules)
}

fn rule(
    section: &Section<'_>,
    window: Millis,
    grains: &[Millis],
    custom: &[MetricDefinition],
) -> Result<Rule, ConfigError> {
    let (metric, custom) = metric(section, custom)?;
    let bound = bound(section, metric)?;
    let reads_labels = match &custom {
        Some(custom) => custom.reads_labels(),
        None => metric.reads_labels(),
    };
    let certain = section.flag("certain");
    if certain && !metric.has_interval() {
        let reason = format!("needs an interval, and {} has none: leave it out", metric.name());
        return Err(section.wrong("certain", &reason));
    }
    let (grain, size) = grain(section, window, grains)?;
    let windows = |key: &str| {
        let given = section.reader.integer(&section.path(key), 1..=MOST_WINDOWS);
        let given = given.map_err(|_| section.wrong(key, "must be 1 or more windows"))?;
        Ok(u32::try_from(given).expect("at most a million"))
    };
    let min_n = match section.entry("min_n").map(|entry| entry.value.as_integer()) {
        None if metric.counts_silence() => 0,
        None => MIN_N,
        Some(given) => u64::try_from(given.expect("the type was checked"))
            .map_err(|_| section.wrong("min_n", "must be 0 or more records"))?,
    };
    let min_coverage = match section.number("min_coverage") {
        None if reads_labels => MIN_COVERAGE,
        None => 0.0,
        Some(_) if !reads_labels => {
            let about = custom.map_or(metric.name(), |custom| custom_name(&custom));
            let reason = format!("is for figures of labels, and {about} reads none");
            return Err(section.wrong("min_coverage", &reason));
        }
        Some(share) if (0.0..=1.0).contains(&share) => share,
        Some(_) => return Err(section.wrong("min_coverage", "must be 0 to 1")),
    };
    let strings = |key| section.texts(key).iter().map(ToString::to_string).collect();
    Ok(Rule {
        name: section.name.as_str().into(),
        models: strings("models"),
        segments: strings("segments"),
        metric,
        custom,
        grain: grain.into(),
        size,
        bound,
        opens_after: windows("for")?,
        clears_after: windows("clear_for")?,
        certain,
        min_n,
        min_coverage,
        sealed_only: section.flag("sealed_only"),
        severity: section.entry("severity").map_or(String::new(), |e| text_of(&e.value)).into(),
    })
}

/// What the rule is about, and which custom metric that is.
fn metric(
    section: &Section<'_>,
    custom: &[MetricDefinition],
) -> Result<(Metric, Option<Arc<CustomMetric>>), ConfigError> {
    let Some(entry) = section.entry("metric") else {
        return Err(section.wrong("metric", "needs a `metric`, like \"quality_binary.precision\""));
    };
    let given = text_of(&entry.value);
    if let Some(metric) = Metric::named(&given) {
        return Ok((metric, None));
    }
    let mut custom = custom.iter().map(|definition| &definition.metric);
    if let Some(metric) = custom.clone().find(|metric| custom_name(metric) == given) {
        return Ok((Metric::CUSTOM, Some(Arc::clone(metric))));
    }
    let custom = custom.by_ref().map(|metric| custom_name(metric));
    let known = Metric::all().map(Metric::name).chain(custom);
    let closest = known.min_by_key(|known| edit_distance(&given, known));
    let closest = closest.expect("there are tables");
    let reason = format!("is \"{given}\", which is no table.column; did you mean \"{closest}\"?");
    Err(section.wrong("metric", &reason))
}

/// As rules name a custom metric.
fn custom_name(metric: &CustomMetric) -> String {
    format!("{}.{}", MetricTable::Custom.name(), metric.name)
}

fn bound(section: &Section<'_>, metric: Metric) -> Result<Bound, ConfigError> {
    let [below, above, clear] = ["below", "above", "clear"].map(|key| section.number(key));
    if metric.is_verdict() {
        let given =
            ["below", "above", "clear"].into_iter().find(|key| section.entry(key).is_some());
        return match given {
            None => Ok(Bound::Verdict),
            Some(key) => Err(section
                .wrong(key, "is for numbers; of drift.verdict `drift` is bad and `ok` is good")),
        };
    }
    let finite = [below, above, clear].into_iter().flatten().all(f64::is_finite);
    if !finite {
        return Err(section.wrong("metric", "has a threshold that is not finite"));
    }
    match (below, above) {
        (Some(at), None) => {
            let clear = clear.unwrap_or(at);
            let is_right = clear >= at;
            is_right.then_some(Bound::Below { at, clear }).ok_or_else(|| {
                section.wrong("clear", &format!("is {clear}; it must be at least `below` ({at})"))
            })
        }
        (None, Some(at)) => {
            let clear = clear.unwrap_or(at);
            let is_right = clear <= at;
            is_right.then_some(Bound::Above { at, clear }).ok_or_else(|| {
                section.wrong("clear", &format!("is {clear}; it must be at most `above` ({at})"))
            })
        }
        (None, None) => Err(section.wrong("name", "needs `below` or `above`, like `below = 0.8`")),
        (Some(_), Some(_)) => Err(section.wrong("above", "excludes `below`: write two rules")),
    }
}

fn grain(
    section: &Section<'_>,
    window: Millis,
    grains: &[Millis],
) -> Result<(String, Millis), ConfigError> {
    let Some(entry) = section.entry("grain") else { return Ok((grain_name(window), window)) };
    let given = text_of(&entry.value);
    let known = || std::iter::once(window).chain(grains.iter().copied());
    let span = values::duration(&given).filter(|span| known().any(|known| known == *span));
    span.map(|span| (grain_name(span), span)).ok_or_else(|| {
        let names: Vec<_> = known().map(grain_name).collect();
        section.wrong("grain", &format!("is \"{given}\"; there are {}", names.join(", ")))
    })
}

/// Every target. `cluster` is where topics are: its brokers and librdkafka's properties.
pub(super) fn targets(
    reader: &Reader<'_>,
    cluster: &(String, Vec<(String, String)>),
) -> Result<Vec<TargetSettings>, ConfigError> {
    let mut targets: Vec<TargetSettings> = Vec::new();
    for at in 0..reader.raw.list_len("notify") {
        let section = Section::new(reader, "notify", at)?;
        if targets.iter().any(|target| target.name == section.name) {
            return Err(section.wrong("name", "stands twice: deliveries are remembered under it"));
        }
        targets.push(target(&section, cluster)?);
    }
    Ok(targets)
}

/// Keys that only some types have.
const KEYS_OF_TYPES: [(&str, &[&str]); 5] = [
    ("url", &["webhook", "slack", "alertmanager", "email"]),
    ("secret", &["webhook", "slack", "alertmanager"]),
    ("topic", &["kafka"]),
    ("from", &["email"]),
    ("to", &["email"]),
];

fn target(
    section: &Section<'_>,
    (brokers, properties): &(String, Vec<(String, String)>),
) -> Result<TargetSettings, ConfigError> {
    let reader = section.reader;
    let types = ["webhook", "slack", "alertmanager", "kafka", "email"].map(|name| (name, name));
    let kind = reader.choice(&section.path("type"), &types)?;
    for (key, kinds) in KEYS_OF_TYPES {
        let is_given = section.entry(key).is_some();
        if is_given && !kinds.contains(&kind) {
            return Err(section.wrong(key, &format!("is for {}: leave it out", kinds.join(", "))));
        }
    }
    let text = |key: &str, example: &str| {
        let given = section.entry(key).map(|entry| text_of(&entry.value));
        let given = given.filter(|text| !text.is_empty());
        given.ok_or_else(|| section.wrong(key, &format!("needs a `{key}`, like \"{example}\"")))
    };
    let url = reader.secret(&section.path("url"))?;
    let url = url.map_or(String::new(), |url| url.expose().to_owned());
    let medium = match kind {
        "kafka" => Medium::Kafka(Topic {
            name: text("topic", "tidegauge.alerts")?,
            brokers: brokers.clone(),
            properties: properties.clone(),
        }),
        "email" => Medium::Email(Letter {
            from: text("from", "tidegauge@example.org")?,
            to: section.texts("to").iter().map(ToString::to_string).collect(),
        }),
        "slack" => Medium::Slack,
        "alertmanager" => Medium::Alertmanager,
        _ => Medium::Webhook,
    };
    let checked = match &medium {
        Medium::Kafka(_) => Ok(()),
        Medium::Email(_) if url.is_empty() => {
            return Err(section.wrong("url", "needs a `url`, like \"env:SMTP_URL\""));
        }
        Medium::Email(letter) => letter.check(&url),
        _ if url.is_empty() => {
            return Err(section.wrong("url", "needs a `url`, like \"env:WEBHOOK_URL\""));
        }
        _ => TargetSettings::check_url(&url),
    };
    checked.map_err(|reason| section.wrong("name", &format!("can't be told: {reason}")))?;
    let secret = reader.secret(&section.path("secret"))?;
    Ok(TargetSettings {
        name: section.name.clone(),
        medium,
        url,
        secret: secret.map(|secret| secret.expose().to_owned()),
        timeout: reader.duration(&section.path("timeout"), Millis(1))?,
    })
}
