//! The instruction sets of the host.

use std::num::NonZeroUsize;
use std::sync::Once;

use densely::{Backend, Isa, Threads};

/// Names the instruction sets that the host must have, separated by commas.
///
/// CI sets it, so that a skip never looks like a pass.
pub const EXPECT_ISA_VARIABLE: &str = "DENSELY_EXPECT_ISA";

/// Returns the instruction sets that [`EXPECT_ISA_VARIABLE`] names; none if it is not set.
pub fn expected_isas() -> Vec<Isa> {
    let names = std::env::var(EXPECT_ISA_VARIABLE).unwrap_or_default();
    let names = names.split(',').filter(|name| !name.is_empty());
    names.map(|name| name.parse().unwrap_or_else(|error| panic!("{EXPECT_ISA_VARIABLE}: {error}"))).collect()
}

/// Returns a backend for each instruction set of the host, the best first; panics if an expected one is
/// missing.
pub fn backends() -> Vec<Backend> {
    static EXPECTED: Once = Once::new();
    let available = Isa::available();
    EXPECTED.call_once(|| {
        for isa in expected_isas() {
            assert!(available.contains(&isa), "{isa} is expected, available are {available:?}");
        }
    });
    available.into_iter().map(|isa| Backend::with_isa(isa).unwrap()).collect()
}

/// Returns [`backends`] on the calling thread alone.
pub fn serial_backends() -> Vec<Backend> {
    backends().into_iter().map(|backend| backend.with_threads(Threads::One)).collect()
}

/// Returns those of [`backends`] that keep the numeric contract bit for bit.
///
/// That is all but the portable one, which lacks fused multiply-add.
pub fn exact_backends() -> Vec<Backend> {
    backends().into_iter().filter(|backend| backend.isa() != Isa::Portable).collect()
}

/// Returns this number of threads, whatever the work.
pub fn exactly(threads: usize) -> Threads {
    Threads::Exactly(NonZeroUsize::new(threads).unwrap())
}
