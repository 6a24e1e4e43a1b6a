//! The pure algebra of profile data: the one place where a guest's JSON is checked and changed. Text goes in, text
//! comes out; no clock, no randomness, no storage. Stores call [`Edit::apply`] under the row's lock.
//!
//! Everything that is kept is *compact text*: members in the order of their first setting, no white space, integers of
//! 64 bits exact, floats as the shortest text that reads back to the same value.
//!
//! - `read`: the strict reader. - `value`, `pointer`: equality by value, JSON pointers (RFC 6901).
//! - `operation`: `set`, `increment` and the others. - `patch`: RFC 7396, RFC 6902, the shallow merge.
//! - `schema`: a tenant's JSON Schema.

mod operation;
mod patch;
mod pointer;
mod read;
mod schema;
mod value;

use serde_json::{Map, Value};

use self::{operation::Operations, patch::Patch};

pub use self::schema::Schema;
/// What the merge of two profiles works with.
pub(crate) use self::{
    operation::add,
    pointer::Pointer,
    read::{DEEPEST, LONGEST_FIELD, append_step},
    value::{compare, depth, float, same, size},
};

/// What one profile must keep to (a setting).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the compact text. Requests may be larger, in proportion: see [`parse_object`] and the makers of
    /// [`Edit`].
    pub max_bytes: usize,
    /// How deep objects and lists may be nested; the profile itself is depth 1. Never more than 100, whatever is set.
    pub max_depth: usize,
    /// Operations in one batch or one JSON patch.
    pub max_operations: usize,
    /// Items of a list that `append`, `add_to_set` or `set` at `-` makes longer.
    pub max_list: usize,
}

impl Default for Limits {
    /// 32 KiB, depth 16, 64 operations, 10 000 items.
    fn default() -> Self {
        Self { max_bytes: 32 * 1024, max_depth: 16, max_operations: 64, max_list: 10_000 }
    }
}

impl Limits {
    pub(crate) fn depth(&self) -> usize {
        self.max_depth.min(read::DEEPEST)
    }

    /// Refuses a text that is too long to be worth reading.
    fn check_request(text: &[u8], max: usize, base: &str) -> Result<(), EditError> {
        if text.len() > max {
            return Err(EditError::new(Fault::TooLarge, base, format!("At most {max} bytes are read here.")));
        }
        Ok(())
    }

    /// Text of an object with white space and escapes; `\u0061` for `a` is the longest way to write a character.
    fn max_object_text(&self) -> usize {
        self.max_bytes.saturating_mul(8)
    }

    /// Text of a batch or JSON patch.
    fn max_batch_text(&self) -> usize {
        self.max_bytes.saturating_mul(2).saturating_add(self.max_operations.saturating_mul(256))
    }
}

/// Why a profile refused. [`Fault::code`] is the stable word of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fault {
    /// Not JSON (RFC 8259), not UTF-8, a lone surrogate, `NaN`.
    Malformed,
    /// An object has a member twice.
    DuplicateMember,
    /// An object is expected.
    NotAnObject,
    /// An operation is not known, or has not the members it needs.
    InvalidOperation,
    /// Not a JSON pointer (RFC 6901), or one that this operation cannot take.
    InvalidPath,
    /// An integer outside `i64::MIN..=u64::MAX`, a float that is not finite, or a sum of that kind.
    NumberOutOfRange,
    /// The character NUL in a string or a name.
    NulCharacter,
    /// A member named `__proto__`, `constructor` or `prototype`.
    ReservedKey,
    /// Nested deeper than [`Limits::max_depth`].
    TooDeep,
    /// Larger than [`Limits::max_bytes`], or a list longer than [`Limits::max_list`].
    TooLarge,
    /// More than [`Limits::max_operations`].
    TooManyOperations,
    /// The profile holds a value of another type than the operation works on.
    TypeMismatch,
    /// A `test` found another value.
    TestFailed,
    /// The profile has nothing at the path.
    PathNotFound,
    /// The outcome breaks the tenant's JSON Schema.
    Schema,
}

impl Fault {
    /// The stable word, `snake_case`.
    pub fn code(self) -> &'static str {
        match self {
            Self::Malformed => "malformed_json",
            Self::DuplicateMember => "duplicate_member",
            Self::NotAnObject => "not_an_object",
            Self::InvalidOperation => "invalid_operation",
            Self::InvalidPath => "invalid_path",
            Self::NumberOutOfRange => "number_out_of_range",
            Self::NulCharacter => "nul_character",
            Self::ReservedKey => "reserved_key",
            Self::TooDeep => "too_deep",
            Self::TooLarge => "data_too_large",
            Self::TooManyOperations => "too_many_operations",
            Self::TypeMismatch => "type_mismatch",
            Self::TestFailed => "test_failed",
            Self::PathNotFound => "path_not_found",
            Self::Schema => "schema_violation",
        }
    }

    /// A sentence for an operation that met the profile as it stands.
    fn sentence(self) -> &'static str {
        match self {
            Self::NumberOutOfRange => "The outcome is not an integer of 64 bits or a finite float.",
            Self::TooDeep => "The outcome would be nested too deep.",
            Self::TooLarge => "The outcome would be too large.",
            Self::TypeMismatch => "The value at the path, or on the way to it, is of another type.",
            Self::TestFailed => "The value at the path is another.",
            Self::PathNotFound => "There is nothing at the path.",
            Self::NotAnObject => "The profile must stay an object.",
            _ => "The operation is not possible.",
        }
    }
}

/// A refused text or edit; nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} at {field:?}: {detail}", .fault.code())]
pub struct EditError {
    /// Why.
    pub fault: Fault,
    /// The culprit: a JSON pointer into the request, `""` for the whole of it. With [`Fault::Schema`] it points into
    /// the outcome. Cut after a whole step when it would pass 512 bytes.
    pub field: String,
    /// A sentence for people. It never quotes the data.
    pub detail: String,
}

impl EditError {
    pub(crate) fn new(fault: Fault, field: impl Into<String>, detail: impl Into<String>) -> Self {
        Self { fault, field: field.into(), detail: detail.into() }
    }

    fn of_step(fault: Fault, field: String) -> Self {
        Self::new(fault, field, fault.sentence())
    }
}

/// Checks and normalises one JSON object that came from outside, and gives its compact text. `base` is the pointer to
/// it in the request (`/data`, or `""`); at most `8 * max_bytes` of text are read.
///
/// # Errors
/// Faults of reading, [`Fault::NotAnObject`], [`Fault::TooLarge`].
pub fn parse_object(text: &[u8], base: &str, limits: &Limits) -> Result<Box<str>, EditError> {
    Limits::check_request(text, limits.max_object_text(), base)?;
    print(&Value::Object(read_object(text, base, limits.depth())?), base, limits)
}

/// Reads a profile as it is stored. A limit may have been lowered since it was written; what counts is the outcome.
pub(crate) fn read_stored(text: &str) -> Result<Map<String, Value>, EditError> {
    read_object(text.as_bytes(), "", read::DEEPEST)
}

fn read_object(text: &[u8], base: &str, max_depth: usize) -> Result<Map<String, Value>, EditError> {
    match read::read(text, base, max_depth)? {
        Value::Object(members) => Ok(members),
        _ => Err(EditError::new(Fault::NotAnObject, base, "An object is expected.")),
    }
}

/// The compact text, unless it is longer than the limit.
pub(crate) fn print(value: &Value, base: &str, limits: &Limits) -> Result<Box<str>, EditError> {
    let text = value.to_string();
    if text.len() > limits.max_bytes {
        let detail = format!("The data would take {} bytes; {} are allowed.", text.len(), limits.max_bytes);
        return Err(EditError::new(Fault::TooLarge, base, detail));
    }
    Ok(text.into())
}

/// A checked edit, ready to be applied to any profile any number of times. It owns all it needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Edit(Kind);

#[derive(Debug, Clone, PartialEq)]
enum Kind {
    Merge { patch: Map<String, Value>, base: Box<str> },
    Patch(Patch),
    Operations(Operations),
    Shallow { members: Map<String, Value>, base: Box<str> },
}

impl Edit {
    /// A merge patch (RFC 7396), at most `2 * max_bytes` of text. The patch must be an object, since the outcome must.
    ///
    /// # Errors
    /// Faults of reading, [`Fault::NotAnObject`], [`Fault::TooLarge`].
    pub fn merge_patch(body: &[u8], limits: &Limits) -> Result<Self, EditError> {
        Self::merge_patch_at(body, "", limits)
    }

    /// The same where the patch is a member of the request; `base` is the pointer to it (`/data`).
    ///
    /// # Errors
    /// As [`Edit::merge_patch`].
    pub fn merge_patch_at(patch: &[u8], base: &str, limits: &Limits) -> Result<Self, EditError> {
        Limits::check_request(patch, limits.max_bytes.saturating_mul(2), base)?;
        Ok(Self(Kind::Merge { patch: read_object(patch, base, limits.depth())?, base: base.into() }))
    }

    /// A JSON patch (RFC 6902), at most `2 * max_bytes + 256 * max_operations` of text. When it is applied, its copies
    /// may take `4 * max_bytes` together.
    ///
    /// # Errors
    /// Faults of reading, [`Fault::InvalidOperation`], [`Fault::InvalidPath`], [`Fault::ReservedKey`],
    /// [`Fault::TooManyOperations`], [`Fault::TooLarge`]; `field` is `/2/path` and the like.
    pub fn json_patch(body: &[u8], limits: &Limits) -> Result<Self, EditError> {
        Limits::check_request(body, limits.max_batch_text(), "")?;
        // Values stand in an operation, and that in the patch.
        let body = read::read(body, "", limits.depth() + 2)?;
        Patch::parse(body, limits.max_operations).map(|patch| Self(Kind::Patch(patch)))
    }

    /// A batch `{"operations": […]}` of `set`, `unset`, `increment`, `min`, `max`, `add_to_set`, `remove_from_set`,
    /// `append` and `test`, at most `2 * max_bytes + 256 * max_operations` of text.
    ///
    /// # Errors
    /// As [`Edit::json_patch`], and [`Fault::NotAnObject`]; `field` is `/operations/2/path` and the like.
    pub fn operations(body: &[u8], limits: &Limits) -> Result<Self, EditError> {
        Limits::check_request(body, limits.max_batch_text(), "")?;
        // Values stand in an operation, that in the list, and that in the body.
        let body = read_object(body, "", limits.depth() + 3)?;
        Operations::parse(body, limits.max_operations).map(|operations| Self(Kind::Operations(operations)))
    }

    /// A merge of the top level alone: members replace, `null` removes (`reference/auth0.md` 1.3). At most
    /// `8 * max_bytes` of text; `base` is the pointer to the object in the request (`/metadata`).
    ///
    /// # Errors
    /// As [`parse_object`].
    pub fn shallow_merge(object_text: &[u8], base: &str, limits: &Limits) -> Result<Self, EditError> {
        Limits::check_request(object_text, limits.max_object_text(), base)?;
        let members = read_object(object_text, base, limits.depth())?;
        Ok(Self(Kind::Shallow { members, base: base.into() }))
    }

    /// Applies the edit, all or nothing, to a profile's text, and gives the new compact text.
    ///
    /// # Errors
    /// What the edit meets ([`Fault::TypeMismatch`], [`Fault::TestFailed`], [`Fault::PathNotFound`],
    /// [`Fault::NumberOutOfRange`], [`Fault::NotAnObject`]), and what the outcome breaks ([`Fault::TooDeep`],
    /// [`Fault::TooLarge`], [`Fault::Schema`]). [`Fault::Malformed`] and the other faults of reading only when
    /// `current` was never given out by this module.
    pub fn apply(&self, current: &str, limits: &Limits, schema: Option<&Schema>) -> Result<Box<str>, EditError> {
        let mut root = Value::Object(read_stored(current)?);
        let mut base = "";
        match &self.0 {
            Kind::Merge { patch, base: pointer } => {
                patch::merge(&mut root, patch);
                base = pointer;
            }
            Kind::Patch(patch) => patch.apply(&mut root, current.len(), limits)?,
            Kind::Operations(operations) => operations.apply(&mut root, limits)?,
            Kind::Shallow { members, base: pointer } => {
                patch::merge_shallow(&mut root, members);
                base = pointer;
            }
        }
        if value::depth(&root) > limits.depth() {
            return Err(EditError::of_step(Fault::TooDeep, base.to_owned()));
        }
        let text = print(&root, base, limits)?;
        if let Some(schema) = schema {
            schema.check_at(&root, base)?;
        }
        Ok(text)
    }
}

#[cfg(test)]
mod tests;
