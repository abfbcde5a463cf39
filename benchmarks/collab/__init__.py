"""Collaborative decoding against its rivals, over emulated links (`updraft bench collab`)."""
