#!/bin/sh
# Runs a command on two processes of two hosts that share nothing but a network and the disk: network namespaces of this machine with a
# cable between them. As root, with Open MPI and iproute2:
#   tests/mpi_hosts.sh target/debug/lafter run --model demo --limit-train 60 --limit-test 40 --epochs 4 --out out
set -eu
name=lafter-mpi-$$
trap 'ip netns del $name-1 2>/dev/null || true; ip netns del $name-2 2>/dev/null || true; rm -f "$agent"' EXIT
ip netns add $name-1
ip netns add $name-2
ip link add v1-$$ type veth peer name v2-$$
for i in 1 2; do
    ip link set v$i-$$ netns $name-$i
    ip netns exec $name-$i ip addr add 10.77.0.$i/24 dev v$i-$$
    ip netns exec $name-$i ip link set v$i-$$ up
    ip netns exec $name-$i ip link set lo up
done
# in the place of ssh: a host's address, then a command line
agent=$(mktemp)
cat > "$agent" <<AGENT
#!/bin/sh
i=\${1##*.}; shift
exec ip netns exec $name-\$i unshare -u sh -c "hostname $name-\$i; \$*"
AGENT
chmod +x "$agent"
"$agent" 10.77.0.1 mpirun --allow-run-as-root --host 10.77.0.1,10.77.0.2 -n 2 --mca plm_rsh_agent "$agent" \
    --mca oob_tcp_if_include 10.77.0.0/24 --mca btl_tcp_if_include 10.77.0.0/24 --mca btl tcp,self -x RAYON_NUM_THREADS=1 "$@"
