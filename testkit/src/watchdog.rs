//! Ends tests that hang.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use crate::emulation::EMULATED;

/// Runs `run`, and aborts the process if that takes longer than a minute.
///
/// Under emulation the limit is ten minutes.
pub fn within_a_minute<T>(what: &str, run: impl FnOnce() -> T) -> T {
    let limit = Duration::from_secs(if EMULATED { 600 } else { 60 });
    let (done, is_done) = channel::<()>();
    thread::scope(|scope| {
        scope.spawn(move || {
            if is_done.recv_timeout(limit) == Err(RecvTimeoutError::Timeout) {
                eprintln!("{what}: not done after {limit:?}");
                std::process::abort();
            }
        });
        // Dropped also when `run` panics, which ends the wait above.
        let _done = done;
        run()
    })
}
