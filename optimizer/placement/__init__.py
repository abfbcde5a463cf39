"""Placement: which nodes are on and who answers what, where a node has only so much time."""
