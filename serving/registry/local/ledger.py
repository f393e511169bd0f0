"""The content of `registry.json`: the states of all versions, and the history. No file is read here."""

import enum
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from serving.registry.content import parse_json
from serving.registry.stamps import get_timestamp, get_user_and_host

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
      action: push, promote, rollback, reject, retire, delete, or adopt (versions that were there before there were
        states).
      version: Number of the version that was changed.
      by: USER@HOST.
      champion_before: champion until then.
      run_id: ID of the run that pushed.
      reason: Reason that the user gave, or the cause.
      content_hash: Hash of the model that was pushed.
      origin: Hash of the data, code and config that it was made of.
    """

    at: str
    action: str
    version: int
    by: str
    champion_before: int | None = None
    run_id: str = ""
    reason: str = ""
    content_hash: str = ""
    origin: str = ""

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if value != ""}


@dataclass(frozen=True)
class Intent:
    """A push that has begun. It is on record before the version is copied, so that each version has an explanation.

    Attributes:
      version: Number that the version gets.
      run_id: ID of the run that pushes.
      content_hash: Hash of the model.
    """

    version: int
    run_id: str
    content_hash: str


@dataclass(frozen=True)
class Ledger:
    """The states of the versions, and the history, the oldest event first.

    Attributes:
      states: State of each version whose push has ended.
      history: Changes, the oldest first.
      intent: Push that has begun and not ended; None if there is none.
    """

    states: Mapping[int, State]
    history: tuple[Event, ...] = ()
    intent: Intent | None = None

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

    def find_push(self, version: int) -> Event | None:
        """Return the push of a version; None if the history has none."""
        return next((event for event in self.history if event.version == version and event.action == "push"), None)

    def is_explained(self, version: int, content_hash: str) -> bool:
        """Return True if a push on record put a version of this content in its place.

        Args:
          version: Number of the version.
          content_hash: Hash of its model, by its release file.
        """
        if self.intent is not None and (self.intent.version, self.intent.content_hash) == (version, content_hash):
            return True
        push = self.find_push(version)
        # Earlier releases kept no hash with a push.
        return version in self.states and (push is None or push.content_hash in ("", content_hash))

    def find_other_champion(self) -> int | None:
        """Return the champion by the history if the states name another, as after an edit by hand; None if not."""
        switches = [event for event in self.history if event.action in ("adopt", "push", "promote", "rollback")]
        last = switches[-1] if switches else None
        if last is None or self.champion == last.version:
            return None
        is_candidate = last.action == "push" and self.states.get(last.version) is not State.PREVIOUS
        return None if is_candidate and self.champion == last.champion_before else last.version

    @property
    def rollback(self) -> Event | None:
        """The rollback that is in force: no other version was promoted since. None if there is none."""
        switches = [event for event in self.history if event.action in ("rollback", "promote")]
        last = switches[-1] if switches else None
        return last if last is not None and last.action == "rollback" and last.version == self.champion else None

    def find_rollback_of(self, origin: str) -> Event | None:
        """Return the rollback or rejection of a version of this data, code and config; None if there is none.

        A version that was promoted, or rolled back to, since then is no longer rejected.
        """
        rejected: dict[int, Event] = {}
        for event in self.history:
            if event.action == "rollback" and event.champion_before is not None:
                rejected[event.champion_before] = event
            if event.action == "reject":
                rejected[event.version] = event
            if event.action in ("rollback", "promote"):
                rejected.pop(event.version, None)
        of_origin = [version for version in rejected if (push := self.find_push(version)) and push.origin == origin]
        return rejected[of_origin[-1]] if origin and of_origin else None

    def begin(self, intent: Intent) -> "Ledger":
        """Return the ledger with the intent of a push."""
        return replace(self, intent=intent)

    def end(self) -> "Ledger":
        """Return the ledger without an intent."""
        return replace(self, intent=None)

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

    def record(self, action: str, version: int, *, reason: str = "", **values: str) -> "Ledger":
        """Return the ledger with one event more: now, by the current user. Call it before the change itself.

        Args:
          action: Action of the event.
          version: Number of the version that is changed.
          reason: Reason that the user gave, or the cause.
          **values: `run_id`, `content_hash` and `origin` of a push.
        """
        event = Event(get_timestamp(), action, version, get_user_and_host(), self.champion, reason=reason, **values)
        return replace(self, history=(*self.history, event))

    @classmethod
    def adopt(cls, versions: Iterable[int], champion: int | None = None) -> "Ledger":
        """Return the ledger of versions without recorded states.

        Args:
          versions: Numbers of the versions.
          champion: Version that serves; None, or one that is not among them, for the highest.
        """
        ledger = cls(dict.fromkeys(sorted(versions), State.RETIRED))
        for version in sorted(ledger.states, key=lambda version: (version == champion, version))[-2:]:
            ledger = ledger.promote(version)
        return ledger

    def to_json(self) -> str:
        values: dict[str, Any] = {
            "format": _FORMAT,
            "versions": {str(version): {"state": str(state)} for version, state in sorted(self.states.items())},
            "history": [event.to_dict() for event in self.history],
        }
        if self.intent is not None:
            values["intent"] = asdict(self.intent)
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
            history = tuple(_parse_event(event) for event in values["history"])
            intent = Intent(**values["intent"]) if "intent" in values else None
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"unexpected content: {error!r}") from error
        for state in LABELS:
            several = [version for version, its_state in states.items() if its_state is state]
            if len(several) > 1:
                raise ValueError(f"there are several versions with the state {state}: {', '.join(map(str, several))}")
        return cls(states, history, intent)


def _parse_event(values: Mapping[str, Any]) -> Event:
    """Return an event; fields of later releases are ignored."""
    return Event(**{name: values[name] for name in Event.__dataclass_fields__ if name in values})
