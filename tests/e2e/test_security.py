"""The app as many use it, in a browser: its policy lets nothing foreign run and stops nothing of its own."""

import base64
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import expect

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def guarded(tmp_path_factory):
    """The address of `app/server.py`, which sends the policy."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    log = tmp_path_factory.mktemp("guarded") / "log.txt"
    options = [f"--server.port={port}", "--server.headless=true"]
    with log.open("w") as output:
        command = [sys.executable, "-m", "streamlit", "run", "app/server.py", *options]
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        try:
            deadline = time.monotonic() + 60
            while not _listens(port):
                assert process.poll() is None and time.monotonic() < deadline, log.read_text()
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/"
        finally:
            process.terminate()
            process.wait(20)
    assert "Traceback" not in log.read_text(), log.read_text()


def _listens(port):
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def test_a_strict_policy_stops_foreign_scripts_and_none_of_the_apps_own(guarded, browser):
    page, errors = browser.new_page(), []
    page.on(
        "console", lambda message: errors.append(message.text) if "Content Security Policy" in message.text else None
    )
    answer = page.goto(guarded)
    policy = answer.headers["content-security-policy"]
    assert "unsafe-eval'" not in policy.replace("'wasm-unsafe-eval'", "") and "script-src 'self'" in policy
    page.locator("[data-panel=denoised] canvas[data-k]").wait_for()  # a component
    page.goto(f"{guarded}parameters")
    expect(page.locator(".js-plotly-plot").first).to_be_visible()
    assert errors == []
    page.evaluate("document.body.append(Object.assign(document.createElement('script'), {text: 'window.foreign = 1'}))")
    page.evaluate("document.body.append(Object.assign(new Image(), {src: 'https://example.org/x.png'}))")
    assert page.evaluate("window.foreign") is None
    assert len(errors) >= 2
    page.close()


@pytest.mark.parametrize(("host", "status"), [("", 101), ("evil.example", 403), ("127.0.0.1.evil.example", 403)])
def test_only_the_names_of_this_machine_open_a_session(server, host, status):
    address = urlsplit(server.url)
    with socket.create_connection((address.hostname, address.port), timeout=60) as connection:
        connection.sendall(
            f"GET /_stcore/stream HTTP/1.1\r\nHost: {host or address.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n".encode()
        )
        assert connection.recv(12).decode() == f"HTTP/1.1 {status}"


def test_a_file_is_taken_only_from_the_page_that_was_opened(open_page, server):
    """Cross-site request forgery: another site can make a browser send a request, but not the page's token with it."""
    page = open_page("?inputs=Upload")
    png = base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    )
    with page.expect_request(lambda request: "/upload_file/" in request.url) as sent:
        page.locator("input[type=file]").set_input_files([{"name": "x.png", "mimeType": "image/png", "buffer": png}])
    request = sent.value
    assert request.response().ok and "x-xsrftoken" in request.headers
    foreign = {
        "multipart": {"file": {"name": "x.png", "mimeType": "image/png", "buffer": png}},
        "method": request.method,
    }
    assert page.request.fetch(request.url, **foreign).status == 403
    token = {"X-Xsrftoken": request.headers["x-xsrftoken"]}
    assert page.request.fetch(request.url, headers=token, **foreign).ok


def test_a_page_loaded_anew_in_mid_computation_shows_what_was_asked_for(open_page):
    page = open_page("?inputs=Samples&seed=78")
    expect(page.get_by_role("progressbar")).to_be_visible()
    page.reload()
    page.get_by_text("Python that reproduces this").first.click()
    expect(page.get_by_text("model.sample(16, seed=78)").first).to_be_attached()
    assert "inputs=Samples" in page.url and "seed=78" in page.url
