"""SAM 2, trained, fine-tuned and used on your own videos and images (distribution sam2-train)."""
