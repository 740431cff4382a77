//! A list of files that grows while it is read.
//!
//! A job's marks are positions in its records, so a file has to stand at the same place in every run, whatever lands
//! after it, before it in the order of names, or meanwhile. Therefore files are not sorted but numbered in the order in
//! which the job took them, and each takes up as many offsets as were counted when it was taken: it begins where the
//! one before it ends. That is all that a fixed list lacks; reading, marks and replay stay what they are.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::File;

/// A file and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenFile {
    /// The file.
    pub file: File,
    /// The offset of its first record.
    pub first_offset: i64,
    /// Offsets that it takes up.
    pub offsets: i64,
}

impl TakenFile {
    /// The offset after its last record.
    pub fn end(&self) -> i64 {
        self.first_offset + self.offsets
    }
}

/// What comes next of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// This file.
    File(TakenFile),
    /// Nothing yet.
    Waiting,
    /// Nothing more will.
    End,
}

#[derive(Debug)]
struct State {
    /// The offset of the first file's first record.
    first_offset: i64,
    files: Vec<TakenFile>,
    is_finished: bool,
}

impl State {
    fn end(&self) -> i64 {
        self.files.last().map_or(self.first_offset, TakenFile::end)
    }
}

/// The files of one stream that a job has taken so far, in that order. Clones share it.
#[derive(Clone, Debug)]
pub struct Taken(Arc<(Mutex<State>, Condvar)>);

impl Taken {
    /// An empty list. `first_offset` is where its first file begins: those before it are no longer needed.
    pub fn starting_at(first_offset: i64) -> Self {
        let state = State { first_offset, files: Vec::new(), is_finished: false };
        Self(Arc::new((Mutex::new(state), Condvar::new())))
    }

    /// Where its first file begins.
    pub fn first_offset(&self) -> i64 {
        self.state().first_offset
    }

    /// Adds a file, which begins where the last one ends.
    pub fn push(&self, file: TakenFile) {
        let mut state = self.state();
        assert_eq!(file.first_offset, state.end(), "a file begins where the one before it ends");
        state.files.push(file);
        drop(state);
        self.0.1.notify_all();
    }

    /// No file will be added any more.
    pub fn finish(&self) {
        self.state().is_finished = true;
        self.0.1.notify_all();
    }

    /// The offset after the last record.
    pub fn end(&self) -> i64 {
        self.state().end()
    }

    /// The file with this number, from 0 on, waited for at most so long.
    pub fn next(&self, number: usize, wait: Duration) -> Next {
        let is_missing = |state: &mut State| state.files.len() <= number && !state.is_finished;
        let waited = self.0.1.wait_timeout_while(self.state(), wait, is_missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        match state.files.get(number) {
            Some(taken) => Next::File(taken.clone()),
            None if state.is_finished => Next::End,
            None => Next::Waiting,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
