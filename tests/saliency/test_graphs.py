"""The estimators on superpixels against the same thing computed slowly."""

import numpy as np
import pytest
from skimage import data
from skimage.color import rgb2lab

from ssl_jax.saliency import gs, mc, rbd, superpixels
from ssl_jax.saliency.superpixels import Superpixels


@pytest.fixture(scope="module")
def regions():
  return superpixels.segment(data.coffee()[::5, ::5], 60)


def grid(colours):
  """Superpixels of four pixels each, with the Lab colours f64[h,w,3]."""
  height, width = colours.shape[:2]
  labels = np.arange(height * width).reshape(height, width).repeat(2, 0).repeat(2, 1)
  rows, columns = np.mgrid[:height, :width]
  border = (rows % (height - 1) == 0) | (columns % (width - 1) == 0)
  return Superpixels(
      labels, colours.reshape(-1, 3),
      np.stack([(rows + 0.5) / height, (columns + 0.5) / width], -1).reshape(-1, 2),
      superpixels.touching(labels, [(0, 1), (1, 0)]), border.ravel())


def floyd(length):
  """All shortest paths by relaxing over every node in turn; inf is no edge."""
  distance = length.copy()
  np.fill_diagonal(distance, 0)
  for node in range(len(distance)):
    distance = np.minimum(distance, distance[:, [node]] + distance[[node]])
  return distance


def test_superpixels_are_means_of_their_pixels_and_know_their_neighbours(regions):
  image = data.coffee()[::5, ::5]
  labels, count = regions.labels, len(regions.lab)
  assert 40 <= count <= 80 and set(labels.ravel()) == set(range(count))
  adjacent = np.eye(count, dtype=bool)
  for i in range(labels.shape[0]):
    for j in range(labels.shape[1]):
      for a, b in ((i + 1, j), (i, j + 1)):
        if a < labels.shape[0] and b < labels.shape[1]:
          adjacent[labels[i, j], labels[a, b]] = adjacent[labels[a, b], labels[i, j]] = True
  np.testing.assert_array_equal(regions.adjacent, adjacent)
  some = labels == 17
  np.testing.assert_allclose(regions.lab[17], rgb2lab(image[some].mean(0) / 255))
  np.testing.assert_allclose(regions.position[17],
                             np.argwhere(some).mean(0) / np.array(labels.shape))
  band = 3  # 8 pixels of 300 are 3.2 of 120
  inner = set(labels[band:-band, band:-band].ravel()) - set(np.flatnonzero(regions.border))
  assert inner == set(np.flatnonzero(~regions.border))
  assert set(labels[:band].ravel()) <= set(np.flatnonzero(regions.border))


def test_corners_touch_where_they_are_asked_to():
  labels = np.array([[0, 1], [2, 3]])
  straight = superpixels.touching(labels, [(0, 1), (1, 0)])
  assert not straight[0, 3] and not straight[1, 2] and straight[0, 1] and straight[3, 1]
  assert superpixels.touching(labels, [(1, 1)])[3, 0]
  assert superpixels.touching(labels, [(1, -1)])[1, 2]


def test_the_scales_of_an_image_are_those_of_its_neighbours(regions):
  colour = superpixels.pairwise(regions.lab)
  np.fill_diagonal(colour, np.inf)
  one, two, pairs = [], [], []
  for i in range(len(colour)):
    near = {j for j in range(len(colour)) if regions.adjacent[i, j] and j != i}
    far = {k for j in near for k in np.flatnonzero(regions.adjacent[j])} - {i}
    one.append(min(colour[i, j] for j in near))
    two.append(min(colour[i, j] for j in near | far))
    pairs += [colour[i, j] for j in near if j > i]
  top = np.mean(sorted(pairs)[-round(0.01 * len(pairs)):])
  found = superpixels.scales(regions.adjacent, superpixels.pairwise(regions.lab))
  np.testing.assert_allclose(found, (
      np.mean(two), max(5, min(10, 3 * np.mean(one), top / 10)),
      min(3 * np.mean(one), 0.2 * top, 20)))


def clipped_lengths(regions):
  colour = superpixels.pairwise(regions.lab)
  clip = superpixels.scales(regions.adjacent, colour).clip
  linked = regions.adjacent | (regions.border[:, None] & regions.border[None])
  return np.where(linked, np.maximum(colour - clip, 0), np.inf)


def test_geodesic_saliency_is_the_shortest_path_to_the_background(regions):
  colour = superpixels.pairwise(regions.lab)
  kept = gs.background(regions, colour)
  distance = floyd(clipped_lengths(regions))[:, kept].min(1)
  top = np.sort(distance)[-max(round(0.02 * len(distance)), 1)]
  np.testing.assert_allclose(gs.saliency_of(regions), np.minimum(distance / top, 1), atol=1e-12)
  assert distance.max() > 0 and (distance == 0).sum() > 1  # edges of length 0 are edges


def test_an_object_on_the_border_is_no_background():
  colours = np.zeros((8, 8, 3))
  colours[5:, 3:5] = (60, 40, 30)
  regions = grid(colours)
  kept = gs.background(regions, superpixels.pairwise(regions.lab)).reshape(8, 8)
  border = regions.border.reshape(8, 8)
  np.testing.assert_array_equal(kept, border & (colours[..., 0] == 0))
  flat = grid(np.zeros((4, 4, 3)))
  np.testing.assert_array_equal(gs.background(flat, np.zeros((16, 16))), flat.border)


def test_border_connectivity_is_length_over_root_of_area(regions):
  distance = floyd(clipped_lengths(regions))
  found = rbd.border_connectivity(distance, regions.border, 7.0)
  for i in (0, 13, 40):
    region = [np.exp(-d * d / 98) if d <= 21 else 0 for d in distance[i]]
    length = sum(r for r, b in zip(region, regions.border) if b)
    assert found[i] == pytest.approx(length / np.sqrt(sum(region)))


def test_the_optimum_of_rbd_is_one(regions):
  rng = np.random.default_rng(0)
  count = len(regions.lab)
  background, foreground = rng.uniform(0, 2, (2, count))
  weight = rbd.affinity(regions, superpixels.pairwise(regions.lab), 9.0)
  found = rbd.optimize(background, foreground, weight)

  def cost(s):
    smooth = 0.5 * (weight * (s[:, None] - s[None]) ** 2).sum()
    return (5 * background * s ** 2).sum() + (foreground * (s - 1) ** 2).sum() + smooth
  for i in range(0, count, 7):
    step = 1e-3 * np.eye(count)[i]
    slope = (cost(found + step) - cost(found - step)) / 2e-3  # exact for a quadratic
    assert abs(slope) < 1e-8
    assert cost(found + step) > cost(found) and cost(found - step) > cost(found)


def test_affinities_reach_two_rings_and_along_the_border(regions):
  colour = superpixels.pairwise(regions.lab)
  weight = rbd.affinity(regions, colour, 9.0)
  np.testing.assert_array_equal(weight, weight.T)
  for i in (0, 25):
    near = {k for j in np.flatnonzero(regions.adjacent[i])
            for k in np.flatnonzero(regions.adjacent[j])}
    for j in range(len(weight)):
      linked = j in near or (regions.border[i] and regions.border[j])
      alike = np.exp(-colour[i, j] ** 2 / 162) if linked and colour[i, j] <= 27 else 0
      assert weight[i, j] == pytest.approx(alike + 0.1 * regions.adjacent[i, j])


def test_a_square_on_flat_ground_is_1_and_the_ground_0():
  colours = np.zeros((10, 10, 3))
  colours[3:7, 3:7] = (70, 40, 30)
  regions, inside = grid(colours), colours[..., 0].ravel() > 0
  for method in (gs, rbd, mc):
    found = superpixels.unit(method.saliency_of(regions))
    assert found[inside].min() > 0.9 and found[~inside].max() < 0.1


def chain(regions):
  neighbours = superpixels.touching(regions.labels, [(0, 1), (1, 0), (1, 1), (1, -1)])
  weight = mc.affinity(regions, neighbours)
  return weight, neighbours, *mc.exits(weight, neighbours, regions.border)


def test_absorbed_time_is_that_of_the_whole_chain():
  """Against the powers of the chain with its absorbing states written out."""
  colours = np.random.default_rng(3).uniform(0, 20, (7, 7, 3))
  colours[2:5, 2:5] += 60
  regions = grid(colours)
  weight, _, absorbing, removed = chain(regions)
  assert not removed.any() and (weight.sum(1) > 1.1).all()
  doubles = weight[:, absorbing]
  total = (weight.sum(1) + doubles.sum(1))[:, None]
  whole = np.block([[weight / total, doubles / total],
                    [np.zeros((doubles.shape[1], 49)), np.eye(doubles.shape[1])]])
  np.testing.assert_allclose(whole.sum(1), 1)
  visits, power = np.eye(len(whole)), whole
  for _ in range(20):  # the sum of the powers to 2^20, by doubling
    visits, power = visits + power @ visits, power @ power
  assert power[:49, :49].max() < 1e-9
  time = superpixels.unit(visits[:49, :49].sum(1))
  assert mc.spread(time) < 2
  np.testing.assert_allclose(mc.walk(weight, np.arange(49), absorbing), time, atol=1e-6)


def test_a_map_that_is_not_decided_is_made_anew_with_rare_states_counting_more():
  weight = np.eye(5) + np.diag([0.5, 0.5, 0.5, 0.5], 1) + np.diag([0.5, 0.5, 0.5, 0.5], -1)
  weight[1, 2] = weight[2, 1] = 0.9
  inner, absorbing = np.arange(5), np.array([True, False, False, False, True])
  step = weight / (weight.sum(1) + weight[:, absorbing].sum(1))[:, None]
  visits = np.linalg.inv(np.eye(5) - step)
  assert mc.spread(superpixels.unit(visits.sum(1))) > 2
  np.testing.assert_allclose(mc.walk(weight, inner, absorbing),
                             superpixels.unit(visits @ (1 / weight.sum(1))))


def test_spread_counts_bins_from_the_nearer_end():
  assert mc.spread(np.array([0, 0.05, 1.0, 0.97])) == 1
  assert mc.spread(np.array([0.45, 0.55])) == 5
  assert mc.spread(np.array([0.0, 0.1, 0.2, 1.0])) == (1 + 2 + 3 + 1) / 4


def test_a_ring_unlike_the_next_is_a_frame_and_the_next_absorbs():
  colours = np.zeros((10, 10, 3))
  colours[1:-1, 1:-1] = (50, 0, 0)
  colours[4:6, 4:6] = (50, 60, 40)
  regions = grid(colours)
  _, _, absorbing, removed = chain(regions)
  ring = np.zeros((10, 10), bool)
  ring[1:-1, 1:-1] = True
  np.testing.assert_array_equal(removed.reshape(10, 10), ~ring)
  ring[2:-2, 2:-2] = False
  np.testing.assert_array_equal(absorbing.reshape(10, 10), ring)


def test_affinities_of_the_chain_cross_to_the_opposite_border():
  regions = grid(np.random.default_rng(0).uniform(0, 50, (9, 9, 3)))
  weight, *_ = chain(regions)
  assert weight[4, 8 * 9 + 4] > 0 and weight[4 * 9, 4 * 9 + 8] > 0
  assert weight[4 * 9 + 4, 4 * 9 + 7] == 0 and weight[4 * 9 + 4, 4 * 9 + 6] > 0
  np.testing.assert_array_equal(np.diag(weight), 1)
  linked = (weight > 0) & ~np.eye(81, dtype=bool)
  colour = superpixels.pairwise(regions.lab)
  least, most = colour[linked].min(), colour[linked].max()
  pair = 10, 11
  assert weight[pair] == pytest.approx(
      np.exp(-10 * (colour[pair] - least) / (most - least)) + 1e-5)


def test_a_lonely_superpixel_follows_a_salient_neighbour():
  colours = np.zeros((9, 9, 3))
  colours[3:6, 3:6] = (60, 40, 0)
  colours[4, 4] = (0, 0, 900)  # like nothing else
  regions = grid(colours)
  weight, *_ = chain(regions)
  assert weight[40].sum() < 1.1
  assert mc.saliency_of(regions)[40] == 1
