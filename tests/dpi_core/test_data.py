"""Data sets: closed forms against integration, splits that do not leak, and files that lie about themselves."""

import gzip
import io
import math
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from dpi_core import idx_files
from dpi_core.data import (
    DATA_KINDS,
    FOLDER_KINDS,
    Checkerboard,
    DataConfig,
    DistributionData,
    GaussianMixture,
    ImageData,
    Moons,
    Spirals,
    digits,
    download_fashion_mnist,
    idx,
    idx_labels,
    image_folder,
    load_data,
    photos,
    ring_mixture,
)
from dpi_core.images import COLOUR_PHOTOS, GRAY_PHOTOS, HELD_OUT_PHOTOS, read_image, to_unit_range
from dpi_core.seeds import held_out_generator, seeded_generator

NOISE_LEVELS = [(1.0, 0.05), (0.8, 0.6), (0.3, 0.95), (0.02, 1.0), (1.0, 4.0)]


def float64(values):
    return torch.tensor(values, dtype=torch.float64)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def mixture():
    """Three Gaussians of different weight, size and direction."""
    return GaussianMixture(
        means=float64([[1.0, 0.5], [-1.2, 0.3], [0.1, -1.0]]),
        covariances=float64([[[0.3, 0.2], [0.2, 0.4]], [[0.5, -0.3], [-0.3, 0.3]], [[0.1, 0.0], [0.0, 0.6]]]),
        weights=float64([0.5, 0.2, 0.3]),
    )


def noisy_points(mixture, alpha, sigma, n=6):
    x0 = mixture.sample(n, rng())
    return alpha * x0 + sigma * torch.randn(n, 2, generator=rng(1), dtype=torch.float64)


# --- Gaussian mixtures


def test_log_prob_agrees_with_torch_distributions(mixture):
    x = noisy_points(mixture, 1.0, 0.5)
    reference = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(mixture.weights),
        torch.distributions.MultivariateNormal(mixture.means, mixture.covariances),
    )
    torch.testing.assert_close(mixture.log_prob(x), reference.log_prob(x))


@pytest.mark.parametrize(("alpha", "sigma"), NOISE_LEVELS)
def test_posterior_mean_agrees_with_integration_on_a_grid(mixture, alpha, sigma):
    axis = torch.linspace(-7, 7, 701, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    prior = mixture.log_prob(x0)
    for x_s in noisy_points(mixture, alpha, sigma):
        likelihood = -(x_s - alpha * x0).square().sum(1) / (2 * sigma**2)
        expected = (prior + likelihood).softmax(0) @ x0
        actual = mixture.posterior_mean(x_s[None], alpha, sigma)[0]
        torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("alpha", "sigma"), NOISE_LEVELS)
def test_score_is_the_gradient_of_log_prob_and_obeys_tweedie(mixture, alpha, sigma):
    x_s = noisy_points(mixture, alpha, sigma).requires_grad_()
    (gradient,) = torch.autograd.grad(mixture.log_prob(x_s, alpha, sigma).sum(), x_s)
    score = mixture.score(x_s, alpha, sigma)
    torch.testing.assert_close(score, gradient)
    torch.testing.assert_close(alpha * mixture.posterior_mean(x_s, alpha, sigma), x_s + sigma**2 * score)


def test_posterior_mean_without_noise_is_the_point_and_without_signal_the_mean(mixture):
    x_s = noisy_points(mixture, 1.0, 1.0)
    torch.testing.assert_close(mixture.posterior_mean(x_s, 0.25, 0.0), x_s / 0.25)
    torch.testing.assert_close(mixture.posterior_mean(x_s, 0.0, 1.0), mixture.mean.expand_as(x_s))


def test_one_coefficient_per_point_equals_one_call_per_point(mixture):
    x_s, alpha, sigma = noisy_points(mixture, 1.0, 1.0), torch.linspace(0, 1, 6), torch.linspace(1, 0, 6)
    for method in (mixture.posterior_mean, mixture.score, mixture.log_prob):
        one_by_one = torch.cat([method(x_s[i : i + 1], alpha[i].item(), sigma[i].item()) for i in range(6)])
        torch.testing.assert_close(method(x_s, alpha, sigma), one_by_one)


def test_posterior_mean_is_stable_far_outside_and_at_tiny_noise():
    ring = ring_mixture()
    far = float64([[1e4, 0.0], [-1e4, 1e4]])
    torch.testing.assert_close(ring.posterior_mean(far, 1.0, 1e-6), far, rtol=1e-8, atol=0)
    assert ring.score(far, 1.0, 1e-6).isfinite().all()


def test_posterior_mean_is_the_best_denoiser_of_samples(mixture):
    x0 = mixture.sample(20_000, rng())
    x_s = 0.7 * x0 + 0.7 * torch.randn(x0.shape, generator=rng(1), dtype=torch.float64)
    error = mixture.posterior_mean(x_s, 0.7, 0.7) - x0
    # The error of a conditional mean is uncorrelated with every function of x_s.
    for function in (torch.ones_like(x_s), x_s, x_s.sin(), mixture.posterior_mean(x_s, 0.7, 0.7)):
        product = error * function
        assert (product.mean(0).abs() < 5 * product.std(0) / len(x0) ** 0.5).all()


def test_samples_have_the_moments_of_the_mixture(mixture):
    x = mixture.sample(200_000, rng())
    torch.testing.assert_close(x.mean(0), mixture.mean, rtol=0, atol=0.01)
    torch.testing.assert_close(x.T.cov(), mixture.covariance, rtol=0, atol=0.02)


def test_posterior_mean_keeps_float32(mixture):
    x_s = noisy_points(mixture, 1.0, 1.0).float()
    assert mixture.posterior_mean(x_s, 0.5, 0.5).dtype == torch.float32


def test_ring_mixture_has_unit_covariance():
    torch.testing.assert_close(ring_mixture().covariance, torch.eye(2, dtype=torch.float64))
    torch.testing.assert_close(ring_mixture(5, 0.3).covariance, torch.eye(2, dtype=torch.float64))


def test_mixture_errors_name_value_and_remedy(mixture):
    x = float64([[0.0, 0.0]])
    with pytest.raises(ValueError, match="alpha and sigma are both 0, .* make one of them positive"):
        mixture.posterior_mean(x, 0.0, 0.0)
    with pytest.raises(ValueError, match=r"sigma is -1\.0; it must be finite and at least 0"):
        mixture.score(x, 1.0, -1.0)
    with pytest.raises(ValueError, match="alpha is nan"):
        mixture.log_prob(x, math.nan, 1.0)
    with pytest.raises(ValueError, match=r"weights are \[0\.5, 0\.6\]; .* normalise them"):
        GaussianMixture.isotropic(torch.zeros(2, 2), torch.ones(2), float64([0.5, 0.6]))
    with pytest.raises(ValueError, match="symmetric and positive definite"):
        GaussianMixture.isotropic(torch.zeros(2, 2), torch.zeros(2))
    with pytest.raises(ValueError, match=r"std = 1\.5; use at least 3 components and 0 < std < 1"):
        ring_mixture(std=1.5)


# --- other distributions in the plane


@pytest.mark.parametrize("distribution", [Moons(), Moons(noise=0.3), Spirals(), Spirals(1.0, 0.2), Checkerboard()])
def test_planar_sets_are_centred_with_unit_variance_on_average(distribution):
    x = distribution.sample(400_000, rng())
    torch.testing.assert_close(x.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=0.01)
    assert x.square().mean().item() == pytest.approx(1, abs=0.01)


def test_noiseless_moons_lie_on_two_half_circles():
    x = Moons(noise=0.0).sample(1000, rng()) * math.sqrt((1 + 5 / 16 - 1 / math.pi) / 2) + float64([0.5, 0.25])
    upper = (x.norm(dim=1) - 1).abs() < 1e-9
    lower = ((x - float64([1.0, 0.5])).norm(dim=1) - 1).abs() < 1e-9
    assert (upper & (x[:, 1] >= 0) | lower & (x[:, 1] <= 0.5)).all()
    assert 400 < upper.sum() < 600


def test_noiseless_spirals_turn_in_proportion_to_their_radius():
    x = Spirals(turns=1.5, noise=0.0).sample(1000, rng()) / 2
    radius = x.norm(dim=1)
    phase = torch.atan2(x[:, 1], x[:, 0]) - 2 * math.pi * 1.5 * radius
    assert (phase.sin().abs() < 1e-9).all(), "an arm and its opposite differ by half a turn"
    assert radius.max() <= 1 and 400 < (phase.cos() > 0).sum() < 600


def test_checkerboard_fills_squares_of_one_colour():
    x = Checkerboard(squares=4).sample(8000, rng())
    column, row = ((x / math.sqrt(12) + 0.5) * 4).long().T
    assert ((column + row) % 2 == 0).all()
    counts = (4 * column + row).bincount(minlength=16)
    assert (counts[counts > 0] > 850).all() and (counts > 0).sum() == 8


def test_odd_checkerboard_is_refused():
    with pytest.raises(ValueError, match="squares is 3; it must be even"):
        Checkerboard(squares=3)


# --- streams


def test_streams_differ_beyond_the_32_bits_that_the_generator_reads():
    draws = [seeded_generator(*key) for key in [(1,), (2**32 + 1,), (1, 0), (1, 1), (0, 1)]] + [held_out_generator(1)]
    values = {torch.rand((), generator=draw).item() for draw in draws}
    assert len(values) == len(draws)


def test_fresh_batches_follow_the_generator_and_avoid_held_out_points():
    data = load_data(DataConfig("moons"))
    assert torch.equal(data.batch(64, seeded_generator(3)), data.batch(64, seeded_generator(3)))
    assert torch.equal(data.held_out_batch(64, 3), data.held_out_batch(64, 3))
    seen = {tuple(point) for point in data.batch(4096, seeded_generator(3)).tolist()}
    assert seen.isdisjoint(tuple(point) for point in data.held_out_batch(4096, 3).tolist())


# --- image sets


def as_rows(images):
    return sorted(map(tuple, images.flatten(1).tolist()))


def test_digits_are_split_once_and_in_proportion():
    from sklearn.datasets import load_digits

    bunch = load_digits()
    class_of = {tuple(image.ravel()): label for image, label in zip(bunch.images, bunch.target, strict=True)}
    data = digits(seed=0)
    pixels = {part: (getattr(data, part) + 1) * 8 for part in ("train", "held_out")}
    assert (len(data.train), len(data.held_out)) == (1437, 360)
    everything = torch.cat(list(pixels.values()))
    assert as_rows(everything) == as_rows(torch.from_numpy(bunch.images)), "no digit is lost, none is doubled"
    labels = np.array([class_of[row] for row in as_rows(pixels["held_out"])])
    np.testing.assert_allclose(np.bincount(labels), np.bincount(bunch.target) / 1797 * 360, atol=1)
    assert not torch.equal(data.held_out, digits(seed=1).held_out)


def test_photos_never_share_a_photo_between_training_and_held_out(monkeypatch):
    names = GRAY_PHOTOS + COLOUR_PHOTOS
    for value, name in enumerate(names):
        shape = (70, 80) if name in GRAY_PHOTOS else (70, 80, 3)
        monkeypatch.setattr(f"skimage.data.{name}", lambda value=value, shape=shape: np.full(shape, value, np.uint8))
    data = photos(size=32, crops_per_photo=4)
    seen = {part: {names[round(v * 127.5 + 127.5)] for v in getattr(data, part).unique().tolist()} for part in PARTS}
    assert seen == {"train": set(names) - set(HELD_OUT_PHOTOS), "held_out": set(HELD_OUT_PHOTOS)}
    assert len(data.held_out) == 4 * len(HELD_OUT_PHOTOS)


PARTS = ("train", "held_out")


def test_photos_are_crops_of_the_bundled_photos_at_two_scales():
    from skimage import data as bundled

    data = photos(size=64, crops_per_photo=2)
    full, half = data.held_out[0, 0], data.held_out[1, 0]
    camera = torch.from_numpy(bundled.camera().copy()).float() / 127.5 - 1
    halved = camera.reshape(256, 2, 256, 2).mean((1, 3))
    for crop, photo in ((full, camera), (half, halved)):
        candidates = (photo[:-63, :-63] - crop[0, 0]).abs() < 1e-5
        corners = candidates.nonzero().tolist()
        assert any(torch.allclose(photo[i : i + 64, j : j + 64], crop, atol=1e-5) for i, j in corners)


def test_colour_photos_have_three_channels_and_too_large_crops_are_refused():
    assert photos(size=64, gray=False, crops_per_photo=1).shape == (3, 64, 64)
    with pytest.raises(ValueError, match=r"size is 400, but a photo has \(303, 384\) pixels; choose a smaller size"):
        photos(size=400, crops_per_photo=1)


def test_image_batches_are_training_images_and_held_out_batches_are_distinct():
    values = torch.arange(30.0).reshape(30, 1, 1, 1)
    data = ImageData(train=values[:20], held_out=values[20:], name="numbers", licence="CC0", source="here")
    assert set(data.batch(500, rng()).flatten().tolist()) == set(range(20))
    assert sorted(data.held_out_batch(10, 0).flatten().tolist()) == list(range(20, 30))
    with pytest.raises(ValueError, match="11 held-out images were asked for, but numbers has 10; ask for fewer"):
        data.held_out_batch(11, 0)


# --- idx files


def idx_bytes(values):
    return bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape) + values.tobytes()


@pytest.fixture
def idx_folder(tmp_path):
    """Five training and two held-out images of 2 x 3 pixels with labels, the training ones compressed."""
    pixels = np.random.default_rng(0).integers(0, 256, (7, 2, 3), dtype=np.uint8)
    labels = np.arange(7, dtype=np.uint8)
    for part, rows, suffix in (("train", slice(0, 5), ".gz"), ("t10k", slice(5, 7), "")):
        pack = gzip.compress if suffix else bytes
        (tmp_path / f"{part}-images-idx3-ubyte{suffix}").write_bytes(pack(idx_bytes(pixels[rows])))
        (tmp_path / f"{part}-labels-idx1-ubyte{suffix}").write_bytes(pack(idx_bytes(labels[rows])))
    return tmp_path, pixels


def test_idx_files_come_back_as_written(idx_folder):
    folder, pixels = idx_folder
    data = load_data(DataConfig("idx"), folder)
    assert data.shape == (1, 2, 3)
    assert torch.equal(((data.train[:, 0] + 1) * 127.5).round(), torch.from_numpy(pixels[:5]).float())
    assert torch.equal(((data.held_out[:, 0] + 1) * 127.5).round(), torch.from_numpy(pixels[5:]).float())
    assert data.train.min() >= -1 and data.train.max() <= 1
    labels = idx_labels(folder)
    assert (labels.train.tolist(), labels.held_out.tolist()) == ([0, 1, 2, 3, 4], [5, 6])
    assert (data.name, data.licence) == (folder.name, "not stated in idx files")


IMAGES = np.zeros((5, 2, 3), np.uint8)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "starts with the bytes of an empty file, but .* starts with 00 00 08 03"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "starts with the bytes 89 50 4e 47"),
        (idx_bytes(IMAGES[0, 0]) + bytes(40), "starts with the bytes 00 00 08 01"),
        (
            bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**32 - 1, 2**32 - 1, 28),
            r"as a data set has [\d,]+ bytes, more than",
        ),
        (
            bytes([0, 0, 8, 3]) + struct.pack(">3I", 0, 28, 28),
            r"states the shape \(0, 28, 28\), but has to hold values",
        ),
        (idx_bytes(IMAGES)[:-1], "45 bytes, not those of its shape|29 values where its header states 30"),
        (idx_bytes(IMAGES) + b"x", "47 bytes, not those of its shape|more values where its header states 30"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_damaged_idx_files_are_refused_in_one_sentence(idx_folder, content, message, compressed):
    folder, _ = idx_folder
    (folder / "train-images-idx3-ubyte.gz").unlink()
    name = "train-images-idx3-ubyte" + ".gz" * compressed
    (folder / name).write_bytes(gzip.compress(content) if compressed else content)
    with pytest.raises(ValueError, match=message) as caught:
        idx(folder)
    assert "\n" not in str(caught.value)


def test_truncated_gzip_is_refused(idx_folder):
    path = idx_folder[0] / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(ValueError, match="cannot be read .* download it again"):
        idx(idx_folder[0])


def test_idx_images_of_two_sizes_are_refused(idx_folder):
    (idx_folder[0] / "t10k-images-idx3-ubyte").write_bytes(idx_bytes(np.zeros((2, 4, 4), np.uint8)))
    with pytest.raises(ValueError, match=r"training images of \(2, 3\) pixels and held-out images of \(4, 4\)"):
        idx(idx_folder[0])


def test_missing_files_say_where_to_get_them(tmp_path):
    with pytest.raises(ValueError, match="pass --data PATH with its files; .*github.com/zalandoresearch/fashion-mnist"):
        load_data(DataConfig("idx"))
    with pytest.raises(ValueError, match="holds neither train-images-idx3-ubyte nor .*; pass --data PATH"):
        load_data(DataConfig("idx"), tmp_path)
    with pytest.raises(ValueError, match="'image_folder' got the folder None; pass --data PATH"):
        load_data(DataConfig("image_folder"))


def test_download_keeps_only_what_has_the_published_digest(tmp_path, monkeypatch):
    name = "train-labels-idx1-ubyte.gz"
    monkeypatch.setattr(idx_files.urllib.request, "urlopen", lambda url, timeout: io.BytesIO(url.encode()))
    with pytest.raises(ValueError, match="has SHA-256 .*, not .*; get it from https://github.com/zalandoresearch"):
        download_fashion_mnist(tmp_path)
    assert list(tmp_path.iterdir()) == []
    url = idx_files.FASHION_MNIST_URL + name
    monkeypatch.setattr(idx_files, "FASHION_MNIST_SHA256", {name: idx_files._sha256(url.encode())})
    download_fashion_mnist(tmp_path)
    assert (tmp_path / name).read_text() == url


# --- folders of images


@pytest.fixture
def gray_folder(tmp_path):
    """Ten images of one gray value each, in a folder and a subfolder."""
    (tmp_path / "more").mkdir()
    for value in range(10):
        folder = tmp_path / "more" if value % 2 else tmp_path
        Image.new("RGB", (20, 30), (value * 20,) * 3).save(folder / f"{value}.png")
    return tmp_path


def test_image_folder_splits_without_overlap_and_by_seed(gray_folder):
    data = image_folder(gray_folder, size=8, held_out_fraction=0.3)
    values = {part: {round((v + 1) * 127.5 / 20) for v in getattr(data, part).unique().tolist()} for part in PARTS}
    assert values["train"] | values["held_out"] == set(range(10))
    assert (len(values["train"]), len(values["held_out"])) == (7, 3)
    assert data.shape == (1, 8, 8)
    assert image_folder(gray_folder, size=8, gray=False).shape == (3, 8, 8)
    held_out = {tuple(image_folder(gray_folder, 8, seed=seed).held_out.flatten().tolist()) for seed in range(5)}
    assert len(held_out) > 1


def test_image_folder_crops_the_centre_upright(tmp_path):
    wide = np.zeros((8, 24), np.uint8)
    wide[:, 8:16] = 255
    turned = Image.fromarray(wide.T.copy())
    exif = turned.getexif()
    exif[274] = 6  # "rotate by 90 degrees to see it upright"
    turned.save(tmp_path / "turned.png", exif=exif)
    Image.fromarray(wide).save(tmp_path / "wide.png")
    data = image_folder(tmp_path, size=8)
    torch.testing.assert_close(torch.cat([data.train, data.held_out]), torch.ones(2, 1, 8, 8))


def test_transparent_and_sixteen_bit_images_are_read_as_they_look(tmp_path):
    hidden = np.zeros((4, 4, 4), np.uint8)
    hidden[..., 0] = 200  # red, where nobody sees it
    hidden[:2, :, 3] = 255
    Image.fromarray(hidden).save(tmp_path / "clear.png")
    colours = read_image(tmp_path / "clear.png", gray=False)
    assert torch.equal(colours[:, 0, 0], to_unit_range(torch.tensor([200, 0, 0], dtype=torch.uint8)))
    assert (colours[:, 2:] == 1).all(), "transparent parts show a white page"
    bright = np.array([[0, 257, 32896, 65535]], np.uint16).repeat(2, axis=0)
    Image.fromarray(bright).save(tmp_path / "deep.png")
    gray = (read_image(tmp_path / "deep.png", gray=True)[0, 0] + 1) * 127.5
    assert gray.round().tolist() == [0, 1, 128, 255]


def test_image_folder_refuses_bombs_junk_and_too_few(gray_folder, monkeypatch):
    monkeypatch.setenv("DPI_MAX_IMAGE_PIXELS", "599")
    with pytest.raises(
        ValueError, match=r"png has 600 pixels, more than the 599 allowed; shrink it, .*DPI_MAX_IMAGE_PIXELS"
    ):
        image_folder(gray_folder, size=8)
    monkeypatch.setenv("DPI_MAX_IMAGE_PIXELS", "299")
    with pytest.raises(ValueError, match="png has too many pixels, more than the 299 allowed; shrink it"):
        image_folder(gray_folder, size=8)
    monkeypatch.undo()
    monkeypatch.setenv("DPI_MAX_DATA_BYTES", "1000")
    with pytest.raises(ValueError, match="has 2,560 bytes, more than the 1,000 allowed; choose a smaller size than 8"):
        image_folder(gray_folder, size=8)
    monkeypatch.undo()
    (gray_folder / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"0\.png is not an image that can be read; .* leave it out"):
        image_folder(gray_folder, size=8)
    for path in gray_folder.rglob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match="has 0 images; pass a folder with at least 2"):
        image_folder(gray_folder)


# --- configs and imports


@pytest.mark.parametrize("kind", [kind for kind in DATA_KINDS if kind not in (*FOLDER_KINDS, "photos")])
def test_every_kind_loads_by_its_name(kind):
    data = load_data(DataConfig(kind))
    assert isinstance(data, DistributionData | ImageData) and data.name == kind
    batch = data.batch(5, rng())
    assert batch.shape == (5, *data.shape) and batch.dtype == torch.float32


def test_config_errors_name_the_choices():
    with pytest.raises(ValueError, match="kind is 'cifar'; choose one of ring_mixture, .*, image_folder"):
        DataConfig("cifar")
    with pytest.raises(ValueError, match=r"size is 4; it must lie in 8\.\.512 pixels"):
        DataConfig("photos", size=4)


def test_import_does_not_pull_in_sklearn_or_skimage():
    code = "import sys, dpi_core.data; sys.exit('sklearn' in sys.modules or 'skimage' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
