"""From the encoded bytes of an image to its header, its metadata, its pixels and its views."""
