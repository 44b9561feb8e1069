import { entry } from './spec.ts';

/** Errors of address management. */
export const ipamErrors = {
  'ipam/no-pool': entry(
    'state',
    (d: { family: number; node: string }) =>
      `no enabled IPv${d.family} pool for host ${d.node}; create one (calico-cnm apply), or create the network with --subnet`,
  ),
  'ipam/unknown-pool': entry(
    'input',
    (d: { name: string; known: string }) =>
      `no enabled IP pool "${d.name}" of this address family; available: ${d.known}`,
  ),
  'ipam/pool-not-for-workloads': entry(
    'state',
    (d: { pool: string; uses: string }) =>
      `IP pool ${d.pool} does not allow workloads (allowedUses: ${d.uses}); choose another, or add Workload to allowedUses (calico-cnm apply)`,
  ),
  'ipam/full': entry(
    'state',
    (d: { where: string; size: string; reserved: string }) =>
      `no free address in ${d.where} (${d.size} address${d.size === '1' ? '' : 'es'}${d.reserved === '0' ? '' : `, ${d.reserved} reserved`}); remove containers, or use another pool`,
  ),
  'ipam/no-tunnel-address': entry(
    'state',
    (d: { node: string; where: string }) =>
      `no free address for the tunnel of host ${d.node} in ${d.where}; remove containers, or create another pool (calico-cnm apply)`,
  ),
  'ipam/block-limit': entry(
    'state',
    (d: { node: string; limit: number }) =>
      `host ${d.node} has reached its limit of ${d.limit} blocks; raise maxBlocksPerHost, or remove containers`,
  ),
  'ipam/no-new-blocks': entry(
    'state',
    (d: { node: string }) =>
      `host ${d.node} has no free address and must not claim blocks (auto_allocate_blocks: false); remove containers, or enable it`,
  ),
  'ipam/address-taken': entry(
    'state',
    (d: { address: string; holder: string }) =>
      `address ${d.address} is in use by ${d.holder}; choose another, or remove its user first`,
  ),
  'ipam/address-outside': entry(
    'input',
    (d: { address: string; where: string }) => `address ${d.address} is not in ${d.where}`,
  ),
  'ipam/prefix-in-use': entry(
    'state',
    (d: { prefix: string; what: string }) =>
      `prefix ${d.prefix} overlaps ${d.what}; choose one that overlaps nothing`,
  ),
  'ipam/extra-address-needs-ipam': entry(
    'input',
    (d: { what: string }) =>
      `${d.what} cannot be added: this network uses Docker's own IPAM; create the network with --ipam-driver calico-ipam`,
  ),
  'ipam/address-elsewhere': entry(
    'state',
    (d: { address: string; owner: string }) =>
      `address ${d.address} is in a block of host ${d.owner}, and strict affinity forbids borrowing; choose another address`,
  ),
  'ipam/block-overlaps': entry(
    'state',
    (d: { address: string; cidr: string; other: string }) =>
      `cannot allocate address ${d.address}: its block ${d.cidr} overlaps block ${d.other} of another size; choose another address, or remove the containers of block ${d.other}`,
  ),
  'ipam/address-not-held': entry(
    'state',
    (d: { address: string }) => `address ${d.address} is not allocated; nothing to release`,
  ),
  'ipam/subnet-in-use': entry(
    'state',
    (d: { subnet: string; what: string; cidr: string }) =>
      `subnet ${d.subnet} overlaps ${d.what} (${d.cidr}) on this host; choose another, or create an IP pool for it first (calico-cnm apply)`,
  ),
  'ipam/subnet-overlaps': entry(
    'state',
    (d: { subnet: string; pool: string; cidr: string }) =>
      `subnet ${d.subnet} overlaps IP pool ${d.pool} (${d.cidr}) but is not inside it; choose another subnet`,
  ),
  'ipam/subnet-not-in-pools': entry(
    'input',
    (d: { subnet: string; pools: string }) => `subnet ${d.subnet} is not inside IP pool ${d.pools}`,
  ),
  'ipam/bad-subnet': entry(
    'input',
    (d: { subnet: string; why: string }) => `subnet ${d.subnet}: ${d.why}`,
  ),
  'ipam/special-subnet': entry(
    'input',
    (d: { subnet: string; range: string; example: string }) =>
      `subnet ${d.subnet} is not usable for containers: ${d.range}; choose another, such as ${d.example}`,
  ),
  'ipam/docker-subnet-taken': entry(
    'state',
    (d: { subnet: string; owner: string }) =>
      `Docker chose subnet ${d.subnet}, which belongs to ${d.owner}; create the network with --ipam-driver calico-ipam, or another --subnet`,
  ),
  'ipam/unknown-option': entry(
    'input',
    (d: { key: string; known: string }) => `unknown --ipam-opt "${d.key}"; known: ${d.known}`,
  ),
  'ipam/unknown-pool-id': entry(
    'input',
    (d: { poolId: string }) => `unknown calico-ipam pool "${d.poolId}"; recreate the network`,
  ),
  'ipam/asked-too-often': entry(
    'state',
    (d: { pool: string }) =>
      `Docker rejects IPv6 pool ${d.pool} because it overlaps a name server or route of this host; create the network with --subnet`,
  ),
  'ipam/no-next-hop': entry(
    'state',
    (_: Record<string, never>) => 'all link-local next hops are in use; remove unused networks',
  ),
  'ipam/default-pool-overlaps': entry(
    'input',
    (d: { cidr: string; with: string }) =>
      `the default pool ${d.cidr} overlaps ${d.with}; choose another range (CALICO_IPV4POOL_CIDR, CALICO_IPV6POOL_CIDR)`,
  ),
  'ipam/no-default-range': entry(
    'state',
    (_: Record<string, never>) =>
      'no free range for a default IP pool; set CALICO_IPV4POOL_CIDR or NO_DEFAULT_POOLS',
  ),
} as const;
