"""Training: prompts, losses, optimiser, the Lightning module and what surrounds a run."""

import sam2_train

sam2_train.check_names()
