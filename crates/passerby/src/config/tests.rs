//! The contract's file, a table of broken ones with what is said about each, overrides, production's refusals.

mod becoming;
mod files;

use std::{collections::HashMap, fmt::Write as _, time::Duration};

use passerby_core::{
    id::{ClientNo, TenantNo},
    settings::{ApiScope, CustomUserId, Persistence, Rate, SessionTokenFormat},
};
use proptest::prelude::*;

use super::*;

const CONTRACT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/contract/passerby.toml");

fn contract() -> String {
    std::fs::read_to_string(CONTRACT).expect("the contract lies beside the repository")
}

fn numbers(config: &Config) -> Numbers {
    let tenants = (1..).map(TenantNo).take(config.tenants.len()).collect();
    let ids = (0..config.tenants.len()).flat_map(|n| config.client_ids(n));
    let clients = ids.zip(1..).map(|(id, no)| (id.into(), ClientNo(no))).collect();
    Numbers { tenants, clients }
}

fn said(text: &str) -> String {
    match Config::parse("f.toml", text, &Overrides::default()) {
        Ok(_) => "fine".into(),
        Err(problems) => problems.to_string(),
    }
}

/// A file that is fine, with one tenant whose sections follow.
fn with(sections: &str) -> String {
    format!("dev = true\n[[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\"\n{sections}")
}

#[test]
fn the_contract_loads() {
    let config = Config::parse("passerby.toml", &contract(), &Overrides::default()).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:9011");
    assert_eq!(config.issuer.value, "http://localhost:9011");
    assert_eq!(config.database.expose(), "sqlite:passerby.db");
    assert!(config.dev && config.tls.is_none() && config.console.is_some());
    let settings = config.settings(&numbers(&config));
    let tenant = &settings.tenants[0];
    assert_eq!((&*tenant.name, &*tenant.issuer_json), ("default", "\"http://localhost:9011\""));
    let million = Rate { count: 1_000_000, per: Duration::from_secs(1) };
    assert_eq!((tenant.limits.creations_per_address, tenant.limits.creations_per_client), (Some(million), None));
    assert_eq!((&*tenant.keys[0].kid, &*tenant.keys[0].name), ("22222222-2222-4222-8222-222222222222", "vend"));
    assert_eq!(&*tenant.resource_servers["https://api.example.com"].guest_scope_text, "read:cart write:cart");
    assert_eq!(tenant.longest_signed, Duration::from_mins(15));
    assert_eq!(tenant.key_rotation, Some(Duration::from_hours(90 * 24)));

    let client = |id: &str| &settings.clients[id].1;
    assert_eq!(client("demo-spa").rules.persistence, Persistence::Eager);
    assert_eq!(client("demo-spa").rules.custom_user_id, CustomUserId::Any);
    assert_eq!(client("demo-native").rules.custom_user_id, CustomUserId::Confidential);
    assert_eq!(client("demo-game").rules.persistence, Persistence::Lazy);
    assert_eq!(client("demo-game").rules.session_token, SessionTokenFormat::Jwe);
    assert_eq!(client("demo-game").rules.access_token_lifetime, Duration::from_mins(15));
    assert!(client("demo-native").audiences.is_empty() && client("demo-web").audiences.len() == 1);
    assert!(client("demo-web").confidential() && !client("demo-spa").confidential());
    assert!(client("demo-native").first_party && client(DEMO_CLIENT).first_party);
    assert_eq!(settings.clients.len(), 5, "four and the demo page's");
    assert!(tenant.origins.contains("http://localhost:8080") && tenant.origins.len() == 1);

    assert_eq!(settings.api_keys.len(), 2);
    let guide = settings.api_keys.values().find(|k| &*k.name == "guide").unwrap();
    let may = |method, path| guide.grants.may(None, method, path);
    assert!(may("PATCH", "/api/user/1") && !may("DELETE", "/api/user/1") && !may("GET", "/v1/users"));
    let root = settings.api_keys.values().find(|k| &*k.name == "root").unwrap();
    assert!(root.grants.may(None, "DELETE", "/v1/users") && root.expires_at.is_none());
    assert_eq!(&*tenant.auth0.as_ref().unwrap().user_id_prefix, "anon@");
    assert_eq!(config.notes().len(), 4);
}

#[test]
fn the_closing_comments_of_the_contract_are_known() {
    let text = format!(
        "trusted_proxies = [\"10.0.0.0/8\"]\nmaster_key_file = \"FILE\"\ntls = {{ certificate = \"FILE\", key = \"FILE\" }}\n{}",
        contract()
    );
    let text = text.replacen("[tenants.tokens]", "custom_user_id = \"deny\"\n[tenants.tokens]", 1).replacen(
        "[tenants.limits]",
        "[tenants.limits]\ncreations_per_client = \"off\"\nsign_ins_per_address = \"5/m\"\nsign_ins_per_account = \"5/h\"\nmessages_per_address = \"1/s\"\nmessages_per_recipient = \"off\"",
        1,
    );
    let text = text.replace(
        "[[tenants.clients]]\nid            = \"demo-spa\"",
        "[[tenants.clients]]\nid            = \"demo-spa\"\nsession_token = \"jws\"",
    );
    let text = format!(
        "{text}\n[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\nissuer = \"https://other.example\"\ndefault_audience = \"https://other.example\"\n[[tenants]]\nid = \"44444444-4444-4444-8444-444444444444\"\n"
    );
    let config = Config::parse("passerby.toml", &text, &Overrides::default()).unwrap();
    let settings = config.settings(&numbers(&config));
    assert_eq!(&*settings.tenants[1].issuer, "https://other.example");
    assert_eq!(&*settings.tenants[2].issuer, "http://localhost:9011/t/44444444-4444-4444-8444-444444444444");
    assert_eq!(settings.clients["demo-native"].1.rules.custom_user_id, CustomUserId::Deny);
    assert_eq!(settings.clients["demo-spa"].1.rules.custom_user_id, CustomUserId::Any);
    assert_eq!(
        settings.tenants[0].longest_signed,
        Duration::from_hours(365 * 24),
        "signed session tokens live as long"
    );
}

#[test]
fn keys_and_clients_of_their_own_kind() {
    let text = with(
        "\
        [tenants.guests]\nrecovery_wait = \"12h\"\n\
        [[tenants.clients]]\nid = \"plain\"\ntype = \"spa\"\n\
        [[tenants.clients]]\nid = \"bound\"\ntype = \"native\"\ndpop_bound_access_tokens = true\n\
        hand_off_uri = \"com.example.app://hand-off\"\nrecovery_wait = \"0s\"\n\
        [[tenants.api_keys]]\nname = \"feed\"\nkey = \"0123456789abcdef0123456789abcdef\"\n\
        scopes = [\"epochs:read\", \"users:read\"]\nexpires_at = 2030-01-31T00:00:00+01:00\n\
        permissions = [{ path = \"/api/user/\", methods = [\"GET\"] }]\n\
        [[tenants.api_keys]]\nname = \"text\"\nkey = \"fedcba9876543210fedcba9876543210\"\n\
        scopes = []\nexpires_at = \"2030-01-31T00:00:00Z\"\n",
    );
    let config = Config::parse("f.toml", &text, &Overrides::default()).unwrap();
    let settings = config.settings(&numbers(&config));
    let (plain, bound) = (&settings.clients["plain"].1, &settings.clients["bound"].1);
    assert!(!plain.dpop_bound_access_tokens && plain.hand_off_uri.is_none());
    assert!(bound.dpop_bound_access_tokens);
    assert_eq!(bound.hand_off_uri.as_deref(), Some("com.example.app://hand-off"));
    assert_eq!(plain.rules.recovery_wait, Duration::from_hours(12));
    assert_eq!(bound.rules.recovery_wait, Duration::ZERO);
    let key = |name: &str| settings.api_keys.values().find(|k| &*k.name == name).unwrap();
    let feed = key("feed");
    assert!(feed.grants.may(Some(ApiScope::EpochsRead), "GET", "/v1/epochs"));
    assert!(feed.grants.may(None, "GET", "/api/user/7"));
    assert!(!feed.grants.may(Some(ApiScope::UsersWrite), "POST", "/v1/users"));
    assert_eq!(feed.expires_at.unwrap().to_string(), "2030-01-30T23:00:00.000Z");
    assert!(!key("text").grants.may(Some(ApiScope::UsersRead), "GET", "/v1/users"), "an empty list is nothing");
}

#[test]
fn development_needs_no_file() {
    let config = Config::development(&Overrides::default()).unwrap();
    assert!(config.dev && config.file.is_none());
    assert_eq!(config.listen.to_string(), "127.0.0.1:9011");
    assert_eq!(config.issuer.value, "http://localhost:9011");
    let settings = config.settings(&numbers(&config));
    assert!(settings.clients.contains_key("demo-spa") && settings.clients.contains_key(DEMO_CLIENT));
    assert_eq!(settings.tenants[0].limits.creations_per_address, None);
    let elsewhere =
        Overrides { listen: Some(Given { value: "127.0.0.1:8123".into(), from: "--listen" }), ..Overrides::default() };
    assert_eq!(Config::development(&elsewhere).unwrap().issuer.value, "http://localhost:8123");
}

#[test]
fn flags_come_before_the_environment_before_the_file() {
    let environment: HashMap<&str, &str> = [
        ("PASSERBY_LISTEN", "127.0.0.1:1111"),
        ("PASSERBY_ISSUER", "https://id.example.com/"),
        ("PASSERBY_DATABASE", "postgres://u:p@h/d"),
        ("PASSERBY_LOG", "debug"),
        ("PASSERBY_OTLP_ENDPOINT", "http://collector:4318"),
        ("PASSERBY_MASTER_KEY", ""),
    ]
    .into();
    let flags =
        Overrides { listen: Some(Given { value: "127.0.0.1:2222".into(), from: "--listen" }), ..Overrides::default() };
    let overrides = flags.or_environment(|name| environment.get(name).map(|v| (*v).to_owned()));
    let config = Config::parse("f.toml", &contract(), &overrides).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:2222");
    assert_eq!(config.issuer.value, "https://id.example.com/");
    assert_eq!(config.database.expose(), "postgres://u:p@h/d");
    assert_eq!(config.log.as_deref(), Some("debug"));
    assert_eq!(config.telemetry.unwrap().endpoint.value, "http://collector:4318");
    assert!(matches!(config.master_key, MasterKeySource::Made(_)), "an empty variable is none");

    // an override replaces even what could not be read, and a wrong one is named by where it came from
    let given = |value: &str, from| Some(Given { value: value.to_owned(), from });
    let wrong = Overrides {
        listen: given("9011", "--listen"),
        issuer: given("id.example.com", "PASSERBY_ISSUER"),
        log: given("no=such=filter", "PASSERBY_LOG"),
        otlp_endpoint: given("collector", "--otlp-endpoint"),
        database: Some(Given { value: Secret::new("mysql://u:hidden@h"), from: "PASSERBY_DATABASE" }),
        master_key: Some(Given { value: Secret::new("hidden"), from: "PASSERBY_MASTER_KEY" }),
        demo_cart: None,
    };
    let text = Config::parse("f.toml", &contract(), &wrong).unwrap_err().to_string();
    for line in [
        "--listen: expected an IP address and port such as \"127.0.0.1:9011\" or \"[::]:9011\", found \"9011\"",
        "PASSERBY_ISSUER: expected a URL such as \"https://id.example.com\", found \"id.example.com\"",
        "PASSERBY_LOG: expected a filter such as \"info\", found \"no=such=filter\"",
        "--otlp-endpoint: expected a URL such as \"https://id.example.com\", found \"collector\"",
        "PASSERBY_DATABASE: expected \"sqlite:FILE\" or \"postgres://USER@HOST/DATABASE\"",
        "PASSERBY_MASTER_KEY: expected 32 random bytes as base64url",
    ] {
        assert!(text.lines().any(|l| l.starts_with(line)), "{line}\nis not in\n{text}");
    }
    assert!(!text.contains("hidden"));
}

#[test]
fn what_is_said_about_broken_files() {
    let resource = "[[tenants.resource_servers]]\nidentifier = \"https://api\"\nscopes = [\"a\"]\n";
    let spa = "[[tenants.clients]]\nid = \"c\"\ntype = \"spa\"\n";
    let table: Vec<(String, &str)> = vec![
        // syntax
        ("dev = ".into(), "f.toml:1:7: string values must be quoted, expected literal string"),
        ("dev = true\ndev = true".into(), "f.toml:2:1: dev: duplicate key"),
        // nothing there
        (
            String::new(),
            "f.toml:1:1: tenants: missing key; expected at least one [[tenants]] with its id and clients\nf.toml: issuer: missing key; expected a URL such as \"https://id.example.com\"\nf.toml: master_key_file: missing; with dev = false",
        ),
        // unknown keys
        (
            with("[tenants.guests]\nidle_timeot = \"1d\""),
            "f.toml:5:1: tenants.guests.idle_timeot: unknown key; expected one of enabled, persistence, idle_timeout, lifetime, custom_user_id, recovery_wait, data_limit, data_schema_file; did you mean \"idle_timeout\"?",
        ),
        (
            with("[tenants.tokens]\nfoo = 1"),
            "f.toml:5:1: tenants.tokens.foo: unknown key; expected one of access_token_lifetime, session_token, signing_algorithm, key_rotation, key_lead",
        ),
        (
            with("nmae = \"x\""),
            "f.toml:4:1: tenants.nmae: unknown key; expected one of id, name, issuer, default_audience, limits, sign_in, merge, events, mail, keys, resource_servers, clients, api_keys, guests, tokens; did you mean \"name\"?",
        ),
        (
            with("[dialects.auth1]\nenabled = true"),
            "f.toml:4:11: dialects.auth1: unknown key; expected one of auth0, fusionauth, authgear, descope; did you mean \"auth0\"?",
        ),
        (
            with(&format!("{resource}guest_scope = []")),
            "f.toml:7:1: tenants.resource_servers.guest_scope: unknown key; expected one of identifier, scopes, guest_scopes; did you mean \"guest_scopes\"?",
        ),
        // types
        (
            "listen = 9011\n".to_owned() + &with(""),
            "f.toml:1:10: listen: expected an IP address and port such as \"127.0.0.1:9011\" or \"[::]:9011\", found the number 9011",
        ),
        (with("").replace("true", "\"yes\""), "f.toml:1:7: dev: expected true or false, found \"yes\""),
        (
            with("").replace("[[tenants]]", "[tenants]"),
            "f.toml:2:1: tenants: expected a list of tables, each [[tenants]], found a table",
        ),
        ("tls = \"cert.pem\"\n".to_owned() + &with(""), "f.toml:1:7: tls: expected a table [tls], found \"cert.pem\""),
        (
            "workers = 0\n".to_owned() + &with(""),
            "f.toml:1:11: workers: expected a whole number from 1 to 1024, found the number 0",
        ),
        (
            "workers = 1.5\n".to_owned() + &with(""),
            "f.toml:1:11: workers: expected a whole number from 1 to 1024, found the number 1.5",
        ),
        (
            "log_format = \"xml\"\n".to_owned() + &with(""),
            "f.toml:1:14: log_format: expected one of \"auto\", \"text\", \"json\", found \"xml\"",
        ),
        // values
        (
            with("[tenants.guests]\nidle_timeout = \"30\""),
            "f.toml:5:16: tenants.guests.idle_timeout: expected a span such as \"30d\", \"12h\" or \"15m\", found \"30\"",
        ),
        (
            with("[tenants.guests]\nlifetime = \"0s\""),
            "f.toml:5:12: tenants.guests.lifetime: expected a span from 1s to 36500d, found \"0s\"",
        ),
        (
            with("[tenants.tokens]\naccess_token_lifetime = \"2d\""),
            "f.toml:5:25: tenants.tokens.access_token_lifetime: expected a span from 10s to 1d, found \"2d\"",
        ),
        (
            with("[tenants.tokens]\nsigning_algorithm = \"HS256\""),
            "f.toml:5:21: tenants.tokens.signing_algorithm: expected one of \"ES256\", \"EdDSA\", \"RS256\", found \"HS256\"",
        ),
        (
            with("[tenants.tokens]\nkey_rotation = \"30m\""),
            "f.toml:5:16: tenants.tokens.key_rotation: expected a span longer than key_lead (1h): a key is published first, then signs",
        ),
        (
            with("[tenants.guests]\npersistence = \"eagre\""),
            "f.toml:5:15: tenants.guests.persistence: expected one of \"eager\", \"lazy\", found \"eagre\"; did you mean \"eager\"?",
        ),
        (
            with("[tenants.guests]\ndata_limit = \"32\""),
            "f.toml:5:14: tenants.guests.data_limit: expected a size such as \"32KiB\" or \"1MiB\", found \"32\"",
        ),
        (
            with("[tenants.limits]\ncreations_per_address = \"5/d\""),
            "f.toml:5:25: tenants.limits.creations_per_address: expected a rate such as \"10/s\", \"600/m\", \"5000/h\" or \"off\", found \"5/d\"",
        ),
        (
            "trusted_proxies = [\"10.0.0.0/8\", \"10.0.0.1/8\"]\n".to_owned() + &with(""),
            "f.toml:1:34: trusted_proxies: write \"10.0.0.0/8\"; bits below the mask are set",
        ),
        (
            "issuer = \"https://id.example.com/?a\"\n".to_owned() + &with(""),
            "f.toml:1:10: issuer: an issuer has neither query nor fragment; found \"https://id.example.com/?a\"",
        ),
        (
            "database = \"mysql://u:hidden@h\"\n".to_owned() + &with(""),
            "f.toml:1:12: database: expected \"sqlite:FILE\" or \"postgres://USER@HOST/DATABASE\"",
        ),
        (
            with("").replace("11111111-", ""),
            "f.toml:3:6: tenants.id: expected a UUID such as \"11111111-1111-4111-8111-111111111111\", found \"1111-4111-8111-111111111111\"",
        ),
        (
            "telemetry = { service_name = \"x\" }\n".to_owned() + &with(""),
            "f.toml:1:13: telemetry.endpoint: missing key; expected the base URL of an OTLP receiver, such as \"http://localhost:4318\"",
        ),
        // clients
        (
            with("[[tenants.clients]]\ntype = \"spa\""),
            "f.toml:4:1: tenants.clients.id: missing key; expected the client_id",
        ),
        (
            with("[[tenants.clients]]\nid = \"c\""),
            "f.toml:4:1: tenants.clients.type: missing key; expected one of \"spa\", \"native\", \"web\", \"machine\"",
        ),
        (
            with("[[tenants.clients]]\nid = \"c\"\ntype = \"web\""),
            "f.toml:4:1: tenants.clients.secret: missing key; expected a secret (or jwks_file): a client of this type authenticates",
        ),
        (
            with(&format!("{spa}secret = \"0123456789abcdef\"")),
            "f.toml:7:10: tenants.clients.secret: a client of type \"spa\" runs where anybody can read it: it can keep no secret; remove this",
        ),
        (
            with("[[tenants.clients]]\nid = \"c\"\ntype = \"web\"\nsecret = \"hidden\""),
            "f.toml:7:10: tenants.clients.secret: expected at least 16 characters, found 6 characters",
        ),
        (
            with("[[tenants.clients]]\nid = \"c\"\ntype = \"web\"\nsecret = 4711"),
            "f.toml:7:10: tenants.clients.secret: expected at least 16 characters, found a number",
        ),
        (
            with(&format!("{spa}redirect_uris = [\"/callback\"]")),
            "f.toml:7:18: tenants.clients.redirect_uris: expected an absolute URI such as \"https://shop.example.com/callback\", found \"/callback\"",
        ),
        (
            with(&format!("{spa}redirect_uris = [\"https://a/#x\"]")),
            "f.toml:7:18: tenants.clients.redirect_uris: a redirect URI has no fragment; found \"https://a/#x\"",
        ),
        (
            with(&format!("{spa}hand_off_uri = \"/hand-off\"")),
            "f.toml:7:16: tenants.clients.hand_off_uri: expected an absolute URI such as \"https://shop.example.com/callback\", found \"/hand-off\"",
        ),
        (
            with(&format!("{spa}recovery_wait = \"31d\"")),
            "f.toml:7:17: tenants.clients.recovery_wait: expected a span from 0s to 30d, found \"31d\"",
        ),
        (
            with(&format!("{spa}origins = [\"https://A.example/\"]")),
            "f.toml:7:12: tenants.clients.origins: write \"https://a.example\"; an origin is scheme, host and port in lower case, without path and default port",
        ),
        (
            with(&format!("{resource}{spa}audiences = [\"https://apo\"]")),
            "f.toml:10:14: tenants.clients.audiences: expected a resource server of this tenant (https://api), found \"https://apo\"",
        ),
        (
            with(&format!("{spa}audiences = [\"https://api\"]")),
            "f.toml:7:14: tenants.clients.audiences: expected a resource server of this tenant, and it has none: add [[tenants.resource_servers]], found \"https://api\"",
        ),
        (
            with(&format!("{spa}{spa}")),
            "f.toml:8:6: tenants.clients.id: \"c\" is there already, in line 5; expected a client's id, unique over all tenants",
        ),
        // the rest of a tenant
        (
            with(&format!("{resource}guest_scopes = [\"b\"]")),
            "f.toml:7:17: tenants.resource_servers.guest_scopes: expected one of this server's scopes (a), found \"b\"",
        ),
        (
            with(&format!("{resource}{resource}")),
            "f.toml:8:14: tenants.resource_servers.identifier: \"https://api\" is there already, in line 5; expected a resource server's identifier",
        ),
        (
            with(
                "[[tenants.keys]]\nid = \"k\"\nalgorithm = \"ES256\"\n[[tenants.keys]]\nid = \"k\"\nalgorithm = \"RS256\"",
            ),
            "f.toml:8:6: tenants.keys.id: \"k\" is there already, in line 5; expected a key's id, unique over all tenants",
        ),
        (
            with("[[tenants.keys]]\nid = \"k\""),
            "f.toml:4:1: tenants.keys.algorithm: missing key; expected one of \"ES256\", \"EdDSA\", \"RS256\"",
        ),
        (
            with("[[tenants.api_keys]]\nname = \"a\"\nkey = \"hidden\""),
            "f.toml:6:7: tenants.api_keys.key: expected at least 32 characters, found 6 characters",
        ),
        (
            with(
                "[[tenants.api_keys]]\nname = \"a\"\nkey = \"0123456789abcdef0123456789abcdef\"\npermissions = [{ path = \"/api\" }]",
            ),
            "f.toml:7:16: tenants.api_keys.permissions.methods: missing key; expected a list such as [\"GET\", \"POST\"]",
        ),
        (
            with(
                "[[tenants.api_keys]]\nname = \"a\"\nkey = \"0123456789abcdef0123456789abcdef\"\npermissions = [{ path = \"api\", methods = [\"get\"] }]",
            ),
            "f.toml:7:25: tenants.api_keys.permissions.path: expected a path such as \"/api/user\", found \"api\"\nf.toml:7:43: tenants.api_keys.permissions.methods: expected one of \"GET\", \"POST\", \"PUT\", \"PATCH\", \"DELETE\", \"HEAD\", \"OPTIONS\", found \"get\"",
        ),
        (
            with(
                "[[tenants.api_keys]]\nname = \"a\"\nkey = \"0123456789abcdef0123456789abcdef\"\nscopes = [\"users:red\"]\nexpires_at = 2030-01-31",
            ),
            "f.toml:7:11: tenants.api_keys.scopes: expected one of users:read, users:write, sessions:write, keys:read, keys:write, epochs:read, tokens:introspect, templates:read, templates:write, events:read, events:write, transfers:read, transfers:write, found \"users:red\"\nf.toml:8:14: tenants.api_keys.expires_at: expected a date and time such as 2030-01-31T00:00:00Z, found a date",
        ),
        (
            with("default_audience = \"https://api\""),
            "f.toml:4:20: tenants.default_audience: expected a resource server of this tenant, and it has none: add [[tenants.resource_servers]] or the issuer, found \"https://api\"",
        ),
        (
            with("issuer = \"http://other\""),
            "f.toml:4:10: tenants.issuer: the first tenant has the issuer at the top of the file; write it there",
        ),
        (
            with("[[tenants]]\nid = \"11111111-1111-4111-8111-111111111111\""),
            "f.toml:5:6: tenants.id: \"11111111-1111-4111-8111-111111111111\" is there already, in line 3; expected a tenant's id",
        ),
        (
            with("[[tenants]]\nid = \"11111111-1111-4111-8111-111111111112\"\nissuer = \"https://a/b\""),
            "f.toml:6:10: tenants.issuer: expected a URL without a path, or one that ends in /t/11111111-1111-4111-8111-111111111112",
        ),
        // dialects and console
        (
            with("[dialects.descope]\nenabled = true"),
            "f.toml:4:1: dialects.descope.project_id: missing key; expected the project's id",
        ),
        (
            with("[dialects.auth0]\nenabled = true\nuser_id_prefix = \"guest\""),
            "f.toml:6:18: dialects.auth0.user_id_prefix: expected one of \"anon@\", \"anon|\", \"\", found \"guest\"",
        ),
        (
            with("[console]\nadmin_email = \"admin\""),
            "f.toml:4:1: console.admin_password: missing key; expected at least 8 characters\nf.toml:5:15: console.admin_email: expected an e-mail address, found \"admin\"",
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in &table {
        let found = said(text);
        let fits = if expected.contains('\n') { found.starts_with(expected) } else { found == *expected };
        if !fits {
            let _ = writeln!(wrong, "{text}\n  expected {expected}\n  found    {found}\n");
        }
        assert!(!found.contains("hidden"), "{found}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn every_key_is_documented() {
    let documentation = include_str!("../../../../docs/configuration.md");
    for section in [
        "",
        "[tenants.guests]",
        "[tenants.tokens]",
        "[tenants.limits]",
        "[tenants.sign_in]",
        "[tenants.merge]",
        "[[tenants.merge.policies]]",
        "[tenants.events]",
        "[tenants.mail]",
        "[[tenants.keys]]",
        "[[tenants.resource_servers]]",
        "[[tenants.clients]]",
        "[[tenants.api_keys]]",
        "[dialects.auth0]",
        "[dialects.fusionauth]",
        "[dialects.authgear]",
        "[dialects.descope]",
        "[console]",
        "[mail]",
        "[sms]",
        "[passwords]",
    ] {
        let text =
            if section.is_empty() { format!("zzz = 1\n{}", with("")) } else { with(&format!("{section}\nzzz = 1")) };
        let said = said(&text);
        let line =
            said.lines().find(|line| line.contains("zzz: unknown key")).unwrap_or_else(|| panic!("{section}: {said}"));
        let keys = line.split("expected one of ").nth(1).unwrap().split(';').next().unwrap();
        for key in keys.split(", ") {
            let ways = [format!("`{key}`"), format!("{key} = "), format!("[{key}]"), format!("[{key}.")];
            assert!(ways.iter().any(|way| documentation.contains(way)), "{section} {key}");
        }
    }
}

#[test]
fn all_mistakes_are_told_at_once_in_the_order_of_the_lines() {
    let text = with("nmae = \"x\"\n[tenants.guests]\npersistence = 1\nlifetime = \"x\"\n[tenants.tokens]\nfoo = 1\n")
        + "[telemetri]\n";
    let lines: Vec<String> = said(&text).lines().map(|l| l.split(": ").take(2).collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(
        lines,
        [
            "f.toml:4:1 tenants.nmae",
            "f.toml:6:15 tenants.guests.persistence",
            "f.toml:7:12 tenants.guests.lifetime",
            "f.toml:9:1 tenants.tokens.foo",
            "f.toml:10:2 telemetri",
        ]
    );
}

#[test]
fn line_47_production_refuses_what_development_allows() {
    let text = contract()
        .replace("dev      = true", "dev      = false")
        .replace("issuer   = \"http://localhost:9011\"", "issuer = \"http://id.example.com\"");
    let problems = said(&text);
    for (key, why) in [
        ("issuer", "with dev = false an issuer is https, found \"http://id.example.com\""),
        ("master_key_file", "missing; with dev = false a master key is needed"),
        (
            "tenants.clients.secret",
            "with dev = false a secret must be random (for example: openssl rand -hex 32); this one is a published default",
        ),
        (
            "tenants.api_keys.key",
            "with dev = false a secret must be random (for example: openssl rand -hex 32); this one is a published default",
        ),
        (
            "dialects.descope.management_key",
            "with dev = false a secret must be random (for example: openssl rand -hex 32); this one is a published default",
        ),
        (
            "console.admin_password",
            "with dev = false a secret must be random (for example: openssl rand -hex 32); this one is a published default",
        ),
    ] {
        assert!(problems.lines().any(|l| l.contains(&format!("{key}: {why}"))), "{key}: {why}\nis not in\n{problems}");
    }
    assert_eq!(problems.lines().count(), 7, "{problems}");
    assert!(!problems.contains("0123456789"), "no secret is repeated");

    let strong = |n: u8| format!("b7f3c1d09e6a42588d1f0c4e7a93b6d2e5f81a7c3b904d{n:02x}");
    let mut fixed = text.replace("http://id.example.com", "https://id.example.com");
    for (n, secret) in [
        "demo-web-secret-0123456789abcdef",
        "acceptance-root-key-0123456789abcdef0123456789",
        "acceptance-guide-key-0123456789abcdef012345678",
        "Kpasserbydemomanagementkey0000000000000000",
        "correct horse battery staple",
    ]
    .iter()
    .enumerate()
    {
        fixed = fixed.replace(secret, &strong(n as u8));
    }
    let key = Overrides {
        master_key: Some(Given {
            value: Secret::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"),
            from: "PASSERBY_MASTER_KEY",
        }),
        ..Overrides::default()
    };
    let config = Config::parse("f.toml", &fixed, &key).unwrap();
    assert!(!config.has_implicit_demo_client());
    let settings = config.settings(&numbers(&config));
    assert!(!settings.dev && !settings.clients.contains_key(DEMO_CLIENT));
    let unlimited = fixed.replace("creations_per_address", "creations_per_client");
    let config = Config::parse("f.toml", &unlimited, &key).unwrap();
    let default = config.settings(&numbers(&config)).tenants[0].limits.creations_per_address;
    assert_eq!(default, Some(Rate { count: 600, per: Duration::from_mins(1) }));
}

#[test]
fn secrets_are_not_in_debug_output() {
    let config = Config::parse("f.toml", &contract(), &Overrides::default()).unwrap();
    let text = format!("{config:?}{:?}", config.settings(&numbers(&config)));
    assert!(!text.contains("0123456789") && !text.contains("horse") && !text.contains("managementkey"));
}

proptest! {
    #[test]
    fn any_text_is_answered(text in "\\PC{0,300}|[a-z\\[\\]=\"{}.\n ]{0,200}") {
        let _ = said(&text);
    }

    #[test]
    fn any_damage_to_the_contract_is_answered(at in 0usize..4000, take in 0usize..40, put in "\\PC{0,12}|[\\[\\]=\"{}\n]{1,3}") {
        let text = contract();
        let floor = |n: usize| (0..=n.min(text.len())).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        let (from, to) = (floor(at), floor(at + take));
        let damaged = format!("{}{put}{}", &text[..from], &text[to..]);
        if let Err(problems) = Config::parse("f.toml", &damaged, &Overrides::default()) {
            prop_assert!(!problems.0.is_empty());
        }
    }
}
