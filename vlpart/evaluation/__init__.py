"""Scoring: COCO-style average precision, with or without the federated rule. The metric itself is `hotcoco`'s."""
