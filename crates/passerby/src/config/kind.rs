//! The kinds of values that settings have: how each is written, and what is said when it is written otherwise.

use std::{net::SocketAddr, time::Duration};

use ipnet::IpNet;
use passerby_core::{settings::Rate, time::parse_span};
use url::Url;
use uuid::Uuid;

use super::read::Fault;

pub(super) const SPAN: &str = "a span such as \"30d\", \"12h\" or \"15m\"";
pub(super) const RATE: &str = "a rate such as \"10/s\", \"600/m\", \"5000/h\" or \"off\"";
pub(super) const SIZE: &str = "a size such as \"32KiB\" or \"1MiB\"";
pub(super) const URL: &str = "a URL such as \"https://id.example.com\"";
pub(super) const ORIGIN: &str = "an origin such as \"https://shop.example.com\"";
pub(super) const REDIRECT: &str = "an absolute URI such as \"https://shop.example.com/callback\"";
pub(super) const ADDRESS: &str = "an IP address and port such as \"127.0.0.1:9011\" or \"[::]:9011\"";
pub(super) const NETWORK: &str = "a network such as \"10.0.0.0/8\"";
pub(super) const UUID: &str = "a UUID such as \"11111111-1111-4111-8111-111111111111\"";
pub(super) const NAME: &str = "a name of 1 to 100 characters";
pub(super) const FILE: &str = "the path of a file";

/// A span within bounds.
pub(super) fn span(text: &str, least: Duration, most: Duration) -> Result<Duration, Fault> {
    let span = parse_span(text).map_err(Fault::Because)?;
    if span < least || span > most {
        return Fault::because(format!("expected a span from {} to {}, found {text:?}", words(least), words(most)));
    }
    Ok(span)
}

/// A span for people: in the largest unit that gives a whole number.
pub(super) fn words(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        s if s >= 86_400 && s % 86_400 == 0 => format!("{}d", s / 86_400),
        s if s >= 3600 && s % 3600 == 0 => format!("{}h", s / 3600),
        s if s >= 60 && s % 60 == 0 => format!("{}m", s / 60),
        s => format!("{s}s"),
    }
}

/// `N/s`, `N/m`, `N/h`, or `off` (`None`).
pub(super) fn rate(text: &str) -> Result<Option<Rate>, Fault> {
    if text == "off" {
        return Ok(None);
    }
    let (count, unit) = text.split_once('/').ok_or(Fault::Other)?;
    let per = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err(Fault::Other),
    };
    if count.is_empty() || !count.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fault::Other);
    }
    match count.parse() {
        Ok(count @ 1..=1_000_000_000) => Ok(Some(Rate { count, per: Duration::from_secs(per) })),
        _ => Fault::because(format!("expected a rate of 1 to 1000000000, or \"off\"; found {text:?}")),
    }
}

/// A size in bytes, within bounds.
pub(super) fn size(text: &str, least: usize, most: usize) -> Result<usize, Fault> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let unit = match text[digits..].trim_start() {
        "B" => 1,
        "KiB" => 1024,
        "MiB" => 1024 * 1024,
        _ => return Err(Fault::Other),
    };
    let bytes = text[..digits].parse::<usize>().ok().and_then(|n| n.checked_mul(unit)).ok_or(Fault::Other)?;
    if bytes < least || bytes > most {
        return Fault::because(format!("expected a size from {least} to {most} bytes, found {text:?}"));
    }
    Ok(bytes)
}

/// An issuer (OpenID Connect Discovery 1.0 section 3: no query, no fragment), kept as written.
pub(super) fn issuer(text: &str) -> Result<String, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::Other)?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(Fault::Other);
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Fault::because(format!("an issuer has neither query nor fragment; found {text:?}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Fault::because("an issuer holds no user name and no password");
    }
    // what the URL library would change silently: capitals in the host, a default port, a space
    if !is_plain(text) || text.trim_end_matches('/') != url.as_str().trim_end_matches('/') {
        return Fault::because(format!("write it as {:?}; issuers are compared as written", url.as_str()));
    }
    Ok(text.to_owned())
}

/// An endpoint that we call.
pub(super) fn http_url(text: &str) -> Result<String, Fault> {
    match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => Ok(text.to_owned()),
        _ => Err(Fault::Other),
    }
}

/// A browser's origin as a browser writes it (RFC 6454 section 6.2): compared exactly.
pub(super) fn origin(text: &str) -> Result<Box<str>, Fault> {
    let (scheme, rest) = text.split_once("://").ok_or(Fault::Other)?;
    let scheme_fits = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+.-".contains(c));
    if !scheme_fits || rest.is_empty() || !is_plain(text) {
        return Err(Fault::Other);
    }
    let url = Url::parse(text).map_err(|_| Fault::Other)?;
    let exact = if matches!(scheme.to_ascii_lowercase().as_str(), "http" | "https") {
        url.origin().ascii_serialization()
    } else {
        // wrappers of web pages: capacitor://localhost, chrome-extension://…
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        format!("{scheme}://{host}").to_ascii_lowercase()
    };
    if exact != text {
        let why = "an origin is scheme, host and port in lower case, without path and default port";
        return Fault::because(format!("write {exact:?}; {why}"));
    }
    Ok(text.into())
}

/// A redirect target (RFC 6749 section 3.1.2: absolute, no fragment), kept as written and compared exactly.
pub(super) fn redirect_uri(text: &str) -> Result<Box<str>, Fault> {
    let url = Url::parse(text).map_err(|_| Fault::Other)?;
    if !is_plain(text) {
        return Err(Fault::Other);
    }
    if text.contains('#') {
        return Fault::because(format!("a redirect URI has no fragment; found {text:?}"));
    }
    if text.contains('*') {
        return Fault::because(format!("a redirect URI is compared exactly, there are no wildcards; found {text:?}"));
    }
    if matches!(url.scheme(), "javascript" | "data" | "vbscript" | "blob" | "file" | "about") {
        return Fault::because(format!("expected {REDIRECT}; {:?} is not a scheme to send anybody to", url.scheme()));
    }
    if matches!(url.scheme(), "http" | "https") && !text.contains("://") {
        return Err(Fault::Other);
    }
    Ok(text.into())
}

/// The page to which a hand-off's link leads: as a redirect target, but that we put the code into its fragment, where
/// it reaches no server and no log.
pub(super) fn hand_off_uri(text: &str) -> Result<Box<str>, Fault> {
    if text.contains('#') {
        return Fault::because(format!("the code becomes the fragment: write the URI without one; found {text:?}"));
    }
    redirect_uri(text)
}

/// Whether a URL stays on this machine.
pub(super) fn is_loopback(url: &str) -> bool {
    match Url::parse(url).as_ref().ok().and_then(Url::host) {
        Some(url::Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        Some(url::Host::Ipv4(a)) => a.is_loopback(),
        Some(url::Host::Ipv6(a)) => a.is_loopback(),
        None => false,
    }
}

/// An address to listen on.
pub(super) fn address(text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| Fault::Other)
}

/// The URL of a store. What is wrong with it is said without repeating it: it may hold a password.
pub(super) fn database(text: &str) -> Result<super::Secret, Fault> {
    let known = ["sqlite:", "postgres://", "postgresql://"];
    let Some(rest) = known.iter().find_map(|scheme| text.strip_prefix(scheme)) else {
        return Fault::because("expected \"sqlite:FILE\" or \"postgres://USER@HOST/DATABASE\"");
    };
    let rest = if text.starts_with("sqlite:") { rest.trim_start_matches("//") } else { rest };
    if rest.is_empty() || rest.starts_with(":memory:") {
        return Fault::because("expected a file after \"sqlite:\" or a server after \"postgres://\"");
    }
    Ok(super::Secret::new(text))
}

/// A network, or one address.
pub(super) fn network(text: &str) -> Result<IpNet, Fault> {
    if let Ok(one) = text.parse::<std::net::IpAddr>() {
        return Ok(one.into());
    }
    let network: IpNet = text.parse().map_err(|_| Fault::Other)?;
    if network.trunc() != network {
        return Fault::because(format!("write \"{}\"; bits below the mask are set", network.trunc()));
    }
    Ok(network)
}

/// A UUID in its printed form.
pub(super) fn uuid(text: &str) -> Result<Uuid, Fault> {
    let id = Uuid::try_parse(text).map_err(|_| Fault::Other)?;
    if id.is_nil() || id.hyphenated().to_string() != text {
        return Err(Fault::Other);
    }
    Ok(id)
}

/// A name for people.
pub(super) fn name(text: &str) -> Result<Box<str>, Fault> {
    if text.trim().is_empty() || text.chars().count() > 100 || text.chars().any(char::is_control) {
        return Err(Fault::Other);
    }
    Ok(text.into())
}

/// A scope (`scope-token` of RFC 6749 section 3.3).
pub(super) fn scope(text: &str) -> Result<Box<str>, Fault> {
    let fits = |b: u8| matches!(b, 0x21 | 0x23..=0x5b | 0x5d..=0x7e);
    if text.is_empty() || text.len() > 200 || !text.bytes().all(fits) { Err(Fault::Other) } else { Ok(text.into()) }
}

/// Something that is compared exactly and travels in URLs and claims: 1 to 255 printable ASCII characters, no space.
pub(super) fn token(text: &str) -> Result<Box<str>, Fault> {
    if text.is_empty() || text.len() > 255 || !is_plain(text) { Err(Fault::Other) } else { Ok(text.into()) }
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said<T>(result: Result<T, Fault>) -> String {
        match result {
            Ok(_) => "taken".into(),
            Err(Fault::Other) => "other".into(),
            Err(Fault::Because(why)) => why,
        }
    }

    #[test]
    fn rates_and_sizes() {
        for (text, count, per) in [("1000000/s", 1_000_000, 1), ("600/m", 600, 60), ("5/h", 5, 3600)] {
            assert_eq!(rate(text).ok().flatten(), Some(Rate { count, per: Duration::from_secs(per) }), "{text}");
        }
        assert!(matches!(rate("off"), Ok(None)));
        for text in ["", "5", "/s", "0/s", "-1/s", "+1/s", "5/d", "5 /s", "99999999999/s", "Off"] {
            assert!(rate(text).is_err(), "{text}");
        }
        assert_eq!(size("32KiB", 1, usize::MAX).ok(), Some(32_768));
        assert_eq!(size("1 MiB", 1, usize::MAX).ok(), Some(1_048_576));
        for text in ["", "32", "32kb", "KiB", "0B", "99999999999999999999MiB", "-1KiB"] {
            assert!(size(text, 1, usize::MAX).is_err(), "{text}");
        }
    }

    #[test]
    fn origins_are_as_browsers_write_them() {
        for text in ["https://a.example", "http://localhost:8080", "http://[::1]:3000", "capacitor://localhost"] {
            assert_eq!(said(origin(text)), "taken", "{text}");
        }
        for (text, better) in [
            ("https://A.example", "https://a.example"),
            ("https://a.example/", "https://a.example"),
            ("https://a.example/x?y", "https://a.example"),
            ("https://a.example:443", "https://a.example"),
            ("Capacitor://localhost/", "capacitor://localhost"),
        ] {
            assert!(said(origin(text)).starts_with(&format!("write {better:?};")), "{text}: {}", said(origin(text)));
        }
        for text in ["", "*", "null", "a.example", "://x", "https://", "1a://x", "https://a b"] {
            assert_eq!(said(origin(text)), "other", "{text}");
        }
    }

    #[test]
    fn redirect_targets() {
        for text in [
            "https://a.example/cb?x=1",
            "http://localhost:8080/",
            "com.example.app://host/path",
            "com.example.app:/path",
            "http://127.0.0.1/cb",
        ] {
            assert_eq!(said(redirect_uri(text)), "taken", "{text}");
        }
        for text in [
            "",
            "/cb",
            "//a.example/cb",
            "https:",
            "https:a",
            "https://a/#x",
            "https://*.a/",
            "javascript:alert(1)",
            "data:,x",
            "https://a/ b",
        ] {
            assert_ne!(said(redirect_uri(text)), "taken", "{text}");
            assert_ne!(said(hand_off_uri(text)), "taken", "{text}");
        }
        assert_eq!(said(hand_off_uri("com.example.app://hand-off")), "taken");
        assert!(said(hand_off_uri("https://a.example/#x")).starts_with("the code becomes the fragment"));
    }

    #[test]
    fn issuers_are_kept_as_written() {
        for text in
            ["http://localhost:9011", "https://id.example.com/", "https://id.example.com/auth", "http://[::1]:9011"]
        {
            assert_eq!(issuer(text).ok().as_deref(), Some(text));
        }
        for text in [
            "",
            "id.example.com",
            "ftp://a",
            "https://a?x",
            "https://a#x",
            "https://u:p@a",
            "https://A.example",
            "https://a:443",
            "https://",
        ] {
            assert!(issuer(text).is_err(), "{text}");
        }
        assert!(
            is_loopback("http://localhost:9011") && is_loopback("http://127.0.0.9/") && is_loopback("http://[::1]:1")
        );
        assert!(!is_loopback("http://localhost.example.com") && !is_loopback("com.example:/x"));
    }

    #[test]
    fn networks_and_ids() {
        assert!(network("10.0.0.0/8").is_ok() && network("::1").is_ok() && network("192.0.2.7").is_ok());
        assert_eq!(said(network("10.1.0.0/8")), "write \"10.0.0.0/8\"; bits below the mask are set");
        assert!(network("10.0.0.0/33").is_err() && network("all").is_err());
        assert!(uuid("11111111-1111-4111-8111-111111111111").is_ok());
        for text in [
            "00000000-0000-0000-0000-000000000000",
            "11111111111141118111111111111111",
            "AAAAAAAA-1111-4111-8111-111111111111",
        ] {
            assert!(uuid(text).is_err(), "{text}");
        }
        assert!(scope("read:cart").is_ok() && scope("a b").is_err() && scope("a\"").is_err() && scope("").is_err());
        assert_eq!(words(Duration::from_hours(24)), "1d");
        assert_eq!(words(Duration::from_secs(90)), "90s");
    }
}
