//! Rows and the core's data, both ways, and the reads.

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{KeyPurpose, Kind, LookUp, LookUpKind, Mark, Session, SessionKind, SigningKeyRow, Standing, User},
    port::Found,
};
use rusqlite::{
    Connection, OptionalExtension, Row,
    types::{Type, ValueRef},
};

/// A user's sessions that are read with it; the asked one comes beside them.
const SESSIONS: usize = 100;

/// The columns of [`user`] behind its id, in its order.
macro_rules! user_columns {
    () => {
        "u.client, u.created_at, u.data, u.entry, u.kind, u.version, u.epoch, u.updated_at, u.server_data, u.chosen_id, u.chosen_by, u.held, u.converted_at, u.merged_into, u.frozen"
    };
}
/// How many [`user_columns!`] there are.
const USER_COLUMNS: usize = 15;

/// The columns of a look-up that [`look_up_row`] reads, in its order.
macro_rules! look_up_columns {
    () => {
        "l.user_id, l.session_id, l.body, l.ends_at"
    };
}
/// How many [`look_up_columns!`] there are.
const LOOK_UP_COLUMNS: usize = 4;

/// The columns of [`session`], in its order.
macro_rules! session_columns {
    () => {
        "s.id, s.client, s.kind, s.created_at, s.active_at, s.generation, s.rotated_at, s.late_generation, s.ended_at, s.has_denied_tokens, s.metadata, s.parent, s.key, s.bound"
    };
}

pub(super) fn time(ms: i64) -> Timestamp {
    Timestamp::from_millis(ms)
}

pub(super) fn strange(column: usize, what: &'static str) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}

pub(super) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Box<str>> {
    Ok(row.get_ref(column)?.as_str()?.into())
}

pub(super) fn optional_text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Box<str>>> {
    Ok(row.get_ref(column)?.as_str_or_null()?.map(Into::into))
}

/// Reads a user whose columns begin at `c`.
fn user(row: &Row<'_>, c: usize, id: UserId) -> rusqlite::Result<User> {
    let created_at = time(row.get(c + 1)?);
    Ok(User {
        id,
        client: ClientNo(row.get(c)?),
        created_at,
        data: text(row, c + 2)?,
        entry: optional_text(row, c + 3)?,
        kind: Kind::from_number(row.get(c + 4)?).ok_or_else(|| strange(c + 4, "kind of user"))?,
        version: row.get(c + 5)?,
        epoch: row.get(c + 6)?,
        updated_at: row.get::<_, Option<i64>>(c + 7)?.map_or(created_at, time),
        server_data: optional_text(row, c + 8)?,
        chosen_id: optional_text(row, c + 9)?,
        chosen_by: row.get::<_, Option<i32>>(c + 10)?.map(ClientNo),
        held: row.get::<_, Option<bool>>(c + 11)?.unwrap_or_default(),
        converted_at: row.get::<_, Option<i64>>(c + 12)?.map(time),
        merged_into: row.get::<_, Option<[u8; 16]>>(c + 13)?.map(UserId::from_bytes),
        frozen: row.get::<_, Option<bool>>(c + 14)?.unwrap_or_default(),
    })
}

/// Reads a session whose columns begin at `c`.
fn session(row: &Row<'_>, c: usize) -> rusqlite::Result<Session> {
    let created_at = time(row.get(c + 3)?);
    Ok(Session {
        id: SessionId::from_bytes(row.get(c)?),
        client: ClientNo(row.get(c + 1)?),
        kind: SessionKind::from_number(row.get(c + 2)?).ok_or_else(|| strange(c + 2, "kind of session"))?,
        created_at,
        active_at: row.get::<_, Option<i64>>(c + 4)?.map_or(created_at, time),
        generation: row.get(c + 5)?,
        rotated_at: row.get::<_, Option<i64>>(c + 6)?.map(time),
        late_generation: row.get(c + 7)?,
        ended_at: row.get::<_, Option<i64>>(c + 8)?.map(time),
        has_denied_tokens: row.get(c + 9)?,
        metadata: optional_text(row, c + 10)?,
        parent: row.get::<_, Option<[u8; 16]>>(c + 11)?.map(SessionId::from_bytes),
        key: row.get(c + 12)?,
        bound: row.get::<_, Option<bool>>(c + 13)?.unwrap_or_default(),
    })
}

/// A session's row.
pub(super) fn read_session(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    id: SessionId,
) -> rusqlite::Result<Option<Session>> {
    db.prepare_cached(concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions s WHERE s.tenant=?1 AND s.user_id=?2 AND s.id=?3"
    ))?
    .query_row((tenant.0, user.as_bytes(), id.as_bytes()), |row| session(row, 0))
    .optional()
}

/// All marks under a user's key.
fn read_marks(db: &Connection, tenant: TenantNo, user: UserId) -> rusqlite::Result<Vec<Mark>> {
    db.prepare_cached("SELECT id, ends_at FROM marks WHERE tenant=?1 AND user_id=?2")?
        .query_map((tenant.0, user.as_bytes()), |row| Ok(Mark { id: row.get(0)?, ends_at: time(row.get(1)?) }))?
        .collect()
}

/// Adds what a row of user and session says, whose columns begin at `c`; the user's client tells whether there is one.
fn add(found: &mut Standing, row: &Row<'_>, c: usize, id: UserId) -> rusqlite::Result<()> {
    if found.user.is_none() && row.get_ref(c)? != ValueRef::Null {
        found.user = Some(user(row, c, id)?);
    }
    if row.get_ref(c + USER_COLUMNS)? != ValueRef::Null {
        found.sessions.push(session(row, c + USER_COLUMNS)?);
    }
    Ok(())
}

/// What a mark or an older session adds is read after user and sessions: whatever was committed in between can only add
/// a refusal, or a row that the caller could not have seen yet.
fn complete(
    db: &Connection,
    tenant: TenantNo,
    id: UserId,
    asked: SessionId,
    mut found: Standing,
) -> rusqlite::Result<Standing> {
    if found.sessions.len() == SESSIONS && found.session(asked).is_none() {
        found.sessions.extend(read_session(db, tenant, id, asked)?);
    }
    if found.session(asked).is_none_or(|s| s.has_denied_tokens) {
        found.marks = read_marks(db, tenant, id)?;
    }
    Ok(found)
}

/// User and sessions by one statement, which is one snapshot.
pub(super) fn standing(db: &Connection, tenant: TenantNo, id: UserId, asked: SessionId) -> rusqlite::Result<Standing> {
    let mut found = Standing::default();
    {
        let mut statement = db.prepare_cached(concat!(
            "SELECT ",
            user_columns!(),
            ", ",
            session_columns!(),
            " FROM users u LEFT JOIN sessions s ON s.tenant=?1 AND s.user_id=?2 WHERE u.tenant=?1 AND u.user_id=?2",
            " ORDER BY s.id DESC LIMIT 100"
        ))?;
        let mut rows = statement.query((tenant.0, id.as_bytes()))?;
        while let Some(row) = rows.next()? {
            add(&mut found, row, 0, id)?;
        }
    }
    complete(db, tenant, id, asked, found)
}

/// Look-up, user and sessions by one statement, as [`standing`].
pub(super) fn found(
    db: &Connection,
    tenant: TenantNo,
    kind: LookUpKind,
    hash: &[u8; 32],
) -> rusqlite::Result<Option<Found>> {
    let (mut look_up, mut found) = (None, Standing::default());
    {
        let mut statement = db.prepare_cached(concat!(
            "SELECT ",
            look_up_columns!(),
            ", ",
            user_columns!(),
            ", ",
            session_columns!(),
            " FROM look_ups l LEFT JOIN users u ON u.tenant=?1 AND u.user_id=l.user_id",
            " LEFT JOIN sessions s ON s.tenant=?1 AND s.user_id=u.user_id",
            " WHERE l.tenant=?1 AND l.kind=?2 AND l.hash=?3 ORDER BY s.id DESC LIMIT 100"
        ))?;
        let mut rows = statement.query((tenant.0, kind.number(), hash))?;
        while let Some(row) = rows.next()? {
            let id = match &look_up {
                Some(LookUp { user, .. }) => *user,
                None => look_up.insert(look_up_row(row, kind, hash)?).user,
            };
            add(&mut found, row, LOOK_UP_COLUMNS, id)?;
        }
    }
    let Some(look_up) = look_up else { return Ok(None) };
    let standing = complete(db, tenant, look_up.user, look_up.session, found)?;
    Ok(Some(Found { look_up, standing }))
}

/// Users with their sessions, by descending id.
pub(super) fn users(
    db: &Connection,
    tenant: TenantNo,
    before: Option<UserId>,
    limit: u32,
) -> rusqlite::Result<Vec<Standing>> {
    // no id is behind this one, and ids of sixteen bytes do not reach it
    let before: &[u8] = before.as_ref().map_or(&[0xff; 17], |id| id.as_bytes());
    let mut users = db.prepare_cached(concat!(
        "SELECT ",
        user_columns!(),
        ", u.user_id FROM users u WHERE u.tenant=?1 AND u.user_id < ?2 ORDER BY u.user_id DESC LIMIT ?3"
    ))?;
    let mut sessions = db.prepare_cached(concat!(
        "SELECT ",
        session_columns!(),
        " FROM sessions s WHERE s.tenant=?1 AND s.user_id=?2 ORDER BY s.id DESC LIMIT 100"
    ))?;
    let users =
        users.query_map((tenant.0, before, limit), |row| user(row, 0, UserId::from_bytes(row.get(USER_COLUMNS)?)))?;
    users
        .map(|user| {
            let user = user?;
            let rows = sessions.query_map((tenant.0, user.id.as_bytes()), |row| session(row, 0))?;
            Ok(Standing { sessions: rows.collect::<Result<_, _>>()?, user: Some(user), marks: Vec::new() })
        })
        .collect()
}

/// What is marked under a user's key.
pub(super) struct Marked {
    /// The user, or the session that was asked for.
    pub(super) this: bool,
    /// Something else: another session, or a token.
    pub(super) other: bool,
}

/// Asks the marks of a user at `now`.
pub(super) fn marked(
    db: &Connection,
    tenant: TenantNo,
    user: UserId,
    session: SessionId,
    now: Timestamp,
) -> rusqlite::Result<Marked> {
    db.prepare_cached(
        "SELECT coalesce(max(id IN (?3, zeroblob(16))), 0), coalesce(max(id NOT IN (?3, zeroblob(16))), 0)
         FROM marks WHERE tenant=?1 AND user_id=?2 AND ends_at > ?4",
    )?
    .query_row((tenant.0, user.as_bytes(), session.as_bytes(), now.millis()), |row| {
        Ok(Marked { this: row.get(0)?, other: row.get(1)? })
    })
}

fn look_up_row(row: &Row<'_>, kind: LookUpKind, hash: &[u8; 32]) -> rusqlite::Result<LookUp> {
    Ok(LookUp {
        kind,
        hash: *hash,
        user: UserId::from_bytes(row.get(0)?),
        session: SessionId::from_bytes(row.get(1)?),
        body: row.get(2)?,
        ends_at: time(row.get(3)?),
    })
}

/// A look-up row, dead or alive.
pub(super) fn look_up(
    db: &Connection,
    tenant: TenantNo,
    kind: LookUpKind,
    hash: &[u8; 32],
) -> rusqlite::Result<Option<LookUp>> {
    db.prepare_cached(concat!(
        "SELECT ",
        look_up_columns!(),
        " FROM look_ups l WHERE l.tenant=?1 AND l.kind=?2 AND l.hash=?3"
    ))?
    .query_row((tenant.0, kind.number(), hash), |row| look_up_row(row, kind, hash))
    .optional()
}

/// All signing keys, of all tenants.
pub(super) fn signing_keys(db: &Connection) -> rusqlite::Result<Vec<SigningKeyRow>> {
    db.prepare_cached(
        "SELECT tenant, purpose, algorithm, name, generation, kid, created_at, activates_at, sealed
         FROM signing_keys ORDER BY tenant, purpose, algorithm, name, generation",
    )?
    .query_map([], |row| {
        Ok(SigningKeyRow {
            tenant: TenantNo(row.get(0)?),
            purpose: KeyPurpose::from_number(row.get(1)?).ok_or_else(|| strange(1, "purpose of key"))?,
            algorithm: text(row, 2)?,
            name: text(row, 3)?,
            generation: row.get(4)?,
            kid: text(row, 5)?,
            created_at: time(row.get(6)?),
            activates_at: time(row.get(7)?),
            sealed: row.get(8)?,
        })
    })?
    .collect()
}

/// A value of the store itself.
pub(super) fn meta(db: &Connection, name: &str) -> rusqlite::Result<Option<Vec<u8>>> {
    db.prepare_cached("SELECT value FROM meta WHERE name=?1")?.query_row([name], |row| row.get(0)).optional()
}

/// The number of a tenant.
pub(super) fn tenant_no(db: &Connection, id: &[u8; 16]) -> rusqlite::Result<Option<i32>> {
    db.prepare_cached("SELECT no FROM tenants WHERE id=?1")?.query_row([id], |row| row.get(0)).optional()
}

/// The number of a client.
pub(super) fn client_no(db: &Connection, tenant: TenantNo, client_id: &str) -> rusqlite::Result<Option<i32>> {
    db.prepare_cached("SELECT no FROM clients WHERE tenant=?1 AND client_id=?2")?
        .query_row((tenant.0, client_id), |row| row.get(0))
        .optional()
}
