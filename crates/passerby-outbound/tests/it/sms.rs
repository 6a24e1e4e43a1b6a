//! Short messages: one signed call, and what its answers mean.

use std::time::Duration;

use passerby_outbound::{
    sms::{ShortMessage, SmsFault, SmsSender, SmsSetUpFault},
    web::{Limits, WebClient, WebFault},
};
use standardwebhooks::Webhook;

use super::{
    service::{Reply, Service},
    soon,
    web::local,
};

const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OLD: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
const NOW: u64 = 784_111_700;

fn message() -> ShortMessage {
    ShortMessage {
        id: "0190-row-7".to_owned(),
        to: "+491701234567".to_owned(),
        text: "482913 is your \"code\" für Käse".to_owned(),
        purpose: "sign_in".to_owned(),
    }
}

fn sender(service: &Service, secrets: &[&str]) -> SmsSender {
    let client = WebClient::new(local(), Limits { total: Duration::from_secs(40), ..Limits::default() }, None).unwrap();
    let secrets: Vec<_> = secrets.iter().map(|&secret| secret.to_owned()).collect();
    SmsSender::new(client, &format!("http://127.0.0.1:{}/sms", service.port), &secrets).unwrap()
}

fn header<'a>(head: &'a str, name: &str) -> &'a str {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or_default()
}

#[tokio::test]
async fn a_message_is_one_signed_call() {
    let service = Service::open("127.0.0.1", None, Reply::status(202, "")).await;
    soon(sender(&service, &[NEW, OLD]).send(&message(), NOW)).await.unwrap();
    let asked = service.asked.lock().unwrap().clone();
    let [(head, body)] = &asked[..] else { panic!("{} calls", asked.len()) };
    assert!(head.starts_with("POST /sms HTTP/1.1\r\n"), "{head}");
    assert_eq!(header(head, "content-type"), "application/json");
    assert_eq!((header(head, "webhook-id"), header(head, "webhook-timestamp")), ("0190-row-7", "784111700"));
    let said: serde_json::Value = serde_json::from_slice(body).unwrap();
    let wanted = serde_json::json!({
        "id": "0190-row-7", "to": "+491701234567", "text": "482913 is your \"code\" für Käse", "purpose": "sign_in",
    });
    assert_eq!(said, wanted);
    // by the library's own key, over what arrived
    let signature = |secret| Webhook::new(secret).unwrap().sign("0190-row-7", 784_111_700, body).unwrap();
    assert_eq!(header(head, "webhook-signature"), format!("{} {}", signature(NEW), signature(OLD)));
}

#[tokio::test]
async fn answers_are_told_apart() {
    let wait = |seconds| Some(Duration::from_secs(seconds));
    for (status, headers, transient, retry_after) in [
        (200, "", None, None),
        (204, "", None, None),
        (302, "location: http://127.0.0.1:1/\r\n", Some(true), None),
        (400, "", Some(false), None),
        (401, "retry-after: 5\r\n", Some(false), None),
        (404, "", Some(false), None),
        (408, "", Some(true), None),
        (422, "", Some(false), None),
        (429, "retry-after: 120\r\n", Some(true), wait(120)),
        (429, "retry-after: Sun, 06 Nov 1994 08:49:37 GMT\r\n", Some(true), wait(77)),
        (429, "retry-after: soon\r\n", Some(true), None),
        (500, "", Some(true), None),
        (503, "retry-after: 7\r\n", Some(true), wait(7)),
    ] {
        let service = Service::open("127.0.0.1", None, Reply::status(status, headers)).await;
        let outcome = soon(sender(&service, &[NEW]).send(&message(), NOW)).await;
        match (outcome, transient) {
            (Ok(()), None) => {}
            (Err(fault), Some(transient)) => {
                assert_eq!((fault.is_transient(), fault.is_uncertain()), (transient, false), "{status}");
                let told = if let SmsFault::Busy { retry_after, .. } = fault { retry_after } else { None };
                assert_eq!(told, retry_after, "{status} {headers}");
            }
            (outcome, _) => panic!("{status}: {outcome:?}"),
        }
        assert_eq!(service.requests(), 1, "{status}");
    }
}

#[tokio::test]
async fn without_an_answer_it_is_for_later() {
    let gone = Service::open("127.0.0.1", None, Reply::Bytes(Vec::new())).await;
    let fault = soon(sender(&gone, &[NEW]).send(&message(), NOW)).await.unwrap_err();
    assert!(fault.is_transient() && fault.is_uncertain(), "{fault}");
    let silent = Service::open("127.0.0.1", None, Reply::Nothing).await;
    let client =
        WebClient::new(local(), Limits { total: Duration::from_millis(300), ..Limits::default() }, None).unwrap();
    let url = format!("http://127.0.0.1:{}/", silent.port);
    let impatient = SmsSender::new(client, &url, &[NEW.to_owned()]).unwrap();
    let fault = soon(impatient.send(&message(), NOW)).await.unwrap_err();
    assert_eq!(fault, SmsFault::Call(WebFault::Late));
    assert!(fault.is_transient() && fault.is_uncertain());
}

#[tokio::test]
async fn a_message_out_of_range_and_broken_settings_call_nobody() {
    let service = Service::open("127.0.0.1", None, Reply::status(200, "")).await;
    let sender = sender(&service, &[NEW]);
    let fault = soon(sender.send(&ShortMessage { to: "0170".to_owned(), ..message() }, NOW)).await.unwrap_err();
    assert_eq!((fault.is_transient(), fault), (false, SmsFault::Message("to")));
    assert_eq!(*service.connections.lock().unwrap(), 0);
    let client = || WebClient::new(local(), Limits::default(), None).unwrap();
    let secret = |secret: &str| vec![secret.to_owned()];
    for url in ["", "http://sms.example.com/", "https://10.0.0.1/", "https://u:p@sms.example.com/"] {
        assert!(matches!(SmsSender::new(client(), url, &secret(NEW)), Err(SmsSetUpFault::Url(_))), "{url}");
    }
    for secrets in [vec![], secret("short"), secret("whsec_c2hvcnQ="), vec![NEW.to_owned(); 3]] {
        assert_eq!(SmsSender::new(client(), "https://sms.example.com/", &secrets).err(), Some(SmsSetUpFault::Secret));
    }
    assert_eq!(format!("{sender:?} {:?}", message()), "SmsSender { .. } ShortMessage { id: \"0190-row-7\", .. }");
}
