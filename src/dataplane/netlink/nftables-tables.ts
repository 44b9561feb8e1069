import type { IpFamily } from '../../ip/address.ts';
import { text } from './attributes.ts';
import { isRefusal, type NetlinkSocket, type Request } from './socket.ts';

/** Removal of empty chains and tables of nf_tables. Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h. */

const batchBegin = 16;
const batchEnd = 17;
const subsystem = 10;
const deleteTable = (subsystem << 8) | 2;
const deleteChain = (subsystem << 8) | 5;
const tableName = 1;
const chainTable = 1;
const chainName = 3;
const addressFamilies = { 4: 2, 6: 10 } as const;
/** NLM_F_NONREC: refused with EBUSY unless empty. */
const onlyIfEmpty = 0x100;

/**
 * Removes the given chains of a table that are empty, then the table if it is empty; chains in use or missing are
 * skipped. Throws `kernel/refused`.
 */
export function removeEmpty(
  netfilter: NetlinkSocket,
  family: IpFamily,
  { name, chains }: { readonly name: string; readonly chains: readonly string[] },
): void {
  for (const chain of chains) {
    remove(netfilter, {
      type: deleteChain,
      what: `remove the empty chain ${chain} of the table ${name}`,
      payload: Buffer.concat([header(family), text(chainTable, name), text(chainName, chain)]),
    });
  }
  remove(netfilter, {
    type: deleteTable,
    what: `remove the empty table ${name}`,
    payload: Buffer.concat([header(family), text(tableName, name)]),
  });
}

/** nf_tables takes requests only between messages that open and close a transaction. */
function remove(netfilter: NetlinkSocket, request: Request): void {
  const edge = (type: number): Request => ({
    type,
    what: request.what,
    payload: Buffer.from([0, 0, 0, subsystem]),
  });
  try {
    netfilter.enclosed({
      begin: edge(batchBegin),
      requests: [{ ...request, flags: onlyIfEmpty }],
      end: edge(batchEnd),
    });
  } catch (error) {
    if (!isRefusal(error, 'EBUSY', 'ENOENT')) throw error;
  }
}

function header(family: IpFamily): Buffer {
  return Buffer.from([addressFamilies[family], 0, 0, 0]);
}
