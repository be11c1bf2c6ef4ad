"""An app that cannot be imported."""


def prepare():
    raise LookupError("the data set is not here")


prepare()
