//! Loads arbitrary bytes as a weight file: they are weights, or it is an error and the parameters are
//! unchanged.
#![no_main]

use std::{env, fs, process};

use densely::nn::{Activation, Dense, Sequential};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let path = env::temp_dir().join(format!("densely-fuzz-{}.safetensors", process::id()));
    fs::write(&path, data).expect("a writable temporary folder");
    let mut model = Sequential::builder(2)
        .layer(Dense::new(3, Activation::Relu))
        .layer(Dense::new(2, Activation::Softmax))
        .build()
        .expect("a valid model");
    let bits = |model: &Sequential| model.parameters().iter().map(|weight| weight.to_bits()).collect::<Vec<_>>();
    let before = bits(&model);
    if model.load_weights(&path).is_err() {
        assert_eq!(bits(&model), before);
    }
});
