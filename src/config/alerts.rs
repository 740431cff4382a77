//! `[[alerts]]` and `[[notify]]`: rules and targets. Messages name the rule.

use std::sync::Arc;

use super::error::ConfigError;
use super::options::edit_distance;
use super::reader::{Reader, text_of};
use super::section::Section;
use super::values;
use crate::alerting::{Letter, Medium, TargetSettings, Topic};
use crate::alerts::{Bound, Metric, Rule};
use crate::engine::ModelSettings;
use crate::engine::glob::fits;
use crate::engine::metrics::MetricTable;
use crate::engine::metrics::custom::CustomMetric;
use crate::engine::metrics::expected::FEWEST_WINDOWS;
use crate::engine::metrics::reference::Profile;
use crate::engine::time::Millis;
use crate::evaluate::grain_name;
use crate::sink::catalogue::is_share;
use crate::sink::definitions::MetricDefinition;

/// Records behind a figure before it says anything.
const MIN_N: u64 = 100;
/// Share of labelled inferences before figures of labels say anything.
const MIN_COVERAGE: f64 = 0.5;
const MOST_WINDOWS: usize = 1_000_000;

/// Every rule, checked against what tables, custom metrics and grains there are; and the first that can never be judged,
/// since no reference of its models has what it needs.
pub(super) fn rules(
    reader: &Reader<'_>,
    windows: (Millis, &[Millis]),
    custom: &[MetricDefinition],
    models: &[ModelSettings],
) -> Result<(Vec<Rule>, Option<ConfigError>), ConfigError> {
    let (mut rules, mut unjudged): (Vec<Rule>, _) = (Vec::new(), None);
    for at in 0..reader.raw.list_len("alerts") {
        let section = Section::new(reader, "alerts", at)?;
        if rules.iter().any(|rule| *rule.name == section.name) {
            return Err(section.wrong("name", "stands twice: alerts are kept under it"));
        }
        let mut rule = rule(&section, windows, custom)?;
        let of = |model: &ModelSettings| (model.pattern.clone(), model.reference.clone());
        let references: Vec<_> = models.iter().map(of).collect();
        unjudged = unjudged.or_else(|| never_judged(&section, &rule, &references));
        if matches!(rule.bound, Bound::Learned { .. }) {
            rule.references = references;
        }
        rules.push(rule);
    }
    Ok((rules, unjudged))
}

fn rule(
    section: &Section<'_>,
    windows: (Millis, &[Millis]),
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
        let name = metric.name();
        let reason = format!("needs an interval of 95 %, and {name} has none: leave it out");
        return Err(section.wrong("certain", &reason));
    }
    let (grain, size) = grain(section, windows)?;
    let windows = |key: &str| {
        let given = section.reader.integer(&section.path(key), 1..=MOST_WINDOWS);
        let given = given.map_err(|_| section.wrong(key, "must be 1 or more windows"))?;
        Ok(u32::try_from(given).expect("at most a million"))
    };
    let min_n = match section.entry("min_n").map(|entry| entry.value.as_integer()) {
        None if metric.is_count() => 0,
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
        references: Vec::new(),
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
    let known: Vec<String> = Metric::all().map(Metric::name).chain(custom).collect();
    // Without a table those that have the column are meant.
    let mut meant: Vec<_> = known
        .iter()
        .filter(|known| known.rsplit('.').next() == Some(&*given))
        .map(|known| format!("\"{known}\""))
        .collect();
    if meant.is_empty() {
        let closest = known.iter().min_by_key(|known| edit_distance(&given, known));
        meant.extend(closest.map(|known| format!("\"{known}\"")));
    }
    let meant = meant.join(" or ");
    let reason = format!("is \"{given}\", which is no table.column; did you mean {meant}?");
    Err(section.wrong("metric", &reason))
}

/// As rules name a custom metric.
fn custom_name(metric: &CustomMetric) -> String {
    format!("{}.{}", MetricTable::Custom.name(), metric.name)
}

fn bound(section: &Section<'_>, metric: Metric) -> Result<Bound, ConfigError> {
    let keys = ["below", "above", "learned", "clear"];
    let [below, above, learned, clear] = keys.map(|key| section.number(key));
    if metric.is_verdict() {
        let given = keys.into_iter().find(|key| section.entry(key).is_some());
        return match given {
            None => Ok(Bound::Verdict),
            Some(key) => Err(section
                .wrong(key, "is for numbers; of drift.verdict `drift` is bad and `ok` is good")),
        };
    }
    let finite = [below, above, learned, clear].into_iter().flatten().all(f64::is_finite);
    if !finite {
        return Err(section.wrong("metric", "has a threshold that is not finite"));
    }
    if learned.is_none() {
        check_share(section, metric)?;
    }
    match (below, above) {
        (None, None) if learned.is_some() => {
            learned_bound(section, metric, learned.unwrap_or_default(), clear)
        }
        _ if learned.is_some() => {
            Err(section.wrong("learned", "excludes `below` and `above`: write two rules"))
        }
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
        (None, None) => {
            let reason = "needs `below`, `above` or `learned`, like `below = 0.8`";
            Err(section.wrong("name", reason))
        }
        (Some(_), Some(_)) => Err(section.wrong("above", "excludes `below`: write two rules")),
    }
}

/// Refuses a share in percent: the rule would never open an alert, or always.
fn check_share(section: &Section<'_>, metric: Metric) -> Result<(), ConfigError> {
    if !is_share(metric.table, metric.column) {
        return Ok(());
    }
    for key in ["below", "above", "clear"] {
        let given = section.number(key);
        if let Some(given) = given.filter(|given| !(0.0..=1.0).contains(given)) {
            let name = metric.name();
            let reason = format!("is {given}, and {name} is a share, 0 to 1: 5 % is 0.05");
            return Err(section.wrong(key, &reason));
        }
    }
    Ok(())
}

/// Both numbers are standard deviations.
fn learned_bound(
    section: &Section<'_>,
    metric: Metric,
    at: f64,
    clear: Option<f64>,
) -> Result<Bound, ConfigError> {
    if !metric.can_be_learned() {
        let reason = "is for counts and figures of serving (but freshness), quality and calibration, which a \
                      reference has: write `below` or `above`";
        return Err(section.wrong("learned", reason));
    }
    if at <= 0.0 {
        let reason = format!("is {at}; it must be more than 0 standard deviations, like 3.0");
        return Err(section.wrong("learned", &reason));
    }
    let clear = clear.unwrap_or(at);
    if !(0.0..=at).contains(&clear) {
        let reason = format!("is {clear}; it must be 0 to `learned` ({at}) standard deviations");
        return Err(section.wrong("clear", &reason));
    }
    Ok(Bound::Learned { at, clear })
}

/// What is wrong with a rule that asks for more than the references of its models have.
fn never_judged(
    section: &Section<'_>,
    rule: &Rule,
    references: &[(String, Option<Arc<Profile>>)],
) -> Option<ConfigError> {
    let has_both = |pattern: &String, model: &String| match (pattern.contains('*'), model) {
        (true, model) if model.contains('*') => true,
        (true, model) => fits(pattern, model),
        (false, model) => fits(model, pattern),
    };
    let is_meant = |pattern: &String| rule.models.iter().any(|model| has_both(pattern, model));
    let meant = references.iter().filter(|(pattern, _)| is_meant(pattern));
    let mut meant = meant.filter_map(|(_, reference)| reference.as_ref());
    let name = rule.metric.name();
    if !matches!(rule.bound, Bound::Learned { .. }) {
        let table = rule.metric.table;
        let is_needed = matches!(table, MetricTable::Drift | MetricTable::QualityEstimated);
        if !is_needed || meant.next().is_some() {
            return None;
        }
        let reason = format!(
            "is {name}, which can never be judged: none of the rule's models has a `reference`; build one with \
             `tidegauge profile` and name it under [models.NAME]"
        );
        return Some(section.wrong("metric", &reason));
    }
    let has_segment = |segment: &str| rule.segments.iter().any(|glob| fits(glob, segment));
    let is_known = meant.any(|reference| reference.expected.knows(&rule.grain, has_segment, &name));
    if is_known {
        return None;
    }
    let reason = format!(
        "can never be judged: no reference of its models knows {name} of {FEWEST_WINDOWS} windows of {} in its \
         segments; build one with `tidegauge profile` over more time, or write `below` or `above`",
        rule.grain
    );
    Some(section.wrong("learned", &reason))
}

fn grain(
    section: &Section<'_>,
    (window, grains): (Millis, &[Millis]),
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
