"""Users' pictures: cut out, framed as in training, or refused with a line."""

import numpy as np
import pytest
from PIL import Image

from ige.errors import UserError
from ige.vox.photos import find_photos, read_photo

RED, GREEN = (220, 30, 30), (30, 160, 30)


def _draw(width, height, box, ground=(0, 0, 0, 0)):
    """Returns an image with a box (left, top, right, bottom), red above and green below."""
    image = Image.new("RGBA", (width, height), ground)
    left, top, right, bottom = box
    middle = (top + bottom) // 2
    image.paste((*RED, 255), (left, top, right, middle))
    image.paste((*GREEN, 255), (left, middle, right, bottom))
    return image


@pytest.fixture
def saved(tmp_path):
    def save(image, name="photo.png", **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return save


def test_framed_as_in_training_stays_as_it_is(saved):
    image = _draw(64, 64, (12, 10, 52, 50))
    photo = read_photo(saved(image), 64)
    np.testing.assert_array_equal(photo.silhouette, np.asarray(image)[..., 3] == 255)
    np.testing.assert_array_equal(
        photo.image[photo.silhouette], np.asarray(image)[10:50, 12:52, :3].reshape(-1, 3)
    )
    assert (photo.image[~photo.silhouette] == 255).all()
    assert photo.name == "photo"
    assert photo.note == "photo.png: alpha channel, the middle 64 x 64 pixels"


@pytest.mark.parametrize(
    ("box", "what"),
    [
        ((300, 20, 390, 80), "aside"),
        ((0, 0, 200, 100), "at the edge"),
        ((180, 90, 210, 110), "small"),
    ],
)
def test_otherwise_it_is_cut_to_the_object(saved, box, what):
    photo = read_photo(saved(_draw(400, 200, box)), 100)
    left, top, right, bottom = box
    rows, columns = np.nonzero(photo.silhouette)
    extent = np.array([np.ptp(columns) + 1, np.ptp(rows) + 1])
    expected = 75 * np.array([right - left, bottom - top]) / (right - left)
    np.testing.assert_allclose(extent, expected, atol=3)
    middle = np.array([columns.mean(), rows.mean()])
    np.testing.assert_allclose(middle, 49.5, atol=1.5)
    assert photo.image[round(middle[1]) - 8, 50].tolist() == list(RED)
    assert photo.image[round(middle[1]) + 8, 50].tolist() == list(GREEN)


def test_reframing_can_be_forced_or_forbidden(saved):
    aside = saved(_draw(400, 200, (0, 50, 120, 150)))
    photo = read_photo(aside, 100, reframe=False)
    # Of the middle 200 x 200, which begins at 100, to half the size.
    rows, columns = np.nonzero(photo.silhouette)
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (0, 9, 25, 74)
    framed = saved(_draw(100, 100, (25, 25, 75, 75)), "framed.png")
    assert np.ptp(np.nonzero(read_photo(framed, 100).silhouette)[0]) == 49
    forced = read_photo(framed, 100, reframe=True)
    assert np.ptp(np.nonzero(forced.silhouette)[0]) == pytest.approx(74, abs=1)


def test_a_white_ground_with_stains_and_dust(saved):
    """A JPEG file has no alpha channel, and is not quite white about the object."""
    image = _draw(200, 200, (50, 40, 150, 160), (251, 250, 252, 255))
    image.paste((90, 90, 90, 255), (5, 5, 8, 8))
    photo = read_photo(saved(image.convert("RGB"), "photo.jpg", quality=80), 200)
    expected = np.zeros((200, 200), bool)
    expected[40:160, 50:150] = True
    assert (photo.silhouette != expected).mean() < 0.01
    assert not photo.silhouette[:30, :30].any()
    assert (photo.image[~photo.silhouette & ~expected] == 255).all()
    assert photo.note == "photo.jpg: white ground, the middle 200 x 200 pixels"


def test_turned_by_the_camera(saved):
    """Phones write how a picture is to be turned beside the pixels: 6 is a quarter, clockwise."""
    image = _draw(100, 100, (20, 20, 80, 80), (255, 255, 255, 255)).convert("RGB")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo = read_photo(saved(image, "photo.jpg", exif=exif, quality=95, subsampling=0), 100)
    assert photo.image[50, 70, 0] > 180  # what was above is at the right
    assert photo.image[50, 30, 1] > 130


@pytest.mark.parametrize("mode", ["LA", "P", "1", "L", "CMYK"])
def test_other_kinds_of_images(saved, mode):
    image = _draw(64, 64, (12, 12, 52, 52), (255, 255, 255, 0))
    if mode not in ("LA", "P"):
        whole = Image.new("RGBA", image.size, "white")
        whole.alpha_composite(image)
        image = whole
    name = "photo.tif" if mode == "CMYK" else "photo.png"
    photo = read_photo(saved(image.convert(mode), name), 64)
    assert photo.image.shape == (64, 64, 3)
    if mode != "1":  # dots
        assert (photo.silhouette == (np.asarray(image.convert("L")) < 200)).mean() > 0.99


def _refusal(path):
    with pytest.raises(UserError) as error:
        read_photo(path, 64)
    assert "\n" not in str(error.value)
    return str(error.value).removeprefix(f"{path}: ")


def test_no_object(saved):
    empty = _draw(64, 64, (0, 0, 0, 0))
    assert _refusal(saved(empty)) == (
        "all of it is transparent, by half or more, expected an object; use a picture that shows "
        "one"
    )
    white = Image.new("RGB", (64, 64), "white")
    assert _refusal(saved(white)) == (
        "all of it is white, expected an object; use a picture that shows one"
    )


def test_too_small(saved):
    assert _refusal(saved(_draw(64, 64, (30, 30, 39, 35)))) == (
        "the object has 9 x 5 pixels, expected at least 16 along the longer side; use a larger "
        "image"
    )


def test_a_background(saved, rng):
    noise = Image.fromarray(rng.integers(0, 200, (64, 64, 3), np.uint8))
    assert _refusal(saved(noise)) == (
        "0% of its edge is white (236 or more of 255) and nothing of it is transparent, expected "
        "an object before white, or cut out; remove the background"
    )


@pytest.mark.parametrize(("kind", "mode"), [(np.uint16, "I;16"), (np.float32, "F")])
def test_more_bits_than_eight(tmp_path, kind, mode):
    path = tmp_path / "deep.tiff"
    Image.fromarray(np.full((64, 64), 30000, kind)).save(path)
    assert _refusal(path) == (
        f"got pixels of type {mode}, expected 8 bits for each channel; convert it"
    )


@pytest.mark.parametrize(
    ("picture", "side"),
    [
        (_draw(200, 64, (0, 0, 40, 40)), 64),
        (_draw(1200, 400, (0, 0, 401, 400)), 400),  # of which a column is there
        (_draw(1200, 1200, (600, 600, 616, 602)), 1200),
    ],
)
def test_nothing_of_an_object_is_left(saved, picture, side):
    """It is beside the middle, or too thin for the pixels of the network."""
    path = saved(picture)
    with pytest.raises(UserError) as error:
        read_photo(path, 64, reframe=False)
    assert str(error.value) == (
        f"{path}: the middle {side} x {side} pixels show no object, seen with 64 x 64; set "
        "vox.predict.reframe to True, or use a picture in which it is larger"
    )


def test_no_image(tmp_path, saved):
    path = tmp_path / "notes.txt"
    message = "not an image, expected one of PNG, JPEG, WEBP, BMP, TIFF, GIF; convert it"
    # Pillow hands PostScript to Ghostscript, which does what it says.
    for text in ("hello", "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n%%EndComments\n"):
        path.write_text(text)
        assert _refusal(path) == message
    whole = saved(_draw(64, 64, (12, 12, 52, 52))).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert _refusal(path).startswith("cannot be read: ")


def test_too_large(saved, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    expected = "got more than 1,000 pixels; make it smaller"
    assert _refusal(saved(_draw(40, 40, (0, 0, 20, 20)))) == expected  # Pillow warns
    assert _refusal(saved(_draw(64, 64, (0, 0, 20, 20)))) == expected  # and refuses


def test_images_of_a_folder(tmp_path, saved):
    image = _draw(20, 20, (0, 0, 20, 20))
    for name in ("b.png", "a.WEBP", "c.jpg.png"):
        saved(image, name)
    (tmp_path / "notes.txt").write_text("hello")
    assert [path.name for path in find_photos(tmp_path)] == ["a.WEBP", "b.png", "c.jpg.png"]
    assert find_photos(tmp_path / "notes.txt") == [tmp_path / "notes.txt"]
    saved(image, "b.gif")
    with pytest.raises(UserError, match=r": b.gif and b.png would be written to the same files; "):
        find_photos(tmp_path)


def test_a_folder_without_images(tmp_path):
    with pytest.raises(UserError) as error:
        find_photos(tmp_path)
    assert str(error.value) == (
        f"{tmp_path}: no images in it, expected .png, .jpg, .jpeg, .webp, .bmp, .tif, .tiff, .gif "
        "files"
    )
