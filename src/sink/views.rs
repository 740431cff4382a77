//! Every view as data. BI users see only these: no arrays, no states, and but for `keys` every row once.

use crate::engine::metrics::MetricTable;
use crate::engine::metrics::accumulator::{Column, Kind};

use super::catalogue::entries;
use super::ddl::{Databases, Engine, create_database, literal, quoted};
use super::tables::{METRIC_KEY, TIME, Table, TableColumn, column_list, written_at_once};

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
    all.push(reference_profiles(databases));
    all.push(keys(databases));
    all.push(models_now(databases));
    all.push(last_sealed(databases));
    all.push(metric_catalogue(databases));
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

/// A table in its newest state without the hidden column; each wide one is given as its name, the function that
/// widens it, and the type that this makes.
fn table_view(
    table: Table,
    hidden: Option<&str>,
    wide: &[[&str; 3]],
    databases: &Databases,
) -> ViewSpec {
    let mut spec = table.spec();
    spec.columns.retain(|column| Some(column.name.as_str()) != hidden);
    let mut shown = Vec::new();
    for column in &mut spec.columns {
        column.default = None;
        let mut value = column.name.clone();
        if let Some(&[_, function, data_type]) = wide.iter().find(|[name, ..]| *name == value) {
            data_type.clone_into(&mut column.data_type);
            value = format!("{function}({value}) AS {value}");
        }
        shown.push(value);
    }
    let rows = format!("{}.{} FINAL", quoted(&databases.tables), quoted(spec.name));
    ViewSpec {
        database: databases.views.clone(),
        name: spec.name,
        select: format!("SELECT {}\nFROM {rows}", shown.join(", ")),
        comment: spec.comment,
        columns: spec.columns,
        definer: true,
    }
}

fn metric_view(table: MetricTable, databases: &Databases) -> ViewSpec {
    let view = table_view(Table::Metric(table), None, &[], databases);
    if table.keys() == 0 {
        return view;
    }
    // Rows of a window are written at once: one of an older version is of a bin, class or cell that later labels have
    // emptied.
    let select = format!(
        "SELECT {columns}\nFROM\n(\n    SELECT {columns},\n        \
         max(row_version) OVER (PARTITION BY {key}) AS newest\n    FROM {db}.{name} FINAL\n)\n\
         WHERE row_version = newest",
        columns = names(&view.columns),
        key = written_at_once(table, &METRIC_KEY),
        db = quoted(&databases.tables),
        name = quoted(view.name),
    );
    ViewSpec { select, ..view }
}

/// Each alert once, in its newest state. BI tools know no count that may be NULL.
fn alerts(databases: &Databases) -> ViewSpec {
    let wide = [["n", "toFloat64", "Nullable(Float64)"]];
    table_view(Table::Alerts, Some("announced"), &wide, databases)
}

/// Which profiles there are; the documents are for programs. BI tools know no shorter counts.
fn reference_profiles(databases: &Databases) -> ViewSpec {
    let wide = ["generation", "format"].map(|name| [name, "toUInt64", "UInt64"]);
    table_view(Table::ReferenceProfiles, Some("document"), &wide, databases)
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

/// What filters offer: they ask which values there are and need no row once, which is what costs.
fn keys(databases: &Databases) -> ViewSpec {
    let columns = key_columns();
    ViewSpec {
        database: databases.views.clone(),
        name: "keys",
        comment: "Which models, versions, segments and windows there are, for the choices of filters: a key may stand \
                  here more than once, so count in serving"
            .to_owned(),
        select: format!(
            "SELECT {}\nFROM {}.{}",
            names(&columns),
            quoted(&databases.tables),
            quoted(MetricTable::Serving.name())
        ),
        columns,
        definer: true,
    }
}

/// The window, grain, job, model, version and segment that every metric row has.
fn key_columns() -> Vec<TableColumn> {
    Table::Metric(MetricTable::Serving).spec().columns.into_iter().take(7).collect()
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
         s.failed / nullIf(s.total, 0) AS error_rate, ifNull(l.joined, 0) AS labelled,\n    \
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

fn last_sealed_columns() -> Vec<TableColumn> {
    let c = TableColumn::new;
    let mut columns = key_columns();
    let figure = |name: &str, comment: &str| c(name, "Nullable(Float64)", comment);
    columns.extend([
        c("inferences", "UInt64", "Accepted inferences"),
        figure("error_rate", "errors / inferences"),
        figure("latency_p99_ms", "99 % quantile of latency, at most 1/128 above the exact one"),
        c("labelled", "UInt64", "Inferences with a label; 0 where the job reads no labels"),
        figure("coverage", "labelled / inferences; 0 where the job reads no labels"),
        figure("accuracy", "Right decisions / decisions, of models that decide"),
        figure("accuracy_lower", "Lower limit of the 95 % interval of accuracy"),
        figure("accuracy_upper", "Upper limit of the 95 % interval of accuracy"),
        figure("auroc", "Area under the ROC curve, of binary models"),
        figure("auroc_lower", "Lower limit of the 95 % interval of auroc"),
        figure("auroc_upper", "Upper limit of the 95 % interval of auroc"),
        figure("mae", "Mean absolute error, of models that predict numbers"),
        figure("rmse", "Root of the mean squared error, of models that predict numbers"),
    ]);
    columns
}

/// A table that a model has rows in has one for each of its windows, so its last sealed one is that of the serving rows
/// or not there.
fn last_sealed(databases: &Databases) -> ViewSpec {
    const KEY: &str = "window_start, window_end, grain, job, model, version, segment";
    let last = |table: MetricTable, columns: &str| {
        format!(
            "(\n    SELECT {KEY}, {columns}\n    FROM {db}.{name} FINAL\n    WHERE sealed\n    \
             ORDER BY window_start DESC\n    LIMIT 1 BY job, model, version, segment, grain\n)",
            db = quoted(&databases.tables),
            name = quoted(table.name()),
        )
    };
    let accuracy = "accuracy, accuracy_lower, accuracy_upper";
    let select = format!(
        "SELECT {KEY}, s.inferences AS inferences, s.error_rate AS error_rate, s.latency_p99_ms AS latency_p99_ms,\n    \
         ifNull(l.labelled, 0) AS labelled, l.coverage AS coverage,\n    \
         ifNull(b.accuracy, c.accuracy) AS accuracy, ifNull(b.accuracy_lower, c.accuracy_lower) AS accuracy_lower,\n    \
         ifNull(b.accuracy_upper, c.accuracy_upper) AS accuracy_upper,\n    \
         b.auroc AS auroc, b.auroc_lower AS auroc_lower, b.auroc_upper AS auroc_upper, r.mae AS mae, r.rmse AS rmse\n\
         FROM\n{serving} AS s\nLEFT JOIN\n{labels} AS l USING ({KEY})\nLEFT JOIN\n{binary} AS b USING ({KEY})\n\
         LEFT JOIN\n{classes} AS c USING ({KEY})\nLEFT JOIN\n{numbers} AS r USING ({KEY})",
        serving = last(MetricTable::Serving, "inferences, error_rate, latency_p99_ms"),
        labels = last(MetricTable::Labels, "labelled, coverage"),
        binary = last(
            MetricTable::QualityBinary,
            &format!("{accuracy}, auroc, auroc_lower, auroc_upper")
        ),
        classes = last(MetricTable::QualityMulticlass, accuracy),
        numbers = last(MetricTable::QualityRegression, "mae, rmse"),
    );
    ViewSpec {
        database: databases.views.clone(),
        name: "last_sealed",
        comment: "The last complete window of each model, version, segment and grain: nothing can change its figures"
            .to_owned(),
        columns: last_sealed_columns(),
        select,
        definer: true,
    }
}

fn metric_catalogue(databases: &Databases) -> ViewSpec {
    let c = TableColumn::new;
    let name = "LowCardinality(String)";
    let columns = vec![
        c(
            "family",
            name,
            "The view that has the metric as a column; custom has it in its column metric",
        ),
        c("metric", "String", "The name of that column, and in the view metrics"),
        c(
            "unit",
            name,
            "count, ratio (0 to 1), 1 (none), ms, 1/s, label (that of the label), label^2, value (that of the \
             configuration) or feature (that of the feature); of custom metrics as their configuration says",
        ),
        c("better", name, "higher, lower, zero (the nearer to 0 the better) or none"),
        c("has_interval", "Bool", "Whether the limits of its 95 % interval stand beside it"),
        c("description", "String", "What it is"),
        c("job", name, "The job whose configuration defines it; empty where every job has it"),
        c("expression", "String", "How the configuration defines it; empty where every job has it"),
    ];
    let rows: Vec<_> = entries()
        .iter()
        .map(|e| {
            let texts = [e.family, &e.metric, e.unit, e.better].map(literal).join(", ");
            format!("            ({texts}, {}, {})", e.has_interval, literal(&e.description))
        })
        .collect();
    ViewSpec {
        database: databases.views.clone(),
        name: "metric_catalogue",
        comment: "Every metric of the views: its unit, which way is better, and what it is"
            .to_owned(),
        select: format!(
            "SELECT {names}\nFROM\n(\n    SELECT m.family AS family, m.metric AS metric, m.unit AS unit, m.better AS better,\n        \
             m.has_interval AS has_interval, m.description AS description, '' AS job, '' AS expression\n    FROM\n    (\n        \
             SELECT arrayJoin(CAST(\n            [\n{rows}\n            ],\n            \
             'Array(Tuple(family String, metric String, unit String, better String, has_interval Bool, description \
             String))'\n        )) AS m\n    )\n    UNION ALL\n    SELECT '{custom}', toString(metric), toString(unit), \
             toString(better), false, description, toString(job), expression\n    FROM {db}.custom_metrics FINAL\n)",
            names = names(&columns),
            rows = rows.join(",\n"),
            custom = MetricTable::Custom.name(),
            db = quoted(&databases.tables),
        ),
        columns,
        definer: true,
    }
}

fn long_half(table: MetricTable, databases: &Databases) -> String {
    let limit = |of: &Column, suffix: &str| {
        if table.has_interval(of.name) { format!("{}{suffix}", of.name) } else { "NULL".to_owned() }
    };
    let tuples: Vec<_> = table
        .columns()
        .iter()
        .filter(|column| match column.kind {
            Kind::Count | Kind::Number | Kind::Figure => !table.is_limit(column.name),
            Kind::Time | Kind::Text | Kind::Names | Kind::Sum | Kind::Sums | Kind::Cells => false,
        })
        .map(|column| {
            format!(
                "            ('{name}', {name}, {}, {}, {})",
                limit(column, "_lower"),
                limit(column, "_upper"),
                table.denominator(column.name).join(" + "),
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

/// The rows of `custom`, which are long already; of those of a window the newest, as in its view.
fn long_custom(databases: &Databases) -> String {
    format!(
        "    SELECT\n        window_start, window_end, grain, job, model, version, segment, '{name}' AS family,\n        \
         toString(metric) AS metric, value, CAST(NULL AS Nullable(Float64)) AS lower,\n        \
         CAST(NULL AS Nullable(Float64)) AS upper, n, toString(reason) AS reason, sealed\n    \
         FROM\n    (\n        SELECT *, max(row_version) OVER (PARTITION BY {key}) AS newest\n        \
         FROM {db}.{quoted} FINAL\n    )\n    WHERE row_version = newest",
        name = MetricTable::Custom.name(),
        key = written_at_once(MetricTable::Custom, &METRIC_KEY),
        quoted = quoted(MetricTable::Custom.name()),
        db = quoted(&databases.tables),
    )
}

fn long(databases: &Databases) -> ViewSpec {
    let mut columns = key_columns();
    let c = TableColumn::new;
    columns.extend([
        c(
            "family",
            "LowCardinality(String)",
            "The table that has the figure as a column; custom has it as a row",
        ),
        c("metric", "LowCardinality(String)", "The name of that column or row"),
        c("value", "Nullable(Float64)", "The count or figure; NULL where it is undefined"),
        c("lower", "Nullable(Float64)", "Lower limit of the 95 % interval, where it has one"),
        c("upper", "Nullable(Float64)", "Upper limit of the 95 % interval, where it has one"),
        c("n", "UInt64", "How many records it was computed over"),
        c("reason", "LowCardinality(String)", "Why the value is NULL; empty where it is not"),
        c("sealed", "Bool", "Whether nothing can reach the window any more in any partition"),
    ]);
    // A table with keys of its own has several rows where this view has place for one.
    let wide = MetricTable::ALL.into_iter().filter(|table| table.keys() == 0);
    let halves = wide.map(|table| long_half(table, databases));
    let halves: Vec<_> = halves.chain([long_custom(databases)]).collect();
    ViewSpec {
        database: databases.views.clone(),
        name: "metrics",
        comment:
            "Every count and figure of the wide views as a row of its own, and every custom metric"
                .to_owned(),
        select: format!(
            "SELECT {}\nFROM\n(\n{}\n)",
            names(&columns),
            halves.join("\n    UNION ALL\n")
        ),
        columns,
        definer: true,
    }
}
