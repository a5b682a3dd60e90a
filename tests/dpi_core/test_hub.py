"""The Hub, spoken to over HTTP: a small one of our own on this machine that keeps repositories in memory."""

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch.testing import assert_close

import dpi_core
from app.services import stored
from app.services.own_models import from_hub
from dpi_core import hub
from dpi_core.build import build_denoiser, recipe_from_dict
from dpi_core.cli import main
from dpi_core.model import Model

RECIPE = recipe_from_dict(
    {
        "name": "ring-flow-dpi",
        "data": {"kind": "ring_mixture"},
        "shape": [2],
        "process": {"kind": "flow"},
        "backbone": {"kind": "mlp", "width": 8, "depth": 2},
        "conditioning": {"kind": "dpi", "schedule": {"n_knots": 9}},
        "training": {"steps": 3},
        "sampling": {"sampler": "heun", "steps": 4},
    }
)


@dataclass
class FakeHub:
    """What the server holds, and what it was asked: repository -> list of commits, each name -> bytes."""

    address: str = ""
    repositories: dict[str, list[dict[str, bytes]]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    lost: set[str] = field(default_factory=set)

    @property
    def fetched(self) -> set[str]:
        """Names of the files that were sent out."""
        return {line.rsplit("/", 1)[1] for line in self.requests if line.startswith("GET") and "/resolve/" in line}

    def sha(self, repo: str, index: int = -1) -> str:
        index = index % len(self.repositories[repo])
        return hashlib.sha1(f"{repo}{index}".encode()).hexdigest()

    def files(self, repo: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
        commits = self.repositories.get(repo, [])
        for index, files in enumerate(commits):
            if revision in (self.sha(repo, index), "main" if index == len(commits) - 1 else None):
                return self.sha(repo, index), files
        return None

    def commit(self, repo: str, lines: list[dict]) -> None:
        added = {
            line["value"]["path"]: base64.b64decode(line["value"]["content"]) for line in lines if line["key"] == "file"
        }
        before = self.repositories[repo][-1] if self.repositories[repo] else {}
        self.repositories[repo].append({**before, **added})


def handler(fake: FakeHub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_):
            pass

        def answer(self, body, status=200, **headers):
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(data)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        def missing(self):
            self.answer({"error": "Repository not found"}, 404, X_Error_Code="RepoNotFound")

        def note(self) -> str:
            path = self.path.split("?")[0]
            fake.requests.append(f"{self.command} {path}")
            fake.tokens.add(self.headers.get("authorization"))
            return path

        def do_GET(self):
            path = self.note()
            found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path)
            if found:
                stored = fake.files(found[1], found[2] or "main")
                if stored is None:
                    return self.missing()
                siblings = [{"rfilename": name, "size": len(data)} for name, data in stored[1].items()]
                return self.answer({"id": found[1], "sha": stored[0], "siblings": siblings})
            found = re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path)
            stored = found and fake.files(found[1], found[2])
            if not stored or found[3] not in stored[1] or found[3] in fake.lost:
                return self.missing()
            data = stored[1][found[3]]
            self.answer(data, X_Repo_Commit=stored[0], ETag=f'"{hashlib.sha1(data).hexdigest()}"')

        do_HEAD = do_GET

        def do_POST(self):
            path = self.note()
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if path == "/api/repos/create":
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}"
                fake.repositories.setdefault(repo, [])
                return self.answer({"url": f"{fake.address}/{repo}"})
            if path == "/api/validate-yaml":
                return self.answer({"errors": [], "warnings": []})
            repo = re.fullmatch(r"/api/models/([^/]+/[^/]+)/(preupload|commit)/main", path)
            if path.endswith("/preupload/main"):
                files = json.loads(body)["files"]
                modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
                return self.answer({"files": modes})
            fake.commit(repo[1], [json.loads(line) for line in body.splitlines()])
            sha = fake.sha(repo[1])
            self.answer({"commitUrl": f"{fake.address}/{repo[1]}/commit/{sha}", "commitOid": sha})

    return Handler


@pytest.fixture
def fake(monkeypatch, tmp_path):
    from huggingface_hub import constants, utils

    fake = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(fake))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    fake.address = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setenv("HF_ENDPOINT", fake.address)
    monkeypatch.setenv("HF_TOKEN", "hf_of_a_test")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    utils.disable_progress_bars()
    yield fake
    server.shutdown()
    server.server_close()
    thread.join()


def made(seed: int = 0) -> Model:
    denoiser, generator = build_denoiser(RECIPE).eval(), torch.Generator().manual_seed(seed)
    for value in denoiser.parameters():
        value.data = torch.rand(value.shape, generator=generator)
    return Model(denoiser, RECIPE, {"n": 3})


def assert_same(found: Model, expected: Model) -> None:
    assert found.recipe == expected.recipe and found.metrics == expected.metrics
    assert_close(dict(found.net.state_dict()), dict(expected.net.state_dict()), rtol=0, atol=0)


def test_a_model_goes_to_the_hub_and_comes_back_to_the_bit(fake):
    model = made()
    commit = model.push_to_hub("ada/ring")
    assert commit == f"{fake.address}/ada/ring/commit/{fake.sha('ada/ring')}"
    (files,) = fake.repositories["ada/ring"]
    assert set(files) == {"model.safetensors", "config.json", "metrics.json", "README.md"}
    card = files["README.md"].decode()
    assert card.startswith("---\nlibrary_name: dpi_core\ntags: [deep-parameter-interpolation")
    assert dpi_core.model_card(model) in card
    assert_same(dpi_core.load("hub:ada/ring"), model)
    assert_same(Model.from_pretrained("ada/ring"), model)
    assert fake.tokens == {"Bearer hf_of_a_test"}


def test_a_revision_is_kept_and_the_newest_is_the_default(fake):
    made(0).push_to_hub("ada/ring")
    first = fake.sha("ada/ring")
    made(1).push_to_hub("ada/ring")
    assert_same(dpi_core.load("hub:ada/ring"), made(1))
    assert_same(dpi_core.load(f"hub:ada/ring@{first}"), made(0))
    assert_same(Model.from_pretrained("ada/ring", revision=first), made(0))


def test_nothing_but_the_files_of_a_checkpoint_is_fetched_or_sent(fake, tmp_path):
    made().push_to_hub("ada/ring")
    for name in ("pytorch_model.bin", "modeling.py", "big/model.safetensors"):
        fake.repositories["ada/ring"][0][name] = b"code"
    dpi_core.load("hub:ada/ring")
    assert fake.fetched == {"model.safetensors", "config.json", "metrics.json", "README.md"}
    dpi_core.save(made(), tmp_path / "folder")
    (tmp_path / "folder" / "secret.txt").write_text("not to be sent")
    hub._api().create_repo("ada/other")
    hub.upload(tmp_path / "folder", "ada/other", False, "m")
    assert set(fake.repositories["ada/other"][0]) == {"model.safetensors", "config.json", "metrics.json"}


def test_what_is_on_this_machine_is_not_fetched_again(fake):
    made().push_to_hub("ada/ring")
    dpi_core.load("hub:ada/ring")
    fake.requests.clear()
    assert_same(dpi_core.load("hub:ada/ring"), made())
    assert fake.fetched == set()


def test_the_commands_take_an_address(fake, capsys):
    made().push_to_hub("ada/ring")
    main(["info", "hub:ada/ring"])
    assert '"name": "ring-flow-dpi"' in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["halve"], ["analyse"], ["evaluate"], ["evaluate", "--images", "x", "--record", "n"]]
)
def test_the_commands_that_write_leave_the_cache_alone(fake, capsys, command):
    made().push_to_hub("ada/ring")
    fake.requests.clear()
    with pytest.raises(SystemExit):
        main([command[0], "hub:ada/ring", *command[1:]])
    assert "nothing is changed; fetch it by `hf download ada/ring --local-dir FOLDER`" in capsys.readouterr().err
    assert fake.requests == []


def test_a_config_that_is_none_is_refused_before_weights_are_fetched_and_leaves_nothing(fake, tmp_path):
    fake.repositories["ada/bert"] = [{"model.safetensors": b"x" * 99, "config.json": b'{"architectures": ["Bert"]}'}]
    for load in (dpi_core.load, lambda address: from_hub(address, [])):
        with pytest.raises(ValueError, match="^hub:ada/bert/config.json: a recipe has the keys"):
            load("hub:ada/bert")
    assert fake.fetched == {"config.json"}
    assert not list((tmp_path / "cache").glob("models--*"))


def test_what_came_until_the_connection_broke_is_kept(fake, tmp_path):
    made().push_to_hub("ada/ring")
    fake.lost.add("model.safetensors")
    with pytest.raises(ValueError, match="hub:ada/ring could not be loaded: .*check the name, the network"):
        dpi_core.load("hub:ada/ring")
    assert "config.json" in [file.name for file in (tmp_path / "cache").glob("*/snapshots/*/*")]
    fake.lost.clear()
    assert_same(dpi_core.load("hub:ada/ring"), made())


def test_weights_that_are_refused_leave_the_cache_unless_they_were_there_before(fake, tmp_path):
    made().push_to_hub("ada/ring")
    dpi_core.load("hub:ada/ring")
    files = fake.repositories["ada/ring"][0]
    fake.repositories["ada/ring"].append(files | {"model.safetensors": b"spoilt " * 100})
    for load in (dpi_core.load, lambda address: from_hub(address, [])):
        with pytest.raises(ValueError, match="is not a readable safetensors file"):
            load("hub:ada/ring")
    [snapshot] = (tmp_path / "cache").glob("*/snapshots/*")
    assert snapshot.name == fake.sha("ada/ring", 0)
    assert_same(dpi_core.load(f"hub:ada/ring@{snapshot.name}"), made())
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").write_bytes(b"of another program")
    with pytest.raises(ValueError, match="is not a readable safetensors file"):
        dpi_core.load(f"hub:ada/ring@{snapshot.name}")
    assert (snapshot / "model.safetensors").is_file()


def test_what_the_hub_does_not_have_is_said_in_a_sentence(fake, monkeypatch):
    fake.repositories["ada/empty"] = [{"README.md": b"x"}]
    for address, message in (
        ("hub:ada/nothing", "hub:ada/nothing could not be loaded: .*check the name, the network"),
        ("hub:ada/empty", "hub:ada/empty has no model.safetensors; a checkpoint has model.safetensors and config.json"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            dpi_core.load(address)
        assert "\n" not in str(caught.value)
    made().push_to_hub("ada/ring")
    fake.requests.clear()
    for variable in ("DPI_MAX_DOWNLOAD_BYTES", "DPI_MAX_FILE_BYTES", "DPI_MAX_JSON_BYTES"):
        with monkeypatch.context() as patch:
            patch.setenv(variable, "500")
            with pytest.raises(
                ValueError, match=rf"has [\d,]+ bytes, more than the 500 allowed; choose a smaller model, .*{variable}"
            ):
                dpi_core.load("hub:ada/ring")
    assert fake.fetched == set()


def test_a_hub_that_does_not_answer_is_said_in_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    for run in (lambda: dpi_core.load("hub:ada/ring"), lambda: made().push_to_hub("ada/ring")):
        with pytest.raises(ValueError, match="ada/ring could not be .*check the name, the network"):
            run()


@pytest.mark.parametrize("address", ["hub:", "hub:ada", "hub:../x", "hub:a/b/c", "hub:ada/ring@", "hub:https://x/y"])
def test_an_address_that_is_none_is_refused_before_anything_is_asked(address):
    with pytest.raises(ValueError, match="is no address on the Hub; write hub:<owner>/<repo>"):
        dpi_core.load(address)


def test_the_app_loads_from_the_hub_when_it_is_asked_and_open(fake, monkeypatch):
    made().push_to_hub("ada/ring")
    source = from_hub(" ada/ring", stored.zoo())
    assert (source.name, source.origin, source.load_from) == ("hub:ada/ring", "hub", "hub:ada/ring")
    assert_same(dpi_core.load(source.folder), made())
    asked = len(fake.requests)
    monkeypatch.setenv("DPI_HUB", "0")
    with pytest.raises(ValueError, match="has closed the Hub"):
        from_hub("ada/ring", [])
    assert len(fake.requests) == asked
