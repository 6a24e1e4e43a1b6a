//! JSON patches (RFC 6902), merge patches (RFC 7396), and the merge of the top level alone.

use serde_json::{Map, Value};

use super::{
    EditError, Fault, Limits,
    pointer::{Place, Pointer},
    read::member,
    value::{depth, same, size},
};

/// The copies of one patch may take this many times the size of a profile: a store waits while they are made, and a
/// large value copied over itself 64 times would hold it up for as long as a hundred other edits.
const COPIED_AT_MOST: usize = 4;

/// Applies a merge patch (RFC 7396 section 2). Recurses as deep as the patch, which the reader bounded.
pub(super) fn merge(target: &mut Value, patch: &Map<String, Value>) {
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(members) = target else { return };
    remove_nulls(members, patch);
    for (name, value) in patch {
        match value {
            Value::Null => {}
            Value::Object(patch) => merge(members.entry(name).or_insert(Value::Null), patch),
            value => {
                members.insert(name.clone(), value.clone());
            }
        }
    }
}

/// Replaces members of the top level; `null` removes one. What lies deeper is taken as it is, nulls too.
pub(super) fn merge_shallow(target: &mut Value, members: &Map<String, Value>) {
    let Value::Object(target) = target else { return };
    remove_nulls(target, members);
    for (name, value) in members.iter().filter(|(_, value)| !value.is_null()) {
        target.insert(name.clone(), value.clone());
    }
}

/// Removes what the patch says is null, in one pass: one by one, thousands of them would take the square of that.
fn remove_nulls(members: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if patch.values().any(Value::is_null) {
        members.retain(|name, _| !patch.get(name).is_some_and(Value::is_null));
    }
}

/// A JSON patch, applied in order, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Patch(Box<[Step]>);

#[derive(Debug, Clone, PartialEq)]
struct Step {
    path: Pointer,
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq)]
enum Verb {
    Add(Value),
    Remove,
    Replace(Value),
    Move(Pointer),
    Copy(Pointer),
    Test(Value),
}

impl Patch {
    pub(super) fn parse(body: Value, max_operations: usize) -> Result<Self, EditError> {
        let Value::Array(steps) = body else {
            return Err(EditError::new(Fault::InvalidOperation, "", "A JSON patch is a list of operations."));
        };
        if steps.len() > max_operations {
            let detail = format!("At most {max_operations} operations are taken at once.");
            return Err(EditError::new(Fault::TooManyOperations, "", detail));
        }
        let steps = steps.into_iter().enumerate();
        steps.map(|(i, step)| Step::parse(step, &format!("/{i}"))).collect::<Result<_, _>>().map(Self)
    }

    /// `bytes` is at least the size of `root` as compact text.
    ///
    /// A `copy` of the whole doubles it, so that few steps would fill any memory: size and depth are bounded after
    /// every step, and what is copied in all. The size is carried along as an upper bound, and measured only where
    /// that passes the limit.
    pub(super) fn apply(&self, root: &mut Value, mut bytes: usize, limits: &Limits) -> Result<(), EditError> {
        let mut copied = 0_usize;
        for (i, step) in self.0.iter().enumerate() {
            let error = |fault| EditError::of_step(fault, format!("/{i}"));
            let grown = step.apply(root, limits).map_err(error)?;
            bytes = bytes.saturating_add(grown);
            if matches!(step.verb, Verb::Copy(_)) {
                copied = copied.saturating_add(grown);
                if copied > limits.max_bytes.saturating_mul(COPIED_AT_MOST) {
                    return Err(error(Fault::TooLarge));
                }
            }
            if !root.is_object() {
                return Err(error(Fault::NotAnObject));
            }
            if bytes > limits.max_bytes && !matches!(step.verb, Verb::Test(_) | Verb::Remove) {
                bytes = size(root);
                if bytes > limits.max_bytes {
                    return Err(error(Fault::TooLarge));
                }
            }
        }
        Ok(())
    }
}

/// Adds a value (RFC 6902 section 4.1): a list makes room for it.
fn add(root: &mut Value, path: &Pointer, value: Value) -> Result<(), Fault> {
    match path.place(root, false)? {
        None => *root = value,
        Some(Place::Member(members, name)) => {
            members.insert(name.to_owned(), value);
        }
        Some(Place::Item(items, index)) => {
            let index = index.unwrap_or(items.len());
            if index > items.len() {
                return Err(Fault::PathNotFound);
            }
            items.insert(index, value);
        }
    }
    Ok(())
}

impl Step {
    fn parse(step: Value, base: &str) -> Result<Self, EditError> {
        let invalid = |field: String, detail: &str| EditError::new(Fault::InvalidOperation, field, detail);
        let Value::Object(mut step) = step else {
            return Err(invalid(base.into(), "An operation is an object."));
        };
        let op = match step.remove("op") {
            Some(Value::String(op)) => op,
            Some(_) => return Err(invalid(member(base, "op"), "`op` must be a string.")),
            None => return Err(invalid(base.into(), "The operation has no `op`.")),
        };
        // Members that the operation does not know are ignored, as RFC 6902 section 4 wants.
        let mut value = || step.remove("value").ok_or_else(|| invalid(base.into(), "The operation has no `value`."));
        let verb = match op.as_str() {
            "add" => Verb::Add(value()?),
            "replace" => Verb::Replace(value()?),
            "test" => Verb::Test(value()?),
            "remove" => Verb::Remove,
            "move" => Verb::Move(Pointer::of_member(&step, "from", base)?),
            "copy" => Verb::Copy(Pointer::of_member(&step, "from", base)?),
            _ => return Err(invalid(member(base, "op"), "This operation is not known.")),
        };
        let path = Pointer::of_member(&step, "path", base)?;
        if matches!(&verb, Verb::Move(from) if from.contains(&path)) {
            let detail = "A value cannot be moved into itself.";
            return Err(EditError::new(Fault::InvalidPath, member(base, "from"), detail));
        }
        Ok(Self { path, verb })
    }

    /// Gives an upper bound of the bytes by which the text grew.
    fn apply(&self, root: &mut Value, limits: &Limits) -> Result<usize, Fault> {
        // Nothing is put in that would nest too deep, so that no value ever gets deeper than the stack can bear.
        let fits = |value: &Value| {
            if self.path.len() + depth(value) > limits.depth() { Err(Fault::TooDeep) } else { Ok(()) }
        };
        match &self.verb {
            Verb::Add(value) => {
                fits(value)?;
                add(root, &self.path, value.clone())?;
                Ok(size(value) + self.path.name_size())
            }
            Verb::Replace(value) => {
                fits(value)?;
                let place = match self.path.place(root, false)? {
                    None => root,
                    Some(place) => place.value().ok_or(Fault::PathNotFound)?,
                };
                *place = value.clone();
                Ok(size(value))
            }
            Verb::Remove => {
                // Without its root the profile would be nothing, not an object.
                let place = self.path.place(root, false)?.ok_or(Fault::NotAnObject)?;
                place.take().map(|_| 0).ok_or(Fault::PathNotFound)
            }
            Verb::Move(from) => {
                if *from == self.path {
                    return from.find(root).map(|_| 0);
                }
                // The root contains every other path, so `from` is not the root here.
                let value = from.place(root, false)?.and_then(Place::take).ok_or(Fault::PathNotFound)?;
                fits(&value)?;
                add(root, &self.path, value)?;
                Ok(self.path.name_size())
            }
            Verb::Copy(from) => {
                let value = from.find(root)?.clone();
                fits(&value)?;
                let grown = size(&value) + self.path.name_size();
                add(root, &self.path, value)?;
                Ok(grown)
            }
            Verb::Test(value) => match self.path.find(root) {
                Ok(found) if same(found, value) => Ok(0),
                _ => Err(Fault::TestFailed),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::profile::Edit;

    fn patch(current: &Value, patch: &Value) -> Result<String, (Fault, String)> {
        let limits = Limits::default();
        Edit::json_patch(patch.to_string().as_bytes(), &limits)
            .and_then(|edit| edit.apply(&current.to_string(), &limits, None))
            .map(String::from)
            .map_err(|e| (e.fault, e.field))
    }

    fn merged(current: &str, patch: &str) -> String {
        let limits = Limits::default();
        Edit::merge_patch(patch.as_bytes(), &limits).unwrap().apply(current, &limits, None).unwrap().into()
    }

    #[test]
    fn rfc7396_appendix_a() {
        for (original, patch, result) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"a":null}"#, "{}"),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"c"}"#, r#"{"a":["b"]}"#, r#"{"a":["b"]}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"e":null}"#, r#"{"a":1}"#, r#"{"e":null,"a":1}"#),
            ("{}", r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
            // Not in the RFC: order is kept, a scalar gives way, lists keep their nulls.
            (r#"{"a":1,"b":2,"c":3}"#, r#"{"a":null,"d":4}"#, r#"{"b":2,"c":3,"d":4}"#),
            (r#"{"a":1}"#, r#"{"a":{"b":1,"c":null}}"#, r#"{"a":{"b":1}}"#),
            ("{}", r#"{"a":[null,{"b":null}]}"#, r#"{"a":[null,{"b":null}]}"#),
        ] {
            assert_eq!(merged(original, patch), result, "{original} {patch}");
        }
        for patch in [r#"["c"]"#, "null", r#""bar""#, "1"] {
            let e = Edit::merge_patch(patch.as_bytes(), &Limits::default()).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (Fault::NotAnObject, ""));
        }
    }

    #[test]
    fn shallow_merge_replaces_the_top_level() {
        let limits = Limits::default();
        let apply = |current: &str, text: &str| {
            Edit::shallow_merge(text.as_bytes(), "/metadata", &limits).unwrap().apply(current, &limits, None).unwrap()
        };
        assert_eq!(
            &*apply(r#"{"a":{"x":1},"b":2,"c":3}"#, r#"{"a":{"y":null},"b":null,"n":null,"d":[4]}"#),
            r#"{"a":{"y":null},"c":3,"d":[4]}"#
        );
        let e = Edit::shallow_merge(br#"{"a":{"__proto__":1}}"#, "/metadata", &limits).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::ReservedKey, "/metadata/a/__proto__"));
        let small = Limits { max_bytes: 20, ..Limits::default() };
        let edit = Edit::shallow_merge(br#"{"b":"0123456789"}"#, "/metadata", &small).unwrap();
        let e = edit.apply(r#"{"a":"0123456789"}"#, &small, None).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::TooLarge, "/metadata"));
    }

    #[test]
    fn thousands_of_nulls_are_removed_in_one_pass() {
        let (mut data, mut nulls) = (String::from("{"), String::from("{"));
        for i in 0..100_000 {
            let comma = if i == 0 { "" } else { "," };
            write!(data, "{comma}\"{i}\":0").unwrap();
            write!(nulls, "{comma}\"{i}\":null").unwrap();
        }
        data.push('}');
        nulls.push('}');
        let limits = Limits { max_bytes: 2_000_000, ..Limits::default() };
        let edit = Edit::merge_patch(nulls.as_bytes(), &limits).unwrap();
        assert_eq!(&*edit.apply(&data, &limits, None).unwrap(), "{}");
    }

    #[test]
    fn rfc6902_appendix_a() {
        for (name, document, operations, result) in [
            (
                "A.1",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux"}]),
                json!({"foo": "bar", "baz": "qux"}),
            ),
            (
                "A.2",
                json!({"foo": ["bar", "baz"]}),
                json!([{"op": "add", "path": "/foo/1", "value": "qux"}]),
                json!({"foo": ["bar", "qux", "baz"]}),
            ),
            (
                "A.3",
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "remove", "path": "/baz"}]),
                json!({"foo": "bar"}),
            ),
            (
                "A.4",
                json!({"foo": ["bar", "qux", "baz"]}),
                json!([{"op": "remove", "path": "/foo/1"}]),
                json!({"foo": ["bar", "baz"]}),
            ),
            (
                "A.5",
                json!({"baz": "qux", "foo": "bar"}),
                json!([{"op": "replace", "path": "/baz", "value": "boo"}]),
                json!({"baz": "boo", "foo": "bar"}),
            ),
            (
                "A.6",
                json!({"foo": {"bar": "baz", "waldo": "fred"}, "qux": {"corge": "grault"}}),
                json!([{"op": "move", "from": "/foo/waldo", "path": "/qux/thud"}]),
                json!({"foo": {"bar": "baz"}, "qux": {"corge": "grault", "thud": "fred"}}),
            ),
            (
                "A.7",
                json!({"foo": ["all", "grass", "cows", "eat"]}),
                json!([{"op": "move", "from": "/foo/1", "path": "/foo/3"}]),
                json!({"foo": ["all", "cows", "eat", "grass"]}),
            ),
            (
                "A.8",
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
                json!([{"op": "test", "path": "/baz", "value": "qux"}, {"op": "test", "path": "/foo/1", "value": 2}]),
                json!({"baz": "qux", "foo": ["a", 2, "c"]}),
            ),
            (
                "A.10",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/child", "value": {"grandchild": {}}}]),
                json!({"foo": "bar", "child": {"grandchild": {}}}),
            ),
            (
                "A.11",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz", "value": "qux", "xyz": 123}]),
                json!({"foo": "bar", "baz": "qux"}),
            ),
            (
                "A.14",
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": 10}]),
                json!({"/": 9, "~1": 10}),
            ),
            (
                "A.16",
                json!({"foo": ["bar"]}),
                json!([{"op": "add", "path": "/foo/-", "value": ["abc", "def"]}]),
                json!({"foo": ["bar", ["abc", "def"]]}),
            ),
        ] {
            assert_eq!(patch(&document, &operations), Ok(result.to_string()), "{name}");
        }
        for (name, document, operations, fault) in [
            ("A.9", json!({"baz": "qux"}), json!([{"op": "test", "path": "/baz", "value": "bar"}]), Fault::TestFailed),
            (
                "A.12",
                json!({"foo": "bar"}),
                json!([{"op": "add", "path": "/baz/bat", "value": "qux"}]),
                Fault::PathNotFound,
            ),
            (
                "A.15",
                json!({"/": 9, "~1": 10}),
                json!([{"op": "test", "path": "/~01", "value": "10"}]),
                Fault::TestFailed,
            ),
        ] {
            assert_eq!(patch(&document, &operations), Err((fault, "/0".into())), "{name}");
        }
        let twice = br#"[{"op":"add","path":"/baz","value":"qux","op":"remove"}]"#;
        let e = Edit::json_patch(twice, &Limits::default()).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::DuplicateMember, "/0/op"), "A.13");
    }

    #[test]
    fn steps_meet_the_profile() {
        use Fault::{NotAnObject, PathNotFound, TestFailed, TypeMismatch};
        let data = json!({"a": 1, "l": [1, 2], "o": {"x": {"y": 1}}});
        for (step, expected) in [
            (json!({"op": "remove", "path": "/b"}), Err(PathNotFound)),
            (json!({"op": "remove", "path": "/l/2"}), Err(PathNotFound)),
            (json!({"op": "remove", "path": "/l/-"}), Err(PathNotFound)),
            (json!({"op": "remove", "path": "/a/b"}), Err(TypeMismatch)),
            (json!({"op": "remove", "path": ""}), Err(NotAnObject)),
            (json!({"op": "replace", "path": "/b", "value": 1}), Err(PathNotFound)),
            (json!({"op": "replace", "path": "/l/2", "value": 1}), Err(PathNotFound)),
            (json!({"op": "replace", "path": "/l/x", "value": 1}), Err(TypeMismatch)),
            (json!({"op": "replace", "path": "", "value": 1}), Err(NotAnObject)),
            (json!({"op": "replace", "path": "", "value": {"n": 1}}), Ok(json!({"n": 1}))),
            (json!({"op": "add", "path": "", "value": []}), Err(NotAnObject)),
            (json!({"op": "add", "path": "/l/3", "value": 1}), Err(PathNotFound)),
            (
                json!({"op": "add", "path": "/l/2", "value": null}),
                Ok(json!({"a": 1, "l": [1, 2, null], "o": {"x": {"y": 1}}})),
            ),
            (json!({"op": "add", "path": "/a/b", "value": 1}), Err(TypeMismatch)),
            (json!({"op": "copy", "from": "/b", "path": "/c"}), Err(PathNotFound)),
            (json!({"op": "copy", "from": "/l", "path": ""}), Err(NotAnObject)),
            (json!({"op": "copy", "from": "/o", "path": ""}), Ok(json!({"x": {"y": 1}}))),
            (json!({"op": "copy", "from": "/a", "path": "/n/m"}), Err(PathNotFound)),
            (json!({"op": "move", "from": "/b", "path": "/c"}), Err(PathNotFound)),
            (json!({"op": "move", "from": "/b", "path": "/b"}), Err(PathNotFound)),
            (json!({"op": "move", "from": "/a", "path": "/a"}), Ok(data.clone())),
            (json!({"op": "move", "from": "", "path": ""}), Ok(data.clone())),
            (json!({"op": "move", "from": "/o/x", "path": "/o"}), Ok(json!({"a": 1, "l": [1, 2], "o": {"y": 1}}))),
            (json!({"op": "move", "from": "/l/0", "path": "/a/b"}), Err(TypeMismatch)),
            (json!({"op": "test", "path": "/a", "value": 1.0}), Ok(data.clone())),
            (json!({"op": "test", "path": "/b", "value": null}), Err(TestFailed)),
            (json!({"op": "test", "path": "", "value": {}}), Err(TestFailed)),
        ] {
            let operations = json!([{"op": "test", "path": "", "value": data}, step]);
            let expected = expected.map(|v: Value| v.to_string()).map_err(|fault| (fault, "/1".to_owned()));
            assert_eq!(patch(&data, &operations), expected, "{step}");
        }
        // What is removed leaves the order of the others.
        let order = patch(&json!({"a": 1, "b": 2, "c": 3, "d": 4}), &json!([{"op": "remove", "path": "/b"}]));
        assert_eq!(order.unwrap(), r#"{"a":1,"c":3,"d":4}"#);
    }

    #[test]
    fn requests_are_checked() {
        use Fault::{InvalidOperation, InvalidPath, ReservedKey};
        let many = json!(vec![json!({"op": "remove", "path": "/a"}); 65]).to_string();
        for (body, fault, field) in [
            ("{}", InvalidOperation, ""),
            ("null", InvalidOperation, ""),
            ("[1]", InvalidOperation, "/0"),
            ("[", Fault::Malformed, "/0"),
            (r#"[{"path":"/a"}]"#, InvalidOperation, "/0"),
            (r#"[{"op":1}]"#, InvalidOperation, "/0/op"),
            (r#"[{"op":"merge","path":"/a"}]"#, InvalidOperation, "/0/op"),
            (r#"[{"op":"add","path":"/a"}]"#, InvalidOperation, "/0"),
            (r#"[{"op":"test","path":"/a"}]"#, InvalidOperation, "/0"),
            (r#"[{"op":"remove"}]"#, InvalidOperation, "/0"),
            (r#"[{"op":"remove","path":1}]"#, InvalidOperation, "/0/path"),
            (r#"[{"op":"move","path":"/a"}]"#, InvalidOperation, "/0"),
            (r#"[{"op":"remove","path":"/a"},{"op":"remove","path":"a"}]"#, InvalidPath, "/1/path"),
            (r#"[{"op":"copy","from":"~","path":"/a"}]"#, InvalidPath, "/0/from"),
            (r#"[{"op":"move","from":"/a","path":"/a/b"}]"#, InvalidPath, "/0/from"),
            (r#"[{"op":"move","from":"","path":"/a"}]"#, InvalidPath, "/0/from"),
            (r#"[{"op":"add","path":"/__proto__/x","value":1}]"#, ReservedKey, "/0/path"),
            (r#"[{"op":"copy","from":"/constructor","path":"/x"}]"#, ReservedKey, "/0/from"),
            (r#"[{"op":"add","path":"/x","value":{"a":{"prototype":1}}}]"#, ReservedKey, "/0/value/a/prototype"),
            (r#"[{"op":"add","path":"/x\u0000","value":1}]"#, Fault::NulCharacter, "/0/path"),
            (&many, Fault::TooManyOperations, ""),
        ] {
            let e = Edit::json_patch(body.as_bytes(), &Limits::default()).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (fault, field), "{body}");
        }
    }

    #[test]
    fn copies_do_not_fill_the_memory() {
        let double = vec![json!({"op": "copy", "from": "/l", "path": "/l/-"}); 64];
        let (fault, field) = patch(&json!({"l": ["x".repeat(1000)]}), &json!(double)).unwrap_err();
        assert_eq!((fault, field.as_str()), (Fault::TooLarge, "/5"));
        // Each copy nests one deeper too, which is noticed first where there is room.
        let limits = Limits { max_bytes: 1 << 20, ..Limits::default() };
        let edit = Edit::json_patch(json!(double).to_string().as_bytes(), &limits).unwrap();
        let e = edit.apply(r#"{"l":[]}"#, &limits, None).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::TooDeep, "/14"));
        // A large value over itself, again and again.
        let again = vec![json!({"op": "copy", "from": "/a", "path": "/a"}); 64];
        let (fault, field) = patch(&json!({"a": "x".repeat(30_000)}), &json!(again)).unwrap_err();
        assert_eq!((fault, field.as_str()), (Fault::TooLarge, "/4"));
        assert!(patch(&json!({"a": "x".repeat(1000)}), &json!(again)).is_ok());
        // Room for a million levels, if the depth were not bounded after each step.
        let limits = Limits { max_bytes: 64 << 20, max_depth: usize::MAX, ..Limits::default() };
        let mut steps = Vec::new();
        let mut deepest = String::from("/a");
        for _ in 0..24 {
            steps.push(json!({"op": "copy", "from": "/a", "path": format!("{deepest}/a")}));
            deepest = deepest.repeat(2);
            if deepest.len() > 10_000 {
                break;
            }
        }
        let edit = Edit::json_patch(json!(steps).to_string().as_bytes(), &limits).unwrap();
        assert_eq!(edit.apply(r#"{"a":{}}"#, &limits, None).unwrap_err().fault, Fault::TooDeep);
    }

    #[test]
    fn what_shrinks_again_in_time_is_allowed() {
        let large = "x".repeat(20_000);
        let steps = json!([
            {"op": "add", "path": "/b", "value": large},
            {"op": "replace", "path": "/b", "value": large},
            {"op": "remove", "path": "/a"},
            {"op": "move", "from": "/b", "path": "/a"},
            {"op": "replace", "path": "/a", "value": 1},
        ]);
        assert_eq!(patch(&json!({"a": "y".repeat(10_000)}), &steps).unwrap(), r#"{"a":1}"#);
    }

    fn token() -> impl Strategy<Value = &'static str> {
        prop::sample::select(vec!["a", "b", "l", "0", "1", "2", "-", "01", "~0"])
    }

    fn path() -> impl Strategy<Value = String> {
        prop::collection::vec(token(), 0..4).prop_map(|tokens| tokens.iter().fold(String::new(), |p, t| p + "/" + t))
    }

    fn operand() -> impl Strategy<Value = Value> {
        prop::sample::select(vec![
            json!(1),
            json!("x"),
            json!(null),
            json!({"a": [1]}),
            json!([1, {"b": 2}]),
            json!({}),
        ])
    }

    fn step() -> impl Strategy<Value = Value> {
        let ops = prop::sample::select(vec!["add", "remove", "replace", "move", "copy", "test"]);
        (ops, path(), path(), operand()).prop_map(|(op, path, from, value)| match op {
            "remove" => json!({"op": op, "path": path}),
            "move" | "copy" => json!({"op": op, "path": path, "from": from}),
            _ => json!({"op": op, "path": path, "value": value}),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// The crate json-patch is the oracle: the same outcome, and the same refusals.
        #[test]
        fn agrees_with_another_implementation(steps in prop::collection::vec(step(), 1..5)) {
            let data = json!({"a": {"b": [1, 2, {"a": 1}], "0": 1}, "l": [1, {"a": []}, "x"], "~": 5});
            let mut theirs = data.clone();
            let mut fine = true;
            for step in &steps {
                // They refuse this one, which RFC 6902 section 4.4 does not: it changes nothing.
                if step["op"] == "move" && step["from"] == "" && step["path"] == "" {
                    continue;
                }
                let step: json_patch::PatchOperation = serde_json::from_value(step.clone()).unwrap();
                // Its root may become anything, ours may not.
                fine = fine && json_patch::patch_unsafe(&mut theirs, &[step]).is_ok() && theirs.is_object();
            }
            match patch(&data, &json!(steps)) {
                Ok(ours) => {
                    prop_assert!(fine, "they refuse");
                    prop_assert_eq!(serde_json::from_str::<Value>(&ours).unwrap(), theirs);
                }
                Err(fault) => prop_assert!(!fine, "they accept, we say {:?}", fault),
            }
        }

        #[test]
        fn merge_agrees_with_another_implementation(data in operand(), patch in operand(), more in operand()) {
            let (data, patch) = (json!({"a": data, "b": more}), json!({"a": patch, "b": null, "c": more}));
            let mut theirs = data.clone();
            json_patch::merge(&mut theirs, &patch);
            let ours: Value = serde_json::from_str(&merged(&data.to_string(), &patch.to_string())).unwrap();
            prop_assert_eq!(ours, theirs);
        }
    }
}
