"""Where ML Metadata is kept: which database, whether it can be used, whether it is the run root's.

config.py       the section `metadata` of a config
database.py     what is asked of every database, in SQL that all three know
sqlite.py, mysql.py, postgresql.py    how each is reached, and what its errors mean
binding.py      one run root, one database: RUN_ROOT/database.json and a context in ML Metadata name each other
"""

import os

# ML Metadata's clients tell the terminal of every connection; PostgreSQL's quotes parts of a connection string that it
# does not like. Read when ml_metadata is loaded, so it is said here.
os.environ.setdefault("GLOG_minloglevel", "3")

__all__: list[str] = []
