"""Proofs as documents, and the independent code that checks them."""
