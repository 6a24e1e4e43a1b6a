//! What each [`Act`] does to the tables.

use std::slice;

use passerby_core::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{LookUp, NewGuest, Session, SigningKeyRow, User},
    port::{Act, Change, CommitError, Committed, ENDED_STAY, EditProfile, Half, OperationKey, Touch},
};
use rusqlite::{Connection, OptionalExtension, params};

use super::{
    error::{Refused, is_taken},
    manage, outbox, records, rows,
    sweep::sweep,
    turns,
};

pub(super) type Done = Result<Committed, Refused>;

/// Whether a refusal could leave a part of the change behind.
pub(super) fn has_several_steps(change: &Change) -> bool {
    change.keep.is_some()
        || !change.out.is_empty()
        || match &change.act {
            Act::Create(..)
            | Act::CreateChosen(..)
            | Act::AddUser(_)
            | Act::Turn(_)
            | Act::Turns(_)
            | Act::Records(_)
            | Act::Settle(_)
            | Act::OpenSession { .. }
            | Act::EndSession { mark_until: Some(_), .. }
            | Act::Erase { .. }
            | Act::DenyToken { .. }
            | Act::Touch(_)
            | Act::TouchApiKeys(_)
            | Act::Sweep { .. } => true,
            Act::Edit(edit) => edit.key.is_some(),
            Act::Keep
            | Act::Manage(_)
            | Act::EndSession { mark_until: None, .. }
            | Act::Rotate { .. }
            | Act::Remember(_)
            | Act::AddSigningKey(_)
            | Act::RemoveSigningKey(_)
            | Act::PutApiKey { .. }
            | Act::RemoveApiKey(_)
            | Act::SetMeta(..)
            | Act::InitMeta(..) => false,
        }
}

/// Makes one change within the open transaction, and adds its rows to the outbox.
pub(super) fn apply(db: &Connection, tenant: TenantNo, change: &Change) -> Done {
    let done = act(db, tenant, change)?;
    if !matches!(done, Committed::Profile { replayed: true, .. }) {
        outbox::add(db, tenant, &change.out)?;
    }
    Ok(done)
}

fn act(db: &Connection, tenant: TenantNo, change: &Change) -> Done {
    let at = change.at;
    if let Some(guest) = &change.keep {
        keep(db, tenant, guest, at)?;
    }
    match &change.act {
        Act::Keep => Ok(Committed::Done),
        Act::Create(guest, look_ups) => {
            turns::belongings(db, tenant, guest.user.id, &guest.items, look_ups, at)?;
            insert_user(db, tenant, &guest.user)?;
            insert_session(db, tenant, guest.user.id, &guest.session)
        }
        Act::CreateChosen(guest, look_ups) => {
            insert_user(db, tenant, &guest.user)?;
            if rows::marked(db, tenant, guest.user.id, guest.session.id, at)?.this {
                return Err(CommitError::Marked.into());
            }
            turns::belongings(db, tenant, guest.user.id, &guest.items, look_ups, at)?;
            insert_session(db, tenant, guest.user.id, &guest.session)
        }
        Act::AddUser(new) => manage::add_user(db, tenant, new, at),
        Act::Manage(change) => manage::manage(db, tenant, change, at),
        Act::Turn(turn) => turns::turns(db, tenant, slice::from_ref(turn), at),
        Act::Turns(all) => turns::turns(db, tenant, all, at),
        Act::Records(changes) => {
            records::change(db, tenant, changes, at)?;
            Ok(Committed::Done)
        }
        Act::Settle(all) => {
            outbox::settle(db, all)?;
            Ok(Committed::Done)
        }
        Act::OpenSession { user, epoch, session } => open_session(db, tenant, *user, *epoch, session, at),
        Act::EndSession { user, session, mark_until } => {
            db.prepare_cached(
                "UPDATE sessions SET ended_at=?4 WHERE tenant=?1 AND user_id=?2 AND id=?3 AND ended_at IS NULL",
            )?
            .execute(params![tenant.0, user.as_bytes(), session.as_bytes(), at.millis()])?;
            if let Some(until) = mark_until {
                mark(db, tenant, *user, session.as_bytes(), *until)?;
            }
            Ok(Committed::Done)
        }
        Act::Rotate { user, session, from, to } => rotate(db, tenant, *user, *session, *from, *to, at),
        Act::Edit(edit) => edit_profile(db, tenant, edit, at),
        Act::Erase { user, chosen_id, mark_until, epoch } => {
            turns::erase(db, tenant, (*user, *epoch), chosen_id.as_deref(), *mark_until, at)
        }
        Act::DenyToken { user, session, jti, until } => {
            mark(db, tenant, *user, jti, *until)?;
            deny_tokens(db, tenant, *user, *session)?;
            Ok(Committed::Done)
        }
        Act::Touch(touches) => touch(db, touches),
        Act::Remember(row) => remember(db, tenant, row, at),
        Act::AddSigningKey(key) => add_signing_key(db, key),
        Act::RemoveSigningKey(kid) => {
            db.prepare_cached("DELETE FROM signing_keys WHERE kid=?1")?.execute([kid])?;
            Ok(Committed::Done)
        }
        Act::PutApiKey { key, was } => manage::put_api_key(db, key, *was),
        Act::RemoveApiKey(id) => manage::remove_api_key(db, tenant, *id),
        Act::TouchApiKeys(touches) => manage::touch_api_keys(db, touches),
        Act::SetMeta(name, value) => {
            db.prepare_cached(
                "INSERT INTO meta(name,value) VALUES(?1,?2) ON CONFLICT(name) DO UPDATE SET value=excluded.value",
            )?
            .execute(params![name, value])?;
            Ok(Committed::Done)
        }
        Act::InitMeta(name, value) => taken(
            db.prepare_cached("INSERT INTO meta(name,value) VALUES(?1,?2) ON CONFLICT DO NOTHING")?
                .execute(params![name, value])?,
        ),
        Act::Sweep { limit, epochs_before } => sweep(db, at, *limit, *epochs_before),
    }
}

/// `Taken` when a guarded insert changed no row.
fn taken(rows: usize) -> Done {
    if rows == 0 { Err(CommitError::Taken.into()) } else { Ok(Committed::Done) }
}

/// `Taken` when something that must be unique is there already.
pub(super) fn unique(inserted: rusqlite::Result<usize>) -> Done {
    match inserted {
        Ok(_) => Ok(Committed::Done),
        Err(e) if is_taken(&e) => Err(CommitError::Taken.into()),
        Err(e) => Err(e.into()),
    }
}

/// `NULL` where `time` is what it stands for.
fn unless(time: Timestamp, default: Timestamp) -> Option<i64> {
    (time != default).then(|| time.millis())
}

pub(super) fn insert_user(db: &Connection, tenant: TenantNo, user: &User) -> Done {
    unique(
        db.prepare_cached(
            "INSERT INTO users(tenant,user_id,client,created_at,data,entry,kind,version,epoch,updated_at,server_data,chosen_id,chosen_by,held,converted_at,merged_into,frozen)
             VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16,?17)",
        )?
        .execute(params![
            tenant.0,
            user.id.as_bytes(),
            user.client.0,
            user.created_at.millis(),
            user.data,
            user.entry,
            user.kind.number(),
            user.version,
            user.epoch,
            unless(user.updated_at, user.created_at),
            user.server_data,
            user.chosen_id,
            user.chosen_by.map(|c| c.0),
            user.held.then_some(true),
            user.converted_at.map(Timestamp::millis),
            user.merged_into.as_ref().map(UserId::as_bytes),
            user.frozen.then_some(true),
        ]),
    )
}

pub(super) fn insert_session(db: &Connection, tenant: TenantNo, user: UserId, session: &Session) -> Done {
    unique(
        db.prepare_cached(
            "INSERT INTO sessions(tenant,user_id,id,client,kind,created_at,active_at,generation,rotated_at,late_generation,ended_at,has_denied_tokens,metadata,parent,key,bound)
             VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14,?15,?16)",
        )?
        .execute(params![
            tenant.0,
            user.as_bytes(),
            session.id.as_bytes(),
            session.client.0,
            session.kind.number(),
            session.created_at.millis(),
            unless(session.active_at, session.created_at),
            session.generation,
            session.rotated_at.map(Timestamp::millis),
            session.late_generation,
            session.ended_at.map(Timestamp::millis),
            session.has_denied_tokens,
            session.metadata,
            session.parent.as_ref().map(SessionId::as_bytes),
            session.key,
            session.bound.then_some(true),
        ]),
    )
}

/// Stores a floating guest; see [`Change::keep`].
fn keep(db: &Connection, tenant: TenantNo, guest: &NewGuest, at: Timestamp) -> Result<(), Refused> {
    let NewGuest { user, session, .. } = guest;
    let stored: Option<(Option<i32>, Option<bool>)> = db
        .prepare_cached(
            "SELECT u.chosen_by, s.ended_at IS NOT NULL AND s.id IS NOT NULL, s.id IS NOT NULL
             FROM users u LEFT JOIN sessions s ON s.tenant=?1 AND s.user_id=?2 AND s.id=?3
             WHERE u.tenant=?1 AND u.user_id=?2",
        )?
        .query_row((tenant.0, user.id.as_bytes(), session.id.as_bytes()), |r| {
            let ended = if r.get(2)? { Some(r.get(1)?) } else { None };
            Ok((r.get(0)?, ended))
        })
        .optional()?;
    match stored {
        Some((_, Some(false))) => return Ok(()),
        Some((_, Some(true))) => return Err(CommitError::Gone.into()),
        Some((_, None)) | None => {}
    }
    let marked = rows::marked(db, tenant, user.id, session.id, at)?;
    if marked.this {
        return Err(CommitError::Marked.into());
    }
    match stored {
        None => {
            insert_user(db, tenant, user)?;
            insert_session(db, tenant, user.id, session)?;
        }
        Some((chosen_by, _)) if chosen_by == Some(session.client.0) => {
            insert_session(db, tenant, user.id, &guest.further_session())?;
        }
        Some(_) => return Err(CommitError::Gone.into()),
    }
    if marked.other && !session.has_denied_tokens {
        // a token of this session may have been refused while it was floating
        deny_tokens(db, tenant, user.id, session.id)?;
    }
    Ok(())
}

/// From now on the marks are asked for this session's tokens.
fn deny_tokens(db: &Connection, tenant: TenantNo, user: UserId, session: SessionId) -> rusqlite::Result<()> {
    db.prepare_cached("UPDATE sessions SET has_denied_tokens=1 WHERE tenant=?1 AND user_id=?2 AND id=?3")?
        .execute((tenant.0, user.as_bytes(), session.as_bytes()))
        .map(drop)
}

fn open_session(db: &Connection, tenant: TenantNo, user: UserId, epoch: i32, session: &Session, at: Timestamp) -> Done {
    let there: bool = db
        .prepare_cached("SELECT EXISTS(SELECT 1 FROM users WHERE tenant=?1 AND user_id=?2 AND epoch=?3)")?
        .query_row((tenant.0, user.as_bytes(), epoch), |r| r.get(0))?;
    if !there {
        return Err(CommitError::Gone.into());
    }
    db.prepare_cached("DELETE FROM sessions WHERE tenant=?1 AND user_id=?2 AND ended_at < ?3")?.execute((
        tenant.0,
        user.as_bytes(),
        at.minus(ENDED_STAY).millis(),
    ))?;
    insert_session(db, tenant, user, session)
}

/// Activity moves forward only; it is written where it is later than what the row says.
fn rotate(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    session: SessionId,
    from: i32,
    to: i32,
    at: Timestamp,
) -> Done {
    let late = from == to;
    let changed = db
        .prepare_cached(
            "UPDATE sessions SET
               generation=?5,
               rotated_at=CASE WHEN ?6 THEN rotated_at ELSE ?7 END,
               late_generation=CASE WHEN ?6 THEN ?5 ELSE late_generation END,
               active_at=CASE WHEN ?7 > coalesce(active_at, created_at) THEN ?7 ELSE active_at END
             WHERE tenant=?1 AND user_id=?2 AND id=?3 AND generation=?4 AND ended_at IS NULL",
        )?
        .execute(params![tenant.0, user.as_bytes(), session.as_bytes(), from, to, late, at.millis()])?;
    if changed == 0 { Err(CommitError::Moved.into()) } else { Ok(Committed::Done) }
}

fn edit_profile(db: &Connection, tenant: TenantNo, edit: &EditProfile, at: Timestamp) -> Done {
    let gone = || Refused::Commit(CommitError::Gone);
    let (version, data, frozen): (i64, Box<str>, bool) = db
        .prepare_cached("SELECT version, data, frozen IS TRUE FROM users WHERE tenant=?1 AND user_id=?2")?
        .query_row((tenant.0, edit.user.as_bytes()), |r| Ok((r.get(0)?, r.get_ref(1)?.as_str()?.into(), r.get(2)?)))
        .optional()?
        .ok_or_else(gone)?;
    let metadata: Option<Box<str>> = db
        .prepare_cached("SELECT metadata FROM sessions WHERE tenant=?1 AND user_id=?2 AND id=?3 AND ended_at IS NULL")?
        .query_row((tenant.0, edit.user.as_bytes(), edit.session.as_bytes()), |r| {
            Ok(r.get_ref(0)?.as_str_or_null()?.map(Into::into))
        })
        .optional()?
        .ok_or_else(gone)?;
    let current = match edit.half {
        Half::Data => data,
        Half::SessionMetadata => metadata.unwrap_or_else(|| "{}".into()),
    };
    if let Some(key) = &edit.key
        && is_repeated(db, tenant, edit.user, key, at)?
    {
        return Ok(Committed::Profile { data: current, version, replayed: true });
    }
    if frozen {
        return Err(CommitError::Frozen.into());
    }
    if edit.if_match.is_some_and(|v| v != version) {
        return Err(CommitError::Version(version).into());
    }
    let data = edit.edit.apply(&current, &edit.limits, edit.schema.as_ref()).map_err(CommitError::Edit)?;
    let version = match edit.half {
        Half::Data => {
            db.prepare_cached("UPDATE users SET data=?3, version=?4, updated_at=?5 WHERE tenant=?1 AND user_id=?2")?
                .execute(params![tenant.0, edit.user.as_bytes(), data, version + 1, at.millis()])?;
            version + 1
        }
        // its own object: the user's version counts the user's data only
        Half::SessionMetadata => {
            db.prepare_cached("UPDATE sessions SET metadata=?4 WHERE tenant=?1 AND user_id=?2 AND id=?3")?
                .execute(params![tenant.0, edit.user.as_bytes(), edit.session.as_bytes(), data])?;
            version
        }
    };
    Ok(Committed::Profile { data, version, replayed: false })
}

/// Writes an operation key, or tells that it is known with this very body.
fn is_repeated(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    key: &OperationKey,
    at: Timestamp,
) -> Result<bool, Refused> {
    let known: Option<([u8; 32], i64)> = db
        .prepare_cached("SELECT body, ends_at FROM operation_keys WHERE tenant=?1 AND user_id=?2 AND hash=?3")?
        .query_row((tenant.0, user.as_bytes(), &key.hash), |r| Ok((r.get(0)?, r.get(1)?)))
        .optional()?;
    match known {
        Some((body, ends_at)) if ends_at > at.millis() => {
            if body == key.body {
                Ok(true)
            } else {
                Err(CommitError::KeyReused.into())
            }
        }
        _ => {
            db.prepare_cached(
                "INSERT INTO operation_keys(tenant,user_id,hash,body,ends_at) VALUES(?1,?2,?3,?4,?5)
                 ON CONFLICT(tenant,user_id,hash) DO UPDATE SET body=excluded.body, ends_at=excluded.ends_at",
            )?
            .execute(params![tenant.0, user.as_bytes(), key.hash, key.body, key.ends_at.millis()])?;
            Ok(false)
        }
    }
}

/// Marks an id; an earlier mark is only ever made longer.
pub(super) fn mark(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    id: &[u8; 16],
    until: Timestamp,
) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO marks(tenant,user_id,id,ends_at) VALUES(?1,?2,?3,?4)
         ON CONFLICT(tenant,user_id,id) DO UPDATE SET ends_at=excluded.ends_at WHERE excluded.ends_at > ends_at",
    )?
    .execute(params![tenant.0, user.as_bytes(), id, until.millis()])
    .map(drop)
}

fn touch(db: &Connection, touches: &[Touch]) -> Done {
    let mut statement = db.prepare_cached(
        "UPDATE sessions SET active_at=?4 WHERE tenant=?1 AND user_id=?2 AND id=?3
         AND ended_at IS NULL AND coalesce(active_at, created_at) < ?4",
    )?;
    for t in touches {
        statement.execute(params![t.tenant.0, t.user.as_bytes(), t.session.as_bytes(), t.at.millis()])?;
    }
    Ok(Committed::Done)
}

/// Writes a look-up row, also over a dead one.
pub(super) fn remember(db: &Connection, tenant: TenantNo, row: &LookUp, at: Timestamp) -> Done {
    taken(
        db.prepare_cached(
            "INSERT INTO look_ups(tenant,kind,hash,user_id,session_id,body,ends_at) VALUES(?1,?2,?3,?4,?5,?6,?7)
             ON CONFLICT(tenant,kind,hash) DO UPDATE SET
               user_id=excluded.user_id, session_id=excluded.session_id, body=excluded.body, ends_at=excluded.ends_at
             WHERE look_ups.ends_at <= ?8",
        )?
        .execute(params![
            tenant.0,
            row.kind.number(),
            row.hash,
            row.user.as_bytes(),
            row.session.as_bytes(),
            row.body,
            row.ends_at.millis(),
            at.millis(),
        ])?,
    )
}

fn add_signing_key(db: &Connection, key: &SigningKeyRow) -> Done {
    unique(
        db.prepare_cached(
            "INSERT INTO signing_keys(tenant,purpose,algorithm,name,generation,kid,created_at,activates_at,sealed)
             VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9)",
        )?
        .execute(params![
            key.tenant.0,
            key.purpose.number(),
            key.algorithm,
            key.name,
            key.generation,
            key.kid,
            key.created_at.millis(),
            key.activates_at.millis(),
            key.sealed,
        ]),
    )
}

/// Numbers a tenant, unless it has a number.
pub(super) fn number_tenant(db: &Connection, id: &[u8; 16]) -> Done {
    db.prepare_cached("INSERT INTO tenants(id) VALUES(?1) ON CONFLICT DO NOTHING")?.execute([id])?;
    Ok(Committed::Done)
}

/// Numbers a client, unless it has a number.
pub(super) fn number_client(db: &Connection, tenant: TenantNo, client_id: &str) -> Done {
    db.prepare_cached("INSERT INTO clients(tenant,client_id) VALUES(?1,?2) ON CONFLICT DO NOTHING")?
        .execute((tenant.0, client_id))?;
    Ok(Committed::Done)
}
