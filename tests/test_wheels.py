"""Release files carry pins and no path; a working tree points at its own `shared` folder.

With PAPERS_DIST set (by `nox -s build`) the release files of that folder are looked at; else they are built
here by calling the build backend, which needs no network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from source_imports import imported_names

FOLDERS = {
    "papers_shared": "shared",
    "fanet": "packages/fanet",
    "plvl": "packages/plvl",
    "cabl_cgsr": "packages/cabl-cgsr",
}
DISTRIBUTION_OF = {"PIL": "pillow", "cv2": "opencv-python-headless", "yaml": "pyyaml"}
PACKAGES = [name for name in FOLDERS if name != "papers_shared"]


def build(project: Path, output: Path, kind: str, *, release: bool) -> subprocess.CompletedProcess[str]:
    """Runs hatchling in a project folder; `kind` is "wheel" or "sdist"."""
    environment = {**os.environ, "PAPERS_RELEASE": "1" if release else "0"}
    command = [sys.executable, "-m", "hatchling", "build", "-t", kind, "-d", str(output)]
    return subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True)


def built_wheel(project: Path, output: Path, *, release: bool) -> Path:
    run = build(project, output, "wheel", release=release)
    assert run.returncode == 0, run.stderr
    (wheel,) = output.glob("*.whl")
    return wheel


def metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return Parser().parsestr(archive.read(name).decode())


def requirements(wheel: Path) -> dict[str, Requirement]:
    return {r.name: r for r in map(Requirement, metadata(wheel).get_all("Requires-Dist", []))}


def contents(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


@pytest.fixture(scope="session")
def dist(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    if "PAPERS_DIST" in os.environ:
        return root / os.environ["PAPERS_DIST"]
    output = tmp_path_factory.mktemp("dist")
    for folder in FOLDERS.values():
        for kind in ("wheel", "sdist"):
            run = build(root / folder, output, kind, release=True)
            assert run.returncode == 0, run.stderr
    return output


@pytest.mark.parametrize("name", FOLDERS)
def test_release_metadata_holds_no_path(name: str, dist: Path) -> None:
    (wheel,) = dist.glob(f"{name}-*.whl")
    fields = [f"{key}: {value}" for key, value in metadata(wheel).items()]
    assert not [field for field in fields if "file:" in field]
    assert all(requirement.url is None for requirement in requirements(wheel).values())


@pytest.mark.parametrize("name", PACKAGES)
def test_release_pins_papers_shared_of_the_same_version(name: str, dist: Path) -> None:
    (wheel,) = dist.glob(f"{name}-*.whl")
    (shared,) = dist.glob("papers_shared-*.whl")
    version = metadata(shared)["Version"]
    assert metadata(wheel)["Version"] == version
    assert str(requirements(wheel)["papers-shared"].specifier) == f"~={version}"


@pytest.mark.parametrize("name", FOLDERS)
def test_wheel_holds_one_typed_package_whole(name: str, dist: Path, root: Path) -> None:
    (wheel,) = dist.glob(f"{name}-*.whl")
    names = {n for n in contents(wheel) if ".dist-info/" not in n}
    source = root / FOLDERS[name] / "src"
    expected = {p.relative_to(source).as_posix() for p in source.rglob("*.py")} | {f"{name}/py.typed"}
    assert expected <= names
    assert {n.split("/")[0] for n in names} == {name}
    assert any(n.endswith("licenses/LICENSE") for n in contents(wheel))


@pytest.mark.parametrize("name", FOLDERS)
def test_every_third_party_import_is_declared(name: str, dist: Path, root: Path) -> None:
    """Also those that would be there anyway because some dependency happens to need them."""
    (wheel,) = dist.glob(f"{name}-*.whl")
    files = (root / FOLDERS[name] / "src").rglob("*.py")
    imports = {imported for file in files for imported in imported_names(file)}
    foreign = imports - set(sys.stdlib_module_names) - {name}
    declared = {canonicalize_name(requirement) for requirement in requirements(wheel)}
    assert {canonicalize_name(DISTRIBUTION_OF.get(i, i)) for i in foreign} <= declared


@pytest.mark.parametrize("name", PACKAGES)
def test_wheel_declares_its_command(name: str, dist: Path) -> None:
    (wheel,) = dist.glob(f"{name}-*.whl")
    (scripts,) = (data for n, data in contents(wheel).items() if n.endswith("entry_points.txt"))
    assert f"{name.replace('_', '-')} = {name}.cli:main" in scripts.decode()


@pytest.mark.parametrize("name", FOLDERS)
def test_wheel_from_the_sdist_is_the_same(name: str, dist: Path, root: Path, tmp_path: Path) -> None:
    """Unpacked two folders below a `shared`, without the release flag: the sdist's own metadata stands."""
    (sdist,) = dist.glob(f"{name}-*.tar.gz")
    (tmp_path / "shared/src/papers_shared").mkdir(parents=True)
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path / "packages", filter="data")
    (project,) = (tmp_path / "packages").iterdir()
    rebuilt = built_wheel(project, tmp_path / "out", release=False)
    (wheel,) = dist.glob(f"{name}-*.whl")
    assert contents(rebuilt) == contents(wheel)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_tree_brings_its_own_papers_shared(name: str, root: Path, tmp_path: Path) -> None:
    """What pip does with `git+...#subdirectory=`: the tree is copied elsewhere and built there."""
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache", "tests")
    for folder in ("shared", FOLDERS[name]):
        shutil.copytree(root / folder, tmp_path / folder, ignore=ignored)
    wheel = built_wheel(tmp_path / FOLDERS[name], tmp_path / "out", release=False)
    assert requirements(wheel)["papers-shared"].url == (tmp_path / "shared").resolve().as_uri()


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_folder_on_its_own_falls_back_to_the_pin(name: str, root: Path, tmp_path: Path) -> None:
    project = tmp_path / "packages" / name
    shutil.copytree(root / FOLDERS[name], project, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    wheel = built_wheel(project, tmp_path / "out", release=False)
    requirement = requirements(wheel)["papers-shared"]
    assert requirement.url is None
    assert str(requirement.specifier).startswith("~=")


@pytest.mark.parametrize("name", PACKAGES)
def test_an_sdist_outside_a_release_is_refused(name: str, root: Path, tmp_path: Path) -> None:
    run = build(root / FOLDERS[name], tmp_path, "sdist", release=False)
    assert run.returncode != 0
    assert "PAPERS_RELEASE=1" in run.stderr
    assert not list(tmp_path.glob("*.tar.gz"))


def test_copies_are_equal(root: Path) -> None:
    """A build sees only its own folder, so the license and the build hooks lie in each."""
    licenses = {(root / folder / "LICENSE").read_text() for folder in (".", *FOLDERS.values())}
    hooks = {(root / FOLDERS[name] / "hatch_build.py").read_text() for name in PACKAGES}
    assert len(licenses) == 1
    assert len(hooks) == 1
