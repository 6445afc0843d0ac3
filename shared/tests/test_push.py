"""Models go to the Hub and come back: huggingface_hub's own client against a stand-in of the Hub; clones by git."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hub_server import TOKEN, running_hub
from huggingface_hub import ModelCard, constants
from pushed_net import Net, net, same

from papers_shared.errors import UserError


def run_client(code: str, address: str, home: Path) -> str:
    """What a program prints whose Hub is at `address`."""
    variables = {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    variables |= {"HF_HUB_DISABLE_PROGRESS_BARS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    done = subprocess.run(
        [sys.executable, "-c", "from pushed_net import *\n" + code],
        env={**{k: v for k, v in os.environ.items() if k not in ("HF_TOKEN", "HF_HUB_OFFLINE")}, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_pushed_models_come_back(tmp_path: Path) -> None:
    with running_hub() as hub:
        code = f"""
token = {TOKEN!r}
os.environ["HF_TOKEN"] = token
print(net().push_to_hub("me/net", private=True, token=token, commit_message="first"))
same(Net.from_pretrained("me/net", token=token))
print(net().push_to_hub("me/net", token=token, revision="v2"))
print(net().push_to_hub("me/net", token=token, create_pr=True))
same(Net.from_pretrained("me/net", token=token, revision="v2", cache_dir={str(tmp_path / "cache")!r}))
refused(Net.from_pretrained, "me/net", token=False, cache_dir={str(tmp_path / "empty")!r})
refused(Net.from_pretrained, "me/net", token=token, revision="v3")
refused(net().push_to_hub, "me/net", token="hf_wrong")
refused(net().push_to_hub, "strangers/net", token=token)
found = fetch_weights("me/net", package="shared", beside=("config.json", "missing.json"))
assert (found.origin, found.licence) == ("me/net/model.safetensors", "mit")
assert found.file.with_name("config.json").is_file()
refused(fetch_weights, "me/net/other.pth", package="shared")
before = calls()
same(Net.from_pretrained("me/net", local_files_only=True))
refused(Net.from_pretrained, "me/other", local_files_only=True)
assert calls() == before, "the cache is enough"
same(Net.from_pretrained("me/net", token=token, force_download=True))
assert calls() > before + 4, "every file again"
"""
        printed = run_client(code, hub.address, tmp_path / "home").splitlines()
    repository = hub.repositories["me/net"]
    assert repository.private
    assert sorted(repository.files()) == ["README.md", "config.json", "model.safetensors", "vocab.txt"]
    assert repository.files()["model.safetensors"] in hub.objects.values(), "it went as a Git LFS object"
    assert repository.messages == ["first", "Upload model", "Upload model"]
    assert set(repository.branches) == {"main", "v2", "refs/pr/1"}
    assert json.loads(repository.files("v2")["config.json"])["origin"]["steps"] == 4
    assert ModelCard(repository.files()["README.md"].decode()).data.library_name == "pushed_net"
    assert printed[0] == f"{hub.address}/me/net/commit/{list(repository.commits)[1]}"
    assert printed[2] == f"{hub.address}/me/net/discussions/1"
    assert all(line.startswith("refused: ") and len(line) < 400 for line in printed[3:])
    assert len(printed) == 9


def test_without_a_network_nothing_is_pushed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(UserError, match="me/net on the Hugging Face Hub cannot be written"):
        net().push_to_hub("me/net", token=TOKEN)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_clone_is_saved_into_committed_and_pushed(tmp_path: Path) -> None:
    def git(folder: Path, *arguments: str) -> str:
        who = ("-c", "user.name=me", "-c", "user.email=me@example.org", "-c", "init.defaultBranch=main")
        done = subprocess.run(
            ["git", *who, *arguments], cwd=folder, capture_output=True, text=True, check=True
        )
        return done.stdout

    git(tmp_path, "init", "--bare", "remote.git")
    git(tmp_path, "clone", "remote.git", "clone")
    clone = tmp_path / "clone"
    (clone / ".gitattributes").write_text("*.bin -text\n")
    (clone / "notes.txt").write_text("mine\n")
    for _ in range(2):
        net().save_pretrained(clone)
    git(clone, "add", "--all")
    git(clone, "commit", "-m", "a model")
    git(clone, "push", "origin", "HEAD:main")
    assert not git(clone, "status", "--porcelain")
    git(tmp_path, "clone", "-b", "main", "remote.git", "again")
    assert (tmp_path / "again" / "notes.txt").read_text() == "mine\n"
    same(Net.from_pretrained(tmp_path / "again"))
