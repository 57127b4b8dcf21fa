"""Keras' turns on TensorFlow, training alone: `fit`, with the setting xla compiled and in fewer, longer calls."""

import os

os.environ.update(KERAS_BACKEND="tensorflow", TF_CPP_MIN_LOG_LEVEL="3")

import keras
import tensorflow as tf

import turns

tf.config.threading.set_intra_op_parallelism_threads(turns.THREADS)
tf.config.threading.set_inter_op_parallelism_threads(turns.THREADS)


def train(net, batch):
    layers = [keras.layers.Dense(units, activation="relu") for units in net.sizes[1:-1]]
    layers.append(keras.layers.Dense(net.sizes[-1], activation="softmax"))
    model = keras.Sequential([keras.Input((net.sizes[0],)), *layers])
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-7),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        **({"jit_compile": True, "steps_per_execution": 128} if turns.SETTING == "xla" else {}),
    )
    model.set_weights([weights for layer in net.layers for weights in layer])

    def epoch():
        history = model.fit(net.x, net.labels, batch_size=batch, epochs=1, verbose=0).history
        return history["loss"][0], history["accuracy"][0]

    return epoch


turns.serve(turns.versions(keras, tf), train)
