from replications.t5_pegasus import checks, metrics
from replications.t5_pegasus.pseudo_summary import pseudo_summary


def test_a_rule_that_stops_at_a_third_fails_the_checks_that_concern_it(monkeypatch) -> None:
    monkeypatch.setattr(checks, "pseudo_summary", lambda pieces, ratio=1 / 3: pseudo_summary(pieces, ratio))
    assert min(checks.CHECKS[name]().max_error for name in ("step_2_greedy", "step_3_stop")) > 0.01


def test_a_trigram_with_another_discount_fails_its_check(monkeypatch) -> None:
    monkeypatch.setattr(metrics, "DISCOUNT", 0.5)
    assert checks.step_11_trigram().max_error > 0.01


def test_copying_by_the_attention_s_logits_fails_its_check(monkeypatch) -> None:
    monkeypatch.setattr(checks, "copy_log_probabilities", lambda logits, *_: logits)
    assert checks.step_10_mixture().max_error > 0.01
