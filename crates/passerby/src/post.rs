//! What carries messages to people: the core's port over the mailer, the message service and the templates.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use anyhow::Context as _;
use passerby_core::{
    Code, Error, Timestamp,
    message::{self, Delivery, Message, MessageKind, Parcel, Rendered, Wording},
    model::Target,
    port::{Post, Wait},
};
use passerby_outbound::{
    guard::Guard,
    mail::{Mailer, Sender},
    sms::{ShortMessage, SmsFault, SmsSender},
    template::{About, Change, Kind, Letter, Link, Purpose, ReturnBy, Seen, Template, check, preview, render},
    web::{Limits, WebClient},
};
use serde_json::{Map, Value};

use crate::config::{Config, MailSettings, SmsSettings, sender};

/// The way out, as it was configured: mail, short messages, both or none.
#[derive(Debug)]
pub struct Outbound {
    mail: Option<MailOut>,
    sms: Option<SmsSender>,
}

/// One server, and a mailer for each sender that tenants are configured with.
#[derive(Debug)]
struct MailOut {
    settings: MailSettings,
    hello: String,
    usual: Mailer,
    others: Mutex<HashMap<Box<str>, Mailer>>,
}

impl Outbound {
    /// Reads the settings; connects to nobody yet.
    ///
    /// # Errors
    /// What the checks of the configuration could not see: an authority's certificate that is none.
    pub fn new(config: &Config) -> anyhow::Result<Self> {
        let mail = config.mail.as_ref().map(|mail| MailOut::new(mail, config.hello())).transpose()?;
        let sms = config.sms.as_ref().map(|sms| short_messages(sms, config.guard())).transpose()?;
        Ok(Self { mail, sms })
    }

    async fn mail(&self, parcel: &Parcel, rendered: Wording) -> Delivery {
        let Some(out) = &self.mail else { return Delivery::Later("no [mail] is configured".into(), None) };
        let mailer = match out.mailer(parcel.message.from.as_deref()) {
            Ok(mailer) => mailer,
            Err(why) => return Delivery::Later(why, None),
        };
        let mail = passerby_outbound::mail::Message {
            to: parcel.message.to.to_string(),
            subject: rendered.subject.into(),
            text: rendered.text.into(),
            html: rendered.html.map(String::from),
            message_id: parcel.id.clone(),
            date: parcel.at.seconds() as u64,
        };
        match mailer.send(&mail).await {
            Ok(_) => Delivery::Done,
            Err(fault) => {
                let why = without(&fault.to_string(), &parcel.message);
                if fault.is_transient() { Delivery::Later(why, None) } else { Delivery::Never(why) }
            }
        }
    }

    async fn short_message(&self, parcel: &Parcel, text: Box<str>) -> Delivery {
        let Some(out) = &self.sms else { return Delivery::Later("no [sms] is configured".into(), None) };
        let message = &parcel.message;
        let purpose = message.purpose.map_or(message.kind.as_str(), |purpose| purpose_of(purpose).name());
        let short = ShortMessage {
            id: parcel.id.clone(),
            to: message.to.to_string(),
            text: text.into(),
            purpose: purpose.to_owned(),
        };
        match out.send(&short, parcel.now.seconds() as u64).await {
            Ok(()) => Delivery::Done,
            Err(fault) => match &fault {
                SmsFault::Busy { retry_after, .. } => Delivery::Later(fault.to_string(), *retry_after),
                other if other.is_transient() => Delivery::Later(fault.to_string(), None),
                _ => Delivery::Never(fault.to_string()),
            },
        }
    }
}

impl MailOut {
    fn new(settings: &MailSettings, hello: String) -> anyhow::Result<Self> {
        let usual = Mailer::new(settings.smtp(&settings.from, &hello)).context("[mail]")?;
        Ok(Self { settings: settings.clone(), hello, usual, others: Mutex::default() })
    }

    /// The one that mails as this sender. There are as many as tenants were ever configured with: few.
    fn mailer(&self, from: Option<&str>) -> Result<Mailer, String> {
        let Some(from) = from else { return Ok(self.usual.clone()) };
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mailer) = others.get(from) {
            return Ok(mailer.clone());
        }
        let sender: Sender = sender(from)?;
        let mailer = Mailer::new(self.settings.smtp(&sender, &self.hello)).map_err(|e| e.to_string())?;
        others.insert(from.into(), mailer.clone());
        Ok(mailer)
    }
}

fn short_messages(settings: &SmsSettings, guard: Guard) -> anyhow::Result<SmsSender> {
    let client = WebClient::new(guard, Limits::default(), settings.authorities.as_deref()).context("[sms]")?;
    let secrets: Vec<String> = settings.secrets.iter().map(|secret| secret.expose().to_owned()).collect();
    SmsSender::new(client, &settings.url, &secrets).context("[sms]")
}

impl Post for Outbound {
    fn carries(&self, target: Target) -> bool {
        match target {
            Target::Mail => self.mail.is_some(),
            Target::Sms => self.sms.is_some(),
            Target::Log | Target::Timer => false,
        }
    }

    fn deliver<'a>(&'a self, parcel: &'a Parcel) -> Wait<'a, Delivery> {
        Box::pin(async move {
            let Some(Rendered(wording)) = self.render(&parcel.message, parcel.template.as_ref()) else {
                return Delivery::Never("the message lacks what its kind says".into());
            };
            match parcel.message.target() {
                Target::Sms => self.short_message(parcel, wording.text).await,
                _ => self.mail(parcel, wording).await,
            }
        })
    }

    fn render(&self, message: &Message, template: Option<&Wording>) -> Option<Rendered> {
        let letter = letter(message)?;
        let template = template.map_or_else(|| Template::builtin(letter.kind()), taken);
        match render(&template, &letter) {
            Ok((rendered, None)) => Some(wording(rendered)),
            Ok((rendered, Some(fault))) => {
                tracing::warn!(kind = letter.kind().name(), %fault, "a template failed: the built-in one was used");
                Some(wording(rendered))
            }
            Err(fault) => {
                tracing::error!(kind = letter.kind().name(), %fault, "a built-in template failed");
                None
            }
        }
    }

    fn check(&self, kind: MessageKind, template: &Wording) -> Result<Rendered, Error> {
        let (kind, template) = (kind_of(kind), taken(template));
        check(kind, &template).and_then(|()| preview(kind, &template)).map(wording).map_err(|fault| {
            let field = format!("/{}", fault.part.name());
            Error::at(Code::InvalidValue, field, format!("The template is refused: {fault}."))
        })
    }

    fn built_in(&self, kind: MessageKind) -> Wording {
        let Template { subject, text, html } = Template::builtin(kind_of(kind));
        Wording { subject: subject.into(), text: text.into(), html: html.map(Into::into) }
    }
}

fn taken(wording: &Wording) -> Template {
    Template {
        subject: wording.subject.to_string(),
        text: wording.text.to_string(),
        html: wording.html.as_ref().map(ToString::to_string),
    }
}

fn wording(rendered: passerby_outbound::template::Rendered) -> Rendered {
    Rendered(Wording {
        subject: rendered.subject.into(),
        text: rendered.text.into(),
        html: rendered.html.map(Into::into),
    })
}

fn kind_of(kind: MessageKind) -> Kind {
    match kind {
        MessageKind::CodeByEmail => Kind::CodeByEmail,
        MessageKind::LinkByEmail => Kind::LinkByEmail,
        MessageKind::CodeBySms => Kind::CodeBySms,
        MessageKind::SetPassword => Kind::SetPassword,
        MessageKind::PasswordChanged => Kind::PasswordChanged,
        MessageKind::IdentifierChanged => Kind::IdentifierChanged,
        MessageKind::AddressTried => Kind::AddressTried,
        MessageKind::CameBack => Kind::CameBack,
    }
}

fn purpose_of(purpose: message::Purpose) -> Purpose {
    match purpose {
        message::Purpose::Verify => Purpose::Verify,
        message::Purpose::SignIn => Purpose::SignIn,
        message::Purpose::ResetPassword => Purpose::ResetPassword,
    }
}

/// What a server said, without what it said back of the message: the text goes to the log.
fn without(text: &str, message: &Message) -> String {
    // a name of one or two letters is in every sentence
    let local = message.to.split('@').next().filter(|local| local.len() > 2);
    let hidden = [Some(&*message.to), local, message.code.as_deref(), message.link.as_deref()];
    hidden.into_iter().flatten().filter(|hidden| !hidden.is_empty()).fold(text.to_owned(), |text, hidden| {
        // ASCII case alone, which keeps every byte's place
        let (lower, hidden) = (text.to_ascii_lowercase(), hidden.to_ascii_lowercase());
        let mut kept = String::with_capacity(text.len());
        let mut from = 0;
        for (at, found) in lower.match_indices(&hidden) {
            kept.push_str(&text[from..at]);
            kept.push('…');
            from = at + found.len();
        }
        kept.push_str(&text[from..]);
        kept
    })
}

/// The message as templates take it; `None` where it lacks what its kind needs.
fn letter(message: &Message) -> Option<Letter> {
    let link = || message.link.as_deref().and_then(|link| Link::new(link).ok());
    let code = || message.code.as_deref().map(String::from);
    let valid_for = Duration::from_secs(message.valid_seconds.unwrap_or_default());
    let purpose = message.purpose.map_or(Purpose::Confirm, purpose_of);
    let seen = || {
        // whole seconds are exact enough for people
        let at = Timestamp::from_seconds(Timestamp::from_millis(message.at.unwrap_or_default()).seconds()).to_string();
        Seen { at: at.replace(".000Z", "Z"), device: message.device.as_deref().map(String::from) }
    };
    let about = match message.kind {
        MessageKind::CodeByEmail => About::CodeByEmail { code: code()?, link: link(), valid_for, purpose },
        MessageKind::LinkByEmail => About::LinkByEmail { link: link()?, valid_for, purpose },
        MessageKind::CodeBySms => About::CodeBySms { code: code()?, valid_for, purpose },
        MessageKind::SetPassword => About::SetPassword { link: link()?, valid_for, state: state(message) },
        MessageKind::PasswordChanged => About::PasswordChanged { seen: seen() },
        MessageKind::IdentifierChanged => {
            let (kind, shown) = message.identifier.as_ref()?;
            About::IdentifierChanged {
                identifier: shown.to_string(),
                identifier_kind: kind.to_string(),
                change: if message.removed { Change::Removed } else { Change::Added },
                seen: seen(),
            }
        }
        MessageKind::AddressTried => About::AddressTried { seen: seen() },
        MessageKind::CameBack => {
            let by = if message.by_recovery { ReturnBy::RecoveryCode } else { ReturnBy::HandOff };
            About::CameBack { by, seen: seen() }
        }
    };
    Some(Letter {
        app_name: message.app_name.to_string(),
        app_url: message.app_url.as_deref().and_then(|url| Link::new(url).ok()),
        to: message.to.to_string(),
        about,
    })
}

fn state(message: &Message) -> Map<String, Value> {
    message.state.as_ref().and_then(|state| serde_json::from_str(state.get()).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use passerby_outbound::template::variables_as_markdown;

    use super::*;

    fn message(kind: MessageKind) -> Message {
        let text = serde_json::json!({
            "kind": kind, "to": "ada@example.com", "app_name": "Shop", "app_url": "https://shop.example",
            "from": null, "code": "482913", "link": "https://id.example/ui/link?token=abc", "valid_seconds": 600,
            "purpose": "sign_in", "state": {"name": "Ada"}, "at": 1_795_219_200_123_i64, "device": "Firefox",
            "identifier": ["email", "new@example.com"], "removed": true, "by_recovery": true,
        });
        serde_json::from_str(&text.to_string()).unwrap()
    }

    fn outbound() -> Outbound {
        Outbound { mail: None, sms: None }
    }

    #[test]
    fn the_documentation_has_all_variables() {
        let page = include_str!("../../../docs/templates.md");
        let (_, tables) = page.split_once("## Kinds and their variables\n\n").unwrap();
        assert_eq!(tables, variables_as_markdown().trim_end().to_owned() + "\n", "copy the right side into the page");
    }

    #[test]
    fn every_kind_is_worded_by_its_own_template_and_the_operators() {
        for kind in MessageKind::ALL {
            assert_eq!(kind.as_str(), kind_of(kind).name());
            let built_in = outbound().built_in(kind);
            assert!(outbound().check(kind, &built_in).is_ok());
            let Rendered(shown) = outbound().render(&message(kind), None).unwrap();
            assert!(shown.text.contains("Shop") && !shown.text.contains("{{"), "{kind:?}: {}", shown.text);
            let own = Wording { text: "to {{ to }}".into(), ..built_in };
            let Rendered(shown) = outbound().render(&message(kind), Some(&own)).unwrap();
            assert_eq!(&*shown.text, "to ada@example.com");
        }
        let Rendered(told) = outbound().render(&message(MessageKind::IdentifierChanged), None).unwrap();
        assert!(told.text.contains("new@example.com") && told.text.contains("2026-11-21T00:00:00Z"), "{}", told.text);
    }

    #[test]
    fn a_message_that_lacks_what_it_is_for_is_none() {
        for kind in [MessageKind::CodeByEmail, MessageKind::LinkByEmail, MessageKind::SetPassword] {
            let bare = Message { code: None, link: None, ..message(kind) };
            assert!(outbound().render(&bare, None).is_none(), "{kind:?}");
        }
    }

    #[test]
    fn a_refused_template_names_its_part() {
        let broken =
            Wording { text: "{{ code }}\n{{ nobody }}".into(), ..outbound().built_in(MessageKind::CodeByEmail) };
        let Err(e) = outbound().check(MessageKind::CodeByEmail, &broken) else { panic!("it was taken") };
        assert_eq!((e.code, e.field.as_deref()), (Code::InvalidValue, Some("/text")));
        assert!(e.detail.contains("line 2"), "{}", e.detail);
    }

    #[test]
    fn what_a_server_says_back_of_the_message_is_not_logged() {
        let text = "recipient: 550 <Ada@Example.com>: ada is unknown here, 482913";
        let left = without(text, &message(MessageKind::CodeByEmail));
        assert_eq!(left, "recipient: 550 <…>: … is unknown here, …");
        let short = Message { to: "a@example.com".into(), ..message(MessageKind::CodeByEmail) };
        assert_eq!(without("450 greylisted", &short), "450 greylisted");
    }
}
