//! Logins by SASL mechanisms beyond PLAIN, from clients that others have written to a mail server that checks them anew.

mod certificates;
mod scram;
mod site;
mod tokens;
