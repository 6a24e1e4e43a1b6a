//! The merge of a guest's data into an account's, and what it tells.

use std::collections::HashSet;

use serde_json::{Map, Number, Value};

use super::{
    policy::{Node, Policies, Policy, Rule, Whole},
    report::{Path, Report},
};
use crate::{
    Timestamp,
    profile::{EditError, Fault, Limits, add, compare, depth, float, print, read_stored, same, size},
};

/// Whose value stands in the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kept {
    /// The guest's.
    Guest,
    /// The account's.
    Account,
    /// Something of both: a sum, or a list.
    Both,
}

impl Kept {
    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Account => "account",
            Self::Both => "both",
        }
    }
}

/// Both have a value at the path, and not the same one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Where: a JSON pointer (RFC 6901) into the data.
    pub path: Box<str>,
    /// The guest's value, JSON.
    pub guest: Box<str>,
    /// The account's value, JSON.
    pub account: Box<str>,
    /// What became of it.
    pub kept: Kept,
}

/// The outcome of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Merged {
    /// The account's data from now on: its members in their order, then the guest's new ones in theirs. Where nothing
    /// changes it is the account's text itself.
    pub data: Box<str>,
    /// Where both had values that differ, in the order of the data; at most [`super::MAX_LISTED`].
    pub conflicts: Vec<Conflict>,
    /// There are more conflicts than are listed.
    pub more: bool,
    /// The account's data is another than before.
    pub changed: bool,
}

/// Merges a guest's data into an account's; both texts are profiles as they are stored. The two moments are of the last
/// change of each and matter to `newest` alone. The same arguments give the same outcome.
///
/// # Errors
/// [`Fault::NumberOutOfRange`] with the path of a sum that is no 64-bit number, [`Fault::TooLarge`] with the path of a
/// list that a `union` would make longer than the limit or `""` for the whole, [`Fault::TooDeep`]. A fault of reading
/// only when a text was never given out by the profile's algebra. Where nothing changes, no limit is looked at.
pub fn merge(
    guest: &str,
    guest_updated: Timestamp,
    account: &str,
    account_updated: Timestamp,
    policies: &Policies,
    limits: &Limits,
) -> Result<Merged, EditError> {
    let (theirs, ours) = (read_stored(guest)?, read_stored(account)?);
    let mut walk = Walk {
        newest: if guest_updated > account_updated { Side::Guest } else { Side::Account },
        limits,
        path: Path::default(),
        conflicts: Report::new(guest.len() + account.len()),
    };
    let rule = |policy| Way::Rule(Rule { policy, limit: None });
    let (both, lone) = match policies.whole() {
        Whole::Deep => (rule(Policy::Deep), rule(Policy::Deep)),
        Whole::KeepAccount => (rule(Policy::KeepAccount), rule(Policy::KeepAccount)),
        Whole::KeepGuest => (rule(Policy::KeepGuest), rule(Policy::KeepGuest)),
        Whole::Newest => (rule(Policy::Newest), rule(Policy::Newest)),
        // What only the guest has is left out as silently as it came; what is lost of two values is told.
        Whole::Discard | Whole::Refuse => (rule(Policy::KeepAccount), Way::Within(Side::Account)),
    };
    let outcome = Value::Object(walk.members(Some(policies.tree()), [both, lone], &ours, &theirs)?);
    let (conflicts, more) = walk.conflicts.finish();
    if outcome == Value::Object(ours) {
        return Ok(Merged { data: account.into(), conflicts, more, changed: false });
    }
    if depth(&outcome) > limits.depth() {
        let detail = format!("The merged data would be nested too deep; {} levels are allowed.", limits.depth());
        return Err(EditError::new(Fault::TooDeep, "", detail));
    }
    Ok(Merged { data: print(&outcome, "", limits)?, conflicts, more, changed: true })
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Guest,
    Account,
}

impl Side {
    fn of<T>(self, account: T, guest: T) -> T {
        match self {
            Self::Account => account,
            Self::Guest => guest,
        }
    }

    fn kept(self) -> Kept {
        self.of(Kept::Account, Kept::Guest)
    }
}

/// What an upper pointer says of a place that has no policy of its own.
#[derive(Clone, Copy)]
enum Way {
    /// The rule holds here too.
    Rule(Rule),
    /// The place lies in a value that is taken from this side as a whole: what it has not is not there. Only a policy
    /// further down changes that.
    Within(Side),
}

struct Walk<'l> {
    newest: Side,
    limits: &'l Limits,
    path: Path,
    conflicts: Report<Conflict>,
}

impl Walk<'_> {
    fn conflict(&mut self, account: &Value, guest: &Value, kept: Kept) {
        let path = self.path.text();
        self.conflicts.add(path.len() + size(account) + size(guest), || Conflict {
            path: path.into(),
            guest: guest.to_string().into(),
            account: account.to_string().into(),
            kept,
        });
    }

    /// Members of two objects; `both` says what holds where both have one, `lone` where one has.
    fn members(
        &mut self,
        node: Option<&Node>,
        [both, lone]: [Way; 2],
        account: &Map<String, Value>,
        guest: &Map<String, Value>,
    ) -> Result<Map<String, Value>, EditError> {
        let mut outcome = Map::new();
        for name in account.keys().chain(guest.keys().filter(|name| !account.contains_key(*name))) {
            let (a, g) = (account.get(name), guest.get(name));
            let way = if a.is_some() && g.is_some() { both } else { lone };
            let under = node.and_then(|node| node.under.get(name.as_str()));
            let length = self.path.enter(name);
            if let Some(value) = self.member(under, way, a, g)? {
                outcome.insert(name.clone(), value);
            }
            self.path.leave(length);
        }
        Ok(outcome)
    }

    fn member(
        &mut self,
        node: Option<&Node>,
        way: Way,
        account: Option<&Value>,
        guest: Option<&Value>,
    ) -> Result<Option<Value>, EditError> {
        match node.and_then(|node| node.rule).map_or(way, Way::Rule) {
            Way::Within(side) => self.within(node, side, account, guest),
            Way::Rule(rule) => match (account, guest) {
                (Some(account), Some(guest)) => self.both(node, rule, account, guest),
                (one, other) => Ok(one.or(other).cloned()),
            },
        }
    }

    fn both(
        &mut self,
        node: Option<&Node>,
        rule: Rule,
        account: &Value,
        guest: &Value,
    ) -> Result<Option<Value>, EditError> {
        use Value::{Array, Number, Object};
        let side = match rule.policy {
            Policy::KeepAccount => Some(Side::Account),
            Policy::KeepGuest => Some(Side::Guest),
            Policy::Newest => Some(self.newest),
            _ => None,
        };
        if let Some(side) = side {
            // Of two values that are the same it is the account's that stays, to the byte.
            if !differs_apart(node, Some(account), Some(guest)) {
                return self.within(node, Side::Account, Some(account), Some(guest));
            }
            self.conflict(account, guest, side.kept());
            return self.within(node, side, Some(account), Some(guest));
        }
        let (value, kept) = match (rule.policy, account, guest) {
            (_, Object(account), Object(guest)) => {
                let way = Way::Rule(rule);
                return self.members(node, [way, way], account, guest).map(|outcome| Some(Object(outcome)));
            }
            (Policy::Sum, Number(a), Number(g)) => (Number(self.sum(a, g)?), Kept::Both),
            (Policy::Max, Number(a), Number(g)) if compare(g, a).is_gt() => (guest.clone(), Kept::Guest),
            (Policy::Min, Number(a), Number(g)) if compare(g, a).is_lt() => (guest.clone(), Kept::Guest),
            (Policy::Union, Array(a), Array(g)) => (Array(self.union(a, g)?), Kept::Both),
            (Policy::Concat, Array(a), Array(g)) => (Array(self.concat(a, g, rule.limit)), Kept::Both),
            _ => (account.clone(), Kept::Account),
        };
        if !same(account, guest) {
            self.conflict(account, guest, kept);
        }
        Ok(Some(value))
    }

    /// What `side` has, but for what a policy further down says.
    fn within(
        &mut self,
        node: Option<&Node>,
        side: Side,
        account: Option<&Value>,
        guest: Option<&Value>,
    ) -> Result<Option<Value>, EditError> {
        let taken = side.of(account, guest);
        let Some(node) = node.filter(|node| !node.under.is_empty()) else { return Ok(taken.cloned()) };
        let nothing = Map::new();
        let (ours, theirs) = match (account, guest) {
            (Some(Value::Object(ours)), Some(Value::Object(theirs))) => (ours, theirs),
            // The other side may have what a policy below takes.
            (Some(Value::Object(ours)), None) if taken.is_none() => (ours, &nothing),
            (None, Some(Value::Object(theirs))) if taken.is_none() => (&nothing, theirs),
            _ => return Ok(taken.cloned()),
        };
        let way = Way::Within(side);
        let outcome = self.members(Some(node), [way, way], ours, theirs)?;
        Ok((taken.is_some() || !outcome.is_empty()).then_some(Value::Object(outcome)))
    }

    fn sum(&self, account: &Number, guest: &Number) -> Result<Number, EditError> {
        add(account, guest).map_err(|fault| {
            let detail = "The guest's number and the account's have no exact sum within a signed integer of 64 bits, \
                or a finite float.";
            EditError::new(fault, self.path.field(), detail)
        })
    }

    fn union(&self, account: &[Value], guest: &[Value]) -> Result<Vec<Value>, EditError> {
        // By hash: comparing each with each would let two long lists hold a processor for seconds.
        let mut known: HashSet<String> = account.iter().map(by_value).collect();
        let mut items = account.to_vec();
        items.extend(guest.iter().filter(|item| known.insert(by_value(item))).cloned());
        let max = self.limits.max_list;
        if items.len() > account.len().max(max) {
            let detail = format!("The two lists would have {} items together; {max} are allowed.", items.len());
            return Err(EditError::new(Fault::TooLarge, self.path.field(), detail));
        }
        Ok(items)
    }

    fn concat(&self, account: &[Value], guest: &[Value], limit: Option<usize>) -> Vec<Value> {
        // A list that nothing comes to is not shortened either.
        if guest.is_empty() {
            return account.to_vec();
        }
        let limit = limit.unwrap_or(usize::MAX).min(self.limits.max_list);
        let first = (account.len() + guest.len()).saturating_sub(limit);
        account.iter().chain(guest).skip(first).cloned().collect()
    }
}

/// Whether two values differ anywhere but where a policy further down decides.
fn differs_apart(node: Option<&Node>, a: Option<&Value>, b: Option<&Value>) -> bool {
    let nothing = Map::new();
    let node = node.filter(|node| !node.under.is_empty());
    let (a, b) = match (node, a, b) {
        (_, None, None) => return false,
        (Some(_), Some(Value::Object(a)), Some(Value::Object(b))) => (a, b),
        (Some(_), Some(Value::Object(one)), None) | (Some(_), None, Some(Value::Object(one))) if !one.is_empty() => {
            (one, &nothing)
        }
        (_, Some(a), Some(b)) => return !same(a, b),
        _ => return true,
    };
    a.keys().chain(b.keys().filter(|name| !a.contains_key(*name))).any(|name| {
        let under = node.and_then(|node| node.under.get(name.as_str()));
        under.is_none_or(|under| under.rule.is_none()) && differs_apart(under, a.get(name), b.get(name))
    })
}

/// A text that two values share exactly when they are the same by value ([`same`]).
fn by_value(value: &Value) -> String {
    fn write(value: &Value, out: &mut String) {
        match value {
            Value::Number(number) => {
                let f = float(number);
                match number.as_i128() {
                    Some(n) => out.push_str(&n.to_string()),
                    // Beyond it no integer can be the same; the cast is exact below.
                    None if f.fract() == 0.0 && f.abs() < 1e30 => out.push_str(&(f as i128).to_string()),
                    None => out.push_str(&number.to_string()),
                }
            }
            Value::Array(items) => {
                out.push('[');
                for item in items {
                    write(item, out);
                    out.push(',');
                }
                out.push(']');
            }
            Value::Object(members) => {
                let mut members: Vec<_> = members.iter().collect();
                members.sort_unstable_by_key(|(name, _)| *name);
                out.push('{');
                for (name, value) in members {
                    write(&Value::from(name.as_str()), out);
                    out.push(':');
                    write(value, out);
                    out.push(',');
                }
                out.push('}');
            }
            scalar => out.push_str(&scalar.to_string()),
        }
    }
    let mut out = String::new();
    write(value, &mut out);
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (-2..3_i64).prop_map(Value::from),
            (-2..3_i8).prop_map(|n| Value::from(f64::from(n) / 2.0)),
            any::<f64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<u64>().prop_map(|n| Value::from(n as f64)),
            "[\"1,:]{0,2}".prop_map(Value::from),
        ];
        leaf.prop_recursive(2, 8, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::vec(("[ab\",:]{0,1}", inner), 0..3)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_text_by_value_is_equality(a in any_value(), b in any_value()) {
            prop_assert_eq!(by_value(&a) == by_value(&b), same(&a, &b), "{} {}", a, b);
        }
    }

    #[test]
    fn the_text_by_value_at_the_edges() {
        for (a, b, equal) in [
            (json!(1), json!(1.0), true),
            (json!(0), json!(-0.0), true),
            (json!(u64::MAX), json!(18_446_744_073_709_551_616.0), false),
            (json!(i64::MIN), json!(-9_223_372_036_854_775_808.0), true),
            (json!(9_007_199_254_740_993_u64), json!(9_007_199_254_740_992.0), false),
            (json!(1e300), json!(1e300), true),
            (json!(1e30), json!(1e29), false),
            (json!(["1,"]), json!(["1", ""]), false),
            (json!("1"), json!(1), false),
            (json!({"a": 1, "b": [2.0]}), json!({"b": [2], "a": 1.0}), true),
        ] {
            assert_eq!((by_value(&a) == by_value(&b), same(&a, &b)), (equal, equal), "{a} {b}");
        }
    }
}
