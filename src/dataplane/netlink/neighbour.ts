import type { IpAddress } from '../../ip/address.ts';
import { address, attribute, readAddress, readAttributes, u32 } from './attributes.ts';
import { familyNumber } from './address.ts';
import { macBytes, macText } from './mac.ts';
import { isRefusal, requestFlags, type NetlinkSocket } from './socket.ts';

/**
 * Neighbours and forwarding entries of interfaces by rtnetlink. Both are neighbours to the kernel, of two families.
 * Source: linux/neighbour.h.
 */

const newNeighbour = 28;
const deleteNeighbour = 29;
const getNeighbour = 30;
const attributes = { destination: 1, mac: 2, linkIndex: 8 };
const headerBytes = 12;
const statePermanent = 0x80;
const flagSelf = 0x02;
/** The family of forwarding entries. */
const familyBridge = 7;
const families = [2, 10, familyBridge];

/** A permanent entry of an interface. */
export type Neighbour =
  /** An address on the link and its MAC address: no ARP, no neighbour discovery. Equivalent: `ip neigh … nud permanent`. */
  | { readonly kind: 'neighbour'; readonly address: IpAddress; readonly mac: string }
  /** Frames to a MAC address are tunnelled to a remote host. Equivalent: `bridge fdb … dst REMOTE self permanent`. */
  | { readonly kind: 'forwarding'; readonly mac: string; readonly remote: IpAddress };

/** An entry as the kernel reports it. */
export interface KernelNeighbour {
  readonly linkIndex: number;
  /** Entries that the kernel resolved or learned itself expire. */
  readonly isPermanent: boolean;
  /** Its MAC address is empty while it is not resolved; absent for an entry without an address. */
  readonly neighbour: Neighbour | undefined;
}

/** Adds an entry to an interface, or replaces that of the same address. Throws `kernel/refused`. */
export function setNeighbour(socket: NetlinkSocket, linkIndex: number, neighbour: Neighbour): void {
  socket.request({
    type: newNeighbour,
    flags: requestFlags.create | requestFlags.replace,
    what: `set ${describeNeighbour(neighbour)} on interface ${linkIndex}`,
    payload: encode(linkIndex, neighbour),
  });
}

/** Removes an entry of an interface. Does nothing if entry or interface do not exist. */
export function removeNeighbour(
  socket: NetlinkSocket,
  linkIndex: number,
  neighbour: Neighbour,
): void {
  try {
    socket.request({
      type: deleteNeighbour,
      what: `remove ${describeNeighbour(neighbour)} from interface ${linkIndex}`,
      payload: encode(linkIndex, neighbour),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENOENT', 'ENODEV')) throw error;
  }
}

/** Returns all entries of an interface. */
export function listNeighbours(
  socket: NetlinkSocket,
  linkIndex: number,
): readonly KernelNeighbour[] {
  return families.flatMap((family) =>
    socket
      .dump({
        type: getNeighbour,
        what: `list the neighbours on interface ${linkIndex}`,
        payload: Buffer.concat([
          header({ family, linkIndex: 0, state: 0, flags: 0 }),
          u32(attributes.linkIndex, linkIndex),
        ]),
      })
      .map(({ payload }) => readNeighbour(payload))
      .filter((one) => one.linkIndex === linkIndex),
  );
}

/** Returns the entry in a kernel message. */
export function readNeighbour(payload: Buffer): KernelNeighbour {
  const found = readAttributes(payload.subarray(headerBytes));
  const [destination, link] = [found.get(attributes.destination), found.get(attributes.mac)];
  const mac = link === undefined ? '' : macText(link);
  const isForwarding = payload[0] === familyBridge;
  const entry =
    destination === undefined
      ? undefined
      : isForwarding
        ? ({ kind: 'forwarding', mac, remote: readAddress(destination) } as const)
        : ({ kind: 'neighbour', address: readAddress(destination), mac } as const);
  return {
    linkIndex: payload.readInt32LE(4),
    isPermanent: (payload.readUInt16LE(8) & statePermanent) !== 0,
    neighbour: entry,
  };
}

/** Returns an entry as text, for errors. */
export function describeNeighbour(neighbour: Neighbour): string {
  return neighbour.kind === 'neighbour'
    ? `the neighbour ${neighbour.address}`
    : `the forwarding entry of ${neighbour.mac} to ${neighbour.remote}`;
}

function encode(linkIndex: number, neighbour: Neighbour): Buffer {
  const isForwarding = neighbour.kind === 'forwarding';
  const destination = isForwarding ? neighbour.remote : neighbour.address;
  return Buffer.concat([
    header({
      family: isForwarding ? familyBridge : familyNumber(destination),
      linkIndex,
      state: statePermanent,
      flags: isForwarding ? flagSelf : 0,
    }),
    address(attributes.destination, destination),
    attribute(attributes.mac, macBytes(neighbour.mac)),
  ]);
}

function header(options: {
  readonly family: number;
  readonly linkIndex: number;
  readonly state: number;
  readonly flags: number;
}): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt8(options.family, 0);
  bytes.writeInt32LE(options.linkIndex, 4);
  bytes.writeUInt16LE(options.state, 8);
  bytes.writeUInt8(options.flags, 10);
  return bytes;
}
