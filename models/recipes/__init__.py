"""Recipes: seeded scripts that make the models which Updraft ships."""
