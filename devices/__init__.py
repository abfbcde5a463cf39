"""What Updraft runs on, and what it costs there."""
