"""The embedded data set: procedural furniture in the files of ShapeNetCore.v1."""

import dataclasses
import hashlib
import pathlib
import zipfile

import numpy as np
from tqdm import tqdm

from ige.data.builds import check_integer
from ige.vox.data.shapenet_core.furniture import KINDS, Part, normalised
from ige.vox.data.shapenet_core.layouts import SPLIT_FILE

_MATERIALS = ("seat", "back", "legs")
_SPLITS = ("train",) * 7 + ("val",) + ("test",) * 2
"""Of ten models in turn."""


@dataclasses.dataclass(frozen=True)
class SyntheticSpec:
    """Which furniture to generate.

    Attributes:
        seed: other seeds give other furniture.
        models: how many models, a half of each synset, more or less one.

    Raises:
        UserError: a number that is no integer or out of range.
    """

    seed: int = 0
    models: int = 2000

    def __post_init__(self) -> None:
        check_integer("shapenet_core.synthetic_seed", self.seed, 0, 2**63 - 1)
        check_integer("shapenet_core.synthetic_models", self.models, 20, 100_000)

    @property
    def name(self) -> str:
        """Names the data set in folders and reports: 'synthetic-seed0-2000'."""
        return f"synthetic-seed{self.seed}-{self.models}"


def write_synthetic(folder: pathlib.Path, spec: SyntheticSpec) -> None:
    """Writes an archive per synset and all.csv to `folder`, the same bytes every time.

    Shows progress on a terminal.
    """
    lines = ["id,synsetId,subSynsetId,modelId,split"]
    progress = {"desc": f"generating {spec.name}", "unit": " models", "disable": None}
    with tqdm(total=spec.models, leave=False, **progress) as bar:
        for number, (synset, make) in enumerate(KINDS.items()):
            with zipfile.ZipFile(folder / f"{synset}.zip", "w") as archive:
                for index in range((spec.models + number) // len(KINDS)):
                    rng = np.random.default_rng([spec.seed, number, index])
                    parts = normalised(make(rng))
                    colours = rng.uniform(0.15, 0.95, (len(_MATERIALS), 3))
                    name = f"synthetic {spec.seed} {synset} {index}"
                    model = hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()
                    _add(archive, f"{synset}/{model}/model.obj", obj_text(parts))
                    _add(archive, f"{synset}/{model}/model.mtl", _mtl_text(colours))
                    split = _SPLITS[index % len(_SPLITS)]
                    lines.append(f"{len(lines):06d},{synset},{synset},{model},{split}")
                    bar.update()
    (folder / SPLIT_FILE).write_text("\n".join(lines) + "\n", "utf-8")


def obj_text(parts: list[Part]) -> str:
    """Returns a Wavefront .obj file."""
    lines, start = ["mtllib model.mtl"], 1
    for part in parts:
        lines += [f"v {x:.6f} {y:.6f} {z:.6f}" for x, y, z in part.vertices]
        lines.append(f"usemtl {part.material}")
        lines += [f"f {a} {b} {c}" for a, b, c in part.faces + start]
        start += len(part.vertices)
    return "\n".join(lines) + "\n"


def _mtl_text(colours: np.ndarray) -> str:
    return "".join(
        f"newmtl {name}\nKd {red:.3f} {green:.3f} {blue:.3f}\n"
        for name, (red, green, blue) in zip(_MATERIALS, colours, strict=True)
    )


def _add(archive: zipfile.ZipFile, name: str, text: str) -> None:
    """Writes a member without the time of day, so that the same models are the same bytes."""
    archive.writestr(zipfile.ZipInfo(name), text, zipfile.ZIP_DEFLATED)
