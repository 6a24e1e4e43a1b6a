//! The state of all doors: the core, how this process speaks HTTP, and tables that follow from the settings.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use ipnet::IpNet;
use passerby_core::{
    Passerby,
    id::TenantNo,
    settings::{Settings, Tenant},
};
use url::Url;
use uuid::Uuid;

use crate::{Visit, metrics::HttpMetrics};

/// How this process speaks HTTP.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// Peers whose forwarding headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// Development: the request's own origin counts as ours, `/` leads to the demo.
    pub dev: bool,
    /// The listener speaks TLS itself.
    pub tls: bool,
    /// The longest body, in bytes.
    pub body_limit: usize,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
}

impl Default for HttpSettings {
    fn default() -> Self {
        Self {
            trusted_proxies: Vec::new(),
            dev: false,
            tls: false,
            body_limit: 128 * 1024,
            body_timeout: Duration::from_secs(10),
        }
    }
}

struct Inner {
    core: Arc<Passerby>,
    http: HttpSettings,
    tables: ArcSwap<Tables>,
    metrics: HttpMetrics,
}

/// The state of all doors; cloning it is cheap.
#[derive(Clone)]
pub struct App(Arc<Inner>);

impl fmt::Debug for App {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("App").field("http", &self.0.http).finish_non_exhaustive()
    }
}

impl App {
    /// Of a core and the way to speak HTTP.
    pub fn new(core: Arc<Passerby>, http: HttpSettings) -> Self {
        let tables = ArcSwap::from_pointee(Tables::new(&core.settings()));
        Self(Arc::new(Inner { core, http, tables, metrics: HttpMetrics::default() }))
    }

    /// The rules.
    pub fn core(&self) -> &Passerby {
        &self.0.core
    }

    /// How this process speaks HTTP.
    pub fn http(&self) -> &HttpSettings {
        &self.0.http
    }

    /// What was asked here, and how it went.
    pub fn metrics(&self) -> &HttpMetrics {
        &self.0.metrics
    }

    /// The tenant that a visit names by path or host; otherwise the first. For documents about an issuer; a use case
    /// takes the tenant from the client or the token where none is named.
    pub fn tenant(&self, visit: &Visit) -> Option<Arc<Tenant>> {
        let settings = self.core().settings();
        visit.tenant.and_then(|no| settings.tenant(no)).or_else(|| settings.tenants.first()).cloned()
    }

    /// The tables of the settings in force. Not to be held across an await.
    pub(crate) fn tables(&self) -> Guard<Arc<Tables>> {
        let settings = self.0.core.settings();
        let tables = self.0.tables.load();
        if Arc::ptr_eq(&tables.settings, &settings) {
            return tables;
        }
        self.0.tables.store(Arc::new(Tables::new(&settings)));
        self.0.tables.load()
    }
}

/// What follows from the settings, looked up by what requests say.
#[derive(Debug)]
pub(crate) struct Tables {
    settings: Arc<Settings>,
    /// Origins of all clients of all tenants.
    origins: HashSet<Box<str>>,
    by_id: HashMap<Uuid, TenantNo>,
    /// Hosts (with port unless it is the scheme's own) of issuers that live on another host than the first.
    by_host: HashMap<Box<str>, TenantNo>,
    issuers: HashMap<TenantNo, Issuer>,
    first: Issuer,
}

/// What a browser sees of an issuer.
#[derive(Debug, Clone, Default)]
struct Issuer {
    /// Its origin, as browsers write it.
    origin: Box<str>,
    /// It is https.
    secure: bool,
}

impl Issuer {
    fn of(tenant: &Tenant) -> (Self, Option<Url>) {
        let url = Url::parse(&tenant.issuer).ok();
        let origin = url.as_ref().map(|u| u.origin().ascii_serialization().into()).unwrap_or_default();
        (Self { origin, secure: tenant.issuer.starts_with("https:") }, url)
    }
}

impl Tables {
    pub(crate) fn new(settings: &Arc<Settings>) -> Self {
        let mut tables = Self {
            settings: settings.clone(),
            origins: HashSet::new(),
            by_id: HashMap::new(),
            by_host: HashMap::new(),
            issuers: HashMap::new(),
            first: Issuer::default(),
        };
        let mut taken: HashSet<Box<str>> = HashSet::new();
        for (n, tenant) in settings.tenants.iter().enumerate() {
            let (issuer, url) = Issuer::of(tenant);
            tables.origins.extend(tenant.origins.iter().cloned());
            tables.by_id.insert(tenant.id, tenant.no);
            let hosts = url.as_ref().map(hosts).unwrap_or_default();
            if n == 0 {
                tables.first = issuer.clone();
                taken.extend(hosts);
            } else if url.is_some_and(|u| u.path() == "/") && hosts.iter().all(|h| taken.insert(h.clone())) {
                tables.by_host.extend(hosts.into_iter().map(|h| (h, tenant.no)));
            }
            tables.issuers.insert(tenant.no, issuer);
        }
        tables
    }

    fn issuer(&self, tenant: Option<TenantNo>) -> &Issuer {
        tenant.and_then(|no| self.issuers.get(&no)).unwrap_or(&self.first)
    }

    /// The origin of the named tenant's issuer; of the first where none is named.
    pub(crate) fn own_origin(&self, tenant: Option<TenantNo>) -> &str {
        &self.issuer(tenant).origin
    }

    /// Whether that issuer is https.
    pub(crate) fn secure(&self, tenant: Option<TenantNo>) -> bool {
        self.issuer(tenant).secure
    }

    /// Whether a client has registered the origin: of the named tenant, or of any.
    pub(crate) fn registered(&self, origin: &str, tenant: Option<TenantNo>) -> bool {
        match tenant {
            None => self.origins.contains(origin),
            Some(no) => self.settings.tenant(no).is_some_and(|t| t.origins.contains(origin)),
        }
    }

    pub(crate) fn tenant_by_id(&self, id: &str) -> Option<TenantNo> {
        // one spelling: the one that issuers print
        let id = (id.len() == 36).then(|| Uuid::try_parse(id).ok()).flatten()?;
        self.by_id.get(&id).copied()
    }

    pub(crate) fn has_hosts(&self) -> bool {
        !self.by_host.is_empty()
    }

    pub(crate) fn tenant_by_host(&self, host: &str) -> Option<TenantNo> {
        self.by_host.get(host).or_else(|| self.by_host.get(&*host.to_ascii_lowercase())).copied()
    }
}

/// How a request for a URL may name its host.
fn hosts(url: &Url) -> Vec<Box<str>> {
    let Some(host) = url.host_str() else { return Vec::new() };
    match (url.port(), url.port_or_known_default()) {
        (Some(port), _) => vec![format!("{host}:{port}").into()],
        (None, Some(known)) => vec![host.into(), format!("{host}:{known}").into()],
        (None, None) => vec![host.into()],
    }
}
