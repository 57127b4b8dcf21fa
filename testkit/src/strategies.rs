//! Strategies for property tests.

use densely::Activation;
use proptest::prelude::*;
use proptest::sample::select;

use crate::activations::activations;
use crate::emulation::EMULATED;
use crate::matrix::Layout;
use crate::values::Values;

pub fn any_activation() -> impl Strategy<Value = Activation> {
    select(activations())
}

pub fn any_layout() -> impl Strategy<Value = Layout> {
    select(&Layout::ALL[..])
}

pub fn any_values() -> impl Strategy<Value = Values> {
    select(&Values::ALL[..])
}

/// Sets the number of random cases, under emulation a third of it; `PROPTEST_CASES` overrides both.
pub fn cases(cases: u32) -> ProptestConfig {
    let cases = if EMULATED { cases.div_ceil(3) } else { cases };
    let default = ProptestConfig { failure_persistence: None, ..ProptestConfig::default() };
    if std::env::var_os("PROPTEST_CASES").is_some() { default } else { ProptestConfig { cases, ..default } }
}
