//! Draws the gradient of each layer, a curve for each activation.

use std::error::Error;
use std::fs;
use std::path::Path;

use plotters::prelude::*;

use crate::{EPOCHS, LAYERS, Outcome};

/// Width and height in pixels.
const SIZE: (u32, u32) = (1000, 640);
const MARGIN: u32 = 24;
/// Space for the numbers along the axes.
const LABELS: u32 = 70;
const TEXT: u32 = 18;
const TITLE: u32 = 26;
const INK: RGBColor = RGBColor(0x22, 0x2b, 0x38);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xed);
const COLORS: [RGBColor; 3] = [RGBColor(0xc5, 0x30, 0x30), RGBColor(0xdd, 0x7a, 0x1f), RGBColor(0x2b, 0x6c, 0xb0)];

/// Writes the picture to an SVG file.
pub fn save(outcomes: &[Outcome], path: &Path) -> Result<(), Box<dyn Error>> {
    let mut svg = String::new();
    draw(outcomes, &SVGBackend::with_string(&mut svg, SIZE).into_drawing_area())?;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| format!("cannot make {}: {error}", folder.display()))?;
    }
    Ok(fs::write(path, svg).map_err(|error| format!("cannot write {}: {error}", path.display()))?)
}

fn draw<B: DrawingBackend>(
    outcomes: &[Outcome],
    area: &DrawingArea<B, plotters::coord::Shift>,
) -> Result<(), Box<dyn Error>>
where
    B::ErrorType: 'static,
{
    area.fill(&WHITE)?;
    let all = || outcomes.iter().flat_map(|outcome| &outcome.gradients).copied();
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let mut chart = ChartBuilder::on(area)
        .caption("Gradients before training, layer by layer", ("sans-serif", TITLE).into_font().color(&INK))
        .margin(MARGIN)
        .x_label_area_size(LABELS)
        .y_label_area_size(LABELS + MARGIN)
        .build_cartesian_2d(1..LAYERS, (low / 2.0..high * 2.0).log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .label_style(("sans-serif", TEXT).into_font().color(&INK))
        .x_desc("layer, from the input (1) to the output")
        .y_desc("root mean square of the gradient of the weights")
        .y_label_formatter(&|value| format!("{value:.0e}"))
        .draw()?;
    for (outcome, color) in outcomes.iter().zip(COLORS) {
        let points = outcome.gradients.iter().enumerate().map(|(layer, &gradient)| (layer + 1, gradient));
        let name = format!("{}: test accuracy {:.3} after {EPOCHS} epochs", outcome.activation, outcome.accuracy);
        chart
            .draw_series(LineSeries::new(points, color.filled().stroke_width(2)).point_size(4))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .label_font(("sans-serif", TEXT).into_font().color(&INK))
        .margin(MARGIN)
        .draw()?;
    area.present()?;
    Ok(())
}
