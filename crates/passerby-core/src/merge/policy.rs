//! What holds where the guest and the account both have a value.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Write as _,
};

use passerby_jose::{b64, sha256};

use super::report::Path;
use crate::profile::{DEEPEST, Pointer};

/// The longest list that `concat` may be told to leave.
const MAX_LIMIT: u64 = 10_000;

/// What holds at a pointer, and under it as far as no other policy does. Where one side has nothing, the other's value is
/// taken, whatever the policy.
///
/// Through objects that both have, `deep`, `sum`, `max`, `min`, `union` and `concat` go down member by member;
/// `keep_account`, `keep_guest` and `newest` take one side's value as a whole. Lists are never gone into: a pointer's step
/// is always a member's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Policy {
    /// Members of both; of two values the account's stays.
    Deep,
    /// The account's value stays.
    KeepAccount,
    /// The guest's value is taken.
    KeepGuest,
    /// The value of whose data was changed later; the account's where both were at once.
    Newest,
    /// The exact sum of two numbers.
    Sum,
    /// The larger of two numbers.
    Max,
    /// The smaller of two numbers.
    Min,
    /// Two lists as sets: the account's items, then those of the guest's that are not there yet (numbers by value).
    Union,
    /// The account's list and the guest's behind it; of what is longer than the limit the last items stay.
    Concat,
}

impl Policy {
    const ALL: [Self; 9] = [
        Self::Deep,
        Self::KeepAccount,
        Self::KeepGuest,
        Self::Newest,
        Self::Sum,
        Self::Max,
        Self::Min,
        Self::Union,
        Self::Concat,
    ];

    /// Reads the word of the settings.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|policy| policy.as_str() == word)
    }

    /// The word of the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deep => "deep",
            Self::KeepAccount => "keep_account",
            Self::KeepGuest => "keep_guest",
            Self::Newest => "newest",
            Self::Sum => "sum",
            Self::Max => "max",
            Self::Min => "min",
            Self::Union => "union",
            Self::Concat => "concat",
        }
    }
}

/// What holds for the whole of the data, as far as no pointer has a policy of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Whole {
    /// [`Policy::Deep`].
    #[default]
    Deep,
    /// [`Policy::KeepAccount`] for every member of the data.
    KeepAccount,
    /// [`Policy::KeepGuest`] for every member of the data.
    KeepGuest,
    /// [`Policy::Newest`] for every member of the data.
    Newest,
    /// The guest's data is not taken, but for what a pointer's policy says.
    Discard,
    /// There is no merge.
    Refuse,
}

impl Whole {
    const ALL: [Self; 6] = [Self::Deep, Self::KeepAccount, Self::KeepGuest, Self::Newest, Self::Discard, Self::Refuse];

    /// Reads the word of the settings.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|whole| whole.as_str() == word)
    }

    /// The word of the settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deep => "deep",
            Self::KeepAccount => "keep_account",
            Self::KeepGuest => "keep_guest",
            Self::Newest => "newest",
            Self::Discard => "discard",
            Self::Refuse => "refuse",
        }
    }
}

/// A policy with its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) policy: Policy,
    /// Items of a list that `concat` leaves.
    pub(super) limit: Option<usize>,
}

/// The pointers' policies as a tree of their steps.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Node {
    pub(super) rule: Option<Rule>,
    pub(super) under: HashMap<Box<str>, Node>,
}

/// The policies of a tenant or a client: the most specific pointer decides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policies {
    whole: Whole,
    tree: Node,
    version: Box<str>,
}

impl Default for Policies {
    /// `deep`, and nothing else.
    fn default() -> Self {
        Self::of(Whole::default(), Node::default(), &BTreeMap::new())
    }
}

impl Policies {
    /// Policies for the whole and by JSON pointer (RFC 6901), each with the limit of items that `concat` may have
    /// (1 to 10 000; without one it is the profile's longest list).
    ///
    /// # Errors
    /// A sentence for the operator: a path that is no pointer, is empty, has more than 100 steps or stands there twice; a
    /// limit that is out of range or not `concat`'s; anything beside `refuse`.
    pub fn new(
        whole: Whole,
        by_pointer: impl IntoIterator<Item = (impl AsRef<str>, Policy, Option<u64>)>,
    ) -> Result<Self, String> {
        let mut tree = Node::default();
        let mut written = BTreeMap::new();
        for (text, policy, limit) in by_pointer {
            let text = text.as_ref();
            let wrong = |why: &str| format!("The merge policy for the path {text:?}: {why}");
            let pointer = Pointer::parse(text, "").map_err(|e| wrong(&e.detail))?;
            if whole == Whole::Refuse {
                return Err(wrong("`refuse` allows no merge, so no path can have a policy beside it."));
            }
            if pointer.is_root() {
                return Err(wrong("What holds for the whole is said by `policy`; a path names a member."));
            }
            if pointer.steps().len() > DEEPEST {
                return Err(wrong(&format!("At most {DEEPEST} steps are possible.")));
            }
            let limit = match limit {
                None => None,
                Some(_) if policy != Policy::Concat => return Err(wrong("Only `concat` has a limit.")),
                Some(limit @ 1..=MAX_LIMIT) => Some(limit as usize),
                Some(_) => return Err(wrong(&format!("A limit is a number from 1 to {MAX_LIMIT}."))),
            };
            let (mut node, mut path) = (&mut tree, Path::default());
            for step in pointer.steps() {
                path.enter(step);
                node = node.under.entry(step.clone()).or_default();
            }
            let rule = Rule { policy, limit };
            if node.rule.replace(rule).is_some() {
                return Err(wrong("The path stands there twice."));
            }
            written.insert(path.text().to_owned(), rule);
        }
        Ok(Self::of(whole, tree, &written))
    }

    fn of(whole: Whole, tree: Node, written: &BTreeMap<String, Rule>) -> Self {
        // The number counts changes of what the words mean.
        let mut text = format!("merge 1 {}", whole.as_str());
        for (path, Rule { policy, limit }) in written {
            // A length before the path, since it may hold anything. Writing to a string cannot fail.
            let _ = write!(text, "\n{} {path} {} {}", path.len(), policy.as_str(), limit.unwrap_or(0));
        }
        Self { whole, tree, version: b64::encode(&sha256(text.as_bytes())[..12]).into() }
    }

    /// A short text (16 characters of base64url) that is another when anything else would hold; the order in which the
    /// policies were written does not count.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// What holds for the whole.
    pub fn whole(&self) -> Whole {
        self.whole
    }

    /// Whether there is no merge at all. [`super::merge`] does not ask: it then takes nothing from the guest.
    pub fn refuses(&self) -> bool {
        self.whole == Whole::Refuse
    }

    pub(super) fn tree(&self) -> &Node {
        &self.tree
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(whole: Whole, list: &[(&str, Policy, Option<u64>)]) -> Result<Policies, String> {
        Policies::new(whole, list.iter().copied())
    }

    #[test]
    fn words_come_back() {
        for policy in Policy::ALL {
            assert_eq!(Policy::parse(policy.as_str()), Some(policy));
        }
        for whole in Whole::ALL {
            assert_eq!(Whole::parse(whole.as_str()), Some(whole));
        }
        for word in ["", "Deep", "deep ", "script"] {
            assert_eq!((Policy::parse(word), Whole::parse(word)), (None, None));
        }
        assert_eq!(Policy::parse("discard").or(Policy::parse("refuse")), None);
        assert_eq!(Whole::parse("sum").or(Whole::parse("concat")), None);
    }

    #[test]
    fn what_is_wrong_is_told() {
        use Policy::{Concat, Deep, Sum};
        let deep = format!("{}/z", "/a".repeat(100));
        let tried: &[(&[_], &str)] = &[
            (&[("a", Sum, None)], "begins with a slash"),
            (&[("/a~2", Sum, None)], "After ~ stands 0 or 1"),
            (&[("/a/__proto__", Sum, None)], "not allowed"),
            (&[("", Sum, None)], "`policy`"),
            (&[(&deep, Sum, None)], "At most 100 steps"),
            (&[("/a", Sum, None), ("/b", Sum, None), ("/a", Deep, None)], "\"/a\": The path stands there twice."),
            (&[("/a", Sum, Some(5))], "Only `concat` has a limit."),
            (&[("/a", Concat, Some(0))], "from 1 to 10000"),
            (&[("/a", Concat, Some(10_001))], "from 1 to 10000"),
        ];
        for (list, sentence) in tried {
            let told = made(Whole::Deep, list).unwrap_err();
            assert!(told.contains(sentence), "{told}");
        }
        assert!(made(Whole::Refuse, &[("/a", Sum, None)]).unwrap_err().contains("`refuse` allows no merge"));
        assert!(made(Whole::Refuse, &[]).unwrap().refuses());
        assert!(made(Whole::Deep, &[("/a", Concat, Some(1)), ("/b", Concat, Some(10_000))]).is_ok());
        assert!(made(Whole::Deep, &[(&deep[2..], Sum, None), ("/", Sum, None)]).is_ok());
    }

    #[test]
    fn versions_are_of_what_holds() {
        use Policy::{Concat, Max, Sum};
        let version = |whole, list: &[_]| made(whole, list).unwrap().version().to_owned();
        let one = version(Whole::Deep, &[("/a", Sum, None), ("/b/c", Concat, Some(5))]);
        assert_eq!(one.len(), 16);
        assert_eq!(one, version(Whole::Deep, &[("/b/c", Concat, Some(5)), ("/a", Sum, None)]));
        let all = [
            one,
            version(Whole::Deep, &[]),
            version(Whole::Newest, &[]),
            version(Whole::Refuse, &[]),
            version(Whole::Deep, &[("/a", Sum, None)]),
            version(Whole::Deep, &[("/a", Max, None)]),
            version(Whole::Deep, &[("/a", Sum, None), ("/b/c", Concat, None)]),
            version(Whole::Deep, &[("/a", Sum, None), ("/b/c", Concat, Some(6))]),
            version(Whole::Deep, &[("/a", Sum, None), ("/b~1c", Concat, Some(5))]),
            version(Whole::Deep, &[("/a sum 0\n2 /b", Sum, None)]),
            version(Whole::Deep, &[("/a sum 0\n0 /b", Sum, None)]),
            version(Whole::Deep, &[("/a", Sum, None), ("/b", Sum, None)]),
        ];
        let distinct: std::collections::HashSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(Policies::default(), made(Whole::Deep, &[]).unwrap());
        // It is kept in tickets, over restarts and replicas.
        assert_eq!(Policies::default().version(), "swzlhEXdWPjJt2VJ");
    }
}
