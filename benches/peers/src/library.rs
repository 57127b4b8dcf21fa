//! The peers: crates, and libraries with a C interface that are loaded at run time, each at its best.

use std::error::Error;
use std::ffi::{CStr, c_char, c_int};
use std::time::Duration;

use libloading::Library;

use crate::layer::{Contestant, Peer};
use crate::sgemm::{Gemm, Matrixmultiply, Operand, Product, check};

/// All that are known.
pub const NAMES: [&str; 5] = ["gemm", "matrixmultiply", "openblas", "blis", "mkl"];

/// After this long without a call every peer's threads sleep.
pub const SETTLE: Duration = Duration::from_millis(20);

/// A library to load: its name, files to try, the function that sets the number of threads, and what tells
/// which kernels it chose.
struct Source {
    name: &'static str,
    files: &'static [&'static str],
    set_threads: &'static str,
    about: fn(&Library) -> Result<String, libloading::Error>,
}

const SOURCES: [Source; 3] = [
    // Its own choice of kernels is left to it: on Zen 4, those of Cooper Lake, which have small products of
    // their own. OPENBLAS_CORETYPE=Zen is some 5 % faster for large products and several times slower for
    // small ones.
    Source {
        name: "openblas",
        files: &["/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0", "libopenblas.so.0"],
        set_threads: "openblas_set_num_threads",
        about: openblas,
    },
    // The build for OpenMP keeps its threads from call to call. The one for pthreads makes new ones in each,
    // and is two to four times slower for small products on two threads.
    Source {
        name: "blis",
        files: &["/usr/lib/x86_64-linux-gnu/blis-openmp/libblis.so.4", "libblis.so.4", "libblis.so"],
        set_threads: "bli_thread_set_num_threads",
        about: blis,
    },
    // It takes what suits the processor: MKL_ENABLE_INSTRUCTIONS changes nothing.
    Source {
        name: "mkl",
        files: &["libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so"],
        set_threads: "MKL_Set_Num_Threads",
        about: mkl,
    },
];

/// Those that were found.
#[derive(Default)]
pub struct Peers {
    /// With their names, in the order of [`NAMES`].
    pub contestants: Vec<(&'static str, Box<dyn Contestant>)>,
    /// A line about each library, and about each that is missing.
    pub about: Vec<String>,
}

/// The peers of these names, on so many threads. One that can't be loaded is an error, or with `skip` only
/// told.
pub fn load(names: &[String], threads: usize, skip: bool) -> Result<Peers, String> {
    // SAFETY: no other thread runs yet; the libraries read these when they are loaded.
    unsafe {
        std::env::set_var("OPENBLAS_NUM_THREADS", threads.to_string());
        std::env::set_var("BLIS_NUM_THREADS", threads.to_string());
        // Their threads spin while they wait for the next call, which comes at once. After the
        // last one they are in the way of the next contestant: let them sleep within SETTLE.
        // OpenMP's threads, of BLIS, do so by themselves; those that sleep at once are several times slower.
        std::env::set_var("KMP_BLOCKTIME", "10");
        std::env::set_var("OPENBLAS_THREAD_TIMEOUT", "24");
    }
    let mut peers = Peers::default();
    for name in NAMES.into_iter().filter(|name| names.iter().any(|wanted| wanted == name)) {
        let source = SOURCES.iter().find(|source| source.name == name);
        let contestant: Box<dyn Contestant> = match source.map(|source| source.load(threads)) {
            None if name == "gemm" => Box::new(Peer(Gemm(threads))),
            None => Box::new(Peer(Matrixmultiply::new(threads))),
            Some(Ok((sgemm, about))) => {
                peers.about.push(format!("{name}: {about}"));
                Box::new(Peer(Cblas { sgemm, threads }))
            }
            Some(Err(error)) => {
                let why = error.source().map_or_else(|| error.to_string(), ToString::to_string);
                let message = format!("{name} can't be loaded: {why}");
                if !skip {
                    return Err(message);
                }
                peers.about.push(format!("SKIPPED: {message}"));
                continue;
            }
        };
        peers.contestants.push((name, contestant));
    }
    Ok(peers)
}

impl Source {
    /// The product of the first file that can be loaded, set to so many threads.
    fn load(&self, threads: usize) -> Result<(Sgemm, String), libloading::Error> {
        let open = |file: &&str| {
            // SAFETY: these libraries' initialisers ask nothing of their caller.
            unsafe { Library::new(*file) }
        };
        let (first, others) = self.files.split_first().expect("at least one");
        let library = others.iter().fold(open(first), |found, file| found.or_else(|_| open(file)))?;
        // Loaded for good: threads of its own may run its code until the end.
        let library = Box::leak(Box::new(library));
        // SAFETY: both have these types in every version of the three libraries.
        let sgemm = unsafe {
            library.get::<unsafe extern "C" fn(c_int)>(self.set_threads)?(threads as c_int);
            *library.get::<Sgemm>("cblas_sgemm")?
        };
        Ok((sgemm, (self.about)(library)?))
    }
}

fn openblas(library: &Library) -> Result<String, libloading::Error> {
    // SAFETY: it takes nothing and gives a C string that stays.
    let config =
        unsafe { CStr::from_ptr(library.get::<unsafe extern "C" fn() -> *const c_char>("openblas_get_config")?()) };
    Ok(config.to_string_lossy().trim().to_owned())
}

fn blis(library: &Library) -> Result<String, libloading::Error> {
    // SAFETY: the numbers are those that the library gives; the strings are C strings that stay.
    let (version, kernels, openmp) = unsafe {
        let version = library.get::<unsafe extern "C" fn() -> *const c_char>("bli_info_get_version_str")?();
        let kernels = library.get::<unsafe extern "C" fn() -> c_int>("bli_arch_query_id")?();
        let kernels = library.get::<unsafe extern "C" fn(c_int) -> *const c_char>("bli_arch_string")?(kernels);
        // Of 32 or 64 bits, as BLIS was built: the lower half says it.
        let openmp = library.get::<unsafe extern "C" fn() -> c_int>("bli_info_get_enable_openmp")?();
        (CStr::from_ptr(version), CStr::from_ptr(kernels), openmp != 0)
    };
    let threads = if openmp { "OpenMP" } else { "pthreads" };
    Ok(format!("BLIS {}, kernels for {}, {threads}", version.to_string_lossy(), kernels.to_string_lossy()))
}

fn mkl(library: &Library) -> Result<String, libloading::Error> {
    let mut text: [c_char; 200] = [0; 200];
    // SAFETY: it writes a C string of at most so many bytes.
    let version = unsafe {
        let len = (text.len() - 1) as c_int;
        library.get::<unsafe extern "C" fn(*mut c_char, c_int)>("MKL_Get_Version_String")?(text.as_mut_ptr(), len);
        CStr::from_ptr(text.as_ptr())
    };
    Ok(version.to_string_lossy().trim().to_owned())
}

type Sgemm = unsafe extern "C" fn(
    order: c_int,
    a_transposed: c_int,
    b_transposed: c_int,
    m: c_int,
    n: c_int,
    k: c_int,
    alpha: f32,
    a: *const f32,
    a_cols: c_int,
    b: *const f32,
    b_cols: c_int,
    beta: f32,
    c: *mut f32,
    c_cols: c_int,
);

/// A product with the C interface of BLAS, on threads of its library.
struct Cblas {
    sgemm: Sgemm,
    threads: usize,
}

impl Product for Cblas {
    fn threads(&self) -> usize {
        self.threads
    }

    fn sgemm(&self, sizes: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]) {
        check(sizes, a, b, c);
        const ROW_MAJOR: c_int = 101;
        let transposed = |operand: Operand<'_>| if operand.transposed { 112 } else { 111 };
        let int = |size: usize| c_int::try_from(size).expect("BLAS counts so far");
        let [m, k, n] = sizes.map(int);
        let ([a_cols, b_cols], [a_transposed, b_transposed]) = ([a, b].map(|x| int(x.cols)), [a, b].map(transposed));
        let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
        // SAFETY: the operands have the sizes that are passed on, as just checked.
        unsafe {
            (self.sgemm)(ROW_MAJOR, a_transposed, b_transposed, m, n, k, 1.0, a, a_cols, b, b_cols, beta, c, n);
        }
    }
}
