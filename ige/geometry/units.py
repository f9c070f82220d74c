"""Lengths are millimetres in files and in everything shown, metres inside models."""

MM_PER_METRE = 1000.0
