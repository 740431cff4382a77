//! The tables and views as data: what `init --print` prints is what `schemas/clickhouse` shows.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tidegauge::engine::metrics::MetricTable;
use tidegauge::sink::tables::{self, Databases, Engine, Table};
use tidegauge::sink::{clickhouse, views};

fn databases() -> Databases {
    Databases::of(tables::DEFAULT_DATABASE)
}

fn is_name(name: &str) -> bool {
    Databases::is_name(name)
}

#[test]
fn the_printed_statements_are_the_files_in_schemas() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas/clickhouse");
    let printed = [
        (folder.join("tables.sql"), tables::print(&databases(), &Engine::Plain)),
        (folder.join("views.sql"), views::print(&databases(), &Engine::Plain)),
    ];
    let stale: Vec<PathBuf> = printed
        .into_iter()
        .filter(|(path, sql)| std::fs::read_to_string(path).ok().as_ref() != Some(sql))
        .map(|(path, sql)| {
            let fresh =
                Path::new(env!("CARGO_TARGET_TMPDIR")).join(path.file_name().expect("a file"));
            std::fs::write(&fresh, sql).expect("the target folder is ours");
            fresh
        })
        .collect();
    assert!(
        stale.is_empty(),
        "schemas/clickhouse is not what `tidegauge init --print` prints: run `make schemas`, or copy {stale:?}"
    );
}

#[test]
fn print_gives_tables_before_views() {
    let sql = clickhouse::print("other", &Engine::Plain);
    let tables_at = sql.find("CREATE DATABASE IF NOT EXISTS `other`").expect("the tables");
    let views_at = sql.find("CREATE DATABASE IF NOT EXISTS `other_bi`").expect("the views");
    assert!(tables_at < views_at);
    assert!(!sql.contains("tidegauge`"), "the database's name is the configured one");
}

#[test]
fn replicated_tables_name_their_path_and_version() {
    let engine = Engine::Replicated {
        cluster: Some("c 1".into()),
        path: "/clickhouse/tables/{shard}/{database}/{table}".into(),
        replica: "{replica}".into(),
    };
    let sql = Table::Metric(MetricTable::Serving).spec().create(&databases(), &engine);
    assert!(sql.contains("`tidegauge`.`serving` ON CLUSTER `c 1`"), "{sql}");
    assert!(
        sql.contains(
            "ENGINE = ReplicatedReplacingMergeTree('/clickhouse/tables/{shard}/{database}/{table}', '{replica}', row_version)"
        ),
        "{sql}"
    );
    let all = tables::print(&databases(), &engine);
    assert!(all.contains("ENGINE = ReplicatedMergeTree('/clickhouse"), "{all}");
    assert!(!all.contains("non_replicated_deduplication_window"), "{all}");
}

#[test]
fn a_database_that_is_replicated_itself_gives_path_and_replica() {
    let engine =
        Engine::Replicated { cluster: None, path: String::new(), replica: "{replica}".into() };
    let sql = Table::Metric(MetricTable::Serving).spec().create(&databases(), &engine);
    assert!(sql.contains("ENGINE = ReplicatedReplacingMergeTree(row_version)"), "{sql}");
    assert!(!sql.contains("ON CLUSTER"), "{sql}");
    let all = tables::print(&databases(), &engine);
    assert!(all.contains("ENGINE = ReplicatedMergeTree()"), "{all}");
}

#[test]
fn metric_tables_begin_and_end_alike() {
    for table in MetricTable::ALL {
        let spec = Table::Metric(table).spec();
        let names: Vec<_> = spec.columns.iter().map(|column| column.name.as_str()).collect();
        let begin = ["window_start", "window_end", "grain", "job", "model", "version", "segment"];
        assert_eq!(names[..7], begin, "{}", spec.name);
        assert_eq!(names[names.len() - 3..], ["undefined", "sealed", "row_version"]);
        let key: BTreeSet<_> = spec.key.iter().copied().collect();
        let identity = ["job", "grain", "model", "version", "segment", "window_start"];
        let own = table.columns()[..table.keys()].iter().map(|column| column.name);
        assert_eq!(key, identity.into_iter().chain(own).collect());
        assert_eq!(spec.key[..2], ["job", "model"]);
    }
}

#[test]
fn every_table_and_view_is_sound() {
    for spec in tables::tables() {
        let names: BTreeSet<_> = spec.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names.len(), spec.columns.len(), "{}: each name once", spec.name);
        assert!(spec.key.iter().chain(&spec.version).all(|name| names.contains(name)));
        assert!(is_name(spec.name) && !spec.comment.is_empty());
        assert!(spec.columns.iter().all(|c| is_name(&c.name) && !c.comment.is_empty()));
        if spec.by_month {
            assert!(spec.key.contains(&"window_start"), "equal rows must meet in one partition");
        }
    }
    for view in views::views(&databases()) {
        assert!(is_name(view.name) && !view.comment.is_empty());
        assert!(
            view.columns.iter().all(|c| is_name(&c.name) && !c.comment.is_empty()),
            "{}",
            view.name
        );
        assert_eq!(view.definer, view.database == "tidegauge_bi", "{}", view.name);
    }
}

#[test]
fn names_that_bi_tools_break_on_are_refused() {
    assert!(["tidegauge", "a1_b"].into_iter().all(is_name));
    for name in ["", "1a", "_a", "A", "a-b", "a.b", "a b", "a`b", "ä"] {
        assert!(!is_name(name), "{name}");
    }
}
