//! Of the whole algebra: each policy, pointers, limits, and the undo.

use serde_json::{Map, Value, json};

use super::*;
use crate::{
    Timestamp,
    profile::{EditError, Fault, Limits, parse_object},
};

pub(super) const LIMITS: Limits = Limits { max_bytes: 32 * 1024, max_depth: 16, max_operations: 64, max_list: 10_000 };

pub(super) type Listed<'a> = (&'a str, Policy, Option<u64>);

pub(super) fn policies(whole: Whole, list: &[Listed<'_>]) -> Policies {
    Policies::new(whole, list.iter().copied()).unwrap()
}

/// The account's data was changed at 10.
pub(super) fn at(guest_updated: i64, guest: &str, account: &str, policies: &Policies) -> Result<Merged, EditError> {
    let moment = Timestamp::from_millis;
    merge(guest, moment(guest_updated), account, moment(10), policies, &LIMITS)
}

pub(super) fn run(guest: &str, account: &str, policies: &Policies) -> Merged {
    at(10, guest, account, policies).unwrap()
}

/// Path, guest's value, account's value, kept.
type Row<'a> = (&'a str, &'a str, &'a str, Kept);

fn told(merged: &Merged) -> Vec<Row<'_>> {
    merged.conflicts.iter().map(|c| (&*c.path, &*c.guest, &*c.account, c.kept)).collect()
}

/// The outcome at `/v`, and what was told of it.
type Outcome<'a> = Result<(&'a str, Option<Kept>), Fault>;

/// One member `v` of both, under one policy for it: the outcome and what was kept.
pub(super) fn one(
    policy: Policy,
    limit: Option<u64>,
    guest: &str,
    account: &str,
) -> Result<(String, Option<Kept>), Fault> {
    let (theirs, ours) = (format!(r#"{{"v":{guest}}}"#), format!(r#"{{"v":{account}}}"#));
    let merged = at(10, &theirs, &ours, &policies(Whole::Deep, &[("/v", policy, limit)])).map_err(|e| {
        assert_eq!(e.field, "/v");
        e.fault
    })?;
    assert_eq!(merged.changed, merged.data[..] != ours);
    if let [conflict] = &merged.conflicts[..] {
        assert_eq!((&*conflict.path, &*conflict.guest, &*conflict.account), ("/v", guest, account));
    }
    Ok((merged.data[5..merged.data.len() - 1].to_owned(), merged.conflicts.first().map(|c| c.kept)))
}

#[test]
fn table() {
    use Kept::{Account, Both, Guest};
    use Policy::{Concat, Deep, KeepAccount, KeepGuest, Max, Min, Newest, Sum, Union};
    let (low, high) = ("-9223372036854775808", "18446744073709551615");
    let top = "9223372036854775807";
    let cases: &[(Policy, &str, &str, Outcome<'_>)] = &[
        (Deep, "2", "3", Ok(("3", Some(Account)))),
        (Deep, "[2]", "[3]", Ok(("[3]", Some(Account)))),
        (Deep, "{\"a\":1}", "[3]", Ok(("[3]", Some(Account)))),
        (Deep, "3.0", "3", Ok(("3", None))),
        (Deep, "0", "null", Ok(("null", Some(Account)))),
        (KeepAccount, "2", "3", Ok(("3", Some(Account)))),
        (KeepGuest, "2", "3", Ok(("2", Some(Guest)))),
        (KeepGuest, "3.0", "3", Ok(("3", None))),
        (KeepGuest, "null", "{\"a\":1}", Ok(("null", Some(Guest)))),
        (Newest, "2", "3", Ok(("3", Some(Account)))),
        (Sum, "2", "3", Ok(("5", Some(Both)))),
        (Sum, "2", "2", Ok(("4", None))),
        (Sum, "0.5", "2", Ok(("2.5", Some(Both)))),
        (Sum, "0.1", "0.2", Ok(("0.30000000000000004", Some(Both)))),
        (Sum, "1", "9007199254740992", Ok(("9007199254740993", Some(Both)))),
        (Sum, high, low, Ok((top, Some(Both)))),
        (Sum, "1", top, Err(Fault::NumberOutOfRange)),
        (Sum, "-1", low, Err(Fault::NumberOutOfRange)),
        (Sum, high, high, Err(Fault::NumberOutOfRange)),
        (Sum, "1.7e308", "1.7e308", Err(Fault::NumberOutOfRange)),
        (Sum, "0.5", "9007199254740993", Err(Fault::NumberOutOfRange)),
        (Sum, "\"2\"", "3", Ok(("3", Some(Account)))),
        (Sum, "2", "[3]", Ok(("[3]", Some(Account)))),
        (Sum, "[3]", "[3]", Ok(("[3]", None))),
        (Max, "2", "3", Ok(("3", Some(Account)))),
        (Max, "3", "2", Ok(("3", Some(Guest)))),
        (Max, "3.0", "3", Ok(("3", None))),
        (Max, high, top, Ok((high, Some(Guest)))),
        (Max, "9007199254740993", "9007199254740992.0", Ok(("9007199254740993", Some(Guest)))),
        (Max, "\"z\"", "3", Ok(("3", Some(Account)))),
        (Min, "2", "3", Ok(("2", Some(Guest)))),
        (Min, low, "-1e300", Ok(("-1e+300", Some(Account)))),
        (Min, "2", "null", Ok(("null", Some(Account)))),
        (Union, "[2,3,3,\"é\"]", "[1,2.0,1]", Ok(("[1,2.0,1,3,\"é\"]", Some(Both)))),
        (Union, "[{\"a\":1,\"b\":[2]}]", "[{\"b\":[2.0],\"a\":1}]", Ok(("[{\"b\":[2.0],\"a\":1}]", None))),
        (Union, "[2,1]", "[1,2]", Ok(("[1,2]", Some(Both)))),
        (Union, "2", "[1]", Ok(("[1]", Some(Account)))),
        (Union, "[1]", "2", Ok(("2", Some(Account)))),
        (Concat, "[1,2]", "[0,1]", Ok(("[0,1,1,2]", Some(Both)))),
        (Concat, "[1]", "[1]", Ok(("[1,1]", None))),
        (Concat, "{}", "[1]", Ok(("[1]", Some(Account)))),
    ];
    for (policy, guest, account, expected) in cases {
        // As they are stored.
        let stored = |value: &str| parse_object(format!(r#"{{"v":{value}}}"#).as_bytes(), "", &LIMITS).unwrap();
        let (guest, account) = (stored(guest), stored(account));
        let value = |text: &str| text[5..text.len() - 1].to_owned();
        let outcome = one(*policy, None, &value(&guest), &value(&account));
        assert_eq!(outcome, expected.map(|(text, kept)| (text.to_owned(), kept)), "{policy:?} {guest} {account}");
    }
}

#[test]
fn concat_keeps_the_last_items() {
    use Policy::Concat;
    let of = |limit, guest, account| one(Concat, Some(limit), guest, account).unwrap().0;
    assert_eq!(of(3, "[3,4]", "[1,2]"), "[2,3,4]");
    assert_eq!(of(1, "[3,4]", "[1,2]"), "[4]");
    assert_eq!(of(4, "[3,4]", "[1,2]"), "[1,2,3,4]");
    assert_eq!(of(1, "[]", "[1,2]"), "[1,2]");
    let limits = Limits { max_list: 3, ..LIMITS };
    let list = policies(Whole::Deep, &[("/v", Concat, None)]);
    let none = Timestamp::default();
    let merged = merge(r#"{"v":[3,4]}"#, none, r#"{"v":[1,2]}"#, none, &list, &limits).unwrap();
    assert_eq!(&*merged.data, r#"{"v":[2,3,4]}"#);
}

#[test]
fn what_one_side_has_not_comes_from_the_other() {
    let data = r#"{"o":{"n":1,"l":[1,2]},"s":"x","z":null}"#;
    for policy in ["deep", "keep_account", "keep_guest", "newest", "sum", "max", "min", "union", "concat"] {
        let policy = Policy::parse(policy).unwrap();
        let limit = (policy == Policy::Concat).then_some(1);
        let list = policies(Whole::Deep, &[("/o/n", policy, None), ("/o/l", policy, limit), ("/s", policy, None)]);
        for (guest, account) in [(data, "{}"), ("{}", data), (data, r#"{"o":{}}"#)] {
            let merged = run(guest, account, &list);
            assert_eq!((&*merged.data, merged.conflicts.len()), (data, 0), "{policy:?}");
            assert_eq!(merged.changed, account != data);
        }
    }
}

#[test]
fn deep_goes_through_objects_in_order() {
    let guest = r#"{"new":1,"o":{"y":[9],"x":8,"w":{}},"s":2}"#;
    let account = r#"{"s":1,"o":{"x":{"k":1},"v":3,"y":[9.0]},"t":[]}"#;
    let merged = run(guest, account, &Policies::default());
    assert_eq!(&*merged.data, r#"{"s":1,"o":{"x":{"k":1},"v":3,"y":[9.0],"w":{}},"t":[],"new":1}"#);
    assert_eq!(told(&merged), [("/s", "2", "1", Kept::Account), ("/o/x", "8", r#"{"k":1}"#, Kept::Account)]);
    assert!(merged.changed && !merged.more);
}

#[test]
fn the_whole() {
    let (guest, account) = (r#"{"a":2,"o":{"x":1},"g":1}"#, r#"{"a":1,"o":{"y":2},"h":1}"#);
    let of = |whole, guest_updated| at(guest_updated, guest, account, &policies(whole, &[])).unwrap();
    let ours = r#"{"a":1,"o":{"y":2},"h":1,"g":1}"#;
    let theirs = r#"{"a":2,"o":{"x":1},"h":1,"g":1}"#;
    for (whole, guest_updated, data, kept) in [
        (Whole::KeepAccount, 11, ours, Kept::Account),
        (Whole::KeepGuest, 9, theirs, Kept::Guest),
        (Whole::Newest, 9, ours, Kept::Account),
        (Whole::Newest, 10, ours, Kept::Account),
        (Whole::Newest, 11, theirs, Kept::Guest),
        (Whole::Discard, 11, account, Kept::Account),
        (Whole::Refuse, 11, account, Kept::Account),
    ] {
        let merged = of(whole, guest_updated);
        assert_eq!(&*merged.data, data, "{whole:?} {guest_updated}");
        assert_eq!(told(&merged), [("/a", "2", "1", kept), ("/o", r#"{"x":1}"#, r#"{"y":2}"#, kept)]);
        assert_eq!(merged.changed, data != account);
    }
}

#[test]
fn the_most_specific_pointer_decides() {
    use Policy::{Deep, KeepAccount, KeepGuest, Max, Sum};
    let guest = r#"{"s":{"n":2,"m":{"n":2,"k":"g"}},"n":2}"#;
    let account = r#"{"s":{"n":3,"m":{"n":3,"k":"a"}},"n":3}"#;
    let of = |list: &[Listed<'_>]| run(guest, account, &policies(Whole::Deep, list)).data;
    // A policy holds for what is under it.
    assert_eq!(&*of(&[("/s", Sum, None)]), r#"{"s":{"n":5,"m":{"n":5,"k":"a"}},"n":3}"#);
    assert_eq!(
        &*of(&[("/s/m", Deep, None), ("/s", Sum, None), ("/n", Sum, None)]),
        r#"{"s":{"n":5,"m":{"n":3,"k":"a"}},"n":5}"#
    );
    assert_eq!(
        &*of(&[("/s", KeepGuest, None), ("/s/m", KeepAccount, None), ("/s/m/n", Max, None)]),
        r#"{"s":{"n":2,"m":{"n":3,"k":"a"}},"n":3}"#
    );
    // A list's items have no policies.
    let list = policies(Whole::Deep, &[("/l/0", Sum, None)]);
    assert_eq!(&*run(r#"{"l":[1]}"#, r#"{"l":[2]}"#, &list).data, r#"{"l":[2]}"#);
}

#[test]
fn a_pointer_reaches_into_what_is_kept_as_a_whole() {
    use Policy::{KeepAccount, KeepGuest, Sum};
    // Nothing but the counter differs: that is the one conflict.
    let list = policies(Whole::KeepAccount, &[("/s/views", Sum, None)]);
    let merged = run(r#"{"s":{"views":2,"x":1}}"#, r#"{"s":{"x":1.0,"views":3}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"x":1.0,"views":5}}"#);
    assert_eq!(told(&merged), [("/s/views", "2", "3", Kept::Both)]);
    // What is lost with the rest is told as a whole.
    let merged = run(r#"{"s":{"views":2,"y":1}}"#, r#"{"s":{"x":1,"views":3}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"x":1,"views":5}}"#);
    let whole = ("/s", r#"{"views":2,"y":1}"#, r#"{"x":1,"views":3}"#, Kept::Account);
    assert_eq!(told(&merged), [whole, ("/s/views", "2", "3", Kept::Both)]);
    // Of what is not taken, what the pointer names is.
    let discard = policies(Whole::Discard, &[("/s/t/views", Sum, None), ("/n", KeepGuest, None)]);
    let merged = run(r#"{"s":{"t":{"views":2,"x":1},"u":1},"n":1,"m":1}"#, r#"{"k":1}"#, &discard);
    assert_eq!(&*merged.data, r#"{"k":1,"s":{"t":{"views":2}},"n":1}"#);
    assert_eq!(&*run(r#"{"s":{"t":{"x":1}}}"#, r#"{"k":1}"#, &discard).data, r#"{"k":1}"#);
    assert_eq!(&*run(r#"{"s":{"t":5}}"#, "{}", &discard).data, "{}");
    // The other way round: the account's counter survives the guest's whole.
    let list = policies(Whole::Deep, &[("/s", KeepGuest, None), ("/s/t/views", KeepAccount, None)]);
    let merged = run(r#"{"s":{"x":1}}"#, r#"{"s":{"t":{"views":3,"z":1},"x":2}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"t":{"views":3},"x":1}}"#);
    // A value on the way ends it.
    let merged = run(r#"{"s":{"t":4}}"#, r#"{"s":{"t":{"views":3}}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"t":4}}"#);
    assert_eq!(told(&merged), [("/s", r#"{"t":4}"#, r#"{"t":{"views":3}}"#, Kept::Guest)]);
    // Where only the counter is missing on the other side nothing is lost; an empty object is something.
    let merged = run(r#"{"s":{"x":1}}"#, r#"{"s":{"x":1,"t":{"views":3}}}"#, &list);
    assert_eq!((merged.changed, told(&merged).len()), (false, 0));
    let merged = run(r#"{"s":{"x":1}}"#, r#"{"s":{"x":1,"t":{}}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"x":1}}"#);
    assert_eq!(told(&merged), [("/s", r#"{"x":1}"#, r#"{"x":1,"t":{}}"#, Kept::Guest)]);
    let merged = run(r#"{"s":{"t":{}}}"#, r#"{"s":{"x":1}}"#, &list);
    assert_eq!(&*merged.data, r#"{"s":{"t":{}}}"#);
}

#[test]
fn names_are_escaped() {
    let list = policies(Whole::Deep, &[("/a~1b/~0~01/é", Policy::Sum, None), ("/", Policy::Sum, None)]);
    let guest = r#"{"a/b":{"~~1":{"é":2}},"":1,"a":{"b":1}}"#;
    let merged = run(guest, r#"{"a/b":{"~~1":{"é":3}},"":2,"a":{"b":2}}"#, &list);
    assert_eq!(&*merged.data, r#"{"a/b":{"~~1":{"é":5}},"":3,"a":{"b":2}}"#);
    let paths: Vec<_> = merged.conflicts.iter().map(|c| &*c.path).collect();
    assert_eq!(paths, ["/a~1b/~0~01/é", "/", "/a/b"]);
}

#[test]
fn limits_are_named() {
    let none = Timestamp::default();
    let fails = |guest: &str, account: &str, list: &[Listed<'_>], limits: &Limits| {
        let e = merge(guest, none, account, none, &policies(Whole::Deep, list), limits).unwrap_err();
        (e.fault, e.field, e.detail)
    };
    let limits = Limits { max_bytes: 14, max_depth: 2, max_list: 2, ..LIMITS };
    let (fault, field, detail) = fails(r#"{"a":12}"#, r#"{"b":345}"#, &[], &limits);
    assert_eq!((fault, &*field), (Fault::TooLarge, ""));
    assert!(detail.contains("16 bytes; 14"), "{detail}");
    let (fault, field, detail) = fails(r#"{"a":[[]]}"#, "{}", &[], &limits);
    assert_eq!((fault, &*field), (Fault::TooDeep, ""));
    assert!(detail.contains("2 levels"), "{detail}");
    assert!(merge(r#"{"a":[]}"#, none, "{}", none, &Policies::default(), &limits).is_ok());
    let union = [("/a", Policy::Union, None)];
    let (fault, field, detail) = fails(r#"{"a":[1,2]}"#, r#"{"a":[3]}"#, &union, &limits);
    assert_eq!((fault, &*field), (Fault::TooLarge, "/a"));
    assert!(detail.contains("3 items") && detail.contains("2 are"), "{detail}");
    // What was there before the limits were lowered may stay.
    let old = r#"{"a":[[],1,2,3,4,5,6]}"#;
    for guest in ["{}", r#"{"a":[4,4]}"#, old] {
        let merged = merge(guest, none, old, none, &policies(Whole::Deep, &union), &limits).unwrap();
        assert_eq!((&*merged.data, merged.changed), (old, false));
    }
}

#[test]
fn conflicts_are_bounded() {
    let members = |n: usize, value: u8| {
        let members: Map<_, _> = (0..n).map(|i| (format!("k{i}"), json!(value))).collect();
        Value::Object(members).to_string()
    };
    for n in [MAX_LISTED, MAX_LISTED + 1] {
        let merged = run(&members(n, 1), &members(n, 2), &Policies::default());
        assert_eq!((merged.conflicts.len(), merged.more), (MAX_LISTED, n > MAX_LISTED));
        assert!(!merged.changed);
        let undone = undo(&members(n, 1), &members(n, 2), &members(n, 3)).unwrap();
        assert_eq!((undone.conflicts.len(), undone.more), (MAX_LISTED, n > MAX_LISTED));
    }
    // A long name before many members is not repeated for each.
    let long = |value: u8| format!(r#"{{"{}":{}}}"#, "n".repeat(16_000), members(900, value));
    let (guest, account) = (long(1), long(2));
    let merged = run(&guest, &account, &Policies::default());
    assert!(merged.more && !merged.conflicts.is_empty());
    let bytes: usize = merged.conflicts.iter().map(|c| c.path.len() + c.guest.len() + c.account.len()).sum();
    assert!(bytes <= 4 * (guest.len() + account.len()), "{bytes}");
}

#[test]
fn hostile_texts_are_refused() {
    let deep = format!(r#"{{"a":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
    for text in ["", "[]", "{", r#"{"a":1,"a":2}"#, r#"{"__proto__":{"x":1}}"#, r#"{"a":{"constructor":1}}"#, &deep] {
        assert!(at(0, text, "{}", &Policies::default()).is_err(), "{text:.20}");
        assert!(at(0, "{}", text, &Policies::default()).is_err(), "{text:.20}");
        assert!(undo(text, "{}", r#"{"b":1}"#).is_err(), "{text:.20}");
        assert!(undo("{}", text, r#"{"b":1}"#).is_err(), "{text:.20}");
        assert!(undo("{}", "{}", text).is_err(), "{text:.20}");
    }
}

#[test]
fn two_long_lists_are_united_in_linear_time() {
    let list = |item: &str| format!(r#"{{"l":[{}]}}"#, vec![item; 200_000].join(","));
    let limits = Limits { max_bytes: 1 << 20, max_list: 1_000_000, ..LIMITS };
    let none = Timestamp::default();
    let union = policies(Whole::Deep, &[("/l", Policy::Union, None)]);
    // 200 000 times 200 000 comparisons would take minutes.
    let merged = merge(&list("7"), none, &list("1"), none, &union, &limits).unwrap();
    assert_eq!(merged.data.len(), list("1").len() + 2);
}

#[test]
fn undo_of_each_kind_of_change() {
    type Told<'a> = &'a [(&'a str, Option<&'a str>, Option<&'a str>)];
    let cases: &[(&str, &str, &str, &str, Told<'_>)] = &[
        // before, after, now, outcome, told
        (r#"{"a":3}"#, r#"{"a":5}"#, r#"{"a":5,"b":1}"#, r#"{"a":3,"b":1}"#, &[]),
        (r#"{"a":3}"#, r#"{"a":5}"#, r#"{"a":6}"#, r#"{"a":6}"#, &[("/a", Some("3"), Some("6"))]),
        (r#"{"a":3}"#, r#"{"a":5}"#, "{}", "{}", &[("/a", Some("3"), None)]),
        (r#"{"a":3}"#, r#"{"a":5}"#, r#"{"a":3}"#, r#"{"a":3}"#, &[]),
        // came with the merge
        ("{}", r#"{"a":1,"b":2}"#, r#"{"a":1,"b":3}"#, r#"{"b":3}"#, &[("/b", None, Some("3"))]),
        ("{}", r#"{"a":1}"#, r#"{"c":1}"#, r#"{"c":1}"#, &[]),
        ("{}", r#"{"o":{"x":1,"y":1}}"#, r#"{"o":{"x":1,"y":1,"z":2}}"#, r#"{"o":{"z":2}}"#, &[]),
        ("{}", r#"{"o":{"x":1,"y":1}}"#, r#"{"o":{"x":1}}"#, "{}", &[]),
        (r#"{"o":{}}"#, r#"{"o":{"x":1}}"#, r#"{"o":{},"k":1}"#, r#"{"o":{},"k":1}"#, &[]),
        // went with the merge, as under keep_guest
        (r#"{"o":{"x":1}}"#, r#"{"o":{"y":1}}"#, r#"{"o":{"y":1,"z":1}}"#, r#"{"o":{"x":1,"z":1}}"#, &[]),
        (r#"{"o":{"x":1}}"#, r#"{"o":{}}"#, r#"{"o":{"x":2}}"#, r#"{"o":{"x":2}}"#, &[("/o/x", Some("1"), Some("2"))]),
        // lists and kinds are one value
        (
            r#"{"l":[1]}"#,
            r#"{"l":[1,2]}"#,
            r#"{"l":[1,2,3]}"#,
            r#"{"l":[1,2,3]}"#,
            &[("/l", Some("[1]"), Some("[1,2,3]"))],
        ),
        (
            r#"{"v":1}"#,
            r#"{"v":{"x":1}}"#,
            r#"{"v":{"x":2}}"#,
            r#"{"v":{"x":2}}"#,
            &[("/v", Some("1"), Some(r#"{"x":2}"#))],
        ),
        (r#"{"a~/":1}"#, r#"{"a~/":2}"#, r#"{"a~/":2.0}"#, r#"{"a~/":2.0}"#, &[("/a~0~1", Some("1"), Some("2.0"))]),
        // what the merge did not touch is no conflict, and order is as it was
        (r#"{"a":1,"b":1,"c":1}"#, r#"{"a":1,"b":2,"c":1}"#, r#"{"c":9,"b":2}"#, r#"{"b":1,"c":9}"#, &[]),
    ];
    for (before, after, now, outcome, told) in cases {
        let undone = undo(before, after, now).unwrap();
        assert_eq!(&*undone.data, *outcome, "{before} {after} {now}");
        let found: Vec<_> =
            undone.conflicts.iter().map(|c| (&*c.path, c.before.as_deref(), c.now.as_deref())).collect();
        assert_eq!(found, *told, "{before} {after} {now}");
        assert!(!undone.more);
    }
    // To the byte, however it was written.
    assert_eq!(&*undo(r#"{ "a": 1 }"#, r#"{"a":2}"#, r#"{"a":2}"#).unwrap().data, r#"{ "a": 1 }"#);
}
