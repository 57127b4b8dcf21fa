//! Reads arbitrary bytes as an IDX file, plain or gzipped.
#![no_main]

#[path = "../../examples/fashion_mnist/idx.rs"]
mod idx;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(pixels) = idx::images(data) {
        assert!(!pixels.is_empty() && pixels.len() % idx::PIXELS == 0);
    }
    for images in [0, 1, 3] {
        if let Ok(labels) = idx::labels(data, images) {
            assert!(labels.len() == images && labels.iter().all(|&label| usize::from(label) < idx::CLASSES));
        }
    }
});
