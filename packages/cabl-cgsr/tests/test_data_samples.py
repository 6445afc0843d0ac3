"""Training samples: image labels only, decided by (seed, epoch, index); the held-out part."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import manipulation_sets as releases
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from cabl_cgsr.config import DataConfig, ModelConfig
from cabl_cgsr.data import LabelSamples, open_set, training_split
from cabl_cgsr.data.groups import content_groups, hold_out
from cabl_cgsr.data.items import Item
from cabl_cgsr.data.layouts import list_set
from cabl_cgsr.transforms import normalization, random_crop, train_transform
from papers_shared.errors import UserError

OPENED: list[str] = []
sys.addaudithook(lambda event, args: OPENED.append(str(args[0])) if event == "open" and args else None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root = releases.casia2(tmp_path_factory.mktemp("samples") / "CASIA 2.0")
    return DataConfig(root=str(root), crop_size=32, long_side=(20, 40), val_share=0.3)


def samples(data: DataConfig, seed: int = 0) -> LabelSamples:
    return LabelSamples(training_split(data, "train"), train_transform(data), seed)


def test_training_opens_no_mask(data: DataConfig, tmp_path: Path) -> None:
    OPENED.clear()
    chosen = samples(data)
    assert set(chosen.rows.column_names) == {"name", "image", "label", "dataset"}
    with_masks = [chosen[(0, index)]["image"] for index in range(len(chosen))]
    _ = training_split(data, "val")[0]
    opened = [name for name in OPENED if str(data.root) in name]
    assert sum("/Au/" in name or "/Tp/" in name for name in opened) >= len(chosen)
    assert not [name for name in opened if "Groundtruth" in name or "_gt" in name]
    shutil.copytree(data.root, tmp_path / "CASIA 2.0", ignore=shutil.ignore_patterns("*Groundtruth"))
    bare = samples(DataConfig(**{**data.__dict__, "root": str(tmp_path / "CASIA 2.0")}))
    without_masks = [bare[(0, index)]["image"] for index in range(len(bare))]
    assert all(torch.equal(a, b) for a, b in zip(with_masks, without_masks, strict=True))


def test_rows_with_masks_are_refused(data: DataConfig) -> None:
    with pytest.raises(UserError, match="image labels only"):
        LabelSamples(open_set(data, masks=True), train_transform(data), 0)


def test_sample_is_a_function_of_seed_epoch_and_index(data: DataConfig) -> None:
    first = samples(data)
    state = torch.get_rng_state()
    sample = first[(3, 1)]
    assert torch.equal(torch.get_rng_state(), state)
    assert sample["image"].shape == (3, 32, 32)
    assert sample["image"].dtype == torch.uint8
    assert sample["label"].dtype == torch.float32
    torch.manual_seed(99)
    assert torch.equal(samples(data)[(3, 1)]["image"], sample["image"])
    assert not torch.equal(first[(4, 1)]["image"], sample["image"])
    assert not torch.equal(samples(data, seed=1)[(3, 1)]["image"], sample["image"])
    order = [(0, 2), (0, 0), (1, 3), (1, 1)]
    alone, shared = (list(DataLoader(first, sampler=order, batch_size=2, num_workers=n)) for n in (0, 2))
    for left, right in zip(alone, shared, strict=True):
        assert left["name"] == right["name"]
        assert torch.equal(left["image"], right["image"])
        assert torch.equal(left["label"], right["label"])


def item(name: str, folder: Path, label: int = 0, origins: tuple[str, ...] = (), content: str = "") -> Item:
    (folder / name).write_text(content or name)
    return Item(name, folder / name, label, None, origins)


def test_images_of_one_origin_or_content_stay_together(tmp_path: Path) -> None:
    items = [
        item("a", tmp_path, origins=("1",)),
        item("b", tmp_path, origins=("2",)),
        item("c", tmp_path, 1, origins=("1", "3")),
        item("d", tmp_path, 1, content="equal"),
        item("e", tmp_path, 1, origins=("2",)),
        item("f", tmp_path, content="equal"),
        item("g", tmp_path, content="wqual"),  # of the same size only
    ]
    groups = [{member.name for member in group} for group in content_groups(items)]
    assert groups == [{"a", "c"}, {"b", "e"}, {"d", "f"}, {"g"}]


def test_held_out_part_is_stratified_seeded_and_tears_no_group(tmp_path: Path) -> None:
    items = [item(f"a{n}", tmp_path, 0, (str(n),)) for n in range(60)]
    items += [item(f"m{n}", tmp_path, 1, (str(n), str(n + 100))) for n in range(40)]
    held = hold_out(items, 0.2, seed=0)
    assert sum(name[0] == "a" for name in held) == 12
    assert sum(name[0] == "m" for name in held) == 8
    assert held == hold_out(items[::-1], 0.2, seed=0) != hold_out(items, 0.2, seed=1)
    for group in content_groups(items):
        assert len({member.name in held for member in group}) == 1
    assert hold_out(items, 0.0, seed=0) == set()
    with pytest.raises(UserError, match=r"--data\.val-share is 1\.0"):
        hold_out(items, 1.0, seed=0)
    with pytest.raises(UserError, match="0 can be held out, as images of one origin stay"):
        hold_out([item(f"x{n}", tmp_path, n % 2, ("same",)) for n in range(9)], 0.2, seed=0)


def test_split_of_a_set(data: DataConfig) -> None:
    train, val = (training_split(data, split) for split in ("train", "val"))
    assert set(train["name"]) | set(val["name"]) == set(open_set(data, masks=False)["name"])
    assert not set(train["name"]) & set(val["name"])
    assert set(val["label"]) == {0, 1}
    spliced = "Tp_D_CRN_S_N_ani00001_ani00002_00012"
    part = train if spliced in train["name"] else val
    assert {"Au_ani_00001", "Au_ani_00002"} <= set(part["name"])
    origins = {i.name: i.origins for i in list_set(data, masks=False).items}
    assert origins[spliced] == ("ani1", "ani2")
    assert origins["Tp_D_NRN_S_B_sec00007_cha00000_00064"] == ("sec7",)


def test_one_label_is_not_enough(tmp_path: Path) -> None:
    releases.imdlbenco(tmp_path)
    shutil.rmtree(tmp_path / "Au")
    with pytest.raises(UserError, match="no authentic image"):
        training_split(DataConfig(root=str(tmp_path)), "train")


def augmented(image: np.ndarray, **options: Any) -> torch.Tensor:
    """What the network takes."""
    pixels, inside = train_transform(DataConfig(**options))(image)
    assert pixels.dtype == torch.uint8
    return normalization(ModelConfig())(pixels[None], inside[None])[0]


def test_augmentation_is_transcams() -> None:
    image = np.random.default_rng(0).integers(0, 256, (30, 60, 3), dtype=np.uint8)
    plain = {"jitter": (0.0, 0.0, 0.0, 0.0), "flip": 0.0, "long_side": (0, 0), "crop_size": 80}
    padded = augmented(image, **plain)
    assert padded.shape == (3, 80, 80)
    mean, std = (np.float32(values) for values in (ModelConfig().mean, ModelConfig().std))
    whole = torch.from_numpy((np.float32(image) - mean) / std).permute(2, 0, 1)
    ys, xs = ((padded != 0).any(0).any(axis).nonzero()[0] for axis in (1, 0))
    assert torch.equal(padded[:, ys : ys + 30, xs : xs + 60], whole)  # zeros after the normalisation
    assert (padded != 0).sum() == (whole != 0).sum()
    torch.manual_seed(1)
    window = augmented(image, **{**plain, "flip": 1.0, "crop_size": 30})
    assert any(torch.equal(window, whole.flip(-1)[:, :, x : x + 30]) for x in range(31))
    sides = set()
    for _ in range(40):
        zoomed = augmented(image, **{**plain, "long_side": (20, 40)})
        sides.add(int((zoomed != 0).any(0).any(0).sum()))
    assert min(sides) >= 20
    assert max(sides) <= 40
    assert len(sides) > 8
    coloured = augmented(image, **{**plain, "jitter": (0.3, 0.3, 0.3, 0.1)})
    assert not torch.equal(coloured.sort().values, padded.sort().values)


def test_random_crop_of_larger_and_smaller_sides() -> None:
    image = torch.arange(1.0, 61.0).reshape(1, 6, 10)
    seen = set()
    for _ in range(60):
        crop, (top, left, bottom, right) = random_crop(image, 8)
        assert crop.shape == (1, 8, 8)
        assert (crop != 0).any(2).sum() == bottom - top == 6
        assert (left, right) == (0, 8)
        seen.add((int(top), int(crop[crop > 0][0])))
    assert len(seen) == 9  # three positions down, three across


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_pipes_and_dead_links_are_named_and_not_waited_for(tmp_path: Path) -> None:
    root = releases.folders(tmp_path / "set")
    for spoil in (os.mkfifo, lambda path: path.symlink_to(tmp_path / "nowhere.png")):
        for name in ("y.png", "z.png"):  # two of one size are compared
            (root / "authentic" / name).unlink(missing_ok=True)
            spoil(root / "authentic" / name)
        with pytest.raises(UserError, match=r"authentic/y\.png"):
            training_split(DataConfig(root=str(root), val_share=0.5), "train")
