"""The scrubber's byte format: what is packed comes out again, within the stated errors."""

import json
import struct

import numpy as np
import pytest

from app.components.scrubber.payload import Beside, Chart, Curve, Pad, Sweep, blob_hash, pack

FRAMES, IMAGES, SIZE = 5, 3, 4


def decode(blob):
    """Decode a blob the way the browser does: raw arrays and their affine map, read from the header alone."""
    (length,) = struct.unpack_from("<I", blob)
    header = json.loads(blob[4 : 4 + length])
    assert length % 4 == 0
    body = blob[4 + length :]
    arrays = {}
    for spec in header["arrays"]:
        assert spec["offset"] % 4 == 0
        dtype = np.dtype(spec["dtype"]).newbyteorder("<")
        count = int(np.prod(spec["shape"], dtype=int))
        raw = np.frombuffer(body, dtype, count, spec["offset"]).reshape(spec["shape"])
        arrays[spec["name"]] = raw if spec["scale"] == 1 else raw * spec["scale"] + spec["zero"]
    return header, arrays


def raw_array(blob, name):
    (length,) = struct.unpack_from("<I", blob)
    spec = next(spec for spec in json.loads(blob[4 : 4 + length])["arrays"] if spec["name"] == name)
    return np.frombuffer(blob, spec["dtype"], int(np.prod(spec["shape"])), 4 + length + spec["offset"])


def sweep_fields(kind="image", channels=1, **changes):
    rng = np.random.default_rng(0)
    s = np.linspace(0, 1, FRAMES)
    item = (SIZE, SIZE, channels) if kind == "image" else (2,)
    fields = {
        "kind": kind,
        "s": s,
        "lam": s**2,
        "alpha": np.cos(s * np.pi / 2),
        "sigma": np.sin(s * np.pi / 2),
        "native": [f"flow time {value:.2f}" for value in s],
        "clean": rng.uniform(-1, 1, (IMAGES, *item)),
        "noise": rng.normal(size=(IMAGES, *item)).astype(np.float32),
        "x0_hat": rng.uniform(-1, 1, (FRAMES, IMAGES, *item)),
    }
    return fields | changes


def pad_fields(**changes):
    rng = np.random.default_rng(1)
    s, lam = np.linspace(0, 1, 4), np.linspace(0, 1, 3)
    fields = {
        "s": s,
        "lam": lam,
        "score": rng.uniform(10, 40, (3, 4)),
        "learned": np.sqrt(s),
        "x0_hat": rng.uniform(-1, 1, (3, 4, 2, SIZE, SIZE, 1)),
        "inputs": [2, 0],
        "alpha": 1 - s,
        "sigma": s,
        "native": [f"σ {value:.2f}" for value in s],
    }
    return fields | changes


def chart():
    s = np.linspace(0, 1, 7)
    this = Curve("DPI", s, 30 - s, 29 - s, 31 - s, role="this", color="#009e73")
    other = Curve("blind", s[:4], np.array([np.inf, 20, 19, 18]), dashed=True)
    return Chart("PSNR against s", "PSNR (dB)", (this, other), "Higher is better.")


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_within_half_a_grey_level(channels):
    fields = sweep_fields(channels=channels)
    header, arrays = decode(pack(Sweep(**fields)))
    assert header["type"] == "sweep" and header["kind"] == "image"
    assert header["native"] == fields["native"]
    for name in ("s", "lam", "alpha", "sigma"):
        np.testing.assert_allclose(arrays[name], fields[name], rtol=0, atol=1e-7)
    for name in ("clean", "x0_hat"):
        np.testing.assert_allclose(arrays[name], fields[name], rtol=0, atol=1 / 255 + 1e-12)
    bound = np.abs(fields["noise"]).max() / 32767 / 2
    np.testing.assert_allclose(arrays["noise"], fields["noise"], rtol=0, atol=bound * 1.001)


def test_points_come_back_within_half_a_step():
    fields = sweep_fields("points")
    fields["x0_hat"] = fields["x0_hat"] * 50
    header, arrays = decode(pack(Sweep(**fields)))
    for name in ("clean", "noise", "x0_hat"):
        bound = np.abs(fields[name]).max() / 32767 / 2
        np.testing.assert_allclose(arrays[name], fields[name], rtol=0, atol=bound * 1.001)
    assert header["extent"] == 50


@pytest.mark.parametrize("kind", ["image", "points"])
def test_a_second_network_comes_back_beside_the_first(kind):
    fields = sweep_fields(kind)
    theirs = np.random.default_rng(5).uniform(-1, 1, fields["x0_hat"].shape)
    header, arrays = decode(pack(Sweep(**fields, beside=Beside("other", fields["s"], theirs, "Note."))))
    assert header["beside"] == {"name": "other", "note": "Note."}
    np.testing.assert_allclose(arrays["beside/lam"], fields["s"], rtol=0, atol=1e-7)
    np.testing.assert_allclose(arrays["beside/x0_hat"], theirs, rtol=0, atol=1 / 255 + 1e-12)
    np.testing.assert_allclose(arrays["x0_hat"], fields["x0_hat"], rtol=0, atol=1 / 255 + 1e-12)
    blind, without = decode(pack(Sweep(**fields, beside=Beside("blind", None, theirs)))), decode(pack(Sweep(**fields)))
    assert "beside/lam" not in blind[1] and "beside/x0_hat" not in without[1] and without[0]["beside"] is None


def test_a_second_network_of_other_inputs_is_refused():
    fields = sweep_fields()
    with pytest.raises(ValueError, match=r"sweep: beside: x0_hat has shape \(5, 2,"):
        Sweep(**fields, beside=Beside("other", None, fields["x0_hat"][:, :2]))


def test_x_s_rebuilt_from_the_payload_is_the_true_one():
    fields = sweep_fields()
    _, arrays = decode(pack(Sweep(**fields)))
    k = 2
    rebuilt = arrays["alpha"][k] * arrays["clean"] + arrays["sigma"][k] * arrays["noise"]
    x_s = fields["alpha"][k] * fields["clean"] + fields["sigma"][k] * fields["noise"]
    bound = fields["alpha"][k] / 255 + fields["sigma"][k] * np.abs(fields["noise"]).max() / 65534
    np.testing.assert_allclose(rebuilt, x_s, rtol=0, atol=bound + 1e-6)


def test_stored_bytes_pass_without_loss():
    stored = np.random.default_rng(2).integers(0, 256, (FRAMES, IMAGES, SIZE, SIZE, 1), dtype=np.uint8)
    blob = pack(Sweep(**sweep_fields(clean=stored[0], x0_hat=stored)))
    np.testing.assert_array_equal(raw_array(blob, "x0_hat"), stored.ravel())
    np.testing.assert_array_equal(raw_array(blob, "clean"), stored[0].ravel())


def test_an_overshooting_denoiser_is_clipped():
    fields = sweep_fields()
    _, arrays = decode(pack(Sweep(**sweep_fields(x0_hat=fields["x0_hat"] * 3))))
    np.testing.assert_allclose(arrays["x0_hat"], np.clip(fields["x0_hat"] * 3, -1, 1), rtol=0, atol=1 / 255 + 1e-12)


@pytest.mark.parametrize(("error", "shown"), [(0.04, 0.1), (0.15, 0.2), (0.6, 0.7), (1.9, 2.0)])
def test_residual_range_is_the_round_number_above_the_errors(error, shown):
    clean = np.full((IMAGES, SIZE, SIZE, 1), -0.95)
    x0_hat = np.broadcast_to(clean + error, (FRAMES, *clean.shape))
    header, _ = decode(pack(Sweep(**sweep_fields(clean=clean, x0_hat=x0_hat))))
    assert header["residual_range"] == shown


def test_charts_travel_with_their_style_and_gaps():
    header, arrays = decode(pack(Sweep(**sweep_fields(charts=(chart(),), title="fashion"))))
    (packed,) = header["charts"]
    this, other = packed["curves"]
    assert (packed["title"], packed["y_label"], header["title"]) == ("PSNR against s", "PSNR (dB)", "fashion")
    assert (this["role"], this["dashed"], this["color"]) == ("this", False, "#009e73")
    assert (other["role"], other["dashed"], other["color"]) == ("other", True, None)
    np.testing.assert_allclose(arrays[f"{this['arrays']}/high"], 31 - np.linspace(0, 1, 7), rtol=1e-6)
    assert np.isinf(arrays[f"{other['arrays']}/y"][0])
    assert f"{other['arrays']}/low" not in arrays


def test_pad_comes_back():
    fields = pad_fields(unit="", label="LPIPS", higher_is_better=False)
    header, arrays = decode(pack(Pad(**fields)))
    assert (header["type"], header["kind"], header["inputs"]) == ("pad", "image", [2, 0])
    assert (header["label"], header["unit"], header["higher_is_better"]) == ("LPIPS", "", False)
    assert header["native"] == fields["native"]
    for name in ("s", "lam", "score", "learned", "alpha", "sigma"):
        np.testing.assert_allclose(arrays[name], fields[name], rtol=1e-6)
    np.testing.assert_allclose(arrays["x0_hat"], fields["x0_hat"], rtol=0, atol=1 / 255 + 1e-12)


def test_pad_of_points():
    x0_hat = np.random.default_rng(3).normal(size=(3, 4, 2, 2))
    header, arrays = decode(pack(Pad(**pad_fields(x0_hat=x0_hat))))
    assert header["kind"] == "points"
    np.testing.assert_allclose(arrays["x0_hat"], x0_hat, rtol=0, atol=np.abs(x0_hat).max() / 32767 / 2 * 1.001)


def test_size_of_the_shipped_sweep_and_pad():
    s = np.linspace(0, 1, 64)
    images = np.zeros((64, 16, 28, 28, 1), np.uint8)
    noise = np.ones(images.shape[1:], np.float32)
    sweep = pack(Sweep("image", s, s, 1 - s, s, [f"DDPM step {k}" for k in range(64)], images[0], noise, images))
    assert 0.80e6 < len(sweep) < 0.86e6
    s = np.linspace(0, 1, 33)
    cells = np.zeros((33, 33, 4, 28, 28, 1), np.uint8)
    pad = pack(Pad(s, s, np.ones((33, 33)), s, cells, [0, 1, 2, 3], 1 - s, s, [""] * 33))
    assert 3.40e6 < len(pad) < 3.44e6


def test_hash_follows_the_content():
    blob = pack(Sweep(**sweep_fields()))
    assert blob_hash(blob) == blob_hash(pack(Sweep(**sweep_fields())))
    changed = sweep_fields()
    changed["native"][0] = "clean"
    assert blob_hash(pack(Sweep(**changed))) != blob_hash(blob)
    louder = sweep_fields()
    louder["noise"] = louder["noise"] + np.float32(0.5)
    assert blob_hash(pack(Sweep(**louder))) != blob_hash(blob)
    # The browser finds the hash at the start of the header without decoding the rest.
    assert blob[4:].startswith(f'{{"hash":"{blob_hash(blob)}"'.encode())


def test_hash_of_foreign_bytes_is_refused():
    with pytest.raises(ValueError, match=r"starts with b'\\x89PNG.*expected the bytes that pack\(\) returns"):
        blob_hash(b"\x89PNG\r\n\x1a\n")


WRONG_SWEEPS = [
    ({"lam": np.zeros(4)}, r"lam has shape \(4,\); expected \(5,\).*recompute"),
    ({"lam": np.linspace(0, 1.2, FRAMES)}, r"lam spans \[0, 1\.2\]; expected values in \[0, 1\]; map it"),
    ({"s": np.linspace(1, 0, FRAMES)}, r"s starts \[1\..*expected strictly increasing values; sort it"),
    ({"s": np.zeros((5, 1))}, r"s has shape \(5, 1\); expected \(K,\)"),
    ({"native": ["a"]}, r"native has 1 texts; expected 5, one for each s; label every frame"),
    ({"kind": "audio"}, r"kind is 'audio'; expected 'image' or 'points'"),
    ({"kind": "points"}, r"clean has shape \(3, 4, 4, 1\); expected \(N, 2\) for kind 'points'; reshape"),
    ({"clean": np.zeros((3, 4, 4, 2))}, r"clean has shape \(3, 4, 4, 2\); expected \(N, H, W, C\) with C 1 or 3"),
    ({"noise": np.zeros((3, 4, 4))}, r"noise has shape \(3, 4, 4\); expected \(3, 4, 4, 1\)"),
    ({"x0_hat": np.zeros((4, 3, 4, 4, 1))}, r"x0_hat has shape \(4, 3, 4, 4, 1\); expected \(5, 3, 4, 4, 1\)"),
    ({"x0_hat": np.full((5, 3, 4, 4, 1), np.nan)}, r"x0_hat contains nan; expected finite numbers; check the network"),
    ({"sigma": -np.ones(FRAMES)}, r"sigma reaches -1; expected values >= 0; check the process"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_SWEEPS)
def test_wrong_sweeps_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Sweep(**(sweep_fields() | changes))


WRONG_PADS = [
    ({"score": np.zeros((4, 3))}, r"score has shape \(4, 3\); expected \(3, 4\), \(Q, P\)"),
    ({"learned": np.zeros(3)}, r"learned has shape \(3,\); expected \(4,\)"),
    ({"inputs": []}, r"inputs is \[\]; expected indices into the sweep's inputs; name at least one"),
    ({"inputs": [0, -1]}, r"inputs is \[0, -1\]"),
    ({"inputs": [0, 1, 2]}, r"x0_hat has shape \(3, 4, 2, 4, 4, 1\); expected \(3, 4, 3, 4, 4, 1\)"),
    ({"x0_hat": np.zeros((3, 4, 2, 5))}, r"x0_hat has items of shape \(5,\); expected \(H, W, C\)"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_PADS)
def test_wrong_pads_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Pad(**pad_fields(**changes))


WRONG_CURVES = [
    ({"y": [1, 2]}, r"curve 'x': y has shape \(2,\); expected \(3,\)"),
    ({"low": [0, 0, 0]}, r"only one end of the interval is given; give both low and high"),
    ({"role": "main"}, r"role is 'main'; expected 'this' or 'other'"),
    ({"color": "red; }"}, r"color is 'red; }'; expected '#rrggbb' or None"),
]


@pytest.mark.parametrize(("changes", "message"), WRONG_CURVES)
def test_wrong_curves_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        Curve(**({"name": "x", "s": [0, 0.5, 1], "y": [1, 2, 3]} | changes))


def test_an_empty_chart_is_refused():
    with pytest.raises(ValueError, match=r"curves is \(\); expected at least one; leave it out"):
        Chart("PSNR", "dB", ())
