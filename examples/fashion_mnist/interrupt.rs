//! Handles Ctrl-C: the first one during training ends the training, any other one the program.

use std::process;
use std::sync::atomic::{AtomicBool, Ordering};

/// The exit code that shells give a program that Ctrl-C has ended.
const INTERRUPTED: i32 = 130;

static STOP: AtomicBool = AtomicBool::new(false);

/// Returns a flag that the next Ctrl-C sets; the one after that ends the program.
pub fn flag() -> Result<&'static AtomicBool, ctrlc::Error> {
    ctrlc::set_handler(|| {
        if STOP.swap(true, Ordering::Relaxed) {
            process::exit(INTERRUPTED);
        }
    })?;
    Ok(&STOP)
}

/// Makes the next Ctrl-C end the program.
pub fn end_of_training() {
    STOP.store(true, Ordering::Relaxed);
}
