//! Fewer of many like cases where a processor is emulated.

/// Whether these tests run under qemu or Miri, at a hundredth of a processor's speed.
pub const EMULATED: bool = cfg!(any(target_arch = "aarch64", miri));

/// Returns all of them; under emulation the first `count`.
pub fn first_if_emulated<T>(all: &[T], count: usize) -> &[T] {
    if EMULATED { &all[..count] } else { all }
}
