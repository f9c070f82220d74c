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
            "train, evaluate, prepare, list, print_config\n",
        ),
        (
            ["--command=train"],
            "ige: --gin_file: got none, expected a config; `--command=list` shows them\n",
        ),
        (["--gin_file=hpe/b128_1"], "; did you mean hpe/b128-1"),
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
    ],
)
def test_mistakes_are_one_line_and_status_2(capsys, argv, message):
    status, out, err = run(capsys, *argv)
    assert (status, out) == (2, "")
    assert message in err
    assert err.startswith("ige: ")
    assert err.count("\n") == 1


def test_interruption_is_one_line_and_status_130(capsys, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(configs, "list_configs", interrupt)
    expected = "ige: interrupted; the same command goes on from what is saved\n"
    assert run(capsys, "--command=list") == (130, "", expected)


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
    assert {
        "hpe.get_baseline_inference.residual",
        "default_model_dir.base_dir",
        "hpe.h3m_lift.data",
    } <= keys
    before = {key: str(parameter) for key, parameter in parameters.resolved().items()}
    path = tmp_path / "whole.gin"
    path.write_text(out)
    gin.clear_config()
    configs.parse([str(path)])
    assert {key: str(parameter) for key, parameter in parameters.resolved().items()} == before
