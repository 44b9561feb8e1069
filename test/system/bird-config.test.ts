import assert from 'node:assert/strict';
import { globSync, writeFileSync } from 'node:fs';
import { basename } from 'node:path';
import { describe, test } from 'node:test';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { configText } from '../../src/bird/config-text.ts';
import { inputsOf } from '../../src/routing/bgp/bgp-cases.fixture.ts';
import { bgpModel } from '../../src/routing/bgp/bgp-model.ts';
import { storedBgp } from '../../src/routing/bgp/stored-bgp.fixture.ts';
import { routingRoot } from '../lab/engine.ts';
import { unlessLong } from '../lab/long.ts';
import { runCommand } from '../lab/process.ts';
import { makeTemporaryFolder } from '../lab/temporary-folder.ts';

const folder = `${import.meta.dirname}/../golden`;

describe('configurations of BIRD', { timeout: 900_000 }, () => {
  test('BIRD accepts every golden file', async () => {
    const root = await routingRoot();
    const files = globSync('bird-*.golden', { cwd: folder });
    assert.ok(files.length > 10);
    const checked = files.map(async (file) => {
      // The file is not in the root; the mount is gone with its namespace.
      const argv = ['unshare', '--mount', 'sh', '-ec', script, root, `${folder}/${basename(file)}`];
      const { status, stdout, stderr } = await runCommand(argv, { env: { PATH: path } });
      return status === 0 ? [] : [`${file}: ${stdout}${stderr}`];
    });
    assert.deepEqual((await Promise.all(checked)).flat(), []);
  });

  test('BIRD accepts the configuration of whatever is stored: a wrong part is left out, and named', async () => {
    const root = await routingRoot();
    await using temporary = makeTemporaryFolder('bird-config-');
    const cases = fc.sample(storedBgp, { numRuns: unlessLong() === false ? 5000 : 200, seed });
    let sessions = 0;
    for (const [index, given] of cases.entries()) {
      const model = bgpModel(inputsOf(given));
      sessions += model.sessions.length;
      const text = configText(model, {
        logFile: '/dev/null',
        foreignProtocols: [80],
        families: [4, 6],
        programsKernel: true,
      });
      writeFileSync(`${temporary.path}/${index}.conf`, text);
    }
    assert.ok(sessions > 0, 'some peers get a session');
    const argv = ['unshare', '--mount', 'sh', '-ec', all, root, temporary.path];
    const { stdout, stderr } = await runCommand(argv, { env: { PATH: path }, timeoutMs: 300_000 });
    const refused = stdout + stderr;
    const [, file] = /(\d+)\.conf/.exec(refused) ?? [];
    assert.equal(refused, '', inspect(cases[Number(file)], { depth: 9 }));
  });
});

const seed = Math.floor(Math.random() * 2 ** 31);
const path = '/usr/sbin:/usr/bin:/sbin:/bin';
const script = 'mount --bind "$1" "$0/etc/bird/bird.conf"; exec chroot "$0" bird -p';
const all = `
mount --bind "$1" "$0/mnt"
exec chroot "$0" sh -c 'for file in /mnt/*.conf; do bird -p -c $file || true; done'`;
