//! What a page shows, as its address says it: a view is shared by its address.

use form_urlencoded::{Serializer, parse};

use crate::calendar;
use crate::engine::state::ALL;
use crate::report::{FEATURE, is_kind};
use crate::sink::rows::RowFilter;

/// Time ranges by name, in milliseconds; the whole time has no length.
pub(super) const RANGES: [(&str, Option<i64>); 8] = [
    ("15m", Some(900_000)),
    ("1h", Some(3_600_000)),
    ("6h", Some(21_600_000)),
    ("24h", Some(86_400_000)),
    ("7d", Some(7 * 86_400_000)),
    ("30d", Some(30 * 86_400_000)),
    ("90d", Some(90 * 86_400_000)),
    ("all", None),
];
const DEFAULT_RANGE: &str = "24h";
/// Longer names than records may have; an address is no place for more.
const LONGEST: usize = 2048;

/// What a page shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct View {
    /// One of [`RANGES`].
    pub(super) range: String,
    /// The end of the range as it was written; empty for now.
    pub(super) until: String,
    /// The same in milliseconds since 1970-01-01 UTC.
    pub(super) until_ms: Option<i64>,
    /// A grain's name; empty for the one that fits the range.
    pub(super) grain: String,
    /// `all`, or `dimension=value`.
    pub(super) segment: String,
    /// On the overview a glob, else a model's name.
    pub(super) model: String,
    /// A version; on the overview none stands for all.
    pub(super) version: Option<String>,
    /// A feature's name, or `score`.
    pub(super) feature: String,
    /// Whether that is a feature's name although a kind is called so.
    pub(super) is_feature: bool,
    /// Whether the page loads itself anew.
    pub(super) live: bool,
}

impl Default for View {
    fn default() -> Self {
        Self {
            range: DEFAULT_RANGE.to_owned(),
            until: String::new(),
            until_ms: None,
            grain: String::new(),
            segment: ALL.to_owned(),
            model: String::new(),
            version: None,
            feature: String::new(),
            is_feature: false,
            live: false,
        }
    }
}

impl View {
    /// Reads the part behind the question mark, or says what is wrong with it. Unknown names are left out.
    pub(super) fn parse(query: &str) -> Result<Self, String> {
        let mut view = Self::default();
        for (name, value) in parse(query.as_bytes()) {
            if value.len() > LONGEST {
                return Err(format!("{name} is longer than {LONGEST} bytes"));
            }
            match &*name {
                "range" => view.range = value.into_owned(),
                "until" => value.trim().clone_into(&mut view.until),
                "grain" => view.grain = value.into_owned(),
                "segment" if !value.is_empty() => view.segment = value.into_owned(),
                "model" => view.model = value.into_owned(),
                "version" => view.version = Some(value.into_owned()),
                "feature" => view.feature = value.into_owned(),
                "kind" => view.is_feature = value == FEATURE,
                "live" => view.live = value == "1",
                _ => {}
            }
        }
        if RANGES.iter().all(|(name, _)| *name != view.range) {
            let known = RANGES.map(|(name, _)| name).join(", ");
            return Err(format!("range is `{}`; it must be one of {known}", view.range));
        }
        if !view.until.is_empty() {
            view.until_ms = calendar::time_or_day(&view.until);
            if view.until_ms.is_none() {
                let until = &view.until;
                return Err(format!(
                    "until is `{until}`; write a day (2026-11-27) or a time (2026-11-27T08:00:00Z)"
                ));
            }
        }
        Ok(view)
    }

    /// The address of a page that shows it; what is as by default is left out.
    pub(super) fn address(&self, path: &str) -> String {
        let default = Self::default();
        let mut query = Serializer::new(String::new());
        for (name, value, usual) in [
            ("model", &self.model, &default.model),
            ("feature", &self.feature, &default.feature),
            ("segment", &self.segment, &default.segment),
            ("grain", &self.grain, &default.grain),
            ("range", &self.range, &default.range),
            ("until", &self.until, &default.until),
        ] {
            if value != usual {
                query.append_pair(name, value);
            }
        }
        if let Some(version) = &self.version {
            query.append_pair("version", version);
        }
        if self.is_feature {
            query.append_pair("kind", FEATURE);
        }
        if self.live {
            query.append_pair("live", "1");
        }
        let query = query.finish();
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// The same of one model and version.
    pub(super) fn of_model(&self, model: &str, version: &str) -> Self {
        Self { model: model.to_owned(), version: Some(version.to_owned()), ..self.of_no_feature() }
    }

    /// The same of all features.
    pub(super) fn of_no_feature(&self) -> Self {
        Self { feature: String::new(), is_feature: false, ..self.clone() }
    }

    /// The same of all models.
    pub(super) fn of_all(&self) -> Self {
        Self { model: String::new(), version: None, ..self.of_no_feature() }
    }

    /// The same of one feature, or of what has no name but its kind.
    pub(super) fn of_feature(&self, kind: &str, feature: &str) -> Self {
        let is_feature = kind == FEATURE && is_kind(feature);
        Self { feature: feature.to_owned(), is_feature, ..self.clone() }
    }

    /// `feature`, or what else is compared, as `score`.
    pub(super) fn kind(&self) -> &str {
        if !self.is_feature && is_kind(&self.feature) { &self.feature } else { FEATURE }
    }

    /// The begin of the range; the whole time has none.
    pub(super) fn since_ms(&self, now_ms: i64) -> Option<i64> {
        let length = RANGES.iter().find(|(name, _)| *name == self.range).and_then(|found| found.1);
        let end = self.until_ms.unwrap_or(now_ms);
        length.map(|length| end.saturating_sub(length))
    }

    /// Rows within the range, of all models and grains.
    pub(super) fn rows(&self, now_ms: i64, limit: u32) -> RowFilter {
        RowFilter {
            since_ms: self.since_ms(now_ms),
            until_ms: self.until_ms,
            exact: vec![("segment", self.segment.clone())],
            limit,
            ..RowFilter::default()
        }
    }

    /// The same of the models that the overview shows.
    pub(super) fn models(&self, now_ms: i64, limit: u32) -> RowFilter {
        let version = self.version.clone().filter(|version| !version.is_empty());
        RowFilter { model: self.model.clone(), version, ..self.rows(now_ms, limit) }
    }

    /// The same of one model and version.
    pub(super) fn one_model(&self, now_ms: i64, limit: u32) -> RowFilter {
        let mut filter = self.rows(now_ms, limit);
        filter.version = Some(self.version.clone().unwrap_or_default());
        filter.exact.push(("model", self.model.clone()));
        filter
    }
}
