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
