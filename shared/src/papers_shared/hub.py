"""A trained model as one folder, here or on the Hugging Face Hub: safetensors, config.json and a card."""

from __future__ import annotations

import dataclasses
import tempfile
import typing
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.entries import first_line, first_names
from papers_shared.errors import UserError
from papers_shared.files import save_tensors, write_bytes, write_json, write_text, writing_folder
from papers_shared.paths import user_path
from papers_shared.provenance import Origin
from papers_shared.text import read_json
from papers_shared.types import Device

if TYPE_CHECKING:
    import torch
    from torch import Tensor

FORMAT = 1
WEIGHTS, CONFIG, CARD = "model.safetensors", "config.json", "README.md"
TRAINING = "training.json"
"""Which recipe, step and score a model comes from; in the folders that a training writes."""

Self = TypeVar("Self", bound="PretrainedFolder")


class PretrainedFolder:
    """Mixin for an `nn.Module` that is saved to and opened from a self-contained folder.

    The class sets `self.config`, a frozen dataclass, and gives a class method `from_config(config:
    ConfigClass)` that builds the same network from it without any download: the annotation of its argument
    names the dataclass to read.

    `EXTRA_FILES` names small files that belong into the folder too, such as a vocabulary: those that there are
    lie in `extra_files` as bytes, from reading to writing.
    """

    EXTRA_FILES: ClassVar[tuple[str, ...]] = ()
    RETIRED_OPTIONS: ClassVar[frozenset[str]] = frozenset()
    """Options that folders of earlier versions have in their configuration and that no longer describe the network."""
    PIPELINE_TAG: ClassVar[str] = ""
    """The task, as the Hub names it."""
    PIXELS: ClassVar[str] = "0..255"
    """The range of colours that `mean` and `std` of the configuration are for."""
    LIMITS: ClassVar[str] = ""
    """What a user of the model should know before believing it; stands in the card."""
    config: Any
    origin: Origin = Origin()
    """Where the weights come from; stored in `config.json`."""
    extra_files: Mapping[str, bytes] = MappingProxyType({})

    @classmethod
    def from_config(cls: type[Self], config: Any) -> Self:
        raise NotImplementedError

    def save_pretrained(self, folder: str | Path) -> Path:
        """Write the folder, replacing an earlier model folder in one step; into a clone of a repository file by file.

        Raises:
            UserError: The folder exists and holds anything but a model of this project.
        """
        folder = Path(folder)
        self._check_own(folder)
        if (folder / ".git").exists():
            self._write(folder)
            return folder
        with writing_folder(folder, self._file_names()) as partial:
            self._write(partial)
        return folder

    @classmethod
    def from_pretrained(
        cls: type[Self],
        folder_or_repo: str | Path,
        *,
        revision: str | None = None,
        device: str | torch.device = "cpu",
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        force_download: bool = False,
    ) -> Self:
        """Open a model folder, or a Hub repository (`owner/name`), in evaluation mode.

        Args:
            folder_or_repo: An existing folder is opened without any network access.
            revision: Branch, tag or commit of a Hub repository.
            token, cache_dir, local_files_only, force_download: As `huggingface_hub.snapshot_download` has them.

        Raises:
            UserError: There is no such folder or repository, it holds another class, its configuration has a key that
                is not known here, or its tensors are not exactly those of the network.
        """
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        folder = local_folder(
            folder_or_repo,
            revision,
            cls._extra_names(),
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            force_download=force_download,
        )
        config, origin = cls._read_config(folder)
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"{folder} has no {WEIGHTS}: it is not a complete model folder")
        try:
            tensors = load_file(folder / WEIGHTS)
        except SafetensorError as problem:
            raise UserError(
                f"{folder / WEIGHTS} cannot be read ({problem}): copy or download it again"
            ) from None
        if getattr(
            config, "pretrained", ""
        ):  # a finished model needs no start weights, wherever they are now
            config = dataclasses.replace(config, pretrained="")
        model = cls.from_config(config)
        model.origin = origin
        _load_exactly(model, tensors, folder / WEIGHTS)
        extra = {name: folder / name for name in cls._extra_names()}
        model.extra_files = {name: path.read_bytes() for name, path in extra.items() if path.is_file()}
        model.to(device)  # type: ignore[attr-defined]
        model.eval()  # type: ignore[attr-defined]
        return model

    def _write(self, folder: Path) -> None:
        tensors = self.state_dict()  # type: ignore[attr-defined]
        compiled = "_orig_mod."  # the prefix that `torch.compile` gives to the modules it wraps
        save_tensors({name.replace(compiled, ""): tensors[name] for name in tensors}, folder / WEIGHTS)
        write_json(folder / CONFIG, self._description())
        write_text(folder / CARD, self.model_card())
        for name, content in self.extra_files.items():
            write_bytes(folder / name, content)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        private: bool | None = None,
        revision: str | None = None,
        token: str | bool | None = None,
        commit_message: str = "Upload model",
        create_pr: bool = False,
    ) -> str:
        """Upload the model folder to the Hub repository `repo_id`, made when missing.

        Args:
            revision: A branch, made when missing.
            create_pr: Open a pull request in place of a commit to the branch.

        Returns:
            The address of the commit, or of the pull request.

        Raises:
            UserError: There is no network, no such account, or no right to write there.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        with tempfile.TemporaryDirectory() as temporary:
            folder = self.save_pretrained(Path(temporary, "model"))
            try:
                repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
                if revision is not None:
                    api.create_branch(repo_id, branch=revision, exist_ok=True)
                commit = api.upload_folder(
                    repo_id=repo_id,
                    folder_path=folder,
                    revision=revision,
                    commit_message=commit_message,
                    create_pr=create_pr,
                )
            except hub_problems() as problem:
                raise UserError(
                    f"{repo_id} on the Hugging Face Hub cannot be written ({first_line(problem)}): log in with `hf "
                    "auth login` or give a token that may write there"
                ) from problem
        return str(commit.pr_url or commit.commit_url)

    def model_card(self) -> str:
        """Text of the folder's README.md, with the metadata that the Hub reads."""
        from papers_shared.card import model_card

        return model_card(
            _class_name(type(self)),
            self.config,
            self.origin,
            task=self.PIPELINE_TAG,
            limits=self.LIMITS,
            pixels=self.PIXELS,
        )

    @classmethod
    def _extra_names(cls) -> tuple[str, ...]:
        return (TRAINING, *cls.EXTRA_FILES)

    @classmethod
    def _file_names(cls) -> tuple[str, ...]:
        return (WEIGHTS, CONFIG, CARD, *cls._extra_names())

    @classmethod
    def _check_own(cls, folder: Path) -> None:
        """Refuse a folder that holds another library's model: its files have the same names."""
        path = folder / CONFIG
        if (folder / WEIGHTS).exists() and not path.exists():
            raise UserError(
                f"{folder} holds weights without a {CONFIG} and would be replaced: name a new folder"
            )
        if path.is_file():
            description = read_json(path)
            if not describes_model(description):
                raise UserError(
                    f"{folder} holds a model of another library and would be replaced: name a new folder"
                )

    def _description(self) -> dict[str, Any]:
        name = _class_name(type(self))
        versions = {}
        for package in (name.partition(".")[0], "papers-shared", "torch"):
            try:
                versions[package] = version(package)
            except PackageNotFoundError:
                continue
        return {
            "format": FORMAT,
            "class": name,
            "config": dataclass_to_json(self.config),
            "origin": dataclass_to_json(self.origin),
            "versions": versions,
        }

    @classmethod
    def _read_config(cls, folder: Path) -> tuple[Any, Origin]:
        path = folder / CONFIG
        if not path.is_file():
            raise UserError(f"{folder} has no {CONFIG}: it is not a model folder{_hint(folder)}")
        description = read_json(path)
        if not describes_model(description):
            raise UserError(f"{path} does not describe a model{_hint(folder)}")
        if description["format"] != FORMAT:
            raise UserError(
                f"{path} has format {description['format']!r}, known is {FORMAT}: update the package"
            )
        if description["class"] != _class_name(cls):
            raise UserError(f"{folder} holds a {description['class']}, not a {_class_name(cls)}")
        config_class = typing.get_type_hints(cls.from_config)["config"]
        config = description["config"]
        if isinstance(config, dict):
            config = {key: value for key, value in config.items() if key not in cls.RETIRED_OPTIONS}
        origin = dataclass_from_json(Origin, description.get("origin", {}), f"{path}: origin")
        return dataclass_from_json(config_class, config, f"{path}: config"), origin


def describes_model(description: Any) -> bool:
    """Whether the content of a `config.json` is that of a model folder of this project."""
    return isinstance(description, dict) and {"class", "config", "format"} <= description.keys()


def open_model(cls: type[Self], model: str | Path, device: Device = "auto") -> Self:
    """A trained model from a folder or the Hub, in evaluation mode on `device`.

    Raises:
        UserError: No such model, or no such device.
    """
    from papers_shared.devices import select_device

    return cls.from_pretrained(model, device=select_device(device))


def _class_name(cls: type) -> str:
    """Package and class name: old folders stay readable when a class moves inside its package."""
    return f"{cls.__module__.partition('.')[0]}.{cls.__name__}"


def _load_exactly(model: Any, tensors: dict[str, Tensor], path: Path) -> None:
    own = model.state_dict()
    differing = [
        f"{name} {list(tensors[name].shape)} instead of {list(own[name].shape)}"
        for name in sorted(own.keys() & tensors.keys())
        if tensors[name].shape != own[name].shape
    ]
    problems = [
        f"{len(names):,} {what}: {first_names(names)}"
        for what, names in (
            ("missing", sorted(own.keys() - tensors.keys())),
            ("unexpected", sorted(tensors.keys() - own.keys())),
            ("of another shape", differing),
        )
        if names
    ]
    if problems:
        raise UserError(f"{path} does not fit the network of its configuration; {'; '.join(problems)}")
    check_numbers(tensors, own, path)
    model.load_state_dict(tensors)


def check_numbers(tensors: Mapping[str, Tensor], own: Mapping[str, Tensor], source: str | Path) -> None:
    """Refuse weights that are not finite, or of another kind of number than the network's.

    Limits at infinity that a new network has in the same entry are no damage.

    Args:
        own: The network's entries; names that it lacks are left to others.

    Raises:
        UserError: It names the first such entry.
    """
    import torch

    for name, tensor in tensors.items():
        if (
            name in own and own[name].is_floating_point() and not tensor.is_floating_point()
        ) or tensor.is_complex():
            raise UserError(f"{source}: {name} holds {tensor.dtype}, which are no weights of this network")
        if tensor.is_floating_point() and not tensor.is_meta and not torch.isfinite(tensor).all():
            if (
                name in own
                and own[name] is not tensor
                and not own[name].is_meta
                and torch.equal(own[name], tensor)
            ):
                continue
            raise UserError(
                f"{source}: {name} holds values that are not finite: the training diverged or the file is damaged"
            )


def local_folder(
    folder_or_repo: str | Path, revision: str | None = None, extra: tuple[str, ...] = (), **options: Any
) -> Path:
    """The model folder itself, or the downloaded snapshot of the Hub repository, with its `extra` files.

    Args:
        options: Further ones of `huggingface_hub.snapshot_download`.

    Raises:
        UserError: There is no such folder, and no such repository to be had.
    """
    folder = user_path(folder_or_repo)
    if folder.is_dir():
        return folder
    if folder.exists():
        raise UserError(f"{folder} is a file: name the model folder that holds {WEIGHTS} and {CONFIG}")
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                str(folder_or_repo),
                revision=revision,
                allow_patterns=[WEIGHTS, CONFIG, CARD, *extra],
                **options,
            )
        )
    except hub_problems() as problem:
        raise UserError(
            f"{folder_or_repo} is neither a local folder nor available on the Hugging Face Hub ({first_line(problem)})"
        ) from problem


def hub_problems() -> tuple[type[Exception], ...]:
    """What huggingface_hub raises where there is no network, no such repository, or no right to it."""
    from huggingface_hub.errors import HFValidationError, HTTPError

    return OSError, HTTPError, HFValidationError


def _hint(folder: Path) -> str:
    found = [name for name in ("best", "last") if (folder / name / CONFIG).is_file()]
    return f"; did you mean {folder / found[0]}?" if found else ""
