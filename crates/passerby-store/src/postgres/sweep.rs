//! Removing what has ended.

use futures_util::future::try_join4;
use passerby_core::port::Committed;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{
    acts::{Done, Scene},
    error::Refused,
    inserts,
};

/// A column of keys.
fn column<'a, T: tokio_postgres::types::FromSql<'a>>(rows: &'a [Row], n: usize) -> Result<Vec<T>, Refused> {
    Ok(rows.iter().map(|row| row.try_get(n)).collect::<Result<_, _>>()?)
}

/// Keys are found by the index on their ends, then removed by key: two plans that stay good whatever the tables' sizes.
/// A row that was renewed in between stays, since its end is asked again.
pub(super) async fn sweep(scene: Scene<'_>, limit: u32) -> Done {
    let Scene { db, at, begun, .. } = scene;
    let [marks, look_ups, keys] = scene
        .prepare([
            "SELECT tenant, user_id, id FROM marks WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
            "SELECT tenant, kind, hash FROM look_ups WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
            "SELECT tenant, user_id, hash FROM operation_keys WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
        ])
        .await?;
    let (at, limit) = (at.millis(), i64::from(limit));
    let ((), marks, look_ups, keys) = try_join4(
        inserts::begin(db, begun),
        db.query(&marks, &[&at, &limit]),
        db.query(&look_ups, &[&at, &limit]),
        db.query(&keys, &[&at, &limit]),
    )
    .await?;
    let [from_marks, from_look_ups, from_keys] = scene
        .prepare([
            "DELETE FROM marks m USING unnest($1::int4[], $2::uuid[], $3::uuid[]) AS k(tenant, user_id, id)
             WHERE m.tenant=k.tenant AND m.user_id=k.user_id AND m.id=k.id AND m.ends_at <= $4",
            "DELETE FROM look_ups l USING unnest($1::int4[], $2::int2[], $3::bytea[]) AS k(tenant, kind, hash)
             WHERE l.tenant=k.tenant AND l.kind=k.kind AND l.hash=k.hash AND l.ends_at <= $4",
            "DELETE FROM operation_keys o USING unnest($1::int4[], $2::uuid[], $3::bytea[]) AS k(tenant, user_id, hash)
             WHERE o.tenant=k.tenant AND o.user_id=k.user_id AND o.hash=k.hash AND o.ends_at <= $4",
        ])
        .await?;
    let (a, b, c, ()) = try_join4(
        db.execute(
            &from_marks,
            &[&column::<i32>(&marks, 0)?, &column::<Uuid>(&marks, 1)?, &column::<Uuid>(&marks, 2)?, &at],
        ),
        db.execute(
            &from_look_ups,
            &[&column::<i32>(&look_ups, 0)?, &column::<i16>(&look_ups, 1)?, &column::<&[u8]>(&look_ups, 2)?, &at],
        ),
        db.execute(
            &from_keys,
            &[&column::<i32>(&keys, 0)?, &column::<Uuid>(&keys, 1)?, &column::<&[u8]>(&keys, 2)?, &at],
        ),
        inserts::commit(db, true),
    )
    .await?;
    Ok(Committed::Swept(a + b + c))
}
