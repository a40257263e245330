//! Real parts for fleets on loopback: Redis, Dovecot, Postfix, HAProxy, `homing` itself, clients of every mail protocol,
//! and a witness of what the backends saw. Every server has an address of its own in 127.0.0.0/8, so that any number of tests run side by side,
//! and dies with the test, however that ends.

pub mod address;
pub mod apart;
pub mod callers;
pub mod certs;
pub mod cluster;
pub mod crowd;
pub mod deliveries;
pub mod dice;
pub mod doveadm;
pub mod dovecot;
pub mod fleet;
pub mod haproxy;
pub mod imap;
pub mod lan;
pub mod letter;
pub mod mailstore;
pub mod pop3;
pub mod postfix;
pub mod process;
pub mod programs;
pub mod protocol;
pub mod proxy;
pub mod pulse;
pub mod python;
pub mod redis;
pub mod scripted;
pub mod secured;
pub mod sentinel;
pub mod services;
pub mod sieve;
pub mod sink;
pub mod smtp;
pub mod talk;
pub mod tools;
pub mod users;
pub mod wait;
pub mod wire;
pub mod witness;
pub mod workdir;

pub use callers::{Caller, Callers};
pub use certs::Authority;
pub use cluster::Cluster;
pub use crowd::{Crowd, Habit};
pub use doveadm::Doveadm;
pub use dovecot::Dovecot;
pub use fleet::Fleet;
pub use haproxy::HaProxy;
pub use imap::{Imap, Status};
pub use lan::{Lan, Net};
pub use mailstore::MailStore;
pub use pop3::Pop3;
pub use postfix::Postfix;
pub use protocol::Protocol;
pub use proxy::Proxy;
pub use pulse::Pulse;
pub use redis::Redis;
pub use secured::Secured;
pub use sentinel::SentinelSet;
pub use sieve::Sieve;
pub use sink::Sink;
pub use smtp::{Dialect, Smtp};
pub use users::User;
pub use wait::eventually;
pub use witness::{Visit, Witness};
pub use workdir::Workdir;

/// What a test returns: any failed step ends it with its cause.
pub type Result<T = ()> = anyhow::Result<T>;
