"""`updraft bench engine`: our decoding engine beside other runtimes, on the same weights."""
