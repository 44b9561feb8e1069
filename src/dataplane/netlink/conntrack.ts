import { addressFromBytes, type IpAddress, type IpFamily } from '../../ip/address.ts';
import { readAttributes } from './attributes.ts';
import { isRefusal, type NetlinkSocket } from './socket.ts';

/** Connection tracking by nfnetlink. Source: linux/netfilter/nfnetlink_conntrack.h. */

const subsystem = 1 << 8;
const commands = { get: 1, delete: 2 };
const original = 1;
const reply = 2;
const tupleIp = 1;
const tupleProtocol = 2;
const ipAttributes = { source4: 1, destination4: 2, source6: 3, destination6: 4 };
const protocolAttributes = { number: 1, sourcePort: 2, destinationPort: 3 };
const headerBytes = 4;

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
  for (const flow of flows) deleteFlow(socket, flow);
  return flows.length;
}

/** All flows of a family. */
export function listFlows(socket: NetlinkSocket, family: IpFamily): readonly Flow[] {
  const header = Buffer.of(family === 4 ? 2 : 10, 0, 0, 0);
  return socket
    .dump({ type: subsystem | commands.get, what: 'list the tracked flows', payload: header })
    .flatMap(({ payload }) => {
      const flow = readFlow(payload, family);
      return flow === undefined ? [] : [flow];
    });
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
      payload: Buffer.concat([Buffer.of(flow.family === 4 ? 2 : 10, 0, 0, 0), tuple]),
    });
  } catch (error) {
    if (!isRefusal(error, 'ENOENT')) throw error;
  }
}

function readFlow(payload: Buffer, family: IpFamily): Flow | undefined {
  const tuples = readAttributes(payload.subarray(headerBytes));
  const tuple = tuples.get(original);
  if (tuple === undefined) return undefined;
  const parts = readAttributes(tuple);
  const ip = readAttributes(parts.get(tupleIp) ?? Buffer.alloc(0));
  const protocol = readAttributes(parts.get(tupleProtocol) ?? Buffer.alloc(0));
  const source = ip.get(family === 4 ? ipAttributes.source4 : ipAttributes.source6);
  const destination = ip.get(family === 4 ? ipAttributes.destination4 : ipAttributes.destination6);
  const answer = readAttributes(tuples.get(reply) ?? Buffer.alloc(0)).get(tupleIp);
  const answerer = readAttributes(answer ?? Buffer.alloc(0)).get(
    family === 4 ? ipAttributes.source4 : ipAttributes.source6,
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
    tuple,
  };
}
