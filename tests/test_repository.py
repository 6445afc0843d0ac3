"""README and repository: the commands exist, the links lead somewhere, nothing of a machine leaked in."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

COMMANDS = {
    "demo": "pip install uv nox && nox -s demo",
    "tests": "pip install uv nox && nox",
}
DEFAULT_SESSIONS = [
    "lint",
    "types",
    "tests-shared",
    "tests-fanet",
    "tests-plvl",
    "tests-cabl-cgsr",
    "integration",
]
LEAKS = re.compile(
    r"""(?<![\w.])/(?:root|work|opt|home/\w+|Users/\w+)/[\w.]   # paths of one machine
      | pypi\.org | pythonhosted\.org | download\.pytorch\.org | registry\.npmjs\.org   # registry hosts
      | inde[x]-url""",
    re.VERBOSE,
)


def marked_command(text: str, name: str) -> str:
    """The fenced block under `<!-- command: NAME -->`."""
    blocks = re.findall(
        rf"^<!-- command: {name} -->\n```\w*\n(.*?)\n```$", text, flags=re.MULTILINE | re.DOTALL
    )
    assert len(blocks) == 1, f"README.md needs exactly one block marked '<!-- command: {name} -->'"
    return str(blocks[0]).strip()


@pytest.mark.parametrize("name", COMMANDS)
def test_readme_prints_the_command(name: str, root: Path) -> None:
    assert marked_command((root / "README.md").read_text(encoding="utf-8"), name) == COMMANDS[name]


def test_ci_runs_the_command_of_the_readme(root: Path, tmp_path: Path) -> None:
    """`.ci/run` in a folder with another README runs that block and ends with pytest's closing line."""
    closing = "=== 1 passed in 0.01s ==="
    (tmp_path / ".ci").mkdir()
    script = tmp_path / ".ci/run"
    script.write_text((root / ".ci/run").read_text(encoding="utf-8"), encoding="utf-8")
    for block, code in ((f"echo '{closing}'\necho later", 0), (f"echo '{closing}'\nexit 3\necho later", 3)):
        readme = (
            f"<!-- command: demo -->\n```bash\nfalse\n```\n<!-- command: tests -->\n```bash\n{block}\n```\n"
        )
        (tmp_path / "README.md").write_text(readme, encoding="utf-8")
        run = subprocess.run(["bash", str(script)], capture_output=True, text=True, cwd=root)
        assert run.returncode == code, run.stderr
        assert run.stdout.splitlines()[-1] == closing
        assert ("later" in run.stdout.splitlines()) == (code == 0)


def test_nox_knows_the_sessions(root: Path) -> None:
    command = [sys.executable, "-m", "nox", "--list-sessions", "--json", "-f", str(root / "noxfile.py")]
    listed = subprocess.run(command, capture_output=True, text=True, check=True)
    assert [entry["session"] for entry in json.loads(listed.stdout)] == DEFAULT_SESSIONS
    for name in ("demo", "bench", "build", "lowest"):
        subprocess.run([*command, "-s", name], capture_output=True, check=True)


def test_relative_links_lead_somewhere(root: Path, tree_files: list[Path]) -> None:
    broken = []
    for page in (path for path in tree_files if path.suffix == ".md"):
        text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        targets = re.findall(r"\]\(([^)\s]+)[^)]*\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
        for target in targets:
            path = target.partition("#")[0]
            if path and not re.match(r"[a-z]+:", path) and not (page.parent / path).exists():
                broken.append(f"{page.relative_to(root)}: {target}")
    assert not broken, "\n".join(broken)


def test_no_file_names_a_machine_or_a_registry(root: Path, tree_files: list[Path]) -> None:
    found = []
    for path in tree_files:
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue  # binary: images, tensors
        for number, line in enumerate(lines, start=1):
            if leak := LEAKS.search(line):
                found.append(f"{path.relative_to(root)}:{number}: {leak.group()}")
    assert not found, "\n".join(found)


def test_no_lock_file_is_tracked(tree_files: list[Path]) -> None:
    assert not [path for path in tree_files if path.name == "uv.lock"]


def test_every_source_file_is_tracked(root: Path, tree_files: list[Path]) -> None:
    """A too wide line in .gitignore would drop a module from the repository and from the wheels."""
    sources = {p for folder in ("shared/src", "packages") for p in (root / folder).rglob("*.py")}
    assert not sources - set(tree_files)


def test_constraints_are_plain_pins(root: Path) -> None:
    lines = (root / "constraints.txt").read_text(encoding="utf-8").split()
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert {"torch", "torchvision", "timm", "pytest", "ruff", "mypy"} <= names
    assert not names & {"papers-shared", "fanet", "plvl", "cabl-cgsr"}
