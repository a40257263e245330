//! demo
mod mailbox;
