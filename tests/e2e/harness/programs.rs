//! Mail programs of the real world, one function for each thing that a test lets them do. They fail if the program does.

use std::collections::BTreeSet;
use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::Context;
use tokio::process::Command;

use super::{Result, Sink, User, tools};

/// curl on `scheme://address/path`, such as `imap` and `pop3`, logged in; gives what it prints.
pub async fn curl(scheme: &str, address: SocketAddr, user: &User, path: &str, more: &[&str]) -> Result<String> {
    let mut command = Command::new("curl");
    let login = format!("{}:{}", user.name, user.password);
    command.args(["--silent", "--show-error", "--user", &login, &format!("{scheme}://{address}/{path}")]).args(more);
    tools::succeed(&mut command, b"").await
}

/// curl that sends a message by submission, logged in.
pub async fn curl_send(address: SocketAddr, user: &User, to: &str, message: &str) -> Result {
    let mut command = Command::new("curl");
    let login = format!("{}:{}", user.name, user.password);
    let from = format!("{}@test", user.name);
    command.args(["--silent", "--show-error", "--user", &login, "--mail-from", &from, "--mail-rcpt", to]);
    command.args(["--upload-file", "-", &format!("smtp://{address}/client.test")]);
    tools::succeed(&mut command, message.as_bytes()).await.map(drop)
}

/// mbsync of all mailboxes with a new Maildir below `dir`, both ways; gives mailbox and text of its messages.
pub async fn mbsync(dir: &Path, address: SocketAddr, user: &User) -> Result<BTreeSet<(String, String)>> {
    fs::create_dir_all(dir)?;
    let mail = dir.join("mail");
    fs::create_dir_all(&mail)?;
    let rc = dir.join("mbsyncrc");
    fs::write(
        &rc,
        format!(
            "IMAPAccount it\nHost {}\nPort {}\nUser {}\nPass {}\nSSLType None\n\nIMAPStore far\nAccount it\n\n\
             MaildirStore near\nPath {mail}/\nInbox {mail}/INBOX\nSubFolders Verbatim\n\n\
             Channel all\nFar :far:\nNear :near:\nPatterns *\nCreate Both\nExpunge Both\nSyncState *\n",
            address.ip(),
            address.port(),
            user.name,
            user.password,
            mail = mail.display()
        ),
    )?;
    let mut command = Command::new("mbsync");
    command.env("HOME", dir).args(["--config", &rc.display().to_string(), "--all"]);
    tools::succeed(&mut command, b"").await?;
    messages(&mail)
}

fn messages(mail: &Path) -> Result<BTreeSet<(String, String)>> {
    let mut found = BTreeSet::new();
    for mailbox in fs::read_dir(mail)? {
        let mailbox = mailbox?;
        for part in ["cur", "new"] {
            for file in fs::read_dir(mailbox.path().join(part))? {
                let text = fs::read_to_string(file?.path())?;
                // mbsync's own mark, different in every run.
                let text = text.lines().filter(|line| !line.starts_with("X-TUID: ")).collect::<Vec<_>>().join("\n");
                found.insert((mailbox.file_name().to_string_lossy().into_owned(), text));
            }
        }
    }
    Ok(found)
}

/// getmail of all messages by POP3; gives their texts, one behind the other. It hands them to a server by LMTP, the only
/// destination for which it starts no program: it installs its handler for the end of one only after the start, and one
/// that was faster on a busy machine is waited for in vain, up to its `timeout` of 180 s.
pub async fn getmail(dir: &Path, address: SocketAddr, user: &User) -> Result<String> {
    fs::create_dir_all(dir)?;
    let (sink, rc) = (Sink::start().await?, dir.join("getmailrc"));
    let text = format!(
        "[retriever]\ntype = SimplePOP3Retriever\nserver = {}\nport = {}\nusername = {}\npassword = {}\n\
         [destination]\ntype = MDA_lmtp\nhost = {}\nport = {}\noverride = getmail@far.test\n\
         [options]\nread_all = true\ndelete = false\n",
        address.ip(),
        address.port(),
        user.name,
        user.password,
        sink.address.ip(),
        sink.address.port()
    );
    write_secret(&rc, &text)?;
    let mut command = Command::new("getmail");
    command.env("HOME", dir).arg("--getmaildir").arg(dir).arg("--rcfile").arg(&rc);
    tools::succeed(&mut command, b"").await?;
    Ok(sink.mails().into_iter().map(|mail| mail.text.replace("\r\n", "\n")).collect())
}

/// fetchmail of all messages by POP3 into a file below `dir`, one behind the other; gives that file's text.
pub async fn fetchmail(dir: &Path, address: SocketAddr, user: &User) -> Result<String> {
    fs::create_dir_all(dir)?;
    let (into, rc) = (dir.join("fetchmail"), dir.join("fetchmailrc"));
    let text = format!(
        "set no bouncemail\npoll {} service {} protocol pop3 username {:?} password {:?} sslproto \"\" keep fetchall \
         mda \"cat >> {}\"\n",
        address.ip(),
        address.port(),
        user.name,
        user.password,
        into.display()
    );
    write_secret(&rc, &text)?;
    let mut command = Command::new("fetchmail");
    command.env("HOME", dir).env("FETCHMAILHOME", dir).arg("-f").arg(&rc).args(["--nosyslog", "--nodetach"]);
    tools::succeed(&mut command, b"").await?;
    Ok(fs::read_to_string(into)?)
}

/// swaks by submission, logged in, with more arguments such as `--tls`; gives the dialogue.
pub async fn swaks(address: SocketAddr, user: &User, to: &str, subject: &str, more: &[&str]) -> Result<String> {
    let mut command = swaks_to(address, to, subject);
    command.args(["--auth", "PLAIN", "--auth-user", &user.name, "--auth-password", &user.password]).args(more);
    tools::succeed(&mut command, b"").await
}

/// swaks by LMTP, with more arguments such as `--tls`; gives the dialogue.
pub async fn swaks_lmtp(address: SocketAddr, to: &str, subject: &str, more: &[&str]) -> Result<String> {
    tools::succeed(swaks_to(address, to, subject).args(["--protocol", "LMTP"]).args(more), b"").await
}

fn swaks_to(address: SocketAddr, to: &str, subject: &str) -> Command {
    let mut command = Command::new("swaks");
    command.args(["--server", &address.to_string(), "--from", "swaks@far.test", "--to", to]);
    command.args(["--header", &format!("Subject: {subject}"), "--body", "By swaks."]);
    command
}

/// sieve-connect without TLS, with `action` such as `--list`; gives what it prints.
pub async fn sieve_connect(address: SocketAddr, user: &User, action: &[&str]) -> Result<String> {
    let mut command = Command::new("sieve-connect");
    command.args(["--server", &address.ip().to_string(), "--port", &address.port().to_string()]);
    // What is read from a descriptor is the password with its line end cut.
    command.args(["--user", &user.name, "--passwordfd", "0", "--notlsverify"]).args(action);
    tools::succeed(&mut command, format!("{}\n", user.password).as_bytes()).await
}

/// A script for Python with host, port, user and password, then `more`, as its arguments; gives what it prints.
pub async fn python(script: &str, address: SocketAddr, user: &User, more: &[&str]) -> Result<String> {
    let mut command = Command::new("python3");
    command.args(["-c", script, &address.ip().to_string(), &address.port().to_string(), &user.name, &user.password]);
    tools::succeed(command.args(more), b"").await
}

/// A file that nobody else may read, as fetchmail demands.
fn write_secret(path: &Path, text: &str) -> Result {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).context("its mode")
}
