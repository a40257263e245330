//! A server process that cannot outlive its test.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use super::Result;

/// A running server. It leads a process group that is killed when this is dropped, and is killed itself by the kernel
/// when the thread that started it ends: a test that is killed leaves nothing behind (servers end their own children
/// when they are gone).
pub struct Daemon {
    child: Child,
}

impl Daemon {
    /// Starts `program` with `arguments`; what it prints is appended to the file `log`.
    pub fn start<A: AsRef<std::ffi::OsStr>>(
        program: &str,
        arguments: impl IntoIterator<Item = A>,
        log: &Path,
    ) -> Result<Self> {
        use std::os::unix::process::CommandExt;
        let output = append(log)?;
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program)
            .args(arguments)
            .env_remove("RUST_LOG")
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("setpriv (util-linux) for {program}"))?;
        Ok(Self { child })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal to the process alone.
    pub fn signal(&self, signal: Signal) -> Result {
        Ok(kill_process(self.pid(), signal)?)
    }

    /// Sends a signal to it and to everything that it has started.
    pub fn signal_all(&self, signal: Signal) -> Result {
        Ok(kill_process_group(self.pid(), signal)?)
    }

    /// What lets it and everything it has started go on after SIGSTOP, whoever has it.
    pub fn waker(&self) -> impl FnOnce() -> Result + Send + 'static {
        let group = self.pid();
        move || Ok(kill_process_group(group, Signal::CONT)?)
    }

    /// Fails if the process has ended.
    pub fn check(&mut self) -> Result {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => anyhow::bail!("ended with {status}"),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Result<Option<std::process::ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }
}

impl Drop for Daemon {
    /// Kills it at once, as `kill -9` of the whole group does.
    fn drop(&mut self) {
        // Errors mean that it is gone already.
        let _ = kill_process_group(self.pid(), Signal::KILL);
        let _ = self.child.kill();
        let _ = self.child.wait();
        // What it had started dies a moment later, and may hold its sockets until then.
        let deadline = Instant::now() + Duration::from_secs(5);
        while group_lives(self.child.id()) && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Whether a process of the group is more than a zombie that nobody has waited for.
fn group_lives(group: u32) -> bool {
    let Ok(processes) = std::fs::read_dir("/proc") else { return false };
    processes.flatten().any(|process| {
        let stat = std::fs::read_to_string(process.path().join("stat")).unwrap_or_default();
        // proc(5): the name in parentheses may hold anything; then state, parent, group.
        let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect::<Vec<_>>());
        fields.is_some_and(|f| f.len() > 2 && f[0] != "Z" && f[2] == group.to_string())
    })
}

fn append(path: &Path) -> Result<File> {
    OpenOptions::new().create(true).append(true).open(path).with_context(|| format!("log {}", path.display()))
}
