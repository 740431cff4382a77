//! Files as a source: one partition, read by one thread for each stream; bounded, unless files are taken as they come.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use bumpalo::Bump;

use super::files::{Columns, FileError, FileList, FileReader, Next, Taken};
use super::{Commits, Record, Records, Source, SourceError, SourceEvent, StartAt, Take};
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
/// How long a reading thread waits for a file before it looks whether anybody still listens.
const FILE_WAIT: Duration = Duration::from_millis(100);

/// The files of one stream.
#[derive(Clone, Debug)]
pub struct FeedFiles {
    /// Which stream they hold.
    pub stream: Stream,
    /// The files.
    pub files: FileList,
    /// What is read of them.
    pub columns: Columns,
    /// Those that come after; none where these are all.
    pub more: Option<Taken>,
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
    /// Rows left out, by stream.
    left_out: [AtomicU64; 2],
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

    /// Rows left out so far, since they have no label.
    pub fn left_out(&self) -> u64 {
        self.0.left_out.iter().map(|rows| rows.load(Ordering::Relaxed)).sum()
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
    /// As long as it is there somebody listens.
    _listener: Arc<()>,
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

    fn start(&mut self, from: &[StartAt]) -> Result<(), SourceError> {
        let Some(&StartAt { from: positions, .. }) = from.first() else { return Ok(()) };
        // Threads of an earlier assignment end when nobody listens.
        self.threads.clear();
        for files in &self.streams {
            let stream = files.stream;
            self.progress.files(stream).clear();
            let (sender, inbox) = sync_channel(BATCHES_AHEAD);
            let listener = Arc::new(());
            let first_offset = files.more.as_ref().map_or(0, Taken::first_offset);
            let reader = FileReader::new(files.files.clone(), files.columns.clone());
            let reading = Reading {
                reader: reader.starting_at(first_offset),
                more: files.more.clone().map(|taken| (taken, 0)),
                stream,
                first: positions.of(stream),
                to: sender,
                listener: Arc::downgrade(&listener),
                progress: self.progress.clone(),
            };
            std::thread::Builder::new()
                .name(format!("files-{}", stream.name()))
                .spawn(move || reading.run())
                .map_err(|error| SourceError::Client(format!("can't start a thread: {error}")))?;
            self.threads.push(Thread { stream, inbox, has_ended: false, _listener: listener });
        }
        Ok(())
    }

    fn reassign(&mut self) -> Result<(), SourceError> {
        self.threads.clear();
        if self.streams.iter().any(|files| files.more.is_some()) {
            return Err(SourceError::File(FileError::WentBack));
        }
        let again = [SourceEvent::Assigned(vec![PARTITION]), SourceEvent::Lost(vec![PARTITION])];
        self.events = again.into();
        Ok(())
    }
}

/// A reading thread: ends with the files, with what is wrong with one, or when nobody listens any more.
struct Reading {
    reader: FileReader,
    /// Files that come after those of the reader, and how many of them it has got.
    more: Option<(Taken, usize)>,
    stream: Stream,
    /// Records before this offset are skipped.
    first: i64,
    to: SyncSender<Read>,
    listener: Weak<()>,
    progress: FeedProgress,
}

impl Reading {
    fn run(mut self) {
        let mut batch = Batch::default();
        let mut begun = usize::MAX;
        let last = loop {
            match self.reader.next_record() {
                Ok(Some(record)) => {
                    if record.offset >= self.first {
                        batch.push(record.offset, record.object);
                    }
                }
                Ok(None) => match self.next_file(&mut batch) {
                    Ok(Next::End) => break Read::End(self.reader.position()),
                    Ok(Next::File(_)) => continue,
                    Ok(Next::Waiting) => return,
                    Err(error) => break Read::Failed(error),
                },
                Err(error) => break Read::Failed(error),
            }
            if let Some(place) = self.reader.place().filter(|place| place.file != begun) {
                begun = place.file;
                let begins = (place.first_offset, place.path.to_owned());
                self.progress.files(self.stream).push(begins);
            }
            if batch.is_full() && !self.send(&mut batch) {
                return;
            }
        };
        if self.send(&mut batch) {
            // Nobody listens where the run has ended already.
            drop(self.to.send(last));
        }
    }

    /// Whether anybody listens.
    fn send(&self, batch: &mut Batch) -> bool {
        batch.bytes_read = self.reader.bytes_read();
        let left_out = &self.progress.0.left_out[self.stream.index()];
        left_out.store(self.reader.left_out(), Ordering::Relaxed);
        self.to.send(Read::Batch(std::mem::take(batch))).is_ok()
    }

    /// Gives the reader the next file, waiting for it; what was read before is sent first. [`Next::Waiting`] where
    /// nobody listens any more.
    fn next_file(&mut self, batch: &mut Batch) -> Result<Next, FileError> {
        let Some((taken, number)) = self.more.clone() else { return Ok(Next::End) };
        let mut next = taken.next(number, Duration::ZERO);
        if next == Next::Waiting && !batch.records.is_empty() && !self.send(batch) {
            return Ok(next);
        }
        while next == Next::Waiting && self.listener.strong_count() > 0 {
            next = taken.next(number, FILE_WAIT);
        }
        if let Next::File(file) = &next {
            let was = file.first_offset;
            if !self.reader.ends_at(was) {
                let file = self.reader.last_path().unwrap_or_default();
                return Err(FileError::OtherRecords { file, was, is: self.reader.position() });
            }
            self.reader.push(file.file.clone(), was);
            self.more = Some((taken, number + 1));
        }
        Ok(next)
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

#[cfg(test)]
mod tests {
    use std::fs;

    use tempfile::TempDir;

    use super::*;
    use crate::source::files::{File, TakenFile};

    /// Adds a file of these lines.
    fn take(taken: &Taken, folder: &TempDir, name: &str, lines: &[&str]) {
        let path = folder.path().join(name);
        fs::write(&path, lines.join("\n") + "\n").unwrap();
        let file = File::find(path).unwrap();
        let mut reader = FileReader::new(file.clone().into(), Columns::default());
        while reader.next_record().unwrap().is_some() {}
        let (first_offset, offsets) = (taken.end(), reader.position());
        taken.push(TakenFile { file, first_offset, offsets });
    }

    fn feed(taken: &Taken, from: i64) -> (Feed, FeedProgress) {
        feed_of(taken, Columns::default(), from)
    }

    fn feed_of(taken: &Taken, columns: Columns, from: i64) -> (Feed, FeedProgress) {
        let progress = FeedProgress::default();
        let files = FeedFiles {
            stream: Stream::Labels,
            files: FileList::default(),
            columns,
            more: Some(taken.clone()),
        };
        let mut feed = Feed::new(vec![files], progress.clone());
        let assigned = feed.poll(Take::Both, Duration::ZERO).unwrap();
        assert!(matches!(assigned, SourceEvent::Assigned(_)));
        let from = Positions { inferences: 0, labels: from };
        feed.start(&[StartAt { partition: PARTITION, from, counted: from }]).unwrap();
        (feed, progress)
    }

    /// The next so many records; at the end the offset where it is.
    fn read(feed: &mut Feed, count: usize) -> (Vec<(i64, String)>, Option<i64>) {
        let mut found = Vec::new();
        while found.len() < count {
            match feed.poll(Take::Both, Duration::from_secs(60)).unwrap() {
                SourceEvent::Records(Records { records }) => {
                    found.extend(records.iter().map(|r| {
                        (r.offset.0, String::from_utf8(r.payload.unwrap().to_vec()).unwrap())
                    }));
                }
                SourceEvent::Ended(_, _, end) => return (found, Some(end)),
                other => panic!("{other:?}"),
            }
        }
        (found, None)
    }

    #[test]
    fn files_that_come_later_do_not_move_those_before_and_a_start_goes_on_in_the_middle() {
        let folder = TempDir::new().unwrap();
        let taken = Taken::starting_at(0);
        take(&taken, &folder, "m.jsonl", &["{\"a\":0}", "", "{\"a\":2}", ""]);
        let (mut first, progress) = feed(&taken, 0);
        let of = |offset: i64| (offset, format!("{{\"a\":{offset}}}"));
        assert_eq!(read(&mut first, 2), (vec![of(0), of(2)], None));
        let quiet = first.poll(Take::Both, Duration::ZERO).unwrap();
        assert!(matches!(
            quiet,
            SourceEvent::Quiet | SourceEvent::Records(Records { records: [] })
        ));
        // Before it in the order of names; then one without a record.
        take(&taken, &folder, "a.jsonl", &["{\"a\":3}", "{\"a\":4}"]);
        take(&taken, &folder, "b.jsonl", &[""]);
        take(&taken, &folder, "c.jsonl", &["{\"a\":5}"]);
        assert_eq!(read(&mut first, 3), (vec![of(3), of(4), of(5)], None));
        let place = progress.place(Stream::Labels, 4).unwrap();
        assert_eq!(place, (folder.path().join("a.jsonl"), 2));
        taken.finish();
        let (mut second, _) = feed(&taken, 4);
        assert_eq!(read(&mut second, 9), (vec![of(4), of(5)], Some(6)));
        // Behind the floor nothing is needed, not even the files.
        fs::remove_file(folder.path().join("m.jsonl")).unwrap();
        let rest = Taken::starting_at(3);
        take(&rest, &folder, "a.jsonl", &["{\"a\":3}", "{\"a\":4}"]);
        rest.finish();
        assert_eq!(read(&mut feed(&rest, 3).0, 9), (vec![of(3), of(4)], Some(5)));
        // The tables went back behind a list that they no longer hold.
        assert_eq!(second.reassign().unwrap_err().code(), "files_went_back");
    }

    #[test]
    fn rows_left_out_at_the_end_of_a_file_take_up_offsets_only_where_they_were_counted() {
        let folder = TempDir::new().unwrap();
        let file = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::write(&path, text).unwrap();
            File::find(path).unwrap()
        };
        let first = file("a.jsonl", "{\"y\":0}\n{}\n{\"y\":2}\n{}\n");
        let second = file("b.jsonl", "{\"y\":3}\n");
        let read_to_the_end = |ends: i64| {
            let taken = Taken::starting_at(0);
            taken.push(TakenFile { file: first.clone(), first_offset: 0, offsets: ends });
            taken.push(TakenFile { file: second.clone(), first_offset: ends, offsets: 1 });
            taken.finish();
            let columns = Columns { given: vec!["y".to_owned()], ..Columns::default() };
            let (mut feed, progress) = feed_of(&taken, columns, 0);
            let (records, end) = read(&mut feed, 9);
            let offsets: Vec<i64> = records.into_iter().map(|(offset, _)| offset).collect();
            let place = progress.place(Stream::Labels, ends).unwrap();
            assert_eq!(place, (second.path.clone(), 1));
            assert_eq!(progress.left_out(), 2);
            (offsets, end)
        };
        assert_eq!(read_to_the_end(3), (vec![0, 2, 3], Some(4)));
        // As an earlier version took it.
        assert_eq!(read_to_the_end(4), (vec![0, 2, 4], Some(5)));
    }

    #[test]
    fn a_file_that_holds_more_than_when_it_was_taken_is_refused() {
        let folder = TempDir::new().unwrap();
        let taken = Taken::starting_at(0);
        take(&taken, &folder, "a.jsonl", &["{\"a\":0}", "{\"a\":1}"]);
        fs::write(folder.path().join("a.jsonl"), "{\"a\":0}\n\n\n\n\n{}\n\n").unwrap();
        take(&taken, &folder, "b.jsonl", &["{\"a\":2}"]);
        let (mut feed, _) = feed(&taken, 0);
        let error = loop {
            match feed.poll(Take::Both, Duration::from_secs(60)) {
                Ok(SourceEvent::Records(_)) => {}
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        };
        assert_eq!(error.code(), "file_not_as_taken", "{error}");
        assert!(error.to_string().contains("a.jsonl"), "{error}");
    }
}
