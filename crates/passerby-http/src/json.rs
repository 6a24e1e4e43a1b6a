//! Strict JSON into a struct of the handler.
//!
//! The common request costs one parse and one pass over its bytes. Only a refused one is parsed again, to say which
//! member was to blame.

use std::{borrow::Cow, collections::HashSet, fmt, ops::Deref};

use serde::{
    Deserialize, Deserializer,
    de::{self, Visitor},
};
use serde_json::{error::Category, value::RawValue};

use crate::Refusal;

/// A string of a request: lent from the body unless it holds an escape.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Text<'a>(Cow<'a, str>);

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;

        impl<'de> Visitor<'de> for TextVisitor {
            type Value = Cow<'de, str>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Cow::Borrowed(text))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Cow::Owned(text.to_owned()))
            }
        }

        deserializer.deserialize_str(TextVisitor).map(Text)
    }
}

/// Reads a request object.
///
/// `T` derives `Deserialize`, without `flatten` and without `deny_unknown_fields`: unknown members are passed over.
/// Members whose content the core judges are taken as `&RawValue`.
///
/// # Errors
/// [`Refusal::MalformedJson`] (also bad UTF-8, lone surrogates, trailing text), [`Refusal::DuplicateMember`] of the
/// request object, [`Refusal::WrongType`] with its JSON pointer, [`Refusal::NulCharacter`] in a member that is a string
/// (objects and lists are the core's to judge).
pub fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Refusal> {
    let text = std::str::from_utf8(body).map_err(|e| malformed(format!("bad UTF-8 at byte {}", e.valid_up_to())))?;
    // serde's structs would read a list too, member by member
    if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
        return Err(match serde_json::from_str::<de::IgnoredAny>(text) {
            Ok(_) => Refusal::WrongType { field: String::new(), detail: "expected an object".into() },
            Err(e) => syntax(&e),
        });
    }
    match serde_json::from_str(text) {
        Ok(value) => check(text).map(|()| value),
        Err(e) => Err(explain::<T>(text, &e)),
    }
}

fn malformed(why: String) -> Refusal {
    Refusal::MalformedJson(why)
}

/// A syntax error in the library's words: they name characters and places, never content.
fn syntax(e: &serde_json::Error) -> Refusal {
    malformed(e.to_string())
}

/// Why a body was refused; the slow path.
fn explain<'a, T: Deserialize<'a>>(text: &'a str, e: &serde_json::Error) -> Refusal {
    if e.classify() != Category::Data {
        return syntax(e);
    }
    // the struct's own complaint came first; but what is not JSON at all, or doubled, is told as that
    if let Err(e) = serde_json::from_str::<de::IgnoredAny>(text) {
        return syntax(&e);
    }
    if let Err(refusal) = check(text) {
        return refusal;
    }
    let mut deserializer = serde_json::Deserializer::from_str(text);
    let Err(e) = serde_path_to_error::deserialize::<_, T>(&mut deserializer) else {
        return malformed("it cannot be read".into());
    };
    let message = e.inner().to_string();
    // "invalid type: string "…", expected a boolean at line 1 column 20": what was sent is not sent back
    let detail = message.find("expected ").map_or("another type is expected", |at| &message[at..]);
    let detail = detail.rfind(" at line ").map_or(detail, |at| &detail[..at]).to_owned();
    Refusal::WrongType { field: pointer(e.path()), detail }
}

/// A path as a JSON pointer (RFC 6901).
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    let mut out = String::new();
    for segment in path {
        match segment {
            Segment::Seq { index } => {
                out.push('/');
                out.push_str(&index.to_string());
            }
            Segment::Map { key } | Segment::Enum { variant: key } => {
                out.push('/');
                out.push_str(&escape(key));
            }
            Segment::Unknown => {}
        }
    }
    out
}

/// A member name as a token of a JSON pointer.
pub(crate) fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// What the parser lets pass: doubled members of the outermost object, lone surrogates in what it passes over, NUL.
/// `text` is valid JSON, so a backslash stands in strings only.
fn check(text: &str) -> Result<(), Refusal> {
    let bytes = text.as_bytes();
    let mut keys = Keys::default();
    let (mut at, mut depth, mut key_next) = (0, 0u32, false);
    while let Some(&b) = bytes.get(at) {
        match b {
            b'{' | b'[' => {
                depth += 1;
                key_next = depth == 1;
            }
            b'}' | b']' => depth -= 1,
            b',' => key_next = depth == 1,
            b'"' => {
                let (end, escaped, nul) = scan_string(bytes, at + 1)?;
                if key_next {
                    keys.add(&text[at..=end], escaped)?;
                    key_next = false;
                }
                // content of objects and lists is the core's to judge
                if nul && depth == 1 {
                    return Err(Refusal::NulCharacter(keys.last.map(|k| format!("/{}", escape(&name(k))))));
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    Ok(())
}

/// From behind the opening quote: where the closing one is, whether there were escapes, whether one was NUL.
fn scan_string(bytes: &[u8], mut at: usize) -> Result<(usize, bool, bool), Refusal> {
    let (mut escaped, mut nul) = (false, false);
    loop {
        match bytes.get(at) {
            Some(b'"') => return Ok((at, escaped, nul)),
            Some(b'\\') => {
                escaped = true;
                if bytes.get(at + 1) == Some(&b'u') {
                    let unit = hex4(bytes, at + 2);
                    nul |= unit == Some(0);
                    match unit {
                        Some(0xd800..=0xdbff) => {
                            let low =
                                (bytes.get(at + 6..at + 8) == Some(b"\\u")).then(|| hex4(bytes, at + 8)).flatten();
                            if !matches!(low, Some(0xdc00..=0xdfff)) {
                                return Err(malformed(format!("lone surrogate at byte {at}")));
                            }
                            at += 12;
                        }
                        Some(0xdc00..=0xdfff) => return Err(malformed(format!("lone surrogate at byte {at}"))),
                        _ => at += 6,
                    }
                } else {
                    at += 2;
                }
            }
            Some(_) => at += 1,
            None => return Err(malformed("a string does not end".into())),
        }
    }
}

fn hex4(bytes: &[u8], at: usize) -> Option<u16> {
    let digits = std::str::from_utf8(bytes.get(at..at + 4)?).ok()?;
    u16::from_str_radix(digits, 16).ok()
}

/// A quoted key as it reads.
fn name(quoted: &str) -> Cow<'_, str> {
    match serde_json::from_str::<Text<'_>>(quoted) {
        Ok(text) => text.0,
        Err(_) => Cow::Borrowed(quoted),
    }
}

/// The member names seen so far. Few are compared one by one; many go to a set, so that a hostile body stays linear.
#[derive(Default)]
struct Keys<'a> {
    few: [Option<Cow<'a, str>>; 12],
    used: usize,
    many: HashSet<Cow<'a, str>>,
    last: Option<&'a str>,
}

impl<'a> Keys<'a> {
    fn add(&mut self, quoted: &'a str, escaped: bool) -> Result<(), Refusal> {
        self.last = Some(quoted);
        let key = if escaped { name(quoted) } else { Cow::Borrowed(&quoted[1..quoted.len() - 1]) };
        if self.few[..self.used].iter().flatten().any(|k| *k == key) {
            return Err(Refusal::DuplicateMember(key.into_owned()));
        }
        if self.used < self.few.len() {
            self.few[self.used] = Some(key);
            self.used += 1;
        } else if let Some(key) = self.many.replace(key) {
            return Err(Refusal::DuplicateMember(key.into_owned()));
        }
        Ok(())
    }
}

/// The text of a member that the core judges.
pub fn raw(value: Option<&RawValue>) -> Option<&[u8]> {
    value.map(|v| v.get().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Request<'a> {
        #[serde(borrow)]
        client_id: Option<Text<'a>>,
        persist: Option<bool>,
        #[serde(borrow)]
        data: Option<&'a RawValue>,
        list: Option<Vec<u8>>,
    }

    fn refused(body: &[u8]) -> (u16, &'static str, String) {
        let refusal = parse::<Request<'_>>(body).expect_err(&String::from_utf8_lossy(body));
        let field = refusal.field().unwrap_or_default().into_owned();
        (refusal.status().as_u16(), refusal.code(), field)
    }

    #[test]
    fn good_bodies() {
        let body = br#" {"client_id":"demo\u002dspa", "persist":true,"data":{"a":[1]},"unknown":{"x":"\ud83d\ude00"},"more":null}
 "#;
        let request: Request<'_> = parse(body).unwrap();
        assert_eq!(request.client_id.as_deref(), Some("demo-spa"));
        assert_eq!(request.persist, Some(true));
        assert_eq!(raw(request.data), Some(&br#"{"a":[1]}"#[..]));
        let request: Request<'_> = parse(br#"{"client_id":null,"data":null}"#).unwrap();
        assert!(request.client_id.is_none() && request.data.is_none());
        let request: Request<'_> = parse(br#"{"client_id":"plain"}"#).unwrap();
        assert!(matches!(request.client_id, Some(Text(Cow::Borrowed("plain")))));
        // what is doubled or NUL inside a member is the core's to judge
        assert!(parse::<Request<'_>>(br#"{"data":{"a":1,"a":2,"b":"\u0000"}}"#).is_ok());
        assert!(parse::<Request<'_>>(br#"{"a":{"x":1},"b":{"x":1},"c":["x","x"]}"#).is_ok());
    }

    #[test]
    fn not_json() {
        let corpus: [&[u8]; 24] = [
            b"",
            b" ",
            b"{",
            b"}",
            b"{\"a\":}",
            b"{\"a\":1,}",
            b"{'a':1}",
            b"{a:1}",
            b"{\"a\":1}x",
            b"{\"a\":1}{}",
            b"{\"a\":NaN}",
            b"{\"a\":Infinity}",
            b"{\"a\":01}",
            b"{\"a\":+1}",
            b"{\"a\":.5}",
            b"{\"a\":\"\n\"}",
            b"{\"a\":\"\\x\"}",
            b"\xef\xbb\xbf{}",
            b"{\"a\":\"\xff\"}",
            b"{\"a\":\"\\ud800\"}",
            b"{\"client_id\":\"\\udc00\"}",
            b"{\"a\":\"\\ud83d\\u0041\"}",
            b"{\"a\":\"\x00\"}",
            b"\x00",
        ];
        for body in corpus {
            assert_eq!(refused(body), (400, "malformed_json", String::new()), "{}", String::from_utf8_lossy(body));
        }
        assert_eq!(refused(br#"{"\ud800":1}"#).1, "malformed_json");
        assert_eq!(refused(br#"{"persist":"no","x":}"#).1, "malformed_json", "syntax is told before types");
    }

    #[test]
    fn depth_is_bounded_without_a_stack() {
        let deep = format!("{{\"data\":{}{}}}", "[".repeat(60_000), "]".repeat(60_000));
        assert!(parse::<Request<'_>>(deep.as_bytes()).is_ok(), "how deep data may be is the core's to judge");
    }

    #[test]
    fn doubled_members() {
        for (body, field) in [
            (r#"{"client_id":"a","client_id":"b"}"#, "/client_id"),
            (r#"{"x":1,"y":2,"x":3}"#, "/x"),
            (r#"{"client_id":"a","client\u005fid":"b"}"#, "/client_id"),
            (r#"{"a/b~":1,"a/b~":1}"#, "/a~1b~0"),
            (r#"{"persist":"no","persist":"no"}"#, "/persist"),
        ] {
            assert_eq!(refused(body.as_bytes()), (400, "duplicate_member", field.to_owned()), "{body}");
        }
        let many: Vec<String> = (0..20_000).map(|i| format!("\"k{i}\":0")).collect();
        assert!(parse::<Request<'_>>(format!("{{{}}}", many.join(",")).as_bytes()).is_ok());
        assert_eq!(refused(format!("{{{},\"k19999\":1}}", many.join(",")).as_bytes()).2, "/k19999");
    }

    #[test]
    fn wrong_types() {
        for (body, field) in [
            (r#"{"client_id":5}"#, "/client_id"),
            (r#"{"client_id":["a"]}"#, "/client_id"),
            (r#"{"persist":"yes"}"#, "/persist"),
            (r#"{"list":[1,"x"]}"#, "/list/1"),
            (r#"{"list":[1,256]}"#, "/list/1"),
            ("[]", ""),
            (r#"["demo-spa",true]"#, ""),
            ("null", ""),
            ("\"x\"", ""),
        ] {
            assert_eq!(refused(body.as_bytes()), (400, "invalid_value", field.to_owned()), "{body}");
        }
        let refusal = parse::<Request<'_>>(br#"{"persist":"canary-secret"}"#).unwrap_err();
        assert!(!refusal.detail().contains("canary"), "{}", refusal.detail());
        assert!(refusal.detail().contains("boolean"), "{}", refusal.detail());
    }

    #[test]
    fn nul() {
        assert_eq!(refused(br#"{"client_id":"a\u0000b"}"#), (422, "nul_character", "/client_id".into()));
        assert_eq!(refused(br#"{"unknown":"\u0000"}"#), (422, "nul_character", "/unknown".into()));
        assert_eq!(refused(br#"{"n\u0000":1}"#).1, "nul_character");
        assert!(parse::<Request<'_>>(br#"{"client_id":"\\u0000"}"#).is_ok(), "an escaped backslash is no escape");
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..64)) {
            let _ = parse::<Request<'_>>(&body);
        }

        #[test]
        fn nothing_panics_on_nearly_json(body in r#"[\{\}\[\]",:\\ud0-9a-f ]{0,40}"#) {
            let _ = parse::<Request<'_>>(body.as_bytes());
        }
    }
}
