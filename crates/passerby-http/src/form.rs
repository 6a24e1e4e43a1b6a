//! Queries and forms (`application/x-www-form-urlencoded`): each parameter once, in UTF-8.

use std::borrow::Cow;

use crate::Refusal;

/// The parameters of a query or form.
#[derive(Debug, Clone, Default)]
pub struct Params<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl Params<'_> {
    /// The value of a parameter; one that was sent empty counts as not sent (RFC 6749 section 3.1).
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| &**v).filter(|v| !v.is_empty())
    }
}

/// Reads a query or a form. `+` is a space; a `%` without two hexadecimal digits stands for itself (WHATWG URL).
///
/// # Errors
/// [`Refusal::DuplicateParameter`] (RFC 6749 section 3.1 forbids it), [`Refusal::MalformedParameter`] when one is not
/// UTF-8, [`Refusal::NulCharacter`].
pub fn parse(text: &[u8]) -> Result<Params<'_>, Refusal> {
    let mut params: Vec<(Cow<'_, str>, Cow<'_, str>)> = Vec::new();
    for pair in text.split(|&b| b == b'&').filter(|pair| !pair.is_empty()) {
        let (name, value) = match pair.iter().position(|&b| b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &[][..]),
        };
        let (name, value) = (decode(name)?, decode(value)?);
        if name.contains('\0') || value.contains('\0') {
            return Err(Refusal::NulCharacter(Some(name.replace('\0', ""))));
        }
        params.push((name, value));
    }
    // sorted copies, so that many parameters cost no square
    let mut names: Vec<&str> = params.iter().map(|(n, _)| &**n).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|w| w[0] == w[1]) {
        return Err(Refusal::DuplicateParameter(twice[0].to_owned()));
    }
    Ok(Params(params))
}

fn decode(raw: &[u8]) -> Result<Cow<'_, str>, Refusal> {
    if !raw.iter().any(|&b| b == b'%' || b == b'+') {
        return std::str::from_utf8(raw).map(Cow::Borrowed).map_err(|_| Refusal::MalformedParameter);
    }
    let spaced: Vec<u8> = raw.iter().map(|&b| if b == b'+' { b' ' } else { b }).collect();
    let bytes = percent_decode(&spaced);
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| Refusal::MalformedParameter)
}

/// Undoes percent-encoding; a `%` without two hexadecimal digits stands for itself.
pub(crate) fn percent_decode(raw: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(raw.len());
    let mut at = 0;
    while let Some(&b) = raw.get(at) {
        let byte = (b == b'%')
            .then(|| std::str::from_utf8(raw.get(at + 1..at + 3)?).ok())
            .flatten()
            .filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        out.push(byte.unwrap_or(b));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        let p = parse(b"grant_type=client_credentials&scope=read%3Acart+write%3acart&empty=&flag&&x=%zz%4").unwrap();
        assert_eq!(p.get("grant_type"), Some("client_credentials"));
        assert_eq!(p.get("scope"), Some("read:cart write:cart"));
        assert_eq!(p.get("empty"), None);
        assert_eq!(p.get("flag"), None);
        assert_eq!(p.get("x"), Some("%zz%4"));
        assert_eq!(p.get("missing"), None);
        assert!(parse(b"").unwrap().get("").is_none());
    }

    #[test]
    fn refusals() {
        assert_eq!(parse(b"a=1&b=2&a=1").unwrap_err(), Refusal::DuplicateParameter("a".into()));
        assert_eq!(parse(b"a=1&%61=1").unwrap_err(), Refusal::DuplicateParameter("a".into()));
        assert_eq!(parse(b"a=%ff").unwrap_err(), Refusal::MalformedParameter);
        assert_eq!(parse(b"a=\xff").unwrap_err(), Refusal::MalformedParameter);
        assert_eq!(parse(b"a=%00").unwrap_err(), Refusal::NulCharacter(Some("a".into())));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(text in proptest::collection::vec(proptest::num::u8::ANY, 0..48)) {
            let _ = parse(&text);
        }

        #[test]
        fn reads_what_others_wrote(value in "\\PC{0,16}") {
            let text = url::form_urlencoded::Serializer::new(String::new()).append_pair("v", &value).finish();
            let params = parse(text.as_bytes()).unwrap();
            proptest::prop_assert_eq!(params.get("v").unwrap_or(""), value);
        }
    }
}
