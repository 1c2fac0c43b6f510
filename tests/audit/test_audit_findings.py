import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from aosa_fast.audit.confirm.regions import has_region
from aosa_fast.audit.findings.clusters import cluster_class
from aosa_fast.audit.findings.labels import find_labels
from aosa_fast.audit.findings.outliers import find_outliers, find_unexplained
from aosa_fast.audit.findings.permutation import compare_classes, quantile_of_others
from aosa_fast.audit.findings.places import offset_name, place_name, time_name
from aosa_fast.audit.findings.shortcuts import find_shortcuts
from aosa_fast.audit.findings.subsets import find_subsets
from aosa_fast.audit.findings.summary import analyze, summarize
from aosa_fast.audit.findings.sums import sum_rows
from aosa_fast.audit.store.parts import PartWriter
from aosa_fast.audit.store.run_folder import open_run
from aosa_fast.errors import InputError
from audit_clips import lit, make_clips
from audit_rows import fake_row

pytest.importorskip("sklearn")


def _corner(rng, row):
    row["grid"] = lit(row["grid"], (slice(None), slice(6, 8), slice(0, 2)), 0.3)


def _border(rng, row):
    ring = np.ones((8, 8), bool)
    ring[1:-1, 1:-1] = False
    row["grid"] = lit(row["grid"], (slice(None), ring), 0.4)


def _flash(rng, row):
    row["grid"] = lit(row["grid"], (5,), 0.5)


def _flash_anywhen(rng, row):
    row["grid"] = lit(row["grid"], (int(rng.integers(8)),), 0.6)
    row["best_frame_share"] = 0.6


def _beside(rng, row):
    # Somewhere else in the frame each time, but always two eighths of the frame to the right of what moves.
    row["grid"] = lit(row["grid"], (slice(None), int(rng.integers(8)), int(rng.integers(8))), 0.3)
    row["grid_around"] = lit(row["grid_around"], (slice(3, 6), 7), 0.6)


class TestPermutation:
    @pytest.mark.parametrize("quantile", [0.25, 0.5])
    def test_the_quantile_of_the_others_is_numpys(self, quantile):
        for count in (2, 3, 4, 5, 8):
            means = np.random.default_rng(count).integers(0, 4, (count, 7)).astype(float)  # with ties
            expected = [np.quantile(np.delete(means, c, axis=0), quantile, axis=0) for c in range(count)]
            np.testing.assert_allclose(quantile_of_others(means, quantile), expected)

    def test_chance_is_called_significant_as_often_as_the_level_says(self):
        rng = np.random.default_rng(3)
        labels = np.repeat(np.arange(4), 15)
        small = [
            compare_classes(rng.normal(size=(60, 20)), labels, permutations=99, seed=k).p_values.min()
            for k in range(120)
        ]
        # The smallest of four corrected p-values is below 5 % in 5 % of all cases: 6 of 120, and 13 with p < 0.01.
        assert np.mean(np.array(small) <= 0.05) < 0.11
        assert np.mean(np.array(small) <= 0.5) > 0.3  # nor is the test blind

    def test_a_class_that_differs_has_the_least_p_value(self):
        values = np.random.default_rng(0).normal(size=(100, 30))
        labels = np.repeat(np.arange(5), 20)
        values[labels == 2, 7] += 3
        test = compare_classes(values, labels, permutations=199)
        assert test.p_values[2] == 1 / 200
        assert test.significant[2].nonzero()[0].tolist() == [7]
        np.testing.assert_allclose(test.excess[2, 7], 3, atol=0.7)

    def test_most_classes_may_be_odd_without_making_the_others_odd(self):
        values = np.random.default_rng(1).normal(size=(100, 10)) * 0.1
        labels = np.repeat(np.arange(5), 20)
        values[labels == 0, 3] += 1
        values[labels == 1, 3] += 1
        test = compare_classes(values, labels, permutations=199)
        assert (test.p_values <= 0.05).tolist() == [True, True, False, False, False]

    def test_a_quantile_below_the_median_finds_what_most_other_classes_have_too(self):
        values = np.random.default_rng(1).normal(size=(140, 10)) * 0.1
        labels = np.repeat(np.arange(7), 20)
        values[labels < 4, 3] += 1
        found = [compare_classes(values, labels, quantile=q, permutations=199).excess[:4, 3] for q in (0.25, 0.5)]
        assert (found[0] > 0.8).all()
        assert (found[1] < 0.8).all()  # halfway between those that have it and those that have not

    def test_clips_of_one_source_count_once(self):
        rng = np.random.default_rng(0)
        labels, sources = np.repeat([0, 1], 60), np.repeat(np.arange(12), 10)
        values = rng.normal(size=12)[sources][:, None] + rng.normal(size=(120, 1)) * 0.01
        values[labels == 0] += 0.5  # six sources a class cannot tell this from chance; sixty clips would
        assert compare_classes(values, labels, permutations=199).p_values.min() < 0.05
        assert compare_classes(values, labels, sources, permutations=199).p_values.min() > 0.05

    def test_classes_with_few_clips_are_left_out(self):
        values = np.random.default_rng(0).normal(size=(44, 3))
        test = compare_classes(values, np.repeat([0, 1, 2], [20, 20, 4]), permutations=99)
        assert test.classes.tolist() == [0, 1]
        assert compare_classes(values, np.repeat([0, 1], [40, 4])) is None


class TestPlaces:
    def test_places_have_words(self):
        cells = np.zeros((8, 8))
        cells[6:, :2] = 1
        assert place_name(cells) == "bottom left corner"
        assert place_name(cells[::-1]) == "top left corner"
        assert place_name(np.eye(8)) == "centre"
        assert place_name(np.pad(np.ones((2, 8)), ((0, 6), (0, 0)))) == "top side"

    def test_offsets_have_words(self):
        cells = np.zeros((9, 9))
        cells[4, 7] = 1
        assert offset_name(cells) == "right of"
        assert offset_name(cells.T) == "below"
        assert offset_name(cells[::-1, ::-1]) == "left of"
        cells[:] = 0
        cells[1, 1] = 1
        assert offset_name(cells) == "left of and above"
        cells[:] = 0
        cells[4, 4] = 1
        assert offset_name(cells) == "around"

    def test_times_count_frames_from_one(self):
        cells = np.zeros(8, bool)
        cells[5] = True
        assert time_name(cells, 16) == "frames 11-12 of 16"
        assert time_name(cells, 8) == "frame 6 of 8"


class TestShortcuts:
    @pytest.mark.parametrize(
        ("change", "where", "words"),
        [
            (_corner, "place", "in the bottom left corner of the frame"),
            (_border, "border", "along the border"),
            (_flash, "time", "in frames 11-12 of 16"),
            (_flash_anywhen, "time", "at different times"),
            (_beside, "beside the motion", "right of what moves"),
        ],
    )
    def test_one_planted_in_a_class_is_named_and_no_other(self, change, where, words):
        findings = find_shortcuts(make_clips(change={3: change}), permutations=199)
        assert [(f.class_index, f.where) for f in findings] == [(3, where)]
        assert words in findings[0].text
        assert findings[0].p_value <= 0.05
        assert findings[0].count >= 20
        assert has_region(findings[0])  # what to hide, to confirm it
        assert all(int(clip[-4:]) % 5 == 3 for clip in findings[0].clips)

    @pytest.mark.parametrize(("share", "noise"), [(0.12, 0.006), (0.008, 0.0005)])
    def test_signed_sums_tell_a_place_where_positive_shares_drown_in_noise(self, share, noise):
        clips = make_clips(7, 8)
        signed = np.random.default_rng(2).normal(0, noise, (len(clips), 8, 8)).astype(np.float32)
        signed[clips.target < 4, 7, 0] += share  # four marked classes of seven: they are the median of the others
        marked = replace(clips, grids={**clips.grids, "grid_signed": signed})
        found = {finding.class_index for finding in find_shortcuts(marked, permutations=199)}
        # Less than a hundredth of all magnitudes is no place that a score rests on, though it stands out.
        assert found == (set(range(4)) if share > 0.01 else set())

    def test_nothing_is_found_where_nothing_is(self):
        for seed in range(5):
            assert find_shortcuts(make_clips(seed=seed), permutations=199) == []

    def test_motion_that_is_always_at_one_place_is_no_shortcut(self):
        def still_there(rng, row):
            moving = np.zeros((8, 8, 8))
            moving[:, 3:5, 3:5] = 1 / 32
            row["grid_moving"] = moving
            row["grid"] = 0.5 * moving + 0.5 * rng.dirichlet(np.full(512, 2.0)).reshape(8, 8, 8)

        assert find_shortcuts(make_clips(change={1: still_there}), permutations=199) == []

    def test_an_overlay_is_called_one(self):
        def logo(rng, row):
            _corner(rng, row)
            row["share_static"], row["area_static"] = 0.3, 0.02

        (finding,) = find_shortcuts(make_clips(change={0: logo}), permutations=199)
        assert finding.where == "static overlay"
        assert finding.boxes == ((6, 0), (6, 1), (7, 0), (7, 1))

    def test_several_classes_have_one_each(self):
        clips = make_clips(6, change={0: _corner, 2: _border, 4: _flash, 5: _beside})
        findings = find_shortcuts(clips, permutations=199)
        assert {(f.class_index, f.where) for f in findings} == {
            (0, "place"),
            (2, "border"),
            (4, "time"),
            (5, "beside the motion"),
        }

    def test_of_a_single_class_nothing_can_be_said(self):
        assert find_shortcuts(make_clips(1), permutations=99) == []

    def test_empty_maps_do_not_count(self):
        def empty(rng, row):
            row["grid"] = np.zeros((8, 8, 8))

        assert find_shortcuts(make_clips(change={2: empty}), permutations=99) == []


class TestSubsets:
    @staticmethod
    def _some(rng, row):
        if rng.uniform() < 0.2:
            row["grid"] = lit(row["grid"], (slice(None), 0, slice(6, 8)), 0.45)

    def test_a_fifth_of_a_class_with_a_mark_is_a_cluster_and_a_finding(self):
        clips = make_clips(5, 60, change={1: self._some})
        marked = {
            str(clips["id"][i])
            for i in np.flatnonzero((clips.target == 1) & (clips.grids["grid"][:, :, 0, 6:].sum((1, 2)) > 0.4))
        }
        clusters = cluster_class(clips, np.flatnonzero(clips.target == 1), "frame")
        assert len(clusters) == 2
        assert {str(clips["id"][i]) for i in clusters[1].members} == marked
        (finding,) = find_subsets(clips, {1: clusters})
        assert finding.class_index == 1
        assert "top right corner" in finding.text
        assert set(finding.clips) == marked
        assert finding.p_value < 0.01

    def test_one_cloud_is_one_cluster(self):
        clips = make_clips(3, 60)
        assert [len(cluster_class(clips, np.flatnonzero(clips.target == c), "frame")) for c in range(3)] == [1, 1, 1]

    def test_it_is_among_all_findings(self):
        _, findings = analyze(make_clips(5, 60, change={1: self._some}), permutations=99)
        assert [f.class_index for f in findings if f.kind == "shortcut"] == [1]


class TestOthers:
    def test_a_confident_disagreement_that_looks_like_the_other_class_is_a_label_finding(self):
        def wrong(rng, row):
            if row["id"] == "clip/0041":
                row.update(prediction=3, target=3, prediction_name="class 3", label_probability=0.01)

        (finding,) = find_labels(make_clips(change={1: wrong}))
        assert (finding.class_index, finding.clips) == (1, ("clip/0041",))
        assert finding.strengths == pytest.approx((finding.effect,))
        assert 0.8 < finding.effect < 0.95
        assert "looks like class 3" in finding.text

    def test_the_clearest_come_first_and_a_class_that_is_often_taken_for_others_says_little(self):
        def wrong(rng, row):
            if row["id"] in ("clip/0041", "clip/0046"):
                label_probability = 0.01 if row["id"] == "clip/0046" else 0.3
                row.update(prediction=3, target=3, prediction_name="class 3", label_probability=label_probability)

        def confused(rng, row):
            if rng.uniform() < 0.9:
                row.update(prediction=4, target=4, prediction_name="class 4", label_probability=0.4)

        (finding,) = find_labels(make_clips(change={1: wrong}))
        assert finding.clips == ("clip/0046", "clip/0041")
        assert finding.strengths[0] > finding.strengths[1] + 0.2
        # Half of those that are called class 4 are labelled otherwise: a sure one among them proves nothing.
        assert [f.class_index for f in find_labels(make_clips(change={1: wrong, 2: confused, 0: confused}))] == [1]

    def test_one_that_the_model_is_not_sure_of_is_none(self):
        def unsure(rng, row):
            if row["id"] == "clip/0041":
                row.update(prediction=3, target=3, probability=0.5, label_probability=0.4)

        assert find_labels(make_clips(change={1: unsure})) == []

    def test_nor_is_one_whose_map_is_unlike_the_other_class(self):
        def odd(rng, row):
            if row["id"] == "clip/0041":
                row.update(prediction=3, target=3, label_probability=0.01)
                row["grid"] = lit(row["grid"], (0, 0, 0), 0.95)

        assert find_labels(make_clips(change={1: odd})) == []

    def test_a_clip_far_from_its_class_is_an_outlier(self):
        def far(rng, row):
            if row["id"] == "clip/0042":
                row["share_border"] = 0.9

        (finding,) = find_outliers(make_clips(change={2: far}))
        assert (finding.class_index, finding.clips) == (2, ("clip/0042",))
        assert "share on the border: 0.90" in finding.text

    def test_maps_that_fail_their_check_are_unexplained(self):
        def bad(rng, row):
            number = int(row["id"][-4:])
            if number == 0:
                row["grid"] = np.zeros((8, 8, 8))
            if number == 5:
                row["saturated"] = True
            if number == 10:
                row["uncovered_share"] = 0.8
            if number in (15, 20):
                row["taylor_correlation"] = -0.2

        found = {f.clips for f in find_unexplained(make_clips(change={0: bad}))}
        assert found == {("clip/0000",), ("clip/0005",), ("clip/0010",), ("clip/0015", "clip/0020")}

    def test_the_summary_of_a_class_counts_and_ranks(self):
        def far(rng, row):
            if row["id"] == "clip/0042":
                row["grid"] = lit(row["grid"], (0, 0, 0), 0.9)
            if row["id"] == "clip/0047":
                row.update(label=1, label_name="class 1")

        classes, _ = analyze(make_clips(change={2: far}), permutations=99)
        own = classes[2]
        assert (own.index, own.name, own.clips, own.correct) == (2, "class 2", 24, 23)
        assert own.strangest[0] == "clip/0042"
        assert "clip/0042" not in own.typical
        np.testing.assert_allclose(own.mean_map.sum(), 1, rtol=1e-5)
        low, middle, high = own.measures["share_border"]
        assert 0.2 < low < middle < high < 0.3


class TestSamples:
    @staticmethod
    def _write(folder, rows, part_rows=32, shard=(1, 1)):
        with open_run(folder, {}, {}, shard), PartWriter(folder, shard, rows=part_rows) as writer:
            for first in range(0, len(rows), part_rows):
                writer.add(rows[first : first + part_rows])

    @staticmethod
    def _rows(clips):
        rows = []
        for i in range(len(clips)):
            columns = {name: values[i] for name, values in clips.columns.items() if name not in ("id", "saturated")}
            columns = {name: None if value != value else value for name, value in columns.items()}
            grids = {name: grid[i].ravel().tolist() for name, grid in clips.grids.items()}
            rows.append(fake_row(str(clips["id"][i]), **columns, **grids))
        return rows

    def test_one_finds_what_all_clips_show_and_counts_it_in_all_however_the_rows_are_spread(self, tmp_path):
        def far(rng, row):
            row["share_border"] = 0.9 if row["id"] == "clip/0042" else row["share_border"]

        rows = self._rows(make_clips(change={1: _corner, 2: far}))
        for wrong, like in ((41, 43), (46, 48)):
            rows[wrong] = {
                **rows[like],
                "id": f"clip/{wrong:04}",
                "label": 1,
                "label_name": "class 1",
                "label_probability": 0.01,
            }
        self._write(tmp_path / "one", rows)
        self._write(tmp_path / "other", rows[::-1][:50], part_rows=7, shard=(1, 2))
        self._write(tmp_path / "other", rows[::-1][50:], part_rows=20, shard=(2, 2))
        one, other = (sum_rows(tmp_path / name, most=60).clips for name in ("one", "other"))
        assert one.ids(range(60), 60) == other.ids(range(60), 60)
        np.testing.assert_array_equal(one.grids["grid"], other.grids["grid"])
        everyone = summarize(tmp_path / "one", permutations=199)
        sampled = [summarize(tmp_path / name, permutations=199, sample=60) for name in ("one", "other")]
        assert "in 60 of 120 clips" in sampled[0].sample
        assert everyone.sample == ""
        told = [[(f.kind, f.class_index, f.where, f.count, f.clips, f.text) for f in own.findings] for own in sampled]
        assert told[0] == told[1]
        assert [(f.kind, f.class_index, f.where) for f in sampled[0].findings] == [
            (f.kind, f.class_index, f.where) for f in everyone.findings
        ]
        assert {f.kind for f in everyone.findings} == {"shortcut", "label", "outlier"}
        for one, own in zip(everyone.findings, sampled[0].findings, strict=True):
            assert (own.count, set(own.clips)) == (one.count, set(one.clips))
        for one, own in zip(everyone.classes, sampled[0].classes, strict=True):
            assert (own.clips, own.correct) == (one.clips, one.correct)
            np.testing.assert_allclose(own.mean_map, one.mean_map, rtol=1e-5)
            np.testing.assert_allclose(own.measures["share_border"], one.measures["share_border"], rtol=1e-6)

    def test_small_classes_are_in_one_whole(self, tmp_path):
        self._write(tmp_path, [fake_row(f"{i}", target=int(i >= 3)) for i in range(43)])
        sums = sum_rows(tmp_path, most=20)
        assert len(sums.rows) == 43
        assert np.bincount(sums.clips.target).tolist() == [3, 17]
        assert sum_rows(tmp_path, most=20, seed=1).clips.ids(range(20)) != sums.clips.ids(range(20))

    def test_memory_is_that_of_the_sample(self, tmp_path):
        row = fake_row("")
        self._write(tmp_path, [{**row, "id": str(i)} for i in range(800)], part_rows=40)
        sum_rows(tmp_path, most=20)
        tracemalloc.start()
        sum_rows(tmp_path, most=20)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1.5e6  # and all grids are 3.5 MB

    def test_a_clip_with_two_rows_is_refused(self, tmp_path):
        self._write(tmp_path, [fake_row("a"), fake_row("b")], shard=(1, 2))
        self._write(tmp_path / "other", [fake_row("b")], shard=(2, 2))
        (tmp_path / "other" / "clips" / "part-2of2-000000.parquet").rename(
            tmp_path / "clips" / "part-2of2-000000.parquet"
        )
        with pytest.raises(InputError, match="must not hold a clip that another part holds; 'b' is in"):
            sum_rows(tmp_path)


@pytest.mark.parametrize("columns", [{"grid": [1.0]}, {"grid": [float("nan")] * 512}, {"target": None}])
def test_rows_that_no_audit_writes_are_one_line(columns, tmp_path):
    with PartWriter(tmp_path, (1, 1)) as writer:
        writer.add([fake_row("a"), fake_row("b", **columns)])
    with pytest.raises(InputError, match=r"^[^\n]*: must hold rows as an audit writes them; got [^\n]*$"):
        sum_rows(tmp_path)
