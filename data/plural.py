"""Numbers of things, as messages say them."""


def plural(count: int, noun: str) -> str:
    """`count` with its noun: "1 clip", "2 clips"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
