import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { debianPackages, leftOfPackage } from '../lab/debian-package.ts';
import { startHost } from '../lab/host.ts';
import { assertUntouched, dumpHost } from '../lab/installation.ts';
import { NetworkLab } from '../lab/network-lab.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';
import { words } from '../lab/words.ts';
import { unlessLong } from '../lab/long.ts';

const skip = unlessLong();

test('plugin/release makes the same bytes again, and checksums of them', { skip }, async () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-release-'));
  try {
    const [one, two] = ['one', 'two'].map((name) => join(folder, name));
    assert.ok(one !== undefined && two !== undefined);
    for (const made of [one, two]) {
      await outputOf([`${checkout}/plugin/release`, '--processor', 'amd64', made], {
        timeoutMs: 900_000,
        env: ownEnvironment(),
      });
    }
    const sums = await outputOf(['cat', `${one}/SHA256SUMS`]);
    assert.equal(await outputOf(['cat', `${two}/SHA256SUMS`]), sums);
    const check = ['sh', '-c', 'cd "$0" && sha256sum -c', one];
    const checked = await outputOf(check, { input: sums, env: ownEnvironment() });
    for (const name of [/\.deb: OK/, /plugin_.*\.tar\.gz: OK/, /\.bom\.json: OK/]) {
      assert.match(checked, name);
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
});

/** With systemd: systemd.test.ts. */
describe('the Debian package without systemd', { timeout: 600_000 }, () => {
  let lab: NetworkLab;
  before(async () => {
    const { present } = await debianPackages();
    const host = await startHost({ engine: '20.10', furnished: true, bare: true });
    lab = new NetworkLab(host, undefined, {});
    await host.startDocker();
    copyFileSync(present, host.path('/root/calico-cnm.deb'));
  });
  after(async () => lab[Symbol.asyncDispose]());

  const dpkg = (...argv: readonly string[]) => lab.host.exec(['dpkg', ...argv]);
  const succeeds = async (...argv: readonly string[]) => {
    const { status, stderr } = await dpkg(...argv);
    assert.equal(status, 0, stderr);
  };
  const isWell = async () => (await lab.calicoResult('status')).status === 0;

  test('it is installed without internet, and starts nothing', async () => {
    // dpkg's own.
    await lab.host.run(words`touch /var/log/dpkg.log`);
    const untouched = await dumpHost(lab.host);
    await succeeds('-i', '/root/calico-cnm.deb');
    assert.match(await lab.calico('version'), /^calico-cnm 0\./);
    assert.equal((await lab.host.exec(words`test -e /run/docker/plugins/calico.sock`)).status, 1);
    // Removed at once, only the settings are left, and purged nothing is.
    await succeeds('-r', 'calico-cnm');
    assert.equal((await lab.host.exec(words`test -e /etc/calico/calico-cnm.env`)).status, 0);
    await succeeds('-P', 'calico-cnm');
    await assertUntouched(lab.host, untouched);
    await succeeds('-i', '/root/calico-cnm.deb');
  });

  test('it does not go while a daemon runs that it cannot stop', async () => {
    const daemon = lab.host.spawn(words`calico-cnm run`);
    assert.ok(await lab.eventually(isWell));
    const { status, stderr } = await dpkg('-r', 'calico-cnm');
    assert.equal(status, 1);
    assert.match(
      stderr,
      /^calico-cnm: clean: the daemon is running; stop it first: systemctl stop calico-cnm$/m,
    );
    assert.ok(await isWell());
    await daemon.end('SIGTERM');
  });

  test('data of a newer version stop it with one line', async () => {
    const setFormat = (format: number) =>
      lab.host.run([
        '/usr/lib/calico-cnm/bin/node',
        '-e',
        `new (require('node:sqlite').DatabaseSync)('/var/lib/calico/calico.db').exec('PRAGMA user_version = ${format}')`,
      ]);
    await setFormat(99);
    const { status, stderr } = await dpkg('-i', '/root/calico-cnm.deb');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: [^\n]*calico\.db[^\n]*newer[^\n]*$/m);
    await setFormat(2);
    await succeeds('--configure', 'calico-cnm');
  });

  test('purged, nothing of it is left', async () => {
    await succeeds('-P', 'calico-cnm');
    assert.deepEqual(await leftOfPackage(lab.host), []);
  });
});
