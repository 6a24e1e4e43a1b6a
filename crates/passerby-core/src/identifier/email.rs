//! E-mail addresses (RFC 5321, with the letters of RFC 6531): dot-atom local part, domain with at least two labels.
//!
//! Normal form: the domain as DNS has it (UTS #46, A-labels, lower case), the local part in NFC with each capital letter
//! in lower case where the two are a pair, that is, where the small letter's capital is that same one.
//!
//! Why pairs and not Unicode's case folding: folding also makes `ß` into `ss`, the long `ſ` into `s` and the final `ς`
//! into `σ`. Those are different mailboxes to a mail server, and whoever owns one would come into the account of the other
//! (`ſmith@` is not `smith@`). The RFC would let capitals be another mailbox, too; no provider of note does, and people
//! type them as their keyboard likes. Dots and `+tags` mean something to some providers only, and stay.
//!
//! Letters of different scripts that look alike stay different identifiers: a Cyrillic `а` in the local part is not a
//! Latin one, and such a domain's normal form begins with `xn--`. So a look-alike takes over nothing; that a person may
//! take one for the other when reading is for the pages to show (they have the A-labels).

use email_address::EmailAddress;
use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::{NFC, NFKC, Read, hidden};

/// The longest address, in bytes: RFC 5321's path of 256 without its brackets.
const LONGEST: usize = 254;

/// The longest local part, in bytes (RFC 5321 section 4.5.3.1.1).
const LONGEST_LOCAL: usize = 64;

const TOO_LONG: &str = "An e-mail address has at most 254 bytes, 64 of them before the @.";
const SHAPE: &str = "Expected an e-mail address like name@example.com.";
const LOCAL: &str = "The part before the @ may not be quoted and has letters, digits and !#$%&'*+-/=?^_`{|}~, with single dots \
    between them.";
const DOMAIN: &str = "The part after the @ must be a domain name with at least two parts, like example.com; neither an IP address \
    nor localhost.";

pub(super) fn read(text: &str) -> Result<Read, &'static str> {
    let typed = text.trim();
    if typed.len() > LONGEST {
        return Err(TOO_LONG);
    }
    // in the one form in which mail is sent (RFC 6532 section 3.1); nobody sees a difference
    let shown = NFC.normalize(typed).into_owned();
    let (local, domain) = shown.split_once('@').filter(|(_, domain)| !domain.contains('@')).ok_or(SHAPE)?;
    let normal = format!("{}@{}", read_local(local)?, read_domain(domain)?);
    if normal.len() > LONGEST || shown.len() > LONGEST {
        return Err(TOO_LONG);
    }
    Ok(Read { normal, shown })
}

fn read_local(local: &str) -> Result<String, &'static str> {
    if local.is_empty() {
        return Err(SHAPE);
    }
    let normal = lower(local);
    if local.len() > LONGEST_LOCAL || normal.len() > LONGEST_LOCAL {
        return Err(TOO_LONG);
    }
    // what stands for signs too (`⒈` for `1.`): some mail servers read it as these
    if [local, &NFKC.normalize(local)].into_iter().all(is_dot_atom) { Ok(normal) } else { Err(LOCAL) }
}

fn is_dot_atom(local: &str) -> bool {
    // The library takes quoted strings and too much, but it also is what the mail goes through: beyond ASCII it knows
    // letters and digits, not every mark, and what could not be sent to must not be taken.
    !local.contains('"') && !local.chars().any(hidden) && EmailAddress::is_valid_local_part(local)
}

/// NFC in lower case, as far as it is a matter of case only. Its result is its own lower case.
fn lower(text: &str) -> String {
    let small = |c: char| one(c.to_lowercase()).filter(|l| one(l.to_uppercase()) == Some(c)).unwrap_or(c);
    // a letter and its accent may be one character in small letters only (ǰ)
    NFC.normalize(&text.chars().map(small).collect::<String>()).into_owned()
}

fn one(mut chars: impl Iterator<Item = char>) -> Option<char> {
    chars.next().filter(|_| chars.next().is_none())
}

fn read_domain(domain: &str) -> Result<String, &'static str> {
    // UTS #46 passes over invisible characters in silence; the two joiners it checks (they are letters' business)
    if domain.chars().any(|c| hidden(c) && !matches!(c, '\u{200c}' | '\u{200d}')) {
        return Err(DOMAIN);
    }
    let ascii = Uts46::new()
        .to_ascii(domain.as_bytes(), AsciiDenyList::STD3, Hyphens::CheckFirstLast, DnsLength::Verify)
        .map_err(|_| DOMAIN)?;
    let (_, top) = ascii.rsplit_once('.').ok_or(DOMAIN)?;
    // no top-level domain begins with a digit, and all forms of IPv4 addresses end in such a part
    if top == "localhost" || !top.starts_with(|c: char| c.is_ascii_alphabetic()) {
        return Err(DOMAIN);
    }
    Ok(ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Identifier, IdentifierKind},
        *,
    };

    fn normal(text: &str) -> Option<Box<str>> {
        Identifier::parse(IdentifierKind::Email, text).ok().map(|id| id.normal)
    }

    #[test]
    fn odd_but_good() {
        let longest = format!("{}@{}.{}.{}.com", "x".repeat(64), "a".repeat(63), "b".repeat(63), "c".repeat(57));
        assert_eq!(longest.len(), 254);
        for (text, expected) in [
            ("  Ada@Example.COM\r\n", "ada@example.com"),
            ("first.last+tag@example.com", "first.last+tag@example.com"),
            ("o'neil!#$%&*-/=?^_`{|}~@example.com", "o'neil!#$%&*-/=?^_`{|}~@example.com"),
            ("1@2.example", "1@2.example"),
            ("x@b\u{fc}cher.example", "x@xn--bcher-kva.example"),
            ("x@xn--bcher-kva.example", "x@xn--bcher-kva.example"),
            ("x@XN--BCHER-KVA.example", "x@xn--bcher-kva.example"),
            ("x@BU\u{308}CHER\u{3002}example", "x@xn--bcher-kva.example"),
            ("x@fa\u{df}.de", "x@xn--fa-hia.de"),
            ("x@r3---sn.example.com", "x@r3---sn.example.com"),
            ("J\u{d6}RG@example.com", "j\u{f6}rg@example.com"),
            ("jo\u{308}rg@example.com", "j\u{f6}rg@example.com"),
            ("\u{3a3}\u{3a3}@example.com", "\u{3c3}\u{3c3}@example.com"),
            (&longest, &longest),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
        }
        let id = Identifier::parse(IdentifierKind::Email, " Ada@B\u{dc}CHER.example ").unwrap();
        assert_eq!((&*id.shown, &*id.normal), ("Ada@B\u{dc}CHER.example", "ada@xn--bcher-kva.example"));
    }

    #[test]
    fn small_letters_are_composed_again() {
        // the capital has no composed form
        assert_eq!(lower("J\u{30c}"), "\u{1f0}");
    }

    #[test]
    fn refused() {
        let label = "a".repeat(60);
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@example.com",
            "a@b@example.com",
            "a@example",
            "a@localhost",
            "a@x.localhost",
            "a@example.com.",
            "a@.example.com",
            "a@example..com",
            "a@-x.com",
            "a@x-.com",
            "a@ex_ample.com",
            "a@127.0.0.1",
            "a@127.1",
            "a@1.0x7f",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            &format!("{}@{}.{}.{}.com", "x".repeat(64), "a".repeat(63), "b".repeat(63), "c".repeat(58)),
            "a@xn--a.com",
            "a@xn--.com",
            "a@exam ple.com",
            "a@exa\u{ad}mple.com",
            "a@\u{202e}moc.example",
            "a@example.com\0",
            "a@example.com,b@example.com",
            "a@example.com\r\nBcc: b@example.com",
            "a\r\nBcc:b@example.com",
            "a\n@example.com",
            "a b@example.com",
            "a\u{a0}b@example.com",
            "\"a b\"@example.com",
            "\"a\"@example.com",
            "a\"b@example.com",
            ".a@example.com",
            "a.@example.com",
            "a..b@example.com",
            "a(c)@example.com",
            "Ada <a@example.com>",
            "<a@example.com>",
            "mailto:a@example.com",
            "a;b@example.com",
            "a\\@example.com",
            "a\u{200b}b@example.com",
            "a\u{202e}b@example.com",
            "a\u{feff}@example.com",
            "a\u{e000}@example.com",
            "a\u{378}@example.com",
            "a\u{3164}b@example.com",
            "a\u{2488}@example.com",
            "a\u{2474}@example.com",
            "a\u{ff20}evil@example.com",
            "a\u{ff0c}b@example.com",
            &format!("{}@example.com", "x".repeat(65)),
            &format!("{}@example.com", "\u{fc}".repeat(33)),
            // NFC makes two of one here
            &format!("{}@example.com", "\u{958}".repeat(21)),
            &format!("a@{}.com", "b".repeat(64)),
            &format!("a@{label}.{label}.{label}.{label}.{label}.com"),
        ] {
            assert_eq!(normal(text), None, "{text:?}");
        }
    }

    #[test]
    fn different_mailboxes_stay_different() {
        for (one, other) in [
            ("strasse@example.com", "stra\u{df}e@example.com"),
            ("smith@example.com", "\u{17f}mith@example.com"),
            ("i@example.com", "\u{131}@example.com"),
            ("i@example.com", "\u{130}@example.com"),
            ("\u{3bf}\u{3c2}@example.com", "\u{3bf}\u{3c3}@example.com"),
            ("a@example.com", "\u{430}@example.com"),
            ("a@example.com", "\u{ff41}@example.com"),
            ("fi@example.com", "\u{fb01}@example.com"),
            ("\u{3b8}@example.com", "\u{3f4}@example.com"),
            ("a@fass.de", "a@fa\u{df}.de"),
            ("a@example.com", "a@ex\u{430}mple.com"),
            ("a.b@gmail.com", "ab@gmail.com"),
            ("a+x@gmail.com", "a@gmail.com"),
        ] {
            let (one, other) = (normal(one).unwrap(), normal(other).unwrap());
            assert_ne!(one, other);
        }
    }

    proptest! {
        #[test]
        fn case_does_not_matter(local in "[a-zäöüéñçøåœжщяλωβ0-9_+-]{1,20}", domain in "[a-z0-9äöüж]{1,10}\\.[a-z]{2,6}") {
            let small = format!("{local}@{domain}");
            let expected = normal(&small).unwrap();
            prop_assert_eq!(normal(&small.to_uppercase()), Some(expected));
        }

        /// Nothing is taken from a local part but how it is composed, and the case of pairs.
        #[test]
        fn only_case_is_lost(local in "\\PC{1,12}") {
            let composed = NFC.normalize(&local);
            if let Ok(normal) = read_local(&composed) {
                let capitals = |s: &str| NFC.normalize(&s.to_uppercase()).into_owned();
                prop_assert_eq!(capitals(&composed), capitals(&normal));
                if !composed.chars().any(char::is_uppercase) {
                    prop_assert_eq!(&*composed, &*normal);
                }
            }
        }
    }
}
