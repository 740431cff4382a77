//! Writer schemas by id, shared by all decoders. Hits are kept for ever, what is missing briefly; an outage is "wait".

use super::SchemaId;
use super::registry_client::{Answer, Missing, Registry, Trouble};
pub use super::registry_client::{RegistryError, RegistrySettings, WriterSchema};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// The most misses that are remembered: a topic of noise names any number of ids.
const MISSES_MAX: usize = 10_000;
/// A registry counts its ids up. One that is so much greater than all that were seen is noise, which nobody waits for.
const NEW_IDS: u32 = 10_000;
const UNPOISONED: &str = "nothing panics while it holds this lock";

/// What the cache knows of an id.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The schema.
    Known(Arc<WriterSchema>),
    /// The registry has no such id.
    Unknown,
    /// The registry has it, but it can't be used: for ever, or as long as the registry lacks what it refers to.
    Bad(Arc<str>),
    /// The registry has to be asked, or does not answer: ask again after [`Schemas::wait`].
    Waiting,
}

/// An id that decoders wait for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingFor {
    /// The id.
    pub id: SchemaId,
    /// Why it is not there yet, with the remedy.
    pub reason: String,
    /// Whether it will not come without the operator: wrong credentials.
    pub needs_operator: bool,
}

/// The cache of writer schemas, shared by all workers, filled by [`Schemas::serve`].
#[derive(Debug)]
pub struct Schemas {
    registry: Option<Registry>,
    state: Mutex<State>,
    changed: Condvar,
    asked: Notify,
}

#[derive(Debug, Default)]
struct State {
    known: BTreeMap<SchemaId, Arc<WriterSchema>>,
    bad: BTreeMap<SchemaId, Arc<str>>,
    /// Ids that the registry does not know, or that refer to what it does not know.
    misses: BTreeMap<SchemaId, Miss>,
    /// Since when the registry has said of an id that something is missing.
    missing_since: BTreeMap<SchemaId, Instant>,
    /// Ids that are asked for, and what is in the way.
    wanted: BTreeMap<SchemaId, Option<Trouble>>,
    changes: u64,
}

/// What the registry lacks: it may be there later.
#[derive(Debug)]
struct Miss {
    found: Lookup,
    forgotten_at: Instant,
}

impl Schemas {
    /// A cache without a registry, for topics that need none: every id is unknown.
    pub fn none() -> Self {
        Self::with(None)
    }

    /// A cache in front of a registry.
    pub fn new(settings: RegistrySettings) -> Result<Self, RegistryError> {
        Registry::new(settings).map(Some).map(Self::with)
    }

    fn with(registry: Option<Registry>) -> Self {
        let (state, changed) = (Mutex::default(), Condvar::new());
        Self { registry, state, changed, asked: Notify::new() }
    }

    /// What is known of an id; one that is not known is asked for by [`Schemas::serve`].
    pub fn lookup(&self, id: SchemaId) -> Lookup {
        let mut state = self.state();
        if let Some(schema) = state.known.get(&id) {
            return Lookup::Known(Arc::clone(schema));
        }
        if let Some(reason) = state.bad.get(&id) {
            return Lookup::Bad(Arc::clone(reason));
        }
        if let Some(miss) = state.misses.get(&id) {
            return miss.found.clone();
        }
        if self.registry.is_none() {
            return Lookup::Unknown;
        }
        if let Entry::Vacant(place) = state.wanted.entry(id) {
            place.insert(None);
            self.asked.notify_one();
        }
        Lookup::Waiting
    }

    /// Adds a schema that is known without asking, such as the one that this process itself registered.
    pub fn remember(&self, id: SchemaId, schema: WriterSchema) {
        self.know(id, schema);
    }

    /// The ids that decoders wait for and why, for `/readyz`.
    pub fn waiting(&self) -> Vec<WaitingFor> {
        let state = self.state();
        let asking = || Trouble {
            reason: "the schema registry is being asked".to_owned(),
            needs_operator: false,
        };
        let entries = state.wanted.iter().map(|(&id, trouble)| {
            let Trouble { reason, needs_operator } = trouble.clone().unwrap_or_else(asking);
            WaitingFor { id, reason, needs_operator }
        });
        entries.collect()
    }

    /// Blocks a worker until the cache has changed or `timeout` has passed; returns at once where nothing is
    /// waited for. Whether there is something new to look up.
    pub fn wait(&self, timeout: Duration) -> bool {
        let state = self.state();
        let before = state.changes;
        let unchanged = |state: &mut State| state.changes == before && !state.wanted.is_empty();
        let waited = self.changed.wait_timeout_while(state, timeout, unchanged);
        waited.is_ok_and(|(_, result)| !result.timed_out())
    }

    /// Asks the registry for the ids that are waited for, until dropped.
    pub async fn serve(self: Arc<Self>) {
        let Some(registry) = &self.registry else { return std::future::pending().await };
        let mut pause = registry.settings.pause_min;
        loop {
            let wanted = self.wanted();
            if wanted.is_empty() {
                self.sleep_until_asked().await;
                continue;
            }
            let mut failures = 0;
            for &id in &wanted {
                let trouble = match registry.fetch(id).await {
                    Ok(answer) => self.settle(id, answer, &registry.settings).err(),
                    Err(trouble) => Some(trouble),
                };
                if let Some(trouble) = trouble {
                    failures += 1;
                    self.state().wanted.insert(id, Some(trouble));
                }
            }
            if failures < wanted.len() {
                pause = registry.settings.pause_min;
            }
            if failures > 0 {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(registry.settings.pause_max);
            }
        }
    }

    /// Forgets misses whose time is over, then says what is to be asked for.
    fn wanted(&self) -> Vec<SchemaId> {
        let now = Instant::now();
        let mut state = self.state();
        state.misses.retain(|_, miss| miss.forgotten_at > now);
        state.wanted.keys().copied().collect()
    }

    async fn sleep_until_asked(&self) {
        let next_miss = self.state().misses.values().map(|miss| miss.forgotten_at).min();
        let forget = async {
            match next_miss {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.asked.notified() => {}
            () = forget => {}
        }
    }

    /// Notes an answer, unless it says that something is missing and a node may only be behind.
    fn settle(
        &self,
        id: SchemaId,
        answer: Answer,
        settings: &RegistrySettings,
    ) -> Result<(), Trouble> {
        match answer {
            Answer::Known(schema) => self.know(id, schema),
            Answer::Bad(reason) => self.state().settle_bad(id, reason),
            Answer::Missing(missing) => {
                let mut state = self.state();
                if state.may_be_behind(id, settings.behind_for) {
                    return Err(Trouble::behind(&missing));
                }
                let found = match missing {
                    Missing::Id => Lookup::Unknown,
                    Missing::Reference(what) => Lookup::Bad(what.into()),
                };
                let forgotten_at = Instant::now() + settings.miss_for;
                state.settle_missing(id, Miss { found, forgotten_at });
            }
        }
        self.changed.notify_all();
        Ok(())
    }

    fn know(&self, id: SchemaId, schema: WriterSchema) {
        let mut state = self.state();
        state.missing_since.remove(&id);
        state.known.insert(id, Arc::new(schema));
        state.settled(id);
        drop(state);
        self.changed.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(UNPOISONED)
    }
}

impl State {
    /// Whether the registry may know the id later: it has not said for long that something is missing.
    fn may_be_behind(&mut self, id: SchemaId, behind_for: Duration) -> bool {
        let greatest = self.known.last_key_value().map(|(known, _)| known.0);
        if greatest.is_some_and(|greatest| id.0 > greatest.saturating_add(NEW_IDS)) {
            return false;
        }
        if self.missing_since.len() >= MISSES_MAX && !self.missing_since.contains_key(&id) {
            self.missing_since.pop_first();
        }
        let now = Instant::now();
        let since = *self.missing_since.entry(id).or_insert(now);
        now.duration_since(since) < behind_for
    }

    fn settle_missing(&mut self, id: SchemaId, miss: Miss) {
        if self.misses.len() >= MISSES_MAX {
            self.misses.pop_first();
        }
        self.misses.insert(id, miss);
        self.settled(id);
    }

    fn settle_bad(&mut self, id: SchemaId, reason: String) {
        self.bad.insert(id, reason.into());
        self.settled(id);
    }

    fn settled(&mut self, id: SchemaId) {
        self.wanted.remove(&id);
        self.changes += 1;
    }
}
