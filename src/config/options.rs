//! Every option as data: its key, type and default, and why the default is what it is. Checks of the file, the
//! environment overlay and the test of `deploy/tidegauge.toml` read this one list.

/// The type of an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// A span of time: `"500ms"`, `"90s"`, `"5m"`, `"1h"`, `"7d"`.
    Duration,
    /// A number of bytes: `"512MB"`, `"4GiB"`.
    Bytes,
    /// Text, or `"env:NAME"`, or `"file:PATH"`.
    Secret,
    /// A list of texts.
    Texts,
    /// A list of numbers.
    NumberList,
    /// A table of texts.
    Table,
    /// A table whose values are texts or lists of texts.
    Paths,
    /// Text, number or boolean, or a list of such.
    Classes,
    /// A table of numbers.
    Numbers,
    /// A table of tables: limits by method.
    Methods,
    /// A table of tables: what is declared of features.
    Features,
    /// true or false.
    Flag,
}

impl Kind {
    /// What a value of it looks like.
    pub fn expected(self) -> &'static str {
        match self {
            Self::Text => "text, like \"fraud\"",
            Self::Integer => "a whole number, like 8",
            Self::Number => "a number, like 0.5",
            Self::Duration => "a duration, like \"500ms\", \"90s\", \"5m\", \"1h\" or \"7d\"",
            Self::Bytes => "a number of bytes, like \"512MB\" or \"4GiB\"",
            Self::Secret => "text, like \"env:NAME\" or \"file:PATH\"",
            Self::Texts => "a list of texts, like [\"1h\", \"1d\"]",
            Self::NumberList => "a list of numbers, like [0.3, 0.7]",
            Self::Table => "a table of texts, like { \"security.protocol\" = \"SSL\" }",
            Self::Paths => "a table of paths, like { request_id = [\"meta.rid\", \"index\"] }",
            Self::Classes => "a class or a list of classes, like \"1\", true or [\"yes\", \"y\"]",
            Self::Methods => {
                "a table of methods, like { psi = { warn_at = 0.1, drift_at = 0.25 } }"
            }
            Self::Features => {
                "a table of features, like { age = { range = [0, 120] }, plan = { kind = \"categorical\" } }"
            }
            Self::Flag => "true or false",
            Self::Numbers => "a table of numbers, like { tp = 5, fp = -1, fn = -20, tn = 0 }",
        }
    }
}

/// One option.
#[derive(Clone, Copy, Debug)]
pub struct Opt {
    /// Its key; `*` stands for a model's name or glob, or for the place in a list of sections.
    pub key: &'static str,
    /// Its type.
    pub kind: Kind,
    /// The default as it would stand in the file; empty where there is none.
    pub default: &'static str,
    /// Why the default is what it is, or why there is none.
    pub why: &'static str,
}

const fn opt(key: &'static str, kind: Kind, default: &'static str, why: &'static str) -> Opt {
    Opt { key, kind, default, why }
}

/// Every option that exists, in the order of `deploy/tidegauge.toml`.
pub const OPTIONS: &[Opt] = &[
    opt("job", Kind::Text, "tidegauge", "one job needs no name of its own; two in one database do"),
    opt(
        "start",
        Kind::Text,
        "earliest",
        "a job without marks measures all that the log still holds",
    ),
    opt("workers", Kind::Integer, "0", "0 is one worker for each core"),
    opt(
        "drain_budget",
        Kind::Duration,
        "20s",
        "below Kubernetes' 30 s and far below max.poll.interval.ms",
    ),
    opt("kafka.brokers", Kind::Text, "localhost:9092", "a broker on the same machine"),
    opt("kafka.properties", Kind::Table, "{}", "librdkafka's own defaults fit a plain listener"),
    opt("inferences.topic", Kind::Text, "", "there is nothing to measure without it"),
    opt("inferences.format", Kind::Text, "json", "the format that needs no schema"),
    opt("inferences.fields", Kind::Paths, "{}", "fields lie under their own names"),
    opt("labels.topic", Kind::Text, "", "leave the whole section out where there are no labels"),
    opt("labels.format", Kind::Text, "json", "the format that needs no schema"),
    opt("labels.fields", Kind::Paths, "{}", "fields lie under their own names"),
    opt("schema_registry.url", Kind::Text, "", "only format = \"avro\" needs one"),
    opt("schema_registry.user", Kind::Text, "", "registries inside a network are often open"),
    opt("schema_registry.password", Kind::Secret, "", "registries inside a network are often open"),
    opt(
        "windows.size",
        Kind::Duration,
        "5m",
        "short enough to see a fault, long enough for a few hundred records",
    ),
    opt(
        "windows.grains",
        Kind::Texts,
        "[\"1h\", \"1d\"]",
        "what dashboards show; those that the window size does not divide are left out",
    ),
    opt("windows.lateness", Kind::Duration, "10m", "covers a producer that retries"),
    opt(
        "windows.label_wait",
        Kind::Duration,
        "1h",
        "how long memory holds an inference; set it to when your labels come",
    ),
    opt(
        "windows.max_future",
        Kind::Duration,
        "5m",
        "producers' clocks differ by seconds, not by more",
    ),
    opt(
        "windows.max_gap",
        Kind::Duration,
        "7d",
        "one record's own timestamp counts at most this far beyond the clock",
    ),
    opt(
        "windows.progress",
        Kind::Text,
        "log",
        "Kafka's timestamps; \"event\" for topics whose history was loaded later",
    ),
    opt(
        "windows.clock_stamps",
        Kind::Integer,
        "8",
        "seven wrong timestamps don't move a clock; 1 where the broker stamps the records",
    ),
    opt("models.*.task", Kind::Text, "", "each record's own shape says it"),
    opt("models.*.positive", Kind::Classes, "", "1 and true are positive, as text too"),
    opt("models.*.threshold", Kind::Number, "0.5", "what most libraries decide by"),
    opt(
        "models.*.thresholds",
        Kind::NumberList,
        "[]",
        "each one is a row more for each window, in quality_threshold",
    ),
    opt(
        "models.*.weights",
        Kind::Text,
        "ignore",
        "\"use\" only where labels carry a weight on purpose: it changes what every figure means",
    ),
    opt("models.*.segments", Kind::Texts, "[]", "each segment value is a row more for each window"),
    opt("models.*.reference", Kind::Text, "", "without one nothing can be said about drift"),
    opt("models.*.value", Kind::Numbers, "", "what a decision is worth is yours to say"),
    opt(
        "models.*.distinct",
        Kind::Texts,
        "[]",
        "most numbers are all different; each feature takes up to 4 KiB more in each key",
    ),
    opt("models.*.features", Kind::Features, "{}", "values say what kind a feature has"),
    opt(
        "models.*.drift.alpha",
        Kind::Number,
        "0.05",
        "one alarm of twenty may be false, of those that are certain enough",
    ),
    opt(
        "models.*.drift.primary",
        Kind::Text,
        "psi",
        "the best known one, and one that numbers and categories have",
    ),
    opt("models.*.drift.min_n", Kind::Integer, "100", "below it distances are mostly chance"),
    opt("models.*.drift.methods", Kind::Methods, "{}", "limits that are in common use"),
    opt("clickhouse.url", Kind::Text, "http://localhost:8123", "a server on the same machine"),
    opt(
        "clickhouse.database",
        Kind::Text,
        "tidegauge",
        "views for BI tools stand in <database>_bi",
    ),
    opt("clickhouse.user", Kind::Text, "default", "the user that every server has"),
    opt("clickhouse.password", Kind::Secret, "", "the default user has none"),
    opt("clickhouse.engine", Kind::Text, "plain", "one server; \"replicated\" needs Keeper"),
    opt("clickhouse.cluster", Kind::Text, "", "for ON CLUSTER; a replicated database needs none"),
    opt(
        "clickhouse.keeper_path",
        Kind::Text,
        "/clickhouse/tables/{shard}/{database}/{table}",
        "what ClickHouse's own manual uses",
    ),
    opt("clickhouse.replica", Kind::Text, "{replica}", "the macro that every replica defines"),
    opt(
        "clickhouse.insert_settings",
        Kind::Table,
        "{}",
        "replicated tables need { insert_quorum = \"auto\", insert_quorum_parallel = 0 }",
    ),
    opt(
        "clickhouse.read_settings",
        Kind::Table,
        "{}",
        "replicated tables need { select_sequential_consistency = 1 }",
    ),
    opt("clickhouse.timeout", Kind::Duration, "30s", "an insert of 64 MiB takes a second or two"),
    opt(
        "clickhouse.flush_interval",
        Kind::Duration,
        "5s",
        "how old a row may be; shorter means more and smaller inserts",
    ),
    opt(
        "dead_letters.topic",
        Kind::Text,
        "tidegauge.dead",
        "must exist: records that can't be used go there",
    ),
    opt(
        "dead_letters.limit",
        Kind::Number,
        "0.1",
        "more than a tenth of the records bad means a wrong format, not bad records",
    ),
    opt(
        "dead_letters.limit_after",
        Kind::Integer,
        "1000",
        "so many dead letters at least: a share of a few records says nothing",
    ),
    opt(
        "http.listen",
        Kind::Text,
        "127.0.0.1:9464",
        "reachable from this machine only; \"0.0.0.0:9464\" in a container",
    ),
    opt("state.budget", Kind::Bytes, "2GiB", "about 20 million held inferences"),
    opt(
        "caps.models",
        Kind::Integer,
        "256",
        "a stream with more models in one window names something else a model",
    ),
    opt("caps.versions", Kind::Integer, "64", "a rollout has a few versions at once"),
    opt(
        "caps.segments",
        Kind::Integer,
        "256",
        "a dimension with more values is an ID, not a segment",
    ),
    opt("caps.features", Kind::Integer, "256", "the figures of a feature are rows of their own"),
    opt(
        "caps.max_classes",
        Kind::Integer,
        "256",
        "the cells of a larger confusion matrix are read by nobody",
    ),
    opt(
        "caps.auroc_classes",
        Kind::Integer,
        "32",
        "the scores of a class take up to 300 kB in each key; 0 keeps none",
    ),
    opt("metrics.*.name", Kind::Text, "", "rows are kept under it: it must be said, and stay"),
    opt("metrics.*.expression", Kind::Text, "", "there is nothing to compute without it"),
    opt(
        "metrics.*.models",
        Kind::Texts,
        "[\"*\"]",
        "a metric is computed of all models, if not said otherwise",
    ),
    opt("metrics.*.segments", Kind::Texts, "[\"*\"]", "wherever there are rows of the others"),
    opt("metrics.*.unit", Kind::Text, "1", "most are ratios"),
    opt("metrics.*.better", Kind::Text, "none", "whether more is better is yours to say"),
    opt("metrics.*.description", Kind::Text, "", "the expression itself"),
    opt("alerts.*.name", Kind::Text, "", "alerts are kept under it: it must be said, and stay"),
    opt(
        "alerts.*.models",
        Kind::Texts,
        "[\"*\"]",
        "a rule is about all models, if not said otherwise",
    ),
    opt(
        "alerts.*.segments",
        Kind::Texts,
        "[\"all\"]",
        "segments are smaller, so they alert by chance",
    ),
    opt("alerts.*.metric", Kind::Text, "", "there is nothing to watch without it"),
    opt("alerts.*.grain", Kind::Text, "", "the base windows: they come first"),
    opt("alerts.*.below", Kind::Number, "", "what is bad is yours to say: below, above or learned"),
    opt("alerts.*.above", Kind::Number, "", "what is bad is yours to say: below, above or learned"),
    opt("alerts.*.learned", Kind::Number, "", "only a model with a reference has limits to learn"),
    opt("alerts.*.clear", Kind::Number, "", "the threshold itself"),
    opt("alerts.*.for", Kind::Integer, "2", "one window alone is often chance"),
    opt("alerts.*.clear_for", Kind::Integer, "2", "one good window alone is often chance, too"),
    opt("alerts.*.certain", Kind::Flag, "false", "the figure itself counts, not its interval"),
    opt("alerts.*.min_n", Kind::Integer, "", "100 records; 0 for a rule about that count itself"),
    opt(
        "alerts.*.min_coverage",
        Kind::Number,
        "",
        "0.5 where labels are read, since early labels are not typical; else 0",
    ),
    opt(
        "alerts.*.sealed_only",
        Kind::Flag,
        "false",
        "an early alert may be retracted, a late one is late",
    ),
    opt("alerts.*.severity", Kind::Text, "warning", "for whoever is told"),
    opt("notify.*.name", Kind::Text, "", "deliveries are remembered under it"),
    opt("notify.*.type", Kind::Text, "webhook", "the change as JSON, for any receiver"),
    opt("notify.*.url", Kind::Secret, "", "there is nobody to tell without it"),
    opt("notify.*.topic", Kind::Text, "", "of `kafka`: alerts get a topic of their own"),
    opt("notify.*.from", Kind::Text, "", "of `email`: servers take letters of known senders only"),
    opt("notify.*.to", Kind::Texts, "", "of `email`: there is nobody to tell without it"),
    opt("notify.*.secret", Kind::Secret, "", "receivers inside a network need no signature"),
    opt(
        "notify.*.timeout",
        Kind::Duration,
        "10s",
        "nothing waits for it but the next notification",
    ),
    opt("logs.format", Kind::Text, "text", "for people; \"json\" for a log store"),
    opt("logs.level", Kind::Text, "info", "what an operator needs"),
];

/// The option at a path of keys.
pub fn at(path: &[String]) -> Option<&'static Opt> {
    OPTIONS.iter().find(|option| fits(option.key, path).is_some_and(|rest| rest == 0))
}

/// Whether options lie below a path of keys.
pub fn is_section(path: &[String]) -> bool {
    OPTIONS.iter().any(|option| fits(option.key, path).is_some_and(|rest| rest > 0))
}

/// How many parts of `key` lie below `path`, if `path` leads to it.
fn fits(key: &str, path: &[String]) -> Option<usize> {
    let parts: Vec<&str> = key.split('.').collect();
    let leads = path.len() <= parts.len()
        && parts.iter().zip(path).all(|(part, given)| *part == "*" || part == given);
    leads.then(|| parts.len() - path.len())
}

/// The known key that is most like this path.
pub fn closest(path: &[String]) -> String {
    let last = path.last().map_or("", String::as_str);
    let whole = path.join(".");
    let mut best = (usize::MAX, Vec::new());
    for option in OPTIONS {
        let mut parts: Vec<String> = option.key.split('.').map(str::to_owned).collect();
        if let (Some(given), true) = (path.get(1), path[0] == "models" || is_list(&path[..1])) {
            for part in parts.iter_mut().filter(|part| part.as_str() == "*") {
                part.clone_from(given);
            }
        }
        let name = parts.last().map_or("", String::as_str);
        // A key in the wrong section is likelier than two slips in one, but not than one.
        let distance = edit_distance(&whole, &parts.join(".")).min(edit_distance(last, name) + 2);
        let of_section = edit_distance(&whole, &parts[0]);
        if of_section < best.0 {
            best = (of_section, parts[..1].to_vec());
        }
        if distance < best.0 {
            best = (distance, parts);
        }
    }
    written(&best.1)
}

/// Whether sections of this name may be many, like `[[alerts]]`.
pub fn is_list(path: &[String]) -> bool {
    matches!(path, [only] if ["metrics", "alerts", "notify"].contains(&only.as_str()))
}

/// A path as it would stand in the file; the place in a list of sections is left out.
pub(super) fn written(path: &[String]) -> String {
    let is_place = |i: usize| i == 1 && is_list(&path[..1]);
    let is_bare = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
    };
    let parts: Vec<String> = path
        .iter()
        .enumerate()
        .filter(|(i, _)| !is_place(*i))
        .map(|(_, part)| if is_bare(part) { part.clone() } else { format!("\"{part}\"") })
        .collect();
    parts.join(".")
}

/// Levenshtein's distance.
pub(super) fn edit_distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let substitute = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(key: &str) -> Vec<String> {
        key.split('.').map(str::to_owned).collect()
    }

    #[test]
    fn a_slip_of_the_finger_finds_its_key() {
        assert_eq!(closest(&path("kafka.brokrs")), "kafka.brokers");
        assert_eq!(closest(&path("brokers")), "kafka.brokers");
        assert_eq!(closest(&path("windows.latness")), "windows.lateness");
        assert_eq!(closest(&path("models.fraud-*.treshold")), "models.\"fraud-*\".threshold");
        let dotted = ["models", "a.b", "treshold"].map(str::to_owned);
        assert_eq!(closest(&dotted), "models.\"a.b\".threshold");
        assert_eq!(closest(&path("alerts.3.abov")), "alerts.above");
        assert_eq!(closest(&path("clickhose.url")), "clickhouse.url");
        assert_eq!(closest(&path("clickhose")), "clickhouse");
    }

    #[test]
    fn every_option_says_why() {
        for option in OPTIONS {
            assert!(!option.why.is_empty(), "{}", option.key);
        }
    }

    #[test]
    fn edit_distance_of_known_pairs() {
        assert_eq!(edit_distance("kitten", "sitting"), 3);
        assert_eq!(edit_distance("", "abc"), 3);
        assert_eq!(edit_distance("same", "same"), 0);
    }
}
