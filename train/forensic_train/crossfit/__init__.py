"""Cross-fitting: every image is judged by a model that never saw its source, subject or generator."""
