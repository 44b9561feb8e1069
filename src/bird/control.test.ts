import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import fc from 'fast-check';
import { askBird, Reply } from './control.ts';

const signal = AbortSignal.timeout(60_000);
const received = [
  '0001 BIRD 2.0.12 ready.\n',
  '2002-Name       Proto      Table      State  Since         Info\n',
  '1002-Mesh_2     BGP        ---        up     2026-11-30 01:35:34  Established   \n',
  '1006-  BGP state:          Established\n',
  '     Neighbor AS:      64512\n',
  ' \n',
  '0000 \n',
].join('');

test('a reply is the same however it is cut into pieces', () => {
  const whole = new Reply();
  assert.deepEqual(whole.take(received), ['greeting', 'reply']);
  assert.deepEqual(
    whole.lines.map(({ code }) => code),
    [2002, 1002, 1006, 1006, 1006, 0],
  );
  assert.equal(whole.lines[3]?.text, '    Neighbor AS:      64512');
  const cuts = fc.uniqueArray(fc.integer({ min: 1, max: received.length - 1 }), { maxLength: 9 });
  fc.assert(
    fc.property(cuts, (places) => {
      const reply = new Reply();
      let from = 0;
      for (const to of [...places.toSorted((a, b) => a - b), received.length]) {
        reply.take(received.slice(from, to));
        from = to;
      }
      assert.deepEqual(reply.lines, whole.lines);
    }),
  );
});

test('a refused command is an error with the words of BIRD, and no BIRD is that of the socket', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'bird-'));
  const path = join(folder, 'ctl');
  await assert.rejects(askBird(path, 'show status', signal), { code: 'ENOENT' });
  const server = createServer((socket) => {
    socket.write('0001 BIRD ready.\n');
    socket.on('data', (command) => {
      const isKnown = String(command) === 'show status\n';
      socket.write(isKnown ? '0013 Daemon is up\n' : '9001 syntax error\n');
    });
    socket.on('error', () => undefined);
  });
  await new Promise<void>((resolve) => server.listen(path, resolve));
  try {
    const lines = await askBird(path, 'show status', signal);
    assert.deepEqual(lines, [{ code: 13, text: 'Daemon is up' }]);
    await assert.rejects(askBird(path, 'nonsense', signal), /syntax error/);
  } finally {
    server.close();
    rmSync(folder, { recursive: true });
  }
});
