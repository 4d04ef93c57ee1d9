"""The models: which rows may teach them, how they learn, how they answer."""
