//! The operator's door.

use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use homing::admin::wire::{Client, Explained, KickAsk, ListAsk, Marked, Moved, PinAsk, Status, UserRow, Whereabouts};
use homing::admin::{self, Admin, Reload, Socket};
use homing::app::rules;
use homing::config::Changes;
use homing::model::{Incarnation, Key};
use homing::store::memory::Memory;
use homing::store::{BindingPage, BindingView, Census, Connection, Nudges, Order, Ordered, Store, StoreError};

use crate::parts::{Server, Site, config};

struct NoFile;

#[async_trait]
impl Reload for NoFile {
    async fn reload(&self) -> Result<Changes, String> {
        Err("first fault\nsecond fault".to_owned())
    }
}

pub(crate) fn door(site: &Site) -> Admin {
    Admin {
        fleet: site.proxy.fleet().clone(),
        services: site.proxy.services().clone(),
        health: site.proxy.health().clone(),
        began: Instant::now(),
        reload: Arc::new(NoFile),
        moves: site.proxy.moves().clone(),
        tools: site.proxy.tools(),
    }
}

/// A store that works for proxies, and does not answer operators once `hangs` is set.
struct Hanging {
    store: Memory,
    hangs: Arc<AtomicBool>,
}

#[async_trait]
impl Store for Hanging {
    async fn connect(&self, shard: u16) -> Result<Box<dyn Connection>, StoreError> {
        self.store.connect(shard).await
    }

    async fn order(&self, shard: u16, order: &Order) -> Result<Ordered, StoreError> {
        self.store.order(shard, order).await
    }

    async fn nudges(&self, shard: u16, incarnation: &Incarnation) -> Result<Box<dyn Nudges>, StoreError> {
        self.store.nudges(shard, incarnation).await
    }

    async fn bindings(&self, shard: u16, cursor: &str) -> Result<BindingPage, StoreError> {
        self.store.bindings(shard, cursor).await
    }

    async fn binding(&self, shard: u16, key: &Key) -> Result<Option<BindingView>, StoreError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.store.binding(shard, key).await
    }

    async fn census(&self, shard: u16) -> Result<Census, StoreError> {
        if self.hangs.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        self.store.census(shard).await
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn the_socket_is_its_owners_alone_and_goes_with_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("made/admin.sock");
    let site = Site::start().await;
    let door = admin::open(&path, door(&site)).await.unwrap();
    assert_eq!(mode(&path), 0o600);
    assert_eq!(std::fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "no hidden file is left");
    assert!(Client::new(&path).get::<Status>("/v1/status").await.is_ok());
    door.close();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_is_replaced_only_if_nobody_answers_and_a_file_never() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap()); // as a killed process leaves it
    let site = Site::start().await;
    let open = admin::open(&path, door(&site)).await.unwrap();
    let why = Socket::bind(&path, 0o600).await.err().unwrap();
    assert_eq!(why.to_string(), "another process listens there");
    // What was taken over since is left to its new owner.
    std::fs::remove_file(&path).unwrap();
    let other = std::os::unix::net::UnixListener::bind(&path).unwrap();
    open.close();
    assert!(std::fs::symlink_metadata(&path).unwrap().file_type().is_socket());
    drop(other);

    let file = directory.path().join("precious");
    std::fs::write(&file, "data").unwrap();
    assert!(Socket::bind(&file, 0o600).await.is_err());
    assert_eq!(std::fs::read(&file).unwrap(), b"data");
}

#[tokio::test]
async fn any_name_of_a_user_can_be_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let site = Site::start().await;
    let _open = admin::open(&path, door(&site)).await.unwrap();
    for (escaped, key) in [("Ann", "ann"), ("a%2Fb%25%20c%3F", "a/b% c?"), ("J%C3%9CRGEN", "jürgen"), ("..", "..")] {
        let answer: Whereabouts = Client::new(&path).get(&format!("/v1/users/{escaped}")).await.unwrap();
        assert_eq!(answer.key, key);
        assert!(answer.home.is_none());
    }
    let mut client = site.client().await;
    let _server = client.log_in("ann", &site.server).await;
    let answer: Whereabouts = Client::new(&path).get("/v1/users/ANN").await.unwrap();
    assert_eq!(answer.home.unwrap().backend, "home");
}

#[tokio::test]
async fn what_is_done_to_users_is_asked_for_and_answered_over_the_door() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let site = Site::start().await;
    let _open = admin::open(&path, door(&site)).await.unwrap();
    let client = Client::new(&path);
    let mut ann = site.client().await;
    let mut server = ann.log_in("ann", &site.server).await;
    let pinned: Marked = client.work("/v1/users/ANN/pin", &PinAsk { backend: "home".into(), go: true }).await.unwrap();
    assert_eq!((pinned.key.as_str(), pinned.holders[0].sessions, pinned.moved.is_some()), ("ann", 1, false));
    let kick = KickAsk { wait: true, confirm: false };
    let (kicked, _) = tokio::join!(client.work::<Moved>("/v1/users/ann/kick", &kick), async {
        server.expect_end().await;
        drop(server);
    });
    let kicked = kicked.unwrap();
    assert_eq!((kicked.end.as_str(), kicked.confirmed, kicked.proxies, kicked.closed), ("done", 1, 1, 1));
    let mut rows = Vec::new();
    client
        .list("/v1/users?pinned=true&limit=1", |row: UserRow| {
            rows.push(row);
            Ok(())
        })
        .await
        .unwrap();
    assert_eq!((rows.len(), rows[0].key.as_str(), rows[0].marks.pin.as_deref()), (1, "ann", Some("home")));
    let why: Explained = client.get("/v1/users/Ann/explain").await.unwrap();
    assert_eq!((why.name.as_str(), why.key.as_str(), why.next.as_str()), ("Ann", "ann", "waits"));
    let refused = client.work::<Marked>("/v1/users/ann/pin", &PinAsk { backend: "nowhere".into(), go: true }).await;
    assert_eq!(refused.err().unwrap().to_string(), "there is no backend nowhere");
    let nonsense = client.work::<Moved>("/v1/users/ann/kick", &ListAsk::default()).await;
    assert!(nonsense.err().unwrap().to_string().contains("missing field `wait`"));
}

#[tokio::test]
async fn failures_come_with_every_word_of_their_cause() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let site = Site::start().await;
    let _open = admin::open(&path, door(&site)).await.unwrap();
    let client = Client::new(&path);
    let why = client.post::<Status>("/v1/reload").await.err().unwrap().to_string();
    assert_eq!(why, "first fault\nsecond fault");
    let why = client.get::<Status>("/v1/stats").await.err().unwrap().to_string();
    assert_eq!(why, "there is no such route");
    let why = client.get::<Status>("/v1/reload").await.err().unwrap().to_string();
    assert_eq!(why, "not with this method");
}

#[tokio::test]
async fn status_answers_although_the_store_hangs() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let server = Server::open().await;
    let config = config(server.address);
    let hangs = Arc::new(AtomicBool::new(false));
    let store = Hanging { store: Memory::embedded(rules(&config)), hangs: hangs.clone() };
    let site = Site::over(Arc::new(store), server, config).await;
    let _open = admin::open(&path, door(&site)).await.unwrap();
    hangs.store(true, Ordering::Relaxed);
    let status: Status = Client::new(&path).get("/v1/status").await.unwrap();
    assert!(status.fleet.is_none() && status.this.store_link);
    assert_eq!(status.store_error.unwrap(), "the store gave no answer within 2s");
    let why = Client::new(&path).get::<Whereabouts>("/v1/users/ann").await.err().unwrap().to_string();
    assert_eq!(why, "the store gave no answer within 2s");
}
