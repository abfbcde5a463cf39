"""The coordinator daemon: sessions, their context, and the forward passes of the upper layers."""
