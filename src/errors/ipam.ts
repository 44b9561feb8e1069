import { entry } from './spec.ts';

/** Why an address or a pool cannot be had. */
export const ipamErrors = {
  'ipam/no-pool': entry(
    'state',
    (d: { family: number; node: string }) =>
      `no enabled IPv${d.family} pool for host ${d.node}; make one (calico-cnm apply) or create the network with --subnet`,
  ),
  'ipam/unknown-pool': entry(
    'input',
    (d: { name: string; known: string }) =>
      `there is no enabled IP pool "${d.name}" of that family; there are: ${d.known}`,
  ),
  'ipam/pool-not-for-workloads': entry(
    'state',
    (d: { pool: string; uses: string }) =>
      `IP pool ${d.pool} is not for containers (allowedUses: ${d.uses}); name another, or add Workload to its allowedUses (calico-cnm apply)`,
  ),
  'ipam/full': entry(
    'state',
    (d: { where: string; size: string; reserved: string }) =>
      `no free address in ${d.where} (${d.size} address${d.size === '1' ? '' : 'es'}${d.reserved === '0' ? '' : `, ${d.reserved} of them reserved by an IPReservation`}); remove containers, or use a larger or another pool`,
  ),
  'ipam/block-limit': entry(
    'state',
    (d: { node: string; limit: number }) =>
      `host ${d.node} holds ${d.limit} address blocks, its limit; raise maxBlocksPerHost or remove containers`,
  ),
  'ipam/no-new-blocks': entry(
    'state',
    (d: { node: string }) =>
      `host ${d.node} has no free address and may not claim a block (auto_allocate_blocks is off); remove containers, or switch it on`,
  ),
  'ipam/address-taken': entry(
    'state',
    (d: { address: string; holder: string }) =>
      `address ${d.address} is in use by ${d.holder}; choose another, or remove that first`,
  ),
  'ipam/address-outside': entry(
    'input',
    (d: { address: string; where: string }) => `address ${d.address} is not in ${d.where}`,
  ),
  'ipam/extra-address-needs-ipam': entry(
    'input',
    (d: { address: string }) =>
      `address ${d.address} cannot be added: Docker's own IPAM hands out the addresses of this network; create the network with --ipam-driver calico-ipam`,
  ),
  'ipam/address-elsewhere': entry(
    'state',
    (d: { address: string; owner: string }) =>
      `address ${d.address} is in a block of host ${d.owner}, and strict affinity does not lend it; choose another`,
  ),
  'ipam/block-overlaps': entry(
    'state',
    (d: { address: string; cidr: string; other: string }) =>
      `address ${d.address} cannot be given out: its block ${d.cidr} overlaps block ${d.other} of another size, which is in use; choose another address, or remove the containers of that block`,
  ),
  'ipam/address-not-held': entry(
    'state',
    (d: { address: string }) => `address ${d.address} is not in use; there is nothing to release`,
  ),
  'ipam/subnet-in-use': entry(
    'state',
    (d: { subnet: string; what: string; cidr: string }) =>
      `subnet ${d.subnet} overlaps ${d.what} (${d.cidr}) on this host; take another one, or make an IP pool of it first (calico-cnm apply) if that is meant`,
  ),
  'ipam/subnet-overlaps': entry(
    'state',
    (d: { subnet: string; pool: string; cidr: string }) =>
      `subnet ${d.subnet} overlaps IP pool ${d.pool} (${d.cidr}) without being inside it; choose another subnet`,
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
      `subnet ${d.subnet} cannot have containers: ${d.range}; choose another, such as ${d.example}`,
  ),
  'ipam/docker-subnet-taken': entry(
    'state',
    (d: { subnet: string; owner: string }) =>
      `Docker chose ${d.subnet}, which belongs to ${d.owner}; create the network with --ipam-driver calico-ipam, or with another --subnet`,
  ),
  'ipam/unknown-option': entry(
    'input',
    (d: { key: string; known: string }) => `unknown --ipam-opt "${d.key}"; known: ${d.known}`,
  ),
  'ipam/unknown-pool-id': entry(
    'input',
    (d: { poolId: string }) =>
      `"${d.poolId}" is no pool of calico-ipam; remove the network and create it again`,
  ),
  'ipam/asked-too-often': entry(
    'state',
    (d: { pool: string }) =>
      `Docker refuses the IPv6 pool ${d.pool}, as it overlaps a name server or route of this host; create the network with --subnet`,
  ),
  'ipam/no-next-hop': entry(
    'state',
    (_: Record<string, never>) => 'all link-local next hops are in use; remove networks',
  ),
  'ipam/default-pool-overlaps': entry(
    'input',
    (d: { cidr: string; with: string }) =>
      `the default pool ${d.cidr} overlaps ${d.with}; choose another range (CALICO_IPV4POOL_CIDR, CALICO_IPV6POOL_CIDR)`,
  ),
  'ipam/no-default-range': entry(
    'state',
    (_: Record<string, never>) =>
      'no range is left for a default pool; set CALICO_IPV4POOL_CIDR or NO_DEFAULT_POOLS',
  ),
} as const;
