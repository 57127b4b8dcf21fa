//! Images and what they were taken for: the first ones and some mistakes.

use plotters::prelude::*;

use super::{Area, Drawn, FAINT, GRID, INK, MARGIN, MEDIUM, RED, SMALL, centred, font, tint, write};
use crate::data::{CLASS_NAMES, Samples};
use crate::idx::SIDE;
use crate::report::{self, Guess};

const COLUMNS: usize = 5;
/// Three rows of the first images, and one of mistakes.
const FIRST: usize = 3 * COLUMNS;
const MISTAKES: usize = COLUMNS;
/// The side of a pixel of an image, in pixels of the picture.
const SCALE: i32 = 3;
const IMAGE: i32 = SCALE * SIDE as i32;
/// Where the first row begins, and how far apart images are.
const TOP: i32 = 68;
const ACROSS: i32 = 124;
const DOWN: i32 = 150;

pub fn draw(area: &Area<'_>, samples: &Samples, guesses: &[Guess]) -> Drawn {
    let images: Vec<&[f32]> = samples.images().collect();
    let title = format!("Test images: the first {FIRST}, then the next mistakes");
    write(area, &title, (MARGIN, 20), font(MEDIUM, &INK))?;
    write(area, "predicted class; in red if wrong, with the true class below", (MARGIN, 46), font(SMALL, &FAINT))?;
    for (place, (number, guess)) in report::choice(guesses, FIRST, MISTAKES).enumerate() {
        let (x, y) = (MARGIN + ACROSS * (place % COLUMNS) as i32, TOP + DOWN * (place / COLUMNS) as i32);
        draw_image(area, (x, y), images[number])?;
        let frame = if guess.is_right() { GRID } else { RED };
        area.draw(&Rectangle::new([(x - 1, y - 1), (x + IMAGE + 1, y + IMAGE + 1)], frame))?;
        let middle = x + IMAGE / 2;
        let color = if guess.is_right() { INK } else { RED };
        write(area, CLASS_NAMES[guess.class], (middle, y + IMAGE + 14), centred(SMALL, &color))?;
        if !guess.is_right() {
            write(area, CLASS_NAMES[guess.truth], (middle, y + IMAGE + 32), centred(SMALL, &FAINT))?;
        }
    }
    Ok(())
}

/// Dark on white, a square a pixel; the background needs none.
fn draw_image(area: &Area<'_>, (left, top): (i32, i32), image: &[f32]) -> Drawn {
    for (number, &pixel) in image.iter().enumerate().filter(|(_, pixel)| **pixel > 0.0) {
        let (x, y) = (left + SCALE * (number % SIDE) as i32, top + SCALE * (number / SIDE) as i32);
        area.draw(&Rectangle::new([(x, y), (x + SCALE, y + SCALE)], tint(BLACK, f64::from(pixel)).filled()))?;
    }
    Ok(())
}
