//! A file that remembers the incarnations which ran under its lock: whoever gets the lock knows that they are dead.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tracing::warn;

use crate::model::Incarnation;

/// The file is not read beyond this: it has a line of ten characters per run that was not cleaned up after.
const MAX_BYTES: u64 = 64 * 1024;

/// Why a state file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateFileError {
    /// Another process has it.
    #[error("{0} is in use by another process; give each proxy of this machine its own state_file")]
    InUse(PathBuf),
    /// It cannot be read or written.
    #[error("{0} cannot be used")]
    Io(PathBuf, #[source] std::io::Error),
}

/// An open, locked state file. The lock goes with the process, also when it is killed.
pub struct StateFile {
    path: PathBuf,
    file: File,
    own: Incarnation,
    dead: Vec<Incarnation>,
}

impl StateFile {
    /// Opens or creates the file, locks it, reads who ran here before and adds `own`.
    pub fn open(path: &Path, own: Incarnation) -> Result<Self, StateFileError> {
        let io = |error| StateFileError::Io(path.to_owned(), error);
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(|errno| match errno {
            Errno::WOULDBLOCK => StateFileError::InUse(path.to_owned()),
            // Such as a file system without locks: no other process is to blame.
            errno => io(errno.into()),
        })?;
        let mut text = String::new();
        (&mut file).take(MAX_BYTES).read_to_string(&mut text).map_err(io)?;
        let dead = text.lines().map(str::trim).filter(|line| is_incarnation(line)).map(Incarnation::new).collect();
        let mut state = Self { path: path.to_owned(), file, own, dead };
        state.write().map_err(io)?;
        Ok(state)
    }

    /// Those who ran here before and may still hold keys.
    pub fn dead(&self) -> &[Incarnation] {
        &self.dead
    }

    /// Nothing is left of that one.
    pub fn buried(&mut self, dead: &Incarnation) {
        self.dead.retain(|other| other != dead);
        if let Err(error) = self.write() {
            warn!(path = %self.path.display(), %error, "the state file cannot be written; the next start does again what was done");
        }
    }

    fn write(&mut self) -> std::io::Result<()> {
        let lines: String = self.dead.iter().chain([&self.own]).map(|one| format!("{one}\n")).collect();
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(lines.as_bytes())?;
        self.file.set_len(lines.len() as u64)?;
        self.file.sync_data()
    }
}

impl Drop for StateFile {
    fn drop(&mut self) {
        // Closing is not enough: a child on its way from fork to exec still has the file, and with it the lock.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn is_incarnation(line: &str) -> bool {
    line.len() == 10 && line.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Incarnation {
        Incarnation::new(name)
    }

    #[test]
    fn whoever_gets_the_lock_learns_who_ran_under_it_until_they_are_buried() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        assert!(StateFile::open(&path, own("AAAAAAAAAA")).unwrap().dead().is_empty());
        assert_eq!(StateFile::open(&path, own("BBBBBBBBBB")).unwrap().dead(), [own("AAAAAAAAAA")]);
        let mut third = StateFile::open(&path, own("CCCCCCCCCC")).unwrap();
        assert_eq!(third.dead(), [own("AAAAAAAAAA"), own("BBBBBBBBBB")]);
        third.buried(&own("AAAAAAAAAA"));
        drop(third);
        assert_eq!(StateFile::open(&path, own("DDDDDDDDDD")).unwrap().dead(), [own("BBBBBBBBBB"), own("CCCCCCCCCC")]);
    }

    #[test]
    fn two_proxies_cannot_have_one_state_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        let _first = StateFile::open(&path, own("AAAAAAAAAA")).unwrap();
        let second = StateFile::open(&path, own("BBBBBBBBBB")).map(drop).unwrap_err();
        assert!(matches!(second, StateFileError::InUse(_)), "{second}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "AAAAAAAAAA\n", "the second has not touched it");
    }

    #[test]
    fn lines_that_no_incarnation_can_have_written_are_not_believed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state");
        std::fs::write(&path, "AAAAAAAAAA\nshort\n\n../../../x\nBBBBBBBBBBB\n").unwrap();
        assert_eq!(StateFile::open(&path, own("CCCCCCCCCC")).unwrap().dead(), [own("AAAAAAAAAA")]);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "AAAAAAAAAA\nCCCCCCCCCC\n", "the rest is cut off");
    }

    #[test]
    fn a_file_that_cannot_be_opened_is_nobody_elses_fault() {
        let dir = tempfile::tempdir().unwrap();
        let fault = StateFile::open(dir.path(), own("AAAAAAAAAA")).map(drop).unwrap_err();
        assert!(matches!(fault, StateFileError::Io(..)), "{fault}");
    }
}
