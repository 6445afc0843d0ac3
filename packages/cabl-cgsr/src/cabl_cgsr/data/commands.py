"""`cabl-cgsr data check` and `cabl-cgsr data toy`."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cabl_cgsr.config import DataConfig
from cabl_cgsr.data.check import check_sets
from papers_shared.files import write_json, write_text

if TYPE_CHECKING:
    from cabl_cgsr.options import DataCheckOptions, DataToyOptions


def run_check(options: DataCheckOptions) -> int:
    """Print the report; 1 if there is an error, else 0."""
    data = replace(options.data, root=options.root or options.data.root)
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


def run_toy(options: DataToyOptions) -> int:
    """Write the embedded data."""
    from cabl_cgsr.toy import write_casia

    folder = write_casia(
        options.root, seed=options.seed, train=options.train, test=options.test, size=options.size
    )
    print(f"written: {folder / 'CASIA2'} (training) and {folder / 'CASIA1'} (test)")
    return 0
