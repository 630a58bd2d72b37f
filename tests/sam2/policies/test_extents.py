"""Boxes and areas of masks, against numpy and by hand."""

from __future__ import annotations

import numpy as np
import torch

from sam2.policies.extents import EMPTY, Extent, extents, fetched


def test_boxes_and_areas_are_those_that_numpy_finds():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, 9, 13, generator=generator) - 1.5
    logits[1, 2] = -1
    logits[2, 0] = 1
    for own, masks in zip(fetched(extents(logits)), (logits > 0).numpy(), strict=True):
        for found, mask in zip(own, masks, strict=True):
            rows, columns = np.nonzero(mask)
            if not len(rows):
                assert found.is_empty and found.box_area == 0
                continue
            expected = (columns.min(), rows.min(), columns.max(), rows.max(), len(rows))
            assert found == expected
            assert found.box_area == (np.ptp(columns) + 1) * (np.ptp(rows) + 1)


def test_overlap_and_union_of_boxes_by_hand():
    a, b = Extent(0, 0, 3, 3, 16), Extent(2, 2, 5, 3, 8)
    assert a.iou(b) == 4 / (16 + 8 - 4) and a.iou(a) == 1
    assert a.iou(Extent(4, 0, 5, 3, 8)) == 0, "boxes that touch share no pixel"
    assert a.around(b) == Extent(0, 0, 5, 3, 24)
    assert a.around(EMPTY) == a == EMPTY.around(a) and a.iou(EMPTY) == 0
