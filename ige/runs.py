"""The folder of a run: where it is, what it was made with, and whether that still holds."""

import json
import pathlib
from typing import TYPE_CHECKING, Any

import gin

from ige import __version__, parameters
from ige.errors import UserError
from ige.files import write_text

if TYPE_CHECKING:  # it would bring TensorFlow, which a comparison of runs can do without
    from ige.problem import Problem

# What may differ between the start of a run and its continuation.
FREE = frozenset(
    {
        "train.epochs",
        "train.checkpoint_every",
        "train.checkpoints_to_keep",
        "train.log_every",
        "train.overwrite",
    }
)
_FILE = "config.json"
# What of the provenance tells data apart; the rest follows from it and from the parameters.
_DATA = ("dataset", "version", "layout", "files")
_TRAINING_ONLY = ("train.", "keras.", "exponential_decay.")
# How far a trained network descends; where its weights came from, and which of them were trained.
_FREE_IN_EVALUATION = (".test_steps", ".init_model_id", ".freeze_base")
_ABSENT = "(none)"


@gin.configurable(module="ige", denylist=["config_name"])
def default_model_dir(
    config_name: str,
    base_dir: str = "~/ige_models",
    subdir: str | None = None,
    model_id: str | None = None,
) -> pathlib.Path:
    """Returns the folder of a run: `<base_dir>/<subdir>/<model_id>`.

    Args:
        config_name: name of the experiment, such as `hpe/b128-1`.
        base_dir: folder of all runs; `~` is the home folder.
        subdir: folder below it; default: the config name's own folder, `hpe`.
        model_id: name of the run; default: the last part of the config name, `b128-1`.
    """
    name = pathlib.PurePosixPath(config_name)
    below = str(name.parent) if subdir is None else subdir
    if model_id == "":
        raise UserError("default_model_dir.model_id: got an empty name, expected a name or None")
    return pathlib.Path(base_dir).expanduser() / below / (model_id or name.name)


def with_variant(name: str, variant: str) -> str:
    """Returns the name of an output of a `Problem.variant`: `vis`, or `vis-<variant>`."""
    return f"{name}-{variant}" if variant else name


def evaluation_file(model_dir: pathlib.Path, variant: str) -> pathlib.Path:
    """Returns the file that `evaluate` writes of a variant of a run."""
    return model_dir / f"{with_variant('evaluation', variant)}.json"


def evaluated_variants(model_dir: pathlib.Path) -> list[str]:
    """Returns the variants of a run that have been evaluated, the usual one, '', first."""
    usual = [""] if evaluation_file(model_dir, "").exists() else []
    others = (path.stem for path in model_dir.glob("evaluation-*.json"))
    return usual + sorted(stem.removeprefix("evaluation-") for stem in others)


def output_folder(given: str | None, default: pathlib.Path) -> pathlib.Path:
    """Returns the folder of --output, made if there is none.

    Raises:
        UserError: it is a file.
    """
    folder = pathlib.Path(given).expanduser() if given else default
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError) as error:
        raise UserError(f"--output: {folder} is a file or in one, expected a folder") from error
    except OSError as error:
        raise UserError(
            f"--output: {folder} cannot be made: {error.strerror}; choose another folder"
        ) from error
    return folder


def _is_training_only(parameter: str) -> bool:
    """Whether a parameter says how to train, not what."""
    network = ("train.inference_fn", "train.model_fn", "train.problem")
    return parameter not in network and parameter.startswith(_TRAINING_ONLY)


def read_record(model_dir: pathlib.Path) -> dict[str, Any]:
    """Returns what a run was made with: `config`, `ige` (version), and `parameters`, with the
    data's.

    Raises:
        UserError: the record is missing or damaged.
    """
    path = model_dir / _FILE
    try:
        record = json.loads(path.read_bytes())
        if not isinstance(record["config"], str):
            raise TypeError
        return record | {"parameters": dict(record["parameters"])}
    except FileNotFoundError as error:
        raise UserError(
            f"{model_dir} has checkpoints but no {_FILE}; remove the folder, or choose another "
            "default_model_dir.model_id"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is damaged; put a copy back, or start over with "
            '--gin_param="train.overwrite=True"'
        ) from error


class RunRecord:
    """The complete configuration, and the data, that a model folder was trained with.

    Args:
        model_dir: folder of the run.
        problem: what is trained; says which parameters training does not depend on.
        config_name: name of the experiment.
    """

    def __init__(self, model_dir: pathlib.Path, problem: "Problem", config_name: str):
        self._path = model_dir / _FILE
        self._config_name = config_name
        self._problem = problem

    def _current(self, with_data: bool = True) -> dict[str, str]:
        bound = {
            key: str(parameter)
            for key, parameter in parameters.resolved(("train",)).items()
            if key not in FREE | self._problem.free_parameters
        }
        provenance = self._problem.provenance if with_data else {}
        data = {f"data.{key}": str(provenance[key]) for key in _DATA if key in provenance}
        return bound | data

    def write(self) -> None:
        """Records the current configuration; called before the first step."""
        record = {"config": self._config_name, "ige": __version__, "parameters": self._current()}
        write_text(self._path, json.dumps(record, indent=2) + "\n")

    def read(self) -> dict[str, Any]:
        """Returns what `read_record` does."""
        return read_record(self._path.parent)

    def check(
        self, for_evaluation: bool = False, with_data: bool = True
    ) -> dict[str, tuple[str, str]]:
        """Refuses to go on under another configuration.

        Args:
            for_evaluation: the data may differ, and how the network was trained does not matter.
            with_data: compare the data too; if not, they need not be there.

        Returns:
            parameter -> (old, new) for what differs and may.

        Raises:
            UserError: lists what differs and may not, old and new.
        """
        folder = self._path.parent
        replaceable = self._problem.data_selectors | {"data"} if for_evaluation else frozenset()
        new = self._current(with_data)
        # Of another problem than that which was trained, other parameters may be free.
        old = {
            key: value
            for key, value in self.read()["parameters"].items()
            if key not in self._problem.free_parameters
            and (with_data or not key.startswith("data."))
        }
        different = {
            key: (old.get(key, _ABSENT), new.get(key, _ABSENT))
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key) and not (for_evaluation and _is_training_only(key))
        }
        refused = [
            key
            for key in different
            if not {key, key.rpartition(".")[0]} & replaceable
            and not (for_evaluation and key.endswith(_FREE_IN_EVALUATION))
        ]
        if refused:
            changes = "; ".join(
                f"{key}: {different[key][0]} -> {different[key][1]}" for key in refused
            )
            raise UserError(
                f"{folder} was trained with another config ({changes}); restore these values, "
                "choose another default_model_dir.model_id, or start over with "
                '--gin_param="train.overwrite=True"'
            )
        return different
