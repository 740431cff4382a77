//! Every table and view as data.

/// A table that rows are written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// States by key and partition.
    WindowState,
    /// The greatest seal mark by partition.
    Seals,
    /// Where each partition stands.
    Marks,
    /// Metric rows: traffic, errors, latency, freshness.
    Serving,
    /// Metric rows: coverage, delay and outcomes of labels.
    Labels,
    /// Metric rows: quality of binary classifiers.
    QualityBinary,
}

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
        /// The path in Keeper; `{table}` stands for the table's name.
        path: String,
        /// The replica's name, usually the macro `{replica}`.
        replica: String,
    },
}
