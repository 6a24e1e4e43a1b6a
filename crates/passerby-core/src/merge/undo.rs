//! A merge is taken back: of three states of the account's data, what the merge did goes and what came after it stays.

use serde_json::{Map, Value};

use super::report::{Path, Report};
use crate::profile::{EditError, read_stored, size};

/// The merge had changed this place, and somebody wrote there since: it stays as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Left {
    /// Where: a JSON pointer (RFC 6901) into the data.
    pub path: Box<str>,
    /// The value before the merge, JSON; none where there was nothing.
    pub before: Option<Box<str>>,
    /// The value now, JSON; none where there is nothing.
    pub now: Option<Box<str>>,
}

/// The outcome of an undo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The account's data from now on. Where nothing was written since the merge it is the text from before it.
    pub data: Box<str>,
    /// What was written since and left, in the order of the data; at most [`super::MAX_LISTED`].
    pub conflicts: Vec<Left>,
    /// There are more conflicts than are listed.
    pub more: bool,
}

/// Takes a merge back: `before` and `after` are the account's data around it, `now` is what it has become. Member by
/// member, through objects: what the merge changed and nobody wrote since goes back; what was written since stays, and is
/// told where the merge had changed it too. Lists and numbers are one value each.
///
/// No limit is looked at, since an undo shall not fail for what was allowed; the outcome has no value that is not in
/// `before` or `now`.
///
/// # Errors
/// Faults of reading, only when a text was never given out by the profile's algebra.
pub fn undo(before: &str, after: &str, now: &str) -> Result<Undone, EditError> {
    if now == after {
        return Ok(Undone { data: before.into(), conflicts: Vec::new(), more: false });
    }
    let (was, merged, current) = (read_stored(before)?, read_stored(after)?, read_stored(now)?);
    let mut walk = Walk { path: Path::default(), conflicts: Report::new(before.len() + now.len()) };
    let outcome = walk.members(&was, &merged, &current);
    let (conflicts, more) = walk.conflicts.finish();
    Ok(Undone { data: Value::Object(outcome).to_string().into(), conflicts, more })
}

struct Walk {
    path: Path,
    conflicts: Report<Left>,
}

impl Walk {
    /// Members that were there before come first, in the order they had.
    fn members(
        &mut self,
        before: &Map<String, Value>,
        after: &Map<String, Value>,
        now: &Map<String, Value>,
    ) -> Map<String, Value> {
        let mut outcome = Map::new();
        for name in before.keys().chain(now.keys().filter(|name| !before.contains_key(*name))) {
            let length = self.path.enter(name);
            if let Some(value) = self.member(before.get(name), after.get(name), now.get(name)) {
                outcome.insert(name.clone(), value);
            }
            self.path.leave(length);
        }
        outcome
    }

    fn member(&mut self, before: Option<&Value>, after: Option<&Value>, now: Option<&Value>) -> Option<Value> {
        // To the letter: who wrote 1.0 over 1 since has written.
        if before == after || before == now {
            return now.cloned();
        }
        if now == after {
            return before.cloned();
        }
        let nothing = Map::new();
        let was = match before {
            None => Some(&nothing),
            Some(before) => before.as_object(),
        };
        if let (Some(was), Some(Value::Object(after)), Some(Value::Object(now))) = (was, after, now) {
            let outcome = self.members(was, after, now);
            // An object that came with the merge goes with it, unless somebody put something in.
            return (before.is_some() || !outcome.is_empty()).then_some(Value::Object(outcome));
        }
        let path = self.path.text();
        let bytes = path.len() + before.map_or(0, size) + now.map_or(0, size);
        let text = |value: &Value| value.to_string().into();
        self.conflicts.add(bytes, || Left { path: path.into(), before: before.map(text), now: now.map(text) });
        now.cloned()
    }
}
