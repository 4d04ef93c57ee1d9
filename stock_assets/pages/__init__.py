"""What every HTML page of the project shares: number formats, SVG charts, one style, and the sections on skill, inputs
and models that the dashboard and the page `operations` both show."""
