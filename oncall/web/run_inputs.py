"""The inputs of a node of a run; those of the original if its result was reused."""

from oncall.metadata import Artifact, Metadata


def find_inputs(metadata: Metadata, run_id: str, node: str) -> dict[str, Artifact]:
    """Return the inputs of a node that has ended, by name; empty if it has not."""
    outputs = metadata.get_run_outputs(run_id).get(node, {})
    makers = metadata.find_makers(artifact.id for group in outputs.values() for artifact in group)
    events = metadata.get_execution_events({maker.id for maker in makers.values()})
    inputs = {event.key: event.artifact_id for event in events if not event.is_output}
    artifacts = metadata.get_artifacts(inputs.values())
    return {key: artifacts[id_] for key, id_ in inputs.items() if id_ in artifacts}
