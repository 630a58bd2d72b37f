"""Numbers of things, as messages say them."""


def plural(count: int, noun: str, nouns: str = "") -> str:
    """`count` with its noun: "1 clip", "2 clips"; `nouns` is the plural where it is not the noun with an s."""
    return f"{count} {noun}" if count == 1 else f"{count} {nouns or noun + 's'}"
