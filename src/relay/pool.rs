//! Buffers that sessions borrow while bytes pass.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// Buffers of one size for all relays. Lends as many as are asked for and keeps a bounded number for the next.
pub struct BufferPool {
    size: usize,
    keep: usize,
    idle: Mutex<Vec<Box<[u8]>>>,
    lent: AtomicUsize,
}

impl BufferPool {
    /// A TLS record's worth: larger buffers gain little, smaller ones cost calls.
    pub const SIZE: usize = 16 * 1024;

    /// Buffers of `size` bytes (at least one), of which at most `keep` are kept while nobody needs them.
    pub fn new(size: usize, keep: usize) -> Arc<Self> {
        let idle = Mutex::new(Vec::with_capacity(keep));
        Arc::new(Self { size: size.max(1), keep, idle, lent: AtomicUsize::new(0) })
    }

    /// Borrows a buffer. Its content is whatever the last borrower left.
    pub fn lend(self: &Arc<Self>) -> Loan {
        let kept = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        self.lent.fetch_add(1, Ordering::Relaxed);
        let bytes = kept.unwrap_or_else(|| vec![0; self.size].into_boxed_slice());
        Loan { bytes, pool: Arc::clone(self) }
    }

    /// How many are lent now.
    pub fn lent(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// How many are kept for the next borrower.
    pub fn kept(&self) -> usize {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn take_back(&self, bytes: Box<[u8]>) {
        self.lent.fetch_sub(1, Ordering::Relaxed);
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < self.keep {
            idle.push(bytes);
        }
    }
}

/// A borrowed buffer. Goes back when dropped.
pub struct Loan {
    bytes: Box<[u8]>,
    pool: Arc<BufferPool>,
}

impl std::ops::Deref for Loan {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl std::ops::DerefMut for Loan {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        self.pool.take_back(std::mem::take(&mut self.bytes));
    }
}
