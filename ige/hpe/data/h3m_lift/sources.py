"""Which files a build of h3m_lift is made from: poses with cameras, and 2D poses."""

import dataclasses
import pathlib
from collections.abc import Sequence

from ige.data.builds import MissingFilesError
from ige.hpe.data.h3m_lift import detections
from ige.hpe.data.h3m_lift.detections import HOURGLASS_FOLDERS, Detections
from ige.hpe.data.h3m_lift.layouts import LAYOUTS, Layout, find_layout

KEYPOINTS = ("projection", *HOURGLASS_FOLDERS, "detections")

_WANTED = {
    "baseline": "h36m.zip of 3d-pose-baseline (poses, cameras and stacked-hourglass detections)",
    "official": (
        "Poses_D3_Positions_S1.tgz, _S5, _S6, _S7, _S8, _S9 and _S11.tgz, and metadata.xml if you "
        "have it, from http://vision.imar.ro/human3.6m (registration required)"
    ),
    "videopose3d": "data_3d_h36m.npz as made by VideoPose3D's preparation script",
}


@dataclasses.dataclass(frozen=True)
class Source:
    """The files of one build.

    Attributes:
        layout: poses and cameras.
        detections: 2D poses, None for projections.
    """

    layout: Layout
    detections: Detections | None

    @property
    def kind(self) -> str:
        """Name of the layout."""
        return self.layout.kind

    def files(self) -> list[dict]:
        """Returns name and size of every file, without opening any."""
        files = self.layout.files()
        if self.detections is not None:
            files += [entry for entry in self.detections.files() if entry not in files]
        return files

    def close(self) -> None:
        """Releases the files."""
        self.layout.close()
        if self.detections is not None:
            self.detections.close()


def missing_message(folder: pathlib.Path, layouts: Sequence[str] = LAYOUTS) -> str:
    """Returns what to say when `folder` has none of the files that `layouts` need."""
    wanted = "".join(f"\n  {_WANTED[layout]}" for layout in layouts)
    either = "one of these" if len(layouts) > 1 else "these files"
    return (
        f"h3m_lift: no Human3.6M poses in {folder}; put {either} there:{wanted}\n"
        "or run on generated data, which needs no files: --gin_param=\"data='synthetic'\""
    )


def find_source(
    folder: pathlib.Path, layouts: Sequence[str], keypoints: str, detections_name: str | None
) -> Source:
    """Returns the files in `folder`, or directly inside a folder in it, without reading data.

    Args:
        folder: where people put files by hand.
        layouts: layouts to accept, the preferred first.
        keypoints: one of `KEYPOINTS`.
        detections_name: NAME of data_2d_h36m_NAME.npz; None for the only one.

    Raises:
        MissingFilesError: says which file to get and where to put it.
    """
    layout = find_layout(folder, layouts)
    if layout is None:
        raise MissingFilesError(missing_message(folder, layouts))
    if keypoints == "projection":
        return Source(layout, None)
    if keypoints in HOURGLASS_FOLDERS:
        return Source(layout, detections.find_hourglass(folder, keypoints))
    if detections_name is None:
        names = list(detections.detection_names(folder))
        detections_name = detections.choose_detections(names, folder)
    return Source(layout, detections.find_detections(folder, detections_name))
