/// Where CI runs the tests under emulation, at a hundredth of a processor's speed, or Miri does: fewer of many like cases there.
pub const EMULATED: bool = cfg!(any(target_arch = "aarch64", miri));

/// All of them, or under emulation so many of the first.
pub fn some<T>(all: &[T], emulated: usize) -> &[T] {
    if EMULATED { &all[..emulated] } else { all }
}
