//! Rows and the core's data, both ways, and the reads.

use deadpool_postgres::{ClientWrapper, Object, Pool};
use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{KeyPurpose, Kind, LookUp, LookUpKind, Mark, Session, SessionKind, SigningKeyRow, Standing, User},
    port::{Found, StoreError},
};
use tokio::time::timeout;
use tokio_postgres::{
    Error, Row,
    types::{FromSql, ToSql},
};
use uuid::Uuid;

use super::{
    connect::LIMIT,
    error::{Trouble, describe, pool_error, silent, store_error, trouble},
};

/// A parameter of a statement.
pub(super) type Param<'a> = &'a (dyn ToSql + Sync);

/// A user's sessions that are read with it; the asked one comes beside them. In [`standing_sql!`] as a word.
const SESSIONS: usize = 100;

/// User, sessions and marks in one statement, which is one snapshot and one round trip: whatever is committed meanwhile is
/// either all in it or not at all. Three kinds of rows share the columns; `what` tells them apart. (A join would repeat
/// the user's data with each session.)
macro_rules! standing_sql {
    ($user:literal, $sessions:literal) => {
        concat!(
            "SELECT 0::int2 AS what, u.user_id AS id, u.client, u.kind, u.created_at, u.updated_at AS t, u.version AS n,
               u.epoch AS m, u.converted_at AS rotated_at, NULL::int8 AS ended_at, u.held IS TRUE AS flag, u.data AS body,
               u.entry, u.server_data, u.chosen_id, u.chosen_by, u.merged_into AS parent, NULL::bytea AS key,
               u.frozen IS TRUE AS bound
             FROM users u WHERE u.tenant=$1 AND u.user_id=",
            $user,
            " UNION ALL
             (SELECT 1::int2, s.id, s.client, s.kind, s.created_at, s.active_at, s.generation::int8,
               s.late_generation, s.rotated_at, s.ended_at, s.has_denied_tokens, s.metadata, NULL::text,
               NULL::text, NULL::text, NULL::int4, s.parent, s.key, s.bound IS TRUE
             FROM sessions s WHERE s.tenant=$1 AND s.user_id=",
            $user,
            " ",
            $sessions,
            ")
             UNION ALL
             SELECT 2::int2, k.id, NULL::int4, NULL::int2, NULL::int8, k.ends_at, NULL::int8,
               NULL::int4, NULL::int8, NULL::int8, false, NULL::text, NULL::text,
               NULL::text, NULL::text, NULL::int4, NULL::uuid, NULL::bytea, false
             FROM marks k WHERE k.tenant=$1 AND k.user_id=",
            $user
        )
    };
}

const STANDING: &str = standing_sql!("$2", "ORDER BY s.id DESC LIMIT 100");
const STANDING_OF_ONE: &str = standing_sql!("$2", "AND s.id=$3");

/// A fourth kind of row in the same statement: the look-up that leads to the others.
const FOUND: &str = concat!(
    "WITH l AS (SELECT user_id, session_id, body, ends_at FROM look_ups WHERE tenant=$1 AND kind=$2 AND hash=$3) ",
    standing_sql!("(SELECT user_id FROM l)", "ORDER BY s.id DESC LIMIT 100"),
    " UNION ALL
     SELECT 3::int2, l.user_id, NULL::int4, NULL::int2, NULL::int8, l.ends_at, NULL::int8,
       NULL::int4, NULL::int8, NULL::int8, false, NULL::text, NULL::text,
       NULL::text, NULL::text, NULL::int4, l.session_id, l.body, false
     FROM l"
);

/// The column of a row; what the tables cannot hold is a fault of ours and not a reason to panic.
pub(super) fn get<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, StoreError> {
    row.try_get(column).map_err(|e| StoreError::Bug(describe(&e)))
}

pub(super) fn strange(what: &'static str) -> StoreError {
    StoreError::Bug(format!("a row has an unknown {what}"))
}

pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(super) fn optional_time(row: &Row, column: usize) -> Result<Option<Timestamp>, StoreError> {
    Ok(get::<Option<i64>>(row, column)?.map(time))
}

pub(super) fn text(row: &Row, column: usize) -> Result<Option<Box<str>>, StoreError> {
    Ok(get::<Option<&str>>(row, column)?.map(Into::into))
}

pub(super) fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], StoreError> {
    get::<&[u8]>(row, column)?.try_into().map_err(|_| strange("length of bytes"))
}

pub(super) fn optional_bytes<const N: usize>(row: &Row, column: usize) -> Result<Option<[u8; N]>, StoreError> {
    get::<Option<&[u8]>>(row, column)?.map(|b| b.try_into().map_err(|_| strange("length of bytes"))).transpose()
}

/// Reads a user from the columns of [`STANDING`].
pub(super) fn user(row: &Row) -> Result<User, StoreError> {
    let created_at = time(get(row, 4)?);
    Ok(User {
        id: get::<Uuid>(row, 1)?.into(),
        client: ClientNo(get(row, 2)?),
        kind: Kind::from_number(get::<i16>(row, 3)?.into()).ok_or_else(|| strange("kind of user"))?,
        created_at,
        updated_at: optional_time(row, 5)?.unwrap_or(created_at),
        version: get(row, 6)?,
        epoch: get(row, 7)?,
        data: text(row, 11)?.ok_or_else(|| strange("absence of data"))?,
        entry: text(row, 12)?,
        server_data: text(row, 13)?,
        chosen_id: text(row, 14)?,
        chosen_by: get::<Option<i32>>(row, 15)?.map(ClientNo),
        held: get(row, 10)?,
        converted_at: optional_time(row, 8)?,
        merged_into: get::<Option<Uuid>>(row, 16)?.map(Into::into),
        frozen: get(row, 18)?,
    })
}

/// Reads a session from the columns of [`STANDING`].
pub(super) fn session(row: &Row) -> Result<Session, StoreError> {
    let created_at = time(get(row, 4)?);
    Ok(Session {
        id: get::<Uuid>(row, 1)?.into(),
        client: ClientNo(get(row, 2)?),
        kind: SessionKind::from_number(get::<i16>(row, 3)?.into()).ok_or_else(|| strange("kind of session"))?,
        created_at,
        active_at: optional_time(row, 5)?.unwrap_or(created_at),
        generation: get::<i64>(row, 6)? as i32,
        late_generation: get(row, 7)?,
        rotated_at: optional_time(row, 8)?,
        ended_at: optional_time(row, 9)?,
        has_denied_tokens: get(row, 10)?,
        metadata: text(row, 11)?,
        parent: get::<Option<Uuid>>(row, 16)?.map(Into::into),
        key: optional_bytes(row, 17)?,
        bound: get(row, 18)?,
    })
}

fn mark(row: &Row) -> Result<Mark, StoreError> {
    Ok(Mark { id: get::<Uuid>(row, 1)?.into_bytes(), ends_at: time(get(row, 5)?) })
}

fn assemble(rows: &[Row]) -> Result<Standing, StoreError> {
    let mut found = Standing::default();
    for row in rows {
        match get::<i16>(row, 0)? {
            0 => found.user = Some(user(row)?),
            1 => found.sessions.push(session(row)?),
            2 => found.marks.push(mark(row)?),
            _ => {}
        }
    }
    Ok(found)
}

/// Asks on a connection of the pool. A connection that turns out to be dead (the server was restarted) is replaced once.
pub(super) async fn ask(pool: &Pool, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, StoreError> {
    let mut again = true;
    loop {
        let object = pool.get().await.map_err(|e| pool_error(&e))?;
        let failed = match timeout(LIMIT, query(&object, sql, params)).await {
            Ok(Ok(rows)) => return Ok(rows),
            Ok(Err(e)) => Some(e),
            Err(_) => None,
        };
        // a connection that failed is not used again; one whose reader went away is: its answer is thrown away in order
        drop(Object::take(object));
        match failed {
            Some(e) if again && trouble(&e) == Trouble::Lost => again = false,
            Some(e) => return Err(store_error(&e)),
            None => return Err(silent()),
        }
    }
}

async fn query(db: &ClientWrapper, sql: &str, params: &[Param<'_>]) -> Result<Vec<Row>, Error> {
    let statement = db.prepare_cached(sql).await?;
    db.query(&statement, params).await
}

/// Everything that a decision about one token needs.
pub(super) async fn standing(
    pool: &Pool,
    tenant: TenantNo,
    user: UserId,
    asked: SessionId,
) -> Result<Standing, StoreError> {
    let found = assemble(&ask(pool, STANDING, &[&tenant.0, &user.uuid()]).await?)?;
    complete(pool, tenant, user, asked, found).await
}

/// Adds a session that is too old to be among the others, and leaves out marks that cannot matter.
async fn complete(
    pool: &Pool,
    tenant: TenantNo,
    user: UserId,
    asked: SessionId,
    mut found: Standing,
) -> Result<Standing, StoreError> {
    if found.sessions.len() == SESSIONS && found.session(asked).is_none() {
        let key: [Param<'_>; 3] = [&tenant.0, &user.uuid(), &asked.uuid()];
        // an older one: what decides about the token is again one snapshot, the others are beside it
        let one = assemble(&ask(pool, STANDING_OF_ONE, &key).await?)?;
        let others = if one.user.is_some() { found.sessions } else { Vec::new() };
        found = one;
        found.sessions.extend(others);
    }
    if found.user.is_some() && found.session(asked).is_some_and(|s| !s.has_denied_tokens) {
        found.marks.clear();
    }
    Ok(found)
}

/// A look-up row and what it leads to.
pub(super) async fn found(
    pool: &Pool,
    tenant: TenantNo,
    kind: LookUpKind,
    hash: [u8; 32],
) -> Result<Option<Found>, StoreError> {
    let rows = ask(pool, FOUND, &[&tenant.0, &kind.number(), &&hash[..]]).await?;
    let Some(row) = rows.iter().find(|row| row.try_get::<_, i16>(0).is_ok_and(|what| what == 3)) else {
        return Ok(None);
    };
    let look_up = LookUp {
        kind,
        hash,
        user: get::<Uuid>(row, 1)?.into(),
        session: get::<Uuid>(row, 16)?.into(),
        body: bytes(row, 17)?,
        ends_at: time(get(row, 5)?),
    };
    let standing = complete(pool, tenant, look_up.user, look_up.session, assemble(&rows)?).await?;
    Ok(Some(Found { look_up, standing }))
}

/// A look-up row, dead or alive.
pub(super) async fn look_up(
    pool: &Pool,
    tenant: TenantNo,
    kind: LookUpKind,
    hash: [u8; 32],
) -> Result<Option<LookUp>, StoreError> {
    let sql = "SELECT user_id, session_id, body, ends_at FROM look_ups WHERE tenant=$1 AND kind=$2 AND hash=$3";
    let rows = ask(pool, sql, &[&tenant.0, &kind.number(), &&hash[..]]).await?;
    let Some(row) = rows.first() else { return Ok(None) };
    Ok(Some(LookUp {
        kind,
        hash,
        user: get::<Uuid>(row, 0)?.into(),
        session: get::<Uuid>(row, 1)?.into(),
        body: bytes(row, 2)?,
        ends_at: time(get(row, 3)?),
    }))
}

/// All signing keys, of all tenants.
pub(super) async fn signing_keys(pool: &Pool) -> Result<Vec<SigningKeyRow>, StoreError> {
    let sql = "SELECT tenant, purpose, algorithm, name, generation, kid, created_at, activates_at, sealed
               FROM signing_keys ORDER BY tenant, purpose, algorithm, name, generation";
    let key = |row: &Row| {
        Ok(SigningKeyRow {
            tenant: TenantNo(get(row, 0)?),
            purpose: KeyPurpose::from_number(get::<i16>(row, 1)?.into()).ok_or_else(|| strange("purpose of key"))?,
            algorithm: get::<&str>(row, 2)?.into(),
            name: get::<&str>(row, 3)?.into(),
            generation: get(row, 4)?,
            kid: get::<&str>(row, 5)?.into(),
            created_at: time(get(row, 6)?),
            activates_at: time(get(row, 7)?),
            sealed: get(row, 8)?,
        })
    };
    ask(pool, sql, &[]).await?.iter().map(key).collect()
}

/// A value of the store itself.
pub(super) async fn meta(pool: &Pool, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let rows = ask(pool, "SELECT value FROM meta WHERE name=$1", &[&name]).await?;
    rows.first().map(|row| get(row, 0)).transpose()
}

/// Numbers are made by counting on from the highest: sequences of distributed engines do not fit 32 bits. Of those who
/// try the same number one wins, and the others look again.
const NUMBER_TRIES: usize = 200;

async fn number(pool: &Pool, find: &'static str, make: &'static str, params: &[Param<'_>]) -> Result<i32, StoreError> {
    for _ in 0..NUMBER_TRIES {
        if let Some(row) = ask(pool, find, params).await?.first() {
            return get(row, 0);
        }
        // the next look finds it, whoever made it
        ask(pool, make, params).await?;
    }
    Err(StoreError::Unavailable("too many numbers are being made at once".into()))
}

/// The number of a tenant, made at first sight.
pub(super) async fn number_tenant(pool: &Pool, id: Uuid) -> Result<TenantNo, StoreError> {
    let make = "INSERT INTO tenants(no, id) SELECT coalesce(max(no), 0) + 1, $1 FROM tenants ON CONFLICT DO NOTHING";
    number(pool, "SELECT no FROM tenants WHERE id=$1", make, &[&id]).await.map(TenantNo)
}

/// The number of a client, made at first sight.
pub(super) async fn number_client(pool: &Pool, tenant: TenantNo, client_id: &str) -> Result<ClientNo, StoreError> {
    let make = "INSERT INTO clients(no, tenant, client_id) SELECT coalesce(max(no), 0) + 1, $1, $2 FROM clients
                ON CONFLICT DO NOTHING";
    let find = "SELECT no FROM clients WHERE tenant=$1 AND client_id=$2";
    number(pool, find, make, &[&tenant.0, &client_id]).await.map(ClientNo)
}
