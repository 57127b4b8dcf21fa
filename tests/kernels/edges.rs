//! Runs every size from 0 to 40 in every dimension beside guard pages.
//!
//! One lies directly before, then directly after, every operand and result: a read or write of one element
//! past an edge ends the process.

use densely::loss::CrossEntropy;
use densely::{Backend, Isa, MatMut, MatRef, PackedWeights, Result, Targets, activation, dense, reference};
use densely_testkit::guarded::{Guard, GuardedFloats};
use densely_testkit::{EMULATED, Random, activations, assert_same_bits, serial_backends};
use rayon::prelude::*;

const LAST: usize = 40;
/// Under emulation all sizes would take an hour.
const STEP: usize = if EMULATED { 5 } else { 1 };

fn sizes() -> impl Iterator<Item = usize> {
    (0..=LAST).step_by(STEP)
}

fn sizes_in_parallel() -> impl IndexedParallelIterator<Item = usize> {
    (0..LAST + 1).into_par_iter().step_by(STEP)
}

/// An operand's buffers, one with a guard page on either side.
struct Buffer {
    after_guard: GuardedFloats,
    before_guard: GuardedFloats,
}

impl Buffer {
    fn new(len: usize) -> Self {
        let [after_guard, before_guard] = Guard::BOTH.map(|guard| GuardedFloats::new(len, guard));
        Self { after_guard, before_guard }
    }

    fn with(&mut self, guard: Guard) -> &mut GuardedFloats {
        match guard {
            Guard::Before => &mut self.after_guard,
            Guard::After => &mut self.before_guard,
        }
    }

    /// An input of these values.
    fn put(&mut self, guard: Guard, values: &[f32]) -> &[f32] {
        let floats = self.with(guard).resize(values.len());
        floats.copy_from_slice(values);
        floats
    }

    /// An output.
    fn clear(&mut self, guard: Guard, len: usize) -> &mut [f32] {
        let floats = self.with(guard).resize(len);
        floats.fill(f32::NAN);
        floats
    }
}

/// Where a call is made.
#[derive(Clone, Copy)]
struct Place<'a> {
    backend: &'a Backend,
    guard: Guard,
}

impl Place<'_> {
    #[track_caller]
    fn assert_same(self, what: &str, found: &[f32], expected: &[f32]) {
        // Without fused multiply-add other bits are right, too; other tests check those.
        if self.backend.isa() != Isa::Portable {
            let what = format!("{what} on {}, guard page {:?}", self.backend.isa(), self.guard);
            assert_same_bits(found, expected, &what);
        }
    }
}

/// Every backend with a guard page on either side.
fn places(backends: &[Backend]) -> impl Iterator<Item = Place<'_>> {
    backends.iter().flat_map(|backend| Guard::BOTH.map(|guard| Place { backend, guard }))
}

/// A layer's random operands, and the results of the reference.
struct Layer {
    sizes: [usize; 3],
    x: Vec<f32>,
    w: Vec<f32>,
    /// w, column-major.
    wt: Vec<f32>,
    dy: Vec<f32>,
    y: Vec<f32>,
    dx: Vec<f32>,
    dw: Vec<f32>,
    db: Vec<f32>,
}

impl Layer {
    const ACTIVATION: densely::Activation = densely::Activation::Relu;

    fn new(sizes @ [batch, inputs, outputs]: [usize; 3]) -> Result<Self> {
        let mut random = Random::new((batch * 41 + inputs) as u64 * 41 + outputs as u64);
        let mut values = |len: usize| (0..len).map(|_| random.normal()).collect::<Vec<f32>>();
        let (x, w, dy) = (values(batch * inputs), values(inputs * outputs), values(batch * outputs));
        let wt = MatRef::new(&w, inputs, outputs)?.t().to_vec();
        let (mut y, mut dx, mut dw) = (dy.clone(), x.clone(), w.clone());
        let mut db = vec![0.0; outputs];
        let (x_view, w_view) = (MatRef::new(&x, batch, inputs)?, MatRef::new(&w, inputs, outputs)?);
        let dy_view = MatRef::new(&dy, batch, outputs)?;
        let bias = (batch > 0).then(|| &dy[..outputs]);
        reference::dense_forward(x_view, w_view, bias, Self::ACTIVATION, MatMut::new(&mut y, batch, outputs)?)?;
        let gate = Some((Self::ACTIVATION, x_view));
        reference::dense_backward_input(dy_view, w_view, gate, MatMut::new(&mut dx, batch, inputs)?)?;
        reference::dense_backward_params(x_view, dy_view, MatMut::new(&mut dw, inputs, outputs)?, Some(&mut db))?;
        Ok(Self { sizes, x, w, wt, dy, y, dx, dw, db })
    }

    fn check(&self, place @ Place { backend, guard }: Place<'_>, buffers: &mut [Buffer; 7]) -> Result<()> {
        let [batch, inputs, outputs] = self.sizes;
        let [x, w, dy, bias, y, dx, dw] = buffers;
        let x = MatRef::new(x.put(guard, &self.x), batch, inputs)?;
        let dy = MatRef::new(dy.put(guard, &self.dy), batch, outputs)?;
        let bias = (batch > 0).then(|| bias.put(guard, &self.dy[..outputs]));
        for transposed in [false, true] {
            let w = if transposed {
                MatRef::new(w.put(guard, &self.wt), outputs, inputs)?.t()
            } else {
                MatRef::new(w.put(guard, &self.w), inputs, outputs)?
            };
            let y = y.clear(guard, batch * outputs);
            dense::forward(backend, x, w, bias, Self::ACTIVATION, MatMut::new(y, batch, outputs)?)?;
            place.assert_same(&format!("forward {:?}, transposed: {transposed}", self.sizes), y, &self.y);
            let packed = PackedWeights::new(w);
            y.fill(f32::NAN);
            dense::forward(backend, x, &packed, bias, Self::ACTIVATION, MatMut::new(y, batch, outputs)?)?;
            place.assert_same(&format!("forward {:?}, packed weights", self.sizes), y, &self.y);
            let dx = dx.clear(guard, batch * inputs);
            let to = MatMut::new(dx, batch, inputs)?;
            dense::backward_input(backend, dy, w, Some((Self::ACTIVATION, x)), to)?;
            place.assert_same(&format!("dx {:?}, transposed: {transposed}", self.sizes), dx, &self.dx);
        }
        let dw = dw.clear(guard, inputs * outputs);
        let db = w.clear(guard, outputs);
        dense::backward_params(backend, x, dy, MatMut::new(dw, inputs, outputs)?, Some(db))?;
        place.assert_same(&format!("dw {:?}", self.sizes), dw, &self.dw);
        place.assert_same(&format!("db {:?}", self.sizes), db, &self.db);
        Ok(())
    }
}

#[test]
fn layers_touch_nothing_beside_their_operands() {
    let backends = serial_backends();
    let all = sizes_in_parallel().flat_map(|batch| sizes_in_parallel().map(move |inputs| [batch, inputs]));
    let buffers = || std::array::from_fn(|_| Buffer::new(LAST * LAST));
    all.for_each_init(buffers, |buffers, [batch, inputs]| {
        for outputs in sizes() {
            let layer = Layer::new([batch, inputs, outputs]).unwrap();
            places(&backends).for_each(|place| layer.check(place, buffers).unwrap());
        }
    });
}

type Run<'a> = &'a dyn Fn(Option<&Backend>, [MatRef<'_>; 2], MatMut<'_>) -> Result<()>;

/// Operations on two inputs, some of which read the first alone; without a backend those of the reference.
fn for_each_row_operation(labels: &[u8], mut each: impl FnMut(&str, Run<'_>)) {
    each("softmax", &|backend, [x, _], y| match backend {
        Some(backend) => activation::softmax(backend, x, y),
        None => reference::softmax(x, y),
    });
    each("log_softmax", &|backend, [x, _], y| match backend {
        Some(backend) => activation::log_softmax(backend, x, y),
        None => reference::log_softmax(x, y),
    });
    each("softmax_backward", &|backend, [x, dy], dx| match backend {
        Some(backend) => activation::softmax_backward(backend, x, dy, dx),
        None => reference::softmax_backward(x, dy, dx),
    });
    each("log_softmax_backward", &|backend, [x, dy], dx| match backend {
        Some(backend) => activation::log_softmax_backward(backend, x, dy, dx),
        None => reference::log_softmax_backward(x, dy, dx),
    });
    for function in activations() {
        each(&format!("{function:?}"), &|backend, [x, _], y| match backend {
            Some(backend) => activation::forward(backend, function, x, y),
            None => reference::activation_forward(function, x, y),
        });
        each(&format!("gradient of {function:?}"), &|backend, [x, dy], dx| match backend {
            Some(backend) => activation::backward(backend, function, x, dy, dx),
            None => reference::activation_backward(function, x, dy, dx),
        });
    }
    for (options, name) in [(CrossEntropy::new(), ""), (CrossEntropy::new().label_smoothing(0.1), " smoothed")] {
        let run = |backend: Option<&Backend>, x: MatRef<'_>, targets: Targets<'_>, dx: MatMut<'_>| {
            match backend {
                Some(backend) => options.forward_backward(backend, x, targets, None, dx),
                None => reference::cross_entropy(&options, x, targets, None, Some(dx)),
            }
            .map(drop)
        };
        each(&format!("cross_entropy{name}"), &|backend, [x, _], dx| run(backend, x, labels.into(), dx));
        each(&format!("cross_entropy of probabilities{name}"), &|backend, [x, dy], dx| run(backend, x, dy.into(), dx));
    }
}

#[test]
fn row_kernels_touch_nothing_beside_their_operands() {
    let backends = serial_backends();
    let longest = 4 * LAST;
    let buffers = || std::array::from_fn::<_, 3, _>(|_| Buffer::new(LAST * longest));
    sizes_in_parallel().for_each_init(buffers, |[x_buffer, dy_buffer, y_buffer], rows| {
        // Longer rows, too, of which kernels take several vectors at once.
        for cols in sizes().chain([47, 63, 64, 65, 97, 127, 128, 129, longest]) {
            let mut random = Random::new((rows * 1000 + cols) as u64);
            let [x, dy] = [(); 2].map(|()| (0..rows * cols).map(|_| random.normal()).collect::<Vec<f32>>());
            let labels: Vec<u8> = (0..rows).map(|_| random.below(cols.max(1)) as u8).collect();
            for_each_row_operation(&labels, |name, run| {
                let inputs = [&x, &dy].map(|values| MatRef::new(values, rows, cols).unwrap());
                let mut expected = vec![f32::NAN; rows * cols];
                // Without rows there is no mean, and labels need a class.
                let legal = run(None, inputs, MatMut::new(&mut expected, rows, cols).unwrap()).is_ok();
                for place @ Place { backend, guard } in places(&backends) {
                    let inputs = [x_buffer.put(guard, &x), dy_buffer.put(guard, &dy)];
                    let inputs = inputs.map(|values| MatRef::new(values, rows, cols).unwrap());
                    let y = y_buffer.clear(guard, rows * cols);
                    let run = run(Some(backend), inputs, MatMut::new(y, rows, cols).unwrap());
                    assert_eq!(run.is_ok(), legal, "{name} of {rows} x {cols}");
                    place.assert_same(&format!("{name} of {rows} x {cols}"), y, &expected);
                }
            });
        }
    });
}
