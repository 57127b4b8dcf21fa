//! Draws images with their predicted classes: the first ones and some mistakes.

use plotters::prelude::*;

use super::{Area, Drawn, FAINT, GRID, INK, MARGIN, MEDIUM, RED, SMALL, centred, font, tint, write};
use crate::data::{CLASS_NAMES, Samples};
use crate::idx::SIDE;
use crate::report::{self, Prediction};

const COLUMNS: usize = 5;
/// Three rows of the first images, and one of mistakes.
const FIRST: usize = 3 * COLUMNS;
const MISTAKES: usize = COLUMNS;
/// The side of an image's pixel, in pixels of the picture.
const SCALE: i32 = 3;
const IMAGE: i32 = SCALE * SIDE as i32;
/// The top of the first row, and the distances between images.
const TOP: i32 = 68;
const ACROSS: i32 = 124;
const DOWN: i32 = 150;

pub fn draw(area: &Area<'_>, samples: &Samples, predictions: &[Prediction]) -> Drawn {
    let images: Vec<&[f32]> = samples.images().collect();
    let title = format!("Test images: the first {FIRST}, then the next mistakes");
    write(area, &title, (MARGIN, 20), font(MEDIUM, &INK))?;
    write(area, "predicted class; in red if wrong, with the true class below", (MARGIN, 46), font(SMALL, &FAINT))?;
    for (place, (number, prediction)) in report::choice(predictions, FIRST, MISTAKES).enumerate() {
        let (x, y) = (MARGIN + ACROSS * (place % COLUMNS) as i32, TOP + DOWN * (place / COLUMNS) as i32);
        draw_image(area, (x, y), images[number])?;
        let frame = if prediction.is_correct() { GRID } else { RED };
        area.draw(&Rectangle::new([(x - 1, y - 1), (x + IMAGE + 1, y + IMAGE + 1)], frame))?;
        let middle = x + IMAGE / 2;
        let color = if prediction.is_correct() { INK } else { RED };
        write(area, CLASS_NAMES[prediction.class], (middle, y + IMAGE + 14), centred(SMALL, &color))?;
        if !prediction.is_correct() {
            write(area, CLASS_NAMES[prediction.truth], (middle, y + IMAGE + 32), centred(SMALL, &FAINT))?;
        }
    }
    Ok(())
}

/// Draws dark pixels on white, each as a square; the background needs none.
fn draw_image(area: &Area<'_>, (left, top): (i32, i32), image: &[f32]) -> Drawn {
    for (number, &pixel) in image.iter().enumerate().filter(|(_, pixel)| **pixel > 0.0) {
        let (x, y) = (left + SCALE * (number % SIDE) as i32, top + SCALE * (number / SIDE) as i32);
        area.draw(&Rectangle::new([(x, y), (x + SCALE, y + SCALE)], tint(BLACK, f64::from(pixel)).filled()))?;
    }
    Ok(())
}
