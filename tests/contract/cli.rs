//! The command line: texts and exit codes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::Duration;

use assert_cmd::Command;
use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use tempfile::TempDir;
use tidegauge::source::kafka::client_config;

use crate::wait::{wait_for, wait_until};

/// For what comes in a moment, however loaded the machine is.
const PATIENCE: Duration = Duration::from_secs(60);

fn tidegauge() -> Command {
    let mut command = Command::cargo_bin("tidegauge").unwrap();
    command.timeout(PATIENCE);
    command
}

/// A process that does not outlive its test.
struct Running(Child);

impl Running {
    /// Its exit code once it has ended by itself.
    fn ended(&mut self) -> Option<i32> {
        wait_for("the process ends", PATIENCE, || self.0.try_wait().unwrap()).code()
    }

    fn signal(&self, signal: Signal) {
        let process = nix::unistd::Pid::from_raw(i32::try_from(self.0.id()).unwrap());
        nix::sys::signal::kill(process, signal).unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended before.
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

/// Runs with these arguments; exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = tidegauge().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

const COMMANDS: [&str; 13] = [
    "alerts",
    "check",
    "dashboards",
    "demo",
    "init",
    "run",
    "backfill",
    "report",
    "query",
    "rebuild",
    "profile",
    "serve",
    "simulate",
];

#[test]
fn help_teaches_by_examples() {
    let (exit, help, _) = run(&["--help"]);
    assert_eq!(exit, 0);
    for command in COMMANDS {
        assert!(help.contains(&format!("tidegauge {command}")), "{command}");
        let (exit, help, _) = run(&[command, "--help"]);
        assert!(exit == 0 && help.contains("Examples:"), "{command}");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused"));
    // Whatever shows stored rows shows those of another job too.
    for command in [&["alerts", "list"][..], &["query"], &["rebuild"], &["report"], &["serve"]] {
        let (_, help, _) = run(&[command, &["--help"]].concat());
        assert!(help.contains("--job <NAME>"), "{command:?}");
    }
}

/// The columns of a help text that no terminal is there for.
const WIDTH: usize = 100;
/// The columns of an example, so that it fits a small terminal.
const EXAMPLE_WIDTH: usize = 78;

/// Lines of prose that are broken where the next word would have had room.
fn broken_early(help: &str) -> Vec<&str> {
    let is_prose = |line: &str| !line.is_empty() && !line.starts_with(' ');
    let lines: Vec<&str> = help.lines().collect();
    let pairs = lines.windows(2).filter(|pair| pair.iter().all(|line| is_prose(line)));
    let early = pairs.filter(|pair| {
        let word = pair[1].split(' ').next().unwrap();
        pair[0].chars().count() + 1 + word.chars().count() <= WIDTH
    });
    early.map(|pair| pair[0]).collect()
}

#[test]
fn help_fits_the_terminal() {
    for command in COMMANDS.map(Some).into_iter().chain([None]) {
        let mut asked = tidegauge();
        let output = asked.env("COLUMNS", WIDTH.to_string()).args(command).arg("--help").output();
        let help = String::from_utf8(output.unwrap().stdout).unwrap();
        assert_eq!(broken_early(&help), [""; 0], "{command:?}");
        let (_, examples) = help.split_once("\nExamples:\n").unwrap();
        let lines = examples.lines().filter(|line| line.starts_with(' '));
        let long: Vec<&str> = lines.filter(|line| line.chars().count() > EXAMPLE_WIDTH).collect();
        assert_eq!(long, [""; 0], "{command:?}");
    }
    assert_eq!(broken_early("a b\nc\n\n  d\n  e\nf"), ["a b"]);
    assert_eq!(broken_early(&format!("{}\nf", "a".repeat(99))), [""; 0]);
}

#[test]
fn a_day_is_said_to_be_one_in_utc() {
    for command in ["query", "rebuild", "report"] {
        let (_, help, _) = run(&[command, "--help"]);
        let words = help.split_whitespace().collect::<Vec<_>>().join(" ");
        for said in [
            "Windows from then on: 90m, 12h, 7d before now, or a day in UTC (2026-11-27)",
            "Windows up to then, written in the same way; a day is its first moment in UTC",
        ] {
            assert!(words.contains(said), "{command}: {help}");
        }
    }
}

/// What people copy into a notebook is the same in both places, and pandas takes it: text, and no bytes for a path.
#[test]
fn query_shows_the_notebook_of_the_readme() {
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("README.md");
    let readme = fs::read_to_string(readme).unwrap();
    let (_, help, _) = run(&["query", "--help"]);
    for line in [
        "import io, subprocess",
        "capture_output=True, text=True, check=True).stdout",
        "frame = pd.read_json(io.StringIO(rows), lines=True)",
    ] {
        assert!(readme.contains(line) && help.contains(line), "{line}:\n{help}");
    }
}

#[test]
fn usage_errors_end_with_2() {
    assert_eq!(run(&["measure"]).0, 2);
    assert_eq!(run(&["run", "--until-tomorrow"]).0, 2);
    assert_eq!(run(&["simulate", "--fast"]).0, 2);
    // Files, a range of the topics, or a folder: one of them.
    assert_eq!(run(&["backfill"]).0, 2);
    let topics = |more: &[&str]| run(&[&["backfill", "--topics"], more].concat());
    for wrong in [
        &["--inferences", "a.jsonl"][..],
        &["--watch", "folder"],
        &["--from", "yesterday"],
        &["--to", "offset:-1"],
        &["--labels-to", "2026-01-01", "--without-labels"],
    ] {
        assert_eq!(topics(wrong).0, 2, "{wrong:?}");
        assert!(!topics(wrong).2.contains("config_missing"), "{wrong:?}");
    }
    assert_eq!(run(&["backfill", "--inferences", "a.jsonl", "--to", "2026-01-01"]).0, 2);
    assert_eq!(run(&["simulate", "--late", "3"]).0, 2);
}

#[test]
fn options_of_topics_are_refused_beside_files() {
    for command in [&["backfill"][..], &["profile", "--name", "n"]] {
        for option in [&["--from", "2026-01-01"][..], &["--to", "offset:5"], &["--without-labels"]]
        {
            let (exit, _, error) = run(&[command, &["--inferences", "a.csv"], option].concat());
            assert!(
                exit == 2 && error.contains("cannot be used with"),
                "{command:?} {option:?} {error}"
            );
        }
    }
    let backfill =
        |option: &[&str]| run(&[&["backfill", "--inferences", "a.csv"], option].concat());
    for wrong in [
        &["--labels-to", "2026-01-01"][..],
        &["--every", "1s"],
        &["--finish"],
        &["--job", ""],
        &["--job", "a b"],
        &["--alerts", "--dry-run"],
    ] {
        let (exit, _, error) = backfill(wrong);
        assert!(exit == 2 && !error.contains("config_missing"), "{wrong:?}: {error}");
    }
}

#[test]
fn a_range_that_gives_no_row_or_no_label_is_refused_before_anything_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("t.toml");
    let labels = "[labels]\ntopic = \"l\"\n";
    for (labels, range, (code, name), said) in [
        ("", &["--labels-to", "2026-03-01"][..], (2, "usage"), "leave the option out"),
        (
            labels,
            &["--from", "2026-02-01", "--labels-to", "2026-01-31"][..],
            (2, "usage"),
            "labels are read from 2026-01-31T23:50:00Z, ",
        ),
        (
            labels,
            &["--from", "2026-01-05T03:01:00Z", "--to", "2026-01-05T03:09:00Z"][..],
            (1, "range_empty"),
            "give `--from 2026-01-05T03:00:00Z --to 2026-01-05T03:05:00Z`, or more",
        ),
        (
            labels,
            &["--from", "2026-02-01", "--to", "2026-02-01"][..],
            (1, "range_empty"),
            "`--to` is to be the later one",
        ),
    ] {
        let text =
            format!("kafka.brokers = \"127.0.0.1:1\"\n[inferences]\ntopic = \"i\"\n{labels}");
        fs::write(&config, text).unwrap();
        let fixed = ["backfill", "-c", config.to_str().unwrap(), "--topics", "--dry-run"];
        let (exit, _, error) = run(&[&fixed[..], range].concat());
        let is_told = error.contains(&format!("error[{name}]: ")) && error.contains(said);
        assert!(exit == code && is_told, "{range:?}: {exit} {error}");
    }
    let (_, help, _) = run(&["backfill", "--help"]);
    let help = help.split_whitespace().collect::<Vec<_>>().join(" ");
    assert_eq!(help.matches("a day is its start in UTC").count(), 3, "{help}");
}

#[test]
fn whoever_says_nothing_to_read_is_told_all_that_can_be_read() {
    for command in [&["backfill"][..], &["profile", "--name", "n"]] {
        let (exit, _, error) = run(command);
        assert_eq!(exit, 2, "{error}");
        let both = error.contains("--inferences <FILES>...|--topics");
        assert!(both && error.contains("required"), "{error}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = tidegauge().current_dir(&folder).arg("report").output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.starts_with("error[config_missing]: ") && output.status.code() == Some(2));
    assert!(error.contains("name files, which need none: `--inferences FILES`"), "{error}");
    // Files have no job.
    let (exit, _, error) = run(&["report", "--inferences", "a.csv", "--job", "fraud"]);
    assert!(exit == 2 && error.contains("cannot be used with"), "{error}");
}

/// As the first process of a container it would be deaf until the servers answer.
#[test]
fn a_signal_ends_what_still_connects() {
    let folder = tempfile::tempdir().unwrap();
    let row = "request_id,model,timestamp\n1,m,1700000000000\n";
    fs::write(folder.path().join("a.csv"), row).unwrap();
    for (signal, arguments) in [
        (Signal::SIGTERM, &["run"][..]),
        (Signal::SIGINT, &["backfill", "--topics"][..]),
        (Signal::SIGTERM, &["backfill", "--inferences", "a.csv"][..]),
        (Signal::SIGTERM, &["backfill", "--watch", ".", "--inferences", "*.csv"][..]),
    ] {
        // Kafka and ClickHouse in one, which take connections and never say a word.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let config = format!(
            "http.listen = \"127.0.0.1:0\"\nkafka.brokers = \"{address}\"\n\
             clickhouse.url = \"http://{address}\"\n[inferences]\ntopic = \"i\"\n"
        );
        fs::write(folder.path().join("tidegauge.toml"), config).unwrap();
        let process = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
            .current_dir(&folder)
            .args(arguments)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Running(process);
        let asked = silent.accept().unwrap();
        process.signal(signal);
        assert_eq!(process.ended(), Some(130), "{arguments:?}");
        drop(asked);
    }
}

#[test]
fn output_that_can_not_be_written_is_a_failure() {
    for command in [&["query", "serving"][..], &["report"]] {
        let (exit, _, error) = run(&[command, &["-o", "-"]].concat());
        assert!(exit == 2 && error.contains("goes to standard output"), "{error}");
    }
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"));
    let output = command.args(["init", "--print"]).stdout(full).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("error[output_unwritable]: can't write to standard output"), "{error}");
}

#[test]
fn configuration_errors_end_with_2_and_print_code_and_remedy() {
    let (exit, _, error) = run(&["run", "-c", "nowhere/t.toml"]);
    assert_eq!(exit, 2);
    assert!(error.starts_with("error[config_missing]: "), "{error}");
    assert!(error.contains("\n  remedy: "), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    fs::write(&file, "[inferences]\ntopick = \"i\"\n").unwrap();
    let (exit, _, error) = run(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(exit, 2);
    assert!(error.contains("t.toml:2") && error.contains("`inferences.topic`"), "{error}");
}

#[test]
fn a_taken_port_ends_with_1() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("t.toml");
    fs::write(&file, format!("http.listen = \"{address}\"\n[inferences]\ntopic = \"i\"\n"))
        .unwrap();
    let (exit, _, error) = run(&["run", "-c", file.to_str().unwrap()]);
    assert_eq!(exit, 1, "{error}");
    assert!(error.contains("error[http_bind]"), "{error}");
    // A log line stands before it; what is no terminal gets no colours.
    assert!(error.contains("starting") && !error.contains('\u{1b}'), "{error}");
}

#[test]
fn without_ca_certificates_https_is_refused_and_http_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let remedy = "install the system's CA certificates";
    for (command, option, code, says) in [
        ("init", "clickhouse.url = \"https://127.0.0.1:1\"", "clickhouse_refused", remedy),
        ("init", "clickhouse.url = \"http://127.0.0.1:1\"", "clickhouse_unavailable", "at http://"),
        ("run", "schema_registry.url = \"https://127.0.0.1:1\"", "registry_client", remedy),
    ] {
        let text = format!("{option}\n[inferences]\ntopic = \"i\"\n");
        fs::write(folder.path().join("tidegauge.toml"), text).unwrap();
        let output = without_certificates(folder.path()).arg(command).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{error}");
        assert!(error.contains(&format!("error[{code}]: ")) && error.contains(says), "{error}");
    }
    // The last configuration; files are JSON, so that nobody asks the registry.
    let line = r#"{"request_id": "1", "model": "m", "timestamp": 1700000000000, "score": 0.5}"#;
    fs::write(folder.path().join("a.jsonl"), line).unwrap();
    let arguments = ["profile", "--name", "n", "--inferences", "a.jsonl"];
    let output = without_certificates(folder.path()).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// To be run in this folder, on a machine without CA certificates.
fn without_certificates(folder: &Path) -> Command {
    let mut command = tidegauge();
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        command.env(variable, folder.join("none"));
    }
    command.current_dir(folder);
    command
}

#[test]
fn init_prints_the_sql_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let output = tidegauge().current_dir(&folder).args(["init", "--print"]).output().unwrap();
    let sql = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    assert!(sql.contains("CREATE TABLE") && sql.contains("CREATE OR REPLACE VIEW"), "{sql}");
    fs::write(
        folder.path().join("tidegauge.toml"),
        "clickhouse.database = \"other\"\n[inferences]\ntopic = \"i\"\n",
    )
    .unwrap();
    let output = tidegauge().current_dir(&folder).args(["init", "--print"]).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().contains("other_bi"));
}

#[test]
fn simulate_shows_its_schemas() {
    let (exit, schemas, _) = run(&["simulate", "--print-schemas"]);
    assert_eq!(exit, 0);
    assert!(schemas.contains("\"name\":\"Inference\"") && schemas.contains("\"name\":\"Label\""));
}

#[test]
fn the_overview_is_not_opened_to_others_without_a_token_and_ends_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegauge.toml");
    fs::write(&file, "[inferences]\ntopic = \"i\"\n").unwrap();
    let file = file.to_str().unwrap();
    for token in ["", "short"] {
        let arguments = ["serve", "-c", file, "--listen", "0.0.0.0:0", "--token", token];
        let (exit, _, error) = run(&arguments);
        assert_eq!(exit, 2, "{error}");
        assert!(
            error.contains("error[overview_open]") && error.contains("TIDEGAUGE_TOKEN"),
            "{error}"
        );
    }
    let (mut serving, said) = overview(file);
    assert!(said.starts_with("overview at http://127.0.0.1:"), "{said}");
    serving.signal(Signal::SIGTERM);
    assert_eq!(serving.ended(), Some(0));
}

/// The overview on a free port, and what it says at its start.
fn overview(file: &str) -> (Running, String) {
    let serving = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(["serve", "-c", file, "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut serving = Running(serving);
    let mut said = String::new();
    let mut out = std::io::BufReader::new(serving.0.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut said).unwrap();
    (serving, said)
}

#[test]
fn a_page_that_does_not_come_holds_the_end_of_the_overview_for_seconds_only() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tidegauge.toml");
    // It takes the question and never answers: a page would wait for half a minute.
    let database = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", database.local_addr().unwrap());
    let config = format!("clickhouse.url = \"{url}\"\n[inferences]\ntopic = \"i\"\n");
    fs::write(&file, config).unwrap();
    for (signals, expected) in
        [(&[Signal::SIGTERM, Signal::SIGINT][..], 130), (&[Signal::SIGTERM][..], 0)]
    {
        let (mut serving, said) = overview(file.to_str().unwrap());
        let address = said.split('/').nth(2).unwrap();
        let mut client = TcpStream::connect(address).unwrap();
        client.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let asked = database.accept().unwrap();
        for &signal in signals {
            serving.signal(signal);
        }
        assert_eq!(serving.ended(), Some(expected), "{signals:?}");
        let mut answer = String::new();
        // The connection may end in an error.
        client.read_to_string(&mut answer).ok();
        assert_eq!(answer, "", "the page was not waited for");
        drop(asked);
    }
}

#[test]
fn brokers_that_are_away_hold_the_end_of_simulate_until_a_second_signal_only() {
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["inferences", "labels"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    // As fast as it goes, so that the small queue is always full.
    let sending = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(["simulate", "--brokers", &brokers, "--fast", "--records", "100000000"])
        .args(["--property", "queue.buffering.max.messages=10"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut sending = Running(sending);
    let group = ("group.id".to_owned(), "watching".to_owned());
    let consumer: BaseConsumer = client_config(&brokers, &[group]).create().unwrap();
    wait_until("something is sent", PATIENCE, || {
        assert_eq!(sending.0.try_wait().unwrap(), None, "it sends until it is told to end");
        let marks = consumer.fetch_watermarks("inferences", 0, Duration::from_secs(10));
        marks.is_ok_and(|(_, end)| end > 0)
    });
    // Put down, it would listen anew on its port at once, which fails where another test just starts a process.
    drop(consumer);
    drop(cluster);
    sending.signal(Signal::SIGTERM);
    sending.signal(Signal::SIGINT);
    assert_eq!(sending.ended(), Some(130));
}

/// A folder with the chart definitions of this repository and nothing else.
fn charts() -> TempDir {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/dashboards");
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("dashboards");
    fs::create_dir_all(own.join("charts")).unwrap();
    fs::copy(deploy.join("dashboards.toml"), own.join("dashboards.toml")).unwrap();
    for chart in fs::read_dir(deploy.join("charts")).unwrap() {
        let chart = chart.unwrap();
        fs::copy(chart.path(), own.join("charts").join(chart.file_name())).unwrap();
    }
    folder
}

/// Runs `tidegauge dashboards` in this folder.
fn dashboards(folder: &TempDir, more: &[&str]) -> (i32, String, String) {
    run(&[&["dashboards", "--dir", folder.path().to_str().unwrap()], more].concat())
}

#[test]
fn dashboards_replaces_the_folders_of_its_files_and_nothing_beside_them() {
    let folder = charts();
    let at = |name: &str| folder.path().join(name);
    let (exit, said, error) = dashboards(&folder, &["--check"]);
    assert_eq!((exit, &*said), (1, ""));
    assert!(error.starts_with("error[dashboards_stale]: "), "{error}");
    assert!(!at("grafana").exists(), "a check writes nothing");
    let (exit, said, error) = dashboards(&folder, &[]);
    let all = said.split(' ').next().unwrap();
    assert_eq!((exit, &*said), (0, &*format!("{all} files, {all} of them changed\n")), "{error}");
    let up_to_date = (0, format!("{all} files, 0 of them changed\n"), String::new());
    assert_eq!(dashboards(&folder, &["--check"]), up_to_date);
    assert_eq!(dashboards(&folder, &[]), up_to_date);

    let (changed, foreign) = ("grafana/dashboards/model.json", "superset/assets/charts/old.yaml");
    let written = fs::read_to_string(at(changed)).unwrap();
    let beside = ["grafana/mine.json", "superset/notes/mine.md"];
    fs::create_dir(at("superset/notes")).unwrap();
    for name in [changed, foreign].into_iter().chain(beside) {
        fs::write(at(name), "mine").unwrap();
    }
    let (exit, _, error) = dashboards(&folder, &["--check"]);
    let stale = format!("2 files differ, among them {changed}, {foreign}\n");
    assert!(exit == 1 && error.contains(&stale), "{error}");
    assert_eq!(fs::read_to_string(at(changed)).unwrap(), "mine");
    let (exit, said, error) = dashboards(&folder, &[]);
    assert_eq!((exit, &*said), (0, &*format!("{all} files, 2 of them changed\n")), "{error}");
    assert_eq!(fs::read_to_string(at(changed)).unwrap(), written);
    assert!(!at(foreign).exists(), "only what follows from the charts stays");
    for name in beside {
        assert_eq!(fs::read_to_string(at(name)).unwrap(), "mine", "{name}");
    }
    assert!(at("dashboards/dashboards.toml").exists());
}

#[test]
fn dashboards_removes_nothing_where_the_charts_can_not_be_read() {
    let empty = tempfile::tempdir().unwrap();
    let broken = charts();
    fs::write(broken.path().join("dashboards/charts/model-99-broken.toml"), "title =").unwrap();
    for (folder, code) in [(empty, "dashboards_unread"), (broken, "dashboards_wrong")] {
        let mine = folder.path().join("grafana/dashboards/mine.json");
        fs::create_dir_all(mine.parent().unwrap()).unwrap();
        fs::write(&mine, "{}").unwrap();
        let (exit, _, error) = dashboards(&folder, &[]);
        assert!(exit == 2 && error.starts_with(&format!("error[{code}]: ")), "{error}");
        assert!(mine.exists(), "{code}");
    }
    for wrong in [
        &["--database", "My-Views"][..],
        &["--check", "--link", "http://localhost:8123"],
        &["--link", "localhost:8123"],
    ] {
        assert_eq!(dashboards(&charts(), wrong).0, 2, "{wrong:?}");
    }
}
