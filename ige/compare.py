"""Several runs side by side: their errors, sizes and costs, from what `evaluate` wrote."""

import json
import pathlib
from collections.abc import Sequence
from typing import Any

import gin

from ige.errors import UserError, nearest
from ige.figures import save
from ige.files import write_text
from ige.runs import default_model_dir

_FILE = "evaluation.json"
# What has to be equal for errors to be comparable.
_CONDITIONS = ("split", "joints", "data.files", "data.config")


@gin.configurable(module="ige", denylist=["output"])
def compare(
    output: str | None = None,
    runs: tuple[str, ...] | list[str] = (),
    metrics: tuple[str, ...] | list[str] | None = None,
) -> None:
    """Prints a table of runs, and writes it to compare.md and compare.png.

    Args:
        output: folder for both; default: the folder of all runs.
        runs: names of the experiments, such as `hpe/b128-1`, or `hpe/<model id>`.
        metrics: the metrics to show, as they are called in evaluation.json; the first is drawn.
            None for all that any of the runs has.

    Raises:
        UserError: no runs, one that is not evaluated, or an unknown metric.
    """
    if not runs:
        raise UserError(
            "compare.runs: got none, expected names of evaluated runs, such as "
            '--gin_param=\'compare.runs=("hpe/b128-1","hpe/b1024-2")\''
        )
    evaluations = {run: _read(run) for run in runs}
    shown = _choose(metrics, evaluations)
    text = _table(evaluations, shown)
    folder = pathlib.Path(output).expanduser() if output else default_model_dir("compare").parent
    folder.mkdir(parents=True, exist_ok=True)
    notes = _notes(evaluations)
    print("\n".join([text, *notes]))
    page = folder / "compare.md"
    write_text(page, "\n".join([text, *(f"\n{note}" for note in notes)]) + "\n")
    picture = folder / "compare.png"
    _draw(evaluations, shown[0], picture)
    print(f"{page}\n{picture}")


def _read(run: str) -> dict[str, Any]:
    """Returns the evaluation of a run."""
    path = default_model_dir(run) / _FILE
    command = f"--gin_file={run} --command=evaluate"
    try:
        evaluation = json.loads(path.read_bytes())
        metrics, labels = evaluation["over_actions"], evaluation["labels"]
        evaluation["parameters"] + evaluation["flops"] + evaluation["training_seconds"]
        if not metrics.keys() <= labels.keys():
            raise KeyError
    except FileNotFoundError:
        known = sorted(
            f"{folder.parent.parent.name}/{folder.parent.name}"
            for folder in path.parent.parent.parent.glob(f"*/*/{_FILE}")
        )
        raise UserError(
            f"compare.runs: {run} is not evaluated (no {path}); evaluate it, {command}, or choose "
            f"another; {nearest(run, known)}"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} is damaged, or of an earlier version of ige; write it again: {command}"
        ) from error
    return evaluation


def _choose(metrics: Sequence[str] | None, evaluations: dict[str, dict[str, Any]]) -> list[str]:
    """Returns the metrics to show."""
    known = list(
        dict.fromkeys(
            metric
            for evaluation in evaluations.values()
            for metric, value in evaluation["over_actions"].items()
            if value is not None
        )
    )
    for metric in metrics or ():
        if metric not in known:
            raise UserError(f"compare.metrics: got {metric!r}; {nearest(metric, known)}")
    return list(metrics or known)


def _table(evaluations: dict[str, dict[str, Any]], metrics: Sequence[str]) -> str:
    """Returns a table in Markdown, a row per run."""
    labels = {}
    for evaluation in evaluations.values():
        labels |= evaluation["labels"]
    heading = [
        "run",
        *(labels[metric] for metric in metrics),
        "parameters",
        labels.get("flops", "FLOPs per example"),
        "training",
        "epochs",
    ]
    rows = [heading, ["---", *["---:"] * (len(heading) - 1)]]
    for run, evaluation in evaluations.items():
        values = (evaluation["over_actions"].get(metric) for metric in metrics)
        rows.append(
            [
                run,
                *("-" if value is None else f"{value:.1f}" for value in values),
                f"{evaluation['parameters']:,}",
                f"{evaluation['flops']:,}",
                _duration(evaluation["training_seconds"]),
                str(evaluation["epoch"]),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows[1] = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    lines = [[row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _duration(seconds: float) -> str:
    """Returns "1 h 02 min", "2 min 05 s" or "7 s"."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"


def _notes(evaluations: dict[str, dict[str, Any]]) -> list[str]:
    """Returns a line for each condition in which the runs were not evaluated alike."""
    notes = []
    for condition in _CONDITIONS:
        found = {}
        for run, evaluation in evaluations.items():
            value = evaluation
            for key in condition.split("."):
                value = value.get(key) if isinstance(value, dict) else None
            found.setdefault(json.dumps(value, sort_keys=True), []).append(run)
        if len(found) > 1:
            groups = "; ".join(", ".join(group) for group in found.values())
            notes.append(f"Not evaluated alike, compare with care: {condition} differs ({groups}).")
    return notes


def _draw(evaluations: dict[str, dict[str, Any]], metric: str, path: pathlib.Path) -> None:
    """Draws a metric against the number of parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    for run, evaluation in evaluations.items():
        value = evaluation["over_actions"].get(metric)
        if value is not None:
            axes.plot(evaluation["parameters"], value, "o", color="#0072B2")
            axes.annotate(
                run,
                (evaluation["parameters"], value),
                xytext=(0, 6),
                textcoords="offset points",
                ha="center",
            )
    axes.set(
        xscale="log", xlabel="parameters", ylabel=next(iter(evaluations.values()))["labels"][metric]
    )
    axes.margins(0.25)
    axes.grid(alpha=0.3)
    save(figure, path)
