//! Memory for floats.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// So many zeros, if there is memory for them.
pub(crate) fn zeros(len: usize) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).ok()?;
    values.resize(len, 0.0);
    Some(values)
}

/// So many floats, whose first is the first of a cache line: where rows are whole lines, too, no vector takes two.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// With room to begin anywhere in the first line.
    floats: Vec<f32>,
    first: usize,
    len: usize,
}

impl Buffer {
    /// Zeros.
    pub(crate) fn new(len: usize) -> Self {
        let floats = vec![0.0; if len > 0 { len + LINE / size_of::<f32>() - 1 } else { 0 }];
        let first = floats.as_ptr().align_offset(LINE).min(floats.len() - len);
        Self { floats, first, len }
    }

    /// Makes it so long. What it held stays while there is room for the length; else all are zeros.
    pub(crate) fn resize(&mut self, len: usize) {
        if len > self.floats.len().saturating_sub(self.first) {
            *self = Self::new(len);
        }
        self.len = len;
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.floats[self.first..][..self.len]
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.floats[self.first..][..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_a_cache_line_and_has_the_length_that_was_asked_for() {
        for len in [0, 1, 15, 16, 17, 1000, 100_000] {
            let mut buffer = Buffer::new(len);
            assert_eq!(buffer.len(), len);
            assert!(buffer.iter().all(|&value| value == 0.0));
            assert!(len == 0 || buffer.as_ptr().cast::<u8>().align_offset(LINE) == 0);
            buffer.fill(1.0);
            buffer.resize(len / 2);
            assert_eq!(buffer.len(), len / 2);
            buffer.resize(len);
            assert!(buffer.iter().all(|&value| value == 1.0));
            buffer.resize(len + 100);
            assert_eq!(buffer.len(), len + 100);
            assert_eq!(buffer.as_ptr().cast::<u8>().align_offset(LINE), 0);
        }
    }
}
