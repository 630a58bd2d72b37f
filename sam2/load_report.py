"""What happened, or would happen, when weights meet a model: counts by group, and what the file looks like."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sam2.model.sam2 import SAM2
from sam2.variants import VARIANTS

Shapes = Mapping[str, tuple[int, ...]]

_GROUPS = {
    "image_encoder.trunk.": "trunk",
    "image_encoder.neck.": "neck",
    "memory_attention.": "memory attention",
    "memory_encoder.": "memory encoder",
    "sam_prompt_encoder.": "prompt encoder",
    "sam_mask_decoder.": "mask decoder",
    "obj_ptr_": "object pointer",
    "no_obj_ptr": "object pointer",
    "mask_downsample.": "object pointer",
    "maskmem_tpos_enc": "memory codes",
    "no_mem_": "memory codes",
    "no_obj_embed_spatial": "memory codes",
}
_OTHER = "other"
_NEW_IN_2_1 = ("no_obj_embed_spatial", "obj_ptr_tpos_proj.weight")
_BLOCK = re.compile(r"^image_encoder\.trunk\.blocks\.(\d+)\.")
_STEM = "image_encoder.trunk.patch_embed.proj.weight"
_NAMES_SHOWN = 4


@dataclass(frozen=True)
class LoadReport:
    """How the tensors of a file fit a model, by official name.

    `other_shape` maps a name to the shapes in file and model. `looks_like` is the variant whose trunk the file has,
    None where it is no known one. `notes` are remarks such as tensors outside the model that were left alone.
    """

    source: str
    model: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]
    looks_like: str | None = None
    headline: str | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def fits(self) -> bool:
        """Whether every tensor of the model is in the file and the other way round, in equal shapes."""
        return not (self.missing or self.unexpected or self.other_shape)

    def __str__(self) -> str:
        total = len(self.matched) + len(self.missing) + len(self.other_shape)
        head = f"{self.source}: {len(self.matched)} of the {total} tensors of model {self.model!r} match"
        lines = [self.headline, head] if self.headline else [head]
        if not self.fits:
            lines += self._table()
            lines += _listed("missing from the file", self.missing)
            lines += _listed("unexpected in the file", self.unexpected)
            lines += _listed(
                "of another shape",
                [
                    f"{name} ({_times(a)} in the file, {_times(b)} here)"
                    for name, (a, b) in self.other_shape.items()
                ],
            )
        return "\n  ".join([*lines, *self.notes])

    def _table(self) -> list[str]:
        columns = [self.matched, self.missing, self.unexpected, tuple(self.other_shape)]
        rows = [f"{'':<18}{'matched':>9}{'missing':>9}{'unexpected':>12}{'other shape':>13}"]
        for group in [*dict.fromkeys(_GROUPS.values()), _OTHER]:
            counts = [sum(_group(name) == group for name in names) for names in columns]
            if any(counts):
                rows.append(f"{group:<18}{counts[0]:>9}{counts[1]:>9}{counts[2]:>12}{counts[3]:>13}")
        return rows


def compare(tensors: Mapping[str, Tensor], wanted: Shapes, source: str, model: str) -> LoadReport:
    """How `tensors` (official names) fit the shapes `wanted` of the model called `model`."""
    found = shapes(tensors)
    looks_like = None if found == wanted else identify(tensors)
    return LoadReport(
        source=source,
        model=model,
        matched=tuple(name for name in wanted if found.get(name) == wanted[name]),
        missing=tuple(name for name in wanted if name not in found),
        unexpected=tuple(name for name in found if name not in wanted),
        other_shape={
            name: (found[name], shape) for name, shape in wanted.items() if found.get(name, shape) != shape
        },
        looks_like=looks_like,
        headline=_headline(found, wanted, source, model, looks_like),
    )


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """Names and shapes alone."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def identify(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the variant that tensors with official names look like: it has this very trunk.

    Versions of a size are told apart by what 2.1 added, whatever the widths of the memory; a file without any memory
    part counts as 2.1.
    """
    found = shapes(tensors).items()
    with_memory = any(name.startswith("memory_") for name in tensors)
    best: tuple[tuple[int, ...], str] | None = None
    for order, name in enumerate(VARIANTS):
        known = _shapes_of(name).items()
        trunk = {item for item in known if item[0].startswith("image_encoder.trunk.")}
        if not trunk <= found:
            continue
        rank = (len(known & found), -len(tensors.keys() ^ _shapes_of(name)) if with_memory else order)
        if best is None or rank > best[0]:
            best = (rank, name)
    return best[1] if best else None


def known_names() -> frozenset[str]:
    """Every official name: the largest of the newer models has those of all."""
    return frozenset(_shapes_of("sam2.1_l"))


@functools.cache
def _shapes_of(name: str) -> Shapes:
    with torch.device("meta"):
        return shapes(SAM2(VARIANTS[name]).state_dict())


def variant_name(model: nn.Module) -> str:
    """What a model calls itself."""
    return model.variant.name if isinstance(model, SAM2) else type(model).__name__


def _headline(found: Shapes, wanted: Shapes, source: str, model: str, looks_like: str | None) -> str | None:
    """One line that says why a file does not fit, in the order in which people get it wrong; None if unclear."""
    hint = f"; did you mean model={looks_like}?" if looks_like not in (None, model) else ""
    mine, theirs = _blocks(wanted), _blocks(found)
    if mine and theirs and mine != theirs:
        return f'{source} has {theirs} trunk blocks, model "{model}" has {mine}{hint}'
    if _STEM in found and _STEM in wanted and found[_STEM] != wanted[_STEM]:
        return f'{source} has a trunk of width {found[_STEM][0]}, that of model "{model}" is {wanted[_STEM][0]}{hint}'
    new = [name for name in _NEW_IN_2_1 if (name in found) != (name in wanted)]
    if new and any(name.startswith("memory_") for name in found):
        file, here = ("2.1", "2.0") if new[0] in found else ("2.0", "2.1")
        verb = "has" if new[0] in found else "lacks"
        return f'{source} is a {file} file ({verb} {", ".join(new)}), model "{model}" is {here}{hint}'
    return f'{source} looks like another model than "{model}"{hint}' if hint else None


def _blocks(names: Shapes) -> int:
    return 1 + max((int(match[1]) for match in map(_BLOCK.match, names) if match), default=-1)


def _group(name: str) -> str:
    return next((group for prefix, group in _GROUPS.items() if name.startswith(prefix)), _OTHER)


def _listed(what: str, names: Sequence[str]) -> list[str]:
    if not names:
        return []
    more = f", and {len(names) - _NAMES_SHOWN} more" if len(names) > _NAMES_SHOWN else ""
    return [f"{what}: {', '.join(names[:_NAMES_SHOWN])}{more}"]


def _times(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"
