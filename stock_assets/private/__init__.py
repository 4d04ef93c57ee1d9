"""The private names of other packages that this one depends on: one file for each, and no other file uses them."""
