//! Draws a metric over the epochs, for the training and the test images.

use densely::nn::EpochEnd;
use plotters::prelude::*;

use super::{Area, BLUE, Drawn, FAINT, GRID, INK, MARGIN, MEDIUM, ORANGE, SMALL, centred, font, write};

const CAPTION_HEIGHT: u32 = 40;
/// Space for the numbers along the axes.
const LABELS_WIDTH: i32 = 78;
const LABELS_HEIGHT: i32 = 44;
/// The fraction of the values' range that stays free above and below them, and the least height of that.
const HEADROOM: f64 = 0.08;
const LEAST_HEADROOM: f64 = 0.01;
/// Numbers from this one on are written with an exponent.
const LONG: f64 = 1e4;

/// Reads a metric of an epoch.
type Metric = fn(&EpochEnd) -> Option<f32>;

pub fn draw_loss(area: &Area<'_>, epochs: &[EpochEnd]) -> Drawn {
    let metrics: [Metric; 2] = [|end| Some(end.loss), |end| Some(end.validation?.loss)];
    draw(area, "Loss", epochs, metrics, SeriesLabelPosition::UpperRight)
}

pub fn draw_accuracy(area: &Area<'_>, epochs: &[EpochEnd]) -> Drawn {
    let metrics: [Metric; 2] = [|end| Some(end.accuracy), |end| Some(end.validation?.accuracy)];
    draw(area, "Accuracy", epochs, metrics, SeriesLabelPosition::LowerRight)
}

/// Draws two curves: for the training images and for the test images.
fn draw(
    area: &Area<'_>,
    caption: &str,
    epochs: &[EpochEnd],
    metrics: [Metric; 2],
    legend: SeriesLabelPosition,
) -> Drawn {
    let (head, body) = area.split_vertically(CAPTION_HEIGHT);
    write(&head, caption, (MARGIN, 20), font(MEDIUM, &INK))?;
    let curves = metrics.map(|metric| points(epochs, metric));
    let values = || curves.iter().flatten().map(|&(_, value)| value);
    let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        let (width, height) = body.dim_in_pixel();
        let middle = (width as i32 / 2, height as i32 / 2);
        let reason = if epochs.is_empty() { "no epochs" } else { "no finite values" };
        return write(&body, reason, middle, centred(SMALL, &FAINT));
    }
    let headroom = ((high - low) * HEADROOM).max(LEAST_HEADROOM);
    // A chart needs some width, even for a single epoch.
    let last = epochs.len().max(2);

    let mut chart = ChartBuilder::on(&body)
        .margin_right(MARGIN)
        .margin_bottom(MARGIN / 2)
        .x_label_area_size(LABELS_HEIGHT)
        .y_label_area_size(LABELS_WIDTH)
        .build_cartesian_2d(1..last, low - headroom..high + headroom)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(GRID)
        .axis_style(FAINT)
        .label_style(font(SMALL, &FAINT))
        .x_desc("epoch")
        .y_labels(6)
        .y_label_formatter(&|&value| if value < LONG { format!("{value:.3}") } else { format!("{value:.0e}") })
        .draw()?;
    for (points, (name, color)) in curves.into_iter().zip([("training", BLUE), ("test", ORANGE)]) {
        chart
            .draw_series(LineSeries::new(points, color.filled().stroke_width(2)).point_size(3))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 20, y)], color.stroke_width(2)));
    }
    chart
        .configure_series_labels()
        .position(legend)
        .label_font(("sans-serif", SMALL).into_font().color(&INK))
        .margin(MARGIN as u32 / 2)
        .draw()?;
    Ok(())
}

/// Returns the epochs, from 1 on, whose metric is finite.
fn points(epochs: &[EpochEnd], metric: Metric) -> Vec<(usize, f64)> {
    let point = |end: &EpochEnd| Some((end.epoch + 1, f64::from(metric(end).filter(|value| value.is_finite())?)));
    epochs.iter().filter_map(point).collect()
}
