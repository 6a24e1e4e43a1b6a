//! What is wrong with a template, in words for the person who wrote it.

use std::fmt;

/// A part of a template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The subject.
    Subject,
    /// The plain text.
    Text,
    /// The HTML.
    Html,
}

impl Part {
    /// Its name, as in the fields of [`Template`](super::Template).
    pub fn name(self) -> &'static str {
        match self {
            Self::Subject => "subject",
            Self::Text => "text",
            Self::Html => "html",
        }
    }
}

/// Why a template is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// Longer than 64 KiB.
    TooLong,
    /// What comes out is longer than 256 KiB, or a short message than 1000 characters.
    LongOutput,
    /// Nothing is said, or nothing comes out.
    Empty,
    /// A line break in the subject.
    LineBreak,
    /// A control character.
    Control,
    /// Short messages have neither subject nor HTML.
    NotInSms,
    /// It cannot be read.
    Syntax(Box<str>),
    /// A variable that this kind of message does not have.
    UnknownVariable(Box<str>),
    /// Something of the language that is not taken here.
    NotTaken(Box<str>),
    /// What this kind of message is sent for is not in it.
    Missing(&'static str),
    /// HTML in which a value or a link would not be safe.
    Html(Box<str>),
    /// It takes too long.
    OutOfFuel,
    /// It cannot be carried out with the sample values.
    Values(Box<str>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong => f.write_str("it is longer than 64 KiB"),
            Self::LongOutput => f.write_str("what comes out is too long"),
            Self::Empty => f.write_str("it is empty"),
            Self::LineBreak => f.write_str("a subject has no line break"),
            Self::Control => f.write_str("there is a control character"),
            Self::NotInSms => f.write_str("short messages have neither subject nor HTML"),
            Self::Syntax(text) | Self::Values(text) | Self::Html(text) => f.write_str(text),
            Self::UnknownVariable(name) => write!(f, "there is no variable {name} in this kind of message"),
            Self::NotTaken(what) => write!(f, "{what} cannot be used here"),
            Self::Missing(name) => write!(f, "{{{{ {name} }}}} must be in it: the message is sent for that"),
            Self::OutOfFuel => f.write_str("it takes too long"),
        }
    }
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateFault {
    /// The part.
    pub part: Part,
    /// The line within the part, from 1; 0: the part as a whole.
    pub line: usize,
    /// Why.
    pub reason: Reason,
}

impl TemplateFault {
    pub(super) fn new(part: Part, line: usize, reason: Reason) -> Self {
        Self { part, line, reason }
    }
}

impl fmt::Display for TemplateFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.part.name(), self.reason),
            line => write!(f, "{}, line {line}: {}", self.part.name(), self.reason),
        }
    }
}

impl std::error::Error for TemplateFault {}
