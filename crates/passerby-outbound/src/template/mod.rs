//! Templates of messages, as operators edit them.
//!
//! The language is a small part of Jinja's: `{{ variable }}`, `{% if %}`, `{% for %}` over what an object holds,
//! comparisons, and the filters `default`, `upper`, `lower`, `capitalize`, `trim`, `length`, `urlencode`. There is no way
//! to bind a name, join texts or call anything: so no template can grow without bound, and each use of a variable can be
//! judged before the first message is sent. [`check`] does that when a template is saved: each variable must be one of
//! its [`Kind`], in HTML it may stand in text or in a quoted attribute only, and what begins a link must be a link.
//!
//! Values come from people, some of them hostile. They are made one line (`Letter`), escaped in HTML whatever the
//! template says, and links are http or https.

mod builtin;
mod engine;
mod fault;
mod html;
mod kind;
mod letter;
mod walk;

pub use self::{
    fault::{Part, Reason, TemplateFault},
    kind::{Channel, Kind, Variable, VariableKind, variables_as_markdown},
    letter::{About, Change, Letter, Link, LinkFault, Purpose, ReturnBy, Seen},
};

/// Longest template of a part, in bytes.
pub const LONGEST_SOURCE: usize = 64 * 1024;
/// Longest part that comes out, in bytes.
pub const LONGEST_OUTPUT: usize = 256 * 1024;
/// Longest subject that comes out, in characters; what is longer is cut.
pub const LONGEST_SUBJECT: usize = 255;
/// Longest short message that comes out, in characters.
pub const LONGEST_SHORT_MESSAGE: usize = 1000;

/// What an operator edits for one kind of message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// The subject; empty for short messages.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The HTML beside it; none for short messages.
    pub html: Option<String>,
}

/// A message as it goes out. It holds codes and links: never logged.
#[derive(Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The subject: one line; empty for short messages.
    pub subject: String,
    /// The plain text.
    pub text: String,
    /// The HTML.
    pub html: Option<String>,
}

impl std::fmt::Debug for Rendered {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rendered").field("html", &self.html.is_some()).finish_non_exhaustive()
    }
}

impl Template {
    /// The one that comes with the server.
    pub fn builtin(kind: Kind) -> Self {
        builtin::template(kind)
    }

    fn parts(&self) -> impl Iterator<Item = (Part, &str)> {
        let html = self.html.as_deref().map(|html| (Part::Html, html));
        [(Part::Subject, self.subject.as_str()), (Part::Text, self.text.as_str())].into_iter().chain(html)
    }
}

/// Judges a template before it is saved: everything that could go wrong with it later goes wrong now.
pub fn check(kind: Kind, template: &Template) -> Result<(), TemplateFault> {
    shape(kind, template)?;
    for (part, source) in template.parts() {
        walk::walk(kind, part, source)?;
    }
    // with everything there is, and with only what is always there
    for letter in [Letter::sample(kind), Letter::bare_sample(kind)] {
        engine::render(template, &letter)?;
    }
    Ok(())
}

/// The message as it would go out, with sample values; faults as [`check`] has them.
pub fn preview(kind: Kind, template: &Template) -> Result<Rendered, TemplateFault> {
    check(kind, template)?;
    engine::render(template, &Letter::sample(kind))
}

/// Makes a message with the operator's template; where that fails, which only `state` can bring about, with the one that
/// comes with the server: a person who waits for a code gets it. The fault is for the log.
pub fn render(template: &Template, letter: &Letter) -> Result<(Rendered, Option<TemplateFault>), TemplateFault> {
    match engine::render(template, letter) {
        Ok(rendered) => Ok((rendered, None)),
        Err(fault) => Ok((engine::render(&Template::builtin(letter.kind()), letter)?, Some(fault))),
    }
}

/// What can be said without reading the template's language.
fn shape(kind: Kind, template: &Template) -> Result<(), TemplateFault> {
    for (part, source) in template.parts() {
        if source.len() > LONGEST_SOURCE {
            return Err(TemplateFault::new(part, 0, Reason::TooLong));
        }
        if let Some(at) = source.find(|c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
            return Err(TemplateFault::new(part, line_of(source, at), Reason::Control));
        }
    }
    if template.text.trim().is_empty() {
        return Err(TemplateFault::new(Part::Text, 0, Reason::Empty));
    }
    match kind.channel() {
        Channel::Sms if !template.subject.is_empty() => Err(TemplateFault::new(Part::Subject, 0, Reason::NotInSms)),
        Channel::Sms if template.html.is_some() => Err(TemplateFault::new(Part::Html, 0, Reason::NotInSms)),
        Channel::Sms => Ok(()),
        Channel::Email if template.subject.trim().is_empty() => {
            Err(TemplateFault::new(Part::Subject, 0, Reason::Empty))
        }
        Channel::Email => match template.subject.find(['\n', '\r', '\u{2028}', '\u{2029}']) {
            Some(at) => Err(TemplateFault::new(Part::Subject, line_of(&template.subject, at), Reason::LineBreak)),
            None => Ok(()),
        },
    }
}

fn line_of(source: &str, at: usize) -> usize {
    source[..at].matches('\n').count() + 1
}

#[cfg(test)]
mod tests;
