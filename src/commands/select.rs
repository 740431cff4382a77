//! Which metric rows: the options that `query` and `report` have in common.

use super::{Failure, terminal};
use crate::calendar;
use crate::config::values::duration;
use crate::sink::rows::RowFilter;

/// Which metric rows.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct SelectArgs {
    /// Only models of this name; `*` stands for any text
    #[arg(long, value_name = "GLOB")]
    pub(super) model: Option<String>,
    /// Only this version
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
    /// Windows from then on: 90m, 12h, 7d before now, or a day in UTC (2026-11-27), or 2026-11-27T08:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Windows up to then, written in the same way; a day is its first moment in UTC
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Owner of the rows; by default the configured job
    #[arg(long, value_name = "NAME")]
    pub(super) job: Option<String>,
}

impl SelectArgs {
    /// As a filter of rows of `segment`, `grain` and at most `limit`.
    pub(super) fn filter(
        &self,
        segment: &str,
        grain: Option<String>,
        limit: u32,
    ) -> Result<RowFilter, Failure> {
        let time = |text: &Option<String>| text.as_deref().map(time).transpose();
        let (since_ms, until_ms) = (time(&self.since)?, time(&self.until)?);
        if let (Some(since), Some(until)) = (since_ms, until_ms)
            && since >= until
        {
            let [since, until] = [since, until].map(calendar::instant);
            let said = format!("--since is {since}, not before --until, {until}");
            return Err(Failure::new("usage", said));
        }
        Ok(RowFilter {
            model: self.model.clone().unwrap_or_default(),
            version: self.version.clone(),
            segment: segment.to_owned(),
            grain,
            since_ms,
            until_ms,
            limit,
            ..RowFilter::default()
        })
    }
}

fn time(text: &str) -> Result<i64, Failure> {
    let before_now = duration(text).map(|ago| terminal::now_ms().saturating_sub(ago.0));
    before_now.or_else(|| calendar::time_or_day(text)).ok_or_else(|| {
        let message = format!(
            "`{text}` is no time: write how long ago (90m, 12h, 7d), a day in UTC (2026-11-27) or 2026-11-27T08:00:00Z"
        );
        Failure::new("usage", message)
    })
}
