"""Weights that a network takes over from another run, for methods of several stages."""

import contextlib
import contextvars
import hashlib
import pathlib
from collections.abc import Iterator, Sequence

import keras

from ige import configs, distribution, parameters, runs
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError, did_you_mean

# What changes how a network is trained, but not what its weights mean.
_TRAINING_ONLY = ("dropout_rate", "_initializer", "_regularizer", "freeze_batch_norm")
_skipped = contextvars.ContextVar("skipped", default=False)


@contextlib.contextmanager
def skipped(skip: bool = True) -> Iterator[None]:
    """Meanwhile `initialise` does nothing: all weights will come from a checkpoint."""
    token = _skipped.set(skip)
    try:
        yield
    finally:
        _skipped.reset(token)


def digest(network: keras.Model) -> str:
    """Returns what tells the weights of a network from others: 16 hexadecimal digits."""
    hashed = hashlib.sha256()
    for weight in network.get_weights():
        hashed.update(weight.tobytes())
    return hashed.hexdigest()[:16]


def initialise(
    network: keras.Model, task: str, model_id: str, parameter: str, shared: Sequence[str] = ()
) -> None:
    """Gives a network the weights of the layers of the same names in another run.

    That is the last checkpoint of the run whose folder is beside those of the same task. The other
    run may have more layers.

    Args:
        network: the network, or a part of one.
        task: 'hpe', the folder of the configs of the task.
        model_id: name of the run, as in `default_model_dir.model_id`.
        parameter: gin parameter that names it, for messages.
        shared: gin parameters that have to be as they are here in the other run too, besides those
            of its `inference_fn`.

    Raises:
        UserError: there is no such run, or it has another config or other layers.
    """
    if _skipped.get():
        return
    model, path = load(task, model_id, parameter, shared)
    saved = {layer.name: layer for layer in _all_layers(model)}
    for layer in network.layers:
        if not layer.weights:
            continue
        weights = saved[layer.name].get_weights() if layer.name in saved else []
        expected, got = [tuple(w.shape) for w in layer.weights], [w.shape for w in weights]
        if expected != got:
            raise UserError(
                f"{parameter}: layer {layer.name!r} has weights of shapes {got or 'none'} in {path}"
                f", {expected} here; name a run of the same network"
            )
        layer.set_weights(weights)
    if distribution.is_chief():
        print(f"starting from {path}")


def load(
    task: str, model_id: str, parameter: str, shared: Sequence[str] = ()
) -> tuple[keras.Model, pathlib.Path]:
    """Returns the network of the last checkpoint of another run, and the checkpoint's folder.

    For the arguments and what it raises see `initialise`.
    """
    config = f"{task}/{model_id}"
    folder = runs.default_model_dir(config, model_id=model_id)
    checkpoints = Checkpoints(folder)
    epochs = checkpoints.epochs()
    if not epochs:
        known = configs.list_configs(configs.config_folder())
        command = f"python -m ige --gin_file={config if config in known else f'{task}/...'}"
        command += " --command=train"
        hint = ""
        if config not in known:
            command += f" --gin_param=\"default_model_dir.model_id='{model_id}'\""
            folders = (name.partition("/") for name in known)
            hint = did_you_mean(model_id, [name for folder, _, name in folders if folder == task])
        raise UserError(
            f"{parameter}: no trained model {model_id!r} in {folder}; make it with `{command}` and "
            f"the --gin_param of this run, or name another run{hint and f': {hint}'}"
        )
    _check(runs.read_record(folder)["parameters"], folder, parameter, shared)
    return checkpoints.load_model(epochs[-1]), checkpoints.path(Position(epochs[-1]))


def _all_layers(model: keras.Model) -> Iterator[keras.layers.Layer]:
    """Yields the layers of a model, those of models inside it too."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _all_layers(layer)


def _check(
    recorded: dict[str, str], folder: pathlib.Path, parameter: str, shared: Sequence[str]
) -> None:
    """Refuses a run whose weights mean something else."""
    network = recorded.get("train.inference_fn", "").removeprefix("@")
    here = {key: str(value) for key, value in parameters.resolved(("train",)).items()}
    for key, value in recorded.items():
        of_network = key.rpartition(".")[0] == network and not key.endswith(_TRAINING_ONLY)
        if (of_network or key in shared) and value != here.get(key, value):
            raise UserError(
                f"{parameter}: {folder} was trained with {key} = {value}, here it is {here[key]}; "
                "name a run that was trained with the same"
            )
