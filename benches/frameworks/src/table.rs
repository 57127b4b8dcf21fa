//! The table: figures of all contestants, and ratios to densely's.

use crate::child::{FRAMEWORKS, Way};
use crate::work::Work;

/// A contestant's times, in nanoseconds.
pub struct Times {
    pub way: Way,
    pub times: Vec<f64>,
}

/// What was measured of some work.
pub struct Measured {
    pub times: Vec<Times>,
    /// FLOP a second of fused multiply-adds alone, beside densely's turns.
    pub peaks: Vec<f64>,
}

/// A framework's cells: median and least of the way that was its best, and the median of its usual way on all threads.
struct Cell {
    way: Way,
    median: f64,
    least: f64,
    usual: Option<f64>,
}

impl Cell {
    fn name(&self) -> &'static str {
        self.way.framework.name
    }
}

/// What the marks of figures mean.
pub const MARKS: &str = "\
*: on one thread, where that is its best
': otherwise than usual, where that is its best: torch compiled; keras by XLA and with 128 steps a call; burn and
   candle with gemm's AVX-512 kernels";

/// Prints rows as they come, and keeps their ratios.
pub struct Table {
    columns: Vec<&'static str>,
    threads: usize,
    logs: Vec<f64>,
    behind: usize,
}

const LABEL: usize = 40;

impl Table {
    /// Columns for these contestants.
    pub fn new(taking_part: &[&str], threads: usize) -> Self {
        let columns: Vec<_> = FRAMEWORKS.iter().map(|one| one.name).filter(|name| taking_part.contains(name)).collect();
        print!("{:<LABEL$}", "work: batch x network");
        columns.iter().for_each(|name| print!(" {name:>11}"));
        println!("  best ratio");
        Self { columns, threads, logs: Vec::new(), behind: 0 }
    }

    /// Medians, below them the fastest turns, each median's ratio to densely's, and, where that is another, the one of
    /// the usual way; then the peak, and how much of it densely's fastest turn had.
    pub fn row(&mut self, work: &Work, Measured { times, mut peaks }: Measured) {
        let mut cells: Vec<Cell> = Vec::new();
        for Times { way, mut times } in times {
            times.sort_by(f64::total_cmp);
            let (median, least) = (times[times.len() / 2], times[0]);
            let usual = (way.setting.is_none() && way.threads == self.threads).then_some(median);
            let cell = Cell { way, median, least, usual };
            match cells.iter_mut().find(|other| other.name() == cell.name()) {
                Some(other) => {
                    let usual = other.usual.or(cell.usual);
                    if median < other.median {
                        *other = cell;
                    }
                    other.usual = usual;
                }
                None => cells.push(cell),
            }
        }
        let Some(ours) = cells.first().map(|cell| cell.median) else { return };
        let best = cells[1..].iter().min_by(|a, b| a.median.total_cmp(&b.median));
        let figure = |time: f64| {
            let figure = work.figure(time);
            let digits = if figure < 100.0 { 2 } else { 0 };
            format!("{figure:.digits$}")
        };
        self.line(&work.name(), &cells, |cell| {
            let setting = if cell.way.setting.is_some() { "'" } else { "" };
            let single = if cell.way.threads < self.threads { "*" } else { "" };
            figure(cell.median) + setting + single
        });
        match best {
            Some(best) => {
                let ratio = best.median / ours;
                println!("  {} {ratio:.2}", best.name());
                self.logs.push(ratio.ln());
                self.behind += usize::from(ratio < 1.0);
            }
            None => println!(),
        }
        self.line("    fastest turn", &cells, |cell| figure(cell.least));
        println!();
        self.line("    ratio", &cells, |cell| format!("{:.2}", cell.median / ours));
        println!();
        if cells.iter().any(|cell| cell.usual.is_some_and(|usual| usual > cell.median)) {
            let ratio = |usual: f64| format!("{:.2}", usual / ours);
            self.line("    ratio in its usual way", &cells, |cell| cell.usual.map_or("-".into(), ratio));
            println!();
        }
        peaks.sort_by(f64::total_cmp);
        if let (Some(&least), Some(&most)) = (peaks.first(), peaks.last()) {
            let giga = [most, peaks[peaks.len() / 2], least].map(|peak| peak / 1e9);
            let part = 100.0 * work.flop() / cells[0].least / giga[0];
            let [most, median, least] = giga;
            println!(
                "    peak, GFLOP/s: {most:.0}, median {median:.0}, least {least:.0}; densely's fastest turn: {part:.0} % of it"
            );
        }
    }

    fn line(&self, label: &str, cells: &[Cell], text: impl Fn(&Cell) -> String) {
        print!("{label:<LABEL$}");
        for column in &self.columns {
            let cell = cells.iter().find(|cell| cell.name() == *column);
            print!(" {:>11}", cell.map_or("-".into(), &text));
        }
    }

    pub fn end(&self) {
        if !self.logs.is_empty() {
            let mean = (self.logs.iter().sum::<f64>() / self.logs.len() as f64).exp();
            println!(
                "geometric mean against the best peer of each: {mean:.3}; behind at {} of {}",
                self.behind,
                self.logs.len()
            );
        }
    }
}
