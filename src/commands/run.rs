//! `tidegauge run`: the processor.

use std::process::ExitCode;

use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::processor::Processor;
use super::{ConfigFile, Failure, runtime, terminal};
use crate::engine::outcome::Outcome;
use crate::pipeline::Totals;
use crate::telemetry::{outcome_index, set_up_log};

/// Measure: read both topics and keep the rows in ClickHouse right
///
/// Any number of instances with the same job name share the partitions; each may be stopped, killed and started at
/// any time. The first SIGTERM or Ctrl-C writes what is there and leaves; a second one leaves at once, and so does the
/// first one while it still connects.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge run -c fraud.toml
  tidegauge run -c fraud.toml --until-end      what the topics hold now
  TIDEGAUGE__LOGS__FORMAT=json tidegauge run   logs for a log store

Health: GET /healthz (alive), /readyz (ready, or why not), /metrics on http.listen.")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Stop, everything written and committed, at the end offsets seen at the start
    #[arg(long)]
    until_end: bool,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let settings = args.config.load()?;
    set_up_log(settings.logs.format, &settings.logs.level)?;
    let (job, brokers) = (settings.job.clone(), settings.brokers.clone());
    tracing::info!(%job, %brokers, version = env!("CARGO_PKG_VERSION"), "starting");
    let runtime = runtime()?;
    let starting = terminal::Starting::catch(&runtime)?;
    let processor = Processor::connect(settings, args.until_end, &runtime)?;
    let address = processor.address();
    tracing::info!(%address, "connected; /healthz, /readyz and /metrics answer here");
    let mut tasks = JoinSet::new();
    let (say_stop, stop) = oneshot::channel();
    let signals = runtime.block_on(starting.begun());
    tasks.spawn_on(leave_on_signals(signals, say_stop), runtime.handle());
    let totals = runtime.block_on(processor.run(async {
        if stop.await.is_err() {
            std::future::pending::<()>().await;
        }
    }))?;
    report(&totals);
    // Tasks that wait for a signal end with the runtime.
    runtime.shutdown_background();
    let is_cut_short = args.until_end && !totals.is_drained;
    Ok(if is_cut_short { ExitCode::from(130) } else { ExitCode::SUCCESS })
}

/// The first signal asks to stop, the second ends the process.
async fn leave_on_signals(mut signals: terminal::Signals, say_stop: oneshot::Sender<()>) {
    let stop = || {
        tracing::info!("asked to stop: writing what is there; a second signal leaves at once");
        say_stop.send(()).ok();
    };
    signals.stop_then_leave(stop).await;
}

/// One line of what was done and what it cost.
#[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "figures for people")]
fn report(totals: &Totals) {
    let usage = terminal::usage();
    let records: u64 = totals.records.iter().sum();
    let outcome =
        |outcome| totals.outcomes.iter().map(|of| of[outcome_index(outcome)]).sum::<u64>();
    let (seconds, cpu) = (totals.elapsed.as_secs_f64(), usage.cpu.as_secs_f64());
    tracing::info!(
        records,
        seconds = format!("{seconds:.3}"),
        records_per_s = (records as f64 / seconds.max(1e-9)).round(),
        cpu_seconds = format!("{cpu:.3}"),
        records_per_cpu_s = (records as f64 / cpu.max(1e-9)).round(),
        peak_rss_mib = usage.peak_bytes >> 20,
        rows_written = totals.rows_written,
        accepted = outcome(Outcome::Accepted),
        duplicate = outcome(Outcome::Duplicate),
        late = outcome(Outcome::Late),
        // First outcomes: a label that is read before its inference is kept, and matches later.
        matched_at_once = outcome(Outcome::Matched),
        kept_at_first = outcome(Outcome::Kept),
        orphan = outcome(Outcome::Orphan),
        dead = outcome(Outcome::Dead),
        replayed = records.saturating_sub(totals.outcomes.iter().flatten().sum()),
        flushes = totals.flushes,
        drained = totals.is_drained,
        "finished"
    );
}
