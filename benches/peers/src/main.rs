//! densely beside `gemm`, `matrixmultiply`, OpenBLAS, BLIS and MKL on the work of dense layers, in one run.
//!
//! Everyone does the whole of a layer's work (`benches/common/layer.rs`). Contestants take turns; figures are
//! medians of GFLOP/s, beside the peak of fused multiply-adds that was measured between them, and for layers
//! that do not fit into caches beside the bandwidth of memory. Before anyone's time is taken all answers are
//! compared.

#[path = "../../common/layer.rs"]
mod layer;
mod library;
#[path = "../../common/peak.rs"]
#[allow(dead_code)]
mod peak;
#[path = "../../common/sgemm.rs"]
mod sgemm;

use std::error::Error;
use std::time::{Duration, Instant};

use densely::{Backend, Threads};
use densely_testkit::Tolerance;
use layer::{Contestant, Layer, Operation, SHAPES};
use peak::Limits;

const HELP: &str = "\
usage: densely-peers [options]
  --threads N     threads of every contestant (default 2)
  --outside       call from outside the rayon pool
  --shapes SET    table (default), squares, batches, or shapes like 32x784x128,1x4096x4096
  --operations L  of forward_relu,forward_relu_t,backward_input,backward_params (default: all)
  --rounds N      turns of each contestant (default 15)
  --millis N      least length of a turn (default 3)
  --peers L       of gemm,matrixmultiply,openblas,blis,mkl, or none (default: all that are there)
Set DENSELY_ISA to force densely's instruction set; the peak is that of the same.";

struct Options {
    threads: usize,
    outside: bool,
    shapes: Vec<[usize; 3]>,
    operations: Vec<Operation>,
    rounds: usize,
    turn: Duration,
    /// All that are there, if not given.
    peers: Option<Vec<String>>,
}

fn options() -> Result<Options, lexopt::Error> {
    use lexopt::prelude::*;
    let mut options = Options {
        threads: 2,
        outside: false,
        shapes: SHAPES.to_vec(),
        operations: Operation::ALL.to_vec(),
        rounds: 15,
        turn: Duration::from_millis(3),
        peers: None,
    };
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("threads") => options.threads = parser.value()?.parse()?,
            Long("outside") => options.outside = true,
            Long("peers") => options.peers = Some(parser.value()?.parse_with(peers)?),
            Long("rounds") => options.rounds = parser.value()?.parse()?,
            Long("millis") => options.turn = Duration::from_millis(parser.value()?.parse()?),
            Long("operations") => options.operations = parser.value()?.parse_with(operations)?,
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

fn peers(text: &str) -> Result<Vec<String>, String> {
    let known = |name: &str| match library::NAMES.contains(&name) {
        true => Ok(name.to_owned()),
        false => Err(format!("{name} is none of {}", library::NAMES.join(", "))),
    };
    if text == "none" { Ok(Vec::new()) } else { text.split(',').map(known).collect() }
}

fn operations(text: &str) -> Result<Vec<Operation>, String> {
    let known = |name: &str| {
        let found = Operation::ALL.into_iter().find(|operation| operation.name() == name);
        found.ok_or_else(|| format!("{name} is none of {}", Operation::ALL.map(Operation::name).join(", ")))
    };
    text.split(',').map(known).collect()
}

fn shapes(text: &str) -> Result<Vec<[usize; 3]>, String> {
    match text {
        "table" => Ok(SHAPES.to_vec()),
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

/// A contestant, what it gave, and the times of its turns in nanoseconds for once.
struct Player<'a> {
    contestant: &'a dyn Contestant,
    out: Vec<f32>,
    times: Vec<f64>,
}

/// How long a contestant works before its time is taken.
const WARM_UP: Duration = Duration::from_millis(30);

impl Player<'_> {
    /// Works for at least the length of a turn, once threads that wait for another contestant's work have
    /// gone to sleep.
    fn take_turn(&mut self, options: &Options, operation: Operation, layer: &Layer, pause: Duration) {
        std::thread::sleep(pause);
        let (contestant, out) = (self.contestant, &mut self.out[..]);
        let mut work = || contestant.work(operation, layer, out);
        let mut turn = || {
            // Threads that sleep take milliseconds to wake on some machines: everyone has the time for it.
            let start = Instant::now();
            let mut warm_up = 0;
            let mut start_of_last = start;
            while warm_up < 2 || start.elapsed() < WARM_UP {
                start_of_last = Instant::now();
                work();
                warm_up += 1;
            }
            let once = start_of_last.elapsed().as_nanos().max(20);
            let count = (options.turn.as_nanos() / once).clamp(1, 100_000) as u32;
            let start = Instant::now();
            (0..count).for_each(|_| work());
            start.elapsed().as_nanos() as f64 / f64::from(count)
        };
        self.times.push(if options.outside { turn() } else { rayon::scope(|_| turn()) });
    }
}

fn median(figures: &mut [f64]) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures[figures.len() / 2]
}

/// Bytes from which a layer's operands come from memory in each call: what the last cache holds on the
/// machine of the records.
const CACHE: usize = 32 << 20;

/// A row of the table: nanoseconds, and the limits a second.
struct Row {
    ours: f64,
    fastest: f64,
    peers: Vec<f64>,
    fma: f64,
    /// If the operands come from memory.
    read: Option<f64>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let options = options()?;
    let names = options.peers.clone().unwrap_or_else(|| library::NAMES.map(String::from).to_vec());
    let library::Peers { contestants: peers, about } = library::load(&names, options.threads, options.peers.is_none())?;
    rayon::ThreadPoolBuilder::new().num_threads(options.threads).build_global()?;
    let mut backend = Backend::new()?;
    if options.threads == 1 {
        backend = backend.with_threads(Threads::One);
    }
    let limits = Limits::new(backend.isa(), options.threads);
    about.iter().for_each(|line| println!("{line}"));
    println!(
        "densely on {}, {} thread(s), called from {} the pool; GFLOP/s",
        backend.isa(),
        options.threads,
        if options.outside { "outside" } else { "inside" }
    );
    print!("{:<16} {:<16} {:>8} {:>8}", "operation", "shape", "densely", "fastest");
    peers.iter().for_each(|(name, _)| print!(" {name:>14}"));
    println!(" {:>6} {:>7}{}", "peak", "of peak", if peers.is_empty() { "" } else { "   ratio" });
    let mut contestants: Vec<(&str, &dyn Contestant)> = vec![("densely", &backend)];
    contestants.extend(peers.iter().map(|(name, peer)| (*name, &**peer)));
    let (mut logs, mut behind) = (Vec::new(), 0);
    for &shape @ [batch, inputs, outputs] in &options.shapes {
        let layer = Layer::new(shape);
        for &operation in &options.operations {
            let name = format!("{:<16} {:<16}", operation.name(), format!("{batch}x{inputs}x{outputs}"));
            let row = compare(&options, &contestants, &limits, operation, &layer, shape)?;
            let flops = (2 * batch * inputs * outputs) as f64;
            print!("{name} {:>8.1} {:>8.1}", flops / row.ours, flops / row.fastest);
            row.peers.iter().for_each(|time| print!(" {:>14.1}", flops / time));
            print!(" {:>6.1} {:>7.3}", row.fma / 1e9, flops / row.ours / (row.fma / 1e9));
            if let Some(best) = row.peers.into_iter().min_by(f64::total_cmp) {
                let ratio = best / row.ours;
                print!(" {ratio:>7.3}");
                logs.push(ratio.ln());
                behind += usize::from(ratio < 1.0);
            }
            println!();
            if let Some(read) = row.read {
                let (bytes, read) = (operation.bytes(shape) as f64, read / 1e9);
                let rate = bytes / row.ours;
                println!(
                    "    densely moves {:.1} MB at {rate:.1} GB/s, {:.3} of the {read:.1} that are read from memory",
                    bytes / 1e6,
                    rate / read
                );
            }
        }
    }
    if !logs.is_empty() {
        let mean = (logs.iter().sum::<f64>() / logs.len() as f64).exp();
        let missing = names.iter().filter(|&name| peers.iter().all(|(peer, _)| peer != name));
        let without: String = missing.map(|name| format!("; without {name}")).collect();
        println!(
            "geometric mean against the best peer of each: {mean:.3}; behind at {behind} of {}{without}",
            logs.len()
        );
    }
    println!("read from memory at the end: {:.1} GB/s", limits.read() / 1e9);
    Ok(())
}

/// Lets all take turns at an operation.
fn compare(
    options: &Options,
    contestants: &[(&str, &dyn Contestant)],
    limits: &Limits,
    operation: Operation,
    layer: &Layer,
    shape: [usize; 3],
) -> Result<Row, String> {
    let mut players: Vec<Player<'_>> = Vec::new();
    for &(name, contestant) in contestants {
        let mut out = vec![f32::NAN; operation.len(shape)];
        contestant.work(operation, layer, &mut out);
        if players.first().is_some_and(|first| !Tolerance::REORDERED.holds(&out, &first.out)) {
            return Err(format!("{name} gives another answer at {} of {shape:?}", operation.name()));
        }
        players.push(Player { contestant, out, times: Vec::new() });
    }
    let (mut fma, mut read) = (Vec::new(), Vec::new());
    let pause = if options.threads == 1 || players.len() == 1 { Duration::ZERO } else { library::SETTLE };
    for _ in 0..options.rounds {
        for player in &mut players {
            player.take_turn(options, operation, layer, pause);
        }
        std::thread::sleep(pause);
        fma.push(limits.fma());
        if operation.bytes(shape) > CACHE {
            read.push(limits.read());
        }
    }
    let mut times = players.iter_mut().map(|player| median(&mut player.times));
    let ours = times.next().expect("densely is the first");
    let peers = times.collect();
    let read = (!read.is_empty()).then(|| median(&mut read));
    Ok(Row { ours, fastest: players[0].times[0], peers, fma: median(&mut fma), read })
}
