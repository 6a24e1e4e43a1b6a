//! The last step: from the configuration to the core's snapshot.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use aws_lc_rs::digest::{SHA256, digest};
use passerby_core::{
    id::{ClientNo, TenantNo},
    merge::{Policies, Policy, Whole},
    profile::Limits,
    settings::{
        ApiKey, Auth0, Client, ClientType, DeclaredKey, MergeRules, Persistence, Rate, RateLimits, ResourceServer,
        Rules, SessionTokenFormat, Settings, Tenant, TenantMail,
    },
};

use super::{ClientSettings, Config, DEMO_CLIENT, ResourceServerSettings, TenantSettings};

/// What the store calls tenants and clients.
#[derive(Debug, Clone, Default)]
pub struct Numbers {
    /// In the order of the configuration.
    pub tenants: Vec<TenantNo>,
    /// By `client_id`.
    pub clients: HashMap<Box<str>, ClientNo>,
}

impl Config {
    /// The issuer of the n-th tenant: of the first the configured one; of another its own, or `<issuer>/t/<id>`.
    pub fn issuer_of(&self, n: usize) -> String {
        let tenant = &self.tenants[n];
        match &tenant.issuer {
            _ if n == 0 => self.issuer.value.clone(),
            Some(own) => own.value.clone(),
            None => format!("{}/t/{}", self.issuer.trim_end_matches('/'), tenant.id.value),
        }
    }

    /// The `client_id`s of the n-th tenant that a store must number.
    pub fn client_ids(&self, n: usize) -> Vec<&str> {
        let declared = self.tenants[n].clients.iter().map(|c| &*c.id.value);
        declared.chain((n == 0 && self.has_implicit_demo_client()).then_some(DEMO_CLIENT)).collect()
    }

    /// The snapshot.
    ///
    /// # Panics
    /// When `numbers` lacks a tenant or a client of [`Config::client_ids`].
    pub fn settings(&self, numbers: &Numbers) -> Settings {
        let tenants: Vec<Arc<Tenant>> = (0..self.tenants.len()).map(|n| Arc::new(self.tenant(n, numbers))).collect();
        let of_tenant = |t: &Arc<Tenant>| -> Vec<_> {
            t.clients.values().map(|c| (c.id.clone(), (t.clone(), c.clone()))).collect()
        };
        let api_keys = self.tenants.iter().zip(&numbers.tenants).flat_map(|(tenant, no)| {
            tenant.api_keys.iter().map(|key| {
                let (name, grants) = (key.name.clone(), key.grants.clone());
                let value = ApiKey { name, tenant: *no, grants, expires_at: key.expires_at };
                (sha256(key.key.expose()), value)
            })
        });
        Settings {
            dev: self.dev,
            clients: tenants.iter().flat_map(of_tenant).collect(),
            api_keys: api_keys.collect(),
            tenants,
        }
    }

    fn tenant(&self, n: usize, numbers: &Numbers) -> Tenant {
        let written = &self.tenants[n];
        let no = numbers.tenants[n];
        let rules = written.rules.within(&Rules::default());
        let merge = written.merge.within(&Arc::default());
        let of_client = |c: &ClientSettings| client(c, no, &rules, c.merge.within(&merge), numbers);
        let mut clients: Vec<Client> = written.clients.iter().map(of_client).collect();
        if n == 0 && self.has_implicit_demo_client() {
            clients.push(self.demo_client(no, &rules, merge.clone(), numbers));
        }
        let issuer: Box<str> = self.issuer_of(n).into();
        let clients: HashMap<Box<str>, Arc<Client>> =
            clients.into_iter().map(|c| (c.id.clone(), Arc::new(c))).collect();
        Tenant {
            no,
            id: written.id.value,
            name: written.name.clone(),
            issuer_json: json(&issuer),
            issuer,
            default_audience: written.default_audience.as_ref().map(|a| a.value.clone()),
            signing_algorithm: written.tokens.signing_algorithm.unwrap_or(passerby_jose::Algorithm::Es256),
            key_rotation: written.tokens.key_rotation,
            key_lead: written.tokens.key_lead,
            longest_signed: longest_signed(std::iter::once(&rules).chain(clients.values().map(|c| &c.rules))),
            keys: declared_keys(written),
            resource_servers: written.resource_servers.iter().map(resource_server).collect(),
            sign_in: written.sign_in.rules.clone(),
            merge,
            events: written.events,
            mail: tenant_mail(written),
            limits: self.rate_limits(written),
            data_limits: Arc::new(data_limits(written)),
            schema: written.data_schema.clone(),
            auth0: self.dialects.auth0.as_ref().map(|auth0| Auth0 {
                user_id_prefix: auth0.user_id_prefix.clone(),
                metadata_update: auth0.metadata_update,
                ..Auth0::default()
            }),
            clients_by_no: clients.values().map(|c| (c.no, c.clone())).collect(),
            origins: clients.values().flat_map(|c| c.origins.iter().cloned()).collect(),
            clients,
            rules,
        }
    }

    /// The demo page's own client: its pages are ours, so it has no origins. It may ask for every API, and a hand-off of
    /// its leads back to the page. A merge adds up the page's counter, unless the file has policies of its own to show.
    fn demo_client(&self, tenant: TenantNo, rules: &Rules, merge: Arc<MergeRules>, numbers: &Numbers) -> Client {
        let counted = Policies::new(Whole::Deep, [("/views", Policy::Sum, None)]);
        let merge = match (&self.tenants[0].merge.policies, counted) {
            (None, Ok(policies)) => Arc::new(MergeRules { policies, ..(*merge).clone() }),
            _ => merge,
        };
        Client {
            no: numbers.clients[DEMO_CLIENT],
            tenant,
            id: DEMO_CLIENT.into(),
            id_json: json(DEMO_CLIENT),
            name: "Passerby demo page".into(),
            kind: ClientType::Spa,
            secret: None,
            keys: None,
            first_party: true,
            dpop_bound_access_tokens: false,
            hand_off_uri: Some(format!("{}/demo", self.issuer.trim_end_matches('/')).into()),
            redirect_uris: Vec::new(),
            origins: HashSet::new(),
            audiences: self.tenants[0].resource_servers.iter().map(|server| server.identifier.value.clone()).collect(),
            rules: Rules { enabled: true, persistence: Persistence::Eager, ..rules.clone() },
            merge,
        }
    }

    /// In development nothing is limited unless the file says so.
    fn rate_limits(&self, tenant: &TenantSettings) -> RateLimits {
        let limits = &tenant.limits;
        let usual = |given: Option<Option<Rate>>, count| {
            given.unwrap_or((!self.dev).then_some(Rate { count, per: Duration::from_mins(1) }))
        };
        RateLimits {
            creations_per_address: usual(limits.creations_per_address, 600),
            creations_per_client: limits.creations_per_client.flatten(),
            sign_ins_per_address: usual(limits.sign_ins_per_address, 60),
            sign_ins_per_account: usual(limits.sign_ins_per_account, 10),
            messages_per_address: usual(limits.messages_per_address, 30),
            messages_per_recipient: usual(limits.messages_per_recipient, 5),
        }
    }
}

/// An old key stays published until the last thing that it signed is dead: access tokens, and session tokens where
/// they are signed.
fn longest_signed<'a>(rules: impl Iterator<Item = &'a Rules>) -> Duration {
    rules
        .map(|r| match r.session_token {
            SessionTokenFormat::Jws => r.lifetime.max(r.access_token_lifetime),
            SessionTokenFormat::Jwe => r.access_token_lifetime,
        })
        .max()
        .unwrap_or_default()
}

fn tenant_mail(tenant: &TenantSettings) -> TenantMail {
    let mail = &tenant.mail;
    TenantMail {
        app_name: mail.app_name.clone().unwrap_or_else(|| tenant.name.clone()),
        app_url: mail.app_url.as_ref().map(|url| url.as_str().into()),
        from: mail.from.as_ref().map(|from| super::mail::written(from).into()),
    }
}

fn declared_keys(tenant: &TenantSettings) -> Vec<DeclaredKey> {
    let key = |k: &super::KeySettings| {
        let algorithm = k.algorithm.unwrap_or(passerby_jose::Algorithm::Es256);
        DeclaredKey { kid: k.id.value.clone(), name: k.name.clone(), algorithm }
    };
    tenant.keys.iter().map(key).collect()
}

fn resource_server(server: &ResourceServerSettings) -> (Box<str>, ResourceServer) {
    let identifier = server.identifier.value.clone();
    let values = |list: &[super::At<Box<str>>]| -> Vec<Box<str>> { list.iter().map(|s| s.value.clone()).collect() };
    let guest_scopes = values(&server.guest_scopes);
    let guest_scope_text = guest_scopes.join(" ").into();
    (identifier.clone(), ResourceServer { identifier, scopes: values(&server.scopes), guest_scopes, guest_scope_text })
}

fn data_limits(tenant: &TenantSettings) -> Limits {
    let mut limits = Limits::default();
    if let Some(bytes) = tenant.data_limit {
        limits.max_bytes = bytes;
    }
    limits
}

fn client(
    written: &ClientSettings,
    tenant: TenantNo,
    rules: &Rules,
    merge: Arc<MergeRules>,
    numbers: &Numbers,
) -> Client {
    let values = |list: &[super::At<Box<str>>]| -> Vec<Box<str>> { list.iter().map(|s| s.value.clone()).collect() };
    Client {
        no: numbers.clients[&written.id.value],
        tenant,
        id_json: json(&written.id.value),
        id: written.id.value.clone(),
        name: written.name.clone(),
        kind: written.kind.value,
        secret: written.secret.as_ref().map(|s| sha256(s.expose())),
        keys: written.keys.clone(),
        first_party: written.first_party,
        dpop_bound_access_tokens: written.dpop_bound_access_tokens,
        hand_off_uri: written.hand_off_uri.as_ref().map(|uri| uri.value.clone()),
        redirect_uris: values(&written.redirect_uris),
        origins: values(&written.origins).into_iter().collect(),
        audiences: values(&written.audiences).into_iter().collect(),
        rules: written.rules.within(rules),
        merge,
    }
}

fn json(text: &str) -> Box<str> {
    serde_json::Value::from(text).to_string().into()
}

fn sha256(text: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    out
}
