"""What the programs of Python's frameworks share: they answer the requests that src/lib.rs tells."""

import os
import sys
import time
import timeit

import numpy as np

FOLDER = sys.argv[1]
THREADS = int(sys.argv[2])
SETTING = sys.argv[3] if len(sys.argv) > 3 else None


class Net:
    """A network of dense layers with the weights and samples that all contestants share; names tell sizes."""

    def __init__(self, name):
        self.name = name
        self.sizes = [int(size) for size in name.split("-")]
        self.x = self.read("x", "<f4").reshape(-1, self.sizes[0])
        self.labels = self.read("labels", "<i4")
        self.layers = []  # kernels (inputs x outputs) and biases
        flat = self.read("weights", "<f4")
        for inputs, outputs in zip(self.sizes, self.sizes[1:]):
            kernel, bias, flat = np.split(flat, [inputs * outputs, inputs * outputs + outputs])
            self.layers.append((kernel.reshape(inputs, outputs), bias))

    def read(self, what, dtype):
        return np.fromfile(os.path.join(FOLDER, self.name, what), dtype)


def versions(*modules):
    names = [f"{module.__name__} {module.__version__}" for module in modules]
    return ", ".join([*names, "Python " + sys.version.split()[0]])


def once(run, seconds):
    """Nanoseconds for one call, when threads are awake."""
    start = time.perf_counter()
    calls = 0
    while calls < 2 or time.perf_counter() - start < 0.03:
        run()
        calls += 1
    expected = (time.perf_counter() - start) / calls
    count = max(1, round(seconds / expected))
    return timeit.timeit(run, number=count) / count * 1e9


def serve(about, train=None, infer=None):
    """Answers until there are no more requests.

    train(net, batch) gives a function for one epoch, which gives loss and accuracy; infer(net, x) one that gives
    the logarithms of probabilities.
    """
    print(about, flush=True)
    net = key = run = None
    for line in sys.stdin:
        verb, name, batch, *rest = line.split()
        batch = int(batch)
        if net is None or net.name != name:
            run = key = net = None  # before others are made
            net = Net(name)
        kind = "train" if verb == "train" else "infer"
        if key != (kind, batch):
            run = None
            run = train(net, batch) if kind == "train" else infer(net, net.x[:batch])
            key = kind, batch
        if verb == "train":
            start = time.perf_counter()
            loss, accuracy = run()
            answer = (time.perf_counter() - start) * 1e9, float(loss), float(accuracy)
        elif verb == "infer":
            answer = (once(run, float(rest[0])),)
        elif verb == "answer":
            np.asarray(run(), "<f4").tofile(rest[0])
            answer = ("written",)
        else:
            sys.exit(f"no request is called {verb}")
        print(*answer, flush=True)
