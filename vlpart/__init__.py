"""Open-vocabulary part segmentation: a photo in, its objects and their parts out.

    >>> import vlpart
    >>> result = vlpart.load("tiny")("photo.jpg", vocabulary="person: hair, eye, mouth")
    >>> result.save("photo_parts.jpg").name
    'photo_parts.jpg'

Names are resolved on first use, so `import vlpart` does not import torch.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from vlpart.data.image_files import list_images
    from vlpart.errors import (
        DataError,
        DownloadError,
        EvaluationError,
        ImageError,
        ModelNotFoundError,
        OutputError,
        SelectionError,
        TextEncoderError,
        TrainingError,
        VideoError,
        VlpartError,
        VocabularyError,
        WeightsError,
    )
    from vlpart.export.predictor import load_exported
    from vlpart.export.pretrained import from_pretrained, save_pretrained
    from vlpart.inference.batch import predict_to_folder
    from vlpart.inference.exemplars import Exemplar
    from vlpart.inference.predictor import Predictor, load
    from vlpart.results.result import Result
    from vlpart.text.vocabulary import Vocabulary
    from vlpart.zoo.catalogue import list_models

__version__ = "0.1.0"

#: Turns that a thread of GNU OpenMP spins while it waits for the others. Its default is 300,000: where the cores are
#: shared with another program, the thread that is waited for may be the one that is kept from running, and an image
#: takes many times as long. Without any spinning, the many short operations of a small model take twice as long. See
#: `benchmarks/shared_cores.py`.
SPIN = "1000"
if "torch" not in sys.modules and not {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
    os.environ["GOMP_SPINCOUNT"] = SPIN  # read when torch is imported

__all__ = [
    "DataError",
    "DownloadError",
    "EvaluationError",
    "Exemplar",
    "ImageError",
    "ModelNotFoundError",
    "OutputError",
    "Predictor",
    "Result",
    "SelectionError",
    "TextEncoderError",
    "TrainingError",
    "VideoError",
    "VlpartError",
    "Vocabulary",
    "VocabularyError",
    "WeightsError",
    "__version__",
    "from_pretrained",
    "list_images",
    "list_models",
    "load",
    "load_exported",
    "predict_to_folder",
    "save_pretrained",
]

_HOME = {
    "Exemplar": "vlpart.inference.exemplars",
    "Predictor": "vlpart.inference.predictor",
    "Result": "vlpart.results.result",
    "Vocabulary": "vlpart.text.vocabulary",
    "from_pretrained": "vlpart.export.pretrained",
    "list_images": "vlpart.data.image_files",
    "list_models": "vlpart.zoo.catalogue",
    "load": "vlpart.inference.predictor",
    "load_exported": "vlpart.export.predictor",
    "predict_to_folder": "vlpart.inference.batch",
    "save_pretrained": "vlpart.export.pretrained",
}


if not TYPE_CHECKING:  # a type checker sees the imports above, and an unknown name is an error to it

    def __getattr__(name: str) -> object:
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(_HOME.get(name, "vlpart.errors")), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
