"""From what people type (a name, a file, Hydra-style overrides) to a recipe for a model, without Hydra."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2.reference_settings import Recipe, SettingError, recipe, recognise
from sam2.variants import UnknownVariantError, Variant, resolve

_MAX_BYTES = 1 << 16
_MAX_SETTINGS = 1000


def find_recipe(
    config: str | os.PathLike[str], overrides: Sequence[str] = (), postprocessing: bool = True
) -> Recipe:
    """What to build.

    Args:
        config: a model's name in any spelling that `variants.resolve` takes, or the path of a YAML file: one of ours
            (`variant: sam2.1_t`, then settings such as `image_size: 512`) or a model configuration of the reference.
        overrides: as for Hydra, `++model.image_size=512`.
        postprocessing: see `reference_settings.recipe`.

    Raises:
        UnknownVariantError, SettingError: naming the file or override, and the closest known name.
    """
    path = Path(config)
    if path.is_file():
        variant, settings = _read(path)
    else:
        variant, settings = _resolve(path), {}
    try:
        return recipe(variant, {**settings, **dict(map(_override, overrides))}, postprocessing)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") if settings else error from None


def _resolve(path: Path) -> Variant:
    if path.suffix in {".pt", ".pth", ".ckpt", ".safetensors"}:
        raise UnknownVariantError(
            f"{path} is a weight file, not a model's name; build_sam2(config, checkpoint)"
        )
    try:
        return resolve(path)
    except UnknownVariantError as error:
        if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
            raise UnknownVariantError(f"there is no file {path}, and {error}") from None
        raise


def _override(text: str) -> tuple[str, Any]:
    """Name (without `model.`) and value of `++model.name=value`."""
    name, equals, value = text.lstrip("+").partition("=")
    if text.startswith("~") or not equals:
        raise SettingError(f"override {text!r}: expected ++model.NAME=VALUE")
    if not name.startswith("model."):
        raise SettingError(f"override {text!r}: only settings of the model can be overridden, model.NAME")
    try:
        return name.removeprefix("model."), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise SettingError(f"override {text!r}: the value is no YAML: {error}") from error


def _read(path: Path) -> tuple[Variant, dict[str, Any]]:
    size = path.stat().st_size
    if path.suffix not in {".yaml", ".yml"} or size > _MAX_BYTES:
        raise SettingError(f"{path} ({size} bytes) is no model configuration; expected a small YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or not ("variant" in content or isinstance(content.get("model"), dict)):
        raise SettingError(
            f"{path} describes no model: expected `variant: NAME` and settings, or a reference configuration with "
            "`model:` at its top"
        )
    if "variant" in content:
        variant = resolve(str(content.pop("variant")))
        return variant, _flat(path, content)
    beside = sorted(content.keys() - {"model"})
    if beside:
        raise SettingError(
            f"{path} has {', '.join(map(str, beside))} beside `model`; only model configurations are read"
        )
    settings = _flat(path, content["model"])
    try:
        return recognise(settings), settings
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def _flat(path: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, value in _leaves(content, ""):
        settings[name] = value
        if len(settings) > _MAX_SETTINGS:
            raise SettingError(f"{path} has more than {_MAX_SETTINGS} settings")
    return settings


def _leaves(content: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
