//! Every table as data: names, columns, keys, comments. The statements of `init`, the schema check, the rows' headers
//! and the printed SQL all follow from it.

use std::fmt::Write;

use crate::engine::metrics::accumulator::{Column, Kind};
use crate::engine::metrics::{MetricTable, state_columns};

pub use super::ddl::{DEFAULT_DATABASE, Databases, Engine};
use super::ddl::{create_database, literal, quoted};

/// A table that rows are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// States by key and partition.
    WindowState,
    /// The greatest seal mark by partition.
    Seals,
    /// Where each partition stands.
    Marks,
    /// Metric rows.
    Metric(MetricTable),
    /// Alerts.
    Alerts,
    /// Who is to be told of them, and who has been.
    Notifications,
    /// Metrics that the configuration defines.
    CustomMetrics,
    /// Profiles that its models name.
    ReferenceProfiles,
}

/// A column of a table or view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableColumn {
    /// `[a-z0-9_]`, unit last.
    pub name: String,
    /// The type, spelled as `system.columns` spells it.
    pub data_type: String,
    /// For the reader.
    pub comment: String,
    /// What the server fills in where an insert names no such column.
    pub default: Option<&'static str>,
}

/// A table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableSpec {
    /// Its name.
    pub name: &'static str,
    /// For the reader.
    pub comment: String,
    /// In the order of the table.
    pub columns: Vec<TableColumn>,
    /// Of rows that are equal in these, one is kept.
    pub key: Vec<&'static str>,
    /// The column that says which one; none where all rows are kept.
    pub version: Option<&'static str>,
    /// Whether parts are split by the month of `window_start`.
    pub by_month: bool,
    /// `SETTINGS` of the plain engine.
    pub settings: &'static str,
}

impl Table {
    /// Those of the job's state, before those of its metrics.
    const OF_STATE: [Self; 3] = [Self::WindowState, Self::Seals, Self::Marks];

    /// All that a job's rows are in, without what follows from these.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::OF_STATE.into_iter().chain(MetricTable::ALL.map(Self::Metric))
    }

    /// Its name in the database.
    pub fn name(self) -> &'static str {
        match self {
            Self::WindowState => "window_state",
            Self::Seals => "seals",
            Self::Marks => "marks",
            Self::Metric(table) => table.name(),
            Self::Alerts => "alerts",
            Self::Notifications => "notifications",
            Self::CustomMetrics => "custom_metrics",
            Self::ReferenceProfiles => "reference_profiles",
        }
    }

    /// All about it.
    pub fn spec(self) -> TableSpec {
        match self {
            Self::WindowState => window_state(),
            Self::Seals => seals(),
            Self::Marks => marks(),
            Self::Metric(table) => metric_table(table),
            Self::Alerts => alerts(),
            Self::Notifications => notifications(),
            Self::CustomMetrics => custom_metrics(),
            Self::ReferenceProfiles => reference_profiles(),
        }
    }
}

/// All tables, those first that a migration needs.
pub fn tables() -> Vec<TableSpec> {
    let mut all = vec![migrations(), jobs(), files()];
    all.extend(Table::all().map(Table::spec));
    let more =
        [Table::Alerts, Table::Notifications, Table::CustomMetrics, Table::ReferenceProfiles];
    all.extend(more.map(Table::spec));
    all
}

const TEXT: &str = "String";
const NAME: &str = "LowCardinality(String)";
/// Instants have this type everywhere, since literals of every BI tool work with it.
pub const TIME: &str = "DateTime64(3, 'UTC')";
const COUNT: &str = "UInt64";
const OFFSET: &str = "Int64";
const STAMPS: &str = "Array(Int64)";

impl TableColumn {
    pub(super) fn new(name: &str, data_type: &str, comment: &str) -> Self {
        Self {
            name: name.to_owned(),
            data_type: data_type.to_owned(),
            comment: comment.to_owned(),
            default: None,
        }
    }

    fn filled(mut self, default: &'static str) -> Self {
        self.default = Some(default);
        self
    }
}

impl From<&Column> for TableColumn {
    fn from(column: &Column) -> Self {
        // Short phrases, like those of the other columns.
        Self::new(column.name, data_type(column.kind), column.comment.trim_end_matches('.'))
    }
}

/// The type of a registered column.
pub fn data_type(kind: Kind) -> &'static str {
    match kind {
        Kind::Count => COUNT,
        Kind::Time => TIME,
        Kind::Text => NAME,
        Kind::Number => "Float64",
        Kind::Figure => "Nullable(Float64)",
        Kind::Sum => TEXT,
        Kind::Names | Kind::Sums => "Array(String)",
        Kind::Cells => "Array(Tuple(UInt64, UInt64))",
    }
}

fn window_columns() -> [TableColumn; 2] {
    [
        TableColumn::new("window_start", TIME, "First millisecond of the window, UTC"),
        TableColumn::new("window_end", TIME, "First millisecond after the window, UTC"),
    ]
}

fn job_column() -> TableColumn {
    TableColumn::new("job", NAME, "The job that wrote the row")
}

fn about_columns() -> [TableColumn; 3] {
    [
        TableColumn::new("model", NAME, "The model; (other) beyond the cap on models"),
        TableColumn::new("version", NAME, "The model's version; empty where records name none"),
        TableColumn::new("segment", NAME, "all, or one value of a segment as region=eu"),
    ]
}

fn partition_column() -> TableColumn {
    TableColumn::new("partition", "Int32", "Partition number, the same in both topics")
}

fn version_column() -> TableColumn {
    TableColumn::new(
        "row_version",
        COUNT,
        "Of several rows of one key the greatest is the truth: generation in the top 16 bits, then what was counted",
    )
}

/// The sorting key of all metric tables; some add keys of their own.
pub(super) const METRIC_KEY: [&str; 6] =
    ["job", "model", "grain", "segment", "version", "window_start"];

/// What the rows that are written at once have in common, beside these: those of a window, or of drift what labels change
/// and what they do not.
pub(super) fn written_at_once(table: MetricTable, key: &[&str]) -> String {
    let kinds = (table == MetricTable::Drift).then_some("kind = 'label'");
    key.iter().copied().chain(kinds).collect::<Vec<_>>().join(", ")
}

fn metric_table(table: MetricTable) -> TableSpec {
    let own_keys = table.columns().iter().take(table.keys());
    let mut columns = window_columns().to_vec();
    columns.push(TableColumn::new("grain", NAME, "Length of the window: 5m, 1h, 1d"));
    columns.push(job_column());
    columns.extend(about_columns());
    columns.extend(table.columns().iter().map(TableColumn::from));
    columns.push(TableColumn::new(
        "undefined",
        TEXT,
        "Why columns are NULL: column=reason, separated by spaces; empty when all are defined",
    ));
    columns.push(TableColumn::new(
        "sealed",
        "Bool",
        "Whether nothing can reach the window any more in any partition",
    ));
    columns.push(version_column());
    TableSpec {
        name: table.name(),
        comment: table.comment().trim_end_matches('.').to_owned(),
        columns,
        key: METRIC_KEY.into_iter().chain(own_keys.map(|column| column.name)).collect(),
        version: Some("row_version"),
        by_month: true,
        settings: "",
    }
}

fn window_state() -> TableSpec {
    let mut columns = window_columns().to_vec();
    columns.push(job_column());
    columns.extend(about_columns());
    columns.push(partition_column());
    columns.extend(state_columns().map(TableColumn::from));
    columns.push(version_column());
    TableSpec {
        name: "window_state",
        comment: "What one partition knows of a window of the base size: additive state, merged into the metric tables"
            .to_owned(),
        columns,
        key: vec!["job", "model", "version", "segment", "window_start", "partition"],
        version: Some("row_version"),
        by_month: true,
        // Rows are wide and looked up by key: small granules keep a look-up from reading thousands of others.
        settings: "index_granularity = 512",
    }
}

fn seals() -> TableSpec {
    TableSpec {
        name: "seals",
        comment: "How far each partition has sealed its windows".to_owned(),
        columns: vec![
            job_column(),
            partition_column(),
            TableColumn::new("generation", "UInt16", "Generation of the job"),
            TableColumn::new(
                "sealed_until_ms",
                "Int64",
                "End of the newest sealed window, milliseconds since 1970",
            ),
            version_column(),
        ],
        key: vec!["job", "partition"],
        version: Some("row_version"),
        by_month: false,
        settings: "",
    }
}

/// Outcomes of the inference topic by model, as written to `marks`.
pub const INFERENCE_TALLY: &str =
    "Array(Tuple(model String, accepted Int64, duplicate Int64, late Int64, dead Int64))";
/// Outcomes of the label topic by model, as written to `marks`.
pub const LABEL_TALLY: &str =
    "Array(Tuple(model String, matched Int64, kept Int64, orphan Int64, dead Int64))";

/// Schemas whose records are dead because of them, as written to `marks`.
pub const DEAD_SCHEMAS: &str = "Array(Tuple(schema Int64, first_offset Int64, last_offset Int64))";
/// What stands there for schemas of which nobody knows which ones they were.
pub const OTHER_SCHEMAS: i64 = -1;

fn marks() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "marks",
        comment: "Where each partition stands: a start reads it and replays from its floors"
            .to_owned(),
        columns: vec![
            job_column(),
            partition_column(),
            c("generation", "UInt16", "Generation of the job"),
            c("inference_position", OFFSET, "Next offset of the inference topic to count"),
            c("label_position", OFFSET, "Next offset of the label topic to count"),
            c("inference_floor", OFFSET, "Offset of the inference topic where a replay starts"),
            c("label_floor", OFFSET, "Offset of the label topic where a replay starts"),
            c("inference_clock_n", "UInt32", "Timestamps that make the inference topic's clock"),
            c("label_clock_n", "UInt32", "Timestamps that make the label topic's clock"),
            c(
                "inference_floor_clock",
                STAMPS,
                "Greatest Kafka timestamps before the floor, ascending",
            ),
            c("label_floor_clock", STAMPS, "Greatest Kafka timestamps before the floor, ascending"),
            c(
                "inference_clock",
                STAMPS,
                "Greatest Kafka timestamps before the position, ascending",
            ),
            c("label_clock", STAMPS, "Greatest Kafka timestamps before the position, ascending"),
            c(
                "sealed_until_ms",
                "Int64",
                "End of the newest sealed window, milliseconds since 1970",
            ),
            c(
                "inference_tally",
                INFERENCE_TALLY,
                "Outcomes of the inferences before the position, by model",
            ),
            c("label_tally", LABEL_TALLY, "Outcomes of the labels before the position, by model"),
            c(
                "inference_dead_schemas",
                DEAD_SCHEMAS,
                "Schema ids that make inferences from the floor on dead letters; -1 where others may, too",
            ),
            c("label_dead_schemas", DEAD_SCHEMAS, "The same of labels"),
            version_column(),
        ],
        key: vec!["job", "partition"],
        version: Some("row_version"),
        by_month: false,
        settings: "",
    }
}

fn alerts() -> TableSpec {
    let c = TableColumn::new;
    let figure = "Nullable(Float64)";
    let mut columns = vec![
        job_column(),
        c("rule", NAME, "Name of the rule in the configuration"),
        c("metric", NAME, "What the rule is about: table.column"),
        c("severity", NAME, "As the rule says"),
    ];
    columns.extend(about_columns());
    columns.extend([
        c("feature", TEXT, "Keys of the metric row beside the window's, with / between; else empty"),
        c("grain", NAME, "Length of the windows: 5m, 1h, 1d"),
        c("opened_window", TIME, "Start of the window that completed the run of breaches"),
        c("opened_window_end", TIME, "Its end"),
        c("state", NAME, "opened, resolved, or retracted: later labels say that it never held"),
        c("resolved_window", "Nullable(DateTime64(3, 'UTC'))", "Start of the window that ended it"),
        c("resolved_window_end", "Nullable(DateTime64(3, 'UTC'))", "Its end"),
        c("value", figure, "The figure in the window that changed the state last"),
        c("lower", figure, "Lower limit of its 95 % interval"),
        c("upper", figure, "Upper limit of its 95 % interval"),
        c("threshold", figure, "The threshold that was crossed, of learned limits one of the two; NULL for verdicts"),
        c("n", "Nullable(UInt64)", "Records behind the figure; NULL where the table has no count"),
        c("announced", "UInt32", "Changes of state that were announced so far"),
        c(
            "row_version",
            COUNT,
            "Of several rows of one key the greatest is the truth: versions of all windows up to the last evaluated, \
             plus their number",
        ),
    ]);
    TableSpec {
        name: "alerts",
        comment: "What rules of the configuration say about metric rows: one row for each alert, with its state"
            .to_owned(),
        columns,
        key: vec![
            "job",
            "rule",
            "model",
            "version",
            "segment",
            "feature",
            "grain",
            "opened_window",
        ],
        version: Some("row_version"),
        by_month: false,
        settings: "",
    }
}

fn notifications() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "notifications",
        comment: "Changes of alerts and who was told of them: what is not delivered is sent again"
            .to_owned(),
        columns: vec![
            job_column(),
            c("idempotency_key", TEXT, "The change: the same in every attempt and at every target"),
            c("target", NAME, "Name of the target in the configuration; empty: the change itself"),
            c("payload", TEXT, "The change as JSON, as generic webhooks receive it"),
            c("answer", TEXT, "What the target said when it took it, or why it was given up"),
            c("status", NAME, "pending, delivered, or given_up"),
            c("created", TIME, "When the server wrote the row").filled("now64(3, 'UTC')"),
            c("row_version", COUNT, "1 while pending, then 2"),
        ],
        key: vec!["job", "idempotency_key", "target"],
        version: Some("row_version"),
        by_month: false,
        settings: "",
    }
}

fn custom_metrics() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "custom_metrics",
        comment: "Metrics that configurations define, as they were at the job's last start: what the table custom holds"
            .to_owned(),
        columns: vec![
            job_column(),
            c("metric", NAME, "Name of the metric"),
            c("expression", TEXT, "What it is computed from"),
            c("models", TEXT, "Names and globs of the models that have it"),
            c("segments", TEXT, "Globs of the segments that have it"),
            c("unit", NAME, "What it is in"),
            c("better", NAME, "higher, lower, zero (the nearer to 0 the better) or none"),
            c("description", TEXT, "What it says"),
            c("created", TIME, "When the server wrote the row").filled("now64(3, 'UTC')"),
        ],
        key: vec!["job", "metric"],
        version: Some("created"),
        by_month: false,
        settings: "",
    }
}

fn reference_profiles() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "reference_profiles",
        comment: "Reference profiles that configurations name, each as the job's first start with it found it"
            .to_owned(),
        columns: vec![
            job_column(),
            c("model", NAME, "Name or glob of the models that it is for"),
            c("reference_id", TEXT, "The profile, as in drift: name and digest of what it says"),
            c("name", NAME, "The name that it was given"),
            c("generation", "UInt16", "A changed profile of one name has a higher one"),
            c("format", "UInt32", "Version of the document's form"),
            c("document", TEXT, "The whole profile as JSON"),
            c("created", TIME, "When the server wrote the row").filled("now64(3, 'UTC')"),
        ],
        key: vec!["job", "model", "reference_id"],
        version: Some("created"),
        by_month: false,
        settings: "",
    }
}

fn jobs() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "jobs",
        comment: "What each job's name is bound to since its first start".to_owned(),
        columns: vec![
            job_column(),
            c("generation", "UInt16", "Rises with every deliberate rebuild"),
            c("cluster", TEXT, "ID of the Kafka cluster"),
            c("inference_topic", TEXT, "Name of the inference topic"),
            c("inference_topic_id", TEXT, "Kafka's ID of the inference topic"),
            c("label_topic", TEXT, "Name of the label topic; empty where there is none"),
            c("label_topic_id", TEXT, "Kafka's ID of the label topic"),
            c("partitions", "Int32", "Partitions of each topic"),
            c("configuration", TEXT, "Digest of all options that change what a row says"),
            c("window_ms", "Int64", "Length of the base window in milliseconds"),
            c("created", TIME, "When the server wrote the row").filled("now64(3, 'UTC')"),
        ],
        key: vec!["job", "generation", "created"],
        version: None,
        by_month: false,
        // Lets the server drop the second of two first starts at once: see `job::bind`.
        settings: "non_replicated_deduplication_window = 1000",
    }
}

fn files() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "files",
        comment: "Files that jobs took as they came, in that order: positions of marks count through them"
            .to_owned(),
        columns: vec![
            job_column(),
            c("generation", "UInt16", "Generation of the job"),
            c("stream", NAME, "inferences or labels"),
            c("number", "Int64", "Place among the files of the stream, from 0 on"),
            c("name", TEXT, "Path within the folder"),
            c("bytes", COUNT, "Its size"),
            c("digest", TEXT, "Of its name, its size and all its bytes"),
            c("first_offset", OFFSET, "Position of its first record"),
            c("offsets", "Int64", "Positions that it takes up, those of blank lines included"),
            c("records", COUNT, "Records of it that can be used"),
            c("rejected", COUNT, "Records of it that can't"),
            c("taken", TIME, "When the server wrote the row").filled("now64(3, 'UTC')"),
        ],
        key: vec!["job", "generation", "stream", "number"],
        version: None,
        by_month: false,
        // Of two processes that take a file as the same number, the server drops the second: see `files::take`.
        settings: "non_replicated_deduplication_window = 1000",
    }
}

fn migrations() -> TableSpec {
    let c = TableColumn::new;
    TableSpec {
        name: "migrations",
        comment: "Which versions of the tables and views were put in place, and when".to_owned(),
        columns: vec![
            c("version", "UInt32", "Version of the tables"),
            c("views", TEXT, "Digest of the views"),
            c("program", TEXT, "Version of the program that did it"),
            c("applied", TIME, "When").filled("now64(3, 'UTC')"),
        ],
        key: vec!["version", "applied"],
        version: None,
        by_month: false,
        settings: "",
    }
}

/// What the database of the tables is for.
pub const TABLES_COMMENT: &str =
    "Tidegauge: states, marks and metric rows; written by the program only";

impl TableSpec {
    /// `CREATE TABLE`.
    pub fn create(&self, databases: &Databases, engine: &Engine) -> String {
        let mut sql = format!(
            "CREATE TABLE IF NOT EXISTS {}.{}{}\n(\n{}\n)\nENGINE = {}\n",
            quoted(&databases.tables),
            quoted(self.name),
            engine.on_cluster(),
            column_list(&self.columns),
            self.engine_clause(engine),
        );
        if self.by_month {
            sql.push_str("PARTITION BY toYYYYMM(window_start)\n");
        }
        writeln!(sql, "ORDER BY ({})", self.key.join(", ")).expect("a String takes all");
        let settings = match engine {
            // Replicated tables remember inserted blocks without being asked.
            Engine::Replicated { .. } if self.settings.contains("deduplication") => "",
            _ => self.settings,
        };
        if !settings.is_empty() {
            writeln!(sql, "SETTINGS {settings}").expect("a String takes all");
        }
        sql + "COMMENT " + &literal(&self.comment)
    }

    fn engine_clause(&self, engine: &Engine) -> String {
        let family = if self.version.is_some() { "ReplacingMergeTree" } else { "MergeTree" };
        let version = self.version.map(str::to_owned);
        match engine {
            Engine::Plain => format!("{family}({})", version.unwrap_or_default()),
            Engine::Replicated { path, replica, .. } => {
                // A database that is replicated itself gives both, and takes none.
                let place = [path, replica].into_iter().filter(|_| !path.is_empty());
                let arguments: Vec<_> = place.map(|text| literal(text)).chain(version).collect();
                format!("Replicated{family}({})", arguments.join(", "))
            }
        }
    }
    /// `ALTER TABLE` that adds a column which a later version of the program brought, at its place.
    pub fn add_column(
        &self,
        column: &TableColumn,
        databases: &Databases,
        engine: &Engine,
    ) -> String {
        let at = self.columns.iter().position(|c| c.name == column.name).unwrap_or(0);
        let place = match at.checked_sub(1) {
            Some(before) => format!("AFTER {}", quoted(&self.columns[before].name)),
            None => "FIRST".to_owned(),
        };
        format!(
            "ALTER TABLE {}.{}{} ADD COLUMN IF NOT EXISTS {} {place}",
            quoted(&databases.tables),
            quoted(self.name),
            engine.on_cluster(),
            column.definition(),
        )
    }

    /// `ALTER TABLE` that gives a column its type and comment.
    pub fn modify_column(
        &self,
        column: &TableColumn,
        databases: &Databases,
        engine: &Engine,
    ) -> String {
        format!(
            "ALTER TABLE {}.{}{} MODIFY COLUMN {}",
            quoted(&databases.tables),
            quoted(self.name),
            engine.on_cluster(),
            column.definition(),
        )
    }

    /// `ALTER TABLE` that changes a column's comment.
    pub fn comment_column(
        &self,
        column: &TableColumn,
        databases: &Databases,
        engine: &Engine,
    ) -> String {
        format!(
            "ALTER TABLE {}.{}{} COMMENT COLUMN {} {}",
            quoted(&databases.tables),
            quoted(self.name),
            engine.on_cluster(),
            quoted(&column.name),
            literal(&column.comment),
        )
    }

    /// The columns that an insert names: all that the server does not fill in.
    pub fn written(&self) -> impl Iterator<Item = &TableColumn> {
        self.columns.iter().filter(|column| column.default.is_none())
    }
}

impl TableColumn {
    /// What rows have that an insert or an older version wrote without this column. Where no weights were used, a
    /// record weighs 1. Where no dead schemas were noted, nobody knows any.
    fn default_value(&self) -> Option<String> {
        let counted = match self.name.strip_suffix("_weight") {
            Some(counted) => counted,
            None if self.name == "n_eff" => "n",
            None if self.data_type == DEAD_SCHEMAS => {
                return Some(format!("[({OTHER_SCHEMAS}, 0, {})]", i64::MAX));
            }
            None => return self.default.map(str::to_owned),
        };
        Some(format!("toFloat64({counted})"))
    }

    fn definition(&self) -> String {
        let value = self.default_value();
        let default = value.map_or(String::new(), |value| format!(" DEFAULT {value}"));
        format!(
            "{} {}{default} COMMENT {}",
            quoted(&self.name),
            self.data_type,
            literal(&self.comment)
        )
    }
}

/// Columns of a table or view, one a line.
pub(super) fn column_list(columns: &[TableColumn]) -> String {
    let lines: Vec<_> = columns.iter().map(|c| format!("    {}", c.definition())).collect();
    lines.join(",\n")
}

/// The statements that create the database of the tables and all tables: the first half of what `init --print`
/// prints.
pub fn print(databases: &Databases, engine: &Engine) -> String {
    let mut sql = create_database(&databases.tables, TABLES_COMMENT, engine) + ";\n";
    for table in tables() {
        sql += "\n";
        sql += &table.create(databases, engine);
        sql += ";\n";
    }
    sql
}
