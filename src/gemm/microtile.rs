//! The operands of a micro-tile.

use crate::matrix::MatPtr;
use crate::simd::Simd;

/// Where the accumulators start.
#[derive(Clone, Copy)]
pub(super) enum Start {
    /// At +0.
    Zero,
    /// At a value per column, from this address.
    ColBias(*const f32),
    /// At a value per row, from this address.
    RowBias(*const f32),
    /// At C, where an earlier block of the depth left them.
    Resume,
}

/// How the accumulators are stored: the part of an epilogue that costs no register.
#[derive(Clone, Copy)]
pub(super) enum Store {
    /// C = acc.
    Plain,
    /// C = relu(acc).
    Relu,
    /// C = acc where the gate, a matrix of C's shape, is above 0, else 0: ReLU's gradient.
    Gate(MatPtr),
    /// C = C + acc.
    Add,
}

impl Store {
    #[inline(always)]
    pub(super) fn gate(self) -> Option<MatPtr> {
        if let Self::Gate(gate) = self { Some(gate) } else { None }
    }
}

/// A matrix that is read: address and strides.
#[derive(Clone, Copy)]
pub(super) struct ATile {
    pub p: *const f32,
    pub row: usize,
    pub col: usize,
}

/// B: within a vector, elements are `col` apart; vectors of a row `vector`, rows `row`.
#[derive(Clone, Copy)]
pub(super) struct BTile {
    /// Points to elements of the [`BAccess`](super::access::BAccess), in which the strides are counted, too.
    pub p: *const u8,
    pub row: usize,
    pub col: usize,
    pub vector: usize,
}

/// Where B is packed: vectors of a row are `vector` apart, rows `row`.
#[derive(Clone, Copy)]
pub(super) struct PanelTile {
    pub p: *mut f32,
    pub row: usize,
    pub vector: usize,
}

/// What a k-loop prefetches: one cache line each k-step, `step` further on.
#[derive(Clone, Copy)]
pub(super) struct Prefetch {
    pub p: *const f32,
    pub step: usize,
}

/// The operands of a micro-tile, and of those to its right. Strides are in elements.
#[derive(Clone, Copy)]
pub(super) struct MicroTile {
    pub a: ATile,
    pub b: BTile,
    pub panel: PanelTile,
    pub c: MatPtr,
    /// k-steps.
    pub depth: usize,
    /// k-steps whose sum is taken on its own, then added to C.
    pub chunk: usize,
    /// Of a streamed B: elements from the end of one contiguous run to the beginning of the next.
    pub gap: usize,
    /// A of the next row of micro-tiles. Only the last micro-tile of a row prefetches it: more would evict
    /// what is in use.
    pub next_a: Prefetch,
    /// Columns of C from the micro-tile's first to the last of the block: more than `(NV - 1) * LANES`.
    pub cols: usize,
    pub start: Start,
    pub store: Store,
}

impl MicroTile {
    /// Reads B from the panel from now on.
    #[inline(always)]
    pub(super) fn read_panel(&mut self) {
        let panel = self.panel;
        self.b = BTile { p: panel.p.cast_const().cast(), row: panel.row, col: 1, vector: panel.vector };
    }

    /// Advances by the depth, to the next chunk of a B with elements `E`.
    #[inline(always)]
    pub(super) fn next_chunk<E>(&mut self) {
        self.a.p = self.a.p.wrapping_add(self.depth * self.a.col);
        self.b = self.b.advance::<E>(self.depth * self.b.row);
        self.panel.p = self.panel.p.wrapping_add(self.depth * self.panel.row);
        self.next_a.p = self.next_a.p.wrapping_add(self.depth * self.next_a.step);
        (self.start, self.store) = (Start::Zero, Store::Add);
    }

    /// The micro-tile `i` rows below and `vectors` to the right.
    #[inline(always)]
    pub(super) fn at<S: Simd, E>(self, i: usize, vectors: usize) -> Self {
        let panel = PanelTile { p: self.panel.p.wrapping_add(vectors * self.panel.vector), ..self.panel };
        let b = self.b.advance::<E>(vectors.wrapping_mul(self.b.vector));
        Self { b, panel, ..self.moved(i, vectors * S::LANES) }
    }

    /// The micro-tile of the last `vectors`, all of them full, of an `f32` B with contiguous rows.
    ///
    /// None if it must not compute again what the micro-tile before it has computed.
    #[inline(always)]
    pub(super) fn last_full<S: Simd>(self, vectors: usize) -> Option<Self> {
        let again = !matches!(self.start, Start::Resume) && !matches!(self.store, Store::Add);
        let j = self.cols.checked_sub(vectors * S::LANES)?;
        (again && self.b.vector == S::LANES).then(|| Self { b: self.b.advance::<f32>(j), ..self.moved(0, j) })
    }

    /// The micro-tile `i` rows below and `j` columns to the right, with B and the panel where they are.
    #[inline(always)]
    fn moved(self, i: usize, j: usize) -> Self {
        let a = ATile { p: self.a.p.wrapping_add(i * self.a.row), ..self.a };
        let start = match self.start {
            Start::ColBias(bias) => Start::ColBias(bias.wrapping_add(j)),
            Start::RowBias(bias) => Start::RowBias(bias.wrapping_add(i)),
            same => same,
        };
        let store = match self.store {
            Store::Gate(gate) => Store::Gate(gate.from(i, j)),
            same => same,
        };
        Self { a, c: self.c.from(i, j), cols: self.cols - j, start, store, ..self }
    }
}

impl BTile {
    /// B with elements `E` from `n` elements on.
    #[inline(always)]
    fn advance<E>(self, n: usize) -> Self {
        Self { p: self.p.cast::<E>().wrapping_add(n).cast(), ..self }
    }
}

/// The distance of `n` strides.
///
/// Addresses of a micro-tile wrap, and loads take any alignment: unrolled, the checks that debug builds make
/// of others would be most of its code.
#[inline(always)]
pub(super) fn at(n: usize, stride: usize) -> usize {
    n.wrapping_mul(stride)
}
