//! One line of the answer, with its remedy.

use serde_json::{Value as Json, json};

use crate::commands::Failure;
use crate::commands::{codes, terminal};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// As it should be.
    Good,
    /// Worth knowing, or not to be told from here.
    Note,
    /// It would not work, or not as meant.
    Problem,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Good => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// What was found at one place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// The stable name of what was looked at, or the code of the error.
    pub(super) about: &'static str,
    pub(super) what: String,
    pub(super) remedy: Option<String>,
}

impl Finding {
    pub(super) fn good(about: &'static str, what: String) -> Self {
        Self { level: Level::Good, about, what, remedy: None }
    }

    pub(super) fn note(about: &'static str, what: String, remedy: &str) -> Self {
        Self { level: Level::Note, about, what, remedy: Some(remedy.to_owned()) }
    }

    pub(super) fn problem(about: &'static str, what: String, remedy: String) -> Self {
        Self { level: Level::Problem, about, what, remedy: Some(remedy) }
    }

    /// An error that `run` would end with.
    pub(super) fn of(failure: impl Into<Failure>) -> Self {
        let Failure { code, message, .. } = failure.into();
        let remedy = codes::remedy(code).to_owned();
        Self::problem(code, message, remedy)
    }

    /// For people.
    pub(super) fn text(&self) -> String {
        let Self { level, about, what, remedy } = self;
        // Names of models come from records.
        let head = format!("{:<8} {about}: {}\n", level.name(), terminal::one_line(what));
        match remedy {
            Some(remedy) => format!("{head}         remedy: {remedy}\n"),
            None => head,
        }
    }

    pub(super) fn json(&self) -> Json {
        let Self { level, about, what, remedy } = self;
        json!({ "level": level.name(), "about": about, "what": what, "remedy": remedy })
    }
}
