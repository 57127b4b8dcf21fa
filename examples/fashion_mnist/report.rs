//! What the model makes of the test images, for people to read on a terminal.

use std::io::{self, Write};

use densely::nn::Sequential;

use crate::data::{CLASS_NAMES, Samples};
use crate::idx::{CLASSES, SIDE};

/// Images that are drawn; side by side they fill 80 columns.
const DRAWN: usize = 5;
/// Images that are listed.
const LISTED: usize = 10;

/// A character of the Braille block has 4 rows of 2 dots, each with a bit of its own.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
/// The character without dots; those with dots follow it.
const NO_DOTS: u32 = 0x2800;
/// Bayer's thresholds turn the grey of an area into so many dots.
const THRESHOLDS: [[f32; 4]; 4] =
    [[0.03, 0.53, 0.16, 0.66], [0.78, 0.28, 0.91, 0.41], [0.22, 0.72, 0.09, 0.59], [0.97, 0.47, 0.84, 0.34]];

/// What the model says of an image.
pub struct Guess {
    /// The true class.
    pub truth: usize,
    /// The class that got the highest probability.
    pub class: usize,
    pub probability: f32,
}

impl Guess {
    pub fn is_right(&self) -> bool {
        self.class == self.truth
    }
}

/// A guess for each sample.
pub fn guesses(model: &Sequential, samples: &Samples) -> densely::Result<Vec<Guess>> {
    let probabilities = model.predict(samples.x()?)?;
    let guess = |(probabilities, &truth): (&[f32], &u8)| {
        let best = (0..).zip(probabilities).max_by(|(_, a), (_, b)| a.total_cmp(b));
        let (class, &probability) = best.unwrap_or((0, &f32::NAN));
        Guess { truth: truth.into(), class, probability }
    };
    Ok(probabilities.chunks_exact(CLASSES).zip(&samples.labels).map(guess).collect())
}

/// Draws the first images and lists a few more.
pub fn write(out: &mut dyn Write, samples: &Samples, guesses: &[Guess]) -> io::Result<()> {
    let drawings: Vec<Vec<String>> = samples.images().take(DRAWN).map(braille).collect();
    for line in 0..SIDE / DOTS.len() {
        let parts: Vec<&str> = drawings.iter().map(|drawing| drawing[line].as_str()).collect();
        writeln!(out, " {}", parts.join("  "))?;
    }
    writeln!(out, "\n image  true class   predicted     probability")?;
    for (number, guess) in guesses.iter().enumerate().take(LISTED) {
        let Guess { truth, class, probability } = guess;
        let (truth, class) = (CLASS_NAMES[*truth], CLASS_NAMES[*class]);
        let mark = if guess.is_right() { "" } else { "  ✗ wrong" };
        writeln!(out, "{number:>6}  {truth:<11}  {class:<11}  {:>11.1} %{mark}", probability * 100.0)?;
    }
    Ok(())
}

/// An image as lines of characters, a dot a pixel.
fn braille(image: &[f32]) -> Vec<String> {
    let rows: Vec<&[f32]> = image.chunks(SIDE).collect();
    let lit = |row: usize, col: usize| rows[row][col] > THRESHOLDS[row % 4][col % 4];
    let character = |top: usize, left: usize| {
        let places = (0..4).flat_map(|row| (0..2).map(move |col| (row, col)));
        let dots = places.filter(|(row, col)| lit(top + row, left + col)).map(|(row, col)| DOTS[row][col]);
        char::from_u32(NO_DOTS + dots.sum::<u32>()).unwrap_or(' ')
    };
    let line = |top| (0..SIDE).step_by(2).map(|left| character(top, left)).collect();
    (0..SIDE).step_by(4).map(line).collect()
}
