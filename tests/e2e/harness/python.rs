//! Sessions as Python's libraries have them, for [`super::programs::python`]. Each prints what it was told, without what
//! differs from run to run.

/// imaplib: reading, and IDLE's absence of surprises.
pub const IMAPLIB: &str = r#"
import imaplib, re, sys
host, port, user, password = sys.argv[1:5]
m = imaplib.IMAP4(host, int(port), timeout=20)
def show(what, answer):
    status, data = answer
    print(what, status, [re.sub(rb" \([0-9.+ ]+secs\)", b"", d) if isinstance(d, bytes) else d for d in data])
# Whether capabilities come in this answer or before it is the server's choice.
print("login", m.authenticate("PLAIN", lambda _: b"\0" + user.encode() + b"\0" + password.encode())[0])
show("capability", m.capability())
show("list", m.list())
show("namespace", m.namespace())
show("select", m.select("INBOX", readonly=True))
show("search", m.search(None, "SUBJECT", '"Gr"'))
show("fetch", m.fetch("1:*", "(UID FLAGS RFC822.SIZE BODY.PEEK[])"))
show("sort", m.sort("REVERSE DATE", "UTF-8", "ALL"))
show("thread", m.thread("REFERENCES", "UTF-8", "ALL"))
show("status", m.status("Archive", "(MESSAGES UNSEEN)"))
try:
    show("nonsense", m.xatom("XNONSENSE"))
except imaplib.IMAP4.error as e:
    print("nonsense", e)
show("close", m.close())
show("noop", m.noop())
print("logout", m.logout()[0])
"#;

/// poplib: all messages, and what it says of them.
pub const POPLIB: &str = r#"
import poplib, sys
host, port, user, password = sys.argv[1:5]
m = poplib.POP3(host, int(port), timeout=20)
print("capa", "PIPELINING" in m.capa())
print("user", m.user(user))
print("pass", m.pass_(password))
print("stat", m.stat())
print("list", m.list())
print("uidl", m.uidl())
for n in range(1, m.stat()[0] + 1):
    print("retr", m.retr(n))
print("top", m.top(1, 1))
try:
    print("retr", m.retr(9999))
except poplib.error_proto as e:
    print("retr", e)
print("rset", m.rset())
print("noop", m.noop())
print("quit", m.quit())
"#;

/// smtplib: a message with the subject and for the recipient that come as further arguments.
pub const SMTPLIB: &str = r#"
import smtplib, sys
host, port, user, password, subject, to = sys.argv[1:7]
m = smtplib.SMTP(host, int(port), local_hostname="python.test", timeout=20)
print("ehlo", m.ehlo()[0], sorted(name for name in m.esmtp_features if name in ("pipelining", "8bitmime", "chunking")))
print("login", m.login(user, password))
text = f"From: {user}@test\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nBy smtplib.\r\n.\r\n"
print("refused", m.sendmail(f"{user}@test", [to], text, mail_options=["BODY=8BITMIME"]))
print("noop", m.noop()[0])
print("quit", m.quit()[0])
"#;

/// smtplib under TLS, by "starttls" or "implicit", the last argument; any certificate will do.
pub const SMTPLIB_TLS: &str = r#"
import smtplib, ssl, sys
host, port, user, password, subject, to, tls = sys.argv[1:8]
context = ssl._create_unverified_context()
if tls == "implicit":
    m = smtplib.SMTP_SSL(host, int(port), local_hostname="python.test", timeout=20, context=context)
else:
    m = smtplib.SMTP(host, int(port), local_hostname="python.test", timeout=20)
    print("starttls", m.starttls(context=context)[0])
print("login", m.login(user, password)[0])
text = f"From: {user}@test\r\nTo: {to}\r\nSubject: {subject}\r\n\r\nBy smtplib.\r\n"
print("refused", m.sendmail(f"{user}@test", [to], text))
print("quit", m.quit()[0])
"#;

/// ManageSieve over a bare socket: a script is put, listed, read and removed again.
pub const MANAGESIEVE: &str = r#"
import base64, re, socket, sys
host, port, user, password = sys.argv[1:5]
s = socket.create_connection((host, int(port)), timeout=20)
f = s.makefile("rb")
def answer(what, show=True):
    lines = []
    while True:
        line = f.readline()
        assert line.endswith(b"\r\n"), line
        literal = re.search(rb"\{(\d+)\+?\}\r\n$", line)
        if literal:
            line += f.read(int(literal[1])) + f.readline()
        lines.append(line)
        if re.match(rb"(OK|NO|BYE)\b", line):
            break
    print(what, lines if show else lines[-1][:2])
def say(what, text, show=True):
    s.sendall(text.encode() + b"\r\n")
    answer(what, show)
# Who greets, and with which words, is the server's choice.
answer("greeting", show=False)
say("login", 'AUTHENTICATE "PLAIN" "%s"' % base64.b64encode(f"\0{user}\0{password}".encode()).decode())
say("capability", "CAPABILITY")
script = 'require "fileinto";\r\nfileinto "Python";\r\n'
say("check", "CHECKSCRIPT {%d+}\r\n%s" % (len(script), script))
say("put", 'PUTSCRIPT "python" {%d+}\r\n%s' % (len(script), script))
say("list", "LISTSCRIPTS")
say("get", 'GETSCRIPT "python"')
say("wrong", 'PUTSCRIPT "wrong" "nonsense"')
say("delete", 'DELETESCRIPT "python"')
say("none", 'GETSCRIPT "python"')
say("logout", "LOGOUT")
"#;
