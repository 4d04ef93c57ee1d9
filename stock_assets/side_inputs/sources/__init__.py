"""Sources of side inputs, one module each."""
