"""Trains a config with ige and its network with eager PyTorch, side by side.

The same network from the same weights on the same batches: the losses and the gradients of a first
step are compared. ige runs as `--command=train` runs it, with metrics, logs and checkpoints;
PyTorch runs the bare loop, without any of that. Epochs of ige and calls of PyTorch take turns, and
the best of each counts: other work on the machine disturbs both alike.
"""

import argparse
import collections
import contextlib
import pathlib
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import gin
import keras
import numpy as np
import tensorflow as tf
import torch

from benchmarks.processes import describe_machine
from ige import configs, training
from ige.data.batches import Feed
from ige.problem import Problem

BATCH = 64
_TORCH_SECONDS = 3.0
_DECAY = 0.9


class Module(torch.nn.Module):
    """A network with the weights of a Keras one.

    Attributes:
        copied: (variable, parameter), every trainable one; matrices are transposed.
    """

    def __init__(self):
        super().__init__()
        self.copied: list[tuple[keras.Variable, torch.nn.Parameter]] = []

    def copy(self, variable: keras.Variable) -> torch.nn.Parameter:
        """Returns a parameter with the value of a variable."""
        parameter = torch.nn.Parameter(torch.tensor(variable.numpy().T))
        self.copied.append((variable, parameter))
        return parameter

    def linear(self, layer: keras.layers.Dense) -> torch.nn.Linear:
        """Returns a dense layer with the weights of another."""
        linear = torch.nn.Linear(*layer.kernel.shape, bias=layer.use_bias)
        linear.weight = self.copy(layer.kernel)
        if layer.use_bias:
            linear.bias = self.copy(layer.bias)
        return linear


class Lifter(Module):
    """The network of `get_baseline_inference`."""

    def __init__(self, model: keras.Model):
        super().__init__()
        self.dense, self.norm = torch.nn.ModuleList(), torch.nn.ModuleList()
        for layer in model.layers:
            if isinstance(layer, keras.layers.Dense):
                self.dense.append(self.linear(layer))
            elif isinstance(layer, keras.layers.BatchNormalization):
                width = layer.gamma.shape[0]
                norm = torch.nn.BatchNorm1d(width, layer.epsilon, 1 - layer.momentum)
                norm.weight, norm.bias = self.copy(layer.gamma), self.copy(layer.beta)
                self.norm.append(norm)
            elif isinstance(layer, keras.layers.Dropout):
                self.dropout = torch.nn.Dropout(layer.rate)

    def forward(self, pose_2d: torch.Tensor, **_: torch.Tensor) -> torch.Tensor:
        """(batch, joints, 2) -> (batch, joints, 3)."""

        def hidden(x: torch.Tensor, number: int) -> torch.Tensor:
            return self.dropout(torch.relu(self.norm[number](self.dense[number](x))))

        x = hidden(pose_2d.flatten(1), 0)
        for number in range(1, len(self.norm), 2):
            x = x + hidden(hidden(x, number), number + 1)
        return self.dense[-1](x).unflatten(1, (-1, 3))


def pose_loss(
    predictions: torch.Tensor, truth: torch.Tensor, root: tuple[int, ...]
) -> torch.Tensor:
    """The published loss of IGE-Net: summed distances after the best scale, labels rescaled to a
    root at distance 1; of iterates (batch, n, joints, 3) the weighted mean, later ones more."""
    distance = truth[:, list(root)].mean(dim=1, keepdim=True).norm(dim=2, keepdim=True)
    truth = truth / distance
    iterates = predictions.dim() == 4
    if iterates:
        truth = truth[:, None]
    inner = (predictions * truth).sum(dim=(-2, -1), keepdim=True)
    square = predictions.square().sum(dim=(-2, -1), keepdim=True)
    errors = (predictions * (inner / square).abs() - truth).norm(dim=-1).sum(dim=-1)
    if iterates:
        weights = _DECAY ** torch.arange(errors.shape[1] - 1, -1, -1)
        errors = errors @ (weights / weights.sum())
    return errors.sum()


class TorchTrainer:
    """Eager training steps on the batches of a feed."""

    def __init__(self, net: Module, problem: Problem, feed: Feed):
        self.net = net
        self._optimizer = torch.optim.Adam(net.parameters(), lr=1e-3, eps=1e-7)
        self._root = problem.root
        self._threads = collections.deque([1, torch.get_num_threads()])
        inputs, labels = problem.arrays("train")
        self._inputs = {name: torch.from_numpy(array) for name, array in inputs.items()}
        self._labels = torch.from_numpy(labels)
        chunks = (chunk.numpy() for chunk in feed.chunks)
        self._rows = (torch.from_numpy(row) for chunk in chunks for row in chunk)

    def loss(self, rows: torch.Tensor) -> torch.Tensor:
        """Returns the loss of the examples in `rows`."""
        inputs = {name: tensor[rows] for name, tensor in self._inputs.items()}
        return pose_loss(self.net(**inputs), self._labels[rows], self._root)

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
        return steps * BATCH / elapsed


class Comparison(NamedTuple):
    """What is trained both ways.

    Attributes:
        config: name of the config.
        inference: the configurable that makes its network.
        settings: more of the config, `parameter = value`.
        make_net: trained model -> the same in PyTorch.
        operations: model -> floating-point operations of its matrix products per example.
        least: ratio to reach, at batch 64 on 2 cores.
    """

    config: str
    inference: str
    settings: list[str]
    make_net: Callable[[keras.Model], Module]
    operations: Callable[[keras.Model], int]
    least: float


class TakeTurns(keras.callbacks.Callback):
    """Times the epochs of ige, from the start of one to that of the next, and runs PyTorch between
    them."""

    def __init__(self, comparison: Comparison, problem: Problem, feed: Feed):
        super().__init__()
        self._comparison, self._problem, self._feed = comparison, problem, feed
        self.ige: list[float] = []
        self.torch: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:  # which compiles
            net = self._comparison.make_net(self.model)
            self._trainer = TorchTrainer(net, self._problem, self._feed)
            return
        if epoch > 1:
            seconds = time.perf_counter() - self._start
            self.ige.append(self.params["steps"] * BATCH / seconds)
        self.torch += [self._trainer.rate(_TORCH_SECONDS) for _ in range(2)]
        self._start = time.perf_counter()


@contextlib.contextmanager
def _without_dropout(model: keras.Model) -> Iterator[None]:
    layers = [layer for layer in model._flatten_layers() if isinstance(layer, keras.layers.Dropout)]
    rates = [layer.rate for layer in layers]
    for layer in layers:
        layer.rate = 0.0
    yield
    for layer, rate in zip(layers, rates, strict=True):
        layer.rate = rate


def check_same(
    model: keras.Model, make_net: Callable[[keras.Model], Module], problem: Problem, feed: Feed
) -> None:
    """Raises AssertionError unless loss and gradients of the first batch agree, without dropout."""
    trainer = TorchTrainer(make_net(model), problem, feed)
    rows = next(iter(feed.chunks)).numpy()[0]
    for module in trainer.net.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    inputs, labels = feed.fetch(rows)
    variables = model.trainable_variables
    with _without_dropout(model), tf.GradientTape() as tape:
        ours = problem.loss(labels, model(inputs, training=True))
        gradients = tape.gradient(ours, variables)
    theirs = trainer.loss(torch.from_numpy(rows))
    theirs.backward()
    assert abs(float(ours) - theirs.item()) < 1e-4 * abs(theirs.item()), (ours, theirs)
    parameters = {variable.path: parameter for variable, parameter in trainer.net.copied}
    worst = 0.0
    for variable, gradient in zip(variables, gradients, strict=True):
        expected = parameters[variable.path].grad.numpy().T
        error = np.linalg.norm(gradient - expected) / max(np.linalg.norm(expected), 1e-6)
        worst = max(worst, float(error))
    assert worst < 1e-3, worst
    print(
        f"  loss of the first batch: {float(ours):.3f} with ige, {theirs.item():.3f} with PyTorch; "
        f"the gradients of its {len(variables)} variables differ by {worst:.1e} at most"
    )


def matmul_rate(size: int = 2048, seconds: float = 3.0) -> float:
    """Returns the float32 operations per second of products of matrices, the best of many."""
    a = tf.random.normal((size, size))
    best, start = np.inf, time.perf_counter()
    while time.perf_counter() - start < seconds:
        begin = time.perf_counter()
        (a @ a).numpy()
        best = min(best, time.perf_counter() - begin)
    return 2 * size**3 / best


def measure(comparison: Comparison, epochs: int) -> None:
    """Trains one config both ways, `epochs` epochs that are timed, and prints the rates."""
    print(f"{comparison.config}: {describe_machine()}, torch {torch.__version__}")
    configs.parse([comparison.config], ["data='synthetic'", *comparison.settings])
    problem = gin.get_configurable("hpe.HpeProblem")()
    inference_fn = gin.get_configurable(comparison.inference)
    steps = problem.examples_per_epoch("train") // BATCH
    feed = problem.get_training_feed(BATCH, steps, 0, 0, steps)
    check_same(problem.build_model(inference_fn), comparison.make_net, problem, feed)
    turns = TakeTurns(comparison, problem, feed)

    class NoRecord:
        def check(self) -> None: ...

        def write(self) -> None: ...

    with tempfile.TemporaryDirectory() as folder:
        model = training.train(
            pathlib.Path(folder),
            "",
            lambda problem: NoRecord(),
            batch_size=BATCH,
            epochs=epochs + 2,
            callbacks=[turns],
        )
    ours, theirs = max(turns.ige), max(turns.torch)
    reached, peak = ours * comparison.operations(model), matmul_rate()
    print(f"  ige      {ours:10,.0f} examples/s")
    print(f"  PyTorch  {theirs:10,.0f} examples/s, eager")
    print(f"  ratio    {ours / theirs:10.2f} (at least {comparison.least:g})")
    print(
        f"  {reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s that products of 2048 x 2048 float32 "
        f"matrices reach: {100 * reached / peak:.0f} %"
    )


def main(description: str, comparisons: list[Comparison]) -> None:
    """Measures each of them; the command line of the benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=4, help="that are timed")
    epochs = parser.parse_args().epochs
    for comparison in comparisons:
        measure(comparison, epochs)
