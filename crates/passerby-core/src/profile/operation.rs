//! The native operations, each of which an offline client can send again: `{"operations": [{"op", "path", …}, …]}`.

use serde_json::{Map, Number, Value};

use super::{
    EditError, Fault, Limits,
    pointer::{Place, Pointer},
    read::member,
    value::{compare, depth, float, same},
};

/// A batch, applied in order, all or nothing.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Operations(Box<[Operation]>);

#[derive(Debug, Clone, PartialEq)]
struct Operation {
    path: Pointer,
    verb: Verb,
}

#[derive(Debug, Clone, PartialEq)]
enum Verb {
    Set(Value),
    Unset,
    Increment(Number),
    Min(Number),
    Max(Number),
    AddToSet(Value),
    RemoveFromSet(Value),
    Append(Value),
    Test(Value),
}

impl Operations {
    pub(super) fn parse(mut body: Map<String, Value>, max_operations: usize) -> Result<Self, EditError> {
        let invalid = |field: String, detail: &str| Err(EditError::new(Fault::InvalidOperation, field, detail));
        let operations = match body.remove("operations") {
            Some(Value::Array(operations)) => operations,
            Some(_) => return invalid("/operations".into(), "`operations` must be a list."),
            None => return invalid("/operations".into(), "The body has no `operations`."),
        };
        if let Some(name) = body.keys().next() {
            return invalid(member("", name), "This member is not known here.");
        }
        if operations.len() > max_operations {
            let detail = format!("At most {max_operations} operations are taken at once.");
            return Err(EditError::new(Fault::TooManyOperations, "/operations", detail));
        }
        let operations = operations.into_iter().enumerate();
        operations.map(|(i, o)| Operation::parse(o, &format!("/operations/{i}"))).collect::<Result<_, _>>().map(Self)
    }

    pub(super) fn apply(&self, root: &mut Value, limits: &Limits) -> Result<(), EditError> {
        self.0.iter().enumerate().try_for_each(|(i, operation)| {
            operation.apply(root, limits).map_err(|fault| EditError::of_step(fault, format!("/operations/{i}")))
        })
    }
}

/// The value at a place; where a member is missing, `initial` is put there.
fn value_or<'v>(place: Place<'v, '_>, initial: impl FnOnce() -> Value) -> Result<&'v mut Value, Fault> {
    match place {
        Place::Member(members, name) => Ok(members.entry(name).or_insert_with(initial)),
        Place::Item(items, index) => index.and_then(|i| items.get_mut(i)).ok_or(Fault::PathNotFound),
    }
}

/// The exact sum, [`Fault::NumberOutOfRange`] where there is none.
pub(crate) fn add(a: &Number, b: &Number) -> Result<Number, Fault> {
    // Counting stays within what every client's 64-bit integer holds, although larger literals are kept as they came.
    let whole = |sum: i128| i64::try_from(sum).ok().map(Number::from);
    let sum = match (a.as_i128(), b.as_i128()) {
        // Two 64-bit integers never overflow 128 bits.
        (Some(a), Some(b)) => whole(a + b),
        // A float knows no odd number beyond 2^53: there, a sum is exact or refused.
        (Some(n), None) if n.unsigned_abs() > EXACT => integral(b).and_then(|b| whole(n + b)),
        (None, Some(n)) if n.unsigned_abs() > EXACT => integral(a).and_then(|a| whole(n + a)),
        _ => Number::from_f64(float(a) + float(b)),
    };
    sum.ok_or(Fault::NumberOutOfRange)
}

/// Up to here every integer is a float (2^53).
const EXACT: u128 = 1 << 53;

/// A float that is a whole number and exact.
fn integral(n: &Number) -> Option<i128> {
    let f = float(n);
    (f.fract() == 0.0 && f.abs() <= EXACT as f64).then_some(f as i128)
}

fn push(items: &mut Vec<Value>, value: &Value, limits: &Limits) -> Result<(), Fault> {
    if items.len() >= limits.max_list {
        return Err(Fault::TooLarge);
    }
    items.push(value.clone());
    Ok(())
}

impl Operation {
    fn parse(operation: Value, base: &str) -> Result<Self, EditError> {
        let invalid = |field: String, detail: &str| Err(EditError::new(Fault::InvalidOperation, field, detail));
        let Value::Object(mut operation) = operation else {
            return invalid(base.into(), "An operation is an object.");
        };
        let op = match operation.remove("op") {
            Some(Value::String(op)) => op,
            Some(_) => return invalid(member(base, "op"), "`op` must be a string."),
            None => return invalid(base.into(), "The operation has no `op`."),
        };
        let operand_name = match op.as_str() {
            "unset" => None,
            "increment" => Some("by"),
            "set" | "min" | "max" | "add_to_set" | "remove_from_set" | "append" | "test" => Some("value"),
            _ => return invalid(member(base, "op"), "This operation is not known."),
        };
        let path = Pointer::of_member(&operation, "path", base)?;
        if path.is_root() && op != "test" {
            let detail = "An operation works on something in the profile, not on the whole of it.";
            return Err(EditError::new(Fault::InvalidPath, member(base, "path"), detail));
        }
        let operand = operand_name.map(|name| (name, operation.remove(name)));
        if let Some(name) = operation.keys().find(|name| *name != "path") {
            return invalid(member(base, name), "This member is not known here.");
        }
        let value = match operand {
            None => return Ok(Self { path, verb: Verb::Unset }),
            Some((_, Some(value))) => value,
            Some((name, None)) => return invalid(base.into(), &format!("The operation has no `{name}`.")),
        };
        let verb = match (op.as_str(), value) {
            ("increment", Value::Number(by)) => Verb::Increment(by),
            ("min", Value::Number(value)) => Verb::Min(value),
            ("max", Value::Number(value)) => Verb::Max(value),
            ("increment", _) => return invalid(member(base, "by"), "`by` must be a number."),
            ("min" | "max", _) => return invalid(member(base, "value"), "`value` must be a number."),
            ("set", value) => Verb::Set(value),
            ("add_to_set", value) => Verb::AddToSet(value),
            ("remove_from_set", value) => Verb::RemoveFromSet(value),
            ("append", value) => Verb::Append(value),
            (_, value) => Verb::Test(value),
        };
        Ok(Self { path, verb })
    }

    /// How deep the outcome is at least, at this path.
    fn depth(&self) -> usize {
        match &self.verb {
            Verb::Unset | Verb::RemoveFromSet(_) | Verb::Test(_) => 0,
            Verb::Increment(_) | Verb::Min(_) | Verb::Max(_) => self.path.len(),
            Verb::Set(value) => self.path.len() + depth(value),
            Verb::AddToSet(value) | Verb::Append(value) => self.path.len() + 1 + depth(value),
        }
    }

    fn apply(&self, root: &mut Value, limits: &Limits) -> Result<(), Fault> {
        // First of all, so that a path of thousands of steps makes no objects.
        if self.depth() > limits.depth() {
            return Err(Fault::TooDeep);
        }
        // Nothing but `test` takes the whole, as `parse` saw to.
        let make = |root| self.path.place(root, true)?.ok_or(Fault::InvalidPath);
        let find = |root| match self.path.place(root, false) {
            Err(Fault::PathNotFound) => Ok(None),
            other => other,
        };
        match &self.verb {
            Verb::Set(value) => match make(root)? {
                Place::Item(items, None) => push(items, value, limits),
                place => {
                    *value_or(place, || Value::Null)? = value.clone();
                    Ok(())
                }
            },
            Verb::Unset => {
                if let Some(place) = find(root)? {
                    place.take();
                }
                Ok(())
            }
            Verb::Increment(by) => match value_or(make(root)?, || Value::from(0))? {
                Value::Number(number) => {
                    *number = add(number, by)?;
                    Ok(())
                }
                _ => Err(Fault::TypeMismatch),
            },
            Verb::Min(value) | Verb::Max(value) => match value_or(make(root)?, || Value::Number(value.clone()))? {
                Value::Number(number) => {
                    let order = compare(value, number);
                    if if matches!(self.verb, Verb::Min(_)) { order.is_lt() } else { order.is_gt() } {
                        *number = value.clone();
                    }
                    Ok(())
                }
                _ => Err(Fault::TypeMismatch),
            },
            Verb::Append(value) => match value_or(make(root)?, || Value::Array(Vec::new()))? {
                Value::Array(items) => push(items, value, limits),
                _ => Err(Fault::TypeMismatch),
            },
            Verb::AddToSet(value) => match value_or(make(root)?, || Value::Array(Vec::new()))? {
                Value::Array(items) if items.iter().any(|item| same(item, value)) => Ok(()),
                Value::Array(items) => push(items, value, limits),
                _ => Err(Fault::TypeMismatch),
            },
            Verb::RemoveFromSet(value) => match find(root)?.and_then(Place::value) {
                None => Ok(()),
                Some(Value::Array(items)) => {
                    items.retain(|item| !same(item, value));
                    Ok(())
                }
                Some(_) => Err(Fault::TypeMismatch),
            },
            Verb::Test(value) => {
                // What is not there, for whatever reason, is null.
                let found = self.path.find(root).unwrap_or(&Value::Null);
                if same(found, value) { Ok(()) } else { Err(Fault::TestFailed) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::profile::{Edit, EditError, Fault, Limits};

    fn run(current: &str, operations: &str) -> Result<String, EditError> {
        let limits = Limits::default();
        let body = format!(r#"{{"operations":[{operations}]}}"#);
        Edit::operations(body.as_bytes(), &limits)?.apply(current, &limits, None).map(String::from)
    }

    const DATA: &str = r#"{"i":5,"f":1.5,"s":"x","l":[1,"a",{"k":[2]}],"o":{"n":7},"z":null}"#;

    /// Every operation on what is missing, right and wrong; the outcome is the value at `/out` of a fresh object, or of
    /// `DATA` at the path itself.
    #[test]
    fn table() {
        use Fault::{NumberOutOfRange, PathNotFound, TestFailed, TypeMismatch};
        let cases: &[(&str, &str, &str, Result<&str, Fault>)] = &[
            // set
            ("set", "/x", "9", Ok("9")),
            ("set", "/x/y/0/z", r#"{"a":1}"#, Ok(r#"{"a":1}"#)),
            ("set", "/i", "null", Ok("null")),
            ("set", "/l", "1", Ok("1")),
            ("set", "/l/0", "9", Ok("9")),
            ("set", "/l/2/k/0", "9", Ok("9")),
            ("set", "/l/3", "9", Err(PathNotFound)),
            ("set", "/l/-/a", "9", Err(PathNotFound)),
            ("set", "/l/7/a", "9", Err(PathNotFound)),
            ("set", "/l/k", "9", Err(TypeMismatch)),
            ("set", "/l/01", "9", Err(TypeMismatch)),
            ("set", "/i/a", "9", Err(TypeMismatch)),
            ("set", "/s/a/b", "9", Err(TypeMismatch)),
            ("set", "/z/a", "9", Err(TypeMismatch)),
            // increment
            ("increment", "/x", "3", Ok("3")),
            ("increment", "/x/y", "1.25", Ok("1.25")),
            ("increment", "/i", "-6", Ok("-1")),
            ("increment", "/i", "0.5", Ok("5.5")),
            ("increment", "/f", "1", Ok("2.5")),
            ("increment", "/f", "0.5", Ok("2.0")),
            ("increment", "/l/0", "1", Ok("2")),
            ("increment", "/i", "9223372036854775802", Ok("9223372036854775807")),
            ("increment", "/i", "9223372036854775803", Err(NumberOutOfRange)),
            ("increment", "/l/-", "1", Err(PathNotFound)),
            ("increment", "/l/9", "1", Err(PathNotFound)),
            ("increment", "/s", "1", Err(TypeMismatch)),
            ("increment", "/z", "1", Err(TypeMismatch)),
            ("increment", "/l", "1", Err(TypeMismatch)),
            ("increment", "/i/a", "1", Err(TypeMismatch)),
            // min, max
            ("min", "/x", "3", Ok("3")),
            ("min", "/i", "3", Ok("3")),
            ("min", "/i", "9", Ok("5")),
            ("min", "/i", "5.0", Ok("5")),
            ("min", "/i", "4.5", Ok("4.5")),
            ("min", "/l/0", "-1", Ok("-1")),
            ("min", "/s", "1", Err(TypeMismatch)),
            ("min", "/l/3", "1", Err(PathNotFound)),
            ("max", "/x/y", "3", Ok("3")),
            ("max", "/i", "3", Ok("5")),
            ("max", "/i", "18446744073709551615", Ok("18446744073709551615")),
            ("max", "/f", "2", Ok("2")),
            ("max", "/o", "1", Err(TypeMismatch)),
            ("max", "/s/q", "1", Err(TypeMismatch)),
            // add_to_set, append
            ("add_to_set", "/x", "1", Ok("[1]")),
            ("add_to_set", "/x/y", "[1]", Ok("[[1]]")),
            ("add_to_set", "/l", "1.0", Ok(r#"[1,"a",{"k":[2]}]"#)),
            ("add_to_set", "/l", r#"{"k":[2.0]}"#, Ok(r#"[1,"a",{"k":[2]}]"#)),
            ("add_to_set", "/l/2/k", "3", Ok("[2,3]")),
            ("add_to_set", "/o", "1", Err(TypeMismatch)),
            ("add_to_set", "/z", "1", Err(TypeMismatch)),
            ("add_to_set", "/l/-", "1", Err(PathNotFound)),
            ("append", "/x", "null", Ok("[null]")),
            ("append", "/l", "1", Ok(r#"[1,"a",{"k":[2]},1]"#)),
            ("append", "/l/2/k", "[]", Ok("[2,[]]")),
            ("append", "/s", r#""y""#, Err(TypeMismatch)),
            ("append", "/i/a", "1", Err(TypeMismatch)),
            ("append", "/l/5", "1", Err(PathNotFound)),
            // remove_from_set
            ("remove_from_set", "/l", "1.0", Ok(r#"["a",{"k":[2]}]"#)),
            ("remove_from_set", "/l", r#"{"k":[2]}"#, Ok(r#"[1,"a"]"#)),
            ("remove_from_set", "/l", "7", Ok(r#"[1,"a",{"k":[2]}]"#)),
            ("remove_from_set", "/o", "1", Err(TypeMismatch)),
            ("remove_from_set", "/s", "1", Err(TypeMismatch)),
            ("remove_from_set", "/i/a", "1", Err(TypeMismatch)),
            // test
            ("test", "/i", "5.0", Ok("5")),
            ("test", "/o", r#"{"n":7}"#, Ok(r#"{"n":7}"#)),
            ("test", "/l/2", r#"{"k":[2]}"#, Ok(r#"{"k":[2]}"#)),
            ("test", "/z", "null", Ok("null")),
            ("test", "/i", "6", Err(TestFailed)),
            ("test", "/i", r#""5""#, Err(TestFailed)),
            ("test", "/x", "0", Err(TestFailed)),
            ("test", "/l/9", "0", Err(TestFailed)),
            ("test", "/s/a", "0", Err(TestFailed)),
            ("test", "", "{}", Err(TestFailed)),
        ];
        for (op, path, operand, expected) in cases {
            let name = if *op == "increment" { "by" } else { "value" };
            let operation = format!(r#"{{"op":"{op}","path":"{path}","{name}":{operand}}}"#);
            // A harmless first operation shows that the index is right and the batch goes together.
            let outcome = run(DATA, &format!(r#"{{"op":"set","path":"/first","value":1}},{operation}"#));
            match (outcome, expected) {
                (Ok(text), Ok(value)) => {
                    let outcome: serde_json::Value = serde_json::from_str(&text).unwrap();
                    assert_eq!(outcome.pointer(path).unwrap().to_string(), *value, "{operation}");
                    assert_eq!(outcome["first"], json!(1));
                }
                (Err(e), Err(fault)) => {
                    assert_eq!((e.fault, e.field.as_str()), (*fault, "/operations/1"), "{operation}");
                }
                (outcome, _) => panic!("{operation}: {outcome:?}"),
            }
        }
    }

    #[test]
    fn what_is_missing_is_left_alone() {
        for path in ["/x", "/x/y", "/l/3", "/l/-", "/l/9/a", "/o/x"] {
            assert_eq!(run(DATA, &format!(r#"{{"op":"unset","path":"{path}"}}"#)).unwrap(), DATA, "{path}");
            let operation = format!(r#"{{"op":"remove_from_set","path":"{path}","value":1}}"#);
            assert_eq!(run(DATA, &operation).unwrap(), DATA, "{path}");
            let operation = format!(r#"{{"op":"test","path":"{path}","value":null}}"#);
            assert_eq!(run(DATA, &operation).unwrap(), DATA, "{path}");
        }
        assert_eq!(run(DATA, r#"{"op":"test","path":"/s/a/b","value":null}"#).unwrap(), DATA);
        assert_eq!(run(DATA, "").unwrap(), DATA);
    }

    #[test]
    fn unset_keeps_the_order_of_the_rest() {
        let unset = |path: &str| run(DATA, &format!(r#"{{"op":"unset","path":"{path}"}}"#));
        assert_eq!(unset("/f").unwrap(), DATA.replace(r#""f":1.5,"#, ""));
        assert_eq!(unset("/l/0").unwrap(), DATA.replace("1,\"a\"", "\"a\""));
        assert_eq!(unset("/o/n").unwrap(), DATA.replace(r#""n":7"#, ""));
        for path in ["/i/a", "/s/0", "/l/k", "/z/a"] {
            let e = unset(path).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (Fault::TypeMismatch, "/operations/0"), "{path}");
        }
    }

    #[test]
    fn set_at_the_end_of_a_list_appends() {
        assert_eq!(run(r#"{"l":[1]}"#, r#"{"op":"set","path":"/l/-","value":2}"#).unwrap(), r#"{"l":[1,2]}"#);
        // Where there is no list it is a name like others.
        assert_eq!(run("{}", r#"{"op":"set","path":"/l/-","value":2}"#).unwrap(), r#"{"l":{"-":2}}"#);
    }

    #[test]
    fn sums_at_the_edges() {
        let add = |a: &str, b: &str| {
            run(&format!(r#"{{"n":{a}}}"#), &format!(r#"{{"op":"increment","path":"/n","by":{b}}}"#))
                .map(|text| text[5..text.len() - 1].to_owned())
                .map_err(|e| e.fault)
        };
        let (low, high) = ("-9223372036854775808", "18446744073709551615");
        for (a, b, sum) in [
            (low, "0", Ok(low)),
            (low, "-1", Err(Fault::NumberOutOfRange)),
            (high, "1", Err(Fault::NumberOutOfRange)),
            (high, high, Err(Fault::NumberOutOfRange)),
            (low, high, Ok("9223372036854775807")),
            (high, low, Ok("9223372036854775807")),
            ("9223372036854775807", "1", Err(Fault::NumberOutOfRange)),
            ("9007199254740992", "1", Ok("9007199254740993")),
            ("9007199254740993", "1.0", Ok("9007199254740994")),
            ("9007199254740993", "0.5", Err(Fault::NumberOutOfRange)),
            ("5", "1.0", Ok("6.0")),
            ("1.7e308", "1.7e308", Err(Fault::NumberOutOfRange)),
            ("0.1", "0.2", Ok("0.30000000000000004")),
            ("-1", "1", Ok("0")),
        ] {
            assert_eq!(add(a, b), sum.map(str::to_owned), "{a} + {b}");
        }
    }

    #[test]
    fn lists_are_bounded() {
        let limits = Limits { max_list: 2, ..Limits::default() };
        for (operation, fits) in [
            (r#"{"op":"append","path":"/l","value":3}"#, false),
            (r#"{"op":"set","path":"/l/-","value":3}"#, false),
            (r#"{"op":"add_to_set","path":"/l","value":3}"#, false),
            (r#"{"op":"add_to_set","path":"/l","value":2}"#, true),
        ] {
            let body = format!(r#"{{"operations":[{operation}]}}"#);
            let outcome = Edit::operations(body.as_bytes(), &limits).unwrap().apply(r#"{"l":[1,2]}"#, &limits, None);
            let expected = if fits { Ok(()) } else { Err((Fault::TooLarge, "/operations/0".to_owned())) };
            assert_eq!(outcome.map(drop).map_err(|e| (e.fault, e.field)), expected, "{operation}");
        }
    }

    #[test]
    fn depth_is_bounded_before_anything_is_made() {
        let path = "/a".repeat(16);
        assert!(run("{}", &format!(r#"{{"op":"set","path":"{path}","value":1}}"#)).is_ok());
        for operation in [
            format!(r#"{{"op":"set","path":"{path}","value":[]}}"#),
            format!(r#"{{"op":"append","path":"{path}","value":1}}"#),
            format!(r#"{{"op":"increment","path":"{path}/a","by":1}}"#),
            format!(r#"{{"op":"set","path":"{}","value":1}}"#, "/a".repeat(10_000)),
        ] {
            let e = run("{}", &operation).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (Fault::TooDeep, "/operations/0"));
        }
        // Asking is free.
        assert_eq!(run("{}", &format!(r#"{{"op":"unset","path":"{path}/a"}}"#)).unwrap(), "{}");
    }

    #[test]
    fn requests_are_checked() {
        use Fault::{InvalidOperation, InvalidPath, ReservedKey, TooManyOperations};
        let many = format!(r#"{{"operations":[{}]}}"#, vec![r#"{"op":"unset","path":"/a"}"#; 65].join(","));
        for (body, fault, field) in [
            ("[]", Fault::NotAnObject, ""),
            ("{}", InvalidOperation, "/operations"),
            (r#"{"operations":{}}"#, InvalidOperation, "/operations"),
            (r#"{"operations":[],"x/y":1}"#, InvalidOperation, "/x~1y"),
            (r#"{"operations":[1]}"#, InvalidOperation, "/operations/0"),
            (r#"{"operations":[{"path":"/a"}]}"#, InvalidOperation, "/operations/0"),
            (r#"{"operations":[{"op":1,"path":"/a"}]}"#, InvalidOperation, "/operations/0/op"),
            (r#"{"operations":[{"op":"push","path":"/a","value":1}]}"#, InvalidOperation, "/operations/0/op"),
            (r#"{"operations":[{"op":"unset"}]}"#, InvalidOperation, "/operations/0"),
            (r#"{"operations":[{"op":"unset","path":["a"]}]}"#, InvalidOperation, "/operations/0/path"),
            (r#"{"operations":[{"op":"unset","path":"/a","value":1}]}"#, InvalidOperation, "/operations/0/value"),
            (r#"{"operations":[{"op":"set","path":"/a"}]}"#, InvalidOperation, "/operations/0"),
            (r#"{"operations":[{"op":"increment","path":"/a"}]}"#, InvalidOperation, "/operations/0"),
            (r#"{"operations":[{"op":"increment","path":"/a","value":1}]}"#, InvalidOperation, "/operations/0/value"),
            (r#"{"operations":[{"op":"increment","path":"/a","by":"1"}]}"#, InvalidOperation, "/operations/0/by"),
            (r#"{"operations":[{"op":"min","path":"/a","value":"1"}]}"#, InvalidOperation, "/operations/0/value"),
            (r#"{"operations":[{"op":"max","path":"/a","value":null}]}"#, InvalidOperation, "/operations/0/value"),
            (r#"{"operations":[{"op":"set","path":"/a","value":1,"by":1}]}"#, InvalidOperation, "/operations/0/by"),
            (r#"{"operations":[{"op":"set","path":"","value":{}}]}"#, InvalidPath, "/operations/0/path"),
            (r#"{"operations":[{"op":"unset","path":""}]}"#, InvalidPath, "/operations/0/path"),
            (r#"{"operations":[{"op":"set","path":"a","value":1}]}"#, InvalidPath, "/operations/0/path"),
            (r#"{"operations":[{"op":"set","path":"/a~","value":1}]}"#, InvalidPath, "/operations/0/path"),
            (r#"{"operations":[{"op":"set","path":"/a/__proto__","value":1}]}"#, ReservedKey, "/operations/0/path"),
            (
                r#"{"operations":[{"op":"set","path":"/a","value":{"constructor":1}}]}"#,
                ReservedKey,
                "/operations/0/value/constructor",
            ),
            (
                r#"{"operations":[{"op":"set","path":"/a","value":[1e999]}]}"#,
                Fault::NumberOutOfRange,
                "/operations/0/value/0",
            ),
            (r#"{"operations":[{"op":"increment","path":"/a","by":NaN}]}"#, Fault::Malformed, "/operations/0/by"),
            (r#"{"operations":[{"op":"set","op":"test"}]}"#, Fault::DuplicateMember, "/operations/0/op"),
            (&many, TooManyOperations, "/operations"),
        ] {
            let e = Edit::operations(body.as_bytes(), &Limits::default()).unwrap_err();
            assert_eq!((e.fault, e.field.as_str()), (fault, field), "{body}");
        }
        assert!(run("{}", r#"{"op":"test","path":"","value":{}}"#).is_ok());
    }
}
