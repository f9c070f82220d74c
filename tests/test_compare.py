"""Runs side by side, from their evaluation.json."""

import json
import re
import subprocess
import sys

import pytest

from ige import compare as module
from ige.__main__ import main

LABELS = {"mpjpe": "MPJPE (mm)", "auc": "AUC (%)", "opt_scale": "opt. scale (mm)"}


def evaluation(mpjpe, parameters, seconds, **more):
    return {
        "over_actions": {"mpjpe": mpjpe, "auc": 51.26, "opt_scale": None},
        "labels": LABELS,
        "parameters": parameters,
        "flops": 2 * parameters,
        "training_seconds": seconds,
        "epoch": 5,
        "split": "test",
        "joints": "17 joints",
        "data": {"config": "projection", "files": [{"name": "h36m.zip", "bytes": 7}]},
    } | more


@pytest.fixture
def runs(tmp_path):
    """Two evaluated runs in a folder of runs."""

    def write(name, content, evaluation="evaluation"):
        folder = tmp_path / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{evaluation}.json").write_text(json.dumps(content))

    write("hpe/small", evaluation(99.34, 43824, 65.4))
    write("hpe/large", evaluation(73.65, 4286512, 7384))
    write.folder = tmp_path
    return write


@pytest.fixture
def compare(runs, capsys):
    def run(*names, bindings=(), flags=()):
        listed = ", ".join(f'"{name}"' for name in names) + ("," if names else "")
        bindings = [
            f"default_model_dir.base_dir = {str(runs.folder)!r}",
            f"compare.runs = ({listed})",
            *bindings,
        ]
        arguments = [f"--gin_param={binding}" for binding in bindings]
        status = main(["--command=compare", *arguments, *flags])
        out, err = capsys.readouterr()
        return status, out, err

    return run


def test_table_by_hand(compare, runs):
    status, out, err = compare("hpe/small", "hpe/large")
    assert status == 0, err
    table = """\
| run       | MPJPE (mm) | AUC (%) | parameters | FLOPs per example |   training | epochs |
| --------- | ---------: | ------: | ---------: | ----------------: | ---------: | -----: |
| hpe/small |       99.3 |    51.3 |     43,824 |            87,648 | 1 min 05 s |      5 |
| hpe/large |       73.7 |    51.3 |  4,286,512 |         8,573,024 | 2 h 03 min |      5 |
"""
    files = f"{runs.folder / 'compare.md'}\n{runs.folder / 'compare.png'}\n"
    assert out == table + files
    assert (runs.folder / "compare.md").read_text() == table


def test_picture(runs, monkeypatch, compare):
    figures = []
    monkeypatch.setattr(module, "save", lambda figure, path: figures.append((figure, path)))
    compare("hpe/small", "hpe/large")
    ((figure, path),) = figures
    (axes,) = figure.axes
    assert path == runs.folder / "compare.png"
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "parameters")
    assert axes.get_ylabel() == "MPJPE (mm)"
    points = [(float(*line.get_xdata()), float(*line.get_ydata())) for line in axes.lines]
    assert points == [(43824, 99.34), (4286512, 73.65)]
    assert [text.get_text() for text in axes.texts] == ["hpe/small", "hpe/large"]


def test_the_picture_is_a_png(compare, runs, tmp_path):
    status, _, _ = compare("hpe/small", flags=[f"--output={tmp_path / 'elsewhere'}"])
    assert status == 0
    assert (tmp_path / "elsewhere/compare.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "elsewhere/compare.md").is_file()
    assert not (runs.folder / "compare.md").exists()


def test_metrics_can_be_chosen(compare):
    _, out, _ = compare("hpe/small", bindings=["compare.metrics = ('auc',)"])
    assert out.startswith("| run       | AUC (%) | parameters |")


def test_runs_may_have_other_metrics(compare, runs, monkeypatch):
    """A dash where a run has none; the picture shows those that have it."""
    shapes = {"over_actions": {"iou": 0.6}, "labels": {"iou": "IoU (%)", "flops": "FLOPs"}}
    runs("vox/net", evaluation(0, 500, 1, **shapes))
    figures = []
    monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    status, out, err = compare("hpe/small", "vox/net")
    assert status == 0, err
    first, second = (line for line in out.splitlines() if line.startswith(("| hpe", "| vox")))
    assert [cell.strip() for cell in first.split("|")[2:5]] == ["99.3", "51.3", "-"]
    assert [cell.strip() for cell in second.split("|")[2:5]] == ["-", "-", "0.6"]
    assert len(figures[0].axes[0].lines) == 1
    status, _, err = compare("hpe/small", "vox/net", bindings=["compare.metrics = ('iou',)"])
    assert status == 0, err
    assert figures[1].axes[0].get_ylabel() == "IoU (%)"
    assert [text.get_text() for text in figures[1].axes[0].texts] == ["vox/net"]


def test_the_name_of_a_run_does_not_change_which_runs_are_compared(compare):
    _, out, err = compare("hpe/small", "hpe/large", bindings=["default_model_dir.model_id = 'x'"])
    assert "99.3" in out, err
    assert "73.7" in out


def test_runs_that_were_not_evaluated_alike_are_told_apart(compare, runs):
    other = {"config": "hourglass", "files": [{"name": "h36m.zip", "bytes": 8}], "frames": 3}
    runs("hpe/other", evaluation(1, 2, 3, split="validation", joints="16", data=other))
    _, out, _ = compare("hpe/small", "hpe/large", "hpe/other")
    notes = [line for line in out.splitlines() if line.startswith("Not evaluated alike")]
    assert notes == [
        "Not evaluated alike, compare with care: split, joints, data.config and data.files differ "
        "(hpe/small, hpe/large; hpe/other)."
    ]
    assert all(note in (runs.folder / "compare.md").read_text() for note in notes)


@pytest.mark.parametrize(
    ("names", "bindings", "message"),
    [
        ((), (), "compare.runs: got none, expected names of evaluated runs, such as "),
        (
            ("hpe/smal",),
            (),
            "compare.runs: hpe/smal is not evaluated (no {folder}/hpe/smal/evaluation.json); run "
            "--command=evaluate for it, or choose another; did you mean hpe/small",
        ),
        (
            ("hpe/broken",),
            (),
            "{folder}/hpe/broken/evaluation.json is damaged, or of an earlier version of ige; "
            "run --command=evaluate for hpe/broken again",
        ),
        (
            ("hpe/old",),
            (),
            "{folder}/hpe/old/evaluation.json is damaged, or of an earlier version of ige; "
            "run --command=evaluate for hpe/old again",
        ),
        (
            ("hpe/small",),
            ("compare.metrics = ('mpjp',)",),
            "compare.metrics: got 'mpjp'; did you mean mpjpe?",
        ),
        (("hpe/small",), ("compare.run = 1",), "compare.run"),
        (("small",), (), "did you mean hpe/small"),
        (
            ("hpe/small:ige5",),
            (),
            "compare.runs: hpe/small:ige5 is not evaluated (no {folder}/hpe/small/evaluation-ige5."
            "json); run --command=evaluate for it, or choose another; did you mean hpe/small:ige4",
        ),
        (
            ("hpe/nothing:ige4",),
            (),
            "{folder}/hpe/nothing/evaluation-ige4.json is damaged, or of an earlier version of "
            "ige; run --command=evaluate for hpe/nothing:ige4 again",
        ),
        (
            ("hpe/nothing",),
            (),
            "compare.runs: none of hpe/nothing has an error that is a number; train and evaluate "
            "them again",
        ),
    ],
)
def test_mistakes_are_one_line(compare, runs, names, bindings, message):
    (runs.folder / "hpe/broken").mkdir()
    (runs.folder / "hpe/broken/evaluation.json").write_text("{")
    runs("hpe/old", {"mpjpe": 3.0})
    nothing = {"mpjpe": float("nan"), "auc": None}
    runs("hpe/nothing", evaluation(0, 1, 1, over_actions=nothing))
    if any(":" in name for name in names):
        runs("hpe/small", evaluation(0, 1, 1), "evaluation-ige4")
        runs("hpe/nothing", {}, "evaluation-ige4")
    status, out, err = compare(*names, bindings=bindings)
    assert status == 2
    assert out == ""
    (line,) = err.splitlines()
    assert message.format(folder=runs.folder) in line
    assert not (runs.folder / "compare.md").exists()


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (7384, "2 h 03 min"),
    ],
)
def test_durations(seconds, text):
    assert module._duration(seconds) == text


def test_comparing_needs_no_tensorflow(runs):
    code = (
        "import sys; from ige.__main__ import main; "
        "status = main(sys.argv[1:]); "
        "sys.exit(status or ('tensorflow' in sys.modules) or ('keras' in sys.modules))"
    )
    arguments = [
        "--command=compare",
        f"--gin_param=default_model_dir.base_dir={str(runs.folder)!r}",
        "--gin_param=compare.runs=('hpe/small',)",
    ]
    finished = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
    )
    assert finished.returncode == 0, finished.stderr
    assert re.search("hpe/small", finished.stdout)


def test_data_sets_that_differ_do_so_in_all(compare, runs):
    other = {"dataset": "human_eva", "config": "auto", "files": [], "left_out": {"test": 3}}
    runs("apo/eva", evaluation(1, 2, 3, joints="15", data=other))
    _, out, _ = compare("hpe/small", "apo/eva")
    notes = [line for line in out.splitlines() if line.startswith("Not evaluated alike")]
    assert notes == [
        "Not evaluated alike, compare with care: joints and data.dataset differ (hpe/small; "
        "apo/eva)."
    ]


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        (("apo/prior",), ("apo/prior", "apo/prior:ige4", "apo/prior:mine")),
        (("apo/prior:mine", "hpe/small"), ("apo/prior:mine", "hpe/small")),
        (("apo/prior:mine", "apo/prior"), ("apo/prior:mine", "apo/prior", "apo/prior:ige4")),
        (("apo/other",), ("apo/other:ige4",)),
    ],
)
def test_every_evaluation_of_a_run_is_a_row(compare, runs, chosen, shown):
    for name in ("evaluation-mine", "evaluation", "evaluation-ige4"):
        runs("apo/prior", evaluation(1, 2, 3), name)
    runs("apo/prior", {}, "evaluation_old")
    runs("apo/other", evaluation(1, 2, 3), "evaluation-ige4")
    status, out, err = compare(*chosen)
    assert status == 0, err
    rows = [line.split("|")[1].strip() for line in out.splitlines() if line.startswith("|")][2:]
    assert rows == list(shown)


def test_further_steps_than_in_training_are_told(compare, runs):
    runs("hpe/ige", evaluation(1, 2, 3, evaluated_with={"UnrolledSGD.test_steps": "6", "x": "y"}))
    _, out, _ = compare("hpe/small", "hpe/ige")
    notes = [line for line in out.splitlines() if line.startswith("Not evaluated alike")]
    assert notes == [
        "Not evaluated alike, compare with care: UnrolledSGD.test_steps differs (hpe/small; "
        "hpe/ige)."
    ]
