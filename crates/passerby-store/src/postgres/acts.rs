//! What each [`Act`] does, in a transaction of its own.
//!
//! Statements that need no answer of each other are sent together: most acts take one or two round trips. Rows are locked
//! in one order over all acts: users in the order of their ids, then sessions, operation keys, items, look-ups and records
//! in the order of their keys, marks, epochs, the outbox in the order of its users. (A new guest's look-ups come first:
//! nobody else can hold its other rows, and who loses has written nothing.)
//!
//! Two things that must not pass each other without a row to lock meet on a key instead: a floating guest being stored
//! (keep) inserts its rows *before* it looks for marks; ending or erasing it inserts a row under the same key and removes
//! it in the same transaction. Whichever comes second waits for the first and then sees what it wrote.

use std::{collections::BTreeMap, slice};

use deadpool_postgres::ClientWrapper;
use futures_util::future::{try_join_all, try_join3, try_join4, try_join5};
use passerby_core::{
    Timestamp,
    id::{SessionId, TenantNo, UserId},
    model::{LookUp, NewGuest, Session, SigningKeyRow},
    port::{Act, Change, CommitError, Committed, ENDED_STAY, EditProfile, Half, Touch},
};
use tokio_postgres::Statement;

use super::{
    error::{Refused, Trouble, trouble},
    inserts::{self, NewRows, Sent},
    keep::{self, keep},
    manage,
    outbox::{self, Adding},
    records,
    sweep::sweep,
    turns,
};

pub(super) type Done = Result<Committed, Refused>;

/// Whether a refusal of the change leaves an open transaction behind.
pub(super) fn is_transaction(change: &Change) -> bool {
    change.keep.is_some() || !change.out.is_empty() || begins(&change.act)
}

/// Whether the act begins a transaction by itself, even where nothing goes along.
fn begins(act: &Act) -> bool {
    match act {
        Act::Create(..)
        | Act::CreateChosen(..)
        | Act::AddUser(_)
        | Act::Manage(_)
        | Act::Turn(_)
        | Act::Turns(_)
        | Act::Settle(_)
        | Act::OpenSession { .. }
        | Act::EndSession { mark_until: Some(_), .. }
        | Act::Edit(_)
        | Act::Erase { .. }
        | Act::DenyToken { .. }
        | Act::Sweep { .. } => true,
        Act::Records(changes) => changes.len() != 1,
        Act::Keep
        | Act::EndSession { mark_until: None, .. }
        | Act::Rotate { .. }
        | Act::Touch(_)
        | Act::Remember(_)
        | Act::AddSigningKey(_)
        | Act::RemoveSigningKey(_)
        | Act::PutApiKey { .. }
        | Act::RemoveApiKey(_)
        | Act::TouchApiKeys(_)
        | Act::SetMeta(..)
        | Act::InitMeta(..) => false,
    }
}

/// Where an act stands.
#[derive(Clone, Copy)]
pub(super) struct Scene<'a> {
    pub(super) db: &'a ClientWrapper,
    pub(super) tenant: TenantNo,
    pub(super) at: Timestamp,
    /// A transaction is open already.
    pub(super) begun: bool,
    /// What is added to the outbox before the end.
    pub(super) out: Option<&'a Adding<'a>>,
}

impl Scene<'_> {
    /// Prepares statements together; later calls on the same connection ask nobody.
    pub(super) async fn prepare<const N: usize>(&self, sql: [&'static str; N]) -> Result<[Statement; N], Refused> {
        let all = try_join_all(sql.map(|sql| self.db.prepare_cached(sql))).await?;
        all.try_into().map_err(|_| Refused::Commit(CommitError::Moved))
    }

    /// A change of one statement, and the end of the transaction if there is one. How many rows it changed.
    pub(super) async fn single(&self, sql: &'static str, params: &[super::rows::Param<'_>]) -> Result<u64, Refused> {
        let statement = self.db.prepare_cached(sql).await?;
        Ok(self.db.execute(&statement, params).await?)
    }

    /// Adds to the outbox what is to be added, and says `COMMIT`, where a transaction was begun. Sent when it is first
    /// polled.
    pub(super) async fn finish(self, begun: bool) -> Result<(), tokio_postgres::Error> {
        match self.out {
            None => inserts::commit(self.db, begun).await,
            Some(adding) => adding.commit(self.db, self.tenant).await,
        }
    }

    pub(super) async fn end(&self) -> Done {
        self.finish(self.begun).await?;
        Ok(Committed::Done)
    }

    /// Ends well if a row was changed, else with the refusal.
    pub(super) async fn end_if(&self, rows: u64, refusal: CommitError) -> Done {
        if rows == 0 { Err(refusal.into()) } else { self.end().await }
    }
}

/// Makes one change. After a refusal a transaction may be open (see [`is_transaction`]), after an error as well.
pub(super) async fn apply(db: &ClientWrapper, tenant: TenantNo, change: &Change) -> Done {
    let adding = Adding::of(db, change).await?;
    let mut scene = Scene { db, tenant, at: change.at, begun: false, out: adding.as_ref() };
    if let (Some(_), Act::Turns(all)) = (&change.keep, &change.act) {
        // the kept guest may not be the first of them
        turns::lock(scene, all).await?;
        scene.begun = true;
    }
    // (records begin by themselves, together with what they change)
    if scene.out.is_some() && !begins(&change.act) && change.keep.is_none() && !matches!(change.act, Act::Records(_)) {
        inserts::begin(db, false).await?;
        scene.begun = true;
    }
    if let Some(guest) = &change.keep {
        keep(scene, guest).await?;
        scene.begun = true;
    }
    let t = &tenant.0;
    match &change.act {
        Act::Keep => scene.end().await,
        Act::Create(guest, look_ups) => create(scene, guest, look_ups).await,
        Act::CreateChosen(guest, look_ups) => create_chosen(scene, guest, look_ups).await,
        Act::AddUser(new) => manage::add_user(scene, new).await,
        Act::Manage(change) => manage::manage(scene, change).await,
        Act::Turn(turn) => turns::turns(scene, slice::from_ref(turn)).await,
        Act::Turns(all) => turns::turns(scene, all).await,
        Act::Records(changes) => records::change(scene, changes).await,
        Act::Settle(settled) => outbox::settle(scene, settled).await,
        Act::OpenSession { user, epoch, session } => open_session(scene, *user, *epoch, session).await,
        Act::EndSession { user, session, mark_until: None } => {
            let sql = "UPDATE sessions SET ended_at=$4 WHERE tenant=$1 AND user_id=$2 AND id=$3 AND ended_at IS NULL";
            scene.single(sql, &[t, &user.uuid(), &session.uuid(), &change.at.millis()]).await?;
            scene.end().await
        }
        Act::EndSession { user, session, mark_until: Some(until) } => {
            end_and_mark(scene, END, *user, *session, *session.as_bytes(), *until).await
        }
        Act::DenyToken { user, session, jti, until } => end_and_mark(scene, DENY, *user, *session, *jti, *until).await,
        Act::Rotate { user, session, from, to } => rotate(scene, *user, *session, *from, *to).await,
        Act::Edit(edit) => edit_profile(scene, edit).await,
        Act::Erase { user, chosen_id, mark_until, epoch } => {
            turns::erase(scene, (*user, *epoch), chosen_id.as_deref(), *mark_until).await
        }
        Act::Touch(touches) => touch(scene, touches).await,
        Act::Remember(row) => {
            let statement = db.prepare_cached(inserts::LOOK_UP_UNLESS_ALIVE).await?;
            let rows = inserts::look_up(db, &statement, tenant, row, Some(change.at)).await?;
            scene.end_if(rows, CommitError::Taken).await
        }
        Act::AddSigningKey(key) => add_signing_key(scene, key).await,
        Act::RemoveSigningKey(kid) => {
            scene.single("DELETE FROM signing_keys WHERE kid=$1", &[&&**kid]).await?;
            scene.end().await
        }
        Act::PutApiKey { key, was } => manage::put_api_key(scene, key, *was).await,
        Act::RemoveApiKey(id) => manage::remove_api_key(scene, *id).await,
        Act::TouchApiKeys(touches) => manage::touch_api_keys(scene, touches).await,
        Act::SetMeta(name, value) => {
            let sql =
                "INSERT INTO meta(name, value) VALUES($1, $2) ON CONFLICT (name) DO UPDATE SET value=excluded.value";
            scene.single(sql, &[name, value]).await?;
            scene.end().await
        }
        Act::InitMeta(name, value) => {
            let sql = "INSERT INTO meta(name, value) VALUES($1, $2) ON CONFLICT (name) DO NOTHING";
            let rows = scene.single(sql, &[name, value]).await?;
            scene.end_if(rows, CommitError::Taken).await
        }
        Act::Sweep { limit, epochs_before } => sweep(scene, *limit, *epochs_before).await,
    }
}

/// Look-ups in the order in which all changes lock them.
pub(super) fn in_order(look_ups: &[LookUp]) -> Vec<&LookUp> {
    let mut rows: Vec<_> = look_ups.iter().collect();
    rows.sort_by_key(|row| (row.kind.number(), row.hash));
    rows
}

/// Look-ups, user, session and items under a fresh id, all in one round trip: only a look-up can be there already, and
/// then the transaction undoes itself.
pub(super) async fn create(scene: Scene<'_>, guest: &NewGuest, look_ups: &[LookUp]) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let [user, session, item, strict, upsert] = scene
        .prepare([inserts::USER, inserts::SESSION, inserts::ITEM, inserts::LOOK_UP, inserts::LOOK_UP_UNLESS_ALIVE])
        .await?;
    let (rows, look_ups) = (NewRows { user, session, item }, in_order(look_ups));
    // the end that is on its way with the rows undoes them where one is refused
    let ends = scene.out.is_none_or(Adding::is_sent_at_once);
    if look_ups.is_empty() || (!begun && ends) {
        let mut all: Vec<Sent<'_>> = Vec::with_capacity(look_ups.len() + guest.items.len() + 2);
        for row in &look_ups {
            all.push(Box::pin(inserts::look_up(db, &strict, tenant, row, None)));
        }
        all.extend(rows.of(db, tenant, guest));
        match try_join3(inserts::begin(db, begun), try_join_all(all), scene.finish(true)).await {
            Ok(_) => return Ok(Committed::Done),
            // a dead row that was not swept yet, or a living one, or the user
            Err(e) if trouble(&e) == Trouble::Taken && !look_ups.is_empty() => {}
            Err(e) => return Err(taken(e)),
        }
    }
    let remembering = look_ups.iter().map(|row| inserts::look_up(db, &upsert, tenant, row, Some(at)));
    let ((), remembered, _) =
        try_join3(inserts::begin(db, begun), try_join_all(remembering), try_join_all(rows.of(db, tenant, guest)))
            .await
            .map_err(taken)?;
    Scene { begun: true, ..scene }.end_if(least(&remembered), CommitError::Taken).await
}

/// `Taken` when something that must be unique is there already.
pub(super) fn taken(e: tokio_postgres::Error) -> Refused {
    if trouble(&e) == Trouble::Taken { CommitError::Taken.into() } else { e.into() }
}

/// Zero when one of the statements changed nothing.
pub(super) fn least(changed: &[u64]) -> u64 {
    changed.iter().copied().min().unwrap_or(1)
}

/// The user's row is inserted before marks are looked for; see the head of this file.
async fn create_chosen(scene: Scene<'_>, guest: &NewGuest, look_ups: &[LookUp]) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let [user, session, item, upsert, marks] = scene
        .prepare([
            inserts::USER_UNLESS_THERE,
            inserts::SESSION_UNLESS_THERE,
            inserts::ITEM,
            inserts::LOOK_UP_UNLESS_ALIVE,
            keep::MARKED,
        ])
        .await?;
    let rows = NewRows { user, session, item };
    let remembering = in_order(look_ups).into_iter().map(|row| inserts::look_up(db, &upsert, tenant, row, Some(at)));
    let ((), new, remembered, marked) = try_join4(
        inserts::begin(db, begun),
        try_join_all(rows.of(db, tenant, guest)),
        try_join_all(remembering),
        keep::marked(scene, &marks, guest.user.id, guest.session.id),
    )
    .await?;
    // the first of them is the user's
    if new.first() == Some(&0) {
        return Err(CommitError::Taken.into());
    }
    if marked.this {
        return Err(CommitError::Marked.into());
    }
    Scene { begun: true, ..scene }.end_if(least(&remembered).min(least(&new)), CommitError::Taken).await
}

async fn open_session(scene: Scene<'_>, user: UserId, epoch: i32, session: &Session) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let [lock, clean, insert] = scene
        .prepare([
            "SELECT 1 FROM users WHERE tenant=$1 AND user_id=$2 AND epoch=$3 FOR UPDATE",
            "DELETE FROM sessions WHERE tenant=$1 AND user_id=$2 AND ended_at < $3",
            inserts::SESSION_UNLESS_THERE,
        ])
        .await?;
    let id = user.uuid();
    let ((), there, _, rows) = try_join4(
        inserts::begin(db, begun),
        db.query_opt(&lock, &[&tenant.0, &id, &epoch]),
        db.execute(&clean, &[&tenant.0, &id, &at.minus(ENDED_STAY).millis()]),
        inserts::session(db, &insert, tenant, user, session),
    )
    .await?;
    if there.is_none() {
        return Err(CommitError::Gone.into());
    }
    Scene { begun: true, ..scene }.end_if(rows, CommitError::Taken).await
}

/// No client has the number 0: rows with it are put under a key and removed within one transaction, nobody sees them.
const END: &str =
    "INSERT INTO sessions(tenant, user_id, id, client, created_at, kind, ended_at) VALUES($1, $2, $3, 0, $4, 0, $4)
    ON CONFLICT (tenant, user_id, id) DO UPDATE SET ended_at = coalesce(sessions.ended_at, excluded.ended_at)";
const DENY: &str = "INSERT INTO sessions(tenant, user_id, id, client, created_at, kind) VALUES($1, $2, $3, 0, $4, 0)
    ON CONFLICT (tenant, user_id, id) DO UPDATE SET has_denied_tokens = true";

/// Changes the session's row if there is one, and marks an id; one round trip.
async fn end_and_mark(
    scene: Scene<'_>,
    upsert: &'static str,
    user: UserId,
    session: SessionId,
    marked: [u8; 16],
    until: Timestamp,
) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let [upsert, remove, mark] = scene
        .prepare([upsert, "DELETE FROM sessions WHERE tenant=$1 AND user_id=$2 AND id=$3 AND client=0", inserts::MARK])
        .await?;
    let (user_id, id) = (user.uuid(), session.uuid());
    try_join5(
        inserts::begin(db, begun),
        db.execute(&upsert, &[&tenant.0, &user_id, &id, &at.millis()]),
        db.execute(&remove, &[&tenant.0, &user_id, &id]),
        inserts::mark(db, &mark, tenant, user, marked, until),
        scene.finish(true),
    )
    .await?;
    Ok(Committed::Done)
}

/// Activity moves forward only; it is written where it is later than what the row says.
async fn rotate(scene: Scene<'_>, user: UserId, session: SessionId, from: i32, to: i32) -> Done {
    let sql = "UPDATE sessions SET
         generation = $5,
         rotated_at = CASE WHEN $6 THEN rotated_at ELSE $7::int8 END,
         late_generation = CASE WHEN $6 THEN $5 ELSE late_generation END,
         active_at = CASE WHEN $7::int8 > coalesce(active_at, created_at) THEN $7::int8 ELSE active_at END
       WHERE tenant=$1 AND user_id=$2 AND id=$3 AND generation=$4 AND ended_at IS NULL";
    let (at, late) = (scene.at.millis(), from == to);
    let params: [super::rows::Param<'_>; 7] = [&scene.tenant.0, &user.uuid(), &session.uuid(), &from, &to, &late, &at];
    let rows = scene.single(sql, &params).await?;
    scene.end_if(rows, CommitError::Moved).await
}

/// Two round trips: what is there under the user's lock, then what follows from it.
async fn edit_profile(scene: Scene<'_>, edit: &EditProfile) -> Done {
    let Scene { db, tenant, at, begun, .. } = scene;
    let (user_id, id) = (edit.user.uuid(), edit.session.uuid());
    let [user, session, key] = scene
        .prepare([
            "SELECT version, data, frozen IS TRUE FROM users WHERE tenant=$1 AND user_id=$2 FOR UPDATE",
            match edit.half {
                Half::Data => {
                    "SELECT NULL::text FROM sessions WHERE tenant=$1 AND user_id=$2 AND id=$3 AND ended_at IS NULL"
                }
                Half::SessionMetadata => {
                    "SELECT metadata FROM sessions WHERE tenant=$1 AND user_id=$2 AND id=$3 AND ended_at IS NULL FOR UPDATE"
                }
            },
            "SELECT body FROM operation_keys WHERE tenant=$1 AND user_id=$2 AND hash=$3 AND ends_at > $4",
        ])
        .await?;
    let known = async {
        match &edit.key {
            Some(k) => db.query_opt(&key, &[&tenant.0, &user_id, &&k.hash[..], &at.millis()]).await,
            None => Ok(None),
        }
    };
    let ((), user, session, known) = try_join4(
        inserts::begin(db, begun),
        db.query_opt(&user, &[&tenant.0, &user_id]),
        db.query_opt(&session, &[&tenant.0, &user_id, &id]),
        known,
    )
    .await?;
    let (Some(user), Some(session)) = (user, session) else {
        return Err(CommitError::Gone.into());
    };
    let version: i64 = user.try_get(0)?;
    let current: &str = match edit.half {
        Half::Data => user.try_get(1)?,
        Half::SessionMetadata => session.try_get::<_, Option<&str>>(0)?.unwrap_or("{}"),
    };
    if let (Some(row), Some(k)) = (known, &edit.key) {
        if row.try_get::<_, &[u8]>(0)? != k.body {
            return Err(CommitError::KeyReused.into());
        }
        let replayed = Committed::Profile { data: current.into(), version, replayed: true };
        // nothing was done, so nothing is told
        return Scene { begun: true, out: None, ..scene }.end().await.map(|_| replayed);
    }
    if user.try_get(2)? {
        return Err(CommitError::Frozen.into());
    }
    if edit.if_match.is_some_and(|v| v != version) {
        return Err(CommitError::Version(version).into());
    }
    let data = edit.edit.apply(current, &edit.limits, edit.schema.as_ref()).map_err(CommitError::Edit)?;
    let [write_user, write_session, write_key] = scene
        .prepare([
            "UPDATE users SET data=$3, version=$4, updated_at=$5 WHERE tenant=$1 AND user_id=$2",
            "UPDATE sessions SET metadata=$4 WHERE tenant=$1 AND user_id=$2 AND id=$3",
            "INSERT INTO operation_keys(tenant, user_id, hash, body, ends_at) VALUES($1, $2, $3, $4, $5)
             ON CONFLICT (tenant, user_id, hash) DO UPDATE SET body=excluded.body, ends_at=excluded.ends_at",
        ])
        .await?;
    let next = version + 1;
    let write = async {
        match edit.half {
            Half::Data => db.execute(&write_user, &[&tenant.0, &user_id, &&*data, &next, &at.millis()]).await,
            // its own object: the user's version counts the user's data only
            Half::SessionMetadata => db.execute(&write_session, &[&tenant.0, &user_id, &id, &&*data]).await,
        }
    };
    let write_key = async {
        match &edit.key {
            Some(k) => {
                let ends_at = k.ends_at.millis();
                db.execute(&write_key, &[&tenant.0, &user_id, &&k.hash[..], &&k.body[..], &ends_at]).await
            }
            None => Ok(0),
        }
    };
    try_join3(write, write_key, scene.finish(true)).await?;
    let version = if edit.half == Half::Data { next } else { version };
    Ok(Committed::Profile { data, version, replayed: false })
}

/// One statement for all, in the order of their keys.
async fn touch(scene: Scene<'_>, touches: &[Touch]) -> Done {
    let mut latest = BTreeMap::new();
    for t in touches {
        let at = latest.entry((t.tenant.0, t.user.uuid(), t.session.uuid())).or_insert(t.at);
        *at = t.at.max(*at);
    }
    let (mut tenants, mut users, mut sessions, mut times) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for ((tenant, user, session), at) in latest {
        tenants.push(tenant);
        users.push(user);
        sessions.push(session);
        times.push(at.millis());
    }
    let sql = "UPDATE sessions s SET active_at = greatest(s.active_at, t.at)
       FROM unnest($1::int4[], $2::uuid[], $3::uuid[], $4::int8[]) AS t(tenant, user_id, id, at)
       WHERE s.tenant=t.tenant AND s.user_id=t.user_id AND s.id=t.id
         AND s.ended_at IS NULL AND coalesce(s.active_at, s.created_at) < t.at";
    scene.single(sql, &[&tenants, &users, &sessions, &times]).await?;
    scene.end().await
}

async fn add_signing_key(scene: Scene<'_>, key: &SigningKeyRow) -> Done {
    let sql =
        "INSERT INTO signing_keys(tenant, purpose, algorithm, name, generation, kid, created_at, activates_at, sealed)
       VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT DO NOTHING";
    let params: [super::rows::Param<'_>; 9] = [
        &key.tenant.0,
        &key.purpose.number(),
        &&*key.algorithm,
        &&*key.name,
        &key.generation,
        &&*key.kid,
        &key.created_at.millis(),
        &key.activates_at.millis(),
        &key.sealed,
    ];
    let rows = scene.single(sql, &params).await?;
    scene.end_if(rows, CommitError::Taken).await
}
