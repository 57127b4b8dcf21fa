"""PyTorch's turns of densely-rows: reads `OPERATION ROWS COLS SECONDS` from standard input, writes nanoseconds for once."""

import sys
import time

import torch
import torch.nn.functional as F

torch.set_num_threads(int(sys.argv[1]))
print("torch", torch.__version__, flush=True)


def work(operation, rows, cols):
    x = torch.rand(rows, cols) * 2 - 1
    if operation == "log_softmax":

        def run():
            with torch.inference_mode():
                F.log_softmax(x, 1)

    elif operation == "cross_entropy":
        labels = torch.randint(0, cols, (rows,))
        x.requires_grad_(True)

        def run():
            x.grad = None
            F.cross_entropy(x, labels).backward()

    else:
        sys.exit(f"no operation is called {operation}")
    return run


made = {}
for line in sys.stdin:
    operation, rows, cols, seconds = line.split()
    key = operation, int(rows), int(cols)
    if key not in made:
        made.clear()
        made[key] = work(*key)
    run = made[key]
    warm_up = time.perf_counter()
    calls = 0
    while calls < 2 or time.perf_counter() - warm_up < 0.03:
        run()
        calls += 1
    once = (time.perf_counter() - warm_up) / calls
    count = max(1, round(float(seconds) / once))
    start = time.perf_counter()
    for _ in range(count):
        run()
    print((time.perf_counter() - start) / count * 1e9, flush=True)
