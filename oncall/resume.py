"""`resume`: runs a record's own config again, with the cache. The only module here that needs TFX, once it runs."""

from typing import Literal

import click

from cli.errors import ConfigError, RunRootError
from cli.terminal import say
from oncall import rejections
from oncall.evidence import Evidence
from oncall.releases import registry_of
from oncall.runs import need_record
from oncall.terminal import Answer, labelled
from pipeline.run.advice import again
from pipeline.run.records import Kind, State


def resume(evidence: Evidence, name: str, *, as_json: bool) -> Answer | int:
    """Run what a run that did not end well was to run; return the new run's exit code.

    One that succeeded is run again if its model should serve and its files are no longer those that were pushed.

    Raises:
      ConfigError: there is no record of it, or its config is none of this checkout's.
      RunRootError: a run is active.
    """
    run = evidence.find(name)
    if evidence.is_locked:
        raise RunRootError(f"{evidence.root.path}: a run is using it; wait for its end, or ask `doctor` which")
    _say_what_stands_in_the_way(evidence)
    record = need_record(evidence, run)
    if record.kind is not Kind.LOCAL:
        raise ConfigError(f"run {run.run_id}: is a rehearsal; start it again: {again(record, evidence.here)}")
    if run.state in (State.SUCCEEDED, State.CACHED) and not _lost_what_it_pushed(evidence, run.run_id):
        said = f"nothing to do: run {run.run_id} {run.state}"
        code = RunRootError.exit_code if evidence.unreadable else 0
        return Answer({"run": run.run_id, "state": run.state, "resumed": False}, [said], code)
    from pydantic import ValidationError

    from pipeline.config.pipeline_config import PipelineConfig
    from pipeline.run import local

    try:
        config = PipelineConfig.model_validate(record.config)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = "".join(f"{step}: " for step in problem["loc"])
        raise ConfigError(
            f"run {run.run_id}: its config is not one of this checkout's ({place}{problem['msg']}); check out "
            f"{record.revision or 'the revision that ran it'}, or start a new run"
        ) from error
    output: Literal["json", "normal"] = "json" if as_json else "normal"
    click.echo(f"resuming run {run.run_id}: {_reached(evidence, run.run_id)}", err=True)
    return local.run(
        config,
        run_root=evidence.root.path,
        use_cache=True,
        output=output,
        resumes=run.run_id,
        config_flags=record.config_flags,
    )


def _lost_what_it_pushed(evidence: Evidence, run_id: str) -> bool:
    """Whether the version that should serve is this run's, and its files are not those that were pushed."""
    try:
        registry = registry_of(evidence, None, None)
    except ConfigError:
        # It is on Vertex AI, where this command pushes nothing.
        return False
    champion = registry.champion()
    return champion is not None and registry.pushed_by(champion) == run_id and not registry.fits(champion)


def _say_what_stands_in_the_way(evidence: Evidence) -> None:
    """Says it before anything is tried."""
    said, tries = rejections.standing(evidence), rejections.tries(evidence)
    for line in labelled([*said.items(), *(("try", one) for one in tries)]):
        say(line, "warning")


def _reached(evidence: Evidence, run_id: str) -> str:
    record = evidence.record(run_id)
    assert record is not None
    done = [name for name, node in record.nodes.items() if node.state in ("complete", "cached")]
    return f"{len(done)} of {len(record.expected)} nodes were done"
