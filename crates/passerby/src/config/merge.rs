//! `[tenants.merge]`, and `merge` of a client: what becomes of a guest's data when the guest becomes part of an account.

use std::{sync::Arc, time::Duration};

use passerby_core::{
    merge::{Policies, Policy, Whole},
    settings::MergeRules,
};

use super::{
    At, Place, kind,
    read::{Fault, Section},
};

const WHOLE: &[(&str, Whole)] = &[
    ("deep", Whole::Deep),
    ("keep_account", Whole::KeepAccount),
    ("keep_guest", Whole::KeepGuest),
    ("newest", Whole::Newest),
    ("discard", Whole::Discard),
    ("refuse", Whole::Refuse),
];

const BY_PATH: &[(&str, Policy)] = &[
    ("deep", Policy::Deep),
    ("keep_account", Policy::KeepAccount),
    ("keep_guest", Policy::KeepGuest),
    ("newest", Policy::Newest),
    ("sum", Policy::Sum),
    ("max", Policy::Max),
    ("min", Policy::Min),
    ("union", Policy::Union),
    ("concat", Policy::Concat),
];

/// What was set; `None`: what the next wider level says.
#[derive(Debug, Clone, Default)]
pub struct MergeSettings {
    /// What becomes of the data.
    pub policies: Option<Policies>,
    /// The application confirms.
    pub confirm: Option<bool>,
    /// So long a merge may be undone.
    pub undo_window: Option<Duration>,
}

impl MergeSettings {
    /// What holds when `wider` holds around it.
    pub fn within(&self, wider: &Arc<MergeRules>) -> Arc<MergeRules> {
        if self.policies.is_none() && self.confirm.is_none() && self.undo_window.is_none() {
            return wider.clone();
        }
        Arc::new(MergeRules {
            policies: self.policies.clone().unwrap_or_else(|| wider.policies.clone()),
            confirm: self.confirm.unwrap_or(wider.confirm),
            undo_window: self.undo_window.unwrap_or(wider.undo_window),
        })
    }
}

pub(super) fn of_tenant(s: &mut Section<'_, '_>) -> MergeSettings {
    let most = Duration::from_hours(90 * 24);
    MergeSettings {
        policies: policies(s),
        confirm: s.flag("confirm").map(|x| x.value),
        undo_window: s
            .parsed("undo_window", kind::SPAN, |text| kind::span(text, Duration::ZERO, most))
            .map(|x| x.value),
    }
}

/// A client has policies of its own; confirmation and undo are the tenant's.
pub(super) fn of_client(s: &mut Section<'_, '_>) -> MergeSettings {
    MergeSettings { policies: policies(s), ..MergeSettings::default() }
}

/// One `{ path, policy, limit }`.
type ByPath = (At<Box<str>>, Option<Policy>, Option<u64>);

/// Both keys together are one set of policies: a client's replaces the tenant's.
fn policies(s: &mut Section<'_, '_>) -> Option<Policies> {
    let whole = s.choice("policy", WHOLE);
    let by_path = s.tables("policies", by_path);
    if whole.is_none() && by_path.is_none() {
        return None;
    }
    let whole_place = whole.as_ref().map(|x| x.place.clone());
    let whole = whole.map_or(Whole::default(), |x| x.value);
    let mut good: Vec<(Box<str>, Policy, Option<u64>)> = Vec::new();
    for (path, policy, limit) in by_path.unwrap_or_default() {
        // what is missing or wrong was reported
        let Some(policy) = policy else { continue };
        let place: &Place =
            if whole == Whole::Refuse { whole_place.as_ref().unwrap_or(&path.place) } else { &path.place };
        // each is tried with those before it, so that the message has the place of the one that is wrong
        good.push((path.value.clone(), policy, limit));
        if let Err(why) = Policies::new(whole, good.clone()) {
            good.pop();
            s.report(place.problem(why));
            if whole == Whole::Refuse {
                break;
            }
        }
    }
    Policies::new(whole, good).ok()
}

fn by_path(s: &mut Section<'_, '_>) -> ByPath {
    let expected = "a JSON pointer such as \"/cart/items\"";
    let path =
        s.parsed("path", expected, |text| if text.starts_with('/') { Ok(text.into()) } else { Err(Fault::Other) });
    let path_is_there = path.is_some();
    let path = s.need("path", expected, path);
    let policy = s.choice("policy", BY_PATH);
    if policy.is_none() {
        s.miss("policy", "how the two values become one, such as \"sum\"");
    }
    let limit = s.number("limit", 1..10_001).map(|x| x.value);
    (path, policy.filter(|_| path_is_there).map(|x| x.value), limit)
}
