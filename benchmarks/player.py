"""How fast the player draws shipped models' runs of 60 states, and how many bytes a run is for the browser.

`python benchmarks/player.py [--seconds 3]` prints a table and writes benchmarks/results/player.json. The pages are the offline
ones that the Trajectories page exports, in headless Chromium without a GPU, which draws everything on the processor.
"""

import argparse
import json
import os
import platform
import tempfile
from pathlib import Path

from playwright.sync_api import CDPSession, Page, sync_playwright

from app.components.player import pack_run, standalone_player
from app.components.standalone import standalone_page
from app.figures.trajectories import run_figure, run_name
from app.records import Inputs, TrajectoryRequest
from app.services import compute, stored

ROOT = Path(__file__).parents[1]
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
STATES = 60
SAMPLES = {"fashion-flow-dpi": 16, "mixture2d-flow-dpi": 2000}
BOUNDS = {"frames_per_second": 50, "bytes": 2_000_000}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    seconds = parser.parse_args().seconds
    blobs = {name: packed(name, count) for name, count in SAMPLES.items()}
    cases = [(name, columns) for name in SAMPLES for columns in (1, 2, 4)]
    rows = []
    with sync_playwright() as playwright, tempfile.TemporaryDirectory() as folder:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        for name, columns in cases:
            file = Path(folder) / "page.html"
            file.write_text(
                standalone_page([standalone_player(blobs[name][:columns], 1.0)], title=name, about={}), encoding="utf-8"
            )
            page = browser.new_page(viewport={"width": 1280, "height": 720})
            page.goto(file.as_uri(), timeout=120_000)
            page.wait_for_selector(".column canvas[data-k]", timeout=120_000)
            rows.append({"model": name, "columns": columns, "bytes": len(blobs[name][0]), **played(page, seconds)})
            page.close()
        browser.close()
    report(rows)


def packed(name: str, count: int) -> list[bytes]:
    """The same run four times, each with noise of its own, so that no column can borrow from another."""
    key = stored.read_model(name).key
    model = compute.load_model(key, "cpu")
    blobs = []
    for seed in range(4):
        asked = TrajectoryRequest(
            key, Inputs("samples", count, seed), "ddim", STATES - 1, "uniform", "learned", 0.5, "cpu"
        )
        result = compute.answer(model, asked, lambda *_: None)
        blobs.append(pack_run(run_figure(run_name(asked), result)))
    return blobs


def played(page: Page, seconds: float) -> dict[str, float]:
    """Frames a second while the page plays from the start, and the main thread's own time for each."""
    session = page.context.new_cdp_session(page)
    session.send("Performance.enable", {"timeDomain": "threadTicks"})
    page.get_by_role("slider", name="t, from noise to sample").press("Home")
    page.wait_for_timeout(500)
    page.get_by_role("button", name="Play", exact=True).click()
    before = measured(page, session)
    page.wait_for_timeout(1000 * seconds)
    after = measured(page, session)
    frames = after["draws"] - before["draws"]
    return {
        "frames_per_second": round(frames / (after["clock"] - before["clock"]), 1),
        "main_thread_ms_per_frame": round(1000 * (after["busy"] - before["busy"]) / frames, 2),
    }


def measured(page: Page, session: CDPSession) -> dict[str, float]:
    metrics = {entry["name"]: entry["value"] for entry in session.send("Performance.getMetrics")["metrics"]}
    draws = page.locator(".player").get_attribute("data-draws")
    return {
        "draws": float(draws or 0),
        "clock": page.evaluate("performance.now() / 1000"),
        "busy": metrics["TaskDuration"],
    }


def report(rows: list[dict[str, object]]) -> None:
    print("| model | columns | bytes of a run | frames/s | main thread ms/frame |\n|---|---|---|---|---|")
    for row in rows:
        print("| {model} | {columns} | {bytes} | {frames_per_second} | {main_thread_ms_per_frame} |".format(**row))
    print(f"bounds: {BOUNDS['frames_per_second']} frames/s, {BOUNDS['bytes']} bytes")
    machine = {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()}
    result = {"states": STATES, "samples": SAMPLES, "rows": rows, "bounds": BOUNDS, "machine": machine}
    result["load_average"] = os.getloadavg()[0]
    file = ROOT / "benchmarks" / "results" / "player.json"
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
