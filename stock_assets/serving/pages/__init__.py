"""The dashboard: eight screens over what is published, rendered on the server.

Each `<screen>.py` turns a `Publication`, the clock's moment and the open alerts into a small frozen dataclass;
`templates/<screen>.html.j2` shows it; `router.py` serves it.
"""
