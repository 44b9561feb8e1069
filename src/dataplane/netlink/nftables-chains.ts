import { attributesOf, readAttributes, readText, text } from './attributes.ts';
import { isRefusal, type NetlinkSocket } from './socket.ts';

/** Base chains of nf_tables. Source: linux/netfilter/nf_tables.h. */

const getChain = (10 << 8) | 4;
const getRule = (10 << 8) | 7;
const headerBytes = 4;
const chain = { table: 1, name: 3, hook: 4, policy: 5, type: 7 };
const hookNumber = 1;
const rule = { table: 1, chain: 2, expressions: 4 };
const expression = { name: 1, data: 2 };
const immediate = { register: 1, data: 2 };
const verdict = { inData: 2, code: 1 };
const drop = 0;
const families = new Map([
  [1, 'inet'],
  [2, 'ip'],
  [10, 'ip6'],
]);
const hooks = new Map([
  [1, 'input'],
  [2, 'forward'],
  [3, 'output'],
]);

/** A base chain of type filter for packets to, from, or through this host. */
export interface FilterChain {
  /** As nft writes it: `inet`, `ip`, `ip6`. */
  readonly family: string;
  readonly table: string;
  readonly name: string;
  readonly hook: string;
  /** Whether it drops or rejects packets without a matching rule. */
  readonly dropsTheRest: boolean;
  /** Whether a rule of it has a text in it, such as the beginning of an interface's name. */
  readonly mentions: (words: string) => boolean;
}

/** The table of a chain. */
export type ChainTable = Pick<FilterChain, 'family' | 'table'>;

/**
 * Returns the chains of the requested tables; only their rules are read. None if the kernel has no nf_tables. Throws
 * `kernel/refused`.
 */
export function listFilterChains(
  netfilter: NetlinkSocket,
  isAsked: (table: ChainTable) => boolean,
): readonly FilterChain[] {
  try {
    return netfilter
      .dump({
        type: getChain,
        payload: Buffer.alloc(headerBytes),
        what: 'list the nftables chains',
      })
      .flatMap(({ payload }) => readChain(netfilter, payload, isAsked));
  } catch (error) {
    if (isRefusal(error, 'EOPNOTSUPP', 'EINVAL', 'EPROTONOSUPPORT')) return [];
    throw error;
  }
}

function readChain(
  netfilter: NetlinkSocket,
  payload: Buffer,
  isAsked: (table: ChainTable) => boolean,
): readonly FilterChain[] {
  const family = families.get(payload[0] ?? 0);
  const found = readAttributes(payload.subarray(headerBytes));
  const hook = hooks.get(
    readAttributes(found.get(chain.hook) ?? Buffer.alloc(0))
      .get(hookNumber)
      ?.readUInt32BE(0) ?? 0,
  );
  const type = found.get(chain.type);
  if (family === undefined || hook === undefined || type === undefined) return [];
  if (readText(type) !== 'filter') return [];
  const table = readText(found.get(chain.table) ?? Buffer.alloc(0));
  if (!isAsked({ family, table })) return [];
  const name = readText(found.get(chain.name) ?? Buffer.alloc(0));
  const rules = listRules(netfilter, payload[0] ?? 0, { table, name });
  const isPolicyDrop = found.get(chain.policy)?.readUInt32BE(0) === drop;
  return [
    {
      family,
      table,
      name,
      hook,
      dropsTheRest: isPolicyDrop || rules.some(dropsAll),
      mentions: (words) => rules.some((one) => one.includes(words)),
    },
  ];
}

/** The expressions of each rule of a chain, as the kernel has them. */
function listRules(
  netfilter: NetlinkSocket,
  family: number,
  { table, name }: { readonly table: string; readonly name: string },
): readonly Buffer[] {
  return netfilter
    .dump({
      type: getRule,
      what: `list the rules of the nftables chain ${name}`,
      payload: Buffer.concat([
        Buffer.from([family, 0, 0, 0]),
        text(rule.table, table),
        text(rule.chain, name),
      ]),
    })
    .map(({ payload }) => readAttributes(payload.subarray(headerBytes)))
    .filter(
      (found) =>
        readText(found.get(rule.table) ?? Buffer.alloc(0)) === table &&
        readText(found.get(rule.chain) ?? Buffer.alloc(0)) === name,
    )
    .map((found) => found.get(rule.expressions) ?? Buffer.alloc(0));
}

/** Reports whether a rule drops or rejects every packet: it has no expression that looks at the packet. */
function dropsAll(expressions: Buffer): boolean {
  let isDecided = false;
  for (const [, element] of attributesOf(expressions)) {
    const found = readAttributes(element);
    const name = readText(found.get(expression.name) ?? Buffer.alloc(0));
    if (name === 'reject') isDecided = true;
    else if (name === 'immediate' && isDrop(found.get(expression.data))) isDecided = true;
    else if (name !== 'counter' && name !== 'log') return false;
  }
  return isDecided;
}

function isDrop(data: Buffer | undefined): boolean {
  const found = readAttributes(data ?? Buffer.alloc(0));
  const value = readAttributes(found.get(immediate.data) ?? Buffer.alloc(0)).get(verdict.inData);
  if (found.get(immediate.register)?.readUInt32BE(0) !== 0 || value === undefined) return false;
  return readAttributes(value).get(verdict.code)?.readInt32BE(0) === drop;
}
