"""The commands: each takes the name of the experiment that gin has been told about."""

import dataclasses
import json
import pathlib
from typing import Any

import gin
import keras

from ige import costs, figures, parameters, training
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.files import write_text
from ige.problem import Problem, check_kind
from ige.runs import (
    RunRecord,
    default_model_dir,
    evaluation_file,
    output_folder,
    with_variant,
)


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained network and where it comes from.

    Attributes:
        model: the network.
        path: folder of the checkpoint.
        epoch: epochs it was trained for.
        seconds: that they took.
        record: config and parameters of the run; see `RunRecord.read`.
        differences: parameter -> (old, new) for what is not as in training.
    """

    model: keras.Model
    path: pathlib.Path
    epoch: int
    seconds: float
    record: dict[str, Any]
    differences: dict[str, tuple[str, str]]


def load_trained(
    config_name: str, problem: Problem, command: str, checkpoint: str | int, with_data: bool = True
) -> Trained:
    """Returns a network of the run of an experiment.

    Args:
        config_name: name of the experiment.
        problem: what the network is to be used on.
        command: whose parameter `checkpoint` is.
        checkpoint: 'last', 'best' or the number of an epoch.
        with_data: whether the data of the problem are used; else they need not be there.

    Raises:
        UserError: there is no such run or checkpoint, or it was made with another network.
    """
    check_kind(f"{command}.problem", problem, Problem)
    model_dir = default_model_dir(config_name)
    checkpoints = Checkpoints(model_dir)
    epoch = _choose_epoch(checkpoints, checkpoint, config_name, command)
    record = RunRecord(model_dir, problem, config_name)
    differences = record.check(for_evaluation=True, with_data=with_data)
    model = checkpoints.load_model(epoch)
    position = Position(epoch)
    path = checkpoints.path(position)
    model = problem.for_prediction(model)
    if with_data:
        problem.check_model(model, str(path))
    seconds = checkpoints.verify(position).seconds
    return Trained(model, path, epoch, seconds, record.read(), differences)


def _check_batch_size(command: str, batch_size: int) -> None:
    if batch_size < 1:
        raise UserError(f"{command}.batch_size: got {batch_size}, expected at least 1")


@gin.configurable(module="ige", denylist=["config_name"])
def prepare(config_name: str, problem: Problem = gin.REQUIRED) -> None:
    """Builds the data set of the experiment and says what it is."""
    check_kind("prepare.problem", problem, Problem)
    problem.prepare()
    print(json.dumps(problem.provenance, indent=2))


def train(config_name: str) -> None:
    """Trains, or continues training, the experiment."""
    model_dir = default_model_dir(config_name)
    training.train(
        model_dir,
        parameters.to_text(parameters.resolved()),
        lambda problem: RunRecord(model_dir, problem, config_name),
    )


@gin.configurable(module="ige", denylist=["config_name"])
def evaluate(
    config_name: str,
    problem: Problem = gin.REQUIRED,
    checkpoint: str | int = "last",
    split: str = "test",
    batch_size: int = 4096,
) -> None:
    """Prints the table of errors of a trained model and writes it to evaluation.json.

    What a `Problem.variant` names gets a file of its own, evaluation-<variant>.json.

    The data may differ from those of the training (another 2D source, say), and how the network
    was trained does not matter; what the network and the problem are may not differ.

    Args:
        config_name: name of the experiment.
        problem: the data to evaluate on.
        checkpoint: 'last', 'best' or the number of an epoch.
        split: 'test', 'validation' or 'train'.
        batch_size: examples per call of the network; changes the speed only.

    Raises:
        UserError: there is no such run or checkpoint, or it was made with another network.
    """
    _check_batch_size("evaluate", batch_size)
    trained = load_trained(config_name, problem, "evaluate", checkpoint)
    for key, (old, new) in trained.differences.items():
        print(f"trained with {key} = {old}, evaluated with {new}")
    model_dir = default_model_dir(config_name)
    report = problem.report(trained.model, split, batch_size, model_dir)
    print(report.text)
    evaluation = report.figures | {
        "config": trained.record["config"],
        "epoch": trained.epoch,
        "parameters": costs.count_parameters(trained.model),
        "flops": costs.count_flops(trained.model, problem.input_spec),
        "training_seconds": trained.seconds,
        "split": split,
        "data": problem.provenance,
        "trained_with": trained.record["parameters"],
        "evaluated_with": {key: new for key, (_, new) in trained.differences.items()},
    }
    path = evaluation_file(model_dir, problem.variant)
    write_text(path, json.dumps(evaluation, indent=2) + "\n")
    print(f"epoch {trained.epoch} of {model_dir}; figures in {path}")


@gin.configurable(module="ige", denylist=["config_name", "output"])
def vis(
    config_name: str,
    output: str | None = None,
    problem: Problem = gin.REQUIRED,
    checkpoint: str | int = "last",
    split: str = "test",
    batch_size: int = 4096,
    example: str | None = None,
    show: bool = False,
) -> None:
    """Draws what a trained model makes of a split.

    Args:
        config_name: name of the experiment.
        output: folder for the pictures; default: `vis` in the folder of the run, or
            `vis-<variant>`, see `Problem.variant`.
        problem: the data to predict.
        checkpoint: 'last', 'best' or the number of an epoch.
        split: 'test', 'validation' or 'train'.
        batch_size: examples per call of the network; changes the speed only.
        example: name of what is shown in detail; None for a typical one.
        show: open the figures in windows too.

    Raises:
        UserError: there is no such run, checkpoint or example, or no display to show it on.
    """
    _check_batch_size("vis", batch_size)
    if show:
        figures.require_windows()
    trained = load_trained(config_name, problem, "vis", checkpoint)
    model_dir = default_model_dir(config_name)
    folder = output_folder(output, model_dir / with_variant("vis", problem.variant))
    pictures = problem.vis(trained.model, split, batch_size, folder, example, model_dir)
    print(f"{split} by {trained.path}")
    for path in pictures.paths:
        print(path)
    if show:
        figures.show(pictures.figures)


def predict(config_name: str, source: str | None = None, output: str | None = None) -> None:
    """Predicts for a file of the user's, as the `predict` of the task does it.

    Args:
        config_name: name of the experiment.
        source: the file or folder.
        output: folder for what is written; default: named after the source, in this folder.

    Raises:
        UserError: nothing to predict for, or the config has no such command.
    """
    command = parameters.task_command("predict")
    if command is None:
        raise UserError(
            f"--command=predict: {config_name} cannot do it, expected a config that binds a "
            "`predict`; `--command=list` shows the configs"
        )
    if source is None:
        raise UserError(
            "--input: got none, expected a file or folder, such as --input=poses.json or "
            "--input=chair.png"
        )
    if not pathlib.Path(source).exists():
        raise UserError(f"--input: no such file or folder: {source}")
    folder = pathlib.Path(output or f"{pathlib.Path(source).stem}-3d").expanduser()
    if folder.exists() and not folder.is_dir():  # before the work, not after it
        raise UserError(f"--output: {folder} is a file or in one, expected a folder")
    gin.get_configurable(command)(
        lambda problem, checkpoint: load_trained(
            config_name, problem, "predict", checkpoint, with_data=False
        ),
        pathlib.Path(source),
        lambda: output_folder(None, folder),
    )


def infer(config_name: str) -> None:
    """Fits every sequence of a split with a trained prior, as the `infer` of the task does it.

    Args:
        config_name: name of the experiment.

    Raises:
        UserError: the config has no such command, or there is no such run.
    """
    command = parameters.task_command("infer")
    if command is None:
        raise UserError(
            f"--command=infer: {config_name} cannot do it, expected a config that binds an "
            "`infer`, such as apo/h3m-big; `--command=list` shows the configs"
        )
    gin.get_configurable(command)(
        lambda problem, checkpoint: load_trained(config_name, problem, "infer", checkpoint),
        default_model_dir(config_name),
    )


def _choose_epoch(
    checkpoints: Checkpoints, which: str | int, config_name: str, command: str
) -> int:
    """Returns the epoch that `which` stands for."""
    epochs = checkpoints.epochs()
    if not epochs:
        raise UserError(
            f"no trained model of {config_name} in {checkpoints.folder.parent}; train it first: "
            "the same with --command=train"
        )
    if which == "last":
        return epochs[-1]
    if which == "best":
        return checkpoints.best()
    if which in epochs:
        return which
    raise UserError(
        f"{command}.checkpoint: got {which!r}, expected 'last', 'best' or one of the epochs "
        f"{epochs} in {checkpoints.folder}"
    )
