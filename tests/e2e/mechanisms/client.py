"""A mail client that knows SASL and nothing else: logs in once, and prints as JSON what it saw.

One argument, JSON: protocol, host, port, tls ("none", "starttls", "implicit"), mechanism, user, and as the mechanism
needs: authzid, password, token, flag ("n", "y" or "p=NAME" of SCRAM), certificate and key; leaves: it hangs up behind its
first answer.
"""
import base64, hashlib, hmac, json, os, re, socket, ssl, sys

o = json.loads(sys.argv[1])
b64, unb64 = (lambda b: base64.b64encode(b).decode()), base64.b64decode
seen = {"mechanisms": [], "before": None, "verified": None, "shown": []}


def binding(flag, s):
    if flag in ("n", "y"):
        return b""
    assert flag == "p=tls-server-end-point", flag
    return hashlib.sha256(s.getpeercert(binary_form=True)).digest()


def scram(s):
    """Yields what is said; is sent what the server says; returns once the server has shown that it knows the password."""
    name = "sha256" if "256" in o["mechanism"] else "sha1"
    flag, quote = o.get("flag", "n"), lambda t: t.replace("=", "=3D").replace(",", "=2C")
    header = f"{flag},{'a=' + quote(o['authzid']) if o.get('authzid') else ''},"
    nonce = b64(os.urandom(18))
    bare = f"n={quote(o['user'])},r={nonce}"
    first = (yield (header + bare).encode()).decode()
    fields = dict(f.split("=", 1) for f in first.split(","))
    assert fields["r"].startswith(nonce) and len(fields["r"]) >= len(nonce) + 18, first
    seen["salt"], seen["rounds"] = fields["s"], int(fields["i"])
    salted = hashlib.pbkdf2_hmac(name, o["password"].encode(), unb64(fields["s"]), seen["rounds"])
    mac = lambda key, text: hmac.new(key, text, name).digest()
    without = f"c={b64(header.encode() + binding(flag, s))},r={fields['r']}"
    text = ",".join((bare, first, without)).encode()
    key = mac(salted, b"Client Key")
    proof = bytes(a ^ b for a, b in zip(key, mac(hashlib.new(name, key).digest(), text)))
    last = yield f"{without},p={b64(proof)}".encode()
    seen["verified"] = last == b"v=" + b64(mac(mac(salted, b"Server Key"), text)).encode()
    while True:
        yield b""


def bearer(_):
    head = f"n,{'a=' + o['user'] if o['user'] else ''}," if o["mechanism"] == "OAUTHBEARER" else f"user={o['user']}"
    said = yield f"{head}\x01auth=Bearer {o['token']}\x01\x01".encode()
    while True:
        seen["shown"].append(json.loads(said))
        said = yield b"\x01" if o["mechanism"] == "OAUTHBEARER" else b""


def external(_):
    while True:
        yield (o.get("authzid") or "").encode()


def plain(_):
    yield f"{o.get('authzid') or ''}\0{o['user']}\0{o['password']}".encode()


class Line:
    def __init__(self):
        self.s = socket.create_connection((o["host"], o["port"]), timeout=60)
        if o["tls"] == "implicit":
            self.wrap()
        self.f = self.s.makefile("rb")

    def wrap(self):
        context = ssl._create_unverified_context()
        if o.get("certificate"):
            context.load_cert_chain(o["certificate"], o["key"])
        self.s = context.wrap_socket(self.s, server_hostname="mail.test")
        self.f = self.s.makefile("rb")

    def say(self, text):
        self.s.sendall(text.encode() + b"\r\n")

    def hear(self):
        line = self.f.readline()
        assert line.endswith(b"\r\n"), line
        return line[:-2].decode()


class Imap(Line):
    def greet(self): self.hear()
    def offered(self):
        self.say("c CAPABILITY")
        line = self.hear()
        assert self.hear().startswith("c OK")
        return re.findall(r"AUTH=(\S+)", line)
    def starttls(self):
        self.say("s STARTTLS")
        assert self.hear().startswith("s OK")
    def begin(self, first): self.say(f"a AUTHENTICATE {o['mechanism']} {b64(first) or '='}")
    def heard(self):
        while True:
            line = self.hear()
            if line.startswith("+ ") or line == "+": return "more", unb64(line[2:])
            if line.startswith("a "): return ("ok" if line.startswith("a OK") else "no"), line[2:]
    def answer(self, text): self.say(b64(text))


class Pop3(Line):
    def greet(self): self.hear()
    def offered(self):
        self.say("CAPA")
        found, line = [], self.hear()
        while line != ".":
            line = self.hear()
            if line.startswith("SASL "): found = line.split()[1:]
        return found
    def starttls(self):
        self.say("STLS")
        assert self.hear().startswith("+OK")
    def begin(self, first): self.say(f"AUTH {o['mechanism']} {b64(first) or '='}")
    def heard(self):
        line = self.hear()
        if line.startswith("+ "): return "more", unb64(line[2:])
        return ("ok" if line.startswith("+OK") else "no"), line
    def answer(self, text): self.say(b64(text))


class Submission(Line):
    def greet(self): self.hear()
    def offered(self):
        self.say("EHLO client.test")
        found, line = [], "250-"
        while line[3] == "-":
            line = self.hear()
            if line[4:].startswith("AUTH "): found = line[4:].split()[1:]
        return found
    def starttls(self):
        self.say("STARTTLS")
        assert self.hear().startswith("220")
    def begin(self, first): self.say(f"AUTH {o['mechanism']} {b64(first) or '='}")
    def heard(self):
        line = self.hear()
        if line.startswith("334"): return "more", unb64(line[4:])
        return ("ok" if line.startswith("235") else "no"), line
    def answer(self, text): self.say(b64(text))


class Sieve(Line):
    def list(self):
        found, line = [], ""
        while not line.startswith("OK"):
            line = self.hear()
            if line.startswith('"SASL" '): found = line[7:].strip('"').split()
        return found
    def greet(self): self.first = self.list()
    def offered(self): return self.first
    def starttls(self):
        self.say("STARTTLS")
        assert self.hear().startswith("OK")
    def wrap(self):
        super().wrap()
        if o["tls"] == "starttls": self.first = self.list()
    def begin(self, first): self.say(f'AUTHENTICATE "{o["mechanism"]}" "{b64(first)}"')
    def heard(self):
        line = self.hear()
        if line.startswith('"'): return "more", unb64(line.strip('"'))
        literal = re.match(r"\{(\d+)\+?\}$", line)
        if literal:
            text = self.f.read(int(literal[1]))
            self.hear()
            return "more", unb64(text)
        return ("ok" if line.startswith("OK") else "no"), line
    def answer(self, text): self.say(f'"{b64(text)}"')


def run():
    line = {"imap": Imap, "pop3": Pop3, "sieve": Sieve, "submission": Submission}[o["protocol"]]()
    line.greet()
    if o["tls"] == "starttls":
        seen["before"] = line.offered()
        line.starttls()
        line.wrap()
    seen["mechanisms"] = line.offered()
    m = o["mechanism"]
    talk = (scram if m.startswith("SCRAM") else bearer if m in ("OAUTHBEARER", "XOAUTH2") else external if m == "EXTERNAL" else plain)(line.s)
    line.begin(next(talk))
    status, text = line.heard()
    while status == "more":
        line.answer(talk.send(text))
        if o.get("leaves"):
            return line.s.close()
        status, text = line.heard()
    shown = re.match(r'OK \(SASL "([^"]*)"', text)
    if status == "ok" and shown:
        talk.send(unb64(shown[1]))
    seen["status"], seen["text"] = status, text


run()
print(json.dumps(seen))
