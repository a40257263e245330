//! Real commands, and servers that the test plays.

use std::path::Path;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::sleep;

use super::*;
use crate::config::Config;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn hook(keys: &str) -> Hook {
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.a]\nhost = \"a\"\n\
         [moves]\n{keys}\n"
    );
    Hook::new(&Config::parse(&text, "test.toml").unwrap().moves).unwrap().unwrap()
}

/// A hook that runs this script, with `dir` as its first argument.
fn script(dir: &TempDir, text: &str, timeout: &str) -> Hook {
    let path = dir.path().join("script");
    std::fs::write(&path, text).unwrap();
    hook(&format!("before_move = [\"/bin/sh\", {path:?}, {:?}]\nhook_timeout = \"{timeout}\"", dir.path()))
}

fn arguments() -> MoveArguments {
    MoveArguments {
        key: Key::new("ann o'neil $HOME"),
        from: BackendId::new("mail1"),
        from_host: "192.0.2.1".to_owned(),
        from_up: true,
        from_weight: Weight::default(),
        to: Some(BackendId::new("mail2")),
        to_host: Some("2001:db8::2".to_owned()),
        again: false,
    }
}

async fn until(what: &str, so: impl Fn() -> bool) {
    let deadline = Instant::now() + LONG;
    while !so() {
        assert!(Instant::now() < deadline, "{what} did not come true");
        sleep(Duration::from_millis(5)).await;
    }
}

fn content(dir: &TempDir, name: &str) -> String {
    std::fs::read_to_string(dir.path().join(name)).unwrap_or_default()
}

/// The process is no more, or waits only to be reaped.
fn is_over(pid: &str) -> bool {
    let stat = std::fs::read_to_string(Path::new("/proc").join(pid.trim()).join("stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_none_or(|rest| rest.is_empty() || rest.starts_with('Z'))
}

#[tokio::test]
async fn a_command_gets_the_arguments_of_a_directors_flush_script_and_nothing_of_our_environment() {
    let dir = TempDir::new().unwrap();
    let hook = script(&dir, "printf '%s\\n' \"$@\" > \"$1/args\"; env > \"$1/env\"; pwd > \"$1/pwd\"", "20s");
    hook.run(&arguments()).await.unwrap();
    let place = dir.path().display();
    let expected = format!("{place}\nFLUSH\nann o'neil $HOME\n192.0.2.1\n2001:db8::2\nup\n100\n");
    assert_eq!(content(&dir, "args"), expected);
    assert_eq!(content(&dir, "pwd"), "/\n");
    let environment = content(&dir, "env");
    // What the shell itself sets is no secret.
    let mut lines: Vec<&str> = environment.lines().filter(|l| !l.starts_with("PWD=") && !l.starts_with("_=")).collect();
    lines.sort_unstable();
    lines.retain(|line| !line.starts_with("OLDPWD=") && !line.starts_with("SHLVL="));
    let expected = [
        "HOMING_AGAIN=0",
        "HOMING_FROM=mail1",
        "HOMING_FROM_HOST=192.0.2.1",
        "HOMING_FROM_STATE=up",
        "HOMING_FROM_WEIGHT=100",
        "HOMING_KEY=ann o'neil $HOME",
        "HOMING_TO=mail2",
        "HOMING_TO_HOST=2001:db8::2",
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_target_that_is_not_known_yet_is_a_dash_and_a_second_run_is_told() {
    let dir = TempDir::new().unwrap();
    let hook = script(&dir, "echo \"$4 $5 $6 $7 <$HOMING_TO> $HOMING_AGAIN\" > \"$1/args\"", "20s");
    let arguments = MoveArguments { to: None, to_host: None, from_up: false, again: true, ..arguments() };
    hook.run(&arguments).await.unwrap();
    assert_eq!(content(&dir, "args"), "192.0.2.1 - down 100 <> 1\n");
}

#[tokio::test]
async fn a_command_has_none_of_our_sockets() {
    let dir = TempDir::new().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hook = script(&dir, "ls -l /proc/$$/fd > \"$1/fds\"", "20s");
    hook.run(&arguments()).await.unwrap();
    let fds = content(&dir, "fds");
    assert!(fds.contains("/dev/null") && !fds.contains("socket:"), "{fds}");
    drop(listener);
}

#[tokio::test]
async fn exit_codes_and_signals_are_failures_and_the_last_words_are_kept() {
    let dir = TempDir::new().unwrap();
    let failed = |text: &'static str| {
        let hook = script(&dir, text, "20s");
        async move { hook.run(&arguments()).await.unwrap_err().to_string() }
    };
    let sorry = failed("echo no >&2; printf 'such \\033[1muser\\n\\n' >&2; exit 75").await;
    assert_eq!(sorry, "/bin/sh ended with exit code 75: no | such ?[1muser");
    assert_eq!(failed("kill -9 $$").await, "/bin/sh ended with signal 9");
    let long = failed("head -c 100000 /dev/zero | tr '\\0' x >&2; echo >&2; echo the end >&2; exit 1").await;
    assert!(long.len() < 5000 && long.ends_with("xxx | the end"), "{} bytes", long.len());
}

#[tokio::test]
async fn a_program_that_is_gone_is_a_failure() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("program");
    // No copy: a child that another test forks just then could still have it open for writing, and it would be busy.
    std::os::unix::fs::symlink("/bin/true", &path).unwrap();
    let hook = hook(&format!("before_move = [{path:?}]"));
    hook.run(&arguments()).await.unwrap();
    std::fs::remove_file(&path).unwrap();
    let failure = hook.run(&arguments()).await.unwrap_err();
    assert!(matches!(failure, HookFailure::NotStarted { .. }), "{failure}");
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed_with_all_that_it_has_started() {
    let dir = TempDir::new().unwrap();
    let hook = script(&dir, "echo wait >&2; sleep 1000 & echo $! > \"$1/pid\"; wait", "5s");
    let failure = hook.run(&arguments()).await.unwrap_err();
    assert_eq!(failure.to_string(), "/bin/sh took longer than 5s: wait");
    until("the end of what it has started", || is_over(&content(&dir, "pid"))).await;
}

#[tokio::test]
async fn a_command_whose_move_is_given_up_is_killed_with_all_that_it_has_started() {
    let dir = TempDir::new().unwrap();
    let hook = script(&dir, "sleep 1000 & echo $! > \"$1/pid\"; wait", "20s");
    let arguments = arguments();
    tokio::select! {
        outcome = hook.run(&arguments) => panic!("{outcome:?}"),
        () = until("that it runs", || content(&dir, "pid").ends_with('\n')) => {}
    }
    assert!(!content(&dir, "pid").is_empty());
    until("the end of what it has started", || is_over(&content(&dir, "pid"))).await;
}

#[tokio::test]
async fn a_process_left_behind_does_not_keep_a_command_from_ending() {
    let dir = TempDir::new().unwrap();
    let hook = script(&dir, "sleep 1000 & echo $! > \"$1/pid\"; echo done >&2", "20s");
    hook.run(&arguments()).await.unwrap();
    let pid = content(&dir, "pid");
    assert!(!is_over(&pid), "it is the operator's");
    std::process::Command::new("kill").args(["-9", pid.trim()]).status().unwrap();
}

#[tokio::test]
async fn only_so_many_commands_run_at_once() {
    let dir = TempDir::new().unwrap();
    let text = "echo x >> \"$1/started\"; while [ ! -e \"$1/go\" ]; do sleep 0.05; done";
    let hook = Arc::new(script(&dir, text, "20s"));
    let runs: Vec<_> = (0..AT_ONCE + 3)
        .map(|_| {
            let hook = hook.clone();
            tokio::spawn(async move { hook.run(&arguments()).await })
        })
        .collect();
    let started = || content(&dir, "started").lines().count();
    until("that they run", || started() == AT_ONCE).await;
    sleep(Duration::from_millis(50)).await; // can miss a fault, never invent one
    assert_eq!(started(), AT_ONCE);
    std::fs::write(dir.path().join("go"), "").unwrap();
    for run in runs {
        run.await.unwrap().unwrap();
    }
    assert_eq!(started(), AT_ONCE + 3);
}

/// Posts to a server that the test plays, which says this. Returns also what the server heard.
async fn post(answer: &[u8], timeout: &str) -> (Result<(), HookFailure>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hook = hook(&format!("before_move_url = \"http://{address}/move?key=k\"\nhook_timeout = \"{timeout}\""));
    let serve = async {
        let mut peer = listener.accept().await.unwrap().0;
        let mut heard = Vec::new();
        while !heard.ends_with(b"}") {
            assert!(peer.read_buf(&mut heard).await.unwrap() > 0, "{}", heard.escape_ascii());
        }
        peer.write_all(answer).await.unwrap();
        // Until the other side closes.
        let _ = peer.read(&mut [0]).await;
        String::from_utf8(heard).unwrap()
    };
    let arguments = arguments();
    tokio::join!(hook.run(&arguments), serve)
}

#[tokio::test]
async fn a_url_gets_the_same_as_json_and_says_yes_by_any_2xx() {
    let (outcome, heard) = post(b"HTTP/1.1 204 No Content\r\n\r\n", "20s").await;
    outcome.unwrap();
    let (head, body) = heard.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("POST /move?key=k HTTP/1.1\r\n") && head.contains("host: 127.0.0.1:"), "{head}");
    assert!(head.contains("content-type: application/json"), "{head}");
    let told: serde_json::Value = serde_json::from_str(body).unwrap();
    let expected: serde_json::Value = serde_json::from_str(
        r#"{"key": "ann o'neil $HOME", "from": "mail1", "from_host": "192.0.2.1", "from_up": true, "from_weight": 100,
            "to": "mail2", "to_host": "2001:db8::2", "again": false}"#,
    )
    .unwrap();
    assert_eq!(told, expected);
    let long = [b"HTTP/1.1 200 OK\r\nContent-Length: 20000\r\n\r\n".as_slice(), &[b'x'; 20_000]].concat();
    post(&long, "20s").await.0.unwrap();
}

#[tokio::test]
async fn any_other_answer_of_a_url_is_a_failure_with_its_words() {
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 11\r\n\r\nnot\nnow\x1b!\r\n";
    let failure = post(busy, "20s").await.0.unwrap_err().to_string();
    assert!(failure.starts_with("http://127.0.0.1:") && failure.ends_with("answered 503: not | now?!"), "{failure}");
    assert!(!failure.contains("key=k"), "what stands behind the ? may be secret: {failure}");
    let elsewhere = b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n";
    let failure = post(elsewhere, "20s").await.0.unwrap_err().to_string();
    assert!(failure.ends_with("answered 302"), "{failure}");
    let failure = post(b"220 smtp ready\r\n", "20s").await.0.unwrap_err().to_string();
    assert!(failure.contains("does not answer in HTTP"), "{failure}");
}

#[tokio::test]
async fn a_url_that_hangs_or_refuses_is_a_failure() {
    let failure = post(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", "300ms").await.0.unwrap_err().to_string();
    assert!(failure.ends_with("took longer than 300ms"), "{failure}");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let closed = listener.local_addr().unwrap();
    drop(listener);
    let hook = hook(&format!("before_move_url = \"https://{closed}\""));
    let failure = hook.run(&arguments()).await.unwrap_err().to_string();
    assert!(failure.contains("cannot be reached"), "{failure}");
}

#[test]
fn without_a_hook_there_is_none() {
    assert!(Hook::new(&MovesConfig::default()).unwrap().is_none());
}
