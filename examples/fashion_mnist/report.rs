//! Prints predictions for test images on a terminal.

use std::io::{self, Write};

use densely::nn::Sequential;

use crate::data::{CLASS_NAMES, Samples};
use crate::idx::{CLASSES, SIDE};

/// The first images, which are drawn and listed; side by side they take 80 columns.
const FIRST: usize = 5;
/// Wrong predictions that are listed.
const MISTAKES: usize = 5;

/// A character of the Braille block has 4 rows of 2 dots, each with a bit of its own.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];
/// The character without dots; those with dots follow it.
const NO_DOTS: u32 = 0x2800;
/// Pixels brighter than this become dots: a threshold shows shapes better than dithering.
const BRIGHT: f32 = 0.3;

/// The prediction for an image.
pub struct Prediction {
    /// The true class.
    pub truth: usize,
    /// The most probable class.
    pub class: usize,
    pub probability: f32,
}

impl Prediction {
    pub fn is_correct(&self) -> bool {
        self.class == self.truth
    }
}

/// Predicts the class of each sample.
pub fn predict(model: &Sequential, samples: &Samples) -> densely::Result<Vec<Prediction>> {
    let classes = model.predict_classes(samples.x()?)?;
    let probabilities = model.predict(samples.x()?)?;
    let outputs = classes.into_iter().zip(probabilities.chunks_exact(CLASSES));
    let prediction = |((class, outputs), &truth): ((usize, &[f32]), &u8)| Prediction {
        truth: truth.into(),
        class,
        probability: outputs[class],
    };
    Ok(outputs.zip(&samples.labels).map(prediction).collect())
}

/// Selects the first images and then the first mistakes among the others, with their numbers.
pub fn choice(predictions: &[Prediction], first: usize, mistakes: usize) -> impl Iterator<Item = (usize, &Prediction)> {
    let others = predictions.iter().enumerate().skip(first);
    predictions
        .iter()
        .enumerate()
        .take(first)
        .chain(others.filter(|(_, prediction)| !prediction.is_correct()).take(mistakes))
}

/// Draws the first images, and lists them and some mistakes.
pub fn write(out: &mut dyn Write, samples: &Samples, predictions: &[Prediction]) -> io::Result<()> {
    let drawings: Vec<Vec<String>> = samples.images().take(FIRST).map(braille).collect();
    for line in 0..SIDE / DOTS.len() {
        let parts: Vec<&str> = drawings.iter().map(|drawing| drawing[line].as_str()).collect();
        writeln!(out, " {}", parts.join("  "))?;
    }
    writeln!(out, "\n image  true class   predicted     probability")?;
    for (number, prediction) in choice(predictions, FIRST, MISTAKES) {
        let Prediction { truth, class, probability } = prediction;
        let (truth, class) = (CLASS_NAMES[*truth], CLASS_NAMES[*class]);
        let mark = if prediction.is_correct() { "" } else { "  ✗ wrong" };
        writeln!(out, "{number:>6}  {truth:<11}  {class:<11}  {:>11.1} %{mark}", probability * 100.0)?;
    }
    Ok(())
}

/// Draws an image as lines of characters, a dot per pixel.
fn braille(image: &[f32]) -> Vec<String> {
    let rows: Vec<&[f32]> = image.chunks(SIDE).collect();
    let line = |rows: &[&[f32]]| (0..SIDE).step_by(2).map(|left| character(rows, left)).collect();
    rows.chunks(DOTS.len()).map(line).collect()
}

/// Draws the pixels in columns `left` and `left + 1` of these rows.
fn character(rows: &[&[f32]], left: usize) -> char {
    let dots = rows.iter().zip(DOTS).flat_map(|(row, dots)| row[left..].iter().zip(dots));
    let bright = dots.filter(|(pixel, _)| **pixel > BRIGHT).map(|(_, dot)| dot);
    char::from_u32(NO_DOTS + bright.sum::<u32>()).unwrap_or(' ')
}
