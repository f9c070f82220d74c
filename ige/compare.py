"""Several runs side by side: their errors, sizes and costs, from what `evaluate` wrote."""

import json
import math
import pathlib
import types
from collections.abc import Sequence
from typing import Any

import gin

from ige.errors import UserError, nearest
from ige.figures import save
from ige.files import write_text
from ige.runs import default_model_dir, evaluated_variants, evaluation_file, output_folder

# Of the data, what does not tell whether errors on it are comparable.
_COUNTS = ("frames", "recordings", "skipped", "left_out")
Evaluations = dict[str, dict[str, Any]]


@gin.configurable(module="ige", denylist=["output"])
def compare(
    output: str | None = None,
    runs: tuple[str, ...] | list[str] = (),
    metrics: tuple[str, ...] | list[str] | None = None,
) -> None:
    """Prints a table of runs, and writes it to compare.md and compare.png.

    Args:
        output: folder for both; default: the folder of all runs.
        runs: where they are below that folder: `hpe/b128-1`, or `hpe/<model id>`. Of a run with
            several evaluations all are shown, or the one that is named: `apo/h3m-big:ige4` for
            evaluation-ige4.json.
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
    evaluations = {
        name: _read(name, path) for run in runs for name, path in _evaluated(run).items()
    }
    chosen = _choose(metrics, evaluations)
    labels: dict[str, str] = {}
    for evaluation in evaluations.values():
        labels |= evaluation["labels"]
    notes = _notes(evaluations)
    lines = [*_table(evaluations, chosen, labels), *notes]
    print("\n".join(lines))
    folder = output_folder(output, _base_dir())
    page, picture = folder / "compare.md", folder / "compare.png"
    write_text(page, "\n".join(_as_markdown(lines)) + "\n")
    _draw(evaluations, chosen[0], labels[chosen[0]], bool(notes), picture)
    print(f"{page}\n{picture}")


def _base_dir() -> pathlib.Path:
    """Returns the folder of all runs, whatever gin has for the folder and the name of one."""
    return default_model_dir("compare", subdir=".", model_id="compare").parent


def _rows(run: str) -> dict[str, pathlib.Path]:
    """Returns name -> file of every evaluation of a run: `apo/h3m-big`, `apo/h3m-big:ige4`."""
    folder = _base_dir() / run
    return {
        f"{run}:{variant}" if variant else run: evaluation_file(folder, variant)
        for variant in evaluated_variants(folder)
    }


def _evaluated(name: str) -> dict[str, pathlib.Path]:
    """Returns name -> file of the evaluations that a run, or one evaluation of it, stands for.

    Raises:
        UserError: there are none.
    """
    run, _, variant = name.partition(":")
    rows = _rows(run)
    if variant:
        rows = {name: rows[name]} if name in rows else {}
    if not rows:
        base = _base_dir()
        runs = {path.parent.relative_to(base) for path in base.glob("*/*/evaluation*.json")}
        known = [row for found in runs for row in _rows(found.as_posix())]
        raise UserError(
            f"compare.runs: {name} is not evaluated (no {evaluation_file(base / run, variant)}); "
            f"run --command=evaluate for it, or choose another; {nearest(name, known)}"
        )
    return rows


def _read(name: str, path: pathlib.Path) -> dict[str, Any]:
    """Returns an evaluation."""
    try:
        evaluation = json.loads(path.read_bytes())
        if not _is_evaluation(evaluation):
            raise ValueError
    except ValueError as error:
        raise UserError(
            f"{path} is damaged, or of an earlier version of ige; run --command=evaluate for {name}"
            " again"
        ) from error
    return evaluation


def _is_evaluation(evaluation: Any) -> bool:
    """Whether this is what `evaluate` writes, as far as it is used here."""
    kinds = {
        "over_actions": dict,
        "labels": dict,
        "data": dict,
        "parameters": int,
        "flops": int,
        "epoch": int,
        "training_seconds": int | float,
    }
    return (
        isinstance(evaluation, dict)
        and all(isinstance(evaluation.get(key), kind) for key, kind in kinds.items())
        and evaluation["over_actions"].keys() <= evaluation["labels"].keys()
        and all(
            isinstance(v, int | float | types.NoneType) for v in evaluation["over_actions"].values()
        )
    )


def _value(evaluation: dict[str, Any], metric: str) -> float | None:
    """Returns a metric of a run, None if it has none."""
    value = evaluation["over_actions"].get(metric)
    return value if value is not None and math.isfinite(value) else None


def _choose(metrics: Sequence[str] | None, evaluations: Evaluations) -> list[str]:
    """Returns the metrics to show, at least one."""
    known = list(
        dict.fromkeys(
            metric
            for evaluation in evaluations.values()
            for metric in evaluation["over_actions"]
            if _value(evaluation, metric) is not None
        )
    )
    for metric in metrics or ():
        if metric not in known:
            raise UserError(f"compare.metrics: got {metric!r}; {nearest(metric, known)}")
    if not known:
        raise UserError(
            f"compare.runs: none of {', '.join(evaluations)} has an error that is a number; train "
            "and evaluate them again"
        )
    return list(metrics or known)


def _table(evaluations: Evaluations, metrics: Sequence[str], labels: dict[str, str]) -> list[str]:
    """Returns the lines of a table in Markdown: a heading, a rule, a row per run."""
    heading = [
        "run",
        *(labels[metric] for metric in metrics),
        "parameters",
        labels.get("flops", "FLOPs per example"),
        "training",
        "epochs",
    ]
    rows = [heading]
    for run, evaluation in evaluations.items():
        values = (_value(evaluation, metric) for metric in metrics)
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
    first, *others = (max(map(len, column)) for column in zip(*rows, strict=True))
    rows.insert(1, ["-" * first, *("-" * (width - 1) + ":" for width in others)])
    cells = ([row[0].ljust(first), *map(str.rjust, row[1:], others)] for row in rows)
    return [f"| {' | '.join(row)} |" for row in cells]


def _as_markdown(lines: Sequence[str]) -> list[str]:
    """Returns the lines with notes in paragraphs of their own."""
    return [line if line.startswith("|") else f"\n{line}" for line in lines]


def _duration(seconds: float) -> str:
    """Returns "1 h 02 min", "2 min 05 s" or "7 s"."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600} h {seconds % 3600 // 60:02} min"
    return f"{seconds // 60} min {seconds % 60:02} s" if seconds >= 60 else f"{seconds} s"


def _conditions(evaluation: dict[str, Any]) -> dict[str, str]:
    """Returns name -> what has to be equal for errors to be comparable."""
    found = {key: evaluation.get(key) for key in ("split", "joints")}
    found |= {f"data.{k}": v for k, v in evaluation["data"].items() if k not in _COUNTS}
    changed = evaluation.get("evaluated_with", {})
    found |= {key: value for key, value in changed.items() if key.endswith(".test_steps")}
    return {key: json.dumps(value, sort_keys=True) for key, value in found.items()}


def _notes(evaluations: Evaluations) -> list[str]:
    """Returns in what the runs were not evaluated alike: a line for each way it parts them."""
    conditions = {run: _conditions(evaluation) for run, evaluation in evaluations.items()}
    differing: dict[str, list[str]] = {}
    for key in dict.fromkeys(key for found in conditions.values() for key in found):
        groups: dict[str | None, list[str]] = {}
        for run, found in conditions.items():
            groups.setdefault(found.get(key), []).append(run)
        if len(groups) > 1:
            listed = "; ".join(", ".join(group) for group in groups.values())
            differing.setdefault(listed, []).append(key)
    return [
        f"Not evaluated alike, compare with care: {_and(_telling(keys))} ({listed})."
        for listed, keys in differing.items()
    ]


def _telling(keys: Sequence[str]) -> list[str]:
    """Returns the conditions without those that follow: of another data set all of it differs."""
    others = [key for key in keys if not key.startswith("data.")]
    return [*others, "data.dataset"] if "data.dataset" in keys else list(keys)


def _and(names: Sequence[str]) -> str:
    """Returns "a differs", or "a, b and c differ"."""
    *first, last = names
    return f"{', '.join(first)} and {last} differ" if first else f"{last} differs"


def _draw(
    evaluations: Evaluations, metric: str, label: str, differ: bool, path: pathlib.Path
) -> None:
    """Draws a metric against the number of parameters."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.add_subplot()
    points = {
        run: (evaluation["parameters"], value)
        for run, evaluation in evaluations.items()
        if (value := _value(evaluation, metric)) is not None
    }
    sizes = [size for size, _ in points.values()]
    middle = math.sqrt(min(sizes) * max(sizes))
    for run, point in points.items():
        axes.plot(*point, "o", color="#0072B2")
        # Towards the middle, where there is room.
        side = 1 if point[0] <= middle else -1
        axes.annotate(
            run,
            point,
            xytext=(8 * side, 0),
            textcoords="offset points",
            ha="left" if side > 0 else "right",
            va="center",
        )
    low, high = min(sizes) / 2, max(sizes) * 2
    axes.set(xscale="log", xlim=(low, high), xlabel="parameters", ylabel=label)
    axes.set_ylim(0, 1.15 * max(value for _, value in points.values()))
    axes.grid(alpha=0.3)
    if differ:
        axes.set_title("not evaluated alike: see compare.md", fontsize=9)
    save(figure, path)
