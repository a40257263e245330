//! Sockets in the file system: nobody but those who may can open one, at any instant.

use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use socket2::{Domain, SockAddr, Type};
use tokio::net::{UnixListener, UnixStream};

use crate::model::Incarnation;

/// Connections that wait in the kernel.
const BACKLOG: i32 = 1024;

/// A socket that has its name, and does not listen yet. It loses the name when it is dropped.
pub struct LocalSocket {
    socket: socket2::Socket,
    path: PathBuf,
    /// Device and number of the file: another process may have taken over the name.
    file: (u64, u64),
    removed: AtomicBool,
}

impl LocalSocket {
    /// Takes the name `path`, creating its folder. A socket that a dead process left is replaced; one that answers is
    /// not, and neither is a file of another kind. `mode` are its permissions: 0o600 for the owner alone.
    pub async fn bind(path: &Path, mode: u32) -> io::Result<Self> {
        refuse_to_replace(path).await?;
        let folder = path.parent().unwrap_or(Path::new(""));
        std::fs::create_dir_all(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })?;
        // Under a name that nobody knows until the permissions are right; and a name that is there is not missing for
        // an instant.
        let hidden = folder.join(format!(".{}", Incarnation::random()));
        let bound = bind(&hidden, mode).and_then(|socket| {
            let about = std::fs::metadata(&hidden)?;
            std::fs::rename(&hidden, path)?;
            Ok(Self { socket, path: path.to_owned(), file: (about.dev(), about.ino()), removed: false.into() })
        });
        if bound.is_err() {
            // Perhaps it was never made.
            let _ = std::fs::remove_file(&hidden);
        }
        bound
    }

    /// From now on it can be opened.
    pub fn listen(&self) -> io::Result<UnixListener> {
        self.socket.listen(BACKLOG)?;
        UnixListener::from_std(std::os::fd::OwnedFd::from(self.socket.try_clone()?).into())
    }

    /// Gives up the name. Only once: the next file may get the same number.
    pub fn remove(&self) {
        let is_ours = |about: std::fs::Metadata| (about.dev(), about.ino()) == self.file;
        if !self.removed.swap(true, Ordering::Relaxed) && std::fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // Somebody may be faster; then it is gone as well.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

impl Drop for LocalSocket {
    fn drop(&mut self) {
        self.remove();
    }
}

fn bind(path: &Path, mode: u32) -> io::Result<socket2::Socket> {
    let socket = socket2::Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::unix(path)?)?;
    // Before it listens: until then every connect is refused.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(socket)
}

async fn refuse_to_replace(path: &Path) -> io::Result<()> {
    let taken = |what| Err(io::Error::new(io::ErrorKind::AddrInUse, what));
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(about) if !about.file_type().is_socket() => return taken("a file that is no socket has this name"),
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(error),
        _ => taken("another process listens there"),
    }
}
