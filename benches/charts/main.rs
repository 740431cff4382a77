//! How long the charts of the dashboards and the pages of the overview wait for ClickHouse: 90 days of 50 models in
//! windows of 5 minutes with 4 segments, read by the BI user through the views; pages with 200 models.
//!
//! `cargo bench --bench charts`; `-- --only drift` for some of them. In test mode it runs with few rows.
#![expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
#![expect(clippy::unwrap_used, reason = "a benchmark that can't run ends")]
#![expect(unreachable_pub, reason = "modules of one program")]

#[path = "../../tests/support/mod.rs"]
mod support;

mod fill;

use std::path::Path;
use std::time::{Duration, Instant};

use clap::Parser;
use tidegauge::dashboards::chart::Definitions;
use tidegauge::dashboards::sql::FILTERS;
use tidegauge::overview::{Overview, OverviewSettings};
use tidegauge::report::References;
use tidegauge::sink::clickhouse::{ClickHouse, ClickHouseSettings};

use fill::{END_MS, Size, statements};
use support::{http, services, wait_until};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How long charts and pages take.
#[derive(Debug, Parser)]
struct Args {
    /// How often each is asked for.
    #[arg(long, default_value_t = 20)]
    rounds: usize,
    /// Only those whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
    /// Keep ClickHouse after it, for a look at plans, until standard input ends.
    #[arg(long)]
    hold: bool,
    /// Given by cargo.
    #[arg(long, hide = true)]
    bench: bool,
}

/// What a dashboard shows: days, windows, and whether its targets hold for it.
const SPANS: [(i64, &str, bool); 3] = [(7, "1h", true), (1, "5m", false), (90, "1d", false)];
const DAY_MS: i64 = 86_400_000;
/// What a page of one binary model has no rows of: models of other kinds, and figures that are undefined.
const EMPTY: [&str; 6] = [
    "model-20-classes-accuracy",
    "model-21-classes",
    "model-22-confusion",
    "model-25-regression",
    "model-26-regression-bias",
    "model-61-undefined",
];
/// Answers over no rows, also where one number is asked for.
const NOTHING: [&str; 3] = ["", "\\N\n", "0\n"];
const PAGES: &str = "pages";
const JOB: &str = "bench";

fn main() {
    let args = Args::parse();
    let (charts, pages, rounds) = if args.bench {
        let charts = Size { models: 50, days: 90, fine_days: 7 };
        (charts, Size { models: 200, days: 7, fine_days: 1 }, args.rounds)
    } else {
        let few = Size { models: 5, days: 2, fine_days: 1 };
        (few, few, 2)
    };
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = services::ClickHouse::start_with_deployed_users();
    for (database, size) in [("tidegauge", charts), (PAGES, pages)] {
        let started = Instant::now();
        runtime.block_on(of(&server, database).init()).unwrap();
        for sql in statements(database, JOB, size) {
            server.query(&sql);
        }
        let rows = server.query(&format!(
            "SELECT sum(rows) FROM system.parts WHERE active AND database = '{database}'"
        ));
        println!("{}: {} rows in {:.0} s", database, rows.trim(), started.elapsed().as_secs_f64());
    }
    let busy = "SELECT count() FROM system.merges";
    wait_until("merges", Duration::from_secs(900), || server.query(busy).trim() == "0");

    let bench = Bench { server: &server, rounds, only: &args.only };
    for (days, grain, targets) in SPANS {
        for (dashboard, target) in [("overview", 300.0), ("model", 500.0)] {
            let target = targets.then_some(target);
            bench.dashboard(dashboard, days, grain, target);
        }
    }
    bench.choices();
    bench.pages(&runtime);
    if args.hold {
        println!("\n{}: ends with standard input", server.url());
        std::io::read_to_string(std::io::stdin()).unwrap();
    }
}

fn of(server: &services::ClickHouse, database: &str) -> ClickHouse {
    ClickHouse::new(ClickHouseSettings::new(&server.url(), database, JOB))
}

struct Bench<'a> {
    server: &'a services::ClickHouse,
    rounds: usize,
    only: &'a str,
}

impl Bench<'_> {
    fn dashboard(&self, dashboard: &str, days: i64, grain: &str, target: Option<f64>) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
        let definitions = Definitions::read(&folder).unwrap();
        let model = if dashboard == "model" { "model = 'model-000'" } else { "1" };
        println!("\n## {dashboard}: {days} days in windows of {grain}\n");
        head("chart", target);
        let time = |ms: i64| format!("fromUnixTimestamp64Milli({ms}, 'UTC')");
        let since = time(END_MS - days * DAY_MS);
        let filled = [
            ("db", "tidegauge_bi".to_owned()),
            ("time", format!("window_start >= {since} AND window_start < {}", time(END_MS))),
            ("job", "1".to_owned()),
            ("model", model.to_owned()),
            ("version", "1".to_owned()),
            ("segment", "segment = 'all'".to_owned()),
            ("grain", format!("grain = '{grain}'")),
        ];
        for chart in definitions.of(dashboard) {
            let sql = filled.iter().fold(chart.sql.clone(), |sql, (name, condition)| {
                sql.replace(&format!("{{{name}}}"), condition)
            });
            let name = &*chart.name;
            self.line(name, target, || {
                let answer = self.as_bi_user(&sql);
                let is_empty = NOTHING.contains(&&*answer);
                assert_eq!(is_empty, EMPTY.contains(&name), "{name}: {} bytes", answer.len());
                answer.len()
            });
        }
    }

    /// What the filters offer.
    fn choices(&self) {
        println!("\n## filters\n");
        head("filter", Some(300.0));
        for filter in FILTERS {
            let sql = filter.values("tidegauge_bi", "1");
            self.line(filter.name, Some(300.0), || {
                let answer = self.as_bi_user(&sql);
                assert!(!NOTHING.contains(&&*answer), "{}: nothing can be chosen", filter.name);
                answer.len()
            });
        }
    }

    fn pages(&self, runtime: &tokio::runtime::Runtime) {
        let overview = Overview::bind(OverviewSettings {
            listen: ([127, 0, 0, 1], 0).into(),
            token: None,
            clickhouse: of(self.server, PAGES),
            about: String::new(),
            references: References::default(),
            clock: || END_MS,
        });
        let overview = runtime.block_on(overview).unwrap();
        let address = overview.address();
        let serving = runtime.spawn(overview.serve(std::future::pending()));
        println!("\n## overview: pages\n");
        head("page", Some(300.0));
        let model = "model=model-000&version=v1";
        for page in [
            "/".to_owned(),
            "/?range=7d".to_owned(),
            format!("/model?{model}"),
            format!("/model?{model}&range=7d"),
            format!("/feature?{model}&feature=feature-1"),
            format!("/feature?{model}&feature=feature-1&range=7d"),
        ] {
            let url = format!("http://{address}{page}");
            self.line(&page, Some(300.0), || {
                let answer = http::get(&url).unwrap();
                assert_eq!(answer.status, 200, "{page}: {}", answer.body);
                let is_there =
                    answer.body.contains("model-000") && !answer.body.contains("No rows");
                assert!(is_there, "{page}: {}", answer.body);
                answer.body.len()
            });
        }
        serving.abort();
    }

    /// As the tools ask: the answer.
    fn as_bi_user(&self, sql: &str) -> String {
        let user = "user=tidegauge_bi&password=tidegauge_bi&default_format=TabSeparated";
        let url = format!("{}/?{user}", self.server.url());
        let answer = http::request("POST", &url, &[], sql.as_bytes()).unwrap();
        assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
        answer.body
    }

    fn line(&self, name: &str, target: Option<f64>, mut ask: impl FnMut() -> usize) {
        if !name.contains(self.only) {
            return;
        }
        // The first one reads from disk and is not counted.
        let bytes = ask();
        let mut took: Vec<f64> = (0..self.rounds)
            .map(|_| {
                let started = Instant::now();
                ask();
                started.elapsed().as_secs_f64() * 1000.0
            })
            .collect();
        took.sort_by(f64::total_cmp);
        let at = |share: usize| took[(took.len() * share).div_ceil(100).max(1) - 1];
        let (p50, p95) = (at(50), at(95));
        let target = target.map_or(String::new(), |target| {
            format!(" {target:.0} | {} |", if p95 <= target { "yes" } else { "NO" })
        });
        println!("| {name} | {p50:.0} | {p95:.0} | {bytes} |{target}");
    }
}

fn head(what: &str, target: Option<f64>) {
    let more = if target.is_some() { [" target | met |", "---:|---|"] } else { ["", ""] };
    println!("| {what} | p50 ms | p95 ms | bytes |{}", more[0]);
    println!("|---|---:|---:|---:|{}", more[1]);
}
