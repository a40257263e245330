//! A proxy as the kernel sees it: its processes, their CPU time and memory, read from /proc.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::process::{Pid, Signal};

/// USER_HZ: the unit of times in /proc, 100 per second on every Linux this runs on.
const TICK: Duration = Duration::from_millis(10);

/// How long a process may take to end when told to.
const GRACE: Duration = Duration::from_secs(5);

/// A process with all its descendants; they end when this is dropped.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

/// CPU time.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cpu {
    /// In the processes' own code.
    pub(crate) user: Duration,
    /// In the kernel on their behalf.
    pub(crate) system: Duration,
}

/// Memory in bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Memory {
    /// Proportional set size: own pages, and shared ones divided by who shares them.
    pub(crate) user: u64,
    /// Page tables and kernel stacks.
    pub(crate) kernel: u64,
}

impl Process {
    /// Starts a program in a process group of its own, with its output in a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> anyhow::Result<Self> {
        let output = fs::File::create(log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {}", command.get_program().display()))?;
        Ok(Self { child, log: log.to_owned() })
    }

    /// An error with the end of its output if the program has ended.
    pub(crate) fn check_alive(&mut self) -> anyhow::Result<()> {
        let Some(status) = self.child.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(5)..].join(" | ");
        anyhow::bail!("ended with {status} {end}")
    }

    /// CPU time used so far by the process, its descendants and those of them that ended.
    pub(crate) fn cpu(&self) -> Cpu {
        let mut sum = Cpu::default();
        for stat in self.family() {
            sum.user += stat.user;
            sum.system += stat.system;
        }
        sum
    }

    /// Memory that the process and its descendants hold now.
    pub(crate) fn memory(&self) -> Memory {
        let mut sum = Memory::default();
        for stat in self.family() {
            sum.user += kib_field(&format!("/proc/{}/smaps_rollup", stat.pid), "Pss:");
            let status = format!("/proc/{}/status", stat.pid);
            sum.kernel += kib_field(&status, "VmPTE:") + stat.threads * THREAD_STACK;
        }
        sum
    }

    /// The resident set of the process and its descendants in bytes; from here on [`Process::peak`] counts anew, if we may.
    pub(crate) fn begin_peak(&self) -> u64 {
        let family = self.family();
        for stat in &family {
            // proc(5): resets VmHWM. Whoever may not sees too high a peak.
            let _ = fs::write(format!("/proc/{}/clear_refs", stat.pid), "5");
        }
        family.iter().map(|stat| kib_field(&format!("/proc/{}/status", stat.pid), "VmRSS:")).sum()
    }

    /// The sum of the largest resident sets that the process and its descendants have had, in bytes.
    pub(crate) fn peak(&self) -> u64 {
        self.family().iter().map(|stat| kib_field(&format!("/proc/{}/status", stat.pid), "VmHWM:")).sum()
    }

    fn family(&self) -> Vec<Stat> {
        let mut rest = Stat::all();
        let mut family: Vec<Stat> = rest.extract_if(.., |stat| stat.pid == self.child.id()).collect();
        let mut at = 0;
        while let Some(parent) = family.get(at).map(|stat| stat.pid) {
            family.extend(rest.extract_if(.., |stat| stat.parent == parent));
            at += 1;
        }
        family
    }

    fn end(&mut self) -> anyhow::Result<()> {
        let group = Pid::from_child(&self.child);
        if self.child.try_wait()?.is_none() {
            rustix::process::kill_process(group, Signal::TERM)?;
            let deadline = Instant::now() + GRACE;
            while self.child.try_wait()?.is_none() && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
        // Whoever is left; an empty group is no news.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("fleet: cannot end process {}: {error}", self.child.id());
        }
    }
}

/// Size of a kernel stack on x86-64 and arm64.
const THREAD_STACK: u64 = 16 * 1024;

/// What /proc/PID/stat says.
struct Stat {
    pid: u32,
    parent: u32,
    threads: u64,
    user: Duration,
    system: Duration,
}

impl Stat {
    fn all() -> Vec<Self> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| Self::read(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    /// None for a process that ended meanwhile.
    fn read(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may have spaces; what follows begins with field 3, the state.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        let number = |field: usize| -> Option<u64> { fields.get(field - 3)?.parse().ok() };
        let ticks = |own: u64, children: u64| TICK * u32::try_from(own + children).unwrap_or(u32::MAX);
        Some(Self {
            pid,
            parent: u32::try_from(number(4)?).ok()?,
            threads: number(20)?,
            user: ticks(number(14)?, number(16)?),
            system: ticks(number(15)?, number(17)?),
        })
    }
}

/// A field in KiB of a file of lines `Name: value kB`, in bytes; 0 if it is not there.
fn kib_field(path: &str, name: &str) -> u64 {
    let text = fs::read_to_string(path).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.split_ascii_whitespace().next()?.parse().ok());
    value.unwrap_or(0u64) * 1024
}

impl std::ops::Sub for Cpu {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self { user: self.user.saturating_sub(earlier.user), system: self.system.saturating_sub(earlier.system) }
    }
}

impl Cpu {
    /// Both together.
    pub(crate) fn total(self) -> Duration {
        self.user + self.system
    }
}
