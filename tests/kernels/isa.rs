//! Tests instruction sets: their names, which are available, and how one is selected.

use std::ffi::OsStr;
use std::process::Command;

use densely::{Backend, Error, ISA_VARIABLE, Isa, Threads};
use densely_testkit::backends::expected_isas;
use densely_testkit::exactly;

#[test]
fn names_round_trip() {
    let names: Vec<_> = Isa::ALL.iter().map(|isa| isa.name()).collect();
    assert_eq!(names, ["avx512", "avx2", "neon", "portable"]);
    for &isa in Isa::ALL {
        assert_eq!(isa.to_string(), isa.name());
        assert_eq!(isa.name().parse::<Isa>().unwrap(), isa);
    }
    assert_eq!(ISA_VARIABLE, "DENSELY_ISA");
}

#[test]
fn unknown_names_are_refused() {
    for name in ["", "AVX2", "Avx512", "avx", "avx2 ", " neon", "sse2", "portable\0"] {
        let error = name.parse::<Isa>().unwrap_err();
        let Error::Isa { origin, available, found } = error else { panic!("{error:?}") };
        assert_eq!((origin, available, found.as_str()), ("isa", Isa::available(), name));
    }
}

#[test]
fn available_is_best_first_and_ends_with_portable() {
    let available = Isa::available();
    let expected: Vec<Isa> = Isa::ALL.iter().copied().filter(|isa| isa.is_available()).collect();
    assert_eq!(available, expected);
    assert_eq!(available.last(), Some(&Isa::Portable));
    assert_eq!(Isa::Neon.is_available(), cfg!(target_arch = "aarch64"));
    if !cfg!(target_arch = "x86_64") {
        assert!(!Isa::Avx512.is_available() && !Isa::Avx2.is_available());
    }
    #[cfg(target_arch = "x86_64")]
    {
        let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
        assert_eq!(Isa::Avx2.is_available(), avx2);
        assert_eq!(Isa::Avx512.is_available(), is_x86_feature_detected!("avx512f"));
    }
}

#[test]
fn backends_use_the_requested_instruction_set() {
    for isa in Isa::available() {
        let backend = Backend::with_isa(isa).unwrap();
        assert_eq!((backend.isa(), backend.threads()), (isa, Threads::Auto));
        let backend = backend.with_threads(exactly(3));
        assert_eq!((backend.isa(), backend.threads()), (isa, exactly(3)));
    }
}

#[test]
fn backends_refuse_unavailable_instruction_sets() {
    for isa in Isa::ALL.iter().copied().filter(|isa| !isa.is_available()) {
        let error = Backend::with_isa(isa).unwrap_err();
        for available in Isa::available() {
            assert!(error.to_string().contains(&format!("`{available}`")), "{error}");
        }
        let Error::Isa { origin, available, found } = error else { panic!("{error:?}") };
        assert_eq!((origin, available, found.as_str()), ("isa", Isa::available(), isa.name()));
    }
}

/// A skip must not look like a pass: CI names what it expects in `DENSELY_EXPECT_ISA`.
#[test]
fn expected_instruction_sets_are_available() {
    for isa in expected_isas() {
        assert!(isa.is_available(), "{isa} is expected, available are {:?}", Isa::available());
    }
}

/// Runs in a process of its own, started by the tests below; prints the result of `Backend::new`.
#[test]
#[ignore = "run by other tests, in a process of its own"]
fn prints_the_default_backend() {
    match Backend::new() {
        Ok(backend) => println!("child: {}", backend.isa()),
        Err(Error::Isa { origin, available, found }) => println!("child: {origin} {available:?} {found:?}"),
        Err(error) => println!("child: {error:?}"),
    }
}

/// What [`prints_the_default_backend`] prints when the variable has this value.
fn child_with(value: Option<&OsStr>) -> String {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "isa::prints_the_default_backend", "--ignored", "--nocapture"]).env_remove(ISA_VARIABLE);
    if let Some(value) = value {
        command.env(ISA_VARIABLE, value);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let output = String::from_utf8(output.stdout).unwrap();
    let line = output.lines().find_map(|line| line.split_once("child: ")).unwrap_or_else(|| panic!("{output}"));
    line.1.to_owned()
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn environment_variable_selects_the_instruction_set() {
    assert_eq!(child_with(None), Isa::available()[0].name());
    for isa in Isa::available() {
        assert_eq!(child_with(Some(isa.name().as_ref())), isa.name());
    }
}

#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn bad_values_of_the_environment_variable_are_errors() {
    let lacking = Isa::ALL.iter().copied().filter(|isa| !isa.is_available()).map(Isa::name);
    for name in ["", "AVX2", "Portable", "avx", "avx2,portable", " avx2", "auto"].into_iter().chain(lacking) {
        assert_eq!(child_with(Some(name.as_ref())), format!("{ISA_VARIABLE} {:?} {name:?}", Isa::available()));
    }
}

#[cfg(unix)]
#[test]
#[cfg_attr(not(target_arch = "x86_64"), ignore = "under qemu a test binary can't start itself")]
fn value_that_is_not_utf8_is_an_error() {
    let name = std::os::unix::ffi::OsStrExt::from_bytes(b"avx2\xff");
    assert_eq!(child_with(Some(name)), format!("{ISA_VARIABLE} {:?} \"avx2\u{fffd}\"", Isa::available()));
}
