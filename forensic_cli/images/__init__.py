"""Encoded bytes of an image -> its header, its pixels, its views."""
