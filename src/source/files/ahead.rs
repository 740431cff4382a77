//! Files read on a thread of their own, while the caller works on what was read before.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use super::{Columns, FileError, FileList, FileReader};

/// Records of one batch.
const RECORDS: usize = 1024;
/// A batch that is longer is full too.
const BYTES: usize = 1 << 20;
/// Batches that wait for the caller.
const WAITING: usize = 4;

/// Some records of one file, one after the other.
#[derive(Debug, Default)]
pub struct FileBatch {
    /// Index of the file.
    pub file: usize,
    /// Offset of the file's first record.
    pub first_offset: i64,
    /// Bytes read so far, of all files, about.
    pub bytes_read: u64,
    /// Rows read so far, of all files, that were left out.
    pub left_out: u64,
    /// The offset of each record, and where its object ends.
    ends: Vec<(i64, usize)>,
    objects: Vec<u8>,
}

impl FileBatch {
    /// Offset and object of each record.
    pub fn records(&self) -> impl Iterator<Item = (i64, &[u8])> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(_, end)| *end));
        starts.zip(&self.ends).map(|(start, (offset, end))| (*offset, &self.objects[start..*end]))
    }
}

/// Hands all records to `take`, in order, until one of both fails.
pub fn read<E: From<FileError>>(
    files: &FileList,
    columns: &Columns,
    mut take: impl FnMut(&FileBatch) -> Result<(), E>,
) -> Result<(), E> {
    let reader = || FileReader::new(files.clone(), columns.clone());
    let (sender, receiver) = sync_channel(WAITING);
    thread::scope(|scope| {
        scope.spawn(move || send_all(reader(), &sender));
        // In here, so that the thread ends with it when the caller wants no more.
        let receiver: Receiver<Result<FileBatch, FileError>> = receiver;
        receiver.iter().try_for_each(|batch| take(&batch?))
    })
}

fn send_all(mut reader: FileReader, sender: &SyncSender<Result<FileBatch, FileError>>) {
    let mut batch = FileBatch::default();
    let mut object = Vec::new();
    loop {
        let offset = match reader.next_record() {
            Ok(None) => break,
            Ok(Some(record)) => {
                object.clear();
                object.extend_from_slice(record.object);
                record.offset
            }
            Err(error) => {
                batch.left_out = reader.left_out();
                // What was read before the fault counts as read.
                if sender.send(Ok(batch)).is_ok() {
                    drop(sender.send(Err(error)));
                }
                return;
            }
        };
        let place = reader.place().expect("a record was read");
        let is_full = batch.ends.len() >= RECORDS || batch.objects.len() >= BYTES;
        if is_full || place.file != batch.file {
            let next = FileBatch {
                file: place.file,
                first_offset: place.first_offset,
                bytes_read: reader.bytes_read(),
                ..FileBatch::default()
            };
            batch.left_out = reader.left_out();
            if sender.send(Ok(std::mem::replace(&mut batch, next))).is_err() {
                return;
            }
        }
        batch.objects.extend_from_slice(&object);
        batch.ends.push((offset, batch.objects.len()));
    }
    batch.left_out = reader.left_out();
    // Whoever is gone wants no more.
    drop(sender.send(Ok(batch)));
}
