//! `homing serve` as a process: what it does to itself, how it ends, and with which code.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::PermissionsExt;
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
        let child = Command::new("sh")
            .args(["-c", "ulimit -c unlimited; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_homing")])
            .args(arguments)
            .current_dir(std::env::temp_dir())
            .env_remove("HOMING_CONFIG")
            .env_remove("XDG_RUNTIME_DIR")
            .stderr(Stdio::piped())
            .spawn();
        Self::over(child.unwrap())
    }

    fn over(mut child: Child) -> Self {
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
fn a_process_has_all_the_descriptors_it_may_have() {
    let directory = tempfile::tempdir().unwrap();
    let mut process = serve(&directory.path().join("s"));
    process.read_until("ready");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", process.child.id())).unwrap();
    let files = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<_> = files.split_whitespace().filter(|word| word.parse::<u64>().is_ok()).collect();
    assert_eq!(numbers[0], numbers[1], "{files}");
}

#[test]
fn a_process_that_is_killed_dumps_no_core_whatever_its_limits_allow() {
    let directory = tempfile::tempdir().unwrap();
    for signal in [Signal::QUIT, Signal::ABORT] {
        let mut process = serve(&directory.path().join("s"));
        process.read_until("ready");
        process.tell(signal);
        let status = process.end();
        assert_eq!((status.signal(), status.core_dumped()), (Some(signal.as_raw()), false));
    }
}

/// What only who may trace a process can read of it, as another process of the same ordinary user.
fn look_into(process: u32) -> bool {
    let file = format!("/proc/{process}/environ");
    let mut looker = as_ordinary_user(&["head", "-c", "1", &file]);
    looker.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap().success()
}

/// Root may look into everything, so it becomes somebody else.
fn as_ordinary_user(command: &[&str]) -> Command {
    let become_other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    let is_root = rustix::process::geteuid().is_root();
    let words: Vec<_> = become_other.into_iter().filter(|_| is_root).chain(command.iter().copied()).collect();
    let mut started = Command::new(words[0]);
    started.args(&words[1..]);
    started
}

#[test]
fn another_process_of_the_same_user_cannot_look_into_it() {
    let mut open = as_ordinary_user(&["cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It echoes, so it is what it was to become.
    open.stdin.as_mut().unwrap().write_all(b"x").unwrap();
    open.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    assert!(look_into(open.id()), "the test itself sees nothing");
    drop(open.stdin.take());
    open.wait().unwrap();

    let arguments = ["serve", "-b", "home=127.0.0.1:1", "-l", "127.0.0.1:0", "--socket", "/proc/nowhere/s"];
    let mut command = as_ordinary_user(&[&[env!("CARGO_BIN_EXE_homing")], arguments.as_slice()].concat());
    let child = command.env_remove("HOMING_CONFIG").env_remove("XDG_RUNTIME_DIR").stderr(Stdio::piped()).spawn();
    let mut process = Process::over(child.unwrap());
    process.read_until("ready");
    assert!(!look_into(process.child.id()));
}

/// Waits in the midst of reading its configuration.
#[test]
fn it_is_closed_to_others_before_it_reads_a_secret() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("homing.toml");
    let made = Command::new("mkfifo").args(["-m", "666"]).arg(&file).status().unwrap();
    assert!(made.success());
    std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    for command in ["serve", "config"] {
        let mut arguments = vec![env!("CARGO_BIN_EXE_homing"), command];
        arguments.extend((command == "config").then_some("show"));
        let name = file.display().to_string();
        arguments.extend(["--config", &name]);
        let child = as_ordinary_user(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let process = Process::over(child);
        // Opening succeeds once the other side reads.
        let pipe = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
        assert!(!look_into(process.child.id()), "{command}");
        drop((process, pipe));
    }
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
