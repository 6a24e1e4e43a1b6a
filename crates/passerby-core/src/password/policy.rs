//! Which passwords may be set. By NIST SP 800-63B: a length, lists of what is guessed first, and nothing about kinds of
//! characters, which make passwords hard to remember and not hard to guess.

use super::{Password, refused};
use crate::{
    Code, Error,
    identifier::{Identifier, IdentifierKind, fold, hidden},
};

/// The longest password, in code points. Longer ones are no safer, and each has to be hashed.
const LONGEST: usize = 128;

/// What is guessed first, sorted, one a line, in lower case: the thousand most common passwords of eight characters and
/// more, and the five hundred most common words of four to seven letters that people put a number behind. From the
/// ranking of leaked passwords that the crate zxcvbn carries (MIT), which itself answers another question (how many
/// guesses a password takes) with much larger tables.
const COMMON: &str = include_str!("common.txt");

/// So many signs and digits behind a common password do not make it another.
const ENDING: usize = 4;

/// A list of passwords that were made public. The program reads it; the core only asks.
pub trait BreachedList: Send + Sync {
    /// Whether the password with this SHA-1 is in it (lists are kept by that hash). May take the time of a read from
    /// disk: it is asked where passwords are hashed, never on the reactor.
    ///
    /// # Errors
    /// Why it cannot be read, for the log.
    fn contains(&self, sha1: &[u8; 20]) -> Result<bool, String>;
}

/// What is asked of a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PasswordPolicy {
    minimum: usize,
}

impl Default for PasswordPolicy {
    /// Eight code points.
    fn default() -> Self {
        Self { minimum: 8 }
    }
}

impl PasswordPolicy {
    /// The smallest number of code points: 8 to 64. The standard allows no fewer than 8, and asks to take 64.
    ///
    /// # Errors
    /// A sentence that says the bounds.
    pub fn new(minimum: usize) -> Result<Self, &'static str> {
        if (8..=64).contains(&minimum) { Ok(Self { minimum }) } else { Err("the minimum length must be 8 to 64") }
    }

    /// The smallest number of code points.
    pub fn minimum(&self) -> usize {
        self.minimum
    }

    /// Whether a password may be set for a user with these identifiers. Not asked when one is verified: what was
    /// taken once opens for as long as it is set.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at `/password`, with the reason; [`Code::Unavailable`] when `breached` cannot be
    /// read: a list that is set up is never passed over.
    pub fn check(
        &self,
        password: &Password,
        identifiers: &[&Identifier],
        breached: Option<&dyn BreachedList>,
    ) -> Result<(), Error> {
        let text = password.prepared();
        let length = text.chars().count();
        if length < self.minimum {
            let detail = format!("The password needs at least {} characters.", self.minimum);
            return Err(Error::at(Code::InvalidValue, "/password", detail));
        }
        if length > LONGEST {
            return Err(refused("The password has more than 128 characters."));
        }
        if text.chars().any(never_typed_twice) {
            return Err(refused(
                "The password has characters that cannot be typed everywhere, such as control characters.",
            ));
        }
        if identifiers.iter().any(|id| is_made_of(text, id)) {
            return Err(refused("The password must not be the user's name, address or number."));
        }
        if is_common(text) {
            return Err(refused("This password is one of the most common ones; choose another."));
        }
        if let Some(list) = breached {
            match list.contains(&password.sha1()) {
                Ok(false) => {}
                Ok(true) => {
                    return Err(refused(
                        "This password is in a list of passwords that were made public; choose another.",
                    ));
                }
                Err(why) => {
                    tracing::error!(%why, "the list of breached passwords cannot be read");
                    return Err(Error::new(Code::Unavailable, "Passwords cannot be set just now.")
                        .after(std::time::Duration::from_secs(1)));
                }
            }
        }
        Ok(())
    }
}

/// Controls, and code points whose composition the next Unicode version may settle otherwise. Joiners and selectors are
/// parts of letters and signs that keyboards make.
fn never_typed_twice(c: char) -> bool {
    hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}' | '\u{fe0e}' | '\u{fe0f}')
}

fn is_common(text: &str) -> bool {
    let folded = fold(text);
    let mut stem = &*folded;
    for _ in 0..=ENDING {
        if COMMON_LINES.binary_search(&stem).is_ok() {
            return true;
        }
        match stem.char_indices().next_back() {
            Some((at, c)) if !c.is_alphabetic() => stem = &stem[..at],
            _ => return false,
        }
    }
    false
}

static COMMON_LINES: std::sync::LazyLock<Vec<&str>> = std::sync::LazyLock::new(|| COMMON.lines().collect());

/// Whether it is the identifier in one of its forms, but for case and a short ending.
fn is_made_of(text: &str, identifier: &Identifier) -> bool {
    let folded = fold(text);
    let stem = |part: &str| {
        let part = fold(part);
        !part.is_empty()
            && folded
                .strip_prefix(&*part)
                .is_some_and(|end| end.chars().count() <= ENDING && !end.contains(char::is_alphabetic))
    };
    let kind = identifier.kind;
    [&identifier.normal, &identifier.shown].into_iter().any(|form| {
        stem(form)
            || (kind == IdentifierKind::Email && form.split_once('@').is_some_and(|(local, _)| stem(local)))
            || (kind == IdentifierKind::Phone && form.strip_prefix('+').is_some_and(stem))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    struct List(Result<Vec<[u8; 20]>, String>);

    impl BreachedList for List {
        fn contains(&self, sha1: &[u8; 20]) -> Result<bool, String> {
            self.0.as_ref().map(|hashes| hashes.contains(sha1)).map_err(Clone::clone)
        }
    }

    fn check(text: &str) -> Result<(), Error> {
        PasswordPolicy::default().check(&Password::new(text).unwrap(), &[], None)
    }

    #[test]
    fn the_list_is_sorted_and_folded() {
        assert_eq!(COMMON_LINES.len(), 1500);
        assert!(COMMON_LINES.is_sorted());
        for line in COMMON_LINES.iter() {
            assert!(fold(line) == *line && line.len() >= 4 && line.trim() == *line, "{line}");
        }
    }

    #[test]
    fn good() {
        for text in [
            "correct horse battery staple",
            "tr0ub4dor&3",
            "p\u{e4}ssw\u{f6}rter",
            "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c}\u{44f}!",
            "\u{1f469}\u{200d}\u{1f680}\u{1f680}\u{2764}\u{fe0f}\u{1f680}\u{1f680}\u{1f680}",
            "passwordless",
            "password12345",
            &"x".repeat(128),
            &"\u{1f680}".repeat(128),
        ] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn bad() {
        for text in [
            "seven77",
            // eight as typed, seven as hashed
            "cafe\u{301}123",
            &"x".repeat(129),
            "12345678",
            "password",
            "PassWord",
            "password1",
            "Password123!",
            "dragon2024",
            "qwertyuiop",
            "monkey!!!",
            "sunshine\t\t",
            "a tab\tinside it",
            "a nul\0inside it",
            "right\u{202e}to left",
            "unassigned \u{378}",
        ] {
            let e = check(text).unwrap_err();
            assert_eq!((e.code, e.field.as_deref()), (Code::InvalidValue, Some("/password")), "{text:?}");
        }
        assert!(check("seven77").unwrap_err().detail.contains("at least 8 characters"));
    }

    #[test]
    fn not_what_everybody_knows_of_the_user() {
        let id = |kind, text| Identifier::parse(kind, text).unwrap();
        let email = id(IdentifierKind::Email, "Ada.Lovelace@example.com");
        let phone = id(IdentifierKind::Phone, "+49 30 901820");
        let name = id(IdentifierKind::Username, "Analyst Ada");
        let all = [&email, &phone, &name];
        let check = |text: &str| PasswordPolicy::default().check(&Password::new(text).unwrap(), &all, None);
        for text in [
            "ada.lovelace@example.com",
            "Ada.Lovelace",
            "ADA.LOVELACE1!",
            "+4930901820",
            "4930901820",
            "+49 30 901820",
            "analyst ada",
            "Analyst Ada99",
        ] {
            assert!(check(text).is_err(), "{text}");
        }
        for text in ["ada.lovelace wrote notes", "my name is Analyst Ada", "Ada.Lovelace12345"] {
            assert!(check(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn the_breached_list_is_asked_and_never_passed_over() {
        let policy = PasswordPolicy::default();
        let password = Password::new("cafe\u{301} correct horse").unwrap();
        let check = |list: List| policy.check(&password, &[], Some(&list));
        assert!(check(List(Ok(vec![]))).is_ok());
        let listed = passerby_jose::sha1("caf\u{e9} correct horse".as_bytes());
        assert_eq!(check(List(Ok(vec![listed]))).unwrap_err().code, Code::InvalidValue);
        let e = check(List(Err("gone".into()))).unwrap_err();
        assert_eq!(e.code, Code::Unavailable);
        assert!(e.wait.is_some());
    }

    #[test]
    fn the_minimum_has_bounds() {
        assert_eq!(PasswordPolicy::new(8), Ok(PasswordPolicy::default()));
        assert_eq!(PasswordPolicy::new(64).unwrap().minimum(), 64);
        assert!(PasswordPolicy::new(7).is_err() && PasswordPolicy::new(65).is_err());
        let long = PasswordPolicy::new(15).unwrap();
        assert!(long.check(&Password::new("fourteen chars").unwrap(), &[], None).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in any::<String>(), name in "[a-z]{1,8}") {
            let id = Identifier::parse(IdentifierKind::Username, &name).unwrap();
            if let Ok(password) = Password::new(&text) {
                let long = password.prepared().chars().count() >= 8;
                let answer = PasswordPolicy::default().check(&password, &[&id], None);
                prop_assert!(long || answer.is_err());
            }
        }
    }
}
