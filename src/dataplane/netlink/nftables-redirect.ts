import { addressToBytes, type IpAddress } from '../../ip/address.ts';
import { protocolNumbers } from '../../ip/port-protocol.ts';
import { attribute, nest, text, u32Network } from './attributes.ts';
import { requestFlags, type NetlinkSocket, type Request } from './socket.ts';

/**
 * A redirect of DNS queries by nf_tables, in the network namespace of the socket. Source: linux/netfilter/nf_tables.h.
 */

const batchBegin = 16;
const batchEnd = 17;
const subsystem = 10;
const message = {
  newTable: subsystem << 8,
  newChain: (subsystem << 8) | 3,
  newRule: (subsystem << 8) | 6,
} as const;
const append = 0x800;

const table = { name: 1, flags: 2 };
/** NFT_TABLE_F_OWNER: the kernel removes the table when the socket that created it closes. Linux 5.12 and later. */
const ownedBySocket = 0x2;
const chain = { table: 1, name: 3, hook: 4, type: 7 };
const hook = { number: 1, priority: 2 };
const output = 3;
/** Before the chains of iptables, at -100: the first NAT rule that matches a connection decides. */
const priority = -110;
const rule = { table: 1, chain: 2, expressions: 4 };
const listElement = 1;
const expression = { name: 1, data: 2 };
const dataValue = 1;
const ip4 = 2;
const meta = { register: 1, key: 2, mark: 3, protocol: 16 };
const compare = { register: 1, operation: 2, data: 3, equal: 0, different: 1 };
const payload = { register: 1, base: 2, offset: 3, length: 4, network: 1, transport: 2 };
const immediate = { register: 1, data: 2 };
const nat = { type: 1, family: 2, address: 3, port: 5, destination: 1 };
const firstRegister = 1;
const secondRegister = 2;
const destinationOffset = 16;
const destinationPortOffset = 2;

/** A name server of a namespace, and the sockets that replace it. */
export interface DnsRedirect {
  readonly table: string;
  readonly server: IpAddress;
  /** Ports at the same address that receive the queries. */
  readonly ports: { readonly udp: number; readonly tcp: number };
  /** Packets with this mark still reach the server. */
  readonly exceptMark: number;
}

const dnsPort = 53;

/**
 * Redirects connections to port 53 of a server. The redirect exists until the socket is closed, also by the end of the
 * process: afterwards new connections reach the server again. Throws `kernel/refused`: EOPNOTSUPP or EINVAL by a
 * kernel that does not know tables with an owner.
 */
export function redirectDns(netfilter: NetlinkSocket, redirect: DnsRedirect): void {
  const what = 'redirect DNS queries';
  const { table: name, ports } = redirect;
  const chainName = 'output';
  const create = requestFlags.create;
  const edge = (type: number): Request => ({
    type,
    what,
    payload: Buffer.from([0, 0, 0, subsystem]),
  });
  const request = (type: number, flags: number, parts: readonly Buffer[]): Request => ({
    type,
    what,
    flags,
    payload: Buffer.concat([Buffer.from([ip4, 0, 0, 0]), ...parts]),
  });
  const ruleFor = (protocol: number, port: number) =>
    request(message.newRule, create | append, [
      text(rule.table, name),
      text(rule.chain, chainName),
      nest(rule.expressions, expressionsOf(redirect, protocol, port)),
    ]);
  netfilter.enclosed({
    begin: edge(batchBegin),
    requests: [
      request(message.newTable, create | requestFlags.exclusive, [
        text(table.name, name),
        u32Network(table.flags, ownedBySocket),
      ]),
      request(message.newChain, create, [
        text(chain.table, name),
        text(chain.name, chainName),
        nest(chain.hook, [u32Network(hook.number, output), u32Network(hook.priority, priority)]),
        text(chain.type, 'nat'),
      ]),
      ruleFor(protocolNumbers.UDP, ports.udp),
      ruleFor(protocolNumbers.TCP, ports.tcp),
    ],
    end: edge(batchEnd),
  });
}

/** `meta mark != M ip daddr SERVER meta l4proto P th dport 53 dnat to SERVER:PORT`. */
function expressionsOf(
  { server, exceptMark }: DnsRedirect,
  protocol: number,
  port: number,
): readonly Buffer[] {
  const mark = Buffer.alloc(4);
  mark.writeUInt32LE(exceptMark, 0);
  return [
    loadMeta(meta.mark),
    compareWith(compare.different, mark),
    loadPayload(payload.network, destinationOffset, 4),
    compareWith(compare.equal, addressToBytes(server)),
    loadMeta(meta.protocol),
    compareWith(compare.equal, Buffer.of(protocol)),
    loadPayload(payload.transport, destinationPortOffset, 2),
    compareWith(compare.equal, portBytes(dnsPort)),
    loadValue(firstRegister, addressToBytes(server)),
    loadValue(secondRegister, portBytes(port)),
    element('nat', [
      u32Network(nat.type, nat.destination),
      u32Network(nat.family, ip4),
      u32Network(nat.address, firstRegister),
      u32Network(nat.port, secondRegister),
    ]),
  ];
}

function loadMeta(key: number): Buffer {
  return element('meta', [u32Network(meta.register, firstRegister), u32Network(meta.key, key)]);
}

function loadPayload(base: number, offset: number, length: number): Buffer {
  return element('payload', [
    u32Network(payload.register, firstRegister),
    u32Network(payload.base, base),
    u32Network(payload.offset, offset),
    u32Network(payload.length, length),
  ]);
}

function compareWith(operation: number, value: Uint8Array): Buffer {
  return element('cmp', [
    u32Network(compare.register, firstRegister),
    u32Network(compare.operation, operation),
    nest(compare.data, [attribute(dataValue, value)]),
  ]);
}

function loadValue(register: number, value: Uint8Array): Buffer {
  return element('immediate', [
    u32Network(immediate.register, register),
    nest(immediate.data, [attribute(dataValue, value)]),
  ]);
}

function element(name: string, data: readonly Buffer[]): Buffer {
  return nest(listElement, [text(expression.name, name), nest(expression.data, data)]);
}

function portBytes(port: number): Buffer {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(port, 0);
  return bytes;
}
