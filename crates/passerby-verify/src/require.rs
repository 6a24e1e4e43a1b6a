//! What a resource asks of a token.

use crate::{Error, HolderFault, Verified};

/// Whose token it is, by its claim `is_anonymous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A guest's: the claim is `true`.
    Guest,
    /// A member's (a regular user's): the claim is `false`.
    Member,
    /// The claim is missing or no boolean. A client's own token is such a one; it is never taken for a member's.
    Unmarked,
}

/// What a resource asks of a token beside being good: scopes, and whose it is. By default a guest's or a member's.
///
/// ```
/// use passerby_verify::Require;
///
/// let anybody_may_look = Require::user().scope("read:cart");
/// let members_may_pay = Require::member().scope("write:cart");
/// # let _ = (anybody_may_look, members_may_pay);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Require {
    rule: Rule,
    scopes: Vec<Box<str>>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rule {
    #[default]
    User,
    Guest,
    Member,
    Anyone,
}

impl Require {
    /// A guest's or a member's token. One that says neither is refused.
    pub fn user() -> Self {
        Self::by(Rule::User)
    }

    /// A guest's token.
    pub fn guest() -> Self {
        Self::by(Rule::Guest)
    }

    /// A member's token. One that does not say so is refused.
    pub fn member() -> Self {
        Self::by(Rule::Member)
    }

    /// Any good token, also one that says nothing of its holder: for clients' own tokens. Ask
    /// [`Verified::holder`] before giving it anything of a user's.
    pub fn anyone() -> Self {
        Self::by(Rule::Anyone)
    }

    fn by(rule: Rule) -> Self {
        Self { rule, scopes: Vec::new() }
    }

    /// And this scope, exactly. All scopes that are asked for must be there.
    #[must_use]
    pub fn scope(mut self, scope: impl Into<Box<str>>) -> Self {
        self.scopes.push(scope.into());
        self
    }

    /// Holds a token against it.
    pub(crate) fn check(&self, verified: &Verified) -> Result<(), Error> {
        let holder = verified.holder();
        match self.rule {
            Rule::User if holder == Holder::Unmarked => return Err(Error::Holder(HolderFault::User)),
            Rule::Guest if holder != Holder::Guest => return Err(Error::Holder(HolderFault::Guest)),
            Rule::Member if holder != Holder::Member => return Err(Error::Holder(HolderFault::Member)),
            Rule::User | Rule::Guest | Rule::Member | Rule::Anyone => {}
        }
        if self.scopes.iter().all(|scope| verified.has_scope(scope)) {
            Ok(())
        } else {
            Err(Error::Scope(self.scopes.join(" ").into()))
        }
    }
}
