//! Addresses: one per mail, bare, with a domain as DNS knows it.

use lettre::Address;
use url::Host;

/// What is wrong with an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressFault {
    /// Longer than 254 bytes (RFC 5321 section 4.5.3.1.3), or more than 64 before the `@`.
    #[error("it is too long")]
    Long,
    /// Not one name, an `@` and a domain; quoted names are not taken.
    #[error("it is no mail address")]
    Shape,
    /// The domain: an address literal, or a name without a dot.
    #[error("its domain is none")]
    Domain,
    /// Letters beyond ASCII before the `@`, where these are not taken.
    #[error("only ASCII may stand before the @")]
    International,
}

/// Whether the text has characters that could end a line or hide something: controls, line and paragraph separators.
pub(crate) fn has_controls(text: &str) -> bool {
    text.chars().any(|c| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}'))
}

/// Reads a bare address. An international domain comes out as DNS has it (`xn--…`).
pub(super) fn address(text: &str) -> Result<Address, AddressFault> {
    if text.len() > 254 {
        return Err(AddressFault::Long);
    }
    let (user, domain) = text.split_once('@').ok_or(AddressFault::Shape)?;
    if user.len() > 64 {
        return Err(AddressFault::Long);
    }
    // what a quoted name could hold is refused by these alone, whatever the library thinks of it
    let odd =
        |c: char| c.is_whitespace() || matches!(c, '"' | '<' | '>' | '(' | ')' | ',' | ':' | ';' | '\\' | '[' | ']');
    if user.is_empty() || domain.contains('@') || has_controls(text) || text.chars().any(odd) {
        return Err(AddressFault::Shape);
    }
    let Ok(Host::Domain(domain)) = Host::parse(domain) else { return Err(AddressFault::Domain) };
    if !domain.contains('.') || domain.ends_with('.') {
        return Err(AddressFault::Domain);
    }
    let found = Address::new(user, &domain).map_err(|_| AddressFault::Shape)?;
    if AsRef::<str>::as_ref(&found).len() > 254 { Err(AddressFault::Long) } else { Ok(found) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_international_addresses_are_read() {
        for (text, read) in [
            ("ada@example.com", "ada@example.com"),
            ("ada+cart@mail.example.co.uk", "ada+cart@mail.example.co.uk"),
            ("o'brien@example.com", "o'brien@example.com"),
            ("Ada@EXAMPLE.com", "Ada@example.com"),
            ("ada@bücher.example", "ada@xn--bcher-kva.example"),
            ("дана@example.com", "дана@example.com"),
        ] {
            assert_eq!(address(text).map(|a| a.to_string()), Ok(read.to_owned()), "{text}");
        }
    }

    #[test]
    fn what_is_no_bare_address_is_refused() {
        let long = format!("{}@example.com", "a".repeat(65));
        let longer = format!("a@{}.com", "a.".repeat(130));
        for text in [
            "",
            "ada",
            "@example.com",
            "ada@",
            "ada@localhost",
            "ada@example.com.",
            "ada@[127.0.0.1]",
            "ada@127.0.0.1",
            "ada@0x7f.1",
            "a@b@example.com",
            "\"a b\"@example.com",
            "a b@example.com",
            "Ada <ada@example.com>",
            "ada@example.com>\r\nRCPT TO:<eve@example.com",
            "ada@example.com\r\nBcc: eve@example.com",
            "ada\n@example.com",
            "ada\u{2028}@example.com",
            "ada\0@example.com",
            "ada@exam\tple.com",
            "ada,eve@example.com",
            "ada@example.com,eve@example.com",
            &long,
            &longer,
        ] {
            assert!(address(text).is_err(), "{text:?}");
        }
    }
}
