"""The sources of side inputs: one class of the protocol `SideSource` per file."""
