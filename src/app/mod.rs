//! Joins the rooms from a [`Config`]: `proxy.rs` is one proxy from start to stop, `reload.rs` what a changed file does to
//! it, `process.rs` the process around it: signals, limits, admin door; `check.rs` what is wrong with the
//! files that a configuration names; `memory.rs` what the fleet remembers of passdbs.

mod check;
mod listening;
mod memory;
mod process;
mod proxy;
mod reload;
mod tools;

pub use check::check;
pub use process::{close_to_others, open_store, serve};
pub use proxy::{Proxy, Stores, rules};
pub use reload::ReloadError;
