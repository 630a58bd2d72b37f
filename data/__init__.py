"""From videos with masks to training clips: sources, shards, plan, decoding, augmentation (distribution sam2-train)."""
