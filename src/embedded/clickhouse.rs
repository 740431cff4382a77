//! A real ClickHouse as a child process: a `clickhouse` binary that the machine has, else the
//! library that `make clickhouse` puts into the cache folder, run by `tidegauge-clickhouse`.

use std::env;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The pinned package of the library; `.ci/fetch` names the same one.
pub const LIBRARY_VERSION: &str = "26.7.3-stable.1";
/// The first version whose `clickhouse local` can listen.
const OLDEST_BINARY: (u32, u32) = (26, 6);
const LAUNCHER: &str = "tidegauge-clickhouse";
/// A start takes 0.3 s, or several on a cold disk, where the library has to be read first.
const START_DEADLINE: Duration = Duration::from_secs(60);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(20);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// A free port can be taken by another process before ClickHouse binds it; then another is tried.
const PORT_ATTEMPTS: u32 = 5;

/// What to start, and where.
#[derive(Debug, Clone, Default)]
pub struct EmbeddedOptions {
    /// Folder of the data, the log and the configuration; made if missing. Starting again in the
    /// same folder keeps the data.
    pub data_dir: PathBuf,
    /// None: a free one.
    pub http_port: Option<u16>,
    /// Text of an own `users.xml`. None: the user `default` without password, who may do everything.
    pub users_config: Option<String>,
    /// Path of `libchdb.so`. None: [`find_library`] looks for it, after a `clickhouse` binary.
    pub library: Option<PathBuf>,
    /// Path of the `tidegauge-clickhouse` binary. None: beside this executable.
    pub launcher: Option<PathBuf>,
    /// Variables for the server beside those of this process, such as passwords that files name by `from_env`.
    pub environment: Vec<(String, String)>,
}

/// Why the embedded ClickHouse is not there.
#[derive(Debug, thiserror::Error)]
pub enum ClickHouseError {
    /// No binary and no library.
    #[error(
        "there is no ClickHouse to start: no `clickhouse` binary of version {}.{} or newer on PATH, \
         and no libchdb.so in {searched}; run `make clickhouse`, which fetches it (180 MB)",
        OLDEST_BINARY.0, OLDEST_BINARY.1
    )]
    Missing {
        /// Every place that was looked at.
        searched: String,
    },
    /// The launcher is not where it should be.
    #[error("{} is not there; build it: `cargo build --bins` puts it beside `tidegauge`", .0.display())]
    LauncherMissing(PathBuf),
    /// The library is built for x86-64-v3.
    #[error(
        "the embedded ClickHouse needs Linux on an x86-64 processor with AVX2; \
         install a `clickhouse` binary of your own, or use a ClickHouse server"
    )]
    UnsupportedMachine,
    /// The fixed port is in use.
    #[error(
        "port {0} on 127.0.0.1 is taken by another process; name another one, or none for a free one"
    )]
    PortTaken(u16),
    /// It started, and ended or did not answer.
    #[error("ClickHouse did not start: {reason}; its log {} ends with:\n{tail}", log.display())]
    NotStarted {
        /// What was seen.
        reason: String,
        /// The whole log.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// A file or the process could not be made.
    #[error("{what}: {source}")]
    Io {
        /// What was tried, with its path.
        what: String,
        /// Why it failed.
        source: io::Error,
    },
}

impl ClickHouseError {
    /// Stable name of this error.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "clickhouse_missing",
            Self::LauncherMissing(_) => "clickhouse_launcher_missing",
            Self::UnsupportedMachine => "clickhouse_unsupported_machine",
            Self::PortTaken(_) => "clickhouse_port_taken",
            Self::NotStarted { .. } => "clickhouse_not_started",
            Self::Io { .. } => "clickhouse_files",
        }
    }
}

/// A running ClickHouse. Dropping it kills it; [`EmbeddedClickHouse::stop`] lets it finish.
#[derive(Debug)]
pub struct EmbeddedClickHouse {
    child: Child,
    http_port: u16,
    log: PathBuf,
}

impl EmbeddedClickHouse {
    /// Starts it and waits until it answers.
    pub fn start(options: &EmbeddedOptions) -> Result<Self, ClickHouseError> {
        let program = Program::find(options)?;
        let files = Files::make(options)?;
        if let Some(port) = options.http_port {
            let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
            if TcpListener::bind(address).is_err() {
                return Err(ClickHouseError::PortTaken(port));
            }
            return Self::start_on(port, &program, &files, options);
        }
        let mut attempt = 1;
        loop {
            match Self::start_on(free_port()?, &program, &files, options) {
                Err(ClickHouseError::NotStarted { tail, .. })
                    if attempt < PORT_ATTEMPTS && tail.contains("Address already in use") =>
                {
                    attempt += 1;
                }
                started => return started,
            }
        }
    }

    fn start_on(
        port: u16,
        program: &Program,
        files: &Files,
        options: &EmbeddedOptions,
    ) -> Result<Self, ClickHouseError> {
        let at = |what: &str| format!("{what} {}", files.log.display());
        let log = fs::File::create(&files.log).map_err(io_error(at("making")))?;
        let both = log.try_clone().map_err(io_error(at("opening")))?;
        let mut command = program.command();
        command
            .arg("--path")
            .arg(files.store())
            .arg("--config-file")
            .arg(files.config())
            .args(["--listen_host", "127.0.0.1", "--http_port", &port.to_string()])
            // Suggestions are for people, and a thread that still loads them can crash an early end.
            .args(["--interactive", "--disable_suggestion"])
            .args(["--query", "SYSTEM START LISTEN HTTP"])
            .current_dir(files.run())
            .env("HOME", files.run())
            // The configuration's `timezone` is read by the server only.
            .env("TZ", "UTC")
            .envs(options.environment.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(log)
            .stderr(both)
            // Ctrl-C in the terminal ends the program first, which then stops ClickHouse in order.
            .process_group(0);
        let child = command.spawn().map_err(io_error(format!("starting {}", program.name())))?;
        let mut started = Self { child, http_port: port, log: files.log.clone() };
        started.wait_until_ready(&files.identity)?;
        Ok(started)
    }

    fn wait_until_ready(&mut self, identity: &str) -> Result<(), ClickHouseError> {
        let ended = wait(START_DEADLINE, || {
            match self.child.try_wait() {
                Ok(None) => {}
                Ok(Some(status)) => return Some(Err(format!("it ended with {status}"))),
                Err(error) => return Some(Err(format!("its state cannot be read: {error}"))),
            }
            // The answer of another process's ClickHouse on the same port would be no sign of ours.
            let ours = fetch(self.http_port, "/tidegauge-identity").is_ok_and(|a| a == identity);
            (ours && fetch(self.http_port, "/ping").is_ok_and(|answer| answer == "Ok.\n"))
                .then_some(Ok(()))
        });
        let reason = match ended {
            Some(Ok(())) => return Ok(()),
            Some(Err(reason)) => reason,
            None => format!("no answer on port {} in {START_DEADLINE:?}", self.http_port),
        };
        let (log, tail) = (self.log.clone(), tail_of(&self.log));
        Err(ClickHouseError::NotStarted { reason, log, tail })
    }

    /// Where it serves HTTP.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.http_port)
    }

    /// The port of [`EmbeddedClickHouse::url`].
    pub fn http_port(&self) -> u16 {
        self.http_port
    }

    /// Process id, which is also the id of its process group.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Lets it finish and end; after ten seconds it is killed.
    pub fn stop(mut self) -> Result<(), ClickHouseError> {
        // The end of its standard input is the request.
        drop(self.child.stdin.take());
        let ended = wait(STOP_DEADLINE, || match self.child.try_wait() {
            Ok(None) => None,
            Ok(Some(_)) => Some(Ok(())),
            Err(error) => Some(Err(io_error("waiting for ClickHouse to end".to_owned())(error))),
        });
        ended.unwrap_or(Ok(()))
    }

    fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let group = i32::try_from(self.child.id()).expect("Linux keeps process ids below 2^22");
        let killed = killpg(Pid::from_raw(group), Signal::SIGKILL);
        if let (Ok(()), Err(error)) = (killed, self.child.wait()) {
            tracing::warn!(%error, "could not wait for the embedded ClickHouse");
        }
    }
}

impl Drop for EmbeddedClickHouse {
    fn drop(&mut self) {
        self.kill();
    }
}

enum Program {
    Binary { launcher: PathBuf },
    Library { launcher: PathBuf, library: PathBuf },
}

impl Program {
    fn find(options: &EmbeddedOptions) -> Result<Self, ClickHouseError> {
        let launcher = find_launcher(options.launcher.as_deref())?;
        if options.library.is_none() && binary_version().is_some_and(|v| v >= OLDEST_BINARY) {
            return Ok(Self::Binary { launcher });
        }
        let library = find_library(options.library.as_deref())?;
        #[cfg(target_arch = "x86_64")]
        let supported = std::arch::is_x86_feature_detected!("avx2");
        #[cfg(not(target_arch = "x86_64"))]
        let supported = false;
        if !supported || !cfg!(target_os = "linux") {
            return Err(ClickHouseError::UnsupportedMachine);
        }
        Ok(Self::Library { launcher, library })
    }

    fn command(&self) -> Command {
        match self {
            Self::Binary { launcher } => {
                let mut command = Command::new(launcher);
                command.args(["--exec", "clickhouse", "local"]);
                command
            }
            Self::Library { launcher, library } => {
                let mut command = Command::new(launcher);
                command.arg(library);
                command
            }
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Binary { .. } => "`clickhouse local`".to_owned(),
            Self::Library { library, .. } => library.display().to_string(),
        }
    }
}

/// The library: `given` if there is one (and then nowhere else), else beside the executable, else
/// `.cache/clickhouse/VERSION/libchdb.so` in a folder above the executable or above the current
/// directory, which finds the cache of a checkout from `target/release` and from its tests.
pub fn find_library(given: Option<&Path>) -> Result<PathBuf, ClickHouseError> {
    let places: Vec<PathBuf> = given.map_or_else(
        || {
            let cached = |folder: &Path| {
                folder.join(".cache/clickhouse").join(LIBRARY_VERSION).join("libchdb.so")
            };
            let executable = env::current_exe().unwrap_or_default();
            let current = env::current_dir().unwrap_or_default();
            let beside = executable.parent().map(|folder| folder.join("libchdb.so"));
            let above = executable.ancestors().skip(1).chain(current.ancestors()).map(cached);
            beside.into_iter().chain(above).collect()
        },
        |given| vec![given.to_owned()],
    );
    if let Some(found) = places.iter().find(|place| place.is_file()) {
        return absolute(found);
    }
    let searched: Vec<String> = places.iter().map(|place| place.display().to_string()).collect();
    Err(ClickHouseError::Missing { searched: searched.join(", ") })
}

fn find_launcher(given: Option<&Path>) -> Result<PathBuf, ClickHouseError> {
    let place = given.map_or_else(
        || env::current_exe().unwrap_or_default().with_file_name(LAUNCHER),
        Path::to_owned,
    );
    if place.is_file() { absolute(&place) } else { Err(ClickHouseError::LauncherMissing(place)) }
}

/// Year and number of the `clickhouse` binary on PATH, if there is one.
fn binary_version() -> Option<(u32, u32)> {
    let output = Command::new("clickhouse")
        .args(["local", "--version"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let number =
        text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let mut parts = number.split('.');
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// What lies in the data folder.
struct Files {
    folder: PathBuf,
    log: PathBuf,
    /// What the started process, and no other, answers.
    identity: String,
}

impl Files {
    fn make(options: &EmbeddedOptions) -> Result<Self, ClickHouseError> {
        let folder = absolute(&options.data_dir)?;
        let log = folder.join("clickhouse.log");
        let identity = format!("{}:{}", std::process::id(), folder.display());
        let files = Self { folder, log, identity };
        // An own current directory: a config.xml in it would be read unasked.
        for made in [files.store(), files.run()] {
            fs::create_dir_all(&made)
                .map_err(io_error(format!("making the folder {}", made.display())))?;
        }
        let users = options.users_config.as_deref().unwrap_or(DEFAULT_USERS);
        let config = configuration(&files);
        for (path, text) in [(files.users(), users), (files.config(), &config)] {
            fs::write(&path, text).map_err(io_error(format!("writing {}", path.display())))?;
        }
        Ok(files)
    }

    fn store(&self) -> PathBuf {
        self.folder.join("store")
    }

    fn run(&self) -> PathBuf {
        self.folder.join("run")
    }

    fn users(&self) -> PathBuf {
        self.folder.join("users.xml")
    }

    /// Not named config.xml, and not in the current directory of the process.
    fn config(&self) -> PathBuf {
        self.folder.join("server.xml")
    }
}

/// One thread for each query: the machine does other things too, and two threads cost up to twice the CPU.
const DEFAULT_USERS: &str = "<clickhouse>
  <profiles><default><max_memory_usage>2000000000</max_memory_usage><max_threads>1</max_threads></default></profiles>
  <users><default>
    <password></password><networks><ip>127.0.0.1</ip></networks>
    <profile>default</profile><quota>default</quota>
  </default></users>
  <quotas><default></default></quotas>
</clickhouse>
";

fn configuration(files: &Files) -> String {
    let users = escape(&files.users().display().to_string());
    let identity = escape(&files.identity);
    format!(
        "<clickhouse>
  <max_server_memory_usage>4000000000</max_server_memory_usage>
  <users_config>{users}</users_config>
  <user_directories><users_xml><path>{users}</path></users_xml></user_directories>
  <http_handlers>
    <rule><url>/tidegauge-identity</url><methods>GET</methods><handler>
      <type>static</type><status>200</status><content_type>text/plain</content_type>
      <response_content>{identity}</response_content>
    </handler></rule>
    <defaults/>
  </http_handlers>
</clickhouse>
"
    )
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The body of a 200 answer.
fn fetch(port: u16, path: &str) -> io::Result<String> {
    let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if head.split(' ').nth(1) == Some("200") {
        Ok(body.to_owned())
    } else {
        Err(io::Error::other(head.to_owned()))
    }
}

fn free_port() -> Result<u16, ClickHouseError> {
    TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(io_error("looking for a free port".to_owned()))
}

#[expect(clippy::disallowed_methods, reason = "waits for another process, which nothing announces")]
fn wait<T>(deadline: Duration, mut condition: impl FnMut() -> Option<T>) -> Option<T> {
    let begun = Instant::now();
    loop {
        let met = condition();
        if met.is_some() || begun.elapsed() >= deadline {
            return met;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

fn tail_of(log: &Path) -> String {
    let bytes = fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

fn absolute(path: &Path) -> Result<PathBuf, ClickHouseError> {
    std::path::absolute(path).map_err(io_error(format!("the path {}", path.display())))
}

fn io_error(what: String) -> impl FnOnce(io::Error) -> ClickHouseError {
    move |source| ClickHouseError::Io { what, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn version_of_a_binary_is_read() {
        let text = "ClickHouse local version 26.7.2.1 (official build).\n";
        assert_eq!(parse_version(text), Some((26, 7)));
        assert_eq!(parse_version("no such command"), None);
        assert!((26, 10) > OLDEST_BINARY && (25, 12) < OLDEST_BINARY);
    }

    #[test]
    fn missing_library_names_the_remedy() {
        let error = find_library(Some(Path::new("/nowhere/libchdb.so"))).unwrap_err();
        assert_eq!(error.code(), "clickhouse_missing");
        let text = error.to_string();
        assert!(text.contains("/nowhere/libchdb.so") && text.contains("make clickhouse"), "{text}");
    }

    #[test]
    fn fetch_script_pins_the_same_version() {
        assert!(include_str!("../../.ci/fetch").contains(LIBRARY_VERSION));
    }
}
