//! From a message to the bytes that go over the wire.

use std::time::{Duration, UNIX_EPOCH};

use lettre::{
    Address,
    message::{
        Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, HeaderName, HeaderValue},
    },
};

use super::{
    Message,
    address::{address, has_controls},
    fault::{MailFault, Stage},
};

/// Longest part, in bytes.
const PART: usize = 256 * 1024;
/// Longest subject, in characters.
const SUBJECT: usize = 255;

/// A mail, ready to go.
pub(super) struct Composed {
    pub(super) to: Address,
    /// Whether the receiver's address is beyond ASCII, which the server must know of (RFC 6531).
    pub(super) international: bool,
    /// Headers and body; lines end with CR LF, and neither stands alone.
    pub(super) bytes: Vec<u8>,
}

/// The bytes of a message: the same for the same message, so a repeat is one to the byte.
pub(super) fn compose(sender: &Mailbox, message: &Message) -> Result<Composed, MailFault> {
    let refused = |what: &str| Err(MailFault::permanent(Stage::Message, what));
    let to = match address(&message.to) {
        Ok(to) => to,
        Err(fault) => return refused(&format!("the receiver's address: {fault}")),
    };
    if !(1..=SUBJECT).contains(&message.subject.chars().count()) || message.subject.trim().is_empty() {
        return refused("the subject is empty or longer than 255 characters");
    }
    if has_controls(&message.subject) {
        return refused("the subject has control characters or line breaks");
    }
    let id = &message.message_id;
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if !(1..=128).contains(&id.len()) || !id.bytes().all(plain) || id.starts_with('.') || id.ends_with('.') {
        return refused("the id of the message is none");
    }
    if message.text.len() > PART || message.html.as_ref().is_some_and(|html| html.len() > PART) {
        return refused("the mail is longer than 256 KiB");
    }
    let Some(date) = UNIX_EPOCH.checked_add(Duration::from_secs(message.date)).filter(|_| message.date < YEAR_9999)
    else {
        return refused("the date is out of range");
    };
    let builder = lettre::Message::builder()
        .from(sender.clone())
        .to(Mailbox::new(None, to.clone()))
        .subject(message.subject.clone())
        .message_id(Some(format!("<{id}@{}>", sender.email.domain())))
        .date(date)
        // RFC 3834: keeps out-of-office robots quiet
        .raw_header(HeaderValue::new(HeaderName::new_from_ascii_str("Auto-Submitted"), "auto-generated".to_owned()));
    let text = part(ContentType::TEXT_PLAIN, &message.text);
    let mail = match &message.html {
        None => builder.header(ContentType::TEXT_PLAIN).body(body(&message.text)),
        Some(html) => {
            // `=_` cannot occur in quoted-printable (RFC 2045 section 6.7), so no body can end its part
            let both = MultiPart::alternative().boundary(format!("=_{}", boundary(id)));
            builder.multipart(both.singlepart(text).singlepart(part(ContentType::TEXT_HTML, html)))
        }
    };
    let mail = mail.map_err(|e| MailFault::permanent(Stage::Message, &e.to_string()))?;
    let bytes = mail.formatted();
    Ok(Composed { international: !AsRef::<str>::as_ref(&to).is_ascii(), to, bytes })
}

/// 9999-12-31: `Date` has four digits for the year.
const YEAR_9999: u64 = 253_402_300_800;

/// At most 60 of the 70 characters that RFC 2046 section 5.1.1 allows.
fn boundary(id: &str) -> &str {
    &id[..id.len().min(60)]
}

fn part(kind: ContentType, text: &str) -> SinglePart {
    SinglePart::builder().header(kind).body(body(text))
}

/// Always quoted-printable: it needs no 8BITMIME, knows no long lines, and lets no CR or LF stand alone.
fn body(text: &str) -> Body {
    let lines = text.replace("\r\n", "\n").replace('\r', "\n").replace('\n', "\r\n");
    Body::new_with_encoding(lines, ContentTransferEncoding::QuotedPrintable).unwrap_or_else(Body::new)
}

#[cfg(test)]
mod tests {
    use mail_parser::{MessageParser, MimeHeaders};
    use proptest::prelude::*;

    use super::*;

    fn sender() -> Mailbox {
        Mailbox::new(Some("Käse, \"Brot\" & Co".to_owned()), "no-reply@shop.example".parse().unwrap())
    }

    fn message() -> Message {
        Message {
            to: "ada@example.com".to_owned(),
            subject: "Your code is 123456".to_owned(),
            text: "Hello\n\n.\n.dot\nGrüße".to_owned(),
            html: Some("<p>Hello &amp; <b>Grüße</b></p>".to_owned()),
            message_id: "0190-row-7".to_owned(),
            date: 1_760_000_000,
        }
    }

    /// No CR or LF stands alone: what RFC 5321 section 2.3.8 forbids and SMTP smuggling lives on.
    fn well_ended(bytes: &[u8]) -> bool {
        let alone = |i: usize| match bytes[i] {
            b'\r' => bytes.get(i + 1) != Some(&b'\n'),
            b'\n' => i == 0 || bytes[i - 1] != b'\r',
            _ => false,
        };
        !(0..bytes.len()).any(alone)
    }

    #[test]
    fn a_mail_has_its_parts_and_is_the_same_each_time() {
        let composed = compose(&sender(), &message()).unwrap_or_else(|e| panic!("{e}"));
        assert!(well_ended(&composed.bytes) && composed.bytes.is_ascii() && !composed.international);
        let mail = MessageParser::default().parse(&composed.bytes).unwrap();
        assert_eq!(mail.subject(), Some("Your code is 123456"));
        assert_eq!(mail.message_id(), Some("0190-row-7@shop.example"));
        assert_eq!(mail.from().unwrap().first().unwrap().name(), Some("Käse, \"Brot\" & Co"));
        assert_eq!(mail.from().unwrap().first().unwrap().address(), Some("no-reply@shop.example"));
        assert_eq!(mail.to().unwrap().first().unwrap().address(), Some("ada@example.com"));
        assert_eq!(mail.date().unwrap().to_timestamp(), 1_760_000_000);
        assert_eq!(mail.header_raw("Auto-Submitted").map(str::trim), Some("auto-generated"));
        assert_eq!(mail.body_text(0).unwrap().replace("\r\n", "\n").trim_end(), "Hello\n\n.\n.dot\nGrüße");
        assert_eq!(mail.body_html(0).unwrap().trim_end(), "<p>Hello &amp; <b>Grüße</b></p>");
        assert_eq!((mail.text_body_count(), mail.html_body_count(), mail.attachment_count()), (1, 1, 0));
        let again = compose(&sender(), &message()).unwrap_or_else(|e| panic!("{e}"));
        assert!(again.bytes == composed.bytes);
    }

    #[test]
    fn without_html_there_is_one_part() {
        let composed = compose(&sender(), &Message { html: None, ..message() }).unwrap_or_else(|e| panic!("{e}"));
        let mail = MessageParser::default().parse(&composed.bytes).unwrap();
        assert_eq!(mail.content_type().map(|kind| (kind.ctype(), kind.subtype())), Some(("text", Some("plain"))));
        assert_eq!(mail.parts.len(), 1);
    }

    #[test]
    fn every_line_break_is_one() {
        let message = Message { text: "a\rb\nc\r\nd\r\re".to_owned(), html: None, ..message() };
        let composed = compose(&sender(), &message).unwrap_or_else(|e| panic!("{e}"));
        assert!(composed.bytes.ends_with(b"\r\n\r\na\r\nb\r\nc\r\nd\r\n\r\ne"), "{:?}", composed.bytes);
        assert!(well_ended(&composed.bytes));
    }

    #[test]
    fn a_body_cannot_end_its_part() {
        let hostile = "--=_0190-row-7--\r\n\r\n--=_0190-row-7\r\nContent-Type: text/html\r\n\r\n<b>new part</b>";
        let message = Message { text: hostile.to_owned(), ..message() };
        let composed = compose(&sender(), &message).unwrap_or_else(|e| panic!("{e}"));
        let mail = MessageParser::default().parse(&composed.bytes).unwrap();
        assert_eq!(mail.body_text(0).unwrap().trim_end(), hostile);
        assert_eq!(mail.parts.len(), 3);
    }

    #[test]
    fn every_field_refuses_what_could_add_a_header() {
        for evil in
            ["\r\nBcc: eve@example.com", "\nBcc: eve@example.com", "\rBcc: e", "\0", "\u{85}x", "\u{2028}x", "\u{b}"]
        {
            for message in [
                Message { to: format!("ada@example.com{evil}"), ..message() },
                Message { to: format!("ada{evil}@example.com"), ..message() },
                Message { subject: format!("Hello{evil}"), ..message() },
                Message { message_id: format!("row{evil}"), ..message() },
            ] {
                let fault = compose(&sender(), &message).err().unwrap_or_else(|| panic!("{evil:?} passed"));
                assert!(!fault.is_transient());
                assert!(!fault.to_string().contains(['\r', '\n']), "{fault}");
            }
        }
    }

    #[test]
    fn limits_hold() {
        for message in [
            Message { subject: String::new(), ..message() },
            Message { subject: "  ".to_owned(), ..message() },
            Message { subject: "x".repeat(256), ..message() },
            Message { text: "x".repeat(PART + 1), ..message() },
            Message { html: Some("x".repeat(PART + 1)), ..message() },
            Message { message_id: String::new(), ..message() },
            Message { message_id: "a".repeat(129), ..message() },
            Message { message_id: "a>".to_owned(), ..message() },
            Message { date: u64::MAX, ..message() },
        ] {
            assert!(compose(&sender(), &message).is_err());
        }
        let long = Message { message_id: "a".repeat(128), subject: "ü".repeat(255), ..message() };
        assert!(compose(&sender(), &long).is_ok_and(|mail| well_ended(&mail.bytes)));
    }

    proptest! {
        /// Whatever the fields say, a mail that is made has the headers it should have, and each once.
        #[test]
        fn no_field_adds_a_header(
            subject in "\\PC{1,80}|[ -~\r\n\t]{1,80}", text in any::<String>(), html in any::<String>(),
            name in "\\PC{0,40}", user in "[ -~\r\n]{1,20}",
        ) {
            let sender = Mailbox::new(Some(name), "no-reply@shop.example".parse().unwrap());
            let message = Message { subject, text, html: Some(html), to: format!("{user}@example.com"), ..message() };
            if let Ok(composed) = compose(&sender, &message) {
                prop_assert!(well_ended(&composed.bytes));
                let head = String::from_utf8_lossy(&composed.bytes).split("\r\n\r\n").next().unwrap_or_default().to_owned();
                let mut names: Vec<_> = head.split("\r\n").filter(|line| !line.starts_with([' ', '\t']))
                    .map(|line| line.split(':').next().unwrap_or_default().to_ascii_lowercase()).collect();
                names.sort_unstable();
                prop_assert_eq!(
                    names,
                    ["auto-submitted", "content-type", "date", "from", "message-id", "mime-version", "subject", "to"]
                );
            }
        }
    }
}
