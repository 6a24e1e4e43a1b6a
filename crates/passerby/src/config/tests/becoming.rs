//! What signing in, merging, messages and hashing are set to.

use std::{fmt::Write as _, sync::Arc, time::Duration};

use passerby_core::{
    identifier::Region,
    merge::{Policies, Policy, Whole},
    password::HashSettings,
    settings::{EventRules, Rate, Settings, SignInMethod},
};
use passerby_outbound::mail::Security;

use super::{super::*, contract, numbers, said, with};

pub(super) const SECRET: &str = "whsec_q3Zk0yQ1wTQ0pB6vLr8sXn2uHcJdMfGaEiKoPtRyUeU=";
const DAY: Duration = Duration::from_hours(24);

fn parsed(text: &str) -> (Config, Settings) {
    let config = Config::parse("f.toml", text, &Overrides::default()).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let settings = config.settings(&numbers(&config));
    (config, settings)
}

/// Not development; its master key comes with [`in_production`].
fn production(sections: &str) -> String {
    with(sections).replace("dev = true", "issuer = \"https://id.example.com\"")
}

fn in_production(text: &str) -> Result<Config, Problems> {
    let value = Secret::new("MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY");
    let master_key = Some(Given { value, from: "PASSERBY_MASTER_KEY" });
    Config::parse("f.toml", text, &Overrides { master_key, ..Overrides::default() })
}

fn per_minute(count: u32) -> Rate {
    Rate { count, per: Duration::from_mins(1) }
}

#[test]
fn what_holds_when_nothing_is_said() {
    let (config, settings) = parsed(&contract());
    let tenant = &settings.tenants[0];
    assert!(SignInMethod::ALL.iter().all(|method| tenant.sign_in.allows(*method)));
    assert_eq!((tenant.sign_in.password.minimum(), tenant.sign_in.max_identifiers), (8, 20));
    assert!(tenant.sign_in.region.is_none() && tenant.sign_in.breached.is_none());
    assert_eq!(tenant.merge.policies, Policies::default());
    assert_eq!((tenant.merge.confirm, tenant.merge.undo_window), (false, 7 * DAY));
    let (demo, others): (Vec<_>, Vec<_>) =
        settings.clients.values().partition(|(_, client)| &*client.id == DEMO_CLIENT);
    assert!(others.iter().all(|(tenant, client)| Arc::ptr_eq(&tenant.merge, &client.merge)));
    let counted = Policies::new(Whole::Deep, [("/views", Policy::Sum, None)]).unwrap();
    assert_eq!(demo[0].1.merge.policies, counted, "the demo page's counter");
    assert_eq!(tenant.events, EventRules { all: false, keep: 7 * DAY });
    assert_eq!((&*tenant.mail.app_name, &tenant.mail.app_url, &tenant.mail.from), ("default", &None, &None));
    let limits = &tenant.limits;
    assert_eq!((limits.sign_ins_per_address, limits.sign_ins_per_account), (None, None));
    assert_eq!((limits.messages_per_address, limits.messages_per_recipient), (None, None));
    assert!(config.mail.is_none() && config.sms.is_none());
    assert_eq!(config.passwords.hash, HashSettings::default());
    assert_eq!((config.passwords.queue, config.passwords.pool(8).unwrap().threads()), (32, 4));
    assert_eq!(config.hello(), "localhost");
}

#[test]
fn outside_of_development_sign_ins_and_messages_are_limited() {
    let config = in_production(&production("[tenants.limits]\nmessages_per_recipient = \"off\"\n")).unwrap();
    let settings = config.settings(&numbers(&config));
    let limits = &settings.tenants[0].limits;
    assert_eq!(
        (limits.sign_ins_per_address, limits.sign_ins_per_account),
        (Some(per_minute(60)), Some(per_minute(10)))
    );
    assert_eq!((limits.messages_per_address, limits.messages_per_recipient), (Some(per_minute(30)), None));
    let config = in_production(&production("")).unwrap();
    assert_eq!(config.settings(&numbers(&config)).tenants[0].limits.messages_per_recipient, Some(per_minute(5)));
}

#[test]
fn each_key_of_a_tenant() {
    let (_, settings) = parsed(&with(
        "name = \"Shop\"\n\
        [tenants.sign_in]\nmethods = [\"code\", \"link\"]\npassword_min_length = 12\nregion = \"DE\"\nmax_identifiers = 3\n\
        [tenants.merge]\npolicy = \"newest\"\nconfirm = true\nundo_window = \"0s\"\n\
        policies = [{ path = \"/views\", policy = \"sum\" }, { path = \"/log\", policy = \"concat\", limit = 100 }]\n\
        [tenants.events]\nall = true\nkeep = \"90d\"\n\
        [tenants.mail]\napp_name = \"The Shop\"\napp_url = \"https://shop.example.com\"\nfrom = \"Shop <no-reply@shop.example.com>\"\n\
        [tenants.limits]\nsign_ins_per_address = \"1/s\"\nsign_ins_per_account = \"2/m\"\n\
        messages_per_address = \"3/h\"\nmessages_per_recipient = \"4/m\"\n\
        [[tenants.clients]]\nid = \"same\"\ntype = \"spa\"\n\
        [[tenants.clients]]\nid = \"own\"\ntype = \"spa\"\nmerge = { policies = [{ path = \"/best\", policy = \"max\" }] }\n\
        [[tenants.clients]]\nid = \"none\"\ntype = \"spa\"\nmerge = { policy = \"refuse\" }\n",
    ));
    let tenant = &settings.tenants[0];
    let sign_in = &tenant.sign_in;
    assert!(!sign_in.allows(SignInMethod::Password) && sign_in.allows(SignInMethod::Code));
    assert_eq!((sign_in.password.minimum(), sign_in.max_identifiers), (12, 3));
    assert_eq!(sign_in.region, Region::parse("DE"));
    let written = [("/views", Policy::Sum, None), ("/log", Policy::Concat, Some(100))];
    let policies = Policies::new(Whole::Newest, written).unwrap();
    assert_eq!((&tenant.merge.policies, tenant.merge.confirm), (&policies, true));
    assert_eq!(tenant.merge.undo_window, Duration::ZERO);
    assert_eq!(tenant.events, EventRules { all: true, keep: 90 * DAY });
    assert_eq!(&*tenant.mail.app_name, "The Shop");
    assert_eq!(tenant.mail.app_url.as_deref(), Some("https://shop.example.com"));
    assert_eq!(tenant.mail.from.as_deref(), Some("Shop <no-reply@shop.example.com>"));
    assert_eq!(tenant.limits.sign_ins_per_address, Some(Rate { count: 1, per: Duration::from_secs(1) }));
    assert_eq!(tenant.limits.sign_ins_per_account, Some(per_minute(2)));
    assert_eq!(tenant.limits.messages_per_address, Some(Rate { count: 3, per: Duration::from_hours(1) }));
    assert_eq!(tenant.limits.messages_per_recipient, Some(per_minute(4)));

    // a client's policies replace the tenant's, and nothing else
    let client = |id: &str| &settings.clients[id].1;
    assert!(
        Arc::ptr_eq(&client("same").merge, &tenant.merge) && Arc::ptr_eq(&client(DEMO_CLIENT).merge, &tenant.merge)
    );
    let own = Policies::new(Whole::Deep, [("/best", Policy::Max, None)]).unwrap();
    assert_eq!(client("own").merge.policies, own);
    assert_eq!((client("own").merge.confirm, client("own").merge.undo_window), (true, Duration::ZERO));
    assert!(client("none").merge.policies.refuses());
    assert!(Arc::ptr_eq(tenant.merge_of(client("own").no), &client("own").merge));
    assert!(Arc::ptr_eq(tenant.merge_of(passerby_core::id::ClientNo(99)), &tenant.merge));
}

#[test]
fn each_key_of_the_process() {
    let (config, _) = parsed(&with(&format!(
        "[mail]\nfrom = \"Shop <no-reply@example.com>\"\nsmtp = \"[::1]:2525\"\nsecurity = \"tls\"\nusername = \"shop\"\n\
        password = \"open sesame\"\ntimeout = \"9s\"\nauthorities_file = \"a.pem\"\n\
        [sms]\nurl = \"http://127.0.0.1:9013/send\"\nsecrets = [\"{SECRET}\"]\nauthorities_file = \"b.pem\"\n\
        [passwords]\nmemory = \"46MiB\"\npasses = 1\nthreads = 3\nqueue = 64\n",
    )));
    let mail = config.mail.as_ref().unwrap();
    let smtp = mail.smtp(&mail.from, &config.hello());
    assert_eq!((smtp.host.as_str(), smtp.port, smtp.security), ("::1", 2525, Security::Tls));
    assert_eq!((smtp.from.name.as_deref(), smtp.from.address.as_str()), (Some("Shop"), "no-reply@example.com"));
    let times = smtp.timeouts;
    assert_eq!((times.connect.as_secs(), times.command.as_secs(), times.acceptance.as_secs()), (3, 9, 36));
    let credentials = smtp.credentials.unwrap();
    assert_eq!((credentials.user.as_str(), credentials.password.as_str()), ("shop", "open sesame"));
    let sms = config.sms.as_ref().unwrap();
    assert_eq!((sms.url.as_str(), sms.secrets[0].expose()), ("http://127.0.0.1:9013/send", SECRET));
    assert_eq!(config.passwords.hash, HashSettings::new(46 * 1024, 1, 1).unwrap());
    assert_eq!((config.passwords.queue, config.passwords.pool(1).unwrap().threads()), (64, 3));
    let text = format!("{config:?}");
    assert!(!text.contains("sesame") && !text.contains("whsec"), "{text}");

    for (security, port) in
        [("", 587), ("security = \"starttls\"\n", 587), ("security = \"tls\"\n", 465), ("security = \"none\"\n", 25)]
    {
        let text = format!("[mail]\nfrom = \"a@example.com\"\nsmtp = \"mail.example.com\"\n{security}");
        let (config, _) = parsed(&with(&text));
        let mail = config.mail.unwrap();
        let smtp = mail.smtp(&mail.from, "localhost");
        assert_eq!((smtp.port, smtp.credentials.is_none()), (port, true), "{security}");
        assert_eq!(smtp.timeouts.command, Duration::from_secs(30));
    }
}

#[test]
fn what_is_said_about_mistakes() {
    let mail = "[mail]\nfrom = \"a@example.com\"\nsmtp = \"mail.example.com\"\n";
    let table: Vec<(String, &str)> = vec![
        // sign-in
        (
            with("[tenants.sign_in]\nmethods = [\"password\", \"sms\"]"),
            "f.toml:5:24: tenants.sign_in.methods: expected one of \"password\", \"code\", \"link\", found \"sms\"",
        ),
        (
            with("[tenants.sign_in]\npassword_min_length = 6"),
            "f.toml:5:23: tenants.sign_in.password_min_length: expected a whole number from 8 to 64, found the number 6",
        ),
        (
            with("[tenants.sign_in]\nregion = \"XX\"\nmax_identifiers = 0"),
            "f.toml:5:10: tenants.sign_in.region: expected a country's two letters such as \"DE\" (ISO 3166-1), found \"XX\"\nf.toml:6:19: tenants.sign_in.max_identifiers: expected a whole number from 1 to 100, found the number 0",
        ),
        (
            with("[tenants.sign_in]\nmethod = []"),
            "f.toml:5:1: tenants.sign_in.method: unknown key; expected one of methods, password_min_length, breached_passwords_file, region, max_identifiers; did you mean \"methods\"?",
        ),
        // merge
        (
            with("[tenants.merge]\npolicy = \"sum\""),
            "f.toml:5:10: tenants.merge.policy: expected one of \"deep\", \"keep_account\", \"keep_guest\", \"newest\", \"discard\", \"refuse\", found \"sum\"",
        ),
        (
            with("[tenants.merge]\npolicies = [{ path = \"views\", policy = \"sum\" }]"),
            "f.toml:5:22: tenants.merge.policies.path: expected a JSON pointer such as \"/cart/items\", found \"views\"",
        ),
        (
            with("[tenants.merge]\npolicies = [{ path = \"/a\", policy = \"add\" }, { path = \"/b\" }]"),
            "f.toml:5:37: tenants.merge.policies.policy: expected one of \"deep\", \"keep_account\", \"keep_guest\", \"newest\", \"sum\", \"max\", \"min\", \"union\", \"concat\", found \"add\"\nf.toml:5:46: tenants.merge.policies.policy: missing key; expected how the two values become one, such as \"sum\"",
        ),
        (
            with(
                "[tenants.merge]\npolicies = [{ path = \"/a\", policy = \"sum\", limit = 5 }, { path = \"/b\", policy = \"concat\", limit = 10001 }]",
            ),
            "f.toml:5:22: tenants.merge.policies.path: The merge policy for the path \"/a\": Only `concat` has a limit.\nf.toml:5:99: tenants.merge.policies.limit: expected a whole number from 1 to 10000, found the number 10001",
        ),
        (
            with(
                "[tenants.merge]\npolicies = [{ path = \"/a\", policy = \"sum\" }, { path = \"/a\", policy = \"max\" }]",
            ),
            "f.toml:5:55: tenants.merge.policies.path: The merge policy for the path \"/a\": The path stands there twice.",
        ),
        (
            with(
                "[tenants.merge]\npolicy = \"refuse\"\npolicies = [{ path = \"/a\", policy = \"sum\" }, { path = \"/b\", policy = \"max\" }]",
            ),
            "f.toml:5:10: tenants.merge.policy: The merge policy for the path \"/a\": `refuse` allows no merge, so no path can have a policy beside it.",
        ),
        (
            with("[tenants.merge]\nundo_window = \"91d\""),
            "f.toml:5:15: tenants.merge.undo_window: expected a span from 0s to 90d, found \"91d\"",
        ),
        (
            with("[[tenants.clients]]\nid = \"c\"\ntype = \"spa\"\nmerge = { confirm = true }"),
            "f.toml:7:11: tenants.clients.merge.confirm: unknown key; expected one of policy, policies",
        ),
        // events and what messages say
        (
            with("[tenants.events]\nkeep = \"59m\""),
            "f.toml:5:8: tenants.events.keep: expected a span from 1h to 90d, found \"59m\"",
        ),
        (
            with("[tenants.mail]\napp_url = \"shop\"\nfrom = \"shop\""),
            "f.toml:5:11: tenants.mail.app_url: expected a URL such as \"https://id.example.com\", found \"shop\"\nf.toml:6:8: tenants.mail.from: the sender's address: it is no mail address; expected an address such as \"no-reply@example.com\" or \"Shop <no-reply@example.com>\", found \"shop\"",
        ),
        // mail
        (
            with("[mail]\n"),
            "f.toml:4:1: mail.from: missing key; expected an address such as \"no-reply@example.com\" or \"Shop <no-reply@example.com>\"\nf.toml:4:1: mail.smtp: missing key; expected the mail server, such as \"mail.example.com:587\"",
        ),
        (
            with("[mail]\nfrom = \"a@example.com\"\nsmtp = \"smtp://mail.example.com\""),
            "f.toml:6:8: mail.smtp: expected the mail server, such as \"mail.example.com:587\", found \"smtp://mail.example.com\"",
        ),
        (
            with("[mail]\nfrom = \"Shop\\r\\nBcc: b@example.com <a@example.com>\"\nsmtp = \"mail.example.com\""),
            "f.toml:5:8: mail.from: the sender's name is longer than 100 characters or has control characters; expected an address such as \"no-reply@example.com\" or \"Shop <no-reply@example.com>\", found \"Shop\\r\\nBcc: b@example.com <a@example.com>\"",
        ),
        (
            with(&format!("{mail}security = \"ssl\"")),
            "f.toml:7:12: mail.security: expected one of \"starttls\", \"tls\", \"none\", found \"ssl\"",
        ),
        (
            with(&format!("{mail}security = \"none\"\nusername = \"u\"\npassword = \"hidden\"")),
            "f.toml:9:12: mail.password: a password is never sent over a connection that is not encrypted: remove it, or set security to \"starttls\" or \"tls\"",
        ),
        (
            with(&format!("{mail}username = \"u\"\npassword = \"hidden\"\npassword_file = \"f\"")),
            "f.toml:9:17: mail.password_file: there is a password already; expected one of password, password_file",
        ),
        (
            with(&format!("{mail}password_file = \"f\"")),
            "f.toml:4:1: mail.username: missing key; expected the name that belongs to the password",
        ),
        (
            with(&format!("{mail}username = \"u\"")),
            "f.toml:4:1: mail.password: missing key; expected the password of this username, or password_file",
        ),
        (
            with(&format!("{mail}timeout = \"1s\"")),
            "f.toml:7:11: mail.timeout: expected a span from 3s to 5m, found \"1s\"",
        ),
        // short messages
        (
            with("[sms]"),
            "f.toml:4:1: sms.url: missing key; expected the URL that takes messages, such as \"https://sms.example.com/send\"\nf.toml:4:1: sms.secrets: missing key; expected a list, each \"whsec_\" and the base64 of 24 to 64 random bytes",
        ),
        (
            with(&format!("[sms]\nurl = \"http://sms.example.com/\"\nsecrets = [\"{SECRET}\"]")),
            "f.toml:5:7: sms.url: this would never be called: only https is allowed",
        ),
        (
            with(&format!("[sms]\nurl = \"https://10.0.0.1/\"\nsecrets = [\"{SECRET}\"]")),
            "f.toml:5:7: sms.url: this would never be called: the address 10.0.0.1 may not be called",
        ),
        (
            with("[sms]\nurl = \"https://sms.example.com/\"\nsecrets = [\"whsec_hidden\", 4711]"),
            "f.toml:6:12: sms.secrets: expected \"whsec_\" and the base64 of 24 to 64 random bytes, found another text\nf.toml:6:28: sms.secrets: expected \"whsec_\" and the base64 of 24 to 64 random bytes, found a number",
        ),
        (
            with("[sms]\nurl = \"https://sms.example.com/\"\nsecrets = []"),
            "f.toml:6:11: sms.secrets: expected a list, each \"whsec_\" and the base64 of 24 to 64 random bytes; found an empty one",
        ),
        (
            with(&format!(
                "[sms]\nurl = \"https://sms.example.com/\"\nsecrets = [\"{SECRET}\", \"{SECRET}\", \"{SECRET}\"]"
            )),
            "f.toml:6:120: sms.secrets: expected one secret, or while it is changed the new one and the old one",
        ),
        // passwords
        (
            with("[passwords]\nmemory = \"19\""),
            "f.toml:5:10: passwords.memory: expected a size such as \"32KiB\" or \"1MiB\", found \"19\"",
        ),
        (
            with("[passwords]\nmemory = \"1MiB\"\nthreads = 0\nqueue = 10001"),
            "f.toml:5:10: passwords.memory: expected a size from 7340032 to 134217728 bytes, found \"1MiB\"\nf.toml:6:11: passwords.threads: expected a whole number from 1 to 256, found the number 0\nf.toml:7:9: passwords.queue: expected a whole number from 1 to 10000, found the number 10001",
        ),
        (
            with("[passwords]\npasses = 1"),
            "f.toml:5:10: passwords.passes: memory times passes must be 35840 to 262144 KiB; found 19456 KiB",
        ),
    ];
    let mut wrong = String::new();
    for (text, expected) in &table {
        let found = said(text);
        if found != *expected {
            let _ = writeln!(wrong, "{text}\n  expected {expected}\n  found    {found}\n");
        }
        assert!(!found.contains("hidden") && !found.contains("4711"), "{found}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn what_production_refuses() {
    let said = |sections: &str| in_production(&production(sections)).map_or_else(|e| e.to_string(), |_| "fine".into());
    let mail = |host: &str| format!("[mail]\nfrom = \"a@example.com\"\nsmtp = \"{host}\"\nsecurity = \"none\"\n");
    assert_eq!(
        said(&mail("mail.example.com:25")),
        "f.toml:6:8: mail.smtp: with dev = false and security = \"none\" a mail server is on this machine: codes would travel readable"
    );
    for host in ["localhost", "127.0.0.1:25", "[::1]:25"] {
        assert_eq!(said(&mail(host)), "fine", "{host}");
    }
    let sms = |url: &str, secret: &str| format!("[sms]\nurl = \"{url}\"\nsecrets = [\"{secret}\"]\n");
    for url in ["http://localhost:9013/", "http://127.0.0.1:9013/"] {
        assert_eq!(said(&sms(url, SECRET)), "f.toml:5:7: sms.url: this would never be called: only https is allowed");
    }
    assert_eq!(said(&sms("https://sms.example.com/", SECRET)), "fine");
    let weak = said(&sms("https://sms.example.com/", "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="));
    assert!(weak.starts_with("f.toml:6:12: sms.secrets: with dev = false a secret must be random"), "{weak}");
    assert_eq!(
        said("[tenants.mail]\napp_url = \"http://shop.example.com\"\n"),
        "f.toml:5:11: tenants.mail.app_url: with dev = false an app's URL is https, found \"http://shop.example.com\""
    );
}

#[test]
fn who_sends_nothing_is_told_so() {
    let notes = |sections: &str| in_production(&production(sections)).unwrap().notes();
    let mail = "[mail]\nfrom = \"a@example.com\"\nsmtp = \"mail.example.com\"\n";
    let sms = format!("[sms]\nurl = \"https://sms.example.com/\"\nsecrets = [\"{SECRET}\"]\n");
    assert_eq!(notes(""), ["no [mail] and no [sms]: messages wait in the outbox until one is configured"]);
    assert_eq!(notes(&sms), ["no [mail]: mail waits in the outbox until one is configured"]);
    assert!(notes(mail).is_empty());
    assert!(parsed(&with("")).0.notes().is_empty(), "development has its mailbox");
}
