"""A fleet of emulated devices through a day of prompts: `updraft bench budgets`."""
