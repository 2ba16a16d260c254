"""Recognise what a file without hosts contains, so that the message names the mistake."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain, islice

from bmhctl.support.lazy_regex import pattern

_BYTES = (
    (
        "an Excel workbook: save it as CSV",
        pattern(rb"PK\x03\x04.{0,4000}?xl/|\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", re.S),
    ),
    ("an OpenDocument file: save it as CSV", pattern(rb"PK\x03\x04.{26}mimetypeapplication/vnd\.oasis", re.S)),
    ("an archive: name the files in it", pattern(rb"PK\x03\x04|.{257}ustar", re.S)),
    ("a compressed file of another kind than gzip", pattern(rb"BZh[1-9]|\xfd7zXZ\0|\x28\xb5\x2f\xfd")),
    (
        "a file that Ansible Vault has encrypted: ansible-vault view FILE | bmhctl import -",
        pattern(rb"\s*\$ANSIBLE_VAULT;"),
    ),
    ("a PDF", pattern(rb"%PDF-")),
    ("an image", pattern(rb"\x89PNG|\xff\xd8\xff|GIF8")),
    ("a SQLite database: bmhctl copy copies an inventory", pattern(rb"SQLite format 3\0")),
)

_MAC = r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}"
_UUID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
_COLUMN = r"[A-Z][\w()/-]*+(?: [\w()/-]++)*+"
_OTHERS = (
    ("an empty file", pattern(r"\s*\Z")),
    ("a CSV that bmhctl wrote: -o json or toml writes all that hosts have", pattern(r"name,state,flags,since,")),
    (
        "a table for people: write JSON, YAML or CSV",
        pattern(
            rf"\s*+(?:\+-[-+=]*\+[ \t\r]*+\n|\|[^\n]*+\n[ \t]*+\|[-:| ]++\r?\n"
            rf"|{_COLUMN}(?: {{2,}}+{_COLUMN})++ *+\r?(?:\n|\Z))"
        ),
    ),
    ("an HTML page", pattern(r"\s*<(?:!doctype html|html)", re.I)),
    ("XML", pattern(r"\s*<[?!a-z]", re.I)),
    (
        "a configuration of ssh",
        pattern(r"(?:\s++|#[^\n]*+\n)*+(?:Host|Match)[ \t]++[^\n:=]++\n[ \t]++[A-Z]\w++[ \t=]"),
    ),
    (
        "a configuration of OpenWrt: import its leases: /tmp/dhcp.leases",
        pattern(r"(?:\s++|#[^\n]*+\n)*+config[ \t]++\w[^\n]*+\n[ \t]++(?:option|list)[ \t]"),
    ),
    ("an export of RouterOS", pattern(r"#[^\n]*\bRouterOS\b|/(?:ip|interface|system)[ /][^\n]*+\n(?:add|set)[ \t]")),
    (
        "a configuration of Slurm",
        pattern(
            r"(?:\s++|#[^\n]*+\n)*+(?:ClusterName|ControlMachine|SlurmctldHost|NodeName|NodeSet|PartitionName)[ \t]*+="
        ),
    ),
    ("objects of RackTables", pattern(r"OBJECT;")),
    ("a report of Cobbler", pattern(r"\s*+Name {5,}: ")),
    ("nodes of xCAT", pattern(r"# <xCAT data|Object name: |[\w.-]++:\n[ \t]++objtype=")),
    ("addresses of neighbours, without names", pattern(r"\S++ (?:dev \S++ |\([0-9.]++\) at )")),
    (
        """an ethers file: awk 'BEGIN {print "mac,name"} /^[0-9a-fA-F]/ {print $1","$2}' FILE | bmhctl import -""",
        pattern(rf"(?:\s++|#[^\n]*+\n)*+{_MAC}[ \t]++\S++[ \t]*+(?:#[^\n]*+)?+(?:\n|\Z)"),
    ),
    (
        "a list of Ironic nodes for scripts: baremetal node list --long -f json writes one with titles",
        pattern(rf"{_UUID}[ \t]++[^\n]*? (?:power on|power off|None) [^\n]*+(?:\n|\Z)"),
    ),
    ("a script: import what it prints, such as SCRIPT --list | bmhctl import -", pattern(r"#!")),
)
NEVER_HOSTS = frozenset(words for words, _ in _OTHERS)
"""The texts without hosts that are recognised, whatever the name of their file."""

_COMMENTS = r"(?:\s++|#[^\n]*+\n)*+"
_SETTINGS = r"(?:\s++|#[^\n]*+\n|(?!include\b)[a-z][a-z0-9.-]*+(?: [^\n{};]++)?+;)*+"
"""Empty lines, comments and settings of a file of an ISC server."""
_ABOVE = rf"(?:{_SETTINGS}include\b[^\n;]*+;)*+{_SETTINGS}"
"""What may precede the first block of such a file: these, and included files."""
_LINE = r"(?:\s++|#[^\n]*+\n)*+[^\s{\[\"'&*!|>?%@-](?:(?!:\s)[^\n])*+(?<!:)(?:\n|\Z)"
"""A first line that neither YAML nor JSON begins with."""
_TEXTS = (
    *_OTHERS,
    ("dnsmasq leases", pattern(rf"\d+ {_MAC} [0-9a-f.:]+ \S+")),
    ("CSV", pattern(r"(?!\s*[#-])(?:(?!: )[^\n{}\[\],])*+(?:,(?:(?!: )[^\n{}\[\],])*+){2,}+\r?(?:\n|\Z)")),
    ("leases of DHCPv6, which have no names", pattern(rf"{_ABOVE}ia-(?:na|ta|pd) ")),
    (
        "the configuration of an ISC DHCP server without hosts",
        pattern(rf"{_ABOVE}(?:subnet|host|group|shared-network)\b[^\n:{{]*+\{{"),
    ),
    (
        "the configuration of an ISC DHCP server that includes its hosts: import the files that it includes",
        pattern(rf'{_SETTINGS}include[ \t]++"[^"\n]*?dhcp'),
    ),
    (
        "a template: import what envsubst or Ansible makes of it",
        pattern(rf"{_LINE}[^{{]*+(?:\{{(?![{{%])[^{{]*+)*+\{{[{{%]"),
    ),
    (
        "a list of names: --from ansible reads it",
        pattern(rf"{_COMMENTS}(?:[A-Za-z0-9][\w.-]*+[ \t]*+(?:#[^\n]*+)?+\r?(?:\n|\Z){_COMMENTS}){{2,}}+\Z"),
    ),
    ("a text", pattern(_LINE)),
)
_GET_HOSTS = "kubectl get bmh -A -o yaml writes its hosts"
_REMEDIES = {
    "Kustomization": "kubectl kustomize FOLDER | bmhctl import -",
    "ClusterInstance": _GET_HOSTS,
    "SiteConfig": _GET_HOSTS,
    "AgentConfig": _GET_HOSTS,
}
_RECORDS = (
    ("NetBox devices", {"device_type", "site"}),
    ("NetBox virtual machines, which are not devices", {"vcpus", "cluster"}),
    ("devices of Nautobot", {"device_type", "natural_slug"}),
    ("NetBox objects in brief, or other objects than devices", {"url", "display", "id"}),
    ("NetBox objects in brief, or other objects than devices", {"display_name", "id"}),
    ("an answer of NetBox's GraphQL without device_type and site", {"device_list"}),
    ("Ironic nodes", {"provision_state", "driver"}),
    ("Ironic nodes", {"Provisioning State", "UUID"}),
    ("a bifrost host list", {"driver_info", "nics"}),
    ("Ironic nodes", {"driver_info", "driver"}),
    ("Ironic nodes without provision_state", {"driver_info", "uuid"}),
    (f"an install-config of OpenShift: {_GET_HOSTS}", {"baseDomain", "platform"}),
    ("Ironic nodes without their UUID and Provisioning State", {"Resource Class"}),
    ("Ironic nodes without their UUID and Provisioning State", {"Name", "Driver Info"}),
    (
        "the inventory of an Ironic node, without its name: baremetal node list --long -f json writes the nodes",
        {"inventory", "plugin_data"},
    ),
    ("MAAS machines", {"system_id", "fqdn"}),
    ("MAAS machines without system_id", {"status_name", "fqdn"}),
    ("labgrid places", {"acquired", "matches"}),
    ("labgrid resources, which are not places", {"cls", "params", "avail"}),
    ("hosts of Foreman", {"hostgroup_name", "build"}),
    ("systems of Cobbler", {"profile", "interfaces"}),
    ("nodes of Warewulf", {"nodeprofiles", "nodes"}),
    ("nodes of MAAS 1, without status_name", {"system_id", "macaddress_set"}),
    ("nodes of Proxmox", {"node", "maxcpu"}),
    ("servers of OpenStack", {"Flavor", "Networks"}),
    ("a Terraform state", {"terraform_version", "resources"}),
    ("leases of Kea: --from kea reads them", {"ip-address", "valid-lft"}),
    ("a configuration of Kea: --from kea reads its reservations", {"Dhcp4"}),
    ("Boskos resources", {"type", "names"}),
    ("Boskos resources", {"type", "min-count"}),
    ("a Redfish resource", {"@odata.id"}),
    ("a compose file", {"image"}),
    ("hosts of Nornir", {"hostname", "groups"}),
    ("hosts of Nornir", {"hostname", "platform"}),
    ("an Ansible playbook", {"hosts", "tasks"}),
    ("an Ansible playbook", {"hosts", "roles"}),
    ("variables of Ansible, without hosts", {"ansible_host"}),
    (
        "the configuration of an inventory plugin: ansible-inventory -i FILE --list | bmhctl import -",
        {"plugin"},
    ),
    ("an Ansible inventory, but a group may have only hosts, vars and children", {"hosts"}),
    ("an error that bmhctl wrote", {"code", "status", "message"}),
)
_MOST = 4  # the number of keys that a message names
_DEPTH = 4
_WIDTH = 50


def content_looks_like(content: bytes) -> str | None:
    """Return what the content of a file that is not text looks like, by its beginning; None if that is not known."""
    return next((words for words, begins in _BYTES if begins.match(content)), None)


def text_looks_like(text: str) -> str | None:
    """Return what a text in none of YAML, JSON and TOML looks like, by its beginning; None if that is not known."""
    return next((words for words, begins in _TEXTS if begins.match(text)), None)


def document_looks_like(document: object) -> str:
    """Return what the value of a YAML or JSON document seems to be; of its content, only keys and kinds are shown."""
    if isinstance(document, dict) and isinstance(kind := document.get("kind"), str):
        if isinstance(document.get("version"), int):
            return f"output of bmhctl of another kind: {kind!r:.60}"
        remedy = remedy_for(kind)
        return f"a manifest of the kind {kind!r:.60}{f': {remedy}' if remedy else ''}"
    for record in samples(document):
        for words, keys in _RECORDS:
            if keys <= record.keys():
                return words
    if isinstance(document, dict) and [] in (document.get("results"), document.get("items"), document.get("nodes")):
        return "a list without records"
    if isinstance(document, dict) and document:
        names = [f"{key!s:.40}" for key in document]
        return f"a mapping with {', '.join(names[:_MOST])}{' …' if len(names) > _MOST else ''}"
    return "a list" if document else "an empty file"


def remedy_for(kind: object) -> str | None:
    """Return how to import the hosts of a manifest of this kind, which is not a host; None if that is not known."""
    return _REMEDIES.get(kind) if isinstance(kind, str) else None


def samples(document: object) -> Iterator[dict[str, object]]:
    """Yield some mappings of a document, the outer ones first, because these show the kind of its records."""
    level = [document]
    for _ in range(_DEPTH):
        mappings = [each for each in level if isinstance(each, dict)]
        yield from mappings
        lists = (each.values() if isinstance(each, dict) else each for each in level if isinstance(each, dict | list))
        level = list(islice(chain.from_iterable(lists), _WIDTH))
