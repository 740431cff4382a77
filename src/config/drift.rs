//! How drift is judged, and what is declared of the features that profiles are built of.

use std::collections::BTreeMap;

use toml::{Table, Value};

use super::error::ConfigError;
use super::raw::Entry;
use super::reader::{Reader, invalid};
use crate::engine::metrics::drift::method::{Limits, Method, Options};
use crate::engine::metrics::reference::FeatureKind;
use crate::profile::builder::Declared;

/// A greater least number of values would be met by no window.
const MOST_VALUES: usize = 1_000_000_000;

/// What drift of the models of a section is judged by.
pub(super) fn options(reader: &Reader<'_>, pattern: &str) -> Result<Options, ConfigError> {
    let key = |name| ["models", pattern, "drift", name];
    let alpha = reader.share(&key("alpha"))?;
    let entry = reader.entry(&key("alpha")).expect("has a default");
    check_alpha(alpha).map_err(|reason| invalid(&entry, reason))?;
    let primary = Method::ALL.into_iter().filter(|method| method.is_for_all_kinds());
    let primary: Vec<_> = primary.map(|method| (method.name(), method)).collect();
    let primary = reader.choice(&key("primary"), &primary)?;
    let min_n = reader.integer(&key("min_n"), 1..=MOST_VALUES)?;
    let min_n = u64::try_from(min_n).expect("checked to be small");
    let mut options = Options::new(primary, min_n);
    for method in Method::ALL.into_iter().filter(|method| !method.is_rate()) {
        options.set_limits(method, Limits { alpha, ..method.limits() });
    }
    let entry = reader.entry(&key("methods")).expect("has a default");
    for (name, given) in entry.value.as_table().expect("the type was checked") {
        let Some(method) = Method::named(name) else {
            let known = Method::ALL.map(Method::name).join(", ");
            return Err(invalid(&entry, format!("has `{name}`; the methods are {known}")));
        };
        let given = given.as_table().expect("the type was checked");
        let limits = limits(method, options.limits(method), given)
            .map_err(|reason| invalid(&entry, format!("of `{name}` {reason}")))?;
        options.set_limits(method, limits);
    }
    Ok(options)
}

/// The limits of one method with what is said of it; or what is wrong, and what could stand there.
fn limits(method: Method, mut limits: Limits, given: &Table) -> Result<Limits, String> {
    for (key, value) in given {
        let number = number(value).ok_or_else(|| format!("has `{key}` that is no number"))?;
        match key.as_str() {
            "drift_at" => limits.drift_at = number,
            "warn_at" | "alpha" if method.is_rate() => {
                return Err(format!("has `{key}`, but it is a rate: only its drift_at counts"));
            }
            "warn_at" => limits.warn_at = Some(number),
            "alpha" => limits.alpha = number,
            other => {
                return Err(format!("has `{other}`; its keys are warn_at, drift_at and alpha"));
            }
        }
    }
    check_alpha(limits.alpha).map_err(|reason| format!("has an alpha that {reason}"))?;
    let Limits { warn_at, drift_at, .. } = limits;
    let warn_at = warn_at.unwrap_or(drift_at);
    if !(drift_at.is_finite() && warn_at > 0.0) {
        return Err("needs finite limits above 0".to_owned());
    }
    if warn_at > drift_at {
        let reason = "so nothing would be a warning; set both, the lesser as warn_at";
        return Err(format!("has warn_at {warn_at} above drift_at {drift_at}, {reason}"));
    }
    Ok(limits)
}

fn check_alpha(alpha: f64) -> Result<(), String> {
    if alpha > 0.0 && alpha <= 1.0 {
        Ok(())
    } else {
        Err(format!("is {alpha}; it must be above 0 and at most 1, like 0.05"))
    }
}

/// What is declared of features, by name.
pub(super) fn declared(
    reader: &Reader<'_>,
    pattern: &str,
) -> Result<BTreeMap<String, Declared>, ConfigError> {
    let entry: Entry = reader.entry(&["models", pattern, "features"]).expect("has a default");
    let features = entry.value.as_table().expect("the type was checked").iter();
    let features = features.map(|(name, given)| {
        let given = given.as_table().expect("the type was checked");
        let declared =
            feature(given).map_err(|reason| invalid(&entry, format!("of `{name}` {reason}")))?;
        Ok((name.clone(), declared))
    });
    features.collect()
}

/// What is declared of one feature; or what is wrong, and what could stand there.
fn feature(given: &Table) -> Result<Declared, String> {
    let mut declared = Declared::default();
    for (key, value) in given {
        match key.as_str() {
            "kind" => declared.kind = Some(kind(value)?),
            "range" => {
                let [least, most]: [f64; 2] =
                    numbers(value).and_then(|list| list.try_into().ok()).ok_or(
                        "needs two numbers for `range`, the least and the greatest, like [0, 120]",
                    )?;
                declared.range = Some((least, most));
            }
            "edges" => {
                let edges = numbers(value).filter(|list| !list.is_empty());
                declared.edges = edges.ok_or("needs numbers for `edges`, like [10, 100, 1000]")?;
            }
            other => return Err(format!("has `{other}`; its keys are kind, range and edges")),
        }
    }
    if declared.range.is_some() || !declared.edges.is_empty() {
        // Only numbers have them.
        let kind = declared.kind.get_or_insert(FeatureKind::Numeric);
        if *kind != FeatureKind::Numeric {
            let kind = kind.name();
            return Err(format!("is {kind}, but has a range or edges: only numbers have them"));
        }
    }
    declared.check().map_err(|flaw| {
        format!("can't be used: {flaw}; declare finite, rising edges and a range whose first number is the lesser")
    })?;
    Ok(declared)
}

fn kind(value: &Value) -> Result<FeatureKind, String> {
    let kinds = [FeatureKind::Numeric, FeatureKind::Categorical, FeatureKind::Boolean];
    let found = kinds.into_iter().find(|kind| value.as_str() == Some(kind.name()));
    found.ok_or_else(|| {
        format!("has kind {value}; it must be \"numeric\", \"categorical\" or \"boolean\"")
    })
}

fn numbers(value: &Value) -> Option<Vec<f64>> {
    value.as_array()?.iter().map(number).collect()
}

fn number(value: &Value) -> Option<f64> {
    match value {
        #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "options are small")]
        Value::Integer(whole) => Some(*whole as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}
