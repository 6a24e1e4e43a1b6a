//! What becoming somebody is set to: signing in, merging, and what is told of it by messages and events.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use crate::{
    identifier::Region,
    merge::Policies,
    password::{BreachedList, PasswordPolicy},
};

const DAY: Duration = Duration::from_hours(24);

/// A way in which people prove who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SignInMethod {
    /// A password.
    Password,
    /// A code that was sent to their address or number.
    Code,
    /// A link that was sent to their address.
    Link,
}

impl SignInMethod {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Password, Self::Code, Self::Link];

    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Code => "code",
            Self::Link => "link",
        }
    }

    /// From the word of the wire.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|method| method.as_str() == text)
    }
}

/// How people sign in at a tenant.
#[derive(Clone)]
pub struct SignIn {
    /// The ways that are open.
    pub methods: BTreeSet<SignInMethod>,
    /// What is asked of a new password.
    pub password: PasswordPolicy,
    /// Passwords that were made public and are not taken.
    pub breached: Option<Arc<dyn BreachedList>>,
    /// The country of phone numbers that are written without one; `None`: each needs its `+`.
    pub region: Option<Region>,
    /// So many identifiers one user may have.
    pub max_identifiers: usize,
}

impl Default for SignIn {
    /// All methods, eight characters, twenty identifiers.
    fn default() -> Self {
        Self {
            methods: SignInMethod::ALL.into(),
            password: PasswordPolicy::default(),
            breached: None,
            region: None,
            max_identifiers: 20,
        }
    }
}

impl fmt::Debug for SignIn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignIn")
            .field("methods", &self.methods)
            .field("password", &self.password)
            .field("breached", &self.breached.is_some())
            .field("region", &self.region)
            .field("max_identifiers", &self.max_identifiers)
            .finish()
    }
}

impl SignIn {
    /// Whether this way in is open.
    pub fn allows(&self, method: SignInMethod) -> bool {
        self.methods.contains(&method)
    }
}

/// How a guest becomes part of an account.
#[derive(Debug, Clone)]
pub struct MergeRules {
    /// What becomes of the data.
    pub policies: Policies,
    /// The application confirms that it moved its own rows; until then the guest is frozen.
    pub confirm: bool,
    /// So long a merge may be undone; zero: never.
    pub undo_window: Duration,
}

impl Default for MergeRules {
    /// `deep`, without confirmation, seven days.
    fn default() -> Self {
        Self { policies: Policies::default(), confirm: false, undo_window: 7 * DAY }
    }
}

/// What is written into the event log, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventRules {
    /// Also what happens at every guest's creation and every write: each costs a row more.
    pub all: bool,
    /// An event is kept so long: an hour to ninety days.
    pub keep: Duration,
}

impl Default for EventRules {
    /// Not all; seven days.
    fn default() -> Self {
        Self { all: false, keep: 7 * DAY }
    }
}

/// What messages say of the application.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TenantMail {
    /// What people know it by.
    pub app_name: Box<str>,
    /// Where it is.
    pub app_url: Option<Box<str>>,
    /// Who mail is from, `Name <address>` or an address; `None`: who all mail is from.
    pub from: Option<Box<str>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words() {
        for method in SignInMethod::ALL {
            assert_eq!(SignInMethod::parse(method.as_str()), Some(method));
            assert!(SignIn::default().allows(method));
        }
        assert_eq!(SignInMethod::parse("Code"), None);
    }
}
