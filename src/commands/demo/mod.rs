//! `tidegauge demo`: broker, database, traffic and processor in one process, and the truth beside the rows.

mod database;
mod compare;
mod reference;
pub mod links;
mod screen;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::processor::Processor;
use super::{Failure, runtime, terminal};
use crate::config::{self, Environment, Settings};
use crate::embedded::broker::EmbeddedBroker;
use crate::embedded::clickhouse::{EmbeddedClickHouse, EmbeddedOptions};
use crate::engine::time::Millis;
use crate::overview::{Overview, OverviewSettings};
use crate::pipeline::Totals;
use crate::sink::clickhouse::ClickHouse;
use crate::source::kafka::client_config;
use crate::telemetry::{LogFormat, set_up_log};
use crate::traffic::encode::Encoding;
use crate::traffic::produce::{Sender, Until};
use crate::traffic::{Shape, Shares, Traffic, TrafficSettings};
use compare::{Compared, compare, records_done};
use database::Database;
use screen::Screen;

/// See it work: broker, database, traffic and processor, all in this process
///
/// Needs no service. Three models are measured in windows of 10 seconds: `fraud` stays healthy, the features of `churn`
/// drift and its quality falls after 30 seconds, and the labels of `credit` come late. Some records are late, repeated, corrected, missing
/// or broken, as in life. Ctrl-C ends it all and leaves nothing behind (exit code 0, with --for 130).
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge demo              until Ctrl-C; open the links that it prints
  tidegauge demo --for 60s    end by itself; exit code 1 if rows are wrong")]
pub struct Args {
    /// End after so much time, and compare the rows in ClickHouse with what was sent
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Millis>,
    /// Port of /healthz, /readyz and /metrics [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    port: u16,
    /// Port of the overview, the web pages about all models [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    overview_port: u16,
    /// Port of ClickHouse [default: a free one]
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    clickhouse_port: u16,
    /// An XML file with more users for ClickHouse, such as deploy/clickhouse/users.d/tidegauge.xml
    #[arg(long, value_name = "FILE")]
    clickhouse_users: Option<PathBuf>,
    /// Inferences for each second
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// The same seed sends the same traffic
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// What to log: error, warn, info, debug or trace
    #[arg(long, default_value = "error")]
    log: String,
}

const INFERENCES: &str = "inferences";
const LABELS: &str = "labels";
const DEAD_LETTERS: &str = "tidegauge.dead";
const PARTITIONS: i32 = 4;
/// Times are short, so that windows fill, get their labels and seal while one looks.
const WINDOW: Millis = Millis(10_000);
const LATENESS: Millis = Millis(2_000);
const LABEL_WAIT: Millis = Millis(20_000);
const FALLS_AFTER: Millis = Millis(30_000);
/// How long the rows may take to account for the last record that was sent.
const DRAIN_DEADLINE: Duration = Duration::from_secs(30);
/// Between two looks at the rows.
const LOOK_EVERY: Duration = Duration::from_secs(1);

fn parse_duration(text: &str) -> Result<Millis, String> {
    config::duration(text)
        .filter(|span| span.0 > 0)
        .ok_or_else(|| "write it like 60s or 5m".to_owned())
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    set_up_log(LogFormat::Text, &args.log)?;
    let runtime = runtime()?;
    let mut signals = {
        let _inside = runtime.enter();
        terminal::Signals::catch()?
    };
    terminal::print("starting an embedded Kafka broker and ClickHouse ...\n");
    let folder = Folder::make();
    if let Some(users) = &args.clickhouse_users {
        folder.add_users(users)?;
    }
    let clickhouse = EmbeddedClickHouse::start(&EmbeddedOptions {
        data_dir: folder.0.clone(),
        http_port: (args.clickhouse_port > 0).then_some(args.clickhouse_port),
        ..EmbeddedOptions::default()
    })?;
    let broker = EmbeddedBroker::start(&[
        (INFERENCES, PARTITIONS),
        (LABELS, PARTITIONS),
        (DEAD_LETTERS, 1),
    ])?;
    let mut settings = settings(broker.bootstrap_servers(), &clickhouse.url(), args.port)?;
    reference::add(&mut settings, &traffic_settings(args))?;
    runtime.block_on(ClickHouse::new(settings.clickhouse()).init())?;
    let overview = runtime.block_on(Overview::bind(OverviewSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], args.overview_port)),
        token: None,
        clickhouse: ClickHouse::new(settings.clickhouse()),
        about: "What the demo measures".to_owned(),
        references: settings.shard.references().collect(),
        clock: terminal::now_ms,
    }))?;
    let processor = Processor::connect(settings, false, &runtime)?;
    welcome(&clickhouse.url(), &processor, overview.address(), args);
    let pages = runtime.spawn(overview.serve(std::future::pending()));
    let database = Database::new(clickhouse.url())?;
    let ended =
        demonstrate(args, &runtime, processor, broker.bootstrap_servers(), &database, &mut signals);
    terminal::print("stopping ...\n");
    pages.abort();
    clickhouse.stop()?;
    drop(folder);
    ended
}

/// Traffic and processor run until the time is over or a signal comes.
fn demonstrate(
    args: &Args,
    runtime: &Runtime,
    processor: Processor,
    brokers: &str,
    database: &Database,
    signals: &mut terminal::Signals,
) -> Result<ExitCode, Failure> {
    let stop = AtomicBool::new(false);
    let (say_stop, processing) = process(runtime, processor)?;
    let sender =
        Sender::new(&client_config(brokers, &[]), [INFERENCES.to_owned(), LABELS.to_owned()])?;
    let mut traffic = Traffic::new(traffic_settings(args), Encoding::Json);
    let watched = thread::scope(|scope| {
        let sending = scope.spawn(|| {
            let sent = sender.run(
                &mut traffic,
                Until::default(),
                Some(&terminal::now_ms),
                &|| stop.load(Ordering::Relaxed),
                &mut |_| {},
            );
            stop.store(true, Ordering::Relaxed);
            sent
        });
        let watched = runtime.block_on(watch(args, database, signals, &stop, &processing));
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("sending does not panic")?;
        watched
    });
    let compared = match &watched {
        Ok(true) => Some(runtime.block_on(settle(database, &traffic, signals))),
        Ok(false) | Err(_) => None,
    };
    say_stop.send(()).ok();
    let totals = processing.join().expect("the processor's panics are errors")?;
    watched?;
    match compared {
        None => Ok(ExitCode::SUCCESS),
        Some(compared) => summary(&compared?, &traffic, &totals),
    }
}

type Processing = JoinHandle<Result<Totals, Failure>>;

/// The processor in a thread of its own, and the way to stop it.
fn process(
    runtime: &Runtime,
    processor: Processor,
) -> Result<(oneshot::Sender<()>, Processing), Failure> {
    let (say_stop, stop) = oneshot::channel();
    let handle = runtime.handle().clone();
    let processing = thread::Builder::new()
        .name("processor".to_owned())
        .spawn(move || handle.block_on(processor.run(async { drop(stop.await) })))
        .map_err(|error| Failure::new("runtime", format!("can't start a thread: {error}")))?;
    Ok((say_stop, processing))
}

fn interrupted() -> Failure {
    Failure::new("interrupted", "asked to stop before the rows were compared".to_owned())
}

/// Shows the table until the time is over (true), or a signal or an end of a part comes (false).
async fn watch(
    args: &Args,
    database: &Database,
    signals: &mut terminal::Signals,
    stop: &AtomicBool,
    processing: &Processing,
) -> Result<bool, Failure> {
    let mut screen = Screen::default();
    let mut tick = tokio::time::interval(LOOK_EVERY);
    let over = async {
        match args.duration {
            Some(span) => tokio::time::sleep(millis(span)).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return Ok(true),
            // Without a time there is nothing that it was asked for and has not done.
            () = signals.next() => return args.duration.map_or(Ok(false), |_| Err(interrupted())),
            _ = tick.tick() => {
                if stop.load(Ordering::Relaxed) || processing.is_finished() {
                    return Ok(false);
                }
                screen.show(database).await?;
            }
        }
    }
}

/// Waits until the rows account for every record that was sent, then compares.
async fn settle(
    database: &Database,
    traffic: &Traffic,
    signals: &mut terminal::Signals,
) -> Result<Compared, Failure> {
    let truth = traffic.truth();
    let sent = truth.inference_records() + truth.label_records();
    let drained = async {
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            if records_done(database).await? >= sent {
                return Ok::<_, Failure>(());
            }
        }
    };
    tokio::select! {
        done = tokio::time::timeout(DRAIN_DEADLINE, drained) => {
            if let Ok(done) = done {
                done?;
            } else {
                let done = records_done(database).await?;
                let seconds = DRAIN_DEADLINE.as_secs();
                let message =
                    format!("after {seconds} s the rows account for {done} of {sent} records");
                return Err(Failure::new("demo_not_drained", message));
            }
        }
        () = signals.next() => return Err(interrupted()),
    }
    compare(database, truth).await
}

/// What was compared, and how it came out.
fn summary(compared: &Compared, traffic: &Traffic, totals: &Totals) -> Result<ExitCode, Failure> {
    const SHOWN: usize = 20;
    let truth = traffic.truth();
    let sum = |of: fn(&crate::traffic::InferenceOutcomes) -> u64| -> u64 {
        truth.inferences.values().map(of).sum()
    };
    let labels: u64 = truth.labels.values().map(|l| l.matched).sum();
    terminal::print(&format!(
        "\nsent       {} records: {} inferences accepted, {} duplicate, {} late, {} broken; {labels} labels for them\n\
         processed  {} records into {} rows, {} dead letters, in {} flushes\n\
         compared   {} rows and the accounts of both topics with what was sent: {}\n",
        compared.records,
        sum(|o| o.accepted),
        sum(|o| o.duplicate),
        sum(|o| o.late),
        sum(|o| o.dead),
        totals.records.iter().sum::<u64>(),
        totals.rows_written,
        totals.letters,
        totals.flushes,
        compared.rows,
        if compared.differences.is_empty() { "all equal" } else { "they DIFFER" },
    ));
    for line in compared.differences.iter().take(SHOWN) {
        terminal::print(&format!("  {line}\n"));
    }
    if compared.differences.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    let count = compared.differences.len();
    Err(Failure::new("demo_rows_differ", format!("{count} differences between rows and truth")))
}

fn welcome(clickhouse: &str, processor: &Processor, overview: SocketAddr, args: &Args) {
    let health = processor.address();
    let end = match args.duration {
        Some(span) => format!("It ends by itself after {} s.", span.0 / 1000),
        None => "Ctrl-C ends it.".to_owned(),
    };
    terminal::print(&format!(
        "\nTidegauge measures three models in windows of 10 s. `fraud` is healthy; after 30 s the features of `churn` drift and\n\
         its quality falls; the labels of `credit` come late. A window seals about 25 s after its end. {end}\n\n\
         overview    http://{overview}/?live=1\n\n\
         charts      {}\n\n\
         SQL         {}\n\n\
         readiness   http://{health}/readyz\n\
         telemetry   http://{health}/metrics\n\n",
        links::dashboard(clickhouse),
        links::play(clickhouse),
    ));
}

fn settings(brokers: &str, clickhouse: &str, port: u16) -> Result<Settings, Failure> {
    let text = format!(
        r#"
        job = "demo"
        workers = 2
        kafka.brokers = "{brokers}"
        inferences.topic = "{INFERENCES}"
        labels.topic = "{LABELS}"
        clickhouse = {{ url = "{clickhouse}", flush_interval = "1s" }}
        dead_letters.topic = "{DEAD_LETTERS}"
        http.listen = "127.0.0.1:{port}"
        models.fraud = {{ task = "binary", segments = ["region"] }}
        models.churn = {{ task = "binary", segments = ["region"] }}
        models.credit = {{ task = "binary", segments = ["region"] }}
        [windows]
        size = "{}ms"
        grains = ["1m", "1h"]
        lateness = "{}ms"
        label_wait = "{}ms"
        "#,
        WINDOW.0, LATENESS.0, LABEL_WAIT.0,
    );
    Ok(Settings::parse("demo", &text, &Environment::default())?)
}

fn traffic_settings(args: &Args) -> TrafficSettings {
    TrafficSettings {
        seed: args.seed,
        start_ms: terminal::now_ms(),
        inferences_per_s: f64::from(args.rate),
        window_ms: WINDOW.0,
        lateness_ms: LATENESS.0,
        label_wait_ms: LABEL_WAIT.0,
        falls_after_ms: FALLS_AFTER.0,
        shares: Shares::USUAL,
        shape: Shape::USUAL,
    }
}

fn millis(span: Millis) -> Duration {
    Duration::from_millis(u64::try_from(span.0).unwrap_or(0))
}

/// The database's files, gone when dropped.
struct Folder(PathBuf);

impl Folder {
    /// In a container every start may have the same process id, so the time is in the name, too: what a killed demo
    /// left behind is not taken up again.
    fn make() -> Self {
        let name = format!("tidegauge-demo-{}-{}", std::process::id(), terminal::now_ms());
        Self(std::env::temp_dir().join(name))
    }

    /// Puts a file of users where ClickHouse reads it beside its own.
    fn add_users(&self, file: &Path) -> Result<(), Failure> {
        let users = self.0.join("users.d");
        let copied =
            fs::create_dir_all(&users).and_then(|()| fs::copy(file, users.join("demo.xml")));
        copied.map(drop).map_err(|error| {
            let said = format!("--clickhouse-users {}: {error}", file.display());
            Failure::new("usage", said)
        })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What can't be removed now, the system removes with its temporary files.
        drop(std::fs::remove_dir_all(&self.0));
    }
}
