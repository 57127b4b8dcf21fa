//! Parses the command line.

use std::ffi::OsString;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::str::FromStr;

use densely::nn::{Adam, AdamW, Optimizer, Sgd};
use lexopt::{Arg, Parser};

/// What `--help` prints.
pub const HELP: &str = "\
Trains a network (784 inputs, 128 ReLU units, 10 classes) to classify images of clothing.

Usage: cargo run --release --example fashion_mnist -- [FLAGS]

  --data DIR           folder with the four files of Fashion-MNIST, see below
  --epochs N           passes over the training images                [default: 10]
                       0 only evaluates, which makes sense with --load
  --batch-size N       images per step of the optimizer               [default: 32]
  --optimizer NAME     sgd, adam or adamw                             [default: adam]
  --learning-rate X    a number from 0 up        [default: 0.01 for sgd, else 0.001]
  --seed N             seed of the initial weights and the shuffling  [default: 0]
                       the same seed and data give the same network on every machine
  --threads N          number of threads                  [default: all processors]
  --load FILE          start from these weights (safetensors)
  --save FILE          save the trained weights (safetensors)
  --checkpoint FILE    save everything that --resume needs after each epoch
  --resume             continue from the file of --checkpoint
  --picture FILE       where to draw curves, confusion matrix and samples (SVG)
                                                 [default: target/fashion_mnist.svg]
  --quiet              print nothing but the test loss and accuracy
  --help               print this

Ctrl-C ends the training; the network as trained so far is evaluated and saved.
A second Ctrl-C ends the program.

The data is taken from the first of these that applies:
  1. the folder of --data
  2. the folder that the environment variable FASHION_MNIST_DIR names
  3. Keras' cache, ~/.keras/datasets/fashion-mnist, if all four files are there
  4. the folder of Debian's package dataset-fashion-mnist, if installed
  5. a subset embedded in this program: 12,000 training and 2,000 test images
Files have their usual names, such as train-images-idx3-ubyte.gz, gzipped or not.
";

/// More threads than any target machine has processors.
const MAX_THREADS: usize = 1024;

const BATCH_SIZE: NonZeroUsize = NonZeroUsize::new(32).unwrap();

/// The values of all flags.
#[derive(Debug)]
pub struct Args {
    pub data: Option<PathBuf>,
    pub epochs: usize,
    pub batch_size: NonZeroUsize,
    pub optimizer: Optimizer,
    pub learning_rate: Option<f64>,
    pub seed: u64,
    pub threads: Option<NonZeroUsize>,
    pub load: Option<PathBuf>,
    pub save: Option<PathBuf>,
    pub checkpoint: Option<PathBuf>,
    pub resume: bool,
    pub picture: Option<PathBuf>,
    pub quiet: bool,
}

impl Default for Args {
    fn default() -> Self {
        Self {
            data: None,
            epochs: 10,
            batch_size: BATCH_SIZE,
            optimizer: Adam::default().into(),
            learning_rate: None,
            seed: 0,
            threads: None,
            load: None,
            save: None,
            checkpoint: None,
            resume: false,
            picture: None,
            quiet: false,
        }
    }
}

impl Args {
    /// Parses the command line; `None` if it asks for help.
    pub fn parse(mut parser: Parser) -> Result<Option<Self>, lexopt::Error> {
        let mut args = Self::default();
        while let Some(arg) = parser.next()? {
            let name = match arg {
                Arg::Long("help") | Arg::Short('h') => return Ok(None),
                Arg::Long(name) => name.to_owned(),
                other => return Err(other.unexpected()),
            };
            args.set(&name, Values { flag: &name, parser: &mut parser })?;
        }
        if args.resume && args.checkpoint.is_none() {
            return Err("--resume: expected --checkpoint FILE beside it, got nothing".into());
        }
        Ok(Some(args))
    }

    fn set(&mut self, flag: &str, mut values: Values<'_>) -> Result<(), lexopt::Error> {
        match flag {
            "data" => self.data = Some(values.path("a folder")?),
            "epochs" => {
                let fits = |&epochs: &usize| u32::try_from(epochs).is_ok();
                self.epochs = values.number("a whole number from 0 to 2^32 - 1", fits)?;
            }
            "batch-size" => self.batch_size = values.number("a whole number from 1 up", |_| true)?,
            "optimizer" => self.optimizer = values.next("sgd, adam or adamw", optimizer)?,
            "learning-rate" => self.learning_rate = Some(values.number("a number from 0 up", is_rate)?),
            "seed" => self.seed = values.number("a whole number from 0 to 2^64 - 1", |_| true)?,
            "threads" => {
                let expected = format!("a whole number from 1 to {MAX_THREADS}");
                let fits = |threads: &NonZeroUsize| threads.get() <= MAX_THREADS;
                self.threads = Some(values.number(&expected, fits)?);
            }
            "load" => self.load = Some(values.path("a file")?),
            "save" => self.save = Some(values.path("a file")?),
            "checkpoint" => self.checkpoint = Some(values.path("a file")?),
            "resume" => self.resume = true,
            "picture" => self.picture = Some(values.path("a file")?),
            "quiet" => self.quiet = true,
            _ => return Err(lexopt::Error::UnexpectedOption(format!("--{flag}"))),
        }
        Ok(())
    }
}

/// The values after a flag, and the name that errors give it.
struct Values<'a> {
    flag: &'a str,
    parser: &'a mut Parser,
}

impl Values<'_> {
    fn raw(&mut self, expected: &str) -> Result<OsString, lexopt::Error> {
        self.parser.value().map_err(|_| format!("--{}: expected {expected}, got nothing", self.flag).into())
    }

    fn path(&mut self, expected: &str) -> Result<PathBuf, lexopt::Error> {
        self.raw(expected).map(PathBuf::from)
    }

    fn next<T>(&mut self, expected: &str, read: impl Fn(&str) -> Option<T>) -> Result<T, lexopt::Error> {
        let found = self.raw(expected)?;
        found.to_str().and_then(read).ok_or_else(|| {
            let found = found.display();
            format!("--{}: expected {expected}, got `{found}`", self.flag).into()
        })
    }

    fn number<T: FromStr>(&mut self, expected: &str, fits: impl Fn(&T) -> bool) -> Result<T, lexopt::Error> {
        self.next(expected, |text| text.parse().ok().filter(&fits))
    }
}

fn optimizer(name: &str) -> Option<Optimizer> {
    match name {
        "sgd" => Some(Sgd::default().into()),
        "adam" => Some(Adam::default().into()),
        "adamw" => Some(AdamW::default().into()),
        _ => None,
    }
}

/// Tells whether every optimizer takes this learning rate.
fn is_rate(rate: &f64) -> bool {
    *rate >= 0.0 && (*rate as f32).is_finite()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Option<Args>, String> {
        Args::parse(Parser::from_args(line.split_whitespace())).map_err(|error| error.to_string())
    }

    #[test]
    fn flags_are_read() {
        let line = "--epochs 3 --batch-size=64 --optimizer sgd --learning-rate 0.1 --seed 7 --threads 2 --save a --checkpoint b --resume --quiet";
        let args = parse(line).expect("good flags").expect("no help");
        assert_eq!((args.epochs, args.batch_size.get(), args.seed), (3, 64, 7));
        assert_eq!((args.optimizer, args.learning_rate), (Sgd::default().into(), Some(0.1)));
        assert_eq!((args.threads.map(NonZeroUsize::get), args.save), (Some(2), Some("a".into())));
        assert_eq!((args.checkpoint, args.resume), (Some("b".into()), true));
        assert!(args.quiet && args.load.is_none());
        assert!(parse("--epochs 3 --help --unknown").expect("help").is_none());
    }

    #[test]
    fn errors_name_the_flag_and_what_was_expected() {
        for (line, error) in [
            ("--epochs -1", "--epochs: expected a whole number from 0 to 2^32 - 1, got `-1`"),
            ("--epochs", "--epochs: expected a whole number from 0 to 2^32 - 1, got nothing"),
            ("--batch-size 0", "--batch-size: expected a whole number from 1 up, got `0`"),
            ("--optimizer rmsprop", "--optimizer: expected sgd, adam or adamw, got `rmsprop`"),
            ("--learning-rate nan", "--learning-rate: expected a number from 0 up, got `nan`"),
            ("--learning-rate 1e39", "--learning-rate: expected a number from 0 up, got `1e39`"),
            ("--seed x", "--seed: expected a whole number from 0 to 2^64 - 1, got `x`"),
            ("--threads 1025", "--threads: expected a whole number from 1 to 1024, got `1025`"),
            ("--save", "--save: expected a file, got nothing"),
            ("--resume", "--resume: expected --checkpoint FILE beside it, got nothing"),
            ("--epoch 3", "invalid option '--epoch'"),
            ("extra", "unexpected argument \"extra\""),
            ("--quiet=yes", "unexpected argument for option '--quiet': \"yes\""),
        ] {
            assert_eq!(parse(line).err().as_deref(), Some(error), "{line}");
        }
    }

    #[test]
    fn help_names_every_default() {
        let args = Args::default();
        let rate = |optimizer: Optimizer| optimizer.rate();
        for default in [
            format!("[default: {}]", args.epochs),
            format!("[default: {}]", args.batch_size),
            format!("[default: {}]", args.seed),
            format!("[default: {} for sgd, else {}]", rate(Sgd::default().into()), rate(Adam::default().into())),
        ] {
            assert!(HELP.contains(&default), "{default}");
        }
    }
}
