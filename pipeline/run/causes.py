"""The cause of a run's state, from its record alone."""

from pipeline.run.records import RunRecord, RunState


def explain_state(record: RunRecord, state: RunState) -> str:
    """Return the cause of a run's state in one sentence; empty if it succeeded."""
    match state:
        case RunState.RUNNING:
            return f"in {record.running_node}" if record.running_node else "starting"
        case RunState.CRASHED:
            where = f"in {record.running_node}" if record.running_node else _describe_place(record)
            return f"its process {record.pid} on {record.host} is gone: killed {where}"
        case RunState.ABORTED:
            return f"interrupted by {record.reason}" + _describe_failed_node(record)
        case RunState.FAILED:
            return _describe_failure(record)
        case RunState.INCOMPLETE:
            if record.until:
                return f"stopped {_describe_place(record)}, as asked"
            return f"not reached: {', '.join(sorted(set(record.expected) - set(record.nodes)))}"
        case _:
            return ""


def _describe_place(record: RunRecord) -> str:
    last = next(reversed(record.nodes), None)
    return f"after {last}" if last else "before the first node"


def _describe_failed_node(record: RunRecord) -> str:
    node = find_failed_node(record)
    return f" in {node}" if node else ""


def _describe_failure(record: RunRecord) -> str:
    node = find_failed_node(record)
    error = (record.nodes[node].error if node else "") or record.error or "no error was kept"
    error = error.removeprefix("NotBlessedError: ") if find_blamed_node(record) != node else error
    return error if node is None or error.startswith(f"{find_blamed_node(record)}:") else f"{node}: {error}"


def find_blamed_node(record: RunRecord) -> str | None:
    """Return the node whose verdict ended the run: InfraValidator stops a model that Evaluator did not bless."""
    node = find_failed_node(record)
    error = record.nodes[node].error if node is not None else ""
    # Vertex AI puts the class of an error before it.
    name = error.partition("NotBlessedError: ")[2].partition(":")[0] or error.partition(":")[0]
    return name if name in record.nodes else node


def find_failed_node(record: RunRecord) -> str | None:
    """Return the node that failed, or was cut off."""
    failed = [name for name, node in record.nodes.items() if node.state == "failed"]
    return failed[-1] if failed else record.running_node
