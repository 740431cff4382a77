//! Which files of a watched folder are done.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::terminal;
use crate::engine::event::{Positions, Stream};
use crate::engine::floor::Mark;
use crate::sink::files::FileRow;
use crate::source::{Commits, SourceError};

/// Says of each file when all rows of its records are acknowledged. Clones share it.
#[derive(Clone)]
pub(super) struct Done(Arc<Mutex<Undone>>);

struct Undone {
    floor: Positions,
    positions: Positions,
    /// By stream.
    files: [VecDeque<FileRow>; 2],
}

impl Done {
    pub(super) fn new(mark: Option<Mark>) -> Self {
        let (floor, positions) =
            mark.map_or_else(Default::default, |mark| (mark.floor.positions, mark.positions));
        Self(Arc::new(Mutex::new(Undone { floor, positions, files: Default::default() })))
    }

    /// Where a start reads from.
    pub(super) fn floor(&self) -> Positions {
        self.undone().floor
    }

    /// Whether all of the file was acknowledged before.
    pub(super) fn is_told(&self, row: &FileRow) -> bool {
        row.end() <= self.undone().positions.of(row.stream)
    }

    /// One more file.
    pub(super) fn add(&self, row: &FileRow) {
        let mut undone = self.undone();
        undone.files[row.stream.index()].push_back(row.clone());
        undone.tell();
    }

    fn undone(&self) -> MutexGuard<'_, Undone> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Undone {
    fn tell(&mut self) {
        for stream in Stream::BOTH {
            let position = self.positions.of(stream);
            let files = &mut self.files[stream.index()];
            while files.front().is_some_and(|row| row.end() <= position) {
                let row = files.pop_front().expect("it was there");
                let line = json!({"file": row.name, "stream": stream.name(), "bytes": row.bytes,
                                  "records": row.records, "rejected": row.rejected});
                terminal::print(&format!("{line}\n"));
            }
        }
    }
}

impl Commits for Done {
    fn commit(&self, marks: &[Mark]) -> Result<(), SourceError> {
        let mut undone = self.undone();
        for mark in marks {
            undone.positions = mark.positions;
        }
        undone.tell();
        Ok(())
    }
}
