//! The true client address. Forwarding headers count only when the peer is a configured proxy (security checklist 3).

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header::FORWARDED};
use ipnet::IpNet;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

/// The address that limits are counted for.
///
/// `X-Forwarded-For` and `Forwarded` (RFC 7239) are read only when `peer` is in `trusted`. The rightmost address that is
/// not trusted wins; when all are, the leftmost. A header that cannot be read whole up to there, or two headers that
/// disagree (a proxy writes one and passes the visitor's other one on), leave the peer.
pub(crate) fn client_address(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> IpAddr {
    let peer = peer.to_canonical();
    if trusted.is_empty() || !is_trusted(peer, trusted) {
        return peer;
    }
    let x_forwarded = walk(headers, &X_FORWARDED_FOR, trusted, |entry| read_address(entry.trim()));
    let forwarded = walk(headers, &FORWARDED, trusted, read_forwarded);
    match (x_forwarded, forwarded) {
        (Found::Address(a), Found::Nothing) | (Found::Nothing, Found::Address(a)) => a,
        (Found::Address(a), Found::Address(b)) if a == b => a,
        // none, a malformed one, or two that disagree
        _ => peer,
    }
}

/// Whether the peer of a connection is a configured proxy, whose forwarding headers count.
pub(crate) fn is_trusted_peer(peer: IpAddr, trusted: &[IpNet]) -> bool {
    is_trusted(peer.to_canonical(), trusted)
}

fn is_trusted(address: IpAddr, trusted: &[IpNet]) -> bool {
    trusted.iter().any(|net| net.contains(&address))
}

enum Found {
    Nothing,
    Malformed,
    Address(IpAddr),
}

/// From the right, over all lines of the header as if they were one list (RFC 9110 section 5.3).
fn walk(headers: &HeaderMap, name: &HeaderName, trusted: &[IpNet], read: impl Fn(&str) -> Option<IpAddr>) -> Found {
    let mut found = Found::Nothing;
    let lines: Vec<_> = headers.get_all(name).iter().collect();
    for line in lines.iter().rev() {
        let Ok(line) = line.to_str() else { return Found::Malformed };
        for entry in line.rsplit(',') {
            let Some(address) = read(entry) else { return Found::Malformed };
            if !is_trusted(address, trusted) {
                return Found::Address(address);
            }
            found = Found::Address(address);
        }
    }
    found
}

/// `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`.
fn read_address(text: &str) -> Option<IpAddr> {
    let address = text
        .parse::<IpAddr>()
        .ok()
        .or_else(|| text.parse::<SocketAddr>().ok().map(|a| a.ip()))
        .or_else(|| text.strip_prefix('[')?.strip_suffix(']')?.parse().ok())?;
    Some(address.to_canonical())
}

/// The `for` of one element of `Forwarded`. `unknown` and obfuscated names (RFC 7239 section 6) are no address.
fn read_forwarded(element: &str) -> Option<IpAddr> {
    let mut address = None;
    for pair in element.split(';') {
        let (name, value) = pair.split_once('=')?;
        if name.trim().eq_ignore_ascii_case("for") {
            let value = value.trim();
            let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).unwrap_or(value);
            // a second `for` in one element is malformed
            if address.replace(read_address(value)?).is_some() {
                return None;
            }
        }
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn client(peer: &str, lines: &[(&'static str, &'static str)]) -> String {
        let trusted: Vec<IpNet> = ["10.0.0.0/8", "fd00::/8"].iter().map(|n| n.parse().unwrap()).collect();
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, http::HeaderValue::from_static(value));
        }
        client_address(ip(peer), &headers, &trusted).to_string()
    }

    #[test]
    fn headers_of_strangers_do_not_count() {
        assert_eq!(client("192.0.2.9", &[("x-forwarded-for", "198.51.100.1")]), "192.0.2.9");
        assert_eq!(client("192.0.2.9", &[("forwarded", "for=198.51.100.1")]), "192.0.2.9");
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", http::HeaderValue::from_static("198.51.100.1"));
        assert_eq!(client_address(ip("10.0.0.1"), &headers, &[]), ip("10.0.0.1"));
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_wins() {
        let x = "x-forwarded-for";
        assert_eq!(client("10.0.0.1", &[(x, "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[(x, "203.0.113.7, 198.51.100.1, 10.2.2.2")]), "198.51.100.1");
        assert_eq!(
            client("10.0.0.1", &[(x, "garbage, 198.51.100.1,10.2.2.2")]),
            "198.51.100.1",
            "what lies left is the visitor's"
        );
        assert_eq!(client("10.0.0.1", &[(x, "203.0.113.7"), (x, "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("10.0.0.1", &[(x, "10.9.9.9, 10.2.2.2")]), "10.9.9.9");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn forms_of_addresses() {
        let x = "x-forwarded-for";
        for (sent, read) in [
            ("198.51.100.1:4711", "198.51.100.1"),
            ("2001:db8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:443", "2001:db8::1"),
            ("::ffff:198.51.100.1", "198.51.100.1"),
        ] {
            assert_eq!(client("fd00::5", &[(x, sent)]), read, "{sent}");
        }
        assert_eq!(client("::ffff:10.0.0.1", &[(x, "198.51.100.1")]), "198.51.100.1");
        assert_eq!(client("::ffff:192.0.2.9", &[]), "192.0.2.9");
    }

    #[test]
    fn malformed_leaves_the_peer() {
        for value in ["", " ", "unknown", "_hidden", "198.51.100.1,", "1.2.3", "198.51.100.1, x", "1.2.3.4 5.6.7.8"] {
            assert_eq!(client("10.0.0.1", &[("x-forwarded-for", value)]), "10.0.0.1", "{value:?}");
        }
        for value in ["for=unknown", "for=_x", "by=10.0.0.1", "for=198.51.100.1;for=198.51.100.2", "nonsense", "for="] {
            assert_eq!(client("10.0.0.1", &[("forwarded", value)]), "10.0.0.1", "{value:?}");
        }
    }

    #[test]
    fn forwarded_of_rfc_7239() {
        for (sent, read) in [
            ("for=198.51.100.1;proto=https;by=10.0.0.1", "198.51.100.1"),
            ("For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17"),
            ("for=203.0.113.7, for=198.51.100.1, For=10.3.3.3", "198.51.100.1"),
        ] {
            assert_eq!(client("10.0.0.1", &[("forwarded", sent)]), read, "{sent}");
        }
        let both = |x, f| client("10.0.0.1", &[("x-forwarded-for", x), ("forwarded", f)]);
        assert_eq!(both("198.51.100.1", "for=198.51.100.1"), "198.51.100.1");
        assert_eq!(both("198.51.100.1", "for=203.0.113.7"), "10.0.0.1", "one of the two is the visitor's own");
        assert_eq!(both("198.51.100.1", "for=unknown"), "10.0.0.1");
    }
}
