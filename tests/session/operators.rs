//! `homing backend` and `homing dump`, as an operator types them, against a running proxy.

use std::path::PathBuf;
use std::process::Output;

use homing::admin;
use homing::model::{BackendId, Key};
use homing::store::{Mark, MarkChange, Order, Store};
use tokio::process::Command;

use crate::admin::door;
use crate::parts::{Server, Site, lines};

/// A proxy with an open admin door.
struct Hall {
    site: Site,
    socket: PathBuf,
    _directory: tempfile::TempDir,
    _open: admin::Open,
}

impl Hall {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("s");
        let site = Site::start().await;
        let open = admin::open(&socket, door(&site)).await.unwrap();
        Self { site, socket, _directory: directory, _open: open }
    }

    async fn run(&self, line: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
        command.args(line.split(' ')).env("HOMING_SOCKET", &self.socket).output().await.unwrap()
    }

    /// What it prints.
    async fn says(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert!(output.status.success(), "{line}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Its complaint.
    async fn refuses(&self, line: &str) -> String {
        let output = self.run(line).await;
        assert_eq!(output.status.code(), Some(1), "{line}: {output:?}");
        String::from_utf8(output.stderr).unwrap()
    }

    async fn store(&self) -> &dyn Store {
        &**self.site.proxy.fleet().store()
    }
}

#[tokio::test]
async fn a_backend_added_at_runtime_serves_users_and_loses_them_when_it_is_removed() {
    let (hall, other) = (Hall::open().await, Server::open().await);
    let (host, port) = (other.address.ip(), other.address.port());
    let said = hall.says(&format!("backend add mail3 host={host} port={port} weight=50 probe=false")).await;
    assert!(said.starts_with("In force at 1 of 1 proxies"), "{said}");
    hall.says("backend drain home").await;
    let mut client = hall.site.client().await;
    let mut server = client.log_in("ann", &other).await;
    let list = hall.says("backend list --tabs").await;
    let lines: Vec<Vec<&str>> = list.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(lines[0][1..5], ["100", "0", "default", "D"], "{list}");
    assert_eq!(lines[1][..5], [&format!("{host}:{port}"), "50", "1", "default", "U"], "{list}");
    hall.says("backend up home").await;
    hall.says("backend remove mail3").await;
    server.expect_end().await;
    drop(server);
    let list = hall.says("backend list").await;
    assert!(list.contains("D removed*"), "{list}");
    let mut client = hall.site.client().await;
    client.log_in("ann", &hall.site.server).await;
}

#[tokio::test]
async fn what_cannot_be_added_is_refused_with_the_remedy_and_no_password_is_taken() {
    let hall = Hall::open().await;
    let why = hall.refuses("backend add mail3 host=x master_user=m master_password=hunter2").await;
    assert!(why.contains("the store holds no password") && !why.contains("hunter2"), "{why}");
    assert!(hall.refuses("backend add mail3").await.contains("host=mail3.example.org"));
    assert!(hall.refuses("backend add mail3 host=x wieght=5").await.contains("did you mean weight?"));
    assert!(hall.refuses("backend add home host=x").await.contains("there is a backend home already"));
    assert!(hall.refuses("backend add a/b host=x").await.contains("cannot be the name"));
    assert!(hall.refuses("backend weight home 10001").await.contains("0 to 10000"));
    assert!(hall.refuses("backend show mail3").await.contains("there is no backend mail3"));
    assert!(hall.refuses("backend evict").await.contains("say which backend"));
    assert_eq!(hall.says("dump").await, "# nothing was set at runtime: all is as the files say\n");
}

#[tokio::test]
async fn what_operators_do_to_a_user_stands_in_the_log() {
    let hall = Hall::open().await;
    for line in ["hold carla --for 5s", "release carla", "pin carla home", "unpin carla"] {
        hall.says(&format!("user {line}")).await;
    }
    let marks = lines(|line| line.get("key").is_some_and(|key| key == "carla") && line.contains_key("mark"));
    let marks: Vec<&str> = marks.iter().map(|line| line["mark"].as_str()).collect();
    assert_eq!(marks, ["held for 5000 ms", "released", "pinned to home", "unpinned"]);
}

#[tokio::test]
async fn a_dump_has_the_commands_that_bring_everything_back() {
    let hall = Hall::open().await;
    for line in [
        "backend add mail3 host=mail3.example.org pool=ssd drain=true",
        "backend add mail4 host=::1 port=1143",
        "backend weight home 7",
        "backend drain home",
        "backend remove mail4",
        "backend evict mail3",
    ] {
        hall.says(line).await;
    }
    let mark = async |key: &str, change| {
        let order = Order::Mark(Mark { key: Key::new(key), change });
        hall.store().await.order(0, &order).await.unwrap();
    };
    mark("ann", MarkChange::Pin(BackendId::new("home"))).await;
    mark("o'neill", MarkChange::Hold(0)).await;
    mark("-rf", MarkChange::Pin(BackendId::new("home"))).await;
    let dump = hall.says("dump").await;
    let expected = [
        "homing backend weight home 7",
        "homing backend drain home",
        "homing backend add mail3 drain=true host=mail3.example.org pool=ssd",
        "homing backend drain mail3",
        "homing backend evict mail3",
        "homing backend remove mail4",
        "homing user pin --no-move ann home",
        "homing user hold 'o'\\''neill'",
        "homing user pin --no-move -- -rf home",
    ];
    let mut lines: Vec<&str> = dump.lines().collect();
    lines[6..].sort_unstable_by_key(|line| line.contains("-rf")); // users come as they lie in the store
    lines[6..8].sort_unstable_by_key(|line| line.contains("hold"));
    assert_eq!(lines, expected);
    let json = hall.says("dump --json").await;
    assert_eq!(json.lines().next(), Some(r#"{"command":"homing backend weight home 7"}"#));
    // The command does what it says, option or not.
    hall.says("user unpin -- -rf").await;
    hall.says("user pin --no-move -- -rf home").await;
    let shown = hall.says("backend show mail3").await;
    assert!(shown.contains("evict, 0 users left") && shown.contains("set by operators: state, added"), "{shown}");
}

#[tokio::test]
async fn lists_for_programs_are_whole_and_a_table_says_that_there_is_more() {
    let hall = Hall::open().await;
    let list = async |line: &str| {
        let output = hall.run(line).await;
        assert!(output.status.success(), "{line}: {output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    let (_, aside) = list("user list --limit 0").await;
    assert_eq!(aside, "", "there is nobody");
    let store = hall.store().await;
    for number in 0..1001 {
        let mark = Mark { key: Key::new(format!("user{number}")), change: MarkChange::Hold(0) };
        store.order(0, &Order::Mark(mark)).await.unwrap();
    }
    for (line, lines, more) in [
        ("user list --format csv", 1002, false),
        ("user list --json", 1001, false),
        ("user list --format csv --limit 1000", 1001, true),
        ("user list --json --limit 1001", 1001, false),
    ] {
        let (out, aside) = list(line).await;
        assert_eq!((out.lines().count(), aside.contains("there are more than these 1000")), (lines, more), "{line}");
    }
    let (table, aside) = list("user list").await;
    assert!(table.matches("user").count() == 1001 && aside.contains("--limit 0 lists all"), "{aside}");
}

#[tokio::test]
async fn what_an_operator_cannot_mean_is_refused() {
    let hall = Hall::open().await;
    for line in
        ["user kick a* --no-wait", "user kick --address 192.0.2.1 --no-wait", "user kick --backend home --no-wait"]
    {
        let output = hall.run(line).await;
        assert_eq!(output.status.code(), Some(2), "{line}: {output:?}");
        assert!(
            String::from_utf8_lossy(&output.stderr).contains("--no-wait goes with the name of one user"),
            "{output:?}"
        );
    }
    assert_eq!(hall.says("user kick ann --no-wait").await, "ann has no session to end\n");
    let output = hall.run("user hold ann --for 0s").await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    for line in ["user list --backend nowhere", "user list --json --backend nowhere", "user list --pool nowhere"] {
        assert!(hall.refuses(line).await.contains(" nowhere"), "{line}");
    }
    hall.says("user list --backend home --pool default").await;
}

#[tokio::test]
async fn a_dry_run_says_whom_it_would_move_and_moves_nobody() {
    let (hall, other) = (Hall::open().await, Server::open().await);
    let mut client = hall.site.client().await;
    let mut server = client.log_in("ann", &hall.site.server).await;
    hall.says(&format!("backend add mail3 host={} port={}", other.address.ip(), other.address.port())).await;
    let said = hall.says("backend evict home --dry-run").await;
    assert!(said.contains("home: 1 user with 1 session ") && said.contains("1 to mail3"), "{said}");
    assert_eq!(hall.says("backend evict mail3 --dry-run").await.trim(), "mail3: nobody would be moved");
    client.send("b NOOP\r\n").await;
    server.expect("b NOOP\r\n").await;
    assert!(hall.says("backend list").await.contains("U"));
}
