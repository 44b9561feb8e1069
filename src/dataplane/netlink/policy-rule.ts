import type { IpFamily } from '../../ip/address.ts';
import { cidrFamily, cidrOf, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { address, readAddress, readAttributes, u32 } from './attributes.ts';
import { isRefusal, requestFlags, type NetlinkSocket } from './socket.ts';

/** Routing policy rules by rtnetlink. Source: linux/fib_rules.h. */

const newRule = 32;
const deleteRuleType = 33;
const getRule = 34;
const attributes = { source: 2, priority: 6, table: 15 };
const headerBytes = 12;
const actionToTable = 1;

/** Packets from `source` look up `table`. */
export interface PolicyRule {
  readonly source: Cidr;
  readonly priority: number;
  readonly table: number;
}

/** Equivalent: `ip rule add from S lookup T priority P`; that it exists is no error. */
export function addPolicyRule(socket: NetlinkSocket, rule: PolicyRule): void {
  try {
    socket.request({
      type: newRule,
      flags: requestFlags.create | requestFlags.exclusive,
      what: `look up table ${rule.table} for packets from ${rule.source}`,
      payload: encode(rule),
    });
  } catch (error) {
    if (!isRefusal(error, 'EEXIST')) throw error;
  }
}

/** Removes a rule; nothing if there is none. */
export function deletePolicyRule(socket: NetlinkSocket, rule: PolicyRule): void {
  try {
    socket.request({
      type: deleteRuleType,
      what: `remove the rule for packets from ${rule.source}`,
      payload: encode(rule),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENOENT')) throw error;
  }
}

/** The rules of a family that have a source and lead to a table. */
export function listPolicyRules(socket: NetlinkSocket, family: IpFamily): readonly PolicyRule[] {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(family === 4 ? 2 : 10, 0);
  return socket
    .dump({ type: getRule, payload: header, what: 'list the routing rules' })
    .flatMap(({ payload }) => {
      const found = readAttributes(payload.subarray(headerBytes));
      const source = found.get(attributes.source);
      if (source === undefined) return [];
      return [
        {
          source: cidrOf(readAddress(source), payload[2] ?? 0),
          priority: found.get(attributes.priority)?.readUInt32LE(0) ?? 0,
          table: found.get(attributes.table)?.readUInt32LE(0) ?? payload[4] ?? 0,
        },
      ];
    });
}

function encode({ source, priority, table }: PolicyRule): Buffer {
  const { address: first, prefixLength } = splitCidr(source);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(cidrFamily(source) === 4 ? 2 : 10, 0);
  header.writeUInt8(prefixLength, 2);
  header.writeUInt8(table < 256 ? table : 0, 4);
  header.writeUInt8(actionToTable, 7);
  return Buffer.concat([
    header,
    address(attributes.source, first),
    u32(attributes.priority, priority),
    u32(attributes.table, table),
  ]);
}
