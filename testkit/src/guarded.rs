//! Floats beside a page that faults when it is touched.
//!
//! Lanes that a kernel reads past an operand, masks and drops show in no result; here they end the process.

/// The side of the floats on which the guard page lies directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    Before,
    After,
}

impl Guard {
    pub const BOTH: [Self; 2] = [Self::Before, Self::After];
}

pub use memory::GuardedFloats;

#[cfg(all(target_os = "linux", not(miri)))]
mod memory {
    use std::ffi::{c_int, c_void};
    use std::slice;

    use super::Guard;

    // std links the C library already.
    unsafe extern "C" {
        fn mmap(at: *mut c_void, len: usize, prot: c_int, flags: c_int, fd: c_int, offset: isize) -> *mut c_void;
        fn mprotect(at: *mut c_void, len: usize, prot: c_int) -> c_int;
        fn munmap(at: *mut c_void, len: usize) -> c_int;
    }
    const PROT_NONE: c_int = 0;
    const PROT_READ_WRITE: c_int = 3;
    const MAP_PRIVATE_ANONYMOUS: c_int = 0x22;

    /// A multiple of every system's page size.
    const PAGE: usize = 1 << 16;

    /// Floats, zeros at first, in whole pages between two guard pages; they begin or end at one of these.
    pub struct GuardedFloats {
        /// The mapping: a guard page, `bytes`, a guard page.
        mapping: *mut c_void,
        /// Accessible bytes, a multiple of [`PAGE`].
        bytes: usize,
        /// Floats, at most as many as `bytes` hold.
        len: usize,
        guard: Guard,
    }

    impl GuardedFloats {
        pub fn new(len: usize, guard: Guard) -> Self {
            let bytes = (len * size_of::<f32>()).next_multiple_of(PAGE);
            // SAFETY: the mapping is new, so nothing refers to it; `mprotect` changes pages inside it.
            let mapping = unsafe {
                let mapping = mmap(std::ptr::null_mut(), bytes + 2 * PAGE, PROT_NONE, MAP_PRIVATE_ANONYMOUS, -1, 0);
                assert_ne!(mapping.addr(), usize::MAX, "mmap");
                if bytes > 0 {
                    assert_eq!(mprotect(mapping.byte_add(PAGE), bytes, PROT_READ_WRITE), 0, "mprotect");
                }
                mapping
            };
            Self { mapping, bytes, len, guard }
        }

        fn start(&self) -> *mut f32 {
            let unused = match self.guard {
                Guard::Before => 0,
                Guard::After => self.bytes - self.len * size_of::<f32>(),
            };
            self.mapping.wrapping_byte_add(PAGE + unused).cast()
        }

        pub fn as_slice(&self) -> &[f32] {
            // SAFETY: `len` floats from `start` on lie within the accessible pages, which the system fills
            // with zeros.
            unsafe { slice::from_raw_parts(self.start(), self.len) }
        }

        pub fn as_mut_slice(&mut self) -> &mut [f32] {
            // SAFETY: as in `as_slice`, and `&mut self` is the only borrow of the mapping.
            unsafe { slice::from_raw_parts_mut(self.start(), self.len) }
        }

        /// Changes the number of floats, at most to that of `new`; their values are arbitrary.
        pub fn resize(&mut self, len: usize) -> &mut [f32] {
            assert!(len * size_of::<f32>() <= self.bytes);
            self.len = len;
            self.as_mut_slice()
        }
    }

    impl Clone for GuardedFloats {
        fn clone(&self) -> Self {
            let mut copy = Self::new(self.len, self.guard);
            copy.as_mut_slice().copy_from_slice(self.as_slice());
            copy
        }
    }

    impl Drop for GuardedFloats {
        fn drop(&mut self) {
            // SAFETY: `mapping` is of this length and belongs to this value alone.
            unsafe { munmap(self.mapping, self.bytes + 2 * PAGE) };
        }
    }

    // SAFETY: the pointer is to memory that this value owns, as a `Vec`'s is.
    unsafe impl Send for GuardedFloats {}
    // SAFETY: as above; `&self` only reads.
    unsafe impl Sync for GuardedFloats {}
}

#[cfg(not(all(target_os = "linux", not(miri))))]
mod memory {
    use super::Guard;

    /// Floats without guard pages, which this system, or Miri, does not have; Miri sees a stray access by
    /// itself.
    #[derive(Clone)]
    pub struct GuardedFloats(Vec<f32>);

    impl GuardedFloats {
        pub fn new(len: usize, _: Guard) -> Self {
            Self(vec![0.0; len])
        }

        pub fn as_slice(&self) -> &[f32] {
            &self.0
        }

        pub fn as_mut_slice(&mut self) -> &mut [f32] {
            &mut self.0
        }

        /// Changes the number of floats; their values are arbitrary.
        pub fn resize(&mut self, len: usize) -> &mut [f32] {
            self.0.resize(len, 0.0);
            &mut self.0
        }
    }
}
