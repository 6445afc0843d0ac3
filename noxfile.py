"""Every job of this repository: `nox -l` lists them, plain `nox` runs all tests, linter and type checker.

Packages are installed the way a user installs them: built from the tree (`--no-sources` keeps uv from linking
them editable), in a fresh environment, with the third-party versions of constraints.txt.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).parent
IMPORT_NAMES = {"fanet": "fanet", "plvl": "plvl", "cabl-cgsr": "cabl_cgsr"}
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
DISTRIBUTIONS = ("papers-shared", *IMPORT_NAMES)
GROUPS = nox.project.load_toml("pyproject.toml")

nox.needs_version = ">=2025.10"
nox.options.default_venv_backend = "uv"
nox.options.sessions = [
    "lint",
    "types",
    "tests-shared",
    "tests-fanet",
    "tests-plvl",
    "tests-cabl-cgsr",
    "integration",
]


@nox.session
def demo(session: nox.Session) -> None:
    """The main job on embedded data: train, evaluate, predict, one HTML page; `-- plvl` for another package's."""
    package, options = "fanet", session.posargs
    if options and options[0] in IMPORT_NAMES:
        package, *options = options
    install(session, f"./packages/{package}")
    session.run(package, "demo", *options)


@nox.session
def lint(session: nox.Session) -> None:
    """Ruff: rules and format."""
    install(session, *group("lint"))
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Mypy over the sources of every package."""
    install(session, *group("types"), *everything())
    session.run("mypy")


@nox.session(name="tests-shared")
def tests_shared(session: nox.Session) -> None:
    """papers-shared alone."""
    install(session, "./shared[test]")
    check_absent(session, *IMPORT_NAMES)
    run_tests(session, "shared/tests")


@nox.session(name="tests-fanet")
def tests_fanet(session: nox.Session) -> None:
    """fanet alone."""
    test_package(session, "fanet", extras="onnx,peers,test,weights")


@nox.session(name="tests-plvl")
def tests_plvl(session: nox.Session) -> None:
    """plvl alone."""
    test_package(session, "plvl", extras="onnx,test")


@nox.session(name="tests-cabl-cgsr")
def tests_cabl_cgsr(session: nox.Session) -> None:
    """cabl-cgsr alone."""
    test_package(session, "cabl-cgsr", extras="onnx,sam,test")


@nox.session
def integration(session: nox.Session) -> None:
    """What no package can test alone: rules of the house, command lines, launch, wheels, README."""
    install(session, *group("integration"), *everything("[app]"))
    run_tests(session, "tests")


@nox.session
def lowest(session: nox.Session) -> None:
    """fanet, plvl and papers-shared with the oldest third-party releases that they promise to work with."""
    pins = Path(session.create_tmp(), "lowest.txt")
    projects = [f"{folder}/pyproject.toml" for folder in ("shared", "packages/fanet", "packages/plvl")]
    lowest = ("--no-sources", "--resolution", "lowest-direct", "--extra", "test")
    session.run("uv", "pip", "compile", "-q", *lowest, *projects, "-o", str(pins), external=True)
    session.install("--no-sources", "-r", str(pins))
    session.install("--no-sources", "--no-deps", "./packages/fanet", "./packages/plvl")
    for folder in ("shared", "packages/fanet", "packages/plvl"):
        run_tests(session, f"{folder}/tests")


@nox.session
@nox.parametrize("end", ["lowest", "highest"])
def pythons(session: nox.Session, end: str) -> None:
    """The tests of every package on the lowest and the highest Python of the metadata that this machine has."""
    found = [version for version in PYTHONS if runs(f"python{version}")]
    if not found:
        session.skip(f"this machine has none of python{', python'.join(PYTHONS)} on its path")
    version = found[0 if end == "lowest" else -1]
    folder = session.create_tmp()
    python = str(Path(folder, "bin", "python"))
    session.run("uv", "venv", "-q", "--clear", "--python", version, folder, external=True)
    packages = ["./shared", *(f"./packages/{name}[test]" for name in IMPORT_NAMES)]
    session.run("uv", "pip", "install", "-q", "--python", python, *packages, external=True)
    for tests in ("shared", *(f"packages/{name}" for name in IMPORT_NAMES)):
        run_tests(session, f"{tests}/tests", python, "-m", "pytest", external=True)


@nox.session
def bench(session: nox.Session) -> None:
    """Speed and memory beside the plain form and the peers, `-- gpu` or `-- tables`; `-- fanet` for one package."""
    install(session, *group("bench"), "./packages/fanet", "./packages/plvl", "./packages/cabl-cgsr[sam]")
    session.run("python", "-m", "benchmarks", *session.posargs)


@nox.session
def backbones(session: nox.Session) -> None:
    """Nightly: the smallest model of each of timm's modules as a backbone of fanet; `-- MODULE ...` for some."""
    install(session, "./packages/fanet")
    session.run("python", "-m", "benchmarks.backbones", *(session.posargs or ["--needed", "95"]))


@nox.session
def notebooks(session: nox.Session) -> None:
    """Run docs/*.ipynb from top to bottom, each beside its package alone; `-- plvl` for one."""
    for name in session.posargs or IMPORT_NAMES:
        install(session, *group("notebooks"), f"./packages/{name}")
        folder = Path(session.create_tmp(), name)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        notebook = shutil.copy(ROOT / "docs" / f"{name}.ipynb", folder)
        session.run("jupyter", "execute", "--inplace", "--timeout", "900", notebook)


@nox.session
def build(session: nox.Session) -> None:
    """Release files in dist/: an sdist and, from it, a wheel of every distribution, then a look inside."""
    install(session, *group("integration"))
    shutil.rmtree(ROOT / "dist", ignore_errors=True)
    for folder in ("shared", *(f"packages/{name}" for name in IMPORT_NAMES)):
        session.run("uv", "build", "--out-dir", "dist", folder, env={"PAPERS_RELEASE": "1"}, external=True)
    session.run("pytest", "tests/test_wheels.py", env={"PAPERS_DIST": "dist"})


def install(session: nox.Session, *requirements: str) -> None:
    refresh = (f"--refresh-package={name}" for name in DISTRIBUTIONS)
    session.install("--no-sources", *refresh, "-c", "constraints.txt", *requirements)


def group(name: str) -> tuple[str, ...]:
    return nox.project.dependency_groups(GROUPS, name)


def everything(extras: str = "") -> list[str]:
    return ["./shared", *(f"./packages/{name}{extras}" for name in IMPORT_NAMES)]


def test_package(session: nox.Session, name: str, *, extras: str) -> None:
    install(session, f"./packages/{name}[{extras}]")
    check_absent(session, *(other for other in IMPORT_NAMES if other != name))
    run_tests(session, f"packages/{name}/tests")


def run_tests(session: nox.Session, folder: str, *pytest: str, external: bool = False) -> None:
    """Two files of tests at a time, a thread each: most of them wait for a single core; `-- -n 0` for one."""
    parallel = ("-n", "2", "--dist", "loadfile")
    command = (*(pytest or ("pytest",)), *parallel, folder, *session.posargs)
    session.run(*command, env={"OMP_NUM_THREADS": "1"}, external=external)


def runs(python: str) -> bool:
    """Is there such a command, and does it start? Those of pyenv are there for versions not chosen, too."""
    return bool(shutil.which(python)) and not subprocess.run([python, "-V"], capture_output=True).returncode


def check_absent(session: nox.Session, *distributions: str) -> None:
    names = [IMPORT_NAMES[name] for name in distributions]
    code = (
        f"import importlib.util as u; found = [n for n in {names} if u.find_spec(n)]; assert not found, found"
    )
    session.run("python", "-I", "-c", code, silent=True)
