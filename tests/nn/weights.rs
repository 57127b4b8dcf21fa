//! Saves and loads weights: what was saved is loaded, and damaged files are refused.

use std::fs;
use std::path::{Path, PathBuf};

use densely::nn::Sequential;
use densely::{Backend, Error};
use densely_testkit::{Folder, assert_identical, random_values, row_major};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors, serialize};

use crate::common::{mlp, path_on_full_disk, run_on_full_disk};

/// Builds four layers, among whose names dense_2 and dense_3 differ in one bit.
fn model() -> Sequential {
    mlp(&Backend::new().unwrap(), 3, &[2, 3, 2, 2])
}

/// Builds the same layers with other weights.
fn other() -> Sequential {
    let mut model = model();
    model.parameters_mut().iter_mut().for_each(|weight| *weight += 1.0);
    model
}

/// Asserts that loading these bytes fails and leaves the weights alone; returns the error.
#[track_caller]
fn refused(folder: &Folder, content: &[u8]) -> Error {
    let path = folder.file("refused");
    // A new file each time: truncating and rewriting one takes milliseconds on ext4.
    let _ = fs::remove_file(&path);
    fs::write(&path, content).unwrap();
    let mut model = other();
    let error = model.load_weights(&path).unwrap_err();
    assert_identical(model.parameters(), other().parameters(), "weights after a refused load");
    error
}

#[test]
fn loaded_model_predicts_the_same_bits() {
    let folder = Folder::new("round-trip");
    let (saved, mut loaded) = (model(), other());
    saved.save_weights(folder.file("weights")).unwrap();
    loaded.load_weights(folder.file("weights")).unwrap();
    let x = random_values(1, 5 * 3);
    let [found, expected] = [loaded, saved].map(|model| model.predict(row_major(&x, 5)).unwrap());
    assert_identical(&found, &expected, "predictions");
    assert_eq!(folder.names(), ["weights"]);
}

#[test]
fn every_bit_pattern_survives_saving() {
    let folder = Folder::new("patterns");
    let (mut saved, mut loaded) = (model(), model());
    let patterns = [0x8000_0000, 1, 0x7f80_0000, 0xff80_0000, 0x7fc0_1234, 0x7f80_0001, 0x0080_0000];
    saved.parameters_mut().iter_mut().zip(patterns).for_each(|(weight, bits)| *weight = f32::from_bits(bits));
    saved.save_weights(folder.file("weights")).unwrap();
    loaded.load_weights(folder.file("weights")).unwrap();
    assert_identical(loaded.parameters(), saved.parameters(), "weights");
}

#[test]
fn equal_weights_are_saved_as_equal_bytes() {
    let folder = Folder::new("bytes");
    let [first, second] = ["first", "second"].map(|name| {
        model().save_weights(folder.file(name)).unwrap();
        fs::read(folder.file(name)).unwrap()
    });
    assert_eq!(first, second);
}

#[test]
fn files_are_safetensors_with_keras_names_and_shapes() {
    let folder = Folder::new("format");
    let model = mlp(&Backend::new().unwrap(), 3, &[2, 4]);
    model.save_weights(folder.file("weights")).unwrap();
    let bytes = fs::read(folder.file("weights")).unwrap();
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let mut flat = Vec::new();
    for (name, shape) in
        [("dense.kernel", &[3, 2][..]), ("dense.bias", &[2]), ("dense_1.kernel", &[2, 4]), ("dense_1.bias", &[4])]
    {
        let tensor = file.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (Dtype::F32, shape), "{name}");
        flat.extend(tensor.data().chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().unwrap())));
    }
    assert_eq!(file.len(), 4);
    assert_identical(&flat, model.parameters(), "tensors in the order of the parameters");
}

#[test]
fn mismatched_tensors_are_refused_by_name() {
    let folder = Folder::new("tensors");
    let zeros = [0; 64];
    let fitting = [
        ("dense.kernel", Dtype::F32, vec![3, 2]),
        ("dense.bias", Dtype::F32, vec![2]),
        ("dense_1.kernel", Dtype::F32, vec![2, 3]),
        ("dense_1.bias", Dtype::F32, vec![3]),
        ("dense_2.kernel", Dtype::F32, vec![3, 2]),
        ("dense_2.bias", Dtype::F32, vec![2]),
        ("dense_3.kernel", Dtype::F32, vec![2, 2]),
        ("dense_3.bias", Dtype::F32, vec![2]),
    ];
    let file = |tensors: &[(&'static str, Dtype, Vec<usize>)]| {
        let view = |(name, dtype, shape): &(&'static str, Dtype, Vec<usize>)| {
            let bytes = shape.iter().product::<usize>() * dtype.bitsize() / 8;
            (*name, TensorView::new(*dtype, shape.clone(), &zeros[..bytes]).unwrap())
        };
        serialize(tensors.iter().map(view), None).unwrap()
    };
    fs::write(folder.file("fitting"), file(&fitting)).unwrap();
    let mut model = model();
    model.load_weights(folder.file("fitting")).unwrap();
    assert!(model.parameters().iter().all(|&weight| weight == 0.0));

    let text = |error: Error| match error {
        Error::Format { expected, found, .. } => format!("{expected} / {found}"),
        other => panic!("{other:?}"),
    };
    assert_eq!(text(refused(&folder, &file(&fitting[1..]))), "`dense.kernel` as F32 of shape [3, 2] / no such tensor");
    let extra = [&fitting[..], &[("dense_4.bias", Dtype::F32, vec![2])]].concat();
    assert!(text(refused(&folder, &file(&extra))).ends_with("dense_3.kernel / `dense_4.bias` too"));
    for (wrong, expected) in [
        (("dense.kernel", Dtype::F32, vec![2, 3]), "`dense.kernel` as F32 of shape [3, 2] / F32 of shape [2, 3]"),
        (("dense.kernel", Dtype::F32, vec![6]), "`dense.kernel` as F32 of shape [3, 2] / F32 of shape [6]"),
        (("dense.kernel", Dtype::F32, vec![3, 3]), "`dense.kernel` as F32 of shape [3, 2] / F32 of shape [3, 3]"),
        (("dense.kernel", Dtype::F64, vec![3, 2]), "`dense.kernel` as F32 of shape [3, 2] / F64 of shape [3, 2]"),
        (("dense.kernel", Dtype::I32, vec![3, 2]), "`dense.kernel` as F32 of shape [3, 2] / I32 of shape [3, 2]"),
    ] {
        let tensors = [&[wrong], &fitting[1..]].concat();
        assert_eq!(text(refused(&folder, &file(&tensors))), expected);
    }
}

#[test]
fn truncated_files_are_refused() {
    let folder = Folder::new("cut");
    model().save_weights(folder.file("weights")).unwrap();
    let bytes = fs::read(folder.file("weights")).unwrap();
    for len in 0..bytes.len() {
        assert!(matches!(refused(&folder, &bytes[..len]), Error::Format { .. }), "{len} bytes");
    }
    assert!(matches!(refused(&folder, &[&bytes[..], &[0]].concat()), Error::Format { .. }));
    assert!(matches!(refused(&folder, b"no safetensors file at all"), Error::Format { .. }));
}

#[test]
fn unreadable_files_are_named() {
    let folder = Folder::new("missing");
    for path in [folder.file("missing"), folder.path().to_owned()] {
        let mut model = other();
        let error = model.load_weights(&path).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot read {}: ", path.display())), "{error}");
        assert_identical(model.parameters(), other().parameters(), "weights after a refused load");
    }
}

#[track_caller]
fn assert_save_fails(model: &Sequential, path: &Path) {
    let error = model.save_weights(path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot write {}: ", path.display())), "{error}");
    assert!(!error.contains("unfinished"), "{error}");
}

#[test]
fn unwritable_paths_are_named_and_leave_nothing_behind() {
    let folder = Folder::new("unwritable");
    fs::create_dir(folder.file("folder")).unwrap();
    fs::write(folder.file("file"), "").unwrap();
    assert_save_fails(&model(), &folder.file("folder"));
    assert_save_fails(&model(), &folder.file("missing/weights"));
    assert_save_fails(&model(), &folder.file("file/weights"));
    assert_save_fails(&model(), Path::new(""));
    assert_save_fails(&model(), Path::new("/"));
    assert_eq!(folder.names(), ["file", "folder"]);
    assert!(folder.file("folder").is_dir());
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn failed_save_keeps_the_old_file() {
    let model = mlp(&Backend::new().unwrap(), 30, &[20, 2]);
    if let Some(path) = path_on_full_disk() {
        return assert_save_fails(&model, &path);
    }
    let folder = Folder::new("full-disk");
    let path = folder.file("weights");
    model.save_weights(&path).unwrap();
    run_on_full_disk("weights::failed_save_keeps_the_old_file", &path);
}

/// Returns the file that save `number` of this process, from 0 on, writes first.
fn unfinished(folder: &Folder, number: usize) -> PathBuf {
    folder.file(&format!(".densely-{}-{number}.part", std::process::id()))
}

#[test]
fn save_survives_999_unfinished_files_and_refuses_at_1000() {
    let folder = Folder::new("unfinished");
    let path = folder.file("weights");
    for number in 0..999 {
        fs::write(unfinished(&folder, number), "left").unwrap();
    }
    model().save_weights(&path).unwrap();
    let mut names = folder.names();
    assert_eq!((names.len(), names.pop()), (1000, Some("weights".to_owned())));
    fs::write(unfinished(&folder, 999), "left").unwrap();
    let error = other().save_weights(&path).unwrap_err();
    assert!(error.to_string().ends_with("too many unfinished files in its folder"), "{error}");
    assert_eq!(folder.names().len(), 1001);
    let mut loaded = other();
    loaded.load_weights(&path).unwrap();
    assert_identical(loaded.parameters(), model().parameters(), "the old file");
}

#[cfg(unix)]
#[test]
fn saving_through_a_symlink_replaces_its_target() {
    let folder = Folder::new("link");
    fs::create_dir(folder.file("elsewhere")).unwrap();
    let (target, link) = (folder.file("elsewhere/target"), folder.file("link"));
    model().save_weights(&target).unwrap();
    std::os::unix::fs::symlink("elsewhere/target", &link).unwrap();
    other().save_weights(&link).unwrap();
    assert_eq!(fs::read_link(&link).unwrap(), Path::new("elsewhere/target"));
    let mut loaded = model();
    loaded.load_weights(&target).unwrap();
    assert_identical(loaded.parameters(), other().parameters(), "weights behind the link");
    assert_eq!(folder.names(), ["elsewhere", "link"]);
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_replaced() {
    use std::os::unix::{fs::symlink, net::UnixListener};
    let folder = Folder::new("special");
    let _socket = UnixListener::bind(folder.file("socket")).unwrap();
    symlink("nowhere", folder.file("dangling")).unwrap();
    symlink("loop", folder.file("loop")).unwrap();
    for name in ["socket", "dangling", "loop"] {
        assert_save_fails(&model(), &folder.file(name));
    }
    assert_eq!(folder.names(), ["dangling", "loop", "socket"]);
    assert_eq!(fs::read_link(folder.file("dangling")).unwrap(), Path::new("nowhere"));
}

#[test]
fn longest_file_name_can_be_saved() {
    let folder = Folder::new("long");
    let path = folder.file(&"n".repeat(255));
    model().save_weights(&path).unwrap();
    model().load_weights(&path).unwrap();
}

#[cfg(unix)]
#[test]
fn saving_keeps_the_permissions_of_the_old_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("permissions");
    let path = folder.file("weights");
    model().save_weights(&path).unwrap();
    for mode in [0o600, 0o622, 0o755] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        other().save_weights(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode);
    }
}
