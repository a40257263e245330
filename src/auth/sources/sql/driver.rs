//! PostgreSQL, MySQL and MariaDB, SQLite: connecting, asking, and reading columns as text.

use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures_util::TryStreamExt;
use sqlx::mysql::{MySqlConnectOptions, MySqlRow};
use sqlx::postgres::{PgConnectOptions, PgRow};
use sqlx::sqlite::{SqliteConnectOptions, SqliteRow};
use sqlx::{AssertSqlSafe, Column, ConnectOptions, Row, TypeInfo, ValueRef};

use crate::auth::sources::connections::{Connections, Driver, Trouble};
use crate::auth::sources::found::Found;

/// A statement, its values, and how many rows are read.
pub(super) struct Request {
    pub(super) sql: Arc<str>,
    pub(super) values: Vec<String>,
    pub(super) most: usize,
}

/// How a server wants to see where values go.
#[derive(Clone, Copy)]
pub(super) enum Placeholders {
    /// `$1`.
    Numbered,
    /// `?`.
    Marks,
}

/// Any of them.
#[async_trait]
pub(super) trait Database: Send + Sync {
    async fn ask(&self, request: &Request) -> Result<Vec<Found>, Trouble>;
}

#[async_trait]
impl<D: Driver<Request = Request, Answer = Vec<Found>>> Database for Connections<D> {
    async fn ask(&self, request: &Request) -> Result<Vec<Found>, Trouble> {
        Self::ask(self, request).await
    }
}

/// The database at `url`, not yet connected to.
pub(super) fn open(
    url: &str,
    password: Option<&[u8]>,
    timeout: Duration,
) -> Result<(Box<dyn Database>, Placeholders), String> {
    let wrong = |error: sqlx::Error| format!("its url cannot be understood: {error}");
    let password = password.map(|word| std::str::from_utf8(word).map_err(|_| "its password is not UTF-8".to_owned()));
    let password = password.transpose()?;
    let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme);
    Ok(match scheme {
        "postgres" | "postgresql" => {
            let options = PgConnectOptions::from_str(url).map_err(wrong)?.application_name("homing");
            let options = password.into_iter().fold(options, PgConnectOptions::password);
            (Box::new(Connections::new(Postgres(options.disable_statement_logging()), timeout)), Placeholders::Numbered)
        }
        "mysql" | "mariadb" => {
            let url = url.replacen("mariadb://", "mysql://", 1);
            let options = MySqlConnectOptions::from_str(&url).map_err(wrong)?;
            let options = password.into_iter().fold(options, MySqlConnectOptions::password);
            (Box::new(Connections::new(MySql(options.disable_statement_logging()), timeout)), Placeholders::Marks)
        }
        _ => {
            let options = SqliteConnectOptions::from_str(url).map_err(wrong)?.busy_timeout(timeout / 2);
            (Box::new(Connections::new(Sqlite(options.disable_statement_logging()), timeout)), Placeholders::Marks)
        }
    })
}

/// The drivers differ in their types alone.
macro_rules! driver {
    ($driver:ident, $options:ty, $connection:ty, $database:ty, $row:ty) => {
        struct $driver($options);

        #[async_trait]
        impl Driver for $driver {
            type Connection = $connection;
            type Request = Request;
            type Answer = Vec<Found>;

            async fn connect(&self) -> Result<$connection, Trouble> {
                self.0.connect().await.map_err(|error| Trouble::Away(format!("it cannot be connected to: {error}")))
            }

            async fn put(&self, connection: &mut $connection, request: &Request) -> Result<Vec<Found>, Trouble> {
                let mut query = sqlx::query::<$database>(AssertSqlSafe(Arc::clone(&request.sql)));
                for value in &request.values {
                    query = query.bind(value.clone());
                }
                let mut rows = query.fetch(connection);
                let mut found = Vec::new();
                while found.len() < request.most {
                    let Some(row) = rows.try_next().await.map_err(trouble)? else { break };
                    found.push($driver::read(&row)?);
                }
                Ok(found)
            }
        }

        impl $driver {
            /// Every column that is not NULL.
            fn read(row: &$row) -> Result<Found, Trouble> {
                let mut found = Found::default();
                for column in row.columns() {
                    let at = column.ordinal();
                    if row.try_get_raw(at).is_ok_and(|value| value.is_null()) {
                        continue;
                    }
                    let text = Self::text(row, at).ok_or_else(|| {
                        let (name, kind) = (column.name(), column.type_info().name());
                        Trouble::Odd(format!("the column {name} is of type {kind}: cast it to text in the query"))
                    })?;
                    found.add(column.name(), text);
                }
                Ok(found)
            }
        }
    };
}

driver!(Postgres, PgConnectOptions, sqlx::PgConnection, sqlx::Postgres, PgRow);
driver!(MySql, MySqlConnectOptions, sqlx::MySqlConnection, sqlx::MySql, MySqlRow);
driver!(Sqlite, SqliteConnectOptions, sqlx::SqliteConnection, sqlx::Sqlite, SqliteRow);

impl Postgres {
    fn text(row: &PgRow, at: usize) -> Option<String> {
        let text = row.try_get::<String, _>(at).ok();
        text.or_else(|| row.try_get::<bool, _>(at).ok().map(truth))
            .or_else(|| row.try_get::<i64, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| row.try_get::<i32, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| row.try_get::<i16, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| String::from_utf8(row.try_get::<Vec<u8>, _>(at).ok()?).ok())
    }
}

impl MySql {
    fn text(row: &MySqlRow, at: usize) -> Option<String> {
        if row.column(at).type_info().name() == "BOOLEAN" {
            return row.try_get::<bool, _>(at).ok().map(truth);
        }
        let text = row.try_get::<String, _>(at).ok();
        text.or_else(|| row.try_get::<i64, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| row.try_get::<u64, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| String::from_utf8(row.try_get::<Vec<u8>, _>(at).ok()?).ok())
    }
}

impl Sqlite {
    fn text(row: &SqliteRow, at: usize) -> Option<String> {
        if row.column(at).type_info().name() == "BOOLEAN" {
            return row.try_get::<bool, _>(at).ok().map(truth);
        }
        let text = row.try_get::<String, _>(at).ok();
        text.or_else(|| row.try_get::<i64, _>(at).ok().map(|number| number.to_string()))
            .or_else(|| String::from_utf8(row.try_get::<Vec<u8>, _>(at).ok()?).ok())
    }
}

/// As flags are written.
fn truth(is: bool) -> String {
    if is { "yes" } else { "no" }.to_owned()
}

/// An answer of a server that works says nothing about whether it works: who sends a name that its character set lacks must
/// not be able to have it left alone.
fn trouble(error: sqlx::Error) -> Trouble {
    let text = format!("the query failed: {error}");
    match &error {
        sqlx::Error::Database(answer) => {
            // SQLSTATE: connection exception, insufficient resources, operator intervention; 10 and 14 are SQLite's.
            let code = answer.code().unwrap_or_default();
            let away = ["08", "53", "57"].iter().any(|class| code.len() == 5 && code.starts_with(class));
            if away || matches!(&*code, "5" | "6" | "10" | "14" | "26") {
                Trouble::Away(text)
            } else {
                Trouble::Odd(text)
            }
        }
        _ => Trouble::Away(text),
    }
}
