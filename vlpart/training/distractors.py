"""Names of other sources as negatives: what an image surely does not show, its regions should not be called.

With a vocabulary of its own for every source, a face's "ear" is only ever told apart from other things in images of
faces, and at test time, among all names at once, the side of a bus may look like one. So a few names of other sources
join the vocabulary of a batch as classes that nothing in it is. `Source.negative_names` says which names may be taken
as absent; a name is never taken where its object, or a similar one, is or may be in an image of the batch.

Sources that share out one list of names ("at_matches") are another case: what one of them annotates as a "chair:leg" is
not what another calls "stool:leg", however similar. There the names join all the same, but as negatives of annotated
regions only: what else is in the image is left open.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vlpart.data.source import LoadedSource
from vlpart.text.encoders import TextEncoder
from vlpart.text.prompts import plain_prompt
from vlpart.text.vocabulary import Vocabulary
from vlpart.types import Batch, Targets

AT_MATCHES = "at_matches"
SIMILAR = 0.5  # cosine of two object names from which on one may be what the other means
SAME = 0.9


@dataclass(frozen=True, kw_only=True)
class _Candidates:
    """Names of all sources but one: (K, D) embeddings and the (K,) index of the object each belongs to."""

    text: Tensor
    objects: Tensor


class Distractors:
    """Adds names of other sources to batches.

    Args:
        sources: all sources of the run.
        text: (C, D) embeddings of each source's vocabulary, by source name.
        encoder: of the object names.
        count: names added to a batch, at most.
        more: lists of further names: their objects join the batches of every source that takes negatives, where they
            are unlike all that is, or may be, in the image. Half of them are drawn among the most similar ones.
    """

    def __init__(
        self,
        sources: Sequence[LoadedSource],
        text: Mapping[str, Tensor],
        encoder: TextEncoder,
        count: int,
        more: Sequence[Vocabulary] = (),
    ) -> None:
        self.count = count
        self._more = _further_names(sources, more, encoder) if more else None
        self._vectors = {
            s.name: torch.tensor(encoder.encode([_object(s, i) for i in range(len(s.vocabulary))])).float()
            for s in sources
            if more
        }
        names = sorted({_object(s, i) for s in sources for i in range(len(s.vocabulary))})
        place = {name: index for index, name in enumerate(names)}
        vectors = torch.tensor(encoder.encode(names)).float()
        self._similarity = vectors @ vectors.T
        self._rules = {s.name: s.source.negative_names for s in sources}
        self._objects = {
            s.name: torch.tensor([place[_object(s, i)] for i in range(len(s.vocabulary))]) for s in sources
        }
        self._candidates = {}
        for source in sources:
            rule = source.source.negative_names
            others = [s for s in sources if s is not source and (rule != AT_MATCHES or s.source.negative_names == rule)]
            if others and rule != "none":
                own = {name.casefold() for name in source.vocabulary.names} if rule == AT_MATCHES else set()
                new = torch.tensor([name.casefold() not in own for s in others for name in s.vocabulary.names])
                self._candidates[source.name] = _Candidates(
                    text=torch.cat([text[s.name] for s in others])[new.to(text[source.name].device)],
                    objects=torch.cat([self._objects[s.name] for s in others])[new],
                )

    def add(self, batch: Batch, text: Tensor, generator: torch.Generator | None) -> tuple[Batch, Tensor]:
        """The batch and its (C + K, D) text with up to `count` names that nothing annotated in the batch is.

        Args:
            batch: of a source of the run.
            text: (C, D) embeddings of its source.
            generator: draws the names, on the CPU; None takes torch's own.
        """
        candidates = self._candidates.get(batch.source)
        if candidates is None:
            return batch, text
        allowed = self._absent(batch, candidates).nonzero().squeeze(1)
        further = None if self._more is None else self._unlike(batch, self._more, generator).to(text.device)
        order = torch.randperm(len(allowed), generator=generator)
        order = order[: self.count if further is None else max(self.count - len(further), self.count // 2)]
        chosen = candidates.text[allowed[order].to(candidates.text.device)]
        if further is not None:
            chosen = torch.cat((chosen, further))[: self.count]
        targets = [self._with_names(batch.source, target, len(text), len(chosen)) for target in batch.targets]
        return replace(batch, targets=targets), torch.cat((text, chosen))

    def _unlike(self, batch: Batch, more: Tensor, generator: torch.Generator | None) -> Tensor:
        """(K, D) vectors of further names for this batch, half of `count` at most, and half of those hard ones."""
        seen = torch.zeros(len(self._vectors[batch.source]), dtype=torch.bool)
        for target in batch.targets:
            seen[target.labels.cpu()] = True
            if target.unknown_labels is not None:
                seen |= target.unknown_labels.cpu()
        similar = (more @ self._vectors[batch.source][seen].T).amax(dim=1) if seen.any() else torch.zeros(len(more))
        allowed = (similar < SIMILAR).nonzero().squeeze(1)
        hardest = allowed[similar[allowed].argsort(descending=True)[: self.count]]
        shares = [
            group[torch.randperm(len(group), generator=generator)[: self.count // 4]] for group in (hardest, allowed)
        ]
        return more[torch.cat(shares).unique()]

    def _with_names(self, source: str, target: Targets, classes: int, more: int) -> Targets:
        """The targets with `more` classes after the own ones."""
        unknown, new = target.unknown_labels, target.labels.new_zeros(more, dtype=torch.bool)
        if unknown is not None:
            target = replace(target, unknown_labels=torch.cat((unknown, new)))
        if self._rules[source] == AT_MATCHES:
            target = replace(target, only_at_matches=torch.cat((new.new_zeros(classes), ~new)))
        return target

    def _absent(self, batch: Batch, candidates: _Candidates) -> Tensor:
        """(K,) bool: candidates that may be taken as negatives in this batch."""
        if self._rules[batch.source] == AT_MATCHES:
            return torch.ones(len(candidates.objects), dtype=torch.bool)
        own = self._objects[batch.source]
        to_candidates = self._similarity[:, candidates.objects]
        if self._rules[batch.source] == "all":
            return to_candidates[own.unique()].amax(dim=0) < SIMILAR
        seen = torch.zeros(len(own), dtype=torch.bool)
        for target in batch.targets:
            seen[target.labels.cpu()] = True
            if target.unknown_labels is not None:
                seen |= target.unknown_labels.cpu()
        labelled_exhaustively = to_candidates[own.unique()].amax(dim=0) > SAME
        present = own[seen].unique()
        if len(present) == 0:
            return labelled_exhaustively
        return labelled_exhaustively & (to_candidates[present].amax(dim=0) < SIMILAR)


def _further_names(sources: Sequence[LoadedSource], more: Sequence[Vocabulary], encoder: TextEncoder) -> Tensor:
    """(K, D) vectors of the objects of the lists that no source names."""
    own = {name.casefold() for s in sources for name in s.vocabulary.names}
    names = {plain_prompt(v.object_name(i)) for v in more for i in range(len(v))} - own
    vectors = torch.tensor(encoder.encode(sorted(names))).float()
    return vectors[vectors.norm(dim=1) > 0]


def _object(source: LoadedSource, index: int) -> str:
    return source.vocabulary.object_name(index).casefold()
