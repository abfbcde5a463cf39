"""One thin command tree over all of it."""
