//! `tidegauge serve`: web pages over the stored rows.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{ConfigFile, Failure, runtime, terminal};
use crate::overview::{Overview, OverviewSettings};
use crate::sink::clickhouse::ClickHouse;
use crate::telemetry::{LogFormat, set_up_log};

/// How long pages may take that are being made when the first signal comes: a client that reads nothing, or says
/// nothing, would hold the end for ever.
const LEAVE_WITHIN: Duration = Duration::from_secs(5);

/// Serve web pages about all models: traffic, quality, drift, alerts; one page for each model and feature
///
/// The pages are made of the rows in ClickHouse whenever they are opened. They only read, so a user with SELECT on the
/// tables is enough. What a page shows is in its address: a view is shared by its address. The models in trouble stand
/// first. While ClickHouse is away the pages say so, and come back by themselves.
///
/// Others than this machine's own users are let in with a token only: without one, another address than 127.0.0.1 is
/// refused. The token goes in the address once (?token=...) or in a header (Authorization: Bearer ...). Put a proxy
/// with TLS before it where others can read along.
///
/// The first SIGTERM or Ctrl-C ends it once the pages that are being made are done, after five seconds at most; a
/// second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  tidegauge serve -c fraud.toml
  TIDEGAUGE_TOKEN=$(openssl rand -hex 16) \\
      tidegauge serve -c fraud.toml --listen 0.0.0.0:9465
  curl -H \"Authorization: Bearer $TIDEGAUGE_TOKEN\" \\
      'http://host:9465/model?model=fraud&version=v3&range=7d'

Addresses:
  /          all models; /model one of them; /feature one of its features;
             /healthz for an orchestrator
  range      15m, 1h, 6h, 24h, 7d, 30d, 90d or all, up to `until` or now
  until      2026-11-27, or 2026-11-27T08:00:00Z
  grain      5m, 1h, 1d: by default the finest that a chart has room for
  segment    all, or one like region=eu
  live       1: the page loads itself anew every ten seconds")]
pub struct Args {
    #[command(flatten)]
    config: ConfigFile,
    /// Where to listen
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9465")]
    listen: SocketAddr,
    /// What others must know to look: at least 16 characters. Better in the environment, where nobody sees it
    #[arg(long, value_name = "TOKEN", env = "TIDEGAUGE_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// Owner of the rows; by default the configured job
    #[arg(long, value_name = "NAME")]
    job: Option<String>,
}

/// Runs it.
pub fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut settings = args.config.load()?;
    set_up_log(LogFormat::Text, "warn")?;
    if let Some(job) = &args.job {
        settings.job.clone_from(job);
    }
    let runtime = runtime()?;
    let exit = runtime.block_on(async {
        let mut signals = terminal::Signals::catch()?;
        let overview = Overview::bind(OverviewSettings {
            listen: args.listen,
            token: args.token.clone().filter(|token| !token.is_empty()),
            clickhouse: ClickHouse::new(settings.clickhouse()),
            about: format!("Job {}", settings.job),
            references: settings.shard.references().collect(),
            clock: terminal::now_ms,
        })
        .await?;
        terminal::print(&format!("overview at http://{}/ (Ctrl-C ends it)\n", overview.address()));
        Ok::<_, Failure>(until_signalled(overview, &mut signals).await)
    })?;
    // What a page still waits for ends with the runtime.
    runtime.shutdown_background();
    Ok(exit)
}

/// Serves until the first signal, and then what is being answered.
async fn until_signalled(overview: Overview, signals: &mut terminal::Signals) -> ExitCode {
    let (say_stop, stop) = oneshot::channel::<()>();
    let serving = overview.serve(async { drop(stop.await) });
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return ExitCode::SUCCESS,
        () = signals.next() => {}
    }
    say_stop.send(()).ok();
    tokio::select! {
        () = serving => ExitCode::SUCCESS,
        () = tokio::time::sleep(LEAVE_WITHIN) => ExitCode::SUCCESS,
        () = signals.next() => ExitCode::from(130),
    }
}
