//! What somebody is known by: user name, e-mail address, phone number, external id. Pure text: how it is read, what of it
//! is compared, and what is shown. Who has proven which is not decided here.
//!
//! Two texts are the same identifier exactly when their normal forms are equal, byte by byte. The normal form is what
//! the stores key on; what was typed is kept beside it and is what people see and messages are sent to.

mod email;
mod phone;
mod username;

use std::fmt;

use icu_casemap::{CaseMapper, CaseMapperBorrowed};
use icu_normalizer::ComposingNormalizerBorrowed;
use icu_properties::{
    CodePointMapData, CodePointSetData,
    props::{DefaultIgnorableCodePoint, GeneralCategory},
};
pub use phone::Region;

use crate::{Code, Error, id::is_opaque_id};

pub(crate) const NFC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfc();
const NFKC: ComposingNormalizerBorrowed<'static> = ComposingNormalizerBorrowed::new_nfkc();
const CASE: CaseMapperBorrowed<'static> = CaseMapper::new();

/// The kinds of identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum IdentifierKind {
    /// A name that its owner chose: 1 to 64 characters.
    Username,
    /// An e-mail address (RFC 5321, RFC 6531): at most 254 bytes.
    Email,
    /// A phone number that a person can be reached at (E.164).
    Phone,
    /// The name of the user in another system: 1 to 255 characters, taken as they are.
    ExternalId,
}

impl IdentifierKind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Username, Self::Email, Self::Phone, Self::ExternalId];

    /// The word of the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::ExternalId => "external_id",
        }
    }

    /// From the word of the wire.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }

    /// Where it stands in a body (JSON pointer): what errors name.
    pub fn field(self) -> &'static str {
        match self {
            Self::Username => "/username",
            Self::Email => "/email",
            Self::Phone => "/phone",
            Self::ExternalId => "/external_id",
        }
    }
}

/// An identifier that was read.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Identifier {
    /// Its kind.
    pub kind: IdentifierKind,
    /// What is compared. It is an identifier itself, and its own normal form.
    pub normal: Box<str>,
    /// As it was typed, without space around it. An address is composed (NFC), and a number that was typed without its
    /// country is completed.
    pub shown: Box<str>,
}

impl fmt::Debug for Identifier {
    /// Without the texts: they are people's addresses, and logs are read by others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identifier").field("kind", &self.kind).finish_non_exhaustive()
    }
}

impl Identifier {
    /// Reads an identifier. A phone number must begin with `+` and its country's code.
    ///
    /// # Errors
    /// [`Code::InvalidValue`] at the kind's field; the sentence says what to change and does not repeat the text.
    pub fn parse(kind: IdentifierKind, text: &str) -> Result<Self, Error> {
        let read = match kind {
            IdentifierKind::Username => username::read(text),
            IdentifierKind::Email => email::read(text),
            IdentifierKind::Phone => phone::read(text, None),
            IdentifierKind::ExternalId => external_id(text),
        };
        Self::of(kind, read)
    }

    /// Reads a phone number as it is written inside of `region`; one that begins with `+` is of any country.
    ///
    /// # Errors
    /// As for [`Identifier::parse`].
    pub fn parse_phone(text: &str, region: Region) -> Result<Self, Error> {
        Self::of(IdentifierKind::Phone, phone::read(text, Some(region)))
    }

    fn of(kind: IdentifierKind, read: Result<Read, &'static str>) -> Result<Self, Error> {
        let Read { normal, shown } = read.map_err(|why| Error::at(Code::InvalidValue, kind.field(), why))?;
        Ok(Self { kind, normal: normal.into(), shown: shown.into() })
    }
}

/// What the kinds' readers give.
struct Read {
    normal: String,
    shown: String,
}

/// Opaque: another system gave it, and only that one knows which of its ids are the same.
fn external_id(text: &str) -> Result<Read, &'static str> {
    if !is_opaque_id(text) {
        return Err("An external id has 1 to 255 printable characters.");
    }
    Ok(Read { normal: text.to_owned(), shown: text.to_owned() })
}

/// Whether a character shows nothing or has no lasting meaning: controls, invisible formatting (bidirectional overrides,
/// joiners, zero-width spaces, variation selectors), line separators, private and unassigned code points. Texts that
/// differ in these only look the same, and an unassigned one may be normalised otherwise by the next Unicode version.
pub(crate) fn hidden(c: char) -> bool {
    if c.is_ascii() {
        return c.is_ascii_control();
    }
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::Control
            | GeneralCategory::Format
            | GeneralCategory::Surrogate
            | GeneralCategory::PrivateUse
            | GeneralCategory::Unassigned
            | GeneralCategory::LineSeparator
            | GeneralCategory::ParagraphSeparator
    ) || CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether a character belongs to the one before it and cannot stand first.
fn is_mark(c: char) -> bool {
    matches!(
        CodePointMapData::<GeneralCategory>::new().get(c),
        GeneralCategory::NonspacingMark | GeneralCategory::SpacingMark | GeneralCategory::EnclosingMark
    )
}

/// Full case folding (Unicode section 3.13): for comparisons in which to hold too much for equal is the safe side.
pub(crate) fn fold(text: &str) -> std::borrow::Cow<'_, str> {
    CASE.fold_string(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn kinds() -> impl Strategy<Value = IdentifierKind> {
        proptest::sample::select(IdentifierKind::ALL.to_vec())
    }

    #[test]
    fn words() {
        for kind in IdentifierKind::ALL {
            assert_eq!(IdentifierKind::parse(kind.as_str()), Some(kind));
            assert_eq!(kind.field(), format!("/{}", kind.as_str()));
        }
        assert_eq!(IdentifierKind::parse("Email"), None);
    }

    #[test]
    fn an_error_names_the_field_and_not_the_text() {
        for kind in IdentifierKind::ALL {
            let e = Identifier::parse(kind, "\u{202e}secret\u{7}").unwrap_err();
            assert_eq!((e.code, e.field.as_deref()), (Code::InvalidValue, Some(kind.field())));
            assert!(!e.detail.contains("secret"), "{}", e.detail);
        }
    }

    #[test]
    fn an_external_id_is_taken_as_it_is() {
        let read = |text: &str| Identifier::parse(IdentifierKind::ExternalId, text);
        for text in ["a", " A ", "x@y", "+491701234567", &"\u{fc}".repeat(255)] {
            let id = read(text).unwrap();
            assert_eq!((&*id.normal, &*id.shown), (text, text));
        }
        for text in ["", " ", "a\nb", &"x".repeat(256)] {
            assert!(read(text).is_err(), "{text:?}");
        }
        assert_ne!(read("A").unwrap().normal, read("a").unwrap().normal);
    }

    #[test]
    fn line_43_debug_holds_no_address() {
        let id = Identifier::parse(IdentifierKind::Email, "canary@example.com").unwrap();
        assert_eq!(format!("{id:?}"), "Identifier { kind: Email, .. }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(512))]

        /// Whatever comes in: no panic; what is read has one normal form, reached at once and by what is shown.
        #[test]
        fn the_normal_form_is_its_own(kind in kinds(), text in prop_oneof![
            any::<String>(),
            "\\PC{1,20}",
            "[a-zA-Z0-9.!+ßſİıKÅΣςσǅ\u{301}\u{307}\u{30c}]{1,12}@[a-zA-Z0-9äßöİ。.-]{1,10}\\.[a-z]{2,4}",
            "\\+[0-9 ()./-]{4,20}",
            "[\\p{Lu}\\p{Ll}\\p{Lt}\\p{M}\\p{Nl}\\p{So}\\p{Zs}]{1,10}",
        ]) {
            if let Ok(id) = Identifier::parse(kind, &text) {
                let again = Identifier::parse(kind, &id.shown).unwrap();
                prop_assert_eq!(&again, &id);
                let normal = Identifier::parse(kind, &id.normal).unwrap();
                prop_assert_eq!(&normal.normal, &id.normal);
                prop_assert!(!id.normal.chars().chain(id.shown.chars()).any(char::is_control));
            }
        }
    }
}
