//! The frozen profile of a model's reference data, which windows are compared with: `metrics.md` 9.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::edges::Edges;
use super::expected::Expected;
use super::lattice::{SCORE_CELLS, score_edge};
use crate::engine::event::NUMBER_MAX;

/// A frozen document; another content has another id.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// `name-` and the first 12 hex digits of the SHA-256 of the canonical JSON.
    pub id: Arc<str>,
    /// The name that the user gave.
    pub name: Arc<str>,
    /// A changed profile has a higher one.
    pub generation: u16,
    /// By name.
    pub features: BTreeMap<Arc<str>, Arc<FeatureProfile>>,
    /// Binary scores, as cells of the score lattice.
    pub score: Option<FeatureProfile>,
    /// Predictions.
    pub prediction: Option<FeatureProfile>,
    /// Labels.
    pub label: Option<FeatureProfile>,
    /// What makes probabilities of binary scores, where the reference is labelled.
    pub calibrator: Option<Calibrator>,
    /// What its own windows came to; empty where they are too few.
    pub expected: Expected,
    /// What makes probabilities of the scores of several classes, one class against the rest: by class, ascending.
    pub class_calibrators: Vec<(Arc<str>, Calibrator)>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FeatureKind {
    /// A finite number.
    Numeric,
    /// A text.
    Categorical,
    /// `true` or `false`.
    Boolean,
}

impl FeatureKind {
    /// As documents and columns have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Boolean => "boolean",
        }
    }
}

/// The values of one feature, or of scores, predictions or labels.
#[derive(Clone, Debug, PartialEq)]
pub struct FeatureProfile {
    /// Records without a value of any kind.
    pub missing: u64,
    /// Values of another kind than the feature's; they enter nothing else.
    pub type_errors: u64,
    /// The values, at least one.
    pub values: Values,
}

/// The distribution of values of one kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Values {
    /// Finite numbers.
    Numeric(NumericProfile),
    /// Texts.
    Categorical(CategoricalProfile),
    /// `true` and `false`.
    Boolean(CategoricalProfile),
}

impl FeatureProfile {
    /// The kind of the values.
    pub fn kind(&self) -> FeatureKind {
        match self.values {
            Values::Numeric(_) => FeatureKind::Numeric,
            Values::Categorical(_) => FeatureKind::Categorical,
            Values::Boolean(_) => FeatureKind::Boolean,
        }
    }

    /// How many values there are: M.
    pub fn total(&self) -> u64 {
        match &self.values {
            Values::Numeric(numeric) => numeric.total(),
            Values::Categorical(names) | Values::Boolean(names) => names.total(),
        }
    }

    /// What the bins are, as column `binning` has it.
    pub fn binning(&self) -> Binning {
        match &self.values {
            Values::Numeric(numeric) if numeric.has_given_edges => Binning::Edges,
            Values::Numeric(_) => Binning::Quantile,
            Values::Categorical(_) | Values::Boolean(_) => Binning::Category,
        }
    }

    /// The numeric profile, if it is one.
    pub fn numeric(&self) -> Option<&NumericProfile> {
        match &self.values {
            Values::Numeric(numeric) => Some(numeric),
            Values::Categorical(_) | Values::Boolean(_) => None,
        }
    }

    /// The categories, if it has any.
    pub fn categories(&self) -> Option<&CategoricalProfile> {
        match &self.values {
            Values::Numeric(_) => None,
            Values::Categorical(names) | Values::Boolean(names) => Some(names),
        }
    }

    /// Whether it is a profile that comparisons can rely on.
    pub fn check(&self) -> Result<(), Flaw> {
        // They are added to the values.
        if self.missing.max(self.type_errors) > MOST_VALUES {
            return Err(Flaw::TooManyValues);
        }
        match &self.values {
            Values::Numeric(numeric) => numeric.check(),
            Values::Categorical(names) | Values::Boolean(names) => names.check(),
        }
    }
}

/// What the bins of a comparison are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binning {
    /// Tenths of the reference.
    Quantile,
    /// Categories.
    Category,
    /// Edges that the user gave.
    Edges,
}

impl Binning {
    /// As column `binning` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quantile => "quantile",
            Self::Category => "category",
            Self::Edges => "edges",
        }
    }
}

/// What the edges of a numeric profile measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// The values themselves.
    Linear,
    /// Indices of cells of the score lattice.
    Score,
}

impl Scale {
    /// As documents have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Linear => "linear",
            Self::Score => "score",
        }
    }
}

/// Numbers, counted in fine cells whose edges are frozen. On [`Scale::Score`] minimum, maximum and edges are indices of
/// cells of the score lattice.
#[derive(Clone, Debug, PartialEq)]
pub struct NumericProfile {
    /// What the edges measure.
    pub scale: Scale,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// Mean of the values (of the scores themselves).
    pub mean: f64,
    /// Their standard deviation, population form (ddof 0).
    pub sd: f64,
    /// The distinct ones of the quantiles 0.01 to 0.99, and what lies below common values, rising.
    pub fine_edges: Edges,
    /// The distinct ones of the quantiles 0.1 to 0.9, and what lies right below common values: some of the fine edges,
    /// rising.
    pub bin_edges: Vec<f64>,
    /// Values between minimum and maximum by fine cell: one more than there are fine edges. That of cell `i + 1` is at
    /// `i`, since the outermost cells hold none.
    pub counts: Vec<u64>,
    /// Whether the user gave the edges.
    pub has_given_edges: bool,
    /// Where values may lie, if declared.
    pub range: Option<(f64, f64)>,
}

impl NumericProfile {
    /// The fine cell of a value: 0 below the minimum, the last one above the maximum, else one more than the number of
    /// fine edges strictly below it.
    #[inline]
    pub fn cell(&self, x: f64) -> u16 {
        if x < self.min {
            0
        } else if x > self.max {
            self.cells() - 1
        } else {
            1 + narrow(self.fine_edges.below(x))
        }
    }

    /// How many fine cells there are, with the two outermost.
    pub fn cells(&self) -> u16 {
        narrow(self.fine_edges.len()) + 3
    }

    /// The quantile of the values, k = max(1, ceil(percent / 100 * n)): the upper edge of the fine cell that holds the
    /// k-th smallest, which is the value itself where the edges are the values' own quantiles.
    pub fn quantile(&self, percent: u64) -> f64 {
        let rank = (u128::from(percent) * u128::from(self.total())).div_ceil(100).max(1);
        let mut below = 0_u128;
        let cell = self.counts.iter().position(|&count| {
            below += u128::from(count);
            below >= rank
        });
        let edge = cell.and_then(|cell| self.fine_edges.get(cell)).copied();
        edge.unwrap_or(self.max).clamp(self.min, self.max)
    }

    /// How many bins there are.
    pub fn bins(&self) -> usize {
        self.bin_edges.len() + 1
    }

    /// The bin of each fine cell. The outermost cells belong to the outer bins.
    pub fn bins_of_cells(&self) -> impl Iterator<Item = usize> + '_ {
        let mut bin = 0;
        (0..usize::from(self.cells())).map(move |cell| {
            if let Some(edge) = cell.checked_sub(1) {
                let upper = self.fine_edges.get(edge);
                let is_below = |edge: &&f64| upper.is_none_or(|upper| *edge < upper);
                bin += self.bin_edges[bin..].iter().take_while(is_below).count();
            }
            bin
        })
    }

    /// Counts by fine cell of values with counts, or of cells of the score lattice with theirs.
    pub fn gather(&self, values: impl IntoIterator<Item = (f64, u64)>) -> Vec<(u64, u64)> {
        let mut counts = vec![0; usize::from(self.cells())];
        for (value, count) in values {
            counts[usize::from(self.cell(value))] += count;
        }
        (0..).zip(counts).filter(|&(_, count)| count > 0).collect()
    }

    /// The bounds of the cells between minimum and maximum, in units of the values: one more than there are cells. On
    /// the score scale they are scores.
    pub fn bounds(&self) -> Vec<f64> {
        let upper = |edge: f64| match self.scale {
            Scale::Linear => edge,
            Scale::Score => score_edge(lattice_cell(edge) + 1),
        };
        let least = match self.scale {
            Scale::Linear => self.min,
            Scale::Score => score_edge(lattice_cell(self.min)),
        };
        // Given edges may lie beyond the values, and so does one right below a common least value.
        let inner = self
            .fine_edges
            .iter()
            .map(|edge| if *edge < self.min { least } else { upper(edge.min(self.max)) });
        let mut bounds = vec![least];
        bounds.extend(inner.chain([upper(self.max)]));
        bounds
    }

    /// How many values there are: M.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether comparisons can rely on it.
    pub fn check(&self) -> Result<(), Flaw> {
        let figures = [self.min, self.max, self.mean, self.sd];
        let range = self.range.unwrap_or_default();
        let limits = [range.0, range.1];
        let edges = self.fine_edges.iter().chain(&self.bin_edges);
        if !figures.iter().chain(&limits).chain(edges).all(|x| x.is_finite()) {
            return Err(Flaw::NotFinite);
        }
        // Edges and range may lie anywhere: they are only compared with.
        if self.min.abs().max(self.max.abs()) > NUMBER_MAX {
            return Err(Flaw::TooGreat);
        }
        if self.min > self.max || self.sd < 0.0 || range.0 > range.1 {
            return Err(Flaw::NoSpread);
        }
        for (name, edges) in [("fine_edges", &*self.fine_edges), ("bin_edges", &self.bin_edges)] {
            if !edges.is_sorted_by(|a, b| a < b) {
                return Err(Flaw::NotRising(name));
            }
        }
        if self.fine_edges.len() > MOST_EDGES {
            return Err(Flaw::TooManyEdges(self.fine_edges.len()));
        }
        if !self.bin_edges.iter().all(|edge| self.fine_edges.contains(edge)) {
            return Err(Flaw::NotAFineEdge);
        }
        let (found, expected) = (self.counts.len(), self.fine_edges.len() + 1);
        if found != expected {
            return Err(Flaw::CountsAndEdges { expected, found });
        }
        let lattice = 0.0..f64::from(SCORE_CELLS);
        let mut indices = [self.min, self.max].into_iter().chain(self.fine_edges.iter().copied());
        let is_index = |x: f64| x.fract() == 0.0 && lattice.contains(&x);
        if self.scale == Scale::Score && !indices.all(is_index) {
            return Err(Flaw::NotOnTheLattice);
        }
        total(self.counts.iter().copied())
    }
}

/// More fine edges than any profile needs; cells are numbered by u16.
pub const MOST_EDGES: usize = 8_000;
/// More categories than any profile needs; they are numbered by 15 bits.
pub const MOST_CATEGORIES: usize = 1 << 15;
/// More values than any profile has, so that sums of counts stay exact.
const MOST_VALUES: u64 = 1 << 53;

/// Checks that there are values, and no more than can be counted.
fn total(mut counts: impl Iterator<Item = u64>) -> Result<(), Flaw> {
    let total = counts.try_fold(0_u64, u64::checked_add).filter(|total| *total <= MOST_VALUES);
    match total {
        None => Err(Flaw::TooManyValues),
        Some(0) => Err(Flaw::Empty),
        Some(_) => Ok(()),
    }
}

/// Names with their counts.
#[derive(Clone, Debug, PartialEq)]
pub struct CategoricalProfile {
    /// By falling count, ties by bytes of the name; each once, and each with a count.
    pub categories: Vec<(Arc<str>, u64)>,
    /// Values whose name is not among them.
    pub other: u64,
}

impl CategoricalProfile {
    /// How many values there are: M.
    pub fn total(&self) -> u64 {
        self.categories.iter().map(|(_, count)| count).sum::<u64>() + self.other
    }

    /// Where a name stands.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.categories.iter().position(|(known, _)| **known == *name)
    }

    /// Whether comparisons can rely on it.
    pub fn check(&self) -> Result<(), Flaw> {
        if self.categories.len() > MOST_CATEGORIES {
            return Err(Flaw::TooManyCategories(self.categories.len()));
        }
        let falls = |(a, n): &(Arc<str>, u64), (b, m): &(Arc<str>, u64)| (m, a) < (n, b);
        if !self.categories.is_sorted_by(falls) {
            return Err(Flaw::NotFalling);
        }
        let mut names: Vec<&str> = self.categories.iter().map(|(name, _)| &**name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(Flaw::Twice(twice[0].to_owned()));
        }
        if self.categories.iter().any(|(_, count)| *count == 0) {
            return Err(Flaw::CategoryWithoutValues);
        }
        total(self.categories.iter().map(|(_, count)| *count).chain([self.other]))
    }
}

/// What makes a probability of a score, and how it was chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Calibrator {
    /// The map.
    pub map: CalibrationMap,
    /// Labelled scores that it was fitted on.
    pub n: u64,
    /// Positive labels among them.
    pub positives: u64,
    /// Expected calibration error of the scores themselves.
    pub ece_identity: f64,
    /// That of isotonic maps, each fitted on nine tenths, over the tenth left out, all ten pooled.
    pub ece_isotonic: f64,
}

/// A rising map of 0..=1 into itself.
#[derive(Clone, Debug, PartialEq)]
pub enum CalibrationMap {
    /// The scores are probabilities already.
    Identity,
    /// Linear between the knots, and level beyond the outermost (scikit-learn `IsotonicRegression` with
    /// `out_of_bounds="clip"`).
    Isotonic {
        /// Scores, rising, at least one.
        knots: Edges,
        /// The probability at each, not falling.
        rates: Vec<f64>,
    },
}

impl CalibrationMap {
    /// The probability that a score stands for.
    pub fn apply(&self, score: f64) -> f64 {
        let Self::Isotonic { knots, rates } = self else { return score };
        let after = knots.below(score);
        match (after.checked_sub(1), knots.get(after)) {
            (Some(before), Some(&right)) => {
                let share = (score - knots[before]) / (right - knots[before]);
                rates[before] + share * (rates[after] - rates[before])
            }
            (None, _) => rates[0],
            (Some(last), None) => rates[last],
        }
    }

    /// Whether it is such a map.
    pub fn check(&self) -> Result<(), Flaw> {
        let Self::Isotonic { knots, rates } = self else { return Ok(()) };
        let shares = 0.0..=1.0;
        if knots.is_empty() || knots.len() != rates.len() {
            return Err(Flaw::CountsAndEdges { expected: knots.len().max(1), found: rates.len() });
        }
        if !knots.iter().chain(rates).all(|x| shares.contains(x)) {
            return Err(Flaw::NotAProbability);
        }
        if !knots.is_sorted_by(|a, b| a < b) {
            return Err(Flaw::NotRising("knots"));
        }
        if !rates.is_sorted() {
            return Err(Flaw::NotRising("rates"));
        }
        Ok(())
    }
}

/// What makes a profile unusable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It has no values.
    Empty,
    /// A number is NaN or infinite.
    NotFinite,
    /// The minimum or the maximum is beyond what a value may be, so that their distance may not be finite.
    TooGreat,
    /// The minimum exceeds the maximum, or the standard deviation is negative.
    NoSpread,
    /// The numbers of this list do not rise.
    NotRising(&'static str),
    /// A bin edge is not among the fine edges.
    NotAFineEdge,
    /// The two lists do not fit.
    CountsAndEdges {
        /// How many there must be.
        expected: usize,
        /// How many there are.
        found: usize,
    },
    /// More than [`MOST_EDGES`].
    TooManyEdges(usize),
    /// More than [`MOST_CATEGORIES`].
    TooManyCategories(usize),
    /// An edge of a score profile is not the index of a cell.
    NotOnTheLattice,
    /// Counts too great to be added.
    TooManyValues,
    /// The categories are not in the order of their counts.
    NotFalling,
    /// A category without values.
    CategoryWithoutValues,
    /// A category stands twice.
    Twice(String),
    /// A number outside 0..=1.
    NotAProbability,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => write!(f, "it has no values"),
            Self::NotFinite => write!(f, "a number in it is NaN or infinite"),
            Self::TooGreat => write!(f, "its minimum or maximum is beyond 1e150"),
            Self::NoSpread => {
                write!(f, "a minimum exceeds its maximum, or the standard deviation is negative")
            }
            Self::NotRising(list) => write!(f, "the numbers of `{list}` do not rise"),
            Self::NotAFineEdge => write!(f, "a number of `bin_edges` is not among `fine_edges`"),
            Self::CountsAndEdges { expected, found } => {
                write!(f, "it needs {expected} counts or rates, and has {found}")
            }
            Self::TooManyEdges(found) => {
                write!(f, "it has {found} fine edges; at most {MOST_EDGES} are allowed")
            }
            Self::TooManyCategories(found) => {
                write!(f, "it has {found} categories; at most {MOST_CATEGORIES} are allowed")
            }
            Self::NotOnTheLattice => {
                write!(f, "on scale `score` edges are whole numbers from 0 to {}", SCORE_CELLS - 1)
            }
            Self::TooManyValues => write!(f, "its counts add up to more than 2^53"),
            Self::NotFalling => {
                write!(f, "categories must stand by falling count, ties by the bytes of the name")
            }
            Self::CategoryWithoutValues => write!(f, "a category has the count 0"),
            Self::Twice(name) => write!(f, "category `{name}` stands twice"),
            Self::NotAProbability => write!(f, "a knot or rate lies outside 0 to 1"),
        }
    }
}

impl std::error::Error for Flaw {}

fn narrow(index: usize) -> u16 {
    u16::try_from(index).expect("a checked profile has at most 10,000 fine edges")
}

#[expect(clippy::as_conversions, reason = "a checked profile has whole numbers below 9731 here")]
fn lattice_cell(edge: f64) -> u16 {
    edge as u16
}
