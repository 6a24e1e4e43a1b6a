//! Walls that a manifest cannot hold: read the sources, fail on a forbidden path.

use std::{fs, path::PathBuf};

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut todo = vec![PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)];
    while let Some(path) = todo.pop() {
        for entry in fs::read_dir(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display())) {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "{folder} has sources");
    found
}

fn never(folder: &str, words: &[&str]) {
    for (path, text) in sources(folder) {
        for word in words {
            assert!(!text.contains(word), "{} names {word}", path.display());
        }
    }
}

#[test]
fn an_engine_names_ports_and_data_never_a_use_case() {
    never(
        "passerby-store/src",
        &[
            "passerby_core::Passerby",
            "passerby_core::guest",
            "passerby_core::oauth",
            "passerby_core::me::",
            "passerby_core::renew",
        ],
    );
}

#[test]
fn the_core_knows_no_http_no_sql_no_file_no_environment() {
    never(
        "passerby-core/src",
        &["axum", "hyper", "rusqlite", "tokio", "std::fs", "std::env", "SystemTime", "Instant::now"],
    );
}

#[test]
fn a_door_names_no_store() {
    for door in
        ["passerby-http/src", "passerby-api/src", "passerby-oauth/src", "passerby-dialects/src", "passerby-pages/src"]
    {
        never(door, &["passerby_store", "port::Store", "rusqlite", "tokio_postgres"]);
    }
}

#[test]
fn every_test_file_is_in_the_binary() {
    let main = include_str!("main.rs");
    for (path, _) in sources("passerby/tests/it") {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(name == "main" || main.contains(&format!("mod {name};")), "{name} is not declared in main.rs");
    }
}
