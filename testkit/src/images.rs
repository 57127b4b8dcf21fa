//! The Fashion-MNIST images that the repository carries.

use std::io::Read;

use flate2::read::GzDecoder;

/// Pixels of an image.
pub const PIXELS: usize = 28 * 28;

/// Returns the first of 12,000 training images, `count` x [`PIXELS`] in 0..=1, and their labels.
pub fn fashion_mnist(count: usize) -> (Vec<f32>, Vec<u8>) {
    let images = idx(include_bytes!("../../data/fashion-mnist/train-images-idx3-ubyte.gz"), 16, count * PIXELS);
    let labels = idx(include_bytes!("../../data/fashion-mnist/train-labels-idx1-ubyte.gz"), 8, count);
    (images.iter().map(|&pixel| f32::from(pixel) / 255.0).collect(), labels)
}

/// Reads the first `len` bytes after the header of a gzipped IDX file.
fn idx(file: &[u8], header: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; header + len];
    GzDecoder::new(file).read_exact(&mut bytes).unwrap();
    bytes.split_off(header)
}
