//! Memory for floats: aligned buffers, and slices cut from the front.

use std::ops::{Deref, DerefMut};

/// Bytes of a cache line.
const LINE: usize = 64;

/// Allocates `len` zeros, if there is memory for them.
pub(crate) fn zeros(len: usize) -> Option<Vec<f32>> {
    let mut values = Vec::new();
    values.try_reserve_exact(len).ok()?;
    values.resize(len, 0.0);
    Some(values)
}

/// Splits off the first `count` elements, or all if there are fewer; the others stay.
pub(crate) fn take_front<'a, T>(slice: &mut &'a mut [T], count: usize) -> &'a mut [T] {
    slice.split_off_mut(..count.min(slice.len())).unwrap_or_default()
}

/// Floats that begin at a cache line: where rows are whole lines, too, no vector lies across two.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// As many as the length needs beginning anywhere in a line.
    floats: Vec<f32>,
    first: usize,
    len: usize,
}

impl Buffer {
    /// Allocates `len` zeros.
    pub(crate) fn new(len: usize) -> Self {
        let floats = vec![0.0; if len > 0 { len + LINE / size_of::<f32>() - 1 } else { 0 }];
        let first = floats.as_ptr().align_offset(LINE).min(floats.len() - len);
        Self { floats, first, len }
    }

    /// Sets the length. The content stays if the memory is large enough; else all are zeros.
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
    fn buffers_begin_a_cache_line_and_keep_what_they_hold() {
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
