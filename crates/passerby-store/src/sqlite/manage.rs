//! What back ends change: users by API key, and API keys themselves.

use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::ApiKeyRow,
    port::{CommitError, Committed, ManageUser, NewUserRows},
};
use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use super::{
    acts::{Done, insert_user, unique},
    error::Refused,
    rows, turns,
};
use crate::plan::{self, Objects};

/// A user without a session, and what it signs in by.
pub(super) fn add_user(db: &Connection, tenant: TenantNo, new: &NewUserRows, at: Timestamp) -> Done {
    let NewUserRows { user, items, look_ups } = new;
    insert_user(db, tenant, user)?;
    // asked for no session: its id is that of the user's own mark
    if rows::marked(db, tenant, user.id, Uuid::nil().into(), at)?.this {
        return Err(CommitError::Marked.into());
    }
    turns::belongings(db, tenant, user.id, items, look_ups, at)?;
    Ok(Committed::Done)
}

/// Changes both halves and the hold in one statement.
pub(super) fn manage(db: &Connection, tenant: TenantNo, change: &ManageUser, at: Timestamp) -> Done {
    let key = (tenant.0, change.user.as_bytes());
    let (version, data, server_data, frozen): (i64, Box<str>, Option<Box<str>>, bool) = db
        .prepare_cached("SELECT version, data, server_data, frozen IS TRUE FROM users WHERE tenant=?1 AND user_id=?2")?
        .query_row(key, |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?, r.get(3)?)))
        .optional()?
        .ok_or(Refused::Commit(CommitError::Gone))?;
    let managed = plan::manage(change, &Objects { version, data: &data, server_data: server_data.as_deref(), frozen })?;
    let edited = managed.is_edited();
    db.prepare_cached(
        "UPDATE users SET
           data=coalesce(?3, data),
           server_data=CASE WHEN ?4 IS NULL THEN server_data ELSE nullif(?4, '{}') END,
           held=CASE WHEN ?5 IS NULL THEN held ELSE nullif(?5, 0) END,
           version=version + ?6,
           updated_at=coalesce(?7, updated_at)
         WHERE tenant=?1 AND user_id=?2",
    )?
    .execute(params![
        key.0,
        key.1,
        managed.data,
        managed.server_data,
        change.held,
        edited,
        edited.then(|| at.millis()),
    ])?;
    Ok(Committed::Done)
}

/// Writes an API key; when it was last used never moves back.
pub(super) fn put_api_key(db: &Connection, key: &ApiKeyRow, was: Option<i32>) -> Done {
    let (previous_hash, previous_until) = key.previous.map(|(hash, until)| (hash, until.millis())).unzip();
    let row = params![
        key.tenant.0,
        key.id.as_bytes(),
        key.revision,
        key.hash,
        previous_hash,
        previous_until,
        key.prefix,
        key.name,
        key.grants,
        key.created_at.millis(),
        key.expires_at.map(Timestamp::millis),
        key.last_used_at.map(Timestamp::millis),
        was,
    ];
    if was.is_none() {
        return unique(
            db.prepare_cached(
                "INSERT INTO api_keys(tenant,id,revision,hash,previous_hash,previous_until,prefix,name,grants,created_at,expires_at,last_used_at)
                 VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
            )?
            .execute(&row[..12]),
        );
    }
    let written = db
        .prepare_cached(
            "UPDATE api_keys SET revision=?3, hash=?4, previous_hash=?5, previous_until=?6, prefix=?7, name=?8,
               grants=?9, created_at=?10, expires_at=?11,
               last_used_at=nullif(max(coalesce(last_used_at, -1), coalesce(?12, -1)), -1)
             WHERE tenant=?1 AND id=?2 AND revision=?13",
        )?
        .execute(row);
    match written {
        Ok(0) => Err(CommitError::Moved.into()),
        other => unique(other),
    }
}

/// Removes an API key, if it is there.
pub(super) fn remove_api_key(db: &Connection, tenant: TenantNo, id: Uuid) -> Done {
    db.prepare_cached("DELETE FROM api_keys WHERE tenant=?1 AND id=?2")?.execute((tenant.0, id.as_bytes()))?;
    Ok(Committed::Done)
}

/// Notes when API keys were last used.
pub(super) fn touch_api_keys(db: &Connection, touches: &[(TenantNo, Uuid, Timestamp)]) -> Done {
    let mut statement = db.prepare_cached(
        "UPDATE api_keys SET last_used_at=?3 WHERE tenant=?1 AND id=?2 AND coalesce(last_used_at, -1) < ?3",
    )?;
    for (tenant, id, at) in touches {
        statement.execute((tenant.0, id.as_bytes(), at.millis()))?;
    }
    Ok(Committed::Done)
}
