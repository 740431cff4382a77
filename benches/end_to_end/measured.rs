//! What a child process costs: wall time, CPU by threads, the most memory that it held.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::slice;
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::time::TimeValLike as _;
use nix::unistd::Pid;

/// Of one run.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// From the start of the process to its end.
    pub wall_s: f64,
    /// User and system, of all threads.
    pub cpu_s: f64,
    /// The same by groups of threads, as last seen: a little less than the whole.
    pub threads: BTreeMap<String, f64>,
    /// Of resident memory.
    pub peak_mib: f64,
    /// CPU of the database meanwhile.
    pub clickhouse_s: f64,
    /// Rows that the database took.
    pub rows: u64,
}

/// What Linux tells user space in, on every machine that the program is for.
const TICKS_PER_S: f64 = 100.0;
/// Between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Another build of the program, which is then measured.
static OTHER: OnceLock<PathBuf> = OnceLock::new();

/// Measures this build instead of the one that belongs to the benchmark.
pub fn measure_other(program: PathBuf) {
    OTHER.set(program).expect("once, before anything is started");
}

/// The program.
pub fn program() -> Command {
    Command::new(OTHER.get().map_or(Path::new(env!("CARGO_BIN_EXE_tidegauge")), PathBuf::as_path))
}

/// Runs it to its end, which must be a success.
pub fn run(command: &mut Command, log: &Path) -> Measured {
    run_until(slice::from_mut(command), log, || false)
}

/// Runs them beside each other to their ends, which must be successes, and asks them to end once it `is_done`. What is
/// measured is the sum of all.
pub fn run_until(
    commands: &mut [Command],
    log: &Path,
    mut is_done: impl FnMut() -> bool,
) -> Measured {
    let file = fs::File::create(log).expect("the folder is ours");
    let before = children_s();
    let begun = Instant::now();
    let mut children: Vec<(Child, Measured)> = Vec::new();
    for command in commands {
        let [out, err] = [(); 2].map(|()| file.try_clone().expect("it is open"));
        let child = command.stdout(out).stderr(err).spawn().expect("cargo has built it");
        children.push((child, Measured::default()));
    }
    let (mut running, mut is_asked) = (children.len(), false);
    while running > 0 {
        running = 0;
        for (child, measured) in &mut children {
            look(&Path::new("/proc").join(child.id().to_string()), measured);
            let status = child.try_wait().expect("it is our child");
            let said = || fs::read_to_string(log).unwrap_or_default();
            assert!(status.is_none_or(|it| it.success()), "{status:?}\n{}", said());
            running += usize::from(status.is_none());
        }
        if !is_asked && is_done() {
            is_asked = true;
            for (child, _) in &mut children {
                if child.try_wait().expect("it is our child").is_none() {
                    let id = i32::try_from(child.id()).expect("process ids are small");
                    kill(Pid::from_raw(id), Signal::SIGTERM).expect("nobody has waited for it");
                }
            }
        }
        sleep(INTERVAL);
    }
    let mut whole = Measured { wall_s: begun.elapsed().as_secs_f64(), ..Measured::default() };
    whole.cpu_s = children_s() - before;
    for (_, measured) in children {
        whole.peak_mib += measured.peak_mib;
        for (name, seconds) in measured.threads {
            *whole.threads.entry(name).or_default() += seconds;
        }
    }
    whole
}

/// CPU seconds of a running process with all its threads.
pub fn process_s(id: u32) -> f64 {
    stat(&Path::new("/proc").join(id.to_string()).join("stat")).map_or(0.0, |(_, seconds)| seconds)
}

/// The middle one.
pub fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Of children that have ended and were waited for.
fn children_s() -> f64 {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("the system counts");
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Duration::from_micros(u64::try_from(micros).expect("not negative")).as_secs_f64()
}

/// The process may end meanwhile: then what was seen last stays.
fn look(process: &Path, measured: &mut Measured) {
    let Ok(tasks) = fs::read_dir(process.join("task")) else { return };
    let mut threads = BTreeMap::<String, f64>::new();
    for task in tasks.flatten() {
        if let Some((name, seconds)) = stat(&task.path().join("stat")) {
            *threads.entry(group(&name).to_owned()).or_default() += seconds;
        }
    }
    // Threads end before the process does: each group's most is what it used.
    for (name, seconds) in threads {
        let most = measured.threads.entry(name).or_insert(0.0);
        *most = seconds.max(*most);
    }
    measured.peak_mib = peak_of(process).unwrap_or(measured.peak_mib);
}

/// The most memory that a running process has held.
pub fn peak_mib(id: u32) -> f64 {
    peak_of(&Path::new("/proc").join(id.to_string())).unwrap_or(0.0)
}

fn peak_of(process: &Path) -> Option<f64> {
    let status = fs::read_to_string(process.join("status")).ok()?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: f64 = peak.trim().trim_end_matches(" kB").parse().ok()?;
    Some(kib / 1024.0)
}

/// Threads of one kind have one name.
fn group(name: &str) -> &str {
    ["rdk:broker", "rdk:", "worker", "tokio"]
        .into_iter()
        .find(|start| name.starts_with(start))
        .unwrap_or(name)
}

/// Name and CPU seconds of a task.
fn stat(path: &Path) -> Option<(String, f64)> {
    let text = fs::read_to_string(path).ok()?;
    // The name in parentheses may hold anything.
    let (head, tail) = text.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = tail.split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
    Some((name, (ticks(11)? + ticks(12)?) / TICKS_PER_S))
}
