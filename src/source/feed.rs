//! Files as a bounded source: one partition, read by one thread for each stream.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bumpalo::Bump;

use super::files::{Columns, FileError, FileList, FileReader};
use super::{Commits, Record, Records, Source, SourceError, SourceEvent, Take};
use crate::engine::event::{Offset, PartitionId, Positions, Stream};
use crate::engine::floor::Mark;
use crate::engine::time::RecordTime;

/// The only partition.
pub const PARTITION: PartitionId = PartitionId(0);
/// Records in a batch at most, and their bytes, about.
const BATCH_RECORDS: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;
/// Batches that are read ahead.
const BATCHES_AHEAD: usize = 4;

/// The files of one stream.
#[derive(Clone, Debug)]
pub struct FeedFiles {
    /// Which stream they hold.
    pub stream: Stream,
    /// The files.
    pub files: FileList,
    /// What is read of them.
    pub columns: Columns,
}

/// How far the files are read, and where each record stands in them. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct FeedProgress(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Bytes read, by stream.
    bytes: [AtomicU64; 2],
    /// Records handed over, by stream.
    records: [AtomicU64; 2],
    /// By stream the offset of each file's first record, ascending.
    files: [Mutex<Vec<(i64, PathBuf)>>; 2],
}

impl FeedProgress {
    /// Bytes read of all files, about.
    pub fn bytes(&self) -> u64 {
        self.0.bytes.iter().map(|bytes| bytes.load(Ordering::Relaxed)).sum()
    }

    /// Records handed over, those before a start's positions included.
    pub fn records(&self) -> u64 {
        self.0.records.iter().map(|records| records.load(Ordering::Relaxed)).sum()
    }

    /// The file that holds a record, and the record's number in it, from 1 on.
    pub fn place(&self, stream: Stream, offset: i64) -> Option<(PathBuf, i64)> {
        let files = self.files(stream);
        let at = files.partition_point(|&(first, _)| first <= offset).checked_sub(1)?;
        let (first, path) = &files[at];
        Some((path.clone(), offset - first + 1))
    }

    fn files(&self, stream: Stream) -> MutexGuard<'_, Vec<(i64, PathBuf)>> {
        self.0.files[stream.index()].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Some records of one stream, copied out of their file.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Offset and end in `bytes` of each.
    records: Vec<(i64, usize)>,
    /// How much of the files was read then.
    bytes_read: u64,
}

impl Batch {
    fn push(&mut self, offset: i64, object: &[u8]) {
        self.bytes.extend_from_slice(object);
        self.records.push((offset, self.bytes.len()));
    }

    fn is_full(&self) -> bool {
        self.records.len() >= BATCH_RECORDS || self.bytes.len() >= BATCH_BYTES
    }

    fn records<'a>(&'a self, stream: Stream, arena: &'a Bump) -> Records<'a> {
        let mut start = 0;
        let records = self.records.iter().map(|&(offset, end)| {
            let payload = Some(&self.bytes[std::mem::replace(&mut start, end)..end]);
            let (offset, time) = (Offset(offset), RecordTime(0));
            Record { stream, partition: PARTITION, offset, time, key: None, payload }
        });
        Records { records: arena.alloc_slice_fill_iter(records) }
    }
}

/// What a reading thread sends.
enum Read {
    Batch(Batch),
    End(i64),
    Failed(FileError),
}

/// One stream's reading thread, as seen from the worker.
struct Thread {
    stream: Stream,
    inbox: Receiver<Read>,
    has_ended: bool,
}

/// Files as a source of one partition.
pub struct Feed {
    streams: Vec<FeedFiles>,
    progress: FeedProgress,
    threads: Vec<Thread>,
    /// Group events to come.
    events: Vec<SourceEvent<'static>>,
    /// The stream that was read last: the other one is asked first.
    last: Option<Stream>,
    batch: Batch,
    /// The records of the batch, which borrow from it.
    arena: Bump,
}

impl Feed {
    /// A source of these files, at most one list for each stream.
    pub fn new(streams: Vec<FeedFiles>, progress: FeedProgress) -> Self {
        let events = vec![SourceEvent::Assigned(vec![PARTITION])];
        let (threads, last, batch) = (Vec::new(), None, Batch::default());
        Self { streams, progress, threads, events, last, batch, arena: Bump::new() }
    }

    /// What the threads that may be read have ready, without waiting.
    fn ready(&mut self, take: Take) -> Result<Option<(Stream, Read)>, SourceError> {
        let last = self.last;
        let mut threads: Vec<&Thread> = self.threads.iter().filter(|t| t.is_wanted(take)).collect();
        threads.sort_by_key(|thread| Some(thread.stream) == last);
        for thread in threads {
            match thread.inbox.try_recv() {
                Ok(read) => return Ok(Some((thread.stream, read))),
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => return Err(gone(thread.stream)),
            }
        }
        Ok(None)
    }

    /// The same, waiting for the first of them.
    fn next(&mut self, take: Take, wait: Duration) -> Result<Option<(Stream, Read)>, SourceError> {
        if let Some(ready) = self.ready(take)? {
            return Ok(Some(ready));
        }
        let wanted = |thread: &&Thread| thread.is_wanted(take);
        // With both wanted the wait is short for each: there is no waiting for two channels.
        let several = self.threads.iter().filter(wanted).count() > 1;
        let wait = if several { wait.min(Duration::from_millis(1)) } else { wait };
        let Some(thread) = self.threads.iter().find(wanted) else {
            // Nothing is to be read: only time passes.
            let (_open, never) = sync_channel::<()>(0);
            never.recv_timeout(wait).ok();
            return Ok(None);
        };
        match thread.inbox.recv_timeout(wait) {
            Ok(read) => Ok(Some((thread.stream, read))),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => Err(gone(thread.stream)),
        }
    }
}

impl Thread {
    fn is_wanted(&self, take: Take) -> bool {
        let is_taken = match take {
            Take::Both => true,
            Take::Only(stream) => stream == self.stream,
            Take::Nothing => false,
        };
        is_taken && !self.has_ended
    }
}

fn gone(stream: Stream) -> SourceError {
    SourceError::Client(format!("the thread that reads the files of {} has ended", stream.name()))
}

impl Source for Feed {
    fn poll(&mut self, take: Take, wait: Duration) -> Result<SourceEvent<'_>, SourceError> {
        if let Some(event) = self.events.pop() {
            return Ok(event);
        }
        let Some((stream, read)) = self.next(take, wait)? else { return Ok(SourceEvent::Quiet) };
        self.last = Some(stream);
        match read {
            Read::Failed(error) => Err(SourceError::File(error)),
            Read::End(end) => {
                let thread = self.threads.iter_mut().find(|thread| thread.stream == stream);
                thread.expect("it was just read").has_ended = true;
                Ok(SourceEvent::Ended(stream, PARTITION, end))
            }
            Read::Batch(batch) => {
                let shared = &self.progress.0;
                let count = u64::try_from(batch.records.len()).expect("a batch is small");
                shared.bytes[stream.index()].store(batch.bytes_read, Ordering::Relaxed);
                shared.records[stream.index()].fetch_add(count, Ordering::Relaxed);
                self.batch = batch;
                self.arena.reset();
                Ok(SourceEvent::Records(self.batch.records(stream, &self.arena)))
            }
        }
    }

    fn beginning(
        &mut self,
        partitions: &[PartitionId],
    ) -> Result<Vec<(PartitionId, Positions)>, SourceError> {
        Ok(partitions.iter().map(|&partition| (partition, Positions::default())).collect())
    }

    fn start(&mut self, from: &[(PartitionId, Positions)]) -> Result<(), SourceError> {
        let Some(&(_, positions)) = from.first() else { return Ok(()) };
        // Threads of an earlier assignment end when nobody listens.
        self.threads.clear();
        for files in &self.streams {
            let stream = files.stream;
            self.progress.files(stream).clear();
            let (sender, inbox) = sync_channel(BATCHES_AHEAD);
            let reader = FileReader::new(files.files.clone(), files.columns.clone());
            let (progress, first) = (self.progress.clone(), positions.of(stream));
            std::thread::Builder::new()
                .name(format!("files-{}", stream.name()))
                .spawn(move || read(reader, stream, first, &sender, &progress))
                .map_err(|error| SourceError::Client(format!("can't start a thread: {error}")))?;
            self.threads.push(Thread { stream, inbox, has_ended: false });
        }
        Ok(())
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        self.threads.clear();
        let again = [SourceEvent::Assigned(vec![PARTITION]), SourceEvent::Lost(vec![PARTITION])];
        self.events = again.into();
        Ok(())
    }
}

/// A reading thread: ends with the files, with what is wrong with one, or when nobody listens any more. Records before
/// the offset `first` are skipped.
fn read(
    mut reader: FileReader,
    stream: Stream,
    first: i64,
    to: &SyncSender<Read>,
    progress: &FeedProgress,
) {
    let mut batch = Batch::default();
    let mut begun = usize::MAX;
    let last = loop {
        match reader.next_record() {
            Ok(Some(record)) => {
                if record.offset >= first {
                    batch.push(record.offset, record.object);
                }
            }
            Ok(None) => break Read::End(reader.position()),
            Err(error) => break Read::Failed(error),
        }
        if let Some(place) = reader.place().filter(|place| place.file != begun) {
            begun = place.file;
            progress.files(stream).push((place.first_offset, place.path.to_owned()));
        }
        if batch.is_full() {
            batch.bytes_read = reader.bytes_read();
            if to.send(Read::Batch(std::mem::take(&mut batch))).is_err() {
                return;
            }
        }
    };
    batch.bytes_read = reader.bytes_read();
    if to.send(Read::Batch(batch)).is_ok() {
        // Nobody listens where the run has ended already.
        drop(to.send(last));
    }
}

/// Files have no group that could be told.
#[derive(Clone, Copy, Debug)]
pub struct NoCommits;

impl Commits for NoCommits {
    fn commit(&self, _marks: &[Mark]) -> Result<(), SourceError> {
        Ok(())
    }
}
