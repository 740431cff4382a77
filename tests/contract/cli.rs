//! The command line: texts and exit codes.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;

use assert_cmd::Command;
use nix::sys::signal::Signal;
use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::mocking::MockCluster;
use tidegauge::source::kafka::client_config;

fn tidegauge() -> Command {
    let mut command = Command::cargo_bin("tidegauge").unwrap();
    command.timeout(std::time::Duration::from_secs(60));
    command
}

/// Runs with these arguments; exit code, standard output, standard error.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let output = tidegauge().args(arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn help_teaches_by_examples() {
    let (exit, help, _) = run(&["--help"]);
    assert_eq!(exit, 0);
    for command in [
        "alerts",
        "check",
        "dashboards",
        "demo",
        "init",
        "run",
        "backfill",
        "report",
        "query",
        "profile",
        "serve",
        "simulate",
    ] {
        assert!(help.contains(&format!("tidegauge {command}")), "{command}");
        let (exit, help, _) = run(&[command, "--help"]);
        assert!(exit == 0 && help.contains("Examples:"), "{command}");
    }
    assert!(help.contains("Exit codes: 0 done, 1 failed, 2 usage or configuration, 3 refused"));
    // Whatever shows stored rows shows those of another job too.
    for command in [&["alerts", "list"][..], &["query"], &["report"], &["serve"]] {
        let (_, help, _) = run(&[command, &["--help"]].concat());
        assert!(help.contains("--job <NAME>"), "{command:?}");
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
    signal(&serving, Signal::SIGTERM);
    assert!(serving.wait().unwrap().success());
}

/// The overview on a free port, and what it says at its start.
fn overview(file: &str) -> (Child, String) {
    let mut serving = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(["serve", "-c", file, "--listen", "127.0.0.1:0"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    let mut out = std::io::BufReader::new(serving.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut out, &mut said).unwrap();
    (serving, said)
}

fn signal(process: &Child, signal: Signal) {
    let process = nix::unistd::Pid::from_raw(i32::try_from(process.id()).unwrap());
    nix::sys::signal::kill(process, signal).unwrap();
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
        for &one in signals {
            signal(&serving, one);
        }
        assert_eq!(serving.wait().unwrap().code(), Some(expected), "{signals:?}");
        let mut answer = String::new();
        // The connection may end in an error.
        client.read_to_string(&mut answer).ok();
        assert_eq!(answer, "", "the page was not waited for");
        drop(asked);
    }
}

#[test]
fn brokers_that_are_away_hold_the_end_of_simulate_until_a_second_signal_only() {
    const PATIENCE: std::time::Duration = std::time::Duration::from_secs(10);
    let cluster = MockCluster::new(1).unwrap();
    for topic in ["inferences", "labels"] {
        cluster.create_topic(topic, 1, 1).unwrap();
    }
    let brokers = cluster.bootstrap_servers();
    // As fast as it goes, so that the small queue is always full.
    let mut sending = std::process::Command::new(env!("CARGO_BIN_EXE_tidegauge"))
        .args(["simulate", "--brokers", &brokers, "--fast", "--records", "100000000"])
        .args(["--property", "queue.buffering.max.messages=10"])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let group = ("group.id".to_owned(), "watching".to_owned());
    let consumer: BaseConsumer = client_config(&brokers, &[group]).create().unwrap();
    let has_sent =
        || consumer.fetch_watermarks("inferences", 0, PATIENCE).is_ok_and(|(_, end)| end > 0);
    // Each question takes the mock cluster a moment.
    let sends = (0..100_000).any(|_| {
        assert_eq!(sending.try_wait().unwrap(), None, "it sends until it is told to end");
        has_sent()
    });
    assert!(sends, "it sends nothing");
    cluster.broker_down(1).unwrap();
    signal(&sending, Signal::SIGTERM);
    signal(&sending, Signal::SIGINT);
    assert_eq!(sending.wait().unwrap().code(), Some(130));
}
