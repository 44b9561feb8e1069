import type { IpAddress } from '../../ip/address.ts';
import { addressBits, familyOf } from '../../ip/address.ts';
import { address, readAddress, readAttributes, readText, text, u32 } from './attributes.ts';
import { isRefusal, requestFlags, type NetlinkSocket } from './socket.ts';

/** Addresses of interfaces by rtnetlink. Source: linux/if_addr.h. */

const newAddress = 20;
const deleteAddress = 21;
const getAddress = 22;
const attributes = { address: 1, local: 2, label: 3, flags: 8 };
const flagNoDuplicateDetection = 2;
const headerBytes = 8;

/** Address family numbers of the kernel. */
export function familyNumber(address: IpAddress): number {
  return familyOf(address) === 4 ? 2 : 10;
}

export interface InterfaceAddress {
  readonly linkIndex: number;
  readonly address: IpAddress;
  readonly prefixLength: number;
  /** A label that names its owner, after the interface's name: `tunl0:calico`. IPv4 only. */
  readonly label?: string;
}

/** Adds an address to an interface. Idempotent. Equivalent: `ip addr add A/32 dev D [label L] nodad`. */
export function addHostAddress(
  socket: NetlinkSocket,
  { linkIndex, address: added, label }: Omit<InterfaceAddress, 'prefixLength'>,
): void {
  try {
    socket.request({
      type: newAddress,
      flags: requestFlags.create | requestFlags.exclusive,
      what: `add address ${added} to interface ${linkIndex}`,
      payload: Buffer.concat([
        header(familyNumber(added), addressBits(familyOf(added)), linkIndex),
        address(attributes.local, added),
        address(attributes.address, added),
        ...(label === undefined ? [] : [text(attributes.label, label)]),
        u32(attributes.flags, flagNoDuplicateDetection),
      ]),
    });
  } catch (error) {
    if (!isRefusal(error, 'EEXIST')) throw error;
  }
}

/** Removes an address from an interface. Does nothing if the address or the interface does not exist. */
export function removeHostAddress(
  socket: NetlinkSocket,
  { linkIndex, address: removed }: { readonly linkIndex: number; readonly address: IpAddress },
): void {
  try {
    socket.request({
      type: deleteAddress,
      what: `remove address ${removed} from interface ${linkIndex}`,
      payload: Buffer.concat([
        header(familyNumber(removed), addressBits(familyOf(removed)), linkIndex),
        address(attributes.local, removed),
        address(attributes.address, removed),
      ]),
    });
  } catch (error) {
    if (!isRefusal(error, 'EADDRNOTAVAIL', 'ENODEV')) throw error;
  }
}

/** Returns all addresses of both families. */
export function listAddresses(socket: NetlinkSocket): readonly InterfaceAddress[] {
  return socket
    .dump({ type: getAddress, payload: header(0, 0, 0), what: 'list addresses' })
    .flatMap(({ payload }) => readAddressMessage(payload) ?? []);
}

/** Returns the address in a kernel message; `undefined` for an interface without one. */
export function readAddressMessage(payload: Buffer): InterfaceAddress | undefined {
  const found = readAttributes(payload.subarray(headerBytes));
  const value = found.get(attributes.local) ?? found.get(attributes.address);
  if (value === undefined) return undefined;
  const bytes = found.get(attributes.label);
  // By default it is the name of the interface.
  const label = bytes === undefined ? '' : readText(bytes);
  return {
    linkIndex: payload.readUInt32LE(4),
    address: readAddress(value),
    prefixLength: payload[1] ?? 0,
    ...(label.includes(':') ? { label } : {}),
  };
}

function header(family: number, prefixLength: number, linkIndex: number): Buffer {
  const bytes = Buffer.alloc(headerBytes);
  bytes.writeUInt8(family, 0);
  bytes.writeUInt8(prefixLength, 1);
  bytes.writeUInt32LE(linkIndex, 4);
  return bytes;
}
