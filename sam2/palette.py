"""The colours of object ids in palette images: those of DAVIS, which every benchmark shares."""

HIGHEST_ID = 255  # that a palette image holds


def palette_colour(object_id: int) -> tuple[int, int, int]:
    """Red, green and blue of an object id, 0 to 255.

    Its bits 0, 1, 2 are the highest bits of red, green and blue, the next three the second highest, and so on.
    """
    colour = [0, 0, 0]
    for bit in range(8):
        colour[bit % 3] |= (object_id >> bit & 1) << (7 - bit // 3)
    return colour[0], colour[1], colour[2]


PALETTE = bytes(value for object_id in range(HIGHEST_ID + 1) for value in palette_colour(object_id))
