"""A stand-in of the Hugging Face Hub on this machine: the calls of its HTTP API that huggingface_hub's client makes.

Repositories, branches, commits of small files and of Git LFS objects, and downloads. Run with an address and a token:
`HF_ENDPOINT` and `HF_HUB_DISABLE_XET=1` lead the real client here.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_of_the_stand_in"


@dataclass
class Repository:
    private: bool = False
    branches: dict[str, str] = field(default_factory=lambda: {"main": "0" * 40})
    commits: dict[str, dict[str, bytes]] = field(default_factory=lambda: {"0" * 40: {}})
    """Commit -> file name -> content."""
    messages: list[str] = field(default_factory=list)
    pull_requests: int = 0

    def files(self, revision: str = "main") -> dict[str, bytes]:
        return self.commits[self.branches.get(revision, revision)]

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        name = hashlib.sha1(f"{branch}{len(self.commits)}".encode()).hexdigest()
        self.commits[name], self.branches[branch] = files, name
        self.messages.append(message)
        return name


@dataclass
class Hub:
    address: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    objects: dict[str, bytes] = field(default_factory=dict)
    """Git LFS: SHA-256 -> content."""
    calls: int = 0


@contextmanager
def running_hub() -> Iterator[Hub]:
    """The stand-in, at an address of this machine, until the block ends."""
    hub = Hub()

    class Handler(_Handler):
        state = hub

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # nothing on stderr
        pass

    def do_POST(self) -> None:
        self._serve(self._body())

    def do_PUT(self) -> None:
        self._serve(self._body())

    def do_GET(self) -> None:
        self._serve(b"")

    def do_HEAD(self) -> None:
        self._serve(b"")

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            content = b""
            while size := int(self.rfile.readline(), 16):
                content += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return content
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _serve(self, body: bytes) -> None:
        parts = urlsplit(self.path)
        path, method = unquote(parts.path), self.command
        if path == "/calls":
            return self._answer(self.state.calls)
        self.state.calls += 1
        known = self.headers.get("Authorization") == f"Bearer {TOKEN}"
        if method == "PUT":  # an LFS object: its address is the permission, as on the real Hub
            self.state.objects[hashlib.sha256(body).hexdigest()] = body
            return self._answer({})
        if method == "POST" and not known:
            return self._answer({"error": "Invalid credentials in Authorization header"}, 401)
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer({"errors": [], "warnings": []})
        found = re.match(r"(?:/api/models)?/([\w.-]+/[\w.-]+?)(?:\.git)?/(.*)$", path + "/")
        repository = self.state.repositories.get(found[1]) if found else None
        if found is None or repository is None or (repository.private and not known):
            return self._answer({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        return self._repository(
            found[1], repository, found[2].rstrip("/"), body, "create_pr=1" in parts.query
        )

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization'] or 'me'}/{asked['name']}"
        if name.startswith("strangers/"):
            return self._answer({"error": "You don't have the rights to create a model there"}, 403)
        address = {"url": f"{self.state.address}/{name}"}
        if name in self.state.repositories:
            return self._answer({**address, "error": "You already created this model repo"}, 409)
        self.state.repositories[name] = Repository(asked.get("visibility") == "private")
        return self._answer(address)

    def _repository(self, name: str, repository: Repository, rest: str, body: bytes, request: bool) -> None:
        verb, _, value = rest.partition("/")
        if verb == "branch":
            if value in repository.branches:
                return self._answer({"error": "Reference already exists"}, 409)
            repository.branches[value] = repository.branches["main"]
            return self._answer({})
        if verb == "preupload":
            asked = json.loads(body)["files"]
            modes = [
                {
                    "path": file["path"],
                    "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                    "oid": None,
                }
                for file in asked
            ]
            return self._answer({"files": modes})
        if rest == "info/lfs/objects/batch":
            objects = [
                {**entry, "actions": {"upload": {"href": f"{self.state.address}/lfs/{entry['oid']}"}}}
                for entry in json.loads(body)["objects"]
            ]
            return self._answer({"transfer": "basic", "objects": objects})
        if verb == "commit":
            return self._commit(name, repository, value, body, request)
        if verb == "resolve":
            revision, _, file = value.partition("/")
            return self._file(repository, revision, file)
        if verb == "tree":
            return self._list(repository, value)
        return self._describe(name, repository, value if verb == "revision" else "main")

    def _list(self, repository: Repository, revision: str) -> None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[commit].items()
        return self._answer(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _digest(content)}
                for path, content in files
            ]
        )

    def _commit(self, name: str, repository: Repository, branch: str, body: bytes, request: bool) -> None:
        if branch not in repository.branches:
            return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files, message = dict(repository.files(branch)), ""
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.state.objects[value["oid"]]
        answer: dict[str, Any] = {"success": True}
        if request:
            repository.pull_requests += 1
            branch = f"refs/pr/{repository.pull_requests}"
            answer["pullRequestUrl"] = f"{self.state.address}/{name}/discussions/{repository.pull_requests}"
        commit = repository.commit(branch, files, message)
        address = f"{self.state.address}/{name}/commit/{commit}"
        return self._answer({**answer, "commitOid": commit, "commitUrl": address})

    def _describe(self, name: str, repository: Repository, revision: str) -> None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            return self._answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        files = repository.commits[commit]
        siblings = [
            {"rfilename": file, "size": len(content), "blobId": _digest(content)}
            for file, content in files.items()
        ]
        described = {"_id": "0", "id": name, "modelId": name, "sha": commit, "private": repository.private}
        card = {"cardData": {"license": "mit"}} if "README.md" in files else {}
        return self._answer({**described, **card, "siblings": siblings, "tags": []})

    def _file(self, repository: Repository, revision: str, file: str) -> None:
        commit = repository.branches.get(revision, revision)
        content = repository.commits.get(commit, {}).get(file)
        if content is None:
            return self._answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": commit, "ETag": f'"{_digest(content)}"', "Accept-Ranges": "bytes"}
        return self._send(200, content, {**headers, "Content-Type": "application/octet-stream"})

    def _answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(content).encode()
        extra = {"X-Error-Message": content["error"]} if status >= 400 else {}
        self._send(status, body, {"Content-Type": "application/json", **extra, **(headers or {})})

    def _send(self, status: int, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
