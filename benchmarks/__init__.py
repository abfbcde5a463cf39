"""What measures Updraft; `updraft bench` and the scripts of this folder run it."""
