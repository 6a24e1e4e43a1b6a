//! Who asks, from where. Doors build these; use cases look nowhere else.

use std::net::IpAddr;

use crate::{Code, Error, id::TenantNo, settings::Tenant};

/// Who asks, from where.
#[derive(Debug, Clone, Copy)]
pub struct Caller<'a> {
    /// The tenant that the path or the host names; `None`: the client or the token names it.
    pub tenant: Option<TenantNo>,
    /// The true client address (forwarding headers count only from configured proxies).
    pub address: IpAddr,
    /// What the browser says about where the request comes from.
    pub site: Site<'a>,
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

/// A bearer token and a cookie, as sent.
#[derive(Clone, Copy, Default)]
pub struct Access<'a> {
    /// `Authorization: Bearer`; wins over the cookie.
    pub bearer: Option<&'a str>,
    /// The session cookie.
    pub cookie: Option<&'a str>,
    /// The request changes something: then the cookie needs a good [`Site`].
    pub change: bool,
}

opaque_debug!(ClientClaim<'_>, Access<'_>);
