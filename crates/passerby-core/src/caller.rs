//! Who asks, from where. Doors build these; use cases look nowhere else.

use std::net::IpAddr;

use crate::{Code, Error, id::TenantNo, settings::Tenant};

/// Who asks, from where.
#[derive(Debug, Clone)]
pub struct Caller<'a> {
    /// The tenant that the path or the host names; `None`: the client or the token names it.
    pub tenant: Option<TenantNo>,
    /// The true client address (forwarding headers count only from configured proxies).
    pub address: IpAddr,
    /// What the browser says about where the request comes from.
    pub site: Site<'a>,
    /// The DPoP proof that came along (RFC 9449), with what it must be for.
    pub proof: Option<ProofClaim<'a>>,
}

/// A DPoP proof as it came, and the request that it must name.
#[derive(Clone)]
pub struct ProofClaim<'a> {
    /// The proof; `None`: more than one header, or one that is not text.
    pub jwt: Option<&'a str>,
    /// The request's method.
    pub method: &'a str,
    /// The path as it was asked for: with the tenant's prefix, without the query.
    pub path: &'a str,
    /// In development: scheme and host that the request itself names, which count beside the issuer's.
    pub own_origin: Option<(&'static str, &'a str)>,
}

/// An access token and the scheme under which it was shown.
#[derive(Clone, Copy)]
pub struct AccessToken<'a> {
    /// The token.
    pub text: &'a str,
    /// How it was shown.
    pub scheme: Scheme,
}

/// An authorization scheme for access tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// RFC 6750.
    Bearer,
    /// RFC 9449 section 7.1: with a proof.
    DPoP,
    /// In the body of a token request (RFC 8693 section 2.1). A bound one counts with the request's own proof, which as at
    /// every token request names no token (RFC 9449 section 5).
    Body,
}

/// Where a request comes from, as `Origin` and `Sec-Fetch-Site` tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site<'a> {
    /// Neither header: not a browser, or an old one.
    Unknown,
    /// Ours: the issuer's origin (in development also the request's own host), or `Sec-Fetch-Site: same-origin`.
    Same,
    /// Another origin, as sent.
    Origin(&'a str),
    /// No `Origin`, and `Sec-Fetch-Site` says that it is not same-origin.
    Cross,
}

impl Site<'_> {
    /// A change by cookie needs an origin that is ours or registered with the tenant (security checklist 45).
    ///
    /// # Errors
    /// [`Code::CrossSite`].
    pub(crate) fn may_change_by_cookie(self, tenant: &Tenant) -> Result<(), Error> {
        match self {
            Self::Same => Ok(()),
            Self::Origin(o) if tenant.origins.contains(o) => Ok(()),
            Self::Origin(_) | Self::Unknown | Self::Cross => Err(Error::at(
                Code::CrossSite,
                "Origin",
                "A change by cookie needs an Origin that is ours or registered by a client.",
            )),
        }
    }
}

impl Site<'_> {
    /// A page of another origin reads by cookie only where the cookie's own tenant has registered it: CORS knows the
    /// origins of all tenants of a host.
    ///
    /// # Errors
    /// [`Code::CrossSite`].
    pub(crate) fn may_read_by_cookie(self, tenant: &Tenant) -> Result<(), Error> {
        match self {
            Self::Origin(o) if !tenant.origins.contains(o) => Err(Error::at(
                Code::CrossSite,
                "Origin",
                "This origin is not registered by a client of the cookie's tenant.",
            )),
            _ => Ok(()),
        }
    }
}

/// A client's id and how it authenticates.
#[derive(Clone, Copy, Default)]
pub struct ClientClaim<'a> {
    /// `client_id`.
    pub id: Option<&'a str>,
    /// HTTP Basic: id and secret, decoded.
    pub basic: Option<(&'a str, &'a str)>,
    /// `client_secret` in the body.
    pub secret: Option<&'a str>,
    /// `client_assertion` (RFC 7523).
    pub assertion: Option<&'a str>,
    /// `client_assertion_type`.
    pub assertion_type: Option<&'a str>,
    /// The path of the endpoint: an assertion may name its URL as audience.
    pub endpoint: &'a str,
}

/// An access token and a cookie, as sent.
#[derive(Clone, Copy, Default)]
pub struct Access<'a> {
    /// `Authorization`; wins over the cookie.
    pub token: Option<AccessToken<'a>>,
    /// The session cookie.
    pub cookie: Option<&'a str>,
    /// The request changes something: then the cookie needs a good [`Site`].
    pub change: bool,
}

opaque_debug!(ClientClaim<'_>, Access<'_>, ProofClaim<'_>, AccessToken<'_>);
