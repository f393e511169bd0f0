"""A local model registry: a folder of versions that TF Serving can read, each of them written whole or not at all.

    python -m serving.registry list

    REGISTRY/MODEL_NAME/1/saved_model.pb
                         1/assets.extra/release.json    who pushed it, from which run, its metrics, its content hash
                         2/...
                         registry.json                  which version is what, and what was done: replaced whole
                         tf_serving.config              for TF Serving's --model_config_file: it follows the champion
                         .lock                          held during a change

A version is written beside, flushed to disk and renamed; after that `registry.json` names it. Readers need no lock:
`registry.json` is replaced in one step, and never names a version that is not whole. A push that is killed in between
leaves a version that nothing names, which the next push of the same content takes up.

States: `candidate` waits for its promotion, `champion` is the serving version, `previous` is that before, which a
rollback promotes, `retired` is all else. Imports no TensorFlow.
"""

from serving.registry.content import (
    DECISION_FILE,
    DECLARATION_FILE,
    GOLDEN_FILE,
    NOT_CONTENT,
    READ_OPTIONS_FILE,
    RELEASE_FILE,
    STATISTICS_FILE,
    VERSION_FILE,
    WARMUP_FILE,
    Release,
    compute_content_hash,
    compute_extra_hashes,
    parse_json,
    read_record,
)
from serving.registry.local.ledger import Event, Ledger, State
from serving.registry.local.reader import LEDGER_FILE, LOCK_FILE, TF_SERVING_FILE, Versions
from serving.registry.local.registry import LocalRegistry
from serving.registry.protocol import Candidate, PushedVersion, ServingSwitch

__all__ = [
    "DECISION_FILE",
    "DECLARATION_FILE",
    "GOLDEN_FILE",
    "LEDGER_FILE",
    "LOCK_FILE",
    "NOT_CONTENT",
    "READ_OPTIONS_FILE",
    "RELEASE_FILE",
    "STATISTICS_FILE",
    "TF_SERVING_FILE",
    "VERSION_FILE",
    "WARMUP_FILE",
    "Candidate",
    "Event",
    "Ledger",
    "LocalRegistry",
    "PushedVersion",
    "Release",
    "ServingSwitch",
    "State",
    "Versions",
    "compute_content_hash",
    "compute_extra_hashes",
    "parse_json",
    "read_record",
]
