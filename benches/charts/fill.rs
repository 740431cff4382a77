//! Metric rows by `INSERT … SELECT`: as many as there would be, with figures that only look like some.

use tidegauge::engine::metrics::MetricTable;
use tidegauge::sink::tables::{Table, TableColumn};

/// 2026-04-05 00:00 UTC, where all windows end.
pub const END_MS: i64 = 1_775_347_200_000;
const DAY_MS: i64 = 86_400_000;
/// Names and lengths of the windows.
pub const GRAINS: [(&str, i64); 3] = [("5m", 300_000), ("1h", 3_600_000), ("1d", DAY_MS)];
const SEGMENTS: usize = 4;
/// Models of one statement.
const AT_ONCE: usize = 10;
/// Days whose rows have been written twice, as labels do.
const CORRECTED_DAYS: i64 = 2;

/// How many rows.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Of all kinds, in fives: three binary ones, one of several classes, one of numbers.
    pub models: usize,
    /// Up to [`END_MS`].
    pub days: i64,
    /// Days of the finest windows in tables with several rows for each: bins, classes, features.
    pub fine_days: i64,
}

/// The statements that fill all metric tables of a database.
pub fn statements(database: &str, job: &str, size: Size) -> Vec<String> {
    let mut all = Vec::new();
    for table in MetricTable::ALL {
        for (grain, length) in GRAINS {
            let is_fine = grain == GRAINS[0].0 && table.keys() > 0;
            let days = if is_fine { size.fine_days.min(size.days) } else { size.days };
            for (days, version) in [(days, 1), (days.min(CORRECTED_DAYS), 2)] {
                let windows = days * DAY_MS / length;
                let rows = Rows { table, grain, length, windows, version };
                all.extend(rows.inserts(database, job, size.models));
            }
        }
    }
    all
}

struct Rows {
    table: MetricTable,
    grain: &'static str,
    length: i64,
    windows: i64,
    version: u32,
}

impl Rows {
    fn inserts(&self, database: &str, job: &str, models: usize) -> Vec<String> {
        let spec = Table::Metric(self.table).spec();
        let (of_five, model) = match self.table {
            MetricTable::QualityBinary
            | MetricTable::QualityThreshold
            | MetricTable::Calibration
            | MetricTable::CalibrationBins
            | MetricTable::QualityEstimated => (3, "intDiv(m, 3) * 5 + m % 3"),
            MetricTable::QualityMulticlass
            | MetricTable::QualityClasses
            | MetricTable::Confusion => (1, "m * 5 + 3"),
            MetricTable::QualityRegression => (1, "m * 5 + 4"),
            MetricTable::Serving
            | MetricTable::Labels
            | MetricTable::DataQuality
            | MetricTable::Categories
            | MetricTable::Drift
            | MetricTable::Custom => (5, "m"),
        };
        let variants = self.variants();
        let models = models / 5 * of_five;
        let each = i64::try_from(SEGMENTS * variants).expect("few") * self.windows;
        let columns: Vec<_> = spec.columns.iter().map(|column| column.name.as_str()).collect();
        let values: Vec<_> =
            (0..).zip(&spec.columns).map(|(at, column)| self.value(at, column, job)).collect();
        // In the order of the tables' keys; a few models at once, so that no answer takes long.
        let insert = |first: usize| {
            let count = i64::try_from(AT_ONCE.min(models - first)).expect("few") * each;
            let from = i64::try_from(first).expect("few") * each;
            format!(
                "INSERT INTO {database}.{} (`{}`) SELECT {} FROM (SELECT cityHash64(number) AS h, number % {variants} AS v, \
                 intDiv(number, {variants}) % {windows} AS w, intDiv(number, {variants} * {windows}) % {SEGMENTS} AS s, \
                 intDiv(number, {each}) AS m, {model} AS model_number FROM numbers({from}, {count})) \
                 SETTINGS max_insert_threads = 2",
                spec.name,
                columns.join("`, `"),
                values.join(", "),
                windows = self.windows,
            )
        };
        (0..models).step_by(AT_ONCE).map(insert).collect()
    }

    /// Rows of one window, model and segment.
    fn variants(&self) -> usize {
        match self.table {
            MetricTable::QualityThreshold => 5,
            MetricTable::CalibrationBins => 10,
            MetricTable::QualityClasses => 4,
            MetricTable::Confusion => 16,
            MetricTable::DataQuality => 8,
            // Two features, one of five categories and one of four.
            MetricTable::Categories => 9,
            // Eight features, the score and the prediction, each by two methods.
            MetricTable::Drift => 20,
            MetricTable::Custom => 2,
            MetricTable::Serving
            | MetricTable::Labels
            | MetricTable::QualityBinary
            | MetricTable::Calibration
            | MetricTable::QualityEstimated
            | MetricTable::QualityMulticlass
            | MetricTable::QualityRegression => 1,
        }
    }

    fn value(&self, at: usize, column: &TableColumn, job: &str) -> String {
        let (end, length) = (END_MS, self.length);
        let start = format!("{end} - toInt64({} - w) * {length}", self.windows);
        let time = |ms: &str| format!("fromUnixTimestamp64Milli({ms}, 'UTC')");
        let text = match (self.table, column.name.as_str()) {
            (_, "window_start") => time(&start),
            (_, "window_end") => time(&format!("{start} + {length}")),
            (_, "grain") => format!("'{}'", self.grain),
            (_, "job") => format!("'{job}'"),
            (_, "model") => "concat('model-', leftPad(toString(model_number), 3, '0'))".to_owned(),
            (_, "version") => "'v1'".to_owned(),
            (_, "segment") => "['all', 'region=ap', 'region=eu', 'region=us'][s + 1]".to_owned(),
            (_, "undefined") => "''".to_owned(),
            (_, "sealed") => "true".to_owned(),
            (_, "row_version") => self.version.to_string(),
            (_, "threshold" | "bin_lower") => "v / 10".to_owned(),
            (_, "bin_upper") => "(v + 1) / 10".to_owned(),
            (_, "bin") => "v + 1".to_owned(),
            (_, "class") => "concat('class-', toString(v))".to_owned(),
            (MetricTable::Categories, "feature") => {
                "concat('feature-', toString(intDiv(v, 5)))".to_owned()
            }
            (_, "category") => "concat('category-', toString(v % 5))".to_owned(),
            (_, "true_class") => "concat('class-', toString(intDiv(v, 4)))".to_owned(),
            (_, "predicted_class") => "concat('class-', toString(v % 4))".to_owned(),
            (MetricTable::Drift, "kind") => {
                "multiIf(v < 16, 'feature', v < 18, 'score', 'prediction')".to_owned()
            }
            (MetricTable::Drift, "feature") => {
                "if(v < 16, concat('feature-', toString(intDiv(v, 2))), '')".to_owned()
            }
            (MetricTable::Drift, "method") => "['psi', 'ks'][v % 2 + 1]".to_owned(),
            (MetricTable::Drift, "is_primary") => "1 - v % 2".to_owned(),
            (MetricTable::Drift, "verdict") => {
                "['ok', 'ok', 'ok', 'warn', 'drift', 'insufficient_data'][h % 6 + 1]".to_owned()
            }
            (_, "feature") => "concat('feature-', toString(v))".to_owned(),
            (_, "metric") => "concat('metric-', toString(v))".to_owned(),
            _ => Self::figure(at, column, &time(&format!("{start} + {length} - 1000"))),
        };
        format!("{text} AS `{}`", column.name)
    }

    fn figure(at: usize, column: &TableColumn, newest: &str) -> String {
        let thousandths = format!("bitShiftRight(h, {}) % 1000", at % 48);
        match column.data_type.as_str() {
            "UInt64" => format!("1 + {thousandths}"),
            "Float64" | "Nullable(Float64)" => format!("({thousandths}) / 1000"),
            "Array(String)" => "[]".to_owned(),
            of if of.starts_with("DateTime64") => newest.to_owned(),
            _ => "''".to_owned(),
        }
    }
}
