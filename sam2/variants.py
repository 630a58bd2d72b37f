"""All models by name: eight official variants (four sizes, two versions) and small presets.

A variant is data. Sizes differ in the trunk only; versions 2.0 and 2.1 differ in the flags of `Version`.
Source: the released configurations (facebookresearch/sam2 2b90b9f), held by tests/sam2/test_variants.py.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from pathlib import PurePath
from typing import Any


@dataclass(frozen=True)
class Trunk:
    """A timm model and its options; any timm model with maps at strides 4, 8, 16 and 32 will do."""

    timm_name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Heads:
    """Everything above the trunk. The defaults are the released models'.

    `width` is the channel count C, `mem_dim` that of a remembered map; `memory_slots` counts the prompted and
    the recent frames that are attended to, `max_pointers` the object pointers. `iou_sigmoid` and `object_bias` are
    departures for models trained from scratch in minutes: see `demo`.
    """

    width: int = 256
    mem_dim: int = 64
    memory_layers: int = 4
    memory_mlp: int = 2048
    memory_slots: int = 7
    max_pointers: int = 16
    decoder_mlp: int = 2048
    decoder_heads: int = 8
    dropout: float = 0.1
    iou_sigmoid: bool = True
    object_bias: float = 0.0

    def __post_init__(self) -> None:
        if self.mem_dim < 4 or self.mem_dim % 4 or self.width % self.mem_dim:
            possible = [dim for dim in range(4, self.width + 1, 4) if self.width % dim == 0]
            raise ValueError(
                f"mem_dim is {self.mem_dim}; pointers of width {self.width} are cut into tokens of it, and its "
                f"position code has four parts: it must be one of {', '.join(map(str, possible))}"
            )
        for name in ("memory_slots", "max_pointers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1")

    def with_memory(self, dim: int | None = None, slots: int | None = None) -> Heads:
        """The same with remembered maps of `dim` channels and `slots` remembered frames; None: as they are."""
        return replace(
            self,
            mem_dim=self.mem_dim if dim is None else dim,
            memory_slots=self.memory_slots if slots is None else slots,
        )


@dataclass(frozen=True)
class Version:
    """What 2.1 added to 2.0."""

    empty_memory_embedding: bool
    pointer_position: bool
    pointer_position_projected: bool
    pointer_position_signed: bool


V2_0 = Version(False, False, False, False)
V2_1 = Version(True, True, True, True)


@dataclass(frozen=True)
class Variant:
    """A complete description of one model."""

    name: str
    trunk: Trunk
    version: Version
    heads: Heads = Heads()
    image_size: int = 1024

    def __post_init__(self) -> None:
        if self.image_size < 32 or self.image_size % 32:
            raise ValueError(
                f"{self.name}: image_size {self.image_size} is not a positive multiple of 32, the trunk's stride"
            )

    def at(self, image_size: int) -> Variant:
        """The same model for another input size in pixels (a multiple of 32); the weights fit any size."""
        return replace(self, image_size=image_size)


_SIZES = {"t": "tiny", "s": "small", "b+": "base_plus", "l": "large"}
_TRUNKS = {short: Trunk(f"sam2_hiera_{long}") for short, long in _SIZES.items()}

_TEST_TRUNK = Trunk(
    "sam2_hiera_tiny",
    {
        "embed_dim": 8,
        "num_heads": 1,
        "stages": (1, 1, 1, 1),
        "window_spec": (8, 4, 4, 2),
        "global_att_blocks": (),
        "global_pos_size": (7, 7),
        "drop_path_rate": 0.0,
    },
)
_TEST_HEADS = Heads(
    width=32, mem_dim=16, memory_layers=1, memory_mlp=64, memory_slots=4, max_pointers=4, decoder_mlp=64
)

VARIANTS: dict[str, Variant] = {
    **{f"sam2_{s}": Variant(f"sam2_{s}", trunk, V2_0) for s, trunk in _TRUNKS.items()},
    **{f"sam2.1_{s}": Variant(f"sam2.1_{s}", trunk, V2_1) for s, trunk in _TRUNKS.items()},
    "test": Variant("test", _TEST_TRUNK, V2_1, _TEST_HEADS, image_size=64),
    "test_2.0": Variant("test_2.0", _TEST_TRUNK, V2_0, _TEST_HEADS, image_size=64),
    "demo": Variant(
        "demo",
        Trunk(
            "sam2_hiera_tiny",
            {
                "embed_dim": 16,
                "num_heads": 1,
                "stages": (1, 2, 2, 1),
                "window_spec": (8, 4, 6, 3),
                "global_att_blocks": (4,),
                "global_pos_size": (6, 6),
                "drop_path_rate": 0.0,
            },
        ),
        V2_1,
        Heads(
            width=64,
            mem_dim=64,
            memory_layers=1,
            memory_mlp=256,
            memory_slots=4,
            max_pointers=4,
            decoder_mlp=256,
            dropout=0.0,
            iou_sigmoid=False,
            object_bias=3.0,
        ),
        image_size=96,
    ),
}
# maps wide enough that remembering 128 channels of them is a question
VARIANTS["demo_wide"] = replace(
    VARIANTS["demo"], name="demo_wide", heads=replace(VARIANTS["demo"].heads, width=128)
)


def configured(
    name: str, image_size: int | None = None, mem_dim: int | None = None, memory_slots: int | None = None
) -> Variant:
    """The variant called `name` with the changes of a run; None: its own number.

    Raises:
        UnknownVariantError: no model has this name.
        ValueError: a number that cannot be.
    """
    named = resolve(name)
    heads = named.heads.with_memory(mem_dim, memory_slots)
    return replace(named, heads=heads, image_size=named.image_size if image_size is None else image_size)


class UnknownVariantError(ValueError):
    """No model has this name."""


def resolve(name: str | PurePath) -> Variant:
    """The variant called `name`.

    Accepts our names (`sam2.1_t`), the official configuration names with or without folder and suffix
    (`configs/sam2.1/sam2.1_hiera_b+.yaml`, `sam2_hiera_l`), the stems of the official weight files
    (`sam2.1_hiera_large`) and the names of their pages (`facebook/sam2.1-hiera-base-plus`). Nothing is read.

    Raises:
        UnknownVariantError: naming the closest known names.
    """
    stem = PurePath(name).name.removesuffix(".yaml").removesuffix(".yml")
    short = stem.replace("-", "_").replace("_hiera_", "_")
    for letter, long in _SIZES.items():
        if short.endswith(f"_{long}"):
            short = short.removesuffix(long) + letter
    if short in VARIANTS:
        return VARIANTS[short]
    close = difflib.get_close_matches(short, VARIANTS, n=3, cutoff=0.6)
    hint = f"did you mean {' or '.join(close)}? " if close else ""
    raise UnknownVariantError(f"no model is called {str(name)!r}; {hint}known: {', '.join(VARIANTS)}")
