import type { Draft } from '../../../src/datastore/writer.ts';
import { parseCidr, type Cidr } from '../../../src/ip/cidr.ts';
import type { Block } from '../../../src/model/kinds/block.ts';
import type { IpPool } from '../../../src/model/kinds/ip-pool.ts';
import type { Node } from '../../../src/model/kinds/node.ts';

const apiVersion = 'projectcalico.org/v3';
const blockAddresses = 64;

/** The subnet of all nodes, and this host's address in it. */
export const manyNodes = { uplink: '172.16.0.1/16', pool: parseCidr('10.64.0.0/12') } as const;

/** The way to the blocks of other nodes. */
export type Mode = 'direct' | 'vxlan';

/** Returns the pool with the blocks of all nodes. */
export function manyNodesPool(mode: Mode): IpPool {
  const vxlanMode = mode === 'vxlan' ? 'Always' : 'Never';
  const spec = { cidr: manyNodes.pool, blockSize: 26, vxlanMode } as const;
  return { kind: 'IPPool', apiVersion, metadata: { name: 'many' }, spec };
}

/** Returns the name of a node; number 0 is `here`. */
export function nodeName(n: number): string {
  return n === 0 ? 'here' : `host-${String(n).padStart(5, '0')}`;
}

/** Returns a node as its daemon writes it, with a tunnel address. */
export function nodeNumber(n: number): Node {
  return {
    kind: 'Node',
    apiVersion,
    metadata: { name: nodeName(n) },
    spec: {
      bgp: { ipv4Address: `${address('172.16', n + 1)}/16` },
      ipv4VXLANTunnelAddr: address('10.80', n + 1),
      vxlanTunnelMACAddr: `66:00:00:00:${hex(n >> 8)}:${hex(n)}`,
    },
  };
}

/** Returns the network of a block. */
export function blockCidr(n: number): Cidr {
  const first = n * blockAddresses;
  return parseCidr(`10.${64 + (first >> 16)}.${(first >> 8) & 255}.${first & 255}/26`);
}

/** Returns a block of a node, without allocations. */
export function blockNumber(n: number, node: number): Block {
  const numbers = Array.from({ length: blockAddresses }, (_, at) => at);
  return {
    cidr: blockCidr(n),
    affinity: `host:${nodeName(node)}`,
    allocations: numbers.map(() => null),
    unallocated: numbers,
    attributes: [],
    sequenceNumber: 0n,
  };
}

/** Puts a node with one block. */
export function putNode(draft: Draft, n: number): void {
  draft.put('Node', nodeName(n), nodeNumber(n));
  draft.put('Block4', blockCidr(n), blockNumber(n, n));
}

function address(prefix: string, n: number): string {
  return `${prefix}.${(n >> 8) & 255}.${n & 255}`;
}

function hex(n: number): string {
  return (n & 255).toString(16).padStart(2, '0');
}
