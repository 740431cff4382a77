//! A job that holds many inferences is killed or stopped: how long until its rows move again.

use std::fs::File;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tidegauge::traffic::produce::Until;

use super::measured::peak_mib;
use super::sets::{Case, Job, Stage};
use super::support::wait_until;
use super::targets::{Figure, HELD, RESTART_S};

/// Inferences that come while the job is down.
const MEANWHILE: u64 = 10_000;
const DEADLINE: Duration = Duration::from_secs(1800);

/// So many inferences, which wait for labels that may come for 12 hours. Gives the longest of the restarts.
pub fn run(stage: &mut Stage, base: Case, inferences: u64) -> Figure {
    let mut case = base;
    case.shape.label_delay_ms = Some(12 * 3_600_000);
    let begun = Instant::now();
    let ((topics, sender), mut traffic) = stage.unlabelled(case, inferences);
    let mut send = |count| {
        let until = Until { inferences: Some(count), ..Until::default() };
        sender
            .run(&mut traffic, until, None, &|| false, &mut |_| {})
            .expect("the broker takes all");
    };
    send(inferences);
    println!("{inferences} inferences sent in {:.1} s", begun.elapsed().as_secs_f64());

    let (mut total, mut longest_s) = (inferences, 0.0_f64);
    for way in [Way::Killed, Way::StaticKilled, Way::Stopped] {
        let job = stage.new_job(&topics, case);
        if way == Way::StaticKilled {
            job.configure("[kafka.properties]\n\"group.instance.id\" = \"one\"\n");
        }
        let begun = Instant::now();
        let mut first = Running::start(stage, &job);
        first.wait_until("all inferences to be held", || {
            stage.records_counted(&job.name) == total && stage.shown(&job.name)[0] == total
        });
        println!(
            "read and held in {:.1} s, peak {:.0} MiB",
            begun.elapsed().as_secs_f64(),
            peak_mib(first.0.id())
        );
        if way == Way::Stopped {
            first.stop();
        }
        drop(first);

        let held = total;
        total += MEANWHILE;
        send(total);
        let begun = Instant::now();
        let mut second = Running::start(stage, &job);
        second.wait_until("a new row", || stage.shown(&job.name)[0] > held);
        let first_row_s = begun.elapsed().as_secs_f64();
        longest_s = longest_s.max(first_row_s);
        second.wait_until("all new rows", || stage.shown(&job.name)[0] >= total);
        println!(
            "restart/{held} held, {}: first new row after {first_row_s:.1} s, \
             all {MEANWHILE} new inferences after {:.1} s, peak {:.0} MiB",
            way.name(),
            begun.elapsed().as_secs_f64(),
            peak_mib(second.0.id())
        );
        assert_eq!(stage.shown(&job.name)[0], total, "a row is wrong");
    }
    assert_eq!(traffic.truth().inference_records(), total);
    let what = format!("restart with {inferences} held (target: with {HELD}), longest of three, s");
    Figure::at_most(RESTART_S, longest_s, what)
}

/// How the first process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// By SIGKILL: the group waits for it until the session's timeout.
    Killed,
    /// By SIGKILL, as a static member, whose place the next one takes.
    StaticKilled,
    /// By SIGTERM.
    Stopped,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed",
            Self::StaticKilled => "killed as a static member",
            Self::Stopped => "stopped",
        }
    }
}

/// A process that is killed when this goes.
pub struct Running(pub Child);

impl Running {
    /// `tidegauge run`, its log in the stage's folder.
    pub fn start(stage: &Stage, job: &Job) -> Self {
        let file = File::create(stage.path("running.log")).expect("the folder is ours");
        let both = file.try_clone().expect("it is open");
        let mut command: Command = job.command(&["run"]);
        Self(command.stdout(file).stderr(both).spawn().expect("cargo has built it"))
    }

    /// Asks it to end, and waits for that.
    pub fn stop(&mut self) {
        let id = i32::try_from(self.0.id()).expect("process ids are small");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("nobody has waited for it");
        wait_until("the program's end", DEADLINE, || {
            self.0.try_wait().expect("it is our child").is_some()
        });
    }

    /// Panics if it ends meanwhile.
    pub fn wait_until(&mut self, what: &str, mut condition: impl FnMut() -> bool) {
        wait_until(what, DEADLINE, || {
            let ended = self.0.try_wait().expect("it is our child");
            assert!(ended.is_none(), "{ended:?} while waiting for {what}");
            condition()
        });
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // One that has ended by itself is not there any more.
        drop(self.0.kill());
        self.0.wait().expect("it is our child");
    }
}
