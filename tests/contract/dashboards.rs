//! The chart definitions, and the files that follow from them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use tidegauge::commands::dashboards::stale;
use tidegauge::dashboards::chart::{Definitions, Kind};
use tidegauge::dashboards::layout::{Place, tabs};
use tidegauge::dashboards::sql::FILTERS;
use tidegauge::dashboards::{Files, generate, metabase_query, metabase_query_of_one, page_charts};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn definitions() -> Definitions {
    Definitions::read(&deploy().join("dashboards")).unwrap()
}

fn files() -> Files {
    generate(&definitions(), "tidegauge_bi")
}

/// How many charts are defined: each has a file of its own.
fn defined() -> usize {
    fs::read_dir(deploy().join("dashboards/charts")).unwrap().count()
}

/// The pages of one tool: one for each dashboard.
fn pages_in<'a>(files: &'a Files, folder: &str) -> Vec<(&'a String, &'a String)> {
    let pages: Vec<_> = files.iter().filter(|(path, _)| path.starts_with(folder)).collect();
    assert_eq!(pages.len(), 3, "{folder}");
    pages
}

#[test]
fn the_files_in_deploy_are_those_of_the_definitions() {
    let stale = stale(&deploy(), &files()).unwrap();
    assert!(stale.is_empty(), "run `tidegauge dashboards`: {stale:?}");
}

#[test]
fn a_changed_or_foreign_file_is_stale() {
    let folder = tempfile::tempdir().unwrap();
    let files = files();
    for (path, text) in &files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    assert!(stale(folder.path(), &files).unwrap().is_empty());
    let [changed, foreign] = ["grafana/dashboards/model.json", "superset/assets/charts/old.yaml"];
    fs::write(folder.path().join(changed), "{}").unwrap();
    fs::write(folder.path().join(foreign), "").unwrap();
    assert_eq!(stale(folder.path(), &files).unwrap(), [changed, foreign]);
}

#[test]
fn every_dashboard_has_charts_that_fit_a_page() {
    let definitions = definitions();
    let names: Vec<_> = definitions.dashboards.iter().map(|d| d.name.as_str()).collect();
    assert_eq!(names, ["model", "overview", "stream"]);
    for name in names {
        let charts = definitions.of(name);
        assert!(charts.len() >= 10, "{name}");
        let tabs = tabs(&charts);
        for tab in &tabs {
            let places: Vec<Place> = tab.charts.iter().map(|&(_, place)| place).collect();
            assert_eq!(places[0], Place { row: 0, x: 0, y: 0, ..places[0] }, "each begins anew");
            for (at, place) in places.iter().enumerate() {
                assert!(place.x + place.width <= 12, "{name}: {place:?}");
                for other in &places[at + 1..] {
                    let beside =
                        place.x + place.width <= other.x || other.x + other.width <= place.x;
                    assert!(beside || place.y + place.height <= other.y, "{place:?} {other:?}");
                }
            }
        }
        let shown = tabs.iter().flat_map(|tab| &tab.charts).map(|(chart, _)| &chart.name);
        assert!(shown.eq(charts.iter().map(|chart| &chart.name)), "{name}: all, in order");
        assert_eq!(tabs.iter().all(|tab| tab.title.is_some()), name == "model");
        let titles: BTreeSet<_> = charts.iter().map(|chart| &chart.title).collect();
        assert_eq!(titles.len(), charts.len(), "{name}: a title each");
        assert!(charts.iter().all(|chart| chart.about.len() > 10 && chart.about.ends_with('.')));
    }
}

fn parsed(path: &str, text: &str) -> Value {
    if Path::new(path).extension().is_some_and(|extension| extension == "json") {
        serde_json::from_str(text).unwrap()
    } else {
        serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// All values of a key, at any depth.
fn values_of<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key));
            map.values().for_each(|inner| values_of(inner, key, found));
        }
        Value::Array(list) => list.iter().for_each(|inner| values_of(inner, key, found)),
        _ => {}
    }
}

/// Each chart of a page is known, and each item stands in the one above it; how many charts there are.
fn charts_in_place(path: &str, position: &Map<String, Value>, known: &BTreeSet<&str>) -> usize {
    let charts = position.values().filter(|item| item["type"] == "CHART");
    let mut shown = 0;
    for chart in charts {
        assert!(known.contains(chart["meta"]["uuid"].as_str().unwrap()), "{path}");
        shown += 1;
    }
    let all = position.values().filter_map(|item| item["children"].as_array()).flatten();
    assert!(all.clone().all(|child| position.contains_key(child.as_str().unwrap())));
    assert!(shown >= 10 && all.count() > shown, "{path}");
    let mut placed = 0;
    for item in position.values().filter(|item| item["parents"].is_array()) {
        // What stands above is named from the top, and each of these names the next.
        let line = item["parents"].as_array().unwrap().iter().chain([&item["id"]]);
        let line: Vec<&str> = line.map(|id| id.as_str().unwrap()).collect();
        let is_empty_grid = item["type"] == "GRID" && item["children"] == json!([]);
        for pair in line.windows(2).filter(|_| !is_empty_grid) {
            let children = position[pair[0]]["children"].as_array().unwrap();
            assert!(children.contains(&json!(pair[1])), "{path}: {pair:?}");
        }
        placed += 1;
    }
    assert_eq!(placed, position.len() - 3, "{path}: all but the root, the header and the version");
    shown
}

#[test]
fn superset_assets_name_each_other() {
    let files = files();
    let assets: Vec<(&str, Value)> = files
        .iter()
        .filter_map(|(path, text)| {
            Some((path.strip_prefix("superset/assets/")?, parsed(path, text)))
        })
        .collect();
    let own: Vec<_> = assets.iter().filter_map(|(_, asset)| asset["uuid"].as_str()).collect();
    let known: BTreeSet<_> = own.iter().copied().collect();
    assert_eq!(known.len(), own.len(), "each ID once");
    assert_eq!(own.len() + 1, assets.len(), "all have one, but metadata.yaml");
    let (mut links, mut pages, mut shown, mut asked) = ([0; 3], 0, 0, 0);
    for (path, asset) in &assets {
        let kind = path.split('/').next().unwrap();
        let expected = if kind == "metadata.yaml" { "type" } else { "version" };
        assert!(asset[expected].is_string(), "{path}");
        let keys = ["database_uuid", "dataset_uuid", "datasetUuid"];
        for (key, count) in keys.into_iter().zip(&mut links) {
            let mut named = Vec::new();
            values_of(asset, key, &mut named);
            assert!(named.iter().all(|id| known.contains(id.as_str().unwrap())), "{path}: {key}");
            *count += named.len();
        }
        if let Some(position) = asset["position"].as_object() {
            pages += 1;
            shown += charts_in_place(path, position, &known);
        }
        if let Some(context) = asset["query_context"].as_str() {
            let context: Value = serde_json::from_str(context).unwrap();
            assert!(context["queries"][0]["columns"].is_array(), "{path}");
            asked += 1;
        }
    }
    let (charts, filters) = (defined(), FILTERS.len());
    assert_eq!((pages, shown, asked), (3, charts, charts));
    // Datasets of charts and of filters, charts, and the filters of each page.
    assert_eq!(links, [charts + filters, charts, 3 * filters]);
    assert!(!files.values().any(|text| text.to_lowercase().contains("password")));
}

#[test]
fn grafana_panels_use_the_provisioned_source() {
    let provisioned = deploy().join("grafana/provisioning/datasources/tidegauge.yaml");
    let provisioned: Value = parsed("yaml", &fs::read_to_string(provisioned).unwrap());
    let source = &provisioned["datasources"][0];
    for (path, text) in pages_in(&files(), "grafana/") {
        let page = parsed(path, text);
        let mut named = Vec::new();
        values_of(&page, "datasource", &mut named);
        assert!(named.len() > 20, "{path}");
        assert!(named.iter().all(|n| n["uid"] == source["uid"] && n["type"] == source["type"]));
        let panels = page["panels"].as_array().unwrap();
        let ids: BTreeSet<_> = panels.iter().map(|panel| panel["id"].as_u64()).collect();
        assert_eq!(ids.len(), panels.len());
        let is_told = |panel: &Value| panel["description"].is_string() || panel["type"] == "row";
        assert!(panels.iter().all(is_told), "{path}");
        let places: Vec<_> = panels.iter().map(|panel| &panel["gridPos"]).collect();
        for (at, one) in places.iter().enumerate() {
            let [x, y, w, h] = ["x", "y", "w", "h"].map(|side| one[side].as_u64().unwrap());
            for other in &places[at + 1..] {
                let [ox, oy, ow] = ["x", "y", "w"].map(|side| other[side].as_u64().unwrap());
                assert!(x + w <= ox || ox + ow <= x || y + h <= oy, "{path}: {one} {other}");
            }
        }
    }
}

#[test]
fn metabase_cards_name_their_tabs() {
    let mut cards = 0;
    for (path, text) in pages_in(&files(), "metabase/") {
        let page = parsed(path, text);
        let tabs = page["tabs"].as_array().unwrap();
        let named: Vec<_> = page["cards"].as_array().unwrap().iter().map(|c| &c["tab"]).collect();
        let known = |tab: &Value| tabs.contains(tab) || (tabs.is_empty() && tab.is_null());
        assert!(named.iter().all(|tab| known(tab)), "{path}");
        assert!(tabs.iter().all(|tab| named.contains(&tab)), "{path}: none is empty");
        cards += named.len();
    }
    assert_eq!(cards, defined(), "one for each chart");
}

#[test]
fn metabase_shows_the_newest_rows_and_adds_up_only_what_has_a_sum() {
    let (definitions, files) = (definitions(), files());
    let mut heat_maps = 0;
    for dashboard in &definitions.dashboards {
        let path = format!("metabase/cards/{}.json", dashboard.name);
        let page = parsed(&path, &files[&path]);
        let tabs = tabs(&definitions.of(&dashboard.name));
        let charts = tabs.iter().flat_map(|tab| &tab.charts).map(|&(chart, _)| chart);
        for (chart, card) in charts.zip(page["cards"].as_array().unwrap()) {
            let name = &chart.name;
            let query = card["query"].as_str().unwrap();
            let wanted = if dashboard.one_model { metabase_query_of_one } else { metabase_query };
            assert_eq!(query, wanted(chart, "tidegauge_bi"), "{name}");
            let first = query.contains("model = coalesce([[{{model}}, ]](SELECT min(model) FROM ");
            assert_eq!(
                first, dashboard.one_model,
                "{name}: of all models only where all are meant"
            );
            let last = query.lines().next_back().unwrap();
            assert_eq!(last.starts_with("ORDER BY time DESC, "), chart.kind.over_time(), "{name}");
            let has_days = query.contains("now64(3, 'UTC')) - toIntervalDay(7)");
            assert_eq!(has_days, chart.sql.contains("{time}"), "{name}");
            let settings = &card["visualization_settings"];
            let adds_up = settings["stackable.stack_type"].is_string();
            assert_eq!(adds_up, chart.kind == Kind::Stacked, "{name}");
            let has_gaps = settings["line.missing"] == json!("none");
            assert_eq!(has_gaps, card["display"] == "line" && chart.kind != Kind::Curve, "{name}");
            if chart.kind == Kind::Heatmap {
                assert_eq!(card["display"], "line", "{name}");
                heat_maps += 1;
            }
            let is_named =
                matches!(settings["graph.goal_label"].as_str(), Some("limit" | "warn" | "bad"));
            assert_eq!(is_named, settings["graph.show_goal"] == json!(true), "{name}");
        }
    }
    assert!(heat_maps > 1, "{heat_maps} heat maps");
}

#[test]
fn one_job_is_shown_at_a_time_and_first_the_newest() {
    let files = files();
    // The same in SQL where a tool has no default that it looks up.
    let newest = "(SELECT argMin(job, (-last_window, job)) FROM (SELECT job, ";
    for (path, text) in pages_in(&files, "grafana/") {
        let page = parsed(path, text);
        let list = page["templating"]["list"].as_array().unwrap();
        let job = list.iter().find(|variable| variable["name"] == "job").unwrap();
        assert_eq!([&job["multi"], &job["includeAll"]], [&json!(false); 2], "{path}");
        assert!(text.contains("job = ${job:sqlstring}") && !text.contains(newest), "{path}");
        for other in list.iter().filter(|variable| variable["name"] != "job") {
            let offered = other["query"].as_str().unwrap();
            assert!(offered.contains("WHERE job = ${job:sqlstring} AND "), "{path}: {offered}");
        }
    }
    let choices = "superset/assets/datasets/Tidegauge/choose_job.yaml";
    let metrics = parsed(choices, &files[choices])["metrics"].clone();
    for (path, text) in pages_in(&files, "superset/assets/dashboards/") {
        let page = parsed(path, text);
        let list = page["metadata"]["native_filter_configuration"].as_array().unwrap();
        let job = list.iter().find(|filter| filter["id"] == "NATIVE_FILTER-job").unwrap();
        assert_eq!(job["requiredFirst"], json!(true), "{path}");
        assert_eq!(job["sortMetric"], metrics[0]["metric_name"], "{path}");
        let controls = &job["controlValues"];
        assert_eq!(controls["defaultToFirstItem"], json!(true), "{path}");
        let more = [&controls["multiSelect"], &controls["sortAscending"]];
        assert_eq!(more, [&json!(false); 2], "{path}");
        let others = ["model", "version", "segment", "grain"];
        for other in others.map(|name| format!("NATIVE_FILTER-{name}")) {
            let filter = list.iter().find(|filter| filter["id"] == *other).unwrap();
            assert_eq!(filter["cascadeParentIds"], json!(["NATIVE_FILTER-job"]), "{path}");
        }
    }
    let definitions = definitions();
    for chart in &definitions.charts {
        // Superset holds a filter's choice against the columns of what a query gives, too: a chart that shows all of them
        // has to call them otherwise.
        for name in ["segment", "grain"] {
            let is_shown = chart.columns.iter().any(|(column, _)| column == name);
            let is_chosen = chart.sql.contains(&format!("{{{name}}}"));
            assert!(is_chosen || !is_shown, "{}: {name}", chart.name);
        }
        assert!(metabase_query(chart, "tidegauge_bi").contains(newest), "{}", chart.name);
    }
    for dashboard in &definitions.dashboards {
        let charts = page_charts(&definitions, &dashboard.name, "tidegauge_bi");
        assert!(charts.iter().all(|(_, query)| query.contains(newest)), "{}", dashboard.name);
    }
}

#[test]
fn every_view_is_read_of_the_chosen_job_only() {
    for chart in &definitions().charts {
        let [views, jobs] = ["{db}.", "{job}"].map(|part| chart.sql.matches(part).count());
        assert_eq!(views, jobs, "{}", chart.name);
        let is_told_apart = chart.columns.first().is_none_or(|(name, _)| name == "job");
        assert!(is_told_apart, "{}: a table's rows are of one job each", chart.name);
    }
}

#[test]
fn every_tool_offers_every_filter() {
    let files = files();
    let names = FILTERS.map(|filter| filter.name);
    for (folder, list, key) in [
        ("grafana/", "/templating/list", "name"),
        ("metabase/", "/parameters", "id"),
        ("superset/assets/dashboards/", "/metadata/native_filter_configuration", "id"),
    ] {
        for (path, text) in pages_in(&files, folder) {
            let page = parsed(path, text);
            let offered = page.pointer(list).and_then(Value::as_array).unwrap().iter();
            let offered: Vec<_> = offered
                .map(|filter| filter[key].as_str().unwrap().trim_start_matches("NATIVE_FILTER-"))
                .collect();
            // The time stands before them, but Grafana has a place of its own for it.
            assert!(offered.ends_with(&names), "{path}: {offered:?}");
        }
    }
    for (path, text) in pages_in(&files, "clickhouse/") {
        let page = parsed(path, text);
        for filter in FILTERS {
            let until_chosen = filter.default.unwrap_or("");
            assert_eq!(page["params"][filter.name], until_chosen, "{path}: {}", filter.name);
        }
    }
}

#[test]
fn tabs_that_are_torn_or_incomplete_are_refused() {
    let read = |tabs: &[&str]| {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("charts")).unwrap();
        fs::write(folder.path().join("dashboards.toml"), "[d]\ntitle = 'D'\nabout = 'A'\n")
            .unwrap();
        for (number, tab) in tabs.iter().enumerate() {
            let tab = if tab.is_empty() { String::new() } else { format!("tab = '{tab}'\n") };
            let text = format!(
                "title = 'T'\ndashboard = 'd'\nkind = 'number'\nunit = 'count'\nwidth = 6\nabout = 'A.'\n\
                 {tab}sql = 'SELECT 1 AS value FROM {{db}}.serving WHERE {{time}}'\n"
            );
            fs::write(folder.path().join(format!("charts/d-{number}.toml")), text).unwrap();
        }
        Definitions::read(folder.path()).map(|_| ()).map_err(|error| error.to_string())
    };
    for good in [["", "", ""], ["a", "a", "b"], ["a", "b", "c"]] {
        assert_eq!(read(&good), Ok(()));
    }
    for (bad, at) in [(["a", "b", "a"], 2), (["a", "", ""], 1), (["", "", "a"], 2)] {
        let error = read(&bad).unwrap_err();
        assert!(error.contains(&format!("d-{at}.toml: ")) && error.contains("`tab`"), "{error}");
    }
}

#[test]
fn wrong_definitions_are_named() {
    let chart =
        "title = 'T'\ndashboard = 'd'\nkind = 'number'\nunit = 'count'\nwidth = 6\nabout = 'A.'\n";
    let error = |extra: &str, sql: &str| {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("charts")).unwrap();
        fs::write(folder.path().join("dashboards.toml"), "[d]\ntitle = 'D'\nabout = 'A'\n")
            .unwrap();
        let text = format!("{chart}{extra}sql = \"{sql}\"\n");
        fs::write(folder.path().join("charts/one.toml"), text).unwrap();
        Definitions::read(folder.path()).map_err(|error| {
            assert!(error.to_string().contains("one.toml"), "{error}");
            assert_eq!(error.code(), "dashboards_wrong");
            error.to_string()
        })
    };
    let good = "SELECT 1 AS value FROM {db}.serving WHERE {time}";
    assert_eq!(error("", good).unwrap().charts[0].kind, Kind::Number);
    for (extra, sql, said) in [
        ("", "SELECT 1 FROM {db}.serving WHERE {tme}", "{tme} is no placeholder"),
        ("", "SELECT 1 FROM x", "reads no view"),
        ("", "SELECT $1 FROM {db}.x", "means something"),
        ("colour = 'red'\n", good, "unknown field `colour`"),
        ("height = 99\n", good, "height 2 to 30"),
        ("columns = [['a', 'count']]\n", good, "a table, and nothing else"),
        ("thresholds = [{ at = 2, level = 'bad' }, { at = 1, level = 'bad' }]\n", good, "ascend"),
    ] {
        let error = error(extra, sql).unwrap_err();
        assert!(error.contains(said), "{error}");
    }
    let missing = Definitions::read(Path::new("/nowhere")).unwrap_err();
    assert!(missing.code() == "dashboards_unread" && missing.to_string().contains("/nowhere"));
}
