"""The commands' answers as pages, `python -m oncall web`, and as one file to attach, `python -m oncall report RUN`.

Rendered here, without script; nothing is written but the file that `report` is asked for. Each section of a page asks
on its own, so that what is missing or damaged is said in its place and takes nothing else away.
"""

__all__: list[str] = []
