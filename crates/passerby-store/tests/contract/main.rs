//! The contract of the store's port: every test is written once and run on each engine.
#![allow(missing_docs)]

mod accounts;
mod api_keys;
mod coming_back;
mod creating;
mod epochs;
mod file;
mod keeping_house;
mod managing;
mod migrating;
mod model;
mod opening;
mod outbox;
mod profiles;
mod races;
mod records;
mod sequences;
mod sessions;
mod spending;
mod support;
mod turns;

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
        erasing_leaves_the_mark_and_the_epoch,
        an_erased_guest_leaves_its_creation_key,
    }
    turns::{
        all_steps_at_once,
        a_refused_turn_leaves_nothing_behind,
        a_turn_stores_a_floating_guest_first,
        ending_all_but_one,
        a_dead_item_gives_way,
        removing_all_of_a_kind_but_one,
        a_look_up_that_went_on_to_somebody_else_stays,
        of_eight_turns_on_one_revision_one_is_made,
        of_eight_that_raise_one_epoch_one_does,
        turns_of_many_users_over_the_same_look_ups_all_end,
    }
    accounts::{
        a_write_changes_the_row,
        a_write_is_guarded,
        a_frozen_guest_is_not_edited,
        an_identifier_is_one_user_s,
        of_fifty_that_claim_one_identifier_one_wins,
        an_erased_account_frees_its_identifiers,
        what_is_retired_is_known_and_never_another_s,
        turns_of_two_users_are_one_step,
        of_turns_all_are_made_or_none,
        turns_over_each_other_all_end,
        a_floating_guest_is_stored_before_its_turns,
    }
    records::{
        a_record_is_changed_by_its_revision,
        several_are_changed_together_or_not,
        of_eight_on_one_record_one_wins,
        records_are_swept_at_their_end,
    }
    outbox::{
        rows_come_with_every_act,
        rows_go_with_a_refused_act,
        a_user_s_rows_are_in_order,
        what_is_due_is_given_in_order,
        what_is_past_its_end_holds_up_nobody,
        settling,
        rows_are_listed_newest_first,
        erasing_takes_the_user_s_rows,
        rows_are_swept_at_their_end,
        new_guests_with_and_without_rows,
    }
    coming_back::{
        a_guest_with_a_key_is_found_by_it,
        the_session_of_a_look_up_is_found_however_old,
        any_of_its_look_ups_may_refuse_a_guest,
        a_guest_with_belongings_is_kept_and_created_in_one_step,
        every_belonging_comes_back,
        of_fifty_with_one_key_one_wins,
        an_erased_guest_is_known_by_its_key_for_a_while,
        turning_and_erasing_at_once,
    }
    epochs::{
        raised_epochs_are_told_in_order,
        of_two_raises_in_a_second_the_greater_is_told,
        old_epochs_are_swept,
    }
    managing::{
        a_user_is_added_without_a_session,
        both_halves_are_changed_in_one_step,
        the_empty_server_half_is_none,
        a_hold_is_no_edit,
        a_refused_change_of_a_back_end_changes_nothing,
        changes_of_back_ends_and_guests_are_all_counted,
        users_are_listed_by_descending_id,
    }
    api_keys::{
        an_api_key_is_found_by_its_hash,
        an_api_key_is_taken_once,
        an_api_key_is_changed_by_its_revision,
        an_api_key_was_last_used,
    }
    spending::{
        a_proof_works_once,
        of_many_that_spend_one_proof_one_does,
        a_store_that_shares_what_is_spent_does_so,
        what_was_spent_is_swept_at_its_end,
        a_closed_store_spends_nothing,
    }
    migrating::{
        a_database_of_the_first_version_goes_on,
        a_database_of_the_second_version_goes_on,
        a_plain_guest_is_written_as_before,
    }
    keeping_house::{
        numbers_are_made_once,
        signing_keys,
        values_of_the_store,
        sweeping_removes_what_has_ended,
        what_never_ends_is_not_swept,
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
    sequences::random_sequences(&h, &runtime, false);
}

#[test]
fn sqlite_is_as_the_model_when_all_is_queued_at_once() {
    let runtime = runtime();
    let h = runtime.block_on(support::Harness::sqlite());
    sequences::random_sequences(&h, &runtime, true);
}

#[test]
fn postgres_is_as_the_model() {
    let runtime = runtime();
    let h = runtime.block_on(support::Harness::postgres());
    sequences::random_sequences(&h, &runtime, false);
}
