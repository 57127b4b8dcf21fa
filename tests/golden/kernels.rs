//! Digests of every operation of the kernel API.

use densely::loss::CrossEntropy;
use densely::{Activation, Backend, MatMut, MatRef, PackedWeights, ROW_PIECE, activation, dense};
use densely_testkit::operations::{Written, run_all, written};
use densely_testkit::{Layout, Matrix, Values, activations, canonical, exact_backends, exactly};

use crate::{Golden, assert_golden, digest};

const GOLDEN: [Golden; 61] = [
    ("forward of [512, 257]", "b4da2dbbe8a3ccac572437f543f942956720d257a20497d3e4d68bfc1f270a51"),
    ("dx of [512, 300]", "5e450c128889ec11e52106886e75164ce66f7ffaa1329b6552824381c641c852"),
    ("dw of [300, 257]", "f9f907ab4a3cf5e14f5cb4dad555efb7029d8674b556606ea96252f984a6841f"),
    ("db", "43a891ea448a52025e6340ce36eb2772e85a805beb7e4841bd545f4fa70a33cf"),
    ("forward of [8, 784]", "6eda5b65399fdb514e17ef385795e07dce88e3f2fc08e1afbc8904b8629bb55a"),
    ("dx of [8, 512]", "eb3421d3309184f7350ac33e76fde813689ff115c7a6b0dd030e46473f8ff968"),
    ("dw of [512, 784]", "3e8e01e2e7142c7a9e3749ceffe168e49eaf613ae4de0b2c8d64ba093026b8aa"),
    ("db", "85f482cc7ec538b5f27937b74e1697284d6e802ffbb0d1d931590eb02b3c613e"),
    ("gelu of [1021, 240]", "411020c3836cee9b01d78bb11c20de81e4d6c1ad00c2fec2865423a7fe067187"),
    ("exp of [1021, 240]", "4708e2762f8a6949cf378775dbaa1bb33db4c2fff0a90de4c6ae609bf4e94976"),
    ("ln of [1021, 240]", "10f8f65b5b1bee97ded8e809d985f53fb07169b487900b03cf7a573e96c7e840"),
    ("softmax of [1021, 240]", "64cd8229588107fe001f8f43ea60cc5cb71c45bc4a5fd66b3c156194d19fce90"),
    ("log_softmax of [1021, 240]", "ea81ee8c74e541b3ea0b4bae3df006d2b9e49f86812c24da2b9795b6243f4bf1"),
    ("gelu_backward of [1021, 240]", "ee7e1d11572a55a74876814aff18c4d53bdd572b13997dc6f540d5040852cc63"),
    ("softmax_backward of [1021, 240]", "02a03cfdfa6ed1315e28b865fd64d2ed79e5d008ad667878198e62d1e65f5852"),
    ("log_softmax_backward of [1021, 240]", "b44cd511de0f0ed19e60e6528df8889dbbae65d7eb09bb6c0fc8ba7ecb15f566"),
    ("cross_entropy of [1021, 240]", "6456eefaba4296d2b304cb5f2400c16ffde814f0665ea3ac5474e032ce95d599"),
    ("with label smoothing of [1021, 240]", "a022526238d4a7c3358b0531b8c6e967bd2d9b5a805ae42fc06141400bbbb0fb"),
    ("of probabilities of [1021, 240]", "5e68c9036d2a07e8384f12ac50e3d64499204a0f7c9d6680108451e5e576a0ee"),
    ("losses", "3227b96131c9acafdf883fd7fcf425e2c2be73f896481276abde70df197c4db0"),
    ("Linear of wide values", "f07f3e83f3ea19f78482fee3988e9733f1a03fd3b491ccac935fe4bc4f52a8ff"),
    ("gradient of Linear at wide values", "281903ccd5dabb410c9319ae6e44a7918b77d4bf0e12703601f5c24478ea5beb"),
    ("Linear of any bits", "f45221d3ea73511f619d60e9c89f23df081948c5314a6d291eb042391879c78f"),
    ("gradient of Linear at any bits", "281903ccd5dabb410c9319ae6e44a7918b77d4bf0e12703601f5c24478ea5beb"),
    ("Relu of wide values", "36fab4aa84a49c3b2e6a91ce61f5579086291fb4b09e308058ea733a71f9a3ad"),
    ("gradient of Relu at wide values", "ef287484a27660744d1fbf88a5dbafe4376c57a48f80581df206e2588a511182"),
    ("Relu of any bits", "57de1aa906170631f465d73d65ab303aa61a338d115788547bb8d6302c65008c"),
    ("gradient of Relu at any bits", "d7d7180365d8da976f24d0d1050098c7f47a46529d4f667555ea3d9712b224d0"),
    ("LeakyRelu { slope: 0.15 } of wide values", "98b8786e624f221d0bb3a409e789bfe4e93673199e79d0a8ee8519fb4f6d2452"),
    (
        "gradient of LeakyRelu { slope: 0.15 } at wide values",
        "8e95a1410ca0649a978e38e09cffbff09107dfa4aaa9dddb27c1d96b8ca5589d",
    ),
    ("LeakyRelu { slope: 0.15 } of any bits", "f7fc81f7855e6c2965b1f63227b1aa52b56a68bc17f8590d181560c668df2914"),
    (
        "gradient of LeakyRelu { slope: 0.15 } at any bits",
        "4cbf333d59801e7ab37a23ca8f0bc83763fb7a66d55c7f0cacc80be17640d0c5",
    ),
    ("Elu { alpha: 0.7 } of wide values", "3731f7e009f0fccc50717cad055456fe20859d1eead7b044e7c7e46a57b4b934"),
    (
        "gradient of Elu { alpha: 0.7 } at wide values",
        "4356239a0d05aa4141b130b956b723f0a081e97e17e69fe1602fb76dab73b3bc",
    ),
    ("Elu { alpha: 0.7 } of any bits", "7bc3d7d29c7276a58af2a39c7d73231829bf115ef6911a64ef236eac61107bae"),
    ("gradient of Elu { alpha: 0.7 } at any bits", "e9a8f98153819afec9257e7da51c82d4ef4210b05272db35a36ba6873d2c0192"),
    ("Sigmoid of wide values", "9abc12ebd6b52fe7dbad4d230d516bf24426ff578a5e84a3f383faf5608ab4a2"),
    ("gradient of Sigmoid at wide values", "fd194e71ede925556b2836289720cd877de6e96909b5cf37d494b6528e94ab3f"),
    ("Sigmoid of any bits", "d723563f0c6463d90792734759e02b55597ab3f2d1c3e92d7fee08b9a82a2fef"),
    ("gradient of Sigmoid at any bits", "d8516864d841f1c703d74cbe4df4b7b60c61d18183d02b716ed1ca4a866d748f"),
    ("Tanh of wide values", "d0caa9172664496c5fa54d1f6a5f0e7cb5981aa30176a9a95de027fa39ba2f5c"),
    ("gradient of Tanh at wide values", "6b6133856b4d26fe61601199b94776223a69358fca83393381a7cb7317d6c81b"),
    ("Tanh of any bits", "5734c0e12af88142dd48b8739317c83666b8dae2a7f1133cb1fe63c0fd5eff53"),
    ("gradient of Tanh at any bits", "e62053236bbb8c1821bdd95bc9d36ed978e32848d7b969a898eb3772ecf296cb"),
    ("Softplus of wide values", "48e55be88b7b94043dad5803f0d22bbb29cd8cbbb4424591ed88bea1056c2092"),
    ("gradient of Softplus at wide values", "cf864543aa16566f0e7f5151d2773789ad8d37c0b5be872055ad3890e68f37a2"),
    ("Softplus of any bits", "91c4aeccccbd349e8028eb413f3be554268b2da0819cc9d0ddd907ea4ae4507f"),
    ("gradient of Softplus at any bits", "b20dbbf6322a03ef796e5e7709fc432955daeaad705ee0addb8e962fca59054f"),
    ("Silu of wide values", "ab5677540b6852421211aabb36c6ca987bcf65cde006ff86c083bd8c4546f853"),
    ("gradient of Silu at wide values", "3e2078854e1dbfd12ed62a7bf8302d1ef8c2df53d9a5ac258bda0739817fb4df"),
    ("Silu of any bits", "b438e021c469d4e0412b60d2ceded46771345d090d40dc059565936b9c6ec593"),
    ("gradient of Silu at any bits", "8ab4fae591ee802411bb11e4011f661c3b250955e92e4aacb5bc156d6cc95f89"),
    ("Gelu of wide values", "0a4b7473797d6e466ec577aba7461862c87bb8ec2e3bb5232bc495f5297ceaf8"),
    ("gradient of Gelu at wide values", "6ca2351ce09b91a468e1b4a1bed6dee3441b8cbd06b6eec9b99c00352dc6ad3d"),
    ("Gelu of any bits", "9ccf03823dd443852bef1fab89af9c9c2ca0022593210ef74f9050d4d038a5f6"),
    ("gradient of Gelu at any bits", "53aaf0a8b262e265f77b3b23b65f4453d2d660a45ad774be6cc3d1c0f3135664"),
    ("softmax of long rows", "6b28af1741dc585074f2a15d795cc202db37f7b4eec6384b0eea293635fc6a82"),
    ("log_softmax of long rows", "efb95eac6875233caea4ed8602721d3746d05c9131ea74ca8edf76df736dd5c5"),
    ("cross_entropy of long rows", "b3752b68bb890d313d288affeb987fe0c5fa8ac96ad9cc513597587d374ca4e1"),
    ("loss of long rows", "762170c2f01e2fd0388d8ef05b9ed3971dbdbda378c23b86bf59090ae09e9dcb"),
    ("forward with packed weights", "fb96ac373e7fe268e0bd873a324e3d6840b3acce9b9131d92b4a97e3bf694b3a"),
];

/// Every activation and its gradient, on values of all magnitudes and on any bits.
fn every_activation(backend: &Backend) -> Vec<Written> {
    let shape = [67, 131];
    let inputs = [Values::Wide, Values::AnyBits].map(|values| Matrix::random(shape, Layout::RowMajor, values, 6));
    let dy = Matrix::random(shape, Layout::RowMajor, Values::Normal, 7);
    let of = |function: Activation, x: MatRef<'_>, kind: &str| {
        let forward = |y: MatMut<'_>| activation::forward(backend, function, x, y);
        let backward = |dx: MatMut<'_>| activation::backward(backend, function, x, dy.view(), dx);
        [
            written(format!("{function:?} of {kind}"), shape, forward).0,
            written(format!("gradient of {function:?} at {kind}"), shape, backward).0,
        ]
    };
    let all = |function| {
        let [wide, any] = &inputs;
        [of(function, wide.view(), "wide values"), of(function, any.view(), "any bits")].concat()
    };
    activations().into_iter().flat_map(all).collect()
}

/// Rows that are split into pieces.
fn long_rows(backend: &Backend) -> Vec<Written> {
    let shape = [3, 5 * ROW_PIECE + 77];
    let x = Matrix::random(shape, Layout::RowMajor, Values::Wide, 8);
    let labels = [0u32, 4096, 20_000];
    let (dlogits, loss) = written("cross_entropy of long rows", shape, |dlogits| {
        CrossEntropy::new().forward_backward(backend, x.view(), &labels, None, dlogits)
    });
    let (softmax, ()) = written("softmax of long rows", shape, |y| activation::softmax(backend, x.view(), y));
    let (log_softmax, ()) =
        written("log_softmax of long rows", shape, |y| activation::log_softmax(backend, x.view(), y));
    let loss = Written { name: "loss of long rows".to_owned(), bits: vec![canonical(loss)] };
    vec![softmax, log_softmax, dlogits, loss]
}

/// A layer with packed weights.
fn packed(backend: &Backend) -> Written {
    let matrix = |shape, seed| Matrix::random(shape, Layout::Padded, Values::Normal, seed);
    let (x, w) = (matrix([77, 300], 9), PackedWeights::new(matrix([300, 150], 10).view()));
    let run = |y: MatMut<'_>| dense::forward(backend, x.view(), &w, None, Activation::Gelu, y);
    written("forward with packed weights", [77, 150], run).0
}

fn all(backend: &Backend) -> Vec<(String, String)> {
    let written = run_all(backend).into_iter().chain(every_activation(backend)).chain(long_rows(backend));
    let digest_of = |written: Written| (written.name, digest(written.bits.into_iter().map(f32::from_bits)));
    written.chain([packed(backend)]).map(digest_of).collect()
}

#[test]
fn kernels_have_golden_bits() {
    for backend in exact_backends() {
        for threads in [1, 2, 7] {
            let backend = backend.with_threads(exactly(threads));
            assert_golden(&all(&backend), &GOLDEN, &format!("{backend:?}"));
        }
    }
}
