//! Replaces `spin_pool` without the feature `rayon`: there are no workers, so that calls run on their thread.

use std::sync::Arc;

/// The workers of a calling thread, of which there are none.
pub(super) enum SpinPool {}

impl SpinPool {
    pub(super) fn of_this_thread() -> Option<Arc<Self>> {
        None
    }

    pub(super) fn max_workers(&self) -> usize {
        match *self {}
    }

    pub(super) fn spinning(&self, _wanted: usize) -> usize {
        match *self {}
    }

    pub(super) fn wake(self: &Arc<Self>, _wanted: usize, _long: bool) {
        match **self {}
    }

    pub(super) fn fork_join(&self, _wanted: usize, _job: &(dyn Fn(usize) + Sync)) {
        match *self {}
    }
}
