"""Progress of parts that go on at once."""

from labelfix.utils.progress import Progress, SharedStage


def test_parts_that_go_on_at_once_add_up_to_one_stage() -> None:
    told: list[Progress] = []
    stage = SharedStage("fine-tuning 2 networks", [10, 20], told.append)
    first, second = stage.of_part(0), stage.of_part(1)
    first(Progress("fine-tuning network 1 of 2", 4, 10, "steps", "loss 1"))
    second(Progress("fine-tuning network 2 of 2", 15, 20, "steps"))
    first(Progress("fine-tuning network 1 of 2", 10, 10, "steps"))
    second(Progress("fine-tuning network 2 of 2", 20, 20, "steps"))
    assert {(one.stage, one.total, one.unit) for one in told} == {
        ("fine-tuning 2 networks", 30, "steps")
    }
    assert [one.done for one in told] == [4, 19, 25, 30]
    assert told[0].note == "loss 1"
