"""The commands' results as pages, `python -m oncall web`, and as one file to attach, `python -m oncall report RUN`.

Rendered here; a script refreshes and copies, and nothing else. Nothing is written but the file that `report` is asked
for. Each section of a page is read by itself, so that a missing or damaged part is reported in its place.
"""

__all__: list[str] = []
