"""Exit heads for models that were trained without them."""
