"""What Updraft runs on: data files of boards and GPUs, read and checked."""
