import assert from 'node:assert/strict';
import { copyFileSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';
import { checkout } from '../lab/built.ts';
import { copyCheckout, standInForNpm } from '../lab/installation.ts';
import { unlessLong } from '../lab/long.ts';
import { Page } from '../lab/page.ts';
import { startSystemdLab, type SystemdLab } from '../lab/systemd.ts';

const source = '/root/calico-cnm';
const unit = 'calico-cnm-etcd';
const pageName = 'docs/backup.md';

/** A cluster of one installed host, whose etcd the real systemd runs: init, backup and restore, while containers talk. */
describe('a cluster under systemd', { skip: unlessLong(), timeout: 400_000 }, () => {
  const page = new Page(pageName);
  let lab: SystemdLab;
  const shell = (command: string) => lab.host.run(['sh', '-c', command]);
  before(async () => {
    lab = await startSystemdLab();
    await copyCheckout(lab.host, source);
    await standInForNpm(lab.host);
    await lab.host.run([`${source}/plugin/install`], { timeoutMs: 120_000 });
    for (const program of ['etcd', 'etcdctl']) {
      copyFileSync(`/usr/bin/${program}`, lab.host.path(`/usr/bin/${program}`));
    }
    await lab.tour();
  });
  after(() => lab?.[Symbol.asyncDispose]());

  const isRunning = async () => {
    assert.equal(await lab.state(unit), 'active');
    assert.equal(await lab.systemctl('is-enabled', unit), 'enabled');
    assert.match(await lab.calico('cluster', 'status'), /^cluster \S+: healthy/);
  };

  test('init makes the host a member, and loses no packet', async () => {
    await lab.losesNothing(async () => {
      assert.match(await lab.calico('cluster', 'init'), /^calico-cnm cluster join 203\.0\.113\.2/);
    });
    await isRunning();
  });

  test('after the loss of its data, a backup is restored, and nothing that runs is allocated again', async () => {
    await page.run('Backup', async (command) => {
      const said = await shell(command);
      assert.match(said, /^backup written/);
      return said;
    });
    await lab.client('later', '--net', 'web');
    const addresses = () =>
      Promise.all(['app', 'inside', 'later'].map((name) => lab.address(name, 'web')));
    const before = await addresses();
    await lab.losesNothing(async () => {
      await lab.systemctl('stop', unit);
      await lab.host.run(['rm', '-r', '/var/lib/calico/cluster/etcd/data']);
      await page.run('Restore', async (command) => {
        const said = await shell(command);
        assert.match(said, /^etcd was restored from \S+ on this host \(node host-1\)$/m);
        assert.doesNotMatch(said, /conflict|has not responded/);
        return said;
      });
    });
    await isRunning();
    await lab.client('after', '--net', 'web');
    assert.deepEqual(await addresses(), before);
    assert.ok(!before.includes(await lab.address('after', 'web')));
    assert.ok(await lab.eventually(() => lab.reaches('after', 'app')));
  });

  test('the timer of the page writes a backup that only root can read', async () => {
    const text = readFileSync(`${checkout}/${pageName}`, 'utf8');
    const files = [...text.matchAll(/^`(\/etc\/systemd\/\S+)`[^\n]*:\n\n```ini\n([^]*?)```$/gm)];
    assert.equal(files.length, 2);
    for (const [, file = '', content = ''] of files) writeFileSync(lab.host.path(file), content);
    await page.run('By a timer', shell);
    assert.equal(await lab.state('calico-backup.timer'), 'active');
    await lab.systemctl('start', 'calico-backup.service');
    const written = lab.host.path('/var/backups/calico-host-1.db');
    assert.equal(statSync(written).mode & 0o777, 0o600);
    assert.match(
      await lab.host.run(['etcdctl', 'snapshot', 'status', '/var/backups/calico-host-1.db']),
      /^\w+, \d+, /,
    );
    await lab.systemctl('disable', '--now', 'calico-backup.timer');
  });

  test('the restored cluster comes back with the daemon and etcd restarted', async () => {
    await lab.losesNothing(async () => {
      await lab.systemctl('restart', unit, 'calico-cnm');
      await lab.isWell();
    });
    await isRunning();
    assert.equal(await lab.systemctl('--failed', '--plain', '--no-legend'), '');
  });
});
