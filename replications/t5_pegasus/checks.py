"""The derivation as checks that run: pseudo-summaries, the loss, T5's parameters, copying, and what needs no source.

Letters as in `pseudo_summary` and `copy_head`. Documents, texts and logits are drawn from fixed seeds, in float64;
what the library does is compared with the textbook's algorithm, or with the formula of the derivation.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
import torch
from rapidfuzz.distance import LCSseq
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot
from transformers import MT5Config, MT5ForConditionalGeneration

from paperkit.checks import Check, Checks, by_name
from replications.t5_pegasus.copy_head import copy_label_log_probabilities, copy_log_probabilities, untie
from replications.t5_pegasus.metrics import DISCOUNT, CharacterTrigram, nats_per_character
from replications.t5_pegasus.pseudo_summary import pseudo_summary, pseudo_summary_as_written, segments
from replications.t5_pegasus.spans import span_corruption
from replications.t5_pegasus.tokenizer import WordTokenizer, vocabulary

__all__ = ["CHECKS", "SHAPES", "initial_loss", "parameters"]

RATIO = 0.25
SHAPES = {
    "base": {"V": 50_000, "d": 768, "heads": 12, "f": 2048, "L": 12},
    "small": {"V": 50_000, "d": 512, "heads": 6, "f": 1024, "L": 8},
}
PUBLISHED = {"base": 2.75, "small": 0.95}  # in hundreds of millions, 亿
TEXT = "点击“打开文件”按钮，选择需要编辑的 pdf2 文件。系统会自动保存文件，更新后请重新启动系统。"


def _text(generator: np.random.Generator, size: int, alphabet: str = "甲乙丙丁戊己") -> str:
    return "".join(generator.choice(list(alphabet), size))


def _documents(seed: int, most: int = 12) -> list[list[str]]:
    """Draw 40 documents of three segments or more, each of one to nine characters."""
    drawn = np.random.default_rng(seed)
    return [[_text(drawn, drawn.integers(1, 10)) for _ in range(drawn.integers(3, most + 1))] for _ in range(40)]


def _sides(pieces: Sequence[str], moved: Sequence[int]) -> tuple[str, str]:
    source, target = ("".join(one for i, one in enumerate(pieces) if (i in moved) == side) for side in (False, True))
    return source, target


def _order(pieces: Sequence[str]) -> list[int]:
    """List all moves but the last in their order: what k segments add to k - 1."""
    n = len(pieces)
    picked = [set(), *(set(pseudo_summary_as_written(pieces, k / n).picked) for k in range(1, n))]
    return [(more - fewer).pop() for fewer, more in pairwise(picked)]


def _lcs(a: str, b: str) -> int:
    row = [0] * (len(b) + 1)
    for x in a:
        above, row = row, [0]
        for j, y in enumerate(b):
            row.append(above[j] + 1 if x == y else max(above[j + 1], row[j]))
    return row[-1]


def _drawn(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def _largest(*deviations: Tensor) -> float:
    return max(float(deviation.abs().max()) for deviation in deviations)


def step_1_segments() -> Check:
    """Share of texts that segments do not give back, white space apart. Control: a split that drops full stops."""
    drawn, wrong = np.random.default_rng(10), []
    for size in range(1, 81):
        text, most = _text(drawn, size, "甲乙丙丁。\n "), int(drawn.integers(1, 20))
        ways = "".join(segments(text, most)), text.replace("。", "\n")
        wrong.append(["".join(way.split()) != "".join(text.split()) for way in ways])
    return Check(*np.mean(wrong, 0).tolist())


def _by_hand(pieces: list[str], *, alone: bool) -> tuple[str, ...]:
    left, moved = list(range(len(pieces))), []
    while True:
        values = [_lcs(*_sides(pieces, [i] if alone else [*moved, i])) for i in left]
        moved.append(left.pop(int(np.argmax(values))))
        pair = _sides(pieces, moved)
        if len(left) == 1 or len(pair[1]) / len(pair[0]) > RATIO:
            return pair if len(pair[0]) >= len(pair[1]) else pair[::-1]


def step_2_greedy() -> Check:
    """Share of documents whose two sides are not those by the textbook's LCS. Control: each segment scored alone."""
    documents = _documents(20)
    wrong = [[pseudo_summary(d)[:2] != _by_hand(d, alone=alone) for alone in (False, True)] for d in documents]
    return Check(*np.mean(wrong, 0).tolist())


def step_2_not_the_best() -> Check:
    """By what share greedy passes the best LCS of one or two segments, or misses that of one. Control: of two."""
    gaps: dict[int, list[float]] = {1: [], 2: []}
    for pieces in _documents(22, 7):
        for k, missed in gaps.items():
            best = max(LCSseq.similarity(*_sides(pieces, some)) for some in combinations(range(len(pieces)), k))
            missed.append(1 - LCSseq.similarity(*_sides(pieces, _order(pieces)[:k])) / max(best, 1))
    return Check(max(*map(abs, gaps[1]), -min(gaps[2])), max(gaps[2]))


def step_3_stop() -> Check:
    """By how much the target's share leaves 1/5 to 1/5 + the last segment's. Control: the post's n/4 segments."""
    fifth, beyond = RATIO / (1 + RATIO), []
    for way in (pseudo_summary, pseudo_summary_as_written):
        beyond.append([0.0])
        for pieces in _documents(30):
            moved = _order(pieces)[: len(way(pieces).picked)]
            share, last = (len(_sides(pieces, some)[1]) / len("".join(pieces)) for some in (moved, moved[-1:]))
            beyond[-1] += [share - fifth - last, (fifth - share) * (len(moved) < len(pieces) - 1)]
    at_the_bound = [len(pseudo_summary(["甲乙丙丁"] * n).picked) / n - fifth - 1 / n for n in (5, 10, 20)]
    return Check(max(*beyond[0], *map(abs, at_the_bound)), max(beyond[1]))


def step_3_equal_segments() -> Check:
    """Of n equal segments the least number above nr / (1 + r) is moved, r = 1/4, 1/3. Control: n / 4, rounded."""
    drawn, errors, quarters = np.random.default_rng(32), [], []
    for n in range(3, 41):
        pieces = [_text(drawn, 4) for _ in range(n)]
        moved = {parts: len(pseudo_summary(pieces, 1 / parts).picked) for parts in (4, 3)}
        errors += [abs(k - n // (parts + 1) - 1) for parts, k in moved.items()]
        quarters.append(abs(moved[4] - len(pseudo_summary_as_written(pieces).picked)))
    return Check(float(max(errors)), float(max(quarters)))


def step_4_lcs() -> Check:
    """The bit-parallel LCS is the textbook's, symmetric, at most ROUGE-1's overlap. Control: it is this overlap."""
    drawn, errors, controls = np.random.default_rng(40), [], []
    for _ in range(100):
        a, b = (_text(drawn, drawn.integers(1, 40)) for _ in range(2))
        part, exact, overlap = a[::2], _lcs(a, b), (Counter(a) & Counter(b)).total()
        found = LCSseq.similarity(a, b), LCSseq.similarity(b, a), LCSseq.similarity(a, part) + exact - len(part)
        errors += [*(abs(value - exact) for value in found), exact - overlap, overlap - min(len(a), len(b))]
        controls.append(overlap - exact)
    return Check(float(max(errors)), float(max(controls)))


def step_5_word_mode() -> Check:
    """By what share of a text's tokens words pass characters. Control: by what share characters pass words."""
    texts = [TEXT[i:j] for i, j in combinations(range(0, len(TEXT), 3), 2)]
    by_word, by_character = (WordTokenizer(vocabulary([TEXT], n, min_count=1)) for n in (20, 0))
    sizes = [[len(tokenizer.tokenize(text)) for tokenizer in (by_word, by_character)] for text in texts]
    return Check(max(0.0, *(w / c - 1 for w, c in sizes)), max(c / w - 1 for w, c in sizes))


def step_6_span_corruption() -> Check:
    """Share of sequences of other lengths, or that spans in place of sentinels do not give back. Control: no spans."""
    drawn, wrong = np.random.default_rng(60), []
    for n in range(2, 160):
        ids, sentinels = list(range(100, 100 + n)), list(range(1, 25))
        source, target = span_corruption(ids, sentinels, drawn)
        noise = min(max(round(0.15 * n), 1), n - 1)
        spans, restored = min(max(round(noise / 3), 1), n - noise), []
        for token in source:
            span = slice(target.index(token) + 1, target.index(token + 1)) if token in sentinels else slice(0)
            restored += target[span] if token in sentinels else [token]
        lengths = [len(source), len(target)] != [n - noise + spans, noise + spans + 1]
        wrong.append([lengths or restored != ids, [token for token in source if token not in sentinels] != ids])
    return Check(*np.mean(wrong, 0).tolist())


def step_7_nats() -> Check:
    """The original's masked mean, times tokens over characters and ends, is nats a character. Control: the mean."""
    texts, num_tokens = ["打开文件", "保存", "网络连接失败了"], [3, 2, 5]  # words and an end
    y = torch.zeros(3, 6, dtype=torch.long)  # [CLS], tokens, [SEP], padding
    for row, n in zip(y, num_tokens, strict=True):
        row[: n + 1] = torch.arange(2, n + 3)
    each = cross_entropy(_drawn(70, 3, 6, 9)[:, :-1].mT, y[:, 1:], reduction="none")
    mask = (y[:, 1:] != 0).double()
    mean, exact = float((each * mask).sum() / mask.sum()), nats_per_character((each * mask).sum(1).numpy(), texts)
    return Check(abs(mean * sum(num_tokens) / sum(len(text) + 1 for text in texts) - exact), abs(mean - exact))


def parameters(V: int, d: int, heads: int, f: int, L: int, *, tied: bool = False) -> int:
    """Count the parameters of a T5.1.1 with heads of width 64, by the formula."""
    h = 64 * heads
    return (1 if tied else 2) * V * d + L * (12 * d * h + 6 * d * f + 5 * d) + 2 * d + 64 * heads


def _model(V: int, d: int, heads: int, f: int, L: int, *, untied: bool = True) -> MT5ForConditionalGeneration:
    shape = {"vocab_size": V, "d_model": d, "d_kv": 64, "num_heads": heads, "d_ff": f, "num_layers": L}
    torch.manual_seed(0)
    model = MT5ForConditionalGeneration(MT5Config(**shape, pad_token_id=0, decoder_start_token_id=2, eos_token_id=3))
    if untied:
        untie(model)
    return model.eval()


def step_8_parameters() -> Check:
    """The formula counts as transformers does, and rounds to the published numbers. Control: the head is tied."""
    errors: dict[bool, list[float]] = {False: [], True: []}
    for name, shape in SHAPES.items():
        with torch.device("meta"):  # without memory for weights
            counted = sum(weight.numel() for weight in _model(**shape).parameters())
        for tied, found in errors.items():
            formula = parameters(**shape, tied=tied)
            found += [abs(formula / counted - 1), abs(round(formula / 1e8, 2) - PUBLISHED[name])]
    return Check(max(errors[False]), min(errors[True]))


def initial_loss(V: int, d: int, *, untied: bool) -> tuple[float, float]:
    """Return a new model's loss, averaged over all V targets, and ln V + var/2 of its logits."""
    model = _model(V, d, 2, 2 * d, 1, untied=untied)
    source, target = torch.arange(8, 40).view(2, 16), torch.arange(40, 56).view(2, 8)
    with torch.no_grad():
        z = model(input_ids=source, decoder_input_ids=target).logits.double()
    loss = z.logsumexp(-1) - z.mean(-1)
    return float(loss.mean()), float(np.log(V) + z.var(-1, correction=0).mean() / 2)


def step_9_initial_loss() -> Check:
    """A new head of its own begins at ln V + var/2, half a nat above ln V. Control: transformers' default, tied."""
    (found, form), near = initial_loss(4000, 64, untied=True), float(np.log(4000) + 0.5)
    return Check(max(abs(found - form), abs(found - near)), abs(initial_loss(4000, 64, untied=False)[0] - near))


def _mixture() -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Draw logits, scores, gate, and sources in which a token stands twice and padding (0) last."""
    source = torch.tensor([[3, 4, 4, 5, 0], [6, 5, 3, 6, 0]])
    return _drawn(100, 2, 3, 9), _drawn(101, 2, 3, 5), _drawn(102, 2, 3), source, source != 0


def step_10_mixture() -> Check:
    """The mixture sums to 1, and is the plain softmax where lambda is 1. Control: attention is paid to padding too."""
    logits, scores, gate, source, copyable = _mixture()
    sums = copy_log_probabilities(logits, scores, gate, source, copyable).exp().sum(-1)
    opened = copy_log_probabilities(logits, scores, torch.full_like(gate, 1e3), source, copyable)
    leaking = gate.sigmoid() + (-gate).sigmoid() * scores.softmax(-1)[..., :-1].sum(-1)
    return Check(_largest(sums - 1, opened - logits.log_softmax(-1)), _largest(leaking - 1))


def step_10_gradients() -> Check:
    """Gradients of -log p(label) are posteriors times those of both branches. Control: lambda for the posterior."""
    logits, scores, gate, source, copyable = _mixture()
    labels = torch.tensor([[3, 4, 7], [6, 8, 5]])
    leaves = [value.requires_grad_() for value in (logits, scores, gate)]
    log_p = copy_label_log_probabilities(logits, scores, gate, source, copyable, labels)
    found = torch.autograd.grad(-log_p.sum(), leaves)
    p, lam = logits.detach().softmax(-1), gate.detach().sigmoid()
    a = scores.detach().masked_fill(~copyable[:, None], -torch.inf).softmax(-1)
    hot, hit = one_hot(labels, 9), (source[:, None] == labels[..., None]).double()
    c = (a * hit).sum(-1, keepdim=True)
    posterior = lam * (p * hot).sum(-1) / log_p.detach().exp()

    def error(r: Tensor) -> float:
        forms = r[..., None] * (p - hot), (1 - r)[..., None] * a * (1 - hit / c.where(c > 0, 1)), lam - r
        return _largest(*(g - form for g, form in zip(found, forms, strict=True)))

    return Check(error(posterior), error(lam))


def step_10_second_softmax() -> Check:
    """By what share the port's copying leaves its bounds, or misses the upper one. Control: the correct copying."""
    size, errors, controls = 50_000, [], []
    for scale in (0.0, 1.0, 3.0, 100.0):  # up to all attention on one token
        attention = (scale * _drawn(103, 40)).softmax(-1)
        spread = torch.zeros(size, dtype=torch.float64).scatter_add(0, torch.arange(40), attention)
        *ends, right = ((p * (size - 1 + np.e)) for p in (*spread.softmax(-1).aminmax(), spread.max()))
        errors += [1 - float(ends[0]), float(ends[1]) / np.e - 1]
        controls.append(float(right) / np.e - 1)
    return Check(max(*errors, abs(errors[-1])), min(controls))


def _kneser_ney(texts: Sequence[str], z: str, context: str, symbols: int, *, raw: bool) -> float:
    """Return p(z | context) by the definition; `raw` counts how often pairs and single symbols occur."""
    ends = [f"^^{text}$" for text in texts]
    three = Counter(text[i : i + 3] for text in ends for i in range(len(text) - 2))
    two = Counter(gram[1:] for gram in (three.elements() if raw else three))
    one = Counter(gram[1:] for gram in (two.elements() if raw else two))
    p = 1 / symbols
    for counts, before in ((one, ""), (two, context[-1]), (three, context)):
        following = {gram[-1]: n for gram, n in counts.items() if gram[:-1] == before}
        freed = DISCOUNT * len(following) * p
        p = (max(following.get(z, 0) - DISCOUNT, 0) + freed) / sum(following.values()) if following else p
    return p


def step_11_trigram() -> Check:
    """The trigram sums to 1 with unknown and end, and is Kneser and Ney's. Control: lower orders by how often."""
    texts, alphabet = ["天气好", "天空天气", "气候好天气", "空气"], "天气空好候雨"
    trigram, errors = CharacterTrigram(texts, alphabet), []
    for prefix in ("", "天", "空气", "天空天气", "雨雨"):
        p = [trigram.probabilities([prefix + z])[len(prefix)] for z in (*alphabet, "?", "")]
        for raw in (False, True):
            own = [_kneser_ney(texts, z, f"^^{prefix}"[-2:], len(p), raw=raw) for z in (*alphabet, "?", "$")]
            errors.append(max(abs(sum(p) - 1), np.abs(np.subtract(p, own)).max()))
    return Check(float(max(errors[::2])), float(max(errors[1::2])))


def step_11_source() -> Check:
    """Without a source I + H(y|x) is the least loss; exchanging costs I + KL(p(x)p(y), p(x, y)). Control: I, and 0."""
    joint = (1.5 * _drawn(110, 35)).softmax(0).view(5, 7)
    p_x, p_y = joint.sum(1, keepdim=True), joint.sum(0, keepdim=True)
    log_p, independent = (joint / p_x).log(), p_x * p_y
    information, lautum = ((p * (p / q).log()).sum() for p, q in ((joint, independent), (independent, joint)))
    least, exchanged = information - (joint * log_p).sum(), ((joint - independent) * log_p).sum()
    models = -(p_y * _drawn(111, 1000, 7).log_softmax(-1)).sum(-1)
    errors = _largest(least + (p_y * p_y.log()).sum(), exchanged - information - lautum)
    return Check(max(errors, float((least - models).max())), float(min(information, lautum)))


def step_12_beam_of_one() -> Check:
    """Share of tokens in which a search with one beam is not greedy. Control: decoding starts with padding (T5's)."""
    model, source, found = _model(50, 32, 1, 64, 1).double(), torch.arange(8, 38).view(5, 6), {}
    for start in (2, 0):
        found[start] = torch.full((5, 1), start)
        for _ in range(12):
            logits = model(input_ids=source, decoder_input_ids=found[start]).logits[:, -1]
            found[start] = torch.cat([found[start], logits.argmax(-1, keepdim=True)], 1)
    options = {"attention_mask": torch.ones_like(source), "num_beams": 1, "do_sample": False, "max_new_tokens": 12}
    wrong = [(made != model.generate(source, **options))[:, 1:].double() for made in found.values()]
    to_the_end = ((found[2] == 3).cumsum(1) - (found[2] == 3).long() == 0)[:, 1:]
    return Check(*(float(some[to_the_end].mean()) for some in wrong))


CHECKS: Checks = by_name(
    step_1_segments, step_2_greedy, step_2_not_the_best, step_3_stop, step_3_equal_segments, step_4_lcs,
    step_5_word_mode, step_6_span_corruption, step_7_nats, step_8_parameters, step_9_initial_loss, step_10_mixture,
    step_10_gradients, step_10_second_softmax, step_11_trigram, step_11_source, step_12_beam_of_one,
)  # fmt: skip
