//! Databases that an earlier version wrote.

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, UserId},
    model::{Kind, LookUpKind, Mark, RecordKind, Target, USER_MARK, User},
    port::{Act, Change, Committed, Turn, UserWrite},
};
use passerby_store::{OpenOptions, open};
use uuid::Uuid;

use crate::{
    support::{Harness, at, earlier_version, out_row, word},
    turns::{device_key, found_by, put},
};

/// Rows as the first version wrote them: a plain guest, an elaborate one, and what had ended.
const SQLITE: &str = r#"
    INSERT INTO tenants(no, id) VALUES(1, x'00000000000000000000000000000001');
    INSERT INTO clients(no, tenant, client_id) VALUES(1, 1, 'spa'), (2, 1, 'app');
    INSERT INTO users(tenant, user_id, client, created_at, data) VALUES(1, x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 1, 1790000000000, '{"a":1}');
    INSERT INTO sessions(tenant, user_id, id, client, kind, created_at)
      VALUES(1, x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', x'01010101010101010101010101010101', 1, 0, 1790000000000);
    INSERT INTO users(tenant, user_id, client, created_at, version, epoch, kind, data, entry, updated_at, chosen_by, chosen_id, server_data)
      VALUES(1, x'0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', 2, 1790000000000, 7, 3, 1, '{}', 'shop', 1790000000005, 2, 'Käthe', '{"s":1}');
    INSERT INTO sessions(tenant, user_id, id, client, kind, created_at, generation, has_denied_tokens, active_at, metadata)
      VALUES(1, x'0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b', x'02020202020202020202020202020202', 2, 1, 1790000000000, 4, 1, 1790000000009, '{"m":1}');
    INSERT INTO marks VALUES(1, x'0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c0c', x'00000000000000000000000000000000', 1790000009000);
    INSERT INTO look_ups(tenant, kind, hash, user_id, session_id, body, ends_at)
      VALUES(1, 1, x'1111111111111111111111111111111111111111111111111111111111111111', x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a',
        x'01010101010101010101010101010101', x'2222222222222222222222222222222222222222222222222222222222222222', 1790000009000),
      (1, 1, x'3333333333333333333333333333333333333333333333333333333333333333', x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a',
        x'01010101010101010101010101010101', x'2222222222222222222222222222222222222222222222222222222222222222', 1790000000000);
"#;

/// The same in the other engine's spelling of bytes.
fn postgres(sqlite: &str) -> String {
    let mut parts = sqlite.split("x'");
    let first = parts.next().map(str::to_owned);
    let bytes = parts.map(|part| {
        let (hex, rest) = part.split_once('\'').unwrap();
        if hex.len() == 32 { format!("'{hex}'::uuid{rest}") } else { format!("'\\x{hex}'::bytea{rest}") }
    });
    let out: String = first.into_iter().chain(bytes).collect();
    out.replace("4, 1, 1790000000009", "4, true, 1790000000009")
}

pub(crate) async fn a_database_of_the_first_version_goes_on(h: &Harness) {
    let (url, _place) = h.sibling().await;
    earlier_version(1, &url, SQLITE, &postgres(SQLITE)).await;
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    let tenant = store.number_tenant(Uuid::from_u128(1)).await.unwrap();
    assert_eq!(store.number_client(tenant, "app").await.unwrap(), ClientNo(2));
    let (plain, elaborate) = (UserId::from_bytes([10; 16]), UserId::from_bytes([11; 16]));
    let (first, second) = (SessionId::from_bytes([1; 16]), SessionId::from_bytes([2; 16]));

    let found = store.standing(tenant, plain, first).await.unwrap();
    let user = found.user.clone().unwrap();
    assert_eq!((&*user.data, user.version, user.epoch, user.held), ("{\"a\":1}", 1, 0, false));
    assert_eq!((user.kind, user.updated_at), (Kind::Anonymous, at(0)));
    let session = found.session(first).unwrap();
    assert_eq!((session.key, session.bound, session.created_at), (None, false, at(0)));
    let found = store.standing(tenant, elaborate, second).await.unwrap();
    let user = found.user.clone().unwrap();
    assert_eq!((user.version, user.epoch, user.chosen_id.as_deref(), user.held), (7, 3, Some("Käthe"), false));
    assert_eq!((user.server_data.as_deref(), user.entry.as_deref()), (Some("{\"s\":1}"), Some("shop")));
    let session = found.session(second).unwrap();
    assert_eq!((session.generation, session.has_denied_tokens, session.key), (4, true, None));
    assert_eq!((session.active_at, session.metadata.as_deref()), (at(9), Some("{\"m\":1}")));
    let marks = store.standing(tenant, UserId::from_bytes([12; 16]), first).await.unwrap().marks;
    assert_eq!(marks, [Mark { id: USER_MARK, ends_at: at(9000) }]);
    let by_key = store.found(tenant, LookUpKind::Creation, [0x11; 32]).await.unwrap().unwrap();
    assert_eq!((by_key.look_up.user, by_key.look_up.body), (plain, [0x22; 32]));
    assert!(store.api_keys(tenant).await.unwrap().is_empty());

    // everything new can be done to them
    let commit = async |act| store.commit(tenant, Change { at: at(5), keep: None, act, out: Vec::new() }).await;
    let mut turn = Turn::of(elaborate, 3);
    turn.by = Some(second);
    turn.raise = true;
    turn.bind = Some((second, Some([1; 32]), true));
    turn.items = vec![put(device_key(1), None)];
    turn.look_ups = vec![found_by(&device_key(1), elaborate, second)];
    assert_eq!(commit(Act::Turn(Box::new(turn))).await.unwrap(), Committed::Done);
    let by_key = store.found(tenant, LookUpKind::DeviceKey, [1; 32]).await.unwrap().unwrap();
    assert_eq!(by_key.standing.user.unwrap().epoch, 4);
    assert_eq!(by_key.standing.sessions[0].bound_to(), Some(&[1; 32]));
    assert_eq!(store.epochs(Timestamp::default(), 9).await.unwrap()[0].chosen_id.as_deref(), Some("Käthe"));
    // what had ended is still found by its end
    let swept = commit(Act::Sweep { limit: 10, epochs_before: at(-1) }).await.unwrap();
    assert_eq!(swept, Committed::Swept(1));
    store.close().await;
    // and a second start changes nothing
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    assert!(store.standing(tenant, plain, first).await.unwrap().session(first).is_some());
    store.close().await;
}

/// Rows of the second version: a held guest with a device key, and the bound session that it opened.
const SECOND: &str = r#"
    INSERT INTO tenants(no, id) VALUES(1, x'00000000000000000000000000000001');
    INSERT INTO clients(no, tenant, client_id) VALUES(1, 1, 'spa');
    INSERT INTO users(tenant, user_id, client, created_at, data, held) VALUES(1, x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 1, 1790000000000, '{"a":1}', TRUE);
    INSERT INTO sessions(tenant, user_id, id, client, kind, created_at, key, bound)
      VALUES(1, x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', x'01010101010101010101010101010101', 1, 0, 1790000000000,
        x'0101010101010101010101010101010101010101010101010101010101010101', TRUE);
    INSERT INTO items(tenant, user_id, kind, id, revision, ends_at, body)
      VALUES(1, x'0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a0a', 1, x'0101010101010101010101010101010101010101010101010101010101010101',
        1, 253402207200000, '{"item":1}');
"#;

pub(crate) async fn a_database_of_the_second_version_goes_on(h: &Harness) {
    let (url, _place) = h.sibling().await;
    earlier_version(2, &url, SECOND, &postgres(SECOND)).await;
    let store = open(&url, &OpenOptions::default()).await.unwrap();
    let tenant = store.number_tenant(Uuid::from_u128(1)).await.unwrap();
    let (user, session) = (UserId::from_bytes([10; 16]), SessionId::from_bytes([1; 16]));
    let found = store.standing(tenant, user, session).await.unwrap();
    let expected = User { held: true, data: "{\"a\":1}".into(), ..User::guest(user, ClientNo(1), at(0)) };
    assert_eq!(found.user.as_ref(), Some(&expected));
    assert_eq!(found.session(session).unwrap().bound_to(), Some(&[1; 32]));
    assert_eq!(store.items(tenant, user, None).await.unwrap(), [device_key(1)]);
    assert!(store.records(tenant, RecordKind::Template).await.unwrap().is_empty());
    // it becomes an account, and that is told
    let convert = UserWrite { kind: Kind::Regular, converted_at: Some(at(5)), ..crate::accounts::write() };
    let act = Act::Turn(Box::new(Turn { write: Some(convert), raise: true, ..Turn::of(user, 0) }));
    let change = Change { at: at(5), keep: None, act, out: vec![out_row(user, 1)] };
    assert_eq!(word(&store.commit(tenant, change).await), "Done");
    let found = store.standing(tenant, user, session).await.unwrap().user;
    assert_eq!(found, Some(User { kind: Kind::Regular, converted_at: Some(at(5)), epoch: 1, ..expected }));
    assert_eq!(store.outbox_due(at(5), Target::Mail, 9).await.unwrap().len(), 1);
    store.close().await;
}

pub(crate) async fn a_plain_guest_is_written_as_before(h: &Harness) {
    let t = h.tenant(1).await;
    t.stored().await;
    for (table, columns) in
        [("users", &["held", "converted_at", "merged_into", "frozen"][..]), ("sessions", &["key", "bound"])]
    {
        for column in columns {
            assert_eq!(h.count(&format!("SELECT count(*) FROM {table} WHERE {column} IS NOT NULL")).await, 0);
        }
        assert_eq!(h.count(&format!("SELECT count(*) FROM {table}")).await, 1);
    }
    for table in ["items", "look_ups", "epochs", "records", "outbox"] {
        assert_eq!(h.count(&format!("SELECT count(*) FROM {table}")).await, 0);
    }
}
