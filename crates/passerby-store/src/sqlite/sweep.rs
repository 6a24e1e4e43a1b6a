//! Removing what has ended.

use passerby_core::{Timestamp, port::Committed};
use rusqlite::{Connection, params_from_iter, types::Value};

use super::acts::Done;

/// Keys are found by the index on their ends, then removed one by one. (`DELETE … WHERE (…) IN (SELECT … LIMIT …)` is
/// planned as a search by the first columns of the key alone, which is a scan of a tenant.) The partial indexes are found
/// by their own conditions.
const TABLES: [(&str, &str); 7] = [
    (
        "SELECT tenant, user_id, hash FROM operation_keys WHERE ends_at <= ?1 ORDER BY ends_at LIMIT ?2",
        "DELETE FROM operation_keys WHERE tenant=?1 AND user_id=?2 AND hash=?3",
    ),
    (
        "SELECT tenant, user_id, kind, id FROM items WHERE ends_at <= ?1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT ?2",
        "DELETE FROM items WHERE tenant=?1 AND user_id=?2 AND kind=?3 AND id=?4",
    ),
    (
        "SELECT tenant, kind, hash FROM look_ups WHERE ends_at <= ?1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT ?2",
        "DELETE FROM look_ups WHERE tenant=?1 AND kind=?2 AND hash=?3",
    ),
    (
        "SELECT tenant, kind, id FROM records WHERE ends_at <= ?1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT ?2",
        "DELETE FROM records WHERE tenant=?1 AND kind=?2 AND id=?3",
    ),
    (
        "SELECT tenant, user_id, id FROM marks WHERE ends_at <= ?1 ORDER BY ends_at LIMIT ?2",
        "DELETE FROM marks WHERE tenant=?1 AND user_id=?2 AND id=?3",
    ),
    (
        "SELECT tenant, at, user_id FROM epochs WHERE at < ?1 ORDER BY at LIMIT ?2",
        "DELETE FROM epochs WHERE tenant=?1 AND at=?2 AND user_id=?3",
    ),
    (
        "SELECT tenant, user_id, seq FROM outbox WHERE ends_at <= ?1 AND ends_at < 253402207200000
         ORDER BY ends_at LIMIT ?2",
        "DELETE FROM outbox WHERE tenant=?1 AND user_id=?2 AND seq=?3",
    ),
];

/// At most `limit` rows of each table.
pub(super) fn sweep(db: &Connection, at: Timestamp, limit: u32, epochs_before: Timestamp) -> Done {
    let mut swept = 0;
    for ((find, remove), bound) in TABLES.iter().zip([at, at, at, at, at, epochs_before, at]) {
        let mut find = db.prepare_cached(find)?;
        let columns = find.column_count();
        let keys = find
            .query_map((bound.millis(), limit), |row| (0..columns).map(|n| row.get(n)).collect())?
            .collect::<Result<Vec<Vec<Value>>, _>>()?;
        let mut remove = db.prepare_cached(remove)?;
        for key in keys {
            swept += remove.execute(params_from_iter(key))?;
        }
    }
    Ok(Committed::Swept(swept as u64))
}
