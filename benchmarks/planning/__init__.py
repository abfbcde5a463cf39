"""How soon and how well the fleet's planner plans."""
