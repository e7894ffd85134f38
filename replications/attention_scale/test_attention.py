import math

import numpy as np
import pytest
import torch

from paperkit.models.tiny_gpt import TinyGPT
from replications.attention_scale import attention
from replications.attention_scale.attention import (
    CosineBlock,
    ScaledBlock,
    gradient_mass,
    parameter_groups,
    rotated,
    score_statistics,
    with_blocks,
)
from replications.attention_scale.scale import row_statistics

TOKENS = torch.randint(11, (3, 16), generator=torch.Generator().manual_seed(0))


def small(**arguments):
    torch.manual_seed(0)
    model = TinyGPT(vocabulary=11, width=16, layers=2, heads=2, context=16)
    return with_blocks(model, **{"kind": ScaledBlock, "scale": 1.0, **arguments}) if arguments else model


def test_the_gradient_is_what_numpy_gives_and_is_differentiable():
    scores = torch.randn(5, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1), requires_grad=True)
    expected = row_statistics(scores.detach().numpy(), 2.5)["mass"]
    np.testing.assert_allclose(gradient_mass(scores, 2.5).detach().numpy(), expected, rtol=1e-13)
    assert torch.autograd.gradcheck(lambda s: gradient_mass(s, 2.5), scores)


def test_nothing_cancels_or_overflows_where_one_weight_is_nearly_one():
    assert gradient_mass(torch.tensor([0.0, -40.0], dtype=torch.float64), 1.0).item() == pytest.approx(
        2 * math.exp(-40)
    )
    assert gradient_mass(torch.tensor([1e4, -1e4, 1e4]), 1.0).item() == pytest.approx(0.5)
    assert gradient_mass(torch.tensor([0.3, -math.inf, 0.3]), 7.0).item() == pytest.approx(3.5)
    assert gradient_mass(torch.tensor([0.0, math.nan]), 1.0).isnan()


@pytest.mark.parametrize(
    ("scores", "scale", "told"),
    [
        (torch.zeros(1), 1.0, "at least 2"),
        (torch.tensor(0.0), 1.0, "at least 2"),
        (torch.zeros(3, dtype=torch.float16), 1.0, "float16"),
        (torch.zeros(3), 0.0, "scale is 0.0"),
        (torch.zeros(3), math.inf, "scale is inf"),
        (torch.zeros(3), math.nan, "scale is nan"),
    ],
)
def test_bad_input_is_refused_by_name(scores, scale, told):
    with pytest.raises(ValueError, match=told):
        gradient_mass(scores, scale)


def test_without_rotation_scale_one_is_the_plain_model_and_another_scale_is_not(monkeypatch):
    monkeypatch.setattr(attention, "rotated", lambda x: x)
    plain = small()(TOKENS)
    torch.testing.assert_close(small(scale=1.0)(TOKENS), plain)
    assert (small(scale=2.0)(TOKENS) - plain).abs().max() > 1e-2


def test_rotation_keeps_norms_and_lets_scores_depend_on_the_distance_alone():
    x = torch.randn(1, 1, 1, 8, generator=torch.Generator().manual_seed(0), dtype=torch.float64).expand(1, 1, 6, 8)
    turned = rotated(x)
    torch.testing.assert_close(turned.norm(dim=-1), x.norm(dim=-1))
    scores = (turned @ turned.transpose(-1, -2))[0, 0]
    torch.testing.assert_close(scores[1:, 1:], scores[:-1, :-1])
    assert (scores[0] - scores[0, 0]).abs().max() > 0.1


def test_a_model_does_not_look_ahead():
    changed = TOKENS.clone()
    changed[:, 9:] = 0
    for kind in (ScaledBlock, CosineBlock):
        model = small(kind=kind, scale=3.0)
        torch.testing.assert_close(model(changed)[:, :9], model(TOKENS)[:, :9])


def test_cosine_scores_ignore_the_size_of_queries():
    model = small(kind=CosineBlock, scale=3.0)
    before = model(TOKENS)
    with torch.no_grad():
        for block in model.blocks:
            block.query.weight.mul_(5)
    torch.testing.assert_close(model(TOKENS), before)


def test_every_parameter_is_in_one_group_and_query_maps_have_their_own_rate():
    model = small(scale=1.0)
    others, query = parameter_groups(model, 0.1, 2.5)
    assert (others["lr"], query["lr"]) == (0.1, 0.25)
    assert len(query["params"]) == 4
    assert {*map(id, others["params"]), *map(id, query["params"])} == {*map(id, model.parameters())}


def test_scores_are_as_wide_as_the_scale_says_before_training():
    torch.manual_seed(0)
    model = TinyGPT(vocabulary=50, width=64, layers=1, heads=2, context=64)
    tokens = torch.randint(50, (16, 64))
    width, mass = score_statistics(with_blocks(model, ScaledBlock, scale=2.0), tokens)
    assert width == pytest.approx(2.0, rel=0.25)
    assert 0 < mass < width
