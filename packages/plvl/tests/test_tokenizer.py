"""Word pieces: transformers as the judge, odd sentences, and where a vocabulary comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from papers_shared.errors import UserError
from plvl.config import ModelConfig
from plvl.tokenizer import (
    SPECIAL,
    Tokenizer,
    make_vocabulary,
    read_vocabulary,
    vocabulary_for,
    vocabulary_pieces,
)

WORDS = ["the man in the blue shirt", "a red circle left of it", "the man's second café"]
VOCABULARY = make_vocabulary(WORDS, 400)


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(VOCABULARY, 12)


@pytest.mark.parametrize(
    "sentence", ["The MAN, in the blue shirt!", "café", "zebra-crossing 42", "", "man 漢字 😀", "a\tb\nc  d"]
)
def test_word_pieces_are_those_of_transformers(tokenizer: Tokenizer, tmp_path: Path, sentence: str) -> None:
    from transformers import BertTokenizer

    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    theirs = BertTokenizer.from_pretrained(str(tmp_path), do_lower_case=True)(
        sentence, max_length=12, truncation=True, padding="max_length"
    )
    ids, mask = tokenizer([sentence])
    assert ids[0].tolist() == theirs["input_ids"]
    assert mask[0].tolist() == theirs["attention_mask"]


def test_every_row_has_the_models_length(tokenizer: Tokenizer) -> None:
    ids, mask = tokenizer(["man", "", "the man in the blue shirt " * 40])
    assert ids.shape == mask.shape == (3, 12)
    assert ids.dtype == torch.int64
    assert mask.sum(1).tolist() == [3, 2, 12]
    pieces = vocabulary_pieces(VOCABULARY)
    assert ids[2, -1] == pieces["[SEP]"], "a cut sentence still ends"
    assert ids[1].tolist() == [pieces["[CLS]"], pieces["[SEP]"], *[pieces["[PAD]"]] * 10]


def test_usual_sentences_need_no_remark(tokenizer: Tokenizer) -> None:
    assert tokenizer.warnings("The man in a blue shirt, left.") == []


def test_what_is_not_read_is_said(tokenizer: Tokenizer) -> None:
    assert "is empty" in tokenizer.warnings("  \n")[0]
    (cut,) = tokenizer.warnings(" ".join(["man"] * 9 + ["blue"] + ["shirt"] * 190))
    assert "more than 10 word pieces" in cut
    assert cut.endswith("man blue'")
    (some,) = tokenizer.warnings("the 猫 man")
    assert some == "some words are not in the vocabulary of the model: 猫"
    (nothing,) = tokenizer.warnings("кот 😀")
    assert nothing == "no word of the sentence is in the vocabulary of the model: кот, 😀"


@pytest.mark.parametrize("piece", SPECIAL)
def test_a_typed_special_piece_is_text(piece: str) -> None:
    tokenizer = Tokenizer(make_vocabulary(["man"], 200), 12)
    for typed in (f"{piece} man", f"man {piece}{piece}"):
        ids, mask = tokenizer([typed, typed.lower()])
        assert ids[0].tolist() == ids[1].tolist()
        assert mask[0].tolist() == mask[1].tolist()


def test_a_warning_repeats_no_endless_word() -> None:
    (told,) = Tokenizer(make_vocabulary(["man"], 200), 12).warnings("man " + "кот" * 10_000)
    assert told.endswith(f"{'кот' * 13}к...")


def test_a_byte_order_mark_is_no_part_of_the_first_piece() -> None:
    assert vocabulary_pieces(b"\xef\xbb\xbf" + VOCABULARY) == vocabulary_pieces(VOCABULARY)


def test_a_made_vocabulary_spells_any_word_and_keeps_the_commonest() -> None:
    small = Tokenizer(make_vocabulary(["blue blue red"], len(vocabulary_pieces(VOCABULARY)) - 12), 12)
    assert small.warnings("zebra #5") == []
    pieces = vocabulary_pieces(make_vocabulary(["blue blue red"], 5 + 2 * 36 + 29 + 1))
    assert "blue" in pieces
    assert "red" not in pieces
    with pytest.raises(UserError, match="a vocabulary of 50 pieces is too small: 106 or more"):
        make_vocabulary(WORDS, 50)


def test_vocabulary_of_a_file_a_folder_or_a_tokenizer_json(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "vocab.txt").write_bytes(VOCABULARY)
    assert read_vocabulary(tmp_path / "one") == read_vocabulary(tmp_path / "one/vocab.txt") == VOCABULARY
    (tmp_path / "two").mkdir()
    tokens = json.dumps({"model": {"type": "WordPiece", "vocab": vocabulary_pieces(VOCABULARY)}})
    (tmp_path / "two" / "tokenizer.json").write_text(tokens)
    assert read_vocabulary(tmp_path / "two") == VOCABULARY
    (tmp_path / "two" / "tokenizer.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}}}')
    with pytest.raises(UserError, match="holds no WordPiece vocabulary"):
        read_vocabulary(tmp_path / "two")
    (tmp_path / "three").mkdir()
    with pytest.raises(UserError, match=r"three has no vocab\.txt"):
        read_vocabulary(tmp_path / "three")


def test_a_hub_name_without_a_network_ends_in_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub

    def unreachable(*_: object, **__: object) -> str:
        raise OSError("no route")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", unreachable)
    with pytest.raises(UserError, match=r"'google-bert/bert-base-uncased' is neither a vocab\.txt.*no route"):
        read_vocabulary("google-bert/bert-base-uncased")


def test_training_takes_the_named_vocabulary_or_makes_one(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_bytes(VOCABULARY)
    named = ModelConfig(vocabulary=str(tmp_path / "vocab.txt"), text_pretrained="elsewhere")
    assert vocabulary_for(named, []) == VOCABULARY
    assert vocabulary_for(ModelConfig(text_pretrained=str(tmp_path)), []) == VOCABULARY
    assert vocabulary_for(ModelConfig(vocab_size=400), WORDS) == VOCABULARY
    with pytest.raises(UserError, match=r"word pieces, and --model\.vocab-size is 20"):
        vocabulary_for(ModelConfig(vocabulary=str(tmp_path), vocab_size=20), [])


def test_damaged_vocabularies_are_refused() -> None:
    with pytest.raises(UserError, match=r"has no \[CLS\], \[SEP\]"):
        Tokenizer(b"[PAD]\n[UNK]\nman\n", 8)
    with pytest.raises(UserError, match="'man' on two lines"):
        Tokenizer(b"[PAD]\nman\nman\n", 8)
    with pytest.raises(UserError, match="not text in UTF-8"):
        Tokenizer(b"\xff\xfe", 8)
