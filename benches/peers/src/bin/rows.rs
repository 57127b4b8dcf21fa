//! Everything but dense layers: log-softmax and cross-entropy beside PyTorch, activations beside a copy of
//! memory, and what an activation adds to a dense layer's forward pass. Contestants take turns; figures are
//! medians.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use densely::loss::{self, CrossEntropy};
use densely::{Activation, Backend, Isa, MatMut, MatRef, Threads, activation, dense, reference};
use densely_testkit::{random_labels, random_values};

const HELP: &str = "\
usage: rows [options]
  --threads N     threads of every contestant (default 2)
  --rounds N      turns of each contestant (default 15)
  --millis N      least length of a turn (default 5)
  --parts L       of rows,activations,layers (default: all)
  --torch PYTHON  an interpreter that has PyTorch; without it that is left out";

/// Batch and classes of log-softmax and cross-entropy.
const ROWS: [[usize; 2]; 6] = [[128, 10], [4096, 10], [128, 1000], [1024, 1000], [64, 32_000], [8, 128_256]];

/// Rows and columns for activations: of L1, L2, and more than any cache.
const MATRICES: [[usize; 2]; 3] = [[32, 128], [128, 512], [4096, 4096]];

/// Layers, as batch x inputs x outputs.
const LAYERS: [[usize; 3]; 2] = [[32, 784, 128], [128, 1024, 1024]];

struct Options {
    threads: usize,
    rounds: usize,
    turn: Duration,
    parts: Vec<String>,
    torch: Option<String>,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let all = ["rows", "activations", "layers"];
    let mut options = Options {
        threads: 2,
        rounds: 15,
        turn: Duration::from_millis(5),
        parts: all.map(String::from).to_vec(),
        torch: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("millis") => options.turn = Duration::from_millis(parser.value()?.parse()?),
            Long("parts") => options.parts = parser.value()?.string()?.split(',').map(String::from).collect(),
            Long("torch") => options.torch = Some(parser.value()?.string()?),
            Long("help") => {
                println!("{HELP}");
                std::process::exit(0);
            }
            other => return Err(other.unexpected()),
        }
    }
    if options.threads == 0 || options.rounds == 0 {
        return Err("--threads and --rounds are at least 1".into());
    }
    if let Some(part) = options.parts.iter().find(|part| !all.contains(&part.as_str())) {
        return Err(format!("{part} is none of {}", all.join(", ")).into());
    }
    Ok(options)
}

/// PyTorch, in a process of its own.
struct Torch {
    process: Child,
    answers: BufReader<std::process::ChildStdout>,
}

impl Torch {
    fn start(python: &str, threads: usize) -> Result<Self, Box<dyn Error>> {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/torch_rows.py");
        let mut process = Command::new(python)
            .args([script, &threads.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{python}: {error}"))?;
        let answers = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut torch = Self { process, answers };
        println!("{}", torch.answer()?.trim());
        Ok(torch)
    }

    fn answer(&mut self) -> Result<String, Box<dyn Error>> {
        let mut line = String::new();
        match self.answers.read_line(&mut line)? {
            0 => Err("PyTorch's process has ended".into()),
            _ => Ok(line),
        }
    }

    /// Nanoseconds for once.
    fn turn(&mut self, operation: &str, [rows, cols]: [usize; 2], turn: Duration) -> Result<f64, Box<dyn Error>> {
        let stdin = self.process.stdin.as_mut().expect("it is piped");
        writeln!(stdin, "{operation} {rows} {cols} {}", turn.as_secs_f64())?;
        stdin.flush()?;
        Ok(self.answer()?.trim().parse()?)
    }
}

/// Nanoseconds for once, on a thread of the pool.
fn turn(least: Duration, work: &mut (dyn FnMut() + Send)) -> f64 {
    rayon::scope(|_| {
        let (start, mut calls) = (Instant::now(), 0u32);
        while calls < 2 || start.elapsed() < Duration::from_millis(30) {
            work();
            calls += 1;
        }
        let once = start.elapsed() / calls;
        let count = (least.as_nanos() / once.as_nanos().max(20)).clamp(1, 1_000_000) as u32;
        let start = Instant::now();
        (0..count).for_each(|_| work());
        start.elapsed().as_nanos() as f64 / f64::from(count)
    })
}

/// Whoever is timed, and the nanoseconds of each turn.
struct Player<'a> {
    work: Box<dyn FnMut() + Send + 'a>,
    times: Vec<f64>,
}

impl<'a> Player<'a> {
    fn new(work: impl FnMut() + Send + 'a) -> Self {
        Self { work: Box::new(work), times: Vec::new() }
    }

    fn take_turn(&mut self, options: &Options) {
        self.times.push(turn(options.turn, &mut *self.work));
    }
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// Copies on as many threads as it is worth to ask: each has 64 KiB at least. In vectors: the C library's
/// copy takes ten times as long for some addresses on some processors.
fn copy(x: &[f32], y: &mut [f32], threads: usize) {
    if threads == 1 || x.len() < 1 << 15 {
        let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<32>(), y.as_chunks_mut::<32>());
        for (x, y) in x.iter().zip(y) {
            *y = *x;
        }
        return y_rest.copy_from_slice(x_rest);
    }
    let half = x.len() / 2;
    let ((x, x_rest), (y, y_rest)) = (x.split_at(half), y.split_at_mut(half));
    rayon::join(|| copy(x, y, threads / 2), || copy(x_rest, y_rest, threads.div_ceil(2)));
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let mut backend = Backend::new()?;
    if options.threads == 1 {
        backend = backend.with_threads(Threads::One);
    }
    println!("densely on {}, {} thread(s), called from inside the pool", backend.isa(), options.threads);
    for part in &options.parts {
        println!();
        match part.as_str() {
            "rows" => rows(&options, &backend)?,
            "activations" => activations(&options, &backend)?,
            _ => layers(&options, &backend)?,
        }
    }
    Ok(())
}

/// Log-softmax, and the gradient of cross-entropy.
fn rows(options: &Options, backend: &Backend) -> Result<(), Box<dyn Error>> {
    let mut torch = match &options.torch {
        Some(python) => Some(Torch::start(python, options.threads)?),
        None => {
            println!("SKIPPED: PyTorch, for which --torch names no interpreter");
            None
        }
    };
    println!("rows: a billion elements a second; copy: of the same bytes; fractions and ratios of medians");
    println!(
        "{:<14} {:<10} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8}",
        "operation", "rows", "densely", "fastest", "copy", "of copy", "PyTorch", "ratio"
    );
    for operation in ["log_softmax", "cross_entropy"] {
        for size @ [batch, classes] in ROWS {
            let len = batch * classes;
            let (x, labels) = (random_values(1, len), random_labels::<u32>(2, batch, classes));
            let matrix = MatRef::new(&x, batch, classes)?;
            let (mut y, mut expected, mut copied) = (vec![0.0f32; len], vec![0.0f32; len], vec![0.0f32; len]);
            let write = |y: &mut [f32]| {
                let y = MatMut::new(y, batch, classes).expect("sizes fit");
                match operation {
                    "log_softmax" => activation::log_softmax(backend, matrix, y).expect("shapes fit"),
                    _ => drop(loss::cross_entropy(backend, matrix, &labels, y).expect("shapes fit")),
                }
            };
            write(&mut y);
            let to = MatMut::new(&mut expected, batch, classes)?;
            match operation {
                "log_softmax" => reference::log_softmax(matrix, to)?,
                _ => drop(reference::cross_entropy(&CrossEntropy::new(), matrix, &labels, None, Some(to))?),
            }
            if backend.isa() != Isa::Portable && y != expected {
                return Err(format!("{operation} of {batch}x{classes} gives another answer").into());
            }
            let mut ours = Player::new(|| write(&mut y));
            let mut copies = Player::new(|| copy(&x, &mut copied, options.threads));
            let mut peer = Vec::new();
            for _ in 0..options.rounds {
                ours.take_turn(options);
                copies.take_turn(options);
                if let Some(torch) = &mut torch {
                    // Threads of the pool that wait for more have gone to sleep by then.
                    std::thread::sleep(Duration::from_millis(20));
                    peer.push(torch.turn(operation, size, options.turn)?);
                }
            }
            let (ours_once, copy_once) = (median(&mut ours.times), median(&mut copies.times));
            let rate = |once: f64| len as f64 / once;
            print!(
                "{operation:<14} {:<10} {:>8.3} {:>8.3} {:>8.3} {:>8.2}",
                format!("{batch}x{classes}"),
                rate(ours_once),
                rate(ours.times[0]),
                rate(copy_once),
                copy_once / ours_once
            );
            if !peer.is_empty() {
                let peer = median(&mut peer);
                print!(" {:>8.3} {:>8.2}", rate(peer), peer / ours_once);
            }
            println!();
        }
    }
    Ok(())
}

/// Activations, element by element.
fn activations(options: &Options, backend: &Backend) -> Result<(), Box<dyn Error>> {
    println!("activations: a billion elements a second; below, the time relative to ReLU's");
    print!("{:<12} {:>8}", "elements", "copy");
    Activation::ALL.iter().for_each(|activation| print!(" {:>12}", activation.name()));
    println!();
    for [rows, cols] in MATRICES {
        let x = random_values(1, rows * cols);
        let mut copied = vec![0.0f32; x.len()];
        let mut ys: Vec<_> = Activation::ALL.iter().map(|&activation| (activation, vec![0.0f32; x.len()])).collect();
        let matrix = MatRef::new(&x, rows, cols)?;
        for (activation, y) in &mut ys {
            activation::forward(backend, *activation, matrix, MatMut::new(y, rows, cols)?)?;
            check(backend, *activation, matrix, y)?;
        }
        let mut players = vec![Player::new(|| copy(&x, &mut copied, options.threads))];
        players.extend(ys.iter_mut().map(|(activation, y)| {
            Player::new(|| {
                let y = MatMut::new(y, rows, cols).expect("sizes fit");
                activation::forward(backend, *activation, matrix, y).expect("shapes fit");
            })
        }));
        for _ in 0..options.rounds {
            players.iter_mut().for_each(|player| player.take_turn(options));
        }
        let times: Vec<f64> = players.iter_mut().map(|player| median(&mut player.times)).collect();
        print!("{:<12} {:>8.3}", format!("{rows}x{cols}"), x.len() as f64 / times[0]);
        times[1..].iter().for_each(|time| print!(" {:>12.3}", x.len() as f64 / time));
        print!("\n{:<12} {:>8.2}", "", times[0] / times[2]);
        times[1..].iter().for_each(|time| print!(" {:>12.2}", time / times[2]));
        println!();
    }
    Ok(())
}

/// Dense layers' forward pass with each activation.
fn layers(options: &Options, backend: &Backend) -> Result<(), Box<dyn Error>> {
    println!(
        "layers: time of the forward pass relative to that of a linear layer, medians; below, of the fastest turns"
    );
    print!("{:<16}", "layer");
    Activation::ALL.iter().for_each(|activation| print!(" {:>12}", activation.name()));
    println!();
    for [batch, inputs, outputs] in LAYERS {
        let (x, w, b) =
            (random_values(1, batch * inputs), random_values(2, inputs * outputs), random_values(3, outputs));
        let (x, w) = (MatRef::new(&x, batch, inputs)?, MatRef::new(&w, inputs, outputs)?);
        let output = |&activation: &Activation| (activation, vec![0.0f32; batch * outputs]);
        let mut ys: Vec<_> = Activation::ALL.iter().map(output).collect();
        let mut linear = vec![0.0f32; batch * outputs];
        dense::forward(backend, x, w, Some(&b), Activation::Linear, MatMut::new(&mut linear, batch, outputs)?)?;
        for (activation, y) in &mut ys {
            dense::forward(backend, x, w, Some(&b), *activation, MatMut::new(y, batch, outputs)?)?;
            check(backend, *activation, MatRef::new(&linear, batch, outputs)?, y)?;
        }
        let mut players: Vec<Player<'_>> = ys
            .iter_mut()
            .map(|(activation, y)| {
                let b = &b;
                Player::new(move || {
                    let y = MatMut::new(y, batch, outputs).expect("sizes fit");
                    dense::forward(backend, x, w, Some(b), *activation, y).expect("shapes fit");
                })
            })
            .collect();
        for _ in 0..options.rounds {
            players.iter_mut().for_each(|player| player.take_turn(options));
        }
        let medians: Vec<f64> = players.iter_mut().map(|player| median(&mut player.times)).collect();
        print!("{:<16}", format!("{batch}x{inputs}x{outputs}"));
        medians.iter().for_each(|time| print!(" {:>12.3}", time / medians[0]));
        print!("\n{:<16}", "");
        players.iter().for_each(|player| print!(" {:>12.3}", player.times[0] / players[0].times[0]));
        println!();
    }
    Ok(())
}

/// Whether y is what the reference makes of x.
fn check(backend: &Backend, activation: Activation, x: MatRef<'_>, y: &[f32]) -> Result<(), Box<dyn Error>> {
    let mut expected = vec![0.0f32; y.len()];
    reference::activation_forward(activation, x, MatMut::new(&mut expected, x.rows(), x.cols())?)?;
    if backend.isa() != Isa::Portable && y != expected {
        return Err(format!("{} of {}x{} gives another answer", activation.name(), x.rows(), x.cols()).into());
    }
    Ok(())
}
