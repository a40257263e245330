//! Mail and users of a fleet, and as whom its servers touch them.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, ensure};

use super::{Result, User};

/// Name and password of the master user that every server knows.
pub const MASTER: (&str, &str) = ("homing-master", "Schluessel+master");

/// Mail and users, shared by the backends of a fleet.
pub struct MailStore {
    /// Where it is.
    pub dir: PathBuf,
    /// Who may touch it.
    pub identity: Identity,
}

impl MailStore {
    /// An empty store under `dir` for `users`.
    pub fn new(dir: &Path, users: &[User]) -> Result<Self> {
        check_version()?;
        let store = Self { dir: dir.join("store"), identity: Identity::find()? };
        store.identity.make_dir(&store.dir)?;
        store.identity.make_dir(&store.dir.join("mail"))?;
        store.write_users(users, "")?;
        fs::write(store.dir.join("masters"), format!("{}:{{PLAIN}}{}\n", MASTER.0, MASTER.1))?;
        Ok(store)
    }

    /// Replaces the users; `extra` is appended to the passwd-file as it is.
    pub fn write_users(&self, users: &[User], extra: &str) -> Result {
        let mut text = String::new();
        for user in users {
            writeln!(text, "{}:{{PLAIN}}{}::::::", user.name, user.password)?;
        }
        text.push_str(extra);
        let fresh = self.dir.join("users.new");
        fs::write(&fresh, text)?;
        Ok(fs::rename(fresh, self.users_file())?)
    }

    /// Every message of a user as it lies in the store, whichever server has put it there: mailbox and text. Line ends
    /// are LF.
    pub fn mail_of(&self, user: &str) -> Result<Vec<(String, String)>> {
        let maildir = self.dir.join("mail").join(user).join("Maildir");
        let mut found = Vec::new();
        read_mail(&maildir, "INBOX", &mut found)?;
        for folder in fs::read_dir(&maildir).into_iter().flatten() {
            let folder = folder?;
            if let Some(mailbox) = folder.file_name().to_str().and_then(|name| name.strip_prefix('.')) {
                read_mail(&folder.path(), mailbox, &mut found)?;
            }
        }
        Ok(found)
    }

    /// The passwd-file.
    pub fn users_file(&self) -> PathBuf {
        self.dir.join("users")
    }
}

/// The messages of one Maildir folder.
fn read_mail(folder: &Path, mailbox: &str, into: &mut Vec<(String, String)>) -> Result {
    for part in ["new", "cur"] {
        for file in fs::read_dir(folder.join(part)).into_iter().flatten() {
            into.push((mailbox.to_owned(), fs::read_to_string(file?.path())?));
        }
    }
    Ok(())
}

/// Fails with advice if there is no Dovecot that the tests can use.
fn check_version() -> Result {
    let output = Command::new("dovecot").arg("--version").output();
    let output = output.context("no dovecot: install Debian's dovecot-imapd")?;
    let version = String::from_utf8(output.stdout)?;
    ensure!(version.starts_with("2.3."), "the tests are written for Dovecot 2.3, this is {version}");
    Ok(())
}

/// As whom Dovecot touches mail: `mail` when tests run as root (Dovecot refuses to serve root), else who runs them.
pub struct Identity {
    /// Its name.
    pub user: String,
    /// Its group's name.
    pub group: String,
    /// Whether the tests run as root.
    pub root: bool,
}

impl Identity {
    fn find() -> Result<Self> {
        if rustix::process::geteuid().is_root() {
            return Ok(Self { user: "mail".into(), group: "mail".into(), root: true });
        }
        let ask = |what: &str| -> Result<String> {
            let output = Command::new("id").arg(what).output()?;
            ensure!(output.status.success(), "Dovecot needs a user with a name; `id {what}` knows none");
            Ok(String::from_utf8(output.stdout)?.trim().to_owned())
        };
        Ok(Self { user: ask("-un")?, group: ask("-gn")?, root: false })
    }

    /// Makes a directory that it may write to.
    pub fn make_dir(&self, path: &Path) -> Result {
        fs::create_dir_all(path)?;
        // Open to all: index files and mail belong to another user than the tests when these run as root.
        Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o777))?)
    }
}
