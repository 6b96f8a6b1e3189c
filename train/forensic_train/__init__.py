"""Training: from a labelled folder to exported models. May import forensic_cli, never the other way round."""
