//! The SQLite engine: one writer thread that commits groups, and reads by key on the asking thread.

mod acts;
mod creations;
mod error;
mod fold;
mod lists;
mod manage;
mod migrate;
mod outbox;
mod queue;
mod reader;
mod records;
mod rows;
mod spent;
mod sweep;
mod turns;
mod writer;

use std::{
    future::ready,
    path::PathBuf,
    sync::{Arc, mpsc},
    time::Duration,
};

use passerby_core::{
    Timestamp,
    id::{ClientNo, SessionId, TenantNo, UserId},
    model::{
        ApiKeyRow, EpochRow, Item, ItemKind, KeptRow, LookUp, LookUpKind, Record, RecordKind, SigningKeyRow, Standing,
        Target,
    },
    port::{Change, CommitError, Committed, Found, OutQuery, Store, StoreError, Wait},
};
use tokio::{
    sync::{mpsc as signal, watch},
    task::spawn_blocking,
    time::{Instant, sleep},
};
use uuid::Uuid;

use self::{
    error::closed,
    migrate::{Attempt, BUSY},
    queue::{Queue, Work},
    reader::Readers,
    spent::Spent,
};
use crate::{
    open::{OpenError, OpenOptions},
    plan::{EPOCHS, raises_an_epoch},
};

/// Between two attempts to open a file that another process is just making.
const AGAIN: Duration = Duration::from_millis(20);

struct Sqlite {
    queue: Arc<Queue>,
    readers: Readers,
    spent: Spent,
    /// Its other end is dropped when the writer has ended.
    running: watch::Receiver<()>,
}

/// Opens a file; see [`crate::open`].
pub(crate) async fn open(path: PathBuf, options: &OpenOptions) -> Result<Arc<dyn Store>, OpenError> {
    // reads of other threads must find the same file wherever the process goes
    let path =
        std::path::absolute(&path).map_err(|e| OpenError::Unwritable { path: path.clone(), reason: e.to_string() })?;
    let give_up = Instant::now() + BUSY;
    let db = loop {
        let (at, max_pages) = (path.clone(), options.max_pages);
        let attempt = spawn_blocking(move || migrate::writer(&at, max_pages))
            .await
            .map_err(|e| OpenError::Failed(e.to_string()))?;
        match attempt {
            Ok(db) => break db,
            // the switch to WAL does not wait for others by itself
            Err(Attempt::Busy) if Instant::now() < give_up => sleep(AGAIN).await,
            Err(Attempt::Busy) => return Err(OpenError::Locked(path.display().to_string())),
            Err(Attempt::Final(e)) => return Err(e),
        }
    };
    let folder = fold::Folder::start(&path).map_err(|e| OpenError::Failed(e.to_string()))?;
    let queue = Arc::new(Queue::default());
    let (to_writer, groups) = mpsc::channel();
    let (back, written) = signal::unbounded_channel();
    std::thread::Builder::new()
        .name("passerby-writer".into())
        .spawn(move || writer::run(db, folder, &groups, &back))
        .map_err(|e| OpenError::Failed(e.to_string()))?;
    let (end, running) = watch::channel(());
    let gathering = queue::gather(queue.clone(), options.close_groups, to_writer, written);
    tokio::spawn(async move {
        gathering.await;
        drop(end);
    });
    Ok(Arc::new(Sqlite { queue, readers: Readers::new(path), spent: Spent::default(), running }))
}

impl Drop for Sqlite {
    fn drop(&mut self) {
        // without it the gathering and the writer would outlive the last caller
        self.readers.close();
        self.queue.close();
    }
}

fn now<'a, T: Send + 'a>(answer: T) -> Wait<'a, T> {
    Box::pin(ready(answer))
}

/// What the numbering of a tenant or a client can answer.
fn as_store_error(e: CommitError) -> StoreError {
    match e {
        CommitError::Store(e) => e,
        other => StoreError::Bug(other.to_string()),
    }
}

impl Store for Sqlite {
    fn ready(&self) -> Wait<'_, Result<(), StoreError>> {
        if !self.queue.is_open() {
            return now(Err(closed()));
        }
        now(self.readers.read(|db| rows::meta(db, "")).map(drop))
    }

    fn number_tenant(&self, id: Uuid) -> Wait<'_, Result<TenantNo, StoreError>> {
        let read = move || self.readers.read(|db| rows::tenant_no(db, id.as_bytes()));
        match read() {
            Ok(None) => {}
            Ok(Some(no)) => return now(Ok(TenantNo(no))),
            Err(e) => return now(Err(e)),
        }
        let numbered = self.queue.submit(Work::Tenant(*id.as_bytes()));
        Box::pin(async move {
            numbered.await.map_err(as_store_error)?;
            read()?.map(TenantNo).ok_or_else(|| StoreError::Bug("a numbered tenant has no number".into()))
        })
    }

    fn number_client<'a>(&'a self, tenant: TenantNo, client_id: &'a str) -> Wait<'a, Result<ClientNo, StoreError>> {
        let read = move || self.readers.read(|db| rows::client_no(db, tenant, client_id));
        match read() {
            Ok(None) => {}
            Ok(Some(no)) => return now(Ok(ClientNo(no))),
            Err(e) => return now(Err(e)),
        }
        let numbered = self.queue.submit(Work::Client(tenant, client_id.into()));
        Box::pin(async move {
            numbered.await.map_err(as_store_error)?;
            read()?.map(ClientNo).ok_or_else(|| StoreError::Bug("a numbered client has no number".into()))
        })
    }

    fn standing(&self, tenant: TenantNo, user: UserId, session: SessionId) -> Wait<'_, Result<Standing, StoreError>> {
        now(self.readers.read(|db| rows::standing(db, tenant, user, session)))
    }

    fn look_up(
        &self,
        tenant: TenantNo,
        kind: LookUpKind,
        hash: [u8; 32],
    ) -> Wait<'_, Result<Option<LookUp>, StoreError>> {
        now(self.readers.read(|db| rows::look_up(db, tenant, kind, &hash)))
    }

    fn found(&self, tenant: TenantNo, kind: LookUpKind, hash: [u8; 32]) -> Wait<'_, Result<Option<Found>, StoreError>> {
        now(self.readers.read(|db| rows::found(db, tenant, kind, &hash)))
    }

    fn items(&self, tenant: TenantNo, user: UserId, kind: Option<ItemKind>) -> Wait<'_, Result<Vec<Item>, StoreError>> {
        now(self.readers.read(|db| lists::items(db, tenant, user, kind)))
    }

    fn users(
        &self,
        tenant: TenantNo,
        before: Option<UserId>,
        limit: u32,
    ) -> Wait<'_, Result<Vec<Standing>, StoreError>> {
        now(self.readers.read(|db| rows::users(db, tenant, before, limit)))
    }

    fn epochs(&self, from: Timestamp, limit: u32) -> Wait<'_, Result<Vec<EpochRow>, StoreError>> {
        now(self.readers.read(|db| lists::epochs(db, from, limit)))
    }

    fn spend(&self, tenant: TenantNo, proof: [u8; 32], ends_at: Timestamp) -> Wait<'_, Result<bool, StoreError>> {
        now(if self.queue.is_open() { self.spent.spend(tenant, proof, ends_at) } else { Err(closed()) })
    }

    fn shares_spent(&self) -> bool {
        false
    }

    fn api_key(&self, hash: [u8; 32]) -> Wait<'_, Result<Option<ApiKeyRow>, StoreError>> {
        now(self.readers.read(|db| lists::api_key(db, &hash)))
    }

    fn record(&self, tenant: TenantNo, kind: RecordKind, id: [u8; 32]) -> Wait<'_, Result<Option<Record>, StoreError>> {
        now(self.readers.read(|db| records::record(db, tenant, kind, &id)))
    }

    fn records(&self, tenant: TenantNo, kind: RecordKind) -> Wait<'_, Result<Vec<Record>, StoreError>> {
        now(self.readers.read(|db| records::records(db, tenant, kind)))
    }

    fn outbox_due(&self, at: Timestamp, target: Target, limit: u32) -> Wait<'_, Result<Vec<KeptRow>, StoreError>> {
        now(self.readers.read(|db| outbox::due(db, at, target, limit)))
    }

    fn outbox<'a>(&'a self, query: OutQuery<'a>) -> Wait<'a, Result<Vec<KeptRow>, StoreError>> {
        now(self.readers.read(|db| outbox::list(db, &query)))
    }

    fn api_keys(&self, tenant: TenantNo) -> Wait<'_, Result<Vec<ApiKeyRow>, StoreError>> {
        now(self.readers.read(|db| lists::api_keys(db, tenant)))
    }

    fn signing_keys(&self) -> Wait<'_, Result<Vec<SigningKeyRow>, StoreError>> {
        now(self.readers.read(rows::signing_keys))
    }

    fn meta(&self, name: &'static str) -> Wait<'_, Result<Option<Vec<u8>>, StoreError>> {
        now(self.readers.read(|db| rows::meta(db, name)))
    }

    fn commit(&self, tenant: TenantNo, change: Change) -> Wait<'static, Result<Committed, CommitError>> {
        let due = raises_an_epoch(&change).then(|| Instant::now() + EPOCHS);
        self.queue.submit(Work::Change(tenant, change, due))
    }

    fn close(&self) -> Wait<'_, ()> {
        // readers first: the last connection to close removes the log, and only the writer's can
        self.readers.close();
        self.queue.close();
        let mut running = self.running.clone();
        Box::pin(async move { while running.changed().await.is_ok() {} })
    }
}
