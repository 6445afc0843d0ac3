"""Sentences to word pieces: BERT's uncased WordPiece, by the `tokenizers` library, on the vocabulary of the model.

A model folder carries its vocabulary as `vocab.txt`; training takes it from a file, a folder or the Hub, or makes
one of the words of the training sentences.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from tokenizers import Encoding
from tokenizers.implementations import BertWordPieceTokenizer
from torch import Tensor

from papers_shared.entries import first_line
from papers_shared.errors import UserError
from papers_shared.weights import is_weight_file
from plvl.config import ModelConfig

VOCABULARY = "vocab.txt"
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TYPED = re.compile("|".join(map(re.escape, SPECIAL)))
"""Special pieces that a person typed: words like any others, as in the authors' code, which writes them small first."""
LONGEST_TOLD, MOST_TOLD = 40, 10
"""Letters of a word, and words, that a warning repeats."""
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
MARKS = "!\"#$%&'()*+,-./:;<=>?@[]_{|}~"


class Tokenizer:
    """BERT's uncased word pieces, as `google-bert/bert-base-uncased` has them: lower case, accents stripped.

    Args:
        vocabulary: Content of a `vocab.txt`, one word piece per line.
        max_tokens: Length of every result: longer sentences are cut, shorter ones padded. Padding is part of
            the model's input, as the backbone attends to it unless `hide_text_padding` is set.

    Raises:
        UserError: The vocabulary lacks one of the special pieces.
    """

    def __init__(self, vocabulary: bytes, max_tokens: int) -> None:
        pieces = vocabulary_pieces(vocabulary)
        missing = [piece for piece in SPECIAL[:4] if piece not in pieces]
        if missing:
            raise UserError(f"the vocabulary has no {', '.join(missing)}: BERT needs it")
        self.max_tokens = max_tokens
        self.unknown = pieces["[UNK]"]
        self._tokenizer = BertWordPieceTokenizer(vocab=pieces, lowercase=True)
        self._tokenizer.enable_truncation(max_length=max_tokens)
        self._tokenizer.enable_padding(length=max_tokens, pad_id=pieces["[PAD]"])

    def __call__(self, sentences: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Word pieces (B, max_tokens) int64 with [CLS] and [SEP], and their mask (B, max_tokens), 1 where valid.

        An empty sentence is [CLS] [SEP]; what the vocabulary does not know is [UNK].
        """
        encodings = [self._encode(sentence) for sentence in sentences]
        return (
            torch.tensor([encoding.ids for encoding in encodings]),
            torch.tensor([encoding.attention_mask for encoding in encodings]),
        )

    def warnings(self, sentence: str) -> list[str]:
        """What of a sentence the model does not get to read, as clauses; usually none."""
        if not sentence.strip():
            return ["the sentence is empty, so the answer is what the model finds without one"]
        encoding = self._encode(sentence)
        warnings = []
        if encoding.overflowing:
            last = max(after for _, after in encoding.offsets)
            end = f"...{sentence[max(0, last - 24) : last]}"
            warnings.append(
                f"the sentence has more than {self.max_tokens - 2} word pieces and is cut after {end!r}"
            )
        unknown = [
            span for span, id in zip(encoding.offsets, encoding.ids, strict=True) if id == self.unknown
        ]
        if unknown:
            unread = dict.fromkeys(sentence[start:end] for start, end in unknown)
            words = sum(valid for valid in encoding.attention_mask) - 2
            which = "no word of the sentence is" if len(unknown) == words else "some words are not"
            told = [word if len(word) <= LONGEST_TOLD else f"{word[:LONGEST_TOLD]}..." for word in unread]
            listed = ", ".join(told[:MOST_TOLD]) + (", ..." if len(told) > MOST_TOLD else "")
            warnings.append(f"{which} in the vocabulary of the model: {listed}")
        return warnings

    def _encode(self, sentence: str) -> Encoding:
        return self._tokenizer.encode(TYPED.sub(lambda piece: piece[0].lower(), sentence))


def tokenizer_of(model: Any) -> Tokenizer:
    """From sentences to what `PLVL.encode_text` takes, on the vocabulary of the model's folder.

    Raises:
        UserError: The folder has none.
    """
    if VOCABULARY not in model.extra_files:
        raise UserError(
            f"the model's folder has no {VOCABULARY}: copy that of its language model there "
            "(google-bert/bert-base-uncased's for the official checkpoints)"
        )
    return Tokenizer(model.extra_files[VOCABULARY], model.config.max_tokens)


def vocabulary_pieces(vocabulary: bytes) -> dict[str, int]:
    """Word piece -> id, its line from 0.

    Raises:
        UserError: Not text in UTF-8, or a piece stands twice.
    """
    try:
        lines = vocabulary.decode("utf-8-sig").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"the vocabulary is not text in UTF-8 ({error})") from error
    pieces = {line.rstrip("\r"): index for index, line in enumerate(lines)}
    if len(pieces) != len(lines):
        twice = next(piece for piece, number in Counter(map(str.rstrip, lines)).items() if number > 1)
        raise UserError(f"the vocabulary has {twice!r} on two lines")
    return pieces


def read_vocabulary(source: str | Path) -> bytes:
    """The `vocab.txt` of a file, of a transformers or model folder, or of a Hub repository (needs a network).

    Where there is only a `tokenizer.json`, its vocabulary is written as one.

    Raises:
        UserError: There is none.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        found = next(
            (path / name for name in (VOCABULARY, "tokenizer.json") if (path / name).is_file()), None
        )
        if found is None:
            raise UserError(f"{path} has no {VOCABULARY}: copy the vocabulary of its language model there")
        path = found
    elif not path.is_file():
        path = _from_hub(str(source))
    content = path.read_bytes()
    return _of_tokenizer_json(content, path) if path.suffix == ".json" else content


def make_vocabulary(sentences: Iterable[str], size: int) -> bytes:
    """A vocabulary of at most `size` pieces: single characters, which spell any ASCII word, then the commonest
    words.

    Raises:
        UserError: `size` has no room for the characters.
    """
    pieces = [*SPECIAL, *CHARACTERS, *(f"##{letter}" for letter in CHARACTERS), *MARKS]
    if size < len(pieces):
        raise UserError(f"a vocabulary of {size} pieces is too small: {len(pieces)} or more are needed")
    counts = Counter(word for text in sentences for word in re.findall(r"[a-z0-9]{2,}", text.lower()))
    words = sorted(counts, key=lambda word: (-counts[word], word))
    return ("\n".join([*pieces, *words][:size]) + "\n").encode()


def vocabulary_for(config: ModelConfig, sentences: Iterable[str]) -> bytes:
    """The vocabulary that training with `config` uses: the one that is named, else that of its start weights,
    else one of `sentences`.

    Raises:
        UserError: There is no such vocabulary, or it has more pieces than `config.vocab_size`.
    """
    source = config.vocabulary or config.pretrained or config.text_pretrained
    if not config.vocabulary and (is_weight_file(source) or "://" in source):
        raise UserError(
            f"{source} is a checkpoint and has no word pieces: name them with --model.vocabulary, the authors use "
            "those of google-bert/bert-base-uncased"
        )
    content = read_vocabulary(source) if source else make_vocabulary(sentences, config.vocab_size)
    check_size(content, config, source)
    return content


def check_size(vocabulary: bytes, config: ModelConfig, source: str | Path) -> None:
    """Refuse a vocabulary with more pieces than the language model has embeddings for."""
    pieces = len(vocabulary_pieces(vocabulary))
    if pieces > config.vocab_size:
        raise UserError(f"{source} has {pieces} word pieces, and --model.vocab-size is {config.vocab_size}")


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HFValidationError

    try:
        try:
            return Path(hf_hub_download(name, VOCABULARY))
        except EntryNotFoundError:
            return Path(hf_hub_download(name, "tokenizer.json"))
    except (OSError, HFValidationError) as problem:
        raise UserError(
            f"{name!r} is neither a {VOCABULARY} nor a local folder, nor available on the Hugging Face Hub "
            f"({first_line(problem)})"
        ) from problem


def _of_tokenizer_json(content: bytes, path: Path) -> bytes:
    try:
        model = json.loads(content)["model"]
        pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
        if model.get("type", "WordPiece") != "WordPiece" or sorted(model["vocab"].values()) != [
            *range(len(pieces))
        ]:
            raise ValueError("no word pieces")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path} holds no WordPiece vocabulary; give a {VOCABULARY}") from error
    return ("\n".join(pieces) + "\n").encode()
