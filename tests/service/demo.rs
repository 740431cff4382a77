//! `tidegauge demo` as a newcomer meets it: its links, its verdict, and that nothing is left of it.

#![expect(clippy::unwrap_used, reason = "a panic here is a failed test")]

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{http, wait_for, wait_until};

/// Generous: the tests share the machine with each other.
const DEADLINE: Duration = Duration::from_secs(300);
/// The longest `--for` of these tests, the 30 s that rows may take to account for all records, and the end.
const END_DEADLINE: Duration = Duration::from_secs(90 + 30 + 300);

/// A running demo with temporary files of its own.
struct Demo {
    child: Child,
    /// Holds `tmp`, which is the demo's own, and what it printed.
    folder: TempDir,
}

/// What is there to see once a demo has ended.
struct Ended {
    code: Option<i32>,
    output: String,
    errors: String,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = |name| File::create(folder.path().join(name)).expect("the folder is ours");
        fs::create_dir(folder.path().join("tmp")).expect("the folder is ours");
        let child = Command::new(env!("CARGO_BIN_EXE_tidegauge"))
            .arg("demo")
            .args(arguments)
            .env("TMPDIR", folder.path().join("tmp"))
            .stdin(Stdio::null())
            .stdout(file("output"))
            .stderr(file("errors"))
            .spawn()
            .expect("cargo has built it");
        Self { child, folder }
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.folder.path().join(name)).expect("it was made at the start")
    }

    /// Waits for what `find` sees in the output; a demo that ends first has failed.
    fn wait_for<T>(&mut self, what: &str, mut find: impl FnMut(&str) -> Option<T>) -> T {
        wait_for(what, DEADLINE, || {
            let found = find(&self.text("output"));
            let ended = self.child.try_wait().expect("it is our child");
            assert!(found.is_some() || ended.is_none(), "{ended:?}: {}", self.text("errors"));
            found
        })
    }

    /// The printed link of this name, once it is there.
    fn link(&mut self, name: &str) -> String {
        self.wait_for(name, |output| {
            // The last line may not be whole yet.
            let (whole, _) = output.rsplit_once('\n')?;
            let line = whole.lines().find_map(|line| line.strip_prefix(name))?;
            line.starts_with(' ').then(|| line.trim().to_owned())
        })
    }

    /// Waits for the first rows in the printed table.
    fn wait_for_rows(&mut self) {
        self.wait_for("the first rows", |output| output.contains("\nfraud ").then_some(()));
    }

    fn interrupt(&self) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(id), Signal::SIGINT).expect("it runs");
    }

    /// Waits for the end, and looks whether a process or a file is left.
    fn end(mut self) -> Ended {
        let children = descendants(self.child.id());
        assert!(!children.is_empty(), "a demo without a database");
        let mut status: Option<ExitStatus> = None;
        wait_until("the end of the demo", END_DEADLINE, || {
            status = self.child.try_wait().expect("it is our child");
            status.is_some()
        });
        for child in children {
            assert!(!child.exists(), "{} outlives the demo", child.display());
        }
        let left: Vec<_> =
            fs::read_dir(self.folder.path().join("tmp")).expect("the folder is ours").collect();
        assert!(left.is_empty(), "{left:?}");
        let code = status.and_then(|status| status.code());
        Ended { code, output: self.text("output"), errors: self.text("errors") }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only a failed test comes here with the demo running; its database ends with it.
        if self.child.try_wait().is_ok_and(|status| status.is_none()) {
            self.child.kill().expect("it runs");
            self.child.wait().expect("it is our child");
        }
    }
}

/// `/proc/ID` of all processes below this one.
fn descendants(id: u32) -> Vec<PathBuf> {
    let mut parents: BTreeMap<u32, u32> = BTreeMap::new();
    for entry in fs::read_dir("/proc").expect("Linux has it") {
        let path = entry.expect("/proc can be read").path();
        let Some(id) = path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok()) else {
            continue;
        };
        // The name in parentheses may hold anything; the state and the parent follow it.
        let stat = fs::read_to_string(path.join("stat")).unwrap_or_default();
        let parent =
            stat.rsplit(')').next().and_then(|s| s.split_whitespace().nth(1)?.parse().ok());
        parents.extend(parent.map(|parent| (id, parent)));
    }
    let is_below = |child: &u32| {
        let above = std::iter::successors(Some(*child), |id| parents.get(id).copied());
        above.skip(1).any(|parent| parent == id)
    };
    let below = parents.keys().filter(|child| is_below(child));
    below.map(|child| Path::new("/proc").join(child.to_string())).collect()
}

/// RFC 4648, with padding.
fn from_base64(text: &str) -> String {
    let value = |digit: u8| match digit {
        b'A'..=b'Z' => digit - b'A',
        b'a'..=b'z' => digit - b'a' + 26,
        b'0'..=b'9' => digit - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        other => panic!("not base64: {other}"),
    };
    let (mut bits, mut count, mut bytes) = (0_u32, 0, Vec::new());
    for digit in text.trim_end_matches('=').bytes() {
        bits = bits << 6 | u32::from(value(digit));
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push(u8::try_from(bits >> count & 0xff).expect("eight bits"));
        }
    }
    String::from_utf8(bytes).expect("text")
}

/// Address and what stands behind the `#`, decoded.
fn split(link: &str) -> (&str, String) {
    let (page, fragment) = link.split_once('#').expect("a link with a fragment");
    (page, from_base64(fragment))
}

/// Asks as ClickHouse's pages do.
fn ask(clickhouse: &str, query: &str) -> String {
    let url = format!("{clickhouse}/?user=default&default_format=JSONEachRow");
    let answer = http::request("POST", &url, &[], query.as_bytes()).expect("the demo runs");
    assert_eq!(answer.status, 200, "{query}: {}", answer.body);
    answer.body
}

fn wait_for_answer(clickhouse: &str, query: &str) {
    wait_until(query, DEADLINE, || !ask(clickhouse, query).is_empty());
}

/// What a newcomer opens: every page is there, and every query of it has an answer before long.
fn links_must_work(demo: &mut Demo) {
    let (charts, sql) = (demo.link("charts"), demo.link("SQL"));
    let (readiness, telemetry) = (demo.link("readiness"), demo.link("telemetry"));

    let (page, state) = split(&charts);
    assert_eq!(http::get(page).unwrap().status, 200);
    let state: Value = serde_json::from_str(&state).unwrap();
    let clickhouse = state["host"].as_str().unwrap();
    assert!(page.starts_with(clickhouse), "{page} asks {clickhouse}");
    let charts = state["queries"].as_array().unwrap();
    assert!(charts.len() > 3, "{charts:?}");
    for chart in charts {
        wait_for_answer(clickhouse, chart["query"].as_str().unwrap());
    }
    let (page, query) = split(&sql);
    assert_eq!(http::get(page).unwrap().status, 200);
    wait_for_answer(clickhouse, &query);
    wait_until("readiness", DEADLINE, || http::get(&readiness).unwrap().status == 200);
    let telemetry = http::get(&telemetry).unwrap();
    assert_eq!(telemetry.status, 200);
    assert!(telemetry.body.contains("\ntidegauge_"), "{}", telemetry.body);
}

#[test]
fn rows_equal_what_was_sent() {
    let mut demo = Demo::start(&["--for", "30s"]);
    // By then it has a database.
    demo.link("charts");
    let ended = demo.end();
    assert_eq!(ended.code, Some(0), "{}{}", ended.output, ended.errors);
    assert!(ended.output.contains(": all equal\n"), "{}", ended.output);
}

/// Without a time Ctrl-C is the way to end it; with one it comes before what was asked for.
#[test]
fn links_work_and_an_interrupted_demo_leaves_nothing_behind() {
    for (arguments, code) in [(&[][..], 0), (&["--for", "10m"], 130)] {
        let mut demo = Demo::start(arguments);
        demo.wait_for_rows();
        if arguments.is_empty() {
            links_must_work(&mut demo);
        }
        demo.interrupt();
        let ended = demo.end();
        assert_eq!(ended.code, Some(code), "{}{}", ended.output, ended.errors);
    }
}

/// One row is spoiled behind the demo's back, by a version that no true row reaches.
#[test]
fn false_row_is_found_and_named() {
    // Long enough for the row to be spoiled on any machine, and little traffic meanwhile.
    let mut demo = Demo::start(&["--for", "90s", "--rate", "60"]);
    let charts = demo.link("charts");
    let clickhouse = charts.split_once("/dashboard#").unwrap().0.to_owned();
    let row = "FROM tidegauge.serving WHERE grain = '10s' AND model = 'fraud' AND segment = 'all' LIMIT 1";
    wait_for_answer(&clickhouse, &format!("SELECT model {row}"));
    let spoil = "INSERT INTO tidegauge.serving \
         SELECT * REPLACE (inferences + 1000000 AS inferences, 18446744073709551615 AS row_version)";
    ask(&clickhouse, &format!("{spoil} {row}"));

    let ended = demo.end();
    assert_eq!(ended.code, Some(1), "{}{}", ended.output, ended.errors);
    assert!(ended.output.contains(": they DIFFER\n"), "{}", ended.output);
    let named = ended.output.lines().filter(|line| line.contains("sent "));
    let named: Vec<_> = named.filter(|line| line.contains("found ")).collect();
    assert_eq!(named.len(), 1, "{}", ended.output);
    assert!(named[0].contains("\"fraud\"") && named[0].contains("inferences: 1000"), "{named:?}");
    assert!(ended.errors.contains("demo_rows_differ"), "{}", ended.errors);
}
