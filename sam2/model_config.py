"""From what people type (a name, a file, Hydra-style overrides) to a recipe for a model, without Hydra."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from sam2.reference_settings import Recipe, SettingError, recipe, recognise
from sam2.variants import UnknownVariantError, Variant, configured, resolve

# settings of a trained model (`model` in a run's config.yaml, a file of configs/model); a test holds them complete
KNOBS = ("image_size", "mem_dim", "memory_slots")
OF_TRAINING = {"checkpoint", "trunk", "freeze", "recompute"}  # how it was trained, not what it is

_MAX_BYTES = 1 << 16
_MAX_SETTINGS = 1000
_RUN_CONFIG, _RUN_RECORD = "config.yaml", "run.json"
_RUN_WEIGHTS = {"export", "checkpoints"}  # folders of a run
_ACCEPTED = (
    "a run's config.yaml (or its folder), a file of configs/model (`name: sam2.1_t`, then "
    f"{', '.join(KNOBS)} or drop_path), `variant: sam2.1_t` and settings of the reference, or a model configuration "
    "of the reference with `model:` at its top"
)


def find_recipe(
    config: str | os.PathLike[str], overrides: Sequence[str] = (), postprocessing: bool = True
) -> Recipe:
    """What to build.

    Args:
        config: a model's name in any spelling that `variants.resolve` takes, or a path: of a run directory or its
            config.yaml, of a YAML file as in configs/model (`name: sam2.1_t`, `image_size: 512`) or with settings of
            the reference (`variant: sam2.1_t`, `memory_attention.num_layers: 2`), of a reference configuration.
        overrides: as for Hydra, `++model.image_size=512`.
        postprocessing: see `reference_settings.recipe`.

    Raises:
        UnknownVariantError, SettingError: naming the file or override, and the closest known name.
    """
    path = Path(config)
    if (path / _RUN_CONFIG).is_file():
        path /= _RUN_CONFIG
    if path.is_file():
        variant, settings = _read(path)
    else:
        variant, settings = _resolve(path), {}
    try:
        return recipe(variant, {**settings, **dict(map(_override, overrides))}, postprocessing)
    except SettingError as error:
        raise SettingError(f"{path}: {error}") if settings else error from None


def config_beside(weights: Path) -> Path | None:
    """The config.yaml of the run that a weight file belongs to, None where it lies in no run directory."""
    folder = weights.parent if weights.parent.name else weights.absolute().parent
    run = folder.parent
    is_run = folder.name in _RUN_WEIGHTS and (run / _RUN_RECORD).is_file() and (run / _RUN_CONFIG).is_file()
    return run / _RUN_CONFIG if is_run else None


def _resolve(path: Path) -> Variant:
    if path.suffix in {".pt", ".pth", ".ckpt", ".safetensors"}:
        raise UnknownVariantError(
            f"{path} is a weight file, not a model's name; build_sam2(config, checkpoint)"
        )
    try:
        return resolve(path)
    except UnknownVariantError as error:
        if path.is_dir():
            raise UnknownVariantError(f"folder {path} has no {_RUN_CONFIG} of a run, and {error}") from None
        if path.suffix in {".yaml", ".yml"} or len(path.parts) > 1:
            raise UnknownVariantError(
                f"there is no file {path}, and {error}; a path may be that of a run directory or of a YAML file"
            ) from None
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
    """Variant and settings of a file, whichever of the accepted kinds it is."""
    content = _yaml(path)
    model = content.get("model")
    if isinstance(model, dict) and "name" in model:
        return _trained(path, model)
    if "defaults" in content:
        raise SettingError(
            f"{path} is a recipe, which draws its model from other files; give a run's config.yaml or "
            "configs/model/NAME.yaml"
        )
    if "variant" in content:
        return resolve(str(content.pop("variant"))), _flat(path, content)
    if isinstance(model, dict):
        return _reference(path, content)
    if "name" in content:
        return _trained(path, content)
    raise SettingError(f"{path} describes no model: expected {_ACCEPTED}")


def _yaml(path: Path) -> dict[str, Any]:
    size = path.stat().st_size
    if path.suffix not in {".yaml", ".yml"} or size > _MAX_BYTES:
        raise SettingError(f"{path} ({size} bytes) is no model configuration; expected a small YAML file")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} is no YAML: {error}") from error
    return content if isinstance(content, dict) else {}


def _reference(path: Path, content: dict[str, Any]) -> tuple[Variant, dict[str, Any]]:
    """A model configuration of the reference."""
    beside = sorted(map(str, content.keys() - {"model"}))
    if beside:
        raise SettingError(
            f"{path} has {', '.join(beside)} beside `model`; only model configurations are read"
        )
    settings = _flat(path, content["model"])
    try:
        return recognise(settings), settings
    except SettingError as error:
        raise SettingError(f"{path}: {error}") from error


def _trained(path: Path, group: Mapping[str, Any]) -> tuple[Variant, dict[str, Any]]:
    """A model as training describes it, built the way training builds it."""
    known = ["name", "drop_path", *KNOBS, *sorted(OF_TRAINING)]
    for key in group:
        if key not in known:
            close = difflib.get_close_matches(str(key), known, n=1, cutoff=0.6)
            hint = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
            raise SettingError(f"{path}: unknown key model.{key}; {hint}")
    if not isinstance(group["name"], str):
        raise SettingError(f"{path}: model.name is {group['name']!r}, expected a model's name")
    knobs = {name: group.get(name) for name in KNOBS}
    for name, value in knobs.items():
        if value is not None and type(value) is not int:
            raise SettingError(f"{path}: model.{name} is {value!r}, expected a whole number or null")
    try:
        variant = configured(group["name"], **knobs)
    except UnknownVariantError as error:
        raise SettingError(f"{path}: {error}") from error
    except ValueError as error:
        raise SettingError(f"{path}: model.{error}") from error
    return variant, {"image_encoder.trunk.drop_path_rate": group.get("drop_path", 0.0)}


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
