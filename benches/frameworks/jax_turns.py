"""JAX's turns: an epoch is one jitted scan, and what was the state's memory becomes that of the next."""

import os
from functools import partial

import turns

if hasattr(os, "sched_setaffinity"):  # JAX takes as many threads as there are processors that it may run on
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: turns.THREADS])

import jax
import jax.numpy as jnp
import numpy as np

# Small calls cost less where they are made at once, not handed to another thread.
jax.config.update("jax_cpu_enable_async_dispatch", False)
jax.config.update("jax_platforms", "cpu")


def logits(layers, x):
    for w, b in layers[:-1]:
        x = jax.nn.relu(x @ w + b)
    w, b = layers[-1]
    return x @ w + b


def loss(layers, x, y):
    """The batch's summed loss and hits, and the first as a mean, whose gradient it is."""
    z = logits(layers, x)
    losses = -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], 1)
    return losses.mean(), (losses.sum(), (z.argmax(1) == y).sum())


def step(x, labels, state, index):
    """One step of Adam, epsilon where Keras has it."""
    layers, m, v, t, total, hits = state
    gradients, (batch_loss, batch_hits) = jax.grad(loss, has_aux=True)(layers, x[index], labels[index])
    t += 1
    m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, gradients)
    v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, gradients)
    rate = 1e-3 * jnp.sqrt(1 - 0.999**t) / (1 - 0.9**t)
    layers = jax.tree.map(lambda w, m, v: w - rate * m / (jnp.sqrt(v) + 1e-7), layers, m, v)
    return (layers, m, v, t, total + batch_loss, hits + batch_hits), None


@partial(jax.jit, static_argnums=0, donate_argnums=3)
def scan(batch, x, labels, memory, order):
    state = *memory, jnp.float32(0), jnp.int32(0)
    whole = len(order) // batch * batch
    state, _ = jax.lax.scan(partial(step, x, labels), state, order[:whole].reshape(-1, batch))
    if whole < len(order):
        state, _ = step(x, labels, state, order[whole:])
    *memory, total, hits = state
    return memory, total / len(order), hits / len(order)


def train(net, batch):
    x, labels = jnp.asarray(net.x), jnp.asarray(net.labels)
    layers = jax.tree.map(jnp.array, net.layers)
    memory = [layers, jax.tree.map(jnp.zeros_like, layers), jax.tree.map(jnp.zeros_like, layers), jnp.float32(0)]
    random = np.random.default_rng(0)

    def epoch():
        nonlocal memory
        order = random.permutation(len(x)).astype(np.int32)  # in JAX it takes longer
        memory, mean, accuracy = jax.block_until_ready(scan(batch, x, labels, memory, order))
        return mean, accuracy

    return epoch


def infer(net, x):
    x, layers = jnp.asarray(x), jax.tree.map(jnp.array, net.layers)
    forward = jax.jit(lambda layers, x: jax.nn.log_softmax(logits(layers, x)))
    return lambda: forward(layers, x).block_until_ready()


turns.serve(turns.versions(jax), train, infer)
