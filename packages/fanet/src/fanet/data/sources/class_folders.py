"""SPLIT/CLASS/*.jpg: one folder of images for each class, for the ImageNet classifier."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from fanet.config import DataConfig
from fanet.data.sources.base import FileSource, Folder, Item, Listing, has_images, stem, subfolders
from fanet.data.sources.catalogues import find_catalogue
from fanet.data.sources.folders import IMAGE_FOLDERS, MASK_FOLDERS
from fanet.data.sources.splits import matching, usual
from papers_shared.doctor import Finding
from papers_shared.errors import UserError


@dataclass(frozen=True)
class ClassFolders(FileSource):
    """Images whose folder is their class."""

    LAYOUT: ClassVar[str] = "class_folders"
    folders: dict[str, Path]

    @classmethod
    def find(cls, base: Path, data: DataConfig) -> ClassFolders | None:
        asked = {data.train_split, data.val_split}
        folders = {
            name: folder
            for name, folder in subfolders(base).items()
            if (usual(name) or name in asked) and any(map(_is_class, subfolders(folder).values()))
        }
        return cls(base, data, folders) if folders else None

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(self.folders)

    def class_names(self) -> tuple[str, ...]:
        if catalogue := find_catalogue([self.base]):
            return catalogue.names
        train = matching(self.data.train_split, self.splits) or list(self.splits)
        return tuple(subfolders(self.folders[train[0]]))

    def read(self, split: str, names: Sequence[str]) -> Listing:
        folder = self.folders[split]
        inner = subfolders(folder)
        if unknown := [name for name in inner if name not in names]:
            raise UserError(f"{folder} has class folders that are no known class: {', '.join(unknown[:5])}")
        items: list[Item] = []
        findings: list[Finding] = []
        stamps: list[object] = []
        for name, path in inner.items():
            found = Folder.scan(path, deep=False)
            label = list(names).index(name)
            items += [
                Item(f"{name}/{stem(file)}", image, label=label) for file, image in found.images.items()
            ]
            findings += found.findings
            stamps += found.stamps
        return Listing(tuple(items), tuple(findings), stamps=tuple(stamps))


def _is_class(folder: Path) -> bool:
    """Whether a folder of images is called like a class and not like a part of other layouts."""
    return folder.name.lower() not in (*IMAGE_FOLDERS, *MASK_FOLDERS) and has_images(folder)
