//! Storing a floating guest before an act; see [`Change::keep`](passerby_core::port::Change::keep).

use deadpool_postgres::ClientWrapper;
use futures_util::future::{try_join, try_join3};
use passerby_core::{
    id::{SessionId, UserId},
    model::NewGuest,
    port::CommitError,
};
use tokio_postgres::{Error, Statement};
use uuid::Uuid;

use super::{acts::Scene, error::Refused, inserts};

/// Others may store and erase the same guest meanwhile; more often than this it is decided again above.
const TRIES: usize = 5;

/// Whether the user (`$4`) or the session (`$3`) is marked at `$5`, and whether anything else is.
pub(super) const MARKED: &str =
    "SELECT count(*) FILTER (WHERE id IN ($3, $4)) > 0, count(*) FILTER (WHERE id NOT IN ($3, $4)) > 0
    FROM marks WHERE tenant=$1 AND user_id=$2 AND ends_at > $5";

const STORED: &str = "SELECT u.chosen_by, s.id IS NOT NULL, s.ended_at IS NOT NULL
    FROM users u LEFT JOIN sessions s ON s.tenant=$1 AND s.user_id=$2 AND s.id=$3 WHERE u.tenant=$1 AND u.user_id=$2";

/// What is marked under a user's key.
pub(super) struct Marked {
    /// The user or the session.
    pub(super) this: bool,
    /// Something else: another session, or a token.
    pub(super) other: bool,
}

/// Runs [`MARKED`].
pub(super) async fn marked(
    scene: Scene<'_>,
    sql: &Statement,
    user: UserId,
    session: SessionId,
) -> Result<Marked, Error> {
    let (user, session) = (user.uuid(), session.uuid());
    let row = scene.db.query_one(sql, &[&scene.tenant.0, &user, &session, &Uuid::nil(), &scene.at.millis()]).await?;
    Ok(Marked { this: row.try_get(0)?, other: row.try_get(1)? })
}

/// Begins a transaction, unless one was begun, in which the guest is stored. A guest that is there already costs one round trip.
pub(super) async fn keep(scene: Scene<'_>, guest: &NewGuest) -> Result<(), Refused> {
    let Scene { db, tenant, begun, .. } = scene;
    let NewGuest { user, session, .. } = guest;
    let (user_id, session_id) = (user.id.uuid(), session.id.uuid());
    let [insert_user, insert_session, stored, marks] =
        scene.prepare([inserts::USER_UNLESS_THERE, inserts::SESSION_UNLESS_THERE, STORED, MARKED]).await?;
    for attempt in 0..TRIES {
        let ((), made, row) = try_join3(
            inserts::begin(db, begun || attempt > 0),
            inserts::user(db, &insert_user, tenant, user),
            db.query_opt(&stored, &[&tenant.0, &user_id, &session_id]),
        )
        .await?;
        // erased between the two statements
        let Some(row) = row else { continue };
        let (chosen_by, there, ended): (Option<i32>, bool, bool) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        if there {
            return if ended { Err(CommitError::Gone.into()) } else { Ok(()) };
        }
        if made == 0 {
            let chosen = chosen_by == Some(session.client.0);
            if !chosen || !lock(db, scene, user_id).await? {
                let marked = marked(scene, &marks, user.id, session.id).await?.this;
                return Err(if marked { CommitError::Marked } else { CommitError::Gone }.into());
            }
        }
        let session = &if made == 0 { guest.further_session() } else { session.clone() };
        // the row first, then the marks: whoever ends this session meets us on its key
        let (new, marked) = try_join(
            inserts::session(db, &insert_session, tenant, user.id, session),
            marked(scene, &marks, user.id, session.id),
        )
        .await?;
        if marked.this {
            return Err(CommitError::Marked.into());
        }
        if new == 0 {
            // another call stored this very session meanwhile
            continue;
        }
        if marked.other && !session.has_denied_tokens {
            // a token of this session may have been refused while it was floating
            let sql = "UPDATE sessions SET has_denied_tokens=true WHERE tenant=$1 AND user_id=$2 AND id=$3";
            let sql = db.prepare_cached(sql).await?;
            db.execute(&sql, &[&tenant.0, &user_id, &session_id]).await?;
        }
        return Ok(());
    }
    Err(CommitError::Moved.into())
}

/// Locks a user's row against being erased. Whether it is there.
async fn lock(db: &ClientWrapper, scene: Scene<'_>, user: Uuid) -> Result<bool, Refused> {
    let sql = db.prepare_cached("SELECT 1 FROM users WHERE tenant=$1 AND user_id=$2 FOR UPDATE").await?;
    Ok(db.query_opt(&sql, &[&scene.tenant.0, &user]).await?.is_some())
}
