//! Every door through the whole router, on both stores, and the process itself. One binary. A test whose name begins with
//! `line_NN` holds that line of the security checklist.
#![allow(missing_docs, unreachable_pub, clippy::missing_panics_doc)]
#![allow(
    clippy::duration_suboptimal_units,
    clippy::needless_pass_by_value,
    clippy::assigning_clones,
    clippy::format_push_string,
    reason = "a test reads best in the units and steps of the rule that it tests"
)]

mod accounts;
mod anonymous;
mod app;
mod architecture;
mod becoming;
mod canary_accounts;
mod counted;
mod creation;
mod credentials;
mod cross_site;
mod device_keys;
mod dpop;
mod dpop_doors;
mod dpop_replay;
mod ends;
mod ensure;
mod enumeration;
mod epochs;
mod fixation;
mod guessing;
mod hostile;
mod key_rules;
mod keys;
mod kill_becoming;
mod lifetimes;
mod links;
mod loot;
mod mail;
mod mailbox;
mod manage;
mod manage_keys;
mod matrix;
mod matrix_accounts;
mod matrix_places;
mod members;
mod merging;
mod oauth;
mod oauth_becoming;
mod outbox;
mod places;
mod prehijack;
mod process;
mod profile;
mod races;
mod refresh;
mod stolen;
mod templates;
mod tokens;
mod ways_in;
mod web;
mod wire;
mod wire_accounts;
