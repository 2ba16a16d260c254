"""The ``http`` step: request a URL and check its answer."""

from __future__ import annotations

from urllib.parse import quote, urlsplit

from bmhctl.domain.model import HostSpec, Verdict
from bmhctl.domain.policy import HttpStep, Step
from bmhctl.probes.cancellation import within
from bmhctl.probes.http_connection import ConnectionRules, HttpConnection, HttpError, proxy_for
from bmhctl.probes.placeholders import fill
from bmhctl.probes.step_environment import StepEnvironment
from bmhctl.support.values import replace

MOST = 1 << 20
"""How many bytes of an answer are read."""


_SAFE = "%/?:@!$&'()*+,;=[]~"
"""Characters that are not escaped in a path and a query; parameters may contain others."""


def fetch(step: Step, spec: HostSpec, environment: StepEnvironment) -> tuple[Verdict, str]:
    """Return a pass if the URL answers in time with the status, and with the text in the first MiB.

    Redirects are not followed: the answer must come from the URL itself. TLS is verified. A proxy is used only if the
    policy names one.
    """
    page = step.page or HttpStep("")
    if spec.address is not None and ":" in spec.address:
        spec = replace(spec, address=f"[{spec.address}]")  # a URL has IPv6 addresses in brackets
    url, seconds = fill(page.url, spec, environment.params), step.timeout.total_seconds()
    try:
        parts = urlsplit(url)
        target = quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=_SAFE)
        origin = f"{parts.scheme}://{parts.netloc}"
        rules = ConnectionRules(proxy=proxy_for(environment.proxy, environment.environ, origin))
        connection = HttpConnection(origin, rules)
        answer = within(
            seconds,
            environment.cancelled,
            lambda: connection.request("GET", target, seconds=seconds, cut=MOST),
        )
    except TimeoutError:
        return Verdict.FAIL, f"{url}: no answer in {seconds:g} s"
    except HttpError as error:
        words = f"no answer in {seconds:g} s" if error.kind == "timeout" else error.words
        return Verdict.FAIL, f"{url}: {words}"
    except ValueError:
        return Verdict.FAIL, f"{url}: not a valid URL"
    connection.close()
    said = f"{url}: status {answer.status}"
    if answer.status != page.status:
        elsewhere = answer.headers.get("location")
        return Verdict.FAIL, f"{said}{f' (leads to {elsewhere})' if elsewhere else ''}, not {page.status}"
    if page.text is not None and page.text not in answer.body.decode("utf-8", "replace"):
        return Verdict.FAIL, f"{said}, but without the text {page.text!r}"
    return Verdict.PASS, said
