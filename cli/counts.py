"""Numbers with their nouns and verbs, as messages print them."""

_SINGULAR_VERBS = {"are": "is", "were": "was", "have": "has", "do": "does"}


def format_count(count: int, noun: str, verb: str = "") -> str:
    """Return a count with its noun, in the plural unless it is one, and with the verb that agrees.

    Args:
      count: Number of things.
      noun: Name of one thing.
      verb: "are", "were", "have" or "do"; empty for none.
    """
    is_one = count == 1
    plural = "" if is_one else "es" if noun.endswith("s") else "s"
    following = f" {_SINGULAR_VERBS[verb] if is_one else verb}" if verb else ""
    return f"{count:,} {noun}{plural}{following}"
