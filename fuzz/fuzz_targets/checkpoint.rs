//! Resumes from a checkpoint some of whose bytes are replaced, or from any bytes: success, or an error and an
//! unchanged model.
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

/// Returns the checkpoint of a training of one epoch.
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
            let place = usize::from(u16::from_le_bytes([*low, *high])) % content.len();
            content[place..].iter_mut().zip(bytes).for_each(|(old, new)| *old = *new);
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
