//! Who closed a session, and in which phase. Closed enums with fixed words: operators and their scripts count them.

/// How far a connection had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Reading the PROXY header.
    Header,
    /// TLS handshake with the client.
    Tls,
    /// Dialogue before login.
    Preauth,
    /// Asking the passdb.
    Auth,
    /// Finding the user's home.
    Placement,
    /// Connecting and logging in at the backend.
    Connect,
    /// Relaying.
    Relay,
}

impl Phase {
    /// The fixed word of logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Tls => "tls",
            Self::Preauth => "preauth",
            Self::Auth => "auth",
            Self::Placement => "placement",
            Self::Connect => "connect",
            Self::Relay => "relay",
        }
    }
}

/// Whose doing the end was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Who {
    /// The mail client.
    Client,
    /// The mail server.
    Backend,
    /// This proxy.
    Proxy,
}

/// Why a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The client said LOGOUT before login, or closed in good order.
    ClientClosed,
    /// The client's connection broke.
    ClientLost,
    /// The client was silent for too long.
    ClientIdle,
    /// The client broke the protocol or a bound (the log line says how).
    ClientFault,
    /// The TLS handshake with the client failed.
    TlsFailed,
    /// The PROXY header was missing, broken or from an untrusted address.
    HeaderFault,
    /// Login was refused too often.
    TooManyFailures,
    /// The backend closed in good order (also its answer to LOGOUT).
    BackendClosed,
    /// The backend's connection broke.
    BackendLost,
    /// The user was kicked: the key has another home now.
    Kicked,
    /// The proxy was cut off from the store for too long and must assume that its keys were given away.
    Isolated,
    /// The proxy shut down.
    Shutdown,
    /// Too many connections.
    Overloaded,
    /// The login was under way when `limits.login_timeout` was over.
    LoginTimeout,
}

impl Ending {
    /// The fixed word of logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::ClientClosed => "client_closed",
            Self::ClientLost => "client_lost",
            Self::ClientIdle => "client_idle",
            Self::ClientFault => "client_fault",
            Self::TlsFailed => "tls_failed",
            Self::HeaderFault => "header_fault",
            Self::TooManyFailures => "too_many_failures",
            Self::BackendClosed => "backend_closed",
            Self::BackendLost => "backend_lost",
            Self::Kicked => "kicked",
            Self::Isolated => "isolated",
            Self::Shutdown => "shutdown",
            Self::Overloaded => "overloaded",
            Self::LoginTimeout => "login_timeout",
        }
    }

    /// A running session may finish what it is at before it ends for this reason.
    pub fn may_wait(self) -> bool {
        matches!(self, Self::Kicked | Self::Shutdown)
    }

    /// Whose doing it was.
    pub fn who(self) -> Who {
        match self {
            Self::ClientClosed
            | Self::ClientLost
            | Self::ClientIdle
            | Self::ClientFault
            | Self::TlsFailed
            | Self::HeaderFault
            | Self::TooManyFailures => Who::Client,
            Self::BackendClosed | Self::BackendLost => Who::Backend,
            Self::Kicked | Self::Isolated | Self::Shutdown | Self::Overloaded | Self::LoginTimeout => Who::Proxy,
        }
    }
}

impl Who {
    /// The fixed word of logs and metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Backend => "backend",
            Self::Proxy => "proxy",
        }
    }
}
