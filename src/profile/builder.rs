//! Records in, a profile out, in memory that does not grow with their number.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashMap;

use super::calibrate::{Choice, LabelledScores};
use super::classes::ClassScores;
use super::document::id_of;
use super::numbers::{EXACT_NUMBERS, Numbers};
use crate::engine::event::{FeatureValue, RequestId};
use crate::engine::metrics::expected::Expected;
use crate::engine::metrics::lattice::score_cell;
use crate::engine::metrics::reference::{
    CategoricalProfile, FeatureKind, FeatureProfile, Flaw, MOST_EDGES, Profile, Scale, Values,
};
use crate::engine::names::OTHER;

/// How many distinct names of a feature are counted; names that come after them count as other ones.
pub const COUNTED_NAMES: usize = 100_000;
/// How many bytes they may have together: a feature of free text would else take gigabytes.
pub const COUNTED_BYTES: usize = 10_000_000;
/// How many features a profile may have.
pub const MOST_FEATURES: usize = 10_000;

/// What the user says of one feature.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Declared {
    /// Its kind; else the one that most values have.
    pub kind: Option<FeatureKind>,
    /// Where its numbers may lie.
    pub range: Option<(f64, f64)>,
    /// Edges of the bins, rising; else they are quantiles.
    pub edges: Vec<f64>,
}

/// What predictions and labels are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Targets {
    /// Classes, whose names are texts: `1` and `1.0` are class `1`.
    #[default]
    Classes,
    /// Numbers.
    Numbers,
}

/// How a profile is built.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    /// The first part of its id.
    pub name: String,
    /// Higher than those of earlier profiles of the model.
    pub generation: u16,
    /// What predictions and labels are.
    pub targets: Targets,
    /// What is known of features, by name.
    pub declared: BTreeMap<String, Declared>,
    /// How many categories a feature lists.
    pub max_categories: usize,
    /// How many distinct numbers of a feature are kept as they are.
    pub exact_numbers: usize,
    /// The map from scores to probabilities.
    pub calibration: Choice,
}

impl Options {
    /// The defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            generation: 1,
            targets: Targets::default(),
            declared: BTreeMap::new(),
            max_categories: 100,
            exact_numbers: EXACT_NUMBERS,
            calibration: Choice::default(),
        }
    }
}

/// One inference, and its label where it has one.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Puts a labelled score into its fold.
    pub id: RequestId,
    /// Features by name, each once; what is absent is missing.
    pub features: &'a [(&'a str, FeatureValue<'a>)],
    /// In 0..=1.
    pub score: Option<f64>,
    /// In 0..=1, by class, each once.
    pub scores: &'a [(&'a str, f64)],
    /// The predicted class or number.
    pub prediction: FeatureValue<'a>,
    /// The true class or number.
    pub label: FeatureValue<'a>,
    /// Whether the label is the positive class of a binary model.
    pub positive: Option<bool>,
}

/// Why there is no profile.
#[derive(Clone, Debug, PartialEq)]
pub enum BuildError {
    /// No record was added, or none has a value.
    Empty,
    /// More features than [`MOST_FEATURES`]; this one is the first too many.
    TooManyFeatures(String),
    /// What was declared of this feature cannot be kept.
    Declared {
        /// Its name.
        feature: String,
        /// What is wrong.
        flaw: Flaw,
    },
}

impl BuildError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "profile_without_records",
            Self::TooManyFeatures(_) => "profile_too_many_features",
            Self::Declared { .. } => "profile_declaration_invalid",
        }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "there is no value to build a profile of"),
            Self::TooManyFeatures(name) => {
                write!(f, "feature `{name}` is one too many: a profile has at most {MOST_FEATURES}")
            }
            Self::Declared { feature, flaw } => {
                write!(f, "what is declared of feature `{feature}` cannot be used: {flaw}")
            }
        }
    }
}

impl std::error::Error for BuildError {}

/// A profile, and what it leaves out.
#[derive(Clone, Debug, PartialEq)]
pub struct Built {
    /// The profile.
    pub profile: Profile,
    /// Records that were added.
    pub records: u64,
    /// Features without a value of their kind: the profile lacks them.
    pub without_values: Vec<Arc<str>>,
    /// Features with more distinct numbers than are kept, and by how much, relative to its size, an edge may exceed the
    /// quantile that it stands for. All else, the counts between the edges included, is exact.
    pub rounded: Vec<(Arc<str>, f64)>,
}

/// Collects records. Each feature takes about 10 MB at most for numbers and 15 MB for names.
#[derive(Clone, Debug)]
pub struct ProfileBuilder {
    options: Options,
    records: u64,
    features: HashMap<Box<str>, Column, FixedState>,
    score: Numbers,
    prediction: Column,
    label: Column,
    labelled_scores: LabelledScores,
    expected: Expected,
    class_scores: ClassScores,
}

impl ProfileBuilder {
    /// Without records. What is declared is checked here.
    pub fn new(options: Options) -> Result<Self, BuildError> {
        for (feature, declared) in &options.declared {
            declared
                .check()
                .map_err(|flaw| BuildError::Declared { feature: feature.clone(), flaw })?;
        }
        let exact_numbers = options.exact_numbers;
        Ok(Self {
            options,
            records: 0,
            features: HashMap::with_hasher(FixedState::default()),
            score: Numbers::new(exact_numbers, &[]),
            prediction: Column::new(exact_numbers, &[]),
            label: Column::new(exact_numbers, &[]),
            labelled_scores: LabelledScores::default(),
            expected: Expected::default(),
            class_scores: ClassScores::default(),
        })
    }

    /// Adds a record.
    pub fn add(&mut self, record: &Record<'_>) -> Result<(), BuildError> {
        self.records += 1;
        for (name, value) in record.features {
            if let Some(column) = self.features.get_mut(*name) {
                column.add(*value);
                continue;
            }
            if self.features.len() == MOST_FEATURES {
                return Err(BuildError::TooManyFeatures((*name).to_owned()));
            }
            let declared = self.options.declared.get(*name);
            let edges = declared.map_or(&[][..], |declared| &declared.edges);
            let column = Column::new(self.options.exact_numbers, edges);
            self.features.entry(Box::from(*name)).or_insert(column).add(*value);
        }
        if let Some(score) = record.score {
            self.score.add(f64::from(score_cell(score)), score);
            if let Some(positive) = record.positive {
                self.labelled_scores.add(record.id, score, positive);
            }
        }
        if !record.scores.is_empty()
            && let Some(actual) = class_name(record.label)
        {
            self.class_scores.add(record.id, record.scores, &actual);
        }
        for (column, value) in
            [(&mut self.prediction, record.prediction), (&mut self.label, record.label)]
        {
            match self.options.targets {
                Targets::Classes => match class_name(value) {
                    Some(class) => column.add(FeatureValue::Text(&class)),
                    None => column.add(value),
                },
                Targets::Numbers => column.add(value),
            }
        }
        Ok(())
    }

    /// Takes in what the windows of the records came to.
    pub fn expect(&mut self, expected: Expected) {
        self.expected = expected;
    }

    /// The profile of all records.
    pub fn finish(self) -> Result<Built, BuildError> {
        let (mut without_values, mut rounded) = (Vec::new(), Vec::new());
        let mut features = BTreeMap::new();
        let mut columns: Vec<(Arc<str>, Column)> =
            self.features.into_iter().map(|(name, column)| (Arc::from(name), column)).collect();
        columns.sort_by(|a, b| a.0.cmp(&b.0));
        let undeclared = Declared::default();
        let most = self.options.max_categories;
        for (name, column) in columns {
            let declared = self.options.declared.get(&*name).unwrap_or(&undeclared);
            match column.profile(declared, self.records, most) {
                Some((profile, edge_error)) => {
                    if edge_error > 0.0 {
                        rounded.push((name.clone(), edge_error));
                    }
                    features.insert(name, Arc::new(profile));
                }
                None => without_values.push(name),
            }
        }
        let kind = match self.options.targets {
            Targets::Classes => FeatureKind::Categorical,
            Targets::Numbers => FeatureKind::Numeric,
        };
        let target = Declared { kind: Some(kind), ..Declared::default() };
        let of_target = |column: &Column| {
            column.profile(&target, self.records, most).map(|(profile, _)| profile)
        };
        let score = (self.score.n() > 0).then(|| FeatureProfile {
            missing: self.records - self.score.n(),
            type_errors: 0,
            values: Values::Numeric(self.score.profile(Scale::Score, None)),
        });
        let mut profile = Profile {
            id: Arc::from(""),
            name: Arc::from(self.options.name),
            generation: self.options.generation,
            features,
            score,
            prediction: of_target(&self.prediction),
            label: of_target(&self.label),
            calibrator: self.labelled_scores.calibrator(self.options.calibration),
            expected: self.expected,
            class_calibrators: self.class_scores.calibrators(self.options.calibration),
        };
        let targets = [&profile.score, &profile.prediction, &profile.label];
        if profile.features.is_empty() && targets.iter().all(|target| target.is_none()) {
            return Err(BuildError::Empty);
        }
        profile.id = Arc::from(id_of(&profile));
        Ok(Built { profile, records: self.records, without_values, rounded })
    }
}

impl Declared {
    /// Whether a profile can be built with it.
    pub fn check(&self) -> Result<(), Flaw> {
        let limits = self.range.map(|(least, most)| [least, most]).unwrap_or_default();
        if !limits.iter().chain(&self.edges).all(|x| x.is_finite()) {
            return Err(Flaw::NotFinite);
        }
        if limits[0] > limits[1] {
            return Err(Flaw::NoSpread);
        }
        if !self.edges.is_sorted_by(|a, b| a < b) {
            return Err(Flaw::NotRising("edges"));
        }
        if self.edges.len() > MOST_EDGES {
            return Err(Flaw::TooManyEdges(self.edges.len()));
        }
        Ok(())
    }
}

/// The class that a number or truth value names: whole numbers have no fraction.
fn class_name(value: FeatureValue<'_>) -> Option<Cow<'_, str>> {
    match value {
        FeatureValue::Number(number) => Some(Cow::Owned(number.to_string())),
        FeatureValue::Text(text) => Some(Cow::Borrowed(text)),
        FeatureValue::Boolean(truth) => Some(Cow::Borrowed(if truth { "true" } else { "false" })),
        FeatureValue::Missing | FeatureValue::NotFinite => None,
    }
}

/// The values of one feature, by kind.
#[derive(Clone, Debug)]
struct Column {
    numbers: Numbers,
    names: HashMap<Box<str>, u64, FixedState>,
    /// Their lengths together.
    name_bytes: usize,
    /// Values with names that are not counted.
    uncounted: u64,
    texts: u64,
    /// `false` and `true`.
    truths: [u64; 2],
}

impl Column {
    fn new(exact_numbers: usize, given_edges: &[f64]) -> Self {
        Self {
            numbers: Numbers::new(exact_numbers, given_edges),
            names: HashMap::with_hasher(FixedState::default()),
            name_bytes: 0,
            uncounted: 0,
            texts: 0,
            truths: [0; 2],
        }
    }

    fn add(&mut self, value: FeatureValue<'_>) {
        match value {
            FeatureValue::Number(number) => self.numbers.add(number, number),
            FeatureValue::Boolean(truth) => self.truths[usize::from(truth)] += 1,
            FeatureValue::Text(text) => {
                self.texts += 1;
                if text == OTHER {
                    // It can't be told from those that are not listed.
                    self.uncounted += 1;
                } else if let Some(count) = self.names.get_mut(text) {
                    *count += 1;
                } else if self.names.len() < COUNTED_NAMES
                    && text.len() <= COUNTED_BYTES - self.name_bytes
                {
                    self.name_bytes += text.len();
                    self.names.insert(Box::from(text), 1);
                } else {
                    self.uncounted += 1;
                }
            }
            FeatureValue::Missing | FeatureValue::NotFinite => {}
        }
    }

    fn count(&self, kind: FeatureKind) -> u64 {
        match kind {
            FeatureKind::Numeric => self.numbers.n(),
            FeatureKind::Categorical => self.texts,
            FeatureKind::Boolean => self.truths.iter().sum(),
        }
    }

    /// The profile over that many records, and how far edges are rounded up; none without values of its kind.
    fn profile(
        &self,
        declared: &Declared,
        records: u64,
        max_categories: usize,
    ) -> Option<(FeatureProfile, f64)> {
        let kinds = [FeatureKind::Boolean, FeatureKind::Categorical, FeatureKind::Numeric];
        let commonest = kinds.into_iter().max_by_key(|kind| self.count(*kind));
        let kind = declared.kind.or(commonest)?;
        let (all, own) =
            (kinds.iter().map(|kind| self.count(*kind)).sum::<u64>(), self.count(kind));
        if own == 0 {
            return None;
        }
        let (values, edge_error) = match kind {
            FeatureKind::Numeric => {
                let numbers = &self.numbers;
                let profile = numbers.profile(Scale::Linear, declared.range);
                (Values::Numeric(profile), numbers.edge_error())
            }
            FeatureKind::Categorical => {
                let names = self.names.iter().map(|(name, count)| (Arc::from(&**name), *count));
                (Values::Categorical(listed(names, self.uncounted, max_categories)), 0.0)
            }
            FeatureKind::Boolean => {
                let names = ["false", "true"].map(Arc::from).into_iter().zip(self.truths);
                (Values::Boolean(listed(names, 0, 2)), 0.0)
            }
        };
        let (missing, type_errors) = (records.saturating_sub(all), all - own);
        Some((FeatureProfile { missing, type_errors, values }, edge_error))
    }
}

/// The commonest names by falling count, ties by bytes; the rest counts as other ones.
fn listed(
    names: impl Iterator<Item = (Arc<str>, u64)>,
    uncounted: u64,
    max_categories: usize,
) -> CategoricalProfile {
    let mut categories: Vec<(Arc<str>, u64)> = names.filter(|(_, count)| *count > 0).collect();
    categories.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    let rest = categories.split_off(max_categories.min(categories.len()));
    CategoricalProfile { categories, other: rest.iter().map(|(_, n)| n).sum::<u64>() + uncounted }
}
