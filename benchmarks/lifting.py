"""Trains the lifting networks with ige and with eager PyTorch, side by side.

    pip install torch==2.13.0
    python -m benchmarks.lifting

(or `pip install '.[benchmarks]'`, which says the same.)

The same network from the same weights on the same batches: the losses of the first step are
compared. ige runs as `--command=train` runs it, with metrics, logs and checkpoints; PyTorch runs
the bare loop, without any of that. Epochs of ige and calls of PyTorch take turns, and the best of
each counts: other work on the machine disturbs both alike.
"""

import argparse
import collections
import pathlib
import tempfile
import time

import gin
import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks.processes import describe_machine
from ige import configs, training
from ige.data.batches import Feed
from ige.problem import Problem

RATIOS = {"hpe/b128-1": 4.0, "hpe/b1024-2": 2.0}
"""At least, at batch 64 on 2 cores."""
_BATCH = 64
_TORCH_SECONDS = 3.0


class Lifter(torch.nn.Module):
    """The network of `get_baseline_inference` in PyTorch, with the weights of a Keras one."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.dense, self.norm = torch.nn.ModuleList(), torch.nn.ModuleList()
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dense):
                kernel = torch.from_numpy(layer.kernel.numpy().T.copy())
                dense = torch.nn.Linear(kernel.shape[1], kernel.shape[0], bias=layer.use_bias)
                dense.weight = torch.nn.Parameter(kernel)
                if layer.use_bias:
                    dense.bias = torch.nn.Parameter(torch.from_numpy(layer.bias.numpy()))
                self.dense.append(dense)
            elif isinstance(layer, keras.layers.BatchNormalization):
                self.norm.append(
                    torch.nn.BatchNorm1d(layer.gamma.shape[0], layer.epsilon, 1 - layer.momentum)
                )
            elif isinstance(layer, keras.layers.Dropout):
                self.dropout = torch.nn.Dropout(layer.rate)

    def forward(self, pose_2d: torch.Tensor) -> torch.Tensor:
        """(batch, joints, 2) -> (batch, joints, 3)."""

        def hidden(x: torch.Tensor, number: int) -> torch.Tensor:
            return self.dropout(torch.relu(self.norm[number](self.dense[number](x))))

        x = hidden(pose_2d.flatten(1), 0)
        for number in range(1, len(self.norm), 2):
            x = x + hidden(hidden(x, number), number + 1)
        return self.dense[-1](x).unflatten(1, (-1, 3))


def pose_loss(predictions: torch.Tensor, truth: torch.Tensor, root: tuple[int, ...]):
    """The published loss of the IGE baselines: summed distances after the best scale, labels
    rescaled to a root at distance 1."""
    distance = truth[:, list(root)].mean(dim=1, keepdim=True).norm(dim=2, keepdim=True)
    truth = truth / distance
    inner = (predictions * truth).sum(dim=(1, 2), keepdim=True)
    square = predictions.square().sum(dim=(1, 2), keepdim=True)
    return (predictions * (inner / square).abs() - truth).norm(dim=2).sum()


class TorchTrainer:
    """Eager training steps on the batches of a feed."""

    def __init__(self, model: keras.Model, problem: Problem, feed: Feed):
        self.net = Lifter(model)
        self._optimizer = torch.optim.Adam(self.net.parameters(), lr=1e-3, eps=1e-7)
        self._root = problem.root
        self._threads = collections.deque([1, torch.get_num_threads()])
        inputs, labels = problem.arrays("train")
        self._inputs, self._labels = torch.from_numpy(inputs["pose_2d"]), torch.from_numpy(labels)
        chunks = (chunk.numpy() for chunk in feed.chunks)
        self._rows = (torch.from_numpy(row) for chunk in chunks for row in chunk)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the loss of the examples in `rows`."""
        return pose_loss(self.net(self._inputs[rows]), self._labels[rows], self._root)

    def rate(self, seconds: float) -> float:
        """Runs steps for about so long; returns examples per second.

        With one thread and with all in turn: which is faster depends on the network, and on what
        else the machine does.
        """
        self._threads.rotate()
        torch.set_num_threads(self._threads[0])
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < seconds:
            self._optimizer.zero_grad()
            self.loss(next(self._rows)).backward()
            self._optimizer.step()
            steps += 1
        return steps * _BATCH / elapsed


class TakeTurns(keras.callbacks.Callback):
    """Times the epochs of ige, from the start of one to that of the next, and runs PyTorch between
    them."""

    def __init__(self, problem: Problem, feed: Feed):
        super().__init__()
        self._problem, self._feed = problem, feed
        self.ige: list[float] = []
        self.torch: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:  # which compiles
            self._trainer = TorchTrainer(self.model, self._problem, self._feed)
            return
        if epoch > 1:
            seconds = time.perf_counter() - self._start
            self.ige.append(self.params["steps"] * _BATCH / seconds)
        self.torch += [self._trainer.rate(_TORCH_SECONDS) for _ in range(2)]
        self._start = time.perf_counter()


def check_same(model: keras.Model, problem: Problem, feed: Feed) -> None:
    """Raises AssertionError unless both losses of the first batch agree, without dropout."""
    trainer = TorchTrainer(model, problem, feed)
    rows = next(iter(feed.chunks)).numpy()[0]
    trainer.net.dropout.p = 0.0
    inputs, labels = feed.fetch(rows)
    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    ours = float(problem.loss(labels, model(inputs, training=True)))
    for layer, rate in zip(layers, rates, strict=True):
        layer.rate = rate
    theirs = trainer.loss(torch.from_numpy(rows)).item()
    assert abs(ours - theirs) < 1e-4 * abs(theirs), (ours, theirs)
    print(f"  loss of the first batch: {ours:.3f} with ige, {theirs:.3f} with PyTorch")


def matmul_rate(size: int = 2048, seconds: float = 3.0) -> float:
    """Returns the float32 operations per second of products of matrices, the best of many."""
    a = tf.random.normal((size, size))
    best, start = np.inf, time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        (a @ a).numpy()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def operations(model: keras.Model) -> int:
    """Returns the operations in matrix products that training takes per example: two per weight
    forward, for the gradient of the weights, and, but for the first layer, of the inputs."""
    sizes = [int(np.prod(layer.kernel.shape)) for layer in model.layers if hasattr(layer, "kernel")]
    return 6 * sum(sizes) - 2 * sizes[0]


def measure(name: str, epochs: int) -> None:
    """Trains one config both ways and prints the rates."""
    print(name)
    configs.parse([name], ["data='synthetic'"])
    problem = gin.get_configurable("hpe.HpeProblem")()
    inference_fn = gin.get_configurable("hpe.get_baseline_inference")
    steps = problem.examples_per_epoch("train") // _BATCH
    feed = problem.get_training_feed(_BATCH, steps, 0, 0, steps)
    check_same(problem.build_model(inference_fn), problem, feed)
    turns = TakeTurns(problem, feed)

    class NoRecord:
        def check(self) -> None: ...

        def write(self) -> None: ...

    with tempfile.TemporaryDirectory() as folder:
        model = training.train(
            pathlib.Path(folder),
            "",
            lambda problem: NoRecord(),
            batch_size=_BATCH,
            epochs=epochs + 2,
            callbacks=[turns],
        )
    ours, theirs = max(turns.ige), max(turns.torch)
    rate = matmul_rate()
    print(f"  ige      {ours:10,.0f} examples/s")
    print(f"  PyTorch  {theirs:10,.0f} examples/s, eager")
    print(f"  ratio    {ours / theirs:10.2f} (at least {RATIOS[name]:g})")
    print(
        f"  {ours * operations(model) / 1e9:.0f} of {rate / 1e9:.0f} GFLOP/s that products of "
        f"2048 x 2048 float32 matrices reach: {100 * ours * operations(model) / rate:.0f} %"
    )


def main() -> None:
    """Measures the configs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4, help="that are timed")
    epochs = parser.parse_args().epochs
    print(f"{describe_machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for name in RATIOS:
        measure(name, epochs)


if __name__ == "__main__":
    main()
