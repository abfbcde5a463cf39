"""Budgets: what a device may spend, what it has spent, and what follows."""
