//! Ctrl-C: once while the network is trained, it ends the training; else, it ends the program.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// What shells say of a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// A flag that the next Ctrl-C sets; the one after that ends the program.
pub fn flag() -> Result<&'static AtomicBool, ctrlc::Error> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED);
        }
    })?;
    Ok(&STOP)
}

/// From now on, Ctrl-C ends the program.
pub fn training_is_over() {
    STOP.store(true, Ordering::Relaxed);
}
