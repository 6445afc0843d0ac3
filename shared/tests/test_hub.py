"""Model folders."""

from __future__ import annotations

import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from papers_shared.errors import UserError
from papers_shared.hub import PretrainedFolder


@dataclass(frozen=True)
class TinyConfig:
    width: int = 3
    names: tuple[str, ...] = ("a", "b")


class Tiny(nn.Module, PretrainedFolder):
    __module__ = "tinies.model"

    def __init__(self, config: TinyConfig) -> None:
        super().__init__()
        self.config = config
        self.first = nn.Linear(4, config.width)
        self.second = nn.Linear(config.width, 4)
        self.second.weight = nn.Parameter(self.first.weight.detach().T.clone())
        self.tied = self.first
        self.norm = nn.BatchNorm1d(4)

    @classmethod
    def from_config(cls, config: TinyConfig) -> Tiny:
        return cls(config)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.second(self.first(x)))


class Other(Tiny):
    __module__ = "tinies.model"


class Compiled(nn.Module):
    """What `torch.compile` makes of a module, as far as names go."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._orig_mod = module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Tiny(TinyConfig(names=("p", "q"))).save_pretrained(tmp_path / "model")


def test_round_trip(tmp_path: Path) -> None:
    model = Tiny(TinyConfig(5, ("x",)))
    model(torch.randn(8, 4))
    folder = model.save_pretrained(tmp_path / "deep" / "model")
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    opened = Tiny.from_pretrained(str(folder))
    assert opened.config == model.config
    assert not opened.training
    assert opened.tied.weight is opened.first.weight
    x = torch.randn(2, 4)
    assert torch.equal(opened(x), model.eval()(x))
    description = json.loads((folder / "config.json").read_text())
    assert (description["format"], description["class"]) == (1, "tinies.Tiny")
    assert "torch" in description["versions"]


def test_saving_again_replaces_a_model_and_nothing_else(folder: Path) -> None:
    Tiny(TinyConfig(7)).save_pretrained(folder)
    assert Tiny.from_pretrained(folder).config.width == 7
    (folder / "notes.txt").touch()
    with pytest.raises(UserError, match=r"holds other files \('notes\.txt'\)"):
        Tiny(TinyConfig(7)).save_pretrained(folder)


def test_extra_files_travel_with_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Tiny, "EXTRA_FILES", ("words.txt",))
    model = Tiny(TinyConfig())
    assert model.save_pretrained(tmp_path / "bare").joinpath("words.txt").exists() is False
    assert Tiny.from_pretrained(tmp_path / "bare").extra_files == {}
    model.extra_files = {"words.txt": b"a\nb\n"}
    model.save_pretrained(tmp_path / "one")
    opened = Tiny.from_pretrained(tmp_path / "one")
    assert opened.extra_files == {"words.txt": b"a\nb\n"}
    opened.save_pretrained(tmp_path / "one")
    assert (tmp_path / "one" / "words.txt").read_bytes() == b"a\nb\n"


def test_files_have_the_rights_of_their_folder(folder: Path) -> None:
    expected = folder.stat().st_mode & 0o666
    assert stat.S_IMODE((folder / "model.safetensors").stat().st_mode) == expected


def test_a_compiled_part_keeps_its_names(tmp_path: Path) -> None:
    model = Tiny(TinyConfig())
    names = list(model.state_dict())
    model.second = Compiled(model.second)  # type: ignore[assignment]
    model.save_pretrained(tmp_path / "model")
    assert sorted(load_file(tmp_path / "model/model.safetensors")) == sorted(names)


def test_loads_onto_a_device(folder: Path) -> None:
    assert Tiny.from_pretrained(folder, device="meta").first.weight.device.type == "meta"


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_wrong_folders_are_explained(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds a tinies\.Tiny, not a tinies\.Other"):
        Other.from_pretrained(folder)
    edit(folder, config={"width": 3, "depth": 2})
    with pytest.raises(UserError, match="unknown key 'depth'"):
        Tiny.from_pretrained(folder)
    edit(folder, format=2)
    with pytest.raises(UserError, match="update the package"):
        Tiny.from_pretrained(folder)
    (folder / "config.json").write_text('{"lr": 1}')
    with pytest.raises(UserError, match="does not describe a model"):
        Tiny.from_pretrained(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match=r"has no config\.json"):
        Tiny.from_pretrained(folder)
    Tiny(TinyConfig()).save_pretrained(tmp_path / "best")
    with pytest.raises(UserError, match=r"did you mean .*best"):
        Tiny.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="is a file"):
        Tiny.from_pretrained(tmp_path / "best/model.safetensors")


def test_wrong_tensors_are_listed(folder: Path) -> None:
    weights = folder / "model.safetensors"
    tensors = load_file(weights)
    del tensors["norm.weight"]
    tensors |= {f"more.{number}": torch.zeros(1) for number in range(20)}
    tensors["second.bias"] = torch.zeros(5)
    save_file(tensors, weights)
    with pytest.raises(UserError) as problem:
        Tiny.from_pretrained(folder)
    text = str(problem.value)
    assert "missing: norm.weight" in text
    assert "20 unexpected: more.0, more.1" in text
    assert len(text) < 600
    assert "second.bias [5] instead of [4]" in text
    weights.write_bytes(weights.read_bytes()[:50])
    with pytest.raises(UserError, match="cannot be read"):
        Tiny.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(UserError, match="not a complete model folder"):
        Tiny.from_pretrained(folder)


def test_repositories_are_downloaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def snapshot(repo_id: str, *, revision: str | None, allow_patterns: list[str], **_: Any) -> str:
        asked.append((repo_id, revision))
        return str(folder)

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    assert Tiny.from_pretrained("owner/tiny", revision="v1").config.names == ("p", "q")
    assert asked == [("owner/tiny", "v1")]


def test_missing_repositories_are_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot(*_: Any, **__: Any) -> str:
        raise OSError("no route to host\nmore")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    with pytest.raises(
        UserError, match=r"owner/tiny is neither a local folder nor available .*\(no route to host\)"
    ):
        Tiny.from_pretrained("owner/tiny")
    monkeypatch.undo()
    with pytest.raises(UserError, match="neither a local folder"):
        Tiny.from_pretrained("no/such/folder")


def test_another_librarys_model_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"theirs")
    with pytest.raises(UserError, match="a model of another library"):
        Tiny(TinyConfig()).save_pretrained(tmp_path)
    (tmp_path / "config.json").unlink()
    with pytest.raises(UserError, match=r"weights without a config\.json"):
        Tiny(TinyConfig()).save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"theirs"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1j, 1])
def test_weights_that_are_no_numbers_are_refused(folder: Path, value: complex) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name, tensor in tensors.items() if tensor.is_floating_point())
    tensors[name] = torch.full(tensors[name].shape, value)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(UserError, match=name):
        Tiny.from_pretrained(folder)
