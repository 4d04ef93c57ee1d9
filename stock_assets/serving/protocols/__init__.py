"""Protocols that clients of other servers speak, as thin adapters over the lookup of this one."""
