//! Files that a configuration names.

use std::{path::Path, sync::Arc};

use passerby_core::password::Password;

use super::{super::*, becoming::SECRET, contract, numbers, with};

#[test]
fn files_that_are_named_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passerby.toml");
    let load = |text: &str| {
        std::fs::write(&path, text).unwrap();
        Config::load(Some(&path), &Overrides::default()).map_err(|e| e.to_string())
    };
    assert_eq!(load(&contract()).unwrap().file.as_deref(), Some(path.as_path()));
    let missing = folder.path().join("missing").display().to_string();
    let e = load(&format!(
        "master_key_file = \"{missing}\"\ntls = {{ certificate = \"{missing}\", key = \"{missing}\" }}\n{}",
        contract()
    ))
    .unwrap_err();
    assert!(
        e.contains(":1:19: master_key_file: ")
            && e.contains(":2:23: tls.certificate: ")
            && e.contains("cannot be read"),
        "{e}"
    );

    let keys = folder.path().join("keys.json");
    let client = format!("[[tenants.clients]]\nid = \"m\"\ntype = \"machine\"\njwks_file = \"{}\"\n", keys.display());
    std::fs::write(&keys, "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\"}]}").unwrap();
    assert!(load(&with(&client)).unwrap_err().contains("expected public keys only"));
    let public =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"1","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}]}"#;
    std::fs::write(&keys, public).unwrap();
    let config = load(&with(&client)).unwrap();
    let settings = config.settings(&numbers(&config));
    assert!(settings.clients["m"].1.confidential() && !settings.clients["m"].1.first_party);

    let e = Config::load(Some(Path::new("no/such/file.toml")), &Overrides::default()).unwrap_err().to_string();
    assert!(e.starts_with("no/such/file.toml: cannot be read: "), "{e}");
    std::fs::write(&path, b"dev = true\n# \xff").unwrap();
    let e = Config::load(Some(&path), &Overrides::default()).unwrap_err().to_string();
    assert!(e.ends_with(":2: is not UTF-8 text"), "{e}");
}

#[test]
fn files_of_messages_and_passwords_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passerby.toml");
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let load = |sections: &str| {
        std::fs::write(&path, with(sections)).unwrap();
        Config::load(Some(&path), &Overrides::default()).map_err(|e| e.to_string())
    };
    let password = file("password", "open sesame\n");
    let authority = rcgen::generate_simple_self_signed(["mail.example.com".to_owned()]).unwrap().cert.pem();
    let authority = file("authority.pem", &authority);
    let sections = |password: &str, authority: &str| {
        format!(
            "[mail]\nfrom = \"a@example.com\"\nsmtp = \"mail.example.com\"\nusername = \"u\"\n\
            password_file = \"{password}\"\nauthorities_file = \"{authority}\"\n\
            [sms]\nurl = \"https://sms.example.com/\"\nsecrets = [\"{SECRET}\"]\nauthorities_file = \"{authority}\"\n"
        )
    };
    let config = load(&sections(&password, &authority)).unwrap();
    let mail = config.mail.unwrap();
    assert_eq!(mail.password.as_ref().unwrap().expose(), "open sesame");
    assert!(mail.authorities.is_some() && config.sms.unwrap().authorities.is_some());

    let e = load(&sections(&file("empty", "\n"), &file("none.pem", "no certificate"))).unwrap_err();
    let lines: Vec<&str> = e.lines().collect();
    assert_eq!(lines.len(), 2, "{e}");
    assert!(lines[0].ends_with(":8:17: mail.password_file: expected a file with one line, the password"), "{e}");
    assert!(lines[1].contains(":13:20: sms.authorities_file: TLS cannot be set up"), "{e}");
    let e = load(&sections(&password, &file("none.pem", "no certificate"))).unwrap_err();
    assert!(e.lines().next().unwrap().contains(":9:20: mail.authorities_file: TLS cannot be set up"), "{e}");
    let e = load(&sections("no/such/file", "no/such/other")).unwrap_err();
    assert_eq!(e.lines().filter(|line| line.contains("cannot be read")).count(), 3, "{e}");

    let list = file("breached", "correct horse battery\n");
    let sign_in = format!("[tenants.sign_in]\nbreached_passwords_file = \"{list}\"\n");
    let second = "[[tenants]]\nid = \"33333333-3333-4333-8333-333333333333\"\n";
    let config = load(&format!("{sign_in}{second}{sign_in}")).unwrap();
    let settings = config.settings(&numbers(&config));
    let lists: Vec<_> = settings.tenants.iter().map(|t| t.sign_in.breached.clone().unwrap()).collect();
    assert!(Arc::ptr_eq(&lists[0], &lists[1]), "one file is read once");
    assert_eq!(lists[0].contains(&Password::new("correct horse battery").unwrap().sha1()), Ok(true));
    assert_eq!(lists[0].contains(&Password::new("correct horse").unwrap().sha1()), Ok(false));
    let e = load("[tenants.sign_in]\nbreached_passwords_file = \"no/such/list\"\n").unwrap_err();
    assert!(e.contains(":5:27: tenants.sign_in.breached_passwords_file: no/such/list cannot be read"), "{e}");
}
