"""Read and write weights: official files, bare state dicts, Lightning checkpoints, HF files, timm and MAE trunks.

Files are read as data only: torch archives with `weights_only=True`, and safetensors. Where the model lies in a file
is found by matching names against the model's own, so wrappers may be called anything.
"""

from __future__ import annotations

import itertools
import os
import pickle
import zipfile
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sam2 import layouts, load_report
from sam2.load_report import LoadReport

__all__ = ["CheckpointError", "LoadReport", "export", "identify", "load", "load_trunk", "read"]

_TRUNK = "image_encoder.trunk."


class CheckpointError(RuntimeError):
    """A weight file cannot be read, or does not fit the model."""


def read(path: str | os.PathLike[str]) -> dict[str, Tensor]:
    """All tensors of a weight file, nested dicts flattened to dotted names (`model.no_mem_embed`).

    Raises:
        CheckpointError: no such file, not a weight file, or one that only the unsafe pickle format could read.
    """
    path = Path(path)
    if not path.is_file():
        what = "is a folder, not a weight file" if path.is_dir() else "does not exist"
        raise CheckpointError(f"{path} {what}")
    if path.suffix == ".safetensors":
        return _read_safetensors(path)
    _check_archive(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError as error:
        unsafe = ", ".join(_unsafe(path)) or "other objects"
        raise CheckpointError(
            f"{path} holds more than tensors ({unsafe}); reading those could run code and is refused. Save the weights "
            "alone where the file was made: torch.save({'model': model.state_dict()}, path)"
        ) from error
    except (RuntimeError, EOFError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete: {str(error).splitlines()[0]}") from error
    tensors = dict(_flatten(content)) if isinstance(content, Mapping) else {}
    if not tensors:
        raise CheckpointError(f"{path} holds no named tensors, found {type(content).__name__}")
    return tensors


def identify(state_dict: Mapping[str, Tensor]) -> str | None:
    """The variant (`sam2.1_t`) that a state dict, or what `read` returned, looks like; None if no known one."""
    tensors, _ = _official(state_dict, load_report.known_names(), "the state dict", None)
    return load_report.identify(tensors)


def load(
    model: nn.Module, path: str | os.PathLike[str], *, strict: bool = True, prefix: str | None = None
) -> LoadReport:
    """Load a whole model's weights, whatever wrapper they are stored in.

    Args:
        model: receives the tensors, cast to its own dtype and device; one on the meta device gets new ones, on the
            CPU, which spares a large model its initialisation.
        path: official `{"model": ...}`, bare state dict, Lightning checkpoint, HF transformers file.
        strict: every tensor must match; otherwise those that do are loaded and the rest reported.
        prefix: what stands before the names in the file, needed only where it holds several models.

    Raises:
        CheckpointError: unreadable, nothing matches, or (strict) not everything does; the model is then untouched.
    """
    source = Path(path).name
    wanted = load_report.shapes(model.state_dict())
    tensors, notes = _official(read(path), wanted, source, prefix)
    report = load_report.compare(tensors, wanted, source, load_report.variant_name(model))
    return _fill(model, tensors, replace(report, notes=notes), strict)


def load_trunk(
    model: nn.Module, path: str | os.PathLike[str], *, strict: bool = True, prefix: str | None = None
) -> LoadReport:
    """Load the trunk alone: a start from masked auto-encoding (timm or MAE Hiera), or from any file that `load` takes.

    A position code per token is split into the trunk's background and window (least squares, minimum norm); the note
    in the report says how much of it was lost. Classifiers and MAE decoders are left out and named.

    Raises:
        CheckpointError: as `load`, for the tensors of the trunk.
    """
    source = Path(path).name
    everything = load_report.shapes(model.state_dict())
    wanted = {name: shape for name, shape in everything.items() if name.startswith(_TRUNK)}
    tensors = {layouts.from_timm(name): tensor for name, tensor in read(path).items()}
    if (hf := layouts.hf_prefix(tensors)) is not None:
        tensors, prefix = layouts.from_hf(layouts.below(tensors, hf)), _TRUNK
    tensors, notes = _official(tensors, {name.removeprefix(_TRUNK) for name in wanted}, source, prefix)
    beside = [name for name in tensors if layouts.is_beside_trunk(name)]
    if beside:
        notes += (
            f"left out, no part of a trunk: {', '.join(sorted({name.split('.')[0] for name in beside}))}",
        )
    tensors = {f"{_TRUNK}{name}": tensor for name, tensor in tensors.items() if name not in beside}
    notes += _split_position(tensors, wanted, source)
    report = load_report.compare(tensors, wanted, source, f"{load_report.variant_name(model)} trunk")
    return _fill(model, tensors, replace(report, notes=notes), strict)


def export(model: nn.Module, path: str | os.PathLike[str]) -> None:
    """Write the official layout, `{"model": {name: float32 tensor}}`, atomically.

    `sam2.build_sam.build_sam2` and the reference implementation read it.
    """
    weights = {
        layouts.unwrap(name): tensor.detach().to("cpu", torch.float32).contiguous()
        for name, tensor in model.state_dict().items()
    }
    # a view would drag the whole storage it looks into along to the file
    weights = {
        name: t.clone() if t.untyped_storage().nbytes() > t.nbytes else t for name, t in weights.items()
    }
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with draft.open("wb") as file:
            torch.save({"model": weights}, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _fill(model: nn.Module, tensors: Mapping[str, Tensor], report: LoadReport, strict: bool) -> LoadReport:
    here = model.state_dict()
    on_meta = any(tensor.is_meta for tensor in here.values())
    if not report.matched or ((strict or on_meta) and not report.fits):
        raise CheckpointError(str(report))
    chosen = {name: tensors[name] for name in report.matched}
    if on_meta:  # copies: what was read is a window into the file
        chosen = {name: tensor.to(here[name].dtype, copy=True) for name, tensor in chosen.items()}
    model.load_state_dict(chosen, strict=False, assign=on_meta)
    return report


def _official(
    tensors: Mapping[str, Tensor], wanted: Collection[str], source: str, prefix: str | None
) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """The tensors of the one model in a file by their official names, and a note on those beside it."""
    tensors = {layouts.unwrap(name): tensor for name, tensor in tensors.items()}
    hf = layouts.hf_prefix(tensors) if prefix is None else None
    start = _prefix(tensors, wanted, source) if prefix is None and hf is None else prefix or hf or ""
    inside = layouts.below(tensors, start)
    if not inside:
        raise CheckpointError(
            f"{source} has nothing under prefix {start!r}; it starts with {_first(tensors)}"
        )
    left = len(tensors) - len(inside)
    notes = (f"left alone: {left} tensors outside {start!r}",) if left else ()
    return layouts.from_hf(inside) if hf is not None else inside, notes


def _prefix(tensors: Mapping[str, Tensor], wanted: Collection[str], source: str) -> str:
    try:
        prefix = layouts.find_prefix(tensors, wanted)
    except layouts.AmbiguousPrefixError as error:
        raise CheckpointError(
            f"{source} holds several models; say which one, prefix= {error.choices}"
        ) from error
    if prefix is None:
        is_trunk = any(name.endswith("blocks.0.attn.qkv.weight") for name in tensors)
        remedy = "; for a trunk alone use sam2.checkpoint.load_trunk" if is_trunk else ""
        raise CheckpointError(
            f"no tensor in {source} has a name of the model; it starts with {_first(tensors)}{remedy}"
        )
    return prefix


def _first(names: Iterable[str]) -> str:
    return ", ".join(itertools.islice(names, 3))


def _split_position(
    tensors: dict[str, Tensor], wanted: Mapping[str, tuple[int, ...]], source: str
) -> tuple[str, ...]:
    """Replace, in place, a position code per token by the background and window that the trunk wants."""
    name, window = f"{_TRUNK}pos_embed", f"{_TRUNK}pos_embed_window"
    dense = tensors.get(name)
    if dense is None or dense.dim() != 3 or window not in wanted or dense.shape[-1] != wanted[name][1]:
        return ()
    *_, rows, columns = wanted[name]
    *_, high, wide = wanted[window]
    try:
        split = layouts.split_position(dense, (rows, columns), (high, wide))
    except ValueError as error:
        raise CheckpointError(f"{source}: pos_embed: {error}") from error
    tensors[name], tensors[window] = split.background, split.window
    return (
        f"pos_embed of {dense.shape[1]} tokens split into background and window; {split.residual:.1%} of it lost",
    )


def _flatten(
    content: Mapping[Any, Any], prefix: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, Tensor]]:
    """Every tensor under string keys, each dict visited once."""
    seen = set() if seen is None else seen
    for key, value in content.items():
        if not isinstance(key, str) or id(value) in seen:
            continue
        if isinstance(value, Tensor):
            if value.layout == torch.strided:
                yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            seen.add(id(value))
            yield from _flatten(value, f"{prefix}{key}.", seen)


def _check_archive(path: Path) -> None:
    """Refuse, before anything is allocated, what is no archive of plain stored tensors."""
    with path.open("rb") as file:
        start = file.read(64)
    if start.startswith(b"version https://git-lfs"):
        raise CheckpointError(f"{path} is a git-lfs pointer, not the weights; run: git lfs pull")
    if not zipfile.is_zipfile(path):
        if start.startswith(b"PK"):
            raise CheckpointError(
                f"{path} is cut off after {path.stat().st_size} bytes; copy or download it again"
            )
        raise CheckpointError(
            f"{path} is no weight file: expected a torch archive or .safetensors, it starts with {start[:16]!r}; "
            "files of torch before 1.6 must be saved again with a newer torch"
        )
    with zipfile.ZipFile(path) as archive:
        packed = [info.filename for info in archive.infolist() if info.compress_type != zipfile.ZIP_STORED]
    if packed:
        raise CheckpointError(f"{path} has compressed members ({_first(packed)}); torch never writes those")


def _unsafe(path: Path) -> list[str]:
    try:
        return torch.serialization.get_unsafe_globals_in_checkpoint(path)[:4]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, ValueError):
        return []


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise CheckpointError(f"{path} needs the safetensors package: pip install safetensors") from error
    try:
        return load_file(path)
    except (SafetensorError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged or incomplete: {error}") from error
