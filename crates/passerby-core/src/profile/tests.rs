//! Of the whole algebra: limits, and properties of arbitrary requests.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const LIMITS: Limits = Limits { max_bytes: 32 * 1024, max_depth: 16, max_operations: 64, max_list: 10_000 };

fn refused(outcome: Result<impl std::fmt::Debug, EditError>) -> (Fault, String) {
    let e = outcome.unwrap_err();
    assert!(!e.detail.is_empty());
    (e.fault, e.field)
}

fn is_shared<T: Clone + std::fmt::Debug + Send + Sync + 'static>() {}

#[test]
fn everything_can_be_shared() {
    is_shared::<(Edit, Schema, Limits, EditError, Fault)>();
    assert_eq!(Limits::default(), LIMITS);
}

#[test]
fn objects_are_normalised() {
    let text = b" { \"b\" : [ 1 , 1.0 , 1e2 , -0 ] ,\n\t\"a\":\"\\u0041\\/\\u00e9\\n\" , \"big\":18446744073709551615,\
        \"odd\":9007199254740993 } ";
    let out = "{\"b\":[1,1.0,100.0,-0.0],\"a\":\"A/é\\n\",\"big\":18446744073709551615,\"odd\":9007199254740993}";
    assert_eq!(&*parse_object(text, "/data", &LIMITS).unwrap(), out);
}

#[test]
fn only_objects_are_taken() {
    for text in ["[]", "null", "1", "\"{}\"", " true "] {
        assert_eq!(refused(parse_object(text.as_bytes(), "/data", &LIMITS)), (Fault::NotAnObject, "/data".into()));
    }
}

#[test]
fn sizes_are_bounded_by_the_compact_text() {
    let limits = Limits { max_bytes: 11, ..LIMITS };
    assert_eq!(&*parse_object(b"{ \"a\" : \"1234\" }", "/data", &limits).unwrap_or_default(), "");
    assert_eq!(&*parse_object(b"{ \"a\" : \"123\" }", "/data", &limits).unwrap(), "{\"a\":\"123\"}");
    assert_eq!(refused(parse_object(b"{\"a\":\"1234\"}", "/data", &limits)), (Fault::TooLarge, "/data".into()));
    // A short text may print longer.
    assert_eq!(refused(parse_object(b"{\"a\":1e15}", "", &limits)), (Fault::TooLarge, String::new()));
    assert!(parse_object(b"{\"\\u0061\":\"\\u0062\\u0063\\u0064\"}", "", &limits).is_ok());
    // Space is free up to a point.
    let padded = |n: usize| format!("{{{}}}", " ".repeat(n - 2));
    assert!(parse_object(padded(88).as_bytes(), "", &limits).is_ok());
    assert_eq!(refused(parse_object(padded(89).as_bytes(), "", &limits)).0, Fault::TooLarge);
}

#[test]
fn large_bodies_are_refused_early() {
    let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(1_000_000));
    for outcome in [
        Edit::merge_patch(large.as_bytes(), &LIMITS),
        Edit::shallow_merge(large.as_bytes(), "", &LIMITS),
        Edit::operations(large.as_bytes(), &LIMITS),
        Edit::json_patch(large.as_bytes(), &LIMITS),
    ] {
        assert_eq!(refused(outcome), (Fault::TooLarge, String::new()));
    }
    // A batch can be longer than what it leaves.
    let limits = Limits { max_bytes: 64, ..LIMITS };
    let batch = format!(r#"{{"operations":[{}]}}"#, vec![r#"{"op":"increment","path":"/views","by":1}"#; 64].join(","));
    let edit = Edit::operations(batch.as_bytes(), &limits).unwrap();
    assert_eq!(&*edit.apply("{}", &limits, None).unwrap(), r#"{"views":64}"#);
}

#[test]
fn outcomes_are_bounded() {
    let half = format!(r#"{{"a":"{}"}}"#, "x".repeat(20_000));
    let other = half.replace("\"a\"", "\"b\"");
    let outcome = Edit::merge_patch(other.as_bytes(), &LIMITS).unwrap().apply(&half, &LIMITS, None);
    assert_eq!(refused(outcome), (Fault::TooLarge, String::new()));
    let set = format!(r#"{{"operations":[{{"op":"set","path":"/b","value":"{}"}}]}}"#, "x".repeat(20_000));
    let outcome = Edit::operations(set.as_bytes(), &LIMITS).unwrap().apply(&half, &LIMITS, None);
    assert_eq!(refused(outcome), (Fault::TooLarge, String::new()));
    // A profile from before the limit was lowered can be made smaller, and only that.
    let old = format!(r#"{{"a":"{}","b":1}}"#, "x".repeat(40_000));
    let deep = format!(r#"{{"d":{}1{}}}"#, "[".repeat(20), "]".repeat(20));
    let unset = |path: &str| {
        let body = format!(r#"{{"operations":[{{"op":"unset","path":"{path}"}}]}}"#);
        Edit::operations(body.as_bytes(), &LIMITS).unwrap()
    };
    assert_eq!(&*unset("/a").apply(&old, &LIMITS, None).unwrap(), r#"{"b":1}"#);
    assert_eq!(refused(unset("/b").apply(&old, &LIMITS, None)).0, Fault::TooLarge);
    assert_eq!(refused(unset("/b").apply(&deep, &LIMITS, None)).0, Fault::TooDeep);
    assert_eq!(&*unset("/d").apply(&deep, &LIMITS, None).unwrap(), "{}");
}

#[test]
fn depth_is_of_the_data_not_of_the_request() {
    let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let ok = |text: &str| parse_object(text.as_bytes(), "", &LIMITS).is_ok();
    assert!(ok(&format!(r#"{{"a":{}}}"#, nested(15))));
    assert!(!ok(&format!(r#"{{"a":{}}}"#, nested(16))));
    for (n, fits) in [(15, true), (16, false)] {
        let value = nested(n);
        for edit in [
            Edit::merge_patch(format!(r#"{{"a":{value}}}"#).as_bytes(), &LIMITS),
            Edit::json_patch(format!(r#"[{{"op":"add","path":"/a","value":{value}}}]"#).as_bytes(), &LIMITS),
            Edit::operations(
                format!(r#"{{"operations":[{{"op":"set","path":"/a","value":{value}}}]}}"#).as_bytes(),
                &LIMITS,
            ),
        ] {
            let outcome = edit.and_then(|edit| edit.apply("{}", &LIMITS, None));
            if fits {
                assert_eq!(&*outcome.unwrap(), format!(r#"{{"a":{value}}}"#));
            } else {
                assert_eq!(refused(outcome).0, Fault::TooDeep);
            }
        }
    }
}

#[test]
fn deep_bodies_do_not_reach_the_stack() {
    let limits = Limits { max_bytes: 10 << 20, max_depth: usize::MAX, ..LIMITS };
    let deep = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
    for limits in [&limits, &LIMITS] {
        for outcome in [
            Edit::merge_patch(deep.as_bytes(), limits).map(drop),
            Edit::shallow_merge(deep.as_bytes(), "/metadata", limits).map(drop),
            Edit::operations(deep.as_bytes(), limits).map(drop),
            Edit::json_patch(deep.as_bytes(), limits).map(drop),
            parse_object(deep.as_bytes(), "/data", limits).map(drop),
        ] {
            let fault = refused(outcome).0;
            assert!(matches!(fault, Fault::TooDeep | Fault::TooLarge), "{fault:?}");
        }
    }
}

#[test]
fn numbers_survive_every_edit() {
    let data = r#"{"a":9007199254740993,"b":18446744073709551615,"c":-9223372036854775808,"d":1.0,"e":0.1}"#;
    let edits = [
        Edit::merge_patch(b"{\"x\":null}", &LIMITS),
        Edit::shallow_merge(b"{}", "", &LIMITS),
        Edit::json_patch(br#"[{"op":"copy","from":"/a","path":"/x"},{"op":"remove","path":"/x"}]"#, &LIMITS),
        Edit::operations(br#"{"operations":[{"op":"increment","path":"/a","by":0}]}"#, &LIMITS),
    ];
    for edit in edits {
        assert_eq!(&*edit.unwrap().apply(data, &LIMITS, None).unwrap(), data);
    }
}

#[test]
fn a_broken_store_is_told_not_panicked_at() {
    let edit = Edit::merge_patch(b"{}", &LIMITS).unwrap();
    for current in ["", "[]", "{", "{\"a\":1,\"a\":2}"] {
        assert!(edit.apply(current, &LIMITS, None).is_err());
    }
}

#[test]
fn errors_read_well() {
    let e = parse_object(b"{\"a\":01}", "/data", &LIMITS).unwrap_err();
    let text = r#"malformed_json at "/data": The text is not JSON: a comma or the object's end is expected (byte 6)."#;
    assert_eq!(e.to_string(), text);
}

#[test]
fn codes_are_distinct() {
    use Fault::*;
    let all = [
        Malformed,
        DuplicateMember,
        NotAnObject,
        InvalidOperation,
        InvalidPath,
        NumberOutOfRange,
        NulCharacter,
        ReservedKey,
        TooDeep,
        TooLarge,
        TooManyOperations,
        TypeMismatch,
        TestFailed,
        PathNotFound,
        Schema,
    ];
    let codes: std::collections::HashSet<_> = all.iter().map(|fault| fault.code()).collect();
    assert_eq!(codes.len(), all.len());
}

/// Arbitrary JSON, with what is refused among it.
fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c\\u0000é~/]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((name(), inner), 0..5)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![20 => "[a-c]", 2 => "[0-2~/-]", 2 => any::<String>(), 1 => Just("__proto__".to_owned())]
}

fn members() -> impl Strategy<Value = Map<String, Value>> {
    prop::collection::vec((name(), json_value()), 0..5).prop_map(|members| members.into_iter().collect())
}

/// A profile as it could be stored.
fn stored() -> impl Strategy<Value = Box<str>> {
    members().prop_filter_map("refused", |members| {
        parse_object(Value::Object(members).to_string().as_bytes(), "", &LIMITS).ok()
    })
}

fn operation() -> impl Strategy<Value = Value> {
    let ops = prop::sample::select(vec![
        "set",
        "unset",
        "increment",
        "min",
        "max",
        "add_to_set",
        "remove_from_set",
        "append",
        "test",
        "add",
        "remove",
        "replace",
        "move",
        "copy",
    ]);
    let pointer = "(/[a-c0-2-]){0,3}";
    let operand = prop_oneof![json_value(), any::<i64>().prop_map(Value::from)];
    (ops, pointer, pointer, operand).prop_map(|(op, path, from, operand)| match op {
        "unset" | "remove" => json!({"op": op, "path": path}),
        "increment" => json!({"op": op, "path": path, "by": operand}),
        "move" | "copy" => json!({"op": op, "path": path, "from": from}),
        _ => json!({"op": op, "path": path, "value": operand}),
    })
}

fn body() -> impl Strategy<Value = String> {
    let operations = prop::collection::vec(operation(), 0..6);
    prop_oneof![
        3 => operations.prop_map(|operations| json!({"operations": operations}).to_string()),
        3 => prop::collection::vec(operation(), 0..6).prop_map(|operations| json!(operations).to_string()),
        3 => members().prop_map(|members| Value::Object(members).to_string()),
        1 => json_value().prop_map(|value| value.to_string()),
        1 => any::<String>(),
    ]
}

fn edits(body: &[u8], limits: &Limits) -> [Result<Edit, EditError>; 4] {
    [
        Edit::merge_patch(body, limits),
        Edit::json_patch(body, limits),
        Edit::operations(body, limits),
        Edit::shallow_merge(body, "/metadata", limits),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn parse_object_is_a_fixed_point(members in members()) {
        if let Ok(once) = parse_object(Value::Object(members).to_string().as_bytes(), "", &LIMITS) {
            prop_assert_eq!(&parse_object(once.as_bytes(), "", &LIMITS).unwrap(), &once);
            prop_assert!(serde_json::from_str::<Value>(&once).is_ok());
        }
    }

    #[test]
    fn nothing_panics(body in prop::collection::vec(any::<u8>(), 0..100), current in any::<String>()) {
        for edit in edits(&body, &LIMITS).into_iter().flatten() {
            let _ = edit.apply(&current, &LIMITS, None);
        }
    }

    /// Whatever the request: the outcome is a profile within the limits, again and again, and never another.
    #[test]
    fn outcomes_are_profiles(current in stored(), body in body(), max_bytes in 2..400_usize, max_depth in 1..5_usize) {
        let limits = Limits { max_bytes, max_depth, max_list: 4, ..LIMITS };
        for edit in edits(body.as_bytes(), &LIMITS).into_iter().flatten() {
            let outcome = edit.apply(&current, &limits, None);
            prop_assert_eq!(&edit.clone().apply(&current, &limits, None), &outcome);
            if let Ok(text) = outcome {
                let again = parse_object(text.as_bytes(), "", &limits);
                prop_assert_eq!(again, Ok(text));
            }
        }
    }

    #[test]
    fn merges_are_idempotent(current in stored(), patch in stored()) {
        for edit in [
            Edit::merge_patch(patch.as_bytes(), &LIMITS).unwrap(),
            Edit::shallow_merge(patch.as_bytes(), "", &LIMITS).unwrap(),
        ] {
            let once = edit.apply(&current, &LIMITS, None).unwrap();
            prop_assert_eq!(&edit.apply(&once, &LIMITS, None).unwrap(), &once);
        }
    }

    #[test]
    fn increments_commute(start in any::<i32>(), steps in prop::collection::vec(any::<i32>(), 0..8)) {
        let run = |steps: Vec<i32>| {
            let operations: Vec<_> =
                steps.iter().map(|by| json!({"op": "increment", "path": "/n/m", "by": by})).collect();
            let body = json!({"operations": operations}).to_string();
            let current = json!({"n": {"m": start}}).to_string();
            Edit::operations(body.as_bytes(), &LIMITS).unwrap().apply(&current, &LIMITS, None).unwrap()
        };
        let mut other = steps.clone();
        other.reverse();
        other.rotate_left(steps.len() / 2);
        let sum = i64::from(start) + steps.iter().map(|n| i64::from(*n)).sum::<i64>();
        prop_assert_eq!(&*run(steps.clone()), json!({"n": {"m": sum}}).to_string());
        prop_assert_eq!(run(steps), run(other));
    }

    #[test]
    fn sets_have_no_duplicates_and_do_not_care_about_repeats(values in prop::collection::vec(-3..3_i32, 0..12)) {
        let operations: Vec<_> =
            values.iter().map(|v| json!({"op": "add_to_set", "path": "/s", "value": v})).collect();
        let edit = Edit::operations(json!({"operations": operations}).to_string().as_bytes(), &LIMITS).unwrap();
        let once = edit.apply("{}", &LIMITS, None).unwrap();
        prop_assert_eq!(&edit.apply(&once, &LIMITS, None).unwrap(), &once);
        let found: Value = serde_json::from_str(&once).unwrap();
        let distinct: std::collections::HashSet<_> = values.iter().collect();
        prop_assert_eq!(found["s"].as_array().map_or(0, Vec::len), distinct.len());
    }

    /// A batch is the operations one after the other, or nothing.
    #[test]
    fn batches_are_all_or_nothing(current in stored(), operations in prop::collection::vec(operation(), 0..6)) {
        let apply = |operations: &[Value], current: &str| {
            Edit::operations(json!({"operations": operations}).to_string().as_bytes(), &LIMITS)
                .and_then(|edit| edit.apply(current, &LIMITS, None))
        };
        let mut text = current.clone();
        let mut one_by_one = Ok(());
        for operation in &operations {
            match apply(std::slice::from_ref(operation), &text) {
                Ok(next) => text = next,
                Err(e) => {
                    one_by_one = Err(e.fault);
                    break;
                }
            }
        }
        let batch = apply(&operations, &current);
        // The batch's syntax is checked before anything is done, so it may fail for a later reason.
        match batch {
            Ok(outcome) => {
                prop_assert!(one_by_one.is_ok());
                prop_assert_eq!(outcome, text);
            }
            Err(_) => prop_assert!(one_by_one.is_err()),
        }
    }
}
