//! Real servers, each in a directory of its own and on a free port of 127.0.0.1. They end with their test.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// How long a server may take to come up.
const PATIENCE: Duration = Duration::from_secs(120);

/// A process that is killed when this is dropped, or when the test's thread ends in whatever way.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    start: fn(&Path, u16) -> Command,
    child: Option<Child>,
}

impl Server {
    fn new(dir: TempDir, start: fn(&Path, u16) -> Command) -> Self {
        let mut server = Self { dir, port: free_port(), start, child: None };
        server.start();
        server
    }

    /// Starts it (again), and waits until it takes connections.
    pub(crate) fn start(&mut self) {
        let begun = Instant::now();
        loop {
            let log = fs::File::create(self.dir.path().join("log")).unwrap();
            let mut command = (self.start)(self.dir.path(), self.port);
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            self.child = Some(command.spawn().unwrap());
            while self.is_alive() {
                if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                    return;
                }
                assert!(begun.elapsed() < PATIENCE, "{}", self.log());
                pause();
            }
            assert!(begun.elapsed() < PATIENCE, "{}", self.log());
            pause(); // the port of one that was killed may still be taken
        }
    }

    fn is_alive(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| child.try_wait().unwrap().is_none())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        // Children of PostgreSQL end by themselves; until then they hold their connections.
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
            assert!(begun.elapsed() < PATIENCE, "it does not die");
            pause();
        }
    }

    /// It and its children neither answer nor close.
    pub(crate) fn hang(&self) {
        let stopped = self.signal("STOP");
        let begun = Instant::now();
        while !stopped.iter().all(|pid| is_stopped(pid)) {
            assert!(begun.elapsed() < PATIENCE, "it does not stop");
            pause();
        }
    }

    pub(crate) fn go_on(&self) {
        self.signal("CONT");
    }

    /// To whom the signal went.
    fn signal(&self, name: &str) -> Vec<String> {
        let pid = self.child.as_ref().unwrap().id().to_string();
        let children = Command::new("ps").args(["-o", "pid=", "--ppid", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let pids: Vec<String> =
            std::iter::once(pid.as_str()).chain(children.split_whitespace()).map(str::to_owned).collect();
        for pid in &pids {
            let _ = Command::new("kill").args([&format!("-{name}"), pid]).status().unwrap();
        }
        pids
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.go_on();
            self.kill();
        }
    }
}

/// Every thread of it, or it is gone.
fn is_stopped(pid: &str) -> bool {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let states = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
    let mut states = states.filter_map(|stat| stat.rsplit_once(") ").map(|(_, state)| state.to_owned()));
    states.all(|state| state.starts_with(['T', 'Z']))
}

fn pause() {
    std::thread::sleep(Duration::from_millis(20)); // between two looks at a condition
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// A program that dies with the test's thread; as another user where root may not run it.
fn program(name: &str, user: Option<&str>) -> Command {
    let mut command = Command::new("setpriv");
    if let Some(user) = user.filter(|_| is_root()) {
        command.args(["--reuid", user, "--regid", user, "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(found(name));
    command
}

fn is_root() -> bool {
    rustix::process::getuid().is_root()
}

/// Debian keeps servers in places of their own.
fn found(name: &str) -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|dir| dir.path().join("bin"));
    let places = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"].map(PathBuf::from);
    let mut candidates = versions.chain(places).map(|place| place.join(name));
    candidates.find(|path| path.exists()).unwrap_or_else(|| panic!("{name} is missing: run tests/run --install"))
}

/// Runs it to its end, with this as its input.
fn run(mut command: Command, input: &str) {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_owned();
    let writer = std::thread::spawn(move || stdin.write_all(input.as_bytes()));
    let output = child.wait_with_output().unwrap();
    let _ = writer.join();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A directory that servers of other users can get into.
fn directory() -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    dir
}

/// An OpenLDAP with these entries below dc=x, and TLS under the name 127.0.0.1 (ca.pem in its directory).
pub(crate) fn slapd(ldif: &str) -> Server {
    let dir = directory();
    let at = dir.path().display().to_string();
    let certified = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    fs::write(dir.path().join("ca.pem"), certified.cert.pem()).unwrap();
    fs::write(dir.path().join("key.pem"), certified.signing_key.serialize_pem()).unwrap();
    fs::create_dir(dir.path().join("db")).unwrap();
    let conf = format!(
        "include /etc/ldap/schema/core.schema\ninclude /etc/ldap/schema/cosine.schema\ninclude /etc/ldap/schema/nis.schema\n\
         include /etc/ldap/schema/inetorgperson.schema\nmodulepath /usr/lib/ldap\nmoduleload back_mdb\n\
         pidfile {at}/pid\nargsfile {at}/args\nTLSCertificateFile {at}/ca.pem\nTLSCertificateKeyFile {at}/key.pem\n\
         database mdb\nsuffix \"dc=x\"\nrootdn \"cn=admin,dc=x\"\nrootpw admin-word\ndirectory {at}/db\nindex uid eq\n\
         access to attrs=userPassword by dn.base=\"cn=homing,dc=x\" read by anonymous auth by * none\n\
         access to * by dn.base=\"cn=homing,dc=x\" read by * none\nlimits dn.base=\"cn=homing,dc=x\" size=500 size.prtotal=unlimited\n"
    );
    fs::write(dir.path().join("slapd.conf"), conf).unwrap();
    let mut add = program("slapadd", None);
    add.arg("-f").arg(dir.path().join("slapd.conf"));
    run(add, ldif);
    Server::new(dir, |dir, port| {
        let mut command = program("slapd", None);
        let socket = dir.join("ldapi").display().to_string().replace('/', "%2F");
        command.args(["-d", "0", "-h", &format!("ldap://127.0.0.1:{port} ldapi://{socket}")]);
        command.arg("-f").arg(dir.join("slapd.conf"));
        command
    })
}

/// A Dovecot that does nothing but check passwords, with these lines in its configuration and these users.
pub(crate) fn dovecot_auth(lines: &str, users: &str) -> Server {
    let dir = directory();
    fs::write(dir.path().join("users"), users).unwrap();
    fs::write(dir.path().join("lines.conf"), lines).unwrap();
    Server::new(dir, |dir, port| {
        let at = dir.display();
        let lines = fs::read_to_string(dir.join("lines.conf")).unwrap();
        let conf = format!(
            "base_dir = {at}/run\nstate_dir = {at}/state\nlog_path = /dev/stderr\nprotocols =\nssl = no\n\
             passdb {{\n  driver = passwd-file\n  args = {at}/users\n}}\nuserdb {{\n  driver = static\n  args = uid=nobody gid=nogroup\n}}\n\
             service auth {{\n  inet_listener {{\n    address = 127.0.0.1\n    port = {port}\n  }}\n  client_limit = 100\n}}\n\
             service anvil {{\n  chroot =\n}}\ndefault_process_limit = 10\ndefault_client_limit = 100\n{lines}\n"
        );
        fs::write(dir.join("dovecot.conf"), conf).unwrap();
        let mut command = program("dovecot", None);
        command.arg("-F").arg("-c").arg(dir.join("dovecot.conf"));
        command
    })
}

/// Somebody logs in at such a Dovecot.
pub(crate) fn log_in_at_dovecot(server: &Server, facts: &[&str], user: &str, password: &str) -> bool {
    let mut command = program("doveadm", None);
    command.arg("-c").arg(server.dir.path().join("dovecot.conf")).args(["auth", "test"]);
    command.args(facts.iter().flat_map(|fact| ["-x", fact])).args([user, password]);
    command.output().unwrap().status.success()
}

/// A PostgreSQL with the user "homing" (password "db-word") and what this statement makes.
pub(crate) fn postgres(sql: &str) -> Server {
    let dir = directory();
    let word = dir.path().join("word");
    fs::write(&word, "db-word\n").unwrap();
    let mut init = program("initdb", Some("postgres"));
    init.args(["-U", "homing", "--auth=scram-sha-256", "-E", "UTF8", "--no-locale", "--no-sync"]);
    init.arg("-D").arg(dir.path().join("data")).arg("--pwfile").arg(&word);
    run(init, "");
    let server = Server::new(dir, |dir, port| {
        let mut command = program("postgres", Some("postgres"));
        command.arg("-D").arg(dir.join("data")).args(["-p", &port.to_string(), "-c", "fsync=off"]);
        command.args(["-c", "listen_addresses=127.0.0.1", "-c", "shared_buffers=16MB"]);
        command.arg("-k").arg(dir);
        command
    });
    let client = |arguments: &[&str]| {
        let mut client = program("psql", None);
        client.args(["-h", "127.0.0.1", "-p", &server.port.to_string(), "-U", "homing", "-d", "postgres"]);
        client.args(["-v", "ON_ERROR_STOP=1"]).args(arguments).env("PGPASSWORD", "db-word");
        client
    };
    retried(|| client(&["-c", "SELECT 1"]).output().unwrap().status.success());
    run(client(&[]), sql);
    server
}

/// A MariaDB with the user "homing" (password "db-word"), the database "mail" and what this statement makes in it.
pub(crate) fn mariadb(sql: &str) -> Server {
    let dir = directory();
    let mut init = program("mariadb-install-db", None);
    init.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", "--user=root"]);
    init.arg(format!("--datadir={}", dir.path().join("data").display()));
    run(init, "");
    let server = Server::new(dir, |dir, port| {
        let mut command = program("mariadbd", None);
        command.args(["--no-defaults", "--user=root", "--bind-address=127.0.0.1", "--skip-name-resolve"]);
        command.arg(format!("--datadir={}", dir.join("data").display()));
        command.arg(format!("--socket={}", dir.join("my.sock").display()));
        command.args([&format!("--port={port}"), "--innodb-flush-log-at-trx-commit=2", "--innodb-log-file-size=8M"]);
        command
    });
    let mut client = program("mariadb", None);
    client.args(["--no-defaults", "-u", "root", "--default-character-set=utf8mb4"]);
    client.arg(format!("--socket={}", server.dir.path().join("my.sock").display()));
    let users = "CREATE USER homing@'127.0.0.1' IDENTIFIED BY 'db-word'; CREATE DATABASE mail CHARACTER SET utf8mb4;\n\
                 GRANT ALL ON mail.* TO homing@'127.0.0.1'; USE mail;\n";
    run(client, &format!("{users}{sql}"));
    server
}

fn retried(works: impl Fn() -> bool) {
    let begun = Instant::now();
    while !works() {
        assert!(begun.elapsed() < PATIENCE, "it does not come up");
        pause();
    }
}
