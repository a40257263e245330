//! A joined answer that must be whole before its first byte is said: what is long is kept in a file without a name.

use std::io::{self, SeekFrom};

use hyper::body::Bytes;
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

/// Bytes that are kept in memory.
const MEMORY_MAX: usize = 256 * 1024;
/// Bytes that are kept at all.
const SPOOL_MAX: u64 = 1024 * 1024 * 1024;
/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// What was said so far.
#[derive(Default)]
pub(super) struct Spool {
    memory: Vec<u8>,
    file: Option<File>,
    size: u64,
}

impl Spool {
    /// More of it.
    pub(super) async fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.size += bytes.len() as u64;
        if self.size > SPOOL_MAX {
            return Err(io::Error::other("the answer is longer than 1 GiB"));
        }
        self.memory.extend(bytes);
        if self.memory.len() < MEMORY_MAX {
            return Ok(());
        }
        if self.file.is_none() {
            let made = tokio::task::spawn_blocking(tempfile::tempfile).await;
            self.file = Some(File::from_std(made.map_err(io::Error::other)??));
        }
        if let Some(file) = &mut self.file {
            file.write_all(&self.memory).await?;
            self.memory.clear();
        }
        Ok(())
    }

    /// All was put that shall be read.
    pub(super) async fn rewind(&mut self) -> io::Result<()> {
        match &mut self.file {
            Some(file) => {
                file.flush().await?;
                file.seek(SeekFrom::Start(0)).await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// The next bytes, from the first; none behind the last.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        if let Some(file) = &mut self.file {
            let mut piece = Vec::with_capacity(PIECE);
            if file.read_buf(&mut piece).await? > 0 {
                return Ok(piece.into());
            }
        }
        Ok(std::mem::take(&mut self.memory).into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)] // so do tests end

    use super::*;

    #[tokio::test]
    async fn what_is_kept_comes_back_in_order_and_only_a_little_of_it_is_in_memory() {
        for pieces in [0_usize, 1, 2000] {
            let mut spool = Spool::default();
            for number in 0..pieces {
                spool.put(format!("{number:999}\n").as_bytes()).await.unwrap();
                assert!(spool.memory.len() < MEMORY_MAX);
            }
            spool.rewind().await.unwrap();
            let mut back = Vec::new();
            loop {
                match spool.next().await.unwrap() {
                    bytes if bytes.is_empty() => break,
                    bytes => back.extend(bytes),
                }
            }
            let numbers: Vec<usize> =
                String::from_utf8(back).unwrap().lines().map(|line| line.trim().parse().unwrap()).collect();
            assert_eq!(numbers, (0..pieces).collect::<Vec<_>>());
            assert_eq!(spool.file.is_some(), pieces == 2000);
        }
    }
}
