//! The strict reader: JSON text (RFC 8259) to a value, refusing what two readers could understand differently.
//!
//! A reader of our own, since serde_json turns an integer that is too large into a float without a word, may read a
//! float one unit off in its last place, keeps the last of two equal members, and cannot say where a value stands.

use std::fmt::Write as _;

use serde_json::{Map, Number, Value, map::Entry};

use super::{EditError, Fault};

/// The deepest nesting that is ever read, whatever the settings say: the reader and serde_json's writer recurse, and
/// serde_json's own reader, which others use on the same text, stops at 127.
pub(crate) const DEEPEST: usize = 100;

/// A pointer in an answer is not made longer than this, in bytes; the rest of the path is left away, whole steps.
pub(crate) const LONGEST_FIELD: usize = 512;

/// Whether an object may not have this member. They are harmless here, and a trap in every JavaScript that copies the
/// object by assignment.
pub(super) fn is_reserved(key: &str) -> bool {
    matches!(key, "__proto__" | "constructor" | "prototype")
}

/// Appends one step to a JSON pointer (RFC 6901 section 3), unless it would get too long. Says whether it did.
pub(super) fn push_step(pointer: &mut String, step: &str) -> bool {
    if pointer.len() + 1 + step.len() > LONGEST_FIELD {
        return false;
    }
    append_step(pointer, step);
    true
}

/// Appends one step to a JSON pointer, however long it gets.
pub(crate) fn append_step(pointer: &mut String, step: &str) {
    pointer.push('/');
    for c in step.chars() {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

/// The pointer to a member.
pub(super) fn member(base: &str, name: &str) -> String {
    let mut field = base.to_owned();
    push_step(&mut field, name);
    field
}

/// Reads one JSON value. `base` is put before the pointers of errors; `max_depth` counts open containers, the value
/// itself included.
pub(super) fn read(text: &[u8], base: &str, max_depth: usize) -> Result<Value, EditError> {
    let text = std::str::from_utf8(text).map_err(|e| {
        EditError::new(Fault::Malformed, base, format!("The text is not UTF-8 at byte {}.", e.valid_up_to()))
    })?;
    let mut reader = Reader { text, bytes: text.as_bytes(), at: 0, base, max_depth: max_depth.min(DEEPEST) };
    reader.skip_space();
    let value = reader.value(0, None)?;
    reader.skip_space();
    if reader.at < reader.bytes.len() {
        return Err(reader.malformed(None, "something follows the value"));
    }
    Ok(value)
}

/// The way from the root to the value that is being read; it lives on the stack, so that a good text costs nothing.
#[derive(Clone, Copy)]
struct Trail<'a> {
    up: Option<&'a Trail<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Item(usize),
}

type Way<'a> = Option<&'a Trail<'a>>;

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
    base: &'t str,
    max_depth: usize,
}

impl Reader<'_> {
    fn error(&self, way: Way<'_>, fault: Fault, detail: impl Into<String>) -> EditError {
        let mut steps = Vec::new();
        let mut next = way;
        while let Some(trail) = next {
            steps.push(trail.step);
            next = trail.up;
        }
        let mut field = self.base.to_owned();
        for step in steps.iter().rev() {
            let whole = match step {
                Step::Member(name) => push_step(&mut field, name),
                // Writing to a string cannot fail.
                Step::Item(index) => field.len() < LONGEST_FIELD && write!(field, "/{index}").is_ok(),
            };
            if !whole {
                break;
            }
        }
        EditError::new(fault, field, detail)
    }

    fn malformed(&self, way: Way<'_>, what: &str) -> EditError {
        self.error(way, Fault::Malformed, format!("The text is not JSON: {what} (byte {}).", self.at))
    }

    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\n' | b'\r' | b'\t') = self.peek() {
            self.at += 1;
        }
    }

    fn value(&mut self, depth: usize, way: Way<'_>) -> Result<Value, EditError> {
        match self.peek() {
            Some(b'"') => self.string(way).map(Value::String),
            Some(b'{') => self.object(depth + 1, way),
            Some(b'[') => self.list(depth + 1, way),
            Some(b'-' | b'0'..=b'9') => self.number(way).map(Value::Number),
            Some(b't') => self.word("true", Value::Bool(true), way),
            Some(b'f') => self.word("false", Value::Bool(false), way),
            Some(b'n') => self.word("null", Value::Null, way),
            Some(_) => Err(self.malformed(way, "a value is expected")),
            None => Err(self.malformed(way, "the text ends before its value")),
        }
    }

    fn word(&mut self, word: &str, value: Value, way: Way<'_>) -> Result<Value, EditError> {
        if self.bytes[self.at..].starts_with(word.as_bytes()) {
            self.at += word.len();
            return Ok(value);
        }
        Err(self.malformed(way, "a value is expected"))
    }

    fn enter(&mut self, depth: usize, way: Way<'_>) -> Result<(), EditError> {
        if depth > self.max_depth {
            let detail = format!("Objects and lists may be nested {} deep here.", self.max_depth);
            return Err(self.error(way, Fault::TooDeep, detail));
        }
        self.at += 1;
        self.skip_space();
        Ok(())
    }

    fn object(&mut self, depth: usize, way: Way<'_>) -> Result<Value, EditError> {
        self.enter(depth, way)?;
        let mut members = Map::new();
        if self.eat(b'}') {
            return Ok(Value::Object(members));
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(self.malformed(way, "a member's name is expected"));
            }
            let name = self.string(way)?;
            if is_reserved(&name) {
                let here = Trail { up: way, step: Step::Member(&name) };
                return Err(self.error(Some(&here), Fault::ReservedKey, "This name is not allowed as a member."));
            }
            self.skip_space();
            if !self.eat(b':') {
                return Err(self.malformed(way, "a colon is expected"));
            }
            self.skip_space();
            let here = Trail { up: way, step: Step::Member(&name) };
            let value = self.value(depth, Some(&here))?;
            match members.entry(name) {
                Entry::Vacant(free) => {
                    free.insert(value);
                }
                Entry::Occupied(taken) => {
                    let here = Trail { up: way, step: Step::Member(taken.key()) };
                    return Err(self.error(Some(&here), Fault::DuplicateMember, "An object has this member twice."));
                }
            }
            self.skip_space();
            if self.eat(b'}') {
                return Ok(Value::Object(members));
            }
            if !self.eat(b',') {
                return Err(self.malformed(way, "a comma or the object's end is expected"));
            }
            self.skip_space();
        }
    }

    fn list(&mut self, depth: usize, way: Way<'_>) -> Result<Value, EditError> {
        self.enter(depth, way)?;
        let mut items = Vec::new();
        if self.eat(b']') {
            return Ok(Value::Array(items));
        }
        loop {
            let here = Trail { up: way, step: Step::Item(items.len()) };
            items.push(self.value(depth, Some(&here))?);
            self.skip_space();
            if self.eat(b']') {
                return Ok(Value::Array(items));
            }
            if !self.eat(b',') {
                return Err(self.malformed(way, "a comma or the list's end is expected"));
            }
            self.skip_space();
        }
    }

    /// Skips digits and says whether there was one.
    fn digits(&mut self) -> bool {
        let start = self.at;
        while self.peek().is_some_and(|b| b.is_ascii_digit()) {
            self.at += 1;
        }
        self.at > start
    }

    fn number(&mut self, way: Way<'_>) -> Result<Number, EditError> {
        let start = self.at;
        let negative = self.eat(b'-');
        // After a leading zero no digit may follow; the caller then finds neither comma nor end.
        if !self.eat(b'0') && !self.digits() {
            return Err(self.malformed(way, "a digit is expected"));
        }
        let mut whole = true;
        if self.eat(b'.') {
            whole = false;
            if !self.digits() {
                return Err(self.malformed(way, "a digit is expected"));
            }
        }
        if self.eat(b'e') || self.eat(b'E') {
            whole = false;
            let _signed = self.eat(b'+') || self.eat(b'-');
            if !self.digits() {
                return Err(self.malformed(way, "a digit is expected"));
            }
        }
        let literal = &self.text[start..self.at];
        let number = if !whole || literal == "-0" {
            // A minus zero is only kept by a float.
            literal.parse::<f64>().ok().and_then(Number::from_f64)
        } else if negative {
            literal.parse::<i64>().ok().map(Number::from)
        } else {
            literal.parse::<u64>().ok().map(Number::from)
        };
        number.ok_or_else(|| {
            self.error(
                way,
                Fault::NumberOutOfRange,
                "Integers go from -9223372036854775808 to 18446744073709551615, floats to about 1.8e308.",
            )
        })
    }

    /// A string; the reader stands on its opening quote.
    fn string(&mut self, way: Way<'_>) -> Result<String, EditError> {
        self.at += 1;
        let mut start = self.at;
        let mut out = String::new();
        loop {
            match self.peek() {
                Some(b'"') => {
                    // Quote and backslash are ASCII, so a cut at them never splits a character.
                    let rest = &self.text[start..self.at];
                    self.at += 1;
                    if out.is_empty() {
                        return Ok(rest.to_owned());
                    }
                    out.push_str(rest);
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(&self.text[start..self.at]);
                    self.at += 1;
                    out.push(self.escape(way)?);
                    start = self.at;
                }
                Some(0..=0x1f) => return Err(self.malformed(way, "a control character in a string must be escaped")),
                Some(_) => self.at += 1,
                None => return Err(self.malformed(way, "the text ends in a string")),
            }
        }
    }

    /// What follows a backslash.
    fn escape(&mut self, way: Way<'_>) -> Result<char, EditError> {
        let Some(kind) = self.peek() else { return Err(self.malformed(way, "the text ends in a string")) };
        self.at += 1;
        Ok(match kind {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let first = self.hex(way)?;
                let code = match first {
                    0 => return Err(self.error(way, Fault::NulCharacter, "A string may not hold the character NUL.")),
                    0xd800..=0xdbff => {
                        let second = if self.eat(b'\\') && self.eat(b'u') { self.hex(way)? } else { 0 };
                        if !(0xdc00..=0xdfff).contains(&second) {
                            return Err(self.malformed(way, "a surrogate stands alone"));
                        }
                        0x1_0000 + ((first - 0xd800) << 10) + (second - 0xdc00)
                    }
                    code => code,
                };
                // Only the second half of a pair is left to be no character.
                char::from_u32(code).ok_or_else(|| self.malformed(way, "a surrogate stands alone"))?
            }
            _ => return Err(self.malformed(way, "an unknown escape")),
        })
    }

    /// Four hexadecimal digits.
    fn hex(&mut self, way: Way<'_>) -> Result<u32, EditError> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = self.peek().and_then(|b| char::from(b).to_digit(16)) else {
                return Err(self.malformed(way, "four hexadecimal digits are expected"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fails(text: impl AsRef<[u8]>) -> (Fault, String) {
        let e = read(text.as_ref(), "/data", 16).unwrap_err();
        assert!(!e.detail.is_empty());
        (e.fault, e.field)
    }

    fn round(text: &str) -> String {
        read(text.as_bytes(), "", 16).unwrap().to_string()
    }

    #[test]
    fn reads_what_json_allows() {
        for (text, value) in [
            (" { } ", json!({})),
            ("\t{\"a\" :\r\n[ 1 , -2,true,false,null ,\"x\" ] }\n", json!({"a": [1, -2, true, false, null, "x"]})),
            (r#""\"\\\/\b\f\n\r\t\u0041\u00e9\ud83d\ude00é😀""#, json!("\"\\/\u{8}\u{c}\n\r\tAé😀é😀")),
            (r#"{"":{"":""}}"#, json!({"": {"": ""}})),
            ("[]", json!([])),
            ("\"\u{7f}\u{2028}\"", json!("\u{7f}\u{2028}")),
        ] {
            assert_eq!(read(text.as_bytes(), "", 16).unwrap(), value, "{text}");
        }
    }

    #[test]
    fn numbers_keep_their_value() {
        for same in [
            "0",
            "-1",
            "9007199254740993",
            "18446744073709551615",
            "9223372036854775808",
            "-9223372036854775808",
            "1.0",
            "-0.0",
            "0.1",
            "5e-324",
            "1.7976931348623157e+308",
            "2.2250738585072014e-308",
            "0.30000000000000004",
        ] {
            assert_eq!(round(same), same);
        }
        for (text, printed) in [("-0", "-0.0"), ("1e2", "100.0"), ("1E+2", "100.0"), ("1e-400", "0.0")] {
            assert_eq!(round(text), printed);
        }
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let long = "9".repeat(5000);
        for number in [
            "18446744073709551616",
            "-9223372036854775809",
            "100000000000000000000",
            "1e400",
            "-1e400",
            "1e99999999999999999999",
            "1.8e308",
            &long,
        ] {
            let text = format!(r#"{{"a":[0,{{"b/~c":{number}}}]}}"#);
            assert_eq!(fails(&text), (Fault::NumberOutOfRange, "/data/a/1/b~1~0c".into()), "{number}");
        }
    }

    #[test]
    fn malformed_text_is_refused() {
        for text in [
            "",
            " ",
            "{",
            "}",
            "[1,]",
            "[1 2]",
            "{\"a\"}",
            "{\"a\":}",
            "{\"a\":1,}",
            "{a:1}",
            "{'a':1}",
            "[",
            "\"",
            "\"\\",
            "\"\\x\"",
            "\"\\u12\"",
            "\"\\u12g4\"",
            "\"\\ud800\"",
            "\"\\ud800\\n\"",
            "\"\\ud800\\ud800\"",
            "\"\\udc00\"",
            "\"\\ud83dx\"",
            "\"a\nb\"",
            "\"\0\"",
            "01",
            "-",
            "-01",
            "1.",
            ".5",
            "+1",
            "1e",
            "1e+",
            "0x10",
            "NaN",
            "Infinity",
            "-Infinity",
            "nul",
            "True",
            "1 1",
            "{} {}",
            "{}x",
            "/**/{}",
            "\u{feff}{}",
            "[1,,2]",
            "\u{a0}{}",
        ] {
            assert_eq!(fails(text).0, Fault::Malformed, "{text:?}");
        }
        for bytes in [&b"\"\xff\""[..], b"\"\xed\xa0\x80\"", b"\"\xc0\x80\"", b"{\"a\":\"\xe2\x82\"}"] {
            assert_eq!(fails(bytes), (Fault::Malformed, "/data".into()));
        }
    }

    #[test]
    fn ambiguous_and_dangerous_text_is_refused() {
        for (text, fault, field) in [
            (r#"{"a":1,"a":1}"#, Fault::DuplicateMember, "/data/a"),
            (r#"{"a":[{"b":1,"c":2,"\u0062":3}]}"#, Fault::DuplicateMember, "/data/a/0/b"),
            (r#"{"a":"x\u0000y"}"#, Fault::NulCharacter, "/data/a"),
            (r#"{"o":{"a\u0000":1}}"#, Fault::NulCharacter, "/data/o"),
            (r#"{"a":{"__proto__":1}}"#, Fault::ReservedKey, "/data/a/__proto__"),
            (r#"{"\u005f_proto__":1}"#, Fault::ReservedKey, "/data/__proto__"),
            (r#"[{"constructor":null}]"#, Fault::ReservedKey, "/data/0/constructor"),
            (r#"{"prototype":{}}"#, Fault::ReservedKey, "/data/prototype"),
        ] {
            assert_eq!(fails(text), (fault, field.into()), "{text}");
        }
        // As values they are words like others.
        assert_eq!(round(r#"{"a":"__proto__"}"#), r#"{"a":"__proto__"}"#);
    }

    #[test]
    fn nesting_is_bounded() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(read(nested(16).as_bytes(), "", 16).is_ok());
        let e = read(nested(17).as_bytes(), "", 16).unwrap_err();
        assert_eq!((e.fault, e.field.as_str()), (Fault::TooDeep, "/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0/0"));
        for text in ["[".repeat(100_000), nested(100_000), "{\"a\":".repeat(100_000), "[{\"a\":".repeat(100_000)] {
            assert_eq!(fails(&text).0, Fault::TooDeep);
            // A setting beyond all reason does not open the stack.
            assert_eq!(read(text.as_bytes(), "", usize::MAX).unwrap_err().fault, Fault::TooDeep);
        }
        assert!(read(nested(DEEPEST).as_bytes(), "", usize::MAX).is_ok());
    }

    #[test]
    fn fields_are_not_endless() {
        let key = "k".repeat(10_000);
        let (fault, field) = fails(format!(r#"{{"a":{{"{key}":{{"b":1e999}}}}}}"#));
        assert_eq!((fault, field.as_str()), (Fault::NumberOutOfRange, "/data/a"));
    }

    proptest! {
        #[test]
        fn never_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(&bytes, "/data", 16);
        }

        #[test]
        fn never_panics_on_what_looks_like_json(text in "([\\[\\]{}:,\"\\\\ue0-9.+\\-a-f]|\"a\":|\\\\ud83d|null){0,60}") {
            let ours = read(text.as_bytes(), "", 64);
            // Whatever we read, serde_json reads too; what it refuses, we refuse.
            if ours.is_ok() {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok());
            }
        }

        #[test]
        fn floats_are_exact(bits in any::<u64>()) {
            let float = f64::from_bits(bits);
            prop_assume!(float.is_finite());
            let value = read(format!("{float:e}").as_bytes(), "", 16).unwrap();
            prop_assert_eq!(value.as_f64().unwrap().to_bits(), float.to_bits());
            let again = read(value.to_string().as_bytes(), "", 16).unwrap();
            prop_assert_eq!(again.as_f64().unwrap().to_bits(), float.to_bits());
        }

        #[test]
        fn strings_survive(text in any::<String>()) {
            prop_assume!(!text.contains('\0'));
            let json = serde_json::to_string(&text).unwrap();
            prop_assert_eq!(read(json.as_bytes(), "", 16).unwrap(), Value::String(text));
        }
    }
}
