"""The commands: each takes the name of the experiment that gin has been told about."""

import json

import gin

from ige import parameters, training
from ige.checkpoints import Checkpoints, Position
from ige.errors import UserError
from ige.files import write_text
from ige.problem import Problem, check_kind
from ige.runs import RunRecord, default_model_dir


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
    check_kind("evaluate.problem", problem, Problem)
    if batch_size < 1:
        raise UserError(f"evaluate.batch_size: got {batch_size}, expected at least 1")
    model_dir = default_model_dir(config_name)
    checkpoints = Checkpoints(model_dir)
    epoch = _choose_epoch(checkpoints, checkpoint, config_name)
    record = RunRecord(model_dir, problem, config_name)
    differences = record.check(for_evaluation=True)
    for key, (old, new) in differences.items():
        print(f"trained with {key} = {old}, evaluated with {new}")
    model = checkpoints.load_model(epoch)
    problem.check_model(model, str(checkpoints.path(Position(epoch))))
    report = problem.report(model, split, batch_size)
    print(report.text)
    figures = report.figures | {
        "config": record.read()["config"],
        "epoch": epoch,
        "parameters": training.count_parameters(model),
        "split": split,
        "data": problem.provenance,
        "trained_with": record.read()["parameters"],
        "evaluated_with": {key: new for key, (_, new) in differences.items()},
    }
    path = model_dir / "evaluation.json"
    write_text(path, json.dumps(figures, indent=2) + "\n")
    print(f"epoch {epoch} of {model_dir}; figures in {path}")


def _choose_epoch(checkpoints: Checkpoints, which: str | int, config_name: str) -> int:
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
        f"evaluate.checkpoint: got {which!r}, expected 'last', 'best' or one of the epochs "
        f"{epochs} in {checkpoints.folder}"
    )
