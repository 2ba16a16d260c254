"""The ``http`` step: request a URL and check its answer."""

from __future__ import annotations

from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from ssl import SSLCertVerificationError
from urllib.parse import SplitResult, urlsplit

from bmhctl.domain.model import HostSpec, Verdict
from bmhctl.domain.policy import HttpStep, Step
from bmhctl.probes.cancellation import within
from bmhctl.probes.placeholders import fill
from bmhctl.probes.setting import StepEnvironment
from bmhctl.support.values import replace

MOST = 1 << 20
"""How many bytes of an answer are looked at."""


def fetch(step: Step, spec: HostSpec, setting: StepEnvironment) -> tuple[Verdict, str]:
    """Passes when the URL answers in time with the status, and with the text among its first bytes.

    Redirects are not followed: what answers is what was asked. TLS is verified.
    """
    page = step.page or HttpStep("")
    if spec.address is not None and ":" in spec.address:
        spec = replace(spec, address=f"[{spec.address}]")  # so a URL writes an IPv6 address
    url, seconds = fill(page.url, spec), step.timeout.total_seconds()
    try:
        answer, body = within(seconds, setting.cancelled, lambda: _get(urlsplit(url), seconds))
    except TimeoutError:
        return Verdict.FAIL, f"{url}: no answer in {seconds:g} s"
    except SSLCertVerificationError as error:
        return Verdict.FAIL, f"{url}: its TLS certificate can't be verified: {error.verify_message}"
    except (OSError, HTTPException, ValueError) as error:
        said = getattr(error, "strerror", None) or " ".join(str(error).split()) or type(error).__name__
        return Verdict.FAIL, f"{url}: {said[:200]}"
    said = f"{url}: status {answer.status}"
    if answer.status != page.status:
        elsewhere = answer.getheader("Location")
        return Verdict.FAIL, f"{said}{f' (leads to {elsewhere})' if elsewhere else ''}, not {page.status}"
    if page.text is not None and page.text not in body.decode("utf-8", "replace"):
        return Verdict.FAIL, f"{said}, but without the text {page.text!r}"
    return Verdict.PASS, said


def _get(url: SplitResult, seconds: float) -> tuple[HTTPResponse, bytes]:
    make = HTTPSConnection if url.scheme == "https" else HTTPConnection
    connection = make(url.hostname or "", url.port, timeout=seconds)
    try:
        connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""))
        answer = connection.getresponse()
        return answer, answer.read(MOST)
    finally:
        connection.close()
