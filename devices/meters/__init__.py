"""Meters: what a device draws, read from its sensors or modelled."""
