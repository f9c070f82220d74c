import pathlib
import re
import typing
from collections.abc import Callable
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
class Giant(Body):
    def __init__(self, height: float = 3.0):
        self.height = height


@gin.configurable(module="toy")
class Tree:
    pass


@gin.configurable(module="toy")
def grown(height: float = 2.0) -> Body | None:
    return Body(height)


@gin.configurable(module="toy")
def ramp(slope: float = 1.0) -> Callable[[int], float]:
    return lambda step: slope * step


@gin.configurable(module="toy")
def stairs() -> Callable[[int], int]:
    return int


@gin.configurable(module="toy", denylist=["step"])
def constant(step, value: float = 1.0) -> float:
    return value


@gin.configurable(module="toy")
def anything(step):
    return step


gin.constant("toy.ROUNDS", 4)
gin.constant("toy.TEXT", "four")
gin.constant("toy.SELF", gin)


@gin.configurable(module="toy")
def trainer(
    body: Body = gin.REQUIRED,
    rounds: int = 3,
    mode: Literal["slow", "fast"] = "slow",
    brake: Literal["soft", "hard"] | None = None,
    note: str | None = None,
    strict: bool = False,
    helper: Any = None,
    kind: type[Body] | None = None,
    schedule: Callable[[int], float] | None = None,
    hook: typing.Callable | None = None,
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
    for function in (parameters.reached, parameters.resolved, parameters.try_keras_objects):
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
            "toy.trainer.mode: got 'fats', expected one of 'slow', 'fast'; did you mean fast?",
        ),
        (
            "trainer.brake = 'sift'",
            "toy.trainer.brake: got 'sift', expected one of 'soft', 'hard', None; did you mean",
        ),
        ("  ", "--gin_param: got an empty binding, expected `name = value`"),
        (
            "trainer.body = @optimizers.Adam(lr=1)",
            "cannot be parsed",
        ),
        ("toy.Body.limbs = (1, 'a')", "toy.Body.limbs: got (1, 'a'), expected tuple[int, ...]"),
        ("rounds = %nothing", "the macro %nothing has no value; "),
        ("include 'toy/tal.gin'", "no include 'toy/tal.gin' in "),
        (
            "trainer.body = @toy.Body",
            "toy.trainer.body: got @toy.Body, expected an object of Body; bind it to "
            "`@toy.Body()`, with parentheses",
        ),
        (
            "trainer.kind = @toy.Body()",
            "toy.trainer.kind: got @toy.Body(), expected class Body | None; bind it to "
            "`@toy.Body`, without parentheses",
        ),
        (
            "trainer.kind = @toy.trainer",
            "toy.trainer.kind: got @toy.trainer, expected class Body | None",
        ),
        (
            "trainer.kind = @toy.Tree",
            "toy.trainer.kind: got @toy.Tree, expected class Body | None",
        ),
        (
            "trainer.schedule = @toy.ramp",
            "toy.trainer.schedule: got @toy.ramp, expected function | None; bind it to "
            "`@toy.ramp()`, with parentheses",
        ),
        (
            "trainer.schedule = @toy.constant()",
            "toy.trainer.schedule: got @toy.constant(), expected function | None; bind it to "
            "`@toy.constant`, without parentheses",
        ),
        (
            "trainer.schedule = @toy.Body()",
            "toy.trainer.schedule: got @toy.Body(), expected function | None",
        ),
        (
            "trainer.schedule = @toy.anything()",
            "toy.trainer.schedule: got @toy.anything(), but nothing gives toy.anything.step; bind "
            "it, or drop the parentheses",
        ),
        ("rounds = %toy.TEXT", "toy.trainer.rounds: got 'four', expected int"),
        ("import nosuchmodule", "cannot import: No module named 'nosuchmodule'"),
    ],
)
def test_mistakes_in_a_binding_are_one_line(folder, binding, message):
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        parse(folder, binding)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "binding",
    [
        "trainer.body = @toy.Giant()",
        "trainer.body = @toy.grown()",
        "trainer.kind = @toy.Giant",
        "trainer.schedule = @toy.ramp()",
        "trainer.schedule = @toy.stairs()",
        "trainer.schedule = @toy.constant",
        "trainer.schedule = @toy.anything",
        "trainer.helper = @toy.ramp",
        "trainer.hook = @toy.constant",
        "trainer.hook = @toy.Body",
    ],
)
def test_references_that_fit(folder, binding):
    parse(folder, binding)
    assert trainer()[1] == 5


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


def test_binding_in_a_scope_that_nothing_has_is_refused(folder):
    with pytest.raises(
        UserError, match=r"^--gin_param: nothing in this config uses 'a/toy\.Body'$"
    ):
        parse(folder, "a/toy.Body.height = 3")


def test_binding_in_a_scope_or_around_it_is_accepted(folder):
    for scope in ("", "a/", "a/b/"):
        parse(folder, "trainer.body = @a/b/toy.Giant()", f"{scope}toy.Giant.height = 4")
        assert trainer()[0].height == 4


def test_command_line_may_replace_what_a_file_binds_but_not_bind_what_it_replaces(folder):
    parse(folder, "trainer.body = @toy.Giant()")
    assert trainer()[0].height == 3.0
    with pytest.raises(UserError, match=r"^--gin_param: nothing in this config uses 'toy\.Body'$"):
        parse(folder, "trainer.body = @toy.Giant()", "toy.Body.height = 4")


def test_binding_of_a_file_that_nothing_uses_is_refused_unless_it_is_included(folder):
    (folder / "toy/giant.gin").write_text("include 'toy/tall.gin'\ntrainer.body = @toy.Giant()\n")
    parse(folder, gin_files=["toy/giant"])
    parse(folder, gin_files=["toy/tall", "toy/giant"])
    (folder / "toy/odd.gin").write_text("include 'toy/giant.gin'\ntoy.Body.height = 1\n")
    with pytest.raises(UserError, match=r"^in odd\.gin: nothing in this config uses 'toy\.Body'$"):
        parse(folder, gin_files=["toy/odd"])


@pytest.mark.parametrize("mention", ["# not %ruonds", "\ntrainer.note = '%ruonds'"])
def test_comments_and_strings_use_no_macros(folder, mention):
    (folder / "toy/odd.gin").write_text(f"include '_base.gin'\nruonds = 4  {mention}\n")
    with pytest.raises(UserError, match=r"^nothing uses a macro 'ruonds'; did you mean rounds"):
        parse(folder, gin_files=["toy/odd"])


def test_file_that_binds_nothing(folder):
    (folder / "toy/empty.gin").write_text("")
    message = (
        "--gin_file: toy/empty binds nothing that a command uses, expected an experiment; include "
        "one, such as 'hpe/b128-1.gin'"
    )
    for bindings in ([], ["rounds = 3"]):
        with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
            parse(folder, *bindings, gin_files=["toy/empty"])


def test_file_that_includes_itself(folder):
    (folder / "toy/a.gin").write_text("include '_base.gin'\ninclude 'toy/b.gin'\n")
    (folder / "toy/b.gin").write_text("include '_base.gin'\ninclude 'toy/a.gin'\n")
    message = f"{folder / 'toy/a.gin'} includes itself; remove one include"
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        parse(folder, gin_files=["toy/a"])


def test_gin_looks_where_it_did_after_a_config_good_or_bad(folder):
    from gin import config as gin_config

    before = gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS
    parse(folder)
    assert before == (gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS)
    with pytest.raises(UserError):
        parse(folder, "nonsense")
    assert before == (gin_config._LOCATION_PREFIXES, gin_config._FILE_READERS)


@pytest.mark.parametrize("error", ["ImportError", "ValueError"])
def test_error_without_words_is_called_by_its_name(folder, tmp_path, monkeypatch, error):
    (tmp_path / f"raises_{error}.py").write_text(f"raise {error}")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"^--gin_param='import raises_{error}': .*{error}$"):
        parse(folder, f"import raises_{error}")


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
    def parse_and_try():
        parse(folder, "import ige.gin_keras", "trainer.helper = @optimizers.Adam()", binding)
        parameters.try_keras_objects()

    with pytest.raises(UserError, match=re.escape(message)):
        parse_and_try()


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


def test_references_inside_containers_and_scopes_are_resolved(folder):
    """Each of the three is found, with what holds in its scope and the scopes around it."""
    parse(
        folder,
        "trainer.helper = (@toy.Giant(), {'key': [@a/b/toy.Body()]})",
        "a/toy.Body.height = 3",
        "a/b/toy.Body.limbs = (1,)",
    )
    found = parameters.resolved()
    assert found["toy.Giant.height"] == parameters.Parameter(3.0, bound=False)
    assert found["toy.Body.height"].value == 2.0
    assert found["a/b/toy.Body.height"] == parameters.Parameter(3, bound=True)
    assert found["a/b/toy.Body.limbs"].value == (1,)


def test_scope_reaches_what_is_made_in_it(folder):
    """gin makes `@toy.Body()` in the scope of the one it is for, unless a macro stands between."""
    inner = ["trainer.helper = @a/toy.trainer()", "a/trainer.helper = None"]
    parse(folder, *inner, "a/toy.Body.height = 3")
    with gin.config_scope("a"):
        made = trainer()[0].height
    found = parameters.resolved()
    assert made == found["a/toy.Body.height"].value == 3
    assert found["toy.Body.height"].value == 2.0
    with pytest.raises(
        UserError, match=r"^--gin_param: nothing in this config uses 'a/toy\.Body'$"
    ):
        parse(folder, *inner, "trainer.body = %body", "body = @toy.Body()", "a/toy.Body.height = 3")


def test_constants_are_resolved_where_a_file_can_say_them(folder):
    parse(folder, "rounds = %toy.ROUNDS", "trainer.helper = %toy.SELF")
    found = parameters.resolved()
    assert found["toy.trainer.rounds"].value == 4
    assert str(found["toy.trainer.helper"]) == "%toy.SELF"
    assert trainer()[1] == 4


def test_required_value_that_a_constant_demands(folder):
    with pytest.raises(UserError, match=r"^toy\.trainer\.note: got no value; bind it in the gin"):
        parse(folder, "trainer.note = %gin.REQUIRED")
