//! What is wrong with a configuration, and where: every message names its source, line, column and key.

use std::{fmt, ops::Deref, sync::Arc};

/// Where a setting was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    source: Arc<str>,
    at: Option<(u32, u32)>,
    key: String,
}

impl Place {
    /// In a file: line and column count from 1, the column in characters.
    pub(super) fn in_file(source: &Arc<str>, line: u32, column: u32, key: String) -> Self {
        Self { source: source.clone(), at: Some((line, column)), key }
    }

    /// Not in a file, or in none of its lines: a flag, a variable of the environment, a default.
    pub fn from_source(source: &str, key: &str) -> Self {
        Self { source: source.into(), at: None, key: key.into() }
    }

    /// Sorts by line; what has none comes last.
    pub(super) fn order(&self) -> (bool, Option<(u32, u32)>) {
        (self.at.is_none(), self.at)
    }

    /// The key's path from the top of the file, `tenants.guests.idle_timeout`; empty for a flag.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Something that is wrong here.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        Problem { place: self.clone(), message: message.into() }
    }

    /// `line 7`, for a message elsewhere that points here.
    pub(super) fn line(&self) -> String {
        self.at.map_or_else(|| self.source.to_string(), |(line, _)| format!("line {line}"))
    }
}

/// One thing that is wrong; prints as `FILE:LINE:COLUMN: KEY: MESSAGE`. Never holds a secret's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What, and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { source, at, key } = &self.place;
        f.write_str(source)?;
        if let Some((line, column)) = at {
            write!(f, ":{line}:{column}")?;
        }
        if !key.is_empty() {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.message)
    }
}

/// All problems of a configuration, in the order of its lines; never empty.
#[derive(Debug, Clone, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, problem) in self.0.iter().enumerate() {
            if n > 0 {
                f.write_str("\n")?;
            }
            problem.fmt(f)?;
        }
        Ok(())
    }
}

impl From<Problem> for Problems {
    fn from(problem: Problem) -> Self {
        Self(vec![problem])
    }
}

/// A value and where it was written.
#[derive(Debug, Clone)]
pub struct At<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

impl<T> At<T> {
    /// The same place with another value.
    pub(super) fn map<U>(self, f: impl FnOnce(T) -> U) -> At<U> {
        At { value: f(self.value), place: self.place }
    }

    /// Something that is wrong with the value.
    pub fn problem(&self, message: impl Into<String>) -> Problem {
        self.place.problem(message)
    }
}

impl<T> Deref for At<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// Text that is printed nowhere, and wiped when it is dropped.
#[derive(Clone)]
pub struct Secret(zeroize::Zeroizing<String>);

impl Secret {
    /// From its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(zeroize::Zeroizing::new(text.into()))
    }

    /// The text itself, for hashing and comparing.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}
