"""A user's pictures of objects, made as those that networks are trained on."""

import pathlib
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps
from scipy import ndimage

from ige.data.damage import reading
from ige.errors import UserError
from ige.vox.data.shapes import SOLID, before_white

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff", ".gif")
"""Of the files of a folder that are taken for images."""

FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TIFF", "GIF")
"""What Pillow may take a file for, whatever its name: it has Ghostscript run what is PostScript."""

FEWEST_PIXELS = 16
"""Along the longer side of an object."""

_DARKEST_WHITE = 236  # of a ground that a JPEG file may have stained
_WHITE_BORDER = 0.75  # share of the pixels along the edge
_SPECK = 0.01  # share of the largest part
# How objects are framed in renderings, 216 of meshes and 800 of generated ones: the share of the
# image that their longer side takes, and how far their middle is from that of the image.
_SHARES = (0.44, 1.0)
_OFF_CENTRE = 0.15
_SHARE = 0.75


class Photo(NamedTuple):
    """What a network gets of a picture.

    Attributes:
        name: the file's, without its suffix.
        image: (size, size, 3) uint8 before white.
        silhouette: (size, size) bool.
        note: what was done to it, for the user.
    """

    name: str
    image: np.ndarray
    silhouette: np.ndarray
    note: str


def find_photos(source: pathlib.Path) -> list[pathlib.Path]:
    """Returns a file itself, or the images of a folder by name.

    Raises:
        UserError: a folder without images, or with two whose names differ in the suffix only.
    """
    if not source.is_dir():
        return [source]
    paths = sorted(path for path in source.iterdir() if path.suffix.lower() in SUFFIXES)
    if not paths:
        raise UserError(f"{source}: no images in it, expected {', '.join(SUFFIXES)} files")
    by_stem: dict[str, pathlib.Path] = {}
    for path in paths:
        other = by_stem.setdefault(path.stem, path)
        if other != path:
            raise UserError(
                f"{source}: {other.name} and {path.name} would be written to the same files; "
                "rename one of them"
            )
    return paths


def read_photo(path: pathlib.Path, size: int, reframe: bool | None = None) -> Photo:
    """Returns a picture of one object, cut out by its alpha channel or by its white ground.

    Args:
        path: the file.
        size: pixels along a side.
        reframe: cut the image to the object, so that it takes as much of it as in training; None:
            only where it is framed otherwise than there. If not, the middle of the image is taken.

    Raises:
        UserError: it is no image, shows nothing, or not what is object and what is ground.
    """
    rgba, has_alpha = _read(path)
    solid = np.asarray(rgba.getchannel("A")) >= SOLID
    if not solid.any():
        ground = "transparent, by half or more" if has_alpha else "white"
        raise UserError(
            f"{path}: all of it is {ground}, expected an object; use a picture that shows one"
        )
    rows, columns = np.nonzero(solid)
    top, left, bottom, right = rows.min(), columns.min(), rows.max() + 1, columns.max() + 1
    longer = max(right - left, bottom - top)
    if longer < FEWEST_PIXELS:
        raise UserError(
            f"{path}: the object has {right - left} x {bottom - top} pixels, expected at least "
            f"{FEWEST_PIXELS} along the longer side; use a larger image"
        )
    width, height = rgba.size
    middle = (width / 2, height / 2)
    centre = ((left + right) / 2, (top + bottom) / 2)
    side = min(width, height)
    if reframe is None:
        share = longer / side
        off = max(abs(a - b) for a, b in zip(centre, middle, strict=True)) / side
        reframe = not (_SHARES[0] <= share <= _SHARES[1] and off <= _OFF_CENTRE)
    note = f"the middle {side} x {side} pixels"
    if reframe:
        side, middle = round(longer / _SHARE), centre
        note = f"{side} x {side} pixels about the object"
    corner = [round(along - side / 2) for along in middle]
    # What is beyond the image is transparent.
    window = rgba.crop((*corner, *(along + side for along in corner)))
    array = np.asarray(window.resize((size, size), Image.Resampling.BICUBIC))
    silhouette = array[..., 3] >= SOLID
    if not silhouette.any():
        raise UserError(
            f"{path}: {note} show no object, seen with {size} x {size}; set vox.predict.reframe to "
            "True, or use a picture in which it is larger"
        )
    note = f"{path.name}: {'alpha channel' if has_alpha else 'white ground'}, {note}"
    return Photo(path.stem, before_white(array), silhouette, note)


def _read(path: pathlib.Path) -> tuple[Image.Image, bool]:
    """Returns an image with alpha, its own or that of a white ground, and whether it was its own.

    Raises:
        UserError: the file cannot be read, or neither channel nor ground say where the object is.
    """
    with reading(str(path)), warnings.catch_warnings():
        # A picture of 90 million pixels is a mistake, or an attack.
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            with Image.open(path, formats=FORMATS) as file:
                if file.mode.startswith(("I", "F")):
                    raise UserError(
                        f"{path}: got pixels of type {file.mode}, expected 8 bits for each "
                        "channel; convert it"
                    )
                has_alpha = file.has_transparency_data
                rgba = ImageOps.exif_transpose(file).convert("RGBA")
        except (Image.DecompressionBombWarning, Image.DecompressionBombError):
            raise UserError(
                f"{path}: got more than {Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller"
            ) from None
        except Image.UnidentifiedImageError:
            raise UserError(
                f"{path}: not an image, expected one of {', '.join(FORMATS)}; convert it"
            ) from None
    if has_alpha and rgba.getchannel("A").getextrema()[0] < SOLID:
        return rgba, True
    colours = np.asarray(rgba)[..., :3]
    white = (colours >= _DARKEST_WHITE).all(axis=-1)
    border = np.concatenate([white[0], white[-1], white[:, 0], white[:, -1]])
    if border.mean() < _WHITE_BORDER:
        raise UserError(
            f"{path}: {border.mean():.0%} of its edge is white ({_DARKEST_WHITE} or more of 255) "
            "and nothing of it is transparent, expected an object before white, or cut out; remove "
            "the background"
        )
    rgba.putalpha(Image.fromarray(np.where(_without_specks(~white), 255, 0).astype(np.uint8)))
    return rgba, False


def _without_specks(solid: np.ndarray) -> np.ndarray:
    """Returns a mask (height, width) bool without what is small beside its largest part: dust."""
    parts, _ = ndimage.label(solid, np.ones((3, 3)))
    areas = np.bincount(parts.ravel())
    areas[0] = 0
    return (areas >= _SPECK * areas.max())[parts] & solid
