//! Buffers that are used again: fresh memory for every piece of a large stream costs a page fault each four kilobytes.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Gives out buffers of one size, and takes them back when the last of those who read them is done.
///
/// It keeps as many as were ever in use at the same time, which the queues between stages bound.
#[derive(Clone)]
pub struct Pool {
    size: usize,
    idle: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Pool {
    /// `size`: of each buffer, in bytes.
    pub fn new(size: usize) -> Self {
        Self {
            size,
            idle: Arc::default(),
        }
    }

    pub fn take(&self) -> Buffer {
        let idle = lock(&self.idle).pop();
        Buffer {
            bytes: idle.unwrap_or_else(|| vec![0; self.size].into()),
            filled: 0,
            home: self.idle.clone(),
        }
    }
}

fn lock(idle: &Mutex<Vec<Box<[u8]>>>) -> std::sync::MutexGuard<'_, Vec<Box<[u8]>>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A buffer that is being filled.
pub struct Buffer {
    bytes: Box<[u8]>,
    filled: usize,
    home: Arc<Mutex<Vec<Box<[u8]>>>>,
}

impl Buffer {
    /// What may still be written to; [`Buffer::advance`] says how much of it was.
    pub fn room(&mut self) -> &mut [u8] {
        &mut self.bytes[self.filled..]
    }

    pub fn advance(&mut self, bytes: usize) {
        self.filled = (self.filled + bytes).min(self.bytes.len());
    }

    /// Copies as much of `bytes` as there is room for; how much that is.
    pub fn put(&mut self, bytes: &[u8]) -> usize {
        let room = self.room();
        let length = bytes.len().min(room.len());
        room[..length].copy_from_slice(&bytes[..length]);
        self.advance(length);
        length
    }

    pub fn is_empty(&self) -> bool {
        self.filled == 0
    }

    pub fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    /// What has been filled, to be handed on.
    pub fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes[..self.filled]
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        lock(&self.home).push(std::mem::take(&mut self.bytes));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_comes_back_only_when_nobody_reads_it_any_more() {
        let pool = Pool::new(4);
        let mut buffer = pool.take();
        assert_eq!(buffer.put(b"abcdef"), 4);
        assert!(buffer.is_full());
        let bytes = buffer.freeze();
        let slice = bytes.slice(1..3);
        drop(bytes);

        let mut other = pool.take();
        assert!(other.is_empty());
        other.put(b"x");
        assert_eq!(&slice[..], b"bc");
        assert_eq!(&other.freeze()[..], b"x");
        drop(slice);
        assert_eq!(lock(&pool.idle).len(), 2);
        assert!(pool.take().is_empty(), "what it held is forgotten");
    }
}
