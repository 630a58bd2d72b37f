"""Sweeps: their record, their runs side by side, their curves."""
