//! Counts allocations: none in kernels, a `Predictor` or a step of training once a shape is known, and at
//! most twice its size and 16 MB in loading a file.
//!
//! On the calling thread alone that holds without exception. With helpers there is one: the box in which
//! rayon takes the task that wakes a helper. It is small, and rare, since a helper spins for at least 500
//! microseconds.

#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout as Memory, System};
use std::cell::Cell;
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use densely::loss::{self, CrossEntropy};
use densely::nn::{self, Adam, Builder, Clip, Dense, Dropout, Fit, Optimizer, Predictor, Schedule, Sequential, Sgd};
use densely::{Activation, Backend, Isa, MatMut, MatRef, PackedWeights, Threads, activation, dense};
use densely_testkit::{EMULATED, Folder, Layout, Matrix, Values, serial_backends};
use rayon::ThreadPoolBuilder;
use safetensors::SafeTensors;

/// Counts the allocations of some threads.
struct Counter {
    count: AtomicUsize,
    /// Bytes of the largest allocation.
    largest: AtomicUsize,
    /// Bytes of all allocations.
    bytes: AtomicUsize,
}

impl Counter {
    const fn new() -> Self {
        Self { count: AtomicUsize::new(0), largest: AtomicUsize::new(0), bytes: AtomicUsize::new(0) }
    }

    /// The number and the largest since the last call.
    fn take(&self) -> [usize; 2] {
        [&self.count, &self.largest].map(|value| value.swap(0, Relaxed))
    }
}

thread_local! {
    /// Where this thread's allocations are counted. Constant and without a destructor, so that reading it
    /// allocates nothing and works until the thread has ended.
    static COUNTER: Cell<Option<&'static Counter>> = const { Cell::new(None) };
}

struct Counting;

impl Counting {
    fn count(bytes: usize) {
        if let Some(counter) = COUNTER.get() {
            counter.count.fetch_add(1, Relaxed);
            counter.largest.fetch_max(bytes, Relaxed);
            counter.bytes.fetch_add(bytes, Relaxed);
        }
    }
}

// SAFETY: every method only counts, then forwards its arguments to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, memory: Memory) -> *mut u8 {
        Self::count(memory.size());
        // SAFETY: `memory` has a size above 0, as `GlobalAlloc::alloc` requires.
        unsafe { System.alloc(memory) }
    }

    unsafe fn alloc_zeroed(&self, memory: Memory) -> *mut u8 {
        Self::count(memory.size());
        // SAFETY: `memory` has a size above 0, as `GlobalAlloc::alloc_zeroed` requires.
        unsafe { System.alloc_zeroed(memory) }
    }

    unsafe fn realloc(&self, address: *mut u8, memory: Memory, size: usize) -> *mut u8 {
        Self::count(size);
        // SAFETY: `address` is of `memory`'s layout and from `System`, which made every allocation; `size` is
        // above 0.
        unsafe { System.realloc(address, memory, size) }
    }

    unsafe fn dealloc(&self, address: *mut u8, memory: Memory) {
        // SAFETY: `address` is of `memory`'s layout and from `System`, which made every allocation.
        unsafe { System.dealloc(address, memory) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// A layer's (batch, inputs, outputs), and the layouts of its weights and its results.
const LAYERS: [([usize; 3], Layout, Layout); 9] = [
    ([3, 5, 7], Layout::RowMajor, Layout::RowMajor),
    ([1, 784, 128], Layout::RowMajor, Layout::RowMajor),
    // So few columns that the product is computed transposed.
    ([128, 128, 10], Layout::RowMajor, Layout::RowMajor),
    // Packed weights in more than one block of columns and of the depth.
    ([30, 1100, 130], Layout::RowMajor, Layout::RowMajor),
    // Strides with cache-set conflicts, at which x is packed, too.
    ([20, 512, 512], Layout::RowMajor, Layout::RowMajor),
    // More than one chunk of the batch.
    ([300, 130, 70], Layout::RowMajor, Layout::Padded),
    ([30, 260, 130], Layout::Transposed, Layout::RowMajor),
    ([4, 300, 200], Layout::Transposed, Layout::Transposed),
    ([33, 130, 70], Layout::Scattered, Layout::Scattered),
];

/// The shapes and layouts of operands of row kernels.
const ROWS: [([usize; 2], Layout); 3] =
    [([5, 10], Layout::RowMajor), ([128, 300], Layout::Padded), ([32, 50], Layout::Scattered)];

/// Calls `each` with a name and a call, whose arguments exist already, for each operation and shape.
fn for_each_call(backend: &Backend, mut each: impl FnMut(&str, &mut dyn FnMut())) {
    // The portable tier multiplies by `matrixmultiply`, which allocates in each call.
    for (shape, w, out) in LAYERS.into_iter().filter(|_| backend.isa() != Isa::Portable) {
        layer_calls(backend, shape, w, out, &mut each);
    }
    for (shape, layout) in ROWS {
        row_calls(backend, shape, layout, &mut each);
    }
    if backend.isa() != Isa::Portable {
        predictions(backend, &mut each);
        for optimizer in [
            Optimizer::from(Adam::default()).schedule(Schedule::cosine(50).warm_up(10)),
            Optimizer::from(Sgd::default()).l2(1e-4).clip(Clip::Value(0.1)).weight_decay(1e-3),
            Optimizer::from(Adam::default()).l2(1e-4).clip(Clip::GlobalNorm(0.1)),
        ] {
            steps(backend, optimizer, false, &mut each);
            steps(backend, optimizer, true, &mut each);
        }
    }
}

/// Steps with the model's loss, with given gradients, and with a custom loss.
fn steps(backend: &Backend, optimizer: Optimizer, dropout: bool, each: &mut impl FnMut(&str, &mut dyn FnMut())) {
    let builder = Sequential::builder(60).backend(backend.clone());
    let drop = |builder: Builder| if dropout { builder.layer(Dropout::new(0.5)) } else { builder };
    let builder = drop(drop(builder).layer(Dense::new(90, nn::Activation::Silu)));
    let mut model = builder.layer(Dense::new(10, nn::Activation::Softmax)).build().unwrap();
    model.compile(optimizer).unwrap();
    let rows = 40;
    let x = Matrix::random([rows, 60], Layout::RowMajor, Values::Normal, 1);
    let labels: Vec<u8> = (0..rows).map(|row| (row * 7 % 10) as u8).collect();
    let mut gradients = vec![0.0; model.count_params()];
    model.train_on_batch(x.view(), &labels).unwrap(); // allocates the buffers
    let name = |step: &str| format!("{step} of {optimizer:?}, dropout: {dropout}, on {}", backend.isa());
    each(&name("train_on_batch"), &mut || {
        black_box(model.train_on_batch(x.view(), &labels).unwrap());
    });
    each(&name("gradients and a step"), &mut || {
        model.gradients(x.view(), &labels, &mut gradients).unwrap();
        model.step(&gradients).unwrap();
    });
    each(&name("gradients_with and a step"), &mut || {
        let loss = |logits: MatRef<'_>, dlogits: MatMut<'_>| loss::cross_entropy(backend, logits, &labels, dlogits);
        model.gradients_with(x.view(), loss, &mut gradients).unwrap();
        model.step(&gradients).unwrap();
    });
}

fn predictions(backend: &Backend, each: &mut impl FnMut(&str, &mut dyn FnMut())) {
    let builder = Sequential::builder(60).backend(backend.clone());
    let builder = builder.layer(Dense::new(50, nn::Activation::Relu)).layer(Dense::new(10, nn::Activation::Softmax));
    let predictor = Predictor::new(&builder.build().unwrap());
    for rows in [1, 300] {
        let x = Matrix::random([rows, 60], Layout::RowMajor, Values::Normal, 1);
        let mut y = Matrix::unwritten([rows, 10], Layout::RowMajor);
        let name = format!("predictions of {rows} rows on {}", backend.isa());
        each(&name, &mut || predictor.predict_into(x.view(), y.view_mut()).unwrap());
    }
}

fn layer_calls(
    backend: &Backend,
    shape @ [batch, inputs, outputs]: [usize; 3],
    w_layout: Layout,
    layout: Layout,
    each: &mut impl FnMut(&str, &mut dyn FnMut()),
) {
    let matrix = |shape, layout| Matrix::random(shape, layout, Values::Normal, 1);
    let (x, dy) = (matrix([batch, inputs], Layout::RowMajor), matrix([batch, outputs], Layout::RowMajor));
    let w = matrix([inputs, outputs], w_layout);
    let packed = PackedWeights::new(w.view());
    let (bias, gate, relu) = (dy.view().row(0), Some((Activation::Silu, x.view())), Activation::Relu);
    let [mut y, mut dx, mut dw] =
        [([batch, outputs], layout), ([batch, inputs], layout), ([inputs, outputs], w_layout)]
            .map(|(shape, layout)| Matrix::unwritten(shape, layout));
    let mut db = vec![0.0; outputs];
    let name = |operation: &str| format!("{operation} of {shape:?} on {}", backend.isa());
    each(&name("forward"), &mut || dense::forward(backend, x.view(), w.view(), bias, relu, y.view_mut()).unwrap());
    each(&name("forward with packed weights"), &mut || {
        dense::forward(backend, x.view(), &packed, bias, relu, y.view_mut()).unwrap();
    });
    each(&name("backward_input"), &mut || {
        dense::backward_input(backend, dy.view(), w.view(), gate, dx.view_mut()).unwrap();
    });
    each(&name("backward_params"), &mut || {
        dense::backward_params(backend, x.view(), dy.view(), dw.view_mut(), Some(&mut db)).unwrap();
    });
}

fn row_calls(
    backend: &Backend,
    shape @ [rows, cols]: [usize; 2],
    layout: Layout,
    each: &mut impl FnMut(&str, &mut dyn FnMut()),
) {
    let (x, mut y) = (Matrix::random(shape, layout, Values::Normal, 1), Matrix::unwritten(shape, layout));
    let labels: Vec<u32> = (0..rows).map(|row| (row * 7 % cols) as u32).collect();
    let name = |operation: &str| format!("{operation} of {shape:?} on {}", backend.isa());
    each(&name("tanh"), &mut || activation::forward(backend, Activation::Tanh, x.view(), y.view_mut()).unwrap());
    each(&name("softmax"), &mut || activation::softmax(backend, x.view(), y.view_mut()).unwrap());
    each(&name("log_softmax"), &mut || activation::log_softmax(backend, x.view(), y.view_mut()).unwrap());
    each(&name("cross_entropy"), &mut || {
        black_box(loss::cross_entropy(backend, x.view(), &labels, y.view_mut()).unwrap());
    });
    let (weights, mut losses) = (vec![0.5; cols], vec![0.0; rows]);
    let options = CrossEntropy::new().label_smoothing(0.1).class_weights(&weights);
    each(&name("cross_entropy with options"), &mut || {
        black_box(options.forward(backend, x.view(), &labels, Some(&mut losses)).unwrap());
    });
}

const CALLS: usize = if EMULATED { 10 } else { 100 };

#[test]
fn calling_thread_allocates_nothing_for_a_known_shape() {
    static COUNTER_OF_CALLER: Counter = Counter::new();
    for backend in serial_backends() {
        // All shapes are known before the first is counted: none evicts the buffers of another.
        for_each_call(&backend, |_, call| call());
        COUNTER.set(Some(&COUNTER_OF_CALLER));
        for_each_call(&backend, |name, call| {
            COUNTER_OF_CALLER.take();
            (0..CALLS).for_each(|_| call());
            assert_eq!(COUNTER_OF_CALLER.take(), [0, 0], "allocations, and bytes of the largest, of {name}");
        });
        COUNTER.set(None);
    }
}

/// The least time between two boxes for one helper, as `Threads::Auto` states it.
const SPIN: Duration = Duration::from_micros(500);
/// Bytes of a box, with some to spare for other versions of rayon.
const BOX: usize = 256;

#[test]
fn pool_allocates_only_a_small_box_for_each_helper_it_wakes() {
    static COUNTER_OF_POOL: Counter = Counter::new();
    let count = |_| COUNTER.set(Some(&COUNTER_OF_POOL));
    let helpers = 2;
    let pool = ThreadPoolBuilder::new().num_threads(helpers + 1).start_handler(count).build().unwrap();
    for serial in serial_backends() {
        // A worker that has run a whole call has the buffers for any part of it.
        pool.broadcast(|_| for_each_call(&serial, |_, call| call()));
        let backend = serial.with_threads(Threads::Auto);
        pool.install(|| {
            for_each_call(&backend, |name, call| {
                call();
                let start = Instant::now();
                COUNTER_OF_POOL.take();
                (0..CALLS).for_each(|_| call());
                let [count, largest] = COUNTER_OF_POOL.take();
                let wakes = start.elapsed().as_nanos() / SPIN.as_nanos() + 1;
                let allowed = helpers * wakes as usize;
                assert!(count <= allowed, "{count} allocations, not {allowed}, of {name}");
                assert!(largest <= BOX, "an allocation of {largest} bytes of {name}");
            });
        });
    }
}

/// Weight files whose headers claim more than the file holds.
fn forged_files() -> Vec<(String, Vec<u8>)> {
    let file = |header: &str, data: usize| {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.resize(bytes.len() + data, 0);
        bytes
    };
    let tensor = |shape: &str, end: &str| {
        format!(r#"{{"dense.kernel":{{"dtype":"F32","shape":{shape},"data_offsets":[0,{end}]}}}}"#)
    };
    let dimensions = |count| file(&tensor(&format!("[{}1]", "1,".repeat(count)), "4"), 4);
    let empties = |names: &mut dyn Iterator<Item = String>| {
        let tensor = |name| format!(r#""{name}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}"#);
        file(&format!("{{{}}}", names.map(tensor).collect::<Vec<_>>().join(",")), 0)
    };
    const NOT_UTF8: usize = 20_000_000;
    let text = format!(r#"{{"checkpoint":{{"dtype":"U8","shape":[{NOT_UTF8}],"data_offsets":[0,{NOT_UTF8}]}}}}"#);
    let mut not_utf8 = file(&text, NOT_UTF8);
    not_utf8[8 + text.len()..].fill(0xff);
    let ours = ["dense.kernel", "dense.bias", "dense_1.kernel", "dense_1.bias"];
    let mut files = vec![
        ("gigabytes of values".to_owned(), file(&tensor("[65536,65536]", "17179869184"), 100)),
        ("more values than can be counted".to_owned(), file(&tensor("[4294967296,4294967296]", "400"), 400)),
        ("an end at the largest number".to_owned(), file(&tensor("[100]", "18446744073709551615"), 400)),
        ("many dimensions".to_owned(), dimensions(130_000)),
        ("more dimensions than are read".to_owned(), dimensions(10_000_000)),
        ("many tensors".to_owned(), empties(&mut (0..4000).map(|number| format!("{number:x}")))),
        ("more tensors than are read".to_owned(), empties(&mut (0..400_000).map(|number| format!("{number:x}")))),
        ("settings that are not UTF-8".to_owned(), not_utf8),
        ("tensors without values".to_owned(), empties(&mut ours.iter().map(|&name| name.to_owned()))),
        ("many brackets".to_owned(), file(&"[".repeat(1_000_000), 4)),
    ];
    for claim in [1 << 20, 99_999_999, 1 << 32, 1 << 40, u64::MAX] {
        files.push((format!("a header of {claim} bytes"), [&claim.to_le_bytes()[..], &[b' '; 1000]].concat()));
    }
    files
}

#[test]
fn loading_a_forged_file_allocates_at_most_twice_its_size() {
    const INPUTS: usize = 2048;
    let folder = Folder::new("forged");
    let path = &folder.file("file");
    let (x, labels) = (vec![0.5; INPUTS], [1u8]);
    // The weights of this model alone exceed what is allowed beside twice the size.
    let builder = Sequential::builder(INPUTS).layer(Dense::new(2560, nn::Activation::Relu));
    let mut model = builder.layer(Dense::new(10, nn::Activation::Softmax)).build().unwrap();
    model.compile(Optimizer::from(Adam::default()).l2(1e-4)).unwrap();
    let fit = |model: &mut Sequential, options: Fit<'_>| {
        model.fit(MatRef::new(&x, 1, INPUTS).unwrap(), &labels, options).map(|_| ())
    };
    fit(&mut model, Fit::default().checkpoint(path, 1)).unwrap();
    let mut checkpoint = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&checkpoint).unwrap();
    let place = tensors.tensor("learning_rate").unwrap().data().as_ptr().addr() - checkpoint.as_ptr().addr();
    checkpoint[place..place + 8].copy_from_slice(&(-1f64).to_le_bytes());
    let cut = checkpoint[..checkpoint.len() - 1].to_vec();
    for (name, content) in [("a checkpoint with a rate of -1", checkpoint), ("a checkpoint that is cut", cut)] {
        assert_reading_allocates_little(name, &content, path, || {
            fit(&mut model, Fit::default().epochs(2).resume(path))
        });
    }
    for (name, content) in forged_files() {
        assert_reading_allocates_little(&name, &content, path, || {
            fit(&mut model, Fit::default().epochs(2).resume(path))
        });
        assert_reading_allocates_little(&name, &content, path, || model.load_weights(path));
    }
}

/// Asserts that reading a damaged file is an error and allocates little.
///
/// It may allocate twice the file's size and 16 MB in total.
#[track_caller]
fn assert_reading_allocates_little(
    name: &str,
    content: &[u8],
    path: &Path,
    read: impl FnOnce() -> densely::Result<()>,
) {
    const SPARE: usize = 16 << 20;
    static COUNTER_OF_READER: Counter = Counter::new();
    std::fs::write(path, content).unwrap();
    COUNTER_OF_READER.bytes.store(0, Relaxed);
    COUNTER.set(Some(&COUNTER_OF_READER));
    let outcome = read();
    COUNTER.set(None);
    let bytes = COUNTER_OF_READER.bytes.load(Relaxed);
    assert!(matches!(outcome, Err(densely::Error::Format { .. })), "{name}: {outcome:?}");
    assert!(bytes <= 2 * content.len() + SPARE, "{name}: {bytes} bytes for a file of {}", content.len());
}
