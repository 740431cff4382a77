//! How the values of each feature are distributed, beside those of the reference.

use std::collections::BTreeMap;

use serde::Serialize;

use super::rows::{ModelRows, References, Row};
use super::text::about;
use super::{Block, Section};
use crate::engine::metrics::reference::FeatureProfile;
use crate::engine::names::OTHER;
use crate::engine::state::ALL;

/// More features than this are not drawn on one page.
const MOST_DRAWN: usize = 24;
/// The quantiles that rows have.
const QUANTILES: [(&str, u64); 5] =
    [("p01", 1), ("p25", 25), ("p50", 50), ("p75", 75), ("p99", 99)];

/// Quantiles of one feature's numbers in a window and in the reference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The feature.
    pub feature: String,
    /// The window's.
    pub now: Quantiles,
    /// The reference's, where it is known.
    pub reference: Option<Quantiles>,
}

/// Where numbers lie.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Quantiles {
    /// The 1, 25, 50, 75 and 99 % quantiles.
    pub values: [f64; 5],
    /// How many numbers.
    pub n: u64,
}

impl Quantiles {
    fn of_row(row: &Row) -> Option<Self> {
        let values = QUANTILES.map(|(column, _)| row.figure(column));
        let all = values.iter().all(Option::is_some);
        all.then(|| Self { values: values.map(Option::unwrap_or_default), n: row.count("values") })
    }

    fn of_profile(profile: &FeatureProfile) -> Option<Self> {
        let numeric = profile.numeric()?;
        let values = QUANTILES.map(|(_, percent)| numeric.quantile(percent));
        Some(Self { values, n: numeric.total() })
    }
}

/// How often each category of one feature came.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shares {
    /// The feature.
    pub feature: String,
    /// How many values.
    pub n: u64,
    /// By falling share; what stands for all others comes last.
    pub categories: Vec<CategoryShare>,
}

/// One category's share of the values.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct CategoryShare {
    /// The category.
    pub category: String,
    /// In the window.
    pub now: f64,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
    /// In the reference, where it is known.
    pub reference: Option<f64>,
}

/// Of rows of `categories` those of the feature and window of this row of `data_quality`; none where the feature had no
/// value then.
pub(super) fn shares<'a>(rows: impl Iterator<Item = &'a Row>, of: &Row) -> Option<Shares> {
    let feature = of.text("feature");
    let is_meant = |row: &&Row| row.text("feature") == feature && row.start_ms == of.start_ms;
    let now: Vec<&Row> = rows.filter(is_meant).collect();
    let categories = now.iter().filter_map(|row| {
        Some(CategoryShare {
            category: row.text("category").to_owned(),
            now: row.figure("share")?,
            interval: row
                .figure("share_lower")
                .zip(row.figure("share_upper"))
                .map(<[f64; 2]>::from),
            reference: row.figure("reference_share"),
        })
    });
    let mut categories: Vec<CategoryShare> = categories.collect();
    let is_rest = |one: &CategoryShare| one.category == OTHER;
    categories.sort_by(|a, b| {
        let shares = b.now.total_cmp(&a.now).then_with(|| a.category.cmp(&b.category));
        is_rest(a).cmp(&is_rest(b)).then(shares)
    });
    Some(Shares { feature: feature.to_owned(), n: now.first()?.count("values"), categories })
}

/// One row of `data_quality`, beside what that row of `drift` was compared with.
pub(super) fn spread(row: &Row, drift: Option<&Row>, references: &References) -> Option<Spread> {
    let feature = row.text("feature");
    let profile = drift.and_then(|row| references.feature(row.text("reference_id"), feature));
    Some(Spread {
        feature: feature.to_owned(),
        now: Quantiles::of_row(row)?,
        reference: profile.and_then(Quantiles::of_profile),
    })
}

/// The rows of all inferences, by feature.
fn by_feature(rows: Vec<&Row>) -> BTreeMap<&str, Vec<&Row>> {
    let mut features: BTreeMap<&str, Vec<&Row>> = BTreeMap::new();
    for row in rows.into_iter().filter(|row| row.segment == ALL) {
        features.entry(row.text("feature")).or_default().push(row);
    }
    features
}

/// The features of a model.
pub(super) fn distributions(rows: &ModelRows<'_>) -> Option<Section> {
    let quality: Vec<&Row> =
        rows.now("data_quality").into_iter().filter(|row| row.segment == ALL).collect();
    let drift = by_feature(rows.now("drift"));
    let counted = by_feature(
        quality.first().map_or_else(Vec::new, |row| rows.beside("categories", row).collect()),
    );
    let drawn = quality.iter().filter_map(|row| {
        let feature = row.text("feature");
        let compared = drift.get(feature).map(|of_feature| of_feature[0]);
        spread(row, compared, rows.references())
            .map(Block::Spread)
            .or_else(|| shares(counted.get(feature)?.iter().copied(), row).map(Block::Shares))
    });
    let drawn: Vec<Block> = drawn.collect();
    let more = match drawn.len().checked_sub(MOST_DRAWN) {
        Some(more @ 1..) => {
            format!(" The first {MOST_DRAWN}; {more} more have their figures under data quality.")
        }
        None | Some(_) => String::new(),
    };
    let said = format!("{}. {EXPLAINED}{more}", about(quality.first()?));
    let drawn = drawn.into_iter().take(MOST_DRAWN);
    let blocks: Vec<Block> = [Block::Text(said)].into_iter().chain(drawn).collect();
    (blocks.len() > 1).then_some(Section { title: "Distributions", blocks })
}

/// What is drawn.
pub(super) const EXPLAINED: &str = "The middle half of a numeric feature's values is a box with the median in it; \
                                    the line goes from the 1 % to the 99 % quantile. Categories are bars: the \
                                    share now, and below it that in the reference.";
