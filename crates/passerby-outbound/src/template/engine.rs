//! Carries templates out: minijinja with nothing in it but what is put there.

use std::io::{self, Write};

use minijinja::{
    AutoEscape, Environment, Error, ErrorKind, HtmlEscape, UndefinedBehavior, Value,
    value::{Serde, ValueKind},
};

use super::{
    Channel, LONGEST_OUTPUT, LONGEST_SHORT_MESSAGE, LONGEST_SUBJECT, Letter, Rendered, Template,
    fault::{Part, Reason, TemplateFault},
};

/// Filters that there are. Each gives a text no longer than three times what it was given.
pub(super) const FILTERS: &[&str] = &["default", "d", "upper", "lower", "capitalize", "trim", "length", "urlencode"];
/// Tests that there are.
pub(super) const TESTS: &[&str] = &["defined", "undefined", "none", "string", "number", "sequence", "mapping"];

/// Steps that one part may take.
const FUEL: u64 = 20_000;

/// Makes all parts.
pub(super) fn render(template: &Template, letter: &Letter) -> Result<Rendered, TemplateFault> {
    let values = Value::from(Serde(letter.values()));
    let text = part(Part::Text, &template.text, &values)?;
    if text.trim().is_empty() {
        return Err(TemplateFault::new(Part::Text, 0, Reason::Empty));
    }
    if letter.kind().channel() == Channel::Sms {
        let text = text.trim().to_owned();
        if text.chars().count() > LONGEST_SHORT_MESSAGE {
            return Err(TemplateFault::new(Part::Text, 0, Reason::LongOutput));
        }
        return Ok(Rendered { subject: String::new(), text, html: None });
    }
    let subject = part(Part::Subject, &template.subject, &values)?;
    let subject: String = subject.trim().chars().take(LONGEST_SUBJECT).collect();
    if subject.is_empty() {
        return Err(TemplateFault::new(Part::Subject, 0, Reason::Empty));
    }
    // values hold none, so it is the template's own, written as an escape in a string
    if subject.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err(TemplateFault::new(Part::Subject, 0, Reason::LineBreak));
    }
    let html = template.html.as_deref().map(|html| part(Part::Html, html, &values)).transpose()?;
    Ok(Rendered { subject, text, html })
}

fn part(part: Part, source: &str, values: &Value) -> Result<String, TemplateFault> {
    let environment = environment(part);
    let template = environment.template_from_named_str(part.name(), source).map_err(|e| fault(part, &e))?;
    let mut out = Bounded { bytes: Vec::new(), over: false };
    let rendered = template.render_captured_to(values.clone(), &mut out).map(drop);
    if out.over {
        return Err(TemplateFault::new(part, 0, Reason::LongOutput));
    }
    rendered.map_err(|e| fault(part, &e))?;
    // only text is written
    String::from_utf8(out.bytes).map_err(|_| TemplateFault::new(part, 0, Reason::Control))
}

fn environment(part: Part) -> Environment<'static> {
    let mut environment = Environment::empty();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    // values are escaped whatever the template or the value says of itself
    environment.set_formatter(move |out, _, value| {
        let text = told(value)?;
        let put = if part == Part::Html { write!(out, "{}", HtmlEscape(&text)) } else { out.write_str(&text) };
        put.map_err(|_| Error::new(ErrorKind::WriteFailure, "too long"))
    });
    environment.add_filter("default", default);
    environment.add_filter("d", default);
    environment.add_filter("upper", |text: String| text.to_uppercase());
    environment.add_filter("lower", |text: String| text.to_lowercase());
    environment.add_filter("capitalize", |text: String| {
        let mut rest = text.chars();
        rest.next().map(|first| first.to_uppercase().chain(rest.flat_map(char::to_lowercase)).collect::<String>())
    });
    environment.add_filter("trim", |text: String| text.trim().to_owned());
    environment.add_filter("length", minijinja::filters::length);
    environment.add_filter("urlencode", |text: String| {
        url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>()
    });
    environment.add_test("defined", |value: &Value| !value.is_undefined());
    environment.add_test("undefined", |value: &Value| value.is_undefined());
    environment.add_test("none", |value: &Value| value.is_none());
    environment.add_test("string", |value: &Value| value.kind() == ValueKind::String);
    environment.add_test("number", |value: &Value| value.kind() == ValueKind::Number);
    environment.add_test("sequence", |value: &Value| value.kind() == ValueKind::Seq);
    environment.add_test("mapping", |value: &Value| value.kind() == ValueKind::Map);
    environment
}

/// Another value for what is missing.
fn default(value: &Value, other: Option<Value>) -> Value {
    if value.is_undefined() || value.is_none() { other.unwrap_or_else(|| Value::from("")) } else { value.clone() }
}

/// The text of one value.
fn told(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number | ValueKind::Bool => Ok(value.to_string()),
        ValueKind::Undefined | ValueKind::None => {
            let help = "it may be missing: ask for it by {% if … %}, or give another value by |default(\"…\")";
            Err(Error::new(ErrorKind::UndefinedError, help))
        }
        _ => Err(Error::new(ErrorKind::InvalidOperation, "a list or an object has no text of its own")),
    }
}

/// A buffer that takes no more than [`LONGEST_OUTPUT`].
struct Bounded {
    bytes: Vec<u8>,
    over: bool,
}

impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > LONGEST_OUTPUT {
            self.over = true;
            return Err(io::Error::other("too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What minijinja says, in our words.
pub(super) fn fault(part: Part, error: &Error) -> TemplateFault {
    let told = || match error.detail() {
        Some(detail) => detail.into(),
        None => error.kind().to_string().into(),
    };
    let reason = match error.kind() {
        ErrorKind::OutOfFuel => Reason::OutOfFuel,
        ErrorKind::SyntaxError | ErrorKind::BadEscape => Reason::Syntax(told()),
        ErrorKind::UndefinedError => Reason::Values(match error.detail() {
            Some(detail) => detail.into(),
            None => "a member of an object may be missing: ask for it by {% if … is defined %}, or give another value by |default(\"…\")".into(),
        }),
        _ => Reason::Values(told()),
    };
    TemplateFault::new(part, error.line().unwrap_or(0), reason)
}
