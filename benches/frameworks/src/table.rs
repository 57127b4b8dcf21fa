//! The table: figures of all contestants, and ratios to densely's.

use crate::child::{FRAMEWORKS, Way};
use crate::placement::{Placement, Standing, Standings};
use crate::work::Work;

/// A turn's time, in nanoseconds, and what threads could do before and after it.
pub struct Turn {
    pub time: f64,
    pub standings: [Standing; 2],
}

/// A contestant's turns.
pub struct Times {
    pub way: Way,
    pub turns: Vec<Turn>,
}

/// The figures of a column: of its best way, and the median of its usual way on all threads.
struct Cell {
    column: &'static str,
    way: Way,
    turns: usize,
    median: f64,
    least: f64,
    usual: Option<f64>,
}

/// What marks and rows mean.
pub const LEGEND: &str = "\
*: on one thread, where that is its best
': otherwise than usual, where that is its best: torch compiled; keras by XLA and with 128 steps a call; burn and
   candle with gemm's AVX-512 kernels
near, far, shared: only turns before and after which threads had cores of their own, near each other or far, or
   fewer cores than threads; (so many turns)";

/// Prints rows as they come, and keeps their ratios.
pub struct Table {
    columns: Vec<&'static str>,
    threads: usize,
    standings: Standings,
    all: Ratios,
    near: Ratios,
}

/// Ratios of the best peers.
#[derive(Default)]
struct Ratios {
    logs: Vec<f64>,
    behind: usize,
}

const LABEL: usize = 34;
const WIDTH: usize = 12;
/// densely's second column.
const ONE_THREAD: &str = "one thread";

impl Table {
    /// Columns for these contestants.
    pub fn new(taking_part: &[&str], threads: usize) -> Self {
        let mut columns: Vec<_> =
            FRAMEWORKS.iter().map(|one| one.name).filter(|name| taking_part.contains(name)).collect();
        if threads > 1 {
            columns.insert(1, ONE_THREAD);
        }
        print!("{:<LABEL$}", "work: batch x network");
        columns.iter().for_each(|name| print!(" {name:>WIDTH$}"));
        println!("  best ratio");
        Self { columns, threads, standings: Standings::default(), all: Ratios::default(), near: Ratios::default() }
    }

    /// Medians, below them the fastest turns, each median's ratio to densely's, and, where that is another,
    /// the one of the usual way; medians and ratios by [`Placement`]; then what the machine had to give.
    pub fn row(&mut self, work: &Work, times: &[Times]) {
        let standings: Vec<Standing> =
            times.iter().flat_map(|times| &times.turns).flat_map(|turn| turn.standings).collect();
        self.standings.extend(standings.iter().copied());
        let figure = |time: f64| {
            let figure = work.figure(time);
            let digits = if figure < 100.0 { 2 } else { 0 };
            format!("{figure:.digits$}")
        };
        let marked = |cell: &Cell| {
            let setting = if cell.way.setting.is_some() { "'" } else { "" };
            let single = if cell.way.threads < self.threads && cell.column != ONE_THREAD { "*" } else { "" };
            figure(cell.median) + setting + single
        };
        let cells = self.cells(times, |_| true);
        let Some(ours) = cells.first() else { return };
        self.line(&work.name(), &cells, marked);
        println!("{}", best(&cells, &mut self.all));
        self.line("    fastest turn", &cells, |cell| figure(cell.least));
        println!();
        self.line("    ratio", &cells, |cell| format!("{:.2}", cell.median / ours.median));
        println!();
        if cells.iter().any(|cell| cell.usual.is_some_and(|usual| usual > cell.median)) {
            let ratio = |usual: f64| format!("{:.2}", usual / ours.median);
            self.line("    ratio in its usual way", &cells, |cell| cell.usual.map_or("-".into(), ratio));
            println!();
        }
        let bounds = self.standings.bounds();
        for placement in Placement::ALL {
            let cells = self.cells(times, |turn| bounds.of_turn(&turn.standings) == Some(placement));
            let Some(ours) = cells.iter().find(|cell| cell.column == FRAMEWORKS[0].name) else { continue };
            self.line(&format!("    {}", placement.name()), &cells, |cell| {
                format!("{} ({})", marked(cell), cell.turns)
            });
            let ratios = if placement == Placement::Near { &mut self.near } else { &mut Ratios::default() };
            println!("{}", best(&cells, ratios));
            self.line("      ratio", &cells, |cell| format!("{:.2}", cell.median / ours.median));
            println!();
        }
        let sorted = |of: fn(&Standing) -> f64| {
            let mut values: Vec<f64> = standings.iter().map(of).collect();
            values.sort_by(f64::total_cmp);
            values
        };
        let (fma, hop) = (sorted(|standing| standing.fma / 1e9), sorted(|standing| standing.hop));
        if let ([least, .., most], [nearest, .., farthest]) = (&fma[..], &hop[..]) {
            let part = 100.0 * work.flop() / ours.least / most;
            println!(
                "    the machine: {least:.0} to {most:.0} GFLOP/s, median {:.0}; {nearest:.0} to {farthest:.0} ns from thread \
                 to thread; densely's fastest turn: {part:.0} % of the most",
                fma[fma.len() / 2]
            );
        }
    }

    /// The columns' figures, from such turns alone; none of columns without.
    fn cells(&self, times: &[Times], takes: impl Fn(&Turn) -> bool) -> Vec<Cell> {
        let mut cells: Vec<Cell> = Vec::new();
        for Times { way, turns } in times {
            let mut times: Vec<f64> = turns.iter().filter(|turn| takes(turn)).map(|turn| turn.time).collect();
            if times.is_empty() {
                continue;
            }
            times.sort_by(f64::total_cmp);
            let (median, least) = (times[times.len() / 2], times[0]);
            let all_threads = way.threads == self.threads;
            let name = way.framework.name;
            let column = if name == FRAMEWORKS[0].name && !all_threads { ONE_THREAD } else { name };
            let usual = (way.setting.is_none() && all_threads).then_some(median);
            let cell = Cell { column, way: *way, turns: times.len(), median, least, usual };
            match cells.iter_mut().find(|other| other.column == column) {
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
        cells
    }

    fn line(&self, label: &str, cells: &[Cell], text: impl Fn(&Cell) -> String) {
        print!("{label:<LABEL$}");
        for column in &self.columns {
            let cell = cells.iter().find(|cell| cell.column == *column);
            print!(" {:>WIDTH$}", cell.map_or("-".into(), &text));
        }
    }

    pub fn end(&self) {
        for (name, Ratios { logs, behind }) in [("", &self.all), (", near", &self.near)] {
            if !logs.is_empty() {
                let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
                let of = logs.len();
                println!("geometric mean against the best peer of each{name}: {mean:.3}; behind at {behind} of {of}");
            }
        }
    }
}

/// The best peer and its ratio to densely's median, which is added to those that are there; nothing without a
/// peer.
fn best(cells: &[Cell], ratios: &mut Ratios) -> String {
    let (ours, peers): (Vec<&Cell>, Vec<&Cell>) =
        cells.iter().partition(|cell| cell.way.framework.name == FRAMEWORKS[0].name);
    let ours = ours.iter().find(|cell| cell.column != ONE_THREAD);
    let best = peers.iter().min_by(|a, b| a.median.total_cmp(&b.median));
    let (Some(ours), Some(best)) = (ours, best) else { return String::new() };
    let ratio = best.median / ours.median;
    ratios.logs.push(ratio.ln());
    ratios.behind += usize::from(ratio < 1.0);
    format!("  {} {ratio:.2}", best.column)
}
