"""The curves and the confusion matrix of a run's page."""

from oncall.web.plots import build_plots


def test_points_are_pixels_with_the_origin_at_the_lower_left() -> None:
    plots = build_plots({"roc": [[0, 0], [0.5, 1], [1, 1]]})
    (curve,) = plots.curves
    assert [path.text for path in curve.paths] == ["34.0,190.0 124.0,10.0 214.0,10.0"]
    assert (curve.title, curve.has_diagonal, curve.has_dots) == ("ROC curve", True, False)


def test_each_true_class_has_its_shares() -> None:
    plots = build_plots({"confusion": {"classes": ["no", "yes"], "rows": [[3.0, 1.0], [0.0, 0.0]]}})
    assert plots.confusion == [[(3.0, 0.75), (1.0, 0.25)], [(0.0, 0.0), (0.0, 0.0)]]


def test_without_plots_or_with_damaged_ones_nothing_is_drawn() -> None:
    for damaged in ({}, {"roc": 3}, {"confusion": {"rows": [[1]]}}):
        plots = build_plots(damaged)
        assert (plots.curves, plots.confusion) == ([], [])
