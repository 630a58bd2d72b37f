"""Ways to point at an object on its first frame, made from its true mask."""

MASK, BOX = "mask", "box"
CLICKS = {"click1": 1, "click3": 3, "click5": 5}
PROMPTS = (MASK, BOX, *CLICKS)
