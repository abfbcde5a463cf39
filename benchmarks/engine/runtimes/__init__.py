"""One script per runtime, for a Python of its own: they import nothing of Updraft but `ours`."""
