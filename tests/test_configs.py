import pathlib
import re
from typing import Any, Literal

import gin
import pytest

from ige import configs, parameters
from ige.errors import UserError


@gin.configurable(module="toy")
class Body:
    def __init__(self, height: float = 1.7, limbs: tuple[int, ...] = (2, 2)):
        self.height = height


@gin.configurable(module="toy")
def trainer(
    body: Body = gin.REQUIRED,
    rounds: int = 3,
    mode: Literal["slow", "fast"] = "slow",
    note: str | None = None,
    strict: bool = False,
    helper: Any = None,
):
    return body, rounds


@pytest.fixture
def folder(tmp_path, monkeypatch) -> pathlib.Path:
    """A folder of configs for the toy configurables above."""
    (tmp_path / "toy").mkdir()
    (tmp_path / "_base.gin").write_text(
        "# Shared\ntrainer.rounds = %rounds\nrounds = 5\ntrainer.body = @toy.Body()\n"
    )
    (tmp_path / "toy/tall.gin").write_text(
        "# A tall body\ninclude '_base.gin'\ntoy.Body.height = 2.0\n"
    )
    (tmp_path / "toy/small.gin").write_text("# A small body\ninclude '_base.gin'\n")
    for function in (parameters.reached, parameters.resolved):
        monkeypatch.setattr(function, "__defaults__", (("toy.trainer",),))
    return tmp_path


def parse(folder, *bindings, gin_files=("toy/tall",)):
    return configs.parse(gin_files, bindings, str(folder))


@pytest.mark.parametrize("name", ["toy/tall", "toy/tall.gin"])
def test_finds_config_with_or_without_suffix(folder, name):
    assert parse(folder, gin_files=[name]) == "toy/tall"
    assert trainer()[0].height == 2.0


def test_absolute_path_outside_the_folder_is_named_by_its_stem(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("other") / "mine.gin"
    path.write_text("include 'toy/tall.gin'\nrounds = 9\n")
    assert parse(folder, gin_files=[str(path)]) == "mine"
    assert trainer()[1] == 9


def test_absolute_path_inside_the_folder_keeps_its_name(folder):
    assert parse(folder, gin_files=[str(folder / "toy/tall.gin")]) == "toy/tall"


def test_several_files_are_one_experiment_with_a_joined_name(folder):
    assert parse(folder, gin_files=["toy/small", "toy/tall"]) == "toy/small+tall"
    assert trainer()[0].height == 2.0


def test_folder_from_environment_and_flag(folder, tmp_path_factory, monkeypatch):
    monkeypatch.setenv("IGE_CONFIG_DIR", str(folder))
    assert configs.config_folder() == folder.resolve()
    other = tmp_path_factory.mktemp("flag")
    assert configs.config_folder(str(other)) == other.resolve()
    monkeypatch.setenv("IGE_CONFIG_DIR", "/nowhere")
    with pytest.raises(UserError, match=r"^IGE_CONFIG_DIR: no folder /nowhere; give a folder"):
        configs.config_folder()


@pytest.mark.parametrize("binding", ["@trainer.rounds = 7", "trainer.rounds=7", "rounds = 7"])
def test_bindings_with_and_without_at_sign(folder, binding):
    parse(folder, binding)
    assert trainer()[1] == 7


def test_later_bindings_win(folder):
    parse(folder, "rounds = 7", "rounds = 8")
    assert trainer()[1] == 8


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("ronds = 7", "nothing uses a macro 'ronds'; did you mean rounds?"),
        (
            "trainer.ronds = 7",
            "--gin_param='trainer.ronds = 7': Configurable 'trainer' doesn't have a parameter "
            "named 'ronds'; did you mean rounds?",
        ),
        (
            "trainr.rounds = 7",
            "--gin_param='trainr.rounds = 7': No configurable matching 'trainr'; "
            "did you mean trainer",
        ),
        (
            "trainer.body = @toy.Bdy()",
            "--gin_param='trainer.body = @toy.Bdy()': No configurable matching reference "
            "'@toy.Bdy()'; did you mean Body",
        ),
        (
            "trainer.note = unquoted",
            "--gin_param='trainer.note = unquoted': cannot be parsed; expected `name = value` with "
            "a Python literal, @configurable or %macro (strings need quotes)",
        ),
        ("trainer.note = [1", "--gin_param='trainer.note = [1': cannot be parsed; expected"),
        ("trainer.rounds = 'x'", "toy.trainer.rounds: got 'x', expected int"),
        ("rounds = 'x'", "toy.trainer.rounds: got 'x', expected int"),
        ("rounds = True", "toy.trainer.rounds: got True, expected int"),
        ("rounds = 2.5", "toy.trainer.rounds: got 2.5, expected int"),
        ("trainer.strict = 1", "toy.trainer.strict: got 1, expected bool"),
        (
            "trainer.mode = 'fats'",
            "toy.trainer.mode: got 'fats', expected one of 'slow', 'fast'",
        ),
        ("  ", "--gin_param: got an empty binding, expected `name = value`"),
        (
            "trainer.body = @optimizers.Adam(lr=1)",
            "cannot be parsed",
        ),
        ("toy.Body.limbs = (1, 'a')", "toy.Body.limbs: got (1, 'a'), expected tuple[int, ...]"),
        ("rounds = %nothing", "the macro %nothing has no value; "),
        ("include 'toy/tal.gin'", "no include 'toy/tal.gin' in "),
        ("import nosuchmodule", "cannot import: No module named 'nosuchmodule'"),
    ],
)
def test_mistakes_in_a_binding_are_one_line(folder, binding, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse(folder, binding)
    assert "\n" not in str(caught.value)


def test_float_parameters_take_integers(folder):
    parse(folder, "toy.Body.height = 2")
    assert trainer()[0].height == 2


def test_unused_macro_in_a_file_is_refused(folder):
    (folder / "toy/odd.gin").write_text("include '_base.gin'\nruonds = 4\n")
    message = "nothing uses a macro 'ruonds'; did you mean rounds?"
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, gin_files=["toy/odd"])


def test_binding_to_something_the_config_does_not_use_is_refused(folder):
    message = "--gin_param: nothing in this config uses 'toy.Unused'"
    gin.external_configurable(
        type("Unused", (), {"__init__": lambda self, x=1: None}), "Unused", "toy"
    )
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, "toy.Unused.x = 3")


def test_unknown_config_names_the_nearest(folder):
    message = f"--gin_file: no config 'toy/tal' in {folder}; did you mean toy/tall"
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, gin_files=["toy/tal"])


def test_missing_gin_file(folder):
    message = "--gin_file: got none, expected a config; `--command=list` shows them"
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, gin_files=[])


def test_required_value_that_is_missing(folder):
    (folder / "toy/empty.gin").write_text("trainer.rounds = 1\n")
    message = "toy.trainer.body: got no value; bind it in the gin file"
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, gin_files=["toy/empty"])


def test_resolved_has_bound_values_defaults_and_what_they_refer_to(folder):
    parse(folder)
    found = {key: (item.value, item.bound) for key, item in parameters.resolved().items()}
    assert found["toy.trainer.rounds"] == (5, True)
    assert found["toy.trainer.mode"] == ("slow", False)
    assert found["toy.Body.height"] == (2.0, True)
    assert found["toy.Body.limbs"] == ((2, 2), False)


def test_text_of_a_config_parses_back_to_itself(folder):
    parse(folder, "trainer.note = 'a # b'")
    before = parameters.resolved()
    text = parameters.to_text(before)
    gin.clear_config()
    gin.parse_config(text)
    after = parameters.resolved()
    assert {k: str(v) for k, v in after.items()} == {k: str(v) for k, v in before.items()}
    assert "toy.trainer.mode = 'slow'  # default" in text.splitlines()


def test_listing_has_purposes_and_leaves_parts_out(folder):
    assert configs.list_configs(folder) == {"toy/small": "A small body", "toy/tall": "A tall body"}


def test_includes_come_from_the_config_folder_whatever_is_in_the_working_directory(
    folder, tmp_path_factory, monkeypatch, caplog
):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "_base.gin").write_text("nonsense")
    (elsewhere / "toy").mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.syspath_prepend(str(elsewhere))
    parse(folder)
    assert trainer()[1] == 5
    assert caplog.records == []


@pytest.mark.parametrize("name", ["mine", "mine.gin", "./mine.gin"])
def test_path_relative_to_the_working_directory(folder, tmp_path_factory, monkeypatch, name):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "mine.gin").write_text("include 'toy/tall.gin'\nrounds = 9\n")
    monkeypatch.chdir(elsewhere)
    assert parse(folder, gin_files=[name]) == "mine"
    assert trainer()[1] == 9


def test_own_folder_of_configs_may_include_packaged_ones(tmp_path):
    (tmp_path / "mine.gin").write_text("include 'hpe/b128-1.gin'\n")
    assert configs.parse(["mine"], (), str(tmp_path)) == "mine"


def test_parts_are_not_experiments(folder):
    message = "--gin_file: '_base' is a part that configs include, not an experiment; "
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, gin_files=["_base"])


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("optimizers.Adam.lr = 3", "keras.optimizers.Adam: no parameter 'lr'; "),
        ("optimizers.Adam.learning_rate = 'fast'", "keras.optimizers.Adam: Keras refuses it: "),
    ],
)
def test_what_keras_would_refuse(folder, binding, message):
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, "import ige.gin_keras", "trainer.helper = @optimizers.Adam()", binding)


def test_macro_that_a_file_has_replaced_cannot_be_set_in_vain(folder):
    (folder / "toy/fixed.gin").write_text("include '_base.gin'\ntrainer.rounds = 3\n")
    parse(folder, gin_files=["toy/fixed"])
    message = "--gin_param: setting 'rounds' has no effect: another binding replaces it"
    with pytest.raises(UserError, match=re.escape(message)):
        parse(folder, "rounds = 9", gin_files=["toy/fixed"])


def test_macro_defined_by_itself(folder):
    (folder / "toy/loop.gin").write_text("include '_base.gin'\nrounds = %other\nother = %rounds\n")
    with pytest.raises(
        UserError, match=r"^the macro %rounds is defined by itself; give it a value$"
    ):
        parse(folder, gin_files=["toy/loop"])


def test_macros_inside_containers_are_resolved(folder):
    parse(folder, "toy.Body.limbs = (1, %rounds)")
    assert parameters.resolved()["toy.Body.limbs"].value == (1, 5)
