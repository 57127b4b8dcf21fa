//! Puts the matrix products of other crates behind one trait.

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
    fn strides(self) -> [isize; 2] {
        let cols = self.cols as isize;
        if self.transposed { [1, cols] } else { [cols, 1] }
    }
}

/// A product of single-precision matrices, on a number of threads of its own.
pub trait Product: Sync {
    fn threads(&self) -> usize;

    /// c = a b + beta c, where a is m x k, b k x n, and c row-major m x n.
    fn sgemm(&self, sizes: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]);
}

/// Panics unless the operands of a product have the sizes `[m, k, n]`.
pub fn check([m, k, n]: [usize; 3], a: Operand<'_>, b: Operand<'_>, c: &[f32]) {
    assert!(a.data.len() == m * k && b.data.len() == k * n && c.len() == m * n);
}

/// The crate `gemm` on this number of threads of the rayon pool.
pub struct Gemm(pub usize);

impl Product for Gemm {
    fn threads(&self) -> usize {
        self.0
    }

    fn sgemm(&self, sizes: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]) {
        check(sizes, a, b, c);
        let [m, k, n] = sizes;
        let ([a_row, a_col], [b_row, b_col], c_row) = (a.strides(), b.strides(), n as isize);
        let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
        let threads = if self.0 == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(self.0) };
        // SAFETY: the operands have the sizes that are passed on, as just checked.
        unsafe {
            gemm::gemm(
                m,
                n,
                k,
                c,
                1,
                c_row,
                beta != 0.0,
                a,
                a_col,
                a_row,
                b,
                b_col,
                b_row,
                beta,
                1.0,
                false,
                false,
                false,
                threads,
            );
        }
    }
}

/// The crate `matrixmultiply`, on threads of its own pool.
pub struct Matrixmultiply(usize);

impl Matrixmultiply {
    /// Sets the number of threads, which the crate reads once, at the process's first product.
    pub fn new(threads: usize) -> Self {
        // SAFETY: called before anything is measured; threads of a rayon pool do not read the environment.
        unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads.to_string()) };
        Self(threads)
    }
}

impl Product for Matrixmultiply {
    fn threads(&self) -> usize {
        self.0
    }

    fn sgemm(&self, sizes: [usize; 3], a: Operand<'_>, b: Operand<'_>, beta: f32, c: &mut [f32]) {
        check(sizes, a, b, c);
        let [m, k, n] = sizes;
        let ([a_row, a_col], [b_row, b_col], c_row) = (a.strides(), b.strides(), n as isize);
        let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
        // SAFETY: the operands have the sizes that are passed on, as just checked.
        unsafe { matrixmultiply::sgemm(m, k, n, 1.0, a, a_row, a_col, b, b_row, b_col, beta, c, c_row, 1) };
    }
}
