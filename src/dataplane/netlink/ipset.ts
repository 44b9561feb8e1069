import { constants } from 'node:os';
import type { IpFamily } from '../../ip/address.ts';
import { parseNet, splitCidr, type Cidr } from '../../ip/cidr.ts';
import { addressToBytes, addressFromBytes } from '../../ip/address.ts';
import { cidrOf } from '../../ip/cidr.ts';
import { portProtocol, protocolNumbers } from '../../ip/port-protocol.ts';
import {
  attribute,
  attributesOf,
  nest,
  readAttributes,
  readText,
  text,
  u16Network,
  u32Network,
  u8,
} from './attributes.ts';
import type { IpsetSpec } from '../../render/iptables/ipset.ts';
import { refused } from './errno.ts';
import { isRefusal, requestFlags, type Message, type NetlinkSocket } from './socket.ts';

/** Kernel address sets (ipset) by nfnetlink. Source: linux/netfilter/ipset/ip_set.h. */

const subsystem = 6 << 8;
const commands = { create: 2, destroy: 3, swap: 6, list: 7, add: 9, delete: 10, type: 13 };
const attributes = {
  protocol: 1,
  setName: 2,
  typeName: 3,
  secondName: 3,
  revision: 4,
  family: 5,
  flags: 6,
  data: 7,
  members: 8,
  line: 9,
};
const memberAttributes = {
  address: 1,
  prefixLength: 3,
  port: 4,
  protocol: 7,
  flags: 8,
  maxElements: 19,
  interface: 23,
  bytes: 24,
  packets: 25,
};
/** In the description of a set as a whole. */
const elementsAttribute = 24;
const addressAttributes = { v4: 1, v6: 2 };
const networkOrder = 0x4000;
const protocolVersion = 6;
const withCounters = 8;
const listHeadersOnly = 4;
/** Members that one request carries. */
export const membersPerMessage = 400;

/** Default maximum of elements in a set. */
export const defaultMaxElements = 1 << 20;

/** A set as the kernel describes it. */
export interface KernelSet {
  readonly name: string;
  readonly typeName: string;
  readonly family: IpFamily;
  readonly countsPackets: boolean;
  /** How many members it has. */
  readonly size: number;
}

/** One member with its counters, where the set has them. */
export interface KernelMember {
  readonly member: string;
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** The set operations on one socket; every one throws `kernel/refused`. */
export class Ipset {
  readonly #socket: NetlinkSocket;
  readonly #revisions = new Map<string, number>();

  constructor(socket: NetlinkSocket) {
    this.#socket = socket;
  }

  /** Creates an empty set; refused (like EEXIST) if the name exists. */
  create(spec: IpsetSpec): void {
    const typeName = kernelTypeName(spec.type);
    this.#socket.request({
      type: subsystem | commands.create,
      flags: requestFlags.create | requestFlags.exclusive,
      what: `create the address set ${spec.name}`,
      payload: payload(spec.family, [
        text(attributes.setName, spec.name),
        text(attributes.typeName, typeName),
        u8(attributes.revision, this.#revision(typeName, spec.family)),
        u8(attributes.family, familyNumber(spec.family)),
        nest(attributes.data, [
          u32Network(memberAttributes.maxElements, spec.maxElements ?? defaultMaxElements),
          ...(spec.countsPackets === true
            ? [u32Network(memberAttributes.flags, withCounters)]
            : []),
        ]),
      ]),
    });
  }

  /**
   * Removes a set. Does nothing if it does not exist. Refused with EBUSY or IPSET_ERR_BUSY while a rule refers to it.
   */
  destroy(name: string): void {
    try {
      this.#socket.request({
        type: subsystem | commands.destroy,
        what: `remove the address set ${name}`,
        payload: payload(4, [text(attributes.setName, name)]),
      });
    } catch (error) {
      if (!isRefusal(error, 'ENOENT')) throw error;
    }
  }

  /** Exchanges the content of two sets of one type; rules that name either see the other's content immediately. */
  swap(name: string, other: string): void {
    this.#socket.request({
      type: subsystem | commands.swap,
      what: `swap the address sets ${name} and ${other}`,
      payload: payload(4, [text(attributes.setName, name), text(attributes.secondName, other)]),
    });
  }

  /** Adds members. Idempotent. */
  add(set: IpsetSpec, members: readonly string[]): void {
    this.#changeMembers(commands.add, set, members);
  }

  /** Removes members. Idempotent. */
  remove(set: IpsetSpec, members: readonly string[]): void {
    this.#changeMembers(commands.delete, set, members);
  }

  /** Returns all sets of the network namespace. */
  list(): readonly KernelSet[] {
    const messages = this.#socket.dump({
      type: subsystem | commands.list,
      what: 'list the address sets',
      payload: payload(4, [u32Network(attributes.flags, listHeadersOnly)]),
    });
    return messages.map(({ payload: bytes }) => {
      const found = readAttributes(bytes.subarray(4));
      const header = readAttributes(found.get(attributes.data) ?? Buffer.alloc(0));
      return {
        name: readText(found.get(attributes.setName) ?? Buffer.alloc(0)),
        typeName: readText(found.get(attributes.typeName) ?? Buffer.alloc(0)),
        family: found.get(attributes.family)?.[0] === familyNumber(6) ? 6 : 4,
        countsPackets:
          ((header.get(memberAttributes.flags)?.readUInt32BE(0) ?? 0) & withCounters) !== 0,
        size: header.get(elementsAttribute)?.readUInt32BE(0) ?? 0,
      };
    });
  }

  /**
   * Returns the members of a set; none if it does not exist. Throws also if the kernel lists fewer members than it
   * counts: it silently omits members that share a bucket and do not fit into one message.
   */
  members(name: string, family: IpFamily): readonly KernelMember[] {
    const what = `list the address set ${name}`;
    let said = 0;
    let listed: readonly KernelMember[] = [];
    // Members added or removed meanwhile cause a difference once, but not each time.
    for (let attempt = 0; attempt < 3; attempt++) {
      try {
        const messages = this.#socket.dump({
          type: subsystem | commands.list,
          what,
          payload: payload(family, [text(attributes.setName, name)]),
        });
        said = Math.max(0, ...messages.map(sizeIn));
        listed = messages.flatMap(membersOf);
      } catch (error) {
        if (isRefusal(error, 'ENOENT')) return [];
        throw error;
      }
      if (listed.length >= said) return listed;
    }
    throw refused(what, constants.errno.EMSGSIZE, `${listed.length} of its ${said} members`);
  }

  #changeMembers(command: number, set: IpsetSpec, members: readonly string[]): void {
    for (let at = 0; at < members.length; at += membersPerMessage) {
      const part = members.slice(at, at + membersPerMessage);
      this.#socket.request({
        type: subsystem | command,
        what: `change the members of the address set ${set.name} (${part[0] ?? ''} …)`,
        payload: payload(set.family, [
          text(attributes.setName, set.name),
          u32Network(attributes.line, 0),
          nest(
            attributes.members,
            part.map((member) => nest(attributes.data, encodeMember(set, member))),
          ),
        ]),
      });
    }
  }

  /** The newest form of a set type that the kernel has. */
  #revision(typeName: string, family: IpFamily): number {
    const key = `${typeName} ${family}`;
    const known = this.#revisions.get(key);
    if (known !== undefined) return known;
    const [answer] = this.#socket.query({
      type: subsystem | commands.type,
      what: `query the set type ${typeName}`,
      payload: payload(family, [
        text(attributes.typeName, typeName),
        u8(attributes.family, familyNumber(family)),
      ]),
    });
    const found = readAttributes(answer?.payload.subarray(4) ?? Buffer.alloc(0));
    const revision = found.get(attributes.revision)?.[0] ?? 0;
    this.#revisions.set(key, revision);
    return revision;
  }
}

/** The kernel's name of a set type. */
export function kernelTypeName(type: IpsetSpec['type']): string {
  return kernelTypeNames[type];
}

const kernelTypeNames: Readonly<Record<IpsetSpec['type'], string>> = {
  net: 'hash:net',
  'net,interface': 'hash:net,iface',
  'address,port': 'hash:ip,port',
};

function encodeMember({ type }: IpsetSpec, member: string): readonly Buffer[] {
  const [net = '', second = ''] = member.split(',');
  const { address, prefixLength } = splitCidr(parseNet(net));
  const bytes = addressToBytes(address);
  const version = bytes.length === 4 ? addressAttributes.v4 : addressAttributes.v6;
  return [
    nest(memberAttributes.address, [attribute(version | networkOrder, bytes)]),
    ...(type === 'address,port' ? [] : [u8(memberAttributes.prefixLength, prefixLength)]),
    ...(type === 'net,interface' ? [text(memberAttributes.interface, second)] : []),
    ...(type === 'address,port' ? encodePort(second) : []),
  ];
}

function encodePort(text: string): readonly Buffer[] {
  const [name = '', port] = text.split(':');
  const protocol = portProtocol(name);
  return [
    u16Network(memberAttributes.port, Number(port)),
    u8(memberAttributes.protocol, protocol === undefined ? 0 : protocolNumbers[protocol]),
  ];
}

/** The second part of a member, as `encodeMember` reads it. */
function secondPart(found: ReadonlyMap<number, Buffer>): string {
  const name = found.get(memberAttributes.interface);
  if (name !== undefined) return `,${readText(name)}`;
  const port = found.get(memberAttributes.port);
  if (port === undefined) return '';
  const number = found.get(memberAttributes.protocol)?.[0] ?? 0;
  return `,${(portProtocol(number) ?? String(number)).toLowerCase()}:${port.readUInt16BE(0)}`;
}

/** How many members a message says that its set has; 0 where it says nothing of it. */
function sizeIn({ payload: bytes }: Message): number {
  const header = readAttributes(bytes.subarray(4)).get(attributes.data) ?? Buffer.alloc(0);
  return readAttributes(header).get(elementsAttribute)?.readUInt32BE(0) ?? 0;
}

function membersOf({ payload: bytes }: Message): readonly KernelMember[] {
  const list = readAttributes(bytes.subarray(4)).get(attributes.members);
  if (list === undefined) return [];
  return [...attributesOf(list)].flatMap(([, data]) => {
    const found = readAttributes(data);
    const net = readNet(found);
    if (net === undefined) return [];
    return [
      {
        member: net + secondPart(found),
        packets: found.get(memberAttributes.packets)?.readBigUInt64BE(0) ?? 0n,
        bytes: found.get(memberAttributes.bytes)?.readBigUInt64BE(0) ?? 0n,
      },
    ];
  });
}

function readNet(found: ReadonlyMap<number, Buffer>): Cidr | undefined {
  const wrapped = found.get(memberAttributes.address);
  if (wrapped === undefined) return undefined;
  const [bytes] = readAttributes(wrapped).values();
  if (bytes === undefined) return undefined;
  const prefixLength = found.get(memberAttributes.prefixLength)?.[0] ?? bytes.length * 8;
  return cidrOf(addressFromBytes(bytes), prefixLength);
}

/** A request's payload: the netfilter header, the protocol version, and attributes. */
function payload(family: IpFamily, parts: readonly Buffer[]): Buffer {
  const header = Buffer.of(familyNumber(family), 0, 0, 0);
  return Buffer.concat([header, u8(attributes.protocol, protocolVersion), ...parts]);
}

function familyNumber(family: IpFamily): number {
  return family === 4 ? 2 : 10;
}
