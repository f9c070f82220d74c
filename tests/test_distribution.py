import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest
import worker

from ige import distribution
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError

HERE = pathlib.Path(__file__).parent


def free_ports(count):
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("localhost", 0))
        return [one.getsockname()[1] for one in sockets]


def start(folder, how, config=None):
    """Starts worker.py; what it says is in files beside the folder."""
    environment = (
        os.environ
        | {
            "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parent)]),
            "CUDA_VISIBLE_DEVICES": "",
        }
        | ({"TF_CONFIG": json.dumps(config)} if config else {})
    )
    index = config["task"]["index"] if config else 0
    with (folder.parent / f"{how}{index}.log").open("a") as log:
        command = [sys.executable, str(HERE / "worker.py"), str(folder), how]
        return subprocess.Popen(command, env=environment, stdout=log, stderr=log)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Returns the folders of the same training on one device, on two, and by two workers of which
    one is killed and started again."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "multi_worker").mkdir()
    workers = [f"localhost:{port}" for port in free_ports(2)]
    configs = [
        {"cluster": {"worker": workers}, "task": {"type": "worker", "index": index}}
        for index in range(2)
    ]
    with contextlib.ExitStack() as stack:

        def begin(*arguments):
            process = start(*arguments)
            stack.callback(process.wait)
            stack.callback(process.kill)
            return process

        first, second = (begin(folder / "multi_worker", "multi_worker", c) for c in configs)
        worker.train(folder / "one")
        assert second.wait(120) == -signal.SIGKILL
        second = begin(folder / "multi_worker", "multi_worker", configs[1])
        mirrored = begin(folder / "mirrored", "mirrored")
        for process in (first, second, mirrored):
            assert process.wait(120) == 0, process.args
    return folder


@pytest.mark.parametrize("how", ["mirrored", "multi_worker"])
def test_losses_and_weights_are_those_of_one_device_with_the_whole_batch(runs, how):
    expected, got = (Checkpoints(runs / name).verify(Position(3)) for name in ("one", how))
    for ours, theirs in zip(got.history, expected.history, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-5)
    models = [Checkpoints(runs / name).load_model(3) for name in ("one", how)]
    for ours, theirs in zip(models[1].variables, models[0].variables, strict=True):
        if ours.dtype == "float32":
            np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_a_worker_that_was_killed_and_started_again_resumes_the_pair(runs):
    survivor, killed = ((runs / f"multi_worker{i}.log").read_text() for i in range(2))
    continuing = f"continuing {runs / 'multi_worker'} after epoch 1"
    assert "lost another worker; starting again, waiting for it" in survivor
    assert survivor.count("training on 64 examples") == 2
    assert killed.count("training on 64 examples") == 2
    assert continuing in survivor
    assert continuing in killed


def test_only_the_chief_writes(runs):
    assert len(list((runs / "multi_worker").glob("events*"))) == 2  # before the loss, and after
    assert "Epoch 3/3" in (runs / "multi_worker0.log").read_text()
    assert "Epoch" not in (runs / "multi_worker1.log").read_text()


@pytest.mark.parametrize(
    ("config", "got"),
    [
        (None, "is not set"),
        ("{", "is '{'"),
        ('{"cluster": {}}', "is '{\"cluster\": {}}'"),
        (
            '{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}',
            'is \'{"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}\'',
        ),
    ],
)
def test_cluster_that_makes_no_sense(monkeypatch, config, got):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config)
    message = (
        f"distribution='multi_worker': TF_CONFIG {got}; expected "
        '{"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}, '
        "the same cluster for all workers and an index of its own for each"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}\n"):
        distribution.strategy("multi_worker")


class Two:
    """Stands for a strategy of two devices."""

    num_replicas_in_sync = 2


@pytest.mark.parametrize(
    ("settings", "batch_size", "dtype_policy", "message"),
    [
        ({}, 7, None, "train.batch_size: got 7, expected a multiple of the 2 devices"),
        ({"clipnorm": 1.0}, 8, None, "optimizer: got clipnorm on 2 devices, expected none: Keras"),
        ({"global_clipnorm": 1.0}, 8, None, "optimizer: got global_clipnorm on 2 devices"),
        ({"clipvalue": 1.0}, 8, None, "optimizer: got clipvalue on 2 devices"),
        (
            {"use_ema": True, "ema_overwrite_frequency": 1},
            8,
            None,
            "optimizer: got use_ema on 2 devices",
        ),
        ({"gradient_accumulation_steps": 2}, 8, None, "optimizer: got gradient_accumulation_steps"),
        ({}, 8, "mixed_float16", "train.dtype_policy: got 'mixed_float16' on 2 devices, expected"),
    ],
)
def test_what_would_not_mean_the_same(monkeypatch, settings, batch_size, dtype_policy, message):
    sgd = keras.optimizers.SGD(0.1, **settings)
    distribution.check(sgd, batch_size, dtype_policy)
    monkeypatch.setattr(distribution.tf.distribute, "get_strategy", Two)
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        distribution.check(sgd, batch_size, dtype_policy)
    distribution.check(keras.optimizers.SGD(0.1), 8, "mixed_bfloat16")


class Composite(keras.layers.Layer):
    """A layer with batch normalisation inside."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()

    def call(self, inputs):
        return self.norm(inputs)


def test_batch_norm_is_synchronised_inside_nested_networks_too(monkeypatch):
    inner = keras.Sequential([keras.Input((2,)), keras.layers.BatchNormalization()])
    composite = Composite()
    model = keras.Sequential([keras.Input((2,)), inner, composite])
    norms = [inner.layers[0], composite.norm]
    distribution.synchronise_batch_norm(model)
    assert [norm.synchronized for norm in norms] == [False, False]
    monkeypatch.setattr(distribution.tf.distribute, "get_strategy", Two)
    distribution.synchronise_batch_norm(model)
    assert [norm.synchronized for norm in norms] == [True, True]
