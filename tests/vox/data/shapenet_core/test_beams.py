"""The build on Apache Beam, by its direct runner."""

import json
import sys

import pytest

from ige.errors import UserError


# The protobuf that Beam brings warns of what tensorflow-datasets asks it.
@pytest.mark.filterwarnings("ignore")
def test_beam_builds_the_same(files, manual, make, tmp_path):
    pytest.importorskip("apache_beam", reason="needs the extra beam")
    found = files.entries() | {f"{files.TABLE}/e/model.obj": b""}
    models = files.MODELS | {(files.TABLE, "e"): (None, "train")}
    files.write_zips(manual, found, files.splits_text(models))
    options = ["--runner=BundleBasedDirectRunner"]
    beam = make(beam_options=options, data_dir=str(tmp_path / "beam"))
    here = make()
    assert beam.provenance == here.provenance
    assert beam.provenance["refused"] == {"has no faces": ["04379243/e: has no faces"]}
    assert json.loads(json.dumps(beam.provenance)) == beam.provenance
    for split in ("train", "validation", "test"):
        ours, theirs = beam.shapes(split), here.shapes(split)
        assert [(s.model, s.grid, s.pngs) for s in ours] == [
            (s.model, s.grid, s.pngs) for s in theirs
        ]
    folder = tmp_path / "beam/shapenet_core/32-2x16"
    assert [path.name for path in folder.iterdir()] == ["2.0.0"]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("runner", "message"),
    [
        ("Nope", "Unexpected pipeline runner: Nope"),
        ("BundleBasedDirectRunner", "The total number of generated examples is 0 for split val"),
    ],
)
def test_what_beam_cannot_do_is_one_line(files, manual, make, runner, message):
    """No such runner, and a split without a model that can be used."""
    pytest.importorskip("apache_beam", reason="needs the extra beam")
    files.write_zips(manual, files.entries() | {f"{files.CHAIR}/b/model.obj": b""})
    with pytest.raises(
        UserError, match=rf"^shapenet_core\.beam_options: Apache Beam: {message}.*; change the "
    ):
        make(beam_options=[f"--runner={runner}"]).prepare()


def test_beam_is_missing(files, manual, make, monkeypatch):
    for name in ("apache_beam", "apache_beam.options.pipeline_options"):
        monkeypatch.setitem(sys.modules, name, None)
    files.write_zips(manual)
    with pytest.raises(
        UserError, match=r"^shapenet_core\.beam_options: Apache Beam is not installed; "
    ):
        make(beam_options=[]).prepare()
