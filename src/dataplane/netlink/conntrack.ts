import {
  addressFromBytes,
  addressToBytes,
  familyOf,
  type IpAddress,
  type IpFamily,
} from '../../ip/address.ts';
import { address as addressAttribute, nest, readAttributes, u32 } from './attributes.ts';
import { isRefusal, type Message, type NetlinkSocket, type Request } from './socket.ts';

/** Connection tracking by nfnetlink. Source: linux/netfilter/nfnetlink_conntrack.h. */

const subsystem = 1 << 8;
const commands = { get: 1, delete: 2 };
const original = 1;
const reply = 2;
const mark = 8;
const filter = 25;
const filterSource = 1;
const tupleIp = 1;
const tupleProtocol = 2;
const ipAttributes = { source4: 1, destination4: 2, source6: 3, destination6: 4 };
const protocolAttributes = { number: 1, sourcePort: 2, destinationPort: 3 };
const headerBytes = 4;
const addressFamilies = { 4: 2, 6: 10 } as const;

/** A tracked flow in its original direction. */
export interface Flow {
  readonly family: IpFamily;
  readonly source: IpAddress;
  readonly destination: IpAddress;
  readonly protocol: number;
  readonly sourcePort: number;
  readonly destinationPort: number;
  /** Source address of replies: differs from the destination if that was translated. */
  readonly answerer: IpAddress;
  /** Source port of replies: differs from the destination port if that was translated. */
  readonly answeringPort: number;
  /** The connection's mark; 0 if it has none. */
  readonly mark: number;
  /** The attributes that identify the flow in the kernel. */
  readonly tuple: Buffer;
}

/** Deletes the flows that match, so that their next packets are judged as new; returns how many. */
export function flushFlows(
  socket: NetlinkSocket,
  families: readonly IpFamily[],
  isToFlush: (flow: Flow) => boolean,
): number {
  const flows = families
    .flatMap((family) => socket.dump(listing(family)))
    .flatMap(flowIn)
    .filter(isToFlush);
  deleteFlows(socket, flows);
  return flows.length;
}

/**
 * Deletes the flows that some addresses started or answer, whatever address translation applies. Returns the addresses
 * whose flows may have been deleted. The kernel walks its whole table for each request, so this runs on another
 * thread, on a socket that nothing else uses meanwhile: by a filter if the kernel accepts one for a removal, which
 * takes a fraction of a millisecond, else by listing the flows, which takes some milliseconds even if there are none.
 */
export async function flushFlowsOf(
  socket: FlowSocket,
  addresses: ReadonlySet<IpAddress>,
): Promise<ReadonlySet<IpAddress>> {
  const flushed = new Set<IpAddress>();
  for (const family of [4, 6] as const) {
    const ofFamily = [...addresses].filter((address) => familyOf(address) === family);
    // Not for IPv6: the kernel inverts that comparison, and deletes the flows of all other addresses.
    if (family === 4 && (await flushFiltered(socket, ofFamily))) {
      for (const address of ofFamily) flushed.add(address);
      continue;
    }
    if (ofFamily.length > 0) await flushListed(socket, { family, addresses: ofFamily, flushed });
  }
  return flushed;
}

/** The socket operations used to delete flows. */
export type FlowSocket = Pick<NetlinkSocket, 'request' | 'requestsOffThread' | 'dumpOffThread'>;

/** How many addresses the kernel looks for in one call: so long others wait for the thread. */
const addressesAtOnce = 50;

/**
 * Reports whether the kernel deleted the flows of IPv4 addresses by a filter. A kernel without filtered removals (before
 * about 6.8) refuses the requests as incomplete.
 */
async function flushFiltered(
  socket: FlowSocket,
  addresses: readonly IpAddress[],
): Promise<boolean> {
  try {
    for (let at = 0; at < addresses.length; at += addressesAtOnce) {
      const some = addresses.slice(at, at + addressesAtOnce);
      await socket.requestsOffThread(some.flatMap(filteredRemovals));
    }
    return true;
  } catch (error) {
    if (!isRefusal(error, 'EINVAL', 'EOPNOTSUPP')) throw error;
    return false;
  }
}

/** Returns the removals of the flows that an IPv4 address started, and of those that it answers. */
function filteredRemovals(address: IpAddress): readonly Request[] {
  return [original, reply].map((direction) => {
    const flags = (of: number) => u32(of, of === direction ? filterSource : 0);
    return {
      type: subsystem | commands.delete,
      what: `delete the conntrack entries of ${address}`,
      payload: Buffer.concat([
        header(4),
        nest(direction, [nest(tupleIp, [addressAttribute(ipAttributes.source4, address)])]),
        nest(filter, [flags(original), flags(reply)]),
      ]),
    };
  });
}

async function flushListed(
  socket: FlowSocket,
  options: {
    readonly family: IpFamily;
    readonly addresses: readonly IpAddress[];
    readonly flushed: Set<IpAddress>;
  },
): Promise<void> {
  const { family, addresses, flushed } = options;
  const messages = await socket.dumpOffThread(listing(family));
  const theirs = (flow: Flow) =>
    [flow.source, flow.answerer].filter((one) => addresses.includes(one));
  const bytes = addresses.map((address) => Buffer.from(addressToBytes(address)));
  const flows = messages
    // Most flows have other addresses, which is visible without decoding.
    .filter(({ payload }) => bytes.some((one) => payload.includes(one)))
    .flatMap(flowIn)
    .filter((flow) => theirs(flow).length > 0);
  for (const one of flows.flatMap(theirs)) flushed.add(one);
  deleteFlows(socket, flows);
}

/** A refusal does not stop the others; the first refusal is thrown at the end. */
function deleteFlows(socket: Pick<NetlinkSocket, 'request'>, flows: readonly Flow[]): void {
  const errors: unknown[] = [];
  for (const flow of flows) {
    try {
      deleteFlow(socket, flow);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
}

/** Returns the flows of a family. */
function listing(family: IpFamily): Request {
  return {
    type: subsystem | commands.get,
    what: 'list conntrack entries',
    payload: header(family),
  };
}

function flowIn({ payload }: Message): readonly Flow[] {
  const flow = readFlow(payload);
  return flow === undefined ? [] : [flow];
}

function header(family: IpFamily): Buffer {
  return Buffer.of(addressFamilies[family], 0, 0, 0);
}

/** Deletes a flow, so that its next packet is judged as new. Does nothing if it does not exist. */
function deleteFlow(socket: Pick<NetlinkSocket, 'request'>, flow: Flow): void {
  const tuple = Buffer.alloc(4 + flow.tuple.length);
  tuple.writeUInt16LE(tuple.length, 0);
  tuple.writeUInt16LE(original | 0x8000, 2);
  flow.tuple.copy(tuple, 4);
  try {
    socket.request({
      type: subsystem | commands.delete,
      what: `delete the conntrack entry ${flow.source} to ${flow.destination}`,
      payload: Buffer.concat([header(flow.family), tuple]),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENOENT')) throw error;
  }
}

function readFlow(payload: Buffer): Flow | undefined {
  const family = payload[0] === addressFamilies[4] ? 4 : 6;
  const tuples = readAttributes(payload.subarray(headerBytes));
  const tuple = tuples.get(original);
  if (tuple === undefined) return undefined;
  const parts = readAttributes(tuple);
  const ip = readAttributes(parts.get(tupleIp) ?? Buffer.alloc(0));
  const protocol = readAttributes(parts.get(tupleProtocol) ?? Buffer.alloc(0));
  const source = ip.get(family === 4 ? ipAttributes.source4 : ipAttributes.source6);
  const destination = ip.get(family === 4 ? ipAttributes.destination4 : ipAttributes.destination6);
  const answer = readAttributes(tuples.get(reply) ?? Buffer.alloc(0));
  const answerer = readAttributes(answer.get(tupleIp) ?? Buffer.alloc(0)).get(
    family === 4 ? ipAttributes.source4 : ipAttributes.source6,
  );
  const answeringPort = readAttributes(answer.get(tupleProtocol) ?? Buffer.alloc(0)).get(
    protocolAttributes.sourcePort,
  );
  if (source === undefined || destination === undefined) return undefined;
  return {
    family,
    source: addressFromBytes(source),
    destination: addressFromBytes(destination),
    protocol: protocol.get(protocolAttributes.number)?.[0] ?? 0,
    sourcePort: protocol.get(protocolAttributes.sourcePort)?.readUInt16BE(0) ?? 0,
    destinationPort: protocol.get(protocolAttributes.destinationPort)?.readUInt16BE(0) ?? 0,
    answerer: addressFromBytes(answerer ?? destination),
    answeringPort: answeringPort?.readUInt16BE(0) ?? 0,
    mark: tuples.get(mark)?.readUInt32BE(0) ?? 0,
    tuple,
  };
}
