"""The same pipeline on Vertex Pipelines: compiled, checked, submitted, rehearsed on this machine, watched."""
