//! Sources of the network, as a whole: a real Dovecot and one that the test plays, and web services that the test plays.

mod dovecot;
mod fields;
mod greeting;
mod http;
mod parts;
