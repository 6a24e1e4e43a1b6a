//! What a thief of the whole database has: every value of every column of every table, on both stores.

use std::collections::{BTreeMap, BTreeSet};

use passerby_jose::b64;

use crate::app::TestApp;

/// Proofs that were used are remembered for a minute; that is no effect.
const PASSING: &str = "spent_proofs";

/// All tables: the rows, each value as its bytes.
pub async fn tables(app: &TestApp) -> BTreeMap<String, Vec<Vec<Vec<u8>>>> {
    match app.database.strip_prefix("sqlite:") {
        Some(path) => of_sqlite(path),
        None => of_postgres(&app.database).await,
    }
}

fn of_sqlite(path: &str) -> BTreeMap<String, Vec<Vec<Vec<u8>>>> {
    use rusqlite::types::ValueRef;
    let db = rusqlite::Connection::open(path).unwrap();
    let mut names = db.prepare("select name from sqlite_master where type = 'table'").unwrap();
    let names: Vec<String> = names.query_map([], |r| r.get(0)).unwrap().map(Result::unwrap).collect();
    names
        .into_iter()
        .map(|name| {
            let mut statement = db.prepare(&format!("select * from \"{name}\"")).unwrap();
            let columns = statement.column_count();
            let mut rows = statement.query([]).unwrap();
            let mut all = Vec::new();
            while let Some(row) = rows.next().unwrap() {
                let value = |i| match row.get_ref(i).unwrap() {
                    ValueRef::Blob(b) | ValueRef::Text(b) => b.to_vec(),
                    ValueRef::Integer(n) => n.to_string().into_bytes(),
                    ValueRef::Real(n) => n.to_string().into_bytes(),
                    ValueRef::Null => Vec::new(),
                };
                all.push((0..columns).map(value).collect());
            }
            all.sort();
            (name, all)
        })
        .collect()
}

async fn of_postgres(url: &str) -> BTreeMap<String, Vec<Vec<Vec<u8>>>> {
    let (client, connection) = tokio_postgres::connect(url, tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    let sql = "select table_name::text, column_name::text, udt_name::text from information_schema.columns \
               where table_schema = 'public' order by table_name, ordinal_position";
    let mut tables: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in client.query(sql, &[]).await.unwrap() {
        let (column, kind): (String, String) = (row.get(1), row.get(2));
        let bytes = match &*kind {
            "bytea" => format!("\"{column}\""),
            "uuid" => format!("uuid_send(\"{column}\")"),
            _ => format!("convert_to(\"{column}\"::text, 'UTF8')"),
        };
        tables.entry(row.get(0)).or_default().push(bytes);
    }
    let mut all = BTreeMap::new();
    for (name, columns) in tables {
        let rows = client.query(&format!("select {} from \"{name}\"", columns.join(", ")), &[]).await.unwrap();
        let value = |row: &tokio_postgres::Row, i| row.get::<_, Option<Vec<u8>>>(i).unwrap_or_default();
        let mut rows: Vec<Vec<_>> =
            rows.iter().map(|row| (0..columns.len()).map(|i| value(row, i)).collect()).collect();
        rows.sort();
        all.insert(name, rows);
    }
    all
}

/// What is written, but for what passes: equal before and after means that nothing was done.
pub async fn written(app: &TestApp) -> BTreeMap<String, Vec<Vec<Vec<u8>>>> {
    let mut all = tables(app).await;
    all.remove(PASSING);
    all
}

/// A value's spellings: as it is, in hexadecimal digits, in base64url, as a UUID, and the texts in it that are JSON.
pub fn spellings(bytes: &[u8]) -> Vec<String> {
    let coded = b64::encode(bytes);
    let hex = bytes.iter().flat_map(|b| [b >> 4, b & 15]).filter_map(|n| char::from_digit(n.into(), 16)).collect();
    let mut all = vec![coded, hex];
    if let Ok(id) = uuid::Uuid::from_slice(bytes) {
        all.push(id.to_string());
    }
    if let Ok(text) = std::str::from_utf8(bytes) {
        all.push(text.to_owned());
        texts(serde_json::from_str(text).unwrap_or_default(), &mut all);
    }
    all
}

fn texts(value: serde_json::Value, all: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => all.push(text),
        serde_json::Value::Array(list) => list.into_iter().for_each(|v| texts(v, all)),
        serde_json::Value::Object(members) => members.into_iter().for_each(|(_, v)| texts(v, all)),
        _ => {}
    }
}

/// Everything that a thief could try.
pub async fn loot(app: &TestApp) -> BTreeSet<String> {
    let tables = tables(app).await;
    tables.values().flatten().flatten().flat_map(|bytes| spellings(bytes)).filter(|t| !t.is_empty()).collect()
}
