//! Reading a TOML document key by key. A section asks for the keys that it knows; whatever was not asked for is
//! unknown. So the list of known keys cannot differ from what is read, nothing stops at the first mistake, and every
//! message has its line and its path. (Derived deserializers stop at the first mistake and know no paths.)

use std::{cell::RefCell, fmt::Write as _, ops::Range, sync::Arc};

use passerby_core::Timestamp;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::problem::{At, Place, Problem, Secret};

/// Why a text was not taken.
pub(super) enum Fault {
    /// It is not what was expected: the message says what was, and what was found.
    Other,
    /// The message itself.
    Because(String),
}

impl Fault {
    /// A message of its own.
    pub(super) fn because<T>(message: impl Into<String>) -> Result<T, Self> {
        Err(Self::Because(message.into()))
    }
}

/// A document being read, with what was wrong so far.
pub(super) struct Document<'t> {
    source: Arc<str>,
    text: &'t str,
    problems: RefCell<Vec<Problem>>,
}

impl<'t> Document<'t> {
    pub(super) fn new(source: &str, text: &'t str) -> Self {
        Self { source: source.into(), text, problems: RefCell::default() }
    }

    /// Reads the document by `read`; afterwards its mistakes are in [`Self::into_problems`].
    ///
    /// `None` when the text is not TOML at all: a table that was guessed from it would only give false mistakes.
    pub(super) fn read<T>(&self, read: impl FnOnce(&mut Section<'_, 't>) -> T) -> Option<T> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        if errors.is_empty() {
            let mut section =
                Section { doc: self, path: String::new(), table: table.get_ref(), start: 0, asked: Vec::new() };
            let value = read(&mut section);
            section.done();
            return Some(value);
        }
        for error in errors {
            let span = error.span().unwrap_or_default();
            let message = error.message().trim().replace('\n', "; ");
            // the only such mistake that is about a key by name
            let key = if message.contains("duplicate") { self.slice(&span) } else { "" };
            self.report(self.place(span.start, key.to_owned()).problem(message));
        }
        None
    }

    pub(super) fn report(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    fn slice(&self, span: &Range<usize>) -> &'t str {
        self.text.get(span.clone()).filter(|s| s.len() <= 80 && !s.contains('\n')).unwrap_or_default()
    }

    fn place(&self, offset: usize, key: String) -> Place {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line = before.bytes().filter(|b| *b == b'\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        Place::in_file(&self.source, line as u32, column as u32, key)
    }
}

/// A table of the document. Asking for a key makes it known.
pub(super) struct Section<'d, 't> {
    doc: &'d Document<'t>,
    path: String,
    table: &'d DeTable<'t>,
    start: usize,
    asked: Vec<&'static str>,
}

type Found<'d, 't> = &'d Spanned<DeValue<'t>>;

impl<'d, 't> Section<'d, 't> {
    fn ask(&mut self, key: &'static str) -> Option<Found<'d, 't>> {
        self.asked.push(key);
        self.table.get(key)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    fn place_of(&self, key: &str, found: &Spanned<DeValue<'_>>) -> Place {
        self.doc.place(found.span().start, self.path_of(key))
    }

    pub(super) fn report(&self, problem: Problem) {
        self.doc.report(problem);
    }

    /// Whether a key is there, rightly written or not.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// A key that must be there, or else a mistake and the default.
    pub(super) fn need<T: Default>(&self, key: &str, expected: &str, value: Option<At<T>>) -> At<T> {
        value.unwrap_or_else(|| At { value: T::default(), place: self.miss(key, expected) })
    }

    /// Reports a key that is missing; one that is there but wrong was reported already. Gives where it should be.
    pub(super) fn miss(&self, key: &str, expected: &str) -> Place {
        let place = self.doc.place(self.start, self.path_of(key));
        if !self.has(key) {
            self.report(place.problem(format!("missing key; expected {expected}")));
        }
        place
    }

    fn read<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        secret: bool,
        take: impl FnOnce(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let found = self.ask(key)?;
        let place = self.place_of(key, found);
        match take(found.get_ref()) {
            Ok(value) => Some(At { value, place }),
            Err(fault) => {
                self.report(place.problem(explain(fault, expected, found.get_ref(), secret)));
                None
            }
        }
    }

    /// A text that `parse` takes.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl FnOnce(&str) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        self.read(key, expected, false, |v| parse(v.as_str().ok_or(Fault::Other)?))
    }

    /// Any text but an empty one.
    pub(super) fn text(&mut self, key: &'static str, expected: &str) -> Option<At<String>> {
        self.parsed(key, expected, |s| if s.is_empty() { Err(Fault::Other) } else { Ok(s.to_owned()) })
    }

    /// A text that no message repeats.
    pub(super) fn secret(&mut self, key: &'static str, expected: &str, least: usize) -> Option<At<Secret>> {
        self.read(key, expected, true, |v| {
            let text = v.as_str().ok_or(Fault::Other)?;
            let length = text.chars().count();
            if length < least {
                return Fault::because(format!("expected {expected}, found {length} characters"));
            }
            if text.chars().any(char::is_control) || text.trim() != text {
                return Fault::because("it must not hold control characters nor begin or end with a space");
            }
            Ok(Secret::new(text))
        })
    }

    /// A list of at least one text; no message repeats them.
    pub(super) fn secrets(
        &mut self,
        key: &'static str,
        expected: &str,
        check: impl Fn(&str) -> Result<(), Fault>,
    ) -> Option<Vec<At<Secret>>> {
        if let Some(found) = self.table.get(key)
            && found.get_ref().as_array().is_some_and(|items| items.is_empty())
        {
            let message = format!("expected a list, each {expected}; found an empty one");
            self.report(self.place_of(key, found).problem(message));
        }
        self.items(key, expected, true, |text| check(text).map(|()| Secret::new(text)))
    }

    /// `true` or `false`.
    pub(super) fn flag(&mut self, key: &'static str) -> Option<At<bool>> {
        self.read(key, "true or false", false, |v| v.as_bool().ok_or(Fault::Other))
    }

    /// A whole number within bounds.
    pub(super) fn number(&mut self, key: &'static str, within: Range<u64>) -> Option<At<u64>> {
        let expected = format!("a whole number from {} to {}", within.start, within.end - 1);
        self.read(key, &expected, false, |v| {
            let n = v.as_integer().and_then(|n| u64::from_str_radix(n.as_str(), n.radix()).ok());
            n.filter(|n| within.contains(n)).ok_or(Fault::Other)
        })
    }

    /// A moment: TOML's own date and time with its offset, or the same as a text.
    pub(super) fn moment(&mut self, key: &'static str) -> Option<At<Timestamp>> {
        self.read(key, "a date and time such as 2030-01-31T00:00:00Z", false, |v| {
            let text = match v {
                DeValue::Datetime(moment) => moment.to_string(),
                DeValue::String(text) => text.to_string(),
                _ => return Err(Fault::Other),
            };
            Timestamp::parse(&text).ok_or(Fault::Other)
        })
    }

    /// One of the words given.
    pub(super) fn choice<T: Clone>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<At<T>> {
        let expected = format!("one of {}", quoted(words.iter().map(|(word, _)| *word)));
        self.parsed(key, &expected, |s| {
            if let Some((_, value)) = words.iter().find(|(word, _)| *word == s) {
                return Ok(value.clone());
            }
            let hint = hint(s, words.iter().map(|(word, _)| *word));
            Fault::because(format!("expected {expected}, found {s:?}{hint}"))
        })
    }

    /// A list of texts, each of which `parse` takes.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<At<T>>> {
        self.items(key, expected, false, parse)
    }

    fn items<T>(
        &mut self,
        key: &'static str,
        expected: &str,
        secret: bool,
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Vec<At<T>>> {
        let found = self.ask(key)?;
        let Some(items) = found.get_ref().as_array() else {
            let message = format!("expected a list, each {expected}; found {}", describe(found.get_ref(), secret));
            self.report(self.place_of(key, found).problem(message));
            return None;
        };
        let mut values = Vec::with_capacity(items.len());
        for item in &**items {
            let place = self.place_of(key, item);
            match item.get_ref().as_str().ok_or(Fault::Other).and_then(&parse) {
                Ok(value) => values.push(At { value, place }),
                Err(fault) => self.report(place.problem(explain(fault, expected, item.get_ref(), secret))),
            }
        }
        Some(values)
    }

    /// A table below this one.
    pub(super) fn table<T>(&mut self, key: &'static str, read: impl FnOnce(&mut Section<'d, 't>) -> T) -> Option<T> {
        let found = self.ask(key)?;
        let Some(table) = found.get_ref().as_table() else {
            let message =
                format!("expected a table [{}], found {}", self.path_of(key), describe(found.get_ref(), false));
            self.report(self.place_of(key, found).problem(message));
            return None;
        };
        Some(self.below(key, found, table, read))
    }

    /// A list of tables below this one. `None` when the key is missing.
    pub(super) fn tables<T>(
        &mut self,
        key: &'static str,
        mut read: impl FnMut(&mut Section<'d, 't>) -> T,
    ) -> Option<Vec<T>> {
        let found = self.ask(key)?;
        let expected = format!("expected a list of tables, each [[{}]]", self.path_of(key));
        let Some(items) = found.get_ref().as_array() else {
            let message = format!("{expected}, found {}", describe(found.get_ref(), false));
            self.report(self.place_of(key, found).problem(message));
            return None;
        };
        let mut values = Vec::with_capacity(items.len());
        for item in &**items {
            if let Some(table) = item.get_ref().as_table() {
                values.push(self.below(key, item, table, &mut read));
            } else {
                let message = format!("{expected}, found {}", describe(item.get_ref(), false));
                self.report(self.place_of(key, item).problem(message));
            }
        }
        Some(values)
    }

    fn below<T>(
        &self,
        key: &str,
        found: Found<'d, 't>,
        table: &'d DeTable<'t>,
        read: impl FnOnce(&mut Section<'d, 't>) -> T,
    ) -> T {
        let mut section =
            Section { doc: self.doc, path: self.path_of(key), table, start: found.span().start, asked: Vec::new() };
        let value = read(&mut section);
        section.done();
        value
    }

    /// Reports what nobody asked for.
    fn done(self) {
        for key in self.table.keys() {
            let name: &str = key.get_ref();
            if self.asked.contains(&name) {
                continue;
            }
            let place = self.doc.place(key.span().start, self.path_of(name));
            let hint = hint(name, self.asked.iter().copied());
            self.report(place.problem(format!("unknown key; expected one of {}{hint}", self.asked.join(", "))));
        }
    }
}

/// `; did you mean "x"?` when one of the names is near, else nothing.
fn hint<'a>(found: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::normalized_damerau_levenshtein(&found.to_lowercase(), name), name))
        .filter(|(likeness, _)| *likeness >= 0.4)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| format!("; did you mean {name:?}?"))
        .unwrap_or_default()
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.fold(String::new(), |mut text, word| {
        let _ = write!(text, "{}{word:?}", if text.is_empty() { "" } else { ", " });
        text
    })
}

fn explain(fault: Fault, expected: &str, found: &DeValue<'_>, secret: bool) -> String {
    match fault {
        Fault::Because(message) => message,
        Fault::Other => format!("expected {expected}, found {}", describe(found, secret)),
    }
}

/// What was found, in words; a secret by its type only, and a long text not whole.
fn describe(value: &DeValue<'_>, secret: bool) -> String {
    match value {
        DeValue::String(_) if secret => "another text".into(),
        DeValue::String(s) if s.chars().count() > 60 => format!("{:?}…", s.chars().take(60).collect::<String>()),
        DeValue::String(s) => format!("{:?}", &**s),
        DeValue::Integer(_) | DeValue::Float(_) if secret => "a number".into(),
        DeValue::Integer(n) => format!("the number {n}"),
        DeValue::Float(n) => format!("the number {n}"),
        DeValue::Boolean(b) => format!("{b}"),
        DeValue::Datetime(_) => "a date".into(),
        DeValue::Array(_) => "a list".into(),
        DeValue::Table(_) => "a table".into(),
    }
}
