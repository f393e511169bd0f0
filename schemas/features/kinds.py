"""The kinds of features."""

import typing
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from schemas.features.base import BaseFeature
from schemas.features.hash import Hash
from schemas.features.id_list import IdList
from schemas.features.identity import Identity
from schemas.features.input import Input
from schemas.features.numeric import Numeric
from schemas.features.text import Text
from schemas.features.timestamp import Timestamp
from schemas.features.vector import Vector
from schemas.features.vocabulary import Vocabulary
from schemas.features.vocabulary_file import VocabularyFile
from schemas.features.vocabulary_list import VocabularyList

# A kind is registered here, and with its encoder in components.transform.preprocessing.
Feature = Annotated[
    Numeric
    | Vocabulary
    | VocabularyList
    | VocabularyFile
    | Identity
    | Hash
    | Timestamp
    | IdList
    | Text
    | Vector
    | Input,
    Field(discriminator="kind"),
]

KINDS: Mapping[str, type[BaseFeature]] = {
    typing.get_args(kind.model_fields["kind"].annotation)[0]: kind
    for kind in typing.get_args(typing.get_args(Feature)[0])
}
"""The classes by the `kind` that a config names."""
