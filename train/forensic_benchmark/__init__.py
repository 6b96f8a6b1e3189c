"""The paper's experiment in a box: miniature generators, a biased dataset of their images, and the four techniques."""
