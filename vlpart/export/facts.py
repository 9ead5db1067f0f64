"""What an exported file says about itself: enough to use it without the catalogue, and without torch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, get_args

from vlpart.checks import check_fields
from vlpart.errors import VocabularyError, WeightsError
from vlpart.text.encoders import ENCODERS
from vlpart.text.prompts import Prompt
from vlpart.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from vlpart.inference.predictor import Predictor

#: The key in the metadata of a file.
FACTS = "vlpart"
VERSION = 1
_LONGEST, _MOST = 100_000, 1_000_000  # pixels of a side, and detections, that no model was made for
_LONGEST_NAME = 2000  # bytes


@dataclass(frozen=True, kw_only=True)
class Facts:
    """See the module.

    Attributes:
        name, architecture: of the model.
        vocabulary: `Vocabulary.to_dict` of what is looked for unless another is asked for.
        text_input: whether another can be asked for.
        text_encoder, prompt: how its names become vectors.
        text_dim: length of the vectors.
        mask_on: whether there are masks.
        short_side, max_side, score_threshold, max_detections: see `vlpart.inference.base.Defaults`.
        version: of this list.
    """

    name: str
    architecture: str
    vocabulary: Mapping[str, Any]
    text_input: bool
    text_encoder: str
    prompt: str
    text_dim: int
    mask_on: bool
    short_side: int
    max_side: int
    score_threshold: float
    max_detections: int
    version: int = VERSION

    @classmethod
    def of(cls, predictor: Predictor, vocabulary: Vocabulary, *, text_input: bool) -> Facts:
        """What there is to say of a predictor."""
        from vlpart.models.config import get_architecture

        return cls(
            name=predictor.name.encode(errors="backslashreplace").decode(),  # of a file whose name is no text, too
            architecture=predictor.architecture,
            vocabulary={**vocabulary.to_dict(), "name": vocabulary.title},
            text_input=text_input,
            text_encoder=predictor.text_encoder,
            prompt=predictor.prompt,
            text_dim=get_architecture(predictor.architecture).text_dim,
            mask_on=predictor.mask_on,
            **asdict(predictor.defaults),
        )

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, path: object) -> Facts:
        """The inverse of `to_json`; `path` is the file, for the message.

        Raises:
            WeightsError: it is of a newer version, or not of this package.
        """
        try:
            data = json.loads(text)
            if data["version"] != VERSION:
                raise WeightsError(f"{path} was exported by another version of vlpart: export it again")
            facts = cls(**{field.name: data[field.name] for field in fields(cls)})
            check_fields(facts)
            Vocabulary.from_dict(facts.vocabulary)
            if not (0 <= facts.score_threshold <= 1 and 0 < facts.short_side <= facts.max_side <= _LONGEST):
                raise ValueError("sizes")
            if not (0 < facts.max_detections <= _MOST and facts.text_dim > 0):
                raise ValueError("counts")
            if facts.text_encoder not in ENCODERS or facts.prompt not in get_args(Prompt):
                raise ValueError("how names become vectors")
            if not 0 < len(facts.name.encode()) <= _LONGEST_NAME:  # which is a ValueError where it is no text
                raise ValueError("name")
        except (ValueError, KeyError, TypeError, RecursionError, VocabularyError) as error:
            raise WeightsError(f"{path} was not exported by vlpart: use `vlpart export`") from error
        return facts
