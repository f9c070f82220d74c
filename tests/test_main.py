import os
import re
import subprocess
import sys

import pytest

from ige import configs, parameters
from ige.__main__ import COMMANDS, main

PACKAGED = configs.list_configs(configs.config_folder())


def run(capsys, *argv):
    """Returns exit status, standard output and standard error of a call of the command line."""
    status = main(argv)
    out, err = capsys.readouterr()
    return status, out, err


@pytest.mark.parametrize("argv", [["--help"], ["--command=list"]])
def test_help_and_list_import_nothing_heavy(argv):
    code = (
        "import sys\nfrom ige.__main__ import main\n"
        f"try: main({argv!r})\nexcept SystemExit: pass\n"
        "loaded = {'tensorflow', 'keras', 'numpy', 'gin', 'h5py'} & set(sys.modules)\n"
        "sys.exit(f'imported {loaded}' if loaded else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout


def test_help_shows_every_command(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--help"])
    assert exit_.value.code == 0
    text = capsys.readouterr().out
    assert all(f"  {name} " in text for name in COMMANDS)


def test_list_has_every_config_with_its_purpose(capsys):
    status, out, _ = run(capsys, "--command=list")
    assert status == 0
    lines = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines())
    assert lines == PACKAGED
    assert {"hpe/b128-1", "hpe/b1024-2", "hpe/martinez"} <= lines.keys()
    assert all(lines.values())


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["--command=trian"],
            "ige: --command: got 'trian'; did you mean train?; commands: "
            "train, evaluate, vis, infer, predict, compare, prepare, list, print_config\n",
        ),
        (
            ["--command=train"],
            "ige: --gin_file: got none, expected a config; `--command=list` shows them\n",
        ),
        (["--gin_file=hpe/b128_1"], "; did you mean hpe/b128-1"),
        (
            ["--gin_file=hpe/b128-1", "--command=evaluate", "--input=a.json"],
            "ige: --input: got 'a.json' with --command=evaluate, which has no use for it; "
            "leave it out (it is for predict)\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--output=a"],
            "ige: --output: got 'a' with --command=train, which has no use for it; leave it out "
            "(it is for vis, predict, compare)\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--epochs=two"],
            "ige: --epochs: got 'two', expected a whole number such as --epochs=5\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=include_procrustis=True"],
            "ige: nothing uses a macro 'include_procrustis'; did you mean include_procrustes?\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=optimizers.SGD.momentum=0.9"],
            "ige: --gin_param: nothing in this config uses 'keras.optimizers.SGD'\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=a/train.batch_size=3"],
            "ige: --gin_param: nothing in this config uses 'a/train'\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=inference_fn=@hpe.get_baseline_inference()"],
            "ige: train.inference_fn: got @hpe.get_baseline_inference(), expected function; bind "
            "it to `@hpe.get_baseline_inference`, without parentheses\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=hpe.HpeProblem.loss=@hpe.PoseLoss()"],
            "ige: hpe.HpeProblem.loss: got @hpe.PoseLoss(), expected class PoseLoss; bind it to "
            "`@hpe.PoseLoss`, without parentheses\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=lr_schedule=@exponential_decay"],
            "ige: train.lr_schedule: got @exponential_decay, expected function | None; bind it to "
            "`@exponential_decay()`, with parentheses\n",
        ),
        (
            [
                "--gin_file=hpe/b128-1",
                "--gin_param=hpe.get_baseline_inference.kernel_regularizer=@regularizers.L2",
            ],
            "ige: hpe.get_baseline_inference.kernel_regularizer: got @regularizers.L2, expected "
            "str | Regularizer | None; bind it to `@regularizers.L2()`, with parentheses\n",
        ),
        (
            ["--gin_file=hpe/b128-1", "--gin_param=hpe.PoseLoss.reduction='avg'"],
            "ige: hpe.PoseLoss.reduction: got 'avg', expected one of 'sum_over_batch_size', 'sum', "
            "'mean', 'mean_with_sample_weight', 'none'\n",
        ),
        (
            [
                "--gin_file=hpe/b128-1",
                "--gin_param=optimizers.Adam.learning_rate=@schedules.ExponentialDecay()",
            ],
            "ige: keras.optimizers.Adam.learning_rate: got @schedules.ExponentialDecay(), but "
            "nothing gives keras.optimizers.schedules.ExponentialDecay.initial_learning_rate; bind "
            "it, or drop the parentheses\n",
        ),
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys, argv, message):
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("ige: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("command", "known", "said"),
    [
        ("train", (), "the same command goes on from what is saved"),
        ("predict", (), "the same command begins anew"),
        ("list", (), "the same command begins anew"),
        ("infer", ("1 of 2 is saved",), "1 of 2 is saved"),
    ],
)
def test_interruption_is_one_line_and_status_130(capsys, monkeypatch, command, known, said):
    def interrupt(*_):
        raise KeyboardInterrupt(*known)

    monkeypatch.setattr(configs, "config_folder", interrupt)
    expected = f"ige: interrupted; {said}\n"
    flags = () if command == "list" else ("--gin_file=hpe/b128-1",)
    assert run(capsys, f"--command={command}", *flags) == (130, "", expected)


def test_epochs_flag_wins_over_the_binding(capsys):
    flags = ["--gin_file=hpe/b128-1", "--command=print_config", "--epochs=7"]
    status, out, _ = run(capsys, *flags, "--gin_param=epochs=3")
    assert status == 0
    assert "train.epochs = 7" in out.splitlines()


def test_folder_that_is_a_file_is_one_line_and_status_2(capsys, tmp_path, tiny):
    path = tmp_path / "file"
    path.touch()
    bindings = [*tiny, f"h3m_lift.data_dir = '{path}'"]
    flags = ["--gin_file=hpe/b128-1", "--command=prepare"]
    status, _, err = run(capsys, *flags, *(f"--gin_param={binding}" for binding in bindings))
    assert status == 2
    assert re.fullmatch(
        rf"ige: {path}/\S+: cannot be locked: Not a directory; choose a folder that can be written "
        r"to, on a file system that has locks\n",
        err,
    )


def test_file_that_fails_in_tensorflow_is_one_line_and_status_2(capsys, monkeypatch):
    import tensorflow as tf

    def fail(*_):
        message = "{{function_node __wrapped__X_device_/job:local}} /run/events.v2; Read-only disk"
        raise tf.errors.PermissionDeniedError(None, None, f"{message}\n\tmore")

    monkeypatch.setattr(configs, "list_configs", fail)
    expected = "ige: /run/events.v2; Read-only disk\n"
    assert run(capsys, "--command=list") == (2, "", expected)


def test_failing_file_without_words_is_called_by_its_name(capsys, monkeypatch):
    def fail(*_):
        raise PermissionError

    monkeypatch.setattr(configs, "list_configs", fail)
    assert run(capsys, "--command=list") == (2, "", "ige: PermissionError\n")


def test_nobody_reads_on():
    """As in `python -m ige --command=list | head -1`: quiet, with the status of SIGPIPE."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "ige", "--command=list"]
    # Python's usual buffer, which it writes out at its end.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=env)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_unknown_flag(capsys):
    with pytest.raises(SystemExit) as exit_:
        main(["--gin_fil=hpe/b128-1"])
    assert exit_.value.code == 2
    assert "unrecognized arguments: --gin_fil=hpe/b128-1" in capsys.readouterr().err


@pytest.mark.parametrize("name", PACKAGED)
def test_print_config_is_complete_and_parses_back(capsys, tmp_path, name):
    import gin

    status, out, _ = run(capsys, f"--gin_file={name}", "--command=print_config")
    assert status == 0
    keys = {line.partition(" = ")[0] for line in out.splitlines() if " = " in line}
    assert {"train.epochs", "train.jit_compile", "evaluate.split"} <= keys
    prior = name.startswith("apo/") and not re.search("-(guess|ige)", name)
    network = (
        "hpe.get_generator_inference.widths" if prior else "hpe.get_baseline_inference.residual"
    )
    dataset = "hpe.human_eva.data" if "eva" in name else "hpe.h3m_lift.data"
    if name.startswith("vox/"):
        network, dataset = "vox.get_baseline_inference.width", "vox.shapenet_core.data"
    assert {network, dataset, "default_model_dir.base_dir"} <= keys
    before = {key: str(parameter) for key, parameter in parameters.resolved().items()}
    path = tmp_path / "whole.gin"
    path.write_text(out)
    gin.clear_config()
    configs.parse([str(path)])
    assert {key: str(parameter) for key, parameter in parameters.resolved().items()} == before
