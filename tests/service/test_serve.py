"""SigOpt's optimization loop as its documentation has it, against the server as a process."""

from __future__ import annotations

import ssl
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from crystallize_opt import History
from tests.service.conftest import Server

pytestmark = pytest.mark.filterwarnings("ignore:The .data field:RuntimeWarning")


def make_model(assignments: Any) -> float:
    return -((float(assignments["x"]) - 0.25) ** 2)


def score_model(model: float, dataset: float) -> float:
    return model + dataset


def evaluate_metric(assignments: Any, dataset: float) -> float:
    # Make a model using the new hyperparameters
    model = make_model(assignments)

    # Obtain a metric for the dataset
    return score_model(model, dataset)


def test_the_documented_loop_runs(
    tmp_path: Path,
    serve: Callable[..., Server],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from sigopt import Connection

    server = serve(tmp_path / "service.db")
    monkeypatch.setenv("SIGOPT_API_URL", server.url)
    conn = Connection(client_token=server.token)
    dataset = 2.0
    experiment_id = (
        conn.experiments()
        .create(
            name="The loop",
            parameters=[{"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}],
            metrics=[{"name": "score"}],
            observation_budget=12,
        )
        .id
    )

    experiment = conn.experiments(experiment_id).fetch()

    # Run the Optimization Loop until the Observation Budget is exhausted
    while experiment.progress.observation_count < experiment.observation_budget:
        # Receive a suggestion
        suggestion = conn.experiments(experiment.id).suggestions().create()

        # Evaluate your metric
        value = evaluate_metric(suggestion.assignments, dataset)

        # Report an observation
        conn.experiments(experiment.id).observations().create(
            suggestion=suggestion.id,
            values=[{"name": "score", "value": value}],
        )

        # Update the experiment object
        experiment = conn.experiments(experiment.id).fetch()
    # Fetch the best configuration and explore your experiment
    best_assignments = (
        conn.experiments(experiment_id).best_assignments().fetch().data[0].assignments
    )
    print("Best Assignments: " + str(best_assignments))
    explore = f"{server.url}/experiment/" + experiment.id + "/analysis"
    print("Explore your experiment: " + explore)

    assert "Best Assignments" in capsys.readouterr().out
    with urllib.request.urlopen(server.asking(explore)) as page:  # noqa: S310
        assert page.status == 200
    server.end()
    history = History.load(tmp_path / "service.db", run=experiment_id)
    assert len(history) == 12
    assert history.best is not None
    assert history.best.params == best_assignments


def test_the_loop_runs_over_tls(
    tmp_path: Path, serve: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    from sigopt import Connection
    from sigopt.exception import ConnectionException

    authority, other = trustme.CA(), trustme.CA()
    certificate, key, trusted, foreign = (tmp_path / f"{name}.pem" for name in "abcd")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    issued.cert_chain_pems[0].write_to_path(certificate)
    issued.private_key_pem.write_to_path(key)
    authority.cert_pem.write_to_path(trusted)
    other.cert_pem.write_to_path(foreign)
    files = ("--ssl-certfile", str(certificate), "--ssl-keyfile", str(key))
    server = serve(tmp_path / "service.db", "--optimizer", "RandomOptimizer", *files)
    assert server.url.startswith("https://127.0.0.1:")
    assert (tmp_path / "service.log").read_text() == ""  # Nothing to warn of.

    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(trusted))
    conn = Connection(client_token=server.token, api_url=server.url)
    parameters = [{"name": "x", "type": "double", "bounds": {"min": 0.0, "max": 1.0}}]
    metrics = [{"name": "score"}]
    experiment = conn.experiments().create(name="TLS", parameters=parameters, metrics=metrics)
    for _ in range(3):
        suggestion = conn.experiments(experiment.id).suggestions().create()
        value = make_model(suggestion.assignments)
        conn.experiments(experiment.id).observations().create(
            suggestion=suggestion.id, values=[{"name": "score", "value": value}]
        )
    assert conn.experiments(experiment.id).fetch().progress.observation_count == 3

    page = server.asking(f"{server.url}/experiment/{experiment.id}/analysis")
    context = ssl.create_default_context(cafile=trusted)
    with urllib.request.urlopen(page, context=context) as shown:  # noqa: S310
        assert shown.status == 200
    context = ssl.create_default_context(cafile=foreign)
    with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
        urllib.request.urlopen(page, context=context)  # noqa: S310
    plain = Connection(client_token=server.token, api_url=server.url.replace("https", "http"))
    with pytest.raises(ConnectionException):  # Nothing is answered without TLS.
        plain.experiments().fetch()


def test_a_file_that_is_served_is_refused(tmp_path: Path, serve: Callable[..., Server]) -> None:
    path = tmp_path / "service.db"
    first = serve(path, "--optimizer", "RandomOptimizer")

    with pytest.raises(RuntimeError, match="being served by another process"):
        serve(path, "--optimizer", "RandomOptimizer")

    first.kill()
    serve(path, "--optimizer", "RandomOptimizer")
