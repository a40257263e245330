//! The file with the fleet's secret: who may read it, what is in it, and how one is made.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use zeroize::Zeroizing;

use super::seal::{MIN_SECRET, Seals};
use crate::model::Secret;

/// Bytes of the file that are read: two secrets and room for line ends.
const MOST: u64 = 4096;
/// Random bytes of a secret that is made here.
const MADE: usize = 48;
/// Writing for the group, and anything for others, is refused.
const NOT_FOR_OTHERS: u32 = 0o027;

/// Why the file cannot be used. Never quotes it.
#[derive(Debug, thiserror::Error)]
pub enum SecretFault {
    /// It cannot be read, or made.
    #[error("the fleet's secret {0} cannot be {2}: {1}")]
    File(PathBuf, #[source] io::Error, &'static str),
    /// Others could read along.
    #[error(
        "the fleet's secret {0} has mode {1:04o}, so that others than homing may read or change it: whoever has it can \
         make logins good; chmod 0600 it, and make another one if anybody may have read it"
    )]
    Open(PathBuf, u32),
    /// What is in it is no secret.
    #[error(
        "the fleet's secret {0} must have one or two lines of at least {MIN_SECRET} bytes each; make one with: \
         head -c 48 /dev/urandom | base64 -w0"
    )]
    Unfit(PathBuf),
    /// There is no randomness to be had.
    #[error("the fleet's secret {0} cannot be made: the system has no random bytes to give")]
    NoRandom(PathBuf),
}

impl Seals {
    /// With the secrets of a file: the first line seals, both open.
    pub fn read(path: &Path) -> Result<Self, SecretFault> {
        let broken = |error| SecretFault::File(path.to_owned(), error, "read");
        let file = File::open(path).map_err(broken)?;
        let mode = file.metadata().map_err(broken)?.permissions().mode() & 0o7777;
        if mode & NOT_FOR_OTHERS != 0 {
            return Err(SecretFault::Open(path.to_owned(), mode));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MOST as usize + 1)); // never grows: no copies are left
        file.take(MOST + 1).read_to_end(&mut bytes).map_err(broken)?;
        Self::of_lines(&bytes).ok_or_else(|| SecretFault::Unfit(path.to_owned()))
    }

    fn of_lines(bytes: &[u8]) -> Option<Self> {
        if bytes.len() as u64 > MOST {
            return None;
        }
        let lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty());
        let mut secrets = lines.map(|line| Secret::new(line.to_vec()));
        let (first, second, more) = (secrets.next()?, secrets.next(), secrets.next());
        if more.is_some() {
            return None;
        }
        Self::new(&first, second.as_ref())
    }

    /// With the secret of a file, which is made if there is none. Says whether it was made.
    pub fn read_or_make(path: &Path) -> Result<(Self, bool), SecretFault> {
        let is_made = match path.try_exists() {
            Ok(true) => false,
            _ => make(path)?,
        };
        Ok((Self::read(path)?, is_made))
    }

    /// With a secret that nobody else has.
    pub fn random() -> Option<Self> {
        let mut bytes = Zeroizing::new([0; MADE]);
        aws_lc_rs::rand::fill(&mut *bytes).ok()?;
        Self::new(&Secret::new(bytes.to_vec()), None)
    }
}

/// False if somebody else made one meanwhile: it comes to be whole, or not at all, and replaces none.
fn make(path: &Path) -> Result<bool, SecretFault> {
    let mut bytes = Zeroizing::new([0; MADE]);
    aws_lc_rs::rand::fill(&mut *bytes).map_err(|_| SecretFault::NoRandom(path.to_owned()))?;
    let mut line = Zeroizing::new(STANDARD_NO_PAD.encode(bytes.as_slice()));
    line.push('\n');
    let broken = |error| SecretFault::File(path.to_owned(), error, "made");
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new()
        .prefix(".secret")
        .permissions(fs::Permissions::from_mode(0o600))
        .tempfile_in(directory)
        .map_err(broken)?;
    file.write_all(line.as_bytes()).and_then(|()| file.as_file().sync_all()).map_err(broken)?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(true),
        Err(taken) if taken.error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(failed) => Err(broken(failed.error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::cache::seal::Purpose;

    fn file(text: &[u8], mode: u32) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_secret_that_others_may_read_or_a_group_may_write_is_refused() {
        let text = b"0123456789abcdef0123456789abcdef\n";
        for (mode, good) in
            [(0o600, true), (0o400, true), (0o640, true), (0o644, false), (0o660, false), (0o601, false)]
        {
            let (_dir, path) = file(text, mode);
            let read = Seals::read(&path);
            assert_eq!(read.is_ok(), good, "{mode:o}");
            if let Err(why) = read {
                assert!(why.to_string().contains(&format!("has mode {mode:04o}")), "{why}");
            }
        }
    }

    #[test]
    fn one_or_two_long_lines_are_secrets_and_nothing_else_is() {
        let (one, two) = ("0123456789abcdef0123456789abcdef", "fedcba9876543210fedcba9876543210");
        for good in [one.to_owned(), format!("{one}\r\n"), format!("{one}\n{two}\n"), format!("\n {one}\n\n{two}")] {
            assert!(Seals::of_lines(good.as_bytes()).is_some(), "{good:?}");
        }
        for bad in
            [String::new(), "\n".to_owned(), one[1..].to_owned(), format!("{one}\nx"), format!("{one}\n{two}\n{two}")]
        {
            let (_dir, path) = file(bad.as_bytes(), 0o600);
            let why = Seals::read(&path).unwrap_err().to_string();
            assert!(why.contains("one or two lines of at least 32 bytes") && !why.contains("fedcba"), "{why}");
        }
        assert!(Seals::of_lines(&vec![b'x'; 5000]).is_none(), "endless");
    }

    #[test]
    fn where_there_is_none_one_is_made_for_its_owner_alone_and_all_who_come_at_once_get_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        let opened: Vec<_> = std::thread::scope(|scope| {
            let one = || Seals::read_or_make(&path).unwrap();
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(one)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(opened.iter().filter(|(_, made)| *made).count(), 1);
        let names: std::collections::BTreeSet<_> =
            opened.iter().map(|(seals, _)| seals.name(Purpose::User, &[b"ann"])).collect();
        assert_eq!(names.len(), 1, "one secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left behind");
    }
}
