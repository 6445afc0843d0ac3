"""The model card: a folder's README.md, whose head the Hub reads."""

from __future__ import annotations

import re
from typing import Any

from papers_shared.provenance import AND, HUB, Origin


def base_models(origin: Origin) -> list[str]:
    """The Hub repositories that start weights come from."""
    named = re.findall(rf"{HUB}([\w.-]+/[\w.-]+)/", " ".join(origin.start_weights))
    return list(dict.fromkeys(named))


def model_card(
    name: str, config: Any, origin: Origin, *, task: str = "", limits: str = "", pixels: str = "0..255"
) -> str:
    """Metadata and text about a saved model.

    Args:
        name: Package and class, `fanet.Segmenter`.
        config: Its dataclass; `mean` and `std`, where there are any, are told as the preprocessing.
        task: As the Hub names tasks.
        limits: What to know before believing the model.
        pixels: The range of colours that `mean` and `std` are for.
    """
    from huggingface_hub import EvalResult, ModelCardData

    package, kind = name.rsplit(".", 1)
    measured = origin.metrics and origin.data
    data = ModelCardData(
        library_name=package,
        pipeline_tag=task or None,
        license="other" if AND in origin.licence else origin.licence or None,
        license_name=origin.licence if AND in origin.licence else None,
        base_model=base_models(origin) or None,
        tags=[package, *([] if origin.trained else ["untrained"])],
        model_name=f"{kind} {origin.recipe}".strip(),
        eval_results=[
            EvalResult(
                task_type=task or "other",
                dataset_type=origin.data,
                dataset_name=origin.data,
                metric_type=metric,
                metric_value=value,
            )
            for metric, value in origin.metrics.items()
        ]
        if measured
        else None,
    )
    about = f"A model of the Python package `{package}`, {origin.sentence()}."
    sections = [f"---\n{data.to_yaml()}\n---", f"# {kind}", about]
    if limits:
        sections.append(f"## Limits\n\n{limits}")
    sections.append(
        f"## Use\n\n```python\nfrom {package} import {kind}\n\n"
        f'model = {kind}.from_pretrained("PATH OR REPOSITORY")\n```'
    )
    if origin.steps:
        lines = [f"- data: {origin.data or 'not recorded'}", f"- recipe: {origin.recipe or 'not recorded'}"]
        lines += [f"- start weights: {sentence}" for sentence in origin.start_weights]
        sections.append("## Training\n\n" + "\n".join(lines))
    if measured:
        rows = "\n".join(f"| {metric} | {value:.4f} |" for metric, value in origin.metrics.items())
        said = f"\n\n{origin.protocol}" if origin.protocol else ""
        sections.append(f"## Validation\n\n| metric | value |\n|---|---|\n{rows}{said}")
    if hasattr(config, "mean") and hasattr(config, "std"):
        mean, std = (", ".join(f"{x:g}" for x in values) for values in (config.mean, config.std))
        sections.append(
            f"## Preprocessing\n\nRGB in {pixels}, minus ({mean}), over ({std}); the rest stands in config.json."
        )
    return "\n\n".join(sections) + "\n"
