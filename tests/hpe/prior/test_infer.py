"""Fitting of made-up recordings with a generator that is known by hand."""

import itertools
import os
import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import walkers

from ige import transfer
from ige.__main__ import main
from ige.errors import UserError
from ige.files import lock
from ige.hpe.losses import PoseLoss
from ige.hpe.prior import infer as inference
from ige.hpe.prior import results, starts
from ige.hpe.prior.fitting import Fitter
from ige.hpe.prior.guess import GuessProblem

VIEWS = 4
# Of 5, 5, 3 and 3 frames: three batches.
FRAMES = 7


@pytest.fixture(scope="module")
def model():
    return walkers.model()


@pytest.fixture(scope="module")
def problem():
    return walkers.problem()


@pytest.fixture(scope="module")
def fitter(model, problem):
    """Compiled once, for all."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(starts, "_ROWS", 16)  # no more frames than there are
        made = walkers.fitter(model, np.eye(17), problem.start_size)
        yield lambda *_: made


@pytest.fixture
def fit(model, problem, fitter, tmp_path):
    """Calls `infer` in a temporary folder; returns what was fitted."""

    def fit(folder=tmp_path, **options):
        options = {"fitter": fitter, "batch_frames": FRAMES} | options
        walkers.fit(model, folder, problem, **options)
        return results.read(folder / "results.h5")

    return fit


def assert_same(fits, expected, tolerance=None):
    """Asserts that fits are those, but for how long they took; to the bit unless told."""
    assert fits.keys() == expected.keys()
    for key, fit in fits.items():
        other = expected[key]
        for name in ("poses", "latents", "heading", "position", "size"):
            got, want = getattr(fit, name), getattr(other, name)
            np.testing.assert_allclose(got, want, atol=tolerance or 0, rtol=0, err_msg=key)
        if tolerance is None:
            got, want = (f.attributes | {"seconds": 0} for f in (fit, other))
            assert got == want


@pytest.fixture(scope="module")
def undisturbed(model, problem, fitter, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    walkers.fit(model, folder, problem, fitter=fitter, batch_frames=FRAMES)
    return results.read(folder / "results.h5")


def test_motions_are_found(undisturbed, problem):
    """Nothing is hidden, and the generator can show it: the fit is the truth."""
    settings, fits = undisturbed
    views = problem.views("test")
    assert fits.keys() == {view.key for view in views}
    assert settings["epoch"] == "1"
    assert settings["data.dataset"] == "walkers"
    for view in views:
        fit = fits[view.key]
        assert fit.poses.shape == view.poses.shape
        errors = np.linalg.norm(fit.poses - 1000 * view.poses, axis=-1)
        assert errors.mean() < 20
        assert fit.size == pytest.approx(1650, rel=0.1)
        attributes = fit.attributes
        assert attributes["energy"] < 1e-3
        assert (attributes["subject"], attributes["name"]) == (view.subject, view.name)
        assert attributes["seconds"] > 0
        weighted = attributes["energy_consistency"] + 1e-4 * attributes["energy_prior"]
        assert attributes["energy"] == pytest.approx(weighted, rel=1e-3)


def test_what_is_fitted_is_not_fitted_again(fit, undisturbed, tmp_path, monkeypatch, capsys):
    fit()
    before = (tmp_path / "results.h5").read_bytes()
    monkeypatch.setattr(Fitter, "fit", lambda *_: pytest.fail("fitted again"))
    settings, fits = fit()
    assert (tmp_path / "results.h5").read_bytes() == before
    assert_same(fits, undisturbed[1])
    assert settings == undisturbed[0]
    said = f"{VIEWS} of {VIEWS} sequences were fitted before\n{tmp_path / 'results.h5'}\n"
    assert capsys.readouterr().out.endswith(said)


def len_of(key):
    """Returns the frames of a view."""
    return 5 if "Eating" in key else 3


class StoppedError(Exception):
    """Stands for what ends a process."""


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_fit_that_was_stopped_goes_on(fit, undisturbed, tmp_path, monkeypatch, capsys, finished):
    """What is left is batched anew: it ends with the same, as far as float32 goes."""
    minimise, calls = Fitter.fit, []

    def stop(fitter, views, *rest):
        calls.append([view.key for view in views])
        if len(calls) > finished:
            raise StoppedError
        return minimise(fitter, views, *rest)

    monkeypatch.setattr(Fitter, "fit", stop)
    with pytest.raises(StoppedError):
        fit()
    monkeypatch.setattr(Fitter, "fit", minimise)
    done = {key for call in calls[:-1] for key in call}
    message = f"{tmp_path / 'results.h5'} {'was not finished' if done else 'has not been made'}"
    with pytest.raises(UserError, match=f"^{re.escape(message)}; run the same with"):
        results.read(tmp_path / "results.h5")
    capsys.readouterr()
    settings, fits = fit()
    out = capsys.readouterr().out
    left = VIEWS - len(done)
    frames, energy = (16 - sum(map(len_of, done))), r"energy [\d.e-]+"
    fitted = rf"{left} sequences, {frames} frames, [\d,]+ frames/s, {energy}\n"
    if done:
        before = f"{len(done)} of {VIEWS} sequences were fitted before\n"
        fitted = rf"{before}{fitted}in all {VIEWS} sequences, 16 frames, {energy}\n"
    assert re.fullmatch(rf"{fitted}{re.escape(str(tmp_path / 'results.h5'))}\n", out)
    assert settings == undisturbed[0]
    assert [path.name for path in tmp_path.iterdir()] == ["results.h5"]
    assert_same(fits, undisturbed[1], 0.05 if done else None)


def test_a_fit_that_is_killed_goes_on(fit, undisturbed, tmp_path):
    """In a process of its own, with two iterations, right after its first batch is on disk."""
    command = [sys.executable, "-c", "import walkers; walkers.killed()", str(tmp_path)]
    folder = pathlib.Path(walkers.__file__).parent
    paths = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{folder.parent}"}
    process = subprocess.run(command, env=paths, capture_output=True, text=True, check=False)
    assert process.returncode == -9, process.stderr
    assert len(list((tmp_path / "results.h5.parts").glob("part-*.h5"))) == 1
    first = results.Parts(tmp_path / "results.h5").keys()
    settings, fits = fit()
    assert settings == undisturbed[0]
    assert {key for key, fit in fits.items() if fit.attributes["iterations"] <= 2} == first
    for key in fits.keys() - first:
        assert_same({key: fits[key]}, {key: undisturbed[1][key]}, 5.0)


@pytest.mark.parametrize("change", ["epoch", "parameter", "data", "weights"])
def test_results_of_other_settings_are_kept(fit, tmp_path, change, monkeypatch):
    weights = fit()[0]["weights"]
    before = (tmp_path / "results.h5").read_bytes()
    if change == "parameter":
        bound = {"hpe.FittingEnergy.glide": 0.5, "hpe.infer.batch_frames": 3}
        monkeypatch.setattr(inference.parameters, "resolved", lambda commands: bound)
    if change == "data":
        monkeypatch.setattr(walkers.Dataset, "provenance", {"dataset": "runners"})
    if change == "weights":
        monkeypatch.setattr(transfer, "digest", lambda network: "others")
    difference = {
        "epoch": "epoch: 1 -> 2",
        "parameter": "hpe.FittingEnergy.glide: (none) -> 0.5",
        "data": "data.dataset: walkers -> runners",
        "weights": f"weights: {weights} -> others",
    }[change]
    message = (
        f"{tmp_path / 'results.h5'} was made with other settings ({difference}); restore these, "
        "choose another hpe.PosePriorProblem.results, or start over with "
        '--gin_param="infer.overwrite=True"\n'
    )
    epoch = 2 if change == "epoch" else 1
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        fit(epoch=epoch)
    assert (tmp_path / "results.h5").read_bytes() == before
    settings, fits = fit(epoch=epoch, overwrite=True)
    assert len(fits) == VIEWS
    assert settings["epoch"] == str(epoch)
    assert "hpe.infer.batch_frames" not in settings


@pytest.fixture
def _ctrl_c():
    """What runs in the background of a shell ignores Ctrl-C, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_ctrl_c")
@pytest.mark.parametrize(
    ("number", "overwrite", "again"),
    [
        (signal.SIGINT, False, "the same command"),
        (signal.SIGTERM, False, "the same command"),
        (signal.SIGTERM, True, "the same command, without infer.overwrite,"),
    ],
)
def test_a_signal_stops_and_says_what_is_saved(
    fit, undisturbed, tmp_path, monkeypatch, number, overwrite, again
):
    minimise, calls = Fitter.fit, []

    def stop(fitter, views, *rest):
        calls.append(views)
        if len(calls) == 2:
            os.kill(os.getpid(), number)
        return minimise(fitter, views, *rest)

    monkeypatch.setattr(Fitter, "fit", stop)
    handlers = [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]
    message = f"^1 of {VIEWS} sequences are saved; {again} goes on from there$"
    with pytest.raises(KeyboardInterrupt, match=message):
        fit(overwrite=overwrite)
    assert [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert len(results.Parts(tmp_path / "results.h5").keys()) == 1
    assert fit()[1].keys() == undisturbed[1].keys()


def test_lines_tell_how_far_it_is_where_no_terminal_is(fit, monkeypatch, capsys):
    """As if nine seconds passed between two looks at the clock: every second one is told."""
    clock = itertools.count(0, 9)
    monkeypatch.setattr(inference.time, "perf_counter", lambda: next(clock))
    fit()
    *lines, summary, _ = capsys.readouterr().out.splitlines()
    assert summary.startswith(f"{VIEWS} sequences, 16 frames, ")
    pattern = rf"\d of {VIEWS} sequences, (\d+ frames/s, )?energy [\d.e-]+"
    assert lines
    assert all(re.fullmatch(pattern, line) for line in lines)
    counts = [int(line[0]) for line in lines]
    assert counts == sorted(counts)


def test_what_makes_no_prior_is_refused_before_it_is_loaded(problem, tmp_path):
    reader = GuessProblem(problem, PoseLoss)
    message = (
        "infer: the problem of this config is a GuessProblem, which makes no prior, expected one "
        "such as that of apo/h3m-big; to start fits where this network says, use "
        "--gin_file=apo/h3m-big --gin_param=\"hpe.Fitter.guess_model_id='h3m-big-guess'\"\n"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}"):
        inference.infer(pytest.fail, tmp_path / "h3m-big-guess", reader, walkers.fitter)


@pytest.mark.parametrize("name", ["apo/h3m-big-guess", "apo/h3m-big-ige4"])
def test_the_configs_of_readers_say_at_once_that_they_make_no_prior(capsys, name):
    assert main([f"--gin_file={name}", "--command=infer"]) == 2
    message = "ige: infer: the problem of this config is a GuessProblem, which makes no prior, "
    assert capsys.readouterr().err.startswith(message)


def test_two_do_not_fit_at_once(fit, tmp_path):
    message = (
        rf"^{re.escape(str(tmp_path / 'results.h5'))} is being made by [^;]+; wait for it, or "
        r"choose another hpe.PosePriorProblem.results\n"
    )
    with (
        lock(tmp_path / ".results.h5.lock", pytest.fail),
        pytest.raises(UserError, match=message),
    ):
        fit()


def test_a_batch_has_a_frame_at_least(fit):
    with pytest.raises(UserError, match=r"^infer.batch_frames: got 0, expected at least 1\n"):
        fit(batch_frames=0)
