//! The peers' single-precision matrix products behind one function.

use std::ffi::c_int;
use std::time::Duration;

use libloading::Library;

/// A row-major matrix with `cols` columns, or with `transposed` its transpose.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    pub data: &'a [f32],
    pub cols: usize,
    pub transposed: bool,
}

impl<'a> Operand<'a> {
    pub fn new(data: &'a [f32], cols: usize) -> Self {
        Self { data, cols, transposed: false }
    }

    pub fn t(self) -> Self {
        Self { transposed: !self.transposed, ..self }
    }

    /// Row and column stride.
    fn strides(self) -> (isize, isize) {
        let cols = self.cols as isize;
        if self.transposed { (1, cols) } else { (cols, 1) }
    }
}

type Cblas = unsafe extern "C" fn(
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

/// A library with a matrix product.
#[derive(Clone, Copy)]
pub struct Peer {
    pub name: &'static str,
    product: Product,
}

#[derive(Clone, Copy)]
enum Product {
    Gemm { threads: usize },
    Matrixmultiply,
    Cblas(Cblas),
}

/// After this long without a call every peer's threads sleep.
pub const SETTLE: Duration = Duration::from_millis(20);

/// What is loaded at run time: name, files to try, the function that sets the number of threads.
const CBLAS: [(&str, &[&str], &str); 3] = [
    (
        "openblas",
        &["libopenblas.so.0", "/usr/lib/x86_64-linux-gnu/openblas-pthread/libopenblas.so.0"],
        "openblas_set_num_threads",
    ),
    (
        "blis",
        &["/usr/lib/x86_64-linux-gnu/blis-pthread/libblis.so.4", "libblis.so.4", "libblis.so"],
        "bli_thread_set_num_threads",
    ),
    ("mkl", &["libmkl_rt.so.3", "libmkl_rt.so.2", "libmkl_rt.so"], "MKL_Set_Num_Threads"),
];

impl Peer {
    /// Every peer that this machine has, for so many threads, its best settings made; says which are missing.
    pub fn all(threads: usize) -> Vec<Self> {
        // SAFETY: no other thread runs yet; OpenBLAS, MKL and matrixmultiply read these when first used.
        unsafe {
            std::env::set_var("MATMUL_NUM_THREADS", threads.to_string());
            std::env::set_var("OPENBLAS_NUM_THREADS", threads.to_string());
            std::env::set_var("BLIS_NUM_THREADS", threads.to_string());
            std::env::set_var("MKL_ENABLE_INSTRUCTIONS", "AVX512");
            // Their threads spin while they wait for the next call, which comes at once. After the
            // last one they are in the way of the next contestant: let them sleep within SETTLE.
            std::env::set_var("KMP_BLOCKTIME", "10");
            std::env::set_var("OPENBLAS_THREAD_TIMEOUT", "24");
        }
        let mut peers = vec![
            Self { name: "gemm", product: Product::Gemm { threads } },
            Self { name: "matrixmultiply", product: Product::Matrixmultiply },
        ];
        for (name, files, set_threads) in CBLAS {
            match load(files, set_threads, threads) {
                Ok(sgemm) => peers.push(Self { name, product: Product::Cblas(sgemm) }),
                Err(error) => eprintln!("SKIPPED: {name} can't be loaded: {error}"),
            }
        }
        peers
    }

    /// c = a b + beta c, where a is m x k, b k x n, and c row-major m x n.
    pub fn sgemm(self, [m, k, n]: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]) {
        assert!(a.data.len() == m * k && b.data.len() == k * n && c.len() == m * n);
        let ((a_row, a_col), (b_row, b_col)) = (a.strides(), b.strides());
        let (a_data, b_data, c_data) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
        // SAFETY: the operands have the sizes that are passed on, as just checked.
        unsafe {
            match self.product {
                Product::Gemm { threads } => {
                    let threads =
                        if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
                    let read = beta != 0.0;
                    gemm::gemm(
                        m, n, k, c_data, 1, n as isize, read, a_data, a_col, a_row, b_data, b_col, b_row, beta, 1.0,
                        false, false, false, threads,
                    );
                }
                Product::Matrixmultiply => {
                    matrixmultiply::sgemm(
                        m, k, n, 1.0, a_data, a_row, a_col, b_data, b_row, b_col, beta, c_data, n as isize, 1,
                    );
                }
                Product::Cblas(sgemm) => {
                    let int = |size: usize| size as c_int;
                    let flag = |transposed| if transposed { 112 } else { 111 };
                    sgemm(
                        101,
                        flag(a.transposed),
                        flag(b.transposed),
                        int(m),
                        int(n),
                        int(k),
                        1.0,
                        a_data,
                        int(a.cols),
                        b_data,
                        int(b.cols),
                        beta,
                        c_data,
                        int(n),
                    );
                }
            }
        }
    }
}

/// The product of the first file that can be loaded, set to so many threads.
fn load(files: &[&str], set_threads: &str, threads: usize) -> Result<Cblas, libloading::Error> {
    let open = |file: &&str| {
        // SAFETY: these libraries' initialisers ask nothing of their caller.
        unsafe { Library::new(*file) }
    };
    let library = files[1..].iter().fold(open(&files[0]), |found, file| found.or_else(|_| open(file)))?;
    // Loaded for good: threads of its own may run its code until the end.
    let library = Box::leak(Box::new(library));
    // SAFETY: both have these types in every version of the three libraries.
    unsafe {
        library.get::<unsafe extern "C" fn(c_int)>(set_threads)?(threads as c_int);
        library.get::<Cblas>("cblas_sgemm").map(|sgemm| *sgemm)
    }
}
