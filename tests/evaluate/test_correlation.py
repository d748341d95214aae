"""Correlations and ranks: naive forms, and what the papers print recomputed from their tables."""

import numpy as np
import pytest

from ssl_jax.errors import UserError
from ssl_jax.evaluate.correlation import compare, logit, pearson, ranks, spearman
from ssl_jax.evaluate.passport import passport
from ssl_jax.evaluate.published import (
    EIGHT,
    column,
    columns,
    correlation,
    eight_ranks,
    models,
    setting_mean,
)


def test_logit_undoes_the_sigmoid_and_refuses_percent():
  np.testing.assert_allclose(logit(1 / (1 + np.exp(-np.array([-3.0, 0.0, 2.0])))), [-3, 0, 2])
  with pytest.raises(UserError, match="not percent"):
    logit(np.array([0.5, 76.0]))


def test_ranks_are_counted_and_equals_share():
  values = np.array([3.0, 1.0, 3.0, 7.0, 1.0, 1.0])

  def naive(v, better):
    return [1 + sum(better(o, x) for o in v) + (sum(o == x for o in v) - 1) / 2 for x in v]

  assert ranks(values).tolist() == naive(values, np.greater)
  assert ranks(values, higher_is_better=False).tolist() == naive(values, np.less)
  assert ranks(np.stack([values, -values]))[1].tolist() == naive(-values, np.greater)


def test_correlations_are_numpys_of_values_and_of_ranks():
  random = np.random.default_rng(0)
  x, y = random.normal(size=(2, 12))
  y[:3] = y[0]
  np.testing.assert_allclose(pearson(x, y), np.corrcoef(x, y)[0, 1])
  np.testing.assert_allclose(spearman(x, y), np.corrcoef(ranks(x), ranks(y))[0, 1])
  np.testing.assert_allclose([spearman(x, np.exp(x)), spearman(x, -x**3)], [1, -1])
  assert np.isnan(pearson(x, np.ones(12)))


def test_the_critical_difference_is_that_of_demsars_table():
  # Demsar 2006, table 5(a) and section 3.2.2: q is 2.569 for 4 classifiers, so 14 sets give 1.25.
  random = np.random.default_rng(0)
  found = compare(random.normal(size=(14, 4)))
  np.testing.assert_allclose(found.difference, 2.569 * np.sqrt(4 * 5 / (6 * 14)), rtol=1e-3)
  assert found.p_value > 0.05 and len(found.cliques) == 1
  ordered = compare(np.arange(5.0) + np.zeros((40, 1)))  # the last is always the best
  assert ordered.mean.tolist() == [5, 4, 3, 2, 1] and ordered.p_value < 1e-6
  assert ordered.difference < 1 and ordered.cliques == ()
  near = compare(np.arange(5.0) + np.zeros((12, 1)))
  assert 1 < near.difference < 2 and near.cliques == ((4, 3), (3, 2), (2, 1), (1, 0))


def test_table_9s_row_of_correlations_is_recomputed():
  printed = (-0.77, -0.59, -0.90, -0.59, -0.51, -0.69, -0.57, -0.56, -0.11, -0.22, 0.09)
  found = [correlation(c)[0] for c in columns() if c.table == "analyses"]
  # Inputs of two digits move AlexNet's by 0.02; the others agree to the rounding.
  np.testing.assert_allclose(found, printed, atol=0.02)
  assert sum(abs(a - b) < 0.006 for a, b in zip(found, printed)) == 10


def test_correlations_with_imagenet_of_single_sets_and_of_settings():
  for table, name, r, rho in (("linear", "Pets", 0.9781, 0.9516),
                              ("finetune", "CIFAR100", 0.6565, 0.5743),
                              ("few_shot_20", "ISIC", 0.0496, -0.1956),
                              ("detection", "VOC_frozen_AP50", 0.7876, 0.5297),
                              ("dense", "ADE20K_mIoU", 0.1934, 0.0066)):
    np.testing.assert_allclose(correlation(column(table, name)), (r, rho), atol=1e-4)
  imagenet = columns()[0].scale(columns()[0].values)
  for setting, r in (("many-shot linear", 0.9261), ("many-shot fine-tuning", 0.8567),
                     ("20-shot", 0.8274), ("20-shot, other domains", 0.6056)):
    np.testing.assert_allclose(pearson(imagenet, setting_mean(setting)), r, atol=1e-4)


def test_the_ranks_of_figure_7():
  found = eight_ranks()
  assert found.shape == (len(EIGHT), 14)
  mean = dict(zip(models(), found.mean(0)))
  for name, rank in (("BYOL", 3.375), ("DeepCluster-v2", 4.25), ("SimCLR-v2", 4.5),
                     ("SwAV", 4.625), ("SimCLR-v1", 4.875), ("Supervised", 6.5)):
    assert mean[name] == rank
  assert found[:, models().index("Supervised")].tolist() == [5, 4, 1, 11, 4, 4, 10, 13]


def test_the_tables_average_as_printed():
  for table, name, average in (("linear", "DeepCluster-v2", 78.92), ("linear", "InsDis", 62.29),
                               ("finetune", "MoCo-v2", 77.74)):
    row = [c.values[models().index(name)] for c in columns() if c.table == table]
    assert len(row) == 11 and abs(np.mean(row) - average) < 0.006
  assert all(np.isfinite(c.values).all() and "arXiv" in c.source for c in columns())
  with pytest.raises(UserError, match="linear/CIFAR10"):
    column("linear", "CIFAR11")


def test_a_passport_ranks_by_counting_and_expects_by_the_line():
  entries = {e.column.name: e for e in passport({
      ("cifar10", "linear"): 93.5, ("pets", "linear"): 50.0, ("imagenet", "linear"): 72.0,
      ("digits", "linear"): 99.0, ("cifar10", "knn"): 80.0})}
  assert set(entries) == {"ImageNet", "CIFAR10", "Pets"}
  assert entries["CIFAR10"].rank == 3  # DeepCluster-v2 and SwAV are above
  assert entries["Pets"].rank == 15
  assert entries["ImageNet"].rank == 6 and entries["ImageNet"].expected is None
  x = np.log(columns()[0].values / (100 - columns()[0].values))
  pets = column("linear", "Pets").values
  slope, offset = np.linalg.lstsq(np.stack([x, np.ones(14)], 1), np.log(pets / (100 - pets)))[0]
  want = 100 / (1 + np.exp(-(slope * np.log(72 / 28) + offset)))
  np.testing.assert_allclose(entries["Pets"].expected, want, rtol=1e-6)
  assert passport({("digits", "linear"): 99.0}) == []
