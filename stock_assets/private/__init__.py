"""What other packages keep private and we use all the same: one file for each package.

Each file names every borrowed symbol, the version it was tried with and why it is needed. A symbol that is gone raises
PrivateApiError, with the way out, where it is imported.
"""
