//! Logging set-up; `names.rs` lists the fields of the lines that operators count.
//!
//! A process has one log, to standard error, whatever number of proxies run in it: whoever owns the process starts it
//! once and hands a [`LogHandle`] to those that may change its level.

pub mod names;

use std::io;

use tracing_subscriber::filter::{EnvFilter, ParseError};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, Registry, fmt, reload};

use crate::config::{LogConfig, LogFormat};

/// Why the log could not be started or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// `log.level` is not a filter.
    #[error("\"{level}\" is not a log level")]
    Level {
        /// What was asked for.
        level: String,
        /// What is wrong with it.
        source: ParseError,
    },
    /// The process has a log already.
    #[error("the log of this process was started before")]
    Started(#[from] TryInitError),
    /// The process is ending.
    #[error("the log is gone")]
    Gone(#[from] reload::Error),
}

/// The running log. Clones belong to the same log.
#[derive(Clone, Debug)]
pub struct LogHandle(reload::Handle<EnvFilter, Registry>);

impl LogHandle {
    /// Changes what is logged from now on, for the whole process. `level` is as in `log.level`.
    ///
    /// # Errors
    /// If it is not a filter; then the old one stays.
    pub fn set_level(&self, level: &str) -> Result<(), LogError> {
        Ok(self.0.reload(filter(level)?)?)
    }
}

/// Starts the log of this process. Times are UTC as of RFC 3339.
///
/// # Errors
/// If the level is not a filter, or the process has a log already.
pub fn start(config: &LogConfig) -> Result<LogHandle, LogError> {
    let (subscriber, handle) = subscriber(config, io::stderr)?;
    subscriber.try_init()?;
    Ok(handle)
}

/// The parts of a log that writes to `out`.
fn subscriber<W>(config: &LogConfig, out: W) -> Result<(impl SubscriberInitExt, LogHandle), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    // Colours only where a person reads along; a service manager's journal is not a terminal.
    let colours = io::IsTerminal::is_terminal(&io::stderr());
    let lines = match config.format {
        LogFormat::Text => fmt::layer().with_writer(out).with_ansi(colours).boxed(),
        LogFormat::Json => fmt::layer().with_writer(out).json().flatten_event(true).with_current_span(false).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(lines), LogHandle(handle)))
}

/// The library for TLS warns of every oddity that a stranger sends, without saying whose it was; what matters of it stands in
/// our own line about the connection. Whoever wants to hear it names it in `level`, which comes later and so counts.
const STRANGERS: &str = "rustls=error";

fn filter(level: &str) -> Result<EnvFilter, LogError> {
    EnvFilter::builder()
        .parse(format!("{STRANGERS},{level}"))
        .map_err(|source| LogError::Level { level: level.to_owned(), source })
}

#[cfg(test)]
mod tests;
