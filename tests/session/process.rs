//! `homing serve` as a process: what it does to itself, how it ends, and with which code.

use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::parts::PATIENCE;

/// A process whose log is read line by line. Killed when dropped.
struct Process {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
}

impl Process {
    /// Where cores would be dumped if the process let itself be: what it does must not depend on the user's limits.
    fn start(arguments: &[&str]) -> Self {
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_homing")])
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .env_remove("HOMING_CONFIG")
            .env_remove("XDG_RUNTIME_DIR")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        Self { child, log }
    }

    /// Reads the log up to the line that has `text`; gives all of it.
    fn read_until(&mut self, text: &str) -> String {
        let mut all = String::new();
        while !all.contains(text) {
            assert_ne!(self.log.read_line(&mut all).unwrap(), 0, "{text} is not in {all}");
        }
        all
    }

    fn tell(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn end(&mut self) -> ExitStatus {
        let began = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(began.elapsed() < PATIENCE);
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve(socket: &Path) -> Process {
    let socket = socket.display().to_string();
    Process::start(&["serve", "-b", "home=127.0.0.1:1", "-l", "127.0.0.1:0", "--socket", &socket])
}

fn status(socket: &Path) -> ExitStatus {
    let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
    command.args(["status", "--socket"]).arg(socket).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
}

#[test]
fn a_process_has_all_the_descriptors_it_may_have_and_dumps_no_core() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = serve(&directory.path().join("s"));
    process.read_until("ready");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<_> = files.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers[0], numbers[1], "{files}");

    process.tell(Signal::QUIT);
    let status = process.end();
    assert_eq!((status.signal(), status.core_dumped()), (Some(Signal::QUIT.as_raw()), false));
}

#[test]
fn sigterm_ends_it_in_good_order_with_code_0_and_takes_the_socket_away() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let mut process = serve(&socket);
    process.read_until("ready");
    let began = Instant::now();
    while !status(&socket).success() {
        assert!(began.elapsed() < PATIENCE);
    }
    process.tell(Signal::TERM);
    process.read_until("left the fleet");
    assert_eq!(process.end().code(), Some(0));
    assert!(!socket.exists());
    assert_eq!(status(&socket).code(), Some(1));
}

#[test]
fn without_a_file_it_serves_even_if_there_can_be_no_admin_socket() {
    let mut process = serve(Path::new("/proc/nowhere/s"));
    let log = process.read_until("ready");
    assert!(log.contains("no admin socket"), "{log}");
    process.tell(Signal::INT);
    assert_eq!(process.end().code(), Some(0));
}

#[test]
fn with_a_file_a_taken_admin_socket_is_a_failure_before_anything_is_opened() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("s");
    let _taken = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let file = directory.path().join("homing.toml");
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.home]\nhost = \
         \"127.0.0.1\"\n[admin]\nsocket = \"{}\"\n",
        socket.display()
    );
    std::fs::write(&file, text).unwrap();
    let mut process = Process::start(&["serve", "--config", &file.display().to_string()]);
    let log = process.read_until("another process listens there");
    assert!(log.contains("[admin] socket = ") && !log.contains("ready"), "{log}");
    assert_eq!(process.end().code(), Some(1));
}

#[test]
fn sighup_with_a_faulty_file_tells_all_faults_and_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (socket, file) = (directory.path().join("s"), directory.path().join("homing.toml"));
    let text = format!(
        "[[listener]]\naddress = \"127.0.0.1:0\"\ntls = \"none\"\nplaintext_login = true\n[backend.home]\nhost = \
         \"127.0.0.1\"\n[admin]\nsocket = \"{}\"\n",
        socket.display()
    );
    std::fs::write(&file, &text).unwrap();
    let mut process = Process::start(&["serve", "--config", &file.display().to_string()]);
    process.read_until("ready");
    std::fs::write(&file, format!("{text}sokket = 1\n[limits]\nconnections = 0\n")).unwrap();
    process.tell(Signal::HUP);
    let log = process.read_until("2 faults");
    assert!(log.contains("the configuration in force is unchanged") && log.contains("sokket"), "{log}");

    let mut command = Command::new(env!("CARGO_BIN_EXE_homing"));
    let reload = command.args(["reload", "--socket"]).arg(&socket).output().unwrap();
    let told = String::from_utf8(reload.stderr).unwrap();
    assert_eq!(reload.status.code(), Some(1));
    assert!(told.contains("sokket") && told.contains("connections") && told.contains("2 faults"), "{told}");
    std::fs::write(&file, text).unwrap();
    process.tell(Signal::HUP);
    process.read_until("reloaded");
}
