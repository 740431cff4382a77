//! The consumer group: who owns which partition, who is told so, and when.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidegauge::engine::event::{PartitionId, Positions, Stream};
use tidegauge::source::{Record, Records, Reply, Source, SourceError, SourceEvent, StartAt, Take};

use super::world::Shared;

/// Records of one batch at most.
const BATCH_RECORDS: usize = 9;
/// Steps that the group waits for the answer to a revocation at most.
const REVOKE_MAX: u64 = 150;

/// What a worker is told.
#[derive(Debug)]
pub(crate) enum Event {
    Assigned(Vec<PartitionId>),
    Revoked(Vec<PartitionId>, SyncSender<()>),
    Lost(Vec<PartitionId>),
}

/// Events for one worker, in order.
pub(crate) type Mailbox = Arc<Mutex<VecDeque<Event>>>;

/// One worker's share of both topics.
pub(crate) struct Reader {
    world: Shared,
    mailbox: Mailbox,
    next: BTreeMap<(Stream, PartitionId), i64>,
    batch: Vec<Record<'static>>,
    /// The greatest Kafka timestamp given.
    latest: i64,
}

impl Reader {
    pub(crate) fn new(world: &Shared, mailbox: &Mailbox) -> Self {
        Self {
            world: world.clone(),
            mailbox: Arc::clone(mailbox),
            next: BTreeMap::new(),
            batch: Vec::new(),
            latest: i64::MIN,
        }
    }

    fn forget(&mut self, partitions: &[PartitionId]) {
        self.next.retain(|(_, partition), _| !partitions.contains(partition));
    }

    fn fill(&mut self, take: Take) {
        self.batch.clear();
        let is_wanted = |key: &&(Stream, PartitionId)| match take {
            Take::Both => true,
            Take::Only(stream) => stream == key.0,
            Take::Nothing => false,
        };
        let wanted: Vec<(Stream, PartitionId)> =
            self.next.keys().filter(is_wanted).copied().collect();
        if wanted.is_empty() {
            return;
        }
        let mut world = self.world.lock();
        // A batch may hold several topic partitions.
        for _ in 0..2 {
            let key = *world.random.pick(&wanted);
            let count = 1 + world.random.index(BATCH_RECORDS);
            let available = world.available.get(&key).copied().unwrap_or(0);
            let all = world.records.get(&key).map_or(&[][..], |all| &all[..available]);
            let next = self.next.get_mut(&key).unwrap();
            let from = all.partition_point(|record| record.offset.0 < *next);
            for record in all[from..].iter().take(count) {
                *next = record.offset.0 + 1;
                self.latest = self.latest.max(record.time.0);
                self.batch.push(world.tamper.record(*record, self.latest));
            }
        }
    }
}

impl Source for Reader {
    fn poll(&mut self, take: Take, _wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        let event = self.mailbox.lock().unwrap().pop_front();
        match event {
            Some(Event::Assigned(partitions)) => return Ok(SourceEvent::Assigned(partitions)),
            Some(Event::Revoked(partitions, reply)) => {
                self.forget(&partitions);
                return Ok(SourceEvent::Revoked(partitions, Reply(reply)));
            }
            Some(Event::Lost(partitions)) => {
                self.forget(&partitions);
                return Ok(SourceEvent::Lost(partitions));
            }
            None => {}
        }
        self.fill(take);
        if self.batch.is_empty() {
            return Ok(SourceEvent::Quiet);
        }
        Ok(SourceEvent::Records(Records { records: &self.batch }))
    }

    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        Ok(partitions.iter().map(|&p| (p, Positions::default())).collect())
    }

    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError> {
        for &StartAt { partition, from, .. } in from {
            for stream in Stream::BOTH {
                self.next.insert((stream, partition), from.of(stream));
            }
        }
        Ok(())
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        let owned: BTreeSet<PartitionId> = self.next.keys().map(|&(_, p)| p).collect();
        let owned: Vec<PartitionId> = owned.into_iter().collect();
        let mut mailbox = self.mailbox.lock().unwrap();
        // Before what the group has said meanwhile: what it has taken away goes again.
        mailbox.push_front(Event::Assigned(owned.clone()));
        mailbox.push_front(Event::Lost(owned));
        drop(mailbox);
        self.world.lock().count("assigned anew by the instance itself");
        Ok(())
    }
}

#[derive(Debug)]
enum Owner {
    Nobody,
    Instance(usize),
    /// Asked to give it up, until then at the latest.
    Leaving(usize, Rc<Receiver<()>>, u64),
}

/// The coordinator.
pub(crate) struct Group {
    owners: BTreeMap<PartitionId, Owner>,
    /// Who owns a partition no longer and does not know it yet.
    zombies: Vec<(usize, PartitionId)>,
    /// The mailboxes of the members' workers.
    members: BTreeMap<usize, Vec<Mailbox>>,
}

impl Group {
    pub(crate) fn new(partitions: i32) -> Self {
        let owners = (0..partitions).map(|p| (PartitionId(p), Owner::Nobody)).collect();
        Self { owners, zombies: Vec::new(), members: BTreeMap::new() }
    }

    pub(crate) fn join(&mut self, instance: usize, mailboxes: Vec<Mailbox>) {
        self.members.insert(instance, mailboxes);
    }

    /// A member is gone, in whatever way: what it had is free.
    pub(crate) fn leave(&mut self, instance: usize) {
        self.members.remove(&instance);
        self.zombies.retain(|(zombie, _)| *zombie != instance);
        for owner in self.owners.values_mut() {
            if matches!(owner, Owner::Instance(of) | Owner::Leaving(of, ..) if *of == instance) {
                *owner = Owner::Nobody;
            }
        }
    }

    fn by_worker(
        &self,
        instance: usize,
        partitions: &[PartitionId],
    ) -> Vec<(Mailbox, Vec<PartitionId>)> {
        let mailboxes = &self.members[&instance];
        let workers = i32::try_from(mailboxes.len()).unwrap();
        let of = |worker: i32| -> Vec<PartitionId> {
            partitions.iter().copied().filter(|p| p.0 % workers == worker).collect()
        };
        let all =
            mailboxes.iter().zip(0..).map(|(mailbox, worker)| (Arc::clone(mailbox), of(worker)));
        all.filter(|(_, of)| !of.is_empty()).collect()
    }

    /// Gives the free partitions to a member.
    pub(crate) fn assign(&mut self, instance: usize, world: &Shared, all: bool) {
        let mut free = Vec::new();
        for (&partition, owner) in &mut self.owners {
            if matches!(owner, Owner::Nobody) && (all || world.lock().random.one_in(2)) {
                *owner = Owner::Instance(instance);
                free.push(partition);
            }
        }
        if free.is_empty() {
            return;
        }
        self.notify(Some(instance), world);
        for (mailbox, of) in self.by_worker(instance, &free) {
            mailbox.lock().unwrap().push_back(Event::Assigned(of));
        }
        world.lock().count("partitions assigned");
        world.lock().note(&|| format!("instance {instance} is assigned {free:?}"));
    }

    /// Zombies learn that they are none: one member's, or all.
    pub(crate) fn notify(&mut self, instance: Option<usize>, world: &Shared) {
        let mut lost: BTreeMap<usize, Vec<PartitionId>> = BTreeMap::new();
        self.zombies.retain(|&(zombie, partition)| {
            let is_told = instance.is_none_or(|instance| instance == zombie);
            if is_told {
                lost.entry(zombie).or_default().push(partition);
            }
            !is_told
        });
        for (zombie, partitions) in lost {
            world.lock().count("zombie told");
            world.lock().note(&|| format!("instance {zombie} learns that {partitions:?} are lost"));
            for (mailbox, of) in self.by_worker(zombie, &partitions) {
                mailbox.lock().unwrap().push_back(Event::Lost(of));
            }
        }
    }

    fn owned(&self, instance: usize) -> Vec<PartitionId> {
        let is_owned = |owner: &Owner| matches!(owner, Owner::Instance(of) if *of == instance);
        self.owners.iter().filter(|(_, owner)| is_owned(owner)).map(|(&p, _)| p).collect()
    }

    fn some_owned(&self, instance: usize, world: &Shared) -> Vec<PartitionId> {
        let mut owned = self.owned(instance);
        let mut world = world.lock();
        if world.random.one_in(2) {
            owned.retain(|_| world.random.one_in(2));
        }
        owned
    }

    /// Asks a member to give some of its partitions up.
    pub(crate) fn revoke(&mut self, instance: usize, world: &Shared) {
        let some = self.some_owned(instance, world);
        let until = {
            let mut world = world.lock();
            world.step + 1 + world.random.below(REVOKE_MAX)
        };
        for (mailbox, of) in self.by_worker(instance, &some) {
            let (reply, answered) = sync_channel(0);
            let answered = Rc::new(answered);
            world.lock().note(&|| format!("instance {instance} shall give up {of:?}"));
            for &partition in &of {
                let leaving = Owner::Leaving(instance, Rc::clone(&answered), until);
                self.owners.insert(partition, leaving);
            }
            mailbox.lock().unwrap().push_back(Event::Revoked(of, reply));
        }
    }

    /// Takes some of a member's partitions away without its knowledge.
    pub(crate) fn take_away(&mut self, instance: usize, world: &Shared) {
        let some = self.some_owned(instance, world);
        for &partition in &some {
            world.lock().count("partition taken from a zombie");
            self.owners.insert(partition, Owner::Nobody);
            self.zombies.push((instance, partition));
        }
        world.lock().note(&|| format!("instance {instance} loses {some:?} unknowingly"));
    }

    /// Revocations that are answered, or too late to be.
    pub(crate) fn tick(&mut self, world: &Shared) {
        let now = world.lock().step;
        for (&partition, owner) in &mut self.owners {
            let Owner::Leaving(instance, answered, until) = owner else { continue };
            if answered.try_recv() == Err(TryRecvError::Disconnected) {
                *owner = Owner::Nobody;
                world.lock().count("revocation answered");
            } else if *until <= now {
                self.zombies.push((*instance, partition));
                *owner = Owner::Nobody;
                world.lock().count("revocation not answered in time");
                world.lock().note(&|| format!("the group waits no longer for {partition:?}"));
            }
        }
    }
}
