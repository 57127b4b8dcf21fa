//! Trains a small network on Fashion-MNIST, as TensorFlow's tutorial does, and shows what it has learnt.
//!
//! `cargo run --release --example fashion_mnist` needs nothing else; `-- --help` lists the flags and says where the
//! data is looked for.

mod args;
mod data;
mod idx;
mod output;
mod picture;
mod progress;
mod report;

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;
use std::{fs, num::NonZeroUsize};

use densely::nn::{Activation, Dense, Fit, Flatten, Sequential};
use densely::{Backend, Threads};

use args::Args;
use data::Source;
use idx::{CLASSES, SIDE};
use progress::Progress;

/// Units of the hidden layer.
const HIDDEN: usize = 128;
/// Where the picture goes if no flag says it: cargo's own folder, which git ignores.
const PICTURE: &str = "target/fashion_mnist.svg";

const FAILURE: u8 = 1;
const WRONG_USAGE: u8 = 2;

fn main() -> ExitCode {
    let (done, code) = match Args::parse(lexopt::Parser::from_env()) {
        Ok(Some(args)) => (run(&args), FAILURE),
        Ok(None) => (io::stdout().write_all(args::HELP.as_bytes()).map_err(Into::into), FAILURE),
        Err(error) => (Err(format!("{error}\nTry --help.").into()), WRONG_USAGE),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody is left to be told if this fails too.
            let _ = writeln!(io::stderr(), "error: {error}");
            ExitCode::from(code)
        }
    }
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let picture = match &args.picture {
        Some(path) => path,
        None => {
            Path::new(PICTURE).parent().map_or(Ok(()), fs::create_dir_all)?;
            Path::new(PICTURE)
        }
    };
    output::check("--picture", picture)?;
    args.save.as_deref().map_or(Ok(()), |path| output::check("--save", path))?;
    let mut out = io::stdout();
    let mut notes: Box<dyn Write> = if args.quiet { Box::new(io::sink()) } else { Box::new(io::stdout()) };

    let source = Source::find(args.data.as_deref());
    let (train, test) = (source.train()?, source.test()?);
    writeln!(notes, "Data: {source}, {} training and {} test images", train.len(), test.len())?;

    let mut model = Sequential::builder((SIDE, SIDE))
        .layer(Flatten)
        .layer(Dense::new(HIDDEN, Activation::Relu))
        .layer(Dense::new(CLASSES, Activation::Softmax))
        .seed(args.seed)
        .backend(backend(args.threads)?)
        .build()?;
    model.compile(args.optimizer)?;
    if let Some(rate) = args.learning_rate {
        model.set_learning_rate(rate)?;
    }
    if let Some(path) = &args.load {
        model.load_weights(path)?;
    }
    let threads = if model.backend().threads() == Threads::One { 1 } else { rayon::current_num_threads() };
    writeln!(notes, "Processor: {}, {threads} threads\n\n{}", model.backend().isa(), model.summary())?;
...
}
