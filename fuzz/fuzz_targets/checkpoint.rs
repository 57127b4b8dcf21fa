//! Resumes from a checkpoint with some bytes replaced, or from arbitrary bytes: training goes on, or it is an
//! error and the model is unchanged.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::{env, fs, process};

use densely::nn::{Activation, Adam, Dense, EarlyStopping, Fit, Monitor, Sequential};
use densely::{MatRef, Result};
use libfuzzer_sys::fuzz_target;

fn path() -> PathBuf {
    env::temp_dir().join(format!("densely-fuzz-checkpoint-{}.safetensors", process::id()))
}

fn model() -> Result<Sequential> {
    let builder = Sequential::builder(2).layer(Dense::new(3, Activation::Relu));
    let mut model = builder.layer(Dense::new(2, Activation::Softmax)).build()?;
    model.compile(Adam::default())?;
    Ok(model)
}

fn fit(model: &mut Sequential, options: impl FnOnce(Fit<'_>) -> Fit<'_>) -> Result<()> {
    let x = [1.0, 2.0, -1.0, 0.5, 0.25, 3.0];
    let options = options(Fit::default()).early_stopping(EarlyStopping::new(Monitor::Loss).patience(2));
    model.fit(MatRef::new(&x, 3, 2)?, &[0u8, 1, 1], options).map(drop)
}

/// Writes a checkpoint after one epoch and returns its bytes.
fn checkpoint() -> Vec<u8> {
    let written = model().and_then(|mut model| fit(&mut model, |fit| fit.checkpoint(path(), 1)));
    written.expect("a valid model and a writable folder");
    fs::read(path()).expect("it was written")
}

fuzz_target!(|data: &[u8]| {
    static WHOLE: OnceLock<Vec<u8>> = OnceLock::new();
    let whole = WHOLE.get_or_init(checkpoint);
    let content = match data {
        [0, low, high, bytes @ ..] => {
            let mut content = whole.clone();
            let offset = usize::from(u16::from_le_bytes([*low, *high])) % content.len();
            content[offset..].iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
            content
        }
        bytes => bytes.to_vec(),
    };
    fs::write(path(), content).expect("a writable temporary folder");
    let mut model = model().expect("a valid model");
    let bits = |model: &Sequential| model.parameters().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>();
    let before = bits(&model);
    if fit(&mut model, |fit| fit.epochs(2).resume(path())).is_err() {
        assert_eq!((bits(&model), model.iterations()), (before, Some(0)));
    }
});
