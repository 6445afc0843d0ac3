"""Names in files of strangers as paths."""

from __future__ import annotations

import re
from pathlib import Path

from papers_shared.entries import is_text, shown
from papers_shared.errors import UserError

LONGEST_NAME = 120
"""Bytes of a result's name, without number and suffix; file systems take 255."""
WINDOWS_DEVICE = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""How names begin that Windows takes for a device, whatever follows the point."""
LONGEST_PATH = 4000
"""Characters of a path below a folder; systems take 4,096 bytes of a whole one."""


def user_path(text: str | Path) -> Path:
    """A path as a user gives it, `~` expanded.

    Raises:
        UserError: Too long a name, no such user, or a NUL in it.
    """
    try:
        path = Path(text).expanduser()
        path.is_dir()
        return path
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(f"{shown(str(text))} is no path ({error})") from None


def inside(root: str | Path, name: str, where: str, *, allow_outside: bool = False) -> Path:
    """The path that a name in a file stands for, below `root`; backslashes are slashes.

    Args:
        where: The file and line that hold the name, for the message.
        allow_outside: Take absolute names and names that climb out of `root` as they are.

    Raises:
        UserError: An empty name, one that no file can have, or one that leads outside.
    """
    if not name.strip() or "\0" in name or not is_text(name) or _is_too_long(name):
        raise UserError(f"{where}: {shown(name)} is no name of a file")
    plain = name.replace("\\", "/")
    if allow_outside:
        return Path(root) / plain
    absolute = plain.startswith("/") or re.match(r"[A-Za-z]:", plain)
    if absolute or _climbs(plain):
        raise UserError(
            f"{where}: {shown(name)} leads outside {root}: name files below it, or give --data.allow-outside"
        )
    return Path(root) / plain


def safe_name(stem: str) -> str:
    """A name that every file system takes, for the results of an image of that name."""
    plain = re.sub(r'[\x00-\x1f\x7f<>:"/\\|?*\ud800-\udfff]', "_", stem).strip(" .")
    if WINDOWS_DEVICE.match(plain):
        plain = f"_{plain}"
    while len(plain.encode()) > LONGEST_NAME:
        plain = plain[:-1]
    return plain or "image"


def free_name(name: str, taken: set[str]) -> str:
    """`name`, with -2, -3, ... where it is taken already, whatever the case of the letters.

    Args:
        taken: In lower case; the new name is added.
    """
    free, number = name, 2
    while free.lower() in taken:
        free, number = f"{name}-{number}", number + 1
    taken.add(free.lower())
    return free


def _is_too_long(name: str) -> bool:
    """For any file system."""
    return len(name) > LONGEST_PATH or any(len(part.encode()) > 255 for part in re.split(r"[/\\]", name))


def _climbs(name: str) -> bool:
    depth = 0
    for part in name.split("/"):
        depth += {"": 0, ".": 0, "..": -1}.get(part, 1)
        if depth < 0:
            return True
    return False
