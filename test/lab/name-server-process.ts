import { createSocket } from 'node:dgram';
import { addressToBytes, familyOf, tryParseAddress } from '../../src/ip/address.ts';

/**
 * Runs inside a network: answers A and AAAA questions by a table of names, with a TTL of one second, and that there is no
 * such name for others.
 */
const [, , own = '', table = '{}'] = process.argv;
const parsed: unknown = JSON.parse(table);
const names = new Map<string, unknown>(
  typeof parsed === 'object' && parsed !== null ? Object.entries(parsed) : [],
);
const socket = createSocket('udp4');

function answer(question: Buffer): Buffer {
  const labels: string[] = [];
  let at = 12;
  while ((question[at] ?? 0) > 0) {
    const length = question[at] ?? 0;
    labels.push(question.subarray(at + 1, at + 1 + length).toString());
    at += 1 + length;
  }
  const end = at + 5;
  const type = question.readUInt16BE(at + 1);
  const name = labels.join('.').toLowerCase();
  const address = tryParseAddress(String(names.get(name)));
  const reply = Buffer.from(question.subarray(0, end));
  const hasAnswer = address !== undefined && type === (familyOf(address) === 4 ? 1 : 28);
  reply.writeUInt16BE(address === undefined ? 0x8183 : 0x8180, 2);
  reply.writeUInt16BE(1, 4);
  reply.writeUInt16BE(hasAnswer ? 1 : 0, 6);
  reply.writeUInt32BE(0, 8);
  if (!hasAnswer) return reply;
  const data = addressToBytes(address);
  const record = Buffer.from([0xc0, 12, 0, type, 0, 1, 0, 0, 0, 1, 0, data.length]);
  return Buffer.concat([reply, record, data]);
}

socket.on('message', (question, from) => socket.send(answer(question), from.port, from.address));
socket.bind(53, own, () => process.stdout.write('ready\n'));
