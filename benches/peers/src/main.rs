//! densely beside `gemm`, `matrixmultiply`, OpenBLAS, BLIS and MKL on the work of dense layers, in one run.
//!
//! Everyone does the whole of a layer's work: product, bias and ReLU; product; product and bias
//! gradient. Contestants take turns; figures are medians of GFLOP/s, beside the peak of fused
//! multiply-adds that was measured between them. A wrong answer ends the program before its row is printed.

#[path = "../../common/data.rs"]
#[allow(dead_code)]
mod data;
#[path = "../../common/peak.rs"]
mod peak;
mod sgemm;

use std::time::{Duration, Instant};

use data::{assert_close, random};
use densely::{Activation, Backend, MatMut, MatRef, Threads, dense};
use peak::Peak;
use sgemm::{Operand, Peer};

const HELP: &str = "\
usage: densely-peers [options]
  --threads N     threads of every contestant (default 2)
  --outside       call from outside the rayon pool
  --shapes SET    table (default), squares, batches, or shapes like 32x784x128,1x4096x4096
  --operations L  of forward_relu,forward_relu_t,backward_input,backward_params (default: all)
  --rounds N      turns of each contestant (default 15)
  --millis N      least length of a turn (default 3)
  --alone         densely only
Set DENSELY_ISA to force densely's instruction set.";

/// (batch, inputs, outputs)
const TABLE: [[usize; 3]; 13] = [
    [1, 784, 128],
    [8, 784, 128],
    [32, 784, 128],
    [128, 784, 128],
    [128, 128, 10],
    [64, 2352, 512],
    [256, 1024, 1024],
    [1024, 1024, 4096],
    [4096, 784, 128],
    [1, 4096, 4096],
    [17, 301, 77],
    [33, 785, 127],
    [50, 3072, 100],
];

const OPERATIONS: [&str; 4] = ["forward_relu", "forward_relu_t", "backward_input", "backward_params"];

struct Options {
    threads: usize,
    outside: bool,
    shapes: Vec<[usize; 3]>,
    operations: Vec<String>,
    rounds: usize,
    turn: Duration,
    alone: bool,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        threads: 2,
        outside: false,
        shapes: TABLE.to_vec(),
        operations: OPERATIONS.map(String::from).to_vec(),
        rounds: 15,
        turn: Duration::from_millis(3),
        alone: false,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("outside") => options.outside = true,
            Long("alone") => options.alone = true,
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("millis") => options.turn = Duration::from_millis(parser.value()?.parse()?),
            Long("operations") => {
                options.operations = parser.value()?.parse_with(operations)?;
            }
            Long("shapes") => options.shapes = parser.value()?.parse_with(shapes)?,
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
    Ok(options)
}

fn operations(text: &str) -> Result<Vec<String>, String> {
    let known = |name: &str| match OPERATIONS.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name} is none of {}", OPERATIONS.join(", "))),
    };
    text.split(',').map(known).collect()
}

fn shapes(text: &str) -> Result<Vec<[usize; 3]>, String> {
    match text {
        "table" => Ok(TABLE.to_vec()),
        "squares" => Ok([16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048].map(|n| [n; 3]).to_vec()),
        "batches" => Ok((0..=12).map(|power| [1 << power, 784, 128]).collect()),
        list => list
            .split(',')
            .map(|shape| {
                let sizes: Result<Vec<usize>, _> = shape.split('x').map(str::parse).collect();
                sizes
                    .ok()
                    .and_then(|sizes| <[usize; 3]>::try_from(sizes).ok())
                    .filter(|sizes| !sizes.contains(&0))
                    .ok_or_else(|| format!("{shape} is not BATCHxINPUTSxOUTPUTS"))
            })
            .collect(),
    }
}

/// A contestant: its name, and what it does once.
struct Contestant<'a> {
    name: &'static str,
    work: Box<dyn FnMut() + Send + 'a>,
    /// Of its turns, nanoseconds for once.
    times: Vec<f64>,
}

/// How long a contestant works before its time is taken.
const WARM_UP: Duration = Duration::from_millis(30);

impl Contestant<'_> {
    /// Works for at least `turn`, once threads that wait for another contestant's work have gone to sleep.
    fn take_turn(&mut self, turn: Duration, pause: Duration, outside: bool) {
        std::thread::sleep(pause);
        let mut times = 0u32;
        let mut work = || {
            // Threads that sleep take milliseconds to wake on some machines: everyone has the time for it.
            let start = Instant::now();
            let mut warm_up = 0;
            let mut start_of_last = start;
            while warm_up < 2 || start.elapsed() < WARM_UP {
                start_of_last = Instant::now();
                (self.work)();
                warm_up += 1;
            }
            let count = (turn.as_nanos() / start_of_last.elapsed().as_nanos().max(20)).clamp(1, 100_000) as u32;
            let start = Instant::now();
            (0..count).for_each(|_| (self.work)());
            times = count;
            start.elapsed()
        };
        let elapsed = if outside { work() } else { rayon::scope(|_| work()) };
        self.times.push(elapsed.as_nanos() as f64 / f64::from(times));
    }

    fn median(&mut self) -> f64 {
        self.times.sort_by(f64::total_cmp);
        self.times[self.times.len() / 2]
    }
}

/// GFLOP/s of fused multiply-adds, on all threads of the pool at once.
fn measure_peak(peak: Peak, threads: usize) -> f64 {
    let start = Instant::now();
    const RUNS: usize = 8;
    if threads == 1 {
        (0..RUNS).for_each(|_| peak.run());
    } else {
        rayon::broadcast(|_| (0..RUNS).for_each(|_| peak.run()));
    }
    (RUNS * threads * peak.flops()) as f64 / start.elapsed().as_nanos() as f64
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = options()?;
    let peers = if options.alone { Vec::new() } else { Peer::all(options.threads) };
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let mut backend = Backend::new()?;
    if options.threads == 1 {
        backend = backend.with_threads(Threads::One);
    }
    let peak = Peak::detect();
    println!(
        "densely on {}, {} thread(s), called from {} the pool; GFLOP/s",
        backend.isa(),
        options.threads,
        if options.outside { "outside" } else { "inside" }
    );
    print!("{:<16} {:<16} {:>8}", "operation", "shape", "densely");
    peers.iter().for_each(|peer| print!(" {:>14}", peer.name));
    println!(" {:>6} {:>7} {:>7}", "peak", "of peak", "ratio");
    let (mut logs, mut behind) = (Vec::new(), 0);
    for &shape in &options.shapes {
        for operation in &options.operations {
            let [batch, inputs, outputs] = shape;
            let flops = (2 * batch * inputs * outputs) as f64;
            let (mut times, mut peaks) = compare(&options, &backend, &peers, peak, operation, shape);
            peaks.sort_by(f64::total_cmp);
            let peak = peaks[peaks.len() / 2];
            let ours = times.remove(0);
            print!("{operation:<16} {:<16} {:>8.1}", format!("{batch}x{inputs}x{outputs}"), flops / ours);
            times.iter().for_each(|time| print!(" {:>14.1}", flops / time));
            print!(" {peak:>6.1} {:>7.3}", flops / ours / peak);
            if let Some(best) = times.into_iter().min_by(f64::total_cmp) {
                let ratio = best / ours;
                print!(" {ratio:>7.3}");
                logs.push(ratio.ln());
                behind += usize::from(ratio < 1.0);
            }
            println!();
        }
    }
    if !logs.is_empty() {
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        println!("geometric mean against the best peer of each: {mean:.3}; behind at {behind} of {}", logs.len());
    }
    Ok(())
}

/// The medians of densely and the peers, nanoseconds, and the peaks between them.
fn compare(
    options: &Options,
    backend: &Backend,
    peers: &[Peer],
    peak: Peak,
    operation: &str,
    [batch, inputs, outputs]: [usize; 3],
) -> (Vec<f64>, Vec<f64>) {
    let (x, w, bias, dy) = (random(batch * inputs), random(inputs * outputs), random(outputs), random(batch * outputs));
    let view = |data, rows, cols| MatRef::new(data, rows, cols).expect("sizes fit");
    let (x_view, dy_view) = (view(&x, batch, inputs), view(&dy, batch, outputs));
    let len = match operation {
        "backward_input" => batch * inputs,
        "backward_params" => (inputs + 1) * outputs,
        _ => batch * outputs,
    };
    let mut results = vec![vec![0.0f32; len]; peers.len() + 1];
    let mut contestants: Vec<Contestant<'_>> = Vec::new();
    let mut slots = results.iter_mut();
    let out = slots.next().expect("one for each");
    let w_view = if operation == "forward_relu_t" { view(&w, outputs, inputs).t() } else { view(&w, inputs, outputs) };
    let bias = &bias[..];
    let work: Box<dyn FnMut() + Send + '_> = match operation {
        "backward_input" => Box::new(move || {
            let dx = MatMut::new(out, batch, inputs).expect("sizes fit");
            dense::backward_input(backend, dy_view, w_view, None, dx).expect("shapes fit");
        }),
        "backward_params" => Box::new(move || {
            let (dw, db) = out.split_at_mut(inputs * outputs);
            let dw = MatMut::new(dw, inputs, outputs).expect("sizes fit");
            dense::backward_params(backend, x_view, dy_view, dw, Some(db)).expect("shapes fit");
        }),
        _ => Box::new(move || {
            let y = MatMut::new(out, batch, outputs).expect("sizes fit");
            dense::forward(backend, x_view, w_view, Some(bias), Activation::Relu, y).expect("shapes fit");
        }),
    };
    contestants.push(Contestant { name: "densely", work, times: Vec::new() });
    let (x, w, dy) = (Operand::new(&x, inputs), Operand::new(&w, outputs), Operand::new(&dy, outputs));
    let w = if operation == "forward_relu_t" { Operand::new(w.data, inputs).t() } else { w };
    for (&peer, out) in peers.iter().zip(slots) {
        let threads = options.threads;
        let work: Box<dyn FnMut() + Send + '_> = match operation {
            "backward_input" => Box::new(move || peer.sgemm([batch, outputs, inputs], dy, w.t(), 0.0, out)),
            "backward_params" => Box::new(move || {
                let (dw, db) = out.split_at_mut(inputs * outputs);
                peer.sgemm([inputs, batch, outputs], x.t(), dy, 0.0, dw);
                db.fill(0.0);
                for row in dy.data.chunks_exact(outputs) {
                    db.iter_mut().zip(row).for_each(|(sum, dy)| *sum += dy);
                }
            }),
            _ => Box::new(move || {
                halves(threads, out, outputs, &|rows| {
                    rows.chunks_exact_mut(outputs).for_each(|row| row.copy_from_slice(bias))
                });
                peer.sgemm([batch, inputs, outputs], x, w, 1.0, out);
                halves(threads, out, outputs, &|rows| rows.iter_mut().for_each(|y| *y = y.max(0.0)));
            }),
        };
        contestants.push(Contestant { name: peer.name, work, times: Vec::new() });
    }
    let names: Vec<&str> = contestants.iter().map(|contestant| contestant.name).collect();
    let mut peaks = Vec::new();
    let pause = if options.threads == 1 || options.alone { Duration::ZERO } else { sgemm::SETTLE };
    for _ in 0..options.rounds {
        for contestant in &mut contestants {
            contestant.take_turn(options.turn, pause, options.outside);
        }
        std::thread::sleep(pause);
        peaks.push(measure_peak(peak, options.threads));
    }
    let times = contestants.iter_mut().map(Contestant::median).collect();
    drop(contestants);
    for (name, result) in names.iter().zip(&results) {
        assert_close(name, result, &results[0]);
    }
    (times, peaks)
}

/// Works on all rows, on two threads where that pays.
fn halves(threads: usize, rows: &mut [f32], cols: usize, work: &(dyn Fn(&mut [f32]) + Sync)) {
    if threads == 1 || rows.len() < 1 << 17 {
        return work(rows);
    }
    let (first, rest) = rows.split_at_mut(rows.len() / cols / 2 * cols);
    rayon::join(|| work(first), || work(rest));
}
