"""`fanet data check`, `fanet data convert`, `fanet data cache` and `fanet data toy`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from fanet.data.cache import PixelCache
from fanet.data.check import check
from fanet.data.plain import write_plain
from papers_shared.files import check_writable, write_json

if TYPE_CHECKING:
    from fanet.options import DataCacheOptions, DataCheckOptions, DataConvertOptions, DataToyOptions


def run_check(options: DataCheckOptions) -> int:
    """Print the report; 1 if there is an error, else 0."""
    if options.json:
        check_writable(options.json)
    report = check(replace(options.data, root=options.root or options.data.root))
    report.print()
    if options.json:
        write_json(Path(options.json), report.to_json())
    return report.exit_code


def run_convert(options: DataConvertOptions) -> int:
    """Write the plain layout and print what was left out; 1 if anything was, else 0."""
    report = write_plain(replace(options.data, root=options.root), options.output)
    report.print()
    return report.exit_code


def run_cache(options: DataCacheOptions) -> int:
    """Print what the cache holds, and clear it if asked to."""
    cache = PixelCache(options.folder, 0.0)
    print(cache.describe())
    if options.clear:
        cache.clear()
        print("cleared")
    return 0


def run_toy(options: DataToyOptions) -> int:
    """Write the embedded data."""
    from fanet.toy import write_zerowaste

    write_zerowaste(Path(options.root), seed=options.seed)
    print(f"written: {options.root}")
    return 0
