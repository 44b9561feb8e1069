import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  assertUntouched,
  breakDaemon,
  copyCheckout,
  dumpHost,
  standInForNpm,
  type HostDump,
} from '../lab/installation.ts';
import { startSystemdLab, type SystemdLab } from '../lab/systemd.ts';
import { words } from '../lab/words.ts';
import { unlessLong } from '../lab/long.ts';

const source = '/root/calico-cnm';
const unit = 'calico-cnm';

/** What of plugin/install and plugin/uninstall is different where there is systemd; the rest is in lifecycle.test.ts. */
describe(
  'install, upgrade, uninstall under systemd',
  { timeout: 600_000, skip: unlessLong() },
  () => {
    let lab: SystemdLab;
    let untouched: HostDump;
    before(async () => {
      lab = await startSystemdLab();
      await copyCheckout(lab.host, source);
      await standInForNpm(lab.host);
      untouched = await dumpHost(lab.host);
    });
    after(async () => lab[Symbol.asyncDispose]());

    const install = () => lab.host.exec([`${source}/plugin/install`], { timeoutMs: 120_000 });
    const installed = async () => {
      const { status, stdout, stderr } = await install();
      assert.equal(status, 0, stdout + stderr);
      return stdout;
    };
    const uninstall = (...options: readonly string[]) =>
      lab.host.exec([`${source}/plugin/uninstall`, ...options], { timeoutMs: 120_000 });
    const release = () => lab.host.run(words`readlink /usr/local/lib/calico-cnm/current`);
    const isEnabledAndRuns = async () => {
      assert.equal(await lab.systemctl('is-enabled', unit), 'enabled');
      assert.equal(await lab.state(unit), 'active');
      await lab.isWell();
    };

    test('a first installation whose daemon does not start leaves no unit', async () => {
      const mend = await breakDaemon(lab.host, source);
      const { status, stderr } = await install();
      assert.equal(status, 1);
      assert.match(stderr, /the daemon is degraded; calico-cnm was removed again/);
      assert.equal(await lab.property(unit, 'LoadState'), 'not-found');
      await mend();
    });

    test('installed, its unit is enabled and runs, and Docker uses it', async () => {
      assert.match(await installed(), /is installed and running/);
      await isEnabledAndRuns();
      await lab.tour();
      assert.ok(await lab.eventually(() => lab.reaches('inside', 'app')));
    });

    test('run again it changes nothing', async () => {
      const before = [await lab.mainProcess(), await release()];
      assert.match(await installed(), /already installed and running/);
      assert.deepEqual([await lab.mainProcess(), await release()], before);
    });

    test('an upgrade loses no packet', async () => {
      const before = [await lab.mainProcess(), await release()];
      await lab.host.run(['sh', '-c', `echo '// newer' >>${source}/src/version.ts`]);
      await lab.losesNothing(installed);
      assert.notEqual(await lab.mainProcess(), before[0]);
      assert.notEqual(await release(), before[1]);
      await isEnabledAndRuns();
    });

    test('a new daemon that does not start gives way to the one before', async () => {
      const before = await release();
      const mend = await breakDaemon(lab.host, source);
      await lab.losesNothing(async () => {
        const { status, stderr } = await install();
        assert.equal(status, 1);
        assert.match(stderr, /the new version is degraded; rolled back to the previous version/);
      });
      assert.equal(await release(), before);
      await isEnabledAndRuns();
      await mend();
    });

    test('uninstall refuses while there are networks, and the daemon runs on', async () => {
      const before = await lab.mainProcess();
      const { status, stderr } = await uninstall();
      assert.equal(status, 1);
      assert.match(stderr, /these networks use calico:/);
      assert.equal(await lab.mainProcess(), before);
    });

    test('uninstalled, its unit is stopped and gone, and the host is as before', async () => {
      await lab.clear();
      const { status, stdout, stderr } = await uninstall('--purge');
      assert.equal(status, 0, stdout + stderr);
      assert.equal(await lab.property(unit, 'LoadState'), 'not-found');
      assert.equal(await lab.state(unit), 'inactive');
      await assertUntouched(lab.host, untouched);
      await lab.systemctl('restart', 'docker');
      assert.equal(await lab.systemctl('--failed', '--plain', '--no-legend'), '');
    });

    test('with Docker stopped and the daemon dead, forced, it removes the networks and stops Docker again', async () => {
      await installed();
      await lab.network('web');
      await lab.systemctl('stop', 'docker.socket', 'docker', unit);
      const refused = await uninstall();
      assert.equal(refused.status, 1);
      assert.match(refused.stderr, /these networks use calico: web\n/);
      const { status, stdout, stderr } = await uninstall('--force', '--purge');
      assert.equal(status, 0, stdout + stderr);
      assert.equal(await lab.state('docker'), 'inactive');
      await lab.systemctl('start', 'docker');
      assert.equal(await lab.docker('network', 'ls', '-q', '-f', 'driver=calico'), '');
      await assertUntouched(lab.host, untouched);
    });
  },
);
