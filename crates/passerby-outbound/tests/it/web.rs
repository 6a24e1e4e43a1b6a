//! The guarded client calls what it may, and nobody else.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method};
use passerby_outbound::{
    guard::{Allowance, Blocked, Guard},
    web::{Call, Limits, WebClient, WebFault},
};

use super::{
    certificate,
    service::{Reply, Service},
    soon,
};

/// Loopback by IPv4, and plain http there.
pub(crate) fn local() -> Guard {
    let networks = vec!["127.0.0.0/8".parse().unwrap()];
    Guard::new(Allowance { networks, plain_http: vec!["127.0.0.1".to_owned(), "localhost".to_owned()] })
}

fn client(guard: Guard) -> WebClient {
    WebClient::new(guard, Limits { total: Duration::from_secs(40), ..Limits::default() }, None).unwrap()
}

fn get(url: String) -> Call {
    Call { method: Method::GET, url, headers: HeaderMap::new(), body: Bytes::new() }
}

#[tokio::test]
async fn an_allowed_service_is_called() {
    let service = Service::open("127.0.0.1", None, Reply::status(418, "x-tea: yes\r\n")).await;
    let answer = soon(client(local()).call(get(format!("http://127.0.0.1:{}/a?b", service.port)))).await.unwrap();
    assert_eq!(
        (answer.status.as_u16(), &answer.headers["x-tea"], &answer.body[..]),
        (418, &"yes".parse().unwrap(), &b"ok"[..])
    );
    let asked = service.asked.lock().unwrap().clone();
    assert!(asked[0].0.starts_with("GET /a?b HTTP/1.1\r\n") && !asked[0].0.to_ascii_lowercase().contains("referer"));
}

#[tokio::test]
async fn a_service_of_this_machine_is_not_called_unless_allowed() {
    let (pem, tls) = certificate("localhost");
    let service = Service::open("127.0.0.1", Some(tls), Reply::status(200, "")).await;
    let strict = WebClient::new(Guard::new(Allowance::default()), Limits::default(), Some(&pem)).unwrap();
    for host in ["127.0.0.1", "127.1", "2130706433", "[::ffff:127.0.0.1]"] {
        let fault = soon(strict.call(get(format!("https://{host}:{}/", service.port)))).await.unwrap_err();
        assert!(matches!(fault, WebFault::Blocked(Blocked::Address(_))), "{host}: {fault}");
    }
    for host in ["localhost", "localhost."] {
        let fault = soon(strict.call(get(format!("https://{host}:{}/", service.port)))).await.unwrap_err();
        assert!(matches!(fault, WebFault::Blocked(Blocked::Host) | WebFault::Network(_)), "{host}: {fault}");
    }
    assert_eq!(*service.connections.lock().unwrap(), 0);
    let allowed = WebClient::new(local(), Limits::default(), Some(&pem)).unwrap();
    let answer = soon(allowed.call(get(format!("https://localhost:{}/", service.port)))).await.unwrap();
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn of_a_name_with_several_addresses_only_the_allowed_are_called() {
    // the name stands for 127.0.0.1, and for ::1 where the machine knows IPv6; only that one is allowed
    let networks = vec!["::1/128".parse().unwrap()];
    let guard = Guard::new(Allowance { networks, plain_http: vec!["localhost".to_owned()] });
    let service = Service::open("127.0.0.1", None, Reply::status(200, "")).await;
    let fault = soon(client(guard).call(get(format!("http://localhost:{}/", service.port)))).await.unwrap_err();
    assert!(matches!(fault, WebFault::Network(_) | WebFault::Blocked(Blocked::Host)), "{fault}");
    assert_eq!(*service.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn redirects_are_answers() {
    let inner = Service::open("127.0.0.1", None, Reply::status(200, "")).await;
    for status in [301, 302, 303, 307, 308] {
        let to = format!("location: http://127.0.0.1:{}/secret\r\n", inner.port);
        let outer = Service::open("127.0.0.1", None, Reply::status(status, &to)).await;
        let answer = soon(client(local()).call(get(format!("http://127.0.0.1:{}/", outer.port)))).await.unwrap();
        assert_eq!(answer.status.as_u16(), status);
    }
    assert_eq!(*inner.connections.lock().unwrap(), 0);
}

#[tokio::test]
async fn long_answers_are_cut_off() {
    let long = |length: usize| {
        let head = format!(
            "HTTP/1.1 200 OK
content-length: {length}

"
        );
        Reply::Bytes([head.into_bytes(), vec![b'x'; length]].concat())
    };
    for reply in [Reply::Endless, long(65537)] {
        let service = Service::open("127.0.0.1", None, reply).await;
        let fault = soon(client(local()).call(get(format!("http://127.0.0.1:{}/", service.port)))).await.unwrap_err();
        assert_eq!(fault, WebFault::Long);
    }
    let service = Service::open("127.0.0.1", None, long(65536)).await;
    let answer = soon(client(local()).call(get(format!("http://127.0.0.1:{}/", service.port)))).await.unwrap();
    assert_eq!(answer.body.len(), 65536);
}

#[tokio::test]
async fn a_service_that_says_nothing_is_given_up() {
    let service = Service::open("127.0.0.1", None, Reply::Nothing).await;
    let limits = Limits { total: Duration::from_millis(300), ..Limits::default() };
    let impatient = WebClient::new(local(), limits, None).unwrap();
    let fault = soon(impatient.call(get(format!("http://127.0.0.1:{}/", service.port)))).await.unwrap_err();
    assert_eq!(fault, WebFault::Late);
}

#[tokio::test]
async fn faults_tell_no_path_and_servers_need_somebody_who_vouches() {
    let (_, tls) = certificate("localhost");
    let (other, _) = certificate("localhost");
    let service = Service::open("127.0.0.1", Some(tls), Reply::status(200, "")).await;
    let strangers = WebClient::new(local(), Limits::default(), Some(&other)).unwrap();
    for client in [strangers, client(local())] {
        let fault = soon(client.call(get(format!("https://localhost:{}/secret-path?secret=query", service.port))))
            .await
            .unwrap_err();
        assert!(matches!(fault, WebFault::Network(_)), "{fault}");
        assert!(!fault.to_string().contains("secret"), "{fault}");
    }
    assert_eq!(service.requests(), 0);
    let fault = WebClient::new(local(), Limits::default(), Some(b"no certificate")).unwrap_err();
    assert!(fault.to_string().contains("no certificate in the list"), "{fault}");
}
