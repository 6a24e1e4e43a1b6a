//! User names: 1 to 64 characters that can be seen, in any script, with single spaces inside.
//!
//! Normal form: NFKC with full case folding (Unicode's toNFKC_Casefold, near enough: invisible characters are refused, not
//! dropped), so that two names which differ in capitals, in width or in how an accent is composed are one name.
//! Here, other than for addresses, nobody owns the other spelling elsewhere, and holding too much for equal only
//! means that a name is taken. Look-alikes of other scripts stay different names: a name proves nothing about its owner.

use super::{NFKC, Read, fold, hidden, is_mark};

/// The longest name, in characters, both as typed and in normal form.
const LONGEST: usize = 64;

/// Normalising is done when nothing changes any more; more rounds than two are not known to be needed.
const ROUNDS: usize = 4;

const LENGTH: &str = "A user name has 1 to 64 characters.";
const HIDDEN: &str = "A user name has characters that can be seen only, and begins with a letter, digit or sign.";
const EMAIL: &str = "A user name has no @; give an e-mail address as email.";
const PHONE: &str = "A user name is no phone number; give one as phone.";

pub(super) fn read(text: &str) -> Result<Read, &'static str> {
    // before anything that costs: 64 characters have at most 256 bytes, and there may be space around
    if text.len() > 1024 {
        return Err(LENGTH);
    }
    let shown = text.trim();
    if shown.chars().any(hidden) {
        return Err(HIDDEN);
    }
    let normal = normal(shown).ok_or(HIDDEN)?;
    if ![shown, &normal].iter().all(|name| (1..=LONGEST).contains(&name.chars().count())) {
        return Err(LENGTH);
    }
    if normal.starts_with(is_mark) || shown.starts_with(is_mark) || normal.chars().any(hidden) {
        return Err(HIDDEN);
    }
    // of the normal form: it has no full-width signs
    if normal.contains('@') {
        return Err(EMAIL);
    }
    if is_phone_like(&normal) {
        return Err(PHONE);
    }
    Ok(Read { normal, shown: shown.to_owned() })
}

fn normal(text: &str) -> Option<String> {
    let mut name = text.to_owned();
    for _ in 0..ROUNDS {
        let folded = NFKC.normalize(&fold(&NFKC.normalize(&name))).into_owned();
        let next = folded.split_whitespace().collect::<Vec<_>>().join(" ");
        if next == name {
            return Some(name);
        }
        name = next;
    }
    None
}

/// A `+` and nothing but digits and what stands between them.
fn is_phone_like(name: &str) -> bool {
    let between = |c: char| matches!(c, ' ' | '.' | '-' | '/' | '(' | ')');
    name.strip_prefix('+').is_some_and(|rest| {
        rest.contains(|c: char| c.is_ascii_digit()) && rest.chars().all(|c| c.is_ascii_digit() || between(c))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Identifier, IdentifierKind};

    fn normal(text: &str) -> Option<Box<str>> {
        Identifier::parse(IdentifierKind::Username, text).ok().map(|id| id.normal)
    }

    #[test]
    fn one_name() {
        for (text, expected) in [
            (" Ada ", "ada"),
            ("ada  Lovelace", "ada lovelace"),
            ("ada\u{a0}lovelace", "ada lovelace"),
            ("\u{ff21}\u{ff24}\u{ff21}", "ada"),
            ("STRASSE", "strasse"),
            ("stra\u{df}e", "strasse"),
            ("\u{17f}mith", "smith"),
            ("\u{212a}ate", "kate"),
            ("o\u{308}", "\u{f6}"),
            ("\u{1f680}", "\u{1f680}"),
            ("+1up", "+1up"),
            ("+", "+"),
            ("12345", "12345"),
            ("\u{645}\u{62d}\u{645}\u{62f}", "\u{645}\u{62d}\u{645}\u{62f}"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
        }
        let id = Identifier::parse(IdentifierKind::Username, " \u{ff21}da ").unwrap();
        assert_eq!(&*id.shown, "\u{ff21}da");
    }

    #[test]
    fn refused() {
        for text in [
            "",
            " ",
            "\u{3000}",
            "a@b",
            "@ada",
            "a\u{ff20}b",
            "\u{fe6b}",
            "+491701234567",
            "+49 170 123",
            "\u{ff0b}49",
            "a\0b",
            "a\nb",
            "a\tb",
            "a\u{7f}",
            "a\u{85}b",
            "a\u{202e}b",
            "a\u{200b}b",
            "a\u{200d}b",
            "a\u{2066}b",
            "a\u{feff}",
            "a\u{3164}b",
            "a\u{e0041}",
            "a\u{fffe}",
            "a\u{e000}",
            "a\u{378}",
            "a\u{2028}b",
            "\u{301}a",
            // a space with an accent on it
            "\u{a8}",
            &"a".repeat(65),
            // eighteen characters each in the normal form
            &"\u{fdfa}".repeat(4),
            &" ".repeat(2000),
        ] {
            assert_eq!(normal(text), None, "{text:?}");
        }
        assert!(normal(&"\u{1f680}".repeat(64)).is_some());
    }

    proptest! {
        #[test]
        fn case_does_not_matter(name in "[a-zäöüßéñçøåœжщяλωςσ0-9_ .-]{1,30}") {
            if let Some(expected) = normal(&name) {
                prop_assert_eq!(normal(&name.to_uppercase()), Some(expected.clone()));
                prop_assert_eq!(normal(&name.to_lowercase()), Some(expected));
            }
        }
    }
}
