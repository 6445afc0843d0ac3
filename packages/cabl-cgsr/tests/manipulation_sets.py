"""Tiny copies of the released data sets: true folders and file names, made-up pixels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (24, 36)
"""(height, width) of the images."""
BOX = (slice(6, 14), slice(10, 24))
"""Where the manipulated ones are manipulated."""
TRUTH = np.zeros(SIZE, bool)
TRUTH[BOX] = True


def image(path: Path, seed: int = 0, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng([seed, *path.name.encode()])
    low = rng.integers(0, 256, (4, 6, 3), dtype=np.uint8)
    Image.fromarray(low).resize(size[::-1], Image.Resampling.BICUBIC).save(path)
    return path


def mask(path: Path, truth: np.ndarray = TRUTH, mode: str = "L") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.where(truth, 255, 0).astype(np.uint8)).convert(mode).save(path)
    return path


def casia2(root: Path) -> Path:
    for name in ("ani_00001.jpg", "ani_00002.jpg", "ind_00003.bmp", "nat_10104.jpg"):
        image(root / "Au" / f"Au_{name}")
    names = (
        "Tp_D_CRN_S_N_ani00001_ani00002_00012.jpg",
        "Tp_S_NNN_S_N_nat00005_nat00005_00625.tif",
        "Tp_S_CnN_M_O_art00006_art00006_10440.tif",
        "Tp_D_NRN_S_B_sec00007_cha00000_00064.jpg",
    )
    endings = ("_gt.png", "_gt.png", "_gt3.png", "_gt.png")
    for name, ending, mode in zip(names, endings, ("L", "RGB", "RGBA", "1"), strict=True):
        path = image(root / "Tp" / name)
        mask(root / "CASIA 2 Groundtruth" / f"{path.stem}{ending}", mode=mode)
    return root


def casia1(root: Path, tampered: str = "Modified Tp/Tp") -> Path:
    base = root / "CASIA 1.0 dataset"
    for name in ("ani_0001.jpg", "arc_0002.JPG"):
        image(base / "Au" / f"Au_{name}")
    spliced = (
        "Sp_D_NRN_A_pla0005_pla0023_0281",
        "Sp_D_NNN_A_ani0099_ani0100.0288",  # the dot belongs to the name
        "Sp_D_NRN_A_cha0011_sec0011_0542",  # has no mask
    )
    for stem in spliced:
        image(base / tampered / "Sp" / f"{stem}.jpg")
    image(base / tampered / "CM" / "Sp_S_NNN_C_txt0045_txt0045_0045.jpg")
    drawn = root / "CASIA 1.0 groundtruth"
    mask(drawn / "Sp" / f"{spliced[0]}_gt.png")
    mask(drawn / "Sp" / f"{spliced[1]}_gt.png")
    mask(drawn / "CM" / "Sp_S_NNN_C_txt0046_txt0045_0045_gt.png")  # agrees in the running number only
    return root


def columbia(root: Path, converted: bool = False) -> Path:
    image(root / "4cam_auth" / "canong3_02_sub_01.tif")
    stem = image(root / "4cam_splc" / "canong3_nikond70_sub_01.tif").stem
    colours = np.zeros((*SIZE, 3), np.uint8)
    colours[..., 0] = np.where(TRUTH, 0, 200)
    colours[..., 1] = np.where(TRUTH, 200, 0)
    colours[5:7, 9:25] = colours[5:7, 9:25] // 200 * 255  # the seam is brighter
    folder = root / "4cam_splc" / "edgemask"
    folder.mkdir()
    Image.fromarray(colours).save(folder / f"{stem}_edgemask.jpg", quality=95, subsampling=0)
    if converted:
        mask(root / "mask" / f"{stem}_gt.png")
    return root


def coverage(root: Path) -> Path:
    for number in (1, 2, 41):
        image(root / "image" / f"{number}.tif")
        image(root / "image" / f"{number}t.tif")
        larger = np.kron(TRUTH, np.ones((2, 2), bool))
        mask(root / "mask" / f"{number}forged.tif", larger if number == 41 else TRUTH)
        mask(root / "mask" / f"{number}copy.tif")
        mask(root / "mask" / f"{number}paste.tif")
    return root


def imd2020(root: Path) -> Path:
    for folder, stems in (("1a1ogs", ("c8tf5mq_0", "c8tf5mq_1")), ("z41", ("00109_fake", "00109_fake_01"))):
        original = folder if folder[0] != "z" else "00109"
        image(root / folder / f"{original}_orig.jpg")
        for stem in stems:
            image(root / folder / f"{stem}.png")
            mask(root / folder / f"{stem}_mask.png")
    return root


def folders(root: Path, masks: bool = True) -> Path:
    for name in ("a.jpg", "b.png"):
        image(root / "authentic" / name)
        image(root / "manipulated" / "batch" / name, seed=1)
        if masks:
            mask(root / "masks" / "batch" / f"{Path(name).stem}.png")
    return root


def imdlbenco(root: Path) -> Path:
    image(root / "Au" / "9.jpg")
    for name in ("one.jpg", "one_1.jpg"):
        image(root / "Tp" / name)
        mask(root / "Gt" / f"{Path(name).stem}_gt.png")
    return root


def casia1_kaggle(root: Path) -> Path:
    """`Au` beside `Sp`, without masks."""
    for name in ("Au_ani_0001", "Au_nat_0002"):
        image(root / "CASIA1" / "Au" / f"{name}.jpg")
    for name in ("Sp_D_CND_A_pla0005_pla0023_0281", "Sp_S_NNN_A_ani0004_ani0004_0197"):
        image(root / "CASIA1" / "Sp" / f"{name}.jpg")
    return root


def casia2_kaggle(root: Path) -> Path:
    """The folders inside one of their own name, and masks of other releases' names."""
    casia2(root / "CASIA2" / "CASIA2")
    return root


def casia1_imdlbenco(root: Path) -> Path:
    for name in ("Sp_D_CND_A_pla0005_pla0023_0281", "Sp_S_NNN_A_ani0004_ani0004_0197"):
        image(root / "CASIA1.0" / "Tp" / f"{name}.jpg")
        mask(root / "CASIA1.0" / "Gt" / f"{name}_gt.png")
    return root


NIST_COLUMNS = "TaskID|ProbeFileID|ProbeFileName|ProbeMaskFileName|BaseFileName|IsTarget|Collection"


def nist16(root: Path, table: bool = True) -> Path:
    """NIST's tables are separated by bars; in the masks black is manipulated."""
    rows = [NIST_COLUMNS]
    for number, target in enumerate("YYN", start=1):
        name = f"NC2016_{4000 + number}"
        image(root / "probe" / f"{name}.jpg")
        image(root / "world" / f"NC2016_{5000 + number}.jpg")
        drawn = ""
        if target == "Y":
            drawn = f"reference/manipulation/mask/{'PS-arrow' if table else name}-{number}-mask.png"
            drawn = drawn if table else f"mask/{name}_gt.png"
            mask(root / drawn, ~TRUTH)
        rows.append(f"manipulation|{number}|probe/{name}.jpg|{drawn}|world/x.jpg|{target}|Nimble-SCI")
    if table:
        (root / "reference/manipulation/NC2016-manipulation-ref.csv").write_text("\n".join(rows) + "\n")
    return root


def dso1(root: Path) -> Path:
    for number in ("01", "02"):
        image(root / "tifs-database" / "DSO-1" / f"normal-{number}.png")
        image(root / "tifs-database" / "DSO-1" / f"splicing-{number}.png")
        mask(root / "tifs-database" / "DSO-1-Fake-Images-Masks" / f"splicing-{number}.png", ~TRUTH)
    return root


def korus(root: Path) -> Path:
    for camera, stem in (("Canon_60D", "DPP0012"), ("Sony_A57", "DSC04806"), ("Nikon_D90", "DPP0012")):
        folder = root / "data-images" / camera
        image(folder / "pristine" / f"{stem}.TIF")
        image(folder / "tampered-realistic" / f"{stem}.TIF", seed=len(camera))
        mask(folder / "ground-truth" / f"{stem}.PNG")
    (root / "readme.md").write_text("Realistic Tampering Dataset")
    return root


def autosplice(root: Path) -> Path:
    for number in (56635, 62206):
        image(root / "Authentic" / f"{number}.jpg")
        for quality in (100, 90, 75):
            image(root / f"Forged_JPEG{quality}" / f"{number}_1.jpg", seed=quality)
        mask(root / "Mask" / f"{number}_1_mask.png")
    return root


def openforensics(root: Path) -> Path:
    """The copy on Kaggle: faces cut out of the images, in folders by their labels."""
    for seed, part in enumerate(("Train", "Validation", "Test")):
        for number in range(2):
            image(root / "Dataset" / part / "Real" / f"real_{number}.jpg", seed=seed)
            image(root / "Dataset" / part / "Fake" / f"fake_{number}.jpg", seed=seed)
    return root


def image_folders(root: Path) -> Path:
    """As torchvision's ImageFolder reads them: a folder for each class in a folder for each part."""
    for seed, part in enumerate(("train", "val")):
        for name in ("a.jpg", "b.png"):
            image(root / part / "real" / name, seed=seed)
            image(root / part / "fake" / name, seed=seed + 9)
    return root


def beside(root: Path) -> Path:
    """Masks beside their images, with endings in capitals."""
    image(root / "original" / "a.jpg")
    for name in ("b", "c"):
        image(root / "tampered" / f"{name}.jpg")
        mask(root / "tampered" / f"{name}_MASK.png")
    return root


def wscl_list(root: Path) -> Path:
    """The lists name both CASIA sets: v2 is `train`, v1 is `val`."""
    entries = {}
    for subset, names in (("train", ("Au_ani_00001.jpg", "Tp_D_CRN_S_N_ani00002_ani00003_00012.jpg")),
                          ("val", ("Au_ani_0001.jpg", "Sp_S_NNN_C_txt0045_txt0045_0045.jpg"))):  # fmt: skip
        for label, name in enumerate(names):
            path = f"data/casia/{subset}/{('au', 'tp')[label]}/{name}"
            image(root / path)
            entries[name] = {"subset": subset, "path": path, "label": label}
            if label:
                drawn = f"data/casia/{subset}/mask/{Path(name).stem}_gt.png"
                mask(root / drawn)
                entries[name]["mask"] = drawn
    return _write(root / "casia_datalist.json", entries)


def imdlbenco_list(root: Path) -> Path:
    image(root / "Tp" / "x.png")
    mask(root / "Gt" / "x.png")
    image(root / "Au" / "y.png")
    return _write(root / "list.json", [["Tp/x.png", "Gt/x.png"], ["Au/y.png", "Negative"]])


def _write(path: Path, content: dict | Sequence) -> Path:
    path.write_text(json.dumps(content))
    return path
