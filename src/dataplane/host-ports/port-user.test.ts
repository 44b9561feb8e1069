import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { parseAddress } from '../../ip/address.ts';
import { portTaken, portUser } from './port-user.ts';

/** A process that binds a port which the kernel chooses; says which. */
async function withHolder(
  protocol: 'TCP' | 'UDP',
  address: string,
  use: (port: number, pid: number) => Promise<void>,
): Promise<void> {
  const program =
    protocol === 'TCP'
      ? `const s = require('net').createServer().listen(0, '${address}', () => console.log(s.address().port))`
      : `const s = require('dgram').createSocket('${address.includes(':') ? 'udp6' : 'udp4'}').bind(0, '${address}', () => console.log(s.address().port))`;
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
  try {
    const text = await new Promise((resolve) => child.stdout.once('data', resolve));
    await use(Number(String(text)), child.pid ?? 0);
  } finally {
    child.kill('SIGKILL');
    await once(child, 'exit');
  }
}

for (const protocol of ['TCP', 'UDP'] as const) {
  for (const { bound, inTheWayOf, notOf } of [
    { bound: '127.0.0.53', inTheWayOf: ['0.0.0.0', '127.0.0.53'], notOf: ['127.0.0.1', '::'] },
    { bound: '0.0.0.0', inTheWayOf: ['0.0.0.0', '127.0.0.1'], notOf: ['::1'] },
    { bound: '::1', inTheWayOf: ['::', '::1'], notOf: ['0.0.0.0', '127.0.0.1'] },
    { bound: '::', inTheWayOf: ['::', '::1', '0.0.0.0', '127.0.0.1'], notOf: [] },
  ]) {
    test(`the process that has a ${protocol} port on ${bound} is found`, async () => {
      await withHolder(protocol, bound, async (port, pid) => {
        const look = (address: string) =>
          portUser({ protocol, address: parseAddress(address), port });
        const where = `${bound.includes(':') ? `[${bound}]` : bound}:${port}`;
        for (const address of inTheWayOf) {
          assert.deepEqual(await look(address), { name: 'node', pid, where }, address);
        }
        for (const address of notOf) assert.equal(await look(address), undefined, address);
        const other = protocol === 'TCP' ? 'UDP' : 'TCP';
        const [address] = inTheWayOf;
        const requested = { protocol: other, address: parseAddress(address ?? ''), port } as const;
        assert.equal(await portUser(requested), undefined, other);
      });
    });
  }
}

test("the error begins with Docker's words, and says who of the host has the port and where", async () => {
  await withHolder('UDP', '127.0.0.53', async (port, pid) => {
    const requested = { protocol: 'UDP', address: parseAddress('0.0.0.0'), port } as const;
    assert.equal(
      (await portTaken(requested)).message,
      `Bind for 0.0.0.0:${port} failed: port is already allocated: node (process ${pid}, 127.0.0.53:${port}) on this host uses it; publish another port or another address, or stop that process`,
    );
    const free = { ...requested, protocol: 'TCP' } as const;
    assert.equal(
      (await portTaken(free)).message,
      `Bind for 0.0.0.0:${port} failed: port is already allocated`,
    );
  });
});
