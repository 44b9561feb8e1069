import type { IpFamily } from '../../ip/address.ts';
import { cidrOf, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { address, readAddress, readAttributes, u32, u8 } from './attributes.ts';
import { ourProtocol } from './route.ts';
import { isRefusal, requestFlags, type NetlinkSocket } from './socket.ts';

/** Routing policy rules by rtnetlink. Source: linux/fib_rules.h. */

const newRule = 32;
const deleteRuleType = 33;
const getRule = 34;
const attributes = {
  destination: 1,
  source: 2,
  priority: 6,
  suppressPrefixLength: 14,
  table: 15,
  protocol: 21,
};
const headerBytes = 12;
const actionToTable = 1;

/** Packets from, or to, a network look up `table`; all packets of the family, if neither is given. */
export interface PolicyRule {
  readonly family: IpFamily;
  readonly from?: Cidr;
  readonly to?: Cidr;
  readonly priority: number;
  readonly table: number;
  /** Whether the table's default routes are skipped (`suppress_prefixlength 0`), so that later rules decide. */
  readonly isWithoutDefault?: boolean;
  /** The protocol that marks its owner: ours if not given; 0 if unset. */
  readonly protocol?: number;
}

/** Equivalent: `ip rule add from S to D lookup T priority P`; idempotent. */
export function addPolicyRule(socket: NetlinkSocket, rule: PolicyRule): void {
  try {
    socket.request({
      type: newRule,
      flags: requestFlags.create | requestFlags.exclusive,
      what: `look up routing table ${rule.table} for ${describe(rule)}`,
      payload: encode(rule),
    });
  } catch (error) {
    if (!isRefusal(error, 'EEXIST')) throw error;
  }
}

/** Removes a rule. Does nothing if it does not exist. */
export function deletePolicyRule(socket: NetlinkSocket, rule: PolicyRule): void {
  try {
    socket.request({
      type: deleteRuleType,
      what: `remove the routing rule for ${describe(rule)}`,
      payload: encode(rule),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENOENT')) throw error;
  }
}

/** Returns the rules of a family. */
export function listPolicyRules(socket: NetlinkSocket, family: IpFamily): readonly PolicyRule[] {
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(family === 4 ? 2 : 10, 0);
  return socket
    .dump({ type: getRule, payload: header, what: 'list the routing rules' })
    .map(({ payload }) => {
      const found = readAttributes(payload.subarray(headerBytes));
      const [source, destination] = [
        found.get(attributes.source),
        found.get(attributes.destination),
      ];
      return {
        family,
        ...(source === undefined ? {} : { from: cidrOf(readAddress(source), payload[2] ?? 0) }),
        ...(destination === undefined
          ? {}
          : { to: cidrOf(readAddress(destination), payload[1] ?? 0) }),
        priority: found.get(attributes.priority)?.readUInt32LE(0) ?? 0,
        table: found.get(attributes.table)?.readUInt32LE(0) ?? payload[4] ?? 0,
        isWithoutDefault: found.get(attributes.suppressPrefixLength)?.readInt32LE(0) === 0,
        protocol: found.get(attributes.protocol)?.[0] ?? 0,
      };
    });
}

function encode(rule: PolicyRule): Buffer {
  const { family, from, to, priority, table, isWithoutDefault } = rule;
  const source = from === undefined ? undefined : splitCidr(from);
  const destination = to === undefined ? undefined : splitCidr(to);
  const header = Buffer.alloc(headerBytes);
  header.writeUInt8(family === 6 ? 10 : 2, 0);
  header.writeUInt8(destination?.prefixLength ?? 0, 1);
  header.writeUInt8(source?.prefixLength ?? 0, 2);
  header.writeUInt8(table < 256 ? table : 0, 4);
  header.writeUInt8(actionToTable, 7);
  return Buffer.concat([
    header,
    ...(source === undefined ? [] : [address(attributes.source, source.address)]),
    ...(destination === undefined ? [] : [address(attributes.destination, destination.address)]),
    u32(attributes.priority, priority),
    u32(attributes.table, table),
    ...(isWithoutDefault === true ? [u32(attributes.suppressPrefixLength, 0)] : []),
    u8(attributes.protocol, rule.protocol ?? ourProtocol),
  ]);
}

function describe({ from, to }: PolicyRule): string {
  return `packets${from === undefined ? '' : ` from ${from}`}${to === undefined ? '' : ` to ${to}`}`;
}
