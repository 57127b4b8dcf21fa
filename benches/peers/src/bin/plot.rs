//! Draws records of densely-peers: GFLOP/s of every library over the size, up to the peak of fused
//! multiply-adds.

use std::error::Error;
use std::fs;
use std::path::PathBuf;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const HELP: &str = "\
usage: plot --record FILE --x AXIS --operation NAME --title TEXT --out FILE.svg [--subtitle TEXT]
  --record FILE   output of densely-peers; again for more of them
  --x AXIS        inputs: of the rows whose batch, inputs and outputs are equal
                  batch: of the rows whose inputs and outputs are those of the first";

/// Width and height in pixels.
const SIZE: (u32, u32) = (800, 500);
/// What stays free around the frame for the title, the libraries' names and the numbers along the axes.
const TOP: u32 = 88;
const RIGHT: u32 = 172;
const BOTTOM: u32 = 52;
const LEFT: u32 = 68;
/// Least distance between the libraries' names.
const NAME_HEIGHT: i32 = 19;
/// More labels along the x axis would touch each other.
const MAX_X_LABELS: i32 = 13;

const LARGE: u32 = 20;
const SMALL: u32 = 14;
const INK: RGBColor = RGBColor(0x22, 0x2b, 0x38);
const FAINT: RGBColor = RGBColor(0x55, 0x5f, 0x6e);
const GRID: RGBColor = RGBColor(0xe3, 0xe7, 0xed);

/// The library whose line is thick.
const OURS: &str = "densely";

/// The colour-blind-safe palette of Okabe and Ito, with grey for its yellow, which is too light for lines on
/// white. By name, so that a library keeps its colour where another is missing.
const COLORS: [(&str, RGBColor); 6] = [
    (OURS, RGBColor(0xd5, 0x5e, 0x00)),
    ("gemm", RGBColor(0x00, 0x72, 0xb2)),
    ("matrixmultiply", RGBColor(0x80, 0x80, 0x80)),
    ("openblas", RGBColor(0x00, 0x9e, 0x73)),
    ("blis", RGBColor(0xcc, 0x79, 0xa7)),
    ("mkl", RGBColor(0x56, 0xb4, 0xe9)),
];

/// Columns of a record that are no library's.
const OTHERS: [&str; 4] = ["fastest", "peak", "of_peak", "ratio"];

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Outcome<T> = Result<T, Box<dyn Error>>;

struct Options {
    records: Vec<PathBuf>,
    axis: Axis,
    operation: String,
    title: String,
    subtitle: String,
    out: PathBuf,
}

#[derive(Clone, Copy)]
enum Axis {
    Inputs,
    Batch,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let (mut records, mut subtitle) = (Vec::new(), String::new());
    let (mut axis, mut operation, mut title, mut out) = (None, None, None, None);
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("record") => records.push(parser.value()?.into()),
            Long("x") => {
                axis = Some(parser.value()?.parse_with(|text| match text {
                    "inputs" => Ok(Axis::Inputs),
                    "batch" => Ok(Axis::Batch),
                    _ => Err("--x is inputs or batch"),
                })?);
            }
            Long("operation") => operation = Some(parser.value()?.string()?),
            Long("title") => title = Some(parser.value()?.string()?),
            Long("subtitle") => subtitle = parser.value()?.string()?,
            Long("out") => out = Some(parser.value()?.into()),
            Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected()),
        }
    }
    if records.is_empty() {
        return Err("--record is missing".into());
    }
    Ok(Options {
        records,
        axis: axis.ok_or("--x is missing")?,
        operation: operation.ok_or("--operation is missing")?,
        title: title.ok_or("--title is missing")?,
        subtitle,
        out: out.ok_or("--out is missing")?,
    })
}

/// A row of a record.
#[derive(Debug, PartialEq)]
struct Row {
    operation: String,
    /// Batch, inputs, outputs.
    shape: [usize; 3],
    /// GFLOP/s of each library.
    figures: Vec<(String, f64)>,
    peak: f64,
}

/// The rows of a record, named by the line of columns above them. Everything else is passed over.
fn rows(record: &str) -> Vec<Row> {
    let (mut columns, mut rows) = (Vec::new(), Vec::new());
    for line in record.lines() {
        // The one name of two words.
        let words = line.replace(" of peak", " of_peak");
        let words: Vec<&str> = words.split_whitespace().collect();
        match words[..] {
            ["operation", "shape", ref names @ ..] => columns = names.iter().map(ToString::to_string).collect(),
            [operation, shape, ref figures @ ..] => rows.extend(row(operation, shape, figures, &columns)),
            _ => {}
        }
    }
    rows
}

fn row(operation: &str, shape: &str, figures: &[&str], columns: &[String]) -> Option<Row> {
    let sizes = shape.split('x').map(|size| size.parse().ok().filter(|&size| size > 0)).collect::<Option<Vec<_>>>()?;
    let shape = sizes.try_into().ok()?;
    let figures = figures
        .iter()
        .map(|figure| figure.parse().ok().filter(|figure: &f64| figure.is_finite()))
        .collect::<Option<Vec<_>>>()?;
    if figures.len() != columns.len() {
        return None;
    }
    let mut figures: Vec<(String, f64)> = columns.iter().cloned().zip(figures).collect();
    let peak = figures.iter().find(|(name, _)| name == "peak")?.1;
    figures.retain(|(name, _)| !OTHERS.contains(&name.as_str()));
    Some(Row { operation: operation.to_owned(), shape, figures, peak })
}

/// What is drawn.
struct Plot {
    description: String,
    peak: f64,
    /// Figures that are greater: where a shared machine was faster than while its peak was measured.
    above: usize,
    /// A name and (size, GFLOP/s) by rising size.
    lines: Vec<(String, Vec<(usize, f64)>)>,
}

fn read(options: &Options) -> Outcome<Plot> {
    let (mut peak, mut chosen) = (0.0f64, Vec::new());
    for path in &options.records {
        let record = fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        let mut rows = rows(&record);
        peak = rows.iter().map(|row| row.peak).fold(peak, f64::max);
        rows.retain(|row| row.operation == options.operation);
        if rows.is_empty() {
            return Err(format!("{} has no rows of {}", path.display(), options.operation).into());
        }
        chosen.extend(rows);
    }
    if peak <= 0.0 {
        return Err("the records' peak is 0".into());
    }
    // A line is of one kind of layer: others would make it jump.
    let [_, inputs, outputs] = chosen[0].shape;
    let all = chosen.len();
    let (size, description): (fn(&Row) -> usize, String) = match options.axis {
        Axis::Inputs => {
            chosen.retain(|row| row.shape == [row.shape[0]; 3]);
            (|row| row.shape[1], "batch = inputs = outputs".to_owned())
        }
        Axis::Batch => {
            chosen.retain(|row| row.shape[1..] == [inputs, outputs]);
            (|row| row.shape[0], format!("batch, of {inputs} inputs and {outputs} outputs"))
        }
    };
    if chosen.is_empty() {
        return Err(format!("no row of {} has equal batch, inputs and outputs", options.operation).into());
    }
    if chosen.len() < all {
        eprintln!("passed over, of other shapes: {} of {all} rows", all - chosen.len());
    }
    chosen.sort_by_key(size);
    if let Some(pair) = chosen.windows(2).find(|pair| pair[0].shape == pair[1].shape) {
        let [batch, inputs, outputs] = pair[0].shape;
        return Err(format!("{} of {batch}x{inputs}x{outputs} stands twice", options.operation).into());
    }
    let mut lines: Vec<(String, Vec<(usize, f64)>)> = Vec::new();
    let mut above = 0;
    for row in &chosen {
        for (name, figure) in &row.figures {
            if *figure > peak {
                above += 1;
                eprintln!("above the peak of {peak:.1}: {name}, {figure:.1} at {}", size(row));
            }
            let point = (size(row), *figure);
            match lines.iter_mut().find(|line| line.0 == *name) {
                Some((_, points)) => points.push(point),
                None => lines.push((name.clone(), vec![point])),
            }
        }
    }
    Ok(Plot { description, peak, above, lines })
}

fn main() -> Outcome<()> {
    let options = options()?;
    let plot = read(&options)?;
    let mut svg = String::new();
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    draw(&area, &options, &plot)?;
    area.present()?;
    drop(area);
    let unwritten = |error| format!("cannot write {}: {error}", options.out.display());
    Ok(fs::write(&options.out, svg).map_err(unwritten)?)
}

fn draw(area: &Area<'_>, options: &Options, plot: &Plot) -> Outcome<()> {
    area.fill(&WHITE)?;
    let left = LEFT as i32;
    area.draw(&Text::new(&options.title[..], (left, 26), font(LARGE, &INK)))?;
    area.draw(&Text::new(&options.subtitle[..], (left, 50), font(SMALL, &FAINT)))?;

    let sizes = || plot.lines.iter().flat_map(|line| &line.1).map(|&(size, _)| (size as f64).log2());
    let first = sizes().fold(f64::INFINITY, f64::min).floor() as i32;
    let last = (sizes().fold(0.0, f64::max).ceil() as i32).max(first + 1);
    let mut chart = ChartBuilder::on(area)
        .margin_top(TOP)
        .margin_right(RIGHT)
        .margin_bottom(BOTTOM)
        .margin_left(LEFT)
        .build_cartesian_2d(f64::from(first)..f64::from(last), 0.0..plot.peak)?;
    let corners = [0.0, plot.peak].map(|y| [first, last].map(|x| chart.backend_coord(&(f64::from(x), y))));
    let [[bottom_left, bottom_right], [top_left, top_right]] = corners;

    let label = |text: &str, place, side| {
        area.draw(&Text::new(text, place, font(SMALL, &INK).pos(Pos::new(side, VPos::Center))))
    };
    for power in (first..=last).step_by(((last - first) / MAX_X_LABELS + 1) as usize) {
        let (x, bottom) = chart.backend_coord(&(f64::from(power), 0.0));
        area.draw(&PathElement::new([(x, top_left.1), (x, bottom)], GRID))?;
        label(&(1u64 << power).to_string(), (x, bottom + 14), HPos::Center)?;
    }
    let step = round_step(plot.peak);
    for step in (0..=(plot.peak / step) as u32).map(|i| f64::from(i) * step) {
        let (_, y) = chart.backend_coord(&(f64::from(first), step));
        area.draw(&PathElement::new([(left, y), (top_right.0, y)], GRID))?;
        label(&step.to_string(), (left - 8, y), HPos::Right)?;
    }
    let middle = i32::midpoint(left, top_right.0);
    label(&plot.description, (middle, bottom_left.1 + 36), HPos::Center)?;
    let middle = i32::midpoint(top_left.1, bottom_left.1);
    let upwards = font(SMALL, &INK).transform(FontTransform::Rotate270).pos(Pos::new(HPos::Center, VPos::Center));
    area.draw(&Text::new("GFLOP/s", (20, middle), upwards))?;
    area.draw(&PathElement::new([top_left, bottom_left, bottom_right, top_right], FAINT))?;
    // The top of the frame is the peak.
    area.draw(&PathElement::new([top_left, top_right], INK.stroke_width(2)))?;
    let mut peak = format!("FMA peak, {:.0} GFLOP/s", plot.peak);
    if plot.above > 0 {
        peak += &format!(" (figures above it, drawn on it: {})", plot.above);
    }
    label(&peak, (left, top_left.1 - 11), HPos::Left)?;

    // In the end what stands first in the record, densely.
    for (name, points) in plot.lines.iter().rev() {
        let points = points.iter().map(|&(size, figure)| ((size as f64).log2(), figure.min(plot.peak)));
        let style = color(name).stroke_width(width(name)).filled();
        chart.draw_series(LineSeries::new(points, style).point_size(width(name) / 2 + 2))?;
    }

    // Every name stands beside the end of its line, where it hides nothing.
    let mut ends: Vec<(&str, (usize, f64))> =
        plot.lines.iter().map(|(name, points)| (&name[..], points[points.len() - 1])).collect();
    ends.sort_by(|(_, (_, a)), (_, (_, b))| b.total_cmp(a));
    let ends = ends
        .into_iter()
        .map(|(name, (size, figure))| (name, chart.backend_coord(&((size as f64).log2(), figure.min(plot.peak)))));
    let ends: Vec<(&str, (i32, i32))> = ends.collect();
    let heights = move_apart(ends.iter().map(|(_, end)| end.1).collect(), bottom_right.1);
    let right = top_right.0;
    for ((name, end), y) in ends.into_iter().zip(heights) {
        area.draw(&PathElement::new([end, (right + 22, y)], color(name)))?;
        area.draw(&PathElement::new([(right + 22, y), (right + 40, y)], color(name).stroke_width(width(name))))?;
        let style = if name == OURS { FontStyle::Bold } else { FontStyle::Normal };
        let style = ("sans-serif", SMALL).into_font().style(style).color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
        area.draw(&Text::new(name, (right + 46, y), style))?;
    }
    Ok(())
}

/// Moves heights, given from the top, down where they are too close, then up again from the bottom.
fn move_apart(mut heights: Vec<i32>, bottom: i32) -> Vec<i32> {
    let mut least = i32::MIN;
    for y in &mut heights {
        *y = (*y).max(least);
        least = *y + NAME_HEIGHT;
    }
    let mut most = bottom;
    for y in heights.iter_mut().rev() {
        *y = (*y).min(most);
        most = *y - NAME_HEIGHT;
    }
    heights
}

/// Of 1, 2 and 5 with a power of ten the least that divides `peak` into at most six.
fn round_step(peak: f64) -> f64 {
    let power = 10f64.powf((peak / 6.0).log10().floor());
    [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| step * 6.0 >= peak).unwrap_or(10.0 * power)
}

fn width(name: &str) -> u32 {
    if name == OURS { 4 } else { 2 }
}

fn color(name: &str) -> RGBColor {
    COLORS.iter().find(|(known, _)| *known == name).map_or(BLACK, |&(_, color)| color)
}

/// A font whose text begins at its place, vertically centred.
fn font(size: u32, color: &RGBColor) -> TextStyle<'static> {
    ("sans-serif", size).into_font().color(color).pos(Pos::new(HPos::Left, VPos::Center))
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &str = "\
bench of peers 32x32x32, 2 threads
blis: BLIS 0.9.0, kernels for zen3, OpenMP
densely on avx512, 2 thread(s), called from inside the pool; GFLOP/s
operation        shape             densely  fastest matrixmultiply            mkl   peak of peak   ratio
forward_relu     32x784x128          112.2    115.0           60.0           70.4  191.2   0.587   1.594
backward_input   17x301x77            71.4     77.7           25.2           53.9  183.2   0.390   1.325
forward_relu     1x784x128            45.1      1.6
geometric mean against the best peer of each: 0.841; behind at 33 of 52
operation        shape             densely  fastest   peak of peak
forward_relu_t   1x4096x4096           8.7      9.1  112.7   0.077
    densely moves 67.2 MB at 17.4 GB/s, 0.500 of the 34.8 that are read from memory
";

    #[test]
    fn rows_take_names_from_their_columns() {
        let row = |operation: &str, shape, figures: &[(&str, f64)], peak| Row {
            operation: operation.to_owned(),
            shape,
            figures: figures.iter().map(|&(name, figure)| (name.to_owned(), figure)).collect(),
            peak,
        };
        let expected = [
            row("forward_relu", [32, 784, 128], &[("densely", 112.2), ("matrixmultiply", 60.0), ("mkl", 70.4)], 191.2),
            row("backward_input", [17, 301, 77], &[("densely", 71.4), ("matrixmultiply", 25.2), ("mkl", 53.9)], 183.2),
            row("forward_relu_t", [1, 4096, 4096], &[("densely", 8.7)], 112.7),
        ];
        assert_eq!(rows(RECORD), expected);
        assert_eq!(rows("forward_relu 32x784x128 112.2 191.2 0.587\n"), []);
    }
}
