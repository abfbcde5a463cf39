"""The fleet: which nodes there are, which experts are on, and who answers a prompt."""
