"""How soon a fleet hears of a new plan."""
