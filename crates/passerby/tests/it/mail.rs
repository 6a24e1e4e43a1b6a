//! The process and real servers of mail and short messages: a request answers at once whatever they do, and what was to
//! go out arrives after their recovery, once.

use std::time::Duration;

use passerby_core::outbox::MailboxMessage;
use passerby_outbound::mail::Security;
use serde_json::json;

use crate::{
    accounts::{claim, code, letters, verify},
    app::{Engine, TestApp},
    on_both,
};

#[allow(dead_code, reason = "a part of the trouble it can make is for the tests beside it")]
#[path = "../../../passerby-outbound/tests/it/post.rs"]
mod post;
#[allow(dead_code, reason = "a part of what it can answer is for the tests beside it")]
#[path = "../../../passerby-outbound/tests/it/service.rs"]
mod service;

use post::{Manner, Post, Step, What};
use service::{Reply, Service};

/// A certificate of this test alone: PEM for those who trust it, and what a server needs.
fn certificate(name: &str) -> (Vec<u8>, tokio_rustls::TlsAcceptor) {
    let own = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    let key = rustls::pki_types::PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
    let provider = std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![own.cert.der().clone()], key)
        .unwrap();
    (own.cert.pem().into_bytes(), std::sync::Arc::new(config).into())
}

/// No test waits longer, whatever hangs: then it fails.
async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_mins(1), work).await.expect("it hangs")
}

/// The contract's configuration with this mail server.
async fn app(engine: Engine, server: &Post, folder: &tempfile::TempDir) -> TestApp {
    let authority = folder.path().join("authority.pem");
    std::fs::write(&authority, &server.authority).unwrap();
    let section = format!(
        "\n[mail]\nfrom = \"Shop <no-reply@shop.example>\"\nsmtp = \"localhost:{}\"\nsecurity = \"starttls\"\n\
         username = \"shop\"\npassword = \"a password of the mail server\"\ntimeout = \"3s\"\nauthorities_file = \"{}\"\n",
        server.port,
        authority.display()
    );
    TestApp::with(engine, |text| text + &section).await
}

const MANNER: Manner = Manner {
    security: Security::StartTls,
    offers_tls: true,
    password: Some(("shop", "a password of the mail server")),
    international: false,
    name: "localhost",
};

/// Passes over the outbox until a try was made, ever later.
async fn pass(app: &TestApp) {
    soon(app.core.run_outbox()).await;
    app.advance(Duration::from_secs(15));
}

fn text_of(mail: &post::Arrived) -> String {
    String::from_utf8(mail.raw.clone()).unwrap()
}

on_both! {
    async fn a_mail_goes_out_by_starttls_and_its_code_is_good(engine) {
        let folder = tempfile::tempdir().unwrap();
        let server = Post::open(MANNER, &[]).await;
        let app = app(engine, &server, &folder).await;
        let guest = app.guest().await;
        let claimed = claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
        assert_eq!(server.connections(), 0, "no request waits for a mail server");
        pass(&app).await;
        pass(&app).await;
        let arrived = server.arrived();
        assert_eq!(arrived.len(), 1);
        assert_eq!(arrived[0].to, "RCPT TO:<ada@example.com>");
        assert_eq!(*server.state.open.lock().unwrap(), ["EHLO localhost", "STARTTLS"]);
        let letter: MailboxMessage = letters(&app, "ada@example.com").await.remove(0);
        let text = text_of(&arrived[0]);
        assert!(text.contains(&format!("Message-ID: <{}@shop.example>", letter.id)), "{text}");
        assert!(text.contains(&*letter.code.unwrap()));
        let proof = json!({"code": code(&app, "ada@example.com").await});
        verify(&app, &guest, &claimed, &proof).send().await.expect(200);
    }

    async fn after_every_kind_of_trouble_the_mail_arrives_once(engine) {
        for trouble in [
            (Step::Greeting, What::Say("421 come back\r\n")),
            (Step::StartTls, What::Say("454 not now\r\n")),
            (Step::Auth, What::Say("535 who are you\r\n")),
            (Step::Mail, What::Close),
            (Step::Rcpt, What::Say("450 <ada@example.com> is greylisted\r\n")),
            (Step::Content, What::Say("452 no room\r\n")),
            (Step::Greeting, What::Hang),
            (Step::Data, What::Hang),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let server = Post::open(MANNER, &[trouble]).await;
            let app = app(engine, &server, &folder).await;
            let guest = app.guest().await;
            claim(&app, &guest, &json!({"email": "ada@example.com"})).await;
            pass(&app).await;
            assert!(server.arrived().is_empty(), "{trouble:?}");
            for _ in 0..3 {
                pass(&app).await;
            }
            assert_eq!(server.arrived().len(), 1, "{trouble:?}");
        }
    }

    async fn while_a_server_hangs_requests_answer_and_short_messages_go_out(engine) {
        let folder = tempfile::tempdir().unwrap();
        let server = Post::open(MANNER, &[(Step::Greeting, What::Hang)]).await;
        let service = Service::open("127.0.0.1", None, Reply::status(202, "")).await;
        let authority = folder.path().join("authority.pem");
        std::fs::write(&authority, &server.authority).unwrap();
        let sections = format!(
            "\n[mail]\nfrom = \"no-reply@shop.example\"\nsmtp = \"localhost:{}\"\ntimeout = \"90s\"\nauthorities_file = \"{}\"\n\
             [sms]\nurl = \"http://127.0.0.1:{}/send\"\nsecrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
            server.port,
            authority.display(),
            service.port
        );
        let app = TestApp::with(engine, |text| text + &sections).await;
        claim(&app, &app.guest().await, &json!({"email": "ada@example.com"})).await;
        let hanging = tokio::spawn({
            let core = app.core.clone();
            async move { core.run_outbox().await }
        });
        soon(async {
            while server.connections() == 0 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        claim(&app, &app.guest().await, &json!({"phone": "+491701234567"})).await;
        soon(app.core.run_outbox()).await;
        assert!(!hanging.is_finished());
        assert_eq!(service.requests(), 1);
        let (head, body) = service.asked.lock().unwrap()[0].clone();
        let sent: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&sent["to"], &sent["purpose"]), (&json!("+491701234567"), &json!("verify")));
        assert!(head.contains("webhook-signature: v1,") && head.contains(sent["id"].as_str().unwrap()), "{head}");
        hanging.abort();
        let _ = hanging.await;
        // the runner that was given up took nothing with it
        soon(app.core.run_outbox()).await;
        assert!(server.connections() > 1);
    }

    async fn no_header_is_injected_by_an_address(engine) {
        let folder = tempfile::tempdir().unwrap();
        let server = Post::open(MANNER, &[]).await;
        let app = app(engine, &server, &folder).await;
        let guest = app.guest().await;
        for email in [
            "ada@example.com\r\nBcc: all@example.com",
            "ada@example.com\nRCPT TO:<all@example.com>",
            "ada@example.com\u{0}",
            "\"a\r\nb\"@example.com",
            "ada@example.com>\r\nDATA",
        ] {
            let refused = app.post("/v1/me/identifiers", &json!({"email": email})).bearer(&guest.access).send().await;
            assert!(refused.status.is_client_error(), "{email:?}: {}", refused.text());
        }
        pass(&app).await;
        assert_eq!(server.connections(), 0);
    }
}
