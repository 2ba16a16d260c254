#!/bin/sh
# Is the host's power as it should be? For BMCs that speak IPMI only, through ipmitool:
#
#   [checks.power]
#   command = ["./lab/ipmi-power.sh", "on"]
#   selector = "ipmi"
#   timeout = "20s"
#
# The BMC's address comes from the inventory, its user and password from the environment of the bmhctl command:
# IPMI_USER, and IPMI_PASSWORD, which ipmitool reads by itself (-E), so that no process list shows it.
# With "reset" as $2 it first resets the host, for a cleanup step: [cleanup.reset] command = ["./lab/ipmi-power.sh", "on", "reset"]

wanted=${1:?on or off}
bmc=${BMH_BMC_ADDRESS:?the host has no BMC in the inventory}
bmc=${bmc#*://}
bmc=${bmc%%/*}

ipmi() {
    ipmitool -I lanplus -H "${bmc%:*}" -U "${IPMI_USER:?is not set}" -E -N 2 -R 2 "$@"
}

if [ "$2" = reset ]; then
    ipmi chassis power reset || exit
fi
status=$(ipmi chassis power status) || exit
echo "$status"
[ "$status" = "Chassis Power is $wanted" ]
