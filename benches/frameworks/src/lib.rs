//! What the programs of Rust's frameworks share; `turns.py` is the same for those of Python.
//!
//! A contestant is a process. It is started with the folder of the networks, the number of threads and, where
//! it has one, a setting; tells its versions in a line, and answers each line of its standard input with one
//! of its standard output:
//!
//! | request | answer |
//! |---|---|
//! | `train NET BATCH` | nanoseconds, mean loss and accuracy of an epoch; the first one starts anew |
//! | `infer NET BATCH SECONDS` | nanoseconds for one call, the mean of as many as take so long |
//! | `answer NET BATCH FILE` | `written`, once the file holds that call's logarithms of probabilities |

use std::error::Error;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

pub type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// A network of dense layers, all ReLU but the last, with the weights and samples that all contestants share.
pub struct Net {
    pub name: String,
    /// Values of a sample, units of each layer.
    pub sizes: Vec<usize>,
    pub labels: Vec<u32>,
    pub layers: Vec<Layer>,
    /// Its samples' file.
    x: PathBuf,
}

/// A dense layer's weights.
pub struct Layer {
    pub inputs: usize,
    pub outputs: usize,
    /// Inputs x outputs.
    pub kernel: Vec<f32>,
    pub bias: Vec<f32>,
}

impl Net {
    fn read(folder: &Path, name: &str) -> Result<Self> {
        let folder = folder.join(name);
        let sizes = name.split('-').map(str::parse).collect::<std::result::Result<Vec<usize>, _>>()?;
        let weights = read(&folder.join("weights"), f32::from_le_bytes)?;
        let mut rest = &weights[..];
        let mut take = |len: usize| {
            let (taken, behind) = rest.split_at_checked(len).ok_or("there are too few weights")?;
            rest = behind;
            Ok::<_, Box<dyn Error>>(taken.to_vec())
        };
        let mut layers = Vec::new();
        for pair in sizes.windows(2) {
            let (inputs, outputs) = (pair[0], pair[1]);
            layers.push(Layer { inputs, outputs, kernel: take(inputs * outputs)?, bias: take(outputs)? });
        }
        Ok(Self {
            name: name.into(),
            x: folder.join("x"),
            labels: read(&folder.join("labels"), u32::from_le_bytes)?,
            layers,
            sizes,
        })
    }

    pub fn inputs(&self) -> usize {
        self.sizes[0]
    }

    /// All samples, samples x inputs: read anew, since whoever takes them keeps them.
    pub fn x(&self) -> Result<Vec<f32>> {
        read(&self.x, f32::from_le_bytes)
    }

    /// The first samples.
    pub fn first(&self, samples: usize) -> Result<Vec<f32>> {
        let mut x = self.x()?;
        x.truncate(samples * self.inputs());
        x.shrink_to_fit();
        Ok(x)
    }

    pub fn outputs(&self) -> usize {
        self.sizes[self.sizes.len() - 1]
    }
}

/// Reads numbers of four bytes.
pub fn read<T>(path: &Path, number: fn([u8; 4]) -> T) -> Result<Vec<T>> {
    let bytes = std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(bytes.as_chunks().0.iter().map(|&bytes| number(bytes)).collect())
}

/// Writes them.
pub fn write<T: Copy>(path: &Path, numbers: &[T], bytes: fn(T) -> [u8; 4]) -> Result<()> {
    let all: Vec<u8> = numbers.iter().flat_map(|&number| bytes(number)).collect();
    std::fs::write(path, all).map_err(|error| format!("{}: {error}", path.display()).into())
}

/// A framework of Rust.
pub trait Framework {
    /// Its versions.
    fn about() -> String;
    /// A network to train by Adam with a rate of 0.001.
    fn train(net: &Net, batch: usize) -> Result<Box<dyn Training>>;
    /// A network that answers for its first samples.
    fn infer(net: &Net, batch: usize) -> Result<Box<dyn Inference>>;
}

pub trait Training {
    /// Sees all samples once, in another order each time, and gives mean loss and accuracy.
    fn epoch(&mut self) -> Result<[f32; 2]>;
}

pub trait Inference {
    /// Makes an answer, and keeps it.
    fn call(&mut self) -> Result<()>;
    /// The last answer: logarithms of probabilities.
    fn answer(&self) -> Result<Vec<f32>>;
}

/// What a program has at hand for the next request.
enum Ready {
    Training(Box<dyn Training>),
    Inference(Box<dyn Inference>),
}

/// Answers requests until there are no more, on a thread of the rayon pool, where each of these frameworks
/// loses least. The pool has as many threads as RAYON_NUM_THREADS says, which all of them go by.
pub fn serve<F: Framework>() -> Result<()> {
    rayon::scope(|_| serve_inside::<F>().map_err(|error| error.to_string()))?;
    Ok(())
}

fn serve_inside<F: Framework>() -> Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("the folder of the networks is missing")?);
    tell(&F::about())?;
    let mut net: Option<Net> = None;
    let mut ready: Option<(String, Ready)> = None;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let [verb, name, batch, rest @ ..] = &words[..] else { return Err(format!("not a request: {line}").into()) };
        let net = match net.take() {
            Some(same) if same.name == *name => net.insert(same),
            old => {
                drop((old, ready.take()));
                net.insert(Net::read(&folder, name)?)
            }
        };
        let key = format!("{} {batch}", *verb == "train");
        let ready = match ready.take() {
            Some(same) if same.0 == key => ready.insert(same),
            old => {
                drop(old);
                let batch = batch.parse()?;
                let made = match *verb {
                    "train" => Ready::Training(F::train(net, batch)?),
                    _ => Ready::Inference(F::infer(net, batch)?),
                };
                ready.insert((key, made))
            }
        };
        match (*verb, &mut ready.1, rest) {
            ("train", Ready::Training(training), []) => {
                let start = Instant::now();
                let [loss, accuracy] = training.epoch()?;
                tell(&format!("{} {loss} {accuracy}", start.elapsed().as_nanos()))?;
            }
            ("infer", Ready::Inference(inference), [seconds]) => {
                let least = Duration::try_from_secs_f64(seconds.parse()?)?;
                tell(&once(least, || inference.call())?.to_string())?;
            }
            ("answer", Ready::Inference(inference), [file]) => {
                inference.call()?;
                write(Path::new(file), &inference.answer()?, f32::to_le_bytes)?;
                tell("written")?;
            }
            _ => return Err(format!("not a request: {line}").into()),
        }
    }
    Ok(())
}

fn tell(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}

/// Nanoseconds for one call, when threads are awake.
fn once(least: Duration, mut call: impl FnMut() -> Result<()>) -> Result<f64> {
    let (start, mut calls) = (Instant::now(), 0);
    while calls < 2 || start.elapsed() < Duration::from_millis(30) {
        call()?;
        calls += 1;
    }
    let expected = (start.elapsed() / calls).as_nanos().max(20);
    let count = (least.as_nanos() / expected).clamp(1, 10_000_000) as u32;
    let start = Instant::now();
    (0..count).try_for_each(|_| call())?;
    Ok(start.elapsed().as_nanos() as f64 / f64::from(count))
}

/// A dependency's version, as `candle-core 0.11.1`.
pub fn version(name: &str) -> String {
    let entry = include_str!("../Cargo.lock").split("[[package]]").find_map(|entry| {
        let mut lines = entry.trim().lines();
        let is_it = lines.next()? == format!("name = \"{name}\"");
        is_it.then(|| lines.next()?.strip_prefix("version = \"")?.strip_suffix('"')).flatten()
    });
    format!("{name} {}", entry.unwrap_or("of unknown version"))
}

/// An order of samples, another one each time.
pub struct Shuffle(rand_chacha::ChaCha8Rng);

impl Default for Shuffle {
    fn default() -> Self {
        use rand_chacha::rand_core::SeedableRng;
        Self(rand_chacha::ChaCha8Rng::seed_from_u64(0))
    }
}

impl Shuffle {
    /// Source: the "inside-out" form of Fisher and Yates' algorithm; the bias of the remainder is of no
    /// matter here.
    pub fn order(&mut self, len: usize) -> Vec<u32> {
        use rand_chacha::rand_core::Rng;
        let mut order: Vec<u32> = Vec::with_capacity(len);
        for i in 0..len as u32 {
            let j = self.0.next_u32() % (i + 1);
            order.push(i);
            order.swap(i as usize, j as usize);
        }
        order
    }
}
