//! Trains a small network on Fashion-MNIST, as the Keras tutorials do, and shows its predictions.
//!
//! `cargo run --release --example fashion_mnist` needs nothing else; append `-- --help` for the flags and for
//! where it looks for data.

mod args;
mod data;
mod idx;
mod interrupt;
mod output;
mod picture;
mod progress;
mod report;

use std::error::Error;
use std::io::{self, Write};
use std::process::ExitCode;

use densely::nn::{Activation, Dense, Ended, Fit, Flatten, Sequential};
use densely::{Backend, Threads};
use rayon::ThreadPoolBuilder;

use args::Args;
use data::Source;
use idx::{CLASSES, SIDE};
use picture::Picture;
use progress::Progress;

/// Units of the hidden layer.
const HIDDEN: usize = 128;

const FAILED: u8 = 1;
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    let (done, code) = match Args::parse(lexopt::Parser::from_env()) {
        Ok(Some(args)) => (run(&args), FAILED),
        Ok(None) => (write!(io::stdout(), "{}", args::HELP).map_err(Into::into), FAILED),
        Err(error) => (Err(format!("{error}; --help lists all flags").into()), MISUSED),
    };
    let Err(error) = done else { return ExitCode::SUCCESS };
    // If this fails too, there is no way left to report it.
    let _ = writeln!(io::stderr(), "error: {error}");
    ExitCode::from(code)
}

fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let mut notes: Box<dyn Write> = if args.quiet { Box::new(io::sink()) } else { Box::new(io::stdout()) };
    let picture = output::picture(args.picture.as_deref())?;
    for (flag, path) in [("--save", &args.save), ("--checkpoint", &args.checkpoint)] {
        path.iter().try_for_each(|path| output::check(flag, path))?;
    }

    let source = Source::find(args.data.as_deref());
    let (train, test) = (source.train()?, source.test()?);
    let data = format!("{source}: {} training images, {} test images", train.len(), test.len());
    writeln!(notes, "Data: {data}")?;

    let mut model = build(args)?;
    let threads = if model.backend().threads() == Threads::One { 1 } else { rayon::current_num_threads() };
    writeln!(notes, "Instruction set: {}, threads: {threads}\n\n{}", model.backend().isa(), model.summary())?;

    let mut progress = Progress::new(args.epochs, train.len(), args.quiet);
    let mut options = Fit::default()
        .epochs(args.epochs)
        .batch_size(args.batch_size.get())
        .shuffle(args.seed)
        .validation_data(test.x()?, &test.labels)
        .callback(&mut progress)
        .stop(interrupt::flag()?);
    if let Some(path) = &args.checkpoint {
        options = options.checkpoint(path, 1);
        options = if args.resume { options.resume(path) } else { options };
    }
    let history = model.fit(train.x()?, &train.labels, options)?;
    interrupt::end_of_training();
    if history.ended() == Ended::Stopped {
        progress.abandon();
        writeln!(notes, "\nStopped: {} of {} epochs are complete", history.epochs().len(), args.epochs)?;
    }
    if let Some(path) = &args.save {
        model.save_weights(path)?;
        writeln!(notes, "\nWeights: {}", path.display())?;
    }

    let metrics = model.evaluate(test.x()?, &test.labels)?;
    let predictions = report::predict(&model, &test)?;
    writeln!(notes)?;
    report::write(&mut notes, &test, &predictions)?;
    writeln!(notes)?;
    writeln!(io::stdout(), "test loss: {:.4}\ntest accuracy: {:.4}", metrics.loss, metrics.accuracy)?;

    let epochs = history.epochs();
    Picture { data: &data, epochs, metrics, test: &test, predictions: &predictions }.save(picture)?;
    writeln!(notes, "\nPicture: {}", picture.display())?;
    Ok(())
}

/// Builds the network of the tutorials, ready to train.
fn build(args: &Args) -> Result<Sequential, Box<dyn Error>> {
    let mut backend = Backend::new()?;
    match args.threads.map(|threads| threads.get()) {
        None => {}
        Some(1) => backend = backend.with_threads(Threads::One),
        Some(threads) => ThreadPoolBuilder::new().num_threads(threads).build_global()?,
    }
    let mut model = Sequential::builder((SIDE, SIDE))
        .layer(Flatten)
        .layer(Dense::new(HIDDEN, Activation::Relu))
        .layer(Dense::new(CLASSES, Activation::Softmax))
        .seed(args.seed)
        .backend(backend)
        .build()?;
    model.compile(args.optimizer)?;
    if let Some(rate) = args.learning_rate {
        model.set_learning_rate(rate)?;
    }
    if let Some(path) = &args.load {
        model.load_weights(path)?;
    }
    Ok(model)
}
