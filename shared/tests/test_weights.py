"""Weights from files, folders, the Hub's cache and https addresses: one file, hashed before it is read."""

from __future__ import annotations

import hashlib
import io
import json
from email.message import Message
from pathlib import Path

import pytest
from huggingface_hub import constants

from papers_shared import weights
from papers_shared.errors import UserError
from papers_shared.weights import fetch_weights

CONTENT = b"\x80\x02 some bytes of a checkpoint"
DIGEST = hashlib.sha256(CONTENT).hexdigest()
ADDRESS = "https://example.org/files/network.pth?download=1"


@pytest.fixture(autouse=True)
def _no_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)


def cached(root: Path, repository: str, *names: str) -> None:
    """Files of a repository as the Hub's cache has them."""
    folder = root / "hub" / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs/main").write_text("0" * 40)
    for name in names:
        path = folder / "snapshots" / ("0" * 40) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(CONTENT)


def serve(monkeypatch: pytest.MonkeyPatch, content: bytes, length: int | None = None) -> list[str]:
    """Answer every address with `content`; the addresses asked for."""
    asked: list[str] = []

    class Answer(io.BytesIO):
        headers = Message()

    Answer.headers["Content-Length"] = str(len(content) if length is None else length)

    def opened(address: str) -> Answer:
        asked.append(address)
        return Answer(content)

    monkeypatch.setattr(weights, "open_address", opened)
    return asked


def test_a_file_and_a_folder_with_one(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/network.ckpt").write_bytes(CONTENT)
    (tmp_path / "folder/notes.txt").write_text("x")
    for source in ("folder/network.ckpt", "folder", tmp_path / "folder"):
        found = fetch_weights(source, package="fanet", sha256=DIGEST.upper())
        assert found.file.name == "network.ckpt"
        assert found.digest == DIGEST
        assert found.origin.endswith("folder/network.ckpt")
        assert DIGEST in found.sentence()


@pytest.mark.parametrize(
    ("description", "licence"),
    [
        ({"origin": {"licence": "mit"}}, "mit"),
        ({"architecture": "resnet18", "pretrained_cfg": {"license": "apache-2.0"}}, "apache-2.0"),
        ({"model_type": "bert"}, ""),
        ({"origin": {"licence": 3}, "pretrained_cfg": "none"}, ""),
    ],
)
def test_a_model_folder_says_under_which_licence_its_weights_are(
    description: object, licence: str, tmp_path: Path
) -> None:
    (tmp_path / "model.safetensors").write_bytes(CONTENT)
    (tmp_path / "config.json").write_text(json.dumps(description))
    assert fetch_weights(tmp_path, package="fanet").licence == licence


def test_a_repository_and_a_file_inside_one(tmp_path: Path) -> None:
    cached(tmp_path, "owner/one", "README.md", "deep/network.pth.tar")
    cached(tmp_path, "owner/two", "model.safetensors", "pytorch_model.bin", "config.json")
    cached(tmp_path, "owner/many", "a.pth", "b.pth")
    one = fetch_weights("owner/one", package="fanet")
    assert one.origin == "owner/one/deep/network.pth.tar"
    assert one == fetch_weights("hf://owner/one", package="fanet")
    assert one.sentence().startswith("hf://owner/one/deep/network.pth.tar, SHA-256")
    two = fetch_weights("owner/two", package="fanet", beside=("config.json", "missing.json"))
    assert two.file.name == "model.safetensors"
    assert fetch_weights("owner/many/b.pth", package="fanet").file.name == "b.pth"
    with pytest.raises(UserError, match=r"several weight files, a\.pth, b\.pth: name one, owner/many/FILE"):
        fetch_weights("owner/many", package="fanet")


@pytest.mark.parametrize("source", ["owner/nothing", "owner/nothing/network.pth"])
def test_without_a_network_the_missing_file_is_named(source: str) -> None:
    with pytest.raises(UserError, match=r"hf download owner/nothing.*HF_HUB_CACHE") as raised:
        fetch_weights(source, package="fanet")
    assert len(str(raised.value)) <= 600
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("missing.pth", "there is no such file"),
        ("runs/missing.pth", "there is no such file"),
        ("http://example.org/network.pth", "only https"),
        ("ftp://example.org/network.pth", "only https"),
        ("file:///etc/passwd", "only https"),
        ("empty", "holds no weight file"),
    ],
)
def test_other_sources_are_refused(source: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=message):
        fetch_weights(source, package="fanet")


def test_an_address_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = serve(monkeypatch, CONTENT)
    first = fetch_weights(ADDRESS, package="fanet", sha256=DIGEST)
    assert fetch_weights(ADDRESS, package="fanet").file == first.file
    assert asked == [ADDRESS]
    assert first.file.name == "network.pth"
    assert first.file.is_relative_to(tmp_path / "cache/fanet/weights")


@pytest.mark.parametrize(
    ("content", "length", "sha256", "message"),
    [
        (CONTENT, len(CONTENT) + 1, "", "cannot be downloaded"),
        (CONTENT, None, "0" * 64, "not the 0000"),
        (b"<!doctype html>", None, "", "web page"),
        (b"version https://git-lfs.github.com/spec/v1", None, "", "Git LFS"),
        (b"", None, "", "is empty"),
    ],
)
def test_a_bad_download_is_not_kept(
    content: bytes,
    length: int | None,
    sha256: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    serve(monkeypatch, content, length)
    with pytest.raises(UserError, match=message):
        fetch_weights(ADDRESS, package="fanet", sha256=sha256)
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_digests(tmp_path: Path) -> None:
    (tmp_path / "network.pth").write_bytes(CONTENT)
    with pytest.raises(UserError, match=f"has the SHA-256 {DIGEST}, not the {'f' * 64}"):
        fetch_weights("network.pth", package="fanet", sha256="f" * 64)
    with pytest.raises(UserError, match="64 hexadecimal digits"):
        fetch_weights("network.pth", package="fanet", sha256="abc")
