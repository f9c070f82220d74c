"""Tells images and videos, which people give in place of keypoints, and says what to do."""

import pathlib

from ige.errors import UserError

# How files of images and videos begin: (offset, bytes).
_MAGIC = {
    "an image": [
        (0, b"\xff\xd8\xff"),
        (0, b"\x89PNG"),
        (0, b"GIF8"),
        (0, b"BM"),
        (8, b"WEBP"),
        (0, b"II*\0"),
    ],
    "a video": [(4, b"ftyp"), (4, b"moov"), (4, b"mdat"), (8, b"AVI "), (0, b"\x1aE\xdf\xa3")],
}
_SUFFIXES = {
    "an image": {".jpg", ".jpeg", ".png", ".gif", ".bmp", ".webp", ".tif", ".tiff"},
    "a video": {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg"},
}


def by_content(data: bytes) -> str | None:
    """Returns what a file is by its first bytes: 'an image', 'a video' or None."""
    for kind, beginnings in _MAGIC.items():
        if any(data.startswith(magic, offset) for offset, magic in beginnings):
            return kind
    return None


def by_name(path: pathlib.Path) -> str | None:
    """Returns what a file is by its name: 'an image', 'a video' or None."""
    return next((k for k, names in _SUFFIXES.items() if path.suffix.lower() in names), None)


def refuse(path: pathlib.Path, kind: str | None) -> None:
    """Raises a UserError if the file is of a kind of media."""
    if kind:
        raise UserError(
            f"{path}: got {kind}, expected the 2D keypoints found in it; run OpenPose "
            "(--write_json), AlphaPose or MMPose (--save-predictions) on it first and give "
            "their JSON to --input"
        )
