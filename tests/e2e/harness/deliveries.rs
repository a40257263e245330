//! What Dovecot's LMTP processes log, each of which serves one connection at a time:
//!
//! ```text
//! lmtp(25028): Info: Connect from 127.0.0.1
//! lmtp(anna)<25028><SESSION>: Info: msgid=<x@y>, to=<anna+work@test>, time=4, saved mail to work
//! lmtp(25028): Info: Disconnect from 192.0.2.7: Logged out (state=READY)
//! ```
//!
//! SESSION is the connection's, for the second recipient with `:R2` behind it, in the third transaction with `:T3`. What
//! stands behind `time=` begins with `sieve:` if the user has a script. XCLIENT shows in the last line alone.

use std::collections::BTreeMap;

/// One delivery.
pub struct Delivery<'a> {
    /// To whom.
    pub user: &'a str,
    /// Dovecot's name for it.
    pub session: &'a str,
    /// Microseconds from the message's last byte to the line.
    pub span: u64,
}

/// The deliveries of one server.
#[derive(Default)]
pub struct Deliveries<'a> {
    /// For each process the deliveries of the connection that it has.
    under_way: BTreeMap<&'a str, Vec<usize>>,
    /// Deliveries whose connections have ended, and where these came from.
    pub addresses: Vec<(usize, &'a str)>,
}

impl<'a> Deliveries<'a> {
    /// Reads a line without its stamp. The delivery that it reports, if any, will be known as `number`.
    pub fn read(&mut self, line: &'a str, number: usize) -> Option<Delivery<'a>> {
        let (who, what) = line.strip_prefix("lmtp(")?.split_once(": Info: ")?;
        let Some((user, rest)) = who.strip_suffix('>').and_then(|who| who.split_once(")<")) else {
            self.connection(who.strip_suffix(')')?, what);
            return None;
        };
        let (process, session) = rest.split_once("><")?;
        let millis: u64 = what.split(", ").find_map(|part| part.strip_prefix("time=")?.parse().ok())?;
        self.under_way.entry(process).or_default().push(number);
        Some(Delivery { user, session, span: millis * 1000 })
    }

    fn connection(&mut self, process: &'a str, what: &'a str) {
        let numbers = self.under_way.remove(process).unwrap_or_default();
        if let Some((address, _)) = what.strip_prefix("Disconnect from ").and_then(|rest| rest.split_once(": ")) {
            self.addresses.extend(numbers.into_iter().map(|number| (number, address)));
        }
    }
}
