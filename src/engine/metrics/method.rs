//! The ways of comparing two samples, and what each is judged by.

use super::reference::FeatureKind;

/// A distance, a test or a rate: column `method`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Method {
    /// Population stability index.
    Psi,
    /// Jensen-Shannon distance.
    Js,
    /// Hellinger distance.
    Hellinger,
    /// Greatest difference of shares.
    Linf,
    /// Total variation.
    Tv,
    /// Pearson's chi-square of the two samples.
    Chi2,
    /// Likelihood ratio of the two samples.
    G,
    /// Kolmogorov-Smirnov.
    Ks,
    /// Wasserstein distance in standard deviations of the reference.
    Wasserstein,
    /// Share of records without a value.
    MissingRate,
    /// Share of values in no category of the reference.
    NewCategoryRate,
    /// Share of values below the minimum or above the maximum of the reference.
    OutOfRangeRate,
}

impl Method {
    /// All of them, in the order of the rows.
    pub const ALL: [Self; 12] = [
        Self::Psi,
        Self::Js,
        Self::Hellinger,
        Self::Linf,
        Self::Tv,
        Self::Chi2,
        Self::G,
        Self::Ks,
        Self::Wasserstein,
        Self::MissingRate,
        Self::NewCategoryRate,
        Self::OutOfRangeRate,
    ];

    /// As column `method` has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Psi => "psi",
            Self::Js => "js",
            Self::Hellinger => "hellinger",
            Self::Linf => "linf",
            Self::Tv => "tv",
            Self::Chi2 => "chi2",
            Self::G => "g",
            Self::Ks => "ks",
            Self::Wasserstein => "wasserstein",
            Self::MissingRate => "missing_rate",
            Self::NewCategoryRate => "new_category_rate",
            Self::OutOfRangeRate => "out_of_range_rate",
        }
    }

    /// The method of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.name() == name)
    }

    /// Whether it is a share of the records, judged by its interval and not by a test.
    pub fn is_rate(self) -> bool {
        matches!(self, Self::MissingRate | Self::NewCategoryRate | Self::OutOfRangeRate)
    }

    /// Whether it is computed for features of this kind.
    pub fn applies_to(self, kind: FeatureKind) -> bool {
        let is_numeric = kind == FeatureKind::Numeric;
        match self {
            Self::Ks | Self::Wasserstein | Self::OutOfRangeRate => is_numeric,
            Self::NewCategoryRate => !is_numeric,
            Self::Psi
            | Self::Js
            | Self::Hellinger
            | Self::Linf
            | Self::Tv
            | Self::Chi2
            | Self::G
            | Self::MissingRate => true,
        }
    }

    /// Whether it is computed for every kind, so that it can be the primary one.
    pub fn is_for_all_kinds(self) -> bool {
        let kinds = [FeatureKind::Numeric, FeatureKind::Categorical, FeatureKind::Boolean];
        !self.is_rate() && kinds.into_iter().all(|kind| self.applies_to(kind))
    }

    /// What it is judged by where nothing else is configured.
    pub const fn limits(self) -> Limits {
        let (warn_at, drift_at) = match self {
            Self::Psi | Self::Chi2 | Self::G | Self::Wasserstein => (Some(0.1), 0.25),
            Self::Js | Self::Hellinger | Self::Linf | Self::Tv | Self::Ks => (Some(0.1), 0.2),
            Self::MissingRate | Self::NewCategoryRate | Self::OutOfRangeRate => (None, 0.01),
        };
        Limits { warn_at, drift_at, alpha: 0.05 }
    }
}

/// What a method's effect and p-value are held against.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Limits {
    /// The least effect that is worth a warning; none: it never warns.
    pub warn_at: Option<f64>,
    /// The least effect that is drift.
    pub drift_at: f64,
    /// The share of false alarms among the alarms that is accepted; rates do not use it.
    pub alpha: f64,
}

/// The options of all methods.
#[derive(Clone, Debug, PartialEq)]
pub struct Options {
    limits: [Limits; Method::ALL.len()],
    /// The one method that alerts and overviews read.
    pub primary: Method,
    /// How many values window and reference must each have for a verdict, and ten for each bin.
    pub min_n: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { limits: Method::ALL.map(Method::limits), primary: Method::Psi, min_n: 100 }
    }
}

impl Options {
    /// Each method's own limits, with this primary method and so many values for a verdict.
    pub fn new(primary: Method, min_n: u64) -> Self {
        Self { primary, min_n, ..Self::default() }
    }

    /// What a method is judged by.
    pub fn limits(&self, method: Method) -> Limits {
        self.limits[place(method)]
    }

    /// Judges a method by something else.
    pub fn set_limits(&mut self, method: Method, limits: Limits) {
        self.limits[place(method)] = limits;
    }
}

fn place(method: Method) -> usize {
    Method::ALL.iter().position(|known| *known == method).expect("all are listed")
}
