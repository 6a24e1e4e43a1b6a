//! Properties of arbitrary data under arbitrary policies.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::{
    tests::{LIMITS, at, one, policies, run},
    *,
};
use crate::profile::{Edit, Fault, parse_object, read_stored, same};

fn name() -> impl Strategy<Value = String> {
    prop_oneof![12 => "[a-c]", 1 => "[~/é]{1,2}", 1 => Just(String::new())]
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => Just(Value::Null),
        1 => any::<bool>().prop_map(Value::from),
        4 => (-3..4_i64).prop_map(Value::from),
        1 => (-3..4_i8).prop_map(|n| Value::from(f64::from(n))),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<f64>().prop_map(Value::from),
        2 => "[a-cé~/]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 30, 4, |inner| {
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            2 => prop::collection::vec((name(), inner), 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// A profile as it could be stored.
fn stored() -> impl Strategy<Value = Box<str>> {
    prop::collection::vec((name(), json_value()), 0..5).prop_map(|members| {
        let members = Value::Object(members.into_iter().collect()).to_string();
        parse_object(members.as_bytes(), "", &LIMITS).unwrap()
    })
}

fn any_policies() -> impl Strategy<Value = Policies> {
    let whole = prop::sample::select(vec!["deep", "keep_account", "keep_guest", "newest", "discard"]);
    let policy = prop::sample::select(vec![
        "deep",
        "keep_account",
        "keep_guest",
        "newest",
        "sum",
        "max",
        "min",
        "union",
        "concat",
    ]);
    (whole, prop::collection::btree_map("(/[a-c]){1,3}", (policy, 1..6_u64), 0..5)).prop_map(|(whole, list)| {
        let list = list.into_iter().map(|(path, (policy, limit))| {
            let policy = Policy::parse(policy).unwrap();
            (path, policy, (policy == Policy::Concat && limit < 5).then_some(limit))
        });
        Policies::new(Whole::parse(whole).unwrap(), list).unwrap()
    })
}

fn read(text: &str) -> Value {
    Value::Object(read_stored(text).unwrap())
}

fn pointer(steps: &[String]) -> String {
    steps.iter().flat_map(|step| ["/".to_owned(), step.replace('~', "~0").replace('/', "~1")]).collect()
}

fn text(value: &Value) -> Box<str> {
    value.to_string().into()
}

/// Every path that ends in something else than an object with members, of one value or through objects of two.
fn leaves<'v>(a: Option<&'v Value>, b: Option<&'v Value>, found: &mut Vec<(Vec<String>, [Option<&'v Value>; 2])>) {
    fn walk<'v>(
        at: &mut Vec<String>,
        a: Option<&'v Value>,
        b: Option<&'v Value>,
        found: &mut Vec<(Vec<String>, [Option<&'v Value>; 2])>,
    ) {
        let members = |v: Option<&'v Value>| v.and_then(Value::as_object);
        if (members(a).is_some() || a.is_none()) && (members(b).is_some() || b.is_none()) {
            let names = |v| members(v).into_iter().flat_map(Map::keys);
            let all: std::collections::BTreeSet<_> = names(a).chain(names(b)).collect();
            for name in all {
                at.push(name.clone());
                walk(at, members(a).and_then(|m| m.get(name)), members(b).and_then(|m| m.get(name)), found);
                at.pop();
            }
        } else {
            found.push((at.clone(), [a, b]));
        }
    }
    walk(&mut Vec::new(), a, b, found);
}

fn find<'v>(root: &'v Value, path: &[String]) -> Option<&'v Value> {
    path.iter().try_fold(root, |at, name| at.as_object()?.get(name))
}

/// What `sum` at every number must give; `None` where there is no such number.
fn sums(guest: &Value, account: &Value) -> Option<Value> {
    match (guest, account) {
        (Value::Object(g), Value::Object(a)) => {
            let mut outcome = Map::new();
            for (name, a) in a {
                outcome.insert(name.clone(), g.get(name).map_or(Some(a.clone()), |g| sums(g, a))?);
            }
            outcome.extend(g.iter().filter(|(name, _)| !a.contains_key(*name)).map(|(n, v)| (n.clone(), v.clone())));
            Some(Value::Object(outcome))
        }
        (Value::Number(g), Value::Number(a)) => {
            let sum = i64::try_from(g.as_i128()? + a.as_i128()?).ok()?;
            Some(Value::from(sum))
        }
        _ => Some(account.clone()),
    }
}

/// Data with integers alone, of which many are at the ends of 64 bits.
fn integers() -> impl Strategy<Value = Box<str>> {
    let leaf = prop_oneof![
        6 => any::<i32>().prop_map(Value::from),
        1 => (i64::MAX - 2..=i64::MAX).prop_map(Value::from),
        1 => (9_007_199_254_740_990..9_007_199_254_740_999_i64).prop_map(Value::from),
        1 => Just(Value::from(u64::MAX)),
        1 => Just(Value::from(i64::MIN)),
        1 => Just(Value::from("text")),
    ];
    let value = leaf.prop_recursive(3, 12, 3, |inner| {
        prop::collection::vec(("[a-c]", inner), 0..3).prop_map(|members| Value::Object(members.into_iter().collect()))
    });
    prop::collection::vec(("[a-d]", value), 0..4)
        .prop_map(|members| Value::Object(members.into_iter().collect()).to_string().into())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Whatever the policies: a profile within the limits, the same every time, and conflicts that tell the truth.
    #[test]
    fn outcomes_are_profiles(guest in stored(), account in stored(), policies in any_policies(), updated in 9..12_i64) {
        let outcome = at(updated, &guest, &account, &policies);
        prop_assert_eq!(&outcome, &at(updated, &guest, &account, &policies));
        match outcome {
            Err(e) => prop_assert!(e.fault == Fault::NumberOutOfRange && !e.field.is_empty(), "{}", e),
            Ok(merged) => {
                prop_assert_eq!(&*parse_object(merged.data.as_bytes(), "", &LIMITS).unwrap(), &*merged.data);
                prop_assert_eq!(merged.changed, merged.data != account);
                let (g, a) = (read(&guest), read(&account));
                let mut last = None;
                for c in &merged.conflicts {
                    prop_assert_eq!(g.pointer(&c.path).map(text), Some(c.guest.clone()));
                    prop_assert_eq!(a.pointer(&c.path).map(text), Some(c.account.clone()));
                    prop_assert!(!same(g.pointer(&c.path).unwrap(), a.pointer(&c.path).unwrap()));
                    prop_assert!(last != Some(&c.path));
                    last = Some(&c.path);
                }
            }
        }
    }

    /// The members of both are there, and every value of the account; what the guest's lost is told.
    #[test]
    fn deep_loses_nothing(guest in stored(), account in stored()) {
        let merged = run(&guest, &account, &Policies::default());
        let (g, a, outcome) = (read(&guest), read(&account), read(&merged.data));
        let mut found = Vec::new();
        leaves(Some(&a), None, &mut found);
        for (path, [value, _]) in found {
            prop_assert_eq!(find(&outcome, &path).map(Value::to_string), value.map(Value::to_string));
        }
        let mut found = Vec::new();
        leaves(Some(&g), None, &mut found);
        for (path, [value, _]) in found {
            let told = (1..=path.len()).any(|n| merged.conflicts.iter().any(|c| *c.path == *pointer(&path[..n])));
            let there = find(&outcome, &path);
            prop_assert!(told || there.zip(value).is_some_and(|(a, b)| same(a, b)), "{:?}", path);
        }
        // And no conflict but where both have different values that are not two objects.
        let mut found = Vec::new();
        leaves(Some(&g), Some(&a), &mut found);
        let different = found.iter().filter(|(_, v)| matches!(v, [Some(g), Some(a)] if !same(g, a)));
        prop_assert_eq!(merged.conflicts.len(), different.count());
        prop_assert!(merged.conflicts.iter().all(|c| c.kept == Kept::Account));
        // Again: nothing new comes.
        let again = run(&guest, &merged.data, &Policies::default());
        prop_assert_eq!((&again.data, again.changed), (&merged.data, false));
    }

    #[test]
    fn sums_are_exact(guest in integers(), account in integers()) {
        let roots = ["/a", "/b", "/c", "/d"].map(|path| (path, Policy::Sum, None));
        let outcome = at(0, &guest, &account, &policies(Whole::Deep, &roots));
        let expected = sums(&read(&guest), &read(&account)).ok_or(Fault::NumberOutOfRange);
        let outcome = outcome.map(|merged| String::from(merged.data)).map_err(|e| e.fault);
        prop_assert_eq!(outcome, expected.map(|sum| sum.to_string()));
    }

    #[test]
    fn two_numbers_add_up(a in any::<i64>(), b in any::<i64>()) {
        let sum = a.checked_add(b).map(|sum| (sum.to_string(), (a != b).then_some(Kept::Both)));
        prop_assert_eq!(one(Policy::Sum, None, &a.to_string(), &b.to_string()).ok(), sum);
    }

    /// A text merged with itself stays, to the byte, under all that neither adds nor appends; so does a repeat.
    #[test]
    fn repeats_change_nothing(guest in stored(), account in stored(), updated in 9..12_i64) {
        for (whole, policy) in [
            (Whole::Deep, Policy::Deep),
            (Whole::KeepAccount, Policy::KeepAccount),
            (Whole::KeepGuest, Policy::KeepGuest),
            (Whole::Newest, Policy::Newest),
            (Whole::Discard, Policy::Max),
            (Whole::Deep, Policy::Min),
            (Whole::Deep, Policy::Union),
        ] {
            let list = policies(whole, &["/a", "/b", "/c"].map(|path| (path, policy, None)));
            let merged = at(updated, &account, &account, &list).unwrap();
            prop_assert_eq!((&merged.data, merged.changed, merged.conflicts.len()), (&account, false, 0));
            let once = at(updated, &guest, &account, &list).unwrap();
            let twice = at(updated, &guest, &once.data, &list).unwrap();
            prop_assert_eq!((&twice.data, twice.changed), (&once.data, false));
        }
    }

    #[test]
    fn disjoint_data_comes_together(guest in stored(), account in stored(), policies in any_policies().prop_filter("takes nothing", |p| p.whole() != Whole::Discard)) {
        // The guest's names get a letter before them, so no policy and no member meets another.
        let Value::Object(members) = read(&guest) else { unreachable!("a profile is an object") };
        let guest: Map<_, _> = members.into_iter().map(|(name, value)| (format!("_{name}"), value)).collect();
        let merged = run(&Value::Object(guest.clone()).to_string(), &account, &policies);
        let Value::Object(mut all) = read(&account) else { unreachable!("a profile is an object") };
        all.extend(guest);
        prop_assert_eq!(&*merged.data, Value::Object(all).to_string());
        prop_assert!(merged.conflicts.is_empty());
    }

    /// Where nothing was written since, the text from before is back.
    #[test]
    fn undo_gives_the_bytes_back(guest in stored(), account in stored(), policies in any_policies()) {
        if let Ok(merged) = at(11, &guest, &account, &policies) {
            let undone = undo(&account, &merged.data, &merged.data).unwrap();
            prop_assert_eq!((&undone.data, undone.conflicts.len()), (&account, 0));
            // The long way leads there too: a stranger member beside it changes nothing for the others.
            let mut now = read(&merged.data);
            now["written since"] = json!(1);
            let undone = undo(&account, &merged.data, &now.to_string()).unwrap();
            let mut expected = read(&account);
            expected["written since"] = json!(1);
            prop_assert_eq!((&*undone.data, undone.conflicts.len()), (&*expected.to_string(), 0));
        }
    }

    /// Any three states: what was written since stays, what only the merge did is gone.
    #[test]
    fn undo_keeps_what_was_written_since(
        guest in stored(),
        account in stored(),
        policies in any_policies(),
        edits in prop::collection::vec(("(/[a-c]){1,3}", json_value(), any::<bool>()), 0..5),
    ) {
        let Ok(merged) = at(11, &guest, &account, &policies) else { return Ok(()) };
        let mut now = merged.data.clone();
        for (path, value, remove) in edits {
            let edit = if remove {
                json!({"operations": [{"op": "unset", "path": path}]})
            } else {
                json!({"operations": [{"op": "set", "path": path, "value": value}]})
            };
            let edit = Edit::operations(edit.to_string().as_bytes(), &LIMITS).unwrap();
            now = edit.apply(&now, &LIMITS, None).unwrap_or(now);
        }
        let undone = undo(&account, &merged.data, &now).unwrap();
        let (before, after, current, outcome) = (read(&account), read(&merged.data), read(&now), read(&undone.data));
        prop_assert_eq!(&*parse_object(undone.data.as_bytes(), "", &LIMITS).unwrap(), &*undone.data);
        let mut found = Vec::new();
        leaves(Some(&after), Some(&current), &mut found);
        let told = |path: &[String]| {
            undone.conflicts.iter().any(|c| {
                let steps: Vec<_> = c.path.split('/').skip(1).map(|s| s.replace("~1", "/").replace("~0", "~")).collect();
                path.starts_with(&steps)
            })
        };
        for (path, [after, current]) in found {
            let (was, is) = (find(&before, &path), find(&outcome, &path));
            if after == current {
                // Back as it was, unless something around it was told.
                prop_assert!(is == was || told(&path), "{:?}: {:?} {:?}", path, was, is);
            } else if current.is_some_and(|v| !v.is_object()) {
                prop_assert_eq!(is, current, "{:?}", path);
                prop_assert!(was == after || was == current || told(&path), "{:?}", path);
            } else if current.is_none() {
                prop_assert!(is.is_none(), "{:?}", path);
            }
        }
        for c in &undone.conflicts {
            prop_assert_eq!(current.pointer(&c.path).map(text), c.now.clone());
            prop_assert_eq!(before.pointer(&c.path).map(text), c.before.clone());
            prop_assert_eq!(outcome.pointer(&c.path), current.pointer(&c.path));
            let merged = after.pointer(&c.path);
            prop_assert!(merged != before.pointer(&c.path) && merged != current.pointer(&c.path));
        }
    }
}
