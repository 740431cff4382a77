//! Real services for tests: Kafka, a schema registry, ClickHouse. Each on free ports with a data
//! folder of its own; each ends with the value that holds it. A service that is not there is a
//! failure that names its remedy.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use tempfile::TempDir;
use tidegauge::embedded::clickhouse::{ClickHouseError, EmbeddedClickHouse, EmbeddedOptions};

use super::http::{self, Answer};
use super::proxy::{Kind, Proxy};
use super::wait_for;

/// Generous: eight test programs may share two cores.
const START_DEADLINE: Duration = Duration::from_secs(300);
const STOP_DEADLINE: Duration = Duration::from_secs(120);
/// For one answer; then it is asked again.
const ANSWER_DEADLINE: Duration = Duration::from_secs(30);
const START_ATTEMPTS: u32 = 5;
const KAFKA_VERSION: &str = "4.1.0";
const REGISTRY_VERSION: &str = "3.0.9";

/// `.cache/SERVICE/VERSION` of the checkout, where `.ci/fetch` put it.
fn cached(service: &str, version: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(".cache").join(service).join(version);
    assert!(
        folder.join("complete").is_file(),
        "{} is not there or not whole: run `.ci/fetch {service}` (`make test` does)",
        folder.display()
    );
    folder
}

/// Ports that were free a moment ago, all different. They lie below those that the system gives to connections, so
/// that none takes the port of a service that is down until it starts again. Another process may take one meanwhile:
/// then the service does not start, and is tried on others.
pub fn free_ports<const N: usize>() -> [u16; N] {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 22_000;
    static TRIED: AtomicU32 = AtomicU32::new(0);
    // Test programs that run at once begin at different places.
    let start = std::process::id().wrapping_mul(7919);
    std::array::from_fn(|_| {
        (0..COUNT)
            .map(|_| start.wrapping_add(TRIED.fetch_add(1, Ordering::Relaxed)) % COUNT + FIRST)
            .map(|port| u16::try_from(port).expect("below 32000"))
            .find(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            .expect("a free port")
    })
}

/// A child process in a process group of its own, killed whole on drop.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    fn start(command: &mut Command, log: PathBuf) -> Self {
        let file = File::create(&log).expect("the data folder is ours");
        let both = file.try_clone().expect("it is open");
        let started = command.stdin(Stdio::null()).stdout(file).stderr(both).process_group(0);
        let child = started.spawn().unwrap_or_else(|error| {
            panic!("{command:?}: {error}; `.ci/fetch test-packages` (or `make test`) installs Java")
        });
        Self { child, log }
    }

    fn log_text(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.log).unwrap_or_default()).into_owned()
    }

    /// True once `ready` says so, false if the process ended first.
    fn is_ready(&mut self, what: &str, mut ready: impl FnMut(&Self) -> bool) -> bool {
        wait_for(&format!("{what} to start, log {}", self.log.display()), START_DEADLINE, || {
            if self.child.try_wait().expect("it is our child").is_some() {
                return Some(false);
            }
            ready(self).then_some(true)
        })
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.child.id()).expect("process ids are small");
        killpg(Pid::from_raw(group), signal).expect("the process is there until it is waited for");
    }

    fn ended(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_some()
    }

    fn kill(&mut self) {
        if !self.ended() {
            self.signal(Signal::SIGKILL);
            self.child.wait().expect("it is our child");
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One Kafka broker in KRaft mode.
pub struct Kafka {
    /// Of clients, of the controller, of clients that come through the proxy.
    ports: [u16; 3],
    proxy: Option<Proxy>,
    process: Option<Process>,
    folder: TempDir,
    folder_of_version: PathBuf,
}

impl Kafka {
    /// Starts a broker with empty logs and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// The same with a proxy, which [`Kafka::program_bootstrap`] leads to; other clients meet no faults.
    pub fn start_behind_proxy() -> Self {
        Self::start_with(Some(Proxy::start(Kind::Kafka, 0)))
    }

    fn start_with(proxy: Option<Proxy>) -> Self {
        let folder_of_version = cached("kafka", KAFKA_VERSION);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut kafka =
            Self { ports: free_ports(), proxy, process: None, folder, folder_of_version };
        kafka.write_properties();
        kafka.format();
        let mut attempt = 1;
        while let Err(log) = kafka.try_start() {
            let taken = log.contains("Address already in use") || log.contains("BindException");
            assert!(taken && attempt < START_ATTEMPTS, "the broker did not start:\n{log}");
            attempt += 1;
            kafka.ports = free_ports();
            kafka.write_properties();
        }
        kafka
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write_properties(&self) {
        let [port, controller, behind] = self.ports;
        let data = self.path("data");
        if let Some(proxy) = &self.proxy {
            proxy.aim_at(behind);
        }
        let advertised = self.proxy.as_ref().map_or(behind, Proxy::port);
        let text = format!(
            "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{behind},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},PROXIED://127.0.0.1:{advertised}
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT
log.dirs={}
num.partitions=4
auto.create.topics.enable=false
offsets.topic.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
message.max.bytes=20000000
replica.fetch.max.bytes=20000000
",
            data.display()
        );
        fs::write(self.path("server.properties"), text).expect("the data folder is ours");
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")
            .arg(format!(
                "-XX:SharedArchiveFile={}",
                self.folder_of_version.join("classes.jsa").display()
            ))
            .arg("-cp")
            .arg(self.folder_of_version.join("libs/*"))
            .current_dir(self.folder.path());
        command
    }

    /// Puts a formatted log folder in place, as `.ci/fetch kafka` made it: a copy is much cheaper than Kafka's own tool.
    fn format(&self) {
        let (from, to) = (self.folder_of_version.join("formatted"), self.path("data"));
        fs::create_dir(&to).expect("the folder is new");
        let files = fs::read_dir(&from).unwrap_or_else(|error| {
            panic!("{}: {error}; `.ci/fetch kafka` (or `make test`) makes it", from.display())
        });
        for file in files {
            let file = file.expect("the folder is readable");
            fs::copy(file.path(), to.join(file.file_name())).expect("the data folder is ours");
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let mut command = self.java();
        command.args(["kafka.Kafka", "server.properties"]);
        let mut process = Process::start(&mut command, self.path("broker.log"));
        if process.is_ready("Kafka", |it| it.log_text().contains("Kafka Server started")) {
            self.process = Some(process);
            Ok(())
        } else {
            Err(process.log_text())
        }
    }

    /// `host:port` for `bootstrap.servers`.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.ports[0])
    }

    /// What the program is to be given: the proxy's address where there is one.
    pub fn program_bootstrap(&self) -> String {
        self.proxy.as_ref().map_or_else(|| self.bootstrap(), Proxy::address)
    }

    /// The proxy of [`Kafka::start_behind_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("started behind a proxy")
    }

    /// Makes a topic, with settings such as `("retention.ms", "-1")`, and waits until it is there.
    pub fn create_topic(&self, name: &str, partitions: i32, settings: &[(&str, &str)]) {
        let admin = self.admin();
        let mut topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
        for (setting, value) in settings {
            topic = topic.set(setting, value);
        }
        let options = AdminOptions::new()
            .request_timeout(Some(START_DEADLINE))
            .operation_timeout(Some(START_DEADLINE));
        let made = block_on(admin.create_topics([&topic], &options));
        let made = made.expect("the broker answers").remove(0);
        made.unwrap_or_else(|(name, code)| panic!("topic {name} was not made: {code}"));
        wait_for(&format!("leaders of topic {name}"), START_DEADLINE, || {
            let metadata = admin.inner().fetch_metadata(Some(name), ANSWER_DEADLINE).ok()?;
            let found = metadata.topics()[0].partitions();
            let all = usize::try_from(partitions).expect("a count") == found.len();
            (all && found.iter().all(|partition| partition.leader() >= 0)).then_some(())
        });
    }

    /// Deletes a topic.
    pub fn delete_topic(&self, name: &str) {
        let gone = block_on(self.admin().delete_topics(&[name], &AdminOptions::new()));
        gone.expect("the broker answers").remove(0).expect("the topic was there");
    }

    /// An admin client of this broker, for what the methods here do not do.
    pub fn admin(&self) -> AdminClient<DefaultClientContext> {
        self.client_config().create().expect("the settings are right")
    }

    /// Settings of a client that names this broker, and nothing else: tests look at Kafka without
    /// the program's own defaults.
    #[expect(clippy::disallowed_methods, reason = "a test's client has none of the defaults")]
    pub fn client_config(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.bootstrap());
        config
    }

    /// Ends it at once (SIGKILL); topics and records stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Asks it to end in order, and waits for that.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.signal(Signal::SIGTERM);
            wait_for("Kafka to stop", STOP_DEADLINE, || process.ended().then_some(()));
        }
    }

    /// Holds all of its threads (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::SIGSTOP);
    }

    /// Ends [`Kafka::pause`].
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::SIGCONT);
    }

    /// Starts it on the same ports with the records it had.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        self.try_start().unwrap_or_else(|log| panic!("the broker did not start again:\n{log}"));
    }
}

/// An Apicurio schema registry in memory, with the Confluent API and BACKWARD compatibility.
pub struct Registry {
    port: u16,
    process: Option<Process>,
    folder: TempDir,
}

impl Registry {
    /// Starts an empty registry and waits until it serves.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut registry = Self { port: 0, process: None, folder };
        let mut attempt = 1;
        loop {
            [registry.port] = free_ports();
            match registry.try_start() {
                Ok(()) => return registry,
                Err(log) => {
                    let taken = log.contains("in use by another") || log.contains("BindException");
                    let again = taken && attempt < START_ATTEMPTS;
                    assert!(again, "the registry did not start:\n{log}");
                    attempt += 1;
                }
            }
        }
    }

    fn try_start(&mut self) -> Result<(), String> {
        let runner = format!("apicurio-registry-app-{REGISTRY_VERSION}-runner.jar");
        let store = self.folder.path().join("store");
        let mut command = Command::new("java");
        command
            .args(["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-Dquarkus.http.host=127.0.0.1")
            .arg(format!("-Dquarkus.http.port={}", self.port))
            .arg(format!(
                "-Dapicurio.datasource.url=jdbc:h2:file:{};WRITE_DELAY=0",
                store.display()
            ))
            .arg("-jar")
            .arg(cached("registry", REGISTRY_VERSION).join(runner))
            .current_dir(self.folder.path());
        let mut process = Process::start(&mut command, self.folder.path().join("registry.log"));
        let ready = format!("{}/health/ready", self.root());
        if !process.is_ready("the schema registry", |_| {
            http::get(&ready).is_ok_and(|answer| answer.status == 200)
        }) {
            return Err(process.log_text());
        }
        self.process = Some(process);
        // Its own default is NONE; Confluent's, which users have, is BACKWARD.
        let answer = self.send("PUT", "/config", r#"{"compatibility":"BACKWARD"}"#);
        assert_eq!(answer.status, 200, "{answer:?}");
        Ok(())
    }

    fn root(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Base URL of the Confluent API, path included.
    pub fn url(&self) -> String {
        format!("{}/apis/ccompat/v7", self.root())
    }

    /// Any call of the API: path after [`Registry::url`], JSON body.
    pub fn send(&self, method: &str, path: &str, body: &str) -> Answer {
        let headers = [("Content-Type", "application/vnd.schemaregistry.v1+json")];
        let url = format!("{}{path}", self.url());
        http::request(method, &url, &headers, body.as_bytes()).expect("the registry answers")
    }

    /// Registers an Avro schema (its JSON text) under a subject; gives its id.
    pub fn register(&self, subject: &str, schema: &str) -> u32 {
        let body = serde_json::json!({ "schema": schema }).to_string();
        let answer = self.send("POST", &format!("/subjects/{subject}/versions"), &body);
        assert_eq!(answer.status, 200, "{answer:?}");
        let body: serde_json::Value = serde_json::from_str(&answer.body).expect("JSON");
        let id = body["id"].as_u64().expect("an id");
        u32::try_from(id).expect("the wire format has 32 bits for it")
    }

    /// Holds all of its threads (SIGSTOP): connections are taken, nothing is answered.
    pub fn pause(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::SIGSTOP);
    }

    /// Ends [`Registry::pause`].
    pub fn resume(&self) {
        self.process.as_ref().expect("it runs").signal(Signal::SIGCONT);
    }

    /// Ends it at once (SIGKILL); schemas stay.
    pub fn kill(&mut self) {
        self.process = None;
    }

    /// Starts it on the same port with the schemas it had.
    pub fn start_again(&mut self) {
        assert!(self.process.is_none(), "it still runs");
        self.try_start().unwrap_or_else(|log| panic!("the registry did not start again:\n{log}"));
    }
}

/// A ClickHouse with the default user and no tables.
pub struct ClickHouse {
    proxy: Option<Proxy>,
    running: Option<EmbeddedClickHouse>,
    options: EmbeddedOptions,
    _folder: TempDir,
}

impl ClickHouse {
    /// Starts an empty one and waits until it serves.
    pub fn start() -> Self {
        Self::start_with(EmbeddedOptions::default())
    }

    /// As [`ClickHouse::start`], with users, charts or a port of the caller's.
    pub fn start_with(options: EmbeddedOptions) -> Self {
        Self::start_in(tempfile::tempdir().expect("a temporary folder"), options)
    }

    fn start_in(folder: TempDir, mut options: EmbeddedOptions) -> Self {
        folder.path().join("clickhouse").clone_into(&mut options.data_dir);
        options.launcher = Some(PathBuf::from(env!("CARGO_BIN_EXE_tidegauge-clickhouse")));
        let is_given = options.http_port.is_some();
        let mut clickhouse = Self { proxy: None, running: None, options, _folder: folder };
        let mut attempt = 1;
        loop {
            if !is_given {
                let [port] = free_ports();
                clickhouse.options.http_port = Some(port);
            }
            match clickhouse.try_start() {
                Ok(()) => return clickhouse,
                Err(error) => {
                    let again = !is_given && is_taken(&error) && attempt < START_ATTEMPTS;
                    assert!(again, "{error}");
                    attempt += 1;
                }
            }
        }
    }

    fn try_start(&mut self) -> Result<(), ClickHouseError> {
        self.running = Some(EmbeddedClickHouse::start(&self.options)?);
        Ok(())
    }

    /// With the users of `deploy/clickhouse/users.d`: `tidegauge` and `tidegauge_bi`, whose password is their name.
    pub fn start_with_deployed_users() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let users = folder.path().join("clickhouse/users.d");
        fs::create_dir_all(&users).expect("the folder is ours");
        let deployed =
            concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/clickhouse/users.d/tidegauge.xml");
        fs::copy(deployed, users.join("tidegauge.xml")).expect("the deployed users");
        let password = |variable: &str, user: &str| (variable.to_owned(), user.to_owned());
        let environment = vec![
            password("TIDEGAUGE_PASSWORD", "tidegauge"),
            password("TIDEGAUGE_BI_PASSWORD", "tidegauge_bi"),
        ];
        Self::start_in(folder, EmbeddedOptions { environment, ..EmbeddedOptions::default() })
    }

    /// The same with a proxy, which [`ClickHouse::program_url`] leads to; other clients meet no faults.
    pub fn start_behind_proxy() -> Self {
        let mut clickhouse = Self::start();
        let port = clickhouse.running().http_port();
        clickhouse.proxy = Some(Proxy::start(Kind::Http, port));
        clickhouse
    }

    /// The proxy of [`ClickHouse::start_behind_proxy`].
    pub fn proxy(&self) -> &Proxy {
        self.proxy.as_ref().expect("started behind a proxy")
    }

    fn running(&self) -> &EmbeddedClickHouse {
        self.running.as_ref().expect("it runs")
    }

    /// Where it serves HTTP. The same after [`ClickHouse::start_again`].
    pub fn url(&self) -> String {
        let port = self.options.http_port.expect("set at the first start");
        format!("http://127.0.0.1:{port}")
    }

    /// What the program is to be given: the proxy's address where there is one.
    pub fn program_url(&self) -> String {
        let proxied = self.proxy.as_ref().map(|proxy| format!("http://{}", proxy.address()));
        proxied.unwrap_or_else(|| self.url())
    }

    /// The text that the statement gives (TSV unless it says FORMAT). Panics at an error.
    pub fn query(&self, sql: &str) -> String {
        let answer = self.send(sql).expect("ClickHouse answers");
        assert_eq!(answer.status, 200, "{sql}\n{}", answer.body);
        answer.body
    }

    /// The answer to the statement, whatever it is.
    pub fn send(&self, sql: &str) -> std::io::Result<Answer> {
        let url = format!("{}/?wait_end_of_query=1", self.url());
        http::request("POST", &url, &[], sql.as_bytes())
    }

    /// Ends it at once (SIGKILL); tables and rows stay.
    pub fn kill(&mut self) {
        self.running = None;
    }

    /// Lets it end in order.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop().expect("it ends");
        }
    }

    /// Holds all of its threads (SIGSTOP): connections stay open, nothing is answered.
    pub fn pause(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Ends [`ClickHouse::pause`].
    pub fn resume(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let group = i32::try_from(self.running().pid()).expect("process ids are small");
        killpg(Pid::from_raw(group), signal).expect("it runs");
    }

    /// Other users from the next start on, as the text of a `users.xml`; none for the default ones.
    pub fn set_users(&mut self, users: Option<&str>) {
        self.options.users_config = users.map(str::to_owned);
    }

    fn data_folder(&self) -> PathBuf {
        self.options.data_dir.join("store")
    }

    /// A copy of all its data, as a crash at this moment would leave it. It is stopped, killed or paused.
    pub fn copy_data(&self) -> DataCopy {
        let folder = tempfile::tempdir().expect("a temporary folder");
        copy_folder(&self.data_folder(), &folder.path().join("store"));
        DataCopy { folder }
    }

    /// Puts a copy in the place of its data. It is not running.
    pub fn put_back(&mut self, copy: &DataCopy) {
        assert!(self.running.is_none(), "it still runs");
        fs::remove_dir_all(self.data_folder()).expect("the data folder is ours");
        copy_folder(&copy.folder.path().join("store"), &self.data_folder());
    }

    /// Process id of the running one.
    pub fn pid(&self) -> u32 {
        self.running().pid()
    }

    /// Starts it on the same port with the rows it had.
    pub fn start_again(&mut self) {
        assert!(self.running.is_none(), "it still runs");
        self.try_start().unwrap_or_else(|error| panic!("{error}"));
    }
}

/// Whether another process took the port that was free a moment ago.
fn is_taken(error: &ClickHouseError) -> bool {
    matches!(error, ClickHouseError::PortTaken(_))
        || error.to_string().contains("Address already in use")
}

/// What [`ClickHouse::copy_data`] gives.
pub struct DataCopy {
    folder: TempDir,
}

/// With its symbolic links, which point to places within it.
fn copy_folder(from: &Path, to: &Path) {
    let copied = Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp is there");
    assert!(copied.success(), "copying {} to {}: {copied}", from.display(), to.display());
}

/// One Kafka and one ClickHouse for tests that harm neither, each with topics and a job of its own.
pub struct Services {
    pub kafka: Kafka,
    pub clickhouse: ClickHouse,
}

/// Those that another test holds at the moment, or new ones. They end with the last test that holds them.
pub fn shared() -> Arc<Services> {
    static RUNNING: Mutex<Weak<Services>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(services) = running.upgrade() {
        return services;
    }
    let services = Arc::new(Services { kafka: Kafka::start(), clickhouse: ClickHouse::start() });
    *running = Arc::downgrade(&services);
    services
}

/// Runs a future to its end, for admin calls.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}
