#!/bin/sh
# Check whether the host is on or off, for BMCs that speak only IPMI, through ipmitool:
#
#   [checks.power]
#   command = ["./lab/ipmi-power.sh", "on"]
#   selector = "ipmi"
#   timeout = "20s"
# The inventory has the BMC's address. The environment of the bmhctl command has its user, IPMI_USER, and its password,
# IPMI_PASSWORD. ipmitool reads the password from there (-E), so that no process list shows it. If ipmitool says that it
# is "unable to establish IPMI v2 / RMCP+ session", set IPMI_CIPHER to a cipher suite that the BMC accepts: 17 or 3.
# With "reset" as $2 the script resets the host first (or switches it on), as a cleanup step, and waits until it is on:
#
#   [cleanup.reset]
#   command = ["./lab/ipmi-power.sh", "on", "reset"]
#   timeout = "2m"

wanted=${1:?on or off}
bmc=${BMH_BMC_ADDRESS:?the host has no BMC in the inventory}
bmc=${bmc#*://}
bmc=${bmc%%/*}
case $bmc in
    \[*) host=${bmc#\[} host=${host%%\]*} port=${bmc##*\]} ;; # an IPv6 address
    *) host=${bmc%%:*} port=${bmc#"${bmc%%:*}"} ;;
esac
port=${port#:}

ipmi() {
    ipmitool -I lanplus ${IPMI_CIPHER:+-C "$IPMI_CIPHER"} -H "$host" -p "${port:-623}" \
        -U "${IPMI_USER:?is not set}" -E -N 2 -R 2 "$@"
}

# ipmitool also exits with 0 if the power is not as wanted.
is() {
    status=$(ipmi chassis power status) || exit
    case $status in *"Chassis Power is $1"*) ;; *) return 1 ;; esac
}

if [ "$2" = reset ]; then
    if is off; then
        ipmi chassis power on || exit # a host that is off refuses a reset
    else
        ipmi chassis power reset || exit
    fi
    until is "$wanted"; do sleep 1; done
fi
is "$wanted"
result=$?
echo "$status"
exit $result
