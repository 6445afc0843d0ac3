"""`cabl-cgsr data check`, `data convert` and `data toy`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.check import check_sets
from papers_shared.errors import UserError
from papers_shared.files import check_new, write_json, write_text
from papers_shared.text import read_json

if TYPE_CHECKING:
    from cabl_cgsr.options import DataCheckOptions, DataConvertOptions, DataToyOptions


def run_check(options: DataCheckOptions) -> int:
    """Print the report; 1 if there is an error, else 0."""
    data = replace(options.data, root=options.root or options.data.root)
    if options.json:
        check_new(options.json, options.overwrite or _is_report(options.json))
    if options.keep_list:
        check_new(options.keep_list, options.overwrite)
    report, kept = check_sets(data, [DataConfig(root=folder) for folder in options.against])
    report.print()
    if options.json:
        write_json(Path(options.json), report.to_json())
    if options.keep_list and kept:
        file, root = Path(options.keep_list), Path(data.root or ".").expanduser()
        lines = (os.path.relpath(item.image, root).replace(os.sep, "/") for item in kept)
        write_text(file, "".join(f"{line}\n" for line in lines))
        print(f"written: {file}, the names of {len(kept):,} images")
    return report.exit_code


def _is_report(file: str) -> bool:
    """Whether a file holds the findings of an earlier check, which may be replaced."""
    try:
        content = read_json(Path(file).expanduser())
    except UserError:
        return False
    return isinstance(content, dict) and {"errors", "warnings", "notes", "findings"} == content.keys()


def run_convert(options: DataConvertOptions) -> int:
    """Write the plain layout; 1 if a file could not be written, else 0."""
    from cabl_cgsr.data.plain import convert_set

    report = convert_set(replace(options.data, root=options.root or options.data.root), options.output)
    report.print()
    return report.exit_code


def run_toy(options: DataToyOptions) -> int:
    """Write the embedded data."""
    from cabl_cgsr.toy import write_casia

    folder = write_casia(
        options.root, seed=options.seed, train=options.train, test=options.test, size=options.size
    )
    print(f"written: {folder / 'CASIA2'} (training) and {folder / 'CASIA1'} (test)")
    return 0
