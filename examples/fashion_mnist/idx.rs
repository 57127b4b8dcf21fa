//! Reads the IDX format of Fashion-MNIST's files, gzipped or plain.
//!
//! A file has a magic number and the length of each dimension, all big-endian `u32`, then the elements. It
//! may come from anywhere and is not trusted: every field of the header is checked, and memory grows with the
//! bytes that are really there, not with what the header claims.

use std::fmt::{self, Display};
use std::io::{BufRead, Read};

use flate2::bufread::MultiGzDecoder;

/// Rows and columns of an image.
pub const SIDE: usize = 28;
/// Pixels of an image.
pub const PIXELS: usize = SIDE * SIDE;
/// Number of classes; labels are below it.
pub const CLASSES: usize = 10;

/// Most images of a file, about twice Fashion-MNIST: bounds what a few gzipped bytes can expand to.
const MAX_IMAGES: u32 = 1 << 17;
/// The type "unsigned byte", to which the number of dimensions is added for the magic number.
const UNSIGNED_BYTES: u32 = 0x0800;
/// The first byte of a gzipped file; that of an IDX file is 0.
const GZIP: u8 = 0x1f;

/// The expected content of a file, and the content that was found.
#[derive(Debug)]
pub struct Error {
    expected: String,
    found: String,
}

impl Error {
    fn new(expected: impl Display, found: impl Display) -> Self {
        Self { expected: expected.to_string(), found: found.to_string() }
    }
}

impl Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {}, got {}", self.expected, self.found)
    }
}

impl std::error::Error for Error {}

/// Reads the pixels of all images, [`PIXELS`] each, row by row.
pub fn images(input: impl BufRead) -> Result<Vec<u8>, Error> {
    let mut input = unpacked(input)?;
    let [count, rows, cols] = header(&mut input)?;
    if [rows, cols] != [SIDE as u32; 2] {
        return Err(Error::new(format_args!("images of {SIDE} x {SIDE} pixels"), format_args!("{rows} x {cols}")));
    }
    if !(1..=MAX_IMAGES).contains(&count) {
        return Err(Error::new(format_args!("1 to {MAX_IMAGES} images"), count));
    }
    elements(&mut input, count as usize * PIXELS)
}

/// Reads the classes of `images` images.
pub fn labels(input: impl BufRead, images: usize) -> Result<Vec<u8>, Error> {
    let mut input = unpacked(input)?;
    let [count] = header(&mut input)?;
    if count as usize != images {
        return Err(Error::new(format_args!("{images} labels, one per image"), count));
    }
    let labels = elements(&mut input, images)?;
    match labels.iter().position(|&label| usize::from(label) >= CLASSES) {
        Some(at) => Err(Error::new(format_args!("labels below {CLASSES}"), format_args!("{} at {at}", labels[at]))),
        None => Ok(labels),
    }
}

fn unpacked<'a>(mut input: impl BufRead + 'a) -> Result<Box<dyn Read + 'a>, Error> {
    let first = input.fill_buf().map_err(unreadable)?.first();
    // A file may have several gzip members; this decoder reports anything else after a member as an error.
    Ok(if first == Some(&GZIP) { Box::new(MultiGzDecoder::new(input)) } else { Box::new(input) })
}

/// Reads the lengths of `N` dimensions.
fn header<const N: usize>(input: &mut dyn Read) -> Result<[u32; N], Error> {
    let length = size_of::<u32>() * (1 + N);
    let bytes = at_most(input, length)?;
    let (words, _) = bytes.as_chunks();
    let words: Vec<u32> = words.iter().copied().map(u32::from_be_bytes).collect();
    let magic = UNSIGNED_BYTES + N as u32;
    if let Some(found) = words.first().filter(|&&found| found != magic) {
        return Err(Error::new(format_args!("the magic number {magic:#010x}"), format_args!("{found:#010x}")));
    }
    let lengths = words.get(1..).unwrap_or_default();
    lengths
        .try_into()
        .map_err(|_| Error::new(format_args!("a header of {length} bytes"), format_args!("{} bytes", bytes.len())))
}

/// Reads the rest of the input, which must be `count` bytes.
fn elements(input: &mut dyn Read, count: usize) -> Result<Vec<u8>, Error> {
    let expected = format_args!("{count} bytes after the header");
    // Reading one more byte finds trailing bytes, and makes gzip verify its checksum.
    let bytes = at_most(input, count + 1)?;
    match bytes.len() {
        found if found == count => Ok(bytes),
        found if found < count => Err(Error::new(expected, found)),
        _ => Err(Error::new(expected, "more")),
    }
}

fn at_most(input: &mut dyn Read, count: usize) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    input.take(count as u64).read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn unreadable(error: std::io::Error) -> Error {
    Error::new("a readable file", format_args!("the error \"{error}\""))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    const IMAGES: u32 = 0x0803;
    const LABELS: u32 = 0x0801;

    fn idx(magic: u32, lengths: &[u32], elements: &[u8]) -> Vec<u8> {
        let header = [magic].into_iter().chain(lengths.iter().copied());
        header.flat_map(u32::to_be_bytes).chain(elements.iter().copied()).collect()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).and_then(|()| encoder.finish()).expect("memory takes every byte")
    }

    fn two_images() -> Vec<u8> {
        let pixels: Vec<u8> = (0..2 * PIXELS).map(|pixel| (pixel % 251) as u8).collect();
        idx(IMAGES, &[2, 28, 28], &pixels)
    }

    /// The error of reading a bad file.
    fn images_error(file: &[u8]) -> String {
        images(file).expect_err("a bad file").to_string()
    }

    fn labels_error(file: &[u8], images: usize) -> String {
        labels(file, images).expect_err("a bad file").to_string()
    }

    #[test]
    fn good_files_are_read_plain_and_gzipped() {
        let file = two_images();
        assert_eq!(images(&file[..]).expect("a good file"), file[16..]);
        assert_eq!(images(&gzip(&file)[..]).expect("a good file"), file[16..]);
        let file = idx(LABELS, &[3], &[0, 9, 4]);
        assert_eq!(labels(&file[..], 3).expect("a good file"), [0, 9, 4]);
        assert_eq!(labels(&gzip(&file)[..], 3).expect("a good file"), [0, 9, 4]);
    }

    #[test]
    fn gzip_members_are_joined() {
        let file = idx(LABELS, &[3], &[0, 9, 4]);
        let (first, rest) = file.split_at(9);
        assert_eq!(labels(&[gzip(first), gzip(rest)].concat()[..], 3).expect("a good file"), [0, 9, 4]);
    }

    #[test]
    fn every_field_of_the_header_is_checked() {
        let one = [0; PIXELS];
        for magic in [0x0803_0000, 0x0000_0803 | 1 << 24, 0x0000_0803 | 1 << 16, 0x0903, 0x0D03, LABELS, 0x0804, 0] {
            let expected = format!("expected the magic number 0x00000803, got {magic:#010x}");
            assert_eq!(images_error(&idx(magic, &[1, 28, 28], &one)), expected);
        }
        assert_eq!(labels_error(&two_images(), 2), "expected the magic number 0x00000801, got 0x00000803");
        for [rows, cols] in [[28, 27], [27, 28], [0, 28], [14, 56], [u32::MAX, u32::MAX]] {
            let expected = format!("expected images of 28 x 28 pixels, got {rows} x {cols}");
            assert_eq!(images_error(&idx(IMAGES, &[1, rows, cols], &one)), expected);
        }
        for count in [0, MAX_IMAGES + 1, u32::MAX] {
            let expected = format!("expected 1 to 131072 images, got {count}");
            assert_eq!(images_error(&idx(IMAGES, &[count, 28, 28], &one)), expected);
        }
        assert_eq!(labels_error(&idx(LABELS, &[3], &[1, 2, 3]), 2), "expected 2 labels, one per image, got 3");
        assert_eq!(
            labels_error(&idx(LABELS, &[u32::MAX], &[1]), 1),
            "expected 1 labels, one per image, got 4294967295"
        );
    }

    #[test]
    fn labels_without_a_class_are_refused() {
        assert_eq!(labels_error(&idx(LABELS, &[3], &[9, 10, 0]), 3), "expected labels below 10, got 10 at 1");
        assert_eq!(labels_error(&idx(LABELS, &[1], &[255]), 1), "expected labels below 10, got 255 at 0");
    }

    #[test]
    fn a_file_cut_anywhere_is_refused() {
        let file = two_images();
        for length in 0..file.len() {
            let error = images_error(&file[..length]);
            match length {
                0..16 => assert_eq!(error, format!("expected a header of 16 bytes, got {length} bytes")),
                _ => assert_eq!(error, format!("expected 1568 bytes after the header, got {}", length - 16)),
            }
        }
        let packed = gzip(&file);
        for length in 0..packed.len() {
            images_error(&packed[..length]);
        }
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let file = two_images();
        let longer = [&file[..], &[0]].concat();
        assert_eq!(images_error(&longer), "expected 1568 bytes after the header, got more");
        assert_eq!(images_error(&gzip(&longer)), "expected 1568 bytes after the header, got more");
        assert!(images_error(&[&gzip(&file)[..], b"more"].concat()).starts_with("expected a readable file"));
    }

    #[test]
    fn a_wrong_gzip_trailer_is_refused() {
        let packed = gzip(&two_images());
        for from_end in 1..=8 {
            let mut damaged = packed.clone();
            damaged[packed.len() - from_end] ^= 1;
            assert!(images_error(&damaged).starts_with("expected a readable file"), "{from_end} bytes before the end");
        }
    }
}
