"""What is told to Prometheus: totals by how they grew, gauges as they are, nothing twice."""

from cluster.metrics import RayMetric, Teller

GONE = RayMetric("gfe_gone", "A gauge.", ("who",))
DONE = RayMetric("gfe_done", "A total.", ("how",), is_total=True)


def teller():
    said = []

    def meter_of(metric):
        return lambda value, tags: said.append((metric.name, value, tags))

    return Teller(meter_of), said


def test_a_total_is_told_once_before_its_first_event_and_then_by_how_it_grew():
    told, said = teller()
    for value in (0, 0, 5, 5, 7):
        told.tell({(DONE, ("well",)): value})
    assert said == [("gfe_done", value, {"how": "well"}) for value in (0, 5, 2)]


def test_a_gauge_is_told_each_time_and_is_zero_when_it_is_gone():
    told, said = teller()
    told.tell({(GONE, ("a",)): 3})
    told.tell({(GONE, ("a",)): 3, (GONE, ("b",)): 1})
    told.tell({})
    assert [(value, tags["who"]) for _, value, tags in said] == [(3, "a"), (3, "a"), (1, "b"), (0, "a"), (0, "b")]


def test_the_names_that_prometheus_sees():
    assert (GONE.exported, DONE.exported) == ("ray_gfe_gone", "ray_gfe_done_total")
