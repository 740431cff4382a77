//! The worker threads and the channels to them.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use super::step::{TELL_EVERY, told};
use super::worker::{FromWorker, ToWorker, Worker};
use super::writer::{Gathered, Workers, Writer};
use super::{PipelineError, PipelineSettings, Shared};
use crate::engine::floor::Mark;
use crate::sink::{DeadLetters, Sink};
use crate::source::{Commits, Source};
use crate::telemetry::{Cause, FlushReport, Telemetry};

/// Messages that may lie in a channel, for each worker.
const CHANNEL_LENGTH: usize = 16;
/// How long a worker waits for records before it looks for messages.
const POLL_WAIT: Duration = Duration::from_millis(20);
/// A bounded run whose own partitions have ended, while others may own the rest, ends when nothing has changed for
/// this long: until then a partition may still come from an instance that left.
const SETTLE: Duration = Duration::from_secs(3);

/// What a clock is read for: how long things take, never what they mean.
#[expect(
    clippy::disallowed_methods,
    reason = "the pipeline measures time; nothing of it reaches a row"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

/// What one thread needs beside its worker.
struct Post {
    inbox: mpsc::Receiver<ToWorker>,
    out: mpsc::Sender<FromWorker>,
    quit: Arc<AtomicBool>,
    started: Instant,
}

/// The worker threads, as seen from the writer's task.
pub(super) struct Crew {
    settings: Arc<PipelineSettings>,
    shared: Arc<Shared>,
    telemetry: Telemetry,
    to: Vec<mpsc::Sender<ToWorker>>,
    from: mpsc::Receiver<FromWorker>,
    quit: Arc<AtomicBool>,
    /// Closed when the last thread has ended.
    alive: mpsc::Receiver<()>,
    flush: u64,
    flush_wanted: bool,
    /// Requests for marks that came during a flush.
    wanted: VecDeque<(usize, u64, Vec<crate::engine::event::PartitionId>)>,
    /// Partitions owned and ended, by worker.
    reached: Vec<(usize, usize)>,
    reached_at: Instant,
}

impl Crew {
    /// Starts one thread for each source. The second is where their failures arrive.
    pub(super) fn start<S: Source + 'static>(
        settings: &Arc<PipelineSettings>,
        sources: Vec<S>,
        shared: &Arc<Shared>,
        telemetry: &Telemetry,
        started: Instant,
    ) -> Result<(Self, mpsc::Receiver<PipelineError>), PipelineError> {
        let count = sources.len();
        let (out, from) = mpsc::channel(CHANNEL_LENGTH * count.max(1));
        let (fail, failures) = mpsc::channel(count.max(1));
        let (living, alive) = mpsc::channel(1);
        let quit = Arc::new(AtomicBool::new(false));
        let mut to = Vec::new();
        for (id, source) in sources.into_iter().enumerate() {
            let worker = Worker::new(
                id,
                source,
                Arc::clone(settings),
                Arc::clone(shared),
                telemetry.clone(),
            )?;
            let (sender, inbox) = mpsc::channel(CHANNEL_LENGTH);
            to.push(sender);
            let post = Post { inbox, out: out.clone(), quit: Arc::clone(&quit), started };
            let (fail, living) = (fail.clone(), living.clone());
            let thread = std::thread::Builder::new().name(format!("worker-{id}"));
            let spawned = thread.spawn(move || {
                if let Err(error) = guard(id, move || drive(worker, post)) {
                    // The run is ending already when nobody listens.
                    drop(fail.try_send(error));
                }
                drop(living);
            });
            spawned.map_err(|error| PipelineError::Worker {
                worker: id,
                message: format!("the thread can't be started: {error}"),
            })?;
        }
        let crew = Self {
            settings: Arc::clone(settings),
            shared: Arc::clone(shared),
            telemetry: telemetry.clone(),
            to,
            from,
            quit,
            alive,
            flush: 0,
            flush_wanted: false,
            wanted: VecDeque::new(),
            reached: vec![(0, 0); count],
            reached_at: now(),
        };
        Ok((crew, failures))
    }

    /// The writer's task: serves requests, flushes in time, and ends with a last flush when stopped or when all of
    /// a bounded source is read. Whether that flush wrote all.
    pub(super) async fn work<C: Commits, K: Sink, D: DeadLetters>(
        &mut self,
        writer: &mut Writer<C, K, D>,
        mut stopped: watch::Receiver<bool>,
    ) -> Result<bool, PipelineError> {
        let mut last_flush = now();
        while !*stopped.borrow_and_update() {
            self.note_all();
            while let Some((worker, request, partitions)) = self.wanted.pop_front() {
                let known = writer.marks(&partitions).await?;
                self.tell(worker, ToWorker::Marks { request, known }).await;
            }
            if self.has_ended() && self.timed_flush(writer).await? {
                // Of partitions that were taken away meanwhile nothing was in that flush.
                self.note_all();
                if self.has_ended() {
                    self.stop_reading().await;
                    return Ok(true);
                }
                continue;
            }
            let due = self.settings.flush_interval.saturating_sub(last_flush.elapsed());
            if self.flush_wanted || due.is_zero() {
                self.timed_flush(writer).await?;
                last_flush = now();
                continue;
            }
            let wait = due.min(self.until_settled());
            tokio::select! {
                biased;
                _ = stopped.changed() => {}
                message = self.from.recv() => match message {
                    Some(message) => self.note(message),
                    // All threads have ended, each with a failure: that is what ends the run.
                    None => std::future::pending().await,
                },
                () = tokio::time::sleep(wait) => {}
            }
        }
        self.stop_reading().await;
        self.timed_flush(writer).await
    }

    async fn stop_reading(&mut self) {
        for worker in 0..self.to.len() {
            self.tell(worker, ToWorker::Stop).await;
        }
    }

    /// Whether its marks were written.
    async fn timed_flush<C: Commits, K: Sink, D: DeadLetters>(
        &mut self,
        writer: &mut Writer<C, K, D>,
    ) -> Result<bool, PipelineError> {
        let from = now();
        self.flush_wanted = false;
        let (step, telemetry) = (writer.step(), self.telemetry.clone());
        let tell = |waited| telemetry.flush_is_slow(waited, step.waits_for());
        let goes_on = self.shared.starts.all_go_on();
        let report = told(writer.flush(self), TELL_EVERY, tell).await?;
        if goes_on && self.shared.starts.all_go_on() && report.has_marked {
            // Whoever restarts instances one after the other waits for rows to move again, and not only for a process.
            self.telemetry.ready(Cause::Starting);
        }
        self.telemetry.flushed(&FlushReport { took: from.elapsed(), ..report });
        Ok(report.has_marked)
    }

    /// Notes what has come while something else was waited for.
    fn note_all(&mut self) {
        while let Ok(message) = self.from.try_recv() {
            self.note(message);
        }
    }

    fn note(&mut self, message: FromWorker) {
        match message {
            FromWorker::MarksWanted { worker, request, partitions } => {
                self.wanted.push_back((worker, request, partitions));
            }
            FromWorker::FlushWanted => self.flush_wanted = true,
            FromWorker::Reached { worker, owned, ended } => {
                self.reached[worker] = (owned, ended);
                self.reached_at = now();
            }
            FromWorker::Frozen { flush, .. } => {
                debug_assert!(false, "flush {flush} was not waited for");
            }
        }
    }

    fn owned_and_ended(&self) -> (usize, usize) {
        self.reached.iter().fold((0, 0), |(o, e), &(owned, ended)| (o + owned, e + ended))
    }

    /// Whether all of a bounded source is read: all partitions, or our own and the others are quiet.
    fn has_ended(&self) -> bool {
        let (owned, ended) = self.owned_and_ended();
        let all = usize::try_from(self.settings.partitions).unwrap_or(usize::MAX);
        owned > 0 && owned == ended && (owned >= all || self.reached_at.elapsed() >= SETTLE)
    }

    fn until_settled(&self) -> Duration {
        let (owned, ended) = self.owned_and_ended();
        if owned > 0 && owned == ended {
            SETTLE.saturating_sub(self.reached_at.elapsed())
        } else {
            Duration::MAX
        }
    }

    async fn tell(&self, worker: usize, message: ToWorker) {
        // A thread that has ended says why by itself.
        drop(self.to[worker].send(message).await);
    }

    /// Lets the threads end, and waits for them, but not for ever.
    pub(super) async fn end(mut self, budget: Duration) {
        self.quit.store(true, Ordering::Release);
        self.from.close();
        if tokio::time::timeout(budget, self.alive.recv()).await.is_err() {
            tracing::warn!("a worker did not end in time");
        }
    }
}

impl Workers for Crew {
    async fn freeze(&mut self) -> Result<Gathered, PipelineError> {
        self.flush += 1;
        for worker in 0..self.to.len() {
            self.tell(worker, ToWorker::Freeze { flush: self.flush }).await;
        }
        let mut gathered = Gathered::default();
        let mut answers = 0;
        while answers < self.to.len() {
            match self.from.recv().await {
                Some(FromWorker::Frozen { frozen, letters, .. }) => {
                    gathered.frozen.extend(frozen);
                    gathered.letters.extend(letters);
                    answers += 1;
                }
                Some(message) => self.note(message),
                // All threads have ended, each with a failure: that is what ends the run.
                None => std::future::pending().await,
            }
        }
        Ok(gathered)
    }

    async fn begin_again(&mut self) -> Result<(), PipelineError> {
        for worker in 0..self.to.len() {
            // All is to be read again.
            self.reached[worker].1 = 0;
            self.tell(worker, ToWorker::BeginAgain).await;
        }
        Ok(())
    }

    async fn clean(&mut self, marks: &[Mark]) -> Result<(), PipelineError> {
        for worker in 0..self.to.len() {
            let (flush, marks) = (self.flush, marks.to_vec());
            self.tell(worker, ToWorker::Clean { flush, marks }).await;
        }
        Ok(())
    }
}

/// Turns a panic into an error, so that it ends the process instead of leaving a hole.
fn guard(
    worker: usize,
    run: impl FnOnce() -> Result<(), PipelineError>,
) -> Result<(), PipelineError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Err(PipelineError::Worker { worker, message: text.unwrap_or_default() })
    })
}

/// A worker's thread.
fn drive<S: Source>(mut worker: Worker<S>, mut post: Post) -> Result<(), PipelineError> {
    while !post.quit.load(Ordering::Acquire) {
        while let Ok(message) = post.inbox.try_recv() {
            worker.receive(message)?;
        }
        let is_idle = worker.outbox().is_empty();
        if !is_idle && !send(&mut worker, &post.out) {
            return Ok(());
        }
        worker.step(post.started.elapsed(), POLL_WAIT)?;
        if !send(&mut worker, &post.out) {
            return Ok(());
        }
    }
    Ok(())
}

/// Sends what there is room for; the rest stays in the outbox. Whether anybody listens.
fn send<S: Source>(worker: &mut Worker<S>, out: &mpsc::Sender<FromWorker>) -> bool {
    while let Some(message) = worker.outbox().pop_front() {
        match out.try_send(message) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(message)) => {
                worker.outbox().push_front(message);
                return true;
            }
            Err(mpsc::error::TrySendError::Closed(_)) => return false,
        }
    }
    true
}
