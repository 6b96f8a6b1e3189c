"""Miniature generators, one per family of the paper, each with the operations that its family publishes."""
