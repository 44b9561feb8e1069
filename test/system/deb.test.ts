import assert from 'node:assert/strict';
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { startHost } from '../lab/host.ts';
import { dumpHost } from '../lab/installation.ts';
import { NetworkLab } from '../lab/network-lab.ts';
import { outputOf, ownEnvironment } from '../lab/process.ts';
import { words } from '../lab/words.ts';

const isLong = process.env['CALICO_TEST_LONG'] === '1';
const skip = isLong ? false : 'takes minutes; CALICO_TEST_LONG=1 runs it';

describe('the Debian package', { timeout: 1_200_000, skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), 'calico-release-'));
  let lab: NetworkLab;
  before(async () => {
    const host = await startHost({ engine: '20.10', furnished: true });
    // The machine's own one is that of other tests.
    await host.run(words`rm -f /usr/local/bin/calico-cnm`);
    lab = new NetworkLab(host, undefined, {});
    await host.startDocker();
  });
  after(async () => {
    await lab[Symbol.asyncDispose]();
    rmSync(folder, { recursive: true });
  });

  const release = (name: string) =>
    outputOf([`${checkout}/plugin/release`, '--processor', 'amd64', join(folder, name)], {
      timeoutMs: 900_000,
      env: ownEnvironment(),
    });
  const dpkg = (...argv: readonly string[]) => lab.host.exec(['dpkg', ...argv]);
  const succeeds = async (...argv: readonly string[]) => {
    const { status, stderr } = await dpkg(...argv);
    assert.equal(status, 0, stderr);
  };
  const daemon = '/usr/bin/calico-cnm';

  test('plugin/release makes the same bytes again, and checksums of them', async () => {
    await release('one');
    await release('two');
    const sums = words`cat ${join(folder, 'one/SHA256SUMS')}`;
    assert.equal(
      await outputOf(words`cat ${join(folder, 'two/SHA256SUMS')}`),
      await outputOf(sums),
    );
    const checked = await outputOf(['sh', '-c', 'cd "$0" && sha256sum -c', join(folder, 'one')], {
      input: await outputOf(sums),
      env: ownEnvironment(),
    });
    for (const name of [/\.deb: OK/, /plugin_.*\.tar\.gz: OK/, /\.bom\.json: OK/]) {
      assert.match(checked, name);
    }
  });

  test('it is installed without internet, and starts nothing where there is no systemd', async () => {
    // dpkg's own.
    await lab.host.run(words`touch /var/log/dpkg.log`);
    const before = await dumpHost(lab.host);
    await outputOf(
      [
        'sh',
        '-ec',
        `cd "$0"; cp one/*.deb old.deb; dpkg-deb -R old.deb new
       sed -i 's/^Version: .*/Version: 99.0/' new/DEBIAN/control
       sed -i 's/^var version = ".*"/var version = "99.0"/' $(find new/usr/lib/calico-cnm/dist -name '*.js')
       dpkg-deb --root-owner-group -Zgzip -z1 -b new new.deb`,
        folder,
      ],
      { env: ownEnvironment(), timeoutMs: 300_000 },
    );
    for (const name of ['old', 'new']) {
      copyFileSync(join(folder, `${name}.deb`), lab.host.path(`/root/${name}.deb`));
    }
    await succeeds('-i', '/root/old.deb');
    assert.match(await lab.host.run(words`${daemon} version`), /^calico-cnm 0\./);
    assert.equal((await lab.host.exec(words`test -e /run/docker/plugins/calico.sock`)).status, 1);
    // Removed at once, only the settings are left, and purged nothing is.
    await succeeds('-r', 'calico-cnm');
    assert.equal((await lab.host.exec(words`test -e /etc/calico/calico-cnm.env`)).status, 0);
    await succeeds('-P', 'calico-cnm');
    assert.deepEqual(await dumpHost(lab.host), before);
    await succeeds('-i', '/root/old.deb');
  });

  test('the unit is one that systemd takes', async () => {
    const said = await lab.host.exec(
      words`systemd-analyze verify --man=no /lib/systemd/system/calico-cnm.service`,
    );
    assert.doesNotMatch(`${said.stdout}${said.stderr}`, /calico-cnm/);
  });

  test('its daemon serves Docker', async () => {
    lab.host.spawn([daemon, 'run']);
    const isWell = async () => (await lab.host.exec([daemon, 'status'])).status === 0;
    assert.ok(await lab.eventually(isWell));
    await lab.tour();
  });

  test('a newer one takes its place, and running containers keep their network', async () => {
    await succeeds('-i', '/root/new.deb');
    assert.ok(await lab.reaches('inside', 'app'));
    assert.match(await lab.host.run(words`${daemon} version`), /^calico-cnm 99\.0/);
  });

  test('it does not go while networks use it, and says which', async () => {
    const { status, stderr } = await dpkg('-r', 'calico-cnm');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: these networks use it: .*web/m);
    assert.ok(await lab.reaches('inside', 'app'));
  });

  test('nor while a daemon runs that it cannot stop', async () => {
    await lab.clear();
    const { status, stderr } = await dpkg('-r', 'calico-cnm');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: clean: the daemon runs; stop it first$/m);
  });

  test('data of a newer version stop it with one line', async () => {
    const lock = await lab.host.run(words`cat /run/calico/serving.lock`);
    await lab.host.run(words`kill ${/process (\d+)/.exec(lock)?.[1] ?? ''}`);
    const isGone = async () => (await lab.host.exec([daemon, 'status'])).status !== 0;
    assert.ok(await lab.eventually(isGone));
    const setFormat = (format: number) =>
      lab.host.run([
        '/usr/lib/calico-cnm/bin/node',
        '-e',
        `new (require('node:sqlite').DatabaseSync)('/var/lib/calico/calico.db').exec('PRAGMA user_version = ${format}')`,
      ]);
    await setFormat(99);
    const { status, stderr } = await dpkg('-i', '/root/new.deb');
    assert.equal(status, 1);
    assert.match(stderr, /^calico-cnm: [^\n]*calico\.db[^\n]*newer[^\n]*$/m);
    await setFormat(2);
    await succeeds('--configure', 'calico-cnm');
  });

  test('purged, nothing of it is left', async () => {
    await succeeds('-P', 'calico-cnm');
    // In the lab the folder of the data is a mount, which stays.
    const left = await lab.host.run([
      'sh',
      '-c',
      'find /etc /usr /run /var/lib ! -path "/var/lib/docker/*" ! -path "/var/lib/dpkg/*" ! -path /var/lib/calico -name "*calico*"; find /var/lib/calico -mindepth 1; iptables-save | grep cali; ip6tables-save | grep cali; ipset list -n; ip -o link | grep cali; true',
    ]);
    assert.equal(left, '');
  });
});
