"""`resume`: runs a record's own config again, with the cache. It imports TFX once it runs; no other command does."""

from typing import Literal

import click

from cli.errors import ConfigError, RunRootError
from cli.terminal import print_message
from oncall.local.model_versions import LostRegistryError
from oncall.local.run_store import LocalRunStore
from oncall.results import CommandResult
from oncall.runs import get_record
from oncall.start_blockers import describe_blockers, suggest_commands
from oncall.text_format import format_labels
from pipeline.run.advice import suggest_resume
from pipeline.run.records import Kind, RunRecord, RunState


def resume_run(store: LocalRunStore, name: str, *, yes: bool, as_json: bool) -> CommandResult | int:
    """Run the config of a run that did not succeed again, and return the new run's exit code.

    A run that succeeded is run again if its model should serve and the pushed files have changed since.

    Raises:
      ConfigError: there is no record of it, or its config does not fit this checkout.
      RunRootError: a run is active.
    """
    run = store.find_run(name)
    if store.is_locked:
        raise RunRootError(f"{store.root.path}: a run is using it; wait for its end; `doctor` shows which it is")
    _warn_of_blockers(store)
    record = get_record(store, run)
    if record.kind is not Kind.LOCAL:
        raise ConfigError(
            f"run {run.run_id}: is a rehearsal; start it again: {suggest_resume(record, store.location_flags)}"
        )
    if run.state in (RunState.SUCCEEDED, RunState.CACHED) and not _is_pushed_model_damaged(store, run.run_id):
        code = RunRootError.exit_code if store.database_error else 0
        document = {"run": run.run_id, "state": run.state, "resumed": False}
        return CommandResult(document, [f"nothing to do: run {run.run_id} {run.state}"], code)
    newer = store.describe_newer_champion(record)
    if newer and not yes:
        document = {"run": run.run_id, "state": run.state, "resumed": False, "would_replace": newer}
        line = f"would resume run {run.run_id}, and its push would replace {newer}; add --yes to do it"
        return CommandResult(document, [line])
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
    click.echo(f"resuming run {run.run_id}: {_count_finished(record)}", err=True)
    return local.run(
        config,
        run_root=store.root.path,
        use_cache=True,
        output=output,
        # A run that stopped as asked is continued; one that failed on its way there goes no further than it was to.
        until=None if run.state is RunState.INCOMPLETE else record.until,
        resumes=run.run_id,
        config_flags=record.config_flags,
    )


def _is_pushed_model_damaged(store: LocalRunStore, run_id: str) -> bool:
    """Return True if the champion is this run's, and its files are not those that were pushed."""
    try:
        registry = store.find_registry(None, None)
    except LostRegistryError as error:
        return error.run_id == run_id
    except ConfigError:
        # The model is on Vertex AI, where this command pushes nothing.
        return False
    champion = registry.read_champion()
    return champion is not None and registry.find_run_id(champion) == run_id and not registry.is_intact(champion)


def _warn_of_blockers(store: LocalRunStore) -> None:
    tries = (("try", line) for line in suggest_commands(store))
    for line in format_labels([*describe_blockers(store).items(), *tries]):
        print_message(line, "warning")


def _count_finished(record: RunRecord) -> str:
    finished = [name for name, node in record.nodes.items() if node.state in ("complete", "cached")]
    return f"{len(finished)} of {len(record.expected)} nodes were done"
