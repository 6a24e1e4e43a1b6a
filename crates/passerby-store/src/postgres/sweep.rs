//! Removing what has ended.

use futures_util::future::{try_join, try_join_all};
use passerby_core::{Timestamp, port::Committed};
use tokio_postgres::{
    Column, Error, Row,
    types::{FromSql, ToSql, Type},
};
use uuid::Uuid;

use super::{
    acts::{Done, Scene},
    inserts::{self, Sent},
    rows::Param,
};

/// Spent proofs come with each request and go within minutes: so many times as many rows are removed at once.
const MORE_PROOFS: i64 = 20;

/// Keys are found by the index on their ends, then removed by key: two plans that stay good whatever the tables' sizes.
/// A row that was renewed in between stays, since its end is asked again. The order is that of locks.
const TABLES: [(&str, &str); 8] = [
    (
        "SELECT tenant, user_id, hash FROM operation_keys WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
        "DELETE FROM operation_keys o USING unnest($1::int4[], $2::uuid[], $3::bytea[]) AS k(tenant, user_id, hash)
         WHERE o.tenant=k.tenant AND o.user_id=k.user_id AND o.hash=k.hash AND o.ends_at <= $4",
    ),
    (
        "SELECT tenant, user_id, kind, id FROM items WHERE ends_at <= $1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT $2",
        "DELETE FROM items i USING unnest($1::int4[], $2::uuid[], $3::int2[], $4::bytea[]) AS k(tenant, user_id, kind, id)
         WHERE i.tenant=k.tenant AND i.user_id=k.user_id AND i.kind=k.kind AND i.id=k.id AND i.ends_at <= $5",
    ),
    (
        "SELECT tenant, kind, hash FROM look_ups WHERE ends_at <= $1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT $2",
        "DELETE FROM look_ups l USING unnest($1::int4[], $2::int2[], $3::bytea[]) AS k(tenant, kind, hash)
         WHERE l.tenant=k.tenant AND l.kind=k.kind AND l.hash=k.hash AND l.ends_at <= $4",
    ),
    (
        "SELECT tenant, kind, id FROM records WHERE ends_at <= $1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT $2",
        "DELETE FROM records r USING unnest($1::int4[], $2::int2[], $3::bytea[]) AS k(tenant, kind, id)
         WHERE r.tenant=k.tenant AND r.kind=k.kind AND r.id=k.id AND r.ends_at <= $4",
    ),
    (
        "SELECT tenant, user_id, id FROM marks WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
        "DELETE FROM marks m USING unnest($1::int4[], $2::uuid[], $3::uuid[]) AS k(tenant, user_id, id)
         WHERE m.tenant=k.tenant AND m.user_id=k.user_id AND m.id=k.id AND m.ends_at <= $4",
    ),
    (
        "SELECT tenant, at, user_id FROM epochs WHERE at < $1 ORDER BY at LIMIT $2",
        "DELETE FROM epochs e USING unnest($1::int4[], $2::int8[], $3::uuid[]) AS k(tenant, at, user_id)
         WHERE e.tenant=k.tenant AND e.at=k.at AND e.user_id=k.user_id AND e.at < $4",
    ),
    (
        "SELECT tenant, user_id, seq FROM outbox WHERE ends_at <= $1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT $2",
        "DELETE FROM outbox o USING unnest($1::int4[], $2::uuid[], $3::int8[]) AS k(tenant, user_id, seq)
         WHERE o.tenant=k.tenant AND o.user_id=k.user_id AND o.seq=k.seq AND o.ends_at <= $4",
    ),
    (
        "SELECT tenant, hash FROM spent_proofs WHERE ends_at <= $1 ORDER BY ends_at LIMIT $2",
        "DELETE FROM spent_proofs s USING unnest($1::int4[], $2::bytea[]) AS k(tenant, hash)
         WHERE s.tenant=k.tenant AND s.hash=k.hash AND s.ends_at <= $3",
    ),
];

/// The keys by columns, as the statement that removes them takes them.
fn columns(rows: &[Row]) -> Result<Vec<Box<dyn ToSql + Sync + Send>>, Error> {
    fn column<T: for<'a> FromSql<'a>>(rows: &[Row], n: usize) -> Result<Vec<T>, Error> {
        rows.iter().map(|row| row.try_get(n)).collect()
    }
    let all = rows.first().map_or(&[][..], Row::columns);
    let boxed = |(n, c): (usize, &Column)| -> Result<Box<dyn ToSql + Sync + Send>, Error> {
        Ok(match *c.type_() {
            Type::INT2 => Box::new(column::<i16>(rows, n)?),
            Type::INT4 => Box::new(column::<i32>(rows, n)?),
            Type::INT8 => Box::new(column::<i64>(rows, n)?),
            Type::UUID => Box::new(column::<Uuid>(rows, n)?),
            _ => Box::new(column::<Vec<u8>>(rows, n)?),
        })
    };
    all.iter().enumerate().map(boxed).collect()
}

/// Two round trips.
pub(super) async fn sweep(scene: Scene<'_>, limit: u32, epochs_before: Timestamp) -> Done {
    let Scene { db, at, begun, .. } = scene;
    let (find, remove) =
        try_join(scene.prepare(TABLES.map(|(find, _)| find)), scene.prepare(TABLES.map(|(_, remove)| remove))).await?;
    let limit = i64::from(limit);
    let bounds = [at, at, at, at, at, epochs_before, at, at].map(Timestamp::millis);
    let limits = [limit, limit, limit, limit, limit, limit, limit, limit.saturating_mul(MORE_PROOFS)];
    let asking = find
        .iter()
        .zip(bounds.iter().zip(&limits))
        .map(|(find, (bound, limit))| async move { db.query(find, &[bound, limit]).await });
    let ((), found) = try_join(inserts::begin(db, begun), try_join_all(asking)).await?;
    let keys = found.iter().map(|rows| columns(rows)).collect::<Result<Vec<_>, _>>()?;
    let mut sent: Vec<Sent<'_>> = Vec::new();
    for ((remove, keys), bound) in remove.iter().zip(&keys).zip(&bounds) {
        if !keys.is_empty() {
            sent.push(Box::pin(async move {
                let mut params: Vec<Param<'_>> = keys.iter().map(|column| &**column as Param<'_>).collect();
                params.push(bound);
                db.execute(remove, &params).await
            }));
        }
    }
    let (swept, ()) = try_join(try_join_all(sent), scene.finish(true)).await?;
    Ok(Committed::Swept(swept.iter().sum()))
}
