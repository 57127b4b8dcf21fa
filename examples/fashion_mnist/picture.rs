//! Draws loss and accuracy over the epochs, the confusion matrix, and images with their predicted classes.

mod curves;
mod images;
mod matrix;

use std::error::Error;
use std::fs;
use std::path::Path;

use densely::nn::{EpochEnd, Metrics};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::data::Samples;
use crate::report::Prediction;

/// Width and height in pixels, and the heights of the title and of the curves.
const SIZE: (u32, u32) = (1280, 1100);
const HEAD_HEIGHT: u32 = 90;
const CURVES_HEIGHT: u32 = 345;
/// The left margin of every part.
const MARGIN: i32 = 30;

const INK: RGBColor = RGBColor(0x22, 0x2b, 0x38);
const FAINT: RGBColor = RGBColor(0x6b, 0x75, 0x85);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xed);
const BLUE: RGBColor = RGBColor(0x2b, 0x6c, 0xb0);
const ORANGE: RGBColor = RGBColor(0xdd, 0x7a, 0x1f);
const RED: RGBColor = RGBColor(0xc5, 0x30, 0x30);

const LARGE: u32 = 34;
const MEDIUM: u32 = 22;
const SMALL: u32 = 16;

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), Box<dyn Error>>;

/// The content of the picture.
pub struct Picture<'a> {
    /// The source of the data.
    pub data: &'a str,
    pub epochs: &'a [EpochEnd],
    /// Metrics of the test samples after training.
    pub metrics: Metrics,
    pub test: &'a Samples,
    /// One per test sample.
    pub predictions: &'a [Prediction],
}

impl Picture<'_> {
    /// Writes the picture to an SVG file.
    pub fn save(&self, path: &Path) -> Drawn {
        let mut svg = String::new();
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        self.draw(&area)?;
        area.present()?;
        drop(area);
        Ok(fs::write(path, svg).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
    }

    fn draw(&self, area: &Area<'_>) -> Drawn {
        area.fill(&WHITE)?;
        let (head, body) = area.split_vertically(HEAD_HEIGHT);
        let (above, below) = body.split_vertically(CURVES_HEIGHT);
        let [(loss, accuracy), (matrix, images)] = [above, below].map(|row| row.split_horizontally(SIZE.0 / 2));

        let Metrics { loss: test_loss, accuracy: test_accuracy, .. } = self.metrics;
        let title = format!("Fashion-MNIST: test accuracy {test_accuracy:.4}, test loss {test_loss:.4}");
        write(&head, &title, (MARGIN, 35), font(LARGE, &INK))?;
        write(&head, self.data, (MARGIN, 66), font(MEDIUM, &FAINT))?;
        curves::draw_loss(&loss, self.epochs)?;
        curves::draw_accuracy(&accuracy, self.epochs)?;
        matrix::draw(&matrix, self.predictions)?;
        images::draw(&images, self.test, self.predictions)
    }
}

/// Returns a font whose text begins at its position, vertically centred.
fn font(size: u32, color: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center))
}

/// Returns the same font, centred horizontally too.
fn centred(size: u32, color: &RGBColor) -> TextStyle<'static> {
    font(size, color).pos(Pos::new(HPos::Center, VPos::Center))
}

fn write(area: &Area<'_>, text: &str, place: (i32, i32), style: TextStyle<'_>) -> Drawn {
    Ok(area.draw(&Text::new(text, place, style))?)
}

/// Mixes a fraction `part` of a color with white.
fn tint(color: RGBColor, part: f64) -> RGBColor {
    let RGBColor(r, g, b) = color;
    let [r, g, b] = [r, g, b].map(|level| (255.0 - (255.0 - f64::from(level)) * part).round() as u8);
    RGBColor(r, g, b)
}
