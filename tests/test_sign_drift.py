"""The figure with sliders on Lion's page: its formula is that of noise.py, and a keyboard moves it."""

import numpy as np

from replications.lion.noise import adamw_drift, lion_drift
from tests.built_book import BOOK, needs_browser

pytestmark = needs_browser
MEANS = [-2.0, -0.3, -0.01, 0.0, 0.05, 0.7, 3.0]


def opened(browser):
    page = browser.new_page()
    page.set_content('<div class="sign-drift">What stands without scripts.</div>')
    page.add_script_tag(path=BOOK / "_static/sign_drift.js")
    return page


def test_the_curves_are_the_closed_forms(browser):
    page = opened(browser)
    for settings in [(0.05, 0.9, 0.99), (1.0, 0.0, 0.5), (5.0, 0.95, 0.98)]:
        noise, *betas = settings
        rho = np.array(MEANS) / noise
        expected = {
            "Lion": lion_drift(rho, (betas[0], betas[1])),
            "sign of one gradient": lion_drift(rho, (0.0, 0.0)),
            "AdamW": adamw_drift(rho),
        }
        for name, steps in expected.items():
            formula = "([name, means, settings]) => means.map(mean => window.meanSteps[name](mean, ...settings))"
            drawn = page.evaluate(formula, [name, MEANS, settings])
            np.testing.assert_allclose(drawn, steps, atol=2e-7)
    page.close()


def test_a_key_moves_the_noise_and_the_curve_and_says_the_slope(browser):
    page = opened(browser)
    curve, said = page.locator("path.curve-0").last, page.locator("[aria-live]")
    before = curve.get_attribute("d")
    assert "6.73 (Lion), 0.798 (sign of one gradient), 1.00 (AdamW)" in said.inner_text()
    page.keyboard.press("Tab")
    page.keyboard.press("ArrowRight")
    assert page.locator("output").first.inner_text() == "1.05"
    assert curve.get_attribute("d") != before
    assert "6.41 (Lion)" in said.inner_text()
    page.close()
