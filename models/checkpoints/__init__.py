"""Checkpoints as Hugging Face lays them out, and how they become bundles."""
