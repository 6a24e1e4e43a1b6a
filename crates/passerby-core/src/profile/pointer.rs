//! JSON pointers (RFC 6901) and the ways they lead through a value.

use serde_json::{Map, Value};

use super::{
    EditError, Fault,
    read::{is_reserved, member},
};

/// A parsed pointer: its tokens, unescaped. None has a reserved name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pointer(Box<[Box<str>]>);

/// Where a pointer's last token leads.
pub(super) enum Place<'v, 'p> {
    /// Into an object, whether or not the member is there.
    Member(&'v mut Map<String, Value>, &'p str),
    /// Into a list; the index may be beyond its end, `None` is `-`, the place after the last item.
    Item(&'v mut Vec<Value>, Option<usize>),
}

impl<'v> Place<'v, '_> {
    /// The value that is there.
    pub(super) fn value(self) -> Option<&'v mut Value> {
        match self {
            Place::Member(members, name) => members.get_mut(name),
            Place::Item(items, index) => items.get_mut(index?),
        }
    }

    /// Takes out the value that is there; what follows it keeps its order.
    pub(super) fn take(self) -> Option<Value> {
        match self {
            Place::Member(members, name) => members.shift_remove(name),
            Place::Item(items, index) => index.filter(|i| *i < items.len()).map(|i| items.remove(i)),
        }
    }
}

/// What a token is to a list.
fn index(token: &str) -> Result<Option<usize>, Fault> {
    match token.as_bytes() {
        b"-" => Ok(None),
        b"0" => Ok(Some(0)),
        // An index that no machine can hold is beyond every end.
        [b'1'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => {
            Ok(Some(token.parse().unwrap_or(usize::MAX)))
        }
        _ => Err(Fault::TypeMismatch),
    }
}

impl Pointer {
    /// Parses the text of a request's member `field`.
    ///
    /// # Errors
    /// [`Fault::InvalidPath`], [`Fault::ReservedKey`].
    pub(crate) fn parse(text: &str, field: &str) -> Result<Self, EditError> {
        let invalid = |why: &str| EditError::new(Fault::InvalidPath, field, why);
        let mut tokens = text.split('/');
        // The first piece stands before the first slash.
        if tokens.next() != Some("") {
            return Err(invalid("A path is empty or begins with a slash (RFC 6901)."));
        }
        let tokens = tokens.map(|token| unescape(token).ok_or_else(|| invalid("After ~ stands 0 or 1 (RFC 6901).")));
        let tokens = tokens.collect::<Result<Box<[Box<str>]>, _>>()?;
        if tokens.iter().any(|token| is_reserved(token)) {
            return Err(EditError::new(Fault::ReservedKey, field, "The path has a name that is not allowed."));
        }
        Ok(Self(tokens))
    }

    /// Parses the member `name` of an operation that stands at `base`.
    pub(super) fn of_member(operation: &Map<String, Value>, name: &'static str, base: &str) -> Result<Self, EditError> {
        match operation.get(name) {
            Some(Value::String(path)) => Self::parse(path, &member(base, name)),
            Some(_) => {
                let detail = format!("`{name}` must be a string.");
                Err(EditError::new(Fault::InvalidOperation, member(base, name), detail))
            }
            None => Err(EditError::new(Fault::InvalidOperation, base, format!("The operation has no `{name}`."))),
        }
    }

    /// Its steps, unescaped.
    pub(crate) fn steps(&self) -> &[Box<str>] {
        &self.0
    }

    /// How many steps it has; 0 points to the whole.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether it points to the whole.
    pub(crate) fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether `other` lies within what this points to, and is not the same.
    pub(super) fn contains(&self, other: &Self) -> bool {
        other.len() > self.len() && other.0.starts_with(&self.0)
    }

    /// An upper bound of the bytes that its last member's name, quotes, colon and comma take in a text, where every
    /// character may be written as `\u` and four digits.
    pub(super) fn name_size(&self) -> usize {
        self.0.last().map_or(0, |name| name.len() * 6 + 4)
    }

    /// The value it points to.
    ///
    /// # Errors
    /// [`Fault::PathNotFound`]; [`Fault::TypeMismatch`] where the way leads through a scalar, or by a name into a list.
    pub(super) fn find<'v>(&self, root: &'v Value) -> Result<&'v Value, Fault> {
        self.0.iter().try_fold(root, |at, token| match at {
            Value::Object(members) => members.get(&**token).ok_or(Fault::PathNotFound),
            Value::Array(items) => index(token)?.and_then(|i| items.get(i)).ok_or(Fault::PathNotFound),
            _ => Err(Fault::TypeMismatch),
        })
    }

    /// The place it points to, `None` for the whole. With `make`, objects that are missing on the way are made.
    ///
    /// # Errors
    /// As [`Pointer::find`], for the way to the place; the place itself may be empty.
    pub(super) fn place<'v, 'p>(&'p self, root: &'v mut Value, make: bool) -> Result<Option<Place<'v, 'p>>, Fault> {
        let Some((last, way)) = self.0.split_last() else { return Ok(None) };
        let mut at = root;
        for token in way {
            at = match at {
                Value::Object(members) => {
                    if make && !members.contains_key(&**token) {
                        members.insert(token.to_string(), Value::Object(Map::new()));
                    }
                    members.get_mut(&**token).ok_or(Fault::PathNotFound)?
                }
                Value::Array(items) => index(token)?.and_then(|i| items.get_mut(i)).ok_or(Fault::PathNotFound)?,
                _ => return Err(Fault::TypeMismatch),
            };
        }
        match at {
            Value::Object(members) => Ok(Some(Place::Member(members, last))),
            Value::Array(items) => Ok(Some(Place::Item(items, index(last)?))),
            _ => Err(Fault::TypeMismatch),
        }
    }
}

fn unescape(token: &str) -> Option<Box<str>> {
    if !token.contains('~') {
        return Some(token.into());
    }
    let mut out = String::with_capacity(token.len());
    let mut chars = token.chars();
    while let Some(c) = chars.next() {
        out.push(match c {
            '~' => match chars.next()? {
                '0' => '~',
                '1' => '/',
                _ => return None,
            },
            c => c,
        });
    }
    Some(out.into())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pointer(text: &str) -> Pointer {
        Pointer::parse(text, "/0/path").unwrap()
    }

    #[test]
    fn rfc6901_section_5() {
        let root = json!({"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\j": 5, "k\"l": 6,
            " ": 7, "m~n": 8});
        for (path, value) in [
            ("", root.clone()),
            ("/foo", json!(["bar", "baz"])),
            ("/foo/0", json!("bar")),
            ("/", json!(0)),
            ("/a~1b", json!(1)),
            ("/c%d", json!(2)),
            ("/e^f", json!(3)),
            ("/g|h", json!(4)),
            ("/i\\j", json!(5)),
            ("/k\"l", json!(6)),
            ("/ ", json!(7)),
            ("/m~0n", json!(8)),
        ] {
            assert_eq!(pointer(path).find(&root), Ok(&value), "{path}");
        }
        assert_eq!(pointer("/~01"), Pointer(["~1".into()].into()));
    }

    #[test]
    fn bad_paths_are_refused() {
        for (path, fault) in [
            ("a", Fault::InvalidPath),
            ("#/a", Fault::InvalidPath),
            (" /a", Fault::InvalidPath),
            ("/a~", Fault::InvalidPath),
            ("/a~2b", Fault::InvalidPath),
            ("/a/__proto__/b", Fault::ReservedKey),
            ("/constructor", Fault::ReservedKey),
            ("/prototype", Fault::ReservedKey),
        ] {
            let e = Pointer::parse(path, "/0/path").unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (fault, "/0/path"), "{path}");
        }
    }

    #[test]
    fn indexes() {
        let root = json!({"l": [10, [20]], "n": 1});
        for (path, found) in [
            ("/l/0", Ok(json!(10))),
            ("/l/1/0", Ok(json!(20))),
            ("/l/2", Err(Fault::PathNotFound)),
            ("/l/-", Err(Fault::PathNotFound)),
            ("/l/-/0", Err(Fault::PathNotFound)),
            ("/l/99999999999999999999999999", Err(Fault::PathNotFound)),
            ("/l/00", Err(Fault::TypeMismatch)),
            ("/l/01", Err(Fault::TypeMismatch)),
            ("/l/-1", Err(Fault::TypeMismatch)),
            ("/l/+1", Err(Fault::TypeMismatch)),
            ("/l/1e0", Err(Fault::TypeMismatch)),
            ("/l/", Err(Fault::TypeMismatch)),
            ("/n/0", Err(Fault::TypeMismatch)),
            ("/x/y", Err(Fault::PathNotFound)),
        ] {
            assert_eq!(pointer(path).find(&root).cloned(), found, "{path}");
            let place = pointer(path);
            let mut root = root.clone();
            let value = place.place(&mut root, false).map(|place| place.and_then(Place::value).cloned());
            assert_eq!(value.and_then(|v| v.ok_or(Fault::PathNotFound)), found, "{path}");
        }
    }

    #[test]
    fn containment() {
        assert!(pointer("").contains(&pointer("/a")));
        assert!(pointer("/a").contains(&pointer("/a/b")));
        assert!(!pointer("/a").contains(&pointer("/a")));
        assert!(!pointer("/a").contains(&pointer("/ab")));
    }
}
