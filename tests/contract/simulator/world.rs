//! What all instances share: the tables behind a network that can't be trusted, the dead-letter topic, the log.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use tidegauge::engine::event::{PartitionId, Stream};
use tidegauge::engine::floor::Mark;
use tidegauge::sink::RowBatch;
use tidegauge::sink::tables::Table;

use super::random::Random;
use super::truth::Truth;
use super::{Tamper, Violation};
use crate::memory::{Log, Tables};

/// Lines of the event log that a failure shows.
const EVENTS_KEPT: usize = 150;
/// Steps that a part of a slow call takes at most.
const DELAY_MAX: u64 = 8;
/// Steps that the server is away at least when its tables are put back.
const OUTAGE_MIN: u64 = 20;

/// An insert on its way, known to the server whatever becomes of the client.
#[derive(Debug)]
pub(crate) struct Request {
    batch: RowBatch,
    apply_at: u64,
    is_partial: bool,
    sender: usize,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Good,
    /// Nothing happens.
    Fails,
    /// Applied, and the reply is lost.
    LosesReply,
    /// Not applied when the client gives up, but later.
    Late,
    /// Some of the rows are applied, as of an insert that spans several parts.
    Partly,
}

pub(crate) struct World {
    pub random: Random,
    pub step: u64,
    pub tables: Tables,
    pub letters: BTreeSet<(Stream, PartitionId, i64)>,
    /// Of the log, so many records of each topic partition can be read.
    pub available: BTreeMap<(Stream, PartitionId), usize>,
    pub records: Log,
    pub truth: Truth,
    pub tamper: Arc<dyn Tamper>,
    /// Of so many calls one goes wrong; none with 0.
    pub trouble: u64,
    /// Of so many parts of calls one takes long.
    pub slowness: u64,
    pub violation: Option<Violation>,
    requests: BTreeMap<u64, Request>,
    next_request: u64,
    copies: Vec<Tables>,
    /// How often the server was started; what was sent to an earlier one is not answered.
    pub server: u64,
    /// Nothing is answered before.
    down_until: u64,
    /// The instances that run.
    pub living: BTreeSet<usize>,
    /// How often each kind of thing has happened.
    pub counts: BTreeMap<&'static str, u64>,
    events: VecDeque<String>,
}

/// Clones share it.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

impl World {
    pub(crate) fn new(random: Random, records: Log, truth: Truth, tamper: Arc<dyn Tamper>) -> Self {
        Self {
            random,
            step: 0,
            tables: Tables::new(),
            letters: BTreeSet::new(),
            available: records.keys().map(|&key| (key, 0)).collect(),
            records,
            truth,
            tamper,
            trouble: 0,
            slowness: 4,
            violation: None,
            requests: BTreeMap::new(),
            next_request: 0,
            copies: Vec::new(),
            server: 0,
            down_until: 0,
            living: BTreeSet::new(),
            counts: BTreeMap::new(),
            events: VecDeque::new(),
        }
    }

    /// Keeps a line for the case of failure.
    pub(crate) fn note(&mut self, event: &dyn Fn() -> String) {
        if self.events.len() == EVENTS_KEPT {
            self.events.pop_front();
        }
        let line = format!("{:5} {}", self.step, event());
        self.events.push_back(line);
    }

    /// Counts what has happened.
    pub(crate) fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    pub(crate) fn take_events(&mut self) -> Vec<String> {
        std::mem::take(&mut self.events).into()
    }

    /// Keeps the first.
    pub(crate) fn found(&mut self, result: Result<(), Violation>) {
        if let Err(violation) = result
            && self.violation.is_none()
        {
            self.violation = Some(violation);
        }
    }

    /// Steps that a part of a call takes: mostly none.
    pub(crate) fn delay(&mut self) -> u64 {
        if self.random.one_in(self.slowness) { self.random.below(DELAY_MAX) } else { 0 }
    }

    pub(crate) fn fate(&mut self) -> Fate {
        if self.trouble == 0 || !self.random.one_in(self.trouble) {
            return Fate::Good;
        }
        let fate = *self.random.pick(&[Fate::Fails, Fate::LosesReply, Fate::Late, Fate::Partly]);
        self.count(match fate {
            Fate::Good => "call succeeded",
            Fate::Fails => "call failed",
            Fate::LosesReply => "reply lost",
            Fate::Late => "insert applied late",
            Fate::Partly => "insert applied in part",
        });
        fate
    }

    /// Sends an insert off; it is applied by the clock.
    pub(crate) fn send(&mut self, batch: &RowBatch, fate: Fate, at: u64, sender: usize) -> u64 {
        self.next_request += 1;
        let is_partial = fate == Fate::Partly;
        let request = Request { batch: batch.clone(), apply_at: at, is_partial, sender };
        self.requests.insert(self.next_request, request);
        self.next_request
    }

    /// The client has gone away: a request that is not yet applied may be cut off.
    pub(crate) fn cut(&mut self, request: u64) {
        if self.requests.contains_key(&request) && self.random.one_in(2) {
            self.requests.remove(&request);
            self.count("insert cut off by a crash");
        }
    }

    /// One tick of the clock: what is due is applied.
    pub(crate) fn tick(&mut self) {
        self.step += 1;
        let now = self.step;
        let due: Vec<u64> = self
            .requests
            .iter()
            .filter(|(_, request)| request.apply_at <= now)
            .map(|(&id, _)| id)
            .collect();
        for id in due {
            self.apply(id);
        }
    }

    fn apply(&mut self, id: u64) {
        let Some(request) = self.requests.remove(&id) else { return };
        if !self.living.contains(&request.sender) {
            self.count("insert applied after its sender's death");
        }
        self.tables.keeps_first = self.random.one_in(2);
        let random = &mut self.random;
        let keep = |_| !request.is_partial || random.one_in(2);
        self.tables.apply_some(&request.batch, keep);
        self.note(&|| {
            format!("applied {} ({} rows)", request.batch.table.name(), request.batch.rows)
        });
    }

    /// What is still on its way arrives now.
    pub(crate) fn apply_all(&mut self) {
        let all: Vec<u64> = self.requests.keys().copied().collect();
        for id in all {
            self.apply(id);
        }
    }

    /// Holds the marks of an insert that is being sent against what is acknowledged.
    pub(crate) fn check_marks(&mut self, batch: &RowBatch) {
        if batch.table != Table::Marks {
            return;
        }
        let mut sent = Tables::new();
        sent.apply(batch);
        let marks: Vec<Mark> = sent.marks.into_values().collect();
        for mark in marks {
            self.count("mark checked");
            if mark.floor.sealed_until.0 > 0 {
                self.count("mark with sealed windows checked");
            }
            let result = self.truth.check_mark(&self.tables, &self.letters, &mark);
            self.note(&|| format!("marks {} at {:?}", mark.partition.0, mark.positions));
            self.found(result);
        }
    }

    /// Copies the tables, to be put back later.
    pub(crate) fn copy(&mut self) {
        self.copies.push(self.tables.clone());
    }

    /// Puts an older copy back. The caller has stopped everybody.
    pub(crate) fn put_back(&mut self) {
        let which = self.random.index(self.copies.len().max(1));
        if let Some(copy) = self.copies.get(which) {
            self.tables = copy.clone();
            self.count("tables put back");
            self.requests.clear();
            self.note(&|| format!("tables put back to copy {which}"));
        }
    }

    /// Puts an older copy back while instances run: the server is away meanwhile, for longer than any of them can
    /// fail to notice, and what was on its way is lost.
    pub(crate) fn put_back_under_way(&mut self) {
        self.put_back();
        self.server += 1;
        self.down_until = self.step + OUTAGE_MIN + self.random.below(OUTAGE_MIN);
        self.count("tables put back under running instances");
    }

    /// Whether what was sent to this server is answered by it.
    pub(crate) fn serves(&self, server: u64) -> bool {
        server == self.server && self.down_until <= self.step
    }

    pub(crate) fn has_copies(&self) -> bool {
        !self.copies.is_empty()
    }

    /// Lets more of the log be read.
    pub(crate) fn produce(&mut self, key: (Stream, PartitionId), count: usize) {
        let all = self.records.get(&key).map_or(0, Vec::len);
        if let Some(available) = self.available.get_mut(&key) {
            *available = (*available + count).min(all);
        }
    }
}
