"""The ``http`` step: does a URL answer as it should?"""

from __future__ import annotations

from bmhctl.model import HostSpec, Verdict
from bmhctl.policy import Page, Step
from bmhctl.probes import fill

MOST = 1 << 20
"""How many bytes of an answer are looked at."""


def fetch(step: Step, spec: HostSpec) -> tuple[Verdict, str]:
    """Passes when the URL answers in time with the status, and with the text among its first bytes.

    Redirects are not followed: what answers is what was asked. TLS is verified.
    """
    import http.client
    from urllib.parse import urlsplit

    page = step.page or Page("")
    url = urlsplit(fill(page.url, spec))
    seconds = step.timeout.total_seconds()
    make = http.client.HTTPSConnection if url.scheme == "https" else http.client.HTTPConnection
    try:
        connection = make(url.hostname or "", url.port, timeout=seconds)
        try:
            connection.request("GET", (url.path or "/") + (f"?{url.query}" if url.query else ""))
            answer = connection.getresponse()
            body = answer.read(MOST)
        finally:
            connection.close()
    except TimeoutError:
        return Verdict.FAIL, f"{url.geturl()}: no answer in {seconds:g} s"
    except (OSError, http.client.HTTPException, ValueError) as error:
        return Verdict.FAIL, f"{url.geturl()}: {getattr(error, 'strerror', None) or error or type(error).__name__}"
    if answer.status != page.status:
        return Verdict.FAIL, f"{url.geturl()}: status {answer.status}, not {page.status}"
    if page.text is not None and page.text not in body.decode("utf-8", "replace"):
        return Verdict.FAIL, f"{url.geturl()}: status {answer.status}, but without the text {page.text!r}"
    return Verdict.PASS, f"{url.geturl()}: status {answer.status}"
