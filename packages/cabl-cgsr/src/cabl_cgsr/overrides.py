"""Changing a trained model's inference options by name: `cam.union=sum`, `prompts.threshold=0.4`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

from cabl_cgsr.config import ModelConfig
from papers_shared.dataclass_json import dataclass_from_json, dataclass_to_json
from papers_shared.errors import UserError

SECTIONS = ("cam", "prompts")


def with_changes(config: ModelConfig, changes: Sequence[str]) -> ModelConfig:
    """The configuration with `SECTION.FIELD=VALUE` applied; values are JSON, or a bare word.

    Raises:
        UserError: A change has another form, names no field of `cam` or `prompts`, or its value does not fit.
    """
    parts = dataclass_to_json(config)
    for change in changes:
        place, equals, text = change.partition("=")
        section, _, name = place.partition(".")
        if not equals or section not in SECTIONS or name not in parts[section]:
            known = ", ".join(f"{key}.{field}" for key in SECTIONS for field in parts[key])
            raise UserError(f"--change {change}: write NAME=VALUE with a NAME of {known}")
        value = text
        with suppress(ValueError):
            value = json.loads(text)
        parts[section][name] = value
    changed = dataclass_from_json(ModelConfig, parts, "--change")
    if not changed.cam.sizes or min(changed.cam.sizes) < 16:
        raise UserError("--change cam.sizes: name one or more sizes of 16 pixels or more, such as [256,512]")
    return changed


def one_scale(config: ModelConfig) -> ModelConfig:
    """The middle one of the sizes, unmirrored: one forward pass in place of six."""
    sizes = sorted(config.cam.sizes)
    return replace(config, cam=replace(config.cam, sizes=(sizes[len(sizes) // 2],), mirror=False))
