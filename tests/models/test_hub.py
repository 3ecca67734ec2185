"""Names of the hub: what is fetched, from a hub that the test serves; the cache; mistakes."""

from __future__ import annotations

import http.server
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from irl_jax.__main__ import main
from irl_jax.models import hub
from irl_jax.types import InputError

FILES = {"config.json": b"{}", "model.safetensors": b"abc", "pytorch_model.bin": b"not read"}
COMMIT = "a" * 40
FETCH = """
import json, sys
from irl_jax.models.hub import fetch
from irl_jax.types import InputError

def tried(name):
    try:
        return str(fetch(name))
    except InputError as error:
        return f"error: {error}"

print(json.dumps([tried(name) for name in sys.argv[1:]]))
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """A hub that has the model o/n and the data o/d, of one revision."""

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_GET(self) -> None:
        path, name = self.path.partition("?")[0], self.path.rpartition("/")[2]
        known = any(repo in path for repo in ("models/o/n/", "/o/n/resolve", "datasets/o/d/"))
        if not known:
            self.answer(404, b"{}", X_Error_Code="RepoNotFound")
        elif "/resolve/" in path and name in FILES:
            self.answer(200, FILES[name], ETag=f'"{name}"', X_Repo_Commit=COMMIT)
        elif "/revision/main" in path:
            about = {"_id": "1", "id": "o/n", "sha": COMMIT, "siblings": [], "tags": []}
            self.answer(200, json.dumps(about).encode(), Content_Type="application/json")
        elif "/tree/" in path:
            rows = [{"type": "file", "path": file, "size": len(body), "oid": "b" * 40}
                    for file, body in FILES.items()]  # fmt: skip
            self.answer(200, json.dumps(rows).encode(), Content_Type="application/json")
        elif "/revision/" in path:
            self.answer(404, b"{}", X_Error_Code="RevisionNotFound")
        else:
            self.answer(404, b"{}", X_Error_Code="EntryNotFound")

    do_HEAD = do_GET

    def log_message(self, *args: object) -> None:
        """Says nothing."""


def fetch_in_a_process(home: Path, port: int, *names: str) -> list[str]:
    """huggingface_hub reads its settings when it is imported."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("HF_")}
    env |= {"HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(home), "HF_TOKEN": ""}
    done = subprocess.run([sys.executable, "-c", FETCH, *names], env=env, capture_output=True,
                          text=True, timeout=300)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: list[str] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_model_is_fetched_once_and_then_read_without_network(tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        port = server.server_port
        whole, file, data, none, revision, entry = fetch_in_a_process(
            tmp_path, port, "hf://o/n", "hf://o/n@main/config.json", "hf://datasets/o/d",
            "hf://o/none", "hf://o/n@v9", "hf://o/n/none.json",
        )  # fmt: skip
        server.shutdown()
    assert sorted(path.name for path in Path(whole).iterdir()) == ["config.json",
                                                                   "model.safetensors"]  # fmt: skip
    assert Path(whole, "model.safetensors").read_bytes() == b"abc"
    assert Path(file) == Path(whole, "config.json")
    assert "datasets--o--d" in data and Path(data, "config.json").is_file()
    assert none.startswith("error: hf://o/none: no such repository; check the name")
    assert revision == "error: hf://o/n@v9: no such revision; check what follows @"
    assert entry.startswith("error: hf://o/n/none.json: no such file in the repository")
    again, other = fetch_in_a_process(tmp_path, port, "hf://o/n", "hf://o/other")
    assert again == whole
    assert other.startswith("error: hf://o/other: is not in the cache, and the hub cannot be")


@pytest.mark.parametrize("name", ["hf://", "hf://name", "hf://a/b@", "hf://a/b/", "hf://a b/c"])
def test_a_name_of_another_form_is_refused(name):
    with pytest.raises(InputError, match=r"expected hf://OWNER/NAME, hf://OWNER/NAME@REVISION"):
        hub.fetch(name)


@dataclass(frozen=True)
class Inner:
    path: Path | None = Path("hf://datasets/o/d/train.parquet")
    count: int = 3


@dataclass(frozen=True)
class Outer:
    model: str = "hf://o/n"
    data: Inner = field(default_factory=Inner)
    teacher: str | None = None
    other: Path = Path("runs/x")


def test_names_in_a_configuration_become_places(monkeypatch):
    monkeypatch.setattr(hub, "fetch", lambda name: Path("/cache") / name.removeprefix("hf://"))
    found = hub.fetched(Outer())
    path = Path("/cache/datasets/o/d/train.parquet")
    assert found == Outer(model="/cache/o/n", data=Inner(path))
    plain = Outer(model="smollm2", data=Inner(None))
    assert hub.fetched(plain) is plain


def test_a_command_says_what_is_wrong_with_a_name(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["sample", "--model", "hf://name", "--prompt", "x"])
    assert stop.value.code == 2
    assert capsys.readouterr().err.startswith("error: hf://name: expected hf://OWNER/NAME")
