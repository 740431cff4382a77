//! What a trial has shown, as text and as files.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

/// One invariant: what was compared, and where it does not hold.
pub struct Check {
    /// Such as `I1 tables equal the oracle`.
    pub name: &'static str,
    /// How many rows, records or keys were compared.
    pub compared: usize,
    /// More of what was measured.
    pub about: String,
    pub failures: Vec<String>,
}

/// One row of the matrix, run.
#[derive(Default)]
pub struct Report {
    pub id: String,
    pub title: String,
    pub seed: u64,
    pub injected: usize,
    /// The row's least number, or the one that this run allows.
    pub least: usize,
    pub records: usize,
    /// Metric rows held against the oracle's, and how many differences there were.
    pub rows_compared: usize,
    pub differences: usize,
    pub recoveries: Vec<Duration>,
    pub took: Duration,
    pub checks: Vec<Check>,
    /// Why the trial ended before its checks.
    pub broken: Option<String>,
}

impl Report {
    /// What is wrong, one a line; nothing where the row is shown.
    pub fn failures(&self) -> Vec<String> {
        let mut all: Vec<String> = self.broken.iter().cloned().collect();
        for check in &self.checks {
            all.extend(check.failures.iter().map(|failure| format!("{}: {failure}", check.name)));
            if check.compared == 0 {
                all.push(format!("{}: nothing was compared", check.name));
            }
        }
        all
    }

    /// The same, and whether the fault was there often enough. For the report of a whole row.
    pub fn verdict(&self) -> Vec<String> {
        let mut all = self.failures();
        if self.broken.is_none() {
            if self.injected < self.least {
                all.push(format!("injected {} times, at least {}", self.injected, self.least));
            }
            if self.rows_compared == 0 {
                all.push("no row was compared".to_owned());
            }
        }
        all
    }

    /// Median and maximum in seconds; none where no recovery was timed.
    pub fn recovery_s(&self) -> Option<[f64; 2]> {
        recovery_s(self.recoveries.clone())
    }

    /// Every check with what it has compared.
    pub fn details(&self) -> String {
        let mut text = String::new();
        for Check { name, compared, about, failures } in &self.checks {
            let more = if about.is_empty() { String::new() } else { format!("; {about}") };
            let failed = failures.len();
            writeln!(text, "  {name}: {compared} compared, {failed} wrong{more}").expect("memory");
        }
        text
    }

    fn as_json(&self) -> serde_json::Value {
        let checks = self.checks.iter().map(|check| {
            json!({ "name": check.name, "compared": check.compared, "about": check.about,
                    "wrong": check.failures.len() })
        });
        let recovery = self.recovery_s();
        json!({
            "id": self.id, "fault": self.title, "seed": self.seed,
            "injected": self.injected, "least": self.least, "records": self.records,
            "rows_compared": self.rows_compared, "differences": self.differences,
            "recovery_median_s": recovery.map(|it| it[0]),
            "recovery_maximum_s": recovery.map(|it| it[1]),
            "seconds": self.took.as_secs_f64(),
            "checks": checks.collect::<Vec<_>>(),
            "failures": self.verdict(),
        })
    }
}

fn recovery_s(mut recoveries: Vec<Duration>) -> Option<[f64; 2]> {
    recoveries.sort();
    let last = recoveries.last()?;
    Some([recoveries[(recoveries.len() - 1) / 2].as_secs_f64(), last.as_secs_f64()])
}

/// One line of the table: a row of the matrix with all its seeds.
fn line(of_row: &[Report]) -> String {
    let first = of_row.first().expect("a chunk has one");
    let sum = |count: fn(&Report) -> usize| of_row.iter().map(count).sum::<usize>();
    let recoveries = of_row.iter().flat_map(|report| report.recoveries.iter().copied()).collect();
    let [median, most] = match recovery_s(recoveries) {
        Some(both) => both.map(|seconds| format!("{seconds:.1} s")),
        None => [String::new(), String::new()],
    };
    let seeds = |of: &mut dyn Iterator<Item = &Report>| -> String {
        of.map(|report| report.seed.to_string()).collect::<Vec<_>>().join(", ")
    };
    let failed = seeds(&mut of_row.iter().filter(|report| !report.verdict().is_empty()));
    let verdict = if failed.is_empty() { "ok".to_owned() } else { format!("FAILED: {failed}") };
    format!(
        "| {} | {} | {} | {} | {} | {} | {median} | {most} | {} | {verdict} |",
        first.id,
        first.title,
        sum(|report| report.injected),
        sum(|report| report.records),
        sum(|report| report.rows_compared),
        sum(|report| report.differences),
        seeds(&mut of_row.iter()),
    )
}

/// `target/faults`.
pub fn folder() -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target/tmp");
    let folder = target.join("faults");
    std::fs::create_dir_all(&folder).expect("the target folder is ours");
    folder
}

/// Of the run, such as `2026-01-31 12:00 UTC`.
fn date() -> String {
    let date = std::process::Command::new("date").args(["-u", "+%Y-%m-%d %H:%M UTC"]).output();
    String::from_utf8_lossy(&date.expect("date is everywhere").stdout).trim().to_owned()
}

/// Writes `NAME.md` and `NAME.json`; gives the former's text. Trials of one row stand beside each other.
pub fn write(name: &str, reports: &[Report]) -> String {
    let date = date();
    let mut text = format!(
        "{date}\n\n\
         | id | fault | injected | records | rows compared | differences | recovery, median | maximum | seeds | |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|---|\n"
    );
    let is_same_row = |a: &Report, b: &Report| a.id == b.id && a.title == b.title;
    for of_row in reports.chunk_by(is_same_row) {
        text += &line(of_row);
        text.push('\n');
    }
    for report in reports {
        let (id, title, seed) = (&report.id, &report.title, report.seed);
        let took = report.took.as_secs_f64();
        write!(text, "\n{id} {title}, seed {seed}, {took:.0} s\n{}", report.details())
            .expect("memory");
        for failure in report.verdict().iter().take(20) {
            let shown: String = failure.chars().take(2000).collect();
            writeln!(text, "  FAILED {shown}").expect("memory");
        }
    }
    let rows: Vec<_> = reports.iter().map(Report::as_json).collect();
    let all = json!({ "date": date, "trials": rows });
    let all = serde_json::to_string_pretty(&all).expect("plain values");
    std::fs::write(folder().join(format!("{name}.json")), all).expect("the folder is ours");
    std::fs::write(folder().join(format!("{name}.md")), &text).expect("the folder is ours");
    text
}
