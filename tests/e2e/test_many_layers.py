"""The outline of a network of 200 layers: few rows in the page, folding, keys. The view alone, without the app."""

import base64

import numpy as np
import pytest
from playwright.sync_api import expect

from app.components.layers import OWN, OWN_MODULES, SHARED, SHARED_MODULES, LayerTable, Statistic, pack_table
from app.components.sources import read

pytestmark = pytest.mark.e2e

STAGES, BLOCKS = 10, 10
NAMES = [f"stage{i}.{j}.{part}" for i in range(STAGES) for j in range(BLOCKS) for part in ("norm", "conv")]
ROW = 18
PAGE = """<!doctype html><style>body {{ margin: 0 }} {css}</style><div id="root">{html}</div><script type="module">
{js}
globalThis.put = (bytes) => putBlob(decodeBlob(bytes));
</script>"""
MOUNT = """([text, start]) => {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  put(bytes);
  const { hash } = decode(bytes);
  globalThis.sent = [];
  const data = { table: hash, detail: null, start, pending: "", revision: hash };
  mountView({ parentElement: document.querySelector("#root"), data, setStateValue: (_, value) => sent.push(value) });
}"""


@pytest.fixture
def values():
    return np.random.default_rng(0).random((len(NAMES), 9))


@pytest.fixture
def page(browser, values):
    js = read(SHARED, *SHARED_MODULES, "decode.js") + "\n" + read(OWN, *OWN_MODULES)
    js = js.replace("export default function mountView", "globalThis.mountView = function")
    css = read(SHARED, "scrubber.css") + read(OWN, "layers.css")
    page = browser.new_page(viewport={"width": 1280, "height": 720})
    errors = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.set_content(PAGE.format(css=css, html=read(OWN, "layers.html"), js=f"{js}\nglobalThis.decode = decodeBlob;"))
    one = Statistic("one", "One", "dB", "How to read it.", np.linspace(0, 1, 9), values)
    table = LayerTable(
        "m", NAMES, [name.split(".")[0] for name in NAMES], ["Conv2d"] * len(NAMES), [9] * len(NAMES), (one,)
    )
    start = {"s": 0.5, "layer": NAMES[0], "statistic": "one", "order": "depth", "sample": 0, "shown": "value"}
    page.evaluate(MOUNT, [base64.b64encode(pack_table(table)).decode(), start])
    yield page
    page.close()
    assert errors == []


def in_page(page):
    """Paths of the rows in sight, and how many row elements there are."""
    paths = page.locator(".row:visible").evaluate_all("rows => rows.map((row) => row.dataset.path)")
    return paths, page.locator(".row").count()


def scroll_to(page, row):
    page.locator(".rows").evaluate("(rows, top) => { rows.scrollTop = top; }", row * ROW)
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def test_it_opens_folded_but_for_the_stage_of_the_selected_layer(page):
    rows = page.locator(".row:visible")
    assert rows.first.get_attribute("aria-setsize") == str(STAGES + BLOCKS + 2 * BLOCKS)
    assert in_page(page)[0][:4] == ["stage0/", "stage0.0/", "stage0.0.norm", "stage0.0.conv"]
    scroll_to(page, 1000)
    assert in_page(page)[0][-9:] == [f"stage{i}/" for i in range(1, STAGES)]


def test_only_rows_in_sight_are_in_the_page(page, values):
    page.locator("[data-order=value]").click()
    ranked = [NAMES[i] for i in np.argsort(-values.astype(np.float32).mean(axis=1), kind="stable")]
    room = page.locator(".rows").evaluate("rows => rows.clientHeight") // ROW + 2
    assert room < 40
    seen = set()
    for first in range(0, len(NAMES), 15):
        scroll_to(page, first)
        paths, elements = in_page(page)
        assert elements <= room
        top = page.locator(".rows").evaluate("rows => rows.scrollTop") / ROW
        assert paths[0] == ranked[int(top)]
        seen |= set(paths)
    assert seen == set(NAMES)
    assert page.locator(".row:visible").last.get_attribute("aria-setsize") == "200"


def test_keys_reach_every_layer(page):
    fold = page.locator("[data-action=fold]")
    fold.click()  # some are folded: all unfold
    page.get_by_role("tree").focus()
    page.keyboard.press("End")
    page.wait_for_function("sent.at(-1)?.layer === 'stage9.9.conv'")
    selected = page.locator(".row[aria-selected=true]:visible")
    assert selected.get_attribute("data-path") == NAMES[-1]
    assert page.locator(".rows").evaluate("rows => rows.scrollTop") > 200 * ROW / 2
    page.keyboard.press("PageUp")  # ten rows up, and three make a block
    page.wait_for_function("sent.at(-1)?.layer === 'stage9.6.norm'")
    fold.click()
    expect(page.locator(".row[data-path='stage0/']:visible")).to_have_count(1)  # rows are drawn in the next frame
    assert in_page(page)[0] == [f"stage{i}/" for i in range(STAGES)]
