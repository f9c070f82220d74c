"""Trains a pose prior with ige and with eager PyTorch, and fits motions with ige and with SciPy.

    pip install torch==2.13.0
    python -m benchmarks.apo gan
    python -m benchmarks.apo fit

`gan` trains `apo/h3m-big` on generated data in turns: the same networks, losses, optimiser and
batches of 128, one update of the critic and one of the generator in a step. `fit` needs the data
and the trained models `apo/h3m-big` and `apo/h3m-big-ige4`; it fits the test sequences as `infer`
does, and with SciPy's L-BFGS-B, sequence by sequence, from the published start, and from that of
`infer`: the same energy, one compiled function.
"""

import argparse
import contextlib
import functools
import io
import itertools
import pathlib
import tempfile
import time

import gin
import keras
import numpy as np
import torch

from benchmarks.opponent import Module, matmul_rate
from benchmarks.processes import describe_machine
from ige import configs, runners, training
from ige.adversarial import AdversarialModel
from ige.data.batches import Feed
from ige.hpe.prior import fitting
from ige.hpe.prior.views import View
from ige.hpe.skeleton import conversion_matrix
from ige.minimisers import ScipyLBFGSB

_BATCH, _TORCH_SECONDS = 128, 3.0
_BATCH_FRAMES = 8192
_LEAST_STEPS, _LEAST_GAN_RATIO = 1500, 3.0
_LEAST_FRAMES, _LEAST_FIT_RATIO, _LEAST_SHARE = 1000, 5.0, 0.95


class Perceptron(Module):
    """The generator or the critic."""

    def __init__(self, network: keras.Model):
        super().__init__()
        dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        self.dense = torch.nn.ModuleList(map(self.linear, dense))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.dense[:-1]:
            x = torch.relu(layer(x))
        return self.dense[-1](x)


class TorchGan:
    """Eager steps of a Wasserstein GAN whose critic is clipped."""

    def __init__(self, model: AdversarialModel, poses: np.ndarray, feed: Feed, clip: float):
        self.generator, self.critic = Perceptron(model.generator), Perceptron(model.critic)
        self._poses = torch.from_numpy(poses).flatten(1)
        self._latents = model.generator.inputs[0].shape[-1]
        self._clip = clip
        self._optimizers = [
            torch.optim.RMSprop(network.parameters(), lr=1e-4, alpha=0.9, eps=1e-10)
            for network in (self.critic, self.generator)
        ]
        chunks = (chunk.numpy() for chunk in feed.chunks)
        self._rows = (torch.from_numpy(row) for chunk in chunks for row in chunk)
        self._threads = itertools.cycle([1, torch.get_num_threads()])

    def critic_loss(self, real: torch.Tensor, fakes: torch.Tensor) -> torch.Tensor:
        of_real, of_fakes = self.critic(torch.cat([real, fakes])).chunk(2)
        return (of_fakes - of_real).mean()

    def step(self) -> None:
        real = self._poses[next(self._rows)]
        fakes = self.generator(torch.randn(_BATCH, self._latents))
        of_critic, of_generator = self._optimizers
        of_critic.zero_grad()
        self.critic_loss(real, fakes.detach()).backward()
        of_critic.step()
        with torch.no_grad():
            for parameter in self.critic.parameters():
                parameter.clamp_(-self._clip, self._clip)
        of_generator.zero_grad()
        (-self.critic(fakes).mean()).backward()
        of_generator.step()

    def rate(self) -> float:
        """Returns steps per second, with one thread and with all in turn."""
        torch.set_num_threads(next(self._threads))
        steps, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < _TORCH_SECONDS:
            self.step()
            steps += 1
        return steps / elapsed


class TakeTurns(keras.callbacks.Callback):
    """Times the epochs of ige, and runs PyTorch between them."""

    def __init__(self, poses: np.ndarray, feed: Feed, clip: float):
        super().__init__()
        self._poses, self._feed, self._clip = poses, feed, clip
        self.ige: list[float] = []
        self.torch: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 0:  # which compiles
            self._opponent = TorchGan(self.model, self._poses, self._feed, self._clip)
            _check_same(self.model, self._opponent, self._poses)
        else:
            self.torch += [self._opponent.rate() for _ in range(2)]
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        if epoch:
            self.ige.append(self.params["steps"] / (time.perf_counter() - self._start))


def _check_same(model: AdversarialModel, opponent: TorchGan, poses: np.ndarray) -> None:
    """Raises AssertionError unless the critic's loss of the same examples agrees."""
    latents = np.random.default_rng(0).normal(size=(_BATCH, model.generator.inputs[0].shape[-1]))
    latents, real = latents.astype(np.float32), poses[:_BATCH]
    ours = float(model.critic_loss(real, model.generator({"latent": latents})))
    with torch.no_grad():
        fakes = opponent.generator(torch.from_numpy(latents))
        theirs = opponent.critic_loss(torch.from_numpy(real).flatten(1), fakes).item()
    assert abs(ours - theirs) < 1e-4 * max(1.0, abs(ours)), (ours, theirs)
    print(f"  the critic's loss of the same poses: {ours:.5f} with ige, {theirs:.5f} with PyTorch")


def _operations(model: AdversarialModel) -> int:
    """Returns the floating-point operations of the matrix products of a step.

    Forward, by the weights and by the inputs; the critic on real and generated poses for its own
    update, then on generated ones for the generator's; not the gradients that nobody needs.
    """

    def products(network: keras.Model) -> list[int]:
        dense = [layer for layer in network.layers if isinstance(layer, keras.layers.Dense)]
        return [2 * _BATCH * layer.kernel.shape[0] * layer.kernel.shape[1] for layer in dense]

    of_generator, of_critic = products(model.generator), products(model.critic)
    for_generator = 3 * sum(of_generator) - of_generator[0] + 2 * sum(of_critic)
    return for_generator + 2 * (3 * sum(of_critic) - of_critic[0])


def gan(epochs: int, steps: int) -> None:
    """Prints the rates of training, in turns."""
    print(f"apo/h3m-big: {describe_machine()}, torch {torch.__version__}")
    settings = [
        "data='synthetic'",
        "hpe.PosePriorProblem.held_out = 0.0",
        f"train.steps_per_epoch = {steps}",
    ]
    configs.parse(["apo/h3m-big"], settings)
    problem = gin.get_configurable("hpe.PosePriorProblem")()
    _, poses = problem.arrays("train")
    feed = problem.get_training_feed(_BATCH, steps, 0, 0, 500)
    turns = TakeTurns(poses, feed, gin.query_parameter("adversarial_model.clip_value"))

    class NoRecord:
        def check(self) -> None: ...

        def write(self) -> None: ...

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()) as said:
        model = training.train(
            pathlib.Path(folder),
            "",
            lambda problem: NoRecord(),
            epochs=epochs + 1,
            callbacks=[turns],
        )
    print(next(line for line in said.getvalue().splitlines() if "critic's loss" in line))
    ours, theirs = max(turns.ige), max(turns.torch)
    reached, peak = ours * _operations(model), matmul_rate()
    print(f"  ige      {ours:8,.0f} steps/s (at least {_LEAST_STEPS:,})")
    print(f"  PyTorch  {theirs:8,.0f} steps/s, eager")
    print(f"  ratio    {ours / theirs:8.2f} (at least {_LEAST_GAN_RATIO:g})")
    print(
        f"  {reached / 1e9:.0f} of {peak / 1e9:.0f} GFLOP/s that products of 2048 x 2048 float32 "
        f"matrices reach: {100 * reached / peak:.0f} %"
    )


def fit(guess: str | None, sequences: int | None, settings: list[str]) -> None:
    """Prints how fast motions are fitted, and to what energies."""
    print(f"apo/h3m-big: {describe_machine()}")
    configs.parse(["apo/h3m-big"], settings)
    problem = gin.get_configurable("hpe.PosePriorProblem")()
    model = runners.load_trained("apo/h3m-big", problem, "infer", "last").model
    views = problem.views("test")[:sequences]
    frames = sum(len(view.keypoints) for view in views)
    matrix = conversion_matrix(problem.skeleton, views[0].keypoint_skeleton)
    make = gin.get_configurable("hpe.Fitter")
    ours = make(model, matrix, problem.start_size, guess_model_id=guess)
    seconds, energies = [], {}
    for _ in range(3):  # the first time compiles
        start = time.perf_counter()
        batches = fitting.fitted(ours, views, _BATCH_FRAMES)
        energies = {fit.key: fit.attributes["energy"] for fits in batches for fit in fits}
        seconds.append(time.perf_counter() - start)
    print(
        f"  ige: {len(views)} sequences, {frames:,} frames in {min(seconds):.2f} s, "
        f"{frames / min(seconds):,.0f} frames/s (at least {_LEAST_FRAMES:,}); "
        f"the first time, which compiles, {seconds[0]:.1f} s"
    )
    with_scipy = functools.partial(make, model, matrix, problem.start_size, minimiser=ScipyLBFGSB())
    for name, reference in (
        ("the published start", with_scipy(starts=0, guess_model_id=None)),
        ("the same start", with_scipy(guess_model_id=guess)),
    ):
        print(f"  SciPy from {name}")
        _fit_with_scipy(reference, views, energies, min(seconds))


def _fit_with_scipy(
    reference: fitting.Fitter, views: list[View], energies: dict[str, float], seconds: float
) -> None:
    """Prints how fast SciPy is, and how its energies compare with those reached in `seconds`."""
    spent, lower, ratios = 0.0, 0, []
    for view in views:
        start_at = reference.start([view])
        reference.minimiser.max_iterations = 1  # compiles
        reference.fit([view], start_at)
        reference.minimiser.max_iterations = ScipyLBFGSB().max_iterations
        start = time.perf_counter()
        minimum, _ = reference.fit([view], start_at)
        spent += time.perf_counter() - start
        theirs = float(minimum.energy[0])
        lower += energies[view.key] <= theirs
        ratios.append(energies[view.key] / theirs)
        print(
            f"    {view.key}: {len(view.keypoints)} frames, {energies[view.key]:.4f} with ige, "
            f"{theirs:.4f} with SciPy after {minimum.evaluations[0]:,} evaluations",
            flush=True,
        )
    frames = sum(len(view.keypoints) for view in views)
    print(f"  SciPy: {frames / spent:,.1f} frames/s, not counting what is compiled")
    print(f"  ratio: {spent / seconds:.1f} (at least {_LEAST_FIT_RATIO:g})")
    print(
        f"  energy no higher than SciPy's: {lower} of {len(views)} sequences, "
        f"{100 * lower / len(views):.1f} % (at least {100 * _LEAST_SHARE:.0f} %); "
        f"{np.median(ratios):.3f} of it in the median, {max(ratios):.3f} at most"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=("gan", "fit"))
    parser.add_argument("--epochs", type=int, default=4, help="of gan, that are timed")
    parser.add_argument("--steps", type=int, default=5000, help="of an epoch")
    parser.add_argument("--guess", default="h3m-big-ige4", help="of fit: its first guess, or none")
    parser.add_argument("--sequences", type=int, help="of fit: at most so many")
    parser.add_argument("--gin_param", action="append", default=[], help="of fit")
    given = parser.parse_args()
    if given.part == "gan":
        gan(given.epochs, given.steps)
    else:
        fit(None if given.guess == "none" else given.guess, given.sequences, given.gin_param)


if __name__ == "__main__":
    main()
