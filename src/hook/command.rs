//! A hook that is a command.

use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::{HookFailure, MoveArguments, SAID_MAX, printable};
use crate::model::BackendId;

/// What a command finds on its way, as most systems have it.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What was said before the end is in the pipe already; only a process left behind may hold it open for longer.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// Runs it to its end. Returns the end of what it wrote to standard error.
pub(super) async fn run(words: &[String], arguments: &MoveArguments, limit: Duration) -> Result<String, HookFailure> {
    let program = words.first().cloned().unwrap_or_default();
    let mut group = match Group::start(words, arguments) {
        Ok(group) => group,
        Err(source) => return Err(HookFailure::NotStarted { program, source }),
    };
    let mut said = Tail::default();
    let ended = timeout(limit, group.end(&mut said)).await;
    drop(group); // kills what is left, if it has not ended
    let said = printable(&said.0);
    match ended {
        Err(_) => Err(HookFailure::TimedOut { what: program, limit, said }),
        Ok(Err(source)) => Err(HookFailure::NotStarted { program, source }),
        Ok(Ok(status)) if status.success() => Ok(said),
        Ok(Ok(status)) => Err(HookFailure::Failed { program, how: how(status), said }),
    }
}

/// In the order of a Director's flush script.
fn positional(arguments: &MoveArguments) -> [String; 6] {
    [
        "FLUSH".to_owned(),
        arguments.key.to_string(),
        arguments.from_host.clone(),
        arguments.to_host.clone().unwrap_or_else(|| "-".to_owned()),
        state(arguments).to_owned(),
        arguments.from_weight.get().to_string(),
    ]
}

fn environment(arguments: &MoveArguments) -> [(&'static str, String); 9] {
    let name = |id: &Option<BackendId>| id.as_ref().map(ToString::to_string).unwrap_or_default();
    [
        ("PATH", PATH.to_owned()),
        ("HOMING_KEY", arguments.key.to_string()),
        ("HOMING_FROM", arguments.from.to_string()),
        ("HOMING_FROM_HOST", arguments.from_host.clone()),
        ("HOMING_FROM_STATE", state(arguments).to_owned()),
        ("HOMING_FROM_WEIGHT", arguments.from_weight.get().to_string()),
        ("HOMING_TO", name(&arguments.to)),
        ("HOMING_TO_HOST", arguments.to_host.clone().unwrap_or_default()),
        ("HOMING_AGAIN", u8::from(arguments.again).to_string()),
    ]
}

fn state(arguments: &MoveArguments) -> &'static str {
    if arguments.from_up { "up" } else { "down" }
}

fn how(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A command and all that it starts. Killed when dropped, unless the command has ended.
struct Group(Child);

impl Group {
    /// Everything that this process opens is closed in the command; it gets no input, and nothing of our environment.
    fn start(words: &[String], arguments: &MoveArguments) -> std::io::Result<Self> {
        let (program, first) = words.split_first().ok_or(std::io::ErrorKind::InvalidInput)?;
        let child = Command::new(program)
            .args(first)
            .args(positional(arguments))
            .env_clear()
            .envs(environment(arguments))
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        Ok(Self(child))
    }

    /// Listens until the command has ended.
    async fn end(&mut self, said: &mut Tail) -> std::io::Result<ExitStatus> {
        let Some(mut stderr) = self.0.stderr.take() else { return self.0.wait().await };
        let status = tokio::select! {
            status = self.0.wait() => status?,
            () = said.listen(&mut stderr) => return self.0.wait().await,
        };
        let _ = timeout(LAST_WORDS, said.listen(&mut stderr)).await;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // A child that was waited for has no number any more; until then the number is no other's.
        if let Some(pid) = self.0.id().and_then(|id| Pid::from_raw(id.cast_signed())) {
            let _ = kill_process_group(pid, Signal::KILL); // fails only if all have gone
        }
    }
}

/// The end of what was said.
#[derive(Default)]
struct Tail(Vec<u8>);

impl Tail {
    /// Reads until the other side closes. Dropping this loses nothing that was read.
    async fn listen(&mut self, from: &mut (impl AsyncRead + Unpin)) {
        let mut bytes = [0; 1024];
        while let Ok(count @ 1..) = from.read(&mut bytes).await {
            self.0.extend_from_slice(&bytes[..count]);
            let surplus = self.0.len().saturating_sub(SAID_MAX);
            self.0.drain(..surplus);
        }
    }
}
