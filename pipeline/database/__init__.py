"""The database of ML Metadata: its section of the config, its checks, and its binding to a run root.

- config.py: section `metadata` of the config.
- database.py: checks of every database, in SQL that all three understand.
- sqlite.py, mysql.py, postgresql.py: connections and errors of each.
- binding.py: RUN_ROOT/database.json and a context in ML Metadata name each other, one for one.
"""

import os

# ML Metadata's clients report every connection on the terminal; PostgreSQL's quotes parts of a connection string that
# it does not like. Read when ml_metadata is loaded, so it is set here.
os.environ.setdefault("GLOG_minloglevel", "3")

__all__: list[str] = []
