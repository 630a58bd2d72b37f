"""Components against a flood fill that visits one pixel after the other."""

import pytest
import torch

from sam2.connected_components import areas, label, overwrite_small


def flood(mask):
    """Component number per pixel, by depth-first search over the 8 neighbours."""
    height, width = mask.shape
    number = torch.zeros(height, width, dtype=torch.long)
    found = 0
    for start in mask.nonzero().tolist():
        if number[tuple(start)]:
            continue
        found += 1
        stack = [tuple(start)]
        while stack:
            y, x = stack.pop()
            if not (0 <= y < height and 0 <= x < width) or number[y, x] or not mask[y, x]:
                continue
            number[y, x] = found
            stack += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return number


def assert_same_partition(ours, theirs):
    """Equal up to the names of the components."""
    pairs = torch.stack((ours.flatten(), theirs.flatten())).unique(dim=1)
    assert pairs.shape[1] == len(ours.unique()) == len(theirs.unique())
    assert torch.equal(ours == 0, theirs == 0)


def spiral(side):
    """One path of width one that winds to the centre: the longest way for a label."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    y, x, dy, dx = 0, 0, 0, 1
    mask[y, x] = True
    for _ in range(side * side):
        ahead, beyond = (y + dy, x + dx), (y + 2 * dy, x + 2 * dx)
        free = all(0 <= v < side for v in ahead) and not mask[ahead]
        if free and (not all(0 <= v < side for v in beyond) or not mask[beyond]):
            y, x = ahead
            mask[y, x] = True
        else:
            dy, dx = dx, -dy
    return mask


@pytest.mark.parametrize("density", [0.05, 0.2, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (9, 1), (17, 23), (40, 40)])
def test_labels_agree_with_a_flood_fill(density, size):
    draw = torch.Generator().manual_seed(int(100 * density) + size[0])
    masks = torch.rand(3, *size, generator=draw) < density
    for ours, mask in zip(label(masks), masks, strict=True):
        assert_same_partition(ours, flood(mask))


@pytest.mark.parametrize("side", [5, 16, 63])
def test_a_spiral_is_one_component(side):
    path = spiral(side)
    assert_same_partition(label(path), flood(path))
    assert_same_partition(label(~path), flood(~path))
    assert (areas(label(path))[path] == path.sum()).all()


def test_diagonal_pixels_belong_together():
    mask = torch.eye(6, dtype=torch.bool)
    assert len(label(mask).unique()) == 2


def test_masks_of_a_batch_do_not_mix():
    masks = torch.rand(2, 3, 12, 12, generator=torch.Generator().manual_seed(0)) < 0.5
    together = areas(label(masks))
    assert together.shape == masks.shape
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], areas(label(masks[i, j])))


def test_areas_count_pixels():
    mask = torch.tensor([[1, 1, 0, 0, 1], [0, 0, 0, 0, 1], [1, 0, 1, 0, 1]], dtype=torch.bool)
    assert areas(label(mask)).tolist() == [[2, 2, 0, 0, 3], [0, 0, 0, 0, 3], [1, 0, 1, 0, 3]]


@pytest.mark.parametrize("full", [False, True])
def test_empty_and_full_masks(full):
    mask = torch.full((4, 5), full)
    assert (areas(label(mask)) == (20 if full else 0)).all()


def test_components_up_to_the_limit_are_overwritten_and_no_others():
    logits = torch.full((1, 1, 8, 8), 3.0)
    logits[..., 1, 1:3] = -2.0  # a hole of 2
    logits[..., 5:, 5:8] = -2.0  # one of 9
    filled = overwrite_small(logits, logits <= 0, 2, 0.1)
    assert (filled[..., 1, 1:3] == 0.1).all() and (filled[..., 5:, 5:8] == -2.0).all()
    assert torch.equal(filled[logits > 0], logits[logits > 0])
    assert torch.equal(overwrite_small(logits, logits <= 0, 1, 0.1), logits)


@pytest.mark.gpu
def test_the_gpu_agrees_with_the_cpu():
    masks = torch.rand(8, 256, 256, generator=torch.Generator().manual_seed(0)) < 0.45
    assert torch.equal(label(masks.cuda()).cpu(), label(masks))
