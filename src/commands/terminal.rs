//! What the commands print, and the clock and the signals of the outer world.

use std::io::{ErrorKind, IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::{Duration, SystemTime};

use indicatif::{ProgressBar, ProgressStyle, WeakProgressBar};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tracing::level_filters::LevelFilter;

use super::Failure;

/// How often a line says how far a command is, where nobody sees a bar.
pub(crate) const LINE_EVERY: Duration = Duration::from_secs(10);

/// Why standard output could not be written, if that happened.
static UNWRITTEN: OnceLock<String> = OnceLock::new();

/// Writes to standard output; a closed pipe is the reader's wish, and any other failure is told at the end.
pub(crate) fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            UNWRITTEN.get_or_init(|| error.to_string());
        }
        _ => {}
    }
}

/// Fails where something that was printed could not be written.
pub(crate) fn check_written() -> Result<(), Failure> {
    UNWRITTEN.get().map_or(Ok(()), |reason| {
        let message = format!("can't write to standard output: {reason}");
        Err(Failure::new("output_unwritable", message))
    })
}

/// A file to write to: `-`, which other programs take for standard output, is none.
pub(crate) fn file(given: &str) -> Result<PathBuf, String> {
    if given == "-" {
        return Err("it is no file: without this option it goes to standard output".to_owned());
    }
    Ok(given.into())
}

/// Writes to standard error. Messages may name what stands in records: of what steers a terminal only ends of lines and
/// tabs pass.
pub(crate) fn note(text: &str) {
    let steers = |c: char| c.is_control() && !['\n', '\r', '\t'].contains(&c);
    drop(std::io::stderr().lock().write_all(text.replace(steers, " ").as_bytes()));
}

/// What records or other programs say, for a line that people read: what would move the cursor, set colours or begin
/// another line is a space.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// Whether a person reads standard output.
pub(crate) fn is_terminal() -> bool {
    std::io::stdout().is_terminal()
}

/// Whether a person reads standard error.
pub(crate) fn is_error_terminal() -> bool {
    std::io::stderr().is_terminal()
}

/// A bar on standard error, where a person reads it, else a line now and then; `of` is the total in the words of
/// [`indicatif`].
pub(crate) fn bar(total: u64, of: &str) -> ProgressBar {
    let bar = ProgressBar::new(total);
    let style =
        format!("{{bar:30}} {{percent:>3}} % of {of}  {{msg}}  {{elapsed}} gone, {{eta}} left");
    bar.set_style(ProgressStyle::with_template(&style).expect("the template is right"));
    if bar.is_hidden() {
        let shown = bar.downgrade();
        let lines = move || follow(&shown, LINE_EVERY, say);
        // Without the thread there are no lines, and the work is done all the same.
        drop(std::thread::Builder::new().name("progress".to_owned()).spawn(lines));
    }
    bar
}

/// Hands a bar to `say` again and again, until it is done or gone.
fn follow(shown: &WeakProgressBar, every: Duration, say: impl Fn(&ProgressBar)) {
    loop {
        let begun = start();
        // A parked thread may wake up early.
        while begun.elapsed() < every {
            std::thread::park_timeout(every.saturating_sub(begun.elapsed()));
        }
        let Some(bar) = shown.upgrade().filter(|bar| !bar.is_finished()) else { return };
        say(&bar);
    }
}

/// Says how far it is: in the log where there is one, whose lines may be JSON, else in a line of its own.
fn say(bar: &ProgressBar) {
    let (what, percent, seconds) = (bar.message(), percent(bar), bar.elapsed().as_secs());
    if LevelFilter::current() == LevelFilter::OFF {
        note(&format!("{what}: {percent} % read after {seconds} s\n"));
    } else {
        tracing::info!(%what, percent, seconds, "reading");
    }
}

fn percent(bar: &ProgressBar) -> u64 {
    bar.position().saturating_mul(100) / bar.length().unwrap_or(0).max(1)
}

/// The wall clock: milliseconds since 1970-01-01 UTC.
#[expect(clippy::disallowed_methods, reason = "live traffic is stamped by the wall clock")]
pub(crate) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time that only moves forward, for lengths.
#[expect(clippy::disallowed_methods, reason = "commands say how long they took")]
pub(crate) fn start() -> std::time::Instant {
    std::time::Instant::now()
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// From now on they no longer end the process by themselves.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|e| Failure::new("runtime", format!("can't catch signals: {e}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
        })
    }

    /// The next one.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }

    /// The next one ends the process, whatever it still waits for.
    pub(crate) async fn leave(&mut self) {
        self.next().await;
        std::process::exit(130);
    }

    /// The next one is told to `say_stop`, and the one after it ends the process: an orderly end can wait for others.
    pub(crate) async fn stop_then_leave(&mut self, say_stop: impl FnOnce()) {
        self.next().await;
        say_stop();
        self.leave().await;
    }
}

/// The signals of a command that gets ready: it has written nothing yet, so the first one ends the process at once. The
/// first process of a container gets none that it does not catch, and could wait for a server until it is killed.
pub(crate) struct Starting {
    say_begun: oneshot::Sender<()>,
    signals: JoinHandle<Signals>,
}

impl Starting {
    /// From now on; where this is dropped, to the end of the process.
    pub(crate) fn catch(runtime: &Runtime) -> Result<Self, Failure> {
        let mut signals = {
            let _inside = runtime.enter();
            Signals::catch()?
        };
        let (say_begun, begun) = oneshot::channel();
        let signals = runtime.spawn(async move {
            tokio::select! {
                biased;
                Ok(()) = begun => {}
                () = signals.leave() => unreachable!("the process ends before"),
            }
            signals
        });
        Ok(Self { say_begun, signals })
    }

    /// What comes from now on is the caller's to answer.
    pub(crate) async fn begun(self) -> Signals {
        self.say_begun.send(()).ok();
        self.signals.await.expect("the task waits for signals, and nothing in it fails")
    }
}

/// What this process has used so far.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// Processor time, user and system.
    pub(crate) cpu: Duration,
    /// The most memory that was resident, in bytes.
    pub(crate) peak_bytes: u64,
}

/// What this process has used so far.
pub(crate) fn usage() -> Usage {
    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::time::TimeValLike as _;
    let Ok(usage) = getrusage(UsageWho::RUSAGE_SELF) else {
        return Usage::default();
    };
    let time = (usage.user_time() + usage.system_time()).num_microseconds();
    Usage {
        cpu: Duration::from_micros(u64::try_from(time).unwrap_or(0)),
        peak_bytes: u64::try_from(usage.max_rss()).unwrap_or(0) * 1024,
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn a_bar_that_nobody_sees_is_told_until_it_is_done_or_gone() {
        let bar = ProgressBar::hidden();
        bar.set_length(200);
        bar.set_message("labels");
        bar.set_position(50);
        let told = RefCell::new(Vec::new());
        follow(&bar.downgrade(), Duration::from_millis(1), |bar| {
            told.borrow_mut().push(format!("{}: {} %", bar.message(), percent(bar)));
            bar.set_position(100);
            if told.borrow().len() == 2 {
                bar.finish_and_clear();
            }
        });
        assert_eq!(*told.borrow(), ["labels: 25 %", "labels: 50 %"]);
        let gone = ProgressBar::hidden().downgrade();
        follow(&gone, Duration::ZERO, |_| panic!("there is no bar any more"));
    }
}
