import { readAttributes } from './attributes.ts';
import type { NetlinkSocket } from './socket.ts';

const getGeneration = (10 << 8) | 16;
const generationId = 1;

/**
 * Returns the generation of the nf_tables ruleset: it grows with every change, by any program. Source:
 * linux/netfilter/nf_tables.h, NFT_MSG_GETGEN.
 */
export function nftablesGeneration(netfilter: NetlinkSocket): number {
  const [answer] = netfilter.query({
    type: getGeneration,
    what: 'read the generation of the nf_tables rules',
    payload: Buffer.alloc(4),
  });
  const found = readAttributes(answer?.payload.subarray(4) ?? Buffer.alloc(0));
  return found.get(generationId)?.readUInt32BE(0) ?? 0;
}
