//! Phone numbers in the form of E.164, read by Google's metadata (crate `phonenumber`). The metadata ages: it says what
//! was known when the crate was released.

use std::{fmt, str::FromStr};

use phonenumber::{Mode, PhoneNumber, Type, country, metadata::DATABASE};

use super::Read;

/// The longest text that is read, in bytes: fifteen digits and what people put between them.
const LONGEST: usize = 40;

const COUNTRY: &str = "A phone number must begin with + and the country's code, like +49 30 1234567.";
const SIGNS: &str = "A phone number has a +, digits, and spaces, dots, hyphens, slashes or brackets between them; no letters and no extension.";
const UNKNOWN: &str = "There is no such phone number; check the country's code and the number of digits.";
const KIND: &str = "A person must be reachable at the number: a mobile, fixed or internet line.";

/// A country or territory, for numbers that are written without their country's code.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Region(country::Id);

impl Region {
    /// From its two letters (ISO 3166-1 alpha-2, upper case).
    ///
    /// Whatever comes first, this or a phone number, reads the metadata: about 80 ms. A program that takes phone numbers
    /// does it before it listens.
    pub fn parse(letters: &str) -> Option<Self> {
        country::Id::from_str(letters).ok().filter(|id| DATABASE.by_id(id.as_ref()).is_some()).map(Self)
    }

    /// Its two letters.
    pub fn as_str(&self) -> &str {
        self.0.as_ref()
    }
}

impl fmt::Debug for Region {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Region({})", self.as_str())
    }
}

pub(super) fn read(text: &str, region: Option<Region>) -> Result<Read, &'static str> {
    let shown = text.trim();
    // the library takes letters, extensions, several numbers and whole tel: addresses: it gets digits only
    let digits = bare(shown).ok_or(SIGNS)?;
    let region = if digits.starts_with('+') { None } else { Some(region.ok_or(COUNTRY)?) };
    let number = phonenumber::parse(region.map(|r| r.0), &digits).map_err(|_| UNKNOWN)?;
    if !number.is_valid() {
        return Err(UNKNOWN);
    }
    // messages to these cost their sender much or reach nobody; a valid number of unknown type is one with a leading zero,
    // which the library forgets here (Italy)
    if matches!(
        number.number_type(&DATABASE),
        Type::PremiumRate
            | Type::SharedCost
            | Type::TollFree
            | Type::Uan
            | Type::Pager
            | Type::Voicemail
            | Type::Emergency
            | Type::ShortCode
            | Type::StandardRate
            | Type::Carrier
            | Type::NoInternational
    ) {
        return Err(KIND);
    }
    let normal = e164(&number);
    // what is kept must say the same number when it is read again without the region
    // (and the metadata knows German numbers that are longer than E.164 allows)
    let stable = normal.len() <= 16
        && phonenumber::parse(None, &normal).is_ok_and(|again| again.is_valid() && e164(&again) == normal);
    if !stable {
        return Err(UNKNOWN);
    }
    // without its region the text as typed is another number, or none
    let shown = if region.is_some() { normal.clone() } else { shown.to_owned() };
    Ok(Read { normal, shown })
}

fn e164(number: &PhoneNumber) -> String {
    number.format().mode(Mode::E164).to_string()
}

/// The digits, with the `+` where it begins with one; `None` for any other sign.
fn bare(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    let between =
        |c: char| matches!(c, ' ' | '\u{a0}' | '.' | '-' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '/' | '(' | ')');
    let rest = text.strip_prefix('+');
    let digits: String = rest.unwrap_or(text).chars().filter(|&c| !between(c)).collect();
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Some(if rest.is_some() { format!("+{digits}") } else { digits })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::{Identifier, IdentifierKind},
        *,
    };

    fn normal(text: &str) -> Option<Box<str>> {
        Identifier::parse(IdentifierKind::Phone, text).ok().map(|id| id.normal)
    }

    #[test]
    fn one_form() {
        for (text, expected) in [
            ("+49 30 901820", "+4930901820"),
            ("+49 (0) 30 / 90 18-20", "+4930901820"),
            (" +1 (650) 253-0000 ", "+16502530000"),
            ("+1.650.253.0000", "+16502530000"),
            ("+44\u{a0}20\u{2011}7946\u{2011}0958", "+442079460958"),
            // a zero that belongs to the number (Italy)
            ("+39 06 1234 5678", "+390612345678"),
            ("+33612345678", "+33612345678"),
            ("+4915112345678", "+4915112345678"),
        ] {
            assert_eq!(normal(text).as_deref(), Some(expected), "{text}");
        }
        let id = Identifier::parse(IdentifierKind::Phone, " +1 (650) 253-0000 ").unwrap();
        assert_eq!(&*id.shown, "+1 (650) 253-0000");
    }

    #[test]
    fn refused() {
        for text in [
            "",
            "+",
            "++1",
            "650 253 0000",
            "0049 30 901820",
            "+1 650 253 0000 ext. 5",
            "+1 650 253 0000 x5",
            "+1 650 253 0000;ext=5",
            "+1 650 253 0000,5",
            "+1 800 FLOWERS",
            "tel:+16502530000",
            "+1;phone-context=+1",
            "+16502530000/+16502530001",
            "+1 650 253",
            "+1 555 555 5555 5555",
            // known to the metadata, but longer than E.164 allows
            "+4920100000000000",
            "+999 123456",
            "+0 123456",
            "+49",
            "+491",
            "+49 110",
            "+\u{661}\u{662}\u{663}\u{664}\u{665}",
            "+1\n650 253 0000",
            &format!("+1{}", "0".repeat(400)),
            // premium and shared-cost numbers
            "+1 900 253 0000",
            "+49 900 1234567",
            "+39 899 123456",
            "+1 800 253 0000",
        ] {
            assert_eq!(normal(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_region_completes_a_number() {
        let region = Region::parse("DE").unwrap();
        for text in ["030 901820", "0049 30 901820", "+49 30 901820", "030/901820"] {
            let id = Identifier::parse_phone(text, region).unwrap();
            assert_eq!(&*id.normal, "+4930901820", "{text}");
            assert_eq!(Identifier::parse(IdentifierKind::Phone, &id.shown).unwrap().normal, id.normal);
        }
        assert_eq!(&*Identifier::parse_phone("+1 650 253 0000", region).unwrap().normal, "+16502530000");
        assert_eq!((region.as_str(), format!("{region:?}").as_str()), ("DE", "Region(DE)"));
        for letters in ["", "de", "ZZ", "DEU"] {
            assert_eq!(Region::parse(letters), None, "{letters}");
        }
    }

    proptest! {
        #[test]
        fn digits_never_panic(text in "\\+?[0-9]{0,22}", region in "(DE|US|IT|BR|AR|RU|MX)") {
            let region = Region::parse(&region).unwrap();
            if let Ok(id) = Identifier::parse_phone(&text, region) {
                prop_assert!(id.normal.starts_with('+') && id.normal.len() <= 16);
                prop_assert_eq!(&Identifier::parse(IdentifierKind::Phone, &id.shown).unwrap().normal, &id.normal);
            }
        }
    }
}
