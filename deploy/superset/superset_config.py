"""Superset for Tidegauge: secrets from the environment, Jinja in the datasets' SQL."""

import os

SECRET_KEY = os.environ["SUPERSET_SECRET_KEY"]
FEATURE_FLAGS = {"ENABLE_TEMPLATE_PROCESSING": True}


def DB_CONNECTION_MUTATOR(uri, params, username, security_manager, source):  # noqa: N802
    """Put the BI user's password in, which no file holds."""
    if uri.username == "tidegauge_bi":
        uri = uri.set(password=os.environ["TIDEGAUGE_BI_PASSWORD"])
    return uri, params
