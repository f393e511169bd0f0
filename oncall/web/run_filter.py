"""A selection of runs by their state, time, version, config and text, from the query string of the first page."""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cli.errors import ConfigError
from oncall.web.run_index import RunFacts
from pipeline.run.records import RunState

_DATE = "%Y-%m-%d"
_DAY_SECONDS = 86_400
_VERSION = re.compile(r"v?(\d{1,9})")
FIELDS = ("state", "since", "until", "version", "config", "text")


@dataclass(frozen=True)
class RunFilter:
    """Conditions on runs; an empty field selects all.

    Attributes:
      state: state.
      since, until: first and last day of the start, such as 2026-11-24.
      version: number of the version that the run pushed.
      config: part of a config key, or `key=value`; a key may be given by its last parts.
      text: part of the ID, cause, user or command.
    """

    state: str = ""
    since: str = ""
    until: str = ""
    version: str = ""
    config: str = ""
    text: str = ""

    @classmethod
    def parse(cls, query: Mapping[str, str]) -> "RunFilter":
        """Return the filter of a query string.

        Raises:
          ConfigError: a value cannot be understood.
        """
        fields = {name: query.get(name, "").strip() for name in FIELDS}
        if fields["state"] and fields["state"] not in set(RunState):
            raise ConfigError(f"state '{fields['state']}': expected one of {', '.join(RunState)}")
        for name in ("since", "until"):
            if fields[name]:
                _parse_day(name, fields[name])
        if fields["version"] and not _VERSION.fullmatch(fields["version"]):
            raise ConfigError(f"version '{fields['version']}': expected a number such as 3")
        return cls(**fields)

    @property
    def values(self) -> dict[str, str]:
        """The fields that are not empty, by name."""
        return {name: value for name in FIELDS if (value := getattr(self, name))}

    def is_match(self, run: RunFacts) -> bool:
        """Return whether a run is selected; one without a record is, by its state and ID alone."""
        if self.state and run.state != self.state:
            return False
        if run.started is None:
            return not (self.since or self.until or self.version or self.config) and self._has_text(run)
        return (
            (not self.since or run.started >= _parse_day("since", self.since))
            and (not self.until or run.started < _parse_day("until", self.until) + _DAY_SECONDS)
            and (not self.version or self._is_pusher(run))
            and (not self.config or self._has_config(run))
            and self._has_text(run)
        )

    def _is_pusher(self, run: RunFacts) -> bool:
        match = _VERSION.fullmatch(self.version)
        return match is not None and run.version == int(match[1])

    def _has_config(self, run: RunFacts) -> bool:
        # Values of sensitive features are masked, so that no search can reveal them.
        values = run.config or {}
        key, has_value, value = (part.strip() for part in self.config.partition("="))
        if not has_value:
            return any(key in name for name in values)
        return any(
            (name == key or name.endswith(f".{key}")) and str(held).lower() == value.lower()
            for name, held in values.items()
        )

    def _has_text(self, run: RunFacts) -> bool:
        return any(self.text.lower() in text for text in run.texts)


def _parse_day(name: str, text: str) -> float:
    try:
        return time.mktime(time.strptime(text, _DATE))
    except (ValueError, OverflowError) as error:
        raise ConfigError(f"{name} '{text}': expected a day such as 2026-11-24") from error
