//! The contract of the store's port: every test is written once and run on each engine.
#![allow(missing_docs)]

mod creating;
mod file;
mod keeping_house;
mod model;
mod opening;
mod profiles;
mod races;
mod sessions;
mod support;

/// Expands each test for both engines.
macro_rules! on_both_engines {
    ($($module:ident :: { $($test:ident),* $(,)? })*) => {
        mod sqlite { $( mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$module::$test(&crate::support::Harness::sqlite().await).await;
            }
        )* } )* }
        mod postgres { $( mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                crate::$module::$test(&crate::support::Harness::postgres().await).await;
            }
        )* } )* }
    };
}

on_both_engines! {
    creating::{
        a_created_guest_is_found,
        every_field_comes_back,
        a_created_id_is_taken_once,
        one_conflict_in_a_group_sinks_nobody,
        a_look_up_decides_who_wins,
        a_taken_id_leaves_no_look_up,
        remembering,
        a_chosen_id_is_taken_once_and_not_while_marked,
        keeping_is_idempotent,
        what_ended_is_not_kept,
        an_id_that_another_session_stored_is_gone,
        a_further_session_of_a_chosen_id_is_kept,
        keeping_is_undone_with_a_refused_act,
    }
    sessions::{
        opening_needs_the_user_and_its_epoch,
        opening_removes_what_ended_a_day_ago,
        ending,
        rotating_compares_and_sets,
        touching_moves_forward_only,
        a_denied_token_is_marked,
        many_sessions_of_one_user,
    }
    profiles::{
        an_edit_raises_the_version,
        a_refused_edit_changes_nothing,
        an_edit_needs_user_and_session,
        an_operation_key_counts_once,
        the_session_has_its_own_half,
        erasing_leaves_the_mark_only,
        an_erased_guest_leaves_its_creation_key,
    }
    keeping_house::{
        numbers_are_made_once,
        signing_keys,
        values_of_the_store,
        sweeping_removes_what_has_ended,
        tenants_do_not_see_each_other,
    }
    races::{
        of_fifty_that_choose_one_id_one_wins,
        of_fifty_with_one_look_up_one_wins,
        of_fifty_that_keep_one_guest_all_succeed,
        of_fifty_that_rotate_one_wins,
        concurrent_increments_are_exact,
        what_is_acknowledged_is_seen,
        who_stops_waiting_undoes_nothing,
    }
    opening::{
        reopening_finds_everything,
        a_closed_store_says_so,
        two_that_open_at_once_migrate_once,
        a_newer_database_is_refused,
        two_processes_may_share_it,
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[test]
fn sqlite_is_as_the_model() {
    let runtime = runtime();
    let h = runtime.block_on(support::Harness::sqlite());
    model::random_sequences(&h, &runtime, false);
}

#[test]
fn sqlite_is_as_the_model_when_all_is_queued_at_once() {
    let runtime = runtime();
    let h = runtime.block_on(support::Harness::sqlite());
    model::random_sequences(&h, &runtime, true);
}

#[test]
fn postgres_is_as_the_model() {
    let runtime = runtime();
    let h = runtime.block_on(support::Harness::postgres());
    model::random_sequences(&h, &runtime, false);
}
