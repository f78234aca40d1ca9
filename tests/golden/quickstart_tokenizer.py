"""Makes configs/quickstart/tokenizer.json: a byte-level BPE of the GPT-NeoX construction for the quickstart's words.

    pip install tokenizers==0.23.3
    python tests/golden/quickstart_tokenizer.py configs/quickstart/tokenizer.json
"""

import itertools
import sys

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

PLACES = ["top left", "top center", "top right", "middle left", "center", "middle right", "bottom left",
          "bottom center", "bottom right"]
LINES = ["top row", "middle row", "bottom row", "left column", "center column", "right column"]
CELLS = ["nothing", *"0123456789"]


def sentences():
    for place in PLACES:
        yield f"USER: what is in the {place}? ASSISTANT: {place}"
    for digit in "0123456789":
        yield f"USER: where is the {digit}? ASSISTANT: yes"
        yield f"USER: is there a {digit}? ASSISTANT: no"
        yield f"USER: what is left of the {digit}? ASSISTANT: nothing"
        yield f"USER: what is above the {digit}? ASSISTANT: nothing"
    for line in LINES:
        yield f"USER: read the {line} ASSISTANT: how many digits are there?"
    yield from ["what is", "where is", "is there", "how many", "read the picture"] * 20
    for cells in itertools.product(CELLS, repeat=3):
        yield " ".join(cells)


def main(path):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    trainer = trainers.BpeTrainer(
        vocab_size=384, min_frequency=2, show_progress=False,
        special_tokens=[AddedToken("<|endoftext|>", special=True), AddedToken("<|padding|>", special=True)],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()))
    tokenizer.train_from_iterator(sentences(), trainer)
    # One word for each cell and what it holds: " A3" is a 3 in the first cell, " I." nothing in the last.
    tokenizer.add_tokens([AddedToken(f" {name}{cell}", normalized=True) for name in "ABCDEFGHI" for cell in ".0123456789"])
    tokenizer.save(path)
    print(f"{path}: {tokenizer.get_vocab_size()} ids")


if __name__ == "__main__":
    main(sys.argv[1])
