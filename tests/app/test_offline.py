"""Pages as files: what lies in them is what the page shows, in bounds, and no text of a stranger's gets out of its place."""

import base64
import gzip
import json
import re
import struct

import numpy as np
import pytest

from app.components.scrubber import VIEW, ScrubberState, pack
from app.components.standalone import figure, mounted, paragraph, standalone_page, table, text
from app.figures import offline
from app.figures.denoise import pad_figure, sweep_figure
from app.figures.offline import Origin, denoise_page
from app.figures.offline_parts import thinned
from app.services import stored
from app.services.reproduction import about

DIGITS = stored.read_model("digits-vp-dpi")
SWEEP, PAD = pack(sweep_figure(DIGITS, [], DIGITS.sweep)), pack(pad_figure(DIGITS, DIGITS.pad))
ORIGIN = Origin(DIGITS, about(DIGITS, 0, "cpu"), {"Lines": "print('<b>')"})


def held(page):
    """The blobs in a page, and what its view is handed."""
    content = json.loads(re.search(r"^showView\((.*)\);$", page, re.MULTILINE)[1])
    return [gzip.decompress(base64.b64decode(text)) for text in content["blobs"]], content["data"]


def frames(blob):
    (length,) = struct.unpack("<I", blob[:4])
    header = json.loads(blob[4 : 4 + length])
    (spec,) = (each for each in header["arrays"] if each["name"] == "s")
    return np.frombuffer(blob, np.float32, spec["shape"][0], 4 + length + spec["offset"])


def denoise(pad=PAD):
    start = ScrubberState(0.5, (0.25, 0.75))
    return denoise_page(ORIGIN, DIGITS.sweep, (SWEEP, pad), None, [], start, "Seen.", [("dpi", "14 dB", "")])


def test_a_page_holds_the_frames_the_cursor_and_where_they_come_from():
    page = denoise()
    blobs, data = held(page)
    assert blobs == [SWEEP, PAD] and data["start"] == {"s": 0.5, "pad": [0.25, 0.75]}
    settings = json.loads(re.search('"dpi-settings" content="(.*)"', page)[1].replace("&quot;", '"'))
    assert settings["digest_of_config_and_weights"] == DIGITS.key.digest and "torch" in settings["packages"]
    assert "print(&#x27;&lt;b&gt;&#x27;)" in page
    assert not re.search(r"""(src|href)=["'](?!\$\{)|https?://(?!www\.w3\.org/2000/svg)|import\s""", page)


def test_frames_beyond_the_bound_are_thinned_and_the_page_says_so(monkeypatch):
    monkeypatch.setattr(offline, "MOST_FRAME_BYTES", len(SWEEP) // 2)
    page = denoise()
    (blob,), data = held(page)
    assert data["pad"] is None and data["start"] == {"s": 0.5, "pad": None}
    every = -(-len(SWEEP) // (len(SWEEP) // 2))
    np.testing.assert_array_equal(frames(blob), frames(SWEEP)[np.unique([*range(0, 101, every), 100])])
    assert f"one in {every} of the page&#x27;s frames" in page and "is left out" in page


def test_thinned_frames_are_those_of_their_levels():
    few = thinned(DIGITS.sweep, 7)
    assert (few.s[0], few.s[-1]) == (0, 1) and len(few.s) == len(few.native) == 16
    k = int(np.flatnonzero(DIGITS.sweep.s == few.s[3])[0])
    np.testing.assert_array_equal(few.x0_hat[3], DIGITS.sweep.x0_hat[k])
    assert few.native[3] == DIGITS.sweep.native[k] and few.lam[3] == DIGITS.sweep.lam[k]


@pytest.mark.parametrize("words", ["</script><script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"&<>'])
def test_texts_of_a_stranger_stay_texts(words):
    parts = [
        mounted(VIEW, [], {"title": words}),
        paragraph(words),
        text(words),
        table(words, [words], [[words]], words),
        figure(words, json.dumps({"data": [{"name": words}]}), words),
    ]
    page = standalone_page(parts, title=words, about={"model": words})
    plain = standalone_page([mounted(VIEW, [], {"title": ""})], title="", about={"model": ""})
    assert page.count("</script>") == plain.count("</script>") + 1  # the figure's data have a script of their own
    assert "<img" not in page and "<script>alert" not in page
    assert held(page)[1]["title"] == words


def test_the_text_of_a_lesson_is_marked_up_and_its_formulas_are_mathml():
    page = text("One **two** `x_s` $x_s\\le\\tfrac12$\n\n- a $<$ b\n\n$$\\hat x_0$$\n\n| a |\n|---|\n| $x|y$ |")
    assert "<strong>two</strong> <code>x_s</code>" in page and "<li>a <math" in page and "<td>" in page
    assert page.count("<math") == 4 and page.count('display="block"') == 1 and "$" not in page and "xmlns" not in page
    assert "<msub><mi>x</mi><mi>s</mi></msub>" in page and "&#x0003C;" in page
    assert "href" not in text("[x](javascript:alert(1))") and "<img" not in text("$\\text{<img src=x>}$")
