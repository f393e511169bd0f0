"""Command line of the on-call engineer.

python -m oncall runs
python -m oncall why latest
python -m oncall why latest --project my-project --region europe-west4
"""

import click

from cli.interrupts import skip_teardown
from oncall import commands

EPILOG = """RUN is `latest`, a run's id, or the first characters of one. With --project, or VERTEX_PROJECT, the runs are
jobs of Vertex Pipelines.

\b
Exit codes:
  0    success
  1    check, traffic or doctor found a problem, or gc could not remove a
       folder; or the resumed run ended with 1
  2    a flag is wrong, there is no such run, version or artifact, web's port
       is in use, or report's file exists already
  3    a request log cannot be read, or has no labels or no statistics to be
       compared with; or the resumed run's own, as 4 and 5: see
       local_runner.py --help
  5    the registry rejected a rollback, or cannot be read; Vertex AI or its
       bucket rejects the request or does not respond
  6    the run root or its database cannot be read, a run holds it (resume,
       gc), or report's file cannot be written
  130  interrupted"""


@click.group(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
def main() -> None:
    """Show the serving version, failed runs with their causes, and the way back.

    Only resume, rollback --yes, quarantine --yes and gc --yes change anything. report writes its file, and check
    --alert its notifications.
    """


for command in commands.ALL:
    main.add_command(command)


def run_program() -> None:
    """Run the command, and leave at once."""
    with skip_teardown():
        main()


if __name__ == "__main__":
    run_program()
