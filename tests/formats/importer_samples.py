"""One small text of each kind that import reads; the secret in each is ``hunter2``."""

from __future__ import annotations

import json

IRONIC = json.dumps(
    {
        "nodes": [
            {
                "uuid": "6d85703a-565d-469a-96ce-30b6de53079d",
                "name": "ir1",
                "provision_state": "available",
                "maintenance": False,
                "driver": "redfish",
                "driver_info": {
                    "redfish_address": "https://10.0.1.1",
                    "redfish_system_id": "/redfish/v1/Systems/1",
                    "redfish_username": "admin",
                    "redfish_password": "hunter2",
                    "redfish_verify_ca": "False",
                },
                "properties": {"cpus": "16", "cpu_arch": "x86_64", "memory_mb": 32768, "local_gb": "100"},
                "resource_class": "baremetal",
                "traits": ["CUSTOM_GPU"],
                "description": None,
                "retired": False,
            },
            {
                "uuid": "2b045129-a906-46af-bc1a-092b294b3428",
                "name": None,
                "provision_state": "active",
                "instance_uuid": "5344a3e2-978a-444e-990a-cbf47c62ef88",
                "maintenance": True,
                "maintenance_reason": "fan",
                "driver": "ipmi",
                "driver_info": {"ipmi_address": "10.0.1.2", "ipmi_port": 6230, "ipmi_password": "hunter2"},
                "properties": {},
            },
            {"uuid": "a", "name": "ir3", "provision_state": "clean failed", "last_error": "disk", "driver": "ipmi"},
            {"uuid": "b", "name": "ir4", "provision_state": "manageable", "retired": True, "driver": "ipmi"},
        ]
    }
)
IRONIC_LIST = json.dumps(
    [
        {
            "UUID": "u-1",
            "Name": "ir1",
            "Instance UUID": None,
            "Power State": "power off",
            "Provisioning State": "available",
            "Maintenance": False,
        },
        {
            "UUID": "u-2",
            "Name": "ir2",
            "Instance UUID": "i-2",
            "Power State": "power on",
            "Provisioning State": "active",
            "Maintenance": False,
        },
    ]
)
IRONIC_PORTS = json.dumps(
    [
        {"UUID": "p-1", "Address": "52:54:00:00:00:02", "Node UUID": "u-1", "PXE boot enabled": False},
        {"UUID": "p-2", "Address": "52:54:00:00:00:01", "Node UUID": "u-1", "PXE boot enabled": True},
        {"UUID": "p-3", "Address": "52:54:00:00:00:09", "Node UUID": "u-9"},
    ]
)
MAAS = json.dumps(
    [
        {
            "system_id": "abc123",
            "hostname": "calm-cod",
            "fqdn": "calm-cod.maas",
            "status_name": "Deployed",
            "owner": "ada",
            "architecture": "amd64/generic",
            "cpu_count": 8,
            "memory": 16384,
            "ip_addresses": ["2001:db8::1", "10.0.0.5"],
            "pool": {"name": "default"},
            "zone": {"name": "north"},
            "tag_names": ["gpu"],
            "power_type": "ipmi",
            "power_parameters": {"power_address": "10.0.1.5", "power_user": "maas", "power_pass": "hunter2"},
            "boot_interface": {"mac_address": "52:54:00:00:01:01", "links": [{"ip_address": "10.0.0.5"}]},
            "interface_set": [{"mac_address": "52:54:00:00:01:02"}, {"mac_address": "52:54:00:00:01:01"}],
            "physicalblockdevice_set": [{"size": 1000000000}, {"size": 24000000000}],
            "hardware_info": {"system_vendor": "Dell", "system_product": "Unknown", "system_serial": "X1"},
        },
        {"system_id": "abc124", "hostname": "new-tuna", "fqdn": "new-tuna.maas", "status_name": "Failed testing"},
        {"system_id": "abc125", "hostname": "old-eel", "fqdn": "old-eel.maas", "status_name": "Retired"},
        {"system_id": "abc126", "hostname": "ready-ray", "fqdn": "ready-ray.maas", "status_name": "Ready"},
        {
            "system_id": "abc127",
            "hostname": "rescue-ray",
            "fqdn": "r.maas",
            "status_name": "Rescue mode",
            "owner": None,
        },
    ]
)
NETBOX = json.dumps(
    {
        "count": 3,
        "next": None,
        "previous": None,
        "results": [
            {
                "id": 7,
                "name": "srv 7:a",
                "device_type": {"manufacturer": {"name": "Dell"}, "model": "R640", "slug": "r640"},
                "role": {"name": "Server", "slug": "server"},
                "site": {"name": "Data Centre 1", "slug": "dc1"},
                "rack": {"name": "Plant 1"},
                "position": 37.0,
                "tenant": {"name": "Team A", "slug": "team-a"},
                "status": {"value": "active", "label": "Active"},
                "primary_ip": {"address": "10.0.0.7/24"},
                "oob_ip": {"address": "10.0.1.7/24"},
                "serial": "S7",
                "tags": [{"name": "GPU", "slug": "gpu"}],
                "custom_fields": {
                    "cost_centre": 12,
                    "bmc_password": "hunter2",
                    "kind": {"value": "x", "label": "X"},
                    "uses": ["ci", {"name": "dev"}],
                },
            },
            {"id": 8, "name": "gone", "device_type": {}, "site": None, "status": {"value": "decommissioning"}},
            {"id": 9, "name": None, "device_type": {}, "site": None, "status": {"value": "staged"}},
        ],
    }
)
METAL_OPERATOR = """\
apiVersion: metal.ironcore.dev/v1alpha1
kind: Server
metadata: {name: srv1, labels: {rack: "1-1"}}
spec:
  systemUUID: "38947555-7742-3448-3784-823347823834"
  systemURI: /redfish/v1/Systems/437XR1138R2
  bmcRef: {name: bmc1}
status:
  state: Available
  manufacturer: Contoso
  totalSystemMemory: 96Gi
  processors: [{id: CPU1, type: CPU, totalThreads: 16, instructionSet: x86-64}]
  networkInterfaces: [{name: eth0, ips: [10.0.0.21], macAddress: "52:54:00:00:02:01"}]
---
apiVersion: metal.ironcore.dev/v1alpha1
kind: BMC
metadata: {name: bmc1}
spec:
  access: {ip: 10.0.1.21}
  bmcSecretRef: {name: bmc1-secret}
  protocol: {name: Redfish, port: 8000, scheme: http}
---
apiVersion: metal.ironcore.dev/v1alpha1
kind: BMCSecret
metadata: {name: bmc1-secret}
stringData: {password: hunter2}
---
apiVersion: metal.ironcore.dev/v1alpha1
kind: ServerClaim
metadata: {name: claim2, namespace: team}
spec: {serverRef: {name: srv2}, power: "On"}
---
apiVersion: metal.ironcore.dev/v1alpha1
kind: ServerList
items:
- metadata: {name: srv2}
  status: {state: Reserved}
- metadata: {name: srv3}
  spec: {serverMaintenanceRef: {name: m1, namespace: ops}}
  status: {state: Maintenance}
- metadata: {name: srv4}
  status: {state: Error}
"""
TINKERBELL = """\
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: tink1
  namespace: tink-system
  labels: {type: cp}
spec:
  bmcRef: {apiGroup: bmc.tinkerbell.org, kind: Machine, name: bmc-tink1}
  disks: [{device: /dev/nvme0n1}]
  metadata: {facility: {facility_code: onprem}, instance: {id: x, crypted_root_password: hunter2}}
  interfaces:
  - dhcp: {arch: x86_64, mac: "52:54:00:00:03:01", ip: {address: 10.0.0.31, netmask: 255.255.255.0}}
    netboot: {allowPXE: true}
---
apiVersion: bmc.tinkerbell.org/v1alpha1
kind: Machine
metadata: {name: bmc-tink1, namespace: tink-system}
spec: {connection: {host: 10.0.1.31, port: 623, authSecretRef: {name: bmc-creds}, insecureTLS: true}}
---
apiVersion: tinkerbell.org/v1alpha1
kind: Hardware
metadata:
  name: tink2
  labels: {v1alpha1.tinkerbell.org/ownerName: node-a, v1alpha1.tinkerbell.org/ownerNamespace: capt}
spec: {metadata: {state: provisioned}}
status: {state: Ready}
"""
LABGRID = """\
board-1:
  acquired: host1/alice
  acquired_resources: []
  aliases: [b1]
  allowed: [host1/alice]
  changed: 1575386386.3115733
  comment: by the window
  created: 1575376664.3120446
  matches:
  - {cls: '*', exporter: exp1, group: g, name: null, rename: null}
  reservation: null
  tags: {board: imx8, soc: nxp}
board-2:
  acquired: null
  allowed: []
  comment: ''
  matches: []
  reservation: null
  tags: {}
"""
BIFROST = json.dumps(
    {
        "bif1": {
            "uuid": "00000000-0000-0000-0000-000000000002",
            "driver_info": {"ipmi_username": "ADMIN", "ipmi_address": "10.0.1.41", "ipmi_password": "hunter2"},
            "nics": [{"mac": "00:00:00:23:34:56"}, {"mac": "00:00:00:12:34:57"}],
            "driver": "ipmi",
            "ipv4_address": "10.0.0.41",
            "properties": {"cpu_arch": "x86_64", "ram": "32768", "disk_size": "100", "cpus": "16"},
            "name": "bif1",
            "host_groups": ["nova"],
        }
    }
)
BIFROST_CSV = (
    "00:1c:ab:8a:97:eb,root,hunter2,10.0.1.42,1,8192,512,Control,VM,a8cb6624-0d9f,bif2,10.0.0.42,,,,,ipmi\r\n"
    "00:3a:ca:56:7d:2e,root,hunter2,10.0.1.43,1,8192,512,Control,VM,a8cb6625-0d9f,bif3,10.0.0.43,,,,\r\n"
)
ANSIBLE_YAML = """\
all:
  vars: {ansible_user: root, site: dc1}
  children:
    web:
      hosts:
        web[01:02].lab: {ansible_host: "10.0.0.51", ansible_password: hunter2}
      vars: {rack: r1}
    lab:
      children: {web: {}, db: null}
    db:
      hosts:
        db-1: {ansible_host: db-1.example, rack: r2, version: 1.10, ansible_become_pass: !vault "$ANSIBLE_VAULT;1.1"}
"""
ANSIBLE_INI = """\
# the lab
mail.example ansible_host=10.0.0.60

[web]
web[01:02].lab:22 ansible_host=10.0.0.61 ansible_password='hunter2 and more' # comment
db-[a:b]:2222 mac=52:54:00:00:06:01

[web:vars]
rack = r1
note="with spaces"

[lab:children]
web
"""
ANSIBLE_JSON = json.dumps(
    {
        "_meta": {
            "hostvars": {"web1": {"ansible_host": "10.0.0.71", "ipmi_address": "10.0.1.71", "ipmi_pass": "hunter2"}}
        },
        "all": {"children": ["ungrouped", "web"]},
        "web": {"hosts": ["web1", "web2"], "vars": {"rack": "r7"}},
        "ungrouped": ["alone"],
    }
)
CSV = (
    "Host Name,IP Address,MAC,Rack,BMC IP,BMC Password,CPUs,Memory GB,Comment\n"
    'csv1,10.0.0.81,52-54-00-00-08-01,r 1,10.0.1.81,hunter2,16,64,"left, top"\n'
    "csv2,10.0.0.82,,r2,,,,,\n"
)
DNSMASQ = """\
1625595932 52:54:00:00:09:01 10.0.0.91 lease1 01:52:54:00:00:09:01
0 06-52:54:00:00:09:02 10.0.0.92 * *
duid 00:01:00:01
1625595932 7 fd00::91 lease1 00:01
"""
ISC = """\
# The format of this file is documented in the dhcpd.leases(5) manual page.
authoring-byte-order little-endian;

lease 10.0.0.95 {
  starts 4 2026/01/01 12:00:00;
  binding state active;
  hardware ethernet 52:54:00:00:09:05;
  client-hostname "isc-old";
}
lease 10.0.0.95 {
  binding state active;
  hardware ethernet 52:54:00:00:09:05;
  client-hostname "isc1";
}
lease 10.0.0.96 {
  binding state free;
  client-hostname "isc2";
}
"""
ISC_HOSTS = """\
include "/etc/dhcp/more.conf";
subnet 10.5.0.0 netmask 255.255.255.0 {
  range 10.5.0.50 10.5.0.99; # host no { hardware ethernet 52:54:00:00:05:99; }
  group {
    host is1 { hardware ethernet 52:54:0:0:5:1; fixed-address 10.5.0.1, 10.5.0.2; }
    host "is2.lab"
    {
      option host-name "other; }";
      hardware ethernet 52:54:00:00:05:02;
    }
  }
}
"""
DNSMASQ_HOSTS = """\
# static hosts
interface=eth0
expand-hosts
dhcp-range=10.5.0.50,10.5.0.150,12h
dhcp-host=52:54:00:00:04:05,dm1,10.5.0.5,infinite
dhcp-host = 52:54:00:00:04:06,52:54:00:00:04:16,set:red,10.5.0.6,dm2 # two NICs
  dhcp-host=52:54:00:00:04:09,[2001:db8::9],dm3,1w
dhcp-host=52:54:00:00:04:0a,ignore
"""
KEA_HOSTS = """\
// for the lab
{ "Dhcp4": {
    "option-data": [ { "name": "domain-name", "data": "http://lab#1" } ], # not a comment in a text
    /* racks */
    "shared-networks": [ { "subnet4": [ { "reservations": [
        { "hw-address": "52:54:00:00:07:01", "ip-address": "10.7.0.1", "hostname": "ke1" },
        { "hw-address": "52:54:00:00:07:02", "hostname": "ke2.lab." },
        { "duid": "01:02:03", "ip-addresses": [ "2001:db8::4" ], "hostname": "ke4" },
        { "client-id": "01:02", "ip-address": "10.7.0.5", "hostname": "ke5" },
        { "hw-address": "52:54:00:00:07:03", "ip-address": "10.7.0.3" } ] } ] } ]
} }
"""
KEA = """\
address,hwaddr,client_id,valid_lifetime,expire,subnet_id,fqdn_fwd,fqdn_rev,hostname,state,user_context,pool_id
10.0.0.90,52:54:00:00:09:10,01:52:54:00:00:09:10,3600,1700003600,1,1,1,old.lab.,0,,0
10.0.0.91,52:54:00:00:09:11,,3600,1700003600,1,0,0,,0,,0
10.0.0.92,52:54:00:00:09:12,,3600,1700003600,1,0,0,kea2,2,,0
10.0.0.93,52:54:00:00:09:13,,0,1700003600,1,0,0,kea3,0,,0
10.0.0.90,52:54:00:00:09:10,01:52:54:00:00:09:10,3600,1700007200,1,1,1,kea1.lab.,0,,0
"""
HOSTS = """\
127.0.0.1 localhost
::1 ip6-localhost ip6-loopback
# the lab
fd00::97   h1.lab h1
10.0.0.97  h1.lab h1   # by hand
10.0.0.98\th2
"""

SAMPLES = {
    "ironic": IRONIC,
    "ironic's command line": IRONIC_LIST,
    "maas": MAAS,
    "netbox": NETBOX,
    "metal-operator": METAL_OPERATOR,
    "tinkerbell": TINKERBELL,
    "labgrid": LABGRID,
    "bifrost": BIFROST,
    "bifrost's CSV": BIFROST_CSV,
    "ansible": ANSIBLE_YAML,
    "ansible's INI": ANSIBLE_INI,
    "ansible's JSON": ANSIBLE_JSON,
    "csv": CSV,
    "dnsmasq": DNSMASQ,
    "dnsmasq's configuration": DNSMASQ_HOSTS,
    "isc-dhcp": ISC,
    "isc-dhcp's configuration": ISC_HOSTS,
    "kea": KEA,
    "kea's configuration": KEA_HOSTS,
    "hosts": HOSTS,
}
"""A text of each kind, by what `--from` calls it."""
