"""The U-Net predicts noise from flat images, uses the time, and refuses sizes that cannot be halved twice."""

import pytest
import torch

from replications.wasserstein_bound.score_unet import ScoreUNet


def network():
    torch.manual_seed(0)
    return ScoreUNet(side=8, channels=4)


def test_images_of_a_batch_are_treated_on_their_own_and_the_time_matters():
    x = torch.randn(4, 65, generator=torch.Generator().manual_seed(0))
    unet = network()
    torch.testing.assert_close(unet(x)[1:2], unet(x[1:2]))
    later = x.clone()
    later[:, -1] += 1
    assert (unet(later) - unet(x)).abs().max() > 1e-3


def test_every_pixel_can_depend_on_every_pixel():
    unet, x = network(), torch.zeros(1, 65, requires_grad=True)
    unet(x)[0, 0].backward()
    assert x.grad is not None
    assert (x.grad[0] != 0).all()


@pytest.mark.parametrize(("sizes", "told"), [({"side": 6}, "side is 6"), ({"channels": 0}, "channels is 0")])
def test_sizes_that_do_not_fit_are_refused(sizes, told):
    with pytest.raises(ValueError, match=told):
        ScoreUNet(**{"side": 8, "channels": 4, **sizes})
