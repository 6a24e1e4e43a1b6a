//! Where outgoing calls may go: which URLs, and which addresses their names may stand for.
//!
//! URLs of web hooks and message services are named by tenants; without a guard they would reach whatever this server
//! can reach (server-side request forgery). The guard is asked twice: [`Guard::check`] reads the URL, as soon as it is
//! saved and again before each call; the resolver gives the connection only addresses that [`Guard::permits`], so what was checked is
//! what is connected to, whatever a name stands for the next moment.

mod address;
mod resolve;

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use url::{Host, Url};

use self::address::{canonical, is_metadata, is_public};
pub(crate) use self::resolve::GuardedResolver;

/// Longest URL that is called, in bytes.
const URL: usize = 2048;

/// What the operator allows beyond the rule.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    /// Networks that may be called although they are not public. An address where clouds tell their machines secrets
    /// (`169.254.169.254` and its like) needs an entry of its own, with all its bits.
    pub networks: Vec<IpNet>,
    /// Hosts that may be called by plain http: names or addresses as they stand in a URL, without port.
    pub plain_http: Vec<String>,
}

/// Judges where calls go. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Guard(Arc<Allowance>);

/// Why a URL or an address is not called.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Blocked {
    /// Not an absolute URL, or longer than 2048 bytes.
    #[error("it is no URL, or longer than 2048 bytes")]
    Url,
    /// Neither https, nor http to a host for which the operator allows it.
    #[error("only https is allowed")]
    Scheme,
    /// A user or password in the URL, which logs would show.
    #[error("a URL may not hold a user or password")]
    Credentials,
    /// A fragment, which is never sent.
    #[error("a URL that is called may not have a fragment")]
    Fragment,
    /// An address that is not public and not allowed by the operator.
    #[error("the address {0} may not be called")]
    Address(IpAddr),
    /// The name stands for no address that may be called.
    #[error("the host has no address that may be called")]
    Host,
}

impl Guard {
    /// With what the operator allows beyond https to public addresses.
    pub fn new(mut allowance: Allowance) -> Self {
        for host in &mut allowance.plain_http {
            host.make_ascii_lowercase();
        }
        Self(Arc::new(allowance))
    }

    /// Reads a URL that is to be called. A host that is an address is judged here, in any spelling: the URL standard
    /// turns `0x7f.1` and `2130706433` into `127.0.0.1`. A name is judged when it is resolved.
    pub fn check(&self, url: &str) -> Result<Url, Blocked> {
        if url.len() > URL {
            return Err(Blocked::Url);
        }
        let url = Url::parse(url).map_err(|_| Blocked::Url)?;
        self.check_parsed(&url)?;
        Ok(url)
    }

    pub(crate) fn check_parsed(&self, url: &Url) -> Result<(), Blocked> {
        let host = url.host().ok_or(Blocked::Url)?;
        match url.scheme() {
            "https" => {}
            "http" if self.0.plain_http.iter().any(|allowed| url.host_str() == Some(allowed)) => {}
            _ => return Err(Blocked::Scheme),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Blocked::Credentials);
        }
        if url.fragment().is_some() {
            return Err(Blocked::Fragment);
        }
        let address = match host {
            Host::Ipv4(address) => IpAddr::V4(address),
            Host::Ipv6(address) => IpAddr::V6(address),
            Host::Domain(_) => return Ok(()),
        };
        if self.permits(address) { Ok(()) } else { Err(Blocked::Address(address)) }
    }

    /// Whether a connection to the address may be made.
    pub fn permits(&self, address: IpAddr) -> bool {
        let address = canonical(address);
        let listed = || self.0.networks.iter().any(|network| network.contains(&address));
        if is_metadata(address) {
            return self.0.networks.iter().any(|n| n.addr() == address && n.prefix_len() == n.max_prefix_len());
        }
        is_public(address) || listed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strict() -> Guard {
        Guard::new(Allowance::default())
    }

    #[test]
    fn https_to_public_hosts_passes() {
        for url in [
            "https://hooks.example.com/a?b=c",
            "https://HOOKS.example.com:8443/",
            "https://93.184.215.14/",
            "https://[2606:4700:4700::1111]/",
        ] {
            assert!(strict().check(url).is_ok(), "{url}");
        }
    }

    #[test]
    fn what_else_a_url_may_say_is_refused() {
        let long = format!("https://example.com/{}", "a".repeat(URL));
        for (url, why) in [
            ("", Blocked::Url),
            ("/path", Blocked::Url),
            ("https://", Blocked::Url),
            (&long, Blocked::Url),
            ("http://example.com/", Blocked::Scheme),
            ("ftp://example.com/", Blocked::Scheme),
            ("gopher://example.com/", Blocked::Scheme),
            ("file:///etc/passwd", Blocked::Url),
            ("https://user@example.com/", Blocked::Credentials),
            ("https://:secret@example.com/", Blocked::Credentials),
            ("https://example.com/#x", Blocked::Fragment),
        ] {
            assert_eq!(strict().check(url), Err(why), "{url}");
        }
    }

    #[test]
    fn an_address_is_refused_in_any_spelling() {
        for host in [
            "127.0.0.1",
            "127.1",
            "127.0.1",
            "2130706433",
            "0x7f000001",
            "0x7f.0.0.1",
            "0177.0.0.1",
            "017700000001",
            "0",
            "0.0.0.0",
            "127.0.0.1.",
            "[::1]",
            "[::]",
            "[::ffff:127.0.0.1]",
            "[::ffff:7f00:1]",
            "[::127.0.0.1]",
            "[0:0:0:0:0:ffff:7f00:0001]",
            "[64:ff9b::7f00:1]",
            "[2002:7f00:1::]",
            "[fe80::1]",
            "[fd00:ec2::254]",
            "169.254.169.254",
            "0xa9fea9fe",
            "10.0.0.1",
            "192.168.1.1",
            "172.16.0.1",
            "100.64.0.1",
            "１２７.0.0.1",
            "①②⑦.0.0.1",
            "127。0。0。1",
        ] {
            let url = format!("https://{host}/");
            assert!(matches!(strict().check(&url), Err(Blocked::Address(_))), "{url}: {:?}", strict().check(&url));
        }
    }

    #[test]
    fn plain_http_is_for_listed_hosts_alone() {
        let guard = Guard::new(Allowance { networks: Vec::new(), plain_http: vec!["SMS.example.com".to_owned()] });
        assert!(guard.check("http://sms.example.com:8080/x").is_ok());
        assert_eq!(guard.check("http://sms.example.com.evil.example/"), Err(Blocked::Scheme));
        assert_eq!(guard.check("http://x.sms.example.com/"), Err(Blocked::Scheme));
        let address = Guard::new(Allowance { networks: Vec::new(), plain_http: vec!["127.0.0.1".to_owned()] });
        assert!(
            matches!(address.check("http://127.0.0.1/"), Err(Blocked::Address(_))),
            "the scheme is not the address"
        );
    }

    #[test]
    fn an_allowed_network_is_allowed_in_every_dress_and_no_other_is() {
        let networks = vec!["10.1.0.0/16".parse().unwrap(), "fd12::/32".parse().unwrap()];
        let guard = Guard::new(Allowance { networks, plain_http: Vec::new() });
        for ok in ["10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::1", "8.8.8.8"] {
            assert!(guard.permits(ok.parse().unwrap()), "{ok}");
        }
        for no in ["10.2.0.1", "127.0.0.1", "::1", "fd13::1", "2002:a01:203::"] {
            assert!(!guard.permits(no.parse().unwrap()), "{no}");
        }
    }

    #[test]
    fn places_where_clouds_tell_secrets_need_an_entry_of_their_own() {
        let wide = vec!["169.254.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap(), "0.0.0.0/0".parse().unwrap()];
        let wide = Guard::new(Allowance { networks: wide, plain_http: Vec::new() });
        let own =
            Guard::new(Allowance { networks: vec!["169.254.169.254/32".parse().unwrap()], ..Allowance::default() });
        for place in
            ["169.254.169.254", "169.254.170.2", "100.100.100.200", "192.0.0.192", "168.63.129.16", "fd00:ec2::254"]
        {
            assert!(!wide.permits(place.parse().unwrap()), "{place}");
            assert!(!strict().permits(place.parse().unwrap()), "{place}");
        }
        assert!(!wide.permits("::ffff:169.254.169.254".parse().unwrap()));
        assert!(wide.permits("169.254.1.1".parse().unwrap()));
        assert!(own.permits("169.254.169.254".parse().unwrap()));
    }
}
