"""Charts as inline SVG, each a pure function that returns a whole `<figure>`.

A figure holds its picture twice, for a desk and for a phone; the style shows one of them, so that text keeps its size.
Lines and bars take their colours from the style's classes, so that they follow light and dark. Nothing needs a script:
`data-*` only lets one show the values under the pointer.
"""
