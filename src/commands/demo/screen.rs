//! The live table in the terminal.

use serde::Deserialize;

use super::database::Database;
use crate::commands::{Failure, terminal};

/// How one model stands.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct ModelLine {
    model: String,
    inferences: u64,
    error_rate: Option<f64>,
    coverage: Option<f64>,
    accuracy: Option<f64>,
    auroc: Option<f64>,
    auroc_lower: Option<f64>,
    auroc_upper: Option<f64>,
    sealed: u64,
    drifting: Option<u64>,
    compared: Option<u64>,
}

/// Counts of all windows; quality of the newest window with enough labels to say something, and how many features,
/// scores, predictions and labels drift in the newest one that has enough records for a verdict.
const LINES: &str = "\
SELECT model, s.inferences AS inferences, s.error_rate AS error_rate, s.sealed AS sealed, l.coverage AS coverage,
    d.drifting AS drifting, d.compared AS compared,
    q.accuracy AS accuracy, q.auroc AS auroc, q.auroc_lower AS auroc_lower, q.auroc_upper AS auroc_upper
FROM
    (SELECT model, sum(v.inferences) AS inferences, sum(v.errors) / sum(v.inferences) AS error_rate,
        uniqExactIf(v.window_start, v.sealed) AS sealed
    FROM tidegauge_bi.serving AS v WHERE grain = '10s' AND segment = 'all' GROUP BY model) AS s
    LEFT JOIN
    (SELECT model, sum(labelled) / sum(inferences) AS coverage
    FROM tidegauge_bi.labels WHERE grain = '10s' AND segment = 'all' GROUP BY model) AS l USING (model)
    LEFT JOIN
    (SELECT model, argMax(tuple(v.accuracy), v.window_start).1 AS accuracy,
        argMax(tuple(v.auroc), v.window_start).1 AS auroc,
        argMax(tuple(v.auroc_lower), v.window_start).1 AS auroc_lower,
        argMax(tuple(v.auroc_upper), v.window_start).1 AS auroc_upper
    FROM tidegauge_bi.quality_binary AS v WHERE grain = '10s' AND segment = 'all' AND version = 'v1' AND n >= 100
    GROUP BY model) AS q USING (model)
    LEFT JOIN
    (SELECT model, argMax(v.drifting, v.window_start) AS drifting, argMax(v.compared, v.window_start) AS compared
    FROM (SELECT model, window_start, countIf(verdict = 'drift') AS drifting, count() AS compared
        FROM tidegauge_bi.drift
        WHERE grain = '10s' AND segment = 'all' AND is_primary AND verdict != 'insufficient_data'
        GROUP BY model, version, window_start) AS v GROUP BY model) AS d USING (model)
ORDER BY model";

const HEADER: &str = "model    inferences   errors  coverage  accuracy  auroc (95 % interval)       drift  sealed windows";

/// What is on the screen.
#[derive(Debug, Default)]
pub(super) struct Screen {
    lines: usize,
    shown: u32,
}

/// Without a terminal one in so many tables is printed.
const PLAIN_EVERY: u32 = 5;

impl Screen {
    /// Shows how the models stand now. Whether there was anything to show.
    pub(super) async fn show(&mut self, database: &Database) -> Result<bool, Failure> {
        let lines: Vec<ModelLine> = database.rows(LINES).await?;
        if lines.is_empty() {
            return Ok(false);
        }
        let table: Vec<String> = lines.iter().map(ModelLine::text).collect();
        let table = format!("{HEADER}\n{}\n", table.join("\n"));
        if terminal::is_terminal() {
            // Back to the first line of the last table, and down from there all is cleared.
            let back =
                if self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
            self.lines = table.lines().count();
            terminal::print(&(back + &table));
        } else if self.shown.is_multiple_of(PLAIN_EVERY) {
            terminal::print(&table);
        }
        self.shown += 1;
        Ok(true)
    }
}

impl ModelLine {
    fn text(&self) -> String {
        let figure = |value: Option<f64>| value.map_or("-".to_owned(), |v| format!("{v:.3}"));
        let interval = match (self.auroc_lower, self.auroc_upper) {
            (Some(lower), Some(upper)) => format!(" ({lower:.3} to {upper:.3})"),
            _ => String::new(),
        };
        let drift = match (self.drifting, self.compared) {
            (Some(drifting), Some(compared)) => format!("{drifting} of {compared}"),
            _ => "-".to_owned(),
        };
        format!(
            "{:<8} {:>10} {:>8} {:>9} {:>9}  {:<22} {:>10} {:>15}",
            self.model,
            self.inferences,
            figure(self.error_rate),
            figure(self.coverage),
            figure(self.accuracy),
            figure(self.auroc) + &interval,
            drift,
            self.sealed,
        )
    }
}
