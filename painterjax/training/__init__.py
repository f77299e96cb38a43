"""One step and all steps: the jitted step, the optimizer, the trainer, validation."""
