//! Mail goes out once, whole, and only where it should; what goes wrong is told apart.

use std::sync::{Arc, Mutex, atomic::Ordering};

use mail_parser::MessageParser;
use passerby_outbound::mail::{Credentials, Mailer, Message, Security, SetUpFault, SmtpSettings, Stage};

use super::{
    post::{Manner, Post, Step, What, plain},
    soon,
};

const PASSWORD: &str = "correct horse battery staple";

fn message(id: &str) -> Message {
    Message {
        to: "ada@example.com".to_owned(),
        subject: "Ihr Code für Käse: 482913".to_owned(),
        text: "Hello Ada\n\n.\n..\n482913\n".to_owned(),
        html: Some("<p>Hello <b>Ada</b>: 482913 ü</p>".to_owned()),
        message_id: id.to_owned(),
        date: 1_760_000_000,
    }
}

fn signed_in(security: Security) -> Manner {
    Manner { password: Some(("shop", PASSWORD)), ..Manner::of(security) }
}

#[tokio::test]
async fn a_mail_arrives_once_and_whole_by_each_security() {
    for manner in [Manner::of(Security::Plain), signed_in(Security::StartTls), signed_in(Security::Tls)] {
        let post = Post::open(manner, &[]).await;
        let mailer = post.mailer();
        for id in ["row-1", "row-2"] {
            let accepted = soon(mailer.send(&message(id))).await.unwrap();
            assert_eq!(accepted.code, 250);
        }
        let arrived = post.arrived();
        assert_eq!(arrived.len(), 2);
        assert_eq!(post.connections(), 1, "the second mail takes the first one's connection");
        assert_eq!(arrived[0].from, "MAIL FROM:<no-reply@shop.example>");
        assert_eq!(arrived[0].to, "RCPT TO:<ada@example.com>");
        let mail = MessageParser::default().parse(&arrived[0].raw).unwrap();
        assert_eq!(mail.subject(), Some("Ihr Code für Käse: 482913"));
        assert_eq!(mail.message_id(), Some("row-1@shop.example"));
        assert_eq!(mail.from().unwrap().first().unwrap().name(), Some("Shop"));
        assert_eq!(mail.body_text(0).unwrap().replace("\r\n", "\n"), "Hello Ada\n\n.\n..\n482913\n");
        assert_eq!(mail.body_html(0).unwrap().trim_end(), "<p>Hello <b>Ada</b>: 482913 ü</p>");
        let open = post.state.open.lock().unwrap().clone();
        match manner.security {
            Security::Plain => assert_eq!(open.iter().filter(|line| line.starts_with("MAIL")).count(), 2),
            Security::StartTls => assert_eq!(open, ["EHLO passerby.shop.example", "STARTTLS"]),
            Security::Tls => assert!(open.is_empty(), "{open:?}"),
        }
    }
}

#[tokio::test]
async fn where_starttls_is_asked_for_nothing_goes_without_it() {
    let post = Post::open(Manner { offers_tls: false, ..signed_in(Security::StartTls) }, &[]).await;
    let fault = soon(post.mailer().send(&message("a"))).await.unwrap_err();
    assert!(fault.is_transient() && fault.stage() == Stage::Encryption, "{fault}");
    assert_eq!(*post.state.open.lock().unwrap(), ["EHLO passerby.shop.example"]);
    let post = Post::open(signed_in(Security::StartTls), &[(Step::StartTls, What::Say("454 not now\r\n"))]).await;
    let fault = soon(post.mailer().send(&message("a"))).await.unwrap_err();
    assert_eq!((fault.is_transient(), fault.stage(), fault.code()), (true, Stage::Encryption, Some(454)));
}

#[tokio::test]
async fn what_was_said_before_the_encryption_counts_for_nothing() {
    let whole =
        "220 go ahead\r\n250-mx.example\r\n250 AUTH PLAIN\r\n235 in\r\n250 ok\r\n250 ok\r\n354 go\r\n250 taken\r\n";
    for injected in ["220 go\r\n250 AUTH\r\n", whole] {
        let post = Post::open(signed_in(Security::StartTls), &[(Step::StartTls, What::Say(injected))]).await;
        let fault = soon(post.mailer().send(&message("a"))).await.unwrap_err();
        assert_eq!((fault.is_transient(), fault.stage()), (true, Stage::Encryption), "{fault}");
        assert!(post.arrived().is_empty());
    }
}

#[tokio::test]
async fn a_server_that_nobody_vouches_for_gets_no_mail() {
    for security in [Security::StartTls, Security::Tls] {
        let post = Post::open(signed_in(security), &[]).await;
        let other = Post::open(signed_in(security), &[]).await;
        let stranger = Mailer::new(SmtpSettings { authorities: Some(other.authority), ..post.settings() }).unwrap();
        let system = Mailer::new(SmtpSettings { authorities: None, ..post.settings() }).unwrap();
        let misnamed = Post::open(Manner { name: "mx.other.example", ..signed_in(security) }, &[]).await.mailer();
        for mailer in [stranger, system, misnamed] {
            let fault = soon(mailer.send(&message("a"))).await.unwrap_err();
            assert_eq!((fault.is_transient(), fault.stage()), (true, Stage::Encryption), "{fault}");
        }
        assert!(post.arrived().is_empty());
    }
}

#[tokio::test]
async fn a_refused_connection_is_for_later_and_the_mail_arrives_then() {
    let gone = {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        listener.local_addr().unwrap().port()
    };
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    let mailer = Mailer::new(SmtpSettings { port: gone, host: "127.0.0.1".to_owned(), ..post.settings() }).unwrap();
    let fault = soon(mailer.send(&message("a"))).await.unwrap_err();
    assert_eq!((fault.is_transient(), fault.stage(), fault.is_uncertain()), (true, Stage::Connect, false), "{fault}");
    soon(post.mailer().send(&message("a"))).await.unwrap();
    assert_eq!(post.arrived().len(), 1);
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up_and_the_next_mail_goes_through_once() {
    let mut all = tokio::task::JoinSet::new();
    for (step, stage) in [
        (Step::Greeting, Stage::Greeting),
        (Step::Hello, Stage::Greeting),
        (Step::StartTls, Stage::Encryption),
        (Step::Handshake, Stage::Encryption),
        (Step::Auth, Stage::SignIn),
        (Step::Mail, Stage::Sender),
        (Step::Rcpt, Stage::Recipient),
        (Step::Data, Stage::Data),
        (Step::Content, Stage::Content),
    ] {
        // at the same time, since each waits for its time-out
        all.spawn(async move {
            let post = Post::open(signed_in(Security::StartTls), &[(step, What::Hang)]).await;
            let fault = soon(post.impatient().send(&message("a"))).await.unwrap_err();
            assert_eq!((fault.is_transient(), fault.stage()), (true, stage), "{step:?}: {fault}");
            assert_eq!(fault.is_uncertain(), step == Step::Content);
            // with all the time it needs: a busy machine must not make this one late too
            soon(post.mailer().send(&message("b"))).await.unwrap();
            let arrived = post.arrived();
            assert_eq!(arrived.len(), 1, "{step:?}");
            assert_eq!(MessageParser::default().parse(&arrived[0].raw).unwrap().message_id(), Some("b@shop.example"));
        });
    }
    all.join_all().await;
}

#[tokio::test]
async fn a_connection_that_was_left_in_the_middle_is_not_used_again() {
    let post = Post::open(Manner::of(Security::Plain), &[(Step::Content, What::Hang)]).await;
    let mailer = post.mailer();
    {
        let (a, b) = (message("a"), message("b"));
        let lost = mailer.send(&a);
        tokio::pin!(lost);
        // the first mail hangs; dropped as soon as the second one, by a connection of its own, is through
        tokio::select! {
            biased;
            done = &mut lost => panic!("{done:?}"),
            done = async {
                while post.state.open.lock().unwrap().last().is_none_or(|line| line != "DATA") {
                    tokio::task::yield_now().await;
                }
                soon(mailer.send(&b)).await
            } => assert!(done.is_ok()),
        }
    }
    soon(mailer.send(&message("c"))).await.unwrap();
    let ids: Vec<_> = post
        .arrived()
        .iter()
        .map(|mail| MessageParser::default().parse(&mail.raw).unwrap().message_id().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["b@shop.example", "c@shop.example"]);
    assert_eq!(post.connections(), 2);
}

#[tokio::test]
async fn what_the_server_says_is_told_apart() {
    for (step, answer, transient, stage) in [
        (Step::Greeting, "421 busy\r\n", true, Stage::Greeting),
        (Step::Greeting, "554 no\r\n", true, Stage::Greeting),
        (Step::Hello, "550 who?\r\n", true, Stage::Greeting),
        (Step::Auth, "454 later\r\n", true, Stage::SignIn),
        (Step::Auth, "535 wrong\r\n", true, Stage::SignIn),
        (Step::Auth, "250 hm\r\n", true, Stage::SignIn),
        (Step::Mail, "451 later\r\n", true, Stage::Sender),
        (Step::Mail, "550 not from you\r\n", true, Stage::Sender),
        (Step::Rcpt, "450 greylisted\r\n", true, Stage::Recipient),
        (Step::Rcpt, "421 too much\r\n", true, Stage::Recipient),
        (Step::Rcpt, "452 full\r\n", true, Stage::Recipient),
        (Step::Rcpt, "552 full\r\n", true, Stage::Recipient),
        (Step::Rcpt, "530 sign in\r\n", true, Stage::Recipient),
        (Step::Rcpt, "550-5.1.1 nobody\r\n550 5.1.1 of that name\r\n", false, Stage::Recipient),
        (Step::Rcpt, "553 no such name\r\n", false, Stage::Recipient),
        (Step::Data, "451 later\r\n", true, Stage::Data),
        (Step::Data, "554 no\r\n", false, Stage::Data),
        (Step::Data, "250 hm\r\n", true, Stage::Data),
        (Step::Content, "451 later\r\n", true, Stage::Content),
        (Step::Content, "552 too long\r\n", false, Stage::Content),
        (Step::Content, "554 no\r\n", false, Stage::Content),
        (Step::Content, "what\r\n", true, Stage::Content),
    ] {
        let post = Post::open(signed_in(Security::Tls), &[(step, What::Say(answer))]).await;
        let mailer = post.mailer();
        let fault = soon(mailer.send(&message("a"))).await.unwrap_err();
        assert_eq!((fault.is_transient(), fault.stage()), (transient, stage), "{step:?} {answer:?}: {fault}");
        assert!(!fault.to_string().contains(['\r', '\n']));
        assert!(post.arrived().is_empty());
        // later the same server takes it, once
        soon(mailer.send(&message("a"))).await.unwrap();
        assert_eq!(post.arrived().len(), 1, "{step:?} {answer:?}");
    }
}

#[tokio::test]
async fn a_connection_that_closes_is_for_later() {
    for step in
        [Step::Greeting, Step::Hello, Step::StartTls, Step::Auth, Step::Mail, Step::Rcpt, Step::Data, Step::Content]
    {
        let post = Post::open(signed_in(Security::StartTls), &[(step, What::Close)]).await;
        let mailer = post.mailer();
        let fault = soon(mailer.send(&message("a"))).await.unwrap_err();
        assert!(fault.is_transient(), "{step:?}: {fault}");
        assert_eq!(fault.is_uncertain(), step == Step::Content, "{step:?}: {fault}");
        soon(mailer.send(&message("a"))).await.unwrap();
        assert_eq!(post.arrived().len(), 1, "{step:?}");
    }
}

#[tokio::test]
async fn a_repeat_is_the_same_mail_to_the_byte() {
    let post = Post::open(Manner::of(Security::Plain), &[(Step::Content, What::TakeAndClose)]).await;
    let mailer = post.mailer();
    let fault = soon(mailer.send(&message("row-9"))).await.unwrap_err();
    assert!(fault.is_transient() && fault.is_uncertain(), "{fault}");
    soon(mailer.send(&message("row-9"))).await.unwrap();
    let arrived = post.arrived();
    assert_eq!(arrived.len(), 2);
    assert!(arrived[0].raw == arrived[1].raw);
}

#[tokio::test]
async fn a_kept_connection_that_died_costs_no_mail() {
    for what in [What::Close, What::Say("421 bye\r\n")] {
        let post = Post::open(Manner::of(Security::Plain), &[(Step::Reset, what)]).await;
        let mailer = post.mailer();
        for id in ["a", "b", "c"] {
            soon(mailer.send(&message(id))).await.unwrap();
        }
        assert_eq!((post.arrived().len(), post.connections()), (3, 2));
    }
}

#[tokio::test]
async fn no_more_connections_than_allowed() {
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    let mailer = Mailer::new(SmtpSettings { connections: 3, ..post.settings() }).unwrap();
    let mut sent = tokio::task::JoinSet::new();
    for i in 0..30 {
        let mailer = mailer.clone();
        sent.spawn(async move { mailer.send(&message(&format!("row-{i}"))).await });
    }
    for outcome in soon(sent.join_all()).await {
        outcome.unwrap();
    }
    assert_eq!(post.arrived().len(), 30);
    assert!(post.state.most.load(Ordering::SeqCst) <= 3);
}

#[tokio::test]
async fn hostile_fields_reach_no_server() {
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    let mailer = post.mailer();
    for evil in ["\r\nBcc: eve@example.com", "\nX: y", "\r", "\0", ">\r\nRCPT TO:<eve@example.com"] {
        for hostile in [
            Message { to: format!("ada@example.com{evil}"), ..message("a") },
            Message { subject: format!("Hello{evil}"), ..message("a") },
            Message { message_id: format!("a{evil}"), ..message("a") },
        ] {
            // `>` alone is a fine subject
            if hostile.subject.contains(['\r', '\n', '\0']) || hostile.to.len() > 15 || hostile.message_id.len() > 1 {
                let fault = soon(mailer.send(&hostile)).await.unwrap_err();
                assert_eq!((fault.is_transient(), fault.stage()), (false, Stage::Message), "{fault}");
            }
        }
    }
    assert_eq!(post.connections(), 0);
    let body = "\r\n.\r\nMAIL FROM:<eve@example.com>\r\n\n.\n\r.\r\r\n.\r\n";
    soon(mailer.send(&Message { text: body.to_owned(), html: None, ..message("b") })).await.unwrap();
    let open = post.state.open.lock().unwrap().clone();
    assert_eq!(open.iter().filter(|line| line.starts_with("MAIL")).count(), 1, "{open:?}");
    assert_eq!(post.arrived().len(), 1);
}

#[tokio::test]
async fn international_addresses_need_a_server_that_knows_them() {
    let mail = Message { to: "дана@bücher.example".to_owned(), ..message("a") };
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    let fault = soon(post.mailer().send(&mail)).await.unwrap_err();
    assert_eq!((fault.is_transient(), fault.stage()), (false, Stage::Recipient), "{fault}");
    let post = Post::open(Manner { international: true, ..Manner::of(Security::Plain) }, &[]).await;
    soon(post.mailer().send(&mail)).await.unwrap();
    let arrived = post.arrived();
    assert_eq!(arrived[0].from, "MAIL FROM:<no-reply@shop.example> SMTPUTF8 BODY=8BITMIME");
    assert_eq!(arrived[0].to, "RCPT TO:<дана@xn--bcher-kva.example>");
    let mail = Message { to: "dana@bücher.example".to_owned(), ..message("a") };
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    soon(post.mailer().send(&mail)).await.unwrap();
    assert_eq!(post.arrived()[0].to, "RCPT TO:<dana@xn--bcher-kva.example>");
}

/// A log that the test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn the_password_is_shown_nowhere() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing_subscriber::util::SubscriberInitExt::set_default(subscriber);
    let line = plain("shop", PASSWORD);
    let echo: &'static str = Box::leak(format!("550 {PASSWORD} {line}\r\n").into_boxed_str());
    let trouble = [(Step::Rcpt, What::Say(echo)), (Step::Mail, What::Say(echo)), (Step::Auth, What::Say(echo))];
    let post = Post::open(signed_in(Security::StartTls), &trouble).await;
    let mailer = post.mailer();
    let mut shown = format!("{mailer:?} {:?} {:?}", post.settings(), message("a"));
    for _ in 0..3 {
        let fault = soon(mailer.send(&message("a"))).await.unwrap_err();
        shown = format!("{shown} {fault} {fault:?}");
    }
    soon(mailer.send(&message("a"))).await.unwrap();
    // and with a password that the server refuses and says back
    let wrong = Credentials { user: "shop".to_owned(), password: "wrong-password".to_owned() };
    let mailer = Mailer::new(SmtpSettings { credentials: Some(wrong), ..post.settings() }).unwrap();
    let fault = soon(mailer.send(&message("b"))).await.unwrap_err();
    assert_eq!((fault.stage(), fault.code()), (Stage::SignIn, Some(535)));
    shown = format!("{shown} {fault} {fault:?}");
    shown += &String::from_utf8_lossy(&log.0.lock().unwrap());
    for secret in [PASSWORD, &line, "wrong-password", &plain("shop", "wrong-password"), "482913"] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn settings_that_could_not_work_are_refused() {
    let post = Post::open(Manner::of(Security::Plain), &[]).await;
    let credentials = || Some(Credentials { user: "shop".to_owned(), password: PASSWORD.to_owned() });
    let broken = |change: &dyn Fn(&mut SmtpSettings)| {
        let mut settings = SmtpSettings { security: Security::Tls, ..post.settings() };
        change(&mut settings);
        Mailer::new(settings).err()
    };
    assert_eq!(broken(&|_| {}), None);
    assert_eq!(broken(&|s| s.host = "mx example".to_owned()), Some(SetUpFault::Host));
    assert_eq!(broken(&|s| s.hello = "a\r\nMAIL FROM:<x@y.example>".to_owned()), Some(SetUpFault::Hello));
    assert_eq!(broken(&|s| s.from.name = Some("a\r\nBcc: x@y.example".to_owned())), Some(SetUpFault::Name));
    assert!(matches!(broken(&|s| s.from.address = "nobody".to_owned()), Some(SetUpFault::From(_))));
    assert_eq!(broken(&|s| s.connections = 0), Some(SetUpFault::Zero));
    assert_eq!(broken(&|s| s.timeouts.command = std::time::Duration::ZERO), Some(SetUpFault::Zero));
    assert!(matches!(broken(&|s| s.authorities = Some(Vec::new())), Some(SetUpFault::Tls(_))));
    assert!(matches!(broken(&|s| s.authorities = Some(b"nonsense".to_vec())), Some(SetUpFault::Tls(_))));
    let open = |s: &mut SmtpSettings| {
        s.security = Security::Plain;
        s.credentials = credentials();
    };
    assert_eq!(broken(&open), Some(SetUpFault::OpenPassword));
    let odd =
        |s: &mut SmtpSettings| s.credentials = Some(Credentials { user: "a\r\n".to_owned(), password: "b".to_owned() });
    assert_eq!(broken(&odd), Some(SetUpFault::Credentials));
}
