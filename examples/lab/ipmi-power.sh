#!/bin/sh
# Check whether the host is on or off, for BMCs that speak only IPMI, through ipmitool:
#
#   [checks.power]
#   command = ["./lab/ipmi-power.sh", "on"]
#   selector = "ipmi"
#   timeout = "20s"
# The inventory has the BMC's address. The environment of the bmhctl command has its user, IPMI_USER, and its password,
# IPMI_PASSWORD. ipmitool reads the password from there (-E), so that no process list shows it.
# With "reset" as $2 the script resets the host first, as a cleanup step:
#
#   [cleanup.reset]
#   command = ["./lab/ipmi-power.sh", "on", "reset"]

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
