//! The profile as a JSON document: versioned, readable, with an id that follows from what it says.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::metrics::expected::{ByName, Expectation, Expected, FEWEST_WINDOWS};
use crate::engine::metrics::reference::{
    CalibrationMap, Calibrator, CategoricalProfile, FeatureProfile, Flaw, NumericProfile, Profile,
    Scale, Values,
};

/// The newest version of the document's form that this program writes and reads.
pub const FORMAT: u64 = 2;
/// The version of documents without expected means: their ids stay what they were.
const FORMAT_WITHOUT_EXPECTED: u64 = 1;

/// Classes that a profile may at most have calibrators of.
pub const MOST_CALIBRATED_CLASSES: usize = 256;

const KEYS: [&str; 11] = [
    "format",
    "id",
    "name",
    "generation",
    "features",
    "score",
    "prediction",
    "label",
    "calibrator",
    "expected",
    "class_calibrators",
];

/// Why a document is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum DocumentError {
    /// It is not JSON.
    NotJson(String),
    /// It has another form than this program reads.
    Format(Option<Value>),
    /// A part is missing or of another type.
    Malformed {
        /// Which part, such as ``feature `amount` ``.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// A part contradicts itself.
    Flawed {
        /// Which part.
        place: String,
        /// What is wrong.
        flaw: Flaw,
    },
    /// It says less than a profile needs.
    Empty,
    /// The content was changed after the id was given.
    Changed {
        /// The id that the document states.
        stated: String,
        /// The id that its content has.
        content: String,
    },
}

impl DocumentError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotJson(_) => "profile_not_json",
            Self::Format(_) => "profile_format_unknown",
            Self::Malformed { .. } => "profile_malformed",
            Self::Flawed { .. } => "profile_flawed",
            Self::Empty => "profile_empty",
            Self::Changed { .. } => "profile_changed",
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotJson(what) => write!(f, "the profile is not JSON: {what}"),
            Self::Format(None) => {
                write!(f, "the profile has no `format`; this program reads formats 1 to {FORMAT}")
            }
            Self::Format(Some(found)) => {
                write!(
                    f,
                    "the profile has format {found}; this program reads formats 1 to {FORMAT}"
                )
            }
            Self::Malformed { place, what } => write!(f, "{place} of the profile: {what}"),
            Self::Flawed { place, flaw } => write!(f, "{place} of the profile: {flaw}"),
            Self::Empty => {
                write!(f, "the profile has no feature, score, prediction or label")
            }
            Self::Changed { stated, content } => write!(
                f,
                "the profile's id is `{stated}`, but what it says has the id `{content}`: it was changed"
            ),
        }
    }
}

impl std::error::Error for DocumentError {}

/// One column. Its keys are those of [`NumericProfile`] and [`CategoricalProfile`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Column {
    Numeric {
        missing: u64,
        type_errors: u64,
        scale: ScaleName,
        min: f64,
        max: f64,
        mean: f64,
        sd: f64,
        fine_edges: Vec<f64>,
        bin_edges: Vec<f64>,
        counts: Vec<u64>,
        has_given_edges: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        range: Option<(f64, f64)>,
    },
    Categorical {
        missing: u64,
        type_errors: u64,
        categories: Vec<(String, u64)>,
        other: u64,
    },
    Boolean {
        missing: u64,
        type_errors: u64,
        categories: Vec<(String, u64)>,
        other: u64,
    },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ScaleName {
    Linear,
    Score,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CalibratorDocument {
    map: MapName,
    n: u64,
    positives: u64,
    ece_identity: f64,
    ece_isotonic: f64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    knots: Vec<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    rates: Vec<f64>,
}

/// Its keys are those of [`Expectation`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ExpectationDocument {
    windows: u64,
    mean: f64,
    sd: f64,
}

/// By grain, segment and name of the column.
type ExpectedDocument = BTreeMap<String, BTreeMap<String, BTreeMap<String, ExpectationDocument>>>;

#[derive(Debug, Serialize, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum MapName {
    Identity,
    Isotonic,
}

/// Whether a JSON value is meant as a profile: records have other keys.
pub fn is_profile(value: &Value) -> bool {
    ["format", "generation"].iter().all(|key| value.get(key).is_some())
}

/// Reads a document, and checks all that comparisons rely on.
pub fn read(text: &str) -> Result<Profile, DocumentError> {
    let document: Value =
        serde_json::from_str(text).map_err(|error| DocumentError::NotJson(error.to_string()))?;
    let format = document.get("format").and_then(Value::as_u64);
    let Some(format @ FORMAT_WITHOUT_EXPECTED..=FORMAT) = format else {
        return Err(DocumentError::Format(document.get("format").cloned()));
    };
    let Value::Object(mut parts) = document else { return Err(DocumentError::Format(None)) };
    if let Some(key) = parts.keys().find(|key| !KEYS.contains(&key.as_str())) {
        return Err(malformed(&format!("key `{key}`"), &"is not known"));
    }
    let features: BTreeMap<String, Value> = required(&mut parts, "features")?;
    let features = features.into_iter().map(|(name, value)| {
        let place = format!("feature `{name}`");
        Ok((Arc::from(name), Arc::new(column(&place, value)?)))
    });
    let mut profile = Profile {
        id: Arc::from(""),
        name: Arc::from(required::<String>(&mut parts, "name")?),
        generation: required(&mut parts, "generation")?,
        features: features.collect::<Result<_, _>>()?,
        score: optional_column(&mut parts, "score")?,
        prediction: optional_column(&mut parts, "prediction")?,
        label: optional_column(&mut parts, "label")?,
        calibrator: parts
            .remove("calibrator")
            .map(|value| calibrator("`calibrator`", value))
            .transpose()?,
        class_calibrators: class_calibrators(&mut parts)?,
        expected: parts.remove("expected").map(expected).transpose()?.unwrap_or_default(),
    };
    if format_of(&profile) != format {
        let what = format!("goes with format {FORMAT}, which in turn needs it");
        return Err(malformed("`expected`", &what));
    }
    check(&profile)?;
    profile.id = Arc::from(id_of(&profile));
    if let Some(stated) = parts.remove("id")
        && stated.as_str() != Some(&*profile.id)
    {
        let stated = stated.as_str().map_or_else(|| stated.to_string(), str::to_owned);
        return Err(DocumentError::Changed { stated, content: profile.id.to_string() });
    }
    Ok(profile)
}

/// Checks what no single column shows.
fn check(profile: &Profile) -> Result<(), DocumentError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if !(1..=100).contains(&profile.name.len()) || !profile.name.chars().all(is_plain) {
        let what = "must be 1 to 100 letters, digits, `.`, `_` or `-`";
        return Err(malformed("`name`", &what));
    }
    let targets = [&profile.score, &profile.prediction, &profile.label];
    if profile.features.is_empty() && targets.iter().all(|target| target.is_none()) {
        return Err(DocumentError::Empty);
    }
    let is_of_scores = |column: &FeatureProfile| {
        column.numeric().is_some_and(|numeric| numeric.scale == Scale::Score)
    };
    if profile.score.as_ref().is_some_and(|score| !is_of_scores(score)) {
        return Err(malformed("`score`", &"must be numeric, with scale `score`"));
    }
    let features = profile.features.iter();
    let named = features.map(|(name, column)| (format!("feature `{name}`"), &**column));
    let others = [("`prediction`", &profile.prediction), ("`label`", &profile.label)];
    let others =
        others.into_iter().filter_map(|(place, it)| Some((place.to_owned(), it.as_ref()?)));
    for (place, column) in named.chain(others) {
        if is_of_scores(column) {
            return Err(malformed(&place, &"only `score` has scale `score`"));
        }
    }
    Ok(())
}

/// The document, for people to read: indented, with the id.
pub fn write(profile: &Profile) -> String {
    let mut document = content(profile);
    document.insert("id".to_owned(), Value::from(&*profile.id));
    let text = serde_json::to_string_pretty(&Value::Object(document));
    text.expect("a profile has finite numbers and names") + "\n"
}

/// What the id is made of: all but the id, keys in byte order, without spaces, numbers in their shortest form.
pub fn canonical(profile: &Profile) -> String {
    Value::Object(content(profile)).to_string()
}

/// The id that the content has: the name and the first 12 hex digits of the SHA-256 of the canonical form.
pub fn id_of(profile: &Profile) -> String {
    let hash = digest(&SHA256, canonical(profile).as_bytes());
    let first = hash.as_ref().iter().take(6).fold(0_u64, |all, byte| all << 8 | u64::from(*byte));
    format!("{}-{first:012x}", profile.name)
}

/// The version of the form that a profile is written in.
pub fn format_of(profile: &Profile) -> u64 {
    if profile.expected.is_empty() { FORMAT_WITHOUT_EXPECTED } else { FORMAT }
}

fn content(profile: &Profile) -> Map<String, Value> {
    let mut parts = Map::new();
    parts.insert("format".to_owned(), Value::from(format_of(profile)));
    parts.insert("name".to_owned(), Value::from(&*profile.name));
    parts.insert("generation".to_owned(), Value::from(profile.generation));
    let features = profile.features.iter();
    let features = features.map(|(name, column)| (name.to_string(), column_value(column)));
    parts.insert("features".to_owned(), Value::Object(features.collect()));
    let columns =
        [("score", &profile.score), ("prediction", &profile.prediction), ("label", &profile.label)];
    for (name, column) in columns {
        if let Some(column) = column {
            parts.insert(name.to_owned(), column_value(column));
        }
    }
    if let Some(calibrator) = &profile.calibrator {
        parts.insert("calibrator".to_owned(), calibrator_value(calibrator));
    }
    if !profile.class_calibrators.is_empty() {
        let by_class = profile.class_calibrators.iter();
        let by_class = by_class.map(|(class, it)| (class.to_string(), calibrator_value(it)));
        parts.insert("class_calibrators".to_owned(), Value::Object(by_class.collect()));
    }
    if !profile.expected.is_empty() {
        parts.insert("expected".to_owned(), expected_value(&profile.expected));
    }
    parts
}

fn malformed(place: &str, what: &dyn fmt::Display) -> DocumentError {
    DocumentError::Malformed { place: place.to_owned(), what: what.to_string() }
}

fn parsed<T: for<'de> Deserialize<'de>>(place: &str, value: Value) -> Result<T, DocumentError> {
    serde_json::from_value(value).map_err(|error| malformed(place, &error))
}

fn required<T: for<'de> Deserialize<'de>>(
    parts: &mut Map<String, Value>,
    key: &str,
) -> Result<T, DocumentError> {
    let place = format!("`{key}`");
    let value = parts.remove(key).ok_or_else(|| malformed(&place, &"is missing"))?;
    parsed(&place, value)
}

fn optional_column(
    parts: &mut Map<String, Value>,
    key: &str,
) -> Result<Option<FeatureProfile>, DocumentError> {
    parts.remove(key).map(|value| column(&format!("`{key}`"), value)).transpose()
}

fn column(place: &str, value: Value) -> Result<FeatureProfile, DocumentError> {
    let named = |categories: Vec<(String, u64)>, other| CategoricalProfile {
        categories: categories.into_iter().map(|(name, n)| (Arc::from(name), n)).collect(),
        other,
    };
    let profile = match parsed(place, value)? {
        Column::Numeric {
            missing,
            type_errors,
            scale,
            min,
            max,
            mean,
            sd,
            fine_edges,
            bin_edges,
            counts,
            has_given_edges,
            range,
        } => {
            let scale = match scale {
                ScaleName::Linear => Scale::Linear,
                ScaleName::Score => Scale::Score,
            };
            let values = Values::Numeric(NumericProfile {
                scale,
                min,
                max,
                mean,
                sd,
                fine_edges: fine_edges.into(),
                bin_edges,
                counts,
                has_given_edges,
                range,
            });
            FeatureProfile { missing, type_errors, values }
        }
        Column::Categorical { missing, type_errors, categories, other } => {
            let values = Values::Categorical(named(categories, other));
            FeatureProfile { missing, type_errors, values }
        }
        Column::Boolean { missing, type_errors, categories, other } => {
            let values = Values::Boolean(named(categories, other));
            FeatureProfile { missing, type_errors, values }
        }
    };
    let flawed = |flaw| DocumentError::Flawed { place: place.to_owned(), flaw };
    profile.check().map_err(flawed)?;
    Ok(profile)
}

fn column_value(profile: &FeatureProfile) -> Value {
    let FeatureProfile { missing, type_errors, values } = profile;
    let (missing, type_errors) = (*missing, *type_errors);
    let named = |names: &CategoricalProfile| -> Vec<(String, u64)> {
        names.categories.iter().map(|(name, count)| (name.to_string(), *count)).collect()
    };
    let column = match values {
        Values::Numeric(it) => Column::Numeric {
            missing,
            type_errors,
            scale: match it.scale {
                Scale::Linear => ScaleName::Linear,
                Scale::Score => ScaleName::Score,
            },
            min: it.min,
            max: it.max,
            mean: it.mean,
            sd: it.sd,
            fine_edges: it.fine_edges.to_vec(),
            bin_edges: it.bin_edges.clone(),
            counts: it.counts.clone(),
            has_given_edges: it.has_given_edges,
            range: it.range,
        },
        Values::Categorical(it) => {
            Column::Categorical { missing, type_errors, categories: named(it), other: it.other }
        }
        Values::Boolean(it) => {
            Column::Boolean { missing, type_errors, categories: named(it), other: it.other }
        }
    };
    serde_json::to_value(column).expect("a checked column has finite numbers")
}

/// By class, ascending; none where the document has none.
fn class_calibrators(
    parts: &mut Map<String, Value>,
) -> Result<Vec<(Arc<str>, Calibrator)>, DocumentError> {
    let place = "`class_calibrators`";
    let Some(value) = parts.remove("class_calibrators") else { return Ok(Vec::new()) };
    let by_class: BTreeMap<String, Value> = parsed(place, value)?;
    if !(1..=MOST_CALIBRATED_CLASSES).contains(&by_class.len()) {
        let what =
            format!("has {} classes; 1 to {MOST_CALIBRATED_CLASSES} are allowed", by_class.len());
        return Err(malformed(place, &what));
    }
    let by_class = by_class.into_iter().map(|(class, value)| {
        let calibrator = calibrator(&format!("class `{class}` of {place}"), value)?;
        Ok((Arc::from(class), calibrator))
    });
    by_class.collect()
}

fn calibrator(place: &str, value: Value) -> Result<Calibrator, DocumentError> {
    let found: CalibratorDocument = parsed(place, value)?;
    let map = match found.map {
        MapName::Identity if found.knots.is_empty() && found.rates.is_empty() => {
            CalibrationMap::Identity
        }
        MapName::Identity => return Err(malformed(place, &"map `identity` has no knots or rates")),
        MapName::Isotonic => {
            CalibrationMap::Isotonic { knots: found.knots.into(), rates: found.rates }
        }
    };
    map.check().map_err(|flaw| DocumentError::Flawed { place: place.to_owned(), flaw })?;
    let shares = 0.0..=1.0;
    let is_sound = found.positives <= found.n
        && found.n > 0
        && [found.ece_identity, found.ece_isotonic].iter().all(|ece| shares.contains(ece));
    if !is_sound {
        return Err(malformed(place, &"its counts or calibration errors are impossible"));
    }
    Ok(Calibrator {
        map,
        n: found.n,
        positives: found.positives,
        ece_identity: found.ece_identity,
        ece_isotonic: found.ece_isotonic,
    })
}

fn calibrator_value(calibrator: &Calibrator) -> Value {
    let (map, knots, rates) = match &calibrator.map {
        CalibrationMap::Identity => (MapName::Identity, Vec::new(), Vec::new()),
        CalibrationMap::Isotonic { knots, rates } => {
            (MapName::Isotonic, knots.to_vec(), rates.clone())
        }
    };
    let document = CalibratorDocument {
        map,
        n: calibrator.n,
        positives: calibrator.positives,
        ece_identity: calibrator.ece_identity,
        ece_isotonic: calibrator.ece_isotonic,
        knots,
        rates,
    };
    serde_json::to_value(document).expect("a checked calibrator has finite numbers")
}

fn expected(value: Value) -> Result<Expected, DocumentError> {
    let found: ExpectedDocument = parsed("`expected`", value)?;
    let mut expected = Expected::default();
    for (grain, segments) in found {
        for (segment, columns) in segments {
            let mut names = ByName::new();
            for (name, ExpectationDocument { windows, mean, sd }) in columns {
                let expectation = Expectation { windows, mean, sd };
                if !expectation.is_sound() {
                    let place = format!("what is expected of `{name}` ({grain}, {segment})");
                    let what = format!("needs {FEWEST_WINDOWS} windows and an sd of 0 or more");
                    return Err(malformed(&place, &what));
                }
                names.insert(name.into(), expectation);
            }
            let of_grain = expected.0.entry(grain.as_str().into()).or_default();
            of_grain.insert(segment.into(), names);
        }
    }
    Ok(expected)
}

fn expected_value(expected: &Expected) -> Value {
    let column = |(name, it): (&Arc<str>, &Expectation)| {
        let Expectation { windows, mean, sd } = *it;
        (name.to_string(), ExpectationDocument { windows, mean, sd })
    };
    let segment = |(segment, names): (&Arc<str>, &ByName)| {
        (segment.to_string(), names.iter().map(column).collect())
    };
    let grains = expected.0.iter().map(|(grain, segments)| {
        (grain.to_string(), segments.iter().map(segment).collect::<BTreeMap<_, _>>())
    });
    let document: ExpectedDocument = grains.collect();
    serde_json::to_value(document).expect("what is expected is finite")
}
