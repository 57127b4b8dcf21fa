//! Saves files in processes that are killed, beside readers, in read-only folders, without threads; loads
//! damaged ones.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use densely::nn::{Fit, Sequential, Sgd};
use densely::{Backend, Error};
use densely_testkit::{Folder, assert_identical, random_labels, random_values, row_major, within_a_minute};

use crate::common::mlp;

/// Builds a model all of whose weights are this number.
fn model(weight: f32) -> Sequential {
    let mut model = mlp(&Backend::new().unwrap(), 100, &[80, 10]);
    model.parameters_mut().fill(weight);
    model
}

/// Asserts that all weights of a file are one number; returns it.
#[track_caller]
fn weight_in(file: &Path) -> f32 {
    let mut model = model(f32::NAN);
    model.load_weights(file).unwrap();
    let weight = model.parameters()[0];
    assert!(model.parameters().iter().all(|&other| other == weight), "weights of two files in one");
    weight
}

/// Returns the file that a process started by [`child`] saves to; `None` in the process that runs all tests.
fn file_of_child() -> Option<PathBuf> {
    std::env::var_os("DENSELY_TEST_CHILD").map(PathBuf::from)
}

/// Returns a command that runs one ignored test of this module in a process of its own.
fn child(test: &str, file: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "--ignored", test]).env("DENSELY_TEST_CHILD", file);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn saves_forever() {
    let Some(file) = file_of_child() else { return };
    for weight in 1.. {
        model(weight as f32).save_weights(&file).unwrap();
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn killed_process_leaves_a_whole_file() {
    const SAVES: f32 = 1000.0;
    let folder = Folder::new("killed");
    let file = folder.file("weights");
    model(0.0).save_weights(&file).unwrap();
    // Readable by its owner alone; so must its replacement be at every moment.
    #[cfg(unix)]
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    struct Killed(Child);
    impl Drop for Killed {
        fn drop(&mut self) {
            // SIGKILL, which no process can catch.
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
    let (mut saves, mut kills) = (0.0, 0);
    within_a_minute("a thousand saves", || {
        let moments = random_values(5, 10_000);
        while saves < SAVES || kills < 50 {
            let saving = Killed(child("faults::saves_forever", &file).spawn().unwrap());
            // Waits for its first save.
            while weight_in(&file) == 0.0 {
                std::thread::sleep(Duration::from_millis(1));
            }
            std::thread::sleep(Duration::from_micros((20_000.0 * (moments[kills] + 1.0)) as u64));
            drop(saving);
            kills += 1;
            saves += weight_in(&file);
            model(0.0).save_weights(&file).unwrap();
        }
    });
    // Every other file is an unfinished one.
    let others = folder.names().into_iter().filter(|name| name != "weights").collect::<Vec<_>>();
    assert!(others.iter().all(|name| name.starts_with(".densely-") && name.ends_with(".part")), "{others:?}");
    assert!((1..=kills).contains(&others.len()), "{kills} kills: {others:?}");
    #[cfg(unix)]
    for name in others {
        use std::os::unix::fs::PermissionsExt;
        assert_eq!(fs::metadata(folder.file(&name)).unwrap().permissions().mode() & 0o777, 0o600, "{name}");
    }
}

#[test]
fn readers_see_the_old_or_the_new_file() {
    let folder = Folder::new("saved-over");
    let file = folder.file("weights");
    model(1.0).save_weights(&file).unwrap();
    let (done, reads) = (AtomicBool::new(false), AtomicUsize::new(0));
    within_a_minute("readers and a writer", || {
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let weight = weight_in(&file);
                        assert!(weight == 1.0 || weight == 2.0, "{weight}");
                        reads.fetch_add(1, Ordering::Relaxed);
                    }
                });
            }
            for save in 0..100 {
                model([2.0, 1.0][save % 2]).save_weights(&file).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
    });
    assert!(reads.into_inner() > 0);
    assert_eq!(folder.names(), ["weights"]);
}

#[cfg(unix)]
#[test]
fn open_file_keeps_its_content_when_saved_over() {
    use std::io::Read;
    let folder = Folder::new("open");
    let file = folder.file("weights");
    model(1.0).save_weights(&file).unwrap();
    let old = fs::read(&file).unwrap();
    let mut open = fs::File::open(&file).unwrap();
    let mut first = [0; 100];
    open.read_exact(&mut first).unwrap();
    model(2.0).save_weights(&file).unwrap();
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).unwrap();
    assert!([&first[..], &rest].concat() == old);
    assert_eq!(weight_in(&file), 2.0);
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn fails_to_save() {
    let Some(file) = file_of_child() else { return };
    let error = model(2.0).save_weights(&file).unwrap_err();
    assert!(matches!(error, Error::File { .. }), "{error:?}");
    assert!(error.to_string().starts_with(&format!("cannot write {}: ", file.display())), "{error}");
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn read_only_folder_keeps_its_file() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new("read-only");
    let file = folder.file("weights");
    model(1.0).save_weights(&file).unwrap();
    // The file itself is writable by anyone.
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    // A folder of mode 0o333 can be written to, but not opened to sync it.
    for mode in [0o555, 0o333] {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).unwrap();
        // Permissions do not bind root.
        let status = of_nobody(child("faults::fails_to_save", &file), &folder).status();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        assert_child(status);
        assert_eq!((weight_in(&file), folder.names()), (1.0, vec!["weights".to_owned()]));
    }
}

/// Trains a model with enough work for several threads.
fn trained() -> Sequential {
    let mut model = mlp(&Backend::new().unwrap(), 200, &[300, 10]);
    model.compile(Sgd::default()).unwrap();
    let (x, labels) = (random_values(1, 400 * 200), random_labels::<u8>(2, 400, 10));
    model.fit(row_major(&x, 400), &labels, Fit::default().batch_size(200)).unwrap();
    model
}

#[test]
#[ignore = "run by another test, in a process of its own"]
fn trains_without_helpers() {
    let Some(file) = file_of_child() else { return };
    if std::thread::Builder::new().spawn(|| ()).is_ok() {
        return; // The limit does not apply to threads on this system.
    }
    if file.ends_with("pool-failed-before") {
        rayon::ThreadPoolBuilder::new().build_global().unwrap_err();
    }
    trained();
    trained().save_weights(&file).unwrap();
}

#[cfg(target_os = "linux")]
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn training_without_threads_gives_the_same_bits() {
    let folder = Folder::new("without-threads");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    // rayon returns another error after its global pool failed to start once.
    for file in ["first", "pool-failed-before"].map(|name| folder.file(name)) {
        let test = child("faults::trains_without_helpers", &file);
        let mut alone = Command::new("sh");
        // The option for the number of processes differs between shells.
        alone.args(["-c", r#"ulimit -u 1 2>&- || ulimit -p 1; exec "$0" "$@""#]);
        alone.arg(test.get_program()).args(test.get_args());
        alone.envs(test.get_envs().filter_map(|(name, value)| Some((name, value?))));
        // AddressSanitizer looks for leaks in another process, which cannot start here.
        alone.env("ASAN_OPTIONS", "detect_leaks=0:allocator_may_return_null=1");
        if !assert_child(of_nobody(alone, &folder).status()) {
            return;
        }
        if !file.exists() {
            return eprintln!("SKIPPED: threads are not limited here");
        }
        let mut read = mlp(&Backend::new().unwrap(), 200, &[300, 10]);
        read.load_weights(&file).unwrap();
        assert_identical(read.parameters(), trained().parameters(), "parameters");
    }
}

/// Runs a command as a user other than root, whom permissions and limits bind.
#[cfg(unix)]
fn of_nobody(mut command: Command, folder: &Folder) -> Command {
    use std::os::unix::fs::MetadataExt;
    use std::os::unix::process::CommandExt;
    const NOBODY: u32 = 65534;
    if fs::metadata(folder.path()).unwrap().uid() == 0 {
        command.uid(NOBODY);
    }
    command
}

/// Asserts that a test in a process of its own passed; returns whether it could be started.
#[cfg(unix)]
#[track_caller]
fn assert_child(status: std::io::Result<std::process::ExitStatus>) -> bool {
    // The tests may lie in a folder that only root may enter; a shell exits with 126 then.
    let skipped = match &status {
        Err(error) => error.to_string(),
        Ok(status) if status.code() == Some(126) => status.to_string(),
        Ok(status) => {
            assert!(status.success(), "{status}");
            return true;
        }
    };
    eprintln!("SKIPPED: no process of another user can be started: {skipped}");
    false
}

#[test]
fn flipped_bit_is_an_error_or_one_bit_of_one_weight() {
    let folder = Folder::new("bits");
    let saved = mlp(&Backend::new().unwrap(), 3, &[2, 2]);
    let whole = folder.file("whole");
    saved.save_weights(&whole).unwrap();
    let bytes = fs::read(&whole).unwrap();
    let values = bytes.len() - 4 * saved.count_params();
    let mut loaded = 0;
    for bit in 0..8 * bytes.len() {
        let mut flipped = bytes.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        let file = folder.file(&format!("flipped-{bit}"));
        fs::write(&file, flipped).unwrap();
        let mut model = saved.clone();
        match model.load_weights(&file) {
            Err(error) => {
                assert!(matches!(error, Error::Format { .. }), "bit {bit}: {error}");
                assert!(bit < 8 * values, "bit {bit}: {error}");
                assert_identical(model.parameters(), saved.parameters(), "weights after a refused load");
            }
            Ok(()) => {
                assert!(bit >= 8 * values, "bit {bit} of the header");
                let bits = |model: &Sequential| model.parameters().iter().map(|w| w.to_bits()).collect::<Vec<_>>();
                let changes = bits(&model).iter().zip(bits(&saved)).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>();
                assert_eq!(changes, 1, "bit {bit}");
                loaded += 1;
            }
        }
        fs::remove_file(&file).unwrap();
    }
    assert_eq!(loaded, 32 * saved.count_params());
}
