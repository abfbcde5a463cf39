"""The publishing benchmark on a fleet of three: real processes, real streams."""

from updraft.benchmarks.publishing.rehearsal import rehearsal
from updraft.benchmarks.publishing.stage import Stage


def test_whoever_leaves_is_planned_for_and_the_others_are_told(tmp_path):
    nodes = [node.node for node in rehearsal(3).nodes]
    stage = Stage(tmp_path, 3, 100, 1000.0)
    try:
        (plan,) = stage.plans[-1:]
        assert plan["nodes"] == 3
        assert stage.told(plan["version"]) == 3
        little = stage.set_budget(0.001)
        assert little.changed == plan["changed"]
        assert little.planning > 0
        assert stage.leave(nodes[:1]).plans == 1
        assert stage.plans[-1]["nodes"] == 2
        stage.join(nodes[:1])
        assert stage.plans[-1]["nodes"] == 3
        assert stage.lost == []
    finally:
        stage.close()
