"""The content of `registry.json`: the states of all versions, and the history. No file is read here."""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from serving.registry.content import parse_json
from serving.registry.stamps import timestamp, user_and_host

_FORMAT = 1


class State(enum.StrEnum):
    """State of a version.

    `candidate` was pushed and waits for its promotion, `champion` serves, `previous` served before and is what a
    rollback goes back to; there is at most one of each. `retired` are all others.
    """

    CHAMPION = "champion"
    PREVIOUS = "previous"
    CANDIDATE = "candidate"
    RETIRED = "retired"


LABELS = (State.CHAMPION, State.PREVIOUS, State.CANDIDATE)


@dataclass(frozen=True)
class Event:
    """A change, for the history.

    Attributes:
      at: Time in UTC.
      action: push, promote, rollback, retire, delete, or adopt (versions that were there before there were states).
      version: Number of the version that was changed.
      by: USER@HOST.
      champion_before: champion until then.
      run_id: ID of the run that pushed.
      reason: Reason that the user gave, or the cause.
    """

    at: str
    action: str
    version: int
    by: str
    champion_before: int | None = None
    run_id: str = ""
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value != ""}


@dataclass(frozen=True)
class Ledger:
    """The states of the versions, and the history, the oldest event first."""

    states: Mapping[int, State]
    history: tuple[Event, ...] = ()

    def find_by_state(self, state: State) -> int | None:
        """Return the version with a state of which there is at most one."""
        return next((version for version, its_state in self.states.items() if its_state is state), None)

    @property
    def champion(self) -> int | None:
        return self.find_by_state(State.CHAMPION)

    @property
    def labels(self) -> dict[str, int]:
        """The versions that are champion, previous and candidate, by that word."""
        versions = {str(state): self.find_by_state(state) for state in LABELS}
        return {label: version for label, version in versions.items() if version is not None}

    @property
    def used(self) -> set[int]:
        """The numbers that were ever given, those of deleted versions among them."""
        return {*self.states, *(event.version for event in self.history)}

    def promote(self, version: int) -> "Ledger":
        """Return the ledger with another champion: the one before becomes previous, the previous one retired."""
        if version == self.champion:
            return self
        states = dict(self.states)
        if self.champion is not None:
            states = {v: State.RETIRED if s is State.PREVIOUS else s for v, s in states.items()}
            states[self.champion] = State.PREVIOUS
        states[version] = State.CHAMPION
        return replace(self, states=states)

    def nominate(self, version: int) -> "Ledger":
        """Return the ledger with another candidate: the one before becomes retired."""
        states = {v: State.RETIRED if s is State.CANDIDATE else s for v, s in self.states.items()}
        return replace(self, states={**states, version: State.CANDIDATE})

    def retire(self, version: int) -> "Ledger":
        return replace(self, states={**self.states, version: State.RETIRED})

    def remove(self, version: int) -> "Ledger":
        return replace(self, states={v: s for v, s in self.states.items() if v != version})

    def record(self, action: str, version: int, *, run_id: str = "", reason: str = "") -> "Ledger":
        """Return the ledger with one event more: now, by the current user. Call it before the change itself."""
        event = Event(timestamp(), action, version, user_and_host(), self.champion, run_id, reason)
        return replace(self, history=(*self.history, event))

    @classmethod
    def adopt(cls, versions: Iterable[int]) -> "Ledger":
        """Return the ledger of versions without recorded states: the highest number is the champion."""
        ledger = cls(dict.fromkeys(sorted(versions), State.RETIRED))
        for version in sorted(ledger.states)[-2:]:
            ledger = ledger.promote(version)
        return ledger

    def to_json(self) -> str:
        values = {
            "format": _FORMAT,
            "versions": {str(version): {"state": str(state)} for version, state in sorted(self.states.items())},
            "history": [event.to_dict() for event in self.history],
        }
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "Ledger":
        """Read what `to_json` wrote.

        Raises:
          ValueError: it is something else; with what is wrong.
        """
        values = parse_json(text)
        if not isinstance(values, dict) or values.get("format") != _FORMAT:
            raise ValueError(f"expected an object with format {_FORMAT}")
        try:
            states = {int(version): State(entry["state"]) for version, entry in values["versions"].items()}
            history = tuple(_event(event) for event in values["history"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"unexpected content: {error!r}") from error
        for state in LABELS:
            several = [version for version, its_state in states.items() if its_state is state]
            if len(several) > 1:
                raise ValueError(f"there are several versions with the state {state}: {', '.join(map(str, several))}")
        return cls(states, history)


def _event(values: Mapping[str, Any]) -> Event:
    """Return an event; what later releases may add is left out."""
    return Event(**{name: values[name] for name in Event.__dataclass_fields__ if name in values})
