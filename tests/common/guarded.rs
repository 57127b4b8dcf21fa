//! Floats with memory directly before or behind them that faults when it is touched: masked-off lanes that a kernel reads all the
//! same do not show in any result.

/// At which end of the memory that may be touched floats stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    First,
    Last,
}

pub use imp::Floats;

#[cfg(all(target_os = "linux", not(miri)))]
mod imp {
    use std::ffi::{c_int, c_void};
    use std::slice;

    use super::End;

    // std links the C library already.
    unsafe extern "C" {
        fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: isize) -> *mut c_void;
        fn mprotect(at: *mut c_void, len: usize, prot: c_int) -> c_int;
        fn munmap(at: *mut c_void, len: usize) -> c_int;
    }
    const NONE: c_int = 0;
    const READ_WRITE: c_int = 3;
    const PRIVATE_ANONYMOUS: c_int = 0x22;

    /// A multiple of every system's page.
    const PAGE: usize = 1 << 16;

    /// Floats, 0 at first, between two pages that may not be touched; at one of them there is no room left.
    pub struct Floats {
        pages: *mut c_void,
        /// Of what may be touched.
        bytes: usize,
        len: usize,
        end: End,
    }

    impl Floats {
        pub fn new(len: usize, end: End) -> Self {
            let bytes = (len * size_of::<f32>()).next_multiple_of(PAGE);
            // SAFETY: a new mapping, of which all but the first and the last page is made accessible.
            let pages = unsafe {
                let pages = mmap(std::ptr::null_mut(), bytes + 2 * PAGE, NONE, PRIVATE_ANONYMOUS, -1, 0);
                assert_ne!(pages.addr(), usize::MAX, "mmap");
                if bytes > 0 {
                    assert_eq!(mprotect(pages.byte_add(PAGE), bytes, READ_WRITE), 0, "mprotect");
                }
                pages
            };
            Self { pages, bytes, len, end }
        }

        fn start(&self) -> *mut f32 {
            let spare = match self.end {
                End::First => 0,
                End::Last => self.bytes - self.len * size_of::<f32>(),
            };
            self.pages.wrapping_byte_add(PAGE + spare).cast()
        }

        pub fn as_slice(&self) -> &[f32] {
            // SAFETY: the mapping holds that many floats, and it starts as zeros.
            unsafe { slice::from_raw_parts(self.start(), self.len) }
        }

        pub fn as_mut_slice(&mut self) -> &mut [f32] {
            // SAFETY: as above, and this is the only borrow.
            unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
        }

        /// Makes them so many, within the room of as many as they were made for; what they hold is anything.
        pub fn resize(&mut self, len: usize) -> &mut [f32] {
            assert!(len * size_of::<f32>() <= self.bytes);
            self.len = len;
            self.as_mut_slice()
        }
    }

    impl Clone for Floats {
        fn clone(&self) -> Self {
            let mut copy = Self::new(self.len, self.end);
            copy.as_mut_slice().copy_from_slice(self.as_slice());
            copy
        }
    }

    impl Drop for Floats {
        fn drop(&mut self) {
            // SAFETY: the mapping is this value's own.
            unsafe { munmap(self.pages, self.bytes + 2 * PAGE) };
        }
    }

    // SAFETY: it owns its floats, as a Vec does.
    unsafe impl Send for Floats {}
    // SAFETY: as above.
    unsafe impl Sync for Floats {}
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod imp {
    use super::End;

    /// Floats; on this system, and under Miri, nothing stands guard beside them.
    #[derive(Clone)]
    pub struct Floats(Vec<f32>);

    impl Floats {
        pub fn new(len: usize, _: End) -> Self {
            Self(vec![0.0; len])
        }

        pub fn as_slice(&self) -> &[f32] {
            &self.0
        }

        pub fn as_mut_slice(&mut self) -> &mut [f32] {
            &mut self.0
        }

        pub fn resize(&mut self, len: usize) -> &mut [f32] {
            self.0.resize(len, 0.0);
            &mut self.0
        }
    }
}
