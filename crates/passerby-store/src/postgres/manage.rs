//! What back ends change: users by API key, and API keys themselves.

use std::collections::BTreeMap;

use futures_util::future::{try_join, try_join_all, try_join5};
use passerby_core::{
    Timestamp,
    id::TenantNo,
    model::ApiKeyRow,
    port::{CommitError, Committed, ManageUser, NewUserRows},
};
use uuid::Uuid;

use super::{
    acts::{Done, Scene, in_order, least, taken},
    inserts,
    keep::{self, marked},
    rows::Param,
};
use crate::plan::{self, Objects};

/// A user without a session, and what it signs in by. Its row is inserted before marks are looked for; see
/// [`acts`](super::acts).
pub(super) async fn add_user(scene: Scene<'_>, new: &NewUserRows) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let NewUserRows { user, items, look_ups } = new;
    let [insert, item, upsert, marks] = &scene
        .prepare([inserts::USER_UNLESS_THERE, inserts::ITEM, inserts::LOOK_UP_UNLESS_ALIVE, keep::MARKED])
        .await?;
    let items = items.iter().map(|row| inserts::item(db, item, tenant, user.id, row));
    let look_ups = in_order(look_ups).into_iter().map(|row| inserts::look_up(db, upsert, tenant, row, Some(at)));
    let ((), new, _, remembered, marked) = try_join5(
        inserts::begin(db, begun),
        inserts::user(db, insert, tenant, user),
        try_join_all(items),
        try_join_all(look_ups),
        // asked for no session: its id is that of the user's own mark
        marked(scene, marks, user.id, Uuid::nil().into()),
    )
    .await?;
    if new > 0 && marked.this {
        return Err(CommitError::Marked.into());
    }
    Scene { begun: true, ..scene }.end_if(new.min(least(&remembered)), CommitError::Taken).await
}

/// Two round trips: what is there under the user's lock, then both halves and the hold in one statement.
pub(super) async fn manage(scene: Scene<'_>, change: &ManageUser) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let [lock, write] = scene
        .prepare([
            "SELECT version, data, server_data, frozen IS TRUE FROM users WHERE tenant=$1 AND user_id=$2 FOR UPDATE",
            "UPDATE users SET
               data = coalesce($3, data),
               server_data = CASE WHEN $4::text IS NULL THEN server_data ELSE nullif($4::text, '{}') END,
               held = CASE WHEN $5::bool IS NULL THEN held ELSE nullif($5::bool, false) END,
               version = $6,
               updated_at = coalesce($7, updated_at)
             WHERE tenant=$1 AND user_id=$2",
        ])
        .await?;
    let id = change.user.uuid();
    let key: [Param<'_>; 2] = [&tenant.0, &id];
    let ((), row) = try_join(inserts::begin(db, begun), db.query_opt(&lock, &key)).await?;
    let Some(row) = row else { return Err(CommitError::Gone.into()) };
    let version: i64 = row.try_get(0)?;
    let objects = Objects { version, data: row.try_get(1)?, server_data: row.try_get(2)?, frozen: row.try_get(3)? };
    let managed = plan::manage(change, &objects)?;
    let edited = managed.is_edited();
    let params: [Param<'_>; 7] = [
        &tenant.0,
        &id,
        &managed.data.as_deref(),
        &managed.server_data.as_deref(),
        &change.held,
        &(version + i64::from(edited)),
        &edited.then(|| at.millis()),
    ];
    try_join(db.execute(&write, &params), scene.finish(true)).await?;
    Ok(Committed::Done)
}

/// Writes an API key; when it was last used never moves back.
pub(super) async fn put_api_key(scene: Scene<'_>, key: &ApiKeyRow, was: Option<i32>) -> Done {
    let row: [Param<'_>; 13] = [
        &key.tenant.0,
        &key.id,
        &key.revision,
        &&key.hash[..],
        &key.previous.as_ref().map(|(hash, _)| &hash[..]),
        &key.previous.map(|(_, until)| until.millis()),
        &&*key.prefix,
        &&*key.name,
        &&*key.grants,
        &key.created_at.millis(),
        &key.expires_at.map(Timestamp::millis),
        &key.last_used_at.map(Timestamp::millis),
        &was,
    ];
    if was.is_none() {
        let sql =
            "INSERT INTO api_keys(tenant, id, revision, hash, previous_hash, previous_until, prefix, name, grants,
             created_at, expires_at, last_used_at)
           VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";
        let rows = scene.single(sql, &row[..12]).await?;
        return scene.end_if(rows, CommitError::Taken).await;
    }
    let sql = "UPDATE api_keys SET revision=$3, hash=$4, previous_hash=$5, previous_until=$6, prefix=$7, name=$8,
         grants=$9, created_at=$10, expires_at=$11, last_used_at=greatest(last_used_at, $12)
       WHERE tenant=$1 AND id=$2 AND revision=$13";
    let statement = scene.db.prepare_cached(sql).await?;
    let rows = scene.db.execute(&statement, &row).await.map_err(taken)?;
    scene.end_if(rows, CommitError::Moved).await
}

/// Removes an API key, if it is there.
pub(super) async fn remove_api_key(scene: Scene<'_>, id: Uuid) -> Done {
    scene.single("DELETE FROM api_keys WHERE tenant=$1 AND id=$2", &[&scene.tenant.0, &id]).await?;
    scene.end().await
}

/// Notes when API keys were last used: one statement for all, in the order of their keys.
pub(super) async fn touch_api_keys(scene: Scene<'_>, touches: &[(TenantNo, Uuid, Timestamp)]) -> Done {
    let mut latest = BTreeMap::new();
    for (tenant, id, at) in touches {
        let last = latest.entry((tenant.0, *id)).or_insert(*at);
        *last = (*at).max(*last);
    }
    let (mut tenants, mut ids, mut times) = (Vec::new(), Vec::new(), Vec::new());
    for ((tenant, id), at) in latest {
        tenants.push(tenant);
        ids.push(id);
        times.push(at.millis());
    }
    let sql = "UPDATE api_keys k SET last_used_at = t.at
       FROM unnest($1::int4[], $2::uuid[], $3::int8[]) AS t(tenant, id, at)
       WHERE k.tenant=t.tenant AND k.id=t.id AND coalesce(k.last_used_at, -1) < t.at";
    scene.single(sql, &[&tenants, &ids, &times]).await?;
    scene.end().await
}
