"""A module that holds things which are no client apps."""

import os

app = {"not": "an app"}

if os.environ.get("UMBEL_TEST_END"):
    os._exit(7)
