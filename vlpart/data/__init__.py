"""From dataset files and photos to tensors.

Training: `readers` (one per file format) -> `source` (one frozen dataclass per training source) -> `records` (the
compact index) -> `sampling` (which image next) -> `transforms` (augmentation) -> `collate` -> `loader` (worker
processes, exact resume). Inference: `images` (anything to RGB) -> `preprocess` (resize, normalise, pad).

Nothing is imported here, so that `vlpart.data.images` costs no torch.
"""
