"""Names of parameters in docs/apo.md and on the command line."""

import pathlib
import re

import pytest

from ige import configs, parameters

PAGE = (pathlib.Path(__file__).parents[3] / "docs/apo.md").read_text(encoding="utf-8")


def test_the_page_names_parameters_as_messages_do():
    configs.parse(["apo/h3m-big"])
    known = parameters.resolved()
    classes = {key.split(".")[1] for key in known if re.match(r"hpe\.[A-Z]", key)}
    named = set(re.findall(rf"[\w.]*\b(?:{'|'.join(classes)})\.[a-z]\w*", PAGE))
    assert named <= known.keys()
    assert "hpe.Fitter.guess_model_id" in named
    of_command = {f"hpe.{name}" for name in re.findall(r"[\w.]*\binfer\.[a-z]\w*", PAGE)}
    assert of_command <= known.keys()
    assert "hpe.infer.batch_frames" in of_command


@pytest.mark.parametrize("name", ["hpe.Fitter.guess_model_id", "Fitter.guess_model_id"])
def test_the_front_of_a_name_may_be_left_out(name):
    configs.parse(["apo/h3m-big"], [f"{name} = 'mine'"])
    assert parameters.resolved()["hpe.Fitter.guess_model_id"].value == "mine"
