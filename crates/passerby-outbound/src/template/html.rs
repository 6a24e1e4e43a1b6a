//! Where in an HTML text a template is: so that a value is let in only where escaping keeps it a value.

/// Elements that have no place in a mail; some would also change how what follows is read.
const REFUSED: &[&str] = &[
    "script",
    "iframe",
    "object",
    "embed",
    "applet",
    "base",
    "form",
    "input",
    "button",
    "textarea",
    "select",
    "link",
    "frame",
    "frameset",
    "svg",
    "math",
    "template",
    "noscript",
    "noembed",
    "noframes",
    "xmp",
    "plaintext",
    "portal",
];
/// Attributes that are fetched or opened.
const LINKS: &[&str] =
    &["href", "src", "background", "action", "formaction", "cite", "poster", "data", "longdesc", "ping"];
/// Attributes into which no value may be put: they have a language of their own.
const CLOSED: &[&str] = &["style", "content"];

/// A place in the text.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    Text,
    /// After `<`.
    Open,
    /// After `</`, or in the name of a tag.
    Name {
        name: String,
        end: bool,
    },
    /// In a tag, between attributes.
    Tag {
        style: bool,
    },
    Attribute {
        name: String,
        style: bool,
    },
    /// After the name, before or after `=`.
    Equals {
        name: String,
        style: bool,
        seen: bool,
    },
    Value {
        name: String,
        style: bool,
        quote: Option<char>,
        url: Url,
    },
    /// In `<style>`; the last characters.
    Style {
        tail: String,
    },
    /// After `<!`; the first characters.
    Mark {
        head: String,
    },
    Comment {
        tail: String,
    },
}

/// How far a link is.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Url {
    Start,
    /// Still to be seen whether it is one.
    Begun(String),
    /// The host is over: what follows changes neither scheme nor host.
    Safe,
}

impl Url {
    fn push(&mut self, c: char) {
        match self {
            Self::Start => *self = Self::Begun(c.to_lowercase().collect()),
            Self::Begun(text) => {
                text.extend(c.to_lowercase());
                let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
                // the host alone, then a character that ends it
                if host.is_some_and(|host| host.len() > 1 && host.ends_with(['/', '?', '#'])) {
                    *self = Self::Safe;
                }
            }
            Self::Safe => {}
        }
    }

    fn whole(&self) -> bool {
        match self {
            Self::Start => false,
            Self::Begun(text) => {
                ["https://", "http://"].iter().any(|scheme| text.len() > scheme.len() && text.starts_with(scheme))
            }
            Self::Safe => true,
        }
    }
}

/// Reads HTML as browsers do, as far as a mail needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Html {
    place: Place,
}

type Verdict = Result<(), String>;

impl Html {
    pub(super) fn new() -> Self {
        Self { place: Place::Text }
    }

    /// Whether the text may end here.
    pub(super) fn is_whole(&self) -> bool {
        self.place == Place::Text
    }

    /// A value is put here; `link`: a URL by itself.
    pub(super) fn value(&mut self, link: bool) -> Verdict {
        match &mut self.place {
            Place::Text => Ok(()),
            Place::Value { name, quote: Some(_), url, .. } => {
                if CLOSED.contains(&name.as_str()) {
                    return Err(format!("no variable may stand in the attribute {name}"));
                }
                if !LINKS.contains(&name.as_str()) {
                    return Ok(());
                }
                match url {
                    Url::Start if link => *url = Url::Safe,
                    Url::Safe => {}
                    _ => return Err(format!("{name} must begin with a link or with https:// and a host")),
                }
                Ok(())
            }
            Place::Value { .. } | Place::Equals { .. } => {
                Err("a variable in an attribute needs quotes around it".to_owned())
            }
            Place::Style { .. } => Err("no variable may stand in a style sheet".to_owned()),
            Place::Comment { .. } | Place::Mark { .. } => Err("no variable may stand in a comment".to_owned()),
            _ => Err("no variable may stand in a tag, but in the quoted value of an attribute".to_owned()),
        }
    }

    /// One character of the text.
    pub(super) fn push(&mut self, c: char) -> Verdict {
        let place = std::mem::replace(&mut self.place, Place::Text);
        self.place = next(place, c)?;
        Ok(())
    }
}

fn next(place: Place, c: char) -> Result<Place, String> {
    Ok(match place {
        Place::Text if c == '<' => Place::Open,
        Place::Text => Place::Text,
        Place::Open => match c {
            '/' => Place::Name { name: String::new(), end: true },
            '!' => Place::Mark { head: String::new() },
            '?' => return Err("<? has no place in HTML".to_owned()),
            '<' => Place::Open,
            c if c.is_ascii_alphabetic() => Place::Name { name: c.to_ascii_lowercase().into(), end: false },
            _ => Place::Text,
        },
        Place::Name { mut name, end } => match c {
            '>' => {
                named(&name)?;
                tag_over(!end && name == "style")
            }
            c if c.is_ascii_whitespace() || c == '/' => {
                named(&name)?;
                Place::Tag { style: !end && name == "style" }
            }
            c => {
                name.push(c.to_ascii_lowercase());
                if name.len() > 64 {
                    return Err("the name of a tag is too long".to_owned());
                }
                Place::Name { name, end }
            }
        },
        Place::Tag { style } => match c {
            '>' => tag_over(style),
            c if c.is_ascii_whitespace() || c == '/' => Place::Tag { style },
            '"' | '\'' | '<' | '=' => return Err("a tag is broken".to_owned()),
            c => Place::Attribute { name: c.to_ascii_lowercase().into(), style },
        },
        Place::Attribute { mut name, style } => match c {
            '=' => attribute(name, style)?,
            '>' => {
                attribute(name, style)?;
                tag_over(style)
            }
            c if c.is_ascii_whitespace() || c == '/' => {
                attribute(name.clone(), style)?;
                Place::Equals { name, style, seen: false }
            }
            '"' | '\'' | '<' => return Err("a tag is broken".to_owned()),
            c => {
                name.push(c.to_ascii_lowercase());
                if name.len() > 64 {
                    return Err("the name of an attribute is too long".to_owned());
                }
                Place::Attribute { name, style }
            }
        },
        Place::Equals { name, style, seen: false } => match c {
            '=' => Place::Equals { name, style, seen: true },
            c if c.is_ascii_whitespace() => Place::Equals { name, style, seen: false },
            c => next(Place::Tag { style }, c)?,
        },
        Place::Equals { name, style, seen: true } => match c {
            c if c.is_ascii_whitespace() => Place::Equals { name, style, seen: true },
            '"' | '\'' => Place::Value { name, style, quote: Some(c), url: Url::Start },
            '>' | '<' | '=' | '`' => return Err("an attribute has no value".to_owned()),
            c => value_char(name, style, None, Url::Start, c)?,
        },
        Place::Value { name, style, quote, url } => value_char(name, style, quote, url, c)?,
        Place::Style { mut tail } => {
            tail.push(c.to_ascii_lowercase());
            if let Some(rest) =
                tail.strip_suffix('>').or_else(|| tail.strip_suffix(|c: char| c.is_ascii_whitespace() || c == '/'))
                && rest.ends_with("</style")
            {
                return Ok(if c == '>' { Place::Text } else { Place::Tag { style: false } });
            }
            keep_last(&mut tail, 9);
            Place::Style { tail }
        }
        Place::Mark { mut head } => {
            head.push(c);
            match head.as_str() {
                "--" => Place::Comment { tail: String::new() },
                "-" => Place::Mark { head },
                _ if c == '>' => Place::Text,
                // no longer a comment, whatever follows
                _ => Place::Mark { head: "x".to_owned() },
            }
        }
        Place::Comment { mut tail } => {
            tail.push(c);
            // `<!-->` and `<!--->` are comments too
            if tail.ends_with("-->") || tail == ">" || tail == "->" || tail.ends_with("--!>") {
                return Ok(Place::Text);
            }
            if tail.len() > 8 {
                keep_last(&mut tail, 4);
                tail.insert(0, ' ');
            }
            Place::Comment { tail }
        }
    })
}

fn tag_over(style: bool) -> Place {
    if style { Place::Style { tail: String::new() } } else { Place::Text }
}

fn named(name: &str) -> Verdict {
    if REFUSED.contains(&name) { Err(format!("<{name}> has no place in a mail")) } else { Ok(()) }
}

fn attribute(name: String, style: bool) -> Result<Place, String> {
    if name.starts_with("on") || matches!(name.as_str(), "srcdoc" | "srcset" | "imagesrcset" | "xlink:href") {
        return Err(format!("the attribute {name} has no place in a mail"));
    }
    Ok(Place::Equals { name, style, seen: true })
}

fn value_char(name: String, style: bool, quote: Option<char>, mut url: Url, c: char) -> Result<Place, String> {
    let over = match quote {
        Some(quote) => c == quote,
        None => c.is_ascii_whitespace() || c == '>',
    };
    if !over {
        if LINKS.contains(&name.as_str()) {
            url.push(c);
        }
        return Ok(Place::Value { name, style, quote, url });
    }
    if LINKS.contains(&name.as_str()) && !url.whole() {
        return Err(format!("{name} must be an http or https URL"));
    }
    Ok(if c == '>' && quote.is_none() { tag_over(style) } else { Place::Tag { style } })
}

fn keep_last(text: &mut String, most: usize) {
    while text.chars().count() > most {
        text.remove(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `·` stands for a text, `→` for a link.
    fn read(text: &str) -> Result<bool, String> {
        let mut html = Html::new();
        for c in text.chars() {
            match c {
                '·' => html.value(false)?,
                '→' => html.value(true)?,
                c => html.push(c)?,
            }
        }
        Ok(html.is_whole())
    }

    #[test]
    fn mails_as_people_write_them_are_taken() {
        for text in [
            "·",
            "<p>Hello ·, 1 < 2 &amp; 3 > 2</p>",
            "<!DOCTYPE html><html lang=en><head><title>·</title><style>p > b { color: red } /* </p> */</style></head></html>",
            "<!-- [if mso]> <b> <![endif] -->·",
            "<!---->·<!-->·",
            "<a href=\"→\">·</a><a href='→'>·</a>",
            "<a href=\"https://shop.example/?q=·\" title=\"·\">x</a>",
            "<a HREF = 'HTTP://shop.example'>x</a>",
            "<img src=\"https://shop.example/a.png\" width=10 alt=\"·\" hidden />",
            "<a href=\"→?x=·\">x</a>",
            "<table border=0 cellpadding='0'><tr><td align=\"·\" style=\"color:red\">·</td></tr></table><br/>",
            "<style media=\"screen\">a{}</style >·",
        ] {
            assert_eq!(read(text), Ok(true), "{text}");
        }
    }

    #[test]
    fn a_value_is_let_in_only_where_escaping_holds_it() {
        for text in [
            "<p ·>",
            "<·>",
            "<p·>",
            "<p class=·>",
            "<p title= ·>",
            "<p title=x·>",
            "<p title=\"a\"·>",
            "<p style=\"color:·\">",
            "<style>p { color: · }</style>",
            "<!-- · -->",
            "<!-- a --b>· -->",
            "<!doctype ·>",
            "<a href=\"·\">",
            "<a href=\"https://·\">",
            "<a href=\"https:·\">",
            "<a href=\"https://shop.example·\">",
            "<a href=\" →\">",
            "<img src='·'>",
            "<meta http-equiv='refresh' content='0;url=·'>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_has_no_place_in_a_mail_is_refused() {
        for text in [
            "<script>",
            "<SCRIPT src='https://x.example/'>",
            "</script >",
            "<svg/onload=1>",
            "<iframe srcdoc='x'>",
            "<base href='https://x.example/'>",
            "<p onclick='x'>",
            "<p/onclick=x>",
            "<p ONCLICK>",
            "<img srcset='https://x.example/ 1x'>",
            "<a href=\"javascript:alert(1)\">",
            "<a href=\"java\nscript:x\">",
            "<a href=\"&#106;avascript:x\">",
            "<a href=\"//x.example/\">",
            "<a href=\"/x\">",
            "<a href=\"\">",
            "<a href=data:text/html,x>",
            "<a href=\"mailto:a@b.example\">",
            "<?php",
            "<a href=>",
        ] {
            assert!(read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn an_open_end_is_seen() {
        for text in ["<p", "<p title=\"", "<!-- ", "<style>", "<", "<a href='https://x.example/"] {
            assert_eq!(read(text), Ok(false), "{text}");
        }
    }
}
