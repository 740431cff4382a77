//! Every view as data. BI users see only these: no arrays, no states, every row once.

use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::{Column, Kind};

use super::ddl::{Databases, Engine, create_database, literal, quoted};
use super::tables::{METRIC_KEY, TIME, Table, TableColumn, column_list};

/// A view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewSpec {
    /// Its database.
    pub database: String,
    /// Its name.
    pub name: &'static str,
    /// For the reader.
    pub comment: String,
    /// What it shows.
    pub columns: Vec<TableColumn>,
    /// The query.
    pub select: String,
    /// Whether it reads with the rights of the user who made it, so that a BI user needs none on the tables.
    pub definer: bool,
}

/// What the database of the views is for.
pub const VIEWS_COMMENT: &str = "Tidegauge: views for BI tools over the metric rows";

/// All views, each after those that it reads.
pub fn views(databases: &Databases) -> Vec<ViewSpec> {
    let mut all = vec![stream_health(databases)];
    all.extend(MetricTable::ALL.iter().map(|&table| metric_view(table, databases)));
    all.push(ViewSpec {
        database: databases.views.clone(),
        select: format!(
            "SELECT {}\nFROM {}.stream_health",
            names(&stream_health_columns()),
            quoted(&databases.tables)
        ),
        definer: true,
        ..stream_health(databases)
    });
    all.push(alerts(databases));
    all.push(models_now(databases));
    all.push(long(databases));
    all
}

impl ViewSpec {
    /// `CREATE OR REPLACE VIEW`.
    pub fn create(&self, engine: &Engine) -> String {
        let rights =
            if self.definer { "DEFINER = CURRENT_USER SQL SECURITY DEFINER\n" } else { "" };
        format!(
            "CREATE OR REPLACE VIEW {}.{}{}\n(\n{}\n)\n{rights}AS {}\nCOMMENT {}",
            quoted(&self.database),
            quoted(self.name),
            engine.on_cluster(),
            column_list(&self.columns),
            self.select,
            literal(&self.comment),
        )
    }
}

/// The statements that create the database of the views and all views: the second half of what `init --print` prints.
pub fn print(databases: &Databases, engine: &Engine) -> String {
    let mut sql = create_database(&databases.views, VIEWS_COMMENT, engine) + ";\n";
    for view in views(databases) {
        sql += "\n";
        sql += &view.create(engine);
        sql += ";\n";
    }
    sql
}

fn names(columns: &[TableColumn]) -> String {
    columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn metric_view(table: MetricTable, databases: &Databases) -> ViewSpec {
    let spec = Table::Metric(table).spec();
    let columns = names(&spec.columns);
    let rows = format!("{}.{} FINAL", quoted(&databases.tables), quoted(spec.name));
    let select = if table.keys() == 0 {
        format!("SELECT {columns}\nFROM {rows}")
    } else {
        // All rows of a window are written at once: one of an older version is of a bin, class or cell that later labels
        // have emptied.
        format!(
            "SELECT {columns}\nFROM\n(\n    SELECT {columns},\n        \
             max(row_version) OVER (PARTITION BY {}) AS newest\n    FROM {rows}\n)\nWHERE row_version = newest",
            METRIC_KEY.join(", ")
        )
    };
    ViewSpec {
        database: databases.views.clone(),
        name: spec.name,
        select,
        comment: spec.comment,
        columns: spec.columns,
        definer: true,
    }
}

/// Each alert once, in its newest state.
fn alerts(databases: &Databases) -> ViewSpec {
    let spec = Table::Alerts.spec();
    ViewSpec {
        database: databases.views.clone(),
        name: spec.name,
        select: format!(
            "SELECT {}\nFROM {}.{} FINAL",
            names(&spec.columns),
            quoted(&databases.tables),
            quoted(spec.name)
        ),
        comment: spec.comment,
        columns: spec.columns,
        definer: true,
    }
}

fn stream_health_columns() -> Vec<TableColumn> {
    let c = TableColumn::new;
    vec![
        c("job", "LowCardinality(String)", "The job"),
        c("topic", "LowCardinality(String)", "inferences or labels"),
        c("partition", "Int32", "Partition number, the same in both topics"),
        c(
            "model",
            "LowCardinality(String)",
            "The model as records name it; empty where they name none or can't be read",
        ),
        c(
            "records",
            "Int64",
            "Records read: accepted + duplicate + late + dead of inferences, matched + kept + orphan + dead of labels",
        ),
        c("accepted", "Int64", "Inferences that were folded into their windows"),
        c(
            "duplicate",
            "Int64",
            "Inferences of a request, model and version that were there already",
        ),
        c("late", "Int64", "Inferences that arrived later than the lateness allows"),
        c("dead", "Int64", "Records of either topic that went to the dead letters"),
        c("matched", "Int64", "Labels that matched at least one inference"),
        c("kept", "Int64", "Labels that matched no inference yet, but one may come"),
        c("orphan", "Int64", "Labels that matched no inference, and none can come"),
        c(
            "position",
            "Int64",
            "Next offset of the topic partition to count; offsets may have holes",
        ),
        c(
            "clock",
            "Nullable(DateTime64(3, 'UTC'))",
            "How far the topic partition has come in log time; NULL before enough records",
        ),
    ]
}

fn stream_health(databases: &Databases) -> ViewSpec {
    // A clock far outside the years that DateTime64 knows is shown as the nearest that it does.
    let half = |topic: &str, prefix: &str, own: [&str; 3]| {
        let counts: Vec<_> = ["accepted", "duplicate", "late", "matched", "kept", "orphan"]
            .into_iter()
            .map(|count| {
                let from = if own.contains(&count) {
                    format!("tally.{count}")
                } else {
                    "toInt64(0)".to_owned()
                };
                format!("{from} AS {count}")
            })
            .collect();
        format!(
            "    SELECT\n        job, '{topic}' AS topic, partition, tally.model AS model,\n        \
             {counts}, tally.dead AS dead,\n        \
             {prefix}_position AS position,\n        \
             if(length({prefix}_clock) = {prefix}_clock_n, fromUnixTimestamp64Milli(least(greatest({prefix}_clock[1], \
             -2208988800000), 9904550399999), 'UTC'), NULL) AS clock\n    \
             FROM {db}.marks FINAL\n    LEFT ARRAY JOIN {prefix}_tally AS tally",
            counts = counts.join(", "),
            db = quoted(&databases.tables),
        )
    };
    ViewSpec {
        database: databases.tables.clone(),
        name: "stream_health",
        comment: "What became of every record since the job's start, by topic partition and model: the outcomes add up \
                  to the records read"
            .to_owned(),
        select: format!(
            "SELECT\n    job, topic, partition, model,\n    \
             accepted + duplicate + late + dead + matched + kept + orphan AS records,\n    \
             accepted, duplicate, late, dead, matched, kept, orphan, position, clock\nFROM\n(\n{}\n    UNION ALL\n{}\n)",
            half("inferences", "inference", ["accepted", "duplicate", "late"]),
            half("labels", "label", ["matched", "kept", "orphan"]),
        ),
        columns: stream_health_columns(),
        definer: false,
    }
}

fn models_now_columns() -> Vec<TableColumn> {
    let c = TableColumn::new;
    let name = "LowCardinality(String)";
    vec![
        c("job", name, "The job"),
        c("model", name, "The model"),
        c("version", name, "The model's version; empty where records name none"),
        c(
            "grain",
            name,
            "The finest length of window that the job writes; the counts here are of it",
        ),
        c("windows", "UInt64", "Windows with at least one inference"),
        c("first_window_start", TIME, "Start of the first window"),
        c("last_window_start", TIME, "Start of the last window"),
        c("last_window_end", TIME, "End of the last window"),
        c("latest_event_time", TIME, "Greatest event time of an accepted inference"),
        c("last_inferences", "UInt64", "Accepted inferences in the last window"),
        c("inferences", "UInt64", "Accepted inferences in all windows"),
        c("errors", "UInt64", "Failed inferences among them"),
        c("error_rate", "Nullable(Float64)", "errors / inferences"),
        c("labelled", "UInt64", "Inferences with a label"),
        c("coverage", "Nullable(Float64)", "labelled / inferences"),
    ]
}

fn models_now(databases: &Databases) -> ViewSpec {
    let db = quoted(&databases.tables);
    // Counts are summed before they are divided; windows of coarser grains hold the same records again.
    let select = format!(
        "SELECT\n    s.job AS job, s.model AS model, s.version AS version, s.grain AS grain, s.windows AS windows,\n    \
         s.first_window_start AS first_window_start, s.last_window_start AS last_window_start,\n    \
         s.last_window_end AS last_window_end, s.latest AS latest_event_time,\n    \
         s.last_inferences AS last_inferences, s.total AS inferences, s.failed AS errors,\n    \
         s.failed / nullIf(s.total, 0) AS error_rate, l.joined AS labelled,\n    \
         l.joined / nullIf(s.total, 0) AS coverage\nFROM\n(\n    \
         SELECT\n        job, model, version, grain, count() AS windows,\n        \
         min(window_start) AS first_window_start, max(window_start) AS last_window_start,\n        \
         max(window_end) AS last_window_end, max(latest_event_time) AS latest,\n        \
         argMax(inferences, window_start) AS last_inferences, sum(inferences) AS total, sum(errors) AS failed,\n        \
         min(window_end - window_start) AS span\n    \
         FROM {db}.serving FINAL\n    WHERE segment = 'all'\n    GROUP BY job, model, version, grain\n    \
         ORDER BY span\n    LIMIT 1 BY job, model, version\n) AS s\nLEFT JOIN\n(\n    \
         SELECT job, model, version, grain, sum(labelled) AS joined\n    \
         FROM {db}.labels FINAL\n    WHERE segment = 'all'\n    GROUP BY job, model, version, grain\n) AS l\n    \
         ON s.job = l.job AND s.model = l.model AND s.version = l.version AND s.grain = l.grain"
    );
    ViewSpec {
        database: databases.views.clone(),
        name: "models_now",
        comment:
            "One row for each model and version: since when, how much, how many errors and labels"
                .to_owned(),
        columns: models_now_columns(),
        select,
        definer: true,
    }
}

/// The number of records that a figure was computed over, from columns of the same table.
fn denominator(table: MetricTable, metric: &str) -> &'static str {
    let starts = |prefixes: &[&str]| prefixes.iter().any(|prefix| metric.starts_with(prefix));
    match table {
        MetricTable::Serving if metric.starts_with("latency_") => "latency_n",
        MetricTable::Labels if starts(&["label_delay_"]) => "labelled",
        MetricTable::Labels if metric == "coverage_positive" => "inferences_positive",
        MetricTable::Labels if metric == "coverage_negative" => "inferences_negative",
        MetricTable::QualityBinary if starts(&["npv"]) => "tn + fn",
        MetricTable::QualityBinary if metric == "precision" => "predicted_positive",
        MetricTable::QualityBinary if metric == "recall" => "positives",
        MetricTable::QualityBinary if metric == "specificity" => "negatives",
        MetricTable::QualityBinary
            if starts(&[
                "auroc",
                "average_precision",
                "log_loss",
                "brier",
                "scored_",
                "n_scored",
            ]) =>
        {
            "n_scored"
        }
        MetricTable::QualityRegression if starts(&["mape"]) => "mape_n",
        MetricTable::QualityRegression if starts(&["rmsle"]) => "rmsle_n",
        MetricTable::QualityMulticlass
            if starts(&["log_loss", "brier", "top_", "auroc", "n_scored"]) =>
        {
            "n_scored"
        }
        MetricTable::Calibration => "n_scored",
        MetricTable::QualityEstimated
            if starts(&["realized_", "est_labelled_"]) || metric.contains("_gap") =>
        {
            "n_labelled"
        }
        MetricTable::QualityClasses => "support",
        MetricTable::QualityBinary
        | MetricTable::QualityThreshold
        | MetricTable::CalibrationBins
        | MetricTable::Drift
        | MetricTable::QualityEstimated
        | MetricTable::QualityRegression
        | MetricTable::QualityMulticlass
        | MetricTable::Confusion => "n",
        MetricTable::Serving | MetricTable::Labels | MetricTable::DataQuality => "inferences",
    }
}

/// Whether a column is the limit of another's interval, which stands beside it in the long view.
fn is_limit(columns: &[Column], column: &Column) -> bool {
    ["_lower", "_upper"].iter().any(|suffix| {
        column.name.strip_suffix(suffix).is_some_and(|of| columns.iter().any(|c| c.name == of))
    })
}

fn long_half(table: MetricTable, databases: &Databases) -> String {
    let columns = table.columns();
    let limit = |of: &Column, suffix: &str| {
        let name = format!("{}{suffix}", of.name);
        if columns.iter().any(|c| c.name == name) { name } else { "NULL".to_owned() }
    };
    let tuples: Vec<_> = columns
        .iter()
        .filter(|column| match column.kind {
            Kind::Count | Kind::Number | Kind::Figure => !is_limit(columns, column),
            Kind::Time | Kind::Text | Kind::Names | Kind::Sum | Kind::Sums | Kind::Cells => false,
        })
        .map(|column| {
            format!(
                "            ('{name}', {name}, {}, {}, {})",
                limit(column, "_lower"),
                limit(column, "_upper"),
                denominator(table, column.name),
                name = column.name,
            )
        })
        .collect();
    format!(
        "    SELECT\n        window_start, window_end, grain, job, model, version, segment, '{name}' AS family,\n        \
         m.metric AS metric, m.value AS value, m.lower AS lower, m.upper AS upper, m.n AS n,\n        \
         if(isNull(m.value), splitByChar('=', arrayFirst(x -> startsWith(x, concat(m.metric, '=')), splitByChar(' ', \
         undefined)))[2], '') AS reason,\n        sealed\n    \
         FROM {db}.{quoted} FINAL\n    ARRAY JOIN CAST(\n        [\n{tuples}\n        ],\n        \
         'Array(Tuple(metric String, value Nullable(Float64), lower Nullable(Float64), upper Nullable(Float64), n UInt64))'\n    ) AS m",
        name = table.name(),
        quoted = quoted(table.name()),
        db = quoted(&databases.tables),
        tuples = tuples.join(",\n"),
    )
}

fn long(databases: &Databases) -> ViewSpec {
    let spec = Table::Metric(MetricTable::Serving).spec();
    let mut columns: Vec<_> = spec.columns.iter().take(7).cloned().collect();
    let c = TableColumn::new;
    columns.extend([
        c("family", "LowCardinality(String)", "The table that has the figure as a column"),
        c("metric", "LowCardinality(String)", "The name of that column"),
        c("value", "Nullable(Float64)", "The count or figure; NULL where it is undefined"),
        c("lower", "Nullable(Float64)", "Lower limit of the 95 % interval, where it has one"),
        c("upper", "Nullable(Float64)", "Upper limit of the 95 % interval, where it has one"),
        c("n", "UInt64", "How many records it was computed over"),
        c("reason", "LowCardinality(String)", "Why the value is NULL; empty where it is not"),
        c("sealed", "Bool", "Whether nothing can reach the window any more in any partition"),
    ]);
    // A table with keys of its own has several rows where this view has place for one.
    let wide = MetricTable::ALL.into_iter().filter(|table| table.keys() == 0);
    let halves: Vec<_> = wide.map(|table| long_half(table, databases)).collect();
    ViewSpec {
        database: databases.views.clone(),
        name: "metrics",
        comment: "Every count and figure of the wide views as a row of its own".to_owned(),
        select: format!(
            "SELECT {}\nFROM\n(\n{}\n)",
            names(&columns),
            halves.join("\n    UNION ALL\n")
        ),
        columns,
        definer: true,
    }
}
