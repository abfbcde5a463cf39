"""The gate: from a prompt to a weight per expert, trained once and restricted to any selection."""
