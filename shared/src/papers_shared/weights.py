"""Start weights from anywhere: a file or folder here, the Hugging Face Hub, an https address. One file, and its digest.

Nothing is read before the file is whole and hashed, and nothing in it is ever run: see `papers_shared.foreign`.
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from papers_shared.entries import first_line, first_names
from papers_shared.errors import UserError
from papers_shared.files import atomic_file, cache_folder, file_digest, make_folder
from papers_shared.foreign import no_checkpoint
from papers_shared.hub import CONFIG, hub_problems
from papers_shared.paths import safe_name, user_path
from papers_shared.provenance import HUB
from papers_shared.text import read_json

SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".pkl", ".ckpt", ".pth.tar", ".tar.gz", ".tgz")
"""Files that may hold weights."""
SAME_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Where a folder or repository holds both, they are one network in two formats: the first is taken."""
CHUNK = 1 << 20
TIMEOUT_S = 60.0
SHOWN = 8


@dataclass(frozen=True)
class Weights:
    """A weight file on this machine."""

    file: Path
    digest: str
    """SHA-256 of its bytes, 64 hexadecimal digits."""
    origin: str
    """The source as it was named, with the file taken from it."""
    from_hub: bool = False
    licence: str = ""
    """As the model folder's own `config.json` says, or the Hub's card of the repository where it was asked."""

    def sentence(self) -> str:
        """Source and digest, as a model's `config.json` and card say them."""
        return f"{HUB if self.from_hub else ''}{self.origin}, SHA-256 {self.digest}"


def fetch_weights(
    source: str | Path, *, sha256: str = "", package: str, beside: Sequence[str] = (), option: str = ""
) -> Weights:
    """The weight file that `source` names, on this machine and hashed.

    Args:
        source: A file; a folder with one weight file; a Hub repository (`owner/name`) with one; a file inside a Hub
            repository (`owner/name/path/file.safetensors`); or an https address. What exists here comes first.
        sha256: What the file must have as its digest; empty: anything, the digest is recorded.
        package: Files from https addresses are kept in its cache folder, under `weights`.
        beside: Names of small files that are brought along from a Hub repository where it has them.
        option: The option that named the source; messages begin with it.

    Raises:
        UserError: There is no such file or more than one, it cannot be had, its digest is another one, or it is a web
            page or a pointer in place of a checkpoint.
    """
    try:
        return _fetched(str(source), sha256, package, beside)
    except UserError as error:
        if not option:
            raise
        raise UserError(f"{option}: {error}") from error


def _fetched(text: str, sha256: str, package: str, beside: Sequence[str]) -> Weights:
    expected = _digest_of_option(sha256)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text.removeprefix(HUB))
    path, from_hub, licence = user_path(text), False, ""
    if scheme:
        file, origin = _from_address(text, scheme[1].lower(), expected, package), text
    elif path.exists():
        file, origin = _here(path, text)
    else:
        file, origin, licence = _from_hub(*_hub_name(text), beside)
        from_hub = True
    if what := no_checkpoint(file):
        raise UserError(f"{origin} is {what}, not a checkpoint: download the file itself again")
    digest = file_digest(file)
    if expected and digest != expected:
        raise UserError(
            f"{origin} has the SHA-256 {digest}, not the {expected} of --sha256: do not use this file"
        )
    return Weights(file, digest, origin, from_hub, _licence_beside(file) or licence)


def kept_file(address: str, package: str) -> Path:
    """Where the file of an https address is kept."""
    parts = urlsplit(address)
    name = safe_name(unquote(parts.path.rpartition("/")[2]) or parts.netloc)
    return cache_folder(package) / "weights" / hashlib.sha256(address.encode()).hexdigest()[:16] / name


def _licence_beside(file: Path) -> str:
    """What the `config.json` of a model folder, ours or timm's, says; empty for other files."""
    description = file.with_name(CONFIG)
    if file.name not in SAME_WEIGHTS or not description.is_file():
        return ""
    try:
        content = read_json(description)
    except UserError:  # told by whoever needs more of it than the licence
        return ""
    for section, field in (("origin", "licence"), ("pretrained_cfg", "license")):
        part = content.get(section) if isinstance(content, dict) else None
        if isinstance(part, dict) and isinstance(part.get(field), str):
            return str(part[field])
    return ""


def is_weight_file(name: str | Path) -> bool:
    """May a file of this name hold weights?"""
    return str(name).lower().endswith(SUFFIXES)


def _digest_of_option(sha256: str) -> str:
    expected = sha256.strip().lower()
    if expected and not re.fullmatch(r"[0-9a-f]{64}", expected):
        raise UserError(f"--sha256 {sha256!r}: a SHA-256 has 64 hexadecimal digits")
    return expected


def _here(path: Path, text: str) -> tuple[Path, str]:
    if path.is_dir():
        name = _only([file.name for file in path.iterdir() if file.is_file()], text)
        return path / name, f"{text.rstrip('/')}/{name}"
    if path.is_file():
        return path, text
    raise UserError(f"{text} is neither a file nor a folder")


def _hub_name(text: str) -> tuple[str, str]:
    """Repository, and the file in it or nothing."""
    parts = text.removeprefix(HUB).split("/")
    plain = len(parts) > 1 and all(re.fullmatch(r"[\w.-]+", part) for part in parts[:2])
    if not plain or parts[0] in ("", ".", "..", "~") or (len(parts) == 2 and is_weight_file(text)):
        raise UserError(
            f"{text}: there is no such file; weights are named by a file, a folder, a Hub name (owner/name or "
            "owner/name/file.safetensors) or an https address"
        )
    return "/".join(parts[:2]), "/".join(parts[2:])


def _only(names: list[str], where: str) -> str:
    """The one weight file among `names`."""
    found = sorted(name for name in names if is_weight_file(name))
    if SAME_WEIGHTS[0] in found:
        found = [name for name in found if name != SAME_WEIGHTS[1]]
    if len(found) == 1:
        return found[0]
    if found:
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise UserError(
            f"{where} holds several weight files, {', '.join(found[:SHOWN])}{more}: name one, {where}/FILE"
        )
    there = ", ".join(sorted(names)[:SHOWN]) or "nothing"
    raise UserError(f"{where} holds no weight file ({', '.join(SUFFIXES[:6])}); it holds {there}")


def _from_hub(repository: str, name: str, beside: Sequence[str]) -> tuple[Path, str, str]:
    from huggingface_hub import hf_hub_download

    try:
        names, licence, reached = _hub_files(repository)
        name = name or _only(names, repository)
        if name not in names and reached:
            raise UserError(
                f"{repository} on the Hugging Face Hub has no file {name!r}; it has {first_names(names, SHOWN)}"
            )
        wanted = [name, *(extra for extra in beside if extra in names)]
        file, *_ = [hf_hub_download(repository, one, local_files_only=not reached) for one in wanted]
        return Path(file), f"{repository}/{name}", licence
    except hub_problems() as error:
        raise _not_at_hand(repository, name, error) from error


def _not_at_hand(repository: str, name: str, error: Exception) -> UserError:
    what = f"{repository}/{name}" if name else repository
    return UserError(
        f"{what} is neither a path here nor to be had from the Hugging Face Hub ({first_line(error, 120)}); where "
        f"there is a network, run `hf download {repository}{' ' + name if name else ''}` and bring the folder that "
        "HF_HUB_CACHE names (~/.cache/huggingface/hub), or copy the file here and name its path"
    )


def _hub_files(repository: str) -> tuple[list[str], str, bool]:
    """Names of the files of a Hub repository, its licence, and whether the Hub answered; otherwise those in the cache.

    One request, as huggingface_hub's downloads repeat theirs for half a minute where there is no network.
    """
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HfHubHTTPError

    try:
        found = HfApi().model_info(repository, timeout=TIMEOUT_S)
        licence = getattr(found.card_data, "license", None)
        return (
            [file.rfilename for file in found.siblings or ()],
            licence if isinstance(licence, str) else "",
            True,
        )
    except HfHubHTTPError as error:
        if error.response.status_code < 500:
            raise
        problem: Exception = error
    except hub_problems() as error:
        problem = error
    cached = Path(constants.HF_HUB_CACHE, f"models--{repository.replace('/', '--')}")
    branch = cached / "refs" / "main"
    if not branch.is_file():
        raise problem
    snapshot = cached / "snapshots" / branch.read_text(encoding="utf-8").strip()
    names = [file.relative_to(snapshot).as_posix() for file in snapshot.rglob("*") if file.is_file()]
    return names, "", False


def _from_address(address: str, scheme: str, expected: str, package: str) -> Path:
    """The file of an https address, downloaded once into the cache folder."""
    if scheme != "https":
        raise UserError(
            f"{address}: only https addresses are opened, as anyone on the way could change the others"
        )
    path = kept_file(address, package)
    if path.is_file() and (not expected or file_digest(path) == expected):
        return path
    make_folder(path.parent)
    try:
        with atomic_file(path) as partial:
            _download(address, partial)
            if what := no_checkpoint(partial):
                raise UserError(
                    f"{address} is {what}, not a checkpoint: look for the address of the file itself"
                )
            digest = file_digest(partial)
            if expected and digest != expected:
                raise UserError(
                    f"{address} has the SHA-256 {digest}, not the {expected} of --sha256: the file was not kept"
                )
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", None) or error
        raise UserError(
            f"{address} cannot be downloaded ({str(reason)[:120]}): download {path.name} where there is a network, "
            "copy it here and name its path"
        ) from error
    return path


def _download(address: str, path: Path) -> None:
    with open_address(address) as answer, path.open("wb") as file:
        length = answer.headers.get("Content-Length")
        while chunk := answer.read(CHUNK):
            file.write(chunk)
        if length is not None and file.tell() != int(length):
            raise http.client.IncompleteRead(b"", int(length) - file.tell())


def open_address(address: str) -> Any:
    """The answer of an https server: `read(size)` and `headers`. Redirections lead to https only.

    Raises:
        urllib.error.URLError: No answer, an error, or a redirection to another protocol.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "papers-shared"})
    return urllib.request.build_opener(_HttpsOnly()).open(request, timeout=TIMEOUT_S)


class _HttpsOnly(urllib.request.HTTPRedirectHandler):
    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if urlsplit(newurl).scheme != "https":
            raise urllib.error.URLError(f"it leads to {newurl[:80]}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
