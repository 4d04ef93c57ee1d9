"""The documents, and the code that writes the parts of them that follow from declarations."""
