//! The matrix products of other crates behind one function.

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

/// A crate with a matrix product.
#[derive(Clone, Copy)]
pub enum Product {
    Gemm,
    Matrixmultiply,
}

impl Product {
    /// Sets how many threads matrixmultiply uses, all of them in its own pool. It looks once, at its
    /// first product: in a process there is no other number after that.
    pub fn set_matrixmultiply_threads(threads: usize) {
        // SAFETY: called before anything is measured; threads of a rayon pool do not read the environment.
        unsafe { std::env::set_var("MATMUL_NUM_THREADS", threads.to_string()) };
    }

    /// c = a b + beta c, where a is m x k, b k x n, and c row-major m x n. gemm does it on so many
    /// `threads` of the rayon pool, matrixmultiply on those that it was told of.
    pub fn sgemm(
        self,
        threads: usize,
        [m, k, n]: [usize; 3],
        a: Operand<'_>,
        b: Operand<'_>,
        beta: f32,
        c: &mut [f32],
    ) {
        assert!(a.data.len() == m * k && b.data.len() == k * n && c.len() == m * n);
        let ([a_row, a_col], [b_row, b_col], c_row) = (a.strides(), b.strides(), n as isize);
        let (a, b, c) = (a.data.as_ptr(), b.data.as_ptr(), c.as_mut_ptr());
        // SAFETY: the operands have the sizes that are passed on, as just checked.
        unsafe {
            match self {
                Self::Gemm => {
                    let threads =
                        if threads == 1 { gemm::Parallelism::None } else { gemm::Parallelism::Rayon(threads) };
                    let read_c = beta != 0.0;
                    gemm::gemm(
                        m, n, k, c, 1, c_row, read_c, a, a_col, a_row, b, b_col, b_row, beta, 1.0, false, false, false,
                        threads,
                    );
                }
                Self::Matrixmultiply => {
                    matrixmultiply::sgemm(m, k, n, 1.0, a, a_row, a_col, b, b_row, b_col, beta, c, c_row, 1);
                }
            }
        }
    }
}
