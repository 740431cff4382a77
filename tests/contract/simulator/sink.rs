//! An instance's way to the tables and to the dead-letter topic.

use std::borrow::Cow;
use std::collections::BTreeSet;

use tidegauge::engine::event::PartitionId;
use tidegauge::engine::floor::Mark;
use tidegauge::engine::metrics::MetricTable;
use tidegauge::engine::state::{Key, StateRow};
use tidegauge::engine::time::EventTime;
use tidegauge::engine::window::Window;
use tidegauge::sink::tables::Table;
use tidegauge::sink::{
    DeadLetter, DeadLetters, MetricVersion, RowBatch, Sink, SinkError, StateVersion,
};
use tidegauge::source::{Commits, SourceError};

use super::world::{Fate, Shared, World};
use crate::memory::Tables;

/// Steps after which a late insert is applied at most.
const LATE_MAX: u64 = 400;

/// One instance's connection. Clones share what is held back.
#[derive(Clone)]
pub(crate) struct Connection {
    world: Shared,
    instance: usize,
    /// Whether rows are being read back: evaluation reads the seal marks before all else.
    is_auditing: bool,
    held: std::sync::Arc<std::sync::Mutex<Vec<RowBatch>>>,
}

/// Tells the server that the client is gone when a call is dropped in the middle.
struct Call {
    world: Shared,
    request: Option<u64>,
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(request) = self.request {
            self.world.lock().cut(request);
        }
    }
}

/// Pending once.
pub(super) async fn pause() {
    let mut has_paused = false;
    std::future::poll_fn(|_| {
        if std::mem::replace(&mut has_paused, true) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    })
    .await;
}

impl Connection {
    pub(crate) fn new(world: &Shared, instance: usize) -> Self {
        let held = std::sync::Arc::default();
        Self { world: world.clone(), instance, is_auditing: false, held }
    }

    async fn wait_until(&self, step: u64) {
        while self.world.lock().step < step {
            pause().await;
        }
    }

    async fn delay(&self) {
        let until = {
            let mut world = self.world.lock();
            world.step + world.delay()
        };
        self.wait_until(until).await;
    }

    fn failure(&self) -> SinkError {
        let mut world = self.world.lock();
        if world.random.one_in(4) {
            SinkError::Refused("disk full".to_owned())
        } else {
            SinkError::Unavailable("no answer".to_owned())
        }
    }

    /// An answer that was right at some moment of the call.
    async fn read<T>(&self, what: impl Fn(&mut World) -> T) -> Result<T, SinkError> {
        let server = self.world.lock().server;
        self.delay().await;
        let (answer, fate) = {
            let mut world = self.world.lock();
            (what(&mut world), world.fate())
        };
        self.delay().await;
        let is_answered = fate == Fate::Good && self.world.lock().serves(server);
        if is_answered { Ok(answer) } else { Err(self.failure()) }
    }

    /// The tables; those that a marks-first client believes in, if it is one.
    fn believed<'a>(&self, world: &'a World) -> Cow<'a, Tables> {
        let mut tables = Cow::Borrowed(&world.tables);
        for batch in self.held.lock().unwrap().iter() {
            tables.to_mut().apply(batch);
        }
        tables
    }

    async fn insert(&self, batch: &RowBatch) -> Result<(), SinkError> {
        let server = self.world.lock().server;
        self.delay().await;
        let (fate, request, applied, answered) = {
            let mut world = self.world.lock();
            if !world.serves(server) {
                drop(world);
                return Err(self.failure());
            }
            world.check_marks(batch);
            let fate = match world.fate() {
                Fate::Good => Fate::Good,
                // Nothing else may go wrong: what fails openly makes the next audit read back all rows.
                _ if world.tamper.acknowledges_failures() => Fate::Fails,
                fate => fate,
            };
            let applied = world.step + 1 + world.delay();
            let answered = applied + world.delay();
            let applied = match fate {
                Fate::Late => applied + world.random.below(LATE_MAX),
                Fate::Good | Fate::Fails | Fate::LosesReply | Fate::Partly => applied,
            };
            let request =
                (fate != Fate::Fails).then(|| world.send(batch, fate, applied, self.instance));
            world.note(&|| {
                let (table, rows) = (batch.table.name(), batch.rows);
                format!("instance {} sends {table} ({rows} rows): {fate:?}", self.instance)
            });
            (fate, request, applied, answered)
        };
        let mut call = Call { world: self.world.clone(), request };
        if fate != Fate::Late {
            self.wait_until(applied).await;
        }
        self.wait_until(answered).await;
        call.request = None;
        let is_told_good = fate == Fate::Fails && self.world.lock().tamper.acknowledges_failures();
        let is_applied = fate == Fate::Good && self.world.lock().serves(server);
        if is_applied || is_told_good { Ok(()) } else { Err(self.failure()) }
    }
}

impl Sink for Connection {
    async fn write(&mut self, batch: &RowBatch) -> Result<(), SinkError> {
        let is_marks_first = self.world.lock().tamper.is_marks_first();
        if !is_marks_first {
            return self.insert(batch).await;
        }
        if batch.table != Table::Marks {
            self.held.lock().unwrap().push(batch.clone());
            return Ok(());
        }
        self.insert(batch).await?;
        let held = std::mem::take(&mut *self.held.lock().unwrap());
        for batch in held {
            self.insert(&batch).await?;
        }
        Ok(())
    }

    async fn state_versions(&mut self, span: Window) -> Result<Vec<StateVersion>, SinkError> {
        self.read(|world| {
            let tables = self.believed(world);
            let rows = tables.states.values().filter(|row| span.holds(row.key.window));
            let versions = rows.map(|row| StateVersion {
                key: row.key.clone(),
                partition: row.partition,
                version: row.version,
            });
            let mut versions: Vec<StateVersion> = versions.collect();
            if !self.is_auditing {
                world.tamper.versions(&mut versions);
            }
            versions
        })
        .await
    }

    async fn window_starts(&mut self) -> Result<Vec<EventTime>, SinkError> {
        self.read(|world| {
            let starts = world.tables.states.values().map(|row| row.key.window.start);
            starts.collect::<BTreeSet<_>>().into_iter().collect()
        })
        .await
    }

    async fn states(&mut self, wanted: &[(Key, PartitionId)]) -> Result<Vec<StateRow>, SinkError> {
        self.read(|world| {
            let tables = self.believed(world);
            wanted.iter().filter_map(|key| tables.states.get(key).cloned()).collect()
        })
        .await
    }

    async fn marks(&mut self, partitions: &[PartitionId]) -> Result<Vec<Mark>, SinkError> {
        self.read(|world| {
            let known = |p| world.tables.marks.get(p).cloned();
            let mut marks: Vec<Mark> = partitions.iter().filter_map(known).collect();
            world.tamper.marks(&mut marks);
            marks
        })
        .await
    }

    async fn seals(&mut self) -> Result<Vec<(PartitionId, EventTime)>, SinkError> {
        self.is_auditing = false;
        self.read(|world| {
            let seals = &self.believed(world).seals;
            seals.iter().map(|(&partition, &until)| (partition, until)).collect()
        })
        .await
    }

    async fn mark_orders(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, i64)>, SinkError> {
        self.is_auditing = true;
        self.read(|world| {
            if world.tamper.hides_older_marks() {
                return partitions.iter().map(|&partition| (partition, i64::MAX)).collect();
            }
            world.tables.mark_orders(partitions)
        })
        .await
    }

    async fn metric_versions(
        &mut self,
        tables: &[MetricTable],
        windows: &[Window],
    ) -> Result<Vec<MetricVersion>, SinkError> {
        self.read(|world| self.believed(world).metric_versions(tables, windows)).await
    }
}

impl DeadLetters for Connection {
    async fn send(&mut self, letters: &[DeadLetter]) -> Result<(), SinkError> {
        self.delay().await;
        let fate = {
            let mut world = self.world.lock();
            let fate = world.fate();
            if fate != Fate::Fails {
                for DeadLetter { record, .. } in letters {
                    world.letters.insert((record.stream, record.partition, record.offset.0));
                }
            }
            fate
        };
        self.delay().await;
        match fate {
            Fate::Good => Ok(()),
            _ => Err(SinkError::Letters("no answer".to_owned())),
        }
    }
}

impl Commits for Connection {
    fn commit(&self, _marks: &[Mark]) -> Result<(), SourceError> {
        match self.world.lock().fate() {
            Fate::Good => Ok(()),
            _ => Err(SourceError::Client("stale generation".to_owned())),
        }
    }
}
