"""How translation models of each family are told the languages; tiny random models with their families' tokenizers."""

from __future__ import annotations

import json

import pytest
import sentencepiece
import torch
import transformers

from lumigator_nb import models
from lumigator_nb.errors import InvalidInputError
from lumigator_nb.models import Conversation
from lumigator_nb.models.prompts import translating
from lumigator_nb.specs import Example, Model, Summarization, Translation, language_code

TEXTS = ["The house is small.", "We meet at nine, not at ten, my friend.", "Das Haus ist klein."] * 8
SIZES = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 2}
SIZES |= {"decoder_attention_heads": 2, "encoder_ffn_dim": 16, "decoder_ffn_dim": 16}


@pytest.fixture(scope="module")
def pieces(tmp_path_factory):
    """A sentencepiece model of our own, as these tokenizers are built on one."""
    folder = tmp_path_factory.mktemp("pieces")
    (folder / "text").write_text("\n".join(TEXTS * 4))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "text"),
        model_prefix=str(folder / "spm"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=3,
        minloglevel=2,
    )
    return folder / "spm.model"


def vocabulary(pieces, *extra):
    loaded = sentencepiece.SentencePieceProcessor(str(pieces))
    found = [loaded.id_to_piece(n) for n in range(loaded.get_piece_size())]
    words = ["<s>", "<pad>", "</s>", "<unk>", *(piece for piece in found if not piece.startswith("<")), *extra]
    return {word: n for n, word in enumerate(dict.fromkeys(words))}


def save(folder, config, tokenizer):
    torch.manual_seed(0)
    transformers.AutoModelForSeq2SeqLM.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return f"hf/{folder}"


@pytest.fixture(scope="module")
def m2m(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("m2m")
    words = vocabulary(pieces)
    (folder / "vocab.json").write_text(json.dumps(words))
    tokenizer = transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(pieces))
    config = transformers.M2M100Config(vocab_size=500, pad_token_id=1, decoder_start_token_id=2, **SIZES)
    return save(folder, config, tokenizer)


@pytest.fixture(scope="module")
def nllb(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("nllb")
    words = vocabulary(pieces)
    tokenizer = transformers.NllbTokenizer(vocab=words, merges=[])
    config = transformers.M2M100Config(vocab_size=500, pad_token_id=1, decoder_start_token_id=2, **SIZES)
    return save(folder, config, tokenizer)


@pytest.fixture(scope="module")
def mbart(tmp_path_factory, pieces):
    folder = tmp_path_factory.mktemp("mbart")
    tokenizer = transformers.MBart50Tokenizer(vocab=[(word, 0.0) for word in vocabulary(pieces)])
    config = transformers.MBartConfig(vocab_size=500, pad_token_id=1, decoder_start_token_id=2, **SIZES)
    return save(folder, config, tokenizer)


def marian(folder, pieces, *extra):
    words = vocabulary(pieces, *extra)
    for name in ("source.spm", "target.spm"):
        (folder / name).write_bytes(pieces.read_bytes())
    (folder / "vocab.json").write_text(json.dumps(words))
    tokenizer = transformers.MarianTokenizer(
        str(folder / "source.spm"), str(folder / "target.spm"), str(folder / "vocab.json")
    )
    size = len(words)
    config = transformers.MarianConfig(
        vocab_size=size, decoder_vocab_size=size, pad_token_id=1, eos_token_id=2, decoder_start_token_id=1, **SIZES
    )
    return save(folder, config, tokenizer)


def load(name, task):
    return models.load(Model(name, max_new_tokens=5, options={"device": "cpu"}), task)


def predict(model, task, text="The house is small."):
    request = Conversation(task).request(Example(0, text))
    return next(model.answer([request]))[1]


def begins_with(model):
    """The first tokens of an encoded text, and what the decoder must begin with."""
    request = Conversation(Translation("en", "de")).request(Example(0, "The house."))
    tokens = model._tokenizer.convert_ids_to_tokens(model._encode(request).ids)
    return tokens, model._tokenizer.convert_ids_to_tokens(model._settings.forced_bos_token_id)


def test_m2m100_is_told_by_tokens(m2m) -> None:
    task = Translation("English", "German")
    model = load(m2m, task)
    tokens, first = begins_with(model)
    assert (tokens[0], first) == ("__en__", "__de__")
    assert predict(model, task).error is None
    assert model.details["prompt"] == "text, __en__ to __de__ by language token"


def test_nllb_is_told_by_tokens_with_scripts(nllb) -> None:
    tokens, first = begins_with(load(nllb, Translation("Arabic", "Chinese")))
    assert first == "zho_Hans"
    assert "arb_Arab" in (tokens[0], tokens[-1])
    assert begins_with(load(nllb, Translation("en", "zh-TW")))[1] == "zho_Hant"


def test_mbart_is_told_by_tokens_with_regions(mbart) -> None:
    task = Translation("en", "de")
    model = load(mbart, task)
    tokens, first = begins_with(model)
    assert (tokens[0], first) == ("en_XX", "de_DE")
    assert predict(model, task).error is None


def test_a_language_that_the_model_does_not_know(m2m, nllb) -> None:
    with pytest.raises(InvalidInputError, match=r"does not know Klingon(.|\n)*it knows 99 languages"):
        load(m2m, Translation("en", "tlh"))


def test_marian_of_one_pair_gets_the_text_alone(tmp_path, pieces) -> None:
    task = Translation("en", "de")
    model = load(marian(tmp_path, pieces), task)
    prediction = predict(model, task)
    assert (prediction.prompt, prediction.error) == ("The house is small.", None)


@pytest.mark.parametrize(
    ("target", "token"), [("German", ">>deu<<"), ("zh-Hant", ">>cmn_Hant<<"), ("pt-BR", ">>por<<")]
)
def test_marian_of_many_languages_is_told_the_target(tmp_path, pieces, target, token) -> None:
    task = Translation("en", target)
    model = load(marian(tmp_path, pieces, ">>deu<<", ">>cmn_Hant<<", ">>por<<"), task)
    assert predict(model, task).prompt == f"{token} The house is small."
    encoded = model._encode(Conversation(task).request(Example(0, "The house.")))
    assert model._tokenizer.convert_ids_to_tokens(encoded.ids)[0] == token


@pytest.mark.parametrize(
    ("name", "source", "target", "expected"),
    [
        ("Helsinki-NLP/opus-mt", "German", "en-GB", "Helsinki-NLP/opus-mt-de-en"),
        ("Helsinki-NLP/opus-mt-en-fr", "en", "fr", "Helsinki-NLP/opus-mt-en-fr"),
        ("google-t5/t5-small", "en", "fr", "google-t5/t5-small"),
    ],
)
def test_the_generic_name_becomes_the_pairs(name, source, target, expected) -> None:
    assert translating.pair_name(name, Translation(source, target)) == expected


def test_the_generic_name_means_nothing_without_languages() -> None:
    with pytest.raises(InvalidInputError, match="one translation model per pair"):
        translating.pair_name("Helsinki-NLP/opus-mt", Summarization())
    assert translating.pair_name("google-t5/t5-small", Summarization()) == "google-t5/t5-small"


def test_a_neighbouring_language_is_not_taken_for_the_one_asked(tmp_path, pieces) -> None:
    with pytest.raises(InvalidInputError, match="does not know Bosnian"):
        load(marian(tmp_path, pieces, ">>hrv<<", ">>deu<<"), Translation("en", "bs"))


def test_t5_is_told_in_words(tmp_path, pieces) -> None:
    tokenizer = transformers.T5Tokenizer(vocab=[(word, 0.0) for word in vocabulary(pieces)], extra_ids=0)
    config = transformers.T5Config(
        vocab_size=len(tokenizer) + 8, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, decoder_start_token_id=1
    )
    task = Translation("English", "Romanian")
    model = load(save(tmp_path, config, tokenizer), task)
    assert predict(model, task).prompt == "translate English to Romanian: The house is small."


def test_a_summarizer_cannot_translate(tmp_path) -> None:
    config = transformers.BartConfig(vocab_size=300, max_position_embeddings=64, **SIZES)
    plain = transformers.PreTrainedTokenizerFast(tokenizer_object=_words(), eos_token="</s>", pad_token="<pad>")
    with pytest.raises(InvalidInputError, match="does not take languages"):
        load(save(tmp_path, config, plain), Translation("en", "de"))


def _words():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    return Tokenizer(WordLevel({"<pad>": 0, "</s>": 1, "<unk>": 2, "house": 3}, unk_token="<unk>"))


@pytest.mark.parametrize(
    ("given", "code"),
    [("German", "de"), ("de", "de"), ("deu", "de"), ("pt-br", "pt-BR"), ("zho", "zh"), ("English", "en")],
)
def test_languages_are_taken_by_code_and_by_name(given, code) -> None:
    assert language_code(given) == code


@pytest.mark.parametrize("given", ["", "xx", "zzz", "not a language"])
def test_what_is_no_language_is_refused(given) -> None:
    with pytest.raises(InvalidInputError, match="is not a language"):
        language_code(given)


def test_a_translation_needs_two_languages() -> None:
    with pytest.raises(InvalidInputError, match="source and target are both German"):
        Translation("de", "German")
