//! Databases, engines and the spelling of names and texts: what all statements share.

/// Which table engines `init` uses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// Tables of one server.
    #[default]
    Plain,
    /// Replicated tables, for ClickHouse with Keeper. Inserts then need `insert_quorum`, reads
    /// `select_sequential_consistency`.
    Replicated {
        /// The cluster of `ON CLUSTER`; none where the database itself is replicated.
        cluster: Option<String>,
        /// The path in Keeper, with the server's macros, as `/clickhouse/tables/{shard}/{database}/{table}`; empty where
        /// the database itself is replicated, and gives path and replica.
        path: String,
        /// The replica's name, usually the macro `{replica}`.
        replica: String,
    },
}

/// The two databases: tables, and views for BI tools.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Databases {
    /// The one that the writer owns.
    pub tables: String,
    /// The one that BI users see.
    pub views: String,
}

/// The database of a job whose configuration names none.
pub const DEFAULT_DATABASE: &str = "tidegauge";

impl Databases {
    /// `<database>` and `<database>_bi`.
    pub fn of(database: &str) -> Self {
        Self { tables: database.to_owned(), views: format!("{database}_bi") }
    }

    /// Whether a name may be used: `[a-z][a-z0-9_]*`, since BI tools break on others.
    pub fn is_name(name: &str) -> bool {
        name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    }
}

impl Engine {
    /// ` ON CLUSTER name`, or nothing.
    pub fn on_cluster(&self) -> String {
        match self {
            Self::Replicated { cluster: Some(cluster), .. } => {
                format!(" ON CLUSTER {}", quoted(cluster))
            }
            Self::Plain | Self::Replicated { .. } => String::new(),
        }
    }
}

/// A name between backticks.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace('\\', "\\\\").replace('`', "\\`"))
}

/// A text literal.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'"))
}

/// `CREATE DATABASE` of one of the two.
pub fn create_database(name: &str, comment: &str, engine: &Engine) -> String {
    format!(
        "CREATE DATABASE IF NOT EXISTS {}{} COMMENT {}",
        quoted(name),
        engine.on_cluster(),
        literal(comment)
    )
}
