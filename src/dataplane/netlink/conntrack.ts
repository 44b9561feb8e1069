import { addressFromBytes, familyOf, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { address as addressAttribute, nest, readAttributes, u32 } from './attributes.ts';
import {
  isRefusal,
  requestFlags,
  type Message,
  type NetlinkSocket,
  type Request,
} from './socket.ts';

/** Connection tracking by nfnetlink. Source: linux/netfilter/nfnetlink_conntrack.h. */

const subsystem = 1 << 8;
const commands = { get: 1, delete: 2, statistics: 5 };
const original = 1;
const reply = 2;
const mark = 8;
const filter = 25;
const filterSource = 1;
const entriesOfNamespace = 1;
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
  /** Who answers: another than the destination if that was translated. */
  readonly answerer: IpAddress;
  /** The port that answers: another than the destination's if that was translated. */
  readonly answeringPort: number;
  /** The connection's mark; 0 if it has none. */
  readonly mark: number;
  /** What names the flow to the kernel. */
  readonly tuple: Buffer;
}

/** Ends the flows that are to end, so that their next packets are judged as new; answers how many. */
export function endFlows(
  socket: NetlinkSocket,
  families: readonly IpFamily[],
  isToEnd: (flow: Flow) => boolean,
): number {
  const flows = families.flatMap((family) => listFlows(socket, family)).filter(isToEnd);
  deleteFlows(socket, flows);
  return flows.length;
}

/**
 * Ends the flows that some addresses began or answer, whatever is translated on their way; answers how many. The
 * kernel looks through its whole table for each listing (some ms), so that is done on another thread, on a socket that
 * nobody else uses meanwhile. Where few flows are tracked one listing of all is taken, and else two for each address,
 * of which the kernel tells only what matches.
 */
export async function endFlowsOf(
  socket: NetlinkSocket,
  addresses: ReadonlySet<IpAddress>,
): Promise<number> {
  const isTheirs = ({ source, answerer }: Flow) => addresses.has(source) || addresses.has(answerer);
  const ofEach = [...addresses].flatMap((from) => [
    { from, as: original } as const,
    { from, as: reply } as const,
  ]);
  const isOneEnough = countFlows(socket) < flowsPerListing * ofEach.length;
  const ended = new Map<string, Flow>();
  for (const which of isOneEnough ? [undefined] : ofEach) {
    const flows = (await socket.dumpElsewhere(listing(which))).flatMap(flowIn);
    for (const flow of flows.filter(isTheirs)) ended.set(flow.tuple.toString('hex'), flow);
  }
  deleteFlows(socket, [...ended.values()]);
  return ended.size;
}

/** That one is refused keeps nobody from the others; then the first refusal is thrown. */
function deleteFlows(socket: NetlinkSocket, flows: readonly Flow[]): void {
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

/** As many flows are read in the time that the kernel takes to look through a table with none. */
const flowsPerListing = 500;

/** Flows of a family, of both without, or those that an address began or answers. */
type Which =
  | IpFamily
  | { readonly from: IpAddress; readonly as: typeof original | typeof reply }
  | undefined;

export function listFlows(socket: NetlinkSocket, which?: Which): readonly Flow[] {
  return socket.dump(listing(which)).flatMap(flowIn);
}

function listing(which: Which): Request {
  const isByAddress = typeof which === 'object';
  return {
    type: subsystem | commands.get,
    what: 'list the tracked flows',
    payload: Buffer.concat([
      header(isByAddress ? familyOf(which.from) : which),
      ...(isByAddress ? senderFilter(which.from, which.as) : []),
    ]),
  };
}

function flowIn({ payload }: Message): readonly Flow[] {
  const flow = readFlow(payload);
  return flow === undefined ? [] : [flow];
}

/** Kernels before 5.8 do not know the filter and tell everything. */
function senderFilter(from: IpAddress, as: typeof original | typeof reply): readonly Buffer[] {
  const type = familyOf(from) === 4 ? ipAttributes.source4 : ipAttributes.source6;
  const flags = (direction: number) => u32(direction, direction === as ? filterSource : 0);
  return [
    nest(as, [nest(tupleIp, [addressAttribute(type, from)])]),
    nest(filter, [flags(original), flags(reply)]),
  ];
}

/** How many flows the namespace has. */
function countFlows(socket: NetlinkSocket): number {
  const [answer] = socket.query({
    type: subsystem | commands.statistics,
    // The kernel calls the answer a part of several and never ends them.
    flags: requestFlags.acknowledge,
    what: 'count the tracked flows',
    payload: header(),
  });
  if (answer === undefined) return Infinity;
  const count = readAttributes(answer.payload.subarray(headerBytes)).get(entriesOfNamespace);
  return count?.readUInt32BE(0) ?? Infinity;
}

function header(family?: IpFamily): Buffer {
  return Buffer.of(family === undefined ? 0 : addressFamilies[family], 0, 0, 0);
}

/** Forgets a flow, so that its next packet is judged as new; nothing if it is gone. */
export function deleteFlow(socket: NetlinkSocket, flow: Flow): void {
  const tuple = Buffer.alloc(4 + flow.tuple.length);
  tuple.writeUInt16LE(tuple.length, 0);
  tuple.writeUInt16LE(original | 0x8000, 2);
  flow.tuple.copy(tuple, 4);
  try {
    socket.request({
      type: subsystem | commands.delete,
      what: `end the flow ${flow.source} to ${flow.destination}`,
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
