import { createSocket } from 'node:dgram';

/** Runs inside a network: answers A questions by a table of names, and that there is no such name for others. */
const [, , address = '', table = '{}'] = process.argv;
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
  const isAddress = question.readUInt16BE(at + 1) === 1;
  const name = labels.join('.').toLowerCase();
  const found = names.get(name);
  const hasAnswer = typeof found === 'string' && isAddress;
  const reply = Buffer.from(question.subarray(0, end));
  reply.writeUInt16BE(typeof found === 'string' ? 0x8180 : 0x8183, 2);
  reply.writeUInt16BE(1, 4);
  reply.writeUInt16BE(hasAnswer ? 1 : 0, 6);
  reply.writeUInt32BE(0, 8);
  if (!hasAnswer) return reply;
  const record = Buffer.from([
    0xc0,
    12,
    0,
    1,
    0,
    1,
    0,
    0,
    0,
    1,
    0,
    4,
    ...found.split('.').map(Number),
  ]);
  return Buffer.concat([reply, record]);
}

socket.on('message', (question, from) => socket.send(answer(question), from.port, from.address));
socket.bind(53, address, () => process.stdout.write('ready\n'));
