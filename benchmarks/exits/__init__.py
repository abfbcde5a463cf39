"""Measurements of exits trained afterwards, of shortlists, and of what quantization costs."""
