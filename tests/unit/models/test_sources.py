"""Models from the hub, of which a real HTTP server on loopback plays the part, and models with code of their own."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from safetensors.torch import load, load_file

REPOSITORY = Path(__file__).parents[3]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(http.server.ThreadingHTTPServer):
    """One repository, `org/tiny`.

    `refuse` is the (status, error code) of every answer, `breaks` how often a download of weights breaks off.
    """

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files, self.refuse, self.breaks, self.token, self.starts = files, None, 0, None, []
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer(body=False)

    def do_GET(self) -> None:
        self.answer(body=True)

    def answer(self, body: bool) -> None:
        hub = self.server
        hub.token = self.headers.get("Authorization") or hub.token
        if hub.refuse:
            status, code = hub.refuse
            self.reply(status, b"{}", {"X-Error-Code": code} if code else {}, body)
        elif self.path.startswith(f"/api/models/org/tiny/tree/{COMMIT}"):
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                for name, data in hub.files.items()
            ]
            self.reply(200, json.dumps(tree).encode(), {}, body)
        elif (name := self.path.rpartition(f"/{COMMIT}/")[2]) in hub.files:
            data = hub.files[name]
            tag = {"ETag": f'"{hashlib.sha256(data).hexdigest()}"', "X-Repo-Commit": COMMIT, "Accept-Ranges": "bytes"}
            start = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
            broken = body and name.endswith(".safetensors") and hub.breaks > 0
            if body and name.endswith(".safetensors"):
                hub.starts.append(start)
            hub.breaks -= broken
            self.reply(206 if start else 200, data[start:], tag, body, broken)
        else:
            self.reply(404, b"{}", {"X-Error-Code": "EntryNotFound"}, body)

    def reply(self, status: int, data: bytes, headers: dict[str, str], body: bool, broken: bool = False) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(data[: len(data) // 2] if broken else data)
        self.close_connection = self.close_connection or broken

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub(tiny_model: Path) -> Iterator[Hub]:
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    with Hub({**files, "pytorch_model.bin": b"pickled", "modeling_tiny.py": b"raise SystemExit"}) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def resolve(source: dict, output: Path, *more: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(REPOSITORY / "scripts/resolve_model.py"), "--source", json.dumps(source), *more]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HF_")}
    return subprocess.run(
        [*command, "--output", str(output)], env={**kept, **environment}, capture_output=True, text=True, check=False
    )


def from_hub(hub: Hub, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    source = {"hub": "org/tiny", "revision": COMMIT}
    return resolve(source, folder / "base", HF_ENDPOINT=hub.url, HF_HOME=str(folder / "cache"), **environment)


@pytest.mark.slow
def test_a_model_of_the_hub(hub: Hub, tiny_model: Path, tmp_path: Path) -> None:
    hub.breaks = 1
    done = from_hub(hub, tmp_path, HF_TOKEN="hf_secret")
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (tmp_path / "base").iterdir()}
    assert names == {path.name for path in tiny_model.iterdir()} | {"manifest.json"}  # neither the pickle nor the code
    one, other = (load_file(folder / "model.safetensors") for folder in (tmp_path / "base", tiny_model))
    assert one.keys() == other.keys() and all((one[name] == other[name]).all() for name in one)
    assert len(hub.starts) == 2  # the connection broke off once
    assert hub.token == "Bearer hf_secret" and "hf_secret" not in done.stderr + done.stdout
    hub.starts.clear()
    assert from_hub(hub, tmp_path).returncode == 0 and not hub.starts  # from the hub's cache


@pytest.mark.slow  # downloads are tried again, with pauses
@pytest.mark.parametrize(
    ("status", "code", "message"),
    [
        (401, "GatedRepo", "accept its terms at https://huggingface.co/org/tiny, then set HF_TOKEN"),
        (403, "GatedRepo", "accept its terms at https://huggingface.co/org/tiny, then set HF_TOKEN"),
        (401, "RepoNotFound", "is not on the hub, or is private"),
        (404, "RevisionNotFound", f"has no commit {COMMIT}; correct models.*.source.revision"),
        (500, None, "could not be downloaded"),
    ],
)
def test_a_hub_that_refuses(hub: Hub, tmp_path: Path, status: int, code: str | None, message: str) -> None:
    hub.refuse = (status, code)
    done = from_hub(hub, tmp_path)
    assert done.returncode == 1 and message in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "base").exists()


@pytest.mark.slow
@pytest.mark.parametrize("single", [True, False])
def test_one_set_of_weights_is_fetched(hub: Hub, tmp_path: Path, single: bool) -> None:
    """The one that transformers reads, of all that repositories hold beside it."""
    weights = hub.files["model.safetensors"]
    index = {"metadata": {}, "weight_map": dict.fromkeys(load(weights), "model-1.safetensors")}
    others = ["consolidated.safetensors", "model.fp16.safetensors", "model-1.safetensors"]
    hub.files |= dict.fromkeys(others, weights) | {"model.safetensors.index.json": json.dumps(index).encode()}
    if not single:
        del hub.files["model.safetensors"]
    done = from_hub(hub, tmp_path)
    assert done.returncode == 0, done.stderr
    fetched = {path.name for path in tmp_path.glob("cache/**/snapshots/*/*.safetensors")}
    kept = {path.name for path in (tmp_path / "base").glob("*.safetensors*")}
    assert fetched == ({"model.safetensors"} if single else {"model-1.safetensors"})
    assert kept == fetched | (set() if single else {"model.safetensors.index.json"})


@pytest.mark.slow
def test_an_adapter_of_the_hub_is_refused_by_the_name_of_its_repository(hub: Hub, tmp_path: Path) -> None:
    hub.files["adapter_config.json"] = b"{}"
    done = from_hub(hub, tmp_path)
    line = done.stderr.splitlines()[-1]
    assert done.returncode == 1 and line.startswith(f"error: org/tiny at {COMMIT} holds an adapter")
    assert "partial" not in line and not (tmp_path / "base").exists()


@pytest.mark.slow
def test_pickled_weights_are_not_taken(hub: Hub, tmp_path: Path) -> None:
    del hub.files["model.safetensors"]
    done = from_hub(hub, tmp_path)
    assert done.returncode == 1 and "has no weights in *.safetensors" in done.stderr.splitlines()[-1]


MODELING = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM
class OddConfig(LlamaConfig):
    model_type = "odd"
class OddForCausalLM(LlamaForCausalLM):
    config_class = OddConfig
    def __init__(self, config):
        super().__init__(config)
        Path({mark!r}).touch()
"""


@pytest.mark.slow
def test_code_of_a_model_runs_only_where_it_is_trusted(tiny_model: Path, tmp_path: Path) -> None:
    odd, mark, output = tmp_path / "odd", tmp_path / "ran", tmp_path / "base"
    odd.mkdir()
    for path in tiny_model.iterdir():
        (odd / path.name).write_bytes(path.read_bytes())
    classes = {"AutoConfig": "modeling_odd.OddConfig", "AutoModelForCausalLM": "modeling_odd.OddForCausalLM"}
    config = json.loads((odd / "config.json").read_text()) | {"model_type": "odd", "auto_map": classes}
    (odd / "config.json").write_text(json.dumps(config))
    (odd / "modeling_odd.py").write_text(MODELING.format(mark=str(mark)))

    done = resolve({"directory": str(odd)}, output)
    assert done.returncode == 1 and "set models.*.trust_remote_code: true" in done.stderr.splitlines()[-1]
    done = resolve({"directory": str(odd)}, output, "--trust-remote-code", "true")
    assert done.returncode == 0, done.stderr
    mark.unlink(missing_ok=True)

    def load(trust: str) -> subprocess.CompletedProcess:
        """Load the model in a process of its own, which runs the statement `trust` first."""
        program = (
            f"import sys; sys.path.insert(0, {str(REPOSITORY / 'scripts')!r}); from pathlib import Path;"
            f" from knowshift.models.loading import load_model, trust_code_of; folder = Path({str(output)!r}); {trust};"
            " print(type(load_model(folder, 'float32')).__name__)"
        )
        environment = {**os.environ, "HF_HOME": str(tmp_path / "cache")}
        command = [sys.executable, "-c", program]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=environment)

    (output / "manifest.json").write_text('{"trust_remote_code": true, "files": {}}')  # whoever made the model wrote it
    done = load("pass")
    assert done.returncode == 1 and "--trust-remote-code true" in done.stderr.splitlines()[-1] and not mark.exists()
    done = load("trust_code_of(folder)")
    assert done.stdout.strip() == "OddForCausalLM" and mark.exists(), done.stderr[-2000:]
