//! What can be wrong with a configuration. Each message names the place, the key and the remedy.

/// Where a setting was made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of the file.
    Line(String, usize),
    /// An environment variable.
    Variable(String),
    /// Nowhere: it is the default, or it is missing.
    Default(String),
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Line(file, line) => write!(f, "{file}:{line}"),
            Self::Variable(name) => write!(f, "environment variable {name}"),
            Self::Default(file) => write!(f, "{file}"),
        }
    }
}

/// Why a configuration can't be used. All of them end with exit code 2.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The file can't be read.
    #[error("can't read the configuration {file}: {reason}")]
    Missing {
        /// The file.
        file: String,
        /// What the operating system says.
        reason: String,
    },
    /// The file is not TOML.
    #[error("{place}: not TOML: {reason}")]
    Syntax {
        /// Where.
        place: Place,
        /// What the parser says.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{place}: unknown key `{key}`; did you mean `{closest}`?")]
    UnknownKey {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The known key that is most like it.
        closest: String,
    },
    /// A variable that looks as if it set an option, and sets none.
    #[error(
        "environment variable {name} sets nothing: two underscores stand between keys; rename it {option}"
    )]
    Underscore {
        /// The variable.
        name: String,
        /// The variable that sets the option.
        option: String,
    },
    /// A value of another type than the key's.
    #[error("{place}: `{key}` must be {expected}, not {found}")]
    WrongType {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// What it must be, with an example.
        expected: &'static str,
        /// What it is.
        found: String,
    },
    /// A value of the right type that can't be.
    #[error("{place}: `{key}` {reason}")]
    Invalid {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// Why not, and what could stand there.
        reason: String,
    },
    /// A key without a default that is not set.
    #[error("{place}: `{key}` is missing; {reason}")]
    Required {
        /// The file; the section, where there may be many.
        place: Place,
        /// The key.
        key: String,
        /// What to write.
        reason: String,
    },
    /// A profile that can't be compared with.
    #[error("{place}: `{key}` names the profile {file}: {reason}")]
    Profile {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// The profile's file.
        file: String,
        /// The code of the profile's own error.
        code: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Two settings that exclude each other.
    #[error("{place}: `{key}` {reason}")]
    Conflict {
        /// Where the first stands.
        place: Place,
        /// The first key.
        key: String,
        /// What it collides with, and what to do.
        reason: String,
    },
    /// A secret that is somewhere else and can't be had.
    #[error("{place}: the secret of `{key}` can't be read from {from}: {reason}")]
    Secret {
        /// Where.
        place: Place,
        /// The key.
        key: String,
        /// `env:NAME` or `file:PATH`.
        from: String,
        /// Why not.
        reason: String,
    },
}

impl ConfigError {
    /// The stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "config_missing",
            Self::Syntax { .. } => "config_syntax",
            Self::UnknownKey { .. } | Self::Underscore { .. } => "config_unknown_key",
            Self::WrongType { .. } => "config_wrong_type",
            Self::Invalid { .. } => "config_invalid_value",
            Self::Required { .. } => "config_required",
            Self::Profile { code, .. } => code,
            Self::Conflict { .. } => "config_conflict",
            Self::Secret { .. } => "config_secret",
        }
    }
}
