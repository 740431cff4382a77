//! One instance: real workers and a real writer, driven step by step.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tidegauge::engine::event::PartitionId;
use tidegauge::engine::floor::Mark;
use tidegauge::pipeline::worker::{FromWorker, ToWorker};
use tidegauge::pipeline::writer::{Gathered, Workers};
use tidegauge::pipeline::{self, PipelineError, PipelineSettings, Worker, Writer};
use tidegauge::telemetry::Telemetry;

use super::group::{Mailbox, Reader};
use super::sink::{Connection, pause};
use super::world::Shared;

type Task = Pin<Box<dyn Future<Output = Result<(), PipelineError>>>>;

/// Workers and the messages between them and the writer.
struct Crew {
    world: Shared,
    workers: Vec<Worker<Reader>>,
    to: Vec<VecDeque<ToWorker>>,
    from: VecDeque<FromWorker>,
    wanted: VecDeque<(usize, u64, Vec<PartitionId>)>,
    flush: u64,
    is_flushing: bool,
    is_flush_wanted: bool,
    is_stopping: bool,
    now: Duration,
}

impl Crew {
    fn tell(&mut self, worker: usize, message: ToWorker) {
        self.to[worker].push_back(message);
    }

    fn note(&mut self, message: FromWorker) {
        match message {
            FromWorker::MarksWanted { worker, request, partitions } => {
                self.wanted.push_back((worker, request, partitions));
            }
            FromWorker::FlushWanted => self.is_flush_wanted = true,
            FromWorker::Reached { .. } => {}
            FromWorker::Frozen { flush, .. } => panic!("flush {flush} was not waited for"),
        }
    }

    /// One worker takes in some of its messages and goes one step.
    fn step(&mut self, worker: usize) -> Result<(), PipelineError> {
        let waiting = self.to[worker].len();
        let messages = self.world.lock().random.index(waiting + 1);
        for message in self.to[worker].drain(..messages) {
            self.workers[worker].receive(message)?;
        }
        self.workers[worker].step(self.now, Duration::ZERO)?;
        self.from.extend(self.workers[worker].outbox().drain(..));
        Ok(())
    }
}

struct Handle(Rc<RefCell<Crew>>);

impl Workers for Handle {
    async fn freeze(&mut self) -> Result<Gathered, PipelineError> {
        let workers = {
            let mut crew = self.0.borrow_mut();
            crew.flush += 1;
            let flush = crew.flush;
            for worker in 0..crew.workers.len() {
                crew.tell(worker, ToWorker::Freeze { flush });
            }
            crew.workers.len()
        };
        let mut gathered = Gathered::default();
        let mut answers = 0;
        loop {
            {
                let mut crew = self.0.borrow_mut();
                while let Some(message) = crew.from.pop_front() {
                    match message {
                        FromWorker::Frozen { frozen, letters, .. } => {
                            gathered.frozen.extend(frozen);
                            gathered.letters.extend(letters);
                            answers += 1;
                        }
                        other => crew.note(other),
                    }
                }
                if answers == workers {
                    let world = crew.world.clone();
                    let world = world.lock();
                    let step = world.step;
                    world.tamper.frozen(&mut gathered.frozen, step);
                    return Ok(gathered);
                }
            }
            pause().await;
        }
    }

    async fn begin_again(&mut self) -> Result<(), PipelineError> {
        let mut crew = self.0.borrow_mut();
        for worker in 0..crew.workers.len() {
            crew.tell(worker, ToWorker::BeginAgain);
        }
        Ok(())
    }

    async fn clean(&mut self, marks: &[Mark]) -> Result<(), PipelineError> {
        let mut crew = self.0.borrow_mut();
        for worker in 0..crew.workers.len() {
            let (flush, marks) = (crew.flush, marks.to_vec());
            crew.tell(worker, ToWorker::Clean { flush, marks });
        }
        Ok(())
    }
}

type SimulatedWriter = Writer<Connection, Connection, Connection>;

/// The writer's task, as the pipeline's own.
async fn work(
    mut writer: SimulatedWriter,
    crew: Rc<RefCell<Crew>>,
    interval: Duration,
) -> Result<(), PipelineError> {
    let mut handle = Handle(Rc::clone(&crew));
    let mut last_flush = crew.borrow().now;
    loop {
        let (is_due, is_stopping) = {
            let mut crew = crew.borrow_mut();
            while let Some(message) = crew.from.pop_front() {
                crew.note(message);
            }
            (crew.is_flush_wanted || last_flush + interval <= crew.now, crew.is_stopping)
        };
        if is_stopping {
            let mut crew = crew.borrow_mut();
            for worker in 0..crew.workers.len() {
                crew.tell(worker, ToWorker::Stop);
            }
            break;
        }
        let wanted = crew.borrow_mut().wanted.pop_front();
        if let Some((worker, request, partitions)) = wanted {
            let known = writer.marks(&partitions).await?;
            crew.borrow_mut().tell(worker, ToWorker::Marks { request, known });
        } else if is_due {
            crew.borrow_mut().is_flush_wanted = false;
            crew.borrow_mut().is_flushing = true;
            writer.flush(&mut handle).await?;
            crew.borrow_mut().is_flushing = false;
            last_flush = crew.borrow().now;
        } else {
            pause().await;
        }
    }
    writer.flush(&mut handle).await?;
    Ok(())
}

/// One instance. Dropping it is a crash.
pub(crate) struct Instance {
    pub number: usize,
    /// Until then it makes no step.
    pub stopped_until: u64,
    /// It leaves by itself.
    pub is_leaving: bool,
    crew: Rc<RefCell<Crew>>,
    task: Task,
}

impl Instance {
    /// A fresh process with so many workers; gives their mailboxes too.
    pub(crate) fn start(
        number: usize,
        workers: usize,
        settings: &Arc<PipelineSettings>,
        world: &Shared,
        now: Duration,
    ) -> Result<(Self, Vec<Mailbox>), PipelineError> {
        let telemetry = Telemetry::new();
        let shared = Arc::new(pipeline::Shared::default());
        let mailboxes: Vec<Mailbox> = (0..workers).map(|_| Mailbox::default()).collect();
        let start = |(id, mailbox): (usize, &Mailbox)| {
            let reader = Reader::new(world, mailbox);
            Worker::new(id, reader, Arc::clone(settings), Arc::clone(&shared), telemetry.clone())
        };
        let crew = Rc::new(RefCell::new(Crew {
            world: world.clone(),
            workers: mailboxes.iter().enumerate().map(start).collect::<Result<_, _>>()?,
            to: (0..workers).map(|_| VecDeque::new()).collect(),
            from: VecDeque::new(),
            wanted: VecDeque::new(),
            flush: 0,
            is_flushing: false,
            is_flush_wanted: false,
            is_stopping: false,
            now,
        }));
        let ends = Connection::new(world, number);
        let writer = Writer::new(Arc::clone(settings), ends.clone(), ends.clone(), ends, telemetry);
        let task = Box::pin(work(writer, Rc::clone(&crew), settings.flush_interval));
        let instance = Self { number, stopped_until: 0, is_leaving: false, crew, task };
        Ok((instance, mailboxes))
    }

    /// Asks it to write what is there and to end.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.crew.borrow_mut().is_stopping = true;
    }

    /// One step of one worker or of the writer. Whether the process has ended.
    pub(crate) fn step(&mut self, now: Duration, which: usize) -> Result<bool, PipelineError> {
        let workers = self.crew.borrow().workers.len();
        self.crew.borrow_mut().now = now;
        if which < workers {
            self.crew.borrow_mut().step(which)?;
            return Ok(false);
        }
        match self.task.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(ended) => ended.map(|()| true),
            Poll::Pending => Ok(false),
        }
    }

    /// Whether a flush has begun and not ended.
    pub(crate) fn is_flushing(&self) -> bool {
        self.crew.borrow().is_flushing
    }

    pub(crate) fn workers(&self) -> usize {
        self.crew.borrow().workers.len()
    }
}
