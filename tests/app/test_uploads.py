"""Uploads: any common image comes out in the model's shape; what is none gives one sentence."""

import gc
import io
import struct
import time
import zlib
from dataclasses import dataclass

import numpy as np
import pytest
from PIL import Image
from streamlit.testing.v1 import AppTest

from app.records import Inputs, SweepRequest, Upload
from app.services import cache, stored
from app.services.uploads import read_image, read_images

GRAY, COLOUR = (1, 28, 28), (3, 64, 64)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def photo(width=90, height=60):
    """Smooth colours: lossy formats keep them."""
    y, x = np.mgrid[0:height, 0:width]
    return Image.fromarray(np.stack([255 * x / width, 255 * y / height, 60 + 0 * x], -1).astype(np.uint8))


def ramp(size=28):
    """Gray from black at the left to white at the right."""
    row = np.linspace(0, 255, size).round()
    return np.tile(row, (size, 1)).astype(np.uint8)


def read_ramp(image, kind="PNG", **options):
    """The rows of a ramp after its journey, as gray levels."""
    return (read_image(saved(image, kind, **options), GRAY)[0] + 1) * 127.5


def png_header(width, height):
    """A PNG that claims a size and brings almost no pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )


# What is taken ---------------------------------------------------------------------------------------------------


FORMATS = ["PNG", "JPEG", "GIF", "WebP", "BMP", "TIFF"]


@pytest.mark.parametrize("kind", FORMATS)
def test_common_formats_keep_a_gray_ramp(kind):
    tolerance = 6 if kind in ("JPEG", "WebP") else 0
    options = {"quality": 95} if tolerance else {}
    np.testing.assert_allclose(read_ramp(Image.fromarray(ramp()), kind, **options), ramp(), atol=tolerance + 1e-3)


@pytest.mark.parametrize("kind", FORMATS)
def test_common_formats_keep_their_colours(kind):
    image = photo(64, 64)
    pixels = (read_image(saved(image.quantize(256) if kind == "GIF" else image, kind), COLOUR) + 1) * 127.5
    difference = np.abs(pixels - np.moveaxis(np.asarray(image, np.float32), -1, 0))
    assert difference.mean() < 8, "the channels are in order and nothing is inverted"


MODES = ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"]


@pytest.mark.parametrize("shape", [GRAY, COLOUR])
@pytest.mark.parametrize("mode", MODES)
def test_every_pixel_format_comes_out_in_range_and_shape(mode, shape):
    gray = np.asarray(photo().convert("L"))
    wide = {"I;16": gray.astype(np.uint16) * 257, "I": gray.astype(np.int32), "F": gray.astype(np.float32)}
    image = Image.fromarray(wide[mode]) if mode in wide else photo().convert(mode)
    assert image.mode == mode
    pixels = read_image(saved(image, "TIFF"), shape)
    assert pixels.shape == shape and pixels.dtype == np.float32
    assert np.isfinite(pixels).all() and pixels.min() >= -1 and pixels.max() <= 1
    assert np.ptp(pixels) > 0.5, "the picture is still there"


@pytest.mark.parametrize("seed", range(20))
def test_noise_of_any_size_comes_out_in_range_and_shape(seed):
    rng = np.random.default_rng(seed)
    height, width, channels = rng.integers(1, 200), rng.integers(1, 200), rng.choice([1, 3, 4])
    noise = rng.integers(0, 256, (height, width, channels), dtype=np.uint8)
    shape = (int(rng.choice([1, 3])), int(rng.integers(4, 70)), int(rng.integers(4, 70)))
    pixels = read_image(saved(Image.fromarray(noise.squeeze(-1) if channels == 1 else noise)), shape)
    assert pixels.shape == shape
    assert pixels.min() >= -1 and pixels.max() <= 1


def test_a_palette_is_looked_up():
    image = Image.fromarray(ramp()).quantize(256)
    assert image.mode == "P"
    np.testing.assert_allclose(read_ramp(image), ramp(), atol=2)


def test_a_palette_with_a_transparent_colour_lies_on_white():
    image = Image.new("P", (28, 28), 0)
    image.putpalette([0, 0, 0, 200, 0, 0])
    image.info["transparency"] = 0
    assert read_image(saved(image, "PNG", transparency=0), GRAY).min() == 1


def test_transparent_parts_lie_on_white():
    rgba = np.zeros((28, 28, 4), np.uint8)
    rgba[:, 14:, 3] = 255
    pixels = read_image(saved(Image.fromarray(rgba)), GRAY)[0]
    np.testing.assert_array_equal(pixels[:, :14], 1)
    np.testing.assert_array_equal(pixels[:, 14:], -1)


@pytest.mark.parametrize("byte_order", ["<u2", ">u2"])
def test_sixteen_bits_keep_a_gray_ramp(byte_order):
    deep = (ramp().astype(np.uint16) * 257).astype(byte_order)
    image = Image.frombytes("I;16B" if byte_order == ">u2" else "I;16", deep.shape[::-1], deep.tobytes())
    np.testing.assert_allclose(read_ramp(image, "TIFF"), ramp(), atol=1)


def test_sixteen_bits_of_one_gray_stay_that_gray():
    deep = Image.fromarray(np.full((28, 28), 40_000, np.uint16))
    np.testing.assert_allclose(read_ramp(deep), 40_000 / 257, atol=1)


def test_floats_are_stretched_from_their_darkest_to_their_brightest_value():
    values = Image.fromarray(ramp().astype(np.float32) / 255)
    np.testing.assert_allclose(read_ramp(values, "TIFF"), ramp(), atol=1)


@pytest.mark.parametrize(
    ("orientation", "turn"), [(1, 0), (3, 180), (6, -90), (8, 90)], ids=["upright", "180°", "right", "left"]
)
def test_a_photo_taken_with_a_turned_camera_is_upright(orientation, turn):
    exif = Image.Exif()
    exif[0x0112] = orientation
    as_stored = Image.fromarray(ramp()).rotate(-turn)
    np.testing.assert_allclose(read_ramp(as_stored, "JPEG", quality=95, exif=exif), ramp(), atol=6)


def test_a_wide_image_is_cropped_and_not_squeezed():
    disc = Image.new("L", (300, 100), 0)
    y, x = np.mgrid[0:100, 0:300]
    disc.paste(255, mask=Image.fromarray((((x - 150) ** 2 + (y - 50) ** 2 < 40**2) * 255).astype(np.uint8)))
    seen = read_image(saved(disc), GRAY)[0] > 0
    assert seen.any(0).sum() == seen.any(1).sum() == pytest.approx(28 * 0.8, abs=1)


def test_a_single_pixel_fills_the_picture():
    pixels = read_image(saved(Image.new("RGB", (1, 1), (255, 0, 127))), COLOUR)
    assert pixels.shape == COLOUR
    np.testing.assert_allclose(pixels[:, 0, 0], [1, -1, 0], atol=0.01)
    assert np.ptp(pixels.reshape(3, -1), axis=1).max() == 0


def test_the_first_frame_of_an_animation_is_taken():
    frames = [Image.fromarray(ramp()), Image.new("L", (28, 28), 0)]
    np.testing.assert_allclose(read_ramp(frames[0], "GIF", save_all=True, append_images=frames[1:]), ramp(), atol=1)


def test_the_same_image_has_the_same_digest():
    files = (saved(photo(), "PNG"), saved(photo(), "BMP"), saved(photo(80)))
    first, again, other = (Upload.from_array(read_image(file, COLOUR)[None]) for file in files)
    assert first == again and hash(first) == hash(again)
    assert other.digest != first.digest and other != first


# What is refused -------------------------------------------------------------------------------------------------


def assert_one_sentence(text):
    assert "\n" not in text and text.endswith(".") and len(text) < 250, text


def assert_refused(content, match):
    with pytest.raises(ValueError, match=match) as error:
        read_image(content, GRAY)
    assert_one_sentence(str(error.value))


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%PDF-1.4", b"\0" * 999]
)
def test_what_is_no_image_is_refused(content):
    assert_refused(content, "not an image that can be read; choose a PNG")


def test_formats_that_are_programs_are_refused():
    postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n"
    assert_refused(postscript, "not an image that can be read")


@pytest.mark.parametrize("kind", FORMATS)
def test_a_truncated_image_is_refused(kind):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (200, 200, 3), dtype=np.uint8))
    content = saved(noise, kind)
    assert_refused(content[: len(content) // 2], "could not be decoded .* save it again|not an image")


@pytest.mark.parametrize("side", [8_000, 12_000, 30_000, 2**31 - 1])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side):
    assert_refused(png_header(side, side), r"pixels, more than the 50,000,000 allowed; shrink it, .*IMAGE_PIXELS")


def test_a_file_that_is_too_large_is_refused():
    assert_refused(saved(photo()) + bytes(2**24), r"bytes, more than the 16,777,216 allowed; .*DPI_MAX_IMAGE_BYTES")


def test_an_operator_may_allow_more_pixels_than_pillow_does(monkeypatch):
    content = png_header(20_000, 20_000)
    assert_refused(content, "400,000,000|too many")
    monkeypatch.setenv("DPI_MAX_IMAGE_PIXELS", str(10**9))
    before = Image.MAX_IMAGE_PIXELS
    assert_refused(content, "could not be decoded")  # it was tried
    assert before == Image.MAX_IMAGE_PIXELS


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_file_either_gives_a_picture_or_one_sentence(kind):
    intact, rng = saved(photo(), kind), np.random.default_rng(0)
    for _ in range(60):
        damaged = np.frombuffer(intact, np.uint8).copy()
        at = rng.integers(0, min(len(damaged), rng.choice([64, 4096])), rng.integers(1, 20))
        damaged[at] = rng.integers(0, 256, len(at))
        try:
            pixels = read_image(damaged.tobytes(), GRAY)
        except ValueError as error:
            assert_one_sentence(str(error))
        else:
            assert pixels.shape == GRAY and np.abs(pixels).max() <= 1


# Large ones ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "I;16", "F"])
def test_a_large_image_is_the_small_one(mode):
    large = Image.fromarray(ramp()).resize((28 * 40, 28 * 40), Image.Resampling.NEAREST)
    deep = {"I;16": np.asarray(large, np.uint16) * 257, "F": np.asarray(large, np.float32)}
    image = Image.fromarray(deep[mode]) if mode in deep else large.convert(mode)
    np.testing.assert_allclose(read_ramp(image, "TIFF"), ramp(), atol=1.5)


def test_the_largest_images_take_no_two_seconds():
    content = saved(Image.new("I;16", (7000, 7000), 40_000), "PNG", compress_level=1)
    began = time.process_time()
    pixels = read_image(content, GRAY)
    assert time.process_time() - began < 2
    np.testing.assert_allclose((pixels + 1) * 127.5, 40_000 / 257, atol=1)


# Several ---------------------------------------------------------------------------------------------------------


@dataclass
class File:
    name: str
    content: bytes

    @property
    def size(self):
        return len(self.content)

    def getvalue(self):
        return self.content


def gray(level):
    return saved(Image.new("L", (28, 28), level))


def test_of_a_folder_the_images_are_taken_and_the_others_named():
    files = [
        File("c.png", gray(255)),
        File("notes.txt", b"hello"),
        File("a.png", gray(0)),
        File("b.png", gray(255)[:40]),
    ]
    received = read_images(files, GRAY)
    assert received.upload.shape == (2, *GRAY)
    assert received.upload.array()[:, 0, 0, 0].tolist() == [-1, 1]
    assert [sentence.split(":")[0] for sentence in received.refused] == ["b.png", "notes.txt"]
    for sentence in received.refused:
        assert_one_sentence(sentence)
    assert read_images([File("notes.txt", b"hello")], GRAY).upload is None


def test_images_beyond_a_limit_are_left_out_and_the_limit_is_named(monkeypatch):
    files = [File(f"{i:02}.png", gray(i)) for i in range(67)]
    received = read_images(files, GRAY)
    assert received.upload.count == 64
    (sentence,) = received.refused
    assert_one_sentence(sentence)
    assert "67 images, more than the 64 allowed; the first 64 by name" in sentence and "DPI_MAX_IMAGES)" in sentence
    monkeypatch.setenv("DPI_MAX_IMAGES", "70")
    assert read_images(files, GRAY).upload.count == 67
    monkeypatch.setenv("DPI_MAX_IMAGES_BYTES", str(2**20))
    big = [File(f"{i}.png", gray(i) + bytes(400_000)) for i in range(4)]
    received = read_images(big, GRAY)
    assert received.upload.count == 2
    (sentence,) = received.refused
    assert_one_sentence(sentence)
    assert "bytes, more than the 1,048,576 allowed; the first 2 by name" in sentence and "IMAGES_BYTES)" in sentence


@pytest.mark.parametrize(
    ("count", "least", "most", "n", "draws", "words"),
    [
        (1, 1, 16, 1, 1, "your image"),
        (1, 16, 64, 16, 16, "16 draws of noise on your image"),
        (3, 16, 64, 18, 6, "6 draws of noise on each of your 3 images"),
        (40, 16, 64, 40, 1, "your 40 images"),
        (40, 1, 16, 16, 1, "the first 16 of your 40 images"),
    ],
)
def test_few_images_get_several_draws_of_noise(count, least, most, n, draws, words):
    upload = Upload.from_array(np.zeros((count, *GRAY), np.float32))
    inputs = Inputs.of_upload(upload, 3, least=least, most=most)
    assert (inputs.n, inputs.draws, inputs.upload_in_words) == (n, draws, words)


def hand_over(level):
    import numpy as np

    from app.records import Upload
    from app.services.uploads import Received
    from app.views import own_images

    own_images._take(Received(Upload.from_array(np.full((1, 1, 8, 8), level, np.float32)), ()))


def test_what_was_computed_of_an_image_goes_when_its_session_ends(engine, monkeypatch):
    monkeypatch.setattr(cache, "engine", lambda: engine)
    sessions, requests = [], []
    for level in (-0.5, 0.5):
        app = AppTest.from_function(hand_over, kwargs={"level": level}, default_timeout=60).run()
        assert not app.exception
        image = Upload.from_array(np.full((1, 1, 8, 8), level, np.float32))
        requests.append(
            SweepRequest(stored.read_model("digits-vp-dpi").key, Inputs("upload", 1, 0, image), (0.5,), "cpu")
        )
        assert engine.submit("me", requests[-1]).wait(120)
        sessions.append(app)
    assert all(engine.cache.get(request) is not None for request in requests)
    del app, sessions[0]
    gc.collect()
    deadline = time.monotonic() + 10
    while engine.cache.get(requests[0]) is not None:  # a thread of its own lets go of it
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert engine.cache.get(requests[1]) is not None
