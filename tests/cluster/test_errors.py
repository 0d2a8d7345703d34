"""Errors arrive from an actor as what they are: fields, class and sentence survive pickling."""

import inspect
import pickle

import pytest

from cluster.errors import ClusterError

SAMPLES = {str: "a", int: 3, float: 1.5, tuple[str, ...]: ("a", "b")}


def all_errors(root=ClusterError):
    return [root, *(found for child in root.__subclasses__() for found in all_errors(child))]


def sample(error):
    parameters = list(inspect.signature(error.__init__).parameters.values())[1:]
    return error(*(SAMPLES[one.annotation] for one in parameters if one.annotation in SAMPLES))


@pytest.mark.parametrize("error", all_errors(), ids=lambda error: error.__name__)
def test_an_error_survives_pickling_with_all_its_fields(error):
    raised = sample(error)
    arrived = pickle.loads(pickle.dumps(raised))
    assert type(arrived) is error
    assert vars(arrived) == vars(raised)
    assert str(arrived) == str(raised)


def test_the_tree_in_the_docstring_names_every_error():
    documented = inspect.getmodule(ClusterError).__doc__
    assert all(error.__name__ in documented for error in all_errors())
