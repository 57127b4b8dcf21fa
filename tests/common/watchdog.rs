//! An end for what hangs.

use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use super::emulated::EMULATED;

/// Runs something; if it takes longer than a minute (ten under emulation), the whole process ends with a word.
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
        // Dropped when `run` panics, too.
        let _done = done;
        run()
    })
}
