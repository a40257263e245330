//! Dovecot's passwd-file. Read again when it changes; while a new content cannot be read, the old one stays in force.

mod table;
#[cfg(test)]
mod tests;

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use tokio::sync::Mutex;
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::canonical;
use crate::auth::{Decoy, Grant, Lookup, Question, Schemes, Source, StoredUser, Verdict};
use crate::model::{ScramHash, User};
use table::{Entry, Findings, Table};

/// Longest file. It is held in memory twice while a new content replaces the old one.
const MAX_FILE: u64 = 1 << 30;

/// How often a change is looked for, at most.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// One passwd-file.
pub struct FileSource {
    path: PathBuf,
    schemes: Schemes,
    check_interval: Duration,
    current: ArcSwapOption<Loaded>,
    watch: Mutex<Watch>,
}

/// A content in force, and the file's marks when it was read.
struct Loaded {
    table: Table,
    marks: Marks,
}

/// What changes when a file does. The time of its status changes even where a tool sets the other one back.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Marks {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    status: (i64, i64),
}

/// Who holds it looks after the file.
struct Watch {
    checked: Option<Instant>,
    /// Why the file could not be read the last time: said once, not every second.
    failing: Option<String>,
}

/// What is wrong with the text of a passwd-file: `LINE: complaint`, the first few of each kind. Quotes nothing of it.
pub fn check_passwd_file(text: Vec<u8>, schemes: &Schemes) -> Vec<String> {
    Table::build(text, schemes).1.complaints()
}

impl FileSource {
    /// Nothing is read yet: see [`FileSource::refresh`].
    pub(in crate::auth) fn new(path: &Path, schemes: Schemes) -> Self {
        Self {
            path: path.to_owned(),
            schemes,
            check_interval: CHECK_INTERVAL,
            current: ArcSwapOption::empty(),
            watch: Mutex::new(Watch { checked: None, failing: None }),
        }
    }

    /// Reads the file if it has changed since it was read. What is wrong with it is logged; what was read before stays in
    /// force.
    pub(in crate::auth) async fn refresh(&self) {
        self.check(&mut *self.watch.lock().await).await;
    }

    /// The content in force, or why there is none.
    async fn content(&self) -> Result<Arc<Loaded>, String> {
        let known = self.current.load_full();
        // One login at a time looks after the file; the others go on with what is there, unless nothing is.
        let watch = match (self.watch.try_lock(), &known) {
            (Ok(watch), _) => Some(watch),
            (Err(_), Some(_)) => None,
            (Err(_), None) => Some(self.watch.lock().await),
        };
        let Some(mut watch) = watch else {
            return known.ok_or_else(String::new);
        };
        if watch.checked.is_none_or(|checked| checked.elapsed() >= self.check_interval) {
            self.check(&mut watch).await;
        }
        self.current.load_full().ok_or_else(|| watch.failing.clone().unwrap_or_default())
    }

    async fn check(&self, watch: &mut Watch) {
        watch.checked = Some(Instant::now());
        let (path, schemes) = (self.path.clone(), self.schemes.clone());
        let marks = self.current.load().as_ref().map(|loaded| loaded.marks);
        let read = tokio::task::spawn_blocking(move || read_if_changed(&path, &schemes, marks)).await;
        match read.unwrap_or_else(|panic| Err(io::Error::other(panic))) {
            Ok(None) => watch.failing = None,
            Ok(Some((loaded, findings))) => {
                watch.failing = None;
                let old = self.current.swap(Some(Arc::new(loaded)));
                // A large one takes a while to wipe.
                tokio::task::spawn_blocking(move || drop(old));
                self.tell(&findings);
            }
            Err(error) => self.complain(&error, watch),
        }
    }

    fn complain(&self, error: &io::Error, watch: &mut Watch) {
        let text = format!("cannot read {}: {error}", self.path.display());
        if watch.failing.as_ref() == Some(&text) {
            return;
        }
        match *self.current.load() {
            Some(_) => tracing::warn!("passdb file: {text}; what was read before stays in force"),
            None => tracing::error!("passdb file: {text}; nobody in it can log in"),
        }
        watch.failing = Some(text);
    }

    fn tell(&self, findings: &Findings) {
        let file = self.path.display();
        for complaint in findings.complaints() {
            tracing::warn!("passdb {file}:{complaint}");
        }
        if !findings.unknown_fields.is_empty() {
            let fields: Vec<&str> = findings.unknown_fields.iter().map(String::as_str).collect();
            tracing::debug!("passdb {file}: fields that mean nothing to a proxy are ignored: {}", fields.join(", "));
        }
        tracing::info!("passdb {file}: {} users", findings.users);
    }
}

#[async_trait]
impl Source for FileSource {
    fn name(&self) -> String {
        format!("file {}", self.path.display())
    }

    async fn ask(&self, question: &Question<'_>) -> Verdict {
        let content = match self.content().await {
            Ok(content) => content,
            Err(text) => return Verdict::Unavailable(text),
        };
        let name = canonical(&question.credentials.user);
        match content.table.find(&name) {
            Some(Ok(Entry { stored, cost, extra })) => {
                Verdict::Stored(Box::new(StoredUser { name, stored, cost, extra }))
            }
            Some(Err((line, fault))) => Verdict::Faulty(format!("{}:{line}: {fault}", self.path.display())),
            None => Verdict::Unknown,
        }
    }

    fn stores_passwords(&self) -> bool {
        true
    }

    fn has_scram_keys(&self, hash: ScramHash) -> bool {
        self.current.load().as_ref().is_some_and(|loaded| loaded.table.has_scram_keys(hash))
    }

    fn decoy(&self) -> Option<Decoy> {
        let (stored, cost) = self.current.load().as_ref()?.table.typical()?;
        Some(Decoy(stored, cost))
    }

    async fn find(&self, lookup: &Lookup<'_>) -> Verdict {
        let content = match self.content().await {
            Ok(content) => content,
            Err(text) => return Verdict::Unavailable(text),
        };
        let name = canonical(lookup.user);
        match content.table.find(&name) {
            // Mail comes also for those who may not log in.
            Some(Ok(entry)) => {
                let fields = entry.extra.fields;
                Verdict::Granted(Box::new(Grant { user: User::new(name), unproven: false, master: None, fields }))
            }
            Some(Err((line, fault))) => Verdict::Faulty(format!("{}:{line}: {fault}", self.path.display())),
            None => Verdict::Unknown,
        }
    }

    async fn list(&self) -> Option<Result<Vec<String>, String>> {
        let content = self.content().await;
        Some(content.map(|content| content.table.names().map(str::to_owned).collect()))
    }
}

/// Nothing if the file still has those marks. Blocks.
fn read_if_changed(path: &Path, schemes: &Schemes, known: Option<Marks>) -> io::Result<Option<(Loaded, Findings)>> {
    let file = File::open(path)?;
    let about = file.metadata()?;
    // Taken before reading: what is written meanwhile shows at the next look.
    let marks = Marks::of(&about);
    if known == Some(marks) {
        return Ok(None);
    }
    if !about.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    if about.len() > MAX_FILE {
        return Err(io::Error::other("this file is longer than 1 GiB"));
    }
    // Never grows, so that no copies are left behind. What comes to the file meanwhile shows at the next look.
    let mut text = Zeroizing::new(Vec::with_capacity(about.len() as usize + 1)); // at most 1 GiB
    file.take(about.len()).read_to_end(&mut text)?;
    let (table, findings) = Table::build(text, schemes);
    Ok(Some((Loaded { table, marks }, findings)))
}

impl Marks {
    fn of(about: &Metadata) -> Self {
        Self {
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            status: (about.ctime(), about.ctime_nsec()),
        }
    }
}
